//! Deliveries to Webex: found or made, sealed, posted once (rules 10, 15 and 20).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use router::envelope::{Body, Link};
use router::ids::{ActivityId, ConversationId, DerivedId, EntryId, PersonId, SourceId, Ticket, Time};
use router::inbound::{Inbound, Outcome};
use router::outbound::MaybeSent;
use router::outbox::{Entry, EntryKind, EntryState, EntrySummary, Lane};
use serde_json::{Value, json};

use super::world::{ALICE, BASE, BOB, KNOWN, START, World, conversation};
use crate::port::{Delivery, Order};
use crate::webex::WebexKept;

pub(super) const DERIVED: &str = "d0000000-0000-8000-8000-000000000000";
const IV: [u8; 12] = [7; 12];
const URL: &str = "http://cloud.example/conversation/api/v1/conversations/c1";

pub(super) fn entry(kind: EntryKind) -> Entry {
    let (alice, bob) = (PersonId::new(ALICE), PersonId::new(BOB));
    Entry {
        id: EntryId(1),
        source: SourceId::new("source"),
        occurrence: 0,
        part: 0,
        derived: DerivedId::new(DERIVED),
        iv: Some(IV),
        lane: Lane::to_webex(&alice, &bob),
        kind,
        sender: alice.clone(),
        recipient: Some(bob),
        carrier: alice,
        conversation: None,
        stanza: None,
        from: None,
        time: Time(START),
        stamp: None,
        target: None,
        committed: Time(START),
        state: EntryState::Waiting(0),
        run: 1,
        attempt: None,
        reported: false,
        body: Body::Clear("hello".into()),
    }
}

/// A cloud with one conversation, or none yet, that answers posts as it is told.
#[derive(Clone, Default)]
struct Room {
    exists: Arc<Mutex<bool>>,
    listed: Vec<Value>,
    posts: Arc<Mutex<Vec<Value>>>,
    statuses: Arc<Mutex<Vec<(u16, Value)>>>,
}

impl Room {
    fn with(listed: Vec<Value>, statuses: &[(u16, Value)]) -> Self {
        let statuses = Arc::new(Mutex::new(statuses.to_vec()));
        Self { exists: Arc::new(Mutex::new(true)), listed, statuses, ..Self::default() }
    }

    fn answer(&self, method: &str, address: &str, body: &Value) -> Option<(u16, Value)> {
        if address.contains("/conversations/user/") {
            let exists = *self.exists.lock().unwrap();
            let rotated = self.posts.lock().unwrap().len();
            let mut found = conversation("c1", BASE);
            found["defaultActivityEncryptionKeyUrl"] = format!("kms://k/keys/{rotated}").into();
            return Some(if exists { (200, found) } else { (404, json!({})) });
        }
        if method == "GET" && address.contains("/activities") {
            return Some((200, json!({"items": self.listed})));
        }
        if method == "POST" && address.ends_with("/conversations") {
            *self.exists.lock().unwrap() = true;
            return Some((201, conversation("another", BASE)));
        }
        if method == "POST" && address.contains("/activities") {
            self.posts.lock().unwrap().push(body.clone());
            let mut statuses = self.statuses.lock().unwrap();
            if !statuses.is_empty() {
                return Some(statuses.remove(0));
            }
            return Some((200, json!({"id": "posted", "verb": "post"})));
        }
        None
    }

    /// Delivers one entry and gives what came of it, and what was posted.
    async fn deliver(&self, entry: Entry, maybe_sent: MaybeSent, after: Duration) -> (Outcome, Vec<Value>) {
        self.deliver_often(entry, maybe_sent, after, 1).await
    }

