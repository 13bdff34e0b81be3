//! The hub between a store and two edges that a test plays: what it promises is about order, so every
//! test looks at the order of things.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc as gate;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edges::hub::{Ended, Hub, HubError, Keeping, Opened, Settings, Status};
use edges::port::{HubPort, Order};
use edges::seam::Clock;
use router::Config;
use router::entitlement::Client;
use router::envelope::{Body, Envelope, Form, JabberOrigin, Kind, Link, Origin, Typing, TypingOrigin};
use router::ids::{
    ActivityId, ConversationId, EntryId, ImpStreamId, JabberId, PersonId, StanzaId, StreamId, Time, Upstream,
};
use router::inbound::{Facts, Inbound, Outcome, PersonFacts, SessionEvent, StreamEvent};
use router::memory::MemoryStorage;
use router::outbox::{Batch, EntrySummary, Loaded, Novelty, Storage, StorageError, Stored, TargetRef};
use router::tag::Tagger;
use router::times::Times;

const START: Time = Time(1_800_000_000_000);

/// A store that says when it commits, may be held back, and may fail.
struct Witness {
    inner: MemoryStorage,
    log: Arc<Mutex<Vec<String>>>,
    gate: Option<gate::Receiver<()>>,
    fails: bool,
    room: Arc<AtomicU64>,
}

impl Storage for Witness {
    fn load(&mut self, now: Time) -> Result<Loaded, StorageError> {
        self.inner.load(now)
    }

    fn commit(&mut self, batches: &[Batch], now: Time) -> Result<Vec<Vec<Novelty>>, StorageError> {
        let inputs: usize = batches.iter().map(|batch| batch.inputs.len()).sum();
        if inputs > 0 {
            if let Some(gate) = &self.gate {
                gate.recv().unwrap();
            }
            if self.fails {
                return Err(StorageError { what: "the disk is gone".into(), source: None });
            }
            self.log.lock().unwrap().push(format!("commit {inputs}"));
        }
        self.inner.commit(batches, now)
    }

    fn entry(&mut self, id: EntryId) -> Result<Option<Stored>, StorageError> {
        self.inner.entry(id)
    }

    fn target(&mut self, target: &TargetRef) -> Result<Vec<EntrySummary>, StorageError> {
        self.inner.target(target)
    }

    fn room(&self) -> Option<u64> {
        Some(self.room.load(Relaxed))
    }
}

struct World {
    opened: Opened,
    log: Arc<Mutex<Vec<String>>>,
    room: Arc<AtomicU64>,
}

fn settings() -> Settings {
    Settings {
        router: Config {
            tagger: Tagger::new(b"organization", &[]),
            times: Times::default(),
            capacity: 8,
            deliver_to_pending: false,
            since: Some(Time(0)),
            rate: None,
            bot: false,
            notices: false,
            federation: None,
        },
        intake: 64,
        grace: Duration::from_secs(5),
    }
}

fn world(keeping: Keeping, gate: Option<gate::Receiver<()>>, fails: bool) -> World {
    let log = Arc::new(Mutex::new(Vec::new()));
    let inner = MemoryStorage::new(Tagger::new(b"organization", &[]));
    let room = Arc::new(AtomicU64::new(u64::MAX));
    let storage = Witness { inner, log: Arc::clone(&log), gate, fails, room: Arc::clone(&room) };
    let opened = Hub::open(settings(), Box::new(storage), keeping, Clock::starting_at(START)).unwrap();
    World { opened, log, room }
}

fn person(name: &str) -> PersonId {
    PersonId::new(name)
}

fn jid(name: &str) -> JabberId {
    JabberId::new(format!("{name}@lab.example"))
}

fn stream() -> ImpStreamId {
    ImpStreamId::new("stream-1")
}

fn upstream(n: u64) -> Upstream {
    Upstream { stream: StreamId::Imp(stream()), n }
}

