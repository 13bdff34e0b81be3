//! Federated contacts: people of another domain, who are in no directory and are known by their addresses (SC-22).

mod rig;

use std::time::Duration;

use rig::{Rig, config, facts, person};
use router::Config;
use router::entitlement::Client;
use router::envelope::{Form, JabberOrigin, Kind, Marked};
use router::ids::{JabberId, PersonId, StanzaId};
use router::inbound::{Cause, Facts, Inbound, Outcome};
use router::outbound::MaybeSent;
use router::outbox::{EntryKind, EntryState, Lane};

fn contact(name: &str) -> PersonId {
    PersonId::federated(&JabberId::new(address(name)))
}

fn address(name: &str) -> String {
    format!("{name}@partner.example")
}

/// What somebody outside writes to ann, as her session brings it.
fn origin(rig: &Rig, from: &str, id: &str) -> JabberOrigin {
    JabberOrigin {
        from: format!("{from}/desk").into(),
        from_bare: JabberId::new(from),
        ..rig.jabber_origin("ann", "", "ann", id, id)
    }
}

fn writes(rig: &mut Rig, name: &str, id: &str) {
    let origin = origin(rig, &address(name), id);
    rig.jabber_with(origin, Kind::Text, id);
}

#[test]
fn what_a_federated_contact_writes_is_carried_once_and_in_order() {
    let mut rig = Rig::new();
    writes(&mut rig, "pat", "1");
    writes(&mut rig, "pat", "2");
    let copy = JabberOrigin { form: Form::Received, ..origin(&rig, &address("pat"), "1") };
    rig.jabber_with(copy, Kind::Text, "1");
    assert_eq!(rig.router.counters().repeats, 1);
    let (_, first, maybe) = rig.delivery();
    assert_eq!((first.sender.clone(), first.carrier.clone()), (contact("pat"), contact("pat")));
    assert_eq!(first.recipient, Some(person("ann")));
    assert_eq!((first.lane.clone(), maybe), (Lane::to_webex(&contact("pat"), &person("ann")), MaybeSent::No));
    // The bot may have posted it, and the process died.
    rig.restart();
    let (ticket, again, maybe) = rig.delivery();
    assert_eq!((again.id, again.derived.clone(), again.iv), (first.id, first.derived, first.iv));
    assert!(matches!(maybe, MaybeSent::Since(_)));
    rig.delivered(ticket, &again);
    let rest: Vec<_> = rig.deliver_all().into_iter().filter_map(|entry| entry.stanza).collect();
    assert_eq!(rest, [StanzaId::new("2")]);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.router.counters().lanes, 0, "nothing is left of a contact whose messages are there");
}

#[test]
fn who_is_federated_and_who_is_a_stranger() {
    let people = vec![facts("ann", true), facts("carol", false)];
    let pending = router::inbound::PersonFacts { pending: true, ..facts("ann", true) };
    let rows: [(Config, Vec<_>, &str, Option<&str>); 9] = [
        (config(), people.clone(), "pat@partner.example", None),
        (config(), people.clone(), "pat@partnerx", None),
        // Nobody's domain: a server, a room or a service of ours, one of us who has no Webex account.
        (config(), people.clone(), "partner.example", Some("LIC-07")),
        (config(), people.clone(), "room@conference.x", Some("LIC-07")),
        (config(), people.clone(), "somebody@x", Some("LIC-07")),
        (Config { federation: None, ..config() }, people.clone(), "pat@partner.example", Some("LIC-07")),
        (Config { bot: false, ..config() }, people.clone(), "pat@partner.example", Some("SC-22")),
        (config(), vec![pending], "pat@partner.example", Some("MIG-07")),
        // One whose address is another's in the directory is that other.
        (config(), people, "carol@x", None),
    ];
    for (config, people, from, rule) in rows {
        let mut rig = Rig::with(config, people);
        let origin = origin(&rig, from, "1");
        rig.jabber_with(origin, Kind::Text, "one");
        assert_eq!(rig.deliveries().len(), usize::from(rule.is_none()), "{from}");
        assert_eq!(rule.map_or(1, |rule| rig.not_carried(rule)), 1, "{from}");
    }
    // Their marks are nobody's in Webex, and what is written to them stays in Jabber.
    let mut rig = Rig::new();
    let mark = origin(&rig, &address("pat"), "1");
    rig.jabber_with(mark, Kind::Read(Marked::Stanza(StanzaId::new("s"))), "");
    let to =
        JabberOrigin { to: JabberId::new(address("pat")), ..rig.jabber_origin("ann", "ann", "", "2", "x") };
    rig.jabber_with(to, Kind::Text, "x");
    // Nor is a copy on a session that it was not written to.
    let other = JabberOrigin { session: person("bob"), ..origin(&rig, &address("pat"), "3") };
    rig.jabber_with(other, Kind::Text, "x");
    assert_eq!(rig.deliveries(), []);
    assert_eq!(["nothing to carry", "LIC-07", "rule 3"].map(|rule| rig.not_carried(rule)), [1, 1, 1]);
}

