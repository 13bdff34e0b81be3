//! A scripted cloud, and the edge before it.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use router::directory::Directory;
use router::ids::{JabberId, PersonId, Time};
use router::inbound::{Facts, Inbound, PersonFacts};
use router::tag::Tagger;
use router::times::Times;
use serde_json::{Value, json};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use webex_api::Url;
use webex_api::auth::AccessToken;

use crate::jabber::{Cleartext, OpenError, Opening};
use crate::port::{HubPort, Order};
use crate::seam::{BoxIo, Clock, Dial, Generator, Scale};
use crate::webex::{
    Cloud, CloudConfig, Enrolling, Keys, Ledger, NewConversation, PeopleConfig, PresenceConfig, Source,
    TokenConfig, WebexConfig, WebexEdge, WebexKept, WebexMeans,
};

pub(super) const ALICE: &str = "11111111-1111-4111-8111-111111111111";
pub(super) const BOB: &str = "22222222-2222-4222-8222-222222222222";
pub(super) const BOT: &str = "99999999-9999-4999-8999-999999999999";
pub(super) const BASE: &str = "http://cloud.example/conversation/api/v1";
/// When every world begins, in all clocks.
pub(super) const START: i64 = 1_714_557_600_000;

/// What the script answers to a method, an address with its query, and a body; `None`: the usual.
type Script = Box<dyn FnMut(&str, &str, &Value) -> Option<(u16, Value)> + Send>;

pub(super) struct Shared {
    script: Mutex<Script>,
    log: Mutex<Vec<String>>,
    sockets: mpsc::UnboundedSender<WebSocketStream<DuplexStream>>,
}

/// The port of Mercury.
pub(super) const MERCURY: u16 = 81;

struct Pipes(Arc<Shared>);

impl Dial for Pipes {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxIo>> + Send + 'a>> {
        let shared = Arc::clone(&self.0);
        shared.log.lock().unwrap().push(format!("DIAL {host}:{port}"));
        let mercury = port == MERCURY;
        Box::pin(async move {
            let (near, far) = duplex(256 * 1024);
            tokio::spawn(async move {
                if mercury {
                    if let Ok(socket) = tokio_tungstenite::accept_async(far).await {
                        let _ = shared.sockets.send(socket);
                    }
                    return;
                }
                let service = service_fn(move |request: http::Request<Incoming>| {
                    let shared = Arc::clone(&shared);
                    async move { Ok::<_, Infallible>(shared.answer(request).await) }
                });
                let server = hyper::server::conn::http1::Builder::new()
                    .auto_date_header(false)
                    .serve_connection(TokioIo::new(far), service);
                let _ = server.await;
            });
            Ok(Box::new(near) as BoxIo)
        })
    }
}

impl Shared {
    /// The requests so far, and the connections, whose line contains this.
    pub(super) fn asked(&self, what: &str) -> Vec<String> {
        self.log.lock().unwrap().iter().filter(|line| line.contains(what)).cloned().collect()
    }

    async fn answer(&self, request: http::Request<Incoming>) -> http::Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        // A form is a text.
        let body: Value =
            serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into());
        let address = parts.uri.to_string();
        let line = format!("{} {address}", parts.method);
        let scripted = (self.script.lock().unwrap())(parts.method.as_str(), &address, &body);
        let (status, answer) =
            scripted.unwrap_or_else(|| usual(parts.method.as_str(), parts.uri.path(), &body));
        self.log.lock().unwrap().push(line);
        if status == 0 {
            // No answer at all.
            std::future::pending::<()>().await;
        }
        let next = answer.get("next").and_then(Value::as_str);
        let link = next.map(|next| format!("<{next}>; rel=\"next\"")).unwrap_or_default();
        let answer = http::Response::builder()
            .status(status)
            .header("Link", link)
            .body(Full::from(answer.to_string()));
        answer.unwrap()
    }
}

