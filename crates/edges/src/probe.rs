//! Tries each connection once, for an administrator who wants to know what works.

use std::sync::Arc;

use router::ids::JabberId;
use webex_api::catalog::Service;
use xmpp_core::BareJid;

use crate::jabber::{self, Capabilities, Cluster};
use crate::seam::{Clock, Dial, Generator};
use crate::webex::{Cloud, PeopleConfig, read_people};

/// Asks for the service catalog.
///
/// # Errors
/// Why there is none, and what to look at.
pub async fn cloud(cloud: &Cloud) -> Result<String, String> {
    let base = cloud.base(Service::Conversation).await.map_err(|e| causes(&e))?;
    Ok(format!("conversations are at {base}"))
}

/// Farther than this the clock of this host and the cloud's must not be apart, in milliseconds.
const APART: u64 = 60_000;
/// Farther than this the clock of this host and a node's must not be apart, in milliseconds: later stamps tell a copy of a
/// known message from a new one (rule 3).
const NODE_APART: u64 = 10 * 60_000;

/// Compares the clock of this host with the cloud's, as of the latest answer.
///
/// # Errors
/// They are more than a minute apart, or the cloud did not say its time.
pub fn clock(cloud: &Cloud) -> Result<String, String> {
    let offset = cloud.clock_offset().ok_or("the cloud has not told its time")?;
    let told = apart(offset, "the cloud's");
    if offset.unsigned_abs() > APART {
        Err(format!("{told}: have it set by a time server"))
    } else {
        Ok(told)
    }
}

/// How far the clock of this host is from another that is `offset` milliseconds ahead of it.
fn apart(offset: i64, whose: &str) -> String {
    match (offset.unsigned_abs().div_ceil(1_000), offset > 0) {
        // Time is told in whole seconds, and the answer was on its way.
        (0..=2, _) => format!("within two seconds of {whose}"),
        (seconds, true) => format!("{seconds} s behind {whose}"),
        (seconds, false) => format!("{seconds} s ahead of {whose}"),
    }
}

/// Reads people once, as the connector would; also gives the JIDs of those who are enabled.
///
/// # Errors
/// Why they cannot be read, and what to look at.
pub async fn people(cloud: &Cloud, config: &PeopleConfig) -> Result<(String, Vec<JabberId>), String> {
    let people = read_people(cloud, config).await.map_err(|e| causes(&e))?;
    let enabled = people.iter().filter(|person| person.enabled).count();
    let without_jid = people.iter().filter(|person| person.enabled && person.jid.is_none()).count();
    let mut found = format!("{} people, {enabled} of them enabled", people.len());
    if without_jid > 0 {
        found.push_str(&format!("; {without_jid} enabled people have no JID here and are not served"));
    }
    let jids = people.into_iter().filter(|person| person.enabled).filter_map(|person| person.jid).collect();
    Ok((found, jids))
}

/// Tries each node of a cluster with a session of `jid`, if anybody is known to be served there, and says what will
/// not work on it.
pub async fn nodes(
    cluster: &Cluster,
    jid: Option<&BareJid>,
    dial: &Arc<dyn Dial>,
    clock: Clock,
    generator: &Generator,
) -> Vec<(String, Result<String, String>)> {
    let mut outcomes = Vec::new();
    for node in &cluster.nodes {
        let alone = Cluster { nodes: vec![node.clone()], ..cluster.clone() };
        let measured = jabber::measure(alone, jid, Arc::clone(dial), clock, generator.clone()).await;
        let outcome = measured.map_err(|e| causes(&e)).and_then(|able| told(&able, jid));
        outcomes.push((format!("{}:{}", node.0, node.1), outcome));
    }
    outcomes
}

fn told(able: &Capabilities, jid: Option<&BareJid>) -> Result<String, String> {
    let mut text = match jid {
        Some(jid) => format!("opens a session of {jid}"),
        None => "lets us in; no session was tried, since nobody is known to be served there".to_owned(),
    };
    if able.acknowledges && able.resumes {
        text.push_str("; acknowledges (XEP-0198): nothing is lost or repeated over a crash");
    }
    if able.archive {
        text.push_str("; has an archive (XEP-0313), which is asked for what was missed");
    }
    for shortcoming in able.shortcomings() {
        text.push_str("\n        ");
        text.push_str(shortcoming);
    }
    match able.clock_offset {
        None if jid.is_some() => {
            text.push_str("\n        it does not tell its time (XEP-0202): see that its clock is right");
        }
        Some(offset) if offset.unsigned_abs() > NODE_APART => {
            return Err(format!(
                "{text}\n        the clock of this host is {}: what was stored meanwhile is shown twice; have both set by \
                 a time server",
                apart(offset, "the node's")
            ));
        }
        _ => {}
    }
    Ok(text)
}

/// An error with everything that caused it, in one line. A cause that the text tells already is not told twice.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}
