//! From the intake to the store and back: what is committed together, and what follows once it is on disk.

use std::collections::{BTreeMap, BTreeSet};

use crate::entitlement::Client;
use crate::envelope::{Body, Envelope, Kind, Link, Origin, Via, WebexOrigin};
use crate::held::{Hold, Side};
use crate::ids::{
    ActivityId, BatchId, EntryId, ImpStreamId, PersonId, SourceId, StreamId, Ticket, Time, Upstream,
};
use crate::inbound::{Cause, SessionEvent};
use crate::intake::{Decision, NEVER_SHOWN, decide};
use crate::lane::Live;
use crate::machine::Router;
use crate::outbound::{MaybeSent, Outbound};
use crate::outbox::{Batch, Change, EntryKind, EntryState, Input, Lane, Novelty, Part};
use crate::timers::Timer;
use crate::typing::Lease;

/// An input that waits its turn: everything whose order matters.
#[derive(Debug)]
pub(crate) enum Pending {
    Message { envelope: Box<Envelope>, parts: Vec<Body>, upstream: Option<Upstream> },
    Handled(Upstream),
    Session(PersonId, SessionEvent),
    Behind(PersonId, u64),
    CaughtUp(PersonId, u64, Time),
    HoldOver(Side, PersonId),
}

/// What goes into the next batch besides the inputs.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    changes: Vec<Change>,
    /// Something waits for this commit.
    pub(crate) urgent: bool,
    pub(crate) asks: Vec<u64>,
    pub(crate) attempts: Vec<Ticket>,
    pub(crate) settled: Vec<ImpStreamId>,
    moved: BTreeMap<ImpStreamId, u64>,
    /// What people are told, by its source ids.
    pub(crate) told: BTreeMap<SourceId, Input>,
}

impl Outgoing {
    /// A change that something waits for.
    pub(crate) fn change(&mut self, change: Change) {
        self.changes.push(change);
        self.urgent = true;
    }

    /// A change that rides on the next commit.
    pub(crate) fn later(&mut self, change: Change) {
        self.changes.push(change);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.moved.is_empty() && !self.urgent
    }

    /// A stream is over: its count is not kept any more.
    pub(crate) fn forget_stream(&mut self, stream: &ImpStreamId) {
        self.moved.remove(stream);
        self.change(Change::ForgetStream(stream.clone()));
    }
}

/// What follows once the batch in flight is on disk.
#[derive(Debug)]
pub(crate) struct Committing {
    id: BatchId,
    inputs: Vec<Input>,
    releases: Vec<Vec<(EntryId, u64)>>,
    acks: BTreeMap<StreamId, u64>,
    asks: Vec<u64>,
    pub(crate) attempts: Vec<Ticket>,
    settled: Vec<ImpStreamId>,
}

/// A batch in the making.
#[derive(Debug, Default)]
struct Building {
    inputs: Vec<Input>,
    releases: Vec<Vec<(EntryId, u64)>>,
    acks: BTreeMap<StreamId, u64>,
    /// Whoever holds something in this batch: what is not on disk cannot be released yet.
    holders: BTreeSet<(Side, PersonId)>,
    /// Lanes towards Webex in which something of this batch waits.
    lanes: BTreeSet<Lane>,
}

/// How many inputs one batch takes.
const BATCH: usize = 256;

/// So many deliveries under way let expect that more will have to be committed in a moment.
const MANY: usize = 8;

impl Router {
    /// Makes the next batch, if the last one is on disk and there is a reason for another.
    pub(crate) fn build(&mut self, now: Time) {
        if self.committing.is_some() || self.gathers(now) {
            return;
        }
        let mut building = Building::default();
        while let Some(pending) = self.intake.pop_front() {
            if let Err(pending) = self.take(pending, &mut building, now) {
                self.intake.push_front(pending);
                break;
            }
        }
        let outgoing = &mut self.outgoing;
        if building.inputs.is_empty() && !outgoing.urgent {
            // Nothing has to be on disk for these: every batch before is.
            self.out.extend(acknowledgements(building.acks));
            if !outgoing.is_empty() {
                self.timers.set_at_latest(Timer::Changes, now.after(self.config.times.ride));
            }
            return;
        }
        for (stream, n) in std::mem::take(&mut outgoing.moved) {
            outgoing.changes.push(Change::Handled(stream.clone(), n));
            building.acks.insert(StreamId::Imp(stream), n);
        }
        self.timers.cancel(&Timer::Changes);
        let outgoing = std::mem::take(&mut self.outgoing);
        building.inputs.extend(outgoing.told.into_values());
        let id = BatchId(self.next_batch);
        self.next_batch += 1;
        self.last_commit = Some(now);
        self.committing = Some(Committing {
            id,
            inputs: building.inputs.iter().map(without_bodies).collect(),
            releases: building.releases,
            acks: building.acks,
            asks: outgoing.asks,
            attempts: outgoing.attempts,
            settled: outgoing.settled,
        });
        self.out.push_back(Outbound::Commit(Batch {
            id,
            inputs: building.inputs,
            changes: outgoing.changes,
        }));
    }

