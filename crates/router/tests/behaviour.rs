//! One rule at a time, at its border.

mod rig;

use std::time::Duration;

use presence_map::{Show, Status};
use rig::{Rig, config, facts, person, stream};
use router::envelope::{Kind, Link, Marked, TypingOrigin};
use router::ids::{
    ActivityId, ConversationId, ImpStreamId, JabberId, PersonId, Position, StanzaId, StreamId, Ticket,
};
use router::inbound::{Cause, Facts, Inbound, Observation, Outcome, SessionEvent, StreamEvent};
use router::outbound::{Hint, MaybeSent, Outbound, Wanted};
use router::outbox::{Entry, EntryKind, EntryState};
use router::{Config, Router};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn hours(n: u64) -> Duration {
    seconds(n * 3600)
}

fn later(cause: Cause) -> Outcome {
    Outcome::Later { cause, after: None }
}

fn at(stream: &ImpStreamId, n: u64) -> Option<Position> {
    Some(Position { stream: stream.clone(), n })
}

fn sources(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|e| e.source.as_str()).collect()
}

// ---------------------------------------------------------------- acknowledge after commit (idea 4)

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

// ------------------------------------------------------------------------------------- holds (rule 8)

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
    assert!(matches!(maybe, MaybeSent::Since(_)), "the run that committed it may have posted it");
    rig.delivered(ticket, &entry);
}

// -------------------------------------------------------------------- lanes, causes, probes (7 and 14)

#[test]
fn a_lane_has_one_delivery_in_flight_and_both_directions_of_a_pair_share_it() {
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "bob", "1", "one");
    rig.jabber("bob", "bob", "ann", "2", "two");
    rig.jabber("ann", "ann", "carol", "3", "three");
    let deliveries = rig.deliveries();
    assert_eq!(deliveries.len(), 2, "one for each pair");
    let (ticket, entry, _) = &deliveries[0];
    rig.delivered(*ticket, entry);
    assert_eq!(rig.delivery().1.sender, person("bob"));
}

#[test]
fn only_the_senders_own_token_lets_the_other_pass_and_only_after_a_minute() {
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "bob", "1", "one");
    rig.jabber("bob", "bob", "ann", "2", "two");
    let token = || later(Cause::Token(person("ann")));
    let (ticket, ..) = rig.delivery();
    rig.receipt(ticket, token());
    let mut passed_at = None;
    for second in 0..70 {
        rig.pass(seconds(1));
        for (ticket, entry, _) in rig.deliveries() {
            if entry.sender == person("ann") {
                rig.receipt(ticket, token());
            } else {
                passed_at.get_or_insert(second);
                rig.delivered(ticket, &entry);
            }
        }
    }
    assert_eq!(passed_at, Some(59));
    assert_eq!(rig.router.counters().events["passed another sender's message"], 1);

    // Nothing else does.
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "bob", "1", "one");
    rig.jabber("bob", "bob", "ann", "2", "two");
    for _ in 0..300 {
        for (ticket, entry, _) in rig.deliveries() {
            assert_eq!(entry.sender, person("ann"));
            rig.receipt(ticket, later(Cause::Kms));
        }
        rig.pass(seconds(1));
    }
}

#[test]
fn lanes_of_one_cause_wait_behind_one_probe() {
    let people = (0..20).map(|n| facts(&format!("p{n:02}"), true)).collect();
    let mut rig = Rig::with(Config { capacity: 100, ..config() }, people);
    for n in 1..20 {
        rig.jabber("p00", "p00", &format!("p{n:02}"), &n.to_string(), "hello");
    }
    let first = rig.deliveries();
    assert_eq!(first.len(), 19);
    for (ticket, ..) in first {
        rig.receipt(ticket, later(Cause::Host("cloud".into())));
    }
    let mut probes = 0;
    for _ in 0..600 {
        rig.pass(seconds(1));
        for (ticket, ..) in rig.deliveries() {
            probes += 1;
            rig.receipt(ticket, later(Cause::Host("cloud".into())));
        }
    }
    assert!((10..=20).contains(&probes), "{probes} probes in ten minutes");
    assert_eq!(rig.router.counters().blocked.get("host cloud"), Some(&19));
    // One success, and all go on at once.
    while rig.deliveries().is_empty() {
        rig.pass(seconds(1));
        let Some(Outbound::Deliver(ticket, ..)) = rig.out.iter().find(|o| matches!(o, Outbound::Deliver(..)))
        else {
            continue;
        };
        let ticket = *ticket;
        let (_, entry, _) = rig.delivery();
        rig.delivered(ticket, &entry);
        assert_eq!(rig.deliveries().len(), 18);
        return;
    }
}

