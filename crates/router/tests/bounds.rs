//! Bounds, reports and cursors (rules 9, 13, 21 and 22).

mod rig;

use std::time::Duration;

use rig::{Rig, config, facts, person};
use router::entitlement::Client;
use router::envelope::Kind;
use router::ids::{ConversationId, StanzaId};
use router::inbound::{Cause, Inbound, Outcome};
use router::outbox::{EntryKind, EntryState, Lane};
use router::{Config, Router};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn hours(n: u64) -> Duration {
    seconds(n * 3600)
}

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
    let [refused] = &rig.told()[..] else { panic!("one is refused") };
    assert_eq!(
        (&refused.kind, refused.stanza.as_ref().map(StanzaId::as_str)),
        (&EntryKind::Refused, Some("4"))
    );
    assert_eq!(refused.lane, Lane::Told(person("ann"), Client::Jabber));
    assert_eq!(rig.not_carried("rule 13"), 1);
    assert_eq!(rig.deliver_all().len(), 3);
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
    assert_eq!(rig.told(), []);
    rig.pass(Duration::from_millis(1));
    let late: Vec<_> = rig.told().into_iter().map(|told| (told.kind, told.stanza)).collect();
    assert_eq!(late, [(EntryKind::Late, entry.stanza.clone())]);
    rig.pass(seconds(1));
    rig.restart();
    rig.pass(hours(24));
    assert_eq!(rig.told(), [], "once, also over a restart");
    assert_eq!(rig.router.counters().waiting, 1);
    rig.pass(hours(5 * 24));
    assert_eq!(rig.router.counters().waiting, 0);
    assert!(matches!(rig.state(entry.id), EntryState::Closed(_)));
    assert_eq!(rig.given_up(), [(entry.id, "undelivered for too long")]);
    assert_eq!(rig.told(), [], "the sender knows");
}

#[test]
fn receipts_that_nothing_takes_along_are_committed_once_a_second() {
    let mut rig =
        Rig::with(Config { capacity: 64, ..config() }, vec![facts("ann", true), facts("bob", true)]);
    for n in 0..40 {
        let mut origin = rig.webex_origin("ann", "ann", "bob", &format!("a{n}"));
        origin.conversation = ConversationId::new(format!("c{n}"));
        rig.webex_with(origin, Kind::Text);
    }
    let timed = |rig: &Rig| rig.router.counters().events.get("timed commits").copied().unwrap_or(0);
    let before = timed(&rig);
    let deliveries = rig.deliveries();
    assert_eq!(deliveries.len(), 40);
    for (ticket, entry, _) in &deliveries {
        rig.delivered(*ticket, entry);
        rig.pass(Duration::from_millis(100));
    }
    rig.pass(seconds(1));
    assert_eq!(timed(&rig) - before, 4, "in the four seconds that the receipts took");
    for (_, entry, _) in &deliveries {
        assert!(matches!(rig.state(entry.id), EntryState::Done(_)));
    }
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
