//! The Mercury machine against scripted peers.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use webex_api::Random;
use webex_api::auth::AccessToken;
use webex_api::mercury::{Config, Event, Fate, Output, Socket, socket_url};

/// A machine, its virtual clock, and what it said.
struct Peer {
    socket: Socket,
    now: Instant,
}

#[allow(clippy::disallowed_methods, reason = "any instant will do to count from")]
fn start() -> Instant {
    Instant::now()
}

impl Peer {
    fn connected() -> Self {
        let token = AccessToken::try_from("canary".to_owned()).unwrap();
        let mut n = 0;
        let random = Random::new(move || {
            n += 1;
            n
        });
        let now = start();
        Self { socket: Socket::new(Config::default(), &token, random, now), now }
    }

    fn ready() -> Self {
        let mut peer = Self::connected();
        peer.told();
        peer.says(&json!({"id": "r", "data": {"eventType": "mercury.buffer_state"}, "sequenceNumber": 1}));
        peer.told();
        peer
    }

    fn says(&mut self, frame: &Value) {
        self.socket.handle_text(&frame.to_string(), self.now).unwrap();
    }

    /// Everything the machine wants, in short.
    fn told(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.socket.poll_output()).map(|output| brief(&output)).collect()
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
        self.socket.handle_timeout(self.now);
    }
}

