//! Two nodes of one cluster: one dies, its partner takes over, and gives back.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Connector, Lab, Scratch, get, wait_until};

const SOON: Duration = Duration::from_secs(60);

fn status(lab: &Lab) -> Value {
    let status = get(&format!("{}/status", lab.connector_status())).unwrap_or_default();
    serde_json::from_str(&status).unwrap_or_default()
}

/// How many sessions the connector holds.
fn sessions(lab: &Lab) -> u64 {
    status(lab)["router"]["sessions"].as_u64().unwrap_or(0)
}

/// How many people should have one and are given none.
fn refused(lab: &Lab) -> u64 {
    status(lab)["refused_sessions"].as_array().map_or(0, |refused| refused.len() as u64)
}

/// How often the connector's log says this.
fn logged(lab: &Lab, what: &str) -> u64 {
    let log = fs::read_to_string(lab.folder().join("connector.log")).unwrap();
    log.lines().filter(|line| line.contains(what)).count() as u64
}

fn node(lab: &Lab, change: &Value) {
    lab.control("/node", change);
}

/// The last that carol saw of the presence of somebody.
fn presence(lab: &Lab, of: &str) -> String {
    let seen = lab.seen("carol/jabber");
    let last = seen.iter().rev().find(|row| row["kind"] == "presence" && row["peer"] == of);
    last.map(|row| row["text"].as_str().unwrap().to_owned()).unwrap_or_default()
}

#[test]
fn a_node_dies_its_partner_takes_over_and_gives_back_and_nothing_is_lost() {
    fails_over("a", &[0, 1]);
}

#[test]
fn nor_is_it_with_a_client_stream_for_each_user() {
    fails_over("b", &[0, 1]);
}

#[test]
fn nor_where_each_logs_in_with_a_password_made_for_that() {
    fails_over("c", &[0]);
}

fn fails_over(link: &str, nodes: &[u8]) {
    for dies in nodes {
        let scratch = Scratch::new(&format!("failover-{link}-{dies}"));
        let options = ["--stand-ins", "--link", link, "--imp-nodes", "2", "--time-scale", "20"];
        let lab = Lab::start(scratch.path(), &options);
        let mut connector = Connector::start(&lab);
        connector.wait_up(&lab);
        let all = sessions(&lab);
        assert_eq!(all, 4, "everybody who is enabled has a session");
        let mut said = Vec::new();
        // Alice is homed on one of the nodes, bob on the other.
        let mut talk = |when: &str| {
            for (from, to) in [("alice", "bob"), ("bob", "alice")] {
                lab.say(&format!("{from}/webex"), to, &format!("{when}: from Webex"));
                lab.say(&format!("{from}/jabber"), to, &format!("{when}: from Jabber"));
            }
            said.extend([format!("{when}: from Webex"), format!("{when}: from Jabber")]);
        };
        talk("before");
        assert!(lab.wait_idle(SOON));
        let shown = presence(&lab, "alice");
        assert!(shown.contains("@ Webex"), "{shown}");

        node(&lab, &json!({"node": dies, "up": false}));
        // A client stream whose node is away counts as one to be resumed, until another node says that it is not there.
        let lost = || logged(&lab, "connection lost");
        let noticed = || if link == "a" { sessions(&lab) < all } else { lost() > 0 };
        assert!(wait_until(SOON, noticed), "the connector does not notice");
        talk("while it is dead");
        node(&lab, &json!({"node": dies, "taken_over": true}));
        // What the limiter implies for a handful of sessions is a fraction of a second; the rest is for its partner.
        let restored = || match link {
            "a" => sessions(&lab) == all,
            _ => logged(&lab, "stream up") == all + lost(),
        };
        assert!(wait_until(Duration::from_secs(5), restored), "not restored: see {}", lab.folder().display());
        talk("on its partner");
        assert!(lab.wait_idle(SOON));
        assert_eq!(presence(&lab, "alice"), shown, "presence is restored");

        // A restart finds the sessions where they are.
        connector.kill();
        let connector = Connector::start(&lab);
        connector.wait_up(&lab);
        assert!(wait_until(SOON, || sessions(&lab) == all));
        talk("after a restart");
        assert!(lab.wait_idle(SOON));

        node(&lab, &json!({"node": dies, "up": true}));
        node(&lab, &json!({"node": dies, "taken_over": false}));
        talk("while it takes them back");
        assert!(lab.wait_idle(SOON));
        assert!(wait_until(SOON, || sessions(&lab) == all));
        talk("after");
        assert!(lab.wait_idle(SOON));
        assert_eq!(presence(&lab, "alice"), shown);

        for (reader, writer) in [("alice", "bob"), ("bob", "alice")] {
            for app in ["jabber", "webex"] {
                let mut heard = lab.heard(&format!("{reader}/{app}"), writer);
                let mut expected = said.clone();
                // The two clients of one writer are not ordered among each other.
                heard.sort();
                expected.sort();
                assert_eq!(heard, expected, "{reader}/{app} on link {link} with node {dies} dead");
            }
        }
    }
}

#[test]
fn the_users_of_a_node_that_is_added_have_their_sessions_and_nothing_was_lost() {
    let scratch = Scratch::new("added");
    let lab = Lab::start(scratch.path(), &["--stand-ins", "--imp-nodes", "2", "--time-scale", "20"]);
    let path = Path::new(lab.endpoint("connector_config"));
    let both = fs::read_to_string(path).unwrap();
    let line = both.lines().find(|line| line.starts_with("nodes = [")).unwrap();
    let first = line.split_once(',').unwrap().0;
    fs::write(path, both.replace(line, &format!("{first}]"))).unwrap();
    let mut connector = Connector::start(&lab);
    // Alice is homed on one of the nodes, bob on the other, of which nothing is known yet.
    assert!(
        wait_until(SOON, || sessions(&lab) > 0 && refused(&lab) > 0 && sessions(&lab) + refused(&lab) == 4),
        "{}",
        status(&lab)
    );
    for (from, to) in [("alice", "bob"), ("bob", "alice")] {
        lab.say(&format!("{from}/webex"), to, "before");
    }
    assert_eq!(connector.terminate(SOON), Some(0));
    fs::write(path, both).unwrap();
    let _connector = Connector::start(&lab);
    assert!(wait_until(SOON, || sessions(&lab) == 4 && refused(&lab) == 0), "{}", status(&lab));
    for (from, to) in [("alice", "bob"), ("bob", "alice")] {
        lab.say(&format!("{from}/webex"), to, "after");
    }
    assert!(lab.wait_idle(SOON));
    for (reader, writer) in [("alice", "bob"), ("bob", "alice")] {
        assert_eq!(lab.heard(&format!("{reader}/jabber"), writer), ["before", "after"], "{reader}");
    }
}
