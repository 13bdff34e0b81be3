//! What the service bot tells a person in a conversation of the two (rule 21).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use router::entitlement::Client;
use router::envelope::{Body, Link};
use router::ids::{ActivityId, ConversationId, PersonId, Ticket, Time};
use router::inbound::{Cause, Inbound, Outcome};
use router::outbound::MaybeSent;
use router::outbox::{Entry, EntryKind, Lane};
use router::tag::Tagger;
use serde_json::{Value, json};

use super::delivering::entry;
use super::world::{ALICE, BASE, BOB, BOT, Peer, START, World, conversation};
use crate::port::{Delivery, Order};
use crate::webex::WebexKept;

/// A cloud in which alice wrote to bob in one conversation, and the bot has one with her once it is made.
#[derive(Clone, Default)]
struct Sky {
    made: Arc<Mutex<Vec<Value>>>,
    posts: Arc<Mutex<Vec<Value>>>,
    listed: Arc<Mutex<Vec<Value>>>,
    /// Nobody may read alice's conversation any more.
    closed: bool,
}

impl Sky {
    async fn world(&self) -> (World, [Peer; 2]) {
        let sky = self.clone();
        let kept = WebexKept { run: 1, ..WebexKept::default() };
        let mut world = World::with_bot(kept, move |method, address, body| sky.answer(method, address, body));
        // Alice's and the bot's, in whatever order.
        let sockets = [world.socket().await, world.socket().await];
        tokio::time::sleep(Duration::from_millis(10)).await;
        (world, sockets)
    }

    fn answer(&self, method: &str, address: &str, body: &Value) -> Option<(u16, Value)> {
        match (method, address) {
            ("GET", "/people/me") => Some((200, json!({"id": BOT}))),
            ("GET", address) if address.contains(&format!("/conversations/user/{ALICE}")) => {
                let made = !self.made.lock().unwrap().is_empty();
                Some(if made { (200, conversation("bots", BASE)) } else { (404, json!({})) })
            }
            ("POST", address) if address.ends_with("/conversations") => {
                self.made.lock().unwrap().push(body.clone());
                Some((201, conversation("another", BASE)))
            }
            ("GET", address) if address.contains("/conversations/c1?") => {
                let mut found = conversation("c1", BASE);
                found["participants"] = json!({"items": [{"id": ALICE}, {"id": BOB}]});
                Some(if self.closed { (403, json!({})) } else { (200, found) })
            }
            ("GET", address) if address.contains("/conversations/bots/activities") => {
                Some((200, json!({"items": *self.listed.lock().unwrap()})))
            }
            ("POST", address) if address.contains("/activities") => {
                self.posts.lock().unwrap().push(body.clone());
                Some((200, json!({"id": "posted", "verb": "post"})))
            }
            _ => None,
        }
    }

    fn texts(&self) -> Vec<String> {
        let posts = self.posts.lock().unwrap();
        let text = |post: &Value| post["object"]["displayName"].as_str().unwrap().to_owned();
        posts.iter().map(text).collect()
    }
}

fn told(kind: EntryKind) -> Entry {
    Entry {
        iv: None,
        lane: Lane::Told(PersonId::new(ALICE), Client::Webex),
        recipient: None,
        carrier: PersonId::new(ALICE),
        conversation: Some(ConversationId::new(format!("{BASE}/conversations/c1"))),
        body: Body::None,
        ..entry(kind)
    }
}

fn order(entry: Entry, maybe_sent: MaybeSent) -> Order {
    Order::Deliver(Box::new(Delivery { ticket: Ticket(5), entry, target: Vec::new(), maybe_sent }))
}