fn brief(output: &Output) -> String {
    assert!(!format!("{output:?}").contains("canary"), "the token is not printed");
    match output {
        Output::Send(frame) => {
            let frame: Value = serde_json::from_str(frame.as_str()).unwrap();
            let text = |name: &str| frame[name].as_str().unwrap_or_default().to_owned();
            match frame["type"].as_str().unwrap() {
                "authorization" => format!("authorization {}", frame["data"]["token"].as_str().unwrap()),
                "ping" => format!("ping {}", text("id")),
                kind => format!("{kind} {}", text("messageId")),
            }
        }
        Output::Event(envelope) => match &envelope.event {
            Event::Activity(activity) => format!("activity {}", activity.id),
            Event::Other(kind) => format!("event {kind}"),
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    }
}

fn activity(id: &str, n: u64) -> Value {
    json!({"id": id, "sequenceNumber": n, "data": {"eventType": "conversation.activity",
        "activity": {"id": id, "verb": "post"}}})
}

const PING: &str = "ping 00000000-0000-4003-8000-000000000004";

#[test]
fn the_address_asks_for_text() {
    let url = socket_url(&"wss://m.example/r1".parse().unwrap(), 7);
    assert_eq!(
        url.as_str(),
        "wss://m.example/r1?outboundWireFormat=text&bufferStates=true&aliasHttpStatus=true&clientTimestamp=7"
    );
}

#[test]
fn authorization_then_readiness_then_a_ping() {
    let mut peer = Peer::connected();
    assert_eq!(peer.told(), ["authorization Bearer canary"]);
    assert_eq!(peer.socket.cloud_time(), None);
    peer.says(&json!({"id": "r", "timestamp": 7, "data": {"eventType": "mercury.registration_status"}}));
    assert_eq!(peer.told(), ["ack r", "Ready", PING]);
    assert_eq!(peer.socket.cloud_time(), Some(webex_api::Timestamp(7)));
}

#[test]
fn what_comes_before_readiness_is_not_lost() {
    let mut peer = Peer::connected();
    peer.told();
    peer.says(&activity("early", 1));
    peer.says(&json!({"id": "r", "sequenceNumber": 2, "data": {"eventType": "mercury.buffer_state"}}));
    assert_eq!(peer.told(), ["activity early", "ack r", "Ready", PING]);
}

#[test]
fn activities_are_acknowledged_on_demand_and_everything_else_at_once() {
    let mut peer = Peer::ready();
    peer.says(&activity("a", 2));
    assert_eq!(peer.told(), ["activity a"]);
    peer.socket.acknowledge(&"a".parse().unwrap());
    assert_eq!(peer.told(), ["ack a"]);
    peer.says(&json!({"id": "k", "sequenceNumber": 3, "data": {"eventType": "encryption.kms_message",
        "encryption": {"kmsMessages": ["x"]}}}));
    assert_eq!(peer.told(), ["ack k", r#"KmsMessages(["x"])"#]);
    peer.says(&json!({"id": "o", "sequenceNumber": 4, "data": {"eventType": "locus.difference"}}));
    assert_eq!(peer.told(), ["ack o", "event locus.difference"]);
    peer.says(&json!({"sequenceNumber": 5, "data": {"eventType": "without.id"}}));
    assert_eq!(peer.told(), ["event without.id"]);
}

#[test]
fn pings_follow_pongs_and_pongs_are_acknowledged() {
    let mut peer = Peer::ready();
    peer.says(&json!({"id": &PING[5..], "type": "pong"}));
    assert_eq!(peer.told(), [format!("ack {}", &PING[5..])]);
    peer.passes(Duration::from_millis(14_999));
    assert!(peer.told().is_empty());
    peer.passes(Duration::from_millis(1));
    assert_eq!(peer.told(), ["ping 00000000-0000-4005-8000-000000000006"]);
    peer.passes(Duration::from_secs(14));
    assert_eq!(peer.told(), [r#"Close { code: 1000, reason: "Pong not received" }"#, "Closed(Reconnect)"]);
    assert_eq!(peer.socket.deadline(), None);
    peer.says(&activity("late", 2));
    peer.socket.handle_close(Some(1006), "");
    assert!(peer.told().is_empty(), "closed is closed, and told once");
}

#[test]
fn a_pong_to_another_ping_ends_the_socket() {
    let mut peer = Peer::ready();
    peer.says(&json!({"id": "other", "type": "pong"}));
    assert_eq!(
        peer.told(),
        ["ack other", r#"Close { code: 1000, reason: "Pong mismatch" }"#, "Closed(Reconnect)"]
    );
}

#[test]
fn a_socket_that_never_gets_ready_is_given_up() {
    let mut peer = Peer::connected();
    peer.told();
    peer.passes(Duration::from_secs(30));
    assert_eq!(peer.told(), [r#"Close { code: 1000, reason: "not ready in time" }"#, "Closed(Reconnect)"]);
}

#[test]
fn a_skipped_number_is_a_gap_told_before_the_event() {
    let mut peer = Peer::ready();
    peer.says(&activity("a", 2));
    peer.says(&activity("b", 4));
    peer.says(&activity("c", 5));
    assert_eq!(peer.told(), ["activity a", "Gap", "activity b", "activity c"]);
}

#[test]
fn a_frame_that_cannot_be_read_is_an_error_and_a_gap() {
    let mut peer = Peer::ready();
    let deep = "{\"a\":".repeat(10_000);
    for (bad, expected) in [
        ("", "frame is not JSON: line 1, column 0"),
        ("{", "frame is not JSON: line 1, column 1"),
        ("5", "frame is not a JSON object"),
        ("\u{0}", "frame is not JSON: line 1, column 1"),
        ("{\"id\":", "frame is not JSON: line 1, column 6"),
        // Deeper than anything that is read.
        (&deep, "frame is not JSON: line 1, column 636"),
    ] {
        let error = peer.socket.handle_text(bad, peer.now).unwrap_err();
        assert_eq!(error.to_string(), expected, "{bad:.20}");
        assert_eq!(peer.told(), ["Gap"]);
    }
    peer.says(&activity("after", 2));
    assert_eq!(peer.told(), ["activity after"]);
}

#[test]
fn no_close_code_stops_for_good() {
    let table: &[(bool, Option<u16>, &str, Fate)] = &[
        // ready, code, reason, what we do
        (false, Some(4401), "", Fate::NewToken),
        (false, Some(4400), "", Fate::Register),
        (false, Some(4403), "", Fate::Register),
        (false, Some(4404), "", Fate::Register),
        (false, Some(1005), "", Fate::Renew),
        (false, Some(1011), "", Fate::Reconnect),
        (false, None, "", Fate::Reconnect),
        (true, None, "", Fate::Reconnect),
        (true, Some(1001), "any", Fate::Reconnect),
        (true, Some(1005), "", Fate::Reconnect),
        (true, Some(1006), "", Fate::Reconnect),
        (true, Some(1011), "", Fate::Reconnect),
        (true, Some(1000), "Idle", Fate::Reconnect),
        (true, Some(1000), "done (forced)", Fate::Reconnect),
        (true, Some(3050), "pong not received", Fate::Reconnect),
        (true, Some(3050), "Pong Mismatch", Fate::Reconnect),
        (true, Some(1000), "logout", Fate::Renew),
        (true, Some(3050), "", Fate::Renew),
        (true, Some(1003), "", Fate::Register),
        (true, Some(1005), "replaced", Fate::Register),
        (true, Some(1005), "authentication failed", Fate::Register),
        (true, Some(1008), "", Fate::Register),
        (true, Some(1012), "", Fate::Register),
        (true, Some(4000), "", Fate::Register),
        (true, Some(4001), "", Fate::Register),
        (true, Some(4401), "", Fate::Register),
        (true, Some(4404), "", Fate::Register),
        (true, Some(4999), "", Fate::Register),
    ];
    for (ready, code, reason, fate) in table {
        let mut peer = if *ready { Peer::ready() } else { Peer::connected() };
        peer.told();
        peer.socket.handle_close(*code, reason);
        assert_eq!(peer.told(), [format!("Closed({fate:?})")], "{ready} {code:?} {reason:?}");
    }
}

#[test]
fn after_a_shutdown_the_registration_stays() {
    let mut peer = Peer::ready();
    peer.says(&json!({"id": "s", "type": "shutdown"}));
    assert_eq!(peer.told(), ["ack s", "Shutdown"]);
    peer.socket.handle_close(Some(4001), "");
    assert_eq!(peer.told(), ["Closed(Reconnect)"]);
}
