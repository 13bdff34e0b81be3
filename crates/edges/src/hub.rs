//! The one loop where all meets: it owns the router and the clock, hands batches to the store, and orders
//! to the edges.
//!
//! ```text
//!   edges ── answers (first) ──►┌───────┐── batches, questions ──► keeper (a thread with the store)
//!   edges ── intake (bounded) ─►│  hub  │◄── what was committed, entries ──┘
//!   status page ── requests ───►│       │── orders (never awaited) ──► the Jabber edge, the Webex edge
//!                               └───────┘
//! ```
//!
//! Nothing that comes in is acknowledged, delivered or otherwise seen by anybody before the store has it:
//! the router says `Acknowledge` and `Deliver` only after `Committed`.

mod handle;
mod keeper;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use router::entitlement::Client;
use router::ids::{EntryId, ImpStreamId, PersonId, StreamId, Ticket, Time};
use router::inbound::{Inbound, Outcome};
use router::outbound::{Hint, MaybeSent, Outbound};
use router::outbox::{Lane, Storage, StorageError, Stored};
use router::{Config, Router, RouterError};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use handle::Request;
pub use handle::{HubHandle, Status};
pub use keeper::Keeping;
use keeper::{Answer, Keeper, Question};

use crate::crash;
use crate::port::{Delivery, HubPort, Order};
use crate::seam::Clock;

/// The most inputs that are heard together, so that the first of them is not kept waiting for long.
const TOGETHER: usize = 64;

/// How often the free space is asked for again while intake stands still for want of it.
const ROOM_AGAIN: Duration = Duration::from_secs(5);
/// The most hints that are on their way to somebody at once.
const HINTS: usize = 256;

/// One thing that the router was told or wants, as a [`Watch`] is shown it.
#[derive(Debug)]
pub enum Step<'a> {
    /// It was told this.
    In(&'a Inbound),
    /// Its deadline has come.
    Timeout,
    /// It wants this.
    Out(&'a Outbound),
}

/// Is shown every step of the router, with the moment at which it was taken: two runs of one world are the same if these
/// are.
pub type Watch = Box<dyn FnMut(Time, Step<'_>) + Send>;

/// What the hub is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the router is told.
    pub router: Config,
    /// How many inputs may wait to be read, and again to be committed, before links are left unread and
    /// what Mercury sockets bring is dropped (rule 13); at least 1.
    pub intake: usize,
    /// How long deliveries in flight may take to finish once the hub is asked to stop.
    pub grace: Duration,
}

/// A hub that is ready to run, and what the edges begin with.
#[derive(Debug)]
pub struct Opened {
    /// To be run until it ends.
    pub hub: Hub,
    /// For the status page, and to stop the hub.
    pub handle: HubHandle,
    /// The edges' way in.
    pub port: HubPort,
    /// What the Jabber edge is asked to do. The hub runs until it is stopped, whoever drops this.
    pub jabber: mpsc::UnboundedReceiver<Order>,
    /// What the Webex edge is asked to do.
    pub webex: mpsc::UnboundedReceiver<Order>,
    /// What the store found.
    pub found: Found,
}

/// What the store holds for the edges at the start of a run.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The number of this run, from 1.
    pub run: u32,
    /// The edges' small state, by name.
    pub kept: Vec<(Box<str>, Box<[u8]>)>,
    /// How much of each XMPP stream has been taken over.
    pub streams: Vec<(ImpStreamId, u64)>,
    /// How far each person's Webex side has been read.
    pub cursors: Vec<(PersonId, Time)>,
}

/// Why a hub could not start, or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The store failed. What it holds is unknown to this process, which has to end (rule 12); the next
    /// one goes on from what is there.
    #[error("the store failed, and the process has to end")]
    Storage(#[from] StorageError),
    /// What the store holds cannot be read.
    #[error("the store holds what this release cannot read")]
    Router(#[from] RouterError),
}

/// How a hub ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All that was accepted is committed, and every delivery in flight was answered.
    Clean,
    /// The grace period is over; so many deliveries were not answered, and the next run asks after them.
    Unanswered(usize),
}

/// A side of the connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Jabber,
    Webex,
}

