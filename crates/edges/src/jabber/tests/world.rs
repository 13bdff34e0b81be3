//! What the tests of the edge share: the edge, the server on the other end of its pipes, and themselves as its hub.

use std::sync::Arc;
use std::time::Duration;

use presence_map::Show;
use router::directory::Directory;
use router::envelope::{Body, Envelope, Link as Written};
use router::ids::*;
use router::inbound::{Cause, Facts, Inbound, Outcome, PersonFacts, SessionEvent, StreamEvent};
use router::outbound::{MaybeSent, Wanted};
use router::outbox::{Entry, EntryKind, EntryState, Lane};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use xmpp_core::{Element, ns};

use super::super::*;
use super::far::{Far, Seen, State};
use crate::seam::{Clock, Generator, Scale};

pub(super) const BOB: &str = "bob@lab.example/webex-1";

/// Opens what is sealed under a known key, knows whom Bob talks to, and when what is named for its time was written.
pub(super) struct Notebook;

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

    fn written<'a>(
        &'a self,
        _: &'a ConversationId,
        _: &'a PersonId,
        activity: &'a ActivityId,
    ) -> Opening<'a, Option<Time>> {
        Box::pin(async move {
            match activity.as_str() {
                "not now" => Err(OpenError::Later(Cause::Host("cloud".into()))),
                "not to be asked after" => panic!("it was asked after"),
                named => Ok(named.parse().ok().map(Time)),
            }
        })
    }
}

pub(super) struct World {
    pub(super) far: Far,
    pub(super) seen: UnboundedReceiver<Seen>,
    pub(super) orders: UnboundedSender<Order>,
    pub(super) intake: mpsc::Receiver<Inbound>,
    pub(super) answers: UnboundedReceiver<Inbound>,
    pub(super) edge: JoinHandle<()>,
    pub(super) kept: Kept,
    /// The asks that were not answered: those of values whose names begin with this.
    pub(super) withheld: Option<&'static str>,
    pub(super) asks: Vec<u64>,
    pub(super) access: Access,
    pub(super) encryption: Encryption,
    /// The names of the nodes of the cluster, where there is a link to each.
    pub(super) names: Vec<String>,
    pub(super) runs: u64,
    /// How many clusters there are, all served by one server.
    pub(super) clusters: usize,
    pub(super) refusals: Refusals,
    /// Makes connections in the place of `far`.
    pub(super) dial: Option<Arc<dyn Dial>>,
    pub(super) standing: Option<watch::Receiver<Standing>>,
}

pub(super) fn trusted() -> Access {
    Access::Trusted {
        component: "connector.lab.example".into(),
        secret: "secret".into(),
        framing: Framing::Component,
    }
}

pub(super) fn service() -> Access {
    Access::Service { account: "service@lab.example".into(), password: "secret".into() }
}

/// These people, all enabled.
pub(super) fn facts_of(names: &[&str]) -> Vec<PersonFacts> {
    let person = |name: &&str| PersonFacts {
        id: PersonId::new(*name),
        ours: true,
        jid: Some(JabberId::new(format!("{name}@lab.example"))),
        home: Some("".into()),
        mail: format!("{name}@corp.example").into(),
        name: (*name).into(),
        enabled: true,
        pending: false,
        token: true,
    };
    names.iter().map(person).collect()
}

/// A directory of these people, all enabled and homed there.
pub(super) fn everybody(names: &[String], home: &str) -> Arc<Directory> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let people = facts_of(&names)
        .into_iter()
        .map(|person| PersonFacts { home: Some(home.into()), ..person })
        .collect();
    Arc::new(Directory::default().with(&Facts { people, complete: true }, Time(0), Time(0)))
}

pub(super) fn directory() -> Arc<Directory> {
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
        person("fay", Some("fay@lab2.example"), true),
        person("o'hara", Some("o\\27hara@lab.example"), true),
        person("hal", None, true),
        person("kim", Some("kim@lab.example"), false),
    ];
    Arc::new(Directory::default().with(&Facts { people, complete: true }, Time(0), Time(0)))
}