fn usual(method: &str, path: &str, body: &Value) -> (u16, Value) {
    match (method, path) {
        ("GET", "/u2c/limited/catalog") => (
            200,
            json!({"serviceLinks": {"conversation": BASE, "wdm": "http://cloud.example/wdm",
                "idbroker": "http://cloud.example", "hydra": "http://cloud.example", "apheleia": "http://cloud.example/apheleia"}}),
        ),
        ("POST", "/idb/oauth2/v1/access_token") => {
            (200, json!({"access_token": "token", "expires_in": 86_400, "token_type": "Bearer"}))
        }
        ("POST", "/wdm/devices") => (
            200,
            json!({"url": "http://cloud.example/wdm/devices/d1", "name": body["name"],
                "webSocketUrl": format!("ws://cloud.example:{MERCURY}/d1")}),
        ),
        ("POST", "/conversation/api/v1/users") => (
            200,
            json!({"alice@corp.example": {"id": ALICE, "userExists": true},
                "bob@corp.example": {"id": BOB, "userExists": true}}),
        ),
        _ => (404, json!({"message": "not in the script"})),
    }
}

/// Seals by naming the key: enough to see which one was used.
#[derive(Debug, Default)]
pub(super) struct PlainKeys;

impl Keys for PlainKeys {
    fn attached(&self, _: &PersonId, _: &Url) {}
    fn detached(&self, _: &PersonId) {}
    fn replies(&self, _: &PersonId, _: Vec<String>) {}
    fn seal<'a>(
        &'a self,
        _via: &'a PersonId,
        key: &'a str,
        _iv: &'a [u8; 12],
        text: &'a str,
    ) -> Opening<'a, String> {
        Box::pin(async move { Ok(format!("{text} sealed with {key}")) })
    }
    fn open<'a>(&'a self, _: &'a PersonId, _: &'a str, _: &'a str) -> Opening<'a, Cleartext> {
        Box::pin(async { Err(OpenError::Wedged("nothing is opened here".into())) })
    }
    fn new_conversation<'a>(
        &'a self,
        _via: &'a PersonId,
        _people: &'a [PersonId; 2],
    ) -> Opening<'a, NewConversation> {
        let new = NewConversation { key: "kms://k/keys/new".into(), kms_message: "wrapped".into() };
        Box::pin(async { Ok(new) })
    }
}

/// Knows one message.
#[derive(Debug)]
struct KnownActivity;

/// The activity of the one message that the store knows.
pub(super) const KNOWN: &str = "known";

impl Ledger for KnownActivity {
    fn knows<'a>(
        &'a self,
        activity: &'a webex_api::ActivityId,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async move { activity.as_str() == KNOWN })
    }
}

pub(super) fn organization() -> webex_api::OrgId {
    "33333333-3333-4333-8333-333333333333".parse().unwrap()
}

fn token() -> AccessToken {
    AccessToken::try_from("machine".to_owned()).unwrap()
}

/// A cloud, and a client of it.
pub(super) struct Sky {
    pub(super) cloud: Cloud,
    pub(super) shared: Arc<Shared>,
    sockets: mpsc::UnboundedReceiver<WebSocketStream<DuplexStream>>,
    pub(super) clock: Clock,
    generator: Generator,
}

impl Sky {
    pub(super) fn new(
        script: impl FnMut(&str, &str, &Value) -> Option<(u16, Value)> + Send + 'static,
    ) -> Self {
        let client = webex_api::auth::Client { id: "id".into(), secret: "secret".to_owned().into() };
        Self::with(TokenConfig::Organization { client, machine: token() }, script)
    }