#[test]
fn a_named_time_is_kept() {
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "bob", "1", "one");
    let (ticket, ..) = rig.delivery();
    rig.receipt(ticket, Outcome::Later { cause: Cause::Host("cloud".into()), after: Some(30_000) });
    rig.pass(Duration::from_millis(29_999));
    assert!(rig.deliveries().is_empty());
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.deliveries().len(), 1);
}

#[test]
fn the_credit_bounds_what_is_with_the_edges() {
    let people = (0..6).map(|n| facts(&format!("p{n}"), true)).collect();
    let mut rig = Rig::with(Config { capacity: 2, ..config() }, people);
    for n in 1..6 {
        rig.jabber("p0", "p0", &format!("p{n}"), &n.to_string(), "hello");
    }
    let first = rig.deliveries();
    assert_eq!(first.len(), 2);
    rig.delivered(first[0].0, &first[0].1);
    assert_eq!(rig.deliveries().len(), 1);
}

#[test]
fn a_session_that_opens_lets_its_deliveries_go() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "one");
    let (ticket, ..) = rig.delivery();
    rig.receipt(ticket, later(Cause::Session(person("ann"))));
    assert!(rig.deliveries().is_empty());
    opening(&mut rig, true);
    assert_eq!(rig.deliveries().len(), 1);
}

// ------------------------------------------------------------------------- unanswered posts (rule 10)

#[test]
fn an_unanswered_post_is_asked_about_and_settled() {
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "bob", "1", "one");
    let (ticket, _, maybe) = rig.delivery();
    assert_eq!(maybe, MaybeSent::No);
    let attempted = rig.now;
    rig.receipt(ticket, Outcome::Unknown);
    rig.pass(seconds(1));
    let (ticket, _, maybe) = rig.delivery();
    assert_eq!(maybe, MaybeSent::Since(attempted));
    // Absent, but too early to count: not again before the settle time is over.
    rig.receipt(ticket, Outcome::Unsettled);
    rig.pass(Duration::from_millis(28_999));
    assert!(rig.deliveries().is_empty());
    rig.pass(Duration::from_millis(1));
    let (ticket, entry, maybe) = rig.delivery();
    assert_eq!(maybe, MaybeSent::Since(attempted));
    rig.delivered(ticket, &entry);
    rig.pass(seconds(1));
    assert!(matches!(rig.state(entry.id), EntryState::Done(Some(Link::Activity(..)))));
}

#[test]
fn after_a_restart_every_unfinished_post_is_asked_about_from_the_start_of_the_run() {
    let mut rig = Rig::new();
    for n in ["1", "2", "3"] {
        rig.jabber("ann", "ann", "bob", n, n);
    }
    rig.pass(hours(1));
    rig.restart();
    let started = rig.now;
    for _ in 0..3 {
        let (ticket, entry, maybe) = rig.delivery();
        assert_eq!(maybe, MaybeSent::Since(started));
        // The row is marked before it is posted again, and only then.
        rig.handle(Inbound::Attempt(ticket, None));
        assert!(matches!(rig.out.pop(), Some(Outbound::Write(t)) if t == ticket));
        let stored = router::outbox::Storage::entry(&mut rig.storage, entry.id).expect("memory reads");
        assert_eq!(stored.expect("the entry is there").entry.run, 2);
        rig.delivered(ticket, &entry);
    }
}

// ------------------------------------------------------------------------------ streams (rule 11)

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

// -------------------------------------------------------------------- edits, deletes, marks (19, 20)

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

fn edit(rig: &mut Rig, activity: &str, of: &str) {
    let origin = rig.webex_origin("ann", "ann", "bob", activity);
    rig.webex_with(origin, Kind::Edit { of: ActivityId::new(of) });
}

fn delete(rig: &mut Rig, activity: &str, of: &str) {
    let origin = rig.webex_origin("ann", "ann", "bob", activity);
    rig.webex_with(origin, Kind::Delete { of: ActivityId::new(of) });
}

fn kinds(entries: &[Entry]) -> Vec<(&str, EntryKind)> {
    entries.iter().map(|e| (e.source.as_str(), e.kind.clone())).collect()
}

