//! The cloud says that it will shut a socket down: the next one is opened first.

use std::time::Duration;

use router::envelope::{Envelope, Origin};
use router::ids::{PersonId, StreamId, Upstream};
use router::inbound::Inbound;
use serde_json::{Value, json};

use super::world::{ALICE, BASE, Peer, World, conversation};
use crate::port::Order;
use crate::webex::WebexKept;

/// A cloud in which there is one conversation, and nothing in it.
fn quiet(_: &str, address: &str, _: &Value) -> Option<(u16, Value)> {
    if address.starts_with("/conversation/api/v1/conversations?") {
        return Some((200, json!({"items": [conversation("c1", BASE)], "additionalUrls": []})));
    }
    if address.contains("/conversations/c1/activities") {
        return Some((200, json!({"items": []})));
    }
    address.contains("/conversations/c1?").then(|| (200, conversation("c1", BASE)))
}

/// A world with one socket, and everything caught up.
async fn settled() -> (World, Peer) {
    let mut world = World::new(64, WebexKept::default(), quiet);
    world.behind(1).await;
    let mut peer = world.socket().await;
    peer.waits(Duration::from_secs(6)).await;
    assert!(matches!(world.input().await, Inbound::CaughtUp(_, 1, _)));
    (world, peer)
}

/// The next message: its activity, and on which socket it came.
async fn message(world: &mut World) -> (String, u64) {
    match world.input().await {
        Inbound::Message(
            Envelope { origin: Origin::Webex(origin), .. },
            _,
            Upstream { stream: StreamId::Mercury(_, socket), .. },
        ) => (origin.activity.to_string(), socket),
        other => panic!("not a message of a socket: {other:?}"),
    }
}

fn taken(socket: u64) -> Order {
    Order::Acknowledge(Upstream { stream: StreamId::Mercury(PersonId::new(ALICE), socket), n: 1 })
}

#[tokio::test(start_paused = true)]
async fn the_next_socket_is_ready_before_the_old_one_ends_and_both_are_read() {
    let (mut world, mut old) = settled().await;
    old.shuts_down().await;
    let mut new = world.opening().await;
    old.posts("before").await;
    assert_eq!(message(&mut world).await, ("before".to_owned(), 1), "the new one is not ready");
    new.becomes_ready().await;
    // What was on its way may be lost.
    world.behind(2).await;
    new.posts("on-the-new").await;
    assert_eq!(message(&mut world).await, ("on-the-new".to_owned(), 2));
    old.posts("late-on-the-old").await;
    assert_eq!(message(&mut world).await, ("late-on-the-old".to_owned(), 1));
    // Each is acknowledged where it came. Frame 1 of the new one was readiness.
    world.orders.send(taken(2)).unwrap();
    assert_eq!(new.waits(Duration::from_secs(1)).await.last().unwrap(), r#"{"messageId":"2","type":"ack"}"#);
    world.orders.send(taken(1)).unwrap();
    let acknowledged = old.waits(Duration::from_secs(1)).await;
    assert_eq!(acknowledged.last().unwrap(), r#"{"messageId":"2","type":"ack"}"#, "{acknowledged:?}");
    old.ends(4001).await;
    new.waits(Duration::from_secs(6)).await;
    assert!(matches!(world.input().await, Inbound::CaughtUp(_, 2, _)));
    // It was one take-over: the end of the old one is the end of nothing.
    new.waits(Duration::from_secs(90)).await;
    assert!(world.is_quiet(2));
    assert_eq!(world.asked("POST /wdm/devices").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_closed_before_the_next_is_ready_leaves_a_gap_and_the_next_goes_on() {
    let (mut world, mut old) = settled().await;
    old.shuts_down().await;
    let mut new = world.opening().await;
    old.ends(4001).await;
    // At once.
    world.behind(2).await;
    new.becomes_ready().await;
    new.posts("after").await;
    assert_eq!(message(&mut world).await, ("after".to_owned(), 2));
    new.waits(Duration::from_secs(6)).await;
    assert!(matches!(world.input().await, Inbound::CaughtUp(_, 2, _)), "and caught up with once");
    assert!(world.is_quiet(2));
}

#[tokio::test(start_paused = true)]
async fn as_long_as_the_old_one_lives_the_next_is_tried_again() {
    let (mut world, mut old) = settled().await;
    old.shuts_down().await;
    for _ in 0..3 {
        world.opening().await.ends(1011).await;
        old.posts("meanwhile").await;
        assert_eq!(message(&mut world).await.1, 1);
    }
    let mut new = world.socket().await;
    world.behind(2).await;
    new.posts("at-last").await;
    assert_eq!(message(&mut world).await.1, 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_the_cloud_forgets_to_close_is_given_up() {
    let (mut world, mut old) = settled().await;
    old.shuts_down().await;
    let mut new = world.socket().await;
    new.waits(Duration::from_secs(70)).await;
    assert!(old.is_closed().await);
    new.posts("after").await;
    loop {
        if let Inbound::Message(..) = world.input().await {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_never_ready_and_brings_without_end_is_given_up_for_another() {
    let mut world = World::new(64, WebexKept::default(), quiet);
    world.behind(1).await;
    let mut endless = world.opening().await;
    for n in 0..=1_000 {
        endless.posts(&format!("early {n}")).await;
    }
    assert!(endless.is_closed().await);
    let mut other = world.socket().await;
    other.posts("after").await;
    assert_eq!(message(&mut world).await, ("after".to_owned(), 1), "what came early is read from listings");
}
