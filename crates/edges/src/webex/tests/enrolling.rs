//! Refresh tokens of people who enrolled: kept before they are used, and what becomes of one that dies.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use router::ids::PersonId;
use router::inbound::{Cause, Inbound};
use serde_json::{Value, json};
use tokio::time::timeout;
use webex_api::conversation::List;

use super::world::{ALICE, BOB, World};
use crate::port::Order;
use crate::webex::WebexKept;

const LIST: List = List::First { cluster: None, since: None };
const KEY: &str = "webex/enrolment/11111111-1111-4111-8111-111111111111";

/// A token endpoint that gives each refresh token once: it dies with the use of what replaced it.
#[derive(Clone, Default)]
struct Endpoint {
    /// What is asked with, in order.
    asked: Arc<Mutex<Vec<String>>>,
    /// Nothing else is accepted; what is asked with is replaced by the next number.
    alive: Arc<Mutex<Vec<String>>>,
    /// How it answers instead.
    instead: Arc<Mutex<Option<u16>>>,
}

impl Endpoint {
    fn accepting(tokens: &[&str]) -> Self {
        let alive = tokens.iter().map(|token| (*token).to_owned()).collect();
        Self { alive: Arc::new(Mutex::new(alive)), ..Self::default() }
    }

    fn world(&self, listed: &[(&str, &str)], kept: WebexKept) -> World {
        let endpoint = self.clone();
        World::of_enrolled(listed, kept, move |_, address, body| endpoint.answer(address, body))
    }