#[test]
fn an_edit_of_what_waits_takes_its_place_without_a_notice() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "one");
    rig.webex("ann", "ann", "bob", "two");
    rig.webex("ann", "ann", "bob", "three");
    edit(&mut rig, "edit", "two");
    edit(&mut rig, "again", "two");
    let expected = [("one", EntryKind::Text), ("again", EntryKind::Edit), ("three", EntryKind::Text)];
    assert_eq!(kinds(&rig.deliver_all()), expected);
}

#[test]
fn an_edit_of_what_was_attempted_follows_with_its_notice() {
    for delivered in [false, true] {
        let mut rig = Rig::new();
        rig.webex("ann", "ann", "bob", "one");
        let (ticket, entry, _) = rig.delivery();
        if delivered {
            rig.delivered(ticket, &entry);
        }
        edit(&mut rig, "edit", "one");
        if !delivered {
            rig.delivered(ticket, &entry);
        }
        let expected = [("edit", EntryKind::Edit), ("edit", EntryKind::DeleteNotice)];
        assert_eq!(kinds(&rig.deliver_all()), expected, "the new text first, then the notice");
    }
}

#[test]
fn a_delete_removes_what_waits_and_is_noticed_otherwise() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "one");
    rig.webex("ann", "ann", "bob", "two");
    delete(&mut rig, "del-two", "two");
    delete(&mut rig, "del-one", "one");
    assert_eq!(kinds(&rig.deliver_all()), [("one", EntryKind::Text), ("del-one", EntryKind::DeleteNotice)]);
    // Of what we do not know the notice is sent.
    delete(&mut rig, "del-other", "posted long ago");
    assert_eq!(kinds(&rig.deliver_all()), [("del-other", EntryKind::DeleteNotice)]);
}

#[test]
fn a_delete_of_what_was_wedged_or_never_committed_is_not_noticed() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "one");
    let (ticket, ..) = rig.delivery();
    // Committed while its message is on its way, which then turns out not to be carried.
    delete(&mut rig, "del", "one");
    rig.receipt(ticket, Outcome::Uncarried("no Jabber account".into()));
    assert!(rig.deliveries().is_empty());
    delete(&mut rig, "del again", "one");
    assert!(rig.deliveries().is_empty());

    let origin = rig.webex_origin("ann", "ann", "bob", "gone");
    rig.webex_with(origin, Kind::Tombstone);
    delete(&mut rig, "del gone", "gone");
    assert!(rig.deliveries().is_empty());
    assert!(rig.router.idle());
}

#[test]
fn several_marks_become_the_last_and_marks_move_forward_only() {
    let mut rig = Rig::new();
    for activity in ["one", "two", "three"] {
        rig.webex("ann", "ann", "bob", activity);
        rig.deliver_all();
        rig.pass(seconds(1));
    }
    let derived = |rig: &Rig, activity: &str| {
        let source = router::ids::SourceId::new(activity);
        let _ = rig;
        rig::tagger().derive("text", &source, 0, 0)
    };
    let mark = |rig: &mut Rig, activity: &str| {
        let origin = rig.jabber_origin("bob", "bob", "ann", "", "");
        let id = StanzaId::new(derived(rig, activity).as_str());
        rig.jabber_with(origin, Kind::Read(Marked::Stanza(id)), "");
    };
    rig.jabber("bob", "bob", "ann", "busy", "keeps the lane busy");
    let (ticket, entry, _) = rig.delivery();
    for activity in ["one", "three", "two"] {
        mark(&mut rig, activity);
    }
    rig.delivered(ticket, &entry);
    let (_, read, _) = rig.delivery();
    assert_eq!((read.kind, &read.carrier), (EntryKind::Read, &person("bob")));
    let stored = router::outbox::Storage::entry(&mut rig.storage, read.id).expect("memory reads");
    let target = stored.expect("the entry is there").target;
    assert_eq!(target.len(), 1);
    assert_eq!(target[0].activity(), Some((ActivityId::new("three"), ConversationId::new("ann+bob"))));
    assert!(rig.deliveries().is_empty());
}

// -------------------------------------------------------------------------------- people (16, 17)

fn read(rig: &mut Rig, people: Vec<router::inbound::PersonFacts>) {
    rig.handle(Inbound::Directory(Facts { people, complete: true }));
}