    pub(super) fn with(
        tokens: TokenConfig,
        script: impl FnMut(&str, &str, &Value) -> Option<(u16, Value)> + Send + 'static,
    ) -> Self {
        let (accepted, sockets) = mpsc::unbounded_channel();
        let script: Script = Box::new(script);
        let shared =
            Arc::new(Shared { script: Mutex::new(script), log: Mutex::default(), sockets: accepted });
        let clock = Clock::starting_at(Time(START));
        let generator = Generator::seeded(1);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let config = CloudConfig {
            discovery: "http://cloud.example/u2c".parse().unwrap(),
            organization: organization(),
            tokens,
            tls: Arc::new(tls),
            proxy: None,
            connections_per_host: 8,
            requests_per_second: None,
            scale: Scale(1),
        };
        let pipes = Arc::new(Pipes(Arc::clone(&shared)));
        let cloud = Cloud::new(config, pipes, clock, &generator).unwrap();
        Self { cloud, shared, sockets, clock, generator }
    }
}

pub(super) struct World {
    shared: Arc<Shared>,
    sockets: mpsc::UnboundedReceiver<WebSocketStream<DuplexStream>>,
    pub(super) intake: mpsc::Receiver<Inbound>,
    answers: mpsc::UnboundedReceiver<Inbound>,
    pub(super) cloud: Cloud,
    pub(super) enrolling: Enrolling,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) clock: Clock,
    /// Since when alice is enabled.
    since: Time,
}

/// The cloud's end of a Mercury socket.
pub(super) struct Peer {
    socket: WebSocketStream<DuplexStream>,
    sequence: u64,
    clock: Clock,
}

fn facts(id: &str, name: &str, enabled: bool) -> PersonFacts {
    PersonFacts {
        id: PersonId::new(id),
        ours: true,
        jid: Some(JabberId::new(format!("{name}@lab.example"))),
        home: Some("".into()),
        mail: format!("{name}@corp.example").into(),
        name: name.into(),
        enabled,
        pending: false,
        token: true,
    }
}

impl World {
    /// A world in which alice is enabled and bob is not, with room for so many inputs at the hub.
    pub(super) fn new(
        room: usize,
        kept: WebexKept,
        script: impl FnMut(&str, &str, &Value) -> Option<(u16, Value)> + Send + 'static,
    ) -> Self {
        Self::under(Sky::new(script), room, kept, None, false)
    }

    /// A world in which we act as nobody, and a bot relays.
    pub(super) fn of_a_bot(
        kept: WebexKept,
        script: impl FnMut(&str, &str, &Value) -> Option<(u16, Value)> + Send + 'static,
    ) -> Self {
        Self::under(Sky::with(TokenConfig::Relay, script), 64, kept, Some(token()), false)
    }

    /// The same world as [`World::new`], with a presence that is followed or only read now and then.
    pub(super) fn watching(
        subscribe: bool,
        kept: WebexKept,
        script: impl FnMut(&str, &str, &Value) -> Option<(u16, Value)> + Send + 'static,
    ) -> Self {
        Self::under(Sky::new(script), 64, kept, None, subscribe)
    }

    /// The same world as [`World::new`], with a bot beside it.
    pub(super) fn with_bot(
        kept: WebexKept,
        script: impl FnMut(&str, &str, &Value) -> Option<(u16, Value)> + Send + 'static,
    ) -> Self {
        Self::under(Sky::new(script), 64, kept, Some(token()), false)
    }

    /// A world in which people have enrolled with these refresh tokens.
    pub(super) fn of_enrolled(
        listed: &[(&str, &str)],
        kept: WebexKept,
        script: impl FnMut(&str, &str, &Value) -> Option<(u16, Value)> + Send + 'static,
    ) -> Self {
        let client = webex_api::auth::Client { id: "id".into(), secret: "secret".to_owned().into() };
        let listed =
            listed.iter().map(|(person, token)| (PersonId::new(*person), (*token).to_owned().into()));
        Self::under(
            Sky::with(TokenConfig::User { client, listed: listed.collect() }, script),
            64,
            kept,
            None,
            false,
        )
    }

