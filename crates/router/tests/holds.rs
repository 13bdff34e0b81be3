//! What is acknowledged when, what is held, and in which order it is released (rules 8 and 9, idea 4).

mod rig;

use std::time::Duration;

use rig::{Rig, person, stream};
use router::envelope::{Kind, Via, WebexOrigin};
use router::ids::StreamId;
use router::inbound::{Inbound, SessionEvent};
use router::outbound::{MaybeSent, Outbound};
use router::outbox::Entry;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn sources(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|e| e.source.as_str()).collect()
}

#[test]
fn nothing_is_acknowledged_before_it_is_on_disk() {
    let mut rig = Rig::new();
    let mut upstream = None;
    let origin = rig.jabber_origin("ann", "ann", "bob", "1", "hello");
    let envelope = router::envelope::Envelope {
        origin: router::envelope::Origin::Jabber(origin),
        kind: Kind::Text,
        arrived: rig.now,
    };
    let next = rig.upstream();
    let body = vec![router::envelope::Body::Clear("hello".into())];
    rig.router.handle(Inbound::Message(envelope, body, next.clone()), rig.now);
    let mut batch = None;
    while let Some(outbound) = rig.router.poll_outbound() {
        match outbound {
            Outbound::Commit(b) => batch = Some(b),
            Outbound::Acknowledge(u) => upstream = Some(u),
            other => panic!("{other:?} before the commit"),
        }
    }
    assert!(upstream.is_none());
    let batch = batch.expect("there is something to commit");
    rig.router.handle(Inbound::Committed(batch.id, vec![]), rig.now);
    while let Some(outbound) = rig.router.poll_outbound() {
        if let Outbound::Acknowledge(u) = outbound {
            upstream = Some(u);
        }
    }
    assert_eq!(upstream, Some(next));
}

#[test]
fn the_count_of_a_stream_is_stored_within_a_second_and_told_after_that() {
    let mut rig = Rig::new();
    let upstream = rig.upstream();
    let n = upstream.n;
    rig.handle(Inbound::Handled(upstream));
    assert!(rig.acknowledged(&StreamId::Imp(stream())) < n);
    rig.pass(seconds(1));
    assert_eq!(rig.acknowledged(&StreamId::Imp(stream())), n);
    rig.restart();
    let loaded = router::outbox::Storage::load(&mut rig.storage, rig.now).expect("memory loads");
    assert_eq!(loaded.streams, [(stream(), n)]);
}

fn stamped(rig: &mut Rig, id: &str, ago: u64) {
    let mut origin = rig.jabber_origin("ann", "bob", "ann", id, id);
    origin.stamp = Some(rig.now.before(seconds(ago)));
    rig.jabber_with(origin, Kind::Text, id);
}

fn opening(rig: &mut Rig, resumed: bool) {
    let event = SessionEvent::Opening { stream: stream(), resumed, at: rig.now };
    rig.handle(Inbound::Session(person("ann"), event));
}

fn texts(rig: &mut Rig) -> Vec<String> {
    let all = rig.deliver_all();
    all.iter().map(|e| e.stanza.as_ref().map_or(String::new(), ToString::to_string)).collect()
}

#[test]
fn an_opening_session_is_replayed_in_the_order_of_the_stamps() {
    let mut rig = Rig::new();
    opening(&mut rig, false);
    stamped(&mut rig, "third", 10);
    rig.jabber("ann", "bob", "ann", "live", "live");
    stamped(&mut rig, "first", 30);
    stamped(&mut rig, "second", 20);
    assert!(rig.deliveries().is_empty(), "held until the ping returns");
    rig.handle(Inbound::Session(person("ann"), SessionEvent::Settled));
    assert_eq!(texts(&mut rig), ["first", "second", "third", "live"]);
}

#[test]
fn the_stamps_of_a_resumption_do_not_sort() {
    let mut rig = Rig::new();
    opening(&mut rig, true);
    rig.jabber("ann", "bob", "ann", "first", "first");
    stamped(&mut rig, "second", 10);
    rig.handle(Inbound::Session(person("ann"), SessionEvent::Settled));
    assert_eq!(texts(&mut rig), ["first", "second"]);
}

