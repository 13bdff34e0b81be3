//! When a session is opened, what it shows, and how it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use presence_map::Show;
use router::envelope::Origin;
use router::ids::*;
use router::inbound::{Cause, Inbound, Outcome, SessionEvent, StreamEvent};
use router::outbound::Wanted;
use tokio::sync::mpsc;
use xmpp_core::ns;
use xmpp_core::session_control;

use super::super::*;
use super::far::{Seen, State};
use super::world::*;

#[tokio::test(start_paused = true)]
async fn presence_waits_for_carbons_and_for_the_disk() {
    let mut world = World::new(trusted(), State::default());
    world.withheld = Some("jabber/session/");
    world.open("bob", Show::Away);
    let stream = world.up().await;
    world.opening(&stream, false).await;
    assert!(matches!(world.seen().await, Seen::Start(jid) if jid == BOB));
    let Seen::Stanza(carbons) = world.seen().await else { panic!() };
    assert!(carbons.get_child("enable", ns::CARBONS).is_some());
    world.quiet().await;
    assert!(world.seen.try_recv().is_err(), "no presence before the ids are on disk");
    world.order(Order::Kept(world.asks[0]));
    let presence = world.stanza().await;
    assert_eq!(presence.get_child("show", ns::CLIENT).unwrap().text(), "away");
    world.settle().await;

    world.open("bob", Show::Away);
    world.quiet().await;
    world.open("bob", Show::Available);
    let presence = world.stanza().await;
    assert!(presence.get_child("show", ns::CLIENT).is_none(), "only what differs is said");
    world.order(Order::Session(PersonId::new("bob"), Wanted::Closed));
    assert!(matches!(world.seen().await, Seen::End(jid) if jid == BOB));
    let Inbound::Session(_, closed) = world.input().await else { panic!() };
    assert_eq!(closed, SessionEvent::Closed { for_good: false });
    assert!(!world.kept.values.contains_key("jabber/session/bob"));
}

