//! By which ids of the far sides an entry is found.
//!
//! Such ids are random. An index of them in the file alone would write a page of its own for each of a message's, at
//! some place all over the file. So the names of young entries stand in memory, and go into the file's index by and
//! by, each time a stretch of neighbours, which share pages:
//!
//! ```text
//!   commit ──► young (memory) ──── a stretch, in order ────► `names` (file)
//!                 ▲                                             │
//!                 └─── both are asked, and the row decides ─────┘
//! ```
//!
//! What stands in memory is not lost with the process: the next one reads it from the entries themselves, from
//! [`Counters::named`](crate::commit::Counters) on.

use std::collections::BTreeSet;
use std::ops::Bound;

use ring::digest::{SHA256, digest};
use router::envelope::Link;
use router::ids::{EntryId, PersonId};
use router::outbox::{Entry, EntryKind, EntryState, Lane, TargetRef};
use rusqlite::{Connection, Result, params};

use crate::rows;

/// So many names are young at most, and a stretch more: those of 4,000 messages or so, in half a MiB.
pub(crate) const YOUNG: usize = 16_384;

/// Which part of the young ones goes into the file at once.
const STRETCH: usize = 64;

/// A text by which an entry is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Name<'a> {
    /// Its source id.
    Source(&'a str),
    /// The id of the stanza that we wrote.
    Derived(&'a str),
    /// The IV of its text.
    Iv(&'a [u8]),
    /// The activity that it became.
    Activity(&'a str),
    /// The activity that it edits.
    Edited(&'a str),
    /// The stanza that it came under, of this sender.
    Stanza(&'a PersonId, &'a str),
}

impl Name<'_> {
    /// The names of an entry as it stands.
    pub(crate) fn all(entry: &Entry) -> impl Iterator<Item = Name<'_>> {
        let source = Name::Source(entry.source.as_str());
        let derived = matches!(entry.lane, Lane::ToJabber(_)).then(|| Name::Derived(entry.derived.as_str()));
        let iv = entry.iv.as_ref().map(|iv| Name::Iv(iv));
        let activity = match &entry.state {
            EntryState::Done(Some(Link::Activity(activity, _))) => Some(Name::Activity(activity.as_str())),
            _ => None,
        };
        let edited = match &entry.target {
            Some(TargetRef::Activity(activity)) if entry.kind == EntryKind::Edit => {
                Some(Name::Edited(activity.as_str()))
            }
            _ => None,
        };
        let stanza = entry.stanza.as_ref().filter(|_| entry.kind.is_written());
        let stanza = stanza.map(|stanza| Name::Stanza(&entry.sender, stanza.as_str()));
        [Some(source), derived, iv, activity, edited, stanza].into_iter().flatten()
    }

    /// As it stands in the index: 64 bits of a hash. Others may have the same, so the row decides.
    fn number(self) -> i64 {
        let (kind, of, text): (u8, &str, &[u8]) = match self {
            Self::Source(id) => (0, "", id.as_bytes()),
            Self::Derived(id) => (1, "", id.as_bytes()),
            Self::Iv(iv) => (2, "", iv),
            Self::Activity(id) => (3, "", id.as_bytes()),
            Self::Edited(id) => (4, "", id.as_bytes()),
            Self::Stanza(sender, id) => (5, sender.as_str(), id.as_bytes()),
        };
        let hash = digest(&SHA256, &[&[kind], of.as_bytes(), &[0], text].concat());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_ref()[..8]);
        i64::from_be_bytes(first)
    }
}

/// The index of names, in memory and in the file.
#[derive(Debug)]
pub(crate) struct Names {
    young: BTreeSet<(i64, EntryId)>,
    most: usize,
    /// Up to where the last stretch went.
    moved: Bound<(i64, EntryId)>,
}

impl Names {
    /// The index of this file, in which the names of entries below `named` stand already.
    pub(crate) fn read(db: &Connection, named: EntryId, most: usize) -> Result<Self> {
        let mut young = BTreeSet::new();
        for entry in rows::entries(db, "id >= ?1", [named.0])? {
            young.extend(Name::all(&entry).map(|name| (name.number(), entry.id)));
        }
        Ok(Self { young, most, moved: Bound::Unbounded })
    }

    /// Gives an entry a name. Those of entries below `named` go into the file at once.
    pub(crate) fn add(&mut self, db: &Connection, name: Name<'_>, id: EntryId, named: EntryId) -> Result<()> {
        if id < named {
            return insert(db, (name.number(), id));
        }
        self.young.insert((name.number(), id));
        Ok(())
    }

    /// The entries that may have this name, in order of their numbers.
    pub(crate) fn find(&self, db: &Connection, name: Name<'_>) -> Result<Vec<EntryId>> {
        let number = name.number();
        let mut find = db.prepare_cached("SELECT entry FROM names WHERE name = ?1")?;
        let found = find.query_map([number], |row| row.get(0).map(EntryId))?;
        let mut found: Vec<EntryId> = found.collect::<Result<_>>()?;
        let young = self.young.range((number, EntryId(0))..=(number, EntryId(u64::MAX)));
        found.extend(young.map(|(_, id)| *id));
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Takes away all names of an entry that is forgotten.
    pub(crate) fn forget(&mut self, db: &Connection, entry: &Entry) -> Result<()> {
        for name in Name::all(entry) {
            let number = name.number();
            self.young.remove(&(number, entry.id));
            db.prepare_cached("DELETE FROM names WHERE name = ?1 AND entry = ?2")?
                .execute(params![number, entry.id.0])?;
        }
        Ok(())
    }

    /// Moves a stretch into the file, if there are too many. When the whole order has been gone through, answers below
    /// which entry all names stand in the file now: below `next` if none is young.
    pub(crate) fn settle(&mut self, db: &Connection, next: EntryId) -> Result<Option<EntryId>> {
        let many = self.young.len().saturating_sub(self.most);
        if many == 0 || many < self.most / STRETCH {
            return Ok(None);
        }
        let stretch: Vec<_> = self.young.range((self.moved, Bound::Unbounded)).take(many).copied().collect();
        for name in &stretch {
            insert(db, *name)?;
            self.young.remove(name);
        }
        if stretch.len() == many {
            self.moved = stretch.last().map_or(Bound::Unbounded, |last| Bound::Excluded(*last));
            return Ok(None);
        }
        self.moved = Bound::Unbounded;
        Ok(Some(self.young.iter().map(|(_, id)| *id).min().unwrap_or(next)))
    }
}

/// Makes the index of a file that has none.
pub(crate) fn fill(db: &Connection) -> Result<()> {
    let mut all = BTreeSet::new();
    for entry in rows::entries(db, "TRUE", [])? {
        all.extend(Name::all(&entry).map(|name| (name.number(), entry.id)));
    }
    all.into_iter().try_for_each(|name| insert(db, name))
}

fn insert(db: &Connection, (name, id): (i64, EntryId)) -> Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO names VALUES (?1, ?2)")?.execute(params![name, id.0])?;
    Ok(())
}