#[test]
fn whoever_owns_a_domain_writes_to_one_person_as_fast_as_one_person_may() {
    let rate = Some((3, Duration::from_secs(1)));
    let people = vec![facts("ann", true), facts("bob", true), facts("carol", false)];
    let mut rig = Rig::with(Config { rate, ..config() }, people);
    for n in 0..10 {
        writes(&mut rig, &format!("contact-{n}"), "hello");
    }
    assert_eq!(rig.deliver_all().len(), 3);
    assert_eq!(rig.not_carried("rule 13"), 7);
    assert_eq!(rig.told(), [], "nothing is kept of what is too much, and nobody told");
    rig.pass(Duration::from_secs(1));
    assert!(rig.router.idle());
    // It holds up nobody else, and not those who write to others.
    rig.jabber("ann", "carol", "ann", "1", "hello");
    let to_bob = JabberOrigin {
        session: person("bob"),
        to: JabberId::new("bob@x"),
        ..origin(&rig, &address("contact-9"), "1")
    };
    rig.jabber_with(to_bob, Kind::Text, "hello");
    assert_eq!(rig.deliver_all().len(), 2);
    writes(&mut rig, "contact-9", "again");
    assert_eq!(rig.deliver_all().len(), 1, "after a second there is room for one");
}

#[test]
fn a_federated_contact_is_told_what_is_given_up() {
    let mut rig = Rig::new();
    writes(&mut rig, "pat", "1");
    let (ticket, entry, _) = rig.delivery();
    rig.receipt(ticket, Outcome::Wedged("for good".into()));
    let [told] = &rig.told()[..] else { panic!("one is told") };
    assert_eq!(
        (&told.kind, &told.lane),
        (&EntryKind::Undelivered, &Lane::Told(contact("pat"), Client::Jabber))
    );
    assert_eq!(told.from.as_deref(), Some("pat@partner.example/desk"));
    assert_eq!((&told.carrier, &told.stanza), (&person("ann"), &entry.stanza));
    rig.pass(Duration::from_secs(1));
    assert!(matches!(rig.state(told.id), EntryState::Done(_)));
}

#[test]
fn what_cannot_be_delivered_outside_is_told_in_webex() {
    let mut rig = Rig::new();
    // In the space that the bot shares with her, ann answers.
    for (n, from) in [address("pat"), "carol@x".to_owned()].into_iter().enumerate() {
        rig.webex("ann", "ann", "space", &format!("answer {n}"));
        let [entry] = &rig.deliver_all()[..] else { panic!("one stanza") };
        let back = JabberOrigin { stanza: StanzaId::new(entry.derived.as_str()), ..origin(&rig, &from, "") };
        let condition = "service-unavailable".into();
        rig.jabber_with(back, Kind::Bounced { of: StanzaId::new(entry.derived.as_str()), condition }, "");
        // Who is away inside reads it in Webex; nobody outside does.
        assert_eq!(rig.told().len(), usize::from(n == 0), "{from}");
    }
}

#[test]
fn a_contact_who_comes_into_the_directory_is_that_person_from_then_on() {
    let mut rig = Rig::new();
    writes(&mut rig, "pat", "1");
    let (ticket, entry, _) = rig.delivery();
    rig.receipt(ticket, Outcome::Later { cause: Cause::Kms, after: Some(1_000) });
    let pat =
        router::inbound::PersonFacts { jid: Some(JabberId::new(address("pat"))), ..facts("pat", false) };
    rig.handle(Inbound::Directory(Facts { people: vec![pat], complete: false }));
    // What waits is delivered, and what comes again is known.
    let copy = JabberOrigin { form: Form::Received, ..origin(&rig, &address("pat"), "1") };
    rig.jabber_with(copy, Kind::Text, "1");
    writes(&mut rig, "pat", "2");
    let (_, second, _) = rig.delivery();
    assert_eq!(second.sender, person("pat"));
    rig.pass(Duration::from_secs(60));
    let late = rig.deliveries();
    assert_eq!(late.iter().map(|(_, entry, _)| entry.id).collect::<Vec<_>>(), [entry.id]);
    assert_eq!(rig.router.counters().repeats, 1);
}
