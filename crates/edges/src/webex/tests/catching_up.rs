//! New sockets, gaps and drops, and what is read after them (rules 8, 9 and 13).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use router::envelope::{Envelope, Kind, Marked, Origin, Via};
use router::ids::{PersonId, StreamId, Time, Upstream};
use router::inbound::Inbound;
use serde_json::{Value, json};

use super::world::{ALICE, BASE, BOB, MERCURY, START, World, conversation, number, post};
use crate::port::Order;
use crate::webex::WebexKept;

const OTHER: &str = "http://cloud.example/other/api/v1";

/// A cloud that lists what it is given, in pages, the way round it is told.
#[derive(Clone, Default)]
struct Listing {
    activities: Arc<Mutex<Vec<(String, i64)>>>,
    newest_first: bool,
    page: usize,
}

impl Listing {
    fn of(activities: &[(&str, i64)], newest_first: bool, page: usize) -> Self {
        let activities = activities.iter().map(|(id, at)| ((*id).to_owned(), *at)).collect();
        Self { activities: Arc::new(Mutex::new(activities)), newest_first, page }
    }

    fn add(&self, id: &str, at: i64) {
        self.activities.lock().unwrap().push((id.to_owned(), at));
    }

    fn answer(&self, address: &str) -> Option<(u16, Value)> {
        if address.starts_with("/conversation/api/v1/conversations?") {
            let body = json!({"items": [conversation("c1", BASE)], "additionalUrls": [OTHER]});
            return Some((200, body));
        }
        if address.starts_with("/other/api/v1/conversations?") {
            let body = json!({"items": [conversation("c2", OTHER)], "additionalUrls": [OTHER]});
            return Some((200, body));
        }
        if address.contains("/conversations/c2/activities") {
            return Some((200, json!({"items": [post("elsewhere", START - 30_000)]})));
        }
        if address.contains("/conversations/c1/activities") {
            let (since, until) = (number(address, "sinceDate"), number(address, "maxDate"));
            let mut found = self.activities.lock().unwrap().clone();
            found.retain(|(_, at)| since.is_none_or(|s| *at >= s) && until.is_none_or(|u| *at <= u));
            found.sort_by_key(|(_, at)| *at);
            if self.newest_first {
                found.reverse();
            }
            let asked = usize::try_from(number(address, "limit").unwrap()).unwrap();
            found.truncate(if asked > 100 { asked } else { self.page });
            let items: Vec<Value> = found.iter().map(|(id, at)| post(id, *at)).collect();
            return Some((200, json!({"items": items})));
        }
        if address.contains("/conversations/c2?") {
            return Some((200, conversation("c2", OTHER)));
        }
        address.contains("/conversations/c1?").then(|| {
            let mut whole = conversation("c1", BASE);
            whole["participants"] = json!({"items": [{"id": BOB, "roomProperties": {
                "lastSeenActivityUUID": "seen", "lastSeenActivityDate":
                    webex_api::Timestamp(START - 10_000).to_string()}}]});
            (200, whole)
        })
    }

    fn world(&self, room: usize, kept: WebexKept) -> World {
        let listing = self.clone();
        World::new(room, kept, move |_, address, _| listing.answer(address))
    }
}

fn listed(inbound: Inbound) -> (String, Kind, Via) {
    match inbound {
        Inbound::Listed(Envelope { origin: Origin::Webex(origin), kind, .. }, _)
        | Inbound::Message(Envelope { origin: Origin::Webex(origin), kind, .. }, ..) => {
            (origin.activity.to_string(), kind, origin.via)
        }
        other => panic!("not an activity: {other:?}"),
    }
}

async fn names(world: &mut World, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(listed(world.input().await).0);
    }
    names
}

