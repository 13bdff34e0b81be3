//! What the connector itself tells people: whom, in which client, by whom, and once (rule 21).

mod rig;

use std::time::Duration;

use rig::{Rig, config, facts, person};
use router::Config;
use router::entitlement::Client;
use router::envelope::{Body, Envelope, Kind, Origin};
use router::ids::{ActivityId, ConversationId, StanzaId, Time};
use router::inbound::{Cause, Facts, Inbound, Outcome, SessionEvent};
use router::outbound::{MaybeSent, Outbound};
use router::outbox::{Change, Entry, EntryKind, EntryState, Lane, Storage};

fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

/// The next delivery can never succeed.
fn fail(rig: &mut Rig) -> Entry {
    let (ticket, entry, _) = rig.delivery();
    rig.receipt(ticket, Outcome::Wedged("for good".into()));
    entry
}

fn close(rig: &mut Rig, who: &str) {
    rig.handle(Inbound::Session(person(who), SessionEvent::Closed { for_good: false }));
}

#[test]
fn who_wrote_in_one_client_is_told_in_that_client() {
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "bob", "s-1", "one");
    let failed = fail(&mut rig);
    let [told] = &rig.told()[..] else { panic!("one is told") };
    assert_eq!(told.lane, Lane::Told(person("ann"), Client::Jabber));
    assert_eq!(
        (&told.kind, &told.stanza, &told.body),
        (&EntryKind::Undelivered, &failed.stanza, &Body::None)
    );
    assert_eq!(told.from.as_deref(), Some("ann@x/phone"), "the client that wrote it");

    rig.webex("ann", "ann", "bob", "a-1");
    let failed = fail(&mut rig);
    let [told] = &rig.told()[..] else { panic!("one is told") };
    assert_eq!(told.lane, Lane::Told(person("ann"), Client::Webex));
    assert_eq!((&told.conversation, told.time), (&failed.conversation, failed.time));
    assert_eq!(rig.router.counters().events.get("people told"), Some(&2));
    assert_eq!(rig.given_up().len(), 2);
    rig.pass(Duration::from_secs(1));
    assert!(rig.router.idle());
}

#[test]
fn what_is_given_up_and_who_is_told_of_it_is_one_commit() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "a-1");
    let (ticket, entry, _) = rig.delivery();
    let Rig { router, storage, now, .. } = &mut rig;
    router.handle(Inbound::Receipt(ticket, Outcome::Wedged("for good".into())), *now);
    let committed = std::iter::from_fn(|| router.poll_outbound()).find_map(|outbound| match outbound {
        Outbound::Commit(batch) => Some(batch),
        _ => None,
    });
    let batch = committed.expect("a commit");
    let given_up = |change: &Change| matches!(change, Change::Close(id, _) if *id == entry.id);
    assert!(batch.changes.iter().any(given_up));
    assert_eq!(batch.inputs.len(), 1);
    // The process dies before it, or after it: then the next one tells.
    let before = storage.clone();
    storage.commit(&[batch], *now).unwrap();
    rig.restart();
    let [(ticket, told, maybe)] = &rig.deliveries()[..] else { panic!("one is told") };
    assert_eq!((&told.kind, *maybe), (&EntryKind::Undelivered, MaybeSent::No), "nobody can have said it");
    rig.delivered(*ticket, told);
    rig.pass(Duration::from_secs(1));
    rig.restart();
    assert_eq!(rig.deliveries(), [], "once");

    rig.storage = before;
    rig.restart();
    rig.open("ann");
    fail(&mut rig);
    assert_eq!(rig.told().len(), 1);
}

