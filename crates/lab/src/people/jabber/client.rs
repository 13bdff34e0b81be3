//! The task behind a Jabber puppet: it holds the stream, takes it up again when the connection breaks, and does what the
//! person asks for.

mod abilities;
mod misbehaviour;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use xmpp_core::sasl::Credentials;
use xmpp_core::session::{CloseReason, Event};
use xmpp_core::sm::{Outcome, ResumeState};
use xmpp_core::tokio::{ClientConfig, Connection, Tls};
use xmpp_core::xml::Compose as _;
use xmpp_core::{BareJid, Element, Entropy, Jid, c2s, ns};

use super::rooms;
use super::shown::{self, Shown, Status};
use crate::ctx::Ctx;
use crate::idle::Held;
use crate::imp::stanza::{self, CHAT_STATES, DISCO_INFO, MARKERS, OOB};
use crate::imp::{COMPOSED, federation};
use crate::people::{Act, Nobody, Person, PuppetError, What};
use crate::seen::{self, App, Direction, Kind, Sight};

/// The resource of every puppet.
const RESOURCE: &str = "jabber";
/// How long to wait before a connection is tried again; scaled.
const PAUSE: Duration = Duration::from_secs(2);
/// How long the server may take with anything; scaled.
const PATIENCE: Duration = Duration::from_secs(60);
/// The client remembers from whom this many messages were.
const REMEMBERED: usize = 20_000;

type Answer<T> = oneshot::Sender<Result<T, PuppetError>>;

/// What a person asks for.
#[derive(Debug)]
pub(super) enum Command {
    Say { to: String, text: String, answer: Answer<String> },
    Act { act: Act, answer: Answer<()> },
}

/// A stanza that the server is not known to have.
struct Outgoing {
    element: Element,
    /// Where it is in the stream; `None` until it is sent on the present one.
    position: Option<u64>,
    /// Whoever waits until the server has it.
    answer: Option<Done>,
    /// It belongs to the present stream, and is worth nothing on another.
    passing: bool,
    _held: Option<Held>,
}

/// How to tell that something is done.
enum Done {
    Say(String, Answer<String>),
    Act(Answer<()>),
}

impl Done {
    fn tell(self, result: Result<(), PuppetError>) {
        // Whoever asked may have stopped waiting.
        match self {
            Self::Say(id, answer) => drop(answer.send(result.map(|()| id))),
            Self::Act(answer) => drop(answer.send(result)),
        }
    }
}

pub(super) struct Client {
    ctx: Arc<Ctx>,
    port: u16,
    me: seen::Client,
    jid: BareJid,
    password: String,
    /// The person wants to be signed in.
    wanted: bool,
    /// The person signed out, so that nothing but `online` signs in again.
    signed_out: bool,
    connection: Option<Connection>,
    /// How to take up the stream of a lost connection, and how much of it was received beyond that.
    resume: Option<(ResumeState, u64)>,
    outgoing: VecDeque<Outgoing>,
    /// The id of the ping whose answer shows that signing in is done, and who waits for that.
    arriving: Option<(String, Held)>,
    waiting: Vec<Answer<()>>,
    priority: i8,
    show: &'static str,
    manual: Option<(&'static str, String)>,
    /// How many messages were numbered on this stream.
    numbered: u64,
    /// The full JID that each peer last wrote from.
    locks: BTreeMap<BareJid, Jid>,
    /// Whom a question about abilities went to, and who waits for what comes of it.
    asked: BTreeMap<String, (BareJid, Done)>,
    /// The group chats that this client is in.
    rooms: BTreeSet<Jid>,
    /// With whom the messages with these ids were exchanged.
    peers: BTreeMap<String, BareJid>,
    remembered: VecDeque<String>,
}

impl Client {
    /// The client of a person; `None` if there is nothing to sign in as.
    pub(super) fn new(ctx: Arc<Ctx>, port: u16, person: &Person) -> Option<Self> {
        let jid = person.jid.parse().ok()?;
        Some(Self {
            ctx,
            port,
            me: seen::Client::new(&person.name, App::Jabber),
            jid,
            password: person.password.clone(),
            wanted: false,
            signed_out: false,
            connection: None,
            resume: None,
            outgoing: VecDeque::new(),
            arriving: None,
            waiting: Vec::new(),
            priority: 0,
            show: "",
            manual: None,
            numbered: 0,
            locks: BTreeMap::new(),
            asked: BTreeMap::new(),
            rooms: BTreeSet::new(),
            peers: BTreeMap::new(),
            remembered: VecDeque::new(),
        })
    }