/// The loop. See the module's documentation.
pub struct Hub {
    router: Router,
    watch: Option<Watch>,
    clock: Clock,
    settings: Settings,
    keeper: Keeper,
    /// What waits for room, and what is dropped without it.
    links: mpsc::Receiver<Inbound>,
    sockets: mpsc::Receiver<Inbound>,
    /// How many inputs found no room.
    dropped: Arc<AtomicU64>,
    answers: mpsc::UnboundedReceiver<Inbound>,
    requests: mpsc::Receiver<Request>,
    jabber: mpsc::UnboundedSender<Order>,
    webex: mpsc::UnboundedSender<Order>,
    /// Places for hints that are on their way.
    hints: Arc<Semaphore>,
    /// Batches that the store has not answered.
    committing: usize,
    /// Deliveries that an edge has and has not answered.
    in_flight: BTreeMap<Ticket, Side>,
    /// Who is to be told that a value is kept, and under which number it asked.
    asks: BTreeMap<u64, (Side, u64)>,
    last_ask: u64,
    /// Bytes that may still be written; `None`: not bounded.
    room: Option<u64>,
    /// When to ask for the room again, while there is none.
    room_again: Instant,
    run: u32,
    stopping: Option<Stopping>,
}

/// A stop that is under way.
#[derive(Debug)]
struct Stopping {
    /// When what is in flight is given up.
    until: Instant,
    /// Since when nothing has been in flight.
    quiet: Option<Instant>,
}

impl Hub {
    /// Begins a run: reads the store, and joins the parts.
    ///
    /// # Errors
    /// The store cannot be read, or holds what this release does not know.
    pub fn open(
        settings: Settings,
        mut storage: Box<dyn Storage>,
        keeping: Keeping,
        clock: Clock,
    ) -> Result<Opened, HubError> {
        let loaded = storage.load(clock.now())?;
        let (run, kept, streams) = (loaded.run, loaded.kept.clone(), loaded.streams.clone());
        let known = loaded.directory.is_some();
        let room = storage.room();
        if room == Some(0) {
            say_full();
        }
        let router = Router::new(settings.router.clone(), loaded, clock.now())?;
        let cursors = router.cursors().map(|(person, time)| (person.clone(), time)).collect();
        let found = Found { run, kept, streams, cursors };
        let (from_links, links) = mpsc::channel(settings.intake.max(1));
        let (from_sockets, sockets) = mpsc::channel(settings.intake.max(1));
        // Bounded by what it says, of which each is said once: how deliveries fare (the credit), streams, sessions and sockets
        // (their number), and what edges keep of those. It is read before all else, and the reader waits for nothing.
        let (to_answers, answers) = mpsc::unbounded_channel();
        let (to_requests, requests) = mpsc::channel(16);
        // Bounded as the module `port` says.
        let (to_jabber, jabber) = mpsc::unbounded_channel();
        let (to_webex, webex) = mpsc::unbounded_channel();
        let port = HubPort::new(from_links, from_sockets, to_answers);
        let hub = Self {
            router,
            watch: None,
            clock,
            keeper: Keeper::new(storage, keeping, clock),
            settings,
            links,
            sockets,
            dropped: port.dropped(),
            answers,
            requests,
            jabber: to_jabber,
            webex: to_webex,
            hints: Arc::new(Semaphore::new(HINTS)),
            committing: 0,
            in_flight: BTreeMap::new(),
            asks: BTreeMap::new(),
            last_ask: 0,
            room,
            room_again: Instant::now(),
            run: found.run,
            stopping: None,
        };
        if known {
            hub.tell_directory();
        }
        Ok(Opened { hub, handle: HubHandle::new(to_requests), port, jabber, webex, found })
    }

    /// Shows every step of the router to `watch`, from now on.
    pub fn watched_by(&mut self, watch: Watch) {
        self.watch = Some(watch);
    }

