//! The router itself: it takes inputs apart, asks the modules that decide, and hands out what they want.
//!
//! ```text
//!   handle ──► intake ──► one commit at a time ──► Committed ──► lanes ──► Deliver ──► Receipt
//!                │                                     │                                  │
//!                └─ holds, people (here and now)       └─ Acknowledge                     └─ changes
//! ```
//!
//! One batch is with the store at a time. What comes meanwhile waits in the intake, in its order, so that every
//! decision is made on what is known to be on disk; the next batch takes all of it together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::commit::{Committing, Outgoing, Pending, had_begun};
use crate::counters::Counters;
use crate::delivery::Delivery;
use crate::directory::{Directory, DirectoryError};
use crate::entitlement::{Client, Verdict, judge};
use crate::held::{Holds, Side};
use crate::ids::{ActivityId, EntryId, ImpStreamId, JabberId, PersonId, SourceId, Ticket, Time};
use crate::inbound::{Inbound, SessionEvent};
use crate::intake::Facts;
use crate::lane::{Lanes, Live};
use crate::lately::Delivered;
use crate::outbound::{MaybeSent, Outbound};
use crate::outbox::{Change, EntryState, Lane, Loaded};
use crate::presence::PresenceBook;
use crate::probe::Causes;
use crate::rate::Rates;
use crate::revise::forget_marks;
use crate::tag::Tagger;
use crate::timers::{Timer, Timers};
use crate::times::Times;
use crate::typing::Leases;

/// What the router is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Recognizes what we wrote, and makes the ids of what we are going to write.
    pub tagger: Tagger,
    /// Every wait.
    pub times: Times,
    /// How many deliveries may be with the edges at once (rule 14); at least 1.
    pub capacity: usize,
    /// Post to people who were invited to Webex and never signed in (MIG-07).
    pub deliver_to_pending: bool,
    /// Carry also what is older than a person's enablement, back to here (rule 17).
    pub since: Option<Time>,
    /// A service bot can tell people in Webex what concerns them alone (rule 21).
    pub bot: bool,
    /// It also tells, once, what of Webex is not shown in Jabber (GRP-11, MIG-11).
    pub notices: bool,
    /// What federated contacts write is carried, in the bot's voice (SC-22): whoever writes from none of these domains,
    /// which are our own. `None`: it is not.
    pub federation: Option<Vec<Box<str>>>,
    /// How many messages one Jabber user may write in a row, and after how long each is forgotten (rule 13);
    /// `None`: as many as they like.
    pub rate: Option<(u32, Duration)>,
}

/// Why a router could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouterError {
    /// The stored directory is damaged, or of a later version.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// All decisions, as one state machine. See the crate documentation for how to drive it.
#[derive(Debug)]
pub struct Router {
    pub(crate) config: Config,
    pub(crate) run: u32,
    pub(crate) directory: Arc<Directory>,
    pub(crate) out: VecDeque<Outbound>,
    pub(crate) timers: Timers,
    pub(crate) counters: Counters,

    pub(crate) intake: VecDeque<Pending>,
    pub(crate) outgoing: Outgoing,
    pub(crate) committing: Option<Committing>,
    /// When the last batch was given to the store.
    pub(crate) last_commit: Option<Time>,
    pub(crate) next_batch: u64,
    pub(crate) next_place: u64,

    pub(crate) lanes: Lanes,
    pub(crate) causes: Causes,
    pub(crate) deliveries: BTreeMap<Ticket, Delivery>,
    pub(crate) next_ticket: u64,
    pub(crate) lost: BTreeSet<ImpStreamId>,
    pub(crate) delivered: Delivered,

    pub(crate) holds: Holds,
    pub(crate) presence: PresenceBook,
    pub(crate) typing: Leases,
    pub(crate) cursors: BTreeMap<PersonId, Time>,
    pub(crate) marked: BTreeMap<(Lane, PersonId), Time>,
    pub(crate) own_marks: VecDeque<(PersonId, ActivityId)>,
    pub(crate) rates: Rates,
    /// How fast all federated contacts together write to each person.
    pub(crate) outside: Rates,
    /// What people were told in this run about what is not carried.
    pub(crate) noticed: BTreeSet<SourceId>,
}

/// How often what is kept for a while is looked through.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