/// Waits, but not for ever: paused time passes by itself where nothing else happens.
pub(super) async fn soon<T>(what: impl Future<Output = Option<T>>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(1800), what).await;
    waited.expect("something happens within half an hour").expect("the other side is there")
}

/// One of several clusters, with a domain and a trusted link of its own.
fn of_its_own(number: usize, like: &Cluster) -> Cluster {
    let Access::Trusted { component, secret, framing } = like.access.clone() else {
        panic!("a trusted link")
    };
    let component = format!("{number}.{component}");
    let access = Access::Trusted { component, secret, framing };
    Cluster { domains: vec![format!("lab{number}.example")], access, ..like.clone() }
}

impl World {
    pub(super) fn new(access: Access, state: State) -> Self {
        Self::encrypted(access, Encryption::Off, state)
    }

    pub(super) fn encrypted(access: Access, encryption: Encryption, state: State) -> Self {
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
            encryption,
            names: Vec::new(),
            runs: 0,
            clusters: 1,
            refusals: Refusals::default(),
            dial: None,
            standing: None,
        };
        world.start();
        world
    }

    /// Starts the edge, as after a crash: what was kept is all it has.
    pub(super) fn start(&mut self) {
        self.edge.abort();
        self.runs += 1;
        let (orders, receiver) = mpsc::unbounded_channel();
        let (taker, intake) = mpsc::channel(4);
        let (answerer, answers) = mpsc::unbounded_channel();
        (self.orders, self.intake, self.answers) = (orders, intake, answers);
        let cluster = Cluster {
            domains: vec!["lab.example".into(), "lab2.example".into()],
            nodes: match &self.names[..] {
                [] => vec![("down".into(), 7400), ("hung".into(), 7400), ("up".into(), 7400)],
                names => names.iter().map(|name| (name.clone(), 7400)).collect(),
            },
            names: self.names.clone(),
            access: self.access.clone(),
            encryption: self.encryption.clone(),
        };
        let clusters = match self.clusters {
            1 => vec![cluster],
            count => (1..=count).map(|n| of_its_own(n, &cluster)).collect(),
        };
        let config = Config { node: "1".into(), utc_offset: 0, sessions_per_second: 100, clusters };
        let means = Means {
            opener: Arc::new(Notebook),
            dial: self.dial.clone().unwrap_or_else(|| Arc::new(self.far.clone())),
            clock: Clock::starting_at(Time(1_790_000_000_000)),
            generator: Generator::seeded(self.runs),
            scale: Scale(1),
            standing: self.standing.clone(),
            refusals: self.refusals.clone(),
        };
        let port = HubPort::new(taker.clone(), taker, answerer);
        self.edge = JabberEdge::start(config, port, receiver, self.kept.clone(), means);
        self.order(Order::Directory(directory()));
    }

    /// Why each of those is refused a session who are.
    pub(super) fn refused(&self) -> Vec<(String, &'static str)> {
        self.refusals.list().into_iter().map(|refused| (refused.person, refused.reason)).collect()
    }

    pub(super) fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }

    pub(super) fn open(&self, person: &str, show: Show) {
        self.order(Order::Session(
            PersonId::new(person),
            Wanted::Open { show, text: "@ Webex", active: None },
        ));
    }

    /// The next answer that is no `Keep`; values are kept as the hub does.
    pub(super) async fn answer(&mut self) -> Inbound {
        loop {
            match soon(self.answers.recv()).await {
                Inbound::Keep { key, value, ask } => self.keep(key, value, ask),
                other => return other,
            }
        }
    }

    pub(super) fn keep(&mut self, key: Box<str>, value: Option<Box<[u8]>>, ask: u64) {
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
    pub(super) async fn input(&mut self) -> Inbound {
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
    pub(super) fn commit(&mut self, upstream: Upstream) {
        let StreamId::Imp(stream) = &upstream.stream else { panic!("not ours") };
        self.kept.streams.insert(stream.clone(), upstream.n);
        self.order(Order::Acknowledge(upstream));
    }

    pub(super) async fn message(&mut self) -> (Envelope, Vec<Body>, Upstream) {
        match self.input().await {
            Inbound::Message(envelope, parts, upstream) => (envelope, parts, upstream),
            other => panic!("expected a message, got {other:?}"),
        }
    }

    pub(super) async fn seen(&mut self) -> Seen {
        soon(self.seen.recv()).await
    }

    /// The next stanza that the far end sees and that is no request.
    pub(super) async fn stanza(&mut self) -> Element {
        loop {
            match self.seen().await {
                Seen::Stanza(stanza) if stanza.name() != "iq" => return stanza,
                Seen::Stanza(_) => {}
                other => panic!("expected a stanza, got {other:?}"),
            }
        }
    }

    pub(super) async fn up(&mut self) -> ImpStreamId {
        match self.answer().await {
            Inbound::Stream(stream, StreamEvent::Up { .. }) => stream,
            other => panic!("expected a stream, got {other:?}"),
        }
    }

    /// Bob's session, opened and settled; the stream that carries it.
    pub(super) async fn settled(&mut self) -> ImpStreamId {
        self.open("bob", Show::Available);
        let stream = self.up().await;
        self.opening(&stream, false).await;
        self.settle().await;
        let presence = |seen| matches!(seen, Seen::Stanza(stanza) if stanza.name() == "presence");
        while !presence(self.seen().await) {}
        while self.seen.try_recv().is_ok() {}
        stream
    }

    pub(super) async fn opening(&mut self, on: &ImpStreamId, was_resumed: bool) {
        match self.input().await {
            Inbound::Session(person, SessionEvent::Opening { stream, resumed, .. }) => {
                assert_eq!((person.as_str(), &stream, resumed), ("bob", on, was_resumed));
            }
            other => panic!("expected an opening, got {other:?}"),
        }
    }

    pub(super) async fn settle(&mut self) {
        match self.input().await {
            Inbound::Session(person, SessionEvent::Settled) => assert_eq!(person.as_str(), "bob"),
            other => panic!("expected a settled session, got {other:?}"),
        }
        // What is kept of it follows.
        self.quiet().await;
    }

    /// Lets everything go on that can, and takes in what is kept.
    pub(super) async fn quiet(&mut self) {
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

    pub(super) fn deliver(&self, ticket: u64, to: &str, kind: EntryKind, body: Body) {
        let (entry, maybe_sent) = (entry(ticket, to, kind, body), MaybeSent::No);
        let ticket = Ticket(ticket);
        self.order(Order::Deliver(Box::new(Delivery { ticket, entry, target: vec![], maybe_sent })));
    }

    pub(super) fn say(&self, ticket: u64, text: &str) {
        self.deliver(ticket, "ann", EntryKind::Text, Body::Clear(text.into()));
    }

    pub(super) async fn attempt(&mut self) -> (Ticket, Position) {
        match self.answer().await {
            Inbound::Attempt(ticket, Some(position)) => (ticket, position),
            other => panic!("expected an attempt, got {other:?}"),
        }
    }

    pub(super) async fn receipt(&mut self) -> (u64, Outcome) {
        match self.answer().await {
            Inbound::Receipt(Ticket(ticket), outcome) => (ticket, outcome),
            other => panic!("expected a receipt, got {other:?}"),
        }
    }
}

pub(super) fn entry(number: u64, to: &str, kind: EntryKind, body: Body) -> Entry {
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
        from: None,
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

pub(super) fn body(stanza: &Element) -> String {
    stanza.get_child("body", ns::CLIENT).map(Element::text).unwrap_or_default()
}

pub(super) fn delivered(ticket: u64) -> (u64, Outcome) {
    let link = Written::Stanza(DerivedId::new(format!("derived-{ticket}")));
    (ticket, Outcome::Delivered(link))
}

pub(super) const HELLO: &str = "<message xmlns='jabber:client' from='ann@lab.example/desk' to='bob@lab.example' \
    type='chat' id='m1'><body>hello</body></message>";

impl World {
    /// After `Settled`: the presence, the ping's answer, and the second delivery, in whatever order.
    pub(super) async fn settle_after(&mut self, stream: &ImpStreamId) {
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