    /// Runs until it is asked to stop.
    ///
    /// # Errors
    /// The store failed: whoever runs the hub ends the process, without a word to anybody (rule 12).
    pub async fn run(mut self) -> Result<Ended, HubError> {
        loop {
            self.carry_out();
            if let Some(ended) = self.ended() {
                self.keeper.close().await;
                return Ok(ended);
            }
            let deadline = self.router.deadline();
            let now = self.clock.now();
            if deadline.is_some_and(|due| due <= now) {
                self.show(now, Step::Timeout);
                self.router.handle_timeout(now);
                continue;
            }
            let due = deadline.map(|due| Instant::now() + millis(due.since(now)));
            let (accepting, has_room, next_look) = (self.accepting(), self.has_room(), self.next_look());
            tokio::select! {
                biased;
                answer = self.keeper.answer() => self.stored(answer?),
                Some(inbound) = self.answers.recv() => self.take_answer(inbound),
                Some(request) = self.requests.recv() => self.serve(request),
                () = wait(due), if due.is_some() => {}
                Some(inbound) = self.sockets.recv(), if accepting => self.take(inbound),
                Some(inbound) = self.links.recv(), if accepting && has_room => self.take(inbound),
                () = wait(next_look) => self.look(),
            }
            self.take_more()?;
            self.router.act(self.clock.now());
        }
    }