impl Router {
    /// A router that goes on where the store has left off.
    ///
    /// # Errors
    /// What the store holds cannot be read.
    pub fn new(config: Config, loaded: Loaded, now: Time) -> Result<Self, RouterError> {
        let directory = match &loaded.directory {
            Some(bytes) => Directory::decode(bytes)?,
            None => Directory::default(),
        };
        let mut router = Self {
            rates: Rates::new(config.rate),
            outside: Rates::new(config.rate),
            config,
            run: loaded.run,
            directory: Arc::new(directory),
            out: VecDeque::new(),
            timers: Timers::default(),
            counters: Counters::default(),
            intake: VecDeque::new(),
            outgoing: Outgoing::default(),
            committing: None,
            last_commit: None,
            next_batch: 1,
            next_place: loaded.next_place,
            lanes: Lanes::default(),
            causes: Causes::default(),
            deliveries: BTreeMap::new(),
            next_ticket: 1,
            lost: BTreeSet::new(),
            delivered: Delivered::default(),
            holds: Holds::default(),
            presence: PresenceBook::default(),
            typing: Leases::default(),
            cursors: loaded.cursors.iter().cloned().collect(),
            marked: BTreeMap::new(),
            own_marks: VecDeque::new(),
            noticed: BTreeSet::new(),
        };
        router.restore(loaded, now);
        router.act(now);
        Ok(router)
    }

    /// Takes one input, and acts on it. Then take the outputs until there is none.
    pub fn handle(&mut self, inbound: Inbound, now: Time) {
        self.hear(inbound, now);
        self.act(now);
    }

    /// Takes one of several inputs that came together. What has to be committed for them goes into one batch, and
    /// nothing follows before [`Router::act`].
    pub fn hear(&mut self, inbound: Inbound, now: Time) {
        match inbound {
            Inbound::Message(envelope, parts, upstream) => {
                self.seen(&envelope, now);
                let (envelope, upstream) = (Box::new(envelope), Some(upstream));
                self.intake.push_back(Pending::Message { envelope, parts, upstream });
            }
            Inbound::Listed(envelope, parts) => {
                self.seen(&envelope, now);
                let envelope = Box::new(envelope);
                self.intake.push_back(Pending::Message { envelope, parts, upstream: None });
            }
            Inbound::Typing(typing, upstream) => {
                self.typing(typing, now);
                self.intake.push_back(Pending::Handled(upstream));
            }
            Inbound::Handled(upstream) => self.intake.push_back(Pending::Handled(upstream)),
            Inbound::Statuses(observations) => self.statuses(&observations, now),
            Inbound::Directory(facts) => self.facts(&facts, now),
            Inbound::Stream(stream, event) => self.stream(stream, event, now),
            Inbound::Session(person, SessionEvent::Active) => {
                self.holds.active(&person, now);
                self.hold_timer(Side::Session, person);
            }
            Inbound::Session(person, event) => self.intake.push_back(Pending::Session(person, event)),
            Inbound::Behind(person, trigger) => self.intake.push_back(Pending::Behind(person, trigger)),
            Inbound::CaughtUp(person, trigger, cursor) => {
                self.intake.push_back(Pending::CaughtUp(person, trigger, cursor));
            }
            Inbound::Gap(person, from, to) => self.gap(person, from, to),
            Inbound::Committed(id, novelties) => self.committed(id, novelties, now),
            Inbound::Attempt(ticket, position) => self.attempt(ticket, position),
            Inbound::Receipt(ticket, outcome) => self.receipt(ticket, outcome, now),
            Inbound::Keep { key, value, ask } => self.keep(key, value, ask),
        }
    }

    /// The next thing to be done; `None` until the next input or deadline.
    pub fn poll_outbound(&mut self) -> Option<Outbound> {
        self.out.pop_front()
    }