#[test]
fn a_settled_copy_releases_what_an_opening_session_holds() {
    let mut rig = Rig::new();
    opening(&mut rig, false);
    rig.jabber("ann", "bob", "ann", "1", "one");
    assert!(rig.deliveries().is_empty());
    rig.jabber("bob", "bob", "ann", "1", "one");
    assert_eq!(texts(&mut rig), ["1"]);
}

#[test]
fn a_hold_ends_after_five_seconds_of_silence_or_a_minute_in_all() {
    let mut rig = Rig::new();
    opening(&mut rig, false);
    rig.jabber("ann", "bob", "ann", "1", "one");
    rig.pass(Duration::from_millis(4_999));
    assert!(rig.deliveries().is_empty());
    rig.handle(Inbound::Session(person("ann"), SessionEvent::Active));
    rig.pass(Duration::from_millis(4_999));
    assert!(rig.deliveries().is_empty());
    rig.pass(Duration::from_millis(1));
    assert_eq!(texts(&mut rig), ["1"]);
    // What comes later still is released at once, and counted.
    rig.jabber("ann", "bob", "ann", "2", "two");
    assert_eq!(texts(&mut rig), ["2"]);
    assert_eq!(rig.router.counters().events["late: after a hold that took too long"], 1);

    opening(&mut rig, false);
    rig.jabber("ann", "bob", "ann", "3", "three");
    for _ in 0..30 {
        rig.pass(seconds(2) - Duration::from_millis(1));
        rig.handle(Inbound::Session(person("ann"), SessionEvent::Active));
    }
    assert!(rig.deliveries().is_empty());
    rig.pass(Duration::from_millis(30));
    assert_eq!(texts(&mut rig), ["3"]);
}

#[test]
fn only_the_newest_trigger_ends_a_catch_up() {
    let mut rig = Rig::new();
    rig.handle(Inbound::Behind(person("ann"), 1));
    rig.webex("ann", "ann", "carol", "one");
    rig.handle(Inbound::Behind(person("ann"), 2));
    rig.caught_up("ann", 1);
    assert!(rig.deliveries().is_empty());
    rig.caught_up("ann", 2);
    assert_eq!(sources(&rig.deliver_all()), ["one"]);
    // Without progress for a minute it ends by itself.
    rig.handle(Inbound::Behind(person("ann"), 3));
    rig.webex("ann", "ann", "carol", "two");
    rig.pass(Duration::from_millis(59_999));
    assert!(rig.deliveries().is_empty());
    rig.pass(Duration::from_millis(1));
    assert_eq!(sources(&rig.deliver_all()), ["two"]);
}

#[test]
fn a_hold_that_ran_out_begins_anew_when_it_is_told_so() {
    let mut rig = Rig::new();
    rig.handle(Inbound::Behind(person("ann"), 1));
    // The socket stays away for longer than a hold lasts, and something is written meanwhile.
    let missed = rig.webex_origin("ann", "ann", "carol", "missed");
    rig.pass(seconds(300));
    rig.handle(Inbound::Behind(person("ann"), 1));
    rig.webex("ann", "ann", "carol", "live");
    assert!(rig.deliveries().is_empty());
    rig.webex_with(WebexOrigin { via: Via::CatchUp(1), ..missed }, Kind::Text);
    rig.caught_up("ann", 1);
    assert_eq!(sources(&rig.deliver_all()), ["missed", "live"]);
}

#[test]
fn what_was_held_stays_held_over_a_restart() {
    let mut rig = Rig::new();
    opening(&mut rig, false);
    rig.jabber("ann", "bob", "ann", "1", "one");
    rig.restart();
    assert!(rig.deliveries().is_empty());
    opening(&mut rig, true);
    assert!(rig.deliveries().is_empty());
    rig.handle(Inbound::Session(person("ann"), SessionEvent::Settled));
    let (ticket, entry, maybe) = rig.delivery();
    assert_eq!((entry.run, maybe), (0, MaybeSent::No), "no run can have posted it");
    rig.delivered(ticket, &entry);
}