    /// Whether the next batch waits a moment for more: a commit costs the same for one as for many. Where little is under
    /// way, or all of it waits for this commit, nothing is waited for.
    fn gathers(&mut self, now: Time) -> bool {
        let under_way = self.deliveries.len();
        let full = self.intake.len() >= BATCH || self.outgoing.attempts.len() >= under_way;
        if under_way < MANY || full {
            return false;
        }
        let Some(last) = self.last_commit else { return false };
        let until = last.after(self.config.times.gather);
        let waits = (last..until).contains(&now);
        if waits && (!self.intake.is_empty() || !self.outgoing.is_empty()) {
            self.timers.set_at_latest(Timer::Gather, until);
        }
        waits
    }

    /// Takes one pending input into the batch; gives it back if it has to wait for the next one.
    fn take(&mut self, pending: Pending, building: &mut Building, now: Time) -> Result<(), Pending> {
        match pending {
            Pending::Message { .. }
                if !self.directory.is_complete()
                    || building.inputs.len() >= BATCH
                    // In a batch, inputs come before releases: what follows a release must not overtake it.
                    || !building.releases.is_empty() =>
            {
                Err(pending)
            }
            Pending::Message { envelope, parts, upstream } => {
                self.message(&envelope, parts, upstream.as_ref(), building, now);
                if let Some(upstream) = upstream {
                    self.taken(upstream, building);
                }
                Ok(())
            }
            Pending::Handled(upstream) => {
                self.taken(upstream, building);
                Ok(())
            }
            Pending::Session(person, SessionEvent::Settled) => {
                if building.holders.contains(&(Side::Session, person.clone())) {
                    return Err(Pending::Session(person, SessionEvent::Settled));
                }
                if self.holds.settled(&person) {
                    self.outgoing.later(Change::Keep(began(&person), None));
                }
                self.timers.cancel(&Timer::Session(person.clone()));
                self.release(Side::Session, &person, building);
                self.cause_gone(&Cause::Session(person));
                Ok(())
            }
            Pending::Session(person, SessionEvent::Opening { resumed, at, .. }) => {
                self.holds.opening(&person, resumed, at, now);
                if !resumed {
                    let value = at.0.to_be_bytes();
                    self.outgoing.later(Change::Keep(began(&person), Some(Box::new(value))));
                }
                self.hold_timer(Side::Session, person.clone());
                self.cause_gone(&Cause::Session(person));
                Ok(())
            }
            Pending::Session(person, SessionEvent::Closed { for_good }) => {
                self.holds.closed(&person, for_good);
                Ok(())
            }
            // Taken when it came: it only says that the session is alive.
            Pending::Session(_, SessionEvent::Active) => Ok(()),
            Pending::Behind(person, trigger) => {
                self.holds.behind(&person, trigger, now);
                self.hold_timer(Side::Socket, person);
                Ok(())
            }
            Pending::CaughtUp(person, trigger, cursor) => {
                if building.holders.contains(&(Side::Socket, person.clone())) {
                    return Err(Pending::CaughtUp(person, trigger, cursor));
                }
                if self.holds.caught_up(&person, trigger) {
                    self.timers.cancel(&Timer::CatchUp(person.clone()));
                    self.release(Side::Socket, &person, building);
                    self.move_cursor(&person, cursor);
                    self.outgoing.urgent = true;
                }
                Ok(())
            }
            Pending::HoldOver(side, person) => {
                if building.holders.contains(&(side, person.clone())) {
                    return Err(Pending::HoldOver(side, person));
                }
                if self.holds.over(side, &person) {
                    self.count("holds that took too long");
                }
                self.release(side, &person, building);
                Ok(())
            }
        }
    }

