//! A store that forgets everything with the process: for tests, examples and trials.

use std::collections::{BTreeMap, BTreeSet};

use crate::entitlement::Client;
use crate::envelope::{Body, Link};
use crate::ids::{EntryId, ImpStreamId, PersonId, SourceId, Time};
use crate::outbox::{
    Batch, Change, Entry, EntryKind, EntryState, EntrySummary, Input, Lane, Loaded, Novelty, Repeat, Report,
    Storage, StorageError, Stored, TargetRef, WINDOW,
};
use crate::tag::Tagger;

/// A [`Storage`] in memory. A clone is a second store with the same content: what a crash at that moment
/// would have left.
#[derive(Clone, Debug)]
pub struct MemoryStorage {
    tagger: Tagger,
    run: u32,
    next_entry: u64,
    next_place: u64,
    entries: BTreeMap<EntryId, Entry>,
    messages: BTreeMap<SourceId, Vec<Message>>,
    streams: BTreeMap<ImpStreamId, u64>,
    cursors: BTreeMap<PersonId, Time>,
    kept: BTreeMap<Box<str>, Box<[u8]>>,
    directory: Option<Box<[u8]>>,
    presence: BTreeMap<PersonId, Box<[u8]>>,
    /// Where what was delivered to Jabber had its place.
    places: BTreeMap<EntryId, u64>,
}

/// One message of a source id.
#[derive(Clone, Debug)]
struct Message {
    occurrence: u32,
    time: Time,
    entries: Vec<EntryId>,
    reports: BTreeSet<Report>,
}

