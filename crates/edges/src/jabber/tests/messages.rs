//! What sessions bring, and what is written on them.

use std::collections::BTreeMap;
use std::time::Duration;

use presence_map::Show;
use router::entitlement::Client;
use router::envelope::{Body, Envelope, Form, Kind, Origin};
use router::ids::*;
use router::inbound::{Cause, Facts, Inbound, Outcome, SessionEvent, StreamEvent};
use router::outbound::{Hint, MaybeSent, Wanted};
use router::outbox::{Entry, EntryKind, EntrySummary, Lane, TargetRef};
use tokio::sync::mpsc;
use xmpp_core::{Element, ns, session_control};

use super::super::{ns as more, *};
use super::far::{Seen, State};
use super::world::*;

#[tokio::test(start_paused = true)]
async fn what_a_session_brings_is_acknowledged_after_the_commit() {
    for access in [trusted(), service()] {
        let mut world = World::new(access, State::default());
        let stream = world.settled().await;
        world.far.send(BOB, HELLO);
        let carbon = format!(
            "<message xmlns='jabber:client' from='bob@lab.example' to='{BOB}'>\
             <sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
             <message xmlns='jabber:client' from='bob@lab.example/desk' to='ann@lab.example' type='chat' \
             id='m2'><body>well</body></message></forwarded></sent></message>"
        );
        world.far.send(BOB, &carbon);
        world.far.send(BOB, &carbon.replace("from='bob@lab.example' to", "from='eve@lab.example' to"));
        let (envelope, parts, upstream) = world.message().await;
        assert_eq!((envelope.kind, parts), (Kind::Text, vec![Body::Clear("hello".into())]));
        let Origin::Jabber(origin) = envelope.origin else { panic!() };
        assert_eq!((origin.session.as_str(), origin.form), ("bob", Form::Direct));
        assert_eq!(upstream.stream, StreamId::Imp(stream));
        let (envelope, _, second) = world.message().await;
        let Origin::Jabber(origin) = envelope.origin else { panic!() };
        assert_eq!((origin.form, origin.to.as_str()), (Form::Sent, "ann@lab.example"));
        assert_eq!(second.n, upstream.n + 1);
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(world.far.state().acked < upstream.n, "nothing was committed");
        world.order(Order::Acknowledge(second.clone()));
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(world.far.state().acked, second.n);
        let Some(Inbound::Handled(forged)) = world.intake.recv().await else { panic!() };
        assert_eq!(forged.n, second.n + 1, "the forged carbon counts, and is nothing else");
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_attempted_written_and_receipted() {
    for access in [trusted(), service()] {
        let mut world = World::new(access, State::default());
        let stream = world.settled().await;
        world.say(1, "one");
        let (ticket, first) = world.attempt().await;
        assert_eq!(first.stream, stream);
        world.say(2, "two");
        world.deliver(
            3,
            "ann",
            EntryKind::Text,
            Body::Sealed { key: "known".into(), jwe: "sealed three".into() },
        );
        world.open("bob", Show::Away);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(world.seen.try_recv().is_err_and(|e| e == mpsc::error::TryRecvError::Empty), "not a stanza");
        world.order(Order::Write(ticket));
        let message = world.stanza().await;
        assert_eq!((body(&message).as_str(), message.attr("id")), ("one", Some("derived-1")));
        assert_eq!((message.attr("to"), message.attr("type")), (Some("ann@lab.example"), Some("chat")));
        assert_eq!(world.stanza().await.name(), "presence");
        // What was ready meanwhile shares a round.
        let (two, second) = world.attempt().await;
        let (three, third) = world.attempt().await;
        assert_eq!((second.n, third.n), (first.n + 2, first.n + 3));
        assert_eq!(world.receipt().await, delivered(1));
        world.order(Order::Skip(two));
        world.order(Order::Write(three));
        assert_eq!(world.receipt().await, (2, Outcome::Unknown), "the hub counts it no more");
        let message = world.stanza().await;
        assert_eq!(body(&message), "three");
        assert_eq!(world.receipt().await, delivered(3), "the skipped position was taken");
    }
}

#[tokio::test(start_paused = true)]
async fn a_federated_contact_is_written_to_by_address_and_not_told_what_was_read() {
    let mut world = World::new(trusted(), State::default());
    world.settled().await;
    world.deliver(1, "xmpp:pat@partner.example", EntryKind::Read, Body::None);
    let outcome = Outcome::Uncarried("rule 20: how far somebody has read is told to nobody outside".into());
    assert_eq!(world.receipt().await, (1, outcome));
    world.deliver(2, "xmpp:pat@partner.example", EntryKind::Text, Body::Clear("an answer".into()));
    let (ticket, _) = world.attempt().await;
    world.order(Order::Write(ticket));
    let message = world.stanza().await;
    assert_eq!((message.attr("to"), body(&message).as_str()), (Some("pat@partner.example"), "an answer"));
    assert_eq!(world.receipt().await, delivered(2));
}

#[tokio::test(start_paused = true)]
async fn deliveries_that_cannot_be_made_say_why() {
    let mut world = World::new(trusted(), State::default());
    world.settled().await;
    let text = || Body::Clear("x".into());
    world.deliver(1, "bob", EntryKind::Text, text());
    world.deliver(2, "hal", EntryKind::Text, text());
    world.deliver(3, "kim", EntryKind::Text, text());
    world.deliver(4, "nobody", EntryKind::Text, text());
    world.deliver(5, "ann", EntryKind::Text, Body::Sealed { key: "lost".into(), jwe: "x".into() });
    world.deliver(6, "ann", EntryKind::Read, Body::None);
    world.deliver(7, "ann", EntryKind::Text, Body::Sealed { key: "silent".into(), jwe: "x".into() });
    let mut outcomes = BTreeMap::new();
    for _ in 0..7 {
        let (ticket, outcome) = world.receipt().await;
        outcomes.insert(ticket, outcome);
    }
    let uncarried = |reason: &str| Outcome::Uncarried(reason.into());
    let expected = [
        uncarried("a message to oneself"),
        uncarried("the recipient has no Jabber account"),
        uncarried("the recipient is of another organization"),
        uncarried("the recipient is not in the directory"),
        Outcome::Wedged("the key is gone".into()),
        uncarried("what was read is not known"),
        Outcome::Later { cause: Cause::Kms, after: None },
    ];
    assert_eq!(outcomes.into_values().collect::<Vec<_>>(), expected);

    world.order(Order::Session(PersonId::new("bob"), Wanted::Closed));
    world.say(8, "asleep");
    let later = Outcome::Later { cause: Cause::Session(PersonId::new("bob")), after: None };
    assert_eq!(world.receipt().await, (8, later));
    world.deliver(9, "ann", EntryKind::DeleteNotice, Body::None);
    let Inbound::Session(..) = world.input().await else { panic!() };
    world.open("bob", Show::Available);
    let (ticket, _) = loop {
        tokio::select! {
            attempt = world.answers.recv() => match attempt.unwrap() {
                Inbound::Attempt(ticket, position) => break (ticket, position),
                Inbound::Keep { key, value, ask } => world.keep(key, value, ask),
                Inbound::Receipt(Ticket(9), Outcome::Later { .. }) => {
                    world.deliver(9, "ann", EntryKind::DeleteNotice, Body::None);
                }
                other => panic!("{other:?}"),
            },
            _ = world.intake.recv() => {}
        }
    };
    world.order(Order::Write(ticket));
    let notice = loop {
        match world.seen().await {
            Seen::Stanza(stanza) if stanza.name() == "message" => break stanza,
            _ => {}
        }
    };
    assert_eq!(body(&notice), "The bob used Webex App to delete a previously posted message");
}

#[tokio::test(start_paused = true)]
async fn of_what_is_older_than_the_enablement_no_notice_is_sent() {
    let people = facts_of(&["ann", "bob"]);
    let directory = Directory::default().with(&Facts { people, complete: true }, Time(1000), Time(1000));
    let opener: Arc<dyn Opener> = Arc::new(Notebook);
    let notice_of = |activity: &str, known: Vec<EntrySummary>| {
        let target = Some(TargetRef::Activity(ActivityId::new(activity)));
        let entry = Entry { target, ..entry(1, "ann", EntryKind::DeleteNotice, Body::None) };
        Delivery { ticket: Ticket(1), entry, target: known, maybe_sent: MaybeSent::No }
    };
    let known = |number| vec![entry(number, "ann", EntryKind::Edit, Body::None).summary()];
    let older =
        || Some(Outcome::Uncarried("rule 17: a notice about what is older than the enablement".into()));
    let later = Some(Outcome::Later { cause: Cause::Host("cloud".into()), after: None });
    for (activity, known, expected) in [
        ("999", vec![], older()),
        // The new text that this notice follows is no old one.
        ("999", known(1), older()),
        ("1000", vec![], None),
        ("nobody knows when", vec![], None),
        ("not to be asked after", known(2), None),
        ("not now", vec![], later),
    ] {
        let made = delivery::stanza(&notice_of(activity, known), &directory, &opener).await;
        assert_eq!(made.err(), expected, "{activity}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stanza_that_comes_back_is_reported_and_its_session_doubted() {
    for is_gone in [false, true] {
        let mut world = World::new(trusted(), State::default());
        let stream = world.settled().await;
        world.far.tell(|far| match is_gone {
            true => far.sessions.clear(),
            false => far.bounces = true,
        });
        world.say(1, "one");
        let (ticket, _) = world.attempt().await;
        world.order(Order::Write(ticket));
        let (envelope, ..) = world.message().await;
        let of = StanzaId::new("derived-1");
        assert_eq!(envelope.kind, Kind::Bounced { of, condition: "session-ended".into() });
        // The next receipt is that of the next: what came back has none.
        if is_gone {
            let Inbound::Session(_, closed) = world.input().await else { panic!() };
            assert_eq!(closed, SessionEvent::Closed { for_good: false });
            world.opening(&stream, false).await;
            world.settle().await;
        }
        world.say(2, "one again");
        let (ticket, _) = world.attempt().await;
        world.order(Order::Write(ticket));
        assert_eq!(world.receipt().await, delivered(2));
        let mut starts = 0;
        while let Ok(seen) = world.seen.try_recv() {
            starts += usize::from(matches!(seen, Seen::Start(_)));
        }
        assert_eq!(starts, usize::from(is_gone));
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_after_the_end_of_its_session_is_reported_too() {
    let mut world = World::new(trusted(), State::default());
    world.settled().await;
    world.say(1, "one");
    let (ticket, _) = world.attempt().await;
    world.far.tell(|far| {
        let ids = std::mem::take(&mut far.sessions).into_values();
        far.outbox.extend(ids.map(|ids| session_control::ended(&ids)));
    });
    let Inbound::Session(_, closed) = world.input().await else { panic!() };
    assert_eq!(closed, SessionEvent::Closed { for_good: false });
    world.order(Order::Write(ticket));
    let returned = loop {
        if let Inbound::Message(envelope, ..) = world.input().await {
            break envelope.kind;
        }
    };
    let of = StanzaId::new("derived-1");
    assert_eq!(returned, Kind::Bounced { of, condition: "session-ended".into() });
}

#[tokio::test(start_paused = true)]
async fn without_acknowledgement_a_ping_gives_the_receipt() {
    let mut world = World::new(trusted(), State { unmanaged: true, ..State::default() });
    let stream = world.settled().await;
    world.far.tell(|far| far.mute = true);
    world.say(1, "one");
    let (ticket, _) = world.attempt().await;
    world.order(Order::Write(ticket));
    assert_eq!(body(&world.stanza().await), "one");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(world.answers.try_recv().is_err(), "written is not arrived");
    // The ping is never answered: the stream counts as dead, and cannot be resumed.
    assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Lost)));
    match world.answer().await {
        Inbound::Stream(s, StreamEvent::Refused { h: None }) => assert_eq!(s, stream),
        other => panic!("{other:?}"),
    }
    world.far.tell(|far| far.mute = false);
    assert_eq!(world.receipt().await, (1, Outcome::Unknown));
    let stream = world.up().await;
    let Inbound::Session(_, SessionEvent::Closed { .. }) = world.input().await else { panic!() };
    world.opening(&stream, false).await;
    world.settle().await;
    world.say(2, "two");
    let (ticket, _) = world.attempt().await;
    world.order(Order::Write(ticket));
    assert_eq!(world.receipt().await, delivered(2));
}

/// Whoever logs in under the resource of the connector's session takes it away, at any moment.
#[tokio::test(start_paused = true)]
async fn who_takes_a_session_takes_neither_receipts_nor_the_link_along() {
    for asked in [true, false] {
        let mut world = World::new(trusted(), State { unmanaged: true, ..State::default() });
        world.settled().await;
        world.open("ann", Show::Available);
        let settled =
            |input| matches!(input, Inbound::Session(who, SessionEvent::Settled) if who.as_str() == "ann");
        while !settled(world.input().await) {}
        world.quiet().await;
        while world.seen.try_recv().is_ok() {}
        world.far.tell(|far| far.mute = true);
        world.say(1, "one");
        let (ticket, _) = world.attempt().await;
        if asked {
            // Bob's session asks whether it has arrived, and is gone before there is an answer.
            world.order(Order::Write(ticket));
            let asks =
                |seen| matches!(seen, Seen::Stanza(stanza) if stanza.get_child("ping", ns::PING).is_some());
            while !asks(world.seen().await) {}
        }
        world.far.tell(|far| {
            far.mute = false;
            let ids = far.sessions.remove(BOB).unwrap();
            far.push(session_control::replaced(&ids));
        });
        if asked {
            assert_eq!(world.receipt().await, delivered(1));
        } else {
            // It is gone before that, and what it should have sent comes back.
            let closed = SessionEvent::Closed { for_good: true };
            while !matches!(world.input().await, Inbound::Session(_, event) if event == closed) {}
            world.order(Order::Write(ticket));
            while !matches!(
                world.input().await,
                Inbound::Message(Envelope { kind: Kind::Bounced { .. }, .. }, ..)
            ) {}
        }
        world.starts(Duration::from_secs(120)).await;
        assert_eq!(world.far.state().dialed, 1, "the link stays; asked: {asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_hub_leaves_the_link_unread_and_deliveries_go_on() {
    let mut world = World::new(trusted(), State::default());
    let stream = world.settled().await;
    for n in 0..20 {
        world.far.send(BOB, &HELLO.replace("m1", &format!("m{n}")));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.say(1, "one");
    let (ticket, _) = world.attempt().await;
    world.order(Order::Write(ticket));
    assert_eq!(body(&world.stanza().await), "one", "writing does not wait for reading");
    // Left unread for too long, the link is dropped and resumed; the receipt is then the router's to give.
    assert!(matches!(world.answer().await, Inbound::Stream(s, StreamEvent::Lost) if s == stream));
    assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Resumed { .. })));
    let mut ids = Vec::new();
    while ids.len() < 20 {
        match soon(world.intake.recv()).await {
            Inbound::Message(envelope, ..) => {
                let Origin::Jabber(origin) = envelope.origin else { panic!() };
                ids.push(origin.stanza.to_string());
            }
            Inbound::Handled(_) | Inbound::Session(..) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ids, (0..20).map(|n| format!("m{n}")).collect::<Vec<_>>(), "each once, in order");
}

#[tokio::test(start_paused = true)]
async fn hints_go_out_where_they_can() {
    let mut world = World::new(trusted(), State::default());
    world.settled().await;
    let hint = Hint::TypingInJabber {
        from: PersonId::new("bob"),
        conversation: ConversationId::new("ann"),
        active: true,
        id: DerivedId::new("hint"),
    };
    let places = Arc::new(tokio::sync::Semaphore::new(1));
    world.order(Order::Hint(hint, Arc::clone(&places).try_acquire_owned().unwrap()));
    let typing = world.stanza().await;
    assert!(typing.has_child("composing", more::CHAT_STATES));
    assert_eq!((typing.attr("id"), typing.attr("to")), (Some("hint"), Some("ann@lab.example")));
    assert_eq!(places.available_permits(), 1, "its place is free again");
}

/// What tells a person, by bob's session, that the stanza `native` of that person's client was not delivered.
fn told(number: u64, person: &str, client: &str, kind: EntryKind) -> Order {
    let mut entry = entry(number, "", kind, Body::None);
    entry.lane = Lane::Told(PersonId::new(person), Client::Jabber);
    (entry.sender, entry.from) = (PersonId::new(person), Some(client.into()));
    let (ticket, maybe_sent) = (Ticket(number), MaybeSent::No);
    Order::Deliver(Box::new(Delivery { ticket, entry, target: Vec::new(), maybe_sent }))
}

#[tokio::test(start_paused = true)]
async fn who_wrote_is_told_by_the_other_ones_session_and_it_is_receipted() {
    for access in [trusted(), service()] {
        let mut world = World::new(access, State::default());
        world.settled().await;
        for (number, kind, fate, condition) in [
            (1, EntryKind::Undelivered, "cancel", "recipient-unavailable"),
            (2, EntryKind::Late, "wait", "remote-server-timeout"),
            (3, EntryKind::Refused, "wait", "resource-constraint"),
        ] {
            world.order(told(number, "ann", "ann@lab.example/phone", kind));
            let (ticket, _) = world.attempt().await;
            world.order(Order::Write(ticket));
            let stanza = world.stanza().await;
            let attrs = ["type", "to", "id"].map(|name| stanza.attr(name));
            assert_eq!(attrs, [Some("error"), Some("ann@lab.example/phone"), Some("native")]);
            let error = stanza.get_child("error", ns::CLIENT).unwrap();
            assert_eq!(error.attr("type"), Some(fate));
            assert!(error.has_child(condition, ns::STANZA_ERRORS), "{condition}");
            let words = error.get_child("text", ns::STANZA_ERRORS).map(Element::text);
            assert_eq!(words.as_deref(), Some("Message could not be delivered"));
            assert_eq!(world.receipt().await, delivered(number));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_own_session_tells_a_client_that_is_there_and_waits_for_one() {
    let mut world = World::new(trusted(), State::default());
    world.settled().await;
    let nobody = Outcome::Later { cause: Cause::Client(PersonId::new("bob")), after: None };
    let mut tell = 0;
    // Told is the one that wrote it, or else any; nobody while none is there.
    for (presence, to) in [
        (None, None),
        (Some("from='bob@lab.example/desk'"), Some("bob@lab.example/desk")),
        (Some("from='bob@lab.example/phone'"), Some("bob@lab.example/phone")),
        (Some("from='bob@lab.example/phone' type='unavailable'"), Some("bob@lab.example/desk")),
        (Some("from='bob@lab.example/desk' type='unavailable'"), None),
    ] {
        if let Some(presence) = presence {
            world.far.send(BOB, &format!("<presence xmlns='jabber:client' {presence}/>"));
            world.quiet().await;
        }
        tell += 1;
        world.order(told(tell, "bob", "bob@lab.example/phone", EntryKind::Late));
        match to {
            None => assert_eq!(world.receipt().await, (tell, nobody.clone())),
            Some(to) => {
                let (ticket, _) = world.attempt().await;
                world.order(Order::Write(ticket));
                assert_eq!(world.stanza().await.attr("to"), Some(to));
                assert_eq!(world.receipt().await, delivered(tell));
            }
        }
    }
}