    fn taken(&mut self, upstream: Upstream, building: &mut Building) {
        match upstream.stream {
            StreamId::Imp(stream) => {
                self.outgoing.moved.insert(stream, upstream.n);
            }
            stream @ StreamId::Mercury(..) => {
                building.acks.insert(stream, upstream.n);
            }
        }
    }

    fn message(
        &mut self,
        envelope: &Envelope,
        parts: Vec<Body>,
        upstream: Option<&Upstream>,
        building: &mut Building,
        now: Time,
    ) {
        let stream = match upstream.map(|u| &u.stream) {
            Some(StreamId::Imp(stream)) => Some(stream),
            _ => None,
        };
        let decision = decide(envelope, parts, stream, &self.judging(now));
        if let Origin::Webex(origin) = &envelope.origin {
            self.live_event(origin);
        }
        match decision {
            Decision::Carry(input) => self.carry(envelope, *input, building, now),
            Decision::OwnPost { written, activity, conversation } => {
                self.counters.own += 1;
                if let Some(id) = self.lanes.by_derived(&written) {
                    self.done(id, Link::Activity(activity, conversation), now);
                }
            }
            Decision::OwnStanza => self.counters.own += 1,
            Decision::Bounced { of, condition, outside } => self.bounced(&of, &condition, outside, now),
            Decision::NotCarried(rule) => {
                self.count_not_carried(rule);
                if let Origin::Webex(origin) = &envelope.origin {
                    self.left_in_the_dark(origin, &envelope.kind);
                }
            }
        }
    }

    /// Rule 9: a live event without a gap moves the cursor, while no catch-up is owed.
    fn live_event(&mut self, origin: &WebexOrigin) {
        if origin.via == Via::Socket && !self.holds.is_behind(&origin.socket) {
            let overlap = self.config.times.overlap;
            let cursor = origin.published.before(overlap);
            // A cursor that lags a little lists a little more.
            let known = self.cursors.get(&origin.socket);
            if known.is_none_or(|known| known.after(overlap / 4) <= cursor) {
                self.move_cursor(&origin.socket, cursor);
            }
        }
    }

    pub(crate) fn move_cursor(&mut self, person: &PersonId, cursor: Time) {
        let since = self.directory.by_person(person).and_then(|p| p.enabled_since);
        let cursor = Some(cursor).max(since).max(self.cursors.get(person).copied());
        if let Some(cursor) = cursor
            && self.cursors.insert(person.clone(), cursor) != Some(cursor)
        {
            self.outgoing.later(Change::Cursor(person.clone(), Some(cursor)));
        }
    }

    fn carry(&mut self, envelope: &Envelope, mut input: Input, building: &mut Building, now: Time) {
        let sender = input.sender.clone();
        if let Some(reader) = input.recipient.as_ref().filter(|_| sender.is_federated())
            && self.outside.exceeded(reader, now)
        {
            // Nothing is noted of it, since whoever owns a domain has as many addresses as wanted.
            return self.count_not_carried("rule 13: federated contacts write too fast to one person");
        }
        match &envelope.origin {
            Origin::Jabber(_) => {
                if let Some(recipient) = &input.recipient {
                    self.typing.stop(&Lease::ToWebex(sender.clone(), recipient.clone()));
                }
            }
            Origin::Webex(origin) => {
                if let Kind::Read(_) = envelope.kind
                    && self.is_own_mark(&input)
                {
                    self.counters.own += 1;
                    return;
                }
                self.typing.stop(&Lease::ToJabber(sender.clone(), origin.conversation.clone()));
                if envelope.kind != Kind::Tombstone && self.presence.active(&sender, origin.published) {
                    self.remember_presence(&sender);
                    self.say(&sender, now);
                }
            }
        }
        if input.state.is_finished() && envelope.kind == Kind::Tombstone {
            building.inputs.push(input);
            return;
        }
        if let (Origin::Jabber(origin), Kind::Text) = (&envelope.origin, &envelope.kind)
            && self.rates.exceeded(&sender, now)
        {
            building.inputs.push(self.refusal(input, &origin.session));
            return;
        }
        let (side, holder, hold) = match &envelope.origin {
            Origin::Jabber(o) => (Side::Session, &o.session, self.holds.session(&o.session)),
            Origin::Webex(o) => (Side::Socket, &o.socket, self.holds.socket(&o.socket)),
        };
        input.state = match hold {
            Hold::Yes { sorts_before } => {
                input.stamp = input.stamp.filter(|stamp| sorts_before.is_some_and(|at| *stamp < at));
                building.holders.insert((side, holder.clone()));
                EntryState::Held { by: vec![holder.clone()] }
            }
            Hold::No | Hold::Late => {
                if hold == Hold::Late {
                    self.count("late: after a hold that took too long");
                }
                EntryState::Waiting(self.places(input.parts.len()))
            }
        };
        // What is delivered at once needs no second commit.
        input.prompt = matches!(input.lane, Lane::ToWebex(..))
            && matches!(input.state, EntryState::Waiting(_))
            && !self.lanes.has(&input.lane)
            && building.lanes.insert(input.lane.clone());
        building.inputs.push(input);
    }

