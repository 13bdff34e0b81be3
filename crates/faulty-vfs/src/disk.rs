//! The disk of one folder as its user sees it: files that can be written, and errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::record::{Event, Replay};
use crate::shim;

/// Files by their names, with their bytes.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What goes wrong on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoil {
    /// All files together never grow beyond so many bytes; a write that would is done in part, and refused
    /// (`ENOSPC`).
    Full(u64),
    /// After so many further writes one is done in part, and fails (`EIO`).
    Write(u64),
    /// After so many further syncs one fails (`EIO`), and some of what it was to sync will never reach the
    /// disk, although it can be read until the power is cut, and later syncs succeed.
    Sync(u64),
}

/// A disk in memory for one folder. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    state: Mutex<State>,
}

/// Why an operation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Failed,
}

/// One file, also after its name is gone.
pub(crate) type FileId = usize;

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, FileId>,
    files: Vec<Vec<u8>>,
    start: Files,
    events: Vec<Event>,
    spoil: Option<Spoil>,
}

impl Disk {
    /// An empty disk for this folder, until the last clone is dropped. Only SQLite's files are on it.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self::holding(folder, Files::new())
    }

    /// A disk on which these files are, safely.
    #[must_use]
    pub fn holding(folder: &Path, files: Files) -> Self {
        let disk = Self::unmounted(folder, files);
        shim::mount(&disk);
        disk
    }

    /// One that nobody finds by its folder.
    pub(crate) fn unmounted(folder: &Path, files: Files) -> Self {
        let names = files.keys().cloned().zip(0..).collect();
        let contents = files.values().cloned().collect();
        let state = State { names, files: contents, start: files, ..State::default() };
        Self(Arc::new(Inner { folder: folder.to_path_buf(), state: Mutex::new(state) }))
    }

    /// What goes wrong from now on.
    pub fn spoil(&self, spoil: Option<Spoil>) {
        self.state().spoil = spoil;
    }

    /// Notes in the record that the user of the disk has reached this number.
    pub fn mark(&self, n: u64) {
        self.state().events.push(Event::Mark(n));
    }

    /// The size of all files, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.state().size()
    }

    /// How often so far something was synced.
    #[must_use]
    pub fn syncs(&self) -> usize {
        self.state().events.iter().filter(|event| matches!(event, Event::Sync(_))).count()
    }

    /// The record until now, to be gone through from its beginning.
    #[must_use]
    pub fn replay(&self) -> Replay {
        let state = self.state();
        Replay::new(state.start.clone(), state.events.clone())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0.folder
    }

    pub(crate) fn weak(&self) -> WeakDisk {
        WeakDisk(Arc::downgrade(&self.0))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a file, makes it if `create`. `named`: its name is on the disk at once, as that of a file that
    /// was there before SQLite came; else its first sync brings the name there too.
    pub(crate) fn open(&self, name: &str, create: bool, named: bool) -> Option<FileId> {
        let mut state = self.state();
        if let Some(file) = state.names.get(name) {
            return Some(*file);
        }
        if !create {
            return None;
        }
        let file = state.files.len();
        state.files.push(Vec::new());
        state.names.insert(name.to_owned(), file);
        state.events.push(Event::Create { name: name.to_owned(), named });
        Some(file)
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.state().names.contains_key(name)
    }

    /// `synced`: the folder is synced with it.
    pub(crate) fn delete(&self, name: &str, synced: bool) -> bool {
        let mut state = self.state();
        let Some(file) = state.names.remove(name) else {
            return false;
        };
        state.events.push(Event::Delete { file, synced });
        true
    }

    pub(crate) fn read(&self, file: FileId, into: &mut [u8], at: u64) -> usize {
        let state = self.state();
        let bytes = usize::try_from(at).ok().and_then(|at| state.files[file].get(at..)).unwrap_or_default();
        let count = bytes.len().min(into.len());
        into[..count].copy_from_slice(&bytes[..count]);
        count
    }

    pub(crate) fn write(&self, file: FileId, bytes: &[u8], at: u64) -> Result<(), Refused> {
        let mut state = self.state();
        let at = usize::try_from(at).map_err(|_| Refused::Full)?;
        let (done, refused) = match &mut state.spoil {
            Some(Spoil::Full(limit)) => {
                let limit = *limit;
                let grown = (at + bytes.len()).saturating_sub(state.files[file].len()) as u64;
                let room = limit.saturating_sub(state.size());
                match grown.checked_sub(room) {
                    Some(over) if over > 0 => {
                        let over = usize::try_from(over).unwrap_or(bytes.len());
                        (bytes.len().saturating_sub(over), Some(Refused::Full))
                    }
                    _ => (bytes.len(), None),
                }
            }
            Some(Spoil::Write(0)) => {
                state.spoil = None;
                (bytes.len() / 2, Some(Refused::Failed))
            }
            Some(Spoil::Write(left)) => {
                *left -= 1;
                (bytes.len(), None)
            }
            Some(Spoil::Sync(_)) | None => (bytes.len(), None),
        };
        if done > 0 {
            overwrite(&mut state.files[file], &bytes[..done], at);
            state.events.push(Event::Write { file, at, bytes: bytes[..done].into() });
        }
        refused.map_or(Ok(()), Err)
    }

    pub(crate) fn truncate(&self, file: FileId, size: u64) {
        let mut state = self.state();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        state.files[file].truncate(size);
        state.events.push(Event::Truncate { file, size });
    }

    pub(crate) fn sync(&self, file: FileId) -> Result<(), Refused> {
        let mut state = self.state();
        if let Some(Spoil::Sync(left)) = &mut state.spoil {
            if *left == 0 {
                state.spoil = None;
                state.events.push(Event::FailedSync(file));
                return Err(Refused::Failed);
            }
            *left -= 1;
        }
        state.events.push(Event::Sync(file));
        Ok(())
    }

    pub(crate) fn length(&self, file: FileId) -> u64 {
        self.state().files[file].len() as u64
    }
}

impl State {
    fn size(&self) -> u64 {
        self.names.values().map(|file| self.files[*file].len() as u64).sum()
    }
}

/// Writes, and fills a gap before it with zeros.
pub(crate) fn overwrite(file: &mut Vec<u8>, bytes: &[u8], at: usize) {
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[at..end].copy_from_slice(bytes);
}

/// A disk that may be gone.
pub(crate) struct WeakDisk(std::sync::Weak<Inner>);

impl WeakDisk {
    pub(crate) fn get(&self) -> Option<Disk> {
        self.0.upgrade().map(Disk)
    }
}