    /// Lives until the lab stops.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Command>, sign_in: bool) {
        if sign_in {
            self.sign_in();
        }
        loop {
            if self.wanted && self.connection.is_none() && !self.connect().await {
                let pause = tokio::time::sleep(self.ctx.clock.scaled(PAUSE));
                tokio::select! {
                    biased;
                    command = inbox.recv() => match command {
                        Some(command) => self.command(command).await,
                        None => return,
                    },
                    () = pause => {}
                }
                continue;
            }
            let event = match &mut self.connection {
                None => None,
                Some(connection) => tokio::select! {
                    biased;
                    event = connection.next() => Some(event),
                    command = inbox.recv() => match command {
                        Some(command) => {
                            self.command(command).await;
                            continue;
                        }
                        None => return,
                    },
                },
            };
            match event {
                Some(event) => self.event(event),
                None => match inbox.recv().await {
                    Some(command) => self.command(command).await,
                    None => return,
                },
            }
        }
    }

    fn sign_in(&mut self) {
        self.wanted = true;
        self.signed_out = false;
        let id = self.ctx.rng.uuid();
        self.arriving.get_or_insert((id, self.ctx.idle.hold()));
    }

    /// Opens a stream, or takes up the last one; false if that failed.
    async fn connect(&mut self) -> bool {
        let patience = self.ctx.clock.scaled(PATIENCE);
        let dial = dial(Arc::clone(&self.ctx), self.port, self.stream());
        match tokio::time::timeout(patience, dial).await {
            Ok(Ok(connection)) => {
                self.established(connection);
                true
            }
            Ok(Err(error)) => {
                tracing::debug!(client = %self.me, %error, "not connected");
                false
            }
            Err(_) => {
                tracing::debug!(client = %self.me, "the server does not answer");
                false
            }
        }
    }

    /// What stream to ask for.
    fn stream(&self) -> c2s::Config {
        let credentials = Credentials::Password(self.password.as_str().into());
        let entropy = Entropy::from_bytes(self.ctx.rng.bytes());
        let mut config = c2s::Config::new(self.jid.clone(), credentials, entropy);
        config.resource = Some(RESOURCE.to_owned());
        if let Some((state, skip)) = &self.resume {
            config.resume = Some(state.clone());
            config.skip = *skip;
        }
        config
    }

    fn established(&mut self, connection: Connection) {
        let outcome = connection.outcome();
        self.connection = Some(connection);
        match outcome {
            Outcome::Resumed { h } => self.acknowledged(h),
            Outcome::ResumeFailed { h } => {
                self.acknowledged(h.unwrap_or(0));
                self.greet();
            }
            Outcome::Fresh => self.greet(),
        }
        // What the server does not have goes out again, behind what a new session says first.
        for index in 0..self.outgoing.len() {
            self.transmit(index);
        }
        self.unmanaged_are_done();
    }

    /// What a client says on a new stream: copies before presence, so that none is missed.
    fn greet(&mut self) {
        self.locks.clear();
        self.ask_no_longer();
        self.numbered = 0;
        let high = self.ctx.faults.is_on("jabber-high-priority") && self.ctx.rng.below(2) == 1;
        self.priority = if high { 5 } else { 0 };
        let (id, _) = self.arriving.get_or_insert_with(|| (self.ctx.rng.uuid(), self.ctx.idle.hold()));
        let arrived = id.clone();
        let iq = |kind: &str, id: String, payload: Element| {
            Element::bare("iq", ns::CLIENT).with_attr("type", kind).with_attr("id", id).with_child(payload)
        };
        let mut greeting = vec![
            iq("set", self.ctx.rng.uuid(), Element::bare("enable", ns::CARBONS)),
            iq("get", self.ctx.rng.uuid(), Element::bare("query", stanza::ROSTER)),
            shown::device_presence(self.show, self.priority),
        ];
        if self.manual.is_some() {
            greeting.push(shown::publish_manual(self.ctx.rng.uuid(), self.manual.as_ref()));
        }
        // Nobody is in an ad hoc chat any more who was away.
        self.rooms.retain(rooms::is_persistent);
        greeting.extend(self.rooms.iter().map(rooms::join));
        let server = self.jid.domain().to_string();
        greeting.push(iq("get", arrived, Element::bare("ping", ns::PING)).with_attr("to", server));
        self.outgoing.retain(|outgoing| !outgoing.passing);
        for element in greeting.into_iter().rev() {
            self.outgoing.push_front(Outgoing {
                element,
                position: None,
                answer: None,
                passing: true,
                _held: None,
            });
        }
    }