#[test]
fn disabling_ends_the_session_and_gives_up_what_needed_it() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "one");
    let (ticket, entry, _) = rig.delivery();
    rig.receipt(ticket, later(Cause::Session(person("ann"))));
    read(&mut rig, vec![facts("ann", false)]);
    assert_eq!(rig.wanted("ann"), Some(&Wanted::Closed));
    assert_eq!(rig.state(entry.id), EntryState::Closed("disabled".into()));
    assert_eq!(rig.undelivered(), [(entry.id, "disabled")]);
    assert_eq!(rig.router.counters().wedged[&Box::from("disabled")], 1);
    let loaded = router::outbox::Storage::load(&mut rig.storage, rig.now).expect("memory loads");
    assert!(loaded.cursors.iter().all(|(p, _)| *p != person("ann")));
}

#[test]
fn nothing_older_than_the_enablement_is_carried() {
    let people = || vec![facts("ann", true), facts("bob", false)];
    let mut rig = Rig::with(Config { since: None, ..config() }, people());
    rig.pass(seconds(3600));
    read(&mut rig, vec![facts("ann", true), facts("bob", true)]);
    rig.open("bob");
    rig.caught_up("bob", 0);
    let mut origin = rig.webex_origin("bob", "bob", "ann", "old");
    origin.published = rig.now.plus(-1);
    rig.webex_with(origin, Kind::Text);
    assert_eq!(rig.not_carried("rule 17"), 1);
    let origin = rig.webex_origin("bob", "bob", "ann", "new");
    rig.webex_with(origin, Kind::Text);
    assert_eq!(rig.deliver_all().len(), 1);
    // The same for what an IM and Presence server replays.
    let mut origin = rig.jabber_origin("bob", "ann", "bob", "1", "old");
    origin.stamp = Some(rig.now.before(seconds(60)));
    rig.jabber_with(origin, Kind::Text, "old");
    assert_eq!(rig.not_carried("rule 17"), 2);
}

#[test]
fn a_recipient_who_has_left_is_not_posted_to() {
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "carol", "0", "keeps the lane busy");
    let (ticket, entry, _) = rig.delivery();
    rig.jabber("ann", "ann", "carol", "1", "one");
    let mut carol = facts("carol", false);
    carol.ours = false;
    read(&mut rig, vec![carol]);
    rig.delivered(ticket, &entry);
    assert!(rig.deliveries().is_empty());
    assert_eq!(rig.not_carried("rule 16"), 1);
    rig.pass(seconds(1));
    assert!(rig.router.idle());
}

#[test]
fn nothing_is_judged_before_somebody_is_known() {
    let mut rig = Rig::bare(config());
    assert!(!rig.router.idle());
    rig.jabber("ann", "ann", "bob", "1", "one");
    assert_eq!(rig.router.uncommitted(), 1);
    rig.handle(Inbound::Directory(Facts {
        people: vec![facts("ann", true), facts("bob", true)],
        complete: true,
    }));
    assert_eq!(rig.deliveries().len(), 1);
}

// ------------------------------------------------------------------------------ presence (rule 18)

fn observe(rig: &mut Rig, status: Status, idle: Duration) {
    observe_with(rig, status, idle, false);
}

fn observe_with(rig: &mut Rig, status: Status, idle: Duration, by_our_device: bool) {
    let observation = Observation {
        person: person("ann"),
        status,
        last_active: Some(rig.now.before(idle)),
        by_our_device,
        at: rig.now,
    };
    rig.handle(Inbound::Statuses(vec![observation]));
}

fn shows(show: Show, text: &'static str) -> Wanted {
    Wanted::Open { show, text }
}

#[test]
fn time_alone_turns_available_to_away_and_ends_the_session() {
    let mut rig = Rig::new();
    observe(&mut rig, Status::ByActivity, Duration::ZERO);
    assert_eq!(rig.wanted("ann"), None, "it was shown as available already");
    rig.pass(seconds(600));
    assert_eq!(rig.wanted("ann"), None, "exactly ten minutes is still available");
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.wanted("ann"), Some(&shows(Show::Away, "@ Webex")));
    rig.pass(hours(72) - seconds(600) - Duration::from_millis(1));
    assert_eq!(rig.wanted("ann"), Some(&shows(Show::Away, "@ Webex")), "exactly 72 hours is still away");
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.wanted("ann"), Some(&Wanted::Closed));
    assert_eq!(rig.router.counters().inactive, 1);
    // A message written in Webex wakes at once.
    rig.webex("ann", "ann", "bob", "one");
    assert_eq!(rig.wanted("ann"), Some(&shows(Show::Available, "@ Webex")));
    assert_eq!(rig.router.counters().inactive, 0);
}

