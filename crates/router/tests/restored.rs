//! From where Webex is read by whoever begins, and a store that was put back from a backup (rules 12 and 17).

mod rig;

use std::time::Duration;

use rig::{Rig, config, facts, stream};
use router::Config;
use router::envelope::Kind;
use router::ids::{BatchId, ImpStreamId, Position, Time};
use router::inbound::{Cause, Facts, Inbound, Outcome};
use router::outbound::MaybeSent;
use router::outbox::{Batch, Loaded, Storage};
use router::restored;

const HOUR: Duration = Duration::from_secs(3600);

fn loaded(rig: &mut Rig) -> Loaded {
    rig.storage.load(rig.now).expect("memory loads")
}

fn cursors(rig: &Rig) -> Vec<Time> {
    rig.router.cursors().map(|(_, time)| time).collect()
}

/// What `connector restore` does to a store.
fn put_back(rig: &mut Rig) {
    let changes = restored(&loaded(rig), |key| key.starts_with("jabber/"));
    let batch = Batch { id: BatchId(0), inputs: Vec::new(), changes };
    rig.storage.commit(&[batch], rig.now).expect("memory commits");
}

fn both() -> Vec<router::inbound::PersonFacts> {
    vec![facts("ann", true), facts("bob", true)]
}

#[test]
fn whoever_begins_is_read_from_now_on_or_from_where_it_was_asked() {
    let asked = Time(1_000_000_000_000).before(HOUR);
    for (since, carried) in [(None, 0), (Some(asked), 1)] {
        let mut rig = Rig::with(Config { since, ..config() }, both());
        let begun = since.unwrap_or(rig.now);
        // Until it has caught up: then it is read up to then.
        let mut new = Rig::bare(Config { since, ..config() });
        new.handle(Inbound::Directory(Facts { people: both(), complete: true }));
        assert_eq!(cursors(&new), [begun, begun]);

        let mut origin = rig.webex_origin("ann", "ann", "bob", "of before");
        origin.published = asked;
        rig.webex_with(origin, Kind::Text);
        assert_eq!((rig.deliver_all().len(), rig.not_carried("rule 17")), (carried, 1 - carried as u64));
    }
}

#[test]
fn a_store_that_was_put_back_begins_now_or_where_it_was_asked_and_nobody_before_being_enabled() {
    for ago in [None, Some(HOUR), Some(10 * HOUR)] {
        let mut rig = Rig::with(Config { since: None, ..config() }, both());
        let enabled = rig.now;
        rig.pass(2 * HOUR);
        put_back(&mut rig);
        rig.pass(HOUR);
        let started = rig.now;
        rig.restart_with(Config { since: ago.map(|ago| started.before(ago)), ..config() });
        let from = ago.map_or(started, |ago| started.before(ago)).max(enabled);
        assert_eq!(cursors(&rig), [from, from], "{ago:?}");
        // And that is on disk: the next start is an ordinary one.
        rig.pass(HOUR);
        rig.restart();
        assert_eq!(cursors(&rig), [from, from], "{ago:?}");
    }
}

#[test]
fn an_ordinary_start_goes_on_where_it_was_whatever_is_asked() {
    let mut rig = Rig::with(Config { since: None, ..config() }, both());
    let before = cursors(&rig);
    rig.pass(HOUR);
    rig.restart_with(Config { since: Some(Time(0)), ..config() });
    assert_eq!(cursors(&rig), before);
}

#[test]
fn what_waits_in_a_store_that_was_put_back_is_asked_after_before_it_is_posted() {
    let mut rig = Rig::new();
    // The first cannot be posted, so that no run has said to post the second.
    rig.jabber("ann", "ann", "bob", "1", "one");
    rig.jabber("ann", "ann", "bob", "2", "two");
    let (ticket, ..) = rig.delivery();
    rig.receipt(ticket, Outcome::Later { cause: Cause::Kms, after: None });
    let waiting: Vec<u32> = loaded(&mut rig).entries.iter().map(|entry| entry.run).collect();
    assert_eq!(waiting, [1, 0]);
    put_back(&mut rig);
    rig.pass(HOUR);
    rig.restart();
    let started = rig.now;
    for _ in 0..2 {
        let (ticket, entry, maybe) = rig.delivery();
        assert_eq!(maybe, MaybeSent::Since(started));
        rig.delivered(ticket, &entry);
    }
}

#[test]
fn streams_went_on_without_the_copy_and_mean_nothing_to_it() {
    let mut rig = Rig::new();
    let keep = |key: &str| Inbound::Keep { key: key.into(), value: Some(Box::new([1])), ask: 0 };
    rig.handle(keep("jabber/stream/a"));
    rig.handle(keep("webex/device/ann"));
    rig.jabber("ann", "carol", "ann", "1", "is counted by its stream");
    rig.webex("ann", "ann", "bob", "one");
    let towards_jabber = |(_, entry, _): &(_, router::outbox::Entry, _)| entry.conversation.is_some();
    let (ticket, entry, _) = rig.deliveries().into_iter().find(towards_jabber).expect("one is of Webex");
    let other = ImpStreamId::new("another link");
    rig.handle(Inbound::Attempt(ticket, Some(Position { stream: other, n: 7 })));
    let copy = loaded(&mut rig);
    assert!(copy.streams.iter().any(|(name, _)| *name == stream()));
    assert!(copy.entries.iter().any(|waiting| waiting.id == entry.id && waiting.attempt.is_some()));

    put_back(&mut rig);
    let copy = loaded(&mut rig);
    assert_eq!(copy.streams, []);
    assert!(copy.entries.iter().all(|waiting| waiting.attempt.is_none()));
    let kept: Vec<&str> = copy.kept.iter().map(|(key, _)| &**key).collect();
    assert_eq!(kept, ["webex/device/ann"]);
    // What was attempted is sent again, under its id.
    rig.restart();
    let (_, again, _) = rig.deliveries().into_iter().find(towards_jabber).expect("it waits again");
    assert_eq!(again.derived, entry.derived);
}
