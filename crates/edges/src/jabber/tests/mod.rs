//! The edge against a server on in-memory pipes, in paused time: the tests are its hub.

mod far;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use presence_map::Show;
use router::directory::Directory;
use router::envelope::{Body, Envelope, Form, Kind, Link as Written, Origin};
use router::ids::*;
use router::inbound::{Cause, Facts, Inbound, Outcome, PersonFacts, SessionEvent, StreamEvent};
use router::outbound::{Hint, MaybeSent, Wanted};
use router::outbox::{Entry, EntryKind, EntryState, Lane};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use xmpp_core::session_control;
use xmpp_core::{Element, ns};

use self::far::{Far, Seen, State};
use super::*;
use crate::seam::{Clock, Generator, Scale};

const BOB: &str = "bob@lab.example/webex-1";

/// Opens what is sealed under a known key, and knows whom Bob talks to.
struct Notebook;

impl Opener for Notebook {
    fn open<'a>(
        &'a self,
        _: &'a ConversationId,
        _: &'a PersonId,
        key: &'a str,
        jwe: &'a str,
    ) -> Opening<'a, Cleartext> {
        Box::pin(async move {
            match key {
                "known" => Ok(Cleartext::new(jwe.replace("sealed ", ""))),
                "silent" => std::future::pending().await,
                _ => Err(OpenError::Wedged("the key is gone".into())),
            }
        })
    }

    fn recipient<'a>(&'a self, conversation: &'a ConversationId, _: &'a PersonId) -> Opening<'a, PersonId> {
        Box::pin(async move { Ok(PersonId::new(conversation.as_str())) })
    }
}

struct World {
    far: Far,
    seen: UnboundedReceiver<Seen>,
    orders: UnboundedSender<Order>,
    intake: mpsc::Receiver<Inbound>,
    answers: UnboundedReceiver<Inbound>,
    edge: JoinHandle<()>,
    kept: Kept,
    /// The asks that were not answered: those of values whose names begin with this.
    withheld: Option<&'static str>,
    asks: Vec<u64>,
    access: Access,
    runs: u64,
}

fn trusted() -> Access {
    Access::Trusted {
        component: "connector.lab.example".into(),
        secret: "secret".into(),
        framing: Framing::Component,
    }
}

fn service() -> Access {
    Access::Service { account: "service@lab.example".into(), password: "secret".into() }
}

fn directory() -> Arc<Directory> {
    let person = |id: &str, jid: Option<&str>, ours| PersonFacts {
        id: PersonId::new(id),
        ours,
        jid: jid.map(JabberId::new),
        home: Some("".into()),
        mail: format!("{id}@corp.example").into(),
        name: format!("The {id}").into(),
        enabled: true,
        pending: false,
        token: true,
    };
    let people = vec![
        person("bob", Some("bob@lab.example"), true),
        person("ann", Some("ann@lab.example"), true),
        person("eve", Some("eve@elsewhere.example"), true),
        person("hal", None, true),
        person("kim", Some("kim@lab.example"), false),
    ];
    Arc::new(Directory::default().with(&Facts { people, complete: true }, Time(0), Time(0)))
}

/// Waits, but not for ever: paused time passes by itself where nothing else happens.
async fn soon<T>(what: impl Future<Output = Option<T>>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(1800), what).await;
    waited.expect("something happens within half an hour").expect("the other side is there")
}

impl World {
    fn new(access: Access, state: State) -> Self {
        let state = State { clients: !access.is_trusted(), ..state };
        let (far, seen) = Far::new(state);
        let (orders, _) = mpsc::unbounded_channel();
        let (_, intake) = mpsc::channel(1);
        let (_, answers) = mpsc::unbounded_channel();
        let mut world = Self {
            far,
            seen,
            orders,
            intake,
            answers,
            edge: tokio::spawn(async {}),
            kept: Kept::default(),
            withheld: None,
            asks: Vec::new(),
            access,
            runs: 0,
        };
        world.start();
        world
    }