/// Ann and bob are enabled, and ann's session has settled.
fn facts(name: &str) -> PersonFacts {
    PersonFacts {
        id: person(name),
        ours: true,
        jid: Some(jid(name)),
        home: Some("".into()),
        mail: format!("{name}@corp.example").into(),
        name: name.into(),
        enabled: true,
        pending: false,
        token: true,
    }
}

fn people() -> Vec<Inbound> {
    vec![
        Inbound::Directory(Facts { people: vec![facts("ann"), facts("bob")], complete: true }),
        Inbound::Stream(stream(), StreamEvent::Up { acknowledges: true }),
        Inbound::Session(
            person("ann"),
            SessionEvent::Opening { stream: stream(), resumed: false, at: START },
        ),
        Inbound::Session(person("ann"), SessionEvent::Settled),
    ]
}

/// The `n`th text of ann to bob.
fn says(n: u64) -> Inbound {
    let origin = JabberOrigin {
        session: person("ann"),
        form: Form::Sent,
        from: "ann@lab.example/jabber".into(),
        from_bare: jid("ann"),
        to: jid("bob"),
        stanza: StanzaId::new(format!("s{n}")),
        origin_id: None,
        text_hash: [u8::try_from(n).unwrap(); 32],
        stamp: None,
    };
    let envelope = Envelope { origin: Origin::Jabber(origin), kind: Kind::Text, arrived: START.plus(1_000) };
    Inbound::Message(envelope, vec![Body::Clear(format!("text {n}").into())], upstream(n))
}

fn delivered(n: u64) -> Outcome {
    Outcome::Delivered(Link::Activity(ActivityId::new(format!("a{n}")), ConversationId::new("c")))
}

/// Waits for the acknowledgement of the `n`th input.
async fn acknowledged(jabber: &mut tokio::sync::mpsc::UnboundedReceiver<Order>, n: u64) {
    while let Some(order) = jabber.recv().await {
        if matches!(&order, Order::Acknowledge(upstream) if upstream.n >= n) {
            return;
        }
    }
    panic!("the hub has ended without acknowledging {n}");
}