#[test]
fn a_message_of_several_parts_is_told_of_once() {
    let mut rig = Rig::new();
    let origin = rig.jabber_origin("ann", "ann", "bob", "s-1", "long");
    let (upstream, arrived) = (rig.upstream(), rig.now);
    let envelope = Envelope { origin: Origin::Jabber(origin), kind: Kind::Text, arrived };
    let parts = ["a", "b", "c"].map(|text| Body::Clear(text.into())).to_vec();
    rig.handle(Inbound::Message(envelope, parts, upstream));
    let mut told = Vec::new();
    for _ in 0..3 {
        let failing = rig.deliveries();
        let (ticket, ..) = failing.iter().find(|(_, entry, _)| !entry.kind.is_told()).expect("a part");
        rig.receipt(*ticket, Outcome::Wedged("for good".into()));
        for (ticket, entry, _) in failing.iter().filter(|(_, entry, _)| entry.kind.is_told()) {
            rig.delivered(*ticket, entry);
            told.push(entry.clone());
        }
    }
    told.extend(rig.told());
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn only_what_somebody_wrote_is_told_of() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "a-1");
    rig.deliver_all();
    rig.webex_read("bob", "bob", "ann", "a-1");
    fail(&mut rig);
    let origin = rig.webex_origin("ann", "ann", "bob", "d");
    rig.webex_with(origin, Kind::Delete { of: ActivityId::new("a-1") });
    fail(&mut rig);
    assert_eq!(rig.told(), [], "neither a mark nor a notice");
    rig.webex("ann", "ann", "bob", "a-2");
    fail(&mut rig);
    let told = fail(&mut rig);
    assert_eq!(told.kind, EntryKind::Undelivered);
    assert_eq!(rig.deliveries(), [], "nor what told of something");
    assert!(matches!(rig.state(told.id), EntryState::Closed(_)));
}

#[test]
fn whoever_sees_the_writers_client_tells_it() {
    // Soon after it was written: the other person's session, as a server would. Later the writer's own.
    for (open, later, teller) in [
        (&["ann", "bob"][..], false, "bob"),
        (&["ann"], false, "ann"),
        (&["bob"], false, "bob"),
        (&[], false, "bob"),
        (&["ann", "bob"], true, "ann"),
        (&["bob"], true, "bob"),
        (&[], true, "ann"),
    ] {
        let mut rig = Rig::new();
        rig.jabber("ann", "ann", "bob", "s-1", "one");
        let (ticket, ..) = rig.delivery();
        if later {
            rig.pass(hours(1));
        }
        for who in ["ann", "bob"] {
            if !open.contains(&who) {
                close(&mut rig, who);
            }
        }
        rig.receipt(ticket, Outcome::Wedged("for good".into()));
        let [told] = &rig.told()[..] else { panic!("one is told") };
        assert_eq!(told.carrier, person(teller), "{open:?} later {later}");
    }
    // Of somebody who is not enabled no session is held; the other person's tells.
    let mut rig = Rig::new();
    rig.jabber("ann", "carol", "ann", "s-1", "one");
    fail(&mut rig);
    assert_eq!(rig.told()[0].carrier, person("ann"));
}

#[test]
fn who_is_disabled_is_still_told_by_the_bot() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "a-1");
    rig.handle(Inbound::Directory(Facts {
        people: vec![facts("ann", false), facts("bob", true)],
        complete: true,
    }));
    let told = rig.told();
    assert_eq!(told.iter().map(|entry| &entry.kind).collect::<Vec<_>>(), [&EntryKind::Undelivered]);
    assert_eq!(rig.given_up()[0].1, "disabled");
}

#[test]
fn without_a_bot_an_operator_sees_that_nobody_was_told() {
    let mut rig = Rig::with(Config { bot: false, ..config() }, vec![facts("ann", true), facts("bob", true)]);
    rig.webex("ann", "ann", "bob", "a-1");
    fail(&mut rig);
    assert_eq!((rig.told().len(), rig.given_up().len()), (0, 1));
    assert_eq!(rig.router.counters().events.get("people whom nobody can tell of their message"), Some(&1));
    rig.jabber("ann", "ann", "bob", "s-1", "one");
    fail(&mut rig);
    assert_eq!(rig.told().len(), 1, "in Jabber no bot is needed");
}

