//! One stream to IM and Presence, its connections one after another, and the sessions on it: a trusted
//! link with many users, or a client stream with one. `pool.rs` and `arrivals.rs` have the sessions' side of it.

mod barrier;
mod stream;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use router::envelope::Link as Written;
use router::ids::{ImpStreamId, PersonId, Position, StreamId, Ticket, Upstream};
use router::inbound::{Cause, Inbound, Outcome};
use router::outbound::Wanted;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use xmpp_core::session_control::{Control, ControlEvent, SessionIds};
use xmpp_core::tokio::{ConnectError, Connection, Event};
use xmpp_core::{Element, FullJid};

use self::barrier::Barrier;
use self::stream::{Stream, close};
use super::LinkKey;
use super::archive::Place;
use super::board::Board;
use super::config::{Access, Shared};
use super::kept::{self, Kept};
use super::nodes::News;
use super::outgoing::{Outgoing, Purpose, Wire};
use super::session::{Prepared, Session, Turn};
use crate::crash;

/// A link left unread for so long is dropped and resumed, so that what waited comes stamped (rule 13).
const UNREAD: Duration = Duration::from_secs(5 * 60);
/// How long a trusted link stays down after another took its name: going back at once would take it from that one,
/// and so on for ever.
const YIELD: Duration = Duration::from_secs(15 * 60);
/// How long deliveries in flight may take when a stream is ended on purpose.
const GRACE: Duration = Duration::from_secs(5);
/// How much more may have been sent on a stream than a restart finds kept of it.
const MARGIN: u64 = 1 << 31;
/// The most stanzas, deliveries aside, that wait to be written before the link is left unread.
const BACKLOG: usize = 1024;

/// The most bytes that wait for a peer to read them before the link is left unread: a peer that asks and does not read
/// the answers gets no more of them.
const UNSENT: usize = 1 << 18;
/// How soon it is looked whether the peer has read some of it.
const LOOK: Duration = Duration::from_millis(50);

/// What a link is asked to do. What is large is boxed: a channel has room for 32 of these from the start, and each client
/// stream has one.
#[derive(Debug)]
pub(super) enum Command {
    /// The state wanted for a person's session, under this JID.
    Want(Box<(PersonId, FullJid, Wanted)>),
    /// Send this as that person, whose session has this JID.
    Deliver(Box<(PersonId, FullJid, Prepared)>),
    /// Send this as that person, if that is possible now; it has its place among the hints until then.
    Try(Box<(PersonId, Element, OwnedSemaphorePermit)>),
    /// Have nothing to do with that person's session any more, and say so when the hub knows.
    Leave(PersonId),
    /// The attempt is on disk.
    Write(Ticket),
    /// The attempt is not to be made.
    Skip(Ticket),
    /// The far side may be told that so much of this stream has been handled.
    Acknowledge(ImpStreamId, u64),
    /// What was attempted on this stream is settled.
    Settled(ImpStreamId),
    /// It is that person's turn to have a session opened.
    Turn(PersonId),
    /// The value kept under this number is on disk.
    Kept(u64),
    /// Let what is in flight finish, then end: leave the stream to be resumed, or sign out.
    Stop {
        /// Close sessions and the stream.
        sign_out: bool,
    },
}

/// What carries the sessions of a link.
pub(super) enum Carriage {
    /// A trusted link, and our name on it.
    Trusted(Control, String),
    /// A client stream of this user.
    Client(PersonId),
}

type Dialing = Pin<Box<dyn Future<Output = Result<(Box<Connection>, usize), ConnectError>> + Send>>;

enum Phase {
    /// No connection; the next is tried at this moment at the earliest.
    Down(Instant),
    Dialing(Dialing),
    Up(Box<Connection>),
    /// Being closed on purpose.
    Closing(Pin<Box<dyn Future<Output = ()> + Send>>),
}

