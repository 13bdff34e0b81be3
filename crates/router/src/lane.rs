//! One direction of one conversation: first in, first out, one delivery in flight (rule 7).
//!
//! ```text
//!   place 17   place 18   place 21          blocks: what stands in the way of which sender
//!  ┌────────┬──────────┬──────────┐
//!  │ ann: 1 │  bob: 1  │  ann: 2  │         ann is kept by her own token for 60 s: bob's passes
//!  └────────┴──────────┴──────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;

use crate::envelope::Body;
use crate::ids::{ActivityId, DerivedId, EntryId, ImpStreamId, PersonId, Position, SourceId, Ticket, Time};
use crate::inbound::Cause;
use crate::outbound::MaybeSent;
use crate::outbox::{Entry, EntryKind, EntryState, EntrySummary, Lane, TargetRef};
use crate::times::Times;

/// An unfinished entry, as the router has it in memory: without its body.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) entry: Entry,
    /// What it refers to, kept up to date while it waits.
    pub(crate) targets: Vec<EntrySummary>,
    /// The delivery that it is in.
    pub(crate) ticket: Option<Ticket>,
    /// Whether an earlier attempt may have arrived.
    pub(crate) maybe: MaybeSent,
    /// Not to be tried before this.
    pub(crate) not_before: Time,
    /// Since when it has been kept by its own sender's token or session alone.
    pub(crate) kept_since: Option<Time>,
    /// How often it came back as failed (rule 11).
    pub(crate) returns: u32,
}

impl Live {
    pub(crate) fn new(entry: Entry, targets: Vec<EntrySummary>, maybe: MaybeSent) -> Self {
        let entry = Entry { body: Body::None, ..entry };
        Self { entry, targets, ticket: None, maybe, not_before: Time(i64::MIN), kept_since: None, returns: 0 }
    }

    /// Whether the far side may have something of it (rule 19): from `Deliver` to `Later` it counts so.
    pub(crate) fn attempted(&self) -> bool {
        self.ticket.is_some() || self.entry.attempt.is_some() || self.maybe != MaybeSent::No
    }

    pub(crate) fn place(&self) -> Option<u64> {
        match self.entry.state {
            EntryState::Waiting(place) => Some(place),
            _ => None,
        }
    }
}

/// All unfinished entries, and the lanes that some of them wait in. What is found by a text is hashed: nothing walks
/// through it in an order that could be seen.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    entries: BTreeMap<EntryId, Box<Live>>,
    derived: HashMap<DerivedId, EntryId>,
    attempts: BTreeMap<Position, EntryId>,
    sources: HashMap<SourceId, BTreeSet<EntryId>>,
    /// Which unfinished entries refer to an activity.
    referrers: HashMap<ActivityId, BTreeSet<EntryId>>,
    /// What has no place yet.
    held: BTreeSet<EntryId>,
    queues: HashMap<Lane, Queue>,
    ready: VecDeque<Lane>,
    listed: HashSet<Lane>,
}

#[derive(Debug, Default)]
struct Queue {
    entries: BTreeSet<(u64, EntryId)>,
    busy: Option<Ticket>,
    blocks: BTreeMap<PersonId, Cause>,
    /// This sender's next delivery finds out whether the cause is gone.
    probe: Option<(PersonId, Cause)>,
}

/// What a lane has to deliver now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// Nothing, until something happens.
    Nothing,
    /// Nothing before this moment.
    NotBefore(Time),
    /// This one.
    Entry {
        /// Which.
        id: EntryId,
        /// It passes one of the other person's.
        passes: bool,
        /// It tries whether this cause is gone.
        probe: Option<Cause>,
    },
}