    /// Sends what waits at this place of the queue.
    fn transmit(&mut self, index: usize) {
        if let (Some(connection), Some(outgoing)) = (&mut self.connection, self.outgoing.get_mut(index)) {
            outgoing.position = Some(connection.send(&outgoing.element));
            if connection.is_managed() {
                connection.request_ack();
            }
        }
    }

    /// Without stream management nothing is ever acknowledged; what was sent counts as done.
    fn unmanaged_are_done(&mut self) {
        if self.connection.as_ref().is_some_and(|connection| !connection.is_managed()) {
            self.acknowledged(u64::MAX);
        }
    }

    fn acknowledged(&mut self, h: u64) {
        while self.outgoing.front().is_some_and(|first| first.position.is_some_and(|position| position <= h))
        {
            if let Some(Outgoing { answer: Some(done), .. }) = self.outgoing.pop_front() {
                done.tell(Ok(()));
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Stanza { element, n } => {
                self.stanza(&element);
                if let Some(connection) = &mut self.connection {
                    connection.acknowledge(n);
                }
            }
            Event::Acked(h) => self.acknowledged(h),
            Event::Closed(reason) => self.closed(&reason),
            _ => {}
        }
    }

    fn closed(&mut self, reason: &CloseReason) {
        tracing::debug!(client = %self.me, ?reason, "the stream is over");
        let Some(connection) = self.connection.take() else { return };
        self.resume = connection
            .resume_state()
            .filter(|_| reason.is_resumable())
            .map(|state| (state.clone(), connection.received().saturating_sub(state.inbound)));
        // Another client of the same name signed in: two that took it from each other would never stop.
        if matches!(reason, CloseReason::StreamError(error) if error.condition == "conflict") {
            self.wanted = false;
            self.signed_out = true;
            self.arriving = None;
            self.fail_all();
        }
    }

    fn fail_all(&mut self) {
        for outgoing in self.outgoing.drain(..) {
            if let Some(done) = outgoing.answer {
                done.tell(Err(PuppetError::Offline(self.me.clone())));
            }
        }
        self.ask_no_longer();
        for answer in self.waiting.drain(..) {
            let _ = answer.send(Err(PuppetError::Offline(self.me.clone())));
        }
    }

    fn stanza(&mut self, stanza: &Element) {
        match stanza.name() {
            "message" => {
                if let Some(room) = rooms::invitation(stanza) {
                    return self.enter(&room);
                }
                if let Some((chat, nick, text)) = rooms::said(stanza) {
                    let dir = if nick == self.me.name { Direction::Out } else { Direction::In };
                    let id = stanza.attr("id").unwrap_or_default().to_owned();
                    return self.see(chat, dir, Kind::Message, id, text);
                }
                let unsaid = shown::is_of_nobody_there(stanza)
                    && self.ctx.faults.is_on_for("jabber-since-12-5", &self.me.name);
                if let Some(shown) = shown::message(self.jid.as_str(), stanza).filter(|_| !unsaid) {
                    self.show_message(shown);
                }
            }
            "presence" => self.presence(stanza),
            "iq" => self.iq(stanza),
            _ => {}
        }
    }

    fn show_message(&mut self, shown: Shown) {
        let peer = shown.peer.to_bare();
        match shown.kind {
            // A chat state or a mark that went nowhere is nothing to a person.
            Kind::Error if !self.peers.contains_key(&shown.id) => return,
            Kind::Message | Kind::Notice | Kind::File => {
                if shown.dir == Direction::In {
                    self.locks.insert(peer.clone(), shown.peer);
                }
                self.remember(&shown.id, &peer);
            }
            _ => {}
        }
        self.record(&peer, shown.dir, shown.kind, shown.id, shown.text);
    }

    fn presence(&mut self, presence: &Element) {
        let Some(from) = presence.attr("from").and_then(|from| from.parse::<Jid>().ok()) else { return };
        if let Some(chat) = rooms::occupant(&from) {
            return self.see(chat, Direction::In, Kind::Presence, String::new(), shown::presence(presence));
        }
        let peer = from.to_bare();
        // Of oneself a client shows the composed state, and not what each device says.
        let of_a_device =
            peer == self.jid && from.resource().is_none_or(|resource| resource.as_str() != COMPOSED);
        if of_a_device || !matches!(presence.attr("type"), None | Some("unavailable")) {
            return;
        }
        self.locks.remove(&peer);
        self.record(&peer, Direction::In, Kind::Presence, String::new(), shown::presence(presence));
    }

    fn iq(&mut self, iq: &Element) {
        let (id, from) = (iq.attr("id").unwrap_or_default(), iq.attr("from"));
        if matches!(iq.attr("type"), Some("get" | "set")) {
            let to = from.unwrap_or_default();
            let own = format!("{}/{RESOURCE}", self.jid);
            let answer = match iq.children().next() {
                Some(payload) if payload.is("ping", ns::PING) => stanza::result(iq, &own, to, None),
                Some(payload) if payload.is("query", DISCO_INFO) => {
                    stanza::result(iq, &own, to, Some(abilities::announced()))
                }
                _ => stanza::error(iq, &own, to, "cancel", "service-unavailable"),
            };
            self.queue(Outgoing {
                element: answer,
                position: None,
                answer: None,
                passing: true,
                _held: None,
            });
        } else if let Some((peer, done)) = self.asked.remove(id) {
            self.sees_abilities(&peer, iq);
            done.tell(Ok(()));
        } else if self.arriving.as_ref().is_some_and(|(arrived, _)| arrived == id) {
            self.arriving = None;
            for answer in self.waiting.drain(..) {
                let _ = answer.send(Ok(()));
            }
        }
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Say { to, text, answer } => {
                let id = self.message_id();
                if let Some(room) = rooms::named(&to, &self.me.name) {
                    self.enter(&room);
                    return self.send(rooms::message(&room, &id, &text), Done::Say(id, answer), None);
                }
                let done = Done::Say(id.clone(), answer);
                let peer = match self.peer(&to) {
                    Ok(peer) => peer,
                    Err(error) => return done.tell(Err(error)),
                };
                self.misbehave(&peer);
                let message = self
                    .message(&peer, &id)
                    .with_child(stanza::text_child("body", &text))
                    .with_child(Element::bare("active", CHAT_STATES));
                self.send(message, done, Some((peer, Kind::Message, id, text)));
            }
            Command::Act { act, answer } => match act.what {
                What::Online => {
                    if self.connection.is_some() && self.arriving.is_none() {
                        let _ = answer.send(Ok(()));
                    } else {
                        self.sign_in();
                        self.waiting.push(answer);
                    }
                }
                What::Offline => {
                    self.sign_out().await;
                    let _ = answer.send(Ok(()));
                }
                _ => self.act(&act, answer),
            },
        }
    }