enum Wake {
    Command(Option<Command>),
    Taken(bool),
    Dialed(Result<(Box<Connection>, usize), ConnectError>),
    Event(Event),
    Closed,
    Time,
}

impl Phase {
    /// What happens next on the connection. Cancel safe.
    async fn next(&mut self) -> Wake {
        match self {
            Self::Down(_) => pending().await,
            Self::Dialing(dialing) => Wake::Dialed(dialing.await),
            Self::Up(connection) => Wake::Event(connection.next().await),
            Self::Closing(closing) => {
                closing.await;
                Wake::Closed
            }
        }
    }
}

impl Phase {
    /// Too much waits for the peer to read it.
    fn holds_too_much(&self) -> bool {
        matches!(self, Self::Up(connection) if connection.queued() > UNSENT)
    }
}

impl Wire for Connection {
    fn send(&mut self, stanza: &Element) -> u64 {
        Self::send(self, stanza)
    }

    fn sent(&self) -> u64 {
        Self::sent(self)
    }
}

/// One stream and the sessions on it.
pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    pub(super) board: Arc<Board>,
    cluster: usize,
    commands: mpsc::UnboundedReceiver<Command>,
    /// The way back to `commands`, for whoever answers.
    pub(super) mailbox: mpsc::UnboundedSender<Command>,
    pub(super) carriage: Carriage,
    /// Boxed: a map has room for eleven from the first on, and a client stream has one.
    pub(super) sessions: BTreeMap<PersonId, Box<Session>>,
    /// Whose session a session id of ours is.
    pub(super) by_ids: BTreeMap<u64, PersonId>,
    /// Whose session a start asks for.
    pub(super) starts: BTreeMap<Box<str>, PersonId>,
    /// Whose session is being kept under which ask.
    pub(super) asks: BTreeMap<u64, PersonId>,
    /// When which session is to be looked at.
    pub(super) timers: BTreeSet<(Instant, PersonId)>,
    /// How far each user's archive is known.
    pub(super) archives: BTreeMap<PersonId, Place>,
    /// The server has no archives.
    pub(super) no_archive: bool,
    phase: Phase,
    pub(super) stream: Option<Stream>,
    /// Stanzas may be written: the connection is up, and what an earlier one left is settled.
    pub(super) open: bool,
    pub(super) outgoing: Outgoing,
    barrier: Option<Barrier>,
    /// What goes to the hub in the order in which it was read; the connection is left unread meanwhile.
    pub(super) intake: VecDeque<Inbound>,
    taking: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
    /// The hub takes nothing any more.
    deaf: bool,
    unread_since: Option<Instant>,
    last_traffic: Instant,
    /// The node that served last.
    node: usize,
    /// Only that one is used: the sessions are of its users, and of its partner's.
    pinned: bool,
    /// There are other nodes, so who is refused here may be served on one of them.
    pub(super) paired: bool,
    /// Who leaves, and how many inputs the hub has to take before.
    leaving: VecDeque<(u64, PersonId)>,
    /// Inputs that the hub has taken.
    taken: u64,
    /// Nobody answers at the node; the edge has been told.
    unreachable: bool,
    key: LinkKey,
    /// Whether a client stream may be connected: those of all users are under the limit, also when all are lost at once.
    pub(super) turn: Turn,
    tries: u32,
    /// When the last connection was lost.
    lost_at: Instant,
    last_request: u64,
    /// Since when the link is stopping, and whether it signs out.
    stopping: Option<(Instant, bool)>,
}