async fn outcome(world: &mut World) -> Outcome {
    loop {
        match world.answer().await {
            Inbound::Receipt(Ticket(5), outcome) => return outcome,
            Inbound::Behind(..) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn delivered(id: &str) -> Outcome {
    let conversation = ConversationId::new(format!("{BASE}/conversations/bots"));
    Outcome::Delivered(Link::Activity(ActivityId::new(id), conversation))
}

#[tokio::test(start_paused = true)]
async fn the_bot_says_it_in_its_own_conversation_with_that_person() {
    let sky = Sky::default();
    let (mut world, _sockets) = sky.world().await;
    let half = Entry { sender: PersonId::new(BOB), ..told(EntryKind::HalfNotice) };
    let gap = Entry { stamp: Some(Time(START + 3_600_000)), ..told(EntryKind::GapNotice) };
    for (entry, text) in [
        (
            told(EntryKind::Undelivered),
            "Your message to bob of 2024-05-01 10:00 UTC could not be delivered in Jabber.",
        ),
        (
            told(EntryKind::Late),
            "Your message to bob of 2024-05-01 10:00 UTC has not been delivered in Jabber yet. It is still being tried.",
        ),
        (
            told(EntryKind::SpaceNotice),
            "You are in a space in Webex where people write to you. Spaces of several people are not shown in Jabber.",
        ),
        (half, "bob writes to you in Webex. This is not shown in Jabber, since bob is not enabled for it."),
        (
            gap,
            "What was written to you in Webex from 2024-05-01 10:00 UTC to 2024-05-01 11:00 UTC is not shown in Jabber.",
        ),
    ] {
        world.orders.send(order(entry, MaybeSent::No)).unwrap();
        assert_eq!(outcome(&mut world).await, delivered("posted"), "{text}");
        assert_eq!(sky.texts().last().unwrap(), &format!("{text} sealed with kms://k/keys/1"));
    }
    let posts = sky.posts.lock().unwrap();
    assert!(posts.iter().all(|post| post["actor"]["id"] == BOT && post["target"]["id"] == "bots"));
    assert_eq!(posts[0]["clientTempId"], entry(EntryKind::Text).derived.as_str());
    assert_eq!(sky.made.lock().unwrap().len(), 1, "never into the space of the two who talk");
}

#[tokio::test(start_paused = true)]
async fn without_the_name_of_the_other_it_is_said_all_the_same() {
    let sky = Sky { closed: true, ..Sky::default() };
    let (mut world, _sockets) = sky.world().await;
    world.orders.send(order(told(EntryKind::Undelivered), MaybeSent::No)).unwrap();
    assert_eq!(outcome(&mut world).await, delivered("posted"));
    assert!(sky.texts()[0].starts_with("Your message of 2024-05-01 10:00 UTC could not be delivered"));
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_said_is_looked_for_before_it_is_said_again() {
    let sky = Sky::default();
    let (mut world, _sockets) = sky.world().await;
    world.orders.send(order(told(EntryKind::Undelivered), MaybeSent::No)).unwrap();
    outcome(&mut world).await;
    // The cloud shows what was posted without our id, so that it is known by the IV that follows from its text.
    let text = "Your message to bob of 2024-05-01 10:00 UTC could not be delivered in Jabber.";
    let iv = Tagger::new(b"key", &[]).iv(&told(EntryKind::Undelivered).derived, "displayName", text);
    let sealed = format!("eyJlbmMiOiJBMjU2R0NNIiwiYWxnIjoiZGlyIn0..{}.AA.AAAA", URL_SAFE_NO_PAD.encode(iv));
    sky.listed.lock().unwrap().push(json!({"id": "there", "verb": "post", "actor": {"id": BOT},
        "published": webex_api::Timestamp(START + 10).to_string(),
        "object": {"objectType": "comment", "displayName": sealed}}));
    let since = MaybeSent::Since(Time(START));
    world.orders.send(order(told(EntryKind::Undelivered), since)).unwrap();
    assert_eq!(outcome(&mut world).await, delivered("there"));
    assert_eq!(sky.texts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bot_without_a_socket_is_waited_for() {
    let sky = Sky::default();
    let script = sky.clone();
    let kept = WebexKept { run: 1, ..WebexKept::default() };
    let mut world = World::with_bot(kept, move |method, address, body| script.answer(method, address, body));
    world.orders.send(order(told(EntryKind::SpaceNotice), MaybeSent::No)).unwrap();
    let cause = Cause::Host("the service bot".into());
    assert_eq!(outcome(&mut world).await, Outcome::Later { cause, after: None });
}
