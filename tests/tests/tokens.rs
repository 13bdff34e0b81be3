//! By what right the connector acts: people who enrol, people whose tokens die, and a bot for those without one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Connector, Lab, Scratch, connector_binary, get, get_as, wait_until};

const SOON: Duration = Duration::from_secs(30);
const ALICE: &str = "a.liddell@corp.example";

fn stand_ins(scratch: &Scratch, source: &str) -> Lab {
    Lab::start(scratch.path(), &["--stand-ins", "--time-scale", "20", "--token-source", source])
}

fn running(lab: &Lab) -> Connector {
    let connector = Connector::start(lab);
    connector.wait_up(lab);
    connector
}

/// The list of those who enrolled elsewhere, without those of this name.
fn unlist(lab: &Lab, names: &[&str]) {
    let gone: Vec<&str> = names.iter().filter_map(|name| user(lab, name)["person_id"].as_str()).collect();
    let file = Path::new(lab.endpoint("connector_config")).with_file_name("tokens.csv");
    let text = fs::read_to_string(&file).unwrap();
    let left = text.lines().filter(|line| !gone.iter().any(|id| line.starts_with(id)));
    fs::write(&file, left.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

fn users(lab: &Lab, args: &[&str]) -> Output {
    let config = lab.endpoint("connector_config");
    Command::new(connector_binary()).arg("users").args(args).args(["--config", config]).output().unwrap()
}

/// Runs `users enroll`; once the code is shown, the person of this name types it in.
fn enroll(lab: &Lab, address: &str, typed_by: &str) -> (bool, String) {
    let config = lab.endpoint("connector_config");
    let mut child = Command::new(connector_binary())
        .args(["users", "enroll", address, "--config", config])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.by_ref() {
        let line = line.unwrap();
        said.push_str(&format!("{line}\n"));
        if let Some(page) = line.strip_prefix("or open") {
            get(&format!("{}&user={typed_by}", page.trim())).unwrap();
        }
    }
    let out = child.wait_with_output().unwrap();
    said.push_str(&String::from_utf8_lossy(&out.stderr));
    (out.status.success(), said)
}

fn user<'a>(lab: &'a Lab, name: &str) -> &'a Value {
    lab.endpoints["users"].as_array().unwrap().iter().find(|user| user["name"] == name).unwrap()
}

/// This person's own access token.
fn token(lab: &Lab, name: &str) -> String {
    user(lab, name)["access_token"].as_str().unwrap().to_owned()
}

/// How many devices of ours this person has.
fn devices(lab: &Lab, name: &str) -> usize {
    let url = format!("{}/wdm/api/v1/devices", lab.endpoint("cloud"));
    let answer = get_as(&url, &token(lab, name)).unwrap();
    let listed: Value = serde_json::from_str(&answer).unwrap();
    let ours = |device: &&Value| device["name"] == "Hybrid Message connector";
    listed["devices"].as_array().unwrap().iter().filter(ours).count()
}

fn status(lab: &Lab) -> Value {
    serde_json::from_str(&get(&format!("{}/status", lab.connector_status())).unwrap()).unwrap()
}