impl Link {
    /// A link that goes on where the store has left off, and the way to it. A client stream tries the node `first` first.
    pub(super) fn new(
        shared: Arc<Shared>,
        board: Arc<Board>,
        key: LinkKey,
        first: Option<usize>,
        kept: &Kept,
    ) -> (Self, mpsc::UnboundedSender<Command>) {
        let (cluster, node, whose) = match &key {
            LinkKey::Cluster(cluster) => (*cluster, None, None),
            LinkKey::Node((cluster, node)) => (*cluster, Some(*node), None),
            LinkKey::Person(cluster, person) => (*cluster, None, Some(person.clone())),
        };
        // Bounded as the orders are that become commands (module `port`); besides, a turn for each session that asked.
        let (mailbox, commands) = mpsc::unbounded_channel();
        let now = Instant::now();
        let carriage = match (whose, &shared.config.clusters[cluster].access) {
            (None, Access::Trusted { component, .. }) => {
                Carriage::Trusted(Control::new(component.clone()), component.clone())
            }
            (whose, _) => Carriage::Client(whose.unwrap_or_else(|| PersonId::new(""))),
        };
        let paired = node.is_some() && shared.config.clusters[cluster].names.len() > 1;
        let mut link = Self {
            shared,
            board,
            cluster,
            commands,
            mailbox: mailbox.clone(),
            carriage,
            sessions: BTreeMap::new(),
            by_ids: BTreeMap::new(),
            starts: BTreeMap::new(),
            asks: BTreeMap::new(),
            timers: BTreeSet::new(),
            archives: BTreeMap::new(),
            no_archive: false,
            phase: Phase::Down(now),
            stream: None,
            open: false,
            outgoing: Outgoing::default(),
            barrier: None,
            intake: VecDeque::new(),
            taking: None,
            deaf: false,
            unread_since: None,
            last_traffic: now,
            node: node.or(first).unwrap_or(0),
            pinned: node.is_some(),
            paired,
            leaving: VecDeque::new(),
            taken: 0,
            unreachable: false,
            key,
            turn: Turn::Unasked,
            tries: 0,
            lost_at: now,
            last_request: 0,
            stopping: None,
        };
        link.restore(kept, now);
        (link, mailbox)
    }

    pub(super) fn is_trusted(&self) -> bool {
        matches!(self.carriage, Carriage::Trusted(..))
    }

    /// The name under which the stream is kept.
    fn kept_name(&self) -> Box<str> {
        match &self.carriage {
            Carriage::Client(person) => kept::stream_key(person.as_str()),
            Carriage::Trusted(_, component) if self.pinned => {
                kept::node_key(component, &self.shared.config.clusters[self.cluster].names[self.node])
            }
            Carriage::Trusted(_, component) => kept::stream_key(component),
        }
    }

    /// Runs until the edge stops.
    pub(super) async fn run(mut self) {
        loop {
            let now = Instant::now();
            self.advance(now);
            if self.has_finished(now) {
                return self.finish().await;
            }
            let deadline = self.deadline();
            let wake = tokio::select! {
                biased;
                command = self.commands.recv() => Wake::Command(command),
                taken = take(&mut self.taking) => Wake::Taken(taken),
                wake = self.phase.next() => wake,
                () = sleep_until(deadline) => Wake::Time,
            };
            let now = Instant::now();
            match wake {
                Wake::Command(Some(command)) => {
                    self.command(command, now);
                    while let Ok(command) = self.commands.try_recv() {
                        self.command(command, now);
                    }
                }
                Wake::Taken(true) => {
                    self.taking = None;
                    self.taken += 1;
                }
                // The hub takes nothing more: it stops. What it did not take stays with the far side.
                Wake::Taken(false) => (self.taking, self.deaf) = (None, true),
                Wake::Command(None) => return,
                Wake::Dialed(Ok((connection, node))) => self.connected(connection, node, now),
                Wake::Dialed(Err(error)) => self.refused(&error, now),
                Wake::Event(event) => self.event(event, now),
                Wake::Closed => self.closed(now),
                Wake::Time => self.due(now),
            }
        }
    }

