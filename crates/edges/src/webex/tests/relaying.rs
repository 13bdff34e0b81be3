//! Texts of people for whom there is no token (rule 15).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use router::envelope::Link;
use router::ids::{JabberId, PersonId, Ticket, Time};
use router::inbound::{Cause, Inbound, Outcome};
use router::outbound::MaybeSent;
use router::outbox::{EntryKind, Lane};
use serde_json::{Value, json};

use super::delivering::entry;
use super::world::{ALICE, BASE, BOB, BOT, START, World, conversation};
use crate::port::{Delivery, Order};
use crate::webex::WebexKept;

/// A cloud with one locked space, once it is made, and these members.
#[derive(Clone, Default)]
struct Space {
    members: Vec<&'static str>,
    /// How its making is answered; 0: not at all.
    making: Arc<Mutex<u16>>,
    /// Whether it is there and listed.
    listed: Arc<Mutex<bool>>,
    made: Arc<Mutex<Vec<Value>>>,
    posts: Arc<Mutex<Vec<Value>>>,
}

impl Space {
    fn of(members: &[&'static str]) -> Self {
        Self { members: members.to_vec(), making: Arc::new(Mutex::new(201)), ..Self::default() }
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
                Some((*self.making.lock().unwrap(), conversation("relay", BASE)))
            }
            ("GET", address) if address.contains("/conversations?") => {
                let mut found = conversation("relay", BASE);
                found["encryptionKeyUrl"] = "kms://k/keys/new".into();
                let mut other = conversation("other", BASE);
                other["encryptionKeyUrl"] = "kms://k/keys/old".into();
                let there = *self.listed.lock().unwrap();
                let items: Vec<Value> = [other, found].into_iter().take(1 + usize::from(there)).collect();
                Some((200, json!({"items": items, "additionalUrls": []})))
            }
            ("GET", address) if address.contains("/conversations/relay?") => {
                let mut found = conversation("relay", BASE);
                let members: Vec<Value> = self.members.iter().map(|id| json!({"id": id})).collect();
                found["participants"] = json!({"items": members});
                Some((200, found))
            }
            ("GET", address) if address.contains("/activities") => Some((200, json!({"items": []}))),
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
    tokio::time::sleep(Duration::from_millis(10)).await;
    world.orders.send(order()).unwrap();
    keeps(&mut world).await;
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

/// What is to be kept of the space next; it is on disk from then on.
async fn keeps(world: &mut World) -> Box<[u8]> {
    let Inbound::Keep { value: Some(value), ask, .. } = world.answer().await else { panic!("to be kept") };
    world.orders.send(Order::Kept(ask)).unwrap();
    value
}

/// A world in which the bot has a socket.
async fn with_socket(space: &Space, kept: WebexKept) -> (World, super::world::Peer) {
    let mut world = space.world(kept);
    let peer = world.socket().await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    (world, peer)
}

#[tokio::test(start_paused = true)]
async fn a_space_whose_making_was_not_answered_is_looked_for_before_another_is_made() {
    for (is_there, restarted) in [(true, false), (true, true), (false, false), (false, true)] {
        let space = Space::of(&[BOT, BOB]);
        *space.making.lock().unwrap() = 0;
        let (mut world, mut peer) = with_socket(&space, WebexKept { run: 1, ..WebexKept::default() }).await;
        world.orders.send(order()).unwrap();
        let asked_for = keeps(&mut world).await;
        let Inbound::Receipt(_, Outcome::Later { .. }) = world.answer().await else { panic!("no answer") };
        assert_eq!(space.made.lock().unwrap().len(), 1);
        *space.making.lock().unwrap() = 201;
        if restarted {
            let values = vec![(format!("webex/relay/{ALICE}/{BOB}").into(), asked_for)];
            (world, peer) = with_socket(&space, WebexKept { run: 2, values, ..WebexKept::default() }).await;
        }
        // A listing may be late: that it is not there counts only after the settle time.
        world.orders.send(order()).unwrap();
        let Inbound::Receipt(_, Outcome::Later { .. }) = world.answer().await else { panic!("not settled") };
        peer.waits(Duration::from_secs(30)).await;
        *space.listed.lock().unwrap() = is_there;
        world.orders.send(order()).unwrap();
        keeps(&mut world).await;
        if !is_there {
            keeps(&mut world).await;
        }
        let mut told = world.answer().await;
        if let Inbound::Attempt(ticket, None) = told {
            // The text is of an earlier run.
            world.orders.send(Order::Write(ticket)).unwrap();
            told = world.answer().await;
        }
        assert!(
            matches!(told, Inbound::Receipt(_, Outcome::Delivered(_))),
            "{is_there} {restarted}: {told:?}"
        );
        assert_eq!(space.made.lock().unwrap().len(), if is_there { 1 } else { 2 }, "restarted: {restarted}");
        assert_eq!(space.posts.lock().unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_space_whose_making_was_refused_is_asked_for_anew_at_once() {
    let space = Space::of(&[BOT, BOB]);
    *space.making.lock().unwrap() = 429;
    let (mut world, mut peer) = with_socket(&space, WebexKept { run: 1, ..WebexKept::default() }).await;
    world.orders.send(order()).unwrap();
    keeps(&mut world).await;
    let Inbound::Receipt(_, Outcome::Later { .. }) = world.answer().await else { panic!("refused") };
    *space.making.lock().unwrap() = 201;
    peer.waits(Duration::from_secs(6)).await;
    world.orders.send(order()).unwrap();
    keeps(&mut world).await;
    keeps(&mut world).await;
    assert!(matches!(world.answer().await, Inbound::Receipt(_, Outcome::Delivered(_))));
    assert_eq!(space.made.lock().unwrap().len(), 2);
}

/// A cloud in which alice and bob have a conversation, and a text of hers went to the relay space, or to that one.
fn settles(relayed: bool) -> impl FnMut(&str, &str, &Value) -> Option<(u16, Value)> + Send + 'static {
    move |method, address, _| match (method, address) {
        ("GET", "/people/me") => Some((200, json!({"id": BOT}))),
        ("GET", address) if address.contains("/conversations/user/") => Some((200, conversation("c1", BASE))),
        ("GET", address) if address.contains("/activities") => {
            let place = if relayed { "/conversations/relay/" } else { "/conversations/c1/" };
            let (author, there) = (if relayed { BOT } else { ALICE }, address.contains(place));
            let mut posted = super::world::post("posted", START);
            posted["clientTempId"] = super::delivering::DERIVED.into();
            posted["actor"]["id"] = author.into();
            let items: Vec<Value> = there.then_some(posted).into_iter().collect();
            Some((200, json!({"items": items})))
        }
        ("POST", address) if address.contains("/activities") => panic!("it is there already"),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_relayed_is_asked_for_where_it_went_before_it_is_sent_to_the_conversation_of_the_two()
 {
    // Alice has had no token; now she has one. Or she has had one, and now there is none.
    for relayed in [true, false] {
        let mut world = World::with_bot(known(), settles(relayed));
        let mut peers = vec![world.socket().await, world.socket().await];
        tokio::time::sleep(Duration::from_millis(10)).await;
        let maybe_sent = MaybeSent::Since(Time(START));
        let delivery =
            Delivery { ticket: Ticket(5), entry: entry(EntryKind::Text), target: Vec::new(), maybe_sent };
        world.orders.send(Order::Deliver(Box::new(delivery))).unwrap();
        let outcome = loop {
            match world.answer().await {
                Inbound::Receipt(_, outcome) => break outcome,
                Inbound::Behind(..) => {}
                other => panic!("{other:?}"),
            }
        };
        let Outcome::Delivered(Link::Activity(activity, place)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(activity.as_str(), "posted");
        assert!(place.as_str().ends_with(if relayed { "/relay" } else { "/c1" }), "{place}");
        peers.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_space_is_used_while_its_members_are_the_two() {
    for (members, posts) in [(&[BOT, BOB][..], 1), (&[BOT, BOB, "somebody"], 0), (&[BOT], 0)] {
        let space = Space::of(members);
        let mut world = space.world(known());
        let _peer = world.socket().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        world.orders.send(order()).unwrap();
        let Inbound::Receipt(_, outcome) = world.answer().await else { panic!("a receipt") };
        assert_eq!(matches!(outcome, Outcome::Delivered(_)), posts == 1, "{members:?}: {outcome:?}");
        assert_eq!(matches!(outcome, Outcome::Wedged(_)), posts == 0, "{members:?}: {outcome:?}");
        assert_eq!(space.posts.lock().unwrap().len(), posts, "{members:?}");
        assert!(space.made.lock().unwrap().is_empty(), "a new one is made once a day at most");
    }
}

const DAY: i64 = 86_400_000;

/// A text of a federated contact's, who is called so.
fn from_outside(name: &str) -> Order {
    let contact = PersonId::federated(&JabberId::new(format!("{name}@partner.example")));
    let mut entry = entry(EntryKind::Text);
    entry.lane = Lane::to_webex(&contact, &PersonId::new(BOB));
    (entry.sender, entry.carrier) = (contact.clone(), contact);
    Order::Deliver(Box::new(Delivery {
        ticket: Ticket(5),
        entry,
        target: Vec::new(),
        maybe_sent: MaybeSent::No,
    }))
}

/// What is kept of contacts' spaces, when each was made and last used, in days before now.
fn spaces(rows: &[(String, i64, Option<i64>)]) -> WebexKept {
    let value = |made: i64, used: Option<i64>| {
        let url = format!("{BASE}/conversations/relay");
        let mut space = json!({"url": url, "made": START - made * DAY});
        if let Some(used) = used {
            space["used"] = (START - used * DAY).into();
        }
        space.to_string().into_bytes().into()
    };
    let key = |name: &str| format!("webex/relay/xmpp:{name}@partner.example/{BOB}").into();
    let values = rows.iter().map(|(name, made, used)| (key(name), value(*made, *used))).collect();
    WebexKept { run: 1, values, ..WebexKept::default() }
}

/// How the next delivery ends, whatever is to be kept meanwhile.
async fn outcome(world: &mut World) -> Outcome {
    loop {
        match world.answer().await {
            Inbound::Keep { ask, .. } => world.orders.send(Order::Kept(ask)).unwrap(),
            Inbound::Receipt(_, outcome) => return outcome,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_federated_contact_has_a_space_of_the_bots_named_by_the_address() {
    let space = Space::of(&[BOT, BOB]);
    let (mut world, _peer) = with_socket(&space, WebexKept { run: 1, ..WebexKept::default() }).await;
    for _ in 0..2 {
        world.orders.send(from_outside("pat")).unwrap();
        assert!(matches!(outcome(&mut world).await, Outcome::Delivered(_)));
    }
    let made = space.made.lock().unwrap().clone();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0]["displayName"], "pat@partner.example sealed with kms://k/keys/new");
    assert_eq!(space.posts.lock().unwrap().len(), 2);
    // What may have been posted is asked for there, and nowhere else: nobody in Webex is this contact.
    let Order::Deliver(mut again) = from_outside("pat") else { unreachable!() };
    again.maybe_sent = MaybeSent::Since(Time(START));
    world.orders.send(Order::Deliver(again)).unwrap();
    assert!(matches!(outcome(&mut world).await, Outcome::Unsettled));
    assert!(world.asked("/conversations/user/").is_empty());
    let listings = world.asked("/conversations/relay/activities");
    assert_eq!(listings.iter().filter(|line| line.starts_with("GET ")).count(), 1, "{listings:?}");
}

#[tokio::test(start_paused = true)]
async fn so_many_federated_contacts_get_a_space_within_a_day_and_the_forgotten_make_room() {
    let space = Space::of(&[BOT, BOB]);
    let many = |days, count| (0..count).map(move |n| (format!("{days}-{n}"), days, None));
    // Nineteen of today: there is room for one more, and whoever has a space keeps it.
    let rows: Vec<_> = many(0, 19).chain(many(2, 30)).chain([("regular".to_owned(), 400, Some(1))]).collect();
    let (mut world, _peer) = with_socket(&space, spaces(&rows)).await;
    for (name, arrives) in
        [("new", true), ("another", false), ("2-7", true), ("new", true), ("regular", true)]
    {
        world.orders.send(from_outside(name)).unwrap();
        let outcome = outcome(&mut world).await;
        assert_eq!(matches!(outcome, Outcome::Delivered(_)), arrives, "{name}: {outcome:?}");
        assert_eq!(matches!(outcome, Outcome::Wedged(_)), !arrives, "{name}: {outcome:?}");
    }
    assert_eq!(space.made.lock().unwrap().len(), 1);

    // Of those who wrote nothing for ninety days nothing is kept once somebody new comes.
    let space = Space::of(&[BOT, BOB]);
    let rows = [
        ("unused".to_owned(), 91, None),
        ("silent".to_owned(), 400, Some(91)),
        ("other".to_owned(), 400, Some(89)),
    ];
    let (mut world, _peer) = with_socket(&space, spaces(&rows)).await;
    for (name, made) in [("new", 1), ("other", 1), ("unused", 2), ("silent", 3)] {
        world.orders.send(from_outside(name)).unwrap();
        assert!(matches!(outcome(&mut world).await, Outcome::Delivered(_)), "{name}");
        assert_eq!(space.made.lock().unwrap().len(), made, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn that_a_contact_still_writes_is_kept_once_a_day() {
    let space = Space::of(&[BOT, BOB]);
    let rows = [("pat".to_owned(), 50, Some(2))];
    let (mut world, _peer) = with_socket(&space, spaces(&rows)).await;
    world.orders.send(from_outside("pat")).unwrap();
    let value: Value = serde_json::from_slice(&keeps(&mut world).await).unwrap();
    assert_eq!(value["made"], START - 50 * DAY);
    assert!(value["used"].as_i64().is_some_and(|used| used >= START), "{value}");
    assert!(value["url"].as_str().is_some_and(|url| url.ends_with("/relay")), "{value}");
    assert!(matches!(world.answer().await, Inbound::Receipt(_, Outcome::Delivered(_))));
    world.orders.send(from_outside("pat")).unwrap();
    assert!(
        matches!(world.answer().await, Inbound::Receipt(_, Outcome::Delivered(_))),
        "nothing more is kept"
    );
}
