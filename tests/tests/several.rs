//! Several connectors on one IM and Presence cluster, and one connector on several clusters.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tests::{Connector, Lab, Scratch, get, wait_until};

const SOON: Duration = Duration::from_secs(60);

fn stand_ins(scratch: &Scratch) -> Lab {
    Lab::start(scratch.path(), &["--stand-ins", "--time-scale", "20"])
}

fn settings(lab: &Lab) -> (PathBuf, String) {
    let path = PathBuf::from(lab.endpoint("connector_config"));
    let text = fs::read_to_string(&path).expect("the lab writes the settings");
    (path, text)
}

/// How many sessions the connector with the lab's own settings holds.
fn sessions(lab: &Lab) -> u64 {
    let status = get(&format!("{}/status", lab.connector_status())).unwrap_or_default();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
    status["router"]["sessions"].as_u64().unwrap_or(0)
}

/// Waits until a client has heard all of this from somebody, and then for what would be too much.
fn hears(lab: &Lab, client: &str, from: &str, expected: &[&str]) {
    wait_until(SOON, || lab.heard(client, from).len() >= expected.len());
    assert!(lab.wait_idle(SOON), "the first connector comes to rest");
    assert_eq!(lab.heard(client, from), expected, "{client} from {from}");
}

#[test]
fn two_connectors_share_a_cluster_and_recognize_what_the_other_wrote() {
    let scratch = Scratch::new("two-connectors");
    let lab = stand_ins(&scratch);
    let (path, text) = settings(&lab);
    let folder = path.parent().unwrap();
    fs::write(folder.join("groups.csv"), "bob@corp.example,second\ngina@corp.example,second\n").unwrap();
    let text = text.replace("[directory]\n", "[directory]\nresource_groups = \"groups.csv\"\n");
    fs::write(&path, &text).unwrap();
    let second = second_settings(folder, &text, &lab);
    let first = Connector::start(&lab);
    let _second = Connector::start_with(&lab, &second);
    first.wait_up(&lab);
    // Alice and erin are the first's, bob and gina the second's: both sides have to be up before they talk.
    assert!(wait_until(SOON, || sessions(&lab) == 2), "the first serves only its own");
    lab.say("bob/webex", "carol", "are you there?");
    assert!(wait_until(SOON, || lab.heard("carol/jabber", "bob").len() == 1), "the second is up");

    lab.say("alice/webex", "bob", "from Webex across");
    hears(&lab, "bob/jabber", "alice", &["from Webex across"]);
    lab.say("bob/webex", "alice", "and back");
    hears(&lab, "alice/jabber", "bob", &["and back"]);
    // Both connectors see this one: on the sender's session and on the recipient's.
    lab.say("alice/jabber", "bob", "from Jabber across");
    hears(&lab, "bob/webex", "alice", &["from Webex across", "from Jabber across"]);
    lab.say("bob/jabber", "alice", "and back again");
    hears(&lab, "alice/webex", "bob", &["and back", "and back again"]);
    lab.say("carol/jabber", "bob", "to the second's");
    hears(&lab, "bob/webex", "carol", &["to the second's"]);
    // Whatever went round would have come back by now.
    hears(&lab, "bob/jabber", "alice", &["from Webex across", "from Jabber across"]);
    hears(&lab, "alice/jabber", "bob", &["and back", "and back again"]);
}

/// Settings of a connector for the resource group `second`, with a store, a name and a link of its own.
fn second_settings(folder: &Path, text: &str, lab: &Lab) -> PathBuf {
    let status = lab.connector_status();
    let text = text
        .replace(lab.endpoint("store"), &folder.join("second.db").to_string_lossy())
        .replace(status.trim_start_matches("http://"), "127.0.0.1:0")
        .replace(lab.endpoint("trusted_name"), "second.lab.example")
        .replace(
            "[deployment]\n",
            "[deployment]\nnode = \"second\"\nprimary = false\nresource_group = \"second\"\n",
        );
    let path = folder.join("second.toml");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn one_connector_serves_several_clusters() {
    let scratch = Scratch::new("several-clusters");
    let lab = stand_ins(&scratch);
    let (path, text) = settings(&lab);
    // Two sections, each with its own link and its own domain; the second domain is the second cluster's.
    let from = text.find("[[imp]]").unwrap();
    let to = from + text[from..].find("\n[directory]").unwrap();
    let first = text[from..to].replace("\"lab.example\", \"lab2.example\"", "\"lab.example\"");
    assert_ne!(first, text[from..to]);
    let second = text[from..to]
        .replace("\"lab.example\", \"lab2.example\"", "\"lab2.example\"")
        .replace(lab.endpoint("trusted_name"), "second.lab.example");
    let users = "alice@lab.example,a.liddell@corp.example,true\nbob@lab.example,bob@corp.example,true\n\
                 carol@lab.example,carol@corp.example,false\nerin@lab2.example,erin@corp.example,true\n";
    fs::write(path.with_file_name("users.csv"), users).unwrap();
    let rest = text[to..].replace("[directory]\n", "[directory]\nusers = \"users.csv\"\n");
    fs::write(&path, format!("{}{first}\n{second}{rest}", &text[..from])).unwrap();

    let connector = Connector::start(&lab);
    connector.wait_up(&lab);
    assert!(wait_until(SOON, || sessions(&lab) == 3), "people of both clusters have sessions");
    lab.say("alice/webex", "erin", "into the other cluster");
    hears(&lab, "erin/jabber", "alice", &["into the other cluster"]);
    lab.say("erin/jabber", "alice", "out of it");
    hears(&lab, "alice/webex", "erin", &["out of it"]);
    lab.say("carol/jabber", "erin", "to somebody of the other");
    hears(&lab, "erin/webex", "carol", &["to somebody of the other"]);
    hears(&lab, "alice/jabber", "erin", &["out of it"]);
}