#[test]
fn presence_is_said_only_when_it_changes() {
    let mut rig = Rig::new();
    for _ in 0..5 {
        observe(&mut rig, Status::ByActivity, seconds(60));
        rig.pass(seconds(60));
    }
    assert_eq!(rig.wanted("ann"), None);
    observe(&mut rig, Status::DoNotDisturb, seconds(60));
    assert_eq!(rig.wanted("ann"), Some(&shows(Show::DoNotDisturb, "")));
    rig.out.clear();
    observe(&mut rig, Status::Hidden, hours(100));
    rig.pass(hours(1000));
    assert_eq!(rig.wanted("ann"), Some(&shows(Show::Away, "@ Webex")), "a hidden person keeps the session");
}

#[test]
fn a_restart_remembers_who_was_asleep() {
    let mut rig = Rig::new();
    observe(&mut rig, Status::ByActivity, hours(100));
    rig.pass(seconds(1));
    rig.restart();
    assert_eq!(rig.wanted("ann"), Some(&Wanted::Closed));
    assert_eq!(rig.wanted("bob"), Some(&shows(Show::Available, "@ Webex")), "of whom nothing is known");
}

#[test]
fn our_own_writes_are_no_activity() {
    let mut rig = Rig::new();
    observe(&mut rig, Status::ByActivity, hours(50));
    assert_eq!(rig.wanted("ann"), Some(&shows(Show::Away, "@ Webex")));
    rig.out.clear();
    // Carol writes to ann in Jabber, ann answers in Jabber: we post as ann.
    rig.jabber("ann", "ann", "carol", "1", "one");
    let (ticket, entry, _) = rig.delivery();
    rig.delivered(ticket, &entry);
    rig.pass(seconds(2));
    observe(&mut rig, Status::ByActivity, seconds(2));
    assert_eq!(rig.wanted("ann"), None, "explained by our own post");
    rig.pass(seconds(60));
    observe_with(&mut rig, Status::ByActivity, Duration::ZERO, true);
    assert_eq!(rig.wanted("ann"), None, "seen on our own device");
    observe(&mut rig, Status::ByActivity, seconds(1));
    assert_eq!(rig.wanted("ann"), Some(&shows(Show::Available, "@ Webex")));
}

#[test]
fn nothing_is_said_of_somebody_who_is_not_enabled() {
    let mut rig = Rig::new();
    let observation = Observation {
        person: person("carol"),
        status: Status::ByActivity,
        last_active: Some(rig.now),
        by_our_device: false,
        at: rig.now,
    };
    rig.handle(Inbound::Statuses(vec![observation]));
    assert_eq!(rig.wanted("carol"), None);
}

// ------------------------------------------------------------------------------ typing (DM-05 to 09)

fn in_jabber(session: &str, from: &str, to: &str) -> TypingOrigin {
    TypingOrigin::Jabber {
        session: person(session),
        from: JabberId::new(format!("{from}@x")),
        to: JabberId::new(format!("{to}@x")),
        stanza: StanzaId::new("t"),
    }
}

#[test]
fn typing_is_lit_once_and_for_five_minutes_at_most() {
    let mut rig = Rig::new();
    let (from, to) = (person("carol"), person("ann"));
    rig.typing(in_jabber("ann", "carol", "ann"), true);
    rig.typing(in_jabber("ann", "carol", "ann"), true);
    let lit = |active| Hint::TypingInWebex { from: from.clone(), to: to.clone(), active };
    assert_eq!(rig.hints(), [lit(true)]);
    rig.pass(seconds(299));
    assert_eq!(rig.hints(), []);
    rig.pass(seconds(1));
    assert_eq!(rig.hints(), [lit(false)]);
    rig.typing(in_jabber("ann", "carol", "ann"), false);
    assert_eq!(rig.hints(), [], "it was not lit");
    // A message ends it by itself.
    rig.typing(in_jabber("ann", "carol", "ann"), true);
    rig.jabber("ann", "carol", "ann", "1", "one");
    rig.hints();
    rig.pass(seconds(600));
    assert_eq!(rig.hints(), []);
}

#[test]
fn typing_in_webex_crosses_only_for_somebody_who_is_enabled() {
    let mut rig = Rig::new();
    let typing = |actor: &str, socket: &str| TypingOrigin::Webex {
        socket: person(socket),
        actor: person(actor),
        conversation: ConversationId::new("c"),
    };
    rig.typing(typing("carol", "ann"), true);
    assert_eq!(rig.hints(), []);
    rig.typing(typing("bob", "ann"), true);
    let hints = rig.hints();
    assert!(
        matches!(&hints[..], [Hint::TypingInJabber { from, active: true, id, .. }]
            if *from == PersonId::new("bob") && rig::tagger().is_ours(id.as_str())),
        "{hints:?}"
    );
}