    fn under(sky: Sky, room: usize, kept: WebexKept, bot: Option<AccessToken>, subscribe: bool) -> Self {
        let Sky { cloud, shared, sockets, clock, generator } = sky;
        let organization = organization();
        let (take, intake) = mpsc::channel(room);
        let (answer, answers) = mpsc::unbounded_channel();
        let rows = [(JabberId::new("alice@lab.example"), "alice@corp.example".to_owned(), true)];
        let config = WebexConfig {
            times: Times::default(),
            handshakes: 4,
            presence: PresenceConfig { poll: Duration::from_secs(600), subscribe },
            people: PeopleConfig {
                groups: crate::webex::ResourceGroups::default(),
                source: Source::Table { rows: rows.into(), token: token() },
                organization,
                refresh: Duration::from_secs(86_400),
            },
            bot,
            federated: true,
            utc_offset: 0,
        };
        let since = kept.cursors.iter().map(|(_, cursor)| *cursor).min();
        let since = since.unwrap_or(Time(START)).min(Time(START - 60_000));
        let (keys, ledger) = (Arc::new(PlainKeys), Arc::new(KnownActivity));
        let means = WebexMeans {
            cloud: cloud.clone(),
            keys,
            ledger,
            tagger: Tagger::new(b"key", &[]),
            clock,
            generator,
        };
        let (orders, mailbox) = mpsc::unbounded_channel();
        let edge = WebexEdge::new(config, HubPort::new(take.clone(), take, answer), kept, means);
        let enrolling = edge.enrolling();
        edge.start(mailbox);
        let world = Self { shared, sockets, intake, answers, cloud, enrolling, orders, clock, since };
        world.serves(true);
        world
    }

    fn serves(&self, alice: bool) {
        let people = vec![facts(ALICE, "alice", alice), facts(BOB, "bob", false)];
        let directory = Directory::default();
        let directory = directory.with(&Facts { people, complete: true }, Time(START), self.since);
        self.orders.send(Order::Directory(Arc::new(directory))).unwrap();
    }

    /// Alice is not enabled any more.
    pub(super) fn serves_nobody(&self) {
        self.serves(false);
    }

    /// The requests so far whose line contains this.
    pub(super) fn asked(&self, what: &str) -> Vec<String> {
        self.shared.asked(what)
    }

    /// The next answer of the edge that is of interest here: a value to be kept, if somebody waits for that.
    pub(super) async fn answer(&mut self) -> Inbound {
        loop {
            let next = timeout(Duration::from_secs(600), self.answers.recv()).await.unwrap().unwrap();
            if !matches!(next, Inbound::Keep { ask: 0, .. }) {
                return next;
            }
        }
    }

    /// Waits until it is told that a catch-up is owed for this trigger; earlier ones may be told again before.
    pub(super) async fn behind(&mut self, trigger: u64) {
        loop {
            match self.answer().await {
                Inbound::Behind(_, told) if told == trigger => return,
                Inbound::Behind(_, told) if told < trigger => {}
                other => panic!("not behind for {trigger}: {other:?}"),
            }
        }
    }

    /// The next input of the edge that is of interest here.
    pub(super) async fn input(&mut self) -> Inbound {
        loop {
            let next = timeout(Duration::from_secs(600), self.intake.recv()).await.unwrap().unwrap();
            if !matches!(next, Inbound::Directory(_) | Inbound::Statuses(_)) {
                return next;
            }
        }
    }

    /// Accepts a socket, and does not make it ready yet.
    pub(super) async fn opening(&mut self) -> Peer {
        let socket = timeout(Duration::from_secs(600), self.sockets.recv()).await.unwrap().unwrap();
        let mut peer = Peer { socket, sequence: 0, clock: self.clock };
        assert!(peer.hears().await.contains("authorization"));
        peer
    }

    /// Accepts a socket and makes it ready.
    pub(super) async fn socket(&mut self) -> Peer {
        let mut peer = self.opening().await;
        peer.becomes_ready().await;
        peer
    }

