//! The sixteen interactions of the overview: who reaches whom, and whose session carries.

mod rig;

use rig::{Rig, config, facts, person};
use router::entitlement::{Carrier, Client, Party, judge};
use router::envelope::Kind;
use router::ids::JabberId;
use router::inbound::PersonFacts;

use Carrier::{Either, Recipient, Sender};
use Client::{Jabber, Webex};

/// id, sender enabled, sender's client, recipient enabled, recipient's client, arrives, carried by.
type Row = (&'static str, bool, Client, bool, Client, bool, Option<Carrier>);

#[rustfmt::skip]
const TABLE: [Row; 16] = [
    ("IX-T01", false, Webex,  false, Webex,  true,  None),
    ("IX-T02", false, Webex,  false, Jabber, false, None),
    ("IX-T03", false, Webex,  true,  Webex,  true,  None),
    ("IX-T04", false, Webex,  true,  Jabber, false, None),
    ("IX-T05", false, Jabber, false, Webex,  false, None),
    ("IX-T06", false, Jabber, false, Jabber, true,  None),
    ("IX-T07", false, Jabber, true,  Webex,  true,  Some(Recipient)),
    ("IX-T08", false, Jabber, true,  Jabber, true,  None),
    ("IX-T09", true,  Webex,  false, Webex,  true,  None),
    ("IX-T10", true,  Webex,  false, Jabber, true,  Some(Sender)),
    ("IX-T11", true,  Webex,  true,  Webex,  true,  None),
    ("IX-T12", true,  Webex,  true,  Jabber, true,  Some(Sender)),
    ("IX-T13", true,  Jabber, false, Webex,  true,  Some(Sender)),
    ("IX-T14", true,  Jabber, false, Jabber, true,  None),
    ("IX-T15", true,  Jabber, true,  Webex,  true,  Some(Either)),
    ("IX-T16", true,  Jabber, true,  Jabber, true,  None),
];

fn party(enabled: bool) -> Party {
    Party { ours: true, enabled, awake: enabled, in_webex: true }
}

#[test]
fn the_sixteen_verdicts() {
    for (id, sender, from, recipient, to, arrives, carrier) in TABLE {
        let verdict = judge(party(sender), from, party(recipient), to);
        assert_eq!((verdict.arrives, verdict.carrier), (arrives, carrier), "{id}");
        assert!(verdict.rule.starts_with(&format!("{id}: ")), "{id} is decided by {}", verdict.rule);
    }
    let arriving = TABLE.iter().filter(|row| row.5).count();
    let crossing = TABLE.iter().filter(|row| row.2 != row.4);
    assert_eq!((arriving, crossing.filter(|row| row.5).count()), (13, 5));
}

/// Of four people two are enabled. What is written in one client is carried to the other client of the
/// recipient exactly where the table says so.
#[test]
fn what_the_router_carries_is_what_the_table_says() {
    for (id, sender, from, recipient, to, arrives, carrier) in TABLE.into_iter().filter(|row| row.2 != row.4)
    {
        let mut rig = Rig::new();
        let from_name = if sender { "ann" } else { "carol" };
        let to_name = if recipient { "bob" } else { "dave" };
        match from {
            // Whoever has a session sees the message on it.
            Jabber => {
                for session in [from_name, to_name] {
                    if ["ann", "bob"].contains(&session) {
                        rig.jabber(session, from_name, to_name, "id", "hello");
                    }
                }
            }
            Webex => {
                for socket in [from_name, to_name] {
                    if ["ann", "bob"].contains(&socket) {
                        rig.webex(socket, from_name, to_name, "activity");
                    }
                }
            }
        }
        let deliveries = rig.deliveries();
        assert_eq!(deliveries.len(), usize::from(carrier.is_some()), "{id} {to:?}");
        assert_eq!(arrives, carrier.is_some(), "{id}: nothing native crosses");
        if let Some((_, entry, _)) = deliveries.first() {
            assert_eq!(entry.sender, person(from_name), "{id}: in the sender's voice");
            assert_eq!(entry.carrier, person(from_name), "{id}");
            let known = (from == Jabber).then(|| person(to_name));
            assert_eq!(entry.recipient, known, "{id}");
        }
        let verdict = rig.router.judge(
            &JabberId::new(format!("{from_name}@x")),
            from,
            &JabberId::new(format!("{to_name}@x")),
            to,
        );
        assert!(verdict.is_some_and(|v| v.rule.starts_with(id) && v.carrier == carrier), "{id} {verdict:?}");
    }
}

#[test]
fn a_sender_in_webex_who_is_not_enabled_leaves_no_trace() {
    let mut rig = Rig::new();
    rig.webex("ann", "carol", "ann", "activity");
    assert!(rig.deliveries().is_empty());
    assert_eq!(rig.not_carried("IX-T04"), 1);
    assert!(rig.router.counters().oldest.is_none(), "IX-09: nothing is stored");
}

#[test]
fn a_crossing_needs_an_awake_session() {
    let asleep = |enabled| Party { awake: false, ..party(enabled) };
    for (sender, recipient, carried) in [
        (asleep(true), party(false), false),
        (party(false), asleep(true), false),
        (asleep(true), asleep(true), false),
        (asleep(true), party(true), true),
        (party(true), asleep(true), true),
    ] {
        let verdict = judge(sender, Jabber, recipient, Webex);
        assert_eq!(verdict.carrier.is_some(), carried, "{sender:?} {recipient:?}");
        assert_eq!(verdict.rule.starts_with("IX-14"), !carried);
    }
    // Who writes in Webex wakes up by that.
    assert!(judge(asleep(true), Webex, party(false), Jabber).carrier.is_some());
}

#[test]
fn another_organization_is_never_joined() {
    let stranger = Party { ours: false, ..party(true) };
    for (from, to) in [(Jabber, Webex), (Webex, Jabber)] {
        for (a, b) in [(stranger, party(true)), (party(true), stranger)] {
            let verdict = judge(a, from, b, to);
            assert!(verdict.carrier.is_none() && verdict.rule.starts_with("LIC-07"));
        }
    }
    let mut people = vec![facts("ann", true), facts("heidi", true)];
    people[1].ours = false;
    let mut rig = Rig::with(config(), people);
    rig.jabber("ann", "ann", "heidi", "1", "hello");
    rig.webex("ann", "heidi", "ann", "activity");
    assert!(rig.deliveries().is_empty());
    assert_eq!(rig.not_carried("LIC-07"), 2);
}

#[test]
fn nobody_posts_to_whom_never_signed_in_unless_that_is_wanted() {
    let mut people = vec![facts("ann", true), facts("frank", false)];
    people[1].pending = true;
    let mut rig = Rig::with(config(), people.clone());
    rig.jabber("ann", "ann", "frank", "1", "hello");
    assert!(rig.deliveries().is_empty());
    assert_eq!(rig.not_carried("MIG-07"), 1);
    let mut rig = Rig::with(router::Config { deliver_to_pending: true, ..config() }, people);
    rig.jabber("ann", "ann", "frank", "1", "hello");
    assert_eq!(rig.deliveries().len(), 1);
}

#[test]
fn groups_strangers_and_oneself_are_not_carried() {
    let mut rig = Rig::new();
    let group = router::envelope::WebexOrigin {
        one_on_one: false,
        ..rig.webex_origin("ann", "ann", "bob", "activity")
    };
    rig.webex_with(group, Kind::Text);
    rig.jabber("ann", "ann", "nobody", "1", "hello");
    rig.jabber("ann", "ann", "ann", "2", "hello");
    // A copy on the session of somebody who is neither.
    rig.jabber("bob", "ann", "carol", "3", "hello");
    assert!(rig.deliveries().is_empty());
    let rules = ["GRP-01", "LIC-07", "rule 3: a message to oneself", "rule 3: a copy"];
    assert_eq!(rules.map(|rule| rig.not_carried(rule)), [1, 1, 1, 1]);
}

#[test]
fn whom_another_connector_serves_is_known_and_left_to_it() {
    let elsewhere = |name: &str, enabled| PersonFacts { home: None, ..facts(name, enabled) };
    let people = vec![facts("ann", true), elsewhere("bob", true), elsewhere("dave", false)];
    let mut rig = Rig::with(config(), people);
    assert!(rig.router.directory().by_person(&person("bob")).is_some_and(|bob| bob.served_elsewhere()));
    // What bob writes is carried by the connector that holds his session, whoever sees it here.
    rig.jabber("ann", "bob", "ann", "1", "hello");
    rig.webex("ann", "bob", "ann", "activity 1");
    assert!(rig.deliveries().is_empty());
    assert_eq!(rig.not_carried("CAP-23"), 2);
    // What is written to bob, and what dave writes, is ours to carry: nobody else sees it.
    rig.jabber("ann", "ann", "bob", "2", "hello");
    rig.webex("ann", "ann", "bob", "activity 2");
    rig.jabber("ann", "dave", "ann", "3", "hello");
    let senders: Vec<_> = rig.deliveries().into_iter().map(|(_, entry, _)| entry.sender.clone()).collect();
    assert_eq!(senders, [person("ann"), person("ann"), person("dave")]);
}