    /// The first of so many consecutive places.
    pub(crate) fn places(&mut self, count: usize) -> u64 {
        let first = self.next_place;
        self.next_place += count as u64;
        first
    }

    /// Releases what this person's session or socket holds, in order (rule 8).
    fn release(&mut self, side: Side, person: &PersonId, building: &mut Building) {
        let releasing: BTreeSet<EntryId> = building.releases.iter().flatten().map(|(id, _)| *id).collect();
        let mut held: Vec<(SortKey, EntryId)> = self
            .lanes
            .held()
            .filter(|live| match &live.entry.state {
                EntryState::Held { by } => side_of(&live.entry.lane) == side && by.contains(person),
                _ => false,
            })
            .filter(|live| !releasing.contains(&live.entry.id))
            .map(|live| (sort_key(live), live.entry.id))
            .collect();
        if held.is_empty() {
            return;
        }
        held.sort();
        let first = self.places(held.len());
        let places: Vec<(EntryId, u64)> = held.into_iter().map(|(_, id)| id).zip(first..).collect();
        self.outgoing.change(Change::Release(places.clone()));
        building.releases.push(places);
    }

    /// The batch is on disk.
    pub(crate) fn committed(&mut self, id: BatchId, novelties: Vec<Novelty>, now: Time) {
        let Some(done) = self.committing.take_if(|c| c.id == id) else { return };
        for (input, novelty) in done.inputs.into_iter().zip(novelties) {
            self.answered(input, novelty, now);
        }
        for places in done.releases {
            let mut placed = Vec::with_capacity(places.len());
            for (id, place) in places {
                if self.lanes.get(id).is_some_and(|live| live.place().is_none()) {
                    self.lanes.place(id, place);
                    placed.push(id);
                }
            }
            self.placed(&placed);
        }
        self.out.extend(done.asks.into_iter().map(Outbound::Kept));
        for ticket in done.attempts {
            self.out.push_back(match self.deliveries.contains_key(&ticket) {
                true => Outbound::Write(ticket),
                false => Outbound::Skip(ticket),
            });
        }
        self.out.extend(done.settled.into_iter().map(Outbound::Settled));
        self.out.extend(acknowledgements(done.acks));
    }

    fn answered(&mut self, input: Input, novelty: Novelty, now: Time) {
        match novelty {
            Novelty::New { entries, occurrence, target } => {
                let Some(first) = entries.first() else { return };
                if input.state.is_finished() {
                    self.count(NEVER_SHOWN);
                    for entry in input.entries(*first, occurrence, now, self.run, &self.config.tagger) {
                        self.lanes.ended(entry.summary(), None);
                    }
                    return;
                }
                if matches!(input.lane, Lane::ToWebex(..)) {
                    match input.recipient.as_ref().filter(|_| input.sender.is_federated()) {
                        Some(reader) => self.outside.count(reader, now),
                        None => self.rates.count(&input.sender, now),
                    }
                }
                if input.parts.iter().any(|part| part.kind == EntryKind::Refused) {
                    self.count_not_carried("rule 13: the sender writes too fast");
                }
                for entry in input.entries(*first, occurrence, now, self.run, &self.config.tagger) {
                    self.lanes.insert(Live::new(entry, target.clone(), MaybeSent::No));
                }
                if matches!(input.state, EntryState::Waiting(_)) {
                    self.placed(&entries);
                }
                self.timers.set_at_latest(Timer::Age, now.after(self.config.times.report));
            }
            Novelty::Repeat { entries, released } => {
                self.counters.repeats += 1;
                self.repeated(&input, &entries, released);
            }
            Novelty::Own(own) => {
                self.counters.own += 1;
                if let Some(conversation) = input.conversation {
                    let activity = ActivityId::new(input.source.as_str());
                    self.done(own.id, Link::Activity(activity, conversation), now);
                }
            }
        }
    }