// ------------------------------------------------------------------------- bounds (rules 13, 21, 22)

#[test]
fn only_who_writes_too_fast_is_refused_and_no_copy_is_carried() {
    let mut rig = Rig::with(
        Config { rate: Some((3, seconds(1))), ..config() },
        vec![facts("ann", true), facts("bob", true)],
    );
    for n in ["1", "2", "3", "4"] {
        rig.jabber("ann", "ann", "bob", n, n);
        rig.jabber("bob", "ann", "bob", n, n);
    }
    assert_eq!(rig.deliver_all().len(), 3);
    assert_eq!(rig.undelivered().len(), 1);
    assert_eq!(rig.undelivered()[0].1, "resource-constraint");
    rig.jabber("bob", "bob", "ann", "5", "five");
    assert_eq!(rig.deliver_all().len(), 1, "everybody has a rate of their own");
    rig.pass(seconds(1));
    rig.jabber("ann", "ann", "bob", "6", "six");
    assert_eq!(rig.deliver_all().len(), 1);
}

#[test]
fn what_waits_is_reported_after_a_day_and_given_up_after_a_week() {
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "bob", "1", "one");
    let (ticket, entry, _) = rig.delivery();
    rig.receipt(ticket, Outcome::Later { cause: Cause::Kms, after: Some(30 * 24 * 3_600_000) });
    rig.pass(hours(24) - Duration::from_millis(1));
    assert_eq!(rig.undelivered(), []);
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.undelivered().len(), 1);
    rig.restart();
    rig.pass(hours(24));
    assert_eq!(rig.undelivered(), [], "once, also over a restart");
    assert_eq!(rig.router.counters().waiting, 1);
    rig.pass(hours(5 * 24));
    assert_eq!(rig.router.counters().waiting, 0);
    assert!(matches!(rig.state(entry.id), EntryState::Closed(_)));
    assert_eq!(rig.undelivered(), [], "the sender knows");
}

#[test]
fn a_stamp_older_than_the_ledger_is_not_carried() {
    let mut rig = Rig::new();
    for (days, carried) in [(31, 0), (29, 1)] {
        let mut origin = rig.jabber_origin("ann", "carol", "ann", "1", "old");
        origin.stamp = Some(rig.now.before(hours(24 * days)));
        rig.jabber_with(origin, Kind::Text, "old");
        assert_eq!(rig.deliver_all().len(), carried, "{days} days");
    }
    assert_eq!(rig.not_carried("rule 22"), 1);
}

#[test]
fn a_damaged_directory_is_an_error_and_not_a_panic() {
    let loaded = router::outbox::Loaded { directory: Some(Box::from(*b"not json")), ..Default::default() };
    let error = Router::new(config(), loaded, router::ids::Time(0)).expect_err("it cannot be read");
    assert_eq!(error.to_string(), "the stored directory is not readable");
}

#[test]
fn a_cursor_follows_live_events_only_while_nothing_is_owed() {
    let mut rig = Rig::new();
    let cursor = |rig: &mut Rig| {
        rig.pass(seconds(1));
        let mut copy = rig.storage.clone();
        let loaded = router::outbox::Storage::load(&mut copy, rig.now).expect("memory loads");
        loaded.cursors.into_iter().find(|(p, _)| *p == person("ann")).map(|(_, at)| at)
    };
    let first = cursor(&mut rig);
    rig.pass(hours(1));
    rig.webex("ann", "ann", "bob", "one");
    let live = rig.now.before(seconds(120));
    assert_eq!(cursor(&mut rig), Some(live));
    assert!(first < Some(live));
    rig.handle(Inbound::Behind(person("ann"), 1));
    rig.pass(hours(1));
    rig.webex("ann", "ann", "bob", "two");
    assert_eq!(cursor(&mut rig), Some(live), "a catch-up is owed");
    let listed = rig.now;
    rig.handle(Inbound::CaughtUp(person("ann"), 0, listed));
    assert_eq!(cursor(&mut rig), Some(live), "for an older trigger");
    rig.handle(Inbound::CaughtUp(person("ann"), 1, listed));
    assert_eq!(cursor(&mut rig), Some(listed));
}