#[test]
fn a_refusal_is_told_after_a_crash_too_and_no_copy_of_the_message_is_carried() {
    let mut rig = Rig::with(
        Config { rate: Some((1, Duration::from_secs(1))), ..config() },
        vec![facts("ann", true), facts("bob", true)],
    );
    for n in ["1", "2"] {
        rig.jabber("ann", "ann", "bob", n, n);
    }
    rig.restart();
    for who in ["ann", "bob"] {
        rig.open(who);
    }
    rig.pass(Duration::from_secs(2));
    let mut origin = rig.jabber_origin("bob", "ann", "bob", "2", "2");
    origin.stamp = Some(rig.now.before(Duration::from_secs(2)));
    rig.jabber_with(origin, Kind::Text, "2");
    let all = rig.deliver_all();
    let refused: Vec<&Entry> = all.iter().filter(|entry| entry.kind == EntryKind::Refused).collect();
    assert_eq!((all.len(), refused.len()), (2, 1), "{all:?}");
    assert_eq!(refused[0].stanza, Some(StanzaId::new("2")));
}

#[test]
fn a_client_that_is_not_there_is_waited_for_and_holds_up_nothing_else() {
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "bob", "s-1", "one");
    fail(&mut rig);
    let (ticket, told, _) = rig.delivery();
    rig.receipt(ticket, Outcome::Later { cause: Cause::Client(told.carrier.clone()), after: None });
    rig.webex("ann", "ann", "bob", "a-1");
    rig.webex("bob", "bob", "ann", "a-2");
    let texts: Vec<_> = rig.deliveries().into_iter().map(|(_, entry, _)| entry.kind).collect();
    assert_eq!(texts, [EntryKind::Text], "one of the conversation's two is under way");
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.told().len(), 1);
}

/// People of whom ann is enabled and has not used Webex for long, and bob is and has.
fn watched(notices: bool) -> Rig {
    let people = [("ann", true), ("bob", true), ("carol", false)].map(|(name, enabled)| facts(name, enabled));
    let mut rig = Rig::with(Config { notices, ..config() }, people.to_vec());
    let observation = router::inbound::Observation {
        person: person("ann"),
        status: presence_map::Status::ByActivity,
        last_active: Some(rig.now.before(hours(100))),
        by_our_device: false,
        at: rig.now,
    };
    rig.handle(Inbound::Statuses(vec![observation]));
    rig
}

fn in_a_space(rig: &mut Rig, socket: &str, activity: &str) {
    let mut origin = rig.webex_origin(socket, "carol", socket, activity);
    (origin.one_on_one, origin.conversation) = (false, ConversationId::new("space"));
    rig.webex_with(origin, Kind::Text);
}

#[test]
fn who_is_left_in_the_dark_is_told_once() {
    let mut rig = watched(true);
    for n in ["1", "2"] {
        in_a_space(&mut rig, "ann", n);
        in_a_space(&mut rig, "bob", n);
        rig.webex("bob", "carol", "bob", n);
        rig.handle(Inbound::Gap(person("bob"), Time(5), Time(9)));
    }
    let mut told: Vec<_> =
        rig.told().into_iter().map(|e| (e.lane, e.kind, e.sender, e.time, e.stamp)).collect();
    told.extend(rig.told().into_iter().map(|e| (e.lane, e.kind, e.sender, e.time, e.stamp)));
    let webex = |name| Lane::Told(person(name), Client::Webex);
    assert_eq!(
        told,
        [
            // Bob uses Webex, and sees there what spaces there are.
            (webex("ann"), EntryKind::SpaceNotice, person("ann"), rig.now, None),
            (webex("bob"), EntryKind::HalfNotice, person("carol"), rig.now, None),
            (webex("bob"), EntryKind::GapNotice, person("bob"), Time(5), Some(Time(9))),
        ]
    );
    rig.pass(Duration::from_secs(1));
    rig.restart();
    in_a_space(&mut rig, "ann", "3");
    rig.webex("bob", "carol", "bob", "3");
    assert_eq!(rig.told(), [], "nor again by another run");
}

#[test]
fn whoever_does_not_want_notices_is_told_of_none() {
    let mut rig = watched(false);
    in_a_space(&mut rig, "ann", "1");
    rig.webex("bob", "carol", "bob", "1");
    rig.handle(Inbound::Gap(person("bob"), Time(5), Time(9)));
    assert_eq!(rig.deliver_all(), []);
    assert_eq!(rig.router.counters().events.get("gaps of more than 72 hours"), Some(&1));
}
