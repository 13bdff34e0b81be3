//! A link that is cut, a connector that starts again.

use std::time::Duration;

use presence_map::Show;
use router::envelope::Origin;
use router::inbound::{Inbound, Outcome, SessionEvent, StreamEvent};

use super::super::*;
use super::far::{Seen, State};
use super::world::*;

#[tokio::test(start_paused = true)]
async fn a_cut_link_is_resumed_and_nothing_is_written_before_it_is_settled() {
    for (access, after) in [(trusted(), false), (trusted(), true), (service(), false), (service(), true)] {
        let mut world = World::new(access, State::default());
        let stream = world.settled().await;
        world.say(1, "one");
        let (ticket, position) = world.attempt().await;
        world.far.tell(|far| if after { far.cut_after = true } else { far.cut_before = true });
        world.order(Order::Write(ticket));
        if after {
            assert_eq!(body(&world.stanza().await), "one");
        }
        assert!(matches!(world.answer().await, Inbound::Stream(s, StreamEvent::Lost) if s == stream));
        let h = match world.answer().await {
            Inbound::Stream(s, StreamEvent::Resumed { h }) if s == stream => h,
            other => panic!("{other:?}"),
        };
        assert_eq!(h >= position.n, after, "what arrived is known exactly");
        assert_eq!(world.receipt().await, (1, Outcome::Unknown), "the router settles it by h");
        world.opening(&stream, true).await;
        world.say(2, "two");
        world.open("bob", Show::Away);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(world.seen.try_recv().is_err(), "the router has not settled yet");
        world.order(Order::Settled(stream.clone()));
        world.settle_after(&stream).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_is_resumed_once_all_that_it_brought_is_committed() {
    let mut world = World::new(trusted(), State::default());
    let stream = world.settled().await;
    world.far.send(BOB, HELLO);
    let (_, _, upstream) = world.message().await;
    world.far.tell(|far| far.cut = true);
    assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Lost)));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(world.far.state().dialed, 1, "its count would be less than what was read");
    world.order(Order::Acknowledge(upstream));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.far.state().dialed, 2);
    assert!(matches!(world.answer().await, Inbound::Stream(s, StreamEvent::Resumed { .. }) if s == stream));
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_cut_and_was_not_committed_comes_once() {
    let mut world = World::new(trusted(), State::default());
    let stream = world.settled().await;
    world.far.send(BOB, HELLO);
    let (_, _, upstream) = world.message().await;
    world.far.tell(|far| far.cut = true);
    assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Lost)));
    // A hub that stands still is not waited for for ever.
    assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Resumed { .. })));
    world.order(Order::Settled(stream.clone()));
    world.opening(&stream, true).await;
    world.settle().await;
    world.far.send(BOB, &HELLO.replace("m1", "m2"));
    let (envelope, _, later) = world.message().await;
    let Origin::Jabber(origin) = envelope.origin else { panic!() };
    assert_eq!(origin.stanza.as_str(), "m2", "the same process skips what it has");
    assert!(later.n > upstream.n);
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_with_stream_and_session() {
    for access in [trusted(), service()] {
        let mut world = World::new(access, State::default());
        let stream = world.settled().await;
        world.far.send(BOB, HELLO);
        world.message().await; // and it is not committed
        world.start();
        world.open("bob", Show::Available);
        let resumed = world.answer().await;
        assert!(
            matches!(&resumed, Inbound::Stream(s, StreamEvent::Resumed { h: 3.. }) if *s == stream),
            "{resumed:?}"
        );
        world.opening(&stream, true).await;
        let (envelope, ..) = world.message().await;
        let Origin::Jabber(origin) = envelope.origin else { panic!() };
        assert_eq!(origin.stanza.as_str(), "m1", "what was not committed comes again");
        world.order(Order::Settled(stream));
        world.settle().await;
        let mut names = Vec::new();
        while let Ok(seen) = world.seen.try_recv() {
            match seen {
                Seen::Stanza(stanza) => names.push(stanza.name().to_owned()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(names, ["iq"], "a ping, and neither a start nor presence");
        assert_eq!(world.far.state().dialed, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_of_an_opening_begins_it_again() {
    let mut world = World::new(trusted(), State { mute: true, ..State::default() });
    world.open("bob", Show::Available);
    let stream = world.up().await;
    world.opening(&stream, false).await;
    while !matches!(world.seen().await, Seen::Stanza(stanza) if stanza.name() == "presence") {
        world.quiet().await;
    }
    world.far.tell(|far| far.mute = false);
    world.start();
    world.open("bob", Show::Available);
    assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Resumed { .. })));
    world.opening(&stream, false).await;
    world.order(Order::Settled(stream));
    world.settle().await;
    let mut presences = 0;
    while let Ok(Seen::Stanza(stanza)) = world.seen.try_recv() {
        presences += usize::from(stanza.name() == "presence");
    }
    assert_eq!(presences, 1, "what may not have been said is said");
}

#[tokio::test(start_paused = true)]
async fn a_refused_resumption_starts_everything_anew() {
    for (access, restart) in [(trusted(), false), (trusted(), true), (service(), false), (service(), true)] {
        let mut world = World::new(access, State::default());
        let old = world.settled().await;
        if restart {
            world.far.tell(|far| far.forgetful = true);
            world.start();
            world.open("bob", Show::Available);
        } else {
            world.say(1, "one");
            let (ticket, _) = world.attempt().await;
            world.far.tell(|far| (far.cut_before, far.forgetful) = (true, true));
            world.order(Order::Write(ticket));
            assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Lost)));
        }
        match world.answer().await {
            Inbound::Stream(stream, StreamEvent::Refused { h: Some(3..) }) => assert_eq!(stream, old),
            other => panic!("{other:?}"),
        }
        if !restart {
            assert_eq!(world.receipt().await, (1, Outcome::Unknown));
        }
        let stream = world.up().await;
        assert_ne!(stream, old);
        if !restart {
            let Inbound::Session(_, closed) = world.input().await else { panic!() };
            assert_eq!(closed, SessionEvent::Closed { for_good: false });
        }
        world.opening(&stream, false).await;
        world.settle().await;
    }
}
