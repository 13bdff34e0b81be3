//! Attempts and the fate of their stream (rule 11).

mod rig;

use std::time::Duration;

use rig::{Rig, stream};
use router::envelope::{Kind, Link};
use router::ids::{ImpStreamId, Position, StanzaId, Ticket};
use router::inbound::{Cause, Inbound, Outcome, SessionEvent, StreamEvent};
use router::outbound::Outbound;
use router::outbox::{Entry, EntryState};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn at(stream: &ImpStreamId, n: u64) -> Option<Position> {
    Some(Position { stream: stream.clone(), n })
}

fn attempted(rig: &mut Rig, n: u64) -> (Ticket, Entry) {
    let (ticket, entry, _) = rig.delivery();
    rig.handle(Inbound::Attempt(ticket, at(&stream(), n)));
    assert!(rig.out.iter().any(|o| matches!(o, Outbound::Write(t) if *t == ticket)));
    (ticket, entry)
}

#[test]
fn a_resumption_settles_what_was_attempted_by_position() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "one");
    rig.webex("ann", "ann", "carol", "two");
    let deliveries = rig.deliveries();
    for ((ticket, ..), n) in deliveries.iter().zip(5..) {
        rig.handle(Inbound::Attempt(*ticket, at(&stream(), n)));
    }
    rig.handle(Inbound::Stream(stream(), StreamEvent::Lost));
    assert!(deliveries.iter().all(|(ticket, ..)| !rig.router.is_in_flight(*ticket)));
    assert!(rig.deliveries().is_empty(), "how it went will be told by the stream");
    rig.out.clear();
    rig.handle(Inbound::Stream(stream(), StreamEvent::Resumed { h: 5 }));
    assert!(rig.out.iter().any(|o| matches!(o, Outbound::Settled(s) if *s == stream())));
    assert!(matches!(rig.state(deliveries[0].1.id), EntryState::Done(Some(Link::Stanza(_)))));
    let (_, again, _) = rig.delivery();
    assert_eq!(again.source.as_str(), "two");
    assert_eq!(again.derived, deliveries[1].1.derived, "with the same id");
    assert_eq!(again.attempt, None);
}

#[test]
fn a_restart_resumes_and_learns_from_h() {
    for (h, arrived) in [(4, false), (5, true)] {
        let mut rig = Rig::new();
        rig.webex("ann", "ann", "bob", "one");
        let (_, entry) = attempted(&mut rig, 5);
        rig.restart();
        assert!(rig.deliveries().is_empty(), "not before the stream has spoken");
        rig.handle(Inbound::Stream(stream(), StreamEvent::Resumed { h }));
        assert_eq!(matches!(rig.state(entry.id), EntryState::Done(_)), arrived);
        assert_eq!(rig.deliveries().len(), usize::from(!arrived));
    }
}

#[test]
fn a_stream_that_is_over_leaves_what_it_does_not_name_to_be_sent_again() {
    for (h, again) in [(None, 1), (Some(4), 1), (Some(5), 0)] {
        let mut rig = Rig::new();
        rig.webex("ann", "ann", "bob", "one");
        attempted(&mut rig, 5);
        rig.handle(Inbound::Stream(stream(), StreamEvent::Refused { h }));
        assert_eq!(rig.deliveries().len(), again, "{h:?}");
    }
    // One that is never heard of again is over after its time.
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "one");
    attempted(&mut rig, 5);
    rig.restart();
    rig.pass(seconds(599));
    assert!(rig.deliveries().is_empty());
    rig.pass(seconds(1));
    assert_eq!(rig.deliveries().len(), 1);
}

#[test]
fn an_attempt_that_nobody_waits_for_any_more_is_skipped() {
    let mut rig = Rig::new();
    rig.handle(Inbound::Attempt(Ticket(77), at(&stream(), 1)));
    assert!(matches!(rig.out.pop(), Some(Outbound::Skip(Ticket(77)))));
    rig.webex("ann", "ann", "bob", "one");
    let (ticket, ..) = rig.delivery();
    rig.handle(Inbound::Stream(stream(), StreamEvent::Lost));
    rig.handle(Inbound::Attempt(ticket, at(&stream(), 1)));
    assert!(rig.out.iter().any(|o| matches!(o, Outbound::Skip(t) if *t == ticket)));
    assert_eq!(rig.deliveries().len(), 1, "back in its lane, unattempted");
}

fn bounce(rig: &mut Rig, entry: &Entry, condition: &str) {
    let origin = rig.jabber_origin("ann", "ann", "bob", "", "");
    let of = StanzaId::new(entry.derived.as_str());
    rig.jabber_with(origin, Kind::Bounced { of, condition: condition.into() }, "");
}

