//! The disk that survives a process, and the process's hold on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use connector_edges::seam::Generator;
use router::envelope::Link;
use router::ids::{EntryId, Time};
use router::memory::MemoryStorage;
use router::outbox::{
    Batch, Entry, EntryState, EntrySummary, Lane, Loaded, Novelty, Storage, StorageError, Stored, TargetRef,
};

use router::tag::Tagger;

use super::net::Life;
use super::off::Off;

/// What survives, and what is wrong with it.
#[derive(Clone)]
pub(super) struct Disk {
    storage: Arc<Mutex<MemoryStorage>>,
    off: Option<Off>,
    chance: Generator,
}

impl Disk {
    pub(super) fn new(storage: MemoryStorage, off: Option<Off>, chance: Generator) -> Self {
        Self { storage: Arc::new(Mutex::new(storage)), off, chance }
    }

    /// The disk for one process.
    pub(super) fn held_by(&self, life: Arc<Life>) -> Box<dyn Storage> {
        Box::new(Hold { disk: self.clone(), life })
    }

    /// It is opened with another key of the organization from now on.
    pub(super) fn goes_on_with(&self, tagger: Tagger) {
        self.storage().goes_on_with(tagger);
    }

    /// Who wrote under which stanza id what was posted as which activity.
    pub(super) fn posted_as(&self) -> Vec<(String, String, String)> {
        let posted = |entry: &Entry| match (&entry.stanza, &entry.lane, &entry.state) {
            (Some(stanza), Lane::ToWebex(..), EntryState::Done(Some(Link::Activity(activity, _)))) => {
                let author = entry.from.as_ref()?.split('@').next()?.to_owned();
                Some((author, stanza.to_string(), activity.to_string()))
            }
            _ => None,
        };
        self.storage().all().filter_map(posted).collect()
    }

    fn storage(&self) -> MutexGuard<'_, MemoryStorage> {
        self.storage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Hold {
    disk: Disk,
    life: Arc<Life>,
}

impl Hold {
    /// A moment at which the process may be found dead.
    fn alive(&self) -> Result<(), StorageError> {
        if self.life.step() {
            Ok(())
        } else {
            Err(StorageError { what: "the process is dead".into(), source: None })
        }
    }
}

impl Storage for Hold {
    fn load(&mut self, now: Time) -> Result<Loaded, StorageError> {
        self.disk.storage().load(now)
    }

    /// Dies before the commit, after it, or not.
    fn commit(&mut self, batches: &[Batch], now: Time) -> Result<Vec<Vec<Novelty>>, StorageError> {
        self.alive()?;
        let answers = match self.disk.off {
            None => self.disk.storage().commit(batches, now)?,
            Some(off) => {
                let spoilt: Vec<_> =
                    batches.iter().map(|batch| off.spoil(batch.clone(), &self.disk.chance)).collect();
                self.disk.storage().commit(&spoilt, now)?
            }
        };
        self.alive()?;
        Ok(answers)
    }

    fn entry(&mut self, id: EntryId) -> Result<Option<Stored>, StorageError> {
        self.alive()?;
        let mut stored = self.disk.storage().entry(id)?;
        if let (Some(Off::FixedIv), Some(stored)) = (self.disk.off, &mut stored) {
            let other = self.disk.chance.number().to_be_bytes();
            stored.entry.iv = stored.entry.iv.map(|mut iv| {
                iv[..8].copy_from_slice(&other);
                iv
            });
        }
        Ok(stored)
    }

    fn target(&mut self, target: &TargetRef) -> Result<Vec<EntrySummary>, StorageError> {
        self.alive()?;
        self.disk.storage().target(target)
    }
}