    /// Whether the edge wants no socket, and nothing more was told than that a catch-up is owed for this trigger.
    pub(super) fn is_quiet(&mut self, trigger: u64) -> bool {
        let told = |inbound: &Inbound| match inbound {
            Inbound::Directory(_) | Inbound::Statuses(_) | Inbound::Keep { ask: 0, .. } => false,
            Inbound::Behind(_, told) => *told > trigger,
            _ => true,
        };
        let mut intake = std::iter::from_fn(|| self.intake.try_recv().ok());
        let mut answers = std::iter::from_fn(|| self.answers.try_recv().ok());
        let news = intake.any(|inbound| told(&inbound)) || answers.any(|answer| told(&answer));
        !news && self.sockets.try_recv().is_err()
    }

    pub(super) fn now(&self) -> i64 {
        self.clock.now().0
    }
}

impl Peer {
    /// Sends an event in a frame with the next number as its id.
    pub(super) async fn says(&mut self, data: Value) {
        self.sequence += 1;
        let frame = json!({"id": self.sequence.to_string(), "sequenceNumber": self.sequence,
            "timestamp": self.clock.now().0, "data": data});
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// Every event comes by it from now on.
    pub(super) async fn becomes_ready(&mut self) {
        self.says(json!({"eventType": "mercury.buffer_state"})).await;
    }

    /// Closes it with this code.
    pub(super) async fn ends(&mut self, code: u16) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
        self.socket.close(Some(frame)).await.unwrap();
    }

    /// Says that the cloud will close this socket soon.
    pub(super) async fn shuts_down(&mut self) {
        let frame = json!({"id": "shutdown", "type": "shutdown"}).to_string();
        self.socket.send(Message::text(frame)).await.unwrap();
    }

    /// Loses a frame: its number is skipped.
    pub(super) fn loses(&mut self) {
        self.sequence += 1;
    }

    pub(super) async fn posts(&mut self, id: &str) {
        let activity = post(id, self.clock.now().0);
        self.says(json!({"eventType": "conversation.activity", "activity": activity})).await;
    }

    /// The next frame that is no acknowledgement of a pong, nor a ping.
    pub(super) async fn hears(&mut self) -> String {
        loop {
            let text = self.socket.next().await.unwrap().unwrap().into_text().unwrap();
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["type"] == "ping" {
                let pong = json!({"id": frame["id"], "type": "pong"}).to_string();
                self.socket.send(Message::text(pong)).await.unwrap();
            } else if frame["messageId"].as_str().is_none_or(|id| id.len() < 30) {
                return text.to_string();
            }
        }
    }

    /// Whether the other end is gone, sooner or later.
    pub(super) async fn is_closed(&mut self) -> bool {
        while let Some(Ok(_)) = timeout(Duration::from_secs(5), self.socket.next()).await.unwrap() {}
        true
    }

    /// Answers pings for so long, and gives the acknowledgements that came meanwhile.
    pub(super) async fn waits(&mut self, time: Duration) -> Vec<String> {
        let mut heard = Vec::new();
        let until = tokio::time::Instant::now() + time;
        while let Ok(text) = tokio::time::timeout_at(until, self.hears()).await {
            heard.push(text);
        }
        heard
    }
}

/// An activity of bob's in the one conversation there is.
pub(super) fn post(id: &str, published: i64) -> Value {
    json!({"id": id, "verb": "post", "published": webex_api::Timestamp(published).to_string(),
        "actor": {"id": BOB}, "object": {"objectType": "comment", "displayName": "sealed"},
        "encryptionKeyUrl": "kms://k/keys/1", "target": conversation("c1", BASE)})
}

pub(super) fn conversation(id: &str, base: &str) -> Value {
    json!({"id": id, "url": format!("{base}/conversations/{id}"), "tags": ["ONE_ON_ONE"],
        "defaultActivityEncryptionKeyUrl": "kms://k/keys/1", "participants": {"items": []},
        "activities": {"items": []}})
}

/// A number in a query.
pub(super) fn number(address: &str, name: &str) -> Option<i64> {
    address.split(['?', '&']).find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}