    fn command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Want(wanted) => {
                let (person, jid, wanted) = *wanted;
                self.want(person, jid, wanted, now);
            }
            Command::Deliver(delivery) => {
                let (person, jid, prepared) = *delivery;
                self.deliver(&person, jid, prepared, now);
            }
            Command::Try(hint) => {
                let (person, element, _place) = *hint;
                self.send_as(&person, element);
            }
            Command::Leave(person) => self.leave(person, now),
            Command::Write(ticket) => self.outgoing.answer(ticket, true),
            Command::Skip(ticket) => {
                self.outgoing.answer(ticket, false);
                self.settled_elsewhere([ticket]);
            }
            // A word about a stream that is over says nothing about the one in its place.
            Command::Acknowledge(id, n) => {
                if let Some(stream) = self.stream.as_mut().filter(|stream| stream.id == id) {
                    stream.handled = stream.handled.max(n);
                    if let Phase::Up(connection) = &mut self.phase {
                        connection.acknowledge(n);
                        crash::point(crash::STANZA_ACKNOWLEDGED);
                    }
                }
            }
            Command::Settled(id) => {
                let current = self.stream.as_ref().is_some_and(|stream| stream.id == id);
                if current && matches!(self.phase, Phase::Up(_)) {
                    crash::point(crash::SETTLED);
                    self.open = true;
                    self.drive_all(now);
                }
            }
            Command::Kept(ask) => match &mut self.stream {
                Some(stream) if stream.ask == Some(ask) => {
                    stream.ask = None;
                    self.drive_all(now);
                }
                _ => self.session_kept(ask, now),
            },
            Command::Turn(person) => self.turn(&person, now),
            Command::Stop { sign_out } => self.stopping = Some((now, sign_out)),
        }
    }

    /// A person's session goes to another link. What was attempted on a stream whose node does not answer will not be
    /// known before it does, so the stream is over when nobody is left on it.
    fn leave(&mut self, person: PersonId, now: Instant) {
        if let Some(session) = self.sessions.get_mut(&person) {
            session.wanted = Some(Wanted::Closed);
            self.drive(&person, now);
        }
        if !matches!(self.phase, Phase::Up(_)) && !self.sessions.values().any(|session| session.wants_open())
        {
            self.over(None, now);
        }
        let before = self.taken + self.intake.len() as u64 + u64::from(self.taking.is_some());
        self.leaving.push_back((before, person));
    }

    /// Tells the edge something of this link.
    pub(super) fn tell(&self, news: News) {
        // Without the edge there is nobody to care.
        let _ = self.shared.news.send((self.key.clone(), news));
    }

    /// Moves everything that can move: towards the hub, onto the wire, towards a connection.
    fn advance(&mut self, now: Instant) {
        while self.taking.is_none()
            && let Some(inbound) = self.intake.pop_front()
        {
            match self.board.port.take_at_once(inbound) {
                Ok(true) => self.taken += 1,
                Ok(false) => self.deaf = true,
                Err(inbound) => {
                    let port = self.board.port.clone();
                    self.taking = Some(Box::pin(async move { port.take(inbound).await }));
                }
            }
        }
        if self.deaf {
            self.intake.clear();
        }
        while self.leaving.front().is_some_and(|(after, _)| *after <= self.taken || self.deaf) {
            if let Some((_, person)) = self.leaving.pop_front() {
                self.tell(News::Left(person));
            }
        }
        let unread = self.taking.is_some() || self.is_crowded();
        self.unread_since = if unread { self.unread_since.or(Some(now)) } else { None };
        if let Phase::Up(connection) = &mut self.phase {
            connection.set_reading(!unread);
        }
        self.write(now);
        self.dial(now);
        self.close_if_ended(now);
    }

    /// Too much waits to be written, or for the peer to read it.
    pub(super) fn is_crowded(&self) -> bool {
        self.outgoing.backlog() > BACKLOG || self.phase.holds_too_much()
    }

    /// Writes what may be written, and asks to be told when it has been handled.
    fn write(&mut self, now: Instant) {
        let (true, Some(stream), Phase::Up(connection)) = (self.open, &self.stream, &mut self.phase) else {
            return;
        };
        let wrote = self.outgoing.write(&mut **connection);
        for (ticket, n) in &wrote.attempts {
            let position = Position { stream: stream.id.clone(), n: *n };
            crash::point(crash::ATTEMPT);
            self.board.port.answer(Inbound::Attempt(*ticket, Some(position)));
        }
        if !wrote.any() {
            return;
        }
        if wrote.delivered_by.is_some() {
            crash::point(crash::WRITTEN);
        }
        self.last_traffic = now;
        let acknowledges = stream.acknowledges;
        if acknowledges {
            connection.request_ack();
        }
        for (purpose, position) in wrote.others {
            match purpose {
                Purpose::Barrier => {
                    if let Some(barrier) = &mut self.barrier {
                        barrier.written_at(position);
                    }
                }
                Purpose::Presence(person) => self.presence_written(&person, position),
                _ => {}
            }
        }
        if let (false, Some(person)) = (acknowledges, wrote.delivered_by) {
            self.raise_barrier(&person, now);
        }
    }

    fn acknowledged(&mut self, h: u64) {
        for (ticket, derived) in self.outgoing.acknowledged(h) {
            self.board.receipt(ticket, Outcome::Delivered(Written::Stanza(derived)));
        }
    }

    /// A delivery that was never attempted: the session is what it lacks.
    pub(super) fn give_back(&self, ticket: Ticket, person: PersonId) {
        self.board.receipt(ticket, Outcome::Later { cause: Cause::Session(person), after: None });
    }

    /// The router has settled these by itself; the hub still counts them as with this edge.
    fn settled_elsewhere(&self, tickets: impl IntoIterator<Item = Ticket>) {
        for ticket in tickets {
            self.board.receipt(ticket, Outcome::Unknown);
        }
    }

    /// A new id for a request of ours.
    pub(super) fn request(&mut self) -> Box<str> {
        self.last_request += 1;
        format!("hm-{}", self.last_request).into()
    }

    /// A stanza of the session with these ids, as it goes on the wire.
    pub(super) fn wrap(&self, ids: Option<&SessionIds>, stanza: Element) -> Element {
        match (&self.carriage, ids) {
            (Carriage::Trusted(control, _), Some(ids)) => control.route(ids, stanza),
            _ => stanza,
        }
    }

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Stanza { element, n } => {
                crash::point(crash::STANZA_READ);
                let Some(stream) = &mut self.stream else { return };
                stream.received = n;
                self.last_traffic = now;
                let upstream = Upstream { stream: StreamId::Imp(stream.id.clone()), n };
                match &mut self.carriage {
                    Carriage::Trusted(control, _) => {
                        let event = control.handle(element);
                        self.control_event(event, upstream, now);
                    }
                    Carriage::Client(person) => {
                        let person = person.clone();
                        self.stanza(&person, &element, upstream, now);
                    }
                }
            }
            Event::Acked(h) => {
                crash::point(crash::HANDLED);
                self.acknowledged(h);
            }
            Event::Closed(reason) => self.lost(&reason, now),
            _ => {}
        }
    }

    fn control_event(&mut self, event: ControlEvent, upstream: Upstream, now: Instant) {
        match event {
            ControlEvent::Stanza { session, stanza } => {
                if let Some(person) = self.by_ids.get(&session.ours).cloned() {
                    return self.stanza(&person, &stanza, upstream, now);
                }
            }
            ControlEvent::Bounced { session, stanza } => {
                return self.bounced(&session, &stanza, upstream, now);
            }
            ControlEvent::Started { request, session, jid } => self.started(&request, session, &jid, now),
            ControlEvent::Refused { request } => self.start_refused(&request, now),
            ControlEvent::Ended { session } => self.ended(&session, false, now),
            ControlEvent::Replaced { session } => self.ended(&session, true, now),
            ControlEvent::DomainUp(domain) => tracing::debug!(domain, "domain is served"),
            ControlEvent::DomainDown(domain) => tracing::warn!(domain, "domain is not served"),
            _ => {}
        }
        self.intake.push_back(Inbound::Handled(upstream));
    }

    pub(super) fn of(&self, wait: Duration) -> Duration {
        self.shared.scale.of(wait)
    }

    /// When the link has something to do by itself.
    fn deadline(&self) -> Option<Instant> {
        let up = matches!(self.phase, Phase::Up(_));
        let session = self.timers.first().map(|(at, _)| *at);
        let dial = self.dials_at();
        let barrier = self.barrier_ends_at();
        let unread = self.unread_since.filter(|_| up).map(|since| since + self.of(UNREAD));
        let stop = self.stopping.map(|(since, _)| since + self.of(GRACE));
        let quiet = self.is_quiet_at();
        let read = self.phase.holds_too_much().then(|| Instant::now() + LOOK);
        [session, dial, barrier, unread, stop, quiet, read, self.closes_at()].into_iter().flatten().min()
    }

    fn due(&mut self, now: Instant) {
        while let Some((at, person)) = self.timers.pop_first() {
            if at > now {
                self.timers.insert((at, person));
                break;
            }
            if let Some(session) = self.sessions.get_mut(&person) {
                session.timer = None;
            }
            self.drive(&person, now);
        }
        if self.is_quiet_at().is_some_and(|at| at <= now) {
            self.raise_any_barrier(now);
        }
        let silent = self.barrier_ends_at().is_some_and(|at| at <= now);
        let unread = self.unread_since.is_some_and(|since| since + self.of(UNREAD) <= now);
        if matches!(self.phase, Phase::Up(_)) && (silent || unread) {
            tracing::warn!(link = %self.kept_name(), silent, unread, "connection dropped");
            self.unread_since = None;
            self.drop_connection(now);
            self.drive_all(now);
        }
    }

    /// Whether the edge has stopped and nothing is in flight any more.
    fn has_finished(&self, now: Instant) -> bool {
        let Some((since, _)) = self.stopping else { return false };
        let up = matches!(self.phase, Phase::Up(_));
        !up || !self.outgoing.delivers() || since + self.of(GRACE) <= now
    }

    /// Leaves the stream to be resumed, or signs everybody out and closes it.
    async fn finish(mut self) {
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Deliver(delivery) = command {
                let (person, _, prepared) = *delivery;
                self.give_back(prepared.ticket, person);
            }
        }
        self.give_back_all();
        for (ticket, person) in self.outgoing.lost() {
            self.give_back(ticket, person);
        }
        let sign_out = self.stopping.is_some_and(|(_, sign_out)| sign_out);
        if !sign_out {
            return;
        }
        if self.open {
            self.end_all();
            self.write(Instant::now());
        }
        let limit = self.of(GRACE);
        let phase = std::mem::replace(&mut self.phase, Phase::Down(Instant::now()));
        self.over(None, Instant::now());
        if let Phase::Up(connection) = phase {
            close(connection, limit).await;
        }
    }
}

/// Waits for the hub to take an input. Cancel safe.
async fn take(taking: &mut Option<Pin<Box<dyn Future<Output = bool> + Send>>>) -> bool {
    match taking {
        Some(taking) => taking.await,
        None => pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future<F>(_: fn(Link) -> F) -> usize {
        size_of::<F>()
    }

    /// Each client stream has a link with a task and a channel of its own, and some five thousand of them are to be cheap.
    #[test]
    fn a_link_is_small() {
        assert!(size_of::<Command>() <= 32, "{} bytes for each of 32 places", size_of::<Command>());
        assert!(size_of::<Session>() <= 512, "{} bytes for a session", size_of::<Session>());
        assert!(future(Link::run) <= 4096, "{} bytes for the task", future(Link::run));
    }
}