impl MemoryStorage {
    /// An empty store, whose ids are made by `tagger`.
    #[must_use]
    pub fn new(tagger: Tagger) -> Self {
        Self {
            tagger,
            run: 0,
            next_entry: 1,
            next_place: 1 << 32,
            entries: BTreeMap::new(),
            messages: BTreeMap::new(),
            streams: BTreeMap::new(),
            cursors: BTreeMap::new(),
            kept: BTreeMap::new(),
            directory: None,
            presence: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    /// Makes ids by another tagger from now on, as a store does that is opened with another key.
    pub fn goes_on_with(&mut self, tagger: Tagger) {
        self.tagger = tagger;
    }

    /// Every entry that there is, in order of numbers.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    fn insert(&mut self, input: &Input, now: Time) -> Novelty {
        if let Some(own) = self.own(input) {
            return Novelty::Own(own);
        }
        if let Some(entries) = self.repeated(input) {
            return self.repeat(input, entries);
        }
        let target = input.target.as_ref().map(|t| self.lookup(t)).unwrap_or_default();
        let known = self.messages.entry(input.source.clone()).or_default();
        let occurrence = known.last().map_or(0, |m| m.occurrence + 1);
        let rows = input.entries(EntryId(self.next_entry), occurrence, now, self.run, &self.tagger);
        let ids: Vec<EntryId> = rows.iter().map(|e| e.id).collect();
        known.push(Message {
            occurrence,
            time: input.time,
            entries: ids.clone(),
            reports: report(input).cloned().into_iter().collect(),
        });
        self.next_entry += ids.len() as u64;
        for mut row in rows {
            if let EntryState::Waiting(place) = row.state {
                self.given_out(place);
            }
            if row.state.is_finished() {
                row.body = Body::None;
            }
            self.entries.insert(row.id, row);
        }
        Novelty::New { entries: ids, occurrence, target }
    }

    /// Rule 6: a post of ours that came back without its id.
    fn own(&self, input: &Input) -> Option<EntrySummary> {
        let iv = input.iv?;
        let own = self.entries.values().find(|e| {
            e.iv == Some(iv)
                && e.sender == input.sender
                && match &e.state {
                    EntryState::Done(Some(Link::Activity(_, conversation))) => {
                        input.conversation.as_ref() == Some(conversation)
                    }
                    _ => true,
                }
        })?;
        Some(own.summary())
    }

    /// Rules 2 and 3: which message this one repeats; notes the report.
    fn repeated(&mut self, input: &Input) -> Option<Vec<EntryId>> {
        let known = self.messages.get_mut(&input.source)?;
        match &input.repeat {
            Repeat::Exact => known.first().map(|m| m.entries.clone()),
            Repeat::Window(report) => {
                let window = i64::try_from(WINDOW.as_millis()).unwrap_or(i64::MAX);
                let message = known
                    .iter_mut()
                    .find(|m| m.time.since(input.time).abs() <= window && !m.reports.contains(report))?;
                message.reports.insert(report.clone());
                Some(message.entries.clone())
            }
        }
    }

    /// Rule 8: what a repeat does to what is held.
    fn repeat(&mut self, input: &Input, entries: Vec<EntryId>) -> Novelty {
        let mut released = false;
        for (id, nth) in entries.iter().zip(0u64..) {
            let Some(entry) = self.entries.get_mut(id).filter(|e| e.lane == input.lane) else { continue };
            let EntryState::Held { by } = &mut entry.state else { continue };
            match &input.state {
                EntryState::Waiting(place) => {
                    entry.state = EntryState::Waiting(place + nth);
                    released = true;
                }
                EntryState::Held { by: also } => {
                    for holder in also {
                        if !by.contains(holder) {
                            by.push(holder.clone());
                        }
                    }
                    entry.stamp = entry.stamp.max(input.stamp);
                }
                EntryState::Done(_) | EntryState::Closed(_) => {}
            }
        }
        if let (true, EntryState::Waiting(place)) = (released, &input.state) {
            self.given_out(place + entries.len() as u64 - 1);
        }
        Novelty::Repeat { entries, released }
    }

    fn lookup(&self, target: &TargetRef) -> Vec<EntrySummary> {
        let all = |wanted: &dyn Fn(&Entry) -> bool| -> Vec<EntrySummary> {
            self.entries.values().filter(|e| wanted(e)).map(Entry::summary).collect()
        };
        match target {
            TargetRef::Activity(activity) => all(&|e| {
                (matches!(e.lane, Lane::ToJabber(_)) && e.source.as_str() == activity.as_str())
                    || matches!(&e.state, EntryState::Done(Some(Link::Activity(a, _))) if a == activity)
                    || (e.kind == EntryKind::Edit && e.target.as_ref() == Some(target))
            }),
            TargetRef::Stanza { author, id } => {
                let written =
                    all(&|e| matches!(e.lane, Lane::ToJabber(_)) && e.derived.as_str() == id.as_str());
                if !written.is_empty() {
                    return written;
                }
                all(&|e| e.sender == *author && e.stanza.as_ref() == Some(id) && e.kind.is_written())
            }
        }
    }

    fn given_out(&mut self, place: u64) {
        self.next_place = self.next_place.max(place + 1);
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Release(places) => {
                for (id, place) in places {
                    self.given_out(*place);
                    if let Some(entry) = self.entries.get_mut(id)
                        && matches!(entry.state, EntryState::Held { .. })
                    {
                        entry.state = EntryState::Waiting(*place);
                    }
                }
            }
            Change::Move(id, place) => self.update(*id, |e| e.state = EntryState::Waiting(*place)),
            Change::Attempt(id, position) => {
                let run = self.run;
                self.update(*id, |e| (e.run, e.attempt) = (run, position.clone()));
            }
            Change::Return(id) => self.update(*id, |e| e.attempt = None),
            Change::Done(id, link) => {
                if let Some(Entry { state: EntryState::Waiting(place), .. }) = self.entries.get(id) {
                    self.places.insert(*id, *place);
                }
                self.update(*id, |e| {
                    (e.state, e.attempt) = (EntryState::Done(link.clone()), None);
                    if e.lane.towards() == Client::Webex {
                        e.body = Body::None;
                    }
                });
            }
            Change::Close(id, reason) => self.update(*id, |e| {
                (e.state, e.attempt, e.body) = (EntryState::Closed(reason.clone()), None, Body::None);
            }),
            Change::Reopen(id, place) => self.update(*id, |e| {
                (e.state, e.attempt) = (EntryState::Waiting(*place), None);
            }),
            Change::Reported(id) => self.update(*id, |e| e.reported = true),
            Change::Erase(before) => {
                for entry in self.entries.values_mut() {
                    if entry.state.is_finished() && entry.committed < *before {
                        entry.body = Body::None;
                    }
                }
            }
            Change::Handled(stream, n) => {
                self.streams.insert(stream.clone(), *n);
            }
            Change::ForgetStream(stream) => {
                self.streams.remove(stream);
            }
            Change::Cursor(person, cursor) => put(&mut self.cursors, person, cursor.as_ref()),
            Change::Keep(key, value) => put(&mut self.kept, key, value.as_ref()),
            Change::Directory(bytes) => self.directory = Some(bytes.clone()),
            Change::Presence(person, bytes) => put(&mut self.presence, person, Some(bytes)),
            Change::Expire(before) => self.expire(*before),
        }
    }