    /// What is here already is heard with what came first, and committed with it.
    fn take_more(&mut self) -> Result<(), HubError> {
        for _ in 1..TOGETHER {
            if let Some(answer) = self.keeper.next() {
                self.stored(answer?);
            } else if let Ok(inbound) = self.answers.try_recv() {
                self.take_answer(inbound);
            } else if !self.accepting() {
                break;
            } else if let Ok(inbound) = self.sockets.try_recv() {
                self.take(inbound);
            } else if self.has_room()
                && let Ok(inbound) = self.links.try_recv()
            {
                self.take(inbound);
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Whether another input may be read: below the bound for what is uncommitted, above the floor of
    /// free space.
    fn accepting(&self) -> bool {
        self.router.uncommitted() < self.settings.intake.max(1) && self.room != Some(0)
    }

    /// Whether what can wait is read too: half of the bound is kept for what cannot.
    fn has_room(&self) -> bool {
        self.router.uncommitted() <= self.settings.intake / 2
    }

    /// When the loop has to look again although nobody speaks.
    fn next_look(&self) -> Option<Instant> {
        let stopped = self.stopping.as_ref().map(|stopping| {
            stopping.quiet.map_or(stopping.until, |quiet| stopping.until.min(quiet + self.linger()))
        });
        stopped.or((self.room == Some(0)).then_some(self.room_again))
    }

    fn look(&mut self) {
        if self.room == Some(0) {
            self.room_again = Instant::now() + ROOM_AGAIN;
            self.keeper.ask(Question::Room);
        }
    }

    fn take(&mut self, inbound: Inbound) {
        crash::point(crash::INTAKE);
        if crash::acknowledges_early()
            && let Some(upstream) = upstream(&inbound)
        {
            self.order(Side::of(&upstream.stream), Order::Acknowledge(upstream));
        }
        self.handle(inbound);
    }

    fn take_answer(&mut self, inbound: Inbound) {
        if let Inbound::Receipt(ticket, outcome) = &inbound {
            tracing::debug!(ticket = ticket.0, ?outcome, "receipt");
            crash::point(crash::RECEIPT);
            self.in_flight.remove(ticket);
        }
        self.handle(inbound);
    }

    fn handle(&mut self, inbound: Inbound) {
        let inbound = match inbound {
            Inbound::Keep { key, value, ask } if ask != 0 => {
                let side = if key.starts_with("jabber") { Side::Jabber } else { Side::Webex };
                self.last_ask += 1;
                self.asks.insert(self.last_ask, (side, ask));
                Inbound::Keep { key, value, ask: self.last_ask }
            }
            other => other,
        };
        self.route(inbound);
    }

    fn route(&mut self, inbound: Inbound) {
        let now = self.clock.now();
        self.show(now, Step::In(&inbound));
        self.router.hear(inbound, now);
    }

    fn show(&mut self, now: Time, step: Step<'_>) {
        if let Some(watch) = &mut self.watch {
            watch(now, step);
        }
    }

    /// Does everything that the router wants done, none of which waits.
    fn carry_out(&mut self) {
        while let Some(outbound) = self.router.poll_outbound() {
            self.show(self.clock.now(), Step::Out(&outbound));
            match outbound {
                Outbound::Commit(batch) => {
                    self.committing += 1;
                    self.keeper.commit(batch);
                }
                Outbound::Acknowledge(upstream) => {
                    crash::point(crash::ACKNOWLEDGE);
                    self.order(Side::of(&upstream.stream), Order::Acknowledge(upstream));
                }
                Outbound::Deliver(ticket, entry, maybe_sent) => {
                    // Once stopping, what an edge has not begun is left to the next run.
                    if self.stopping.is_none() {
                        self.keeper.ask(Question::Deliver { ticket, entry, maybe_sent });
                    }
                }
                Outbound::Write(ticket) => {
                    crash::point(crash::ATTEMPT_COMMITTED);
                    self.answer_ticket(ticket, Order::Write(ticket));
                }
                Outbound::Skip(ticket) => self.answer_ticket(ticket, Order::Skip(ticket)),
                Outbound::Settled(stream) => self.order(Side::Jabber, Order::Settled(stream)),
                Outbound::Hint(hint) => {
                    let side = match &hint {
                        Hint::TypingInJabber { .. } => Side::Jabber,
                        Hint::TypingInWebex { .. } => Side::Webex,
                    };
                    // Without a place it is dropped (rule 14).
                    if let Ok(place) = Arc::clone(&self.hints).try_acquire_owned() {
                        self.order(side, Order::Hint(hint, place));
                    }
                }
                Outbound::Session(person, wanted) => {
                    self.order(Side::Jabber, Order::Session(person, wanted));
                }
                Outbound::Kept(ask) => {
                    if let Some((side, ask)) = self.asks.remove(&ask) {
                        self.order(side, Order::Kept(ask));
                    }
                }
                Outbound::DirectoryChanged => self.tell_directory(),
                Outbound::GivenUp(entry, reason) => {
                    tracing::warn!(entry = entry.0, reason, "given up, and never to be delivered");
                }
            }
        }
        self.keeper.hand_over();
    }

    /// How much room there is on the disk of the store now.
    fn learn_room(&mut self, room: Option<u64>) {
        match (self.room, room) {
            (Some(0), Some(0)) => {}
            (_, Some(0)) => say_full(),
            (Some(0), _) => tracing::info!("the disk of the store has room again"),
            _ => {}
        }
        self.room = room;
    }

    /// What the store has answered.
    fn stored(&mut self, answer: Answer) {
        match answer {
            Answer::Committed { batches, room } => {
                self.committing -= batches.len();
                self.learn_room(room);
                for (id, novelties) in batches {
                    tracing::debug!(batch = id.0, inputs = novelties.len(), "committed");
                    self.route(Inbound::Committed(id, novelties));
                }
            }
            Answer::Told => {}
            Answer::Room(room) => self.learn_room(room),
            Answer::Deliver { ticket, entry, maybe_sent, stored } => {
                self.hand_over(ticket, entry, maybe_sent, stored);
            }
        }
    }

    fn hand_over(&mut self, ticket: Ticket, id: EntryId, maybe_sent: MaybeSent, stored: Option<Box<Stored>>) {
        let Some(stored) = stored else {
            // Only a finished entry is ever deleted, and only by age.
            tracing::error!(entry = id.0, "an entry that was to be delivered is not in the store");
            self.handle(Inbound::Receipt(ticket, Outcome::Wedged("the entry is not in the store".into())));
            return;
        };
        if self.stopping.is_some() {
            return;
        }
        let Stored { entry, target } = *stored;
        crash::point(crash::DELIVER);
        let side = Side::towards(&entry.lane);
        self.in_flight.insert(ticket, side);
        self.order(side, Order::Deliver(Box::new(Delivery { ticket, entry, target, maybe_sent })));
    }

    fn answer_ticket(&mut self, ticket: Ticket, order: Order) {
        if let Some(side) = self.in_flight.get(&ticket) {
            self.order(*side, order);
        }
    }

    /// What a stream has settled, or what came back by itself, is not answered by the edge any more.
    fn forget_settled(&mut self) {
        let router = &self.router;
        self.in_flight.retain(|ticket, _| router.is_in_flight(*ticket));
    }

    fn tell_directory(&self) {
        let directory = self.router.directory();
        self.order(Side::Jabber, Order::Directory(Arc::clone(&directory)));
        self.order(Side::Webex, Order::Directory(directory));
    }

    /// Orders are never awaited (rule 14). An edge that has ended takes none, and what it did not do is
    /// done again by the next run.
    fn order(&self, side: Side, order: Order) {
        let edge = match side {
            Side::Jabber => &self.jabber,
            Side::Webex => &self.webex,
        };
        let _ = edge.send(order);
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Status(reply) => {
                let _ = reply.send(Status {
                    run: self.run,
                    at: self.clock.now(),
                    committing: self.committing,
                    uncommitted: self.router.uncommitted(),
                    intake: self.links.len() + self.sockets.len(),
                    dropped: self.dropped.load(Ordering::Relaxed),
                    with_edges: self.in_flight.len(),
                    room: self.room,
                    router: self.router.counters(),
                });
            }
            Request::Idle(reply) => {
                self.forget_settled();
                let idle = self.committing == 0
                    && self.links.is_empty()
                    && self.sockets.is_empty()
                    && self.answers.is_empty()
                    && self.in_flight.is_empty()
                    && self.router.idle();
                let _ = reply.send(idle);
            }
            Request::Judge { sender, from, recipient, to, reply } => {
                let _ = reply.send(self.router.judge(&sender, from, &recipient, to));
            }
            Request::Target { target, reply } => self.keeper.ask(Question::Target { target, reply }),
            Request::Stop { sign_out } => self.stop(sign_out),
        }
    }

    /// Begins to stop: what is in the intake already is still taken, no more comes in.
    fn stop(&mut self, sign_out: bool) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(Stopping { until: Instant::now() + self.settings.grace, quiet: None });
        self.links.close();
        self.sockets.close();
        self.order(Side::Jabber, Order::Stop { sign_out });
        self.order(Side::Webex, Order::Stop { sign_out });
    }

    /// How long the router may keep a receipt or a count before it commits it.
    fn linger(&self) -> Duration {
        self.settings.router.times.ride
    }

    /// Whether a stop has come to its end: nothing accepted is uncommitted, nothing is in flight, and the
    /// receipts have had the time that the router takes to commit them.
    fn ended(&mut self) -> Option<Ended> {
        if self.stopping.is_some() {
            self.forget_settled();
        }
        let stopping = self.stopping.as_mut()?;
        let now = Instant::now();
        let busy = self.committing > 0
            || !self.in_flight.is_empty()
            || !self.links.is_empty()
            || !self.sockets.is_empty()
            || !self.answers.is_empty()
            || self.router.uncommitted() > 0;
        if now >= stopping.until {
            return Some(match self.in_flight.len() {
                0 if self.committing == 0 => Ended::Clean,
                unanswered => Ended::Unanswered(unanswered),
            });
        }
        if busy {
            stopping.quiet = None;
            return None;
        }
        let quiet = *stopping.quiet.get_or_insert(now);
        (now >= quiet + self.linger()).then_some(Ended::Clean)
    }
}

impl Side {
    fn of(stream: &StreamId) -> Self {
        match stream {
            StreamId::Imp(_) => Self::Jabber,
            StreamId::Mercury(..) => Self::Webex,
        }
    }

    fn towards(lane: &Lane) -> Self {
        match lane.towards() {
            Client::Webex => Self::Webex,
            Client::Jabber => Self::Jabber,
        }
    }
}

/// What an input asks to be acknowledged.
fn upstream(inbound: &Inbound) -> Option<router::ids::Upstream> {
    match inbound {
        Inbound::Message(_, _, upstream) | Inbound::Typing(_, upstream) | Inbound::Handled(upstream) => {
            Some(upstream.clone())
        }
        _ => None,
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("run", &self.run)
            .field("stopping", &self.stopping)
            .finish_non_exhaustive()
    }
}

fn millis(n: i64) -> Duration {
    Duration::from_millis(u64::try_from(n).unwrap_or(0))
}

/// Waits until then; without a time, for ever.
async fn wait(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

fn say_full() {
    tracing::error!("the disk of the store is down to its floor: nothing new is taken over");
}