#[tokio::test(start_paused = true)]
async fn without_copies_the_priority_follows_that_of_the_other_clients() {
    for (access, copyless) in [(trusted(), true), (service(), true), (trusted(), false)] {
        let mut world = World::new(access, State { copyless, ..State::default() });
        world.settled().await;
        let mut said = Vec::new();
        for (client, about) in [
            ("desk", "><priority>5</priority>"),
            ("phone", "><priority>12</priority>"),
            ("desk", "><show>away</show><priority>7</priority>"),
            ("phone", " type='unavailable'>"),
            ("desk", "><priority>-3</priority>"),
        ] {
            let presence = format!(
                "<presence xmlns='jabber:client' from='bob@lab.example/{client}' to='{BOB}'{about}</presence>"
            );
            world.far.send(BOB, &presence);
            world.quiet().await;
            while let Ok(seen) = world.seen.try_recv() {
                let Seen::Stanza(stanza) = seen else { panic!("{seen:?}") };
                said.push(stanza.get_child("priority", ns::CLIENT).map(xmpp_core::Element::text));
            }
        }
        // With copies there is nothing to follow: everything comes to ours too.
        let followed = if copyless { vec!["5", "12", "7", "0"] } else { vec![] };
        assert_eq!(said.iter().flatten().collect::<Vec<_>>(), followed);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_fights_over_a_resource() {
    for access in [trusted(), service()] {
        let is_trusted = access.is_trusted();
        let mut world = World::new(access, State::default());
        world.settled().await;
        world.far.tell(|far| match far.sessions.remove(BOB) {
            Some(ids) => far.push(session_control::replaced(&ids)),
            None => far.end_with = Some("conflict"),
        });
        if !is_trusted {
            assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Lost)));
            assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Refused { .. })));
        }
        loop {
            let Inbound::Session(_, closed) = world.input().await else { panic!() };
            if closed == (SessionEvent::Closed { for_good: true }) {
                break;
            }
        }
        assert_eq!(world.refused(), [("bob".to_owned(), "another client has taken the session")]);
        world.open("bob", Show::Away);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        while let Ok(seen) = world.seen.try_recv() {
            assert!(!matches!(seen, Seen::Start(_)), "it was opened again");
        }
        assert_eq!(world.far.state().dialed, 1);
        world.order(Order::Session(PersonId::new("bob"), Wanted::Closed));
        world.open("bob", Show::Away);
        if is_trusted {
            assert!(matches!(world.seen().await, Seen::Start(_)), "the router asked for it");
            assert_eq!(world.refused(), []);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_user_is_not_asked_for_again() {
    let mut world = World::new(trusted(), State { strict: true, ..State::default() });
    world.open("bob", Show::Available);
    world.up().await;
    let Inbound::Session(_, closed) = world.input().await else { panic!() };
    assert_eq!(closed, SessionEvent::Closed { for_good: true });
    assert!(matches!(world.seen().await, Seen::Start(_)));
    assert_eq!(world.refused(), [("bob".to_owned(), "the server starts no session for this user")]);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(world.seen.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn somebody_without_an_account_that_we_serve_has_no_session() {
    let mut world = World::new(trusted(), State::default());
    for person in ["hal", "eve"] {
        world.open(person, Show::Available);
    }
    let mut closed = Vec::new();
    while closed.len() < 2 {
        if let Inbound::Session(person, SessionEvent::Closed { for_good: true }) = world.answer().await {
            closed.push(person.to_string());
        }
    }
    assert_eq!(closed, ["hal", "eve"]);
}

#[tokio::test(start_paused = true)]
async fn the_session_started_is_compared_with_the_one_asked_for() {
    let binds = "service@lab.example/webex-1".parse().ok();
    let mut world = World::new(trusted(), State { binds, ..State::default() });
    world.open("bob", Show::Available);
    world.up().await;
    let Inbound::Session(person, closed) = world.input().await else { panic!() };
    assert_eq!((person.as_str(), closed), ("bob", SessionEvent::Closed { for_good: true }));
    assert!(matches!(world.seen().await, Seen::Start(_)));
    assert!(matches!(world.seen().await, Seen::End(_)), "nothing is said as somebody else");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(world.seen.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_bound_for_somebody_else_is_dropped_and_never_asked_for_again() {
    let binds = "service@lab.example/webex-1".parse().ok();
    let mut world = World::new(service(), State { binds, ..State::default() });
    world.open("bob", Show::Available);
    let Inbound::Session(person, closed) = world.input().await else { panic!() };
    assert_eq!((person.as_str(), closed), ("bob", SessionEvent::Closed { for_good: true }));
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!(world.far.state().dialed, 1);
    assert!(
        world.answers.try_recv().is_err_and(|e| e == mpsc::error::TryRecvError::Empty),
        "no stream came up"
    );
}

#[tokio::test(start_paused = true)]
async fn a_link_that_another_connector_takes_is_left_to_it() {
    let mut world = World::new(trusted(), State::default());
    let old = world.settled().await;
    let start = Instant::now();
    world.far.tell(|far| far.end_with = Some("conflict"));
    assert!(matches!(world.answer().await, Inbound::Stream(s, StreamEvent::Lost) if s == old));
    assert!(matches!(world.answer().await, Inbound::Stream(s, StreamEvent::Refused { .. }) if s == old));
    let Inbound::Session(_, closed) = world.input().await else { panic!() };
    assert_eq!(closed, SessionEvent::Closed { for_good: false });
    let stream = world.up().await;
    let minutes = start.elapsed().as_secs() / 60;
    assert!((7..=15).contains(&minutes), "it came back after {minutes} minutes");
    assert_eq!(world.far.state().dialed, 2);
    world.opening(&stream, false).await;
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn one_link_carries_the_sessions_of_two_domains_and_of_escaped_names() {
    let mut world = World::new(trusted(), State::default());
    for person in ["bob", "fay", "o'hara"] {
        world.open(person, Show::Available);
    }
    world.up().await;
    let (mut settled, mut started) = (BTreeSet::new(), BTreeMap::new());
    while settled.len() < 3 {
        match world.input().await {
            Inbound::Session(person, SessionEvent::Settled) => drop(settled.insert(person.to_string())),
            Inbound::Session(_, SessionEvent::Opening { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    while let Ok(seen) = world.seen.try_recv() {
        match seen {
            Seen::Start(jid) => *started.entry(jid).or_insert(0) += 1,
            // The server's own domain answers each session's pings.
            Seen::Stanza(stanza) if stanza.get_child("ping", ns::PING).is_some() => {
                assert!(matches!(stanza.attr("to"), Some("lab.example" | "lab2.example")), "{stanza:?}");
            }
            _ => {}
        }
    }
    let jids = [BOB, "fay@lab2.example/webex-1", "o\\27hara@lab.example/webex-1"];
    assert_eq!(started, jids.map(|jid| (jid.to_owned(), 1)).into(), "each once");
    // What comes for one of them is that one's, in whichever case its sender writes the address.
    let hello = HELLO.replace("ann@lab.example/desk", "Ann@LAB.example/desk");
    world.far.send("o\\27hara@lab.example/webex-1", &hello.replace("bob@", "O\\27Hara@"));
    let (envelope, ..) = world.message().await;
    let Origin::Jabber(origin) = envelope.origin else { panic!() };
    let names = (origin.session.as_str(), origin.from_bare.as_str(), origin.to.as_str());
    assert_eq!(names, ("o'hara", "ann@lab.example", "o\\27hara@lab.example"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_leaves_the_stream_or_signs_out() {
    for sign_out in [false, true] {
        let mut world = World::new(trusted(), State::default());
        world.settled().await;
        world.say(1, "last");
        let (ticket, _) = world.attempt().await;
        world.order(Order::Stop { sign_out });
        world.say(2, "too late");
        let later = Outcome::Later { cause: Cause::Session(PersonId::new("bob")), after: None };
        assert_eq!(world.receipt().await, (2, later));
        world.order(Order::Write(ticket));
        assert_eq!(body(&world.stanza().await), "last");
        assert_eq!(world.receipt().await, delivered(1));
        if sign_out {
            assert!(matches!(world.seen().await, Seen::End(jid) if jid == BOB));
            assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Refused { .. })));
        }
        (&mut world.edge).await.unwrap();
        while let Ok(answer) = world.answers.try_recv() {
            if let Inbound::Keep { key, value, ask } = answer {
                world.keep(key, value, ask);
            }
        }
        assert_eq!(world.kept.values.is_empty(), sign_out, "{:?}", world.kept.values.keys());
    }
}