    fn update(&mut self, id: EntryId, with: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.get_mut(&id) {
            with(entry);
        }
    }

    fn expire(&mut self, before: Time) {
        let entries = &mut self.entries;
        for known in self.messages.values_mut() {
            known.retain(|message| {
                let over = message
                    .entries
                    .iter()
                    .all(|id| entries.get(id).is_none_or(|e| e.state.is_finished() && e.committed < before));
                if over {
                    for id in &message.entries {
                        entries.remove(id);
                    }
                }
                !over
            });
        }
        self.messages.retain(|_, known| !known.is_empty());
    }
}

impl Storage for MemoryStorage {
    fn load(&mut self, _now: Time) -> Result<Loaded, StorageError> {
        self.run += 1;
        let unfinished = self.entries.values().filter(|e| !e.state.is_finished());
        let entries: Vec<Entry> = unfinished.map(|e| Entry { body: Body::None, ..e.clone() }).collect();
        let came = |e: &&Entry| matches!(e.state, EntryState::Done(_)) && e.body != Body::None;
        let delivered = self.entries.values().filter(came).filter_map(|e| {
            let state = EntryState::Waiting(*self.places.get(&e.id)?);
            Some(Entry { body: Body::None, state, ..e.clone() })
        });
        let delivered = delivered.collect();
        let targets = entries.iter().filter_map(|e| Some((e.id, self.lookup(e.target.as_ref()?)))).collect();
        Ok(Loaded {
            run: self.run,
            entries,
            targets,
            delivered,
            streams: self.streams.iter().map(|(s, n)| (s.clone(), *n)).collect(),
            cursors: self.cursors.iter().map(|(p, t)| (p.clone(), *t)).collect(),
            kept: self.kept.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            directory: self.directory.clone(),
            presence: self.presence.iter().map(|(p, b)| (p.clone(), b.clone())).collect(),
            next_place: self.next_place,
        })
    }

    fn commit(&mut self, batches: &[Batch], now: Time) -> Result<Vec<Vec<Novelty>>, StorageError> {
        let mut answers = Vec::with_capacity(batches.len());
        for batch in batches {
            answers.push(batch.inputs.iter().map(|input| self.insert(input, now)).collect());
            for change in &batch.changes {
                self.change(change);
            }
        }
        Ok(answers)
    }

    fn entry(&mut self, id: EntryId) -> Result<Option<Stored>, StorageError> {
        Ok(self.entries.get(&id).map(|entry| Stored {
            entry: entry.clone(),
            target: entry.target.as_ref().map(|t| self.lookup(t)).unwrap_or_default(),
        }))
    }

    fn target(&mut self, target: &TargetRef) -> Result<Vec<EntrySummary>, StorageError> {
        Ok(self.lookup(target))
    }
}

fn report(input: &Input) -> Option<&Report> {
    match &input.repeat {
        Repeat::Exact => None,
        Repeat::Window(report) => Some(report),
    }
}

fn put<K: Ord + Clone, V: Clone>(map: &mut BTreeMap<K, V>, key: &K, value: Option<&V>) {
    match value {
        Some(value) => {
            map.insert(key.clone(), value.clone());
        }
        None => {
            map.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::conformance::Fixture;

    /// A store in memory that outlives its openings.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Option<MemoryStorage>>>);

    impl Shared {
        fn with<T>(&self, f: impl FnOnce(&mut MemoryStorage) -> T) -> T {
            f(self.0.lock().unwrap().as_mut().unwrap())
        }
    }

    impl Fixture for Shared {
        fn open(&mut self, tagger: Tagger) -> Box<dyn Storage> {
            self.0.lock().unwrap().get_or_insert_with(|| MemoryStorage::new(tagger));
            Box::new(self.clone())
        }
    }

    impl Storage for Shared {
        fn load(&mut self, now: Time) -> Result<Loaded, StorageError> {
            self.with(|s| s.load(now))
        }

        fn commit(&mut self, batches: &[Batch], now: Time) -> Result<Vec<Vec<Novelty>>, StorageError> {
            self.with(|s| s.commit(batches, now))
        }

        fn entry(&mut self, id: EntryId) -> Result<Option<Stored>, StorageError> {
            self.with(|s| s.entry(id))
        }

        fn target(&mut self, target: &TargetRef) -> Result<Vec<EntrySummary>, StorageError> {
            self.with(|s| s.target(target))
        }
    }

    crate::storage_conformance!(Shared::default());
}