#[test]
fn a_person_enrols_beside_a_running_connector_and_the_token_survives_restarts() {
    let scratch = Scratch::new("enrol");
    let lab = stand_ins(&scratch, "user");
    unlist(&lab, &["alice"]);
    // A refresh token is good for one use: only what was kept is of any use after a restart.
    lab.control("/fault", &json!({"name": "refresh-once", "on": true}));
    lab.control("/fault", &json!({"name": "short-tokens", "on": true, "value": 2}));
    let mut connector = running(&lab);
    assert_eq!(status(&lab)["tokens"]["enrolled"], 3);

    let (done, said) = enroll(&lab, ALICE, "bob");
    assert!(!done && said.contains("typed in by bob@corp.example, not by a.liddell@corp.example"), "{said}");
    let (done, said) = enroll(&lab, ALICE, "alice");
    assert!(done && said.contains("the connector that runs has taken it in"), "{said}");
    assert!(wait_until(SOON, || status(&lab)["tokens"]["enrolled"] == 4));
    let listed = String::from_utf8_lossy(&users(&lab, &["list"]).stdout).into_owned();
    assert!(listed.contains(ALICE) && listed.contains("4 enrolled"), "{listed}");
    // Her socket is up: what bob writes to her in Webex reaches her in Jabber.
    lab.say("bob/webex", "alice", "one");
    assert!(wait_until(SOON, || lab.heard("alice/jabber", "bob") == ["one"]));

    for text in ["two", "three"] {
        connector.kill();
        connector = running(&lab);
        lab.say("alice/jabber", "bob", text);
        assert!(wait_until(SOON, || lab.heard("bob/webex", "alice").iter().any(|heard| heard == text)));
    }
    assert_eq!(status(&lab)["tokens"]["refused"], json!([]));
    assert_eq!(connector.terminate(SOON), Some(0));

    // Also while no connector runs, and a letter waits for the next one. Our device goes with it.
    assert_eq!(devices(&lab, "alice"), 1);
    let listed = String::from_utf8_lossy(&users(&lab, &["list"]).stdout).into_owned();
    assert!(listed.contains(ALICE), "{listed}");
    let removed = String::from_utf8_lossy(&users(&lab, &["remove", ALICE]).stdout).into_owned();
    assert!(removed.contains("reads it when it starts"), "{removed}");
    let _connector = running(&lab);
    assert!(wait_until(SOON, || status(&lab)["tokens"]["enrolled"] == 3));
    assert!(wait_until(SOON, || devices(&lab, "alice") == 0));

    // And while it runs.
    assert_eq!(devices(&lab, "bob"), 1);
    let out = users(&lab, &["remove", user(&lab, "bob")["person_id"].as_str().unwrap()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(wait_until(SOON, || devices(&lab, "bob") == 0));
    assert_eq!(status(&lab)["tokens"]["enrolled"], 2);
}

#[test]
fn a_token_that_dies_disturbs_nobody_and_a_new_one_helps() {
    let scratch = Scratch::new("dead");
    let lab = stand_ins(&scratch, "user");
    let _connector = running(&lab);
    lab.control("/fault", &json!({"name": "revoke", "on": true, "person": "alice", "count": 1}));
    lab.say("alice/jabber", "bob", "waits");
    let refused = || status(&lab)["tokens"]["refused"].as_array().map_or(0, Vec::len);
    assert!(wait_until(SOON, || refused() == 1), "{}", status(&lab));
    lab.say("erin/jabber", "bob", "passes");
    lab.say("bob/jabber", "erin", "as well");
    assert!(wait_until(SOON, || lab.heard("bob/webex", "erin") == ["passes"]));
    assert!(wait_until(SOON, || lab.heard("erin/webex", "bob") == ["as well"]));
    assert_eq!(lab.heard("bob/webex", "alice"), [""; 0]);
    let (done, said) = enroll(&lab, ALICE, "alice");
    assert!(done, "{said}");
    assert!(wait_until(SOON, || lab.heard("bob/webex", "alice") == ["waits"]));
    assert_eq!(refused(), 0);
}

#[test]
fn a_bot_relays_and_answers_return_to_the_right_person() {
    let scratch = Scratch::new("relay");
    let lab = stand_ins(&scratch, "user");
    let mut connector = running(&lab);
    // Carol and dave have no token: each has a space of their own with bob, in which the bot speaks.
    lab.say("carol/jabber", "bob", "from carol");
    lab.say("dave/jabber", "bob", "from dave");
    let id = |text: &str| {
        let seen = lab.seen("bob/webex");
        let row = seen.iter().find(|row| row["text"].as_str().is_some_and(|t| t.contains(text)))?;
        row["id"].as_str().map(str::to_owned)
    };
    assert!(wait_until(SOON, || id("from carol").is_some() && id("from dave").is_some()));
    let reply = |to: &str, text: &str| {
        lab.control(
            "/act",
            &json!({"client": "bob/webex", "what": "reply", "id": id(to).unwrap(), "text": text}),
        );
    };
    reply("from dave", "to dave");
    reply("from carol", "to carol");
    assert!(wait_until(SOON, || lab.heard("carol/jabber", "bob") == ["to carol"]));
    assert!(wait_until(SOON, || lab.heard("dave/jabber", "bob") == ["to dave"]));
    // The spaces are known to the next run.
    connector.kill();
    let _connector = running(&lab);
    lab.say("carol/jabber", "bob", "carol again");
    assert!(wait_until(SOON, || id("carol again").is_some()));
    reply("carol again", "to carol again");
    assert!(wait_until(SOON, || lab.heard("carol/jabber", "bob") == ["to carol", "to carol again"]));
    assert_eq!(lab.heard("dave/jabber", "bob"), ["to dave"]);
}

#[test]
fn who_enrols_moves_from_the_bots_space_to_the_conversation_of_the_two_and_nothing_comes_twice() {
    let scratch = Scratch::new("moves");
    let lab = stand_ins(&scratch, "user");
    unlist(&lab, &["alice"]);
    let _connector = running(&lab);
    let times = |text: &str| {
        let seen = lab.seen("bob/webex");
        seen.iter().filter(|row| row["text"].as_str().is_some_and(|seen| seen.contains(text))).count()
    };
    // Neither the making of the space is answered nor the first text in it, though both are done.
    lab.control("/fault", &json!({"name": "create-lost-answer", "on": true, "count": 1}));
    lab.control("/fault", &json!({"name": "post-lost-answer", "on": true, "count": 1}));
    lab.say("alice/jabber", "bob", "by the bot");
    assert!(wait_until(SOON, || times("by the bot") == 1));
    let (done, said) = enroll(&lab, ALICE, "alice");
    assert!(done, "{said}");
    lab.say("alice/jabber", "bob", "as herself");
    assert!(wait_until(SOON, || lab.heard("bob/webex", "alice") == ["as herself"]));
    assert!(lab.wait_idle(SOON));
    assert_eq!(times("by the bot"), 1);
    let url = format!("{}/conversation/api/v1/conversations", lab.endpoint("cloud"));
    let listed: Value = serde_json::from_str(&get_as(&url, &token(&lab, "bob")).unwrap()).unwrap();
    let with = |tag: &str| {
        let items = listed["items"].as_array().unwrap().iter();
        items.filter(|item| item["tags"].as_array().unwrap().contains(&tag.into())).count()
    };
    assert_eq!((with("LOCKED"), with("ONE_ON_ONE")), (1, 1), "one space of the bot's: {listed}");
}

#[test]
fn nobody_enrols_where_nobody_needs_to() {
    let scratch = Scratch::new("organization");
    let lab = stand_ins(&scratch, "organization");
    let out = users(&lab, &["enroll", ALICE]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("webex.token_source is \"user\""), "{said}");
}
