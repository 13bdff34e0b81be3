//! Attempts and the fate of their stream (rule 11).

mod rig;

use std::time::Duration;

use rig::{Rig, stream};
use router::envelope::{Kind, Link};
use router::ids::{ImpStreamId, Position, StanzaId, Ticket};
use router::inbound::{Inbound, StreamEvent};
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

#[test]
fn a_stanza_that_came_back_is_sent_again_once_also_after_its_receipt() {
    let bounce = |rig: &mut Rig, entry: &Entry, condition: &str| {
        let origin = rig.jabber_origin("ann", "ann", "bob", "", "");
        let of = StanzaId::new(entry.derived.as_str());
        rig.jabber_with(origin, Kind::Bounced { of, condition: condition.into() }, "");
    };
    for receipt_first in [false, true] {
        let mut rig = Rig::new();
        rig.webex("ann", "ann", "bob", "one");
        rig.webex("ann", "ann", "bob", "two");
        let (ticket, entry) = attempted(&mut rig, 1);
        if receipt_first {
            rig.delivered(ticket, &entry);
            // The next of the lane is on its way already; the returned one goes to the front.
            let (ticket, two, _) = rig.delivery();
            bounce(&mut rig, &entry, "session-ended");
            rig.delivered(ticket, &two);
        } else {
            bounce(&mut rig, &entry, "session-ended");
        }
        let (ticket, again, _) = rig.delivery();
        assert_eq!((again.source.as_str(), &again.derived), ("one", &entry.derived));
        assert_ne!(again.body, router::envelope::Body::None, "its text is still there");
        rig.delivered(ticket, &again);
        let rest = rig.deliver_all().len();
        assert_eq!(rest, usize::from(!receipt_first));
        // A second time it is not.
        bounce(&mut rig, &entry, "session-ended");
        assert!(rig.deliveries().is_empty());
    }
    // A recipient who is away with offline storage off is told nothing more (OFF-06).
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "one");
    let (ticket, entry) = attempted(&mut rig, 1);
    rig.delivered(ticket, &entry);
    bounce(&mut rig, &entry, "service-unavailable");
    assert!(rig.deliveries().is_empty() && rig.undelivered().is_empty());
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
    let origin = rig.jabber_origin("ann", "ann", "bob", "", "");
    let of = StanzaId::new(entry.derived.as_str());
    rig.jabber_with(origin, Kind::Bounced { of, condition: "session-ended".into() }, "");
    let (_, again, _) = rig.delivery();
    assert_eq!(again.id, entry.id);
    assert_ne!(again.body, router::envelope::Body::None);
}