    /// Delivers one entry, and again so often, and gives what came of it in the end.
    async fn deliver_often(
        &self,
        entry: Entry,
        maybe_sent: MaybeSent,
        after: Duration,
        mut times: usize,
    ) -> (Outcome, Vec<Value>) {
        let room = self.clone();
        let kept = WebexKept { run: 1, ..WebexKept::default() };
        let mut world = World::new(64, kept, move |method, address, body| room.answer(method, address, body));
        assert!(matches!(world.answer().await, Inbound::Behind(..)));
        tokio::time::sleep(after).await;
        let target = vec![EntrySummary {
            id: EntryId(9),
            kind: EntryKind::Text,
            state: EntryState::Done(None),
            lane: Lane::ToJabber(ConversationId::new(URL)),
            time: Time(START),
            source: SourceId::new("read-activity"),
            sender: PersonId::new(BOB),
            conversation: None,
            stanza: None,
            derived: DerivedId::new("x"),
        }];
        let again = entry.run != 1;
        let order = || {
            let (entry, target) = (entry.clone(), target.clone());
            Order::Deliver(Box::new(Delivery { ticket: Ticket(5), entry, target, maybe_sent }))
        };
        world.orders.send(order()).unwrap();
        loop {
            match world.answer().await {
                Inbound::Attempt(ticket, None) if again => {
                    assert_eq!(self.posts.lock().unwrap().len(), 0, "nothing before the word");
                    world.orders.send(Order::Write(ticket)).unwrap();
                }
                Inbound::Receipt(Ticket(5), Outcome::Later { .. }) if times > 1 => {
                    times -= 1;
                    world.orders.send(order()).unwrap();
                }
                Inbound::Receipt(Ticket(5), outcome) => {
                    return (outcome, self.posts.lock().unwrap().clone());
                }
                Inbound::Behind(..) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn delivered(id: &str) -> Outcome {
    Outcome::Delivered(Link::Activity(ActivityId::new(id), ConversationId::new(URL)))
}

fn listed(id: &str, more: Value) -> Value {
    let mut activity = json!({"id": id, "verb": "post", "actor": {"id": ALICE},
        "published": webex_api::Timestamp(START + 10).to_string(),
        "object": {"objectType": "comment", "displayName": "x"}});
    for (key, value) in more.as_object().unwrap() {
        activity[key] = value.clone();
    }
    activity
}

fn sealed(iv: [u8; 12]) -> String {
    format!("eyJlbmMiOiJBMjU2R0NNIiwiYWxnIjoiZGlyIn0..{}.AA.AAAA", URL_SAFE_NO_PAD.encode(iv))
}

#[tokio::test(start_paused = true)]
async fn a_text_is_sealed_and_posted_under_its_own_id() {
    let room = Room::with(Vec::new(), &[]);
    let (outcome, posts) = room.deliver(entry(EntryKind::Text), MaybeSent::No, Duration::ZERO).await;
    assert_eq!(outcome, delivered("posted"));
    let [post] = &posts[..] else { panic!("one post: {posts:?}") };
    assert_eq!(post["clientTempId"], DERIVED);
    assert_eq!(post["object"]["displayName"], "hello sealed with kms://k/keys/0");
    assert_eq!(post["encryptionKeyUrl"], "kms://k/keys/0");
    assert_eq!(post["actor"]["id"], ALICE);
}

#[tokio::test(start_paused = true)]
async fn no_character_of_a_text_is_taken_for_markup() {
    let text = "2 < 3 && *really* **bold** <b>not</b> [a](http://b) `c`\n# no title\n1. no list";
    let room = Room::with(Vec::new(), &[]);
    let plain = Entry { body: Body::Clear(text.into()), ..entry(EntryKind::Text) };
    let (outcome, posts) = room.deliver(plain, MaybeSent::No, Duration::ZERO).await;
    assert_eq!(outcome, delivered("posted"));
    let object = posts[0]["object"].as_object().unwrap();
    assert_eq!(object["displayName"], format!("{text} sealed with kms://k/keys/0"));
    // A form with markup is what a client would show in its place.
    assert_eq!(object.keys().collect::<Vec<_>>(), ["displayName", "objectType"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_never_carried_is_not_marked() {
    let room = Room::with(Vec::new(), &[]);
    let kept = WebexKept { run: 1, ..WebexKept::default() };
    let script = room.clone();
    let mut world = World::new(64, kept, move |method, address, body| script.answer(method, address, body));
    let (entry, target) = (entry(EntryKind::Read), Vec::new());
    let delivery = Delivery { ticket: Ticket(5), entry, target, maybe_sent: MaybeSent::No };
    world.orders.send(Order::Deliver(Box::new(delivery))).unwrap();
    let outcome = loop {
        if let Inbound::Receipt(_, outcome) = world.answer().await {
            break outcome;
        }
    };
    assert_eq!(outcome, Outcome::Uncarried("what was read has no activity".into()));
    assert!(room.posts.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_missing_conversation_is_made_empty_and_read_again() {
    let room = Room::default();
    let (outcome, posts) = room.deliver(entry(EntryKind::Text), MaybeSent::No, Duration::ZERO).await;
    assert_eq!(outcome, delivered("posted"), "not to the one that the creation answered with");
    assert_eq!(posts.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_arrived_is_asked_for_before_it_is_sent_again() {
    let since = MaybeSent::Since(Time(START));
    let by_id = listed("by-id", json!({"clientTempId": DERIVED}));
    let by_iv = listed("by-iv", json!({"object": {"objectType": "comment", "displayName": sealed(IV)}}));
    let buried = listed("buried", json!({"verb": "tombstone", "object": {"objectType": "comment"}}));
    let edit = listed(
        "edit",
        json!({"verb": "tombstone", "object": {"objectType": "comment"}, "parent": {"id": "of-alice", "type": "edit"}}),
    );
    let known = listed(KNOWN, json!({"verb": "tombstone", "object": {"objectType": "comment"}}));
    let other = listed("other", json!({"object": {"objectType": "comment", "displayName": sealed([8; 12])}}));
    let of_bob = listed(
        "of-bob",
        json!({"actor": {"id": BOB}, "object": {"objectType": "comment", "displayName": sealed(IV)}}),
    );
    let early = Duration::from_secs(10);
    let late = Duration::from_secs(40);
    for (what, items, after, expected, posts) in [
        ("by id", vec![other.clone(), by_id.clone()], early, delivered("by-id"), 0),
        ("by iv", vec![by_iv], early, delivered("by-iv"), 0),
        ("buried", vec![buried], early, delivered("buried"), 0),
        ("the tombstone of another", vec![known], late, delivered("posted"), 1),
        ("the tombstone of an edit", vec![edit], late, delivered("posted"), 1),
        ("absent, too early to say", vec![other.clone(), of_bob.clone()], early, Outcome::Unsettled, 0),
        ("absent for good", vec![other, of_bob], late, delivered("posted"), 1),
        ("found late", vec![by_id], late, delivered("by-id"), 0),
    ] {
        let room = Room::with(items, &[]);
        let (outcome, posted) = room.deliver(entry(EntryKind::Text), since, after).await;
        assert_eq!((outcome, posted.len()), (expected, posts), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_listing_answers_for_all_that_wait_in_a_conversation() {
    let derived = |n: u8| format!("d0000000-0000-8000-8000-00000000000{n}");
    let room = Room::with(vec![listed("second", json!({"clientTempId": derived(2)}))], &[]);
    let posts = Arc::clone(&room.posts);
    let kept = WebexKept { run: 1, ..WebexKept::default() };
    let mut world = World::new(64, kept, move |method, address, body| room.answer(method, address, body));
    let mut ask = async |n: u8, since: i64| {
        let mut entry = entry(EntryKind::Text);
        (entry.derived, entry.committed) = (DerivedId::new(derived(n)), Time(START + i64::from(n)));
        let maybe_sent = MaybeSent::Since(Time(since));
        let delivery = Delivery { ticket: Ticket(n.into()), entry, target: Vec::new(), maybe_sent };
        world.orders.send(Order::Deliver(Box::new(delivery))).unwrap();
        loop {
            match world.answer().await {
                Inbound::Receipt(ticket, outcome) if ticket == Ticket(n.into()) => {
                    // A listing is followed until it shows nothing new.
                    return (outcome, world.asked("sinceDate").len() / 2);
                }
                Inbound::Behind(..) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(ask(1, START).await, (Outcome::Unsettled, 1));
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(ask(1, START).await, (delivered("posted"), 2), "what came in meanwhile is not known");
    assert_eq!(ask(2, START).await, (delivered("second"), 2));
    assert_eq!(ask(3, START).await, (delivered("posted"), 2));
    // One that was attempted since then has to be asked after once more.
    let (outcome, listings) = ask(4, START + 31_500).await;
    assert_eq!((outcome, listings), (Outcome::Unsettled, 3));
    assert_eq!(posts.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_post_of_an_earlier_run_is_marked_before_it_is_sent_again() {
    let room = Room::with(Vec::new(), &[]);
    let mut earlier = entry(EntryKind::Text);
    earlier.run = 0;
    let since = MaybeSent::Since(Time(START));
    let (outcome, _) = room.deliver(earlier, since, Duration::from_secs(40)).await;
    assert_eq!(outcome, delivered("posted"));
}

#[tokio::test(start_paused = true)]
async fn refused_is_told_from_unanswered() {
    let later = |outcome: &Outcome| matches!(outcome, Outcome::Later { .. });
    let unknown = |outcome: &Outcome| *outcome == Outcome::Unknown;
    let rotated = (400, json!({"errorCode": 1_400_087}));
    type Case = (&'static str, Vec<(u16, Value)>, fn(&Outcome) -> bool, usize);
    let cases: [Case; 6] = [
        ("silence", vec![(0, json!({}))], unknown, 1),
        ("503", vec![(503, json!({}))], unknown, 1),
        ("409", vec![(409, json!({}))], unknown, 1),
        ("429", vec![(429, json!({}))], later, 1),
        ("403 twice", vec![(403, json!({})), (403, json!({}))], later, 2),
        ("another key", vec![rotated], |outcome| *outcome == delivered("posted"), 2),
    ];
    for (what, statuses, check, posts) in cases {
        let room = Room::with(Vec::new(), &statuses);
        let (outcome, posted) = room.deliver(entry(EntryKind::Text), MaybeSent::No, Duration::ZERO).await;
        assert!(check(&outcome), "{what}: {outcome:?}");
        assert_eq!(posted.len(), posts, "{what}");
        if what == "another key" {
            assert_eq!(posted[1]["object"]["displayName"], "hello sealed with kms://k/keys/1");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_believed_when_it_was_often_repeated() {
    let room = Room::with(Vec::new(), &vec![(403, json!({})); 20]);
    let entry = entry(EntryKind::Text);
    let (outcome, posted) = room.deliver_often(entry, MaybeSent::No, Duration::ZERO, 20).await;
    assert_eq!(outcome, Outcome::Wedged("the conversation service answered 403".into()));
    // Each of five deliveries reads the conversation again and asks once more.
    assert_eq!(posted.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_read_mark_is_acknowledged_as_the_reader() {
    let room = Room::with(Vec::new(), &[]);
    let (outcome, posts) = room.deliver(entry(EntryKind::Read), MaybeSent::No, Duration::ZERO).await;
    assert_eq!(outcome, delivered("read-activity"));
    assert_eq!(posts[0]["verb"], "acknowledge");
    assert_eq!(posts[0]["object"]["id"], "read-activity");
    assert_eq!(posts[0]["target"]["id"], "c1");
}
