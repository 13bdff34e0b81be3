//! `run --since` and `connector restore`: where a connector begins, and goes on from an old copy of its store.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use connector_edges::webex_api::Timestamp;
use serde_json::{Value, json};
use tests::{Connector, Lab, Scratch, connector_binary, get, wait_until};

const SOON: Duration = Duration::from_secs(60);
const HOUR: i64 = 3_600_000;

fn stand_ins(scratch: &Scratch) -> Lab {
    Lab::start(scratch.path(), &["--stand-ins", "--time-scale", "20"])
}

fn running(lab: &Lab, args: &[&str]) -> Connector {
    let connector = Connector::start_asked(lab, args);
    connector.wait_up(lab);
    connector
}

fn connector(args: &[&str]) -> Output {
    Command::new(connector_binary()).args(args).output().unwrap()
}

/// A time as the command line takes it, so many milliseconds from now.
fn from_now(millis: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    Timestamp(i64::try_from(now).unwrap() + millis).to_string()
}

/// The store and what lies beside it.
fn files(lab: &Lab) -> Vec<PathBuf> {
    let store = Path::new(lab.endpoint("store"));
    let name = store.file_name().unwrap().to_str().unwrap();
    let beside = fs::read_dir(store.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    beside
        .filter(|path| path.is_file() && path.file_name().unwrap().to_str().unwrap().starts_with(name))
        .collect()
}

/// How many messages the connector has taken and not delivered.
fn waiting(lab: &Lab) -> u64 {
    let status = get(&format!("{}/status", lab.connector_status())).unwrap_or_default();
    let status: Value = serde_json::from_str(&status).unwrap_or_default();
    status["router"]["waiting"].as_u64().unwrap_or(0)
}

#[test]
fn a_new_store_begins_now_or_where_it_is_told_to() {
    let scratch = Scratch::new("since");
    let lab = stand_ins(&scratch);
    let refused = |expected: &str| {
        let out = connector(&["restore", "--config", lab.endpoint("connector_config")]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains(expected), "`{expected}` is not in: {said}");
    };
    refused("is not there");
    lab.say("alice/webex", "bob", "before there was a connector");
    let mut plain = running(&lab, &[]);
    refused("is in use by another process");
    lab.say("alice/webex", "bob", "one");
    assert!(wait_until(SOON, || lab.heard("bob/jabber", "alice") == ["one"]));
    assert!(lab.wait_idle(SOON));
    assert_eq!(lab.heard("bob/jabber", "alice"), ["one"]);
    assert_eq!(plain.terminate(SOON), Some(0));

    // The disk is lost, and what was written in Webex is asked for again.
    files(&lab).into_iter().for_each(|file| fs::remove_file(file).unwrap());
    let _told = running(&lab, &["--since", &from_now(-HOUR)]);
    let all = ["one", "before there was a connector", "one"];
    let heard = || lab.heard("bob/jabber", "alice");
    assert!(wait_until(SOON, || heard() == all), "{:?}", heard());
}

#[test]
fn a_time_that_is_none_or_in_the_future_is_refused() {
    for (time, expected) in
        [("yesterday", "expected a time such as 2026-01-31T08:00:00Z"), (&*from_now(HOUR), "in the future")]
    {
        let out = connector(&["run", "--config", "none.toml", "--since", time]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains(expected), "{time}: {said}");
    }
}

/// The story of a store that is copied, used, and put back; what bob and alice have heard before it is used again.
struct Story {
    lab: Lab,
    backup: Vec<(PathBuf, Vec<u8>)>,
}

impl Story {
    fn new(scratch: &Scratch) -> Self {
        let lab = stand_ins(scratch);
        let mut connector = running(&lab, &[]);
        lab.say("alice/webex", "bob", "one");
        lab.say("bob/jabber", "alice", "two");
        assert!(lab.wait_idle(SOON));
        // The copy is made while two wait, of which the second was never tried.
        lab.control("/fault", &json!({"name": "post-429", "on": true, "person": "bob"}));
        lab.say("bob/jabber", "alice", "three");
        lab.say("bob/jabber", "alice", "four");
        assert!(wait_until(SOON, || waiting(&lab) == 2), "{}", waiting(&lab));
        assert_eq!(connector.terminate(SOON), Some(0));
        let backup = files(&lab).into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect();

        lab.control("/fault", &json!({"name": "post-429", "on": false}));
        let mut connector = running(&lab, &[]);
        lab.say("alice/webex", "bob", "five");
        lab.say("bob/jabber", "alice", "six");
        assert!(lab.wait_idle(SOON));
        assert_eq!(lab.heard("bob/jabber", "alice"), ["one", "five"]);
        assert_eq!(lab.heard("alice/webex", "bob"), ["two", "three", "four", "six"]);
        connector.kill();
        Self { lab, backup }
    }

    fn put_back(&self) {
        files(&self.lab).into_iter().for_each(|file| fs::remove_file(file).unwrap());
        self.backup.iter().for_each(|(file, bytes)| fs::write(file, bytes).unwrap());
    }

    fn restore(&self) -> Output {
        connector(&["restore", "--config", self.lab.endpoint("connector_config")])
    }

    /// Goes on from what is there, and one more is written each way.
    fn goes_on(&self, args: &[&str]) {
        let mut connector = running(&self.lab, args);
        self.lab.say("alice/webex", "bob", "seven");
        self.lab.say("bob/jabber", "alice", "eight");
        assert!(self.lab.wait_idle(SOON));
        connector.kill();
    }
}

#[test]
fn an_old_copy_of_the_store_repeats_nothing_once_it_is_restored() {
    let scratch = Scratch::new("restore");
    let story = Story::new(&scratch);
    let heard = || story.lab.heard("bob/jabber", "alice");
    story.put_back();
    let out = story.restore();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(said.contains("2 towards Webex") && said.contains("0 towards Jabber"), "{said}");
    story.goes_on(&[]);
    let mut shown = vec!["one", "five", "seven"];
    assert_eq!(heard(), shown);
    assert_eq!(story.lab.heard("alice/webex", "bob"), ["two", "three", "four", "six", "eight"]);

    // Without that, or where it is asked for, what was written since is shown again. What the copy knows is no news.
    story.put_back();
    story.goes_on(&[]);
    shown.extend(["five", "seven", "seven"]);
    assert_eq!(heard(), shown);
    story.put_back();
    assert!(story.restore().status.success());
    story.goes_on(&["--since", &from_now(-HOUR)]);
    shown.extend(["five", "seven", "seven", "seven"]);
    assert_eq!(heard(), shown);
}
