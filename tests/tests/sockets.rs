//! Mercury sockets that the cloud shuts down under a conversation.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use serde_json::json;
use tests::{Connector, Lab, Scratch, wait_until};

const SOON: Duration = Duration::from_secs(60);

/// How many take-overs of sockets the connector has logged, with the old one still alive or not.
fn taken_over(lab: &Lab, gapless: bool) -> usize {
    let log = std::fs::read_to_string(lab.folder().join("connector.log")).unwrap();
    let lines = log.lines().filter(|line| line.contains("socket taken over"));
    lines.filter(|line| line.contains(&format!("gapless={gapless}"))).count()
}

#[test]
fn sockets_that_are_shut_down_under_a_conversation_lose_and_double_nothing() {
    let scratch = Scratch::new("shutdown");
    let lab = Lab::start(scratch.path(), &["--stand-ins", "--time-scale", "20"]);
    let connector = Connector::start(&lab);
    connector.wait_up(&lab);
    let (mut from_alice, mut from_bob) = (Vec::new(), Vec::new());
    // At first the old socket lives on for a minute of the lab's; then it is closed as soon as there is another, which
    // loses what was on its way.
    for rest in [60_000, 0] {
        for round in 0..2 {
            for person in ["alice", "bob"] {
                let fault = json!({"name": "mercury-shutdown", "on": true, "count": 1, "person": person, "value": rest});
                lab.control("/fault", &fault);
            }
            for n in 0..5 {
                let text = format!("{rest} {round} {n}");
                lab.say("alice/webex", "bob", &text);
                lab.say("bob/jabber", "alice", &text);
                from_alice.push(text.clone());
                from_bob.push(text);
            }
            assert!(wait_until(SOON, || lab.heard("bob/jabber", "alice") == from_alice));
            assert!(wait_until(SOON, || lab.heard("alice/webex", "bob") == from_bob));
        }
        assert!(lab.wait_idle(SOON));
        if rest > 0 {
            // With a minute to go, the new socket is ready before the old one ends.
            assert!(wait_until(SOON, || taken_over(&lab, true) >= 2), "{}", taken_over(&lab, true));
        }
    }
    assert_eq!(lab.heard("bob/jabber", "alice"), from_alice);
    assert_eq!(lab.heard("alice/webex", "bob"), from_bob);
}