    fn repeated(&mut self, input: &Input, entries: &[EntryId], released: bool) {
        match &input.state {
            EntryState::Waiting(place) if released => {
                for (id, place) in entries.iter().zip(*place..) {
                    if self.lanes.get(*id).is_some_and(|live| live.place().is_none()) {
                        self.lanes.place(*id, place);
                    }
                }
                self.placed(entries);
            }
            EntryState::Held { by: also } => {
                for id in entries {
                    let Some(live) = self.lanes.get_mut(*id) else { continue };
                    let EntryState::Held { by } = &mut live.entry.state else { continue };
                    by.extend(also.iter().filter(|holder| !by.contains(holder)).cloned().collect::<Vec<_>>());
                    live.entry.stamp = live.entry.stamp.max(input.stamp);
                }
            }
            _ => {}
        }
    }

    /// An edge saw something: what waits for silence or for progress waits anew (rule 8).
    pub(crate) fn seen(&mut self, envelope: &Envelope, now: Time) {
        match &envelope.origin {
            Origin::Jabber(origin) => {
                self.holds.active(&origin.session, now);
                self.hold_timer(Side::Session, origin.session.clone());
            }
            Origin::Webex(WebexOrigin { socket, via: Via::CatchUp(_), .. }) => {
                self.holds.progress(socket, now);
                self.hold_timer(Side::Socket, socket.clone());
            }
            Origin::Webex(_) => {}
        }
    }

    /// Sets the timer at which the hold of this person ends.
    pub(crate) fn hold_timer(&mut self, side: Side, person: PersonId) {
        if let Some(at) = self.holds.ends(side, &person, &self.config.times) {
            self.timers.set(hold(side, person), at);
        }
    }

    /// A hold may have lasted long enough.
    pub(crate) fn hold_due(&mut self, side: Side, person: PersonId, now: Time) {
        match self.holds.ends(side, &person, &self.config.times) {
            Some(at) if at > now => self.timers.set(hold(side, person), at),
            // Also where the session has closed meanwhile: what it held must not wait for another.
            _ => self.intake.push_back(Pending::HoldOver(side, person)),
        }
    }
}

fn hold(side: Side, person: PersonId) -> Timer {
    match side {
        Side::Session => Timer::Session(person),
        Side::Socket => Timer::CatchUp(person),
    }
}

/// What is kept of a session that has not settled: when it began, since an opening goes on after a restart.
const BEGAN: &str = "router.began/";

fn began(person: &PersonId) -> Box<str> {
    format!("{BEGAN}{person}").into()
}

/// Whose session began when, if this is kept of one.
pub(crate) fn had_begun(key: &str, value: &[u8]) -> Option<(PersonId, Time)> {
    let at = i64::from_be_bytes(value.try_into().ok()?);
    Some((PersonId::new(key.strip_prefix(BEGAN)?), Time(at)))
}

fn side_of(lane: &Lane) -> Side {
    match lane.towards() {
        Client::Webex => Side::Session,
        Client::Jabber => Side::Socket,
    }
}

type SortKey = (Time, Time, EntryId);

/// In which order held entries are released: from Webex by their time of publication, from Jabber the
/// stamped ones by their stamps, then the others as they came.
fn sort_key(live: &Live) -> SortKey {
    let entry = &live.entry;
    match entry.lane.towards() {
        Client::Jabber => (entry.time, entry.time, entry.id),
        Client::Webex => (entry.stamp.unwrap_or(Time(i64::MAX)), Time(0), entry.id),
    }
}

fn acknowledgements(acks: BTreeMap<StreamId, u64>) -> impl Iterator<Item = Outbound> {
    acks.into_iter().map(|(stream, n)| Outbound::Acknowledge(Upstream { stream, n }))
}

/// The input as the router keeps it while it is with the store.
fn without_bodies(input: &Input) -> Input {
    let parts = input.parts.iter().map(|part| Part { kind: part.kind.clone(), body: Body::None }).collect();
    Input {
        source: input.source.clone(),
        repeat: input.repeat.clone(),
        lane: input.lane.clone(),
        sender: input.sender.clone(),
        recipient: input.recipient.clone(),
        carrier: input.carrier.clone(),
        stanza: input.stanza.clone(),
        from: input.from.clone(),
        conversation: input.conversation.clone(),
        time: input.time,
        stamp: input.stamp,
        iv: input.iv,
        parts,
        target: input.target.clone(),
        prompt: input.prompt,
        state: input.state.clone(),
    }
}