impl Lanes {
    pub(crate) fn get(&self, id: EntryId) -> Option<&Live> {
        self.entries.get(&id).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, id: EntryId) -> Option<&mut Live> {
        self.entries.get_mut(&id).map(Box::as_mut)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Live> {
        self.entries.values().map(Box::as_ref)
    }

    /// What has no place yet.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Live> {
        self.held.iter().filter_map(|id| self.get(*id))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The unfinished entry that is written under this id.
    pub(crate) fn by_derived(&self, id: &str) -> Option<EntryId> {
        self.derived.get(&DerivedId::new(id)).copied()
    }

    /// Takes an entry in; one that waits already has its place.
    pub(crate) fn insert(&mut self, live: Live) {
        let (id, entry) = (live.entry.id, &live.entry);
        self.derived.insert(entry.derived.clone(), id);
        self.sources.entry(entry.source.clone()).or_default().insert(id);
        if let Some(position) = &entry.attempt {
            self.attempts.insert(position.clone(), id);
        }
        if let Some(TargetRef::Activity(activity)) = &entry.target {
            self.referrers.entry(activity.clone()).or_default().insert(id);
        }
        match live.place() {
            Some(place) => {
                self.queues.entry(entry.lane.clone()).or_default().entries.insert((place, id));
                self.ready(&entry.lane.clone());
            }
            None => {
                self.held.insert(id);
            }
        }
        self.entries.insert(id, Box::new(live));
    }

    /// Gives an entry its place, or another one.
    pub(crate) fn place(&mut self, id: EntryId, place: u64) {
        let Some(live) = self.entries.get_mut(&id) else { return };
        self.held.remove(&id);
        let queue = self.queues.entry(live.entry.lane.clone()).or_default();
        if let Some(earlier) = live.place() {
            queue.entries.remove(&(earlier, id));
        }
        queue.entries.insert((place, id));
        live.entry.state = EntryState::Waiting(place);
        let lane = live.entry.lane.clone();
        self.ready(&lane);
    }

    /// Takes a finished entry out, and tells those that refer to it how it ended.
    pub(crate) fn remove(&mut self, id: EntryId, end: EntryState) -> Option<Live> {
        let live = self.entries.remove(&id)?;
        self.held.remove(&id);
        self.derived.remove(&live.entry.derived);
        if let Some(position) = &live.entry.attempt {
            self.attempts.remove(position);
        }
        forget(&mut self.sources, &live.entry.source, id);
        if let Some(TargetRef::Activity(activity)) = &live.entry.target {
            forget(&mut self.referrers, activity, id);
        }
        if let (Some(queue), Some(place)) = (self.queues.get_mut(&live.entry.lane), live.place()) {
            queue.entries.remove(&(place, id));
            if queue.busy.is_none() && queue.entries.is_empty() {
                self.queues.remove(&live.entry.lane);
            }
        }
        self.ended(EntrySummary { state: end, ..live.entry.summary() }, live.entry.target.as_ref());
        self.ready(&live.entry.lane);
        Some(*live)
    }

    /// A message has ended, or has been found to have ended: whoever refers to it is told.
    pub(crate) fn ended(&mut self, message: EntrySummary, target: Option<&TargetRef>) {
        let activity = match (&message.lane, &message.kind, target) {
            // An edit counts as the message that it edits (rule 19).
            (_, EntryKind::Edit, Some(TargetRef::Activity(activity))) => activity.clone(),
            (Lane::ToJabber(_), EntryKind::Text | EntryKind::Files, _) => {
                ActivityId::new(message.source.as_str())
            }
            _ => return,
        };
        for id in self.referrers.get(&activity).into_iter().flatten() {
            let Some(live) = self.entries.get_mut(id) else { continue };
            match live.targets.iter_mut().find(|t| t.id == message.id) {
                Some(known) => known.state = message.state.clone(),
                None => live.targets.push(message.clone()),
            }
        }
    }

    /// Unfinished entries of this lane that are this activity, or edits of it with the notices of those.
    pub(crate) fn of_activity(&self, lane: &Lane, activity: &ActivityId) -> BTreeSet<EntryId> {
        let referrers = self.referrers.get(activity).into_iter().flatten();
        let edits = referrers
            .filter_map(|id| self.entries.get(id))
            .filter(|live| live.entry.kind == EntryKind::Edit)
            .map(|live| live.entry.source.clone());
        std::iter::once(SourceId::new(activity.as_str()))
            .chain(edits)
            .filter_map(|source| self.sources.get(&source))
            .flatten()
            .filter(|id| self.entries.get(id).is_some_and(|live| live.entry.lane == *lane))
            .copied()
            .collect()
    }

    /// Notes at which position an entry is attempted; `None` takes the note away.
    pub(crate) fn attempt(&mut self, id: EntryId, position: Option<Position>) {
        let Some(live) = self.entries.get_mut(&id) else { return };
        if let Some(earlier) = live.entry.attempt.take() {
            self.attempts.remove(&earlier);
        }
        if let Some(position) = position {
            self.attempts.insert(position.clone(), id);
            live.entry.attempt = Some(position);
        }
    }

    /// What has been attempted on this stream, by position.
    pub(crate) fn attempts(&self, stream: &ImpStreamId) -> Vec<(u64, EntryId)> {
        let at = |n| Position { stream: stream.clone(), n };
        self.attempts.range(at(0)..=at(u64::MAX)).map(|(p, id)| (p.n, *id)).collect()
    }

    /// The streams on which something has been attempted.
    pub(crate) fn attempted_streams(&self) -> BTreeSet<ImpStreamId> {
        self.attempts.keys().map(|p| p.stream.clone()).collect()
    }

    /// Looks at this lane at the next dispatch.
    pub(crate) fn ready(&mut self, lane: &Lane) {
        if self.queues.contains_key(lane) && self.listed.insert(lane.clone()) {
            self.ready.push_back(lane.clone());
        }
    }

    /// The next lane to look at.
    pub(crate) fn next_ready(&mut self) -> Option<Lane> {
        let lane = self.ready.pop_front()?;
        self.listed.remove(&lane);
        Some(lane)
    }

    /// Whether anything waits in this lane.
    pub(crate) fn has(&self, lane: &Lane) -> bool {
        self.queues.get(lane).is_some_and(|queue| !queue.entries.is_empty())
    }

    /// Up to so many entries of a lane, from this one on.
    pub(crate) fn from(&self, id: EntryId, most: usize) -> Vec<EntryId> {
        let Some(live) = self.entries.get(&id) else { return Vec::new() };
        let (Some(place), Some(queue)) = (live.place(), self.queues.get(&live.entry.lane)) else {
            return vec![id];
        };
        queue.entries.range((place, id)..).take(most).map(|(_, id)| *id).collect()
    }

    /// What this lane has to deliver.
    pub(crate) fn pick(&self, lane: &Lane, now: Time, times: &Times) -> Pick {
        let Some(queue) = self.queues.get(lane).filter(|q| q.busy.is_none()) else { return Pick::Nothing };
        let mut passed: BTreeSet<&PersonId> = BTreeSet::new();
        for (_, id) in &queue.entries {
            let Some(live) = self.entries.get(id) else { continue };
            let sender = &live.entry.sender;
            if passed.contains(sender) {
                continue;
            }
            if let Some(cause) = queue.blocks.get(sender) {
                match live.kept_since.filter(|_| own(cause, &live.entry)) {
                    Some(since) if since.after(times.bypass) <= now => {
                        passed.insert(sender);
                        continue;
                    }
                    Some(since) => return Pick::NotBefore(since.after(times.bypass)),
                    None => return Pick::Nothing,
                }
            }
            // Attempted in an earlier run or on a lost stream: how it went will be told.
            if live.entry.attempt.is_some() {
                return Pick::Nothing;
            }
            if live.not_before > now {
                return Pick::NotBefore(live.not_before);
            }
            let probe = queue.probe.as_ref().filter(|(who, _)| who == sender).map(|(_, cause)| cause.clone());
            return Pick::Entry { id: *id, passes: !passed.is_empty(), probe };
        }
        Pick::Nothing
    }

    /// The lane is busy with this delivery from now on.
    pub(crate) fn begin(&mut self, lane: &Lane, id: EntryId, ticket: Ticket) {
        if let Some(queue) = self.queues.get_mut(lane) {
            queue.busy = Some(ticket);
            queue.probe = None;
        }
        if let Some(live) = self.entries.get_mut(&id) {
            live.ticket = Some(ticket);
        }
    }

    /// The delivery is over, however it went.
    pub(crate) fn end(&mut self, lane: &Lane, id: EntryId) {
        if let Some(live) = self.entries.get_mut(&id) {
            live.ticket = None;
        }
        if let Some(queue) = self.queues.get_mut(lane) {
            queue.busy = None;
            if queue.entries.is_empty() {
                self.queues.remove(lane);
            }
        }
        self.ready(lane);
    }

    /// A cause stands in the way of what this sender has in the lane.
    pub(crate) fn block(&mut self, lane: &Lane, sender: &PersonId, cause: &Cause) {
        if let Some(queue) = self.queues.get_mut(lane) {
            queue.blocks.insert(sender.clone(), cause.clone());
            self.ready(lane);
        }
    }

    /// It does so no longer; with `probe` that is still to be seen.
    pub(crate) fn unblock(&mut self, lane: &Lane, sender: &PersonId, probe: Option<Cause>) -> bool {
        let Some(queue) = self.queues.get_mut(lane) else { return false };
        queue.blocks.remove(sender);
        queue.probe = probe.map(|cause| (sender.clone(), cause));
        self.ready(lane);
        true
    }

    /// The cause that this lane was to try and has not.
    pub(crate) fn take_probe(&mut self, lane: &Lane) -> Option<Cause> {
        self.queues.get_mut(lane)?.probe.take().map(|(_, cause)| cause)
    }

    /// How many lanes have something waiting.
    pub(crate) fn count(&self) -> usize {
        self.queues.values().filter(|q| !q.entries.is_empty()).count()
    }

    /// Marks of this reader that wait undelivered in the lane.
    pub(crate) fn waiting_marks(&self, lane: &Lane, reader: &PersonId) -> Vec<EntryId> {
        let waiting = self.queues.get(lane).into_iter().flat_map(|q| q.entries.iter().map(|(_, id)| *id));
        waiting
            .filter(|id| {
                self.entries.get(id).is_some_and(|live| {
                    live.entry.kind == EntryKind::Read && live.entry.carrier == *reader && !live.attempted()
                })
            })
            .collect()
    }
}

fn forget<K: Eq + Hash>(index: &mut HashMap<K, BTreeSet<EntryId>>, key: &K, id: EntryId) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

/// Whether this is the entry's own sender's token or session (rule 7).
pub(crate) fn own(cause: &Cause, entry: &Entry) -> bool {
    matches!(cause, Cause::Token(p) | Cause::Session(p) if *p == entry.sender)
}
