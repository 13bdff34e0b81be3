//! Texts of people for whom there is no token (rule 15).

use std::sync::{Arc, Mutex};

use router::ids::Ticket;
use router::inbound::{Cause, Inbound, Outcome};
use router::outbound::MaybeSent;
use router::outbox::EntryKind;
use serde_json::{Value, json};

use super::delivering::entry;
use super::world::{ALICE, BASE, BOB, BOT, START, World, conversation};
use crate::port::{Delivery, Order};
use crate::webex::WebexKept;

/// A cloud with one locked space, once it is made, and these members.
#[derive(Clone)]
struct Space {
    members: Vec<&'static str>,
    made: Arc<Mutex<Vec<Value>>>,
    posts: Arc<Mutex<Vec<Value>>>,
}

impl Space {
    fn of(members: &[&'static str]) -> Self {
        Self { members: members.to_vec(), made: Arc::default(), posts: Arc::default() }
    }

    fn world(&self, kept: WebexKept) -> World {
        let space = self.clone();
        World::of_a_bot(kept, move |method, address, body| space.answer(method, address, body))
    }

    fn answer(&self, method: &str, address: &str, body: &Value) -> Option<(u16, Value)> {
        match (method, address) {
            ("GET", "/people/me") => Some((200, json!({"id": BOT}))),
            ("POST", address) if address.ends_with("/conversations") => {
                self.made.lock().unwrap().push(body.clone());
                Some((201, conversation("relay", BASE)))
            }
            ("GET", address) if address.contains("/conversations/relay?") => {
                let mut found = conversation("relay", BASE);
                let members: Vec<Value> = self.members.iter().map(|id| json!({"id": id})).collect();
                found["participants"] = json!({"items": members});
                Some((200, found))
            }
            ("POST", address) if address.contains("/activities") => {
                self.posts.lock().unwrap().push(body.clone());
                Some((200, json!({"id": "posted", "verb": "post"})))
            }
            _ => None,
        }
    }
}

fn order() -> Order {
    let (entry, maybe_sent) = (entry(EntryKind::Text), MaybeSent::No);
    Order::Deliver(Box::new(Delivery { ticket: Ticket(5), entry, target: Vec::new(), maybe_sent }))
}

fn known() -> WebexKept {
    let value = json!({"url": format!("{BASE}/conversations/relay"), "made": START}).to_string();
    let key = format!("webex/relay/{ALICE}/{BOB}");
    WebexKept { run: 1, values: vec![(key.into(), value.into_bytes().into())], ..WebexKept::default() }
}

#[tokio::test(start_paused = true)]
async fn a_bot_posts_in_a_space_of_its_own_that_is_kept_before_anything_is_posted() {
    let space = Space::of(&[BOT, BOB]);
    let mut world = space.world(WebexKept { run: 1, ..WebexKept::default() });
    world.orders.send(order()).unwrap();
    let Inbound::Receipt(_, Outcome::Later { cause: Cause::Token(_), .. }) = world.answer().await else {
        panic!("the bot has no socket yet")
    };
    let _peer = world.socket().await;
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    world.orders.send(order()).unwrap();
    let Inbound::Keep { key, ask, .. } = world.answer().await else { panic!("the space is to be kept") };
    assert_eq!(*key, *format!("webex/relay/{ALICE}/{BOB}"));
    assert!(space.posts.lock().unwrap().is_empty());
    world.orders.send(Order::Kept(ask)).unwrap();
    assert!(matches!(world.answer().await, Inbound::Receipt(_, Outcome::Delivered(_))));
    let (made, posts) = (space.made.lock().unwrap().clone(), space.posts.lock().unwrap().clone());
    assert_eq!((made.len(), posts.len()), (1, 1));
    assert_eq!(made[0]["tags"], json!(["LOCKED"]));
    assert_eq!(made[0]["displayName"], "alice sealed with kms://k/keys/new", "titled with the sender's name");
    assert_eq!(posts[0]["actor"]["id"], BOT);
    world.orders.send(order()).unwrap();
    assert!(matches!(world.answer().await, Inbound::Receipt(_, Outcome::Delivered(_))));
    assert_eq!(space.made.lock().unwrap().len(), 1, "the second text goes to the same space");
}

#[tokio::test(start_paused = true)]
async fn a_kept_space_is_used_while_its_members_are_the_two() {
    for (members, posts) in [(&[BOT, BOB][..], 1), (&[BOT, BOB, "somebody"], 0), (&[BOT], 0)] {
        let space = Space::of(members);
        let mut world = space.world(known());
        let _peer = world.socket().await;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        world.orders.send(order()).unwrap();
        let Inbound::Receipt(_, outcome) = world.answer().await else { panic!("a receipt") };
        assert_eq!(matches!(outcome, Outcome::Delivered(_)), posts == 1, "{members:?}: {outcome:?}");
        assert_eq!(matches!(outcome, Outcome::Wedged(_)), posts == 0, "{members:?}: {outcome:?}");
        assert_eq!(space.posts.lock().unwrap().len(), posts, "{members:?}");
        assert!(space.made.lock().unwrap().is_empty(), "a new one is made once a day at most");
    }
}
