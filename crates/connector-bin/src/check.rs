//! `connector check`: every mistake of the settings file at once, then each connection tried and reported.

use std::path::Path;

use connector_edges::probe;
use connector_edges::xmpp_core::BareJid;

use crate::wiring::{self, Ground, Parts};
use crate::{admin, app, config};

/// Checks, and prints a line for each thing that was tried.
///
/// # Errors
/// How many things are wrong; each has been printed.
pub(crate) async fn run(path: &Path) -> Result<(), String> {
    let config = config::load(path).map_err(|mistakes| app::report(path, &mistakes))?;
    println!("{}: no mistakes", path.display());
    let parts = Parts::new(&config, Ground::real())?;
    let mut failed = 0;
    let mut tell = |what: &str, outcome: Result<String, String>| match outcome {
        Ok(found) => println!("ok      {what}: {found}"),
        Err(wrong) => {
            failed += 1;
            println!("FAILED  {what}: {wrong}");
        }
    };
    tell(
        &format!("status address {}", config.status),
        admin::listen(config.status).await.map(|_| "free".into()),
    );
    tell(
        &format!("store {}", config.store.path.display()),
        wiring::open_store(&config).map(|_| "can be opened, and is nobody else's".into()),
    );
    let discovery = &config.webex.discovery_url;
    tell(&format!("cloud {discovery}"), probe::cloud(&parts.cloud).await);
    let people = probe::people(&parts.cloud, &parts.people(&config)?).await;
    let jids = people.as_ref().map(|(_, jids)| jids.clone()).unwrap_or_default();
    tell("people", people.map(|(found, _)| found));
    for cluster in &parts.jabber_config(&config)?.clusters {
        let served = |jid: &BareJid| cluster.domains.iter().any(|domain| domain == jid.domain().as_str());
        let jid = jids.iter().filter_map(|jid| BareJid::new(jid.as_str()).ok()).find(served);
        for (node, outcome) in
            probe::nodes(cluster, jid.as_ref(), parts.ground.clock, &parts.ground.generator).await
        {
            tell(&format!("node {node}"), outcome);
        }
    }
    match failed {
        0 => Ok(()),
        n => Err(format!("{n} connection(s) failed")),
    }
}
