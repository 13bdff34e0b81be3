//! Key services on the customer's premises, each with a certificate chain of its own, whose roots are pinned.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Connector, Lab, Scratch, get, wait_until};

const SOON: Duration = Duration::from_secs(60);

/// Whose certificate chains the connector believes.
#[derive(Clone, Copy)]
enum Pinned {
    Cloud,
    OnPremises,
    Both,
}

/// Gives the connector of this lab these roots alone.
fn pin(lab: &Lab, settings: &str, pinned: Pinned) {
    let text = fs::read_to_string(lab.endpoint("kms_ca")).unwrap();
    let roots: Vec<&str> = text.split_inclusive("-----END CERTIFICATE-----\n").collect();
    let [cloud, on_premises] = roots[..] else { panic!("two roots: {text}") };
    let roots = match pinned {
        Pinned::Cloud => cloud.to_owned(),
        Pinned::OnPremises => on_premises.to_owned(),
        Pinned::Both => text.clone(),
    };
    let file = Path::new(lab.endpoint("connector_config"));
    fs::write(file.with_file_name("pinned.pem"), roots).unwrap();
    fs::write(file, settings.replacen("[webex]\n", "[webex]\nkms_ca_file = \"pinned.pem\"\n", 1)).unwrap();
}

fn stand_ins(scratch: &Scratch) -> (Lab, String) {
    let lab = Lab::start(scratch.path(), &["--stand-ins", "--time-scale", "20"]);
    let settings = fs::read_to_string(lab.endpoint("connector_config")).unwrap();
    (lab, settings)
}

fn running(lab: &Lab) -> Connector {
    let connector = Connector::start(lab);
    connector.wait_up(lab);
    connector
}

/// Each hears from the other, in both clients; `n` tells the texts of one call from those of another.
fn they_talk(lab: &Lab, one: &str, other: &str, n: u32) {
    for (from, to) in [(one, other), (other, one)] {
        let (jabber, webex) = (format!("{n} {from} in Jabber"), format!("{n} {from} in Webex"));
        lab.say(&format!("{from}/jabber"), to, &jabber);
        lab.say(&format!("{from}/webex"), to, &webex);
        let heard = |client: &str, text: &str| {
            wait_until(SOON, || {
                lab.heard(client, from).iter().filter(|heard| heard.as_str() == text).count() == 1
            })
        };
        assert!(heard(&format!("{to}/webex"), &jabber), "{jabber}");
        assert!(heard(&format!("{to}/jabber"), &webex), "{webex}");
    }
}

#[test]
fn an_organization_with_its_own_key_service_needs_its_root_and_only_that() {
    let scratch = Scratch::new("kms-premises");
    let (lab, settings) = stand_ins(&scratch);
    lab.control("/fault", &json!({"name": "kms-on-premises", "on": true}));

    // The connector believes the cloud's key service, and these people have another: no text leaves for anybody.
    pin(&lab, &settings, Pinned::Cloud);
    let mut connector = running(&lab);
    lab.say("alice/jabber", "bob", "waits for the right root");
    let blocked = || {
        let status = get(&format!("{}/status", lab.connector_status())).unwrap_or_default();
        let status: Option<Value> = serde_json::from_str(&status).ok();
        status.is_some_and(|status| status["router"]["blocked"]["key service"] == 1)
    };
    assert!(wait_until(SOON, blocked));
    let log = fs::read_to_string(lab.folder().join("connector.log")).unwrap();
    assert!(log.contains("key service is not trusted") && log.contains("kms://kms.corp.example"), "{log}");
    assert_eq!(lab.heard("bob/webex", "alice"), [""; 0]);
    assert_eq!(connector.terminate(SOON), Some(0));

    pin(&lab, &settings, Pinned::OnPremises);
    let _connector = running(&lab);
    assert!(wait_until(SOON, || lab.heard("bob/webex", "alice") == ["waits for the right root"]));
    they_talk(&lab, "alice", "bob", 1);
}

#[test]
fn people_of_two_key_services_talk_and_may_be_moved_from_one_to_the_other() {
    let scratch = Scratch::new("kms-two");
    let (lab, settings) = stand_ins(&scratch);
    lab.control("/fault", &json!({"name": "kms-on-premises", "on": true, "person": "bob"}));
    pin(&lab, &settings, Pinned::Both);
    let mut connector = running(&lab);
    // Whoever makes the conversation makes its key, at the own key service; the other one's hands it out, too.
    they_talk(&lab, "bob", "erin", 1);
    they_talk(&lab, "alice", "bob", 2);
    they_talk(&lab, "alice", "erin", 3);

    // All of them are moved. What was written before is there, and the old conversations go on.
    lab.control("/fault", &json!({"name": "kms-on-premises", "on": true}));
    they_talk(&lab, "alice", "bob", 4);
    connector.kill();
    let _connector = running(&lab);
    they_talk(&lab, "alice", "bob", 5);
    they_talk(&lab, "erin", "alice", 6);
}
