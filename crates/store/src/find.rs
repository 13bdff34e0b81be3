//! Finding entries again: by number, by name, and what a reference means.

use std::collections::BTreeMap;

use router::envelope::{Body, Link};
use router::ids::EntryId;
use router::outbox::{Entry, EntryKind, EntryState, EntrySummary, Lane, Stored, TargetRef};
use rusqlite::Connection;

use crate::error::Failure;
use crate::names::{Name, Names};
use crate::rows;
use crate::seal::Sealer;

/// How much is remembered of what was inserted lately, in bytes.
const RECENT: usize = 4 << 20;

/// Where entries are found without a search of the file.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) names: Names,
    /// Entries that stand in the file as they were inserted lately, with their bodies: most are delivered at once,
    /// and many are repeated at once.
    recent: BTreeMap<EntryId, Entry>,
    /// About how many bytes those are.
    bytes: usize,
}

impl Index {
    pub(crate) fn new(names: Names) -> Self {
        Self { names, recent: BTreeMap::new(), bytes: 0 }
    }

    /// Remembers an entry that was just inserted.
    pub(crate) fn remember(&mut self, entry: Entry) {
        if entry.state.is_finished() {
            return;
        }
        self.bytes += size(&entry);
        self.recent.insert(entry.id, entry);
        while self.bytes > RECENT
            && let Some((_, oldest)) = self.recent.pop_first()
        {
            self.bytes -= size(&oldest);
        }
    }

    /// An entry is changed: the file alone has it now.
    pub(crate) fn changed(&mut self, id: EntryId) {
        if let Some(entry) = self.recent.remove(&id) {
            self.bytes -= size(&entry);
        }
    }

    /// A run has said that it attempts to post an entry; nothing else of it changes.
    pub(crate) fn attempted(&mut self, id: EntryId, run: u32) {
        if let Some(entry) = self.recent.get_mut(&id) {
            (entry.run, entry.attempt) = (run, None);
        }
    }

    /// One entry without its body.
    pub(crate) fn entry(&self, db: &Connection, id: EntryId) -> Result<Option<Entry>, Failure> {
        match self.recent.get(&id) {
            Some(entry) => Ok(Some(Entry { body: Body::None, ..entry.clone() })),
            None => Ok(rows::find(db, id)?),
        }
    }

    /// The entries that may have this name, in order of their numbers.
    pub(crate) fn named(&self, db: &Connection, name: Name<'_>) -> Result<Vec<Entry>, Failure> {
        let ids = self.names.find(db, name)?.into_iter();
        ids.filter_map(|id| self.entry(db, id).transpose()).collect()
    }

    /// What a reference means now, in order of numbers.
    pub(crate) fn target(&self, db: &Connection, target: &TargetRef) -> Result<Vec<EntrySummary>, Failure> {
        let found = match target {
            TargetRef::Activity(id) => {
                let mut all = BTreeMap::new();
                for name in
                    [Name::Source(id.as_str()), Name::Activity(id.as_str()), Name::Edited(id.as_str())]
                {
                    all.extend(self.named(db, name)?.into_iter().map(|entry| (entry.id, entry)));
                }
                let means = |entry: &Entry| {
                    let came =
                        matches!(entry.lane, Lane::ToJabber(_)) && entry.source.as_str() == id.as_str();
                    let posted =
                        matches!(&entry.state, EntryState::Done(Some(Link::Activity(a, _))) if a == id);
                    came || posted || (entry.kind == EntryKind::Edit && entry.target.as_ref() == Some(target))
                };
                all.into_values().filter(means).collect()
            }
            TargetRef::Stanza { author, id } => {
                let written = |entry: &Entry| {
                    matches!(entry.lane, Lane::ToJabber(_)) && entry.derived.as_str() == id.as_str()
                };
                let mut found = self.named(db, Name::Derived(id.as_str()))?;
                found.retain(written);
                if found.is_empty() {
                    found = self.named(db, Name::Stanza(author, id.as_str()))?;
                    found.retain(|entry| {
                        entry.sender == *author
                            && entry.stanza.as_ref() == Some(id)
                            && entry.kind.is_written()
                    });
                }
                found
            }
        };
        Ok(found.iter().map(Entry::summary).collect())
    }

    /// One entry with its body, and what it refers to.
    pub(crate) fn stored(
        &self,
        db: &Connection,
        id: EntryId,
        sealer: &Sealer,
    ) -> Result<Option<Stored>, Failure> {
        let entry = match self.recent.get(&id) {
            Some(entry) => entry.clone(),
            None => {
                let Some(entry) = rows::find(db, id)? else { return Ok(None) };
                Entry { body: rows::body(db, id, sealer)?, ..entry }
            }
        };
        let target = match &entry.target {
            Some(target) => self.target(db, target)?,
            None => Vec::new(),
        };
        Ok(Some(Stored { entry, target }))
    }
}

/// What an entry takes in memory, about: itself, its names, its body.
fn size(entry: &Entry) -> usize {
    let body = match &entry.body {
        Body::None => 0,
        Body::Clear(text) => text.len(),
        Body::Sealed { key, jwe } => key.len() + jwe.len(),
    };
    size_of::<Entry>() + 256 + body
}