#[tokio::test(start_paused = true)]
async fn an_input_is_acknowledged_after_its_commit_and_delivered_after_it_too() {
    let World { mut opened, log, .. } = world(Keeping::Inline, None, false);
    let hub = tokio::spawn(opened.hub.run());
    for inbound in people() {
        assert!(opened.port.take(inbound).await);
    }
    assert!(opened.port.take(says(1)).await);
    acknowledged(&mut opened.jabber, 1).await;
    assert_eq!(*log.lock().unwrap(), ["commit 1"]);
    let delivery = loop {
        match opened.webex.recv().await.unwrap() {
            Order::Deliver(delivery) => break delivery,
            Order::Directory(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(delivery.entry.body, Body::Clear("text 1".into()));
    assert!(!opened.handle.idle().await, "a delivery is in flight");
    opened.port.answer(Inbound::Receipt(delivery.ticket, delivered(1)));
    opened.handle.stop(false).await;
    assert_eq!(hub.await.unwrap().unwrap(), Ended::Clean);
}

#[tokio::test(start_paused = true)]
async fn an_edge_that_stands_still_has_a_bounded_number_of_hints_before_it() {
    let World { mut opened, .. } = world(Keeping::Inline, None, false);
    let hub = tokio::spawn(opened.hub.run());
    for inbound in people() {
        assert!(opened.port.take(inbound).await);
    }
    // Enough of them that nobody types oftener than is passed on.
    let typing: Vec<String> = (0..200).map(|n| format!("p{n}")).collect();
    let all = typing.iter().map(|name| facts(name)).chain([facts("ann"), facts("bob")]).collect();
    assert!(opened.port.take(Inbound::Directory(Facts { people: all, complete: true })).await);
    let mut n = 0;
    let mut types = async |port: &HubPort| {
        for who in typing.iter().cycle().take(1_000) {
            n += 1;
            let conversation = ConversationId::new(format!("c{n}"));
            let from = TypingOrigin::Webex { socket: person("ann"), actor: person(who), conversation };
            let typing = Typing { from, active: true, stale: false };
            let upstream = Upstream { stream: StreamId::Mercury(person("ann"), 1), n };
            assert!(port.take(Inbound::Typing(typing, upstream)).await);
        }
    };
    // Places are free again when the hints have been passed on.
    for _ in 0..2 {
        types(&opened.port).await;
        let read = |status: Status| status.intake == 0 && status.uncommitted == 0;
        while !opened.handle.status().await.is_some_and(read) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut hints = Vec::new();
        while let Ok(order) = opened.jabber.try_recv() {
            hints.extend(matches!(order, Order::Hint(..)).then_some(order));
        }
        assert_eq!(hints.len(), 256);
    }
    hub.abort();
}

#[tokio::test(start_paused = true)]
async fn a_failed_commit_ends_the_hub_and_nothing_of_it_was_told_to_anybody() {
    let World { mut opened, .. } = world(Keeping::Inline, None, true);
    let hub = tokio::spawn(opened.hub.run());
    for inbound in people().into_iter().chain([says(1)]) {
        opened.port.take(inbound).await;
    }
    let error = hub.await.unwrap().unwrap_err();
    let HubError::Storage(cause) = &error else { panic!("{error:?}") };
    assert_eq!(error.to_string(), "the store failed, and the process has to end");
    assert_eq!(cause.to_string(), "the disk is gone");
    while let Some(order) = opened.jabber.recv().await {
        assert!(!matches!(order, Order::Acknowledge(_)), "{order:?}");
    }
    while let Some(order) = opened.webex.recv().await {
        assert!(!matches!(order, Order::Deliver(_)), "{order:?}");
    }
    assert!(!opened.port.take(says(2)).await, "a hub that has ended takes nothing");
    assert_eq!(opened.handle.status().await, None);
}

#[tokio::test]
async fn what_waits_while_the_store_works_becomes_one_commit() {
    let (open, gate) = gate::channel();
    let World { mut opened, log, .. } = world(Keeping::Thread, Some(gate), false);
    let hub = tokio::spawn(opened.hub.run());
    // No more than the hub reads while the first commit stands still, which is half of its intake.
    let n = u64::try_from(settings().intake / 2).unwrap();
    for inbound in people().into_iter().chain((1..=n).map(says)) {
        assert!(opened.port.take(inbound).await);
    }
    while opened.handle.status().await.unwrap().intake > 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..n {
        open.send(()).unwrap();
    }
    acknowledged(&mut opened.jabber, n).await;
    let commits = log.lock().unwrap().len();
    assert!(commits <= 3, "{commits} commits for {n} inputs");
    opened.handle.stop(false).await;
    hub.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_commits_what_was_accepted_and_waits_for_deliveries() {
    let World { mut opened, log, .. } = world(Keeping::Inline, None, false);
    let hub = tokio::spawn(opened.hub.run());
    for inbound in people() {
        opened.port.take(inbound).await;
    }
    opened.port.take(says(1)).await;
    acknowledged(&mut opened.jabber, 1).await;
    let ticket = loop {
        if let Order::Deliver(delivery) = opened.webex.recv().await.unwrap() {
            break delivery.ticket;
        }
    };
    for n in 2..=6 {
        opened.port.take(says(n)).await;
    }
    opened.handle.stop(false).await;
    let late = tokio::time::Instant::now() + Duration::from_secs(3);
    let port = opened.port.clone();
    tokio::spawn(async move {
        tokio::time::sleep_until(late).await;
        port.answer(Inbound::Receipt(ticket, delivered(1)));
    });
    acknowledged(&mut opened.jabber, 6).await;
    assert_eq!(hub.await.unwrap().unwrap(), Ended::Clean);
    assert!(tokio::time::Instant::now() >= late, "it has waited for the receipt");
    let committed: usize = log
        .lock()
        .unwrap()
        .iter()
        .map(|line| line.trim_start_matches("commit ").parse::<usize>().unwrap())
        .sum();
    assert_eq!(committed, 6);
    assert!(!opened.port.take(says(7)).await);
    // Both edges were told, and no delivery was begun after that.
    for edge in [&mut opened.jabber, &mut opened.webex] {
        edge.close();
    }
    let mut told = false;
    while let Some(order) = opened.webex.recv().await {
        told |= matches!(order, Order::Stop { sign_out: false });
        assert!(!(told && matches!(order, Order::Deliver(_))), "{order:?}");
    }
    assert!(told);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_ever() {
    let World { mut opened, .. } = world(Keeping::Inline, None, false);
    let hub = tokio::spawn(opened.hub.run());
    for inbound in people().into_iter().chain([says(1)]) {
        opened.port.take(inbound).await;
    }
    while !matches!(opened.webex.recv().await.unwrap(), Order::Deliver(_)) {}
    let asked = tokio::time::Instant::now();
    opened.handle.stop(true).await;
    assert_eq!(hub.await.unwrap().unwrap(), Ended::Unanswered(1));
    assert_eq!(asked.elapsed().as_secs(), settings().grace.as_secs());
}

#[tokio::test(start_paused = true)]
async fn below_the_floor_of_free_space_only_what_was_taken_goes_on() {
    let World { mut opened, room, .. } = world(Keeping::Inline, None, false);
    let hub = tokio::spawn(opened.hub.run());
    for inbound in people() {
        opened.port.take(inbound).await;
    }
    opened.port.take(says(1)).await;
    let ticket = loop {
        if let Order::Deliver(delivery) = opened.webex.recv().await.unwrap() {
            break delivery.ticket;
        }
    };
    room.store(0, Relaxed);
    opened.port.answer(Inbound::Receipt(ticket, delivered(1)));
    while opened.handle.status().await.unwrap().room != Some(0) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    opened.port.take(says(2)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let status = opened.handle.status().await.unwrap();
    assert_eq!((status.room, status.intake, status.router.delivered), (Some(0), 1, 1));
    room.store(1 << 30, Relaxed);
    acknowledged(&mut opened.jabber, 2).await;
    opened.handle.stop(false).await;
    hub.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_edge_hears_of_the_values_that_it_kept_under_its_own_number() {
    let World { mut opened, .. } = world(Keeping::Inline, None, false);
    let hub = tokio::spawn(opened.hub.run());
    let keep = |key: &str| Inbound::Keep { key: key.into(), value: Some(b"v".as_slice().into()), ask: 1 };
    opened.port.answer(keep("jabber/stream/a"));
    opened.port.answer(keep("webex/device/ann"));
    for edge in [&mut opened.jabber, &mut opened.webex] {
        assert!(matches!(edge.recv().await, Some(Order::Kept(1))));
    }
    opened.handle.stop(false).await;
    hub.await.unwrap().unwrap();
    for edge in [&mut opened.jabber, &mut opened.webex] {
        while let Some(order) = edge.recv().await {
            assert!(!matches!(order, Order::Kept(_)), "{order:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_page_is_served_while_the_hub_runs() {
    let World { mut opened, .. } = world(Keeping::Inline, None, false);
    let hub = tokio::spawn(opened.hub.run());
    let handle = opened.handle;
    assert_eq!(handle.judge(jid("ann"), Client::Jabber, jid("bob"), Client::Webex).await, None);
    for inbound in people() {
        opened.port.take(inbound).await;
    }
    while !matches!(opened.webex.recv().await.unwrap(), Order::Directory(people) if people.is_complete()) {}
    let status = handle.status().await.unwrap();
    assert_eq!((status.run, status.router.enabled), (1, 2));
    let verdict = handle.judge(jid("ann"), Client::Jabber, jid("bob"), Client::Webex).await.unwrap();
    assert!(verdict.rule.starts_with("IX-"), "{verdict:?}");
    handle.stop(false).await;
    hub.await.unwrap().unwrap();
    assert!(!handle.idle().await);
}