    fn act(&mut self, act: &Act, answer: Answer<()>) {
        let done = Done::Act(answer);
        let id = self.ctx.rng.uuid();
        let state = |client: &Self, name: &str| -> Result<_, PuppetError> {
            let peer = client.peer(act.recipient())?;
            Ok((client.message(&peer, &id).with_child(Element::bare(name, CHAT_STATES)), None))
        };
        let stanza = match act.what {
            What::Typing => state(self, "composing"),
            What::Paused => state(self, "paused"),
            What::Read => match self.peers.get(&act.id) {
                None => Err(PuppetError::UnknownMessage(act.id.clone())),
                Some(peer) => {
                    let marker = Element::bare("displayed", MARKERS).with_attr("id", act.id.clone());
                    Ok((self.message(peer, &id).with_child(marker), None))
                }
            },
            What::File if self.ctx.faults.is_on("imp-no-managed-files") => {
                Err(PuppetError::Unsupported("managed file transfer is off"))
            }
            What::File => self.peer(act.recipient()).map(|peer| {
                let url = format!("https://imp1.{}:7336/files/{id}/{}", self.jid.domain(), act.name);
                let file = Element::bare("x", OOB)
                    .with_child(Element::bare("url", OOB).with_text(url.clone()))
                    .with_child(Element::bare("desc", OOB).with_text(act.name.clone()));
                let message =
                    self.message(&peer, &id).with_child(stanza::text_child("body", &url)).with_child(file);
                (message, Some((peer, Kind::File, id.clone(), act.name.clone())))
            }),
            What::Status => self.status(&act.text).map(|stanza| (stanza, None)),
            What::Invite => match (rooms::named(&act.id, &self.me.name), self.peer(act.recipient())) {
                (None, _) => Err(PuppetError::Unsupported("a group chat is called #NAME or ##NAME")),
                (Some(_), Err(error)) => Err(error),
                (Some(room), Ok(peer)) => {
                    self.enter(&room);
                    Ok((rooms::invite(&room, &peer, &id), None))
                }
            },
            What::Options => return self.ask_abilities(act.recipient(), id, done),
            What::Follow => Err(PuppetError::Unsupported("who is in the roster is looked at anyway")),
            What::Reply => Err(PuppetError::Unsupported("Jabber has no conversations: write to a person")),
            What::Edit | What::Delete => Err(PuppetError::Unsupported("Jabber cannot change what was sent")),
            What::Online | What::Offline => return done.tell(Ok(())), // handled before this
        };
        match stanza {
            Ok((stanza, sight)) => self.send(stanza, done, sight),
            Err(error) => done.tell(Err(error)),
        }
    }

