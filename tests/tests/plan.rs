//! `connector plan`, with numbers and with what the stand-ins tell.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tests::{Lab, Scratch, connector_binary};

fn plan(args: &[&str]) -> Output {
    Command::new(connector_binary()).arg("plan").args(args).output().expect("the connector can be started")
}

fn report(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| {
        panic!("{e}: {}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
    })
}

/// What a rule says of something, as `outcome: what`.
fn says(report: &Value, rule: &str, about: &str) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let findings = findings.filter(|finding| finding["rule"] == rule && finding["about"] == about);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    findings.map(|finding| format!("{}: {}", text(&finding["outcome"]), text(&finding["what"]))).collect()
}

#[test]
fn numbers_of_users_give_nodes_and_clusters() {
    let out = plan(&["--imp", "imp1=20000", "--imp", "imp2=6000", "--json"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let report = report(&out);
    assert_eq!(report["model"], "one connector cluster for one IM and Presence cluster, at several sites");
    let of = |nodes, users: &str| {
        format!(
            "holds: {users} users need {nodes} such nodes with one in reserve, {nodes} are there; a cluster has at most 6"
        )
    };
    assert_eq!(says(&report, "CAP-01", "connectors of imp1"), [of(3, "20000")]);
    assert_eq!(says(&report, "CAP-01", "connectors of imp2"), [of(2, "6000")]);

    let out = plan(&["--imp", "imp1=75001"]);
    assert!(!out.status.success());
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.contains("BROKEN  CAP-06  connectors of imp1: 75001 of at most 75000"), "{said}");

    let out = plan(&["--imp", "imp1"]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("expected NAME=USERS"), "bad input is told");
}

#[test]
fn what_im_and_presence_and_the_cloud_tell_is_judged() {
    let scratch = Scratch::new("plan");
    let lab = Lab::start(scratch.path(), &["--stand-ins", "--time-scale", "20"]);
    let settings = lab.endpoint("connector_config").to_owned();
    let publisher = lab.endpoint("axl").to_owned();
    let found = report(&plan(&["--config", &settings, "--json"]));
    assert_eq!(found["model"], "one connector cluster for one IM and Presence cluster");
    assert_eq!(says(&found, "CAP-17", &publisher), ["holds: served by connectors"]);
    assert_eq!(says(&found, "CAP-02", "organization"), ["holds: 4 of at most 195000 enabled users"]);
    assert_eq!(says(&found, "SC-17", "organization").len(), 1);
    let licences = says(&found, "LIC-04", "organization");
    assert!(
        licences.iter().any(|said| said.starts_with("broken: 1 users of IM and Presence are not in Webex")),
        "{licences:?}"
    );
    assert!(
        licences.iter().any(|said| said.contains("webex.message_license_id is not given")),
        "{licences:?}"
    );

    // A second connector cluster on the same publisher, and a licence to look for.
    let folder = std::path::Path::new(&settings).parent().unwrap();
    let text = fs::read_to_string(&settings).unwrap();
    let text = text.replace("[webex]\n", "[webex]\nmessage_license_id = \"nobody has this\"\n");
    let second = folder.join("second.toml");
    let text = text.replace("[deployment]\n", "[deployment]\ncluster = \"others\"\nnode = \"other\"\n");
    fs::write(&second, text).unwrap();
    let second = second.to_string_lossy().into_owned();
    let out = plan(&["--config", &second, "--config", &settings, "--json"]);
    assert!(!out.status.success(), "broken rules are a failure");
    let found = report(&out);
    assert_eq!(found["model"], "several connector clusters for one IM and Presence cluster");
    let said = ["broken: several connector clusters serve it: connectors, others"];
    assert_eq!(says(&found, "CAP-17", &publisher), said);
    let licences = says(&found, "LIC-04", "organization");
    assert!(licences.iter().any(|said| said.contains("lack Message Free")), "{licences:?}");
}