    fn answer(&self, address: &str, body: &Value) -> Option<(u16, Value)> {
        if address.contains("/conversations") {
            return Some((200, json!({"items": []})));
        }
        if !address.contains("access_token") {
            return None;
        }
        let token = body.as_str()?.split("refresh_token=").last()?.to_owned();
        self.asked.lock().unwrap().push(token.clone());
        if let Some(status) = *self.instead.lock().unwrap() {
            return Some((status, json!({"error": "invalid_grant"})));
        }
        let mut alive = self.alive.lock().unwrap();
        if !alive.contains(&token) {
            return Some((400, json!({"error": "invalid_grant"})));
        }
        let (name, number) = token.rsplit_once('-')?;
        let next = format!("{name}-{}", number.parse::<u32>().ok()? + 1);
        alive.push(next.clone());
        Some((
            200,
            json!({"access_token": format!("access-{next}"), "expires_in": 86_400, "refresh_token": next}),
        ))
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn alice() -> PersonId {
    PersonId::new(ALICE)
}

/// The value that is to be kept next, and the number to say so under.
async fn asks_to_keep(world: &mut World) -> (Box<str>, Box<[u8]>, u64) {
    loop {
        if let Inbound::Keep { key, value: Some(value), ask } = world.answer().await {
            return (key, value, ask);
        }
    }
}

/// The same; it is on disk from then on.
async fn kept(world: &mut World) -> (Box<str>, Box<[u8]>) {
    let (key, value, ask) = asks_to_keep(world).await;
    world.orders.send(Order::Kept(ask)).unwrap();
    (key, value)
}

#[tokio::test(start_paused = true)]
async fn a_new_refresh_token_is_on_disk_before_anything_is_done_with_it() {
    let endpoint = Endpoint::accepting(&["alice-1"]);
    let mut world = endpoint.world(&[(ALICE, "alice-1")], WebexKept::default());
    // The line of alice asks for a token; nothing is sent with it until the successor of hers is on disk.
    let (key, value, ask) = asks_to_keep(&mut world).await;
    assert_eq!(*key, *KEY);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.asked("devices").is_empty(), "{:?}", world.asked(""));
    world.orders.send(Order::Kept(ask)).unwrap();
    let _peer = world.socket().await;
    assert_eq!(endpoint.asked(), ["alice-1"]);

    // The next run goes on with the successor, whatever the list says.
    let kept = WebexKept { run: 1, values: vec![(key, value)], ..WebexKept::default() };
    let endpoint = Endpoint::accepting(&["alice-2"]);
    let mut world = endpoint.world(&[(ALICE, "alice-1")], kept.clone());
    self::kept(&mut world).await;
    let _peer = world.socket().await;
    assert_eq!(endpoint.asked(), ["alice-2"]);

    // Another one in the list is a new enrolment.
    let endpoint = Endpoint::accepting(&["other-1"]);
    let mut world = endpoint.world(&[(ALICE, "other-1")], kept);
    self::kept(&mut world).await;
    let _peer = world.socket().await;
    assert_eq!(endpoint.asked(), ["other-1"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_also_if_nobody_waits_for_it_any_more() {
    let endpoint = Endpoint::accepting(&["bob-1"]);
    let mut world = endpoint.world(&[(BOB, "bob-1")], WebexKept::default());
    let (cloud, bob) = (world.cloud.clone(), PersonId::new(BOB));
    // Given up before the store has said its word.
    assert!(timeout(Duration::from_secs(5), cloud.send_as(&bob, LIST)).await.is_err());
    kept(&mut world).await;
    assert!(cloud.send_as(&bob, LIST).await.is_ok());
    assert_eq!(endpoint.asked(), ["bob-1"], "the answer was there already");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_dies_is_reported_and_disturbs_nobody_else() {
    let endpoint = Endpoint::accepting(&["bob-1"]);
    let mut world = endpoint.world(&[(ALICE, "alice-dead"), (BOB, "bob-1")], WebexKept::default());
    let cloud = world.cloud.clone();
    let error = cloud.send_as(&alice(), LIST).await.unwrap_err();
    assert_eq!(error.cause(), (Cause::Token(alice()), None));
    let refused = cloud.refused_tokens();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].person, ALICE);
    assert!(refused[0].reason.contains("invalid_grant"), "{}", refused[0].reason);
    let bob = PersonId::new(BOB);
    let (sent, _) = tokio::join!(cloud.send_as(&bob, LIST), kept(&mut world));
    sent.unwrap();
    // The endpoint is not asked with each question: alice's line asks all the time.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let dead = endpoint.asked().iter().filter(|token| *token == "alice-dead").count();
    assert!((4..=20).contains(&dead), "asked {dead} times in an hour");

    // She enrols again: her line goes on, and nothing is reported any more.
    endpoint.alive.lock().unwrap().push("alice-1".to_owned());
    let enrolling = world.enrolling.clone();
    let token = Some("alice-1".to_owned().into());
    let brought = tokio::spawn(async move { enrolling.bring(&alice(), "alice@corp.example", token).await });
    let (key, _) = kept(&mut world).await;
    assert_eq!(*key, *KEY);
    assert!(brought.await.unwrap());
    kept(&mut world).await;
    let _peer = world.socket().await;
    assert_eq!(cloud.refused_tokens(), []);
}

#[tokio::test(start_paused = true)]
async fn a_token_at_hand_is_used_to_its_end_while_no_other_is_to_be_had() {
    for status in [400, 503] {
        let endpoint = Endpoint::accepting(&["bob-1"]);
        let mut world = endpoint.world(&[(BOB, "bob-1")], WebexKept::default());
        let (cloud, bob) = (world.cloud.clone(), PersonId::new(BOB));
        let (sent, _) = tokio::join!(cloud.send_as(&bob, LIST), kept(&mut world));
        sent.unwrap();
        *endpoint.instead.lock().unwrap() = Some(status);
        tokio::time::sleep(Duration::from_secs(86_400 * 95 / 100)).await;
        let asked = endpoint.asked().len();
        assert!(asked > 1, "it was asked for another, though nobody did anything");
        assert!(cloud.send_as(&bob, LIST).await.is_ok(), "{status}");
        assert_eq!(cloud.refused_tokens().len(), usize::from(status == 400));
        tokio::time::sleep(Duration::from_secs(86_400 * 6 / 100)).await;
        assert!(cloud.send_as(&bob, LIST).await.is_err(), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_an_enrolment_back_leaves_no_device_behind() {
    let endpoint = Endpoint::accepting(&["alice-1"]);
    let mut world = endpoint.world(&[(ALICE, "alice-1")], WebexKept::default());
    kept(&mut world).await;
    let _peer = world.socket().await;
    let enrolling = world.enrolling.clone();
    let taken = tokio::spawn(async move { enrolling.bring(&alice(), "", None).await });
    // The refresh token is forgotten first, then the last access token deletes the device: nobody can register another.
    let (key, _) = kept(&mut world).await;
    assert_eq!(*key, *KEY);
    assert!(taken.await.unwrap());
    assert_eq!(world.asked("DELETE"), ["DELETE /wdm/devices/d1"]);
    assert!(world.cloud.device(&alice()).is_none());
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.asked("POST /wdm/devices").len(), 1);

    // Also if the connector has only just started, and knows of the device from its store alone.
    let device =
        json!({"url": "http://cloud.example/wdm/devices/d7", "webSocketUrl": "ws://mercury.example/d7"});
    let values = vec![(format!("webex/device/{BOB}").into(), device.to_string().into_bytes().into())];
    let endpoint = Endpoint::accepting(&["bob-1"]);
    let mut world = endpoint.world(&[(BOB, "bob-1")], WebexKept { run: 1, values, ..WebexKept::default() });
    let enrolling = world.enrolling.clone();
    let taken = tokio::spawn(async move { enrolling.bring(&PersonId::new(BOB), "", None).await });
    // What the last token came with, and that there is no enrolment any more.
    kept(&mut world).await;
    kept(&mut world).await;
    assert!(taken.await.unwrap());
    assert_eq!(world.asked("DELETE"), ["DELETE /wdm/devices/d7"]);
}

#[tokio::test(start_paused = true)]
async fn who_takes_an_enrolment_back_is_not_acted_for_and_the_list_does_not_bring_it_again() {
    let endpoint = Endpoint::accepting(&["bob-1"]);
    let mut world = endpoint.world(&[(BOB, "bob-1")], WebexKept::default());
    let bob = PersonId::new(BOB);
    assert!(world.cloud.covers(&bob));
    let enrolling = world.enrolling.clone();
    let taken = tokio::spawn(async move { enrolling.bring(&PersonId::new(BOB), "", None).await });
    let value = kept(&mut world).await;
    assert!(taken.await.unwrap());
    assert!(!world.cloud.covers(&bob));
    assert_eq!(crate::webex::enrolled([(&*value.0, &*value.1)]), []);

    let kept = WebexKept { run: 1, values: vec![value], ..WebexKept::default() };
    let world = endpoint.world(&[(BOB, "bob-1")], kept);
    assert!(!world.cloud.covers(&bob));
    assert_eq!(world.cloud.enrolled(), Some(Vec::new()));
}