    /// Starts the edge, as after a crash: what was kept is all it has.
    fn start(&mut self) {
        self.edge.abort();
        self.runs += 1;
        let (orders, receiver) = mpsc::unbounded_channel();
        let (taker, intake) = mpsc::channel(4);
        let (answerer, answers) = mpsc::unbounded_channel();
        (self.orders, self.intake, self.answers) = (orders, intake, answers);
        let cluster = Cluster {
            domains: vec!["lab.example".into()],
            nodes: vec![("down".into(), 7400), ("hung".into(), 7400), ("up".into(), 7400)],
            names: vec![],
            access: self.access.clone(),
            encryption: Encryption::Off,
        };
        let config =
            Config { node: "1".into(), utc_offset: 0, sessions_per_second: 100, clusters: vec![cluster] };
        let means = Means {
            opener: Arc::new(Notebook),
            dial: Arc::new(self.far.clone()),
            clock: Clock::starting_at(Time(1_790_000_000_000)),
            generator: Generator::seeded(self.runs),
            scale: Scale(1),
            standing: None,
        };
        let port = HubPort::new(taker.clone(), taker, answerer);
        self.edge = JabberEdge::start(config, port, receiver, self.kept.clone(), means);
        self.order(Order::Directory(directory()));
    }

    fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }

    fn open(&self, person: &str, show: Show) {
        self.order(Order::Session(PersonId::new(person), Wanted::Open { show, text: "@ Webex" }));
    }

    /// The next answer that is no `Keep`; values are kept as the hub does.
    async fn answer(&mut self) -> Inbound {
        loop {
            match soon(self.answers.recv()).await {
                Inbound::Keep { key, value, ask } => self.keep(key, value, ask),
                other => return other,
            }
        }
    }

    fn keep(&mut self, key: Box<str>, value: Option<Box<[u8]>>, ask: u64) {
        let withheld = self.withheld.is_some_and(|prefix| key.starts_with(prefix));
        match value {
            Some(value) => self.kept.values.insert(key, value),
            None => self.kept.values.remove(&key),
        };
        if withheld {
            self.asks.push(ask);
        } else if ask != 0 {
            self.order(Order::Kept(ask));
        }
    }

    /// The next input of the intake that is more than a count; answers about values are dealt with.
    async fn input(&mut self) -> Inbound {
        loop {
            tokio::select! {
                biased;
                answer = self.answers.recv() => match answer.expect("the edge is there") {
                    Inbound::Keep { key, value, ask } => self.keep(key, value, ask),
                    other => panic!("unexpected {other:?}"),
                },
                input = soon(self.intake.recv()) => match input {
                    Inbound::Handled(upstream) => self.commit(upstream),
                    Inbound::Session(_, SessionEvent::Active) => {}
                    other => return other,
                },
            }
        }
    }

    /// Commits a count, and lets the far side know.
    fn commit(&mut self, upstream: Upstream) {
        let StreamId::Imp(stream) = &upstream.stream else { panic!("not ours") };
        self.kept.streams.insert(stream.clone(), upstream.n);
        self.order(Order::Acknowledge(upstream));
    }

    async fn message(&mut self) -> (Envelope, Vec<Body>, Upstream) {
        match self.input().await {
            Inbound::Message(envelope, parts, upstream) => (envelope, parts, upstream),
            other => panic!("expected a message, got {other:?}"),
        }
    }

    async fn seen(&mut self) -> Seen {
        soon(self.seen.recv()).await
    }

    /// The next stanza that the far end sees and that is no request.
    async fn stanza(&mut self) -> Element {
        loop {
            match self.seen().await {
                Seen::Stanza(stanza) if stanza.name() != "iq" => return stanza,
                Seen::Stanza(_) => {}
                other => panic!("expected a stanza, got {other:?}"),
            }
        }
    }

    async fn up(&mut self) -> ImpStreamId {
        match self.answer().await {
            Inbound::Stream(stream, StreamEvent::Up { .. }) => stream,
            other => panic!("expected a stream, got {other:?}"),
        }
    }

    /// Bob's session, opened and settled; the stream that carries it.
    async fn settled(&mut self) -> ImpStreamId {
        self.open("bob", Show::Available);
        let stream = self.up().await;
        self.opening(&stream, false).await;
        self.settle().await;
        let presence = |seen| matches!(seen, Seen::Stanza(stanza) if stanza.name() == "presence");
        while !presence(self.seen().await) {}
        while self.seen.try_recv().is_ok() {}
        stream
    }

    async fn opening(&mut self, on: &ImpStreamId, was_resumed: bool) {
        match self.input().await {
            Inbound::Session(person, SessionEvent::Opening { stream, resumed, .. }) => {
                assert_eq!((person.as_str(), &stream, resumed), ("bob", on, was_resumed));
            }
            other => panic!("expected an opening, got {other:?}"),
        }
    }

    async fn settle(&mut self) {
        match self.input().await {
            Inbound::Session(person, SessionEvent::Settled) => assert_eq!(person.as_str(), "bob"),
            other => panic!("expected a settled session, got {other:?}"),
        }
        // What is kept of it follows.
        self.quiet().await;
    }

    /// Lets everything go on that can, and takes in what is kept.
    async fn quiet(&mut self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        while let Ok(answer) = self.answers.try_recv() {
            match answer {
                Inbound::Keep { key, value, ask } => self.keep(key, value, ask),
                other => panic!("unexpected {other:?}"),
            }
        }
        while let Ok(input) = self.intake.try_recv() {
            match input {
                Inbound::Handled(upstream) => self.commit(upstream),
                Inbound::Session(_, SessionEvent::Active) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn deliver(&self, ticket: u64, to: &str, kind: EntryKind, body: Body) {
        let (entry, maybe_sent) = (entry(ticket, to, kind, body), MaybeSent::No);
        let ticket = Ticket(ticket);
        self.order(Order::Deliver(Box::new(Delivery { ticket, entry, target: vec![], maybe_sent })));
    }

    fn say(&self, ticket: u64, text: &str) {
        self.deliver(ticket, "ann", EntryKind::Text, Body::Clear(text.into()));
    }

    async fn attempt(&mut self) -> (Ticket, Position) {
        match self.answer().await {
            Inbound::Attempt(ticket, Some(position)) => (ticket, position),
            other => panic!("expected an attempt, got {other:?}"),
        }
    }

    async fn receipt(&mut self) -> (u64, Outcome) {
        match self.answer().await {
            Inbound::Receipt(Ticket(ticket), outcome) => (ticket, outcome),
            other => panic!("expected a receipt, got {other:?}"),
        }
    }
}

fn entry(number: u64, to: &str, kind: EntryKind, body: Body) -> Entry {
    Entry {
        id: EntryId(number),
        source: SourceId::new(format!("activity-{number}")),
        occurrence: 0,
        part: 0,
        derived: DerivedId::new(format!("derived-{number}")),
        iv: None,
        lane: Lane::ToJabber(ConversationId::new(to)),
        kind,
        sender: PersonId::new("bob"),
        recipient: None,
        carrier: PersonId::new("bob"),
        conversation: Some(ConversationId::new(to)),
        stanza: Some(StanzaId::new("native")),
        time: Time(0),
        stamp: None,
        target: None,
        committed: Time(0),
        state: EntryState::Waiting(number),
        run: 1,
        attempt: None,
        reported: false,
        body,
    }
}

fn body(stanza: &Element) -> String {
    stanza.get_child("body", ns::CLIENT).map(Element::text).unwrap_or_default()
}

fn delivered(ticket: u64) -> (u64, Outcome) {
    let link = Written::Stanza(DerivedId::new(format!("derived-{ticket}")));
    (ticket, Outcome::Delivered(link))
}

const HELLO: &str = "<message xmlns='jabber:client' from='ann@lab.example/desk' to='bob@lab.example' \
    type='chat' id='m1'><body>hello</body></message>";

#[tokio::test(start_paused = true)]
async fn presence_waits_for_carbons_and_for_the_disk() {
    let mut world = World::new(trusted(), State::default());
    world.withheld = Some("jabber/session/");
    world.open("bob", Show::Away);
    let stream = world.up().await;
    world.opening(&stream, false).await;
    assert!(matches!(world.seen().await, Seen::Start(jid) if jid == BOB));
    let Seen::Stanza(carbons) = world.seen().await else { panic!() };
    assert!(carbons.get_child("enable", ns::CARBONS).is_some());
    world.quiet().await;
    assert!(world.seen.try_recv().is_err(), "no presence before the ids are on disk");
    world.order(Order::Kept(world.asks[0]));
    let presence = world.stanza().await;
    assert_eq!(presence.get_child("show", ns::CLIENT).unwrap().text(), "away");
    world.settle().await;

    world.open("bob", Show::Away);
    world.quiet().await;
    world.open("bob", Show::Available);
    let presence = world.stanza().await;
    assert!(presence.get_child("show", ns::CLIENT).is_none(), "only what differs is said");
    world.order(Order::Session(PersonId::new("bob"), Wanted::Closed));
    assert!(matches!(world.seen().await, Seen::End(jid) if jid == BOB));
    let Inbound::Session(_, closed) = world.input().await else { panic!() };
    assert_eq!(closed, SessionEvent::Closed { for_good: false });
    assert!(!world.kept.values.contains_key("jabber/session/bob"));
}

#[tokio::test(start_paused = true)]
async fn what_a_session_brings_is_acknowledged_after_the_commit() {
    for access in [trusted(), service()] {
        let mut world = World::new(access, State::default());
        let stream = world.settled().await;
        world.far.send(BOB, HELLO);
        let carbon = format!(
            "<message xmlns='jabber:client' from='bob@lab.example' to='{BOB}'>\
             <sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
             <message xmlns='jabber:client' from='bob@lab.example/desk' to='ann@lab.example' type='chat' \
             id='m2'><body>well</body></message></forwarded></sent></message>"
        );
        world.far.send(BOB, &carbon);
        world.far.send(BOB, &carbon.replace("from='bob@lab.example' to", "from='eve@lab.example' to"));
        let (envelope, parts, upstream) = world.message().await;
        assert_eq!((envelope.kind, parts), (Kind::Text, vec![Body::Clear("hello".into())]));
        let Origin::Jabber(origin) = envelope.origin else { panic!() };
        assert_eq!((origin.session.as_str(), origin.form), ("bob", Form::Direct));
        assert_eq!(upstream.stream, StreamId::Imp(stream));
        let (envelope, _, second) = world.message().await;
        let Origin::Jabber(origin) = envelope.origin else { panic!() };
        assert_eq!((origin.form, origin.to.as_str()), (Form::Sent, "ann@lab.example"));
        assert_eq!(second.n, upstream.n + 1);
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(world.far.state().acked < upstream.n, "nothing was committed");
        world.order(Order::Acknowledge(second.clone()));
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(world.far.state().acked, second.n);
        let Some(Inbound::Handled(forged)) = world.intake.recv().await else { panic!() };
        assert_eq!(forged.n, second.n + 1, "the forged carbon counts, and is nothing else");
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_attempted_written_and_receipted() {
    for access in [trusted(), service()] {
        let mut world = World::new(access, State::default());
        let stream = world.settled().await;
        world.say(1, "one");
        let (ticket, first) = world.attempt().await;
        assert_eq!(first.stream, stream);
        world.say(2, "two");
        world.deliver(
            3,
            "ann",
            EntryKind::Text,
            Body::Sealed { key: "known".into(), jwe: "sealed three".into() },
        );
        world.open("bob", Show::Away);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(world.seen.try_recv().is_err_and(|e| e == mpsc::error::TryRecvError::Empty), "not a stanza");
        world.order(Order::Write(ticket));
        let message = world.stanza().await;
        assert_eq!((body(&message).as_str(), message.attr("id")), ("one", Some("derived-1")));
        assert_eq!((message.attr("to"), message.attr("type")), (Some("ann@lab.example"), Some("chat")));
        assert_eq!(world.stanza().await.name(), "presence");
        // What was ready meanwhile shares a round.
        let (two, second) = world.attempt().await;
        let (three, third) = world.attempt().await;
        assert_eq!((second.n, third.n), (first.n + 2, first.n + 3));
        assert_eq!(world.receipt().await, delivered(1));
        world.order(Order::Skip(two));
        world.order(Order::Write(three));
        assert_eq!(world.receipt().await, (2, Outcome::Unknown), "the hub counts it no more");
        let message = world.stanza().await;
        assert_eq!(body(&message), "three");
        assert_eq!(world.receipt().await, delivered(3), "the skipped position was taken");
    }
}

#[tokio::test(start_paused = true)]
async fn deliveries_that_cannot_be_made_say_why() {
    let mut world = World::new(trusted(), State::default());
    world.settled().await;
    let text = || Body::Clear("x".into());
    world.deliver(1, "bob", EntryKind::Text, text());
    world.deliver(2, "hal", EntryKind::Text, text());
    world.deliver(3, "kim", EntryKind::Text, text());
    world.deliver(4, "nobody", EntryKind::Text, text());
    world.deliver(5, "ann", EntryKind::Text, Body::Sealed { key: "lost".into(), jwe: "x".into() });
    world.deliver(6, "ann", EntryKind::Read, Body::None);
    world.deliver(7, "ann", EntryKind::Text, Body::Sealed { key: "silent".into(), jwe: "x".into() });
    let mut outcomes = BTreeMap::new();
    for _ in 0..7 {
        let (ticket, outcome) = world.receipt().await;
        outcomes.insert(ticket, outcome);
    }
    let uncarried = |reason: &str| Outcome::Uncarried(reason.into());
    let expected = [
        uncarried("a message to oneself"),
        uncarried("the recipient has no Jabber account"),
        uncarried("the recipient is of another organization"),
        uncarried("the recipient is not in the directory"),
        Outcome::Wedged("the key is gone".into()),
        uncarried("what was read is not known"),
        Outcome::Later { cause: Cause::Kms, after: None },
    ];
    assert_eq!(outcomes.into_values().collect::<Vec<_>>(), expected);

    world.order(Order::Session(PersonId::new("bob"), Wanted::Closed));
    world.say(8, "asleep");
    let later = Outcome::Later { cause: Cause::Session(PersonId::new("bob")), after: None };
    assert_eq!(world.receipt().await, (8, later));
    world.deliver(9, "ann", EntryKind::DeleteNotice, Body::None);
    let Inbound::Session(..) = world.input().await else { panic!() };
    world.open("bob", Show::Available);
    let (ticket, _) = loop {
        tokio::select! {
            attempt = world.answers.recv() => match attempt.unwrap() {
                Inbound::Attempt(ticket, position) => break (ticket, position),
                Inbound::Keep { key, value, ask } => world.keep(key, value, ask),
                Inbound::Receipt(Ticket(9), Outcome::Later { .. }) => {
                    world.deliver(9, "ann", EntryKind::DeleteNotice, Body::None);
                }
                other => panic!("{other:?}"),
            },
            _ = world.intake.recv() => {}
        }
    };
    world.order(Order::Write(ticket));
    let notice = loop {
        match world.seen().await {
            Seen::Stanza(stanza) if stanza.name() == "message" => break stanza,
            _ => {}
        }
    };
    assert_eq!(body(&notice), "The bob used Webex App to delete a previously posted message");
}

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

impl World {
    /// After `Settled`: the presence, the ping's answer, and the second delivery, in whatever order.
    async fn settle_after(&mut self, stream: &ImpStreamId) {
        let (mut settled, mut attempted) = (false, false);
        while !(settled && attempted) {
            tokio::select! {
                answer = soon(self.answers.recv()) => match answer {
                    Inbound::Keep { key, value, ask } => self.keep(key, value, ask),
                    Inbound::Attempt(ticket, Some(position)) => {
                        assert_eq!((ticket, &position.stream), (Ticket(2), stream));
                        self.order(Order::Write(ticket));
                        attempted = true;
                    }
                    other => panic!("{other:?}"),
                },
                input = soon(self.intake.recv()) => match input {
                    Inbound::Session(_, SessionEvent::Settled) => settled = true,
                    Inbound::Handled(upstream) => self.commit(upstream),
                    Inbound::Session(_, SessionEvent::Active) => {}
                    other => panic!("{other:?}"),
                },
            }
        }
        assert_eq!(self.receipt().await, delivered(2));
        let mut bodies = Vec::new();
        while let Ok(Seen::Stanza(stanza)) = self.seen.try_recv() {
            if stanza.name() == "message" {
                bodies.push(body(&stanza));
            }
        }
        assert_eq!(bodies, ["two"], "the edge repeats no message by itself");
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_cut_and_was_not_committed_comes_once() {
    let mut world = World::new(trusted(), State::default());
    let stream = world.settled().await;
    world.far.send(BOB, HELLO);
    let (_, _, upstream) = world.message().await;
    world.far.tell(|far| far.cut = true);
    assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Lost)));
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

#[tokio::test(start_paused = true)]
async fn nobody_fights_over_a_resource() {
    for access in [trusted(), service()] {
        let is_trusted = access.is_trusted();
        let mut world = World::new(access, State::default());
        world.settled().await;
        world.far.tell(|far| match far.sessions.remove(BOB) {
            Some(ids) => far.push(session_control::replaced(&ids)),
            None => far.end_with = Some("conflict"),
        });
        if !is_trusted {
            assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Lost)));
            assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Refused { .. })));
        }
        loop {
            let Inbound::Session(_, closed) = world.input().await else { panic!() };
            if closed == (SessionEvent::Closed { for_good: true }) {
                break;
            }
        }
        world.open("bob", Show::Away);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        while let Ok(seen) = world.seen.try_recv() {
            assert!(!matches!(seen, Seen::Start(_)), "it was opened again");
        }
        assert_eq!(world.far.state().dialed, 1);
        world.order(Order::Session(PersonId::new("bob"), Wanted::Closed));
        world.open("bob", Show::Away);
        if is_trusted {
            assert!(matches!(world.seen().await, Seen::Start(_)), "the router asked for it");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stanza_that_comes_back_is_reported_and_its_session_doubted() {
    for is_gone in [false, true] {
        let mut world = World::new(trusted(), State::default());
        let stream = world.settled().await;
        world.far.tell(|far| match is_gone {
            true => far.sessions.clear(),
            false => far.bounces = true,
        });
        world.say(1, "one");
        let (ticket, _) = world.attempt().await;
        world.order(Order::Write(ticket));
        let (envelope, ..) = world.message().await;
        let of = StanzaId::new("derived-1");
        assert_eq!(envelope.kind, Kind::Bounced { of, condition: "session-ended".into() });
        // The next receipt is that of the next: what came back has none.
        if is_gone {
            let Inbound::Session(_, closed) = world.input().await else { panic!() };
            assert_eq!(closed, SessionEvent::Closed { for_good: false });
            world.opening(&stream, false).await;
            world.settle().await;
        }
        world.say(2, "one again");
        let (ticket, _) = world.attempt().await;
        world.order(Order::Write(ticket));
        assert_eq!(world.receipt().await, delivered(2));
        let mut starts = 0;
        while let Ok(seen) = world.seen.try_recv() {
            starts += usize::from(matches!(seen, Seen::Start(_)));
        }
        assert_eq!(starts, usize::from(is_gone));
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_after_the_end_of_its_session_is_reported_too() {
    let mut world = World::new(trusted(), State::default());
    world.settled().await;
    world.say(1, "one");
    let (ticket, _) = world.attempt().await;
    world.far.tell(|far| {
        let ids = std::mem::take(&mut far.sessions).into_values();
        far.outbox.extend(ids.map(|ids| session_control::ended(&ids)));
    });
    let Inbound::Session(_, closed) = world.input().await else { panic!() };
    assert_eq!(closed, SessionEvent::Closed { for_good: false });
    world.order(Order::Write(ticket));
    let returned = loop {
        if let Inbound::Message(envelope, ..) = world.input().await {
            break envelope.kind;
        }
    };
    let of = StanzaId::new("derived-1");
    assert_eq!(returned, Kind::Bounced { of, condition: "session-ended".into() });
}

#[tokio::test(start_paused = true)]
async fn an_unknown_user_is_not_asked_for_again() {
    let mut world = World::new(trusted(), State { strict: true, ..State::default() });
    world.open("bob", Show::Available);
    world.up().await;
    let Inbound::Session(_, closed) = world.input().await else { panic!() };
    assert_eq!(closed, SessionEvent::Closed { for_good: true });
    assert!(matches!(world.seen().await, Seen::Start(_)));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(world.seen.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn somebody_without_an_account_that_we_serve_has_no_session() {
    let mut world = World::new(trusted(), State::default());
    for person in ["hal", "eve"] {
        world.open(person, Show::Available);
    }
    let mut closed = Vec::new();
    while closed.len() < 2 {
        if let Inbound::Session(person, SessionEvent::Closed { for_good: true }) = world.answer().await {
            closed.push(person.to_string());
        }
    }
    assert_eq!(closed, ["hal", "eve"]);
}

#[tokio::test(start_paused = true)]
async fn the_session_started_is_compared_with_the_one_asked_for() {
    let binds = "service@lab.example/webex-1".parse().ok();
    let mut world = World::new(trusted(), State { binds, ..State::default() });
    world.open("bob", Show::Available);
    world.up().await;
    let Inbound::Session(person, closed) = world.input().await else { panic!() };
    assert_eq!((person.as_str(), closed), ("bob", SessionEvent::Closed { for_good: true }));
    assert!(matches!(world.seen().await, Seen::Start(_)));
    assert!(matches!(world.seen().await, Seen::End(_)), "nothing is said as somebody else");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(world.seen.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn without_acknowledgement_a_ping_gives_the_receipt() {
    let mut world = World::new(trusted(), State { unmanaged: true, ..State::default() });
    let stream = world.settled().await;
    world.far.tell(|far| far.mute = true);
    world.say(1, "one");
    let (ticket, _) = world.attempt().await;
    world.order(Order::Write(ticket));
    assert_eq!(body(&world.stanza().await), "one");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(world.answers.try_recv().is_err(), "written is not arrived");
    // The ping is never answered: the stream counts as dead, and cannot be resumed.
    assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Lost)));
    match world.answer().await {
        Inbound::Stream(s, StreamEvent::Refused { h: None }) => assert_eq!(s, stream),
        other => panic!("{other:?}"),
    }
    world.far.tell(|far| far.mute = false);
    assert_eq!(world.receipt().await, (1, Outcome::Unknown));
    let stream = world.up().await;
    let Inbound::Session(_, SessionEvent::Closed { .. }) = world.input().await else { panic!() };
    world.opening(&stream, false).await;
    world.settle().await;
    world.say(2, "two");
    let (ticket, _) = world.attempt().await;
    world.order(Order::Write(ticket));
    assert_eq!(world.receipt().await, delivered(2));
}

#[tokio::test(start_paused = true)]
async fn a_full_hub_leaves_the_link_unread_and_deliveries_go_on() {
    let mut world = World::new(trusted(), State::default());
    let stream = world.settled().await;
    for n in 0..20 {
        world.far.send(BOB, &HELLO.replace("m1", &format!("m{n}")));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.say(1, "one");
    let (ticket, _) = world.attempt().await;
    world.order(Order::Write(ticket));
    assert_eq!(body(&world.stanza().await), "one", "writing does not wait for reading");
    // Left unread for too long, the link is dropped and resumed; the receipt is then the router's to give.
    assert!(matches!(world.answer().await, Inbound::Stream(s, StreamEvent::Lost) if s == stream));
    assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Resumed { .. })));
    let mut ids = Vec::new();
    while ids.len() < 20 {
        match soon(world.intake.recv()).await {
            Inbound::Message(envelope, ..) => {
                let Origin::Jabber(origin) = envelope.origin else { panic!() };
                ids.push(origin.stanza.to_string());
            }
            Inbound::Handled(_) | Inbound::Session(..) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ids, (0..20).map(|n| format!("m{n}")).collect::<Vec<_>>(), "each once, in order");
}

#[tokio::test(start_paused = true)]
async fn hints_and_reports_go_out_where_they_can() {
    let mut world = World::new(trusted(), State::default());
    world.settled().await;
    let hint = Hint::TypingInJabber {
        from: PersonId::new("bob"),
        conversation: ConversationId::new("ann"),
        active: true,
        id: DerivedId::new("hint"),
    };
    world.order(Order::Hint(hint));
    let typing = world.stanza().await;
    assert!(typing.has_child("composing", super::ns::CHAT_STATES));
    assert_eq!((typing.attr("id"), typing.attr("to")), (Some("hint"), Some("ann@lab.example")));

    let failed = || entry(1, "ann", EntryKind::Text, Body::None);
    world.order(Order::Undelivered(Box::new(failed()), "late".into()));
    world.far.send(BOB, "<presence xmlns='jabber:client' from='bob@lab.example/desk'/>");
    world.quiet().await;
    world.order(Order::Undelivered(Box::new(failed()), "late".into()));
    let error = world.stanza().await;
    assert_eq!((error.attr("to"), error.attr("id")), (Some("bob@lab.example/desk"), Some("native")));
    assert_eq!(error.attr("type"), Some("error"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_leaves_the_stream_or_signs_out() {
    for sign_out in [false, true] {
        let mut world = World::new(trusted(), State::default());
        world.settled().await;
        world.say(1, "last");
        let (ticket, _) = world.attempt().await;
        world.order(Order::Stop { sign_out });
        world.say(2, "too late");
        let later = Outcome::Later { cause: Cause::Session(PersonId::new("bob")), after: None };
        assert_eq!(world.receipt().await, (2, later));
        world.order(Order::Write(ticket));
        assert_eq!(body(&world.stanza().await), "last");
        assert_eq!(world.receipt().await, delivered(1));
        if sign_out {
            assert!(matches!(world.seen().await, Seen::End(jid) if jid == BOB));
            assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Refused { .. })));
        }
        (&mut world.edge).await.unwrap();
        while let Ok(answer) = world.answers.try_recv() {
            if let Inbound::Keep { key, value, ask } = answer {
                world.keep(key, value, ask);
            }
        }
        assert_eq!(world.kept.values.is_empty(), sign_out, "{:?}", world.kept.values.keys());
    }
}