    /// Remembers a state, for this stream and later ones, and says how to send it.
    fn status(&mut self, text: &str) -> Result<Element, PuppetError> {
        const WORDS: &str = "a status is available, away or dnd, with `manual ` before or `: own words` after it, or automatic";
        let id = self.ctx.rng.uuid();
        match Status::parse(text).ok_or(PuppetError::Unsupported(WORDS))? {
            Status::Device(show) => {
                self.show = show;
                return Ok(shown::device_presence(show, self.priority));
            }
            Status::Manual(show, own) => self.manual = Some((show, own)),
            Status::Automatic => self.manual = None,
        }
        Ok(shown::publish_manual(id, self.manual.as_ref()))
    }

    /// Joins a group chat, unless this client is in it.
    fn enter(&mut self, room: &Jid) {
        if self.rooms.insert(room.clone()) {
            let element = rooms::join(room);
            self.queue(Outgoing { element, position: None, answer: None, passing: true, _held: None });
        }
    }

    /// Sends a stanza, at once or when there is a stream again, and records what the person sees of it. Who is not signed
    /// in and never signed out does so now.
    fn send(&mut self, element: Element, done: Done, sight: Option<(BareJid, Kind, String, String)>) {
        if self.signed_out {
            return done.tell(Err(PuppetError::Offline(self.me.clone())));
        }
        if !self.wanted {
            self.sign_in();
        }
        if let Some((peer, kind, id, text)) = sight {
            self.remember(&id, &peer);
            self.record(&peer, Direction::Out, kind, id, text);
        }
        let held = Some(self.ctx.idle.hold());
        self.queue(Outgoing { element, position: None, answer: Some(done), passing: false, _held: held });
    }

    fn queue(&mut self, outgoing: Outgoing) {
        self.outgoing.push_back(outgoing);
        self.transmit(self.outgoing.len() - 1);
        self.unmanaged_are_done();
    }

    async fn sign_out(&mut self) {
        self.wanted = false;
        self.signed_out = true;
        self.arriving = None;
        self.resume = None;
        if let Some(mut connection) = self.connection.take() {
            let _ = tokio::time::timeout(self.ctx.clock.scaled(PATIENCE), connection.close()).await;
        }
        self.fail_all();
    }

    fn peer(&self, name: &str) -> Result<BareJid, PuppetError> {
        if let Some(contact) = federation::address(name) {
            return Ok(contact);
        }
        let nobody = || PuppetError::Nobody(Nobody(name.to_owned()));
        let person = self.ctx.people.by_name(name).ok_or_else(nobody)?;
        person.jid.parse().map_err(|_| nobody())
    }

    fn message_id(&mut self) -> String {
        if !self.ctx.faults.is_on("jabber-reuses-ids") {
            return self.ctx.rng.uuid();
        }
        self.numbered += 1;
        self.numbered.to_string()
    }

    /// A chat message to a peer, at the address that this client would use.
    fn message(&self, peer: &BareJid, id: &str) -> Element {
        let locked = self.locks.get(peer).filter(|_| self.ctx.faults.is_on("jabber-locks-resource"));
        Element::bare("message", ns::CLIENT)
            .with_attr("type", "chat")
            .with_attr("to", locked.map_or(peer.as_str(), Jid::as_str))
            .with_attr("id", id)
    }

    fn remember(&mut self, id: &str, peer: &BareJid) {
        if !id.is_empty() && self.peers.insert(id.to_owned(), peer.clone()).is_none() {
            self.remembered.push_back(id.to_owned());
            if self.remembered.len() > REMEMBERED
                && let Some(oldest) = self.remembered.pop_front()
            {
                self.peers.remove(&oldest);
            }
        }
    }

    fn record(&self, peer: &BareJid, dir: Direction, kind: Kind, id: String, text: String) {
        let peer =
            self.ctx.people.by_jid(peer.as_str()).map_or_else(|| peer.to_string(), |person| person.name);
        self.see(peer, dir, kind, id, text);
    }

    fn see(&self, peer: String, dir: Direction, kind: Kind, id: String, text: String) {
        self.ctx.seen.record(&self.me, Sight { peer, dir, kind, id, text });
    }
}

async fn dial(
    ctx: Arc<Ctx>,
    port: u16,
    stream: c2s::Config,
) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
    let io = ctx.network.dial("127.0.0.1", port).await?;
    Ok(Connection::client(Box::new(io), ClientConfig::new(stream, Tls::Off)).await?)
}