    /// When [`Router::handle_timeout`] is due; `None` if nothing waits for time to pass.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Does what is due at `now`. Then take the outputs until there is none.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Changes => {
                    self.count("timed commits");
                    self.outgoing.urgent = true;
                }
                // What it was set for follows below.
                Timer::Gather => {}
                Timer::Session(person) => self.hold_due(Side::Session, person, now),
                Timer::CatchUp(person) => self.hold_due(Side::Socket, person, now),
                Timer::Probe(cause) => self.probe(&cause, now),
                Timer::Lane(lane) => self.lanes.ready(&lane),
                Timer::Typing(lease) => self.typed_long(lease, now),
                Timer::Presence(person) => self.say(&person, now),
                Timer::Age => self.age(now),
                Timer::Housekeeping => self.housekeeping(now),
                Timer::Resumption(stream) => self.refused(&stream, None, now),
            }
        }
        self.act(now);
    }

    /// How far each person's Webex side has been read.
    pub fn cursors(&self) -> impl Iterator<Item = (&PersonId, Time)> {
        self.cursors.iter().map(|(person, time)| (person, *time))
    }

    /// From when somebody is read who begins at `now` (rules 12 and 17).
    pub(crate) fn since(&self, now: Time) -> Time {
        self.config.since.map_or(now, |since| since.min(now))
    }

    /// Who is whom, as of now.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// The verdict about a message from one JID to another, written in `from`, for the recipient who looks
    /// in `to`. `None` if either is not in the directory.
    #[must_use]
    pub fn judge(
        &self,
        sender: &JabberId,
        from: Client,
        recipient: &JabberId,
        to: Client,
    ) -> Option<Verdict> {
        let facts = self.judging(Time(0));
        let party = |jid| self.directory.by_jid(jid).map(|person| facts.party(person));
        Some(judge(party(sender)?, from, party(recipient)?, to))
    }

    /// Whether a delivery is still with an edge. One that was settled by its stream, or given up, has no
    /// answer to come.
    #[must_use]
    pub fn is_in_flight(&self, ticket: Ticket) -> bool {
        self.deliveries.contains_key(&ticket)
            || self.outgoing.attempts.contains(&ticket)
            || self.committing.as_ref().is_some_and(|c| c.attempts.contains(&ticket))
    }

    /// How many inputs wait for the batch in flight: beyond what the hub allows, it leaves its intake unread.
    #[must_use]
    pub fn uncommitted(&self) -> usize {
        self.intake.len()
    }

    /// What the status page shows.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters.clone();
        let served: Vec<&PersonId> = self.presence.people().collect();
        counters.enabled = served.len();
        counters.sessions = served.iter().filter(|p| self.holds.is_settled(p)).count();
        counters.inactive = served.iter().filter(|p| !self.presence.wants_open(p)).count();
        counters.catching_up = served.iter().filter(|p| self.holds.is_behind(p)).count();
        counters.held = self.lanes.held().count();
        counters.lanes = self.lanes.count();
        counters.waiting = self.lanes.all().filter(|live| live.place().is_some()).count();
        counters.in_flight = self.deliveries.len();
        counters.oldest = self.lanes.all().map(|live| live.entry.committed).min();
        counters.blocked = self.causes.summary();
        counters
    }

    /// Whether nothing waits: everybody is known, no entry is unfinished, nothing is uncommitted, every wanted
    /// session has settled, and nobody who has a socket is behind.
    #[must_use]
    pub fn idle(&self) -> bool {
        let settled = |person: &PersonId| {
            self.holds.is_settled(person)
                || self.holds.is_closed_for_good(person)
                || !self.presence.wants_open(person)
        };
        let caught_up = |person: &PersonId| {
            !self.holds.is_behind(person) || self.directory.by_person(person).is_none_or(|p| !p.token)
        };
        self.directory.is_complete()
            && self.out.is_empty()
            && self.intake.is_empty()
            && self.committing.is_none()
            && self.outgoing.is_empty()
            && self.lanes.is_empty()
            && self.presence.people().all(|person| settled(person) && caught_up(person))
    }

    /// Goes on where the store has left off.
    fn restore(&mut self, loaded: Loaded, now: Time) {
        for (person, at) in loaded.kept.iter().filter_map(|(key, value)| had_begun(key, value)) {
            self.holds.had_begun(person, at);
        }
        let presence: BTreeMap<_, _> = loaded.presence.into_iter().collect();
        let mut targets: BTreeMap<_, _> = loaded.targets.into_iter().collect();
        for entry in loaded.delivered.into_iter().rev() {
            self.delivered.note(Live::new(entry, Vec::new(), MaybeSent::No), now);
        }
        for entry in loaded.entries {
            // Rule 10: a POST of an earlier run may have arrived, if that run has said so. A stanza that was never
            // given a position was never written; one that was is settled by its stream (rule 11).
            let maybe = match entry.lane.towards() {
                Client::Webex if entry.run != 0 => MaybeSent::Since(now),
                _ => MaybeSent::No,
            };
            if let (EntryState::Held { by }, Lane::ToWebex(..)) = (&entry.state, &entry.lane) {
                // An opening goes on until a new ping returns, but not for ever (rule 8).
                for holder in by {
                    self.timers.set(Timer::Session(holder.clone()), now.after(self.config.times.hold));
                }
            }
            let targets = targets.remove(&entry.id).unwrap_or_default();
            self.lanes.insert(Live::new(entry, targets, maybe));
        }
        // What an edit, a delete or a mark did to what waited before it may not have been committed.
        let mut waiting: Vec<(u64, EntryId)> =
            self.lanes.all().filter_map(|live| Some((live.place()?, live.entry.id))).collect();
        waiting.sort_unstable();
        let waiting: Vec<EntryId> = waiting.into_iter().map(|(_, id)| id).collect();
        self.placed(&waiting);
        for stream in self.lanes.attempted_streams() {
            self.timers.set(Timer::Resumption(stream), now.after(self.config.times.resumption));
        }
        let served: Vec<PersonId> =
            self.directory.people().filter(|p| p.served()).map(|p| p.id.clone()).collect();
        for person in served {
            let stored = presence.get(&person).map(AsRef::as_ref);
            self.serve(&person, stored, now);
            if !self.cursors.contains_key(&person) {
                // The store was put back (rule 12).
                self.move_cursor(&person, self.since(now));
                self.outgoing.urgent = true;
            }
        }
        // What the bot says is nobody's activity.
        let as_somebody = |live: &&Live| live.maybe != MaybeSent::No && !live.entry.kind.is_told();
        let unanswered = self.lanes.all().filter(as_somebody);
        for carrier in unanswered.map(|live| &live.entry.carrier) {
            self.presence.writing(carrier, Ticket(0), now, &self.config.times);
        }
        if self.directory.is_complete() {
            self.out.push_back(Outbound::DirectoryChanged);
        }
        self.timers.set(Timer::Age, now);
        self.timers.set(Timer::Housekeeping, now.after(HOUSEKEEPING));
    }

    /// Does whatever can be done now. What came in may let deliveries go, and those may leave changes.
    pub fn act(&mut self, now: Time) {
        self.build(now);
        self.dispatch(now);
        self.build(now);
    }

    fn keep(&mut self, key: Box<str>, value: Option<Box<[u8]>>, ask: u64) {
        self.outgoing.change(Change::Keep(key, value));
        if ask != 0 {
            self.outgoing.asks.push(ask);
        }
    }

    fn housekeeping(&mut self, now: Time) {
        let times = self.config.times;
        let before = now.before(times.bounce);
        if self.delivered.forget(before) {
            // What was delivered lately may have been committed long ago, and still come back.
            let kept = self.delivered.oldest().unwrap_or(before);
            self.outgoing.later(Change::Erase(kept.min(before)));
        }
        self.rates.forget(now);
        self.outside.forget(now);
        if self.delivered.expire_due(now) {
            // What is that old is not found any more, so no mark can be about it (rule 22).
            forget_marks(&mut self.marked, now.before(times.retention));
            self.outgoing.later(Change::Expire(now.before(times.retention)));
        }
        self.timers.set(Timer::Housekeeping, now.after(HOUSEKEEPING));
    }

    /// What a verdict or a decision rests on.
    pub(crate) fn judging(&self, now: Time) -> Facts<'_> {
        Facts {
            directory: &self.directory,
            holds: &self.holds,
            tagger: &self.config.tagger,
            deliver_to_pending: self.config.deliver_to_pending,
            bot: self.config.bot,
            federation: self.config.federation.as_deref(),
            retention: self.config.times.retention,
            now,
        }
    }

    pub(crate) fn count(&mut self, event: &'static str) {
        *self.counters.events.entry(event).or_insert(0) += 1;
    }

    pub(crate) fn count_not_carried(&mut self, rule: &str) {
        *self.counters.not_carried.entry(rule.into()).or_insert(0) += 1;
    }
}
