//! Tries each connection once, for an administrator who wants to know what works.

use std::time::Duration;

use tokio::time::timeout;
use webex_api::catalog::Service;
use xmpp_core::component;
use xmpp_core::tokio::{ConnectError, Connection};

use crate::jabber::{Access, Cluster};
use crate::seam::{Dial as _, TcpDial};
use crate::webex::{Cloud, PeopleConfig, read_people};

/// How long one node may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks for the service catalog.
///
/// # Errors
/// Why there is none, and what to look at.
pub async fn cloud(cloud: &Cloud) -> Result<String, String> {
    let base = cloud.base(Service::Conversation).await.map_err(|e| causes(&e))?;
    Ok(format!("conversations are at {base}"))
}

/// Reads people once, as the connector would.
///
/// # Errors
/// Why they cannot be read, and what to look at.
pub async fn people(cloud: &Cloud, config: &PeopleConfig) -> Result<String, String> {
    let people = read_people(cloud, config).await.map_err(|e| causes(&e))?;
    let enabled = people.iter().filter(|person| person.enabled).count();
    let without_jid = people.iter().filter(|person| person.enabled && person.jid.is_none()).count();
    let mut found = format!("{} people, {enabled} of them enabled", people.len());
    if without_jid > 0 {
        found.push_str(&format!("; {without_jid} enabled people have no JID here and are not served"));
    }
    Ok(found)
}

/// Connects to each node of a cluster; with a trusted link also says the secret.
pub async fn nodes(cluster: &Cluster) -> Vec<(String, Result<String, String>)> {
    let mut outcomes = Vec::new();
    for (host, port) in &cluster.nodes {
        let tried = timeout(PATIENCE, node(cluster, host, *port)).await;
        let outcome = tried.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
        outcomes.push((format!("{host}:{port}"), outcome));
    }
    outcomes
}

async fn node(cluster: &Cluster, host: &str, port: u16) -> Result<String, String> {
    let io = TcpDial.dial(host, port).await.map_err(|e| format!("cannot connect: {e}"))?;
    let Access::Trusted { component, secret } = &cluster.access else {
        return Ok("accepts connections; sessions are tried when the connector runs".into());
    };
    let entropy = xmpp_core::Entropy::system().map_err(|e| e.to_string())?;
    let mut config = component::Config::new(component.clone(), secret.clone(), entropy);
    config.manage = cluster.domains.first().cloned();
    match Connection::component(Box::new(io), config).await {
        Ok(mut link) => {
            let managed = link.is_managed();
            link.close().await;
            Ok(if managed {
                "accepts us, and acknowledges (XEP-0198): nothing is lost or repeated over a crash".into()
            } else {
                "accepts us, without acknowledgement: what is in flight at a crash can be lost or come twice"
                    .into()
            })
        }
        Err(error) => Err(refusal(&error)),
    }
}

fn refusal(error: &ConnectError) -> String {
    let text = causes(error);
    if text.contains("conflict") {
        return format!("{text}; another connector holds the link under this name");
    }
    format!("{text}; compare imp.component and imp.secret_file with the server's settings")
}

/// An error with everything that caused it, in one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
