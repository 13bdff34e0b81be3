//! `connector check`: every mistake of the settings file at once, then each connection tried and reported. Nothing is
//! written, and a connector that runs with these settings is not disturbed.

use std::path::Path;

use connector_edges::probe::{self, causes};
use connector_edges::xmpp_core::BareJid;
use store::{FORMAT_VERSION, Look, OpenError};

use crate::config::{self, Config, LinkKind};
use crate::wiring::{self, Ground, Parts};
use crate::{admin, app, process};

/// Checks, and prints a line for each thing that was tried.
///
/// # Errors
/// How many things are wrong; each has been printed.
pub(crate) async fn run(path: &Path) -> Result<(), String> {
    let config = config::load(path).map_err(|mistakes| app::report(path, &mistakes))?;
    println!("{}: no mistakes", path.display());
    let parts = Parts::new(&config, Ground::real(&config))?;
    let mut failed = 0;
    let mut tell = |what: &str, outcome: Result<String, String>| match outcome {
        Ok(found) => println!("ok      {what}: {found}"),
        Err(wrong) => {
            failed += 1;
            println!("FAILED  {what}: {wrong}");
        }
    };
    let runs = admin::ask(config.status, "/status").await.is_ok();
    tell(&format!("status address {}", config.status), status(&config, runs).await);
    tell(&format!("store {}", config.store.path.display()), store(&config, runs));
    let discovery = &config.webex.discovery_url;
    tell(&format!("cloud {discovery}"), probe::cloud(&parts.cloud).await);
    let people = probe::people(&parts.cloud, &parts.people(&config)?).await;
    let jids = people.as_ref().map(|(_, jids)| jids.clone()).unwrap_or_default();
    tell("people", people.map(|(found, _)| found));
    tell("descriptors", process::enough_descriptors(&config, jids.len() as u64));
    tell("clock of this host", probe::clock(&parts.cloud));
    let clusters = parts.jabber_config(&config)?.clusters;
    if config.deployment.federation {
        let bot = config.webex.bot_token.is_some();
        let shown = if bot {
            "in Webex too, by the bot"
        } else {
            "in Jabber alone: webex.bot_token_file is not given"
        };
        tell("federated contacts", Ok(format!("what they write is shown {shown}")));
    }
    let Ground { dial, clock, generator, .. } = &parts.ground;
    for (cluster, imp) in clusters.iter().zip(&config.imp) {
        if runs && imp.link == LinkKind::Trusted {
            // A link of the same name would take its place.
            for node in &imp.nodes {
                tell(&format!("node {node}"), Ok("not tried: the connector that runs has this link".into()));
            }
            continue;
        }
        let served = |jid: &BareJid| cluster.domains.iter().any(|domain| domain == jid.domain().as_str());
        let jid = jids.iter().filter_map(|jid| BareJid::new(jid.as_str()).ok()).find(served);
        for (node, outcome) in probe::nodes(cluster, jid.as_ref(), dial, *clock, generator).await {
            tell(&format!("node {node}"), outcome);
        }
    }
    match failed {
        0 => Ok(()),
        n => Err(format!("{n} connection(s) failed")),
    }
}

async fn status(config: &Config, runs: bool) -> Result<String, String> {
    if runs {
        return Ok("a connector runs and answers here".into());
    }
    admin::listen(config.status).await.map(|_| "free".into())
}

/// What is there of the store.
fn store(config: &Config, runs: bool) -> Result<String, String> {
    let path = &config.store.path;
    match Look::at(path, &wiring::store_key(config)) {
        Ok(Some(look)) => Ok(match look.format() {
            FORMAT_VERSION => format!("has format {FORMAT_VERSION}, and nobody has it open"),
            older => format!(
                "has format {older}, and nobody has it open; the next start brings it to format {FORMAT_VERSION}, and earlier releases read it no more"
            ),
        }),
        Ok(None) => match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) if !folder.is_dir() => Err(format!("its folder {} is not there", folder.display())),
            _ => Ok("is not there yet; the first start makes it".into()),
        },
        Err(OpenError::Locked { .. }) if runs => Ok("the connector that runs has it".into()),
        Err(error) => Err(causes(&error)),
    }
}