#[tokio::test(start_paused = true)]
async fn a_new_socket_is_followed_by_a_listing_of_all_clusters() {
    let listing = Listing::of(&[("b", START - 20_000), ("a", START - 40_000)], false, 100);
    let mut world = listing.world(16, WebexKept::default());
    let alice = PersonId::new(ALICE);
    assert!(matches!(world.answer().await, Inbound::Behind(person, 1) if person == alice));
    let mut peer = world.socket().await;
    let ready = world.now();
    listing.add("too-young", ready + 1_000);
    let heard = peer.waits(Duration::from_secs(6)).await;
    assert_eq!(heard, [r#"{"messageId":"1","type":"ack"}"#], "readiness");
    assert_eq!(names(&mut world, 2).await, ["a", "b"], "oldest first");
    let (_, kind, via) = listed(world.input().await);
    assert!(matches!(kind, Kind::Read(Marked::Activity(last)) if last.as_str() == "seen"));
    assert_eq!(via, Via::CatchUp(1));
    assert_eq!(names(&mut world, 1).await, ["elsewhere"]);
    let Inbound::CaughtUp(person, 1, cursor) = world.input().await else { panic!("caught up") };
    assert_eq!(person, alice);
    // The listing began 5 s after readiness; the cursor stays 120 s behind that, but never behind itself.
    assert_eq!(cursor, Time((ready + 5_020 - 120_000).max(START - 60_000)));
    let since = number(&world.asked("/conversation/api/v1/conversations?")[0], "sinceDate");
    assert_eq!(since, Some(START - 60_000), "from when alice has been enabled");
}

#[tokio::test(start_paused = true)]
async fn pages_are_walked_whichever_way_they_come() {
    let mut activities: Vec<(String, i64)> =
        (0..25).map(|n| (format!("{n:02}"), START - 50_000 + n)).collect();
    // What is of one millisecond keeps its order too, and ids say nothing about it.
    for n in (25..40).rev() {
        activities.push((format!("{n:02}"), START - 40_000));
    }
    let borrowed: Vec<(&str, i64)> = activities.iter().map(|(id, at)| (id.as_str(), *at)).collect();
    for newest_first in [false, true] {
        let listing = Listing::of(&borrowed, newest_first, 10);
        let mut world = listing.world(64, WebexKept::default());
        let mut peer = world.socket().await;
        peer.waits(Duration::from_secs(6)).await;
        let expected: Vec<String> = activities.iter().map(|(id, _)| id.clone()).collect();
        assert_eq!(names(&mut world, 40).await, expected, "newest first: {newest_first}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_may_lack_something_moves_no_cursor() {
    let names: Vec<String> = (0..1_100).map(|n| format!("{n:04}")).collect();
    let activities: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), START - 40_000)).collect();
    let listing = Listing::of(&activities, false, 100);
    let mut world = listing.world(4_096, WebexKept::default());
    let mut peer = world.socket().await;
    peer.waits(Duration::from_secs(120)).await;
    let largest = world.asked("limit=1000");
    assert!(largest.len() > 1, "it is tried again: {largest:?}");
    while let Ok(told) = world.intake.try_recv() {
        assert!(!matches!(told, Inbound::CaughtUp(..)), "what is above a thousand would be lost");
    }
}

#[tokio::test(start_paused = true)]
async fn the_stored_cursor_is_where_a_run_goes_on() {
    let listing = Listing::of(&[("old", START - 50_000), ("new", START - 20_000)], false, 100);
    let kept =
        WebexKept { run: 2, cursors: vec![(PersonId::new(ALICE), Time(START - 30_000))], values: Vec::new() };
    let mut world = listing.world(16, kept);
    let mut peer = world.socket().await;
    peer.waits(Duration::from_secs(6)).await;
    assert_eq!(names(&mut world, 1).await, ["new"]);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_a_wrong_clock_put_ahead_hides_nothing() {
    let listing = Listing::of(&[("missed", START - 20_000)], false, 100);
    let ahead = vec![(PersonId::new(ALICE), Time(START + 2 * 60 * 60 * 1000))];
    let mut world = listing.world(16, WebexKept { run: 2, cursors: ahead, values: Vec::new() });
    let mut peer = world.socket().await;
    peer.waits(Duration::from_secs(6)).await;
    assert_eq!(names(&mut world, 1).await, ["missed"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_not_heard_of_for_an_hour_is_listed() {
    let minutes = |n: u64| Duration::from_secs(n * 60);
    let listing = Listing::of(&[], false, 100);
    let mut world = listing.world(64, WebexKept::default());
    world.behind(1).await;
    let mut peer = world.socket().await;
    peer.waits(minutes(50)).await;
    // An event begins the hour anew.
    peer.posts("heard").await;
    peer.waits(minutes(1)).await;
    let mut before = Vec::new();
    while let Ok(inbound) = world.intake.try_recv() {
        before.push(inbound);
    }
    assert!(before.iter().any(|inbound| matches!(inbound, Inbound::CaughtUp(_, 1, _))), "{before:?}");
    let heard = before.pop().unwrap();
    assert_eq!(listed(heard).0, "heard");
    listing.add("never-told", world.now());
    peer.waits(minutes(58)).await;
    assert!(world.is_quiet(1), "the hour is not over");
    peer.waits(minutes(2)).await;
    world.behind(2).await;
    let found = names(&mut world, 1).await;
    assert_eq!(found, ["never-told"]);
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_told_before_what_follows_it_and_starts_over() {
    let listing = Listing::of(&[], false, 100);
    let mut world = listing.world(16, WebexKept::default());
    world.behind(1).await;
    let mut peer = world.socket().await;
    peer.waits(Duration::from_secs(6)).await;
    peer.posts("before").await;
    peer.loses();
    listing.add("lost", world.now());
    peer.posts("after").await;
    world.behind(2).await;
    peer.waits(Duration::from_secs(6)).await;
    let mut heard = Vec::new();
    loop {
        match world.input().await {
            Inbound::CaughtUp(_, 2, _) => break,
            Inbound::CaughtUp(_, n, _) => heard.push(format!("caught up {n}")),
            other => heard.push(listed(other).0),
        }
    }
    assert!(heard.contains(&"lost".to_owned()), "{heard:?}");
    let at = |what: &str| heard.iter().position(|heard| heard == what);
    assert!(at("caught up 1") < at("before") && at("before") < at("after"), "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn a_second_gap_before_the_listing_only_puts_it_off() {
    let listing = Listing::of(&[], false, 100);
    let mut world = listing.world(16, WebexKept::default());
    let mut peer = world.socket().await;
    world.behind(1).await;
    let ready = world.now();
    peer.waits(Duration::from_secs(3)).await;
    peer.loses();
    peer.posts("after").await;
    peer.waits(Duration::from_secs(6)).await;
    loop {
        if let Inbound::CaughtUp(_, trigger, cursor) = world.input().await {
            assert_eq!(trigger, 1, "the listing answers both");
            assert!(cursor >= Time(ready + 8_000 - 120_000), "it began 5 s after the gap");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_hub_takes_is_acknowledged_when_it_says_so_and_what_it_cannot_take_is_listed() {
    let listing = Listing::of(&[], false, 100);
    let mut world = listing.world(2, WebexKept::default());
    world.behind(1).await;
    let mut peer = world.socket().await;
    peer.waits(Duration::from_secs(6)).await;
    while !matches!(world.input().await, Inbound::CaughtUp(..)) {}
    // Frame 1 was readiness.
    for id in ["two", "three", "four"] {
        peer.posts(id).await;
        listing.add(id, world.now());
    }
    // The third had no room.
    world.behind(2).await;
    assert_eq!(peer.waits(Duration::from_secs(1)).await, Vec::<String>::new(), "nothing is acknowledged");
    let (name, _, via) = listed(world.input().await);
    assert_eq!((name.as_str(), via), ("two", Via::Socket));
    let upstream = |n| Upstream { stream: StreamId::Mercury(PersonId::new(ALICE), 1), n };
    world.orders.send(Order::Acknowledge(upstream(1))).unwrap();
    assert_eq!(peer.waits(Duration::from_secs(1)).await, [r#"{"messageId":"2","type":"ack"}"#]);
    peer.waits(Duration::from_secs(6)).await;
    let mut heard = Vec::new();
    loop {
        match world.input().await {
            Inbound::CaughtUp(_, 2, _) => break,
            other => heard.push(listed(other).0),
        }
    }
    assert!(heard.contains(&"four".to_owned()), "{heard:?}");
    // It is committed when what comes behind it is, and is acknowledged then.
    let Inbound::Handled(behind) = world.input().await else { panic!("what was dropped is made good") };
    assert_eq!(behind, upstream(4));
    world.orders.send(Order::Acknowledge(upstream(3))).unwrap();
    assert_eq!(peer.waits(Duration::from_secs(1)).await, [r#"{"messageId":"3","type":"ack"}"#]);
    world.orders.send(Order::Acknowledge(behind)).unwrap();
    assert_eq!(peer.waits(Duration::from_secs(1)).await, [r#"{"messageId":"4","type":"ack"}"#]);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_ends_is_opened_again_with_the_same_device() {
    let listing = Listing::of(&[], false, 100);
    let mut world = listing.world(16, WebexKept::default());
    world.behind(1).await;
    drop(world.socket().await);
    world.behind(2).await;
    let mut peer = world.socket().await;
    peer.waits(Duration::from_secs(6)).await;
    while !matches!(world.input().await, Inbound::CaughtUp(_, 2, _)) {}
    assert_eq!(world.asked("POST /wdm/devices").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_owed_is_told_when_a_socket_ends_and_again_when_there_is_another() {
    let mut world = Listing::of(&[], false, 100).world(16, WebexKept::default());
    world.behind(1).await;
    let peer = world.socket().await;
    world.behind(1).await;
    drop(peer);
    world.behind(2).await;
    let mut peer = world.socket().await;
    peer.posts("live").await;
    world.behind(2).await;
    assert_eq!(names(&mut world, 1).await, ["live"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_served_no_longer_has_no_socket_and_no_device() {
    let listing = Listing::of(&[], false, 100);
    let mut world = listing.world(16, WebexKept::default());
    let mut peer = world.socket().await;
    world.serves_nobody();
    assert!(peer.is_closed().await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.asked("DELETE"), ["DELETE /wdm/devices/d1"]);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_may_not_be_read_does_not_hold_up_the_others() {
    let listing = Listing::of(&[("a", START - 20_000)], false, 100);
    let mut world = World::new(16, WebexKept::default(), move |_, address, _| {
        let forbidden = address.contains("/conversations/c1/").then(|| (403, json!({})));
        forbidden.or_else(|| listing.answer(address))
    });
    let mut peer = world.socket().await;
    peer.waits(Duration::from_secs(30)).await;
    assert_eq!(names(&mut world, 1).await, ["elsewhere"]);
    assert!(matches!(world.input().await, Inbound::CaughtUp(_, 1, _)));
    assert_eq!(world.asked("/conversations/c1/activities").len(), 4, "it was tried, and tried again");
}

#[tokio::test(start_paused = true)]
async fn at_the_device_limit_only_our_own_devices_make_room() {
    let mut created = 0;
    let mut world = World::new(16, WebexKept::default(), move |method, address, _| match (method, address) {
        ("POST", address) if address.starts_with("/wdm/devices") => {
            created += 1;
            let limit = json!({"message": "User has excessive device registrations"});
            (created == 1).then_some((403, limit))
        }
        ("GET", "/wdm/devices") => {
            let device = |n: u8, name: &str| {
                json!({"url": format!("http://cloud.example/wdm/devices/{n}"), "name": name,
                    "webSocketUrl": format!("ws://cloud.example:{MERCURY}/x")})
            };
            let ours = device(1, "Hybrid Message connector");
            Some((200, json!({"devices": [ours, device(2, "Alice's phone")]})))
        }
        ("DELETE", _) => Some((204, json!(null))),
        _ => None,
    });
    world.socket().await;
    assert_eq!(world.asked("DELETE"), ["DELETE /wdm/devices/1"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_72_hours_is_not_read_and_the_gap_is_told() {
    let hours = |n: u64| Duration::from_secs(n * 3600);
    let (cursor, old) = (Time(START).before(hours(80)), Time(START).before(hours(73)).0);
    let listing = Listing::of(&[("old", old), ("young", START - 30_000)], false, 100);
    let kept = WebexKept { run: 2, cursors: vec![(PersonId::new(ALICE), cursor)], ..WebexKept::default() };
    let mut world = listing.world(64, kept);
    let _peer = world.socket().await;
    let gap = loop {
        if let Inbound::Gap(person, from, to) = world.answer().await {
            break (person, from, to);
        }
    };
    assert_eq!((gap.0.as_str(), gap.1), (ALICE, cursor));
    let reach = Time(world.now()).before(hours(72)).since(gap.2);
    assert!((0..10_000).contains(&reach), "{reach} ms");
    let mut ids = Vec::new();
    loop {
        match world.input().await {
            inbound @ Inbound::Listed(..) => ids.push(listed(inbound).0),
            Inbound::CaughtUp(..) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(ids.contains(&"young".to_owned()) && !ids.contains(&"old".to_owned()), "{ids:?}");
}