#[test]
fn a_stanza_that_came_back_is_sent_again_as_often_as_its_session_was_gone() {
    for receipt_first in [false, true] {
        let mut rig = Rig::new();
        rig.webex("ann", "ann", "bob", "one");
        rig.webex("ann", "ann", "bob", "two");
        let (ticket, entry) = attempted(&mut rig, 1);
        if receipt_first {
            rig.delivered(ticket, &entry);
            // The next of the lane is on its way already; the returned one goes before whatever waits.
            let (ticket, two, _) = rig.delivery();
            bounce(&mut rig, &entry, "session-ended");
            rig.delivered(ticket, &two);
        } else {
            bounce(&mut rig, &entry, "session-ended");
        }
        for n in 0..20 {
            // The first time at once, then with a pause that grows to a minute.
            if n > 0 {
                assert!(rig.deliveries().is_empty(), "no circle without a pause");
                rig.pass(seconds(60));
            }
            let (ticket, again, _) = rig.delivery();
            assert_eq!((again.source.as_str(), &again.derived), ("one", &entry.derived));
            assert_ne!(again.body, router::envelope::Body::None, "its text is still there");
            if n % 2 == 0 {
                rig.delivered(ticket, &again);
                assert_eq!(rig.deliver_all().len(), usize::from(n == 0 && !receipt_first));
            }
            bounce(&mut rig, &entry, "session-ended");
        }
        assert_eq!(rig.told(), []);
    }
}

#[test]
fn what_came_back_together_keeps_its_order() {
    let mut rig = Rig::new();
    let texts = ["one", "two", "three"];
    texts.iter().for_each(|text| rig.webex("ann", "ann", "bob", text));
    let arrived = rig.deliver_all();
    assert_eq!(arrived.len(), 3);
    rig.handle(Inbound::Session(rig::person("ann"), SessionEvent::Closed { for_good: false }));
    for entry in &arrived {
        bounce(&mut rig, entry, "session-ended");
        // No session is there: what is handed out comes back.
        for (ticket, entry, _) in rig.deliveries() {
            let cause = Cause::Session(entry.carrier.clone());
            rig.handle(Inbound::Receipt(ticket, Outcome::Later { cause, after: None }));
        }
    }
    rig.open("ann");
    let again: Vec<_> = rig.deliver_all().iter().map(|entry| entry.source.as_str().to_owned()).collect();
    assert_eq!(again, texts);
}

#[test]
fn what_came_back_after_a_restart_is_sent_again_too() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "one");
    let (ticket, entry) = attempted(&mut rig, 1);
    rig.delivered(ticket, &entry);
    rig.pass(seconds(1));
    assert!(matches!(rig.state(entry.id), EntryState::Done(_)));
    rig.restart();
    rig.open("ann");
    bounce(&mut rig, &entry, "session-ended");
    let (_, again, _) = rig.delivery();
    assert_eq!(again.id, entry.id);
    assert_ne!(again.body, router::envelope::Body::None);
}

#[test]
fn what_a_server_refuses_is_not_delivered_and_its_sender_is_told() {
    for receipt_first in [false, true] {
        // A server that cannot is asked a few times; one that will not, as one with a compliance server does, is
        // not asked again (SC-02).
        for (condition, again) in [("internal-server-error", 5), ("forbidden", 0), ("not-acceptable", 0)] {
            let mut rig = Rig::new();
            rig.webex("ann", "ann", "bob", "one");
            let mut sent = 0;
            let entry = loop {
                let (ticket, entry, _) = rig.delivery();
                if receipt_first {
                    rig.delivered(ticket, &entry);
                }
                bounce(&mut rig, &entry, condition);
                rig.pass(seconds(60));
                if sent == again {
                    break entry;
                }
                sent += 1;
            };
            assert_eq!(rig.told().len(), 1, "{condition}: once, to its sender");
            assert!(matches!(rig.state(entry.id), EntryState::Closed(_)));
            bounce(&mut rig, &entry, condition);
            assert_eq!(rig.told(), []);
        }
        // Of a recipient who is away with offline storage off nobody is told: it is in Webex (OFF-06).
        let mut rig = Rig::new();
        rig.webex("ann", "ann", "bob", "one");
        let (ticket, entry) = attempted(&mut rig, 1);
        if receipt_first {
            rig.delivered(ticket, &entry);
        }
        bounce(&mut rig, &entry, "service-unavailable");
        assert!(rig.deliveries().is_empty() && rig.given_up().is_empty());
    }
}

#[test]
fn what_was_committed_long_ago_and_came_back_still_has_its_text() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "slow");
    let (ticket, entry, _) = rig.delivery();
    rig.pass(seconds(400));
    rig.webex("bob", "bob", "carol", "quick");
    rig.deliver_all();
    rig.pass(seconds(300));
    rig.delivered(ticket, &entry);
    // By now the quick one is final, and its text erased.
    rig.pass(seconds(330));
    bounce(&mut rig, &entry, "session-ended");
    let (_, again, _) = rig.delivery();
    assert_eq!(again.id, entry.id);
    assert_ne!(again.body, router::envelope::Body::None);
}
