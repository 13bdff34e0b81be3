//! Presence: read every ten minutes, and followed in between (PR-05).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use presence_map::Status;
use router::ids::{PersonId, Time};
use router::inbound::Inbound;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::world::{ALICE, Peer, START, World};
use crate::webex::WebexKept;

/// A cloud that says alice is away for a while by now, and counts how often it is asked.
fn answer(address: &str, subscribes: bool) -> Option<(u16, Value)> {
    let presence = json!({"subject": ALICE, "status": "active",
        "lastActive": webex_api::Timestamp(START - 60_000).to_string()});
    if address.contains("/subscriptions") {
        let answer = json!({"responses": [{"subject": ALICE, "responseCode": 200, "status": presence}]});
        return Some(if subscribes { (200, answer) } else { (503, json!({})) });
    }
    address.contains("/compositions").then(|| (200, json!({"statusList": [presence]})))
}

/// When alice's presence was told within so long, in seconds from the first time.
async fn told(world: &mut World, wait: Duration) -> Vec<u64> {
    let (until, mut first, mut told) = (Instant::now() + wait, None, Vec::new());
    while let Ok(Some(inbound)) = tokio::time::timeout_at(until, world.intake.recv()).await {
        if let Inbound::Statuses(seen) = inbound {
            assert_eq!((&seen[0].person, seen[0].status), (&PersonId::new(ALICE), Status::ByActivity));
            assert_eq!(seen[0].last_active, Some(Time(START - 60_000)));
            told.push(first.get_or_insert_with(Instant::now).elapsed().as_secs());
        }
    }
    told
}

/// Keeps a socket alive.
fn keep(mut peer: Peer) {
    tokio::spawn(async move {
        loop {
            peer.waits(Duration::from_secs(60)).await;
        }
    });
}

#[tokio::test(start_paused = true)]
async fn everybody_is_read_every_ten_minutes() {
    for subscribe in [false, true] {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let kept = WebexKept { run: 1, ..WebexKept::default() };
        let mut world = World::watching(subscribe, kept, move |_, address, _| {
            let answer = answer(address, subscribe);
            if answer.is_some() {
                log.lock().unwrap().push(address.to_owned());
            }
            answer
        });
        keep(world.socket().await);
        let told = told(&mut world, Duration::from_secs(3 * 3600)).await;
        // Ten minutes, or sooner, so that those who came together part.
        let pauses: Vec<u64> = told.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.len() >= 17, "{told:?}");
        assert!(pauses.iter().all(|pause| (300..=602).contains(pause)), "{pauses:?}");
        let asked = asked.lock().unwrap();
        let subscribed = asked.iter().filter(|address| address.contains("/subscriptions")).count();
        assert_eq!(
            subscribed,
            if subscribe { asked.len() } else { 0 },
            "a subscription tells what a poll would"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_at_once_where_it_is_followed() {
    let kept = WebexKept { run: 1, ..WebexKept::default() };
    let mut world = World::watching(true, kept, |_, address, _| answer(address, true));
    let mut peer = world.socket().await;
    assert_eq!(told(&mut world, Duration::from_secs(10)).await, [0]);
    peer.says(json!({"eventType": "apheleia.subscription_update", "subject": ALICE, "status": "dnd"})).await;
    let seen = loop {
        if let Inbound::Statuses(seen) = world.intake.recv().await.unwrap() {
            break seen;
        }
    };
    assert_eq!((seen.len(), seen[0].status), (1, Status::DoNotDisturb));
}

#[tokio::test(start_paused = true)]
async fn activity_on_our_own_device_is_told_as_such() {
    const OURS: &str = "http://cloud.example/wdm/devices/d1";
    const THEIRS: &str = "http://cloud.example/wdm/devices/d2";
    for (device, by_ours) in [(Some(OURS), true), (Some(THEIRS), false), (None, false)] {
        let presence = json!({"subject": ALICE, "status": "active", "lastSeenDeviceUrl": device});
        let polled = presence.clone();
        let kept = WebexKept { run: 1, ..WebexKept::default() };
        let mut world = World::watching(false, kept, move |_, address, _| {
            address.contains("/compositions").then(|| (200, json!({"statusList": [polled]})))
        });
        let mut peer = world.socket().await;
        for told_by in ["the poll", "the socket"] {
            if told_by == "the socket" {
                let mut event = presence.clone();
                event["eventType"] = "apheleia.subscription_update".into();
                peer.says(event).await;
            }
            let seen = loop {
                let next = tokio::time::timeout(Duration::from_secs(60), world.intake.recv());
                if let Inbound::Statuses(seen) = next.await.unwrap().unwrap() {
                    break seen;
                }
            };
            assert_eq!((seen.len(), seen[0].by_our_device), (1, by_ours), "{device:?} by {told_by}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_cannot_be_subscribed_to_is_polled() {
    let kept = WebexKept { run: 1, ..WebexKept::default() };
    let mut world = World::watching(true, kept, |_, address, _| answer(address, false));
    keep(world.socket().await);
    assert!(told(&mut world, Duration::from_secs(3600)).await.len() >= 5);
}
