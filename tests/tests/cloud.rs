//! What the cloud and its key service do to a connector that runs, one thing after the other: keys that move, end, are
//! rotated or refused, and a clock that is wrong. Everything is shown once all the same.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use connector_edges::webex_api::Timestamp;
use serde_json::{Value, json};
use tests::{Connector, Lab, Scratch, get_as, wait_until};

const SOON: Duration = Duration::from_secs(60);

fn running(name: &str, minutes_ahead: i64) -> (Scratch, Lab, Connector) {
    let scratch = Scratch::new(name);
    let lab = Lab::start(scratch.path(), &["--stand-ins", "--time-scale", "20"]);
    lab.control("/fault", &json!({"name": "clock-skew", "on": true, "value": minutes_ahead * 60_000}));
    // Whoever is enabled now is so by the clock of this host: what a cloud that is behind says now would be too old.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let earlier = Timestamp(i64::try_from(now).unwrap() - 3 * 3_600_000).to_string();
    let connector = Connector::start_asked(&lab, &["--since", &earlier]);
    connector.wait_up(&lab);
    (scratch, lab, connector)
}

/// What was said, and that it was shown to the other in the other client, once and in order.
struct Talk<'a> {
    lab: &'a Lab,
    /// Author, recipient, the recipient's client, and the texts.
    said: Vec<(String, String, String, Vec<String>)>,
}

impl<'a> Talk<'a> {
    fn new(lab: &'a Lab) -> Self {
        Self { lab, said: Vec::new() }
    }

    fn say(&mut self, from: &str, app: &str, to: &str, text: &str) {
        let other = if app == "jabber" { "webex" } else { "jabber" };
        self.lab.say(&format!("{from}/{app}"), to, text);
        let client = format!("{to}/{other}");
        let row = self.said.iter_mut().find(|row| row.0 == from && row.2 == client);
        match row {
            Some(row) => row.3.push(text.to_owned()),
            None => self.said.push((from.to_owned(), to.to_owned(), client, vec![text.to_owned()])),
        }
    }

    /// Both write in both of their clients.
    fn all_four(&mut self, one: &str, other: &str, what: &str) {
        for (from, to) in [(one, other), (other, one)] {
            for app in ["webex", "jabber"] {
                self.say(from, app, to, &format!("{what}: {from} in {app}"));
            }
        }
        self.arrives(what);
    }

    fn arrives(&self, what: &str) {
        for (from, _, client, texts) in &self.said {
            let there = wait_until(SOON, || self.lab.heard(client, from).len() >= texts.len());
            assert!(there, "{what}: {client} has {:?} of {texts:?}", self.lab.heard(client, from));
        }
        assert!(self.lab.wait_idle(SOON), "{what}: it does not come to rest");
        for (from, _, client, texts) in &self.said {
            // Native messages of the same author are in the same client; only what crossed is ours.
            let crossed: Vec<String> =
                self.lab.heard(client, from).into_iter().filter(|text| texts.contains(text)).collect();
            assert_eq!(&crossed, texts, "{what}: {client} from {from}");
        }
    }

    /// A fault that strikes while something is said.
    fn struck(&mut self, fault: Value, say: impl FnOnce(&mut Self)) {
        let name = fault["name"].as_str().unwrap().to_owned();
        let before = self.lab.hits(&name);
        self.lab.control("/fault", &fault);
        say(self);
        self.arrives(&name);
        assert!(self.lab.hits(&name) > before, "{name} has not struck");
        self.lab.control("/fault", &json!({"name": name, "on": false}));
    }
}

#[test]
fn keys_that_move_end_are_rotated_or_refused_hold_nothing_up() {
    let (_scratch, lab, _connector) = running("cloud-keys", 0);
    let mut talk = Talk::new(&lab);
    // A new conversation has a key that the connector has not seen.
    let moved = json!({"name": "kms-moved", "on": true, "count": 1});
    talk.struck(moved, |talk| talk.say("erin", "webex", "bob", "under a key that has moved"));
    let revoked = json!({"name": "kms-revoked", "on": true, "count": 2});
    talk.struck(revoked, |talk| talk.say("gina", "webex", "bob", "under a key that was revoked for a while"));
    for rotation in ["post-rotate-1400087", "post-rotate-1409004"] {
        let rotated = json!({"name": rotation, "on": true, "count": 1, "person": "bob"});
        talk.struck(rotated, |talk| talk.say("bob", "jabber", "erin", rotation));
    }
    // The connector makes these conversations, and their keys.
    let refused = json!({"name": "post-kms-refused", "on": true, "count": 1, "person": "gina"});
    talk.struck(refused, |talk| {
        talk.say("gina", "jabber", "alice", "in a conversation that was refused once")
    });
    let short = json!({"name": "kms-short-lived", "on": true, "count": 1, "person": "gina", "value": 30_000});
    talk.struck(short, |talk| talk.say("gina", "jabber", "erin", "under a key with an end"));
    lab.control("/clock", &json!({"advance_ms": 31_000}));
    talk.say("gina", "jabber", "erin", "after its end");
    talk.arrives("a key that has ended");
    talk.all_four("erin", "gina", "and on");
}

#[test]
fn a_cloud_whose_clock_is_wrong_loses_and_doubles_nothing() {
    for minutes in [120, -120] {
        let (_scratch, lab, mut connector) = running(&format!("cloud-clock{minutes}"), minutes);
        let mut talk = Talk::new(&lab);
        talk.all_four("alice", "bob", "on the first sockets");
        // What sockets lack that end is read from listings, by that clock.
        for person in ["alice", "bob"] {
            lab.control("/fault", &json!({"name": "mercury-cut", "on": true, "count": 1, "person": person}));
        }
        talk.all_four("bob", "alice", "on other sockets");
        connector.kill();
        for from in ["alice", "bob"] {
            talk.say(from, "webex", if from == "alice" { "bob" } else { "alice" }, "while nobody was there");
        }
        let connector = Connector::start(&lab);
        connector.wait_up(&lab);
        talk.arrives("after a death");
        talk.all_four("alice", "bob", "and on");
    }
}

#[test]
fn a_device_is_registered_once_and_used_by_the_next_run() {
    let (_scratch, lab, mut connector) = running("cloud-device", 0);
    let users = lab.endpoints["users"].as_array().unwrap();
    let alice = users.iter().find(|user| user["name"] == "alice").unwrap();
    let devices = || {
        let url = format!("{}/wdm/api/v1/devices", lab.endpoint("cloud"));
        let listed: Value =
            serde_json::from_str(&get_as(&url, alice["access_token"].as_str().unwrap()).unwrap()).unwrap();
        let ours = |device: &&Value| device["name"] == "Hybrid Message connector";
        let urls = listed["devices"].as_array().unwrap().iter().filter(ours);
        urls.map(|device| device["url"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let registered = devices();
    assert_eq!(registered.len(), 1);
    assert_eq!(connector.terminate(SOON), Some(0));
    let mut connector = Connector::start(&lab);
    connector.wait_up(&lab);
    assert_eq!(devices(), registered, "after an orderly end");
    connector.kill();
    let connector = Connector::start(&lab);
    connector.wait_up(&lab);
    assert_eq!(devices(), registered, "after a death");
    drop(connector);
}
