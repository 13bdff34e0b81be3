//! `connector check`: what it finds, and that it disturbs nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::json;
use tests::{Connector, Lab, Scratch, connector_binary, wait_until};

const SOON: Duration = Duration::from_secs(60);

fn stand_ins(scratch: &Scratch) -> Lab {
    Lab::start(scratch.path(), &["--stand-ins", "--time-scale", "20"])
}

fn connector(args: &[&str]) -> Output {
    Command::new(connector_binary()).args(args).output().unwrap()
}

/// Whether all is well, and what is said.
fn check(settings: &str) -> (bool, String) {
    let out = connector(&["check", "--config", settings]);
    (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Every file in the folder of these settings, the store among them.
fn files(settings: &str) -> BTreeMap<String, Vec<u8>> {
    let entries =
        fs::read_dir(Path::new(settings).parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file());
    files
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
        .collect()
}

#[test]
fn check_writes_nothing_and_says_what_is_there_of_the_store() {
    let scratch = Scratch::new("check-store");
    let lab = stand_ins(&scratch);
    let settings = lab.endpoint("connector_config").to_owned();
    let store = format!("store {}: ", lab.endpoint("store"));
    let unchanged = |expected: &str| {
        let before = files(&settings);
        let (good, said) = check(&settings);
        assert!(good, "{said}");
        assert!(said.contains(&format!("{store}{expected}")), "`{expected}` is not in:\n{said}");
        assert!(files(&settings) == before, "a file was written");
    };
    unchanged("is not there yet");
    let mut connector = Connector::start(&lab);
    connector.wait_up(&lab);
    lab.say("alice/webex", "bob", "one");
    assert!(wait_until(SOON, || lab.heard("bob/jabber", "alice") == ["one"]));
    // With its log, as a process that was killed leaves it.
    connector.kill();
    assert!(files(&settings).get("connector.db-wal").is_some_and(|log| !log.is_empty()));
    unchanged("has format ");
    let mut connector = Connector::start(&lab);
    connector.wait_up(&lab);
    assert_eq!(connector.terminate(SOON), Some(0));
    unchanged("has format ");

    let elsewhere = Path::new(&settings).with_file_name("elsewhere.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&elsewhere, text.replace(lab.endpoint("store"), "/nowhere/connector.db")).unwrap();
    let (good, said) = check(&elsewhere.to_string_lossy());
    assert!(!good && said.contains("its folder /nowhere is not there"), "{said}");
}

#[test]
fn check_leaves_a_connector_that_runs_alone() {
    let scratch = Scratch::new("check-running");
    let lab = stand_ins(&scratch);
    let settings = lab.endpoint("connector_config").to_owned();
    let connector = Connector::start(&lab);
    connector.wait_up(&lab);
    let (good, said) = check(&settings);
    assert!(good, "{said}");
    for line in [
        ": a connector runs and answers here".to_owned(),
        format!("store {}: the connector that runs has it", lab.endpoint("store")),
        ": not tried: the connector that runs has this link".to_owned(),
        "ok      clock of this host: ".to_owned(),
    ] {
        assert!(said.contains(&line), "`{line}` is not in:\n{said}");
    }
    lab.say("alice/webex", "bob", "still there");
    assert!(wait_until(SOON, || lab.heard("bob/jabber", "alice") == ["still there"]));
    // Whoever has the store and does not answer where these settings say is another.
    let other = Path::new(&settings).with_file_name("other.toml");
    let status = lab.connector_status().replace("http://", "");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&other, text.replace(&status, "127.0.0.1:0")).unwrap();
    let (good, said) = check(&other.to_string_lossy());
    assert!(!good && said.contains("is in use by another process"), "{said}");
}

#[test]
fn check_compares_the_clock_with_the_clouds() {
    let scratch = Scratch::new("check-clock");
    let lab = stand_ins(&scratch);
    let settings = lab.endpoint("connector_config").to_owned();
    for (ahead, fine, expected) in [
        (20_500_i64, true, " s behind the cloud's"),
        (-20_500, true, " s ahead of the cloud's"),
        (600_000, false, " s behind the cloud's: have it set by a time server"),
        (-600_000, false, " s ahead of the cloud's: have it set by a time server"),
    ] {
        lab.control("/fault", &json!({"name": "clock-skew", "on": true, "value": ahead}));
        let (good, said) = check(&settings);
        assert_eq!(good, fine, "{said}");
        let line = said.lines().find(|line| line.contains("clock of this host: ")).unwrap();
        assert!(line.ends_with(expected), "{line}");
        // Told in whole seconds, by an answer that was on its way.
        let seconds: i64 = line.split_once("host: ").unwrap().1.split_once(' ').unwrap().0.parse().unwrap();
        let apart = ahead.abs() / 1_000;
        assert!((apart - 10..=apart + 10).contains(&seconds), "{ahead}: {line}");
    }
}

#[test]
fn check_compares_the_clock_with_the_nodes() {
    let scratch = Scratch::new("check-node-clock");
    let lab = stand_ins(&scratch);
    let settings = lab.endpoint("connector_config").to_owned();
    for (ahead, expected) in
        [(500_000_i64, None), (700_000, Some(" s behind")), (-700_000, Some(" s ahead of"))]
    {
        lab.control("/fault", &json!({"name": "imp-clock-skew", "on": true, "value": ahead}));
        let (good, said) = check(&settings);
        assert_eq!(good, expected.is_none(), "{said}");
        if let Some(expected) = expected {
            let line = said.lines().find(|line| line.contains("the clock of this host is ")).unwrap();
            assert!(line.contains(expected) && line.contains("the node's"), "{line}");
        }
    }
}

#[test]
fn check_tries_every_connection_and_names_what_is_wrong() {
    let scratch = Scratch::new("check");
    let lab = stand_ins(&scratch);
    let good = lab.endpoint("connector_config").to_owned();
    let out = connector(&["check", "--config", &good]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{said}");
    for line in [
        "ok      status address",
        "ok      store",
        "ok      cloud",
        "ok      people: 7 people, 4 of them enabled",
        "ok      descriptors: 4 enabled people take up to 504 of ",
        "ok      clock of this host: ",
        "ok      federated contacts: what they write is shown in Webex too, by the bot",
    ] {
        assert!(said.contains(line), "`{line}` is not in:\n{said}");
    }
    assert!(said.contains("acknowledges (XEP-0198)"), "{said}");

    let settings = fs::read_to_string(&good).unwrap();
    let folder = Path::new(&good).parent().unwrap();
    let without_bot: String = settings
        .lines()
        .filter(|line| !line.starts_with("bot_token_file"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let path = folder.join("without_bot.toml");
    fs::write(&path, without_bot).unwrap();
    let (all_well, said) = check(path.to_str().unwrap());
    let line =
        "federated contacts: what they write is shown in Jabber alone: webex.bot_token_file is not given";
    assert!(all_well && said.contains(line), "{said}");
    // (what is spoilt: a secret's file and its content; what the check says)
    let rows = [
        ("imp.secret", "wrong", "FAILED  node"),
        ("axl.password", "wrong", "FAILED  people: JIDs cannot be read"),
        ("admin.token", "wrong", "FAILED  people: people of the cloud cannot be read"),
    ];
    for (file, content, expected) in rows {
        let path = folder.join(file);
        let before = fs::read_to_string(&path).unwrap();
        fs::write(&path, content).unwrap();
        let out = connector(&["check", "--config", &good]);
        fs::write(&path, before).unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(!out.status.success(), "{file}: {said}");
        assert!(said.contains(expected), "{file}: `{expected}` is not in:\n{said}");
        assert!(said.contains("ok      cloud"), "{file}: the rest is still tried:\n{said}");
    }

    let bad = folder.join("bad.toml");
    let text = settings.replace("link = \"a\"", "link = \"d\"").replace("[status]", "[statue]");
    fs::write(&bad, text).unwrap();
    let out = connector(&["check", "--config", &bad.to_string_lossy()]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("imp.link: expected one of \"a\", \"b\", \"c\""), "{said}");
    assert!(said.contains("statue: no such table"), "all mistakes are told at once: {said}");
}
