//! What was done to a disk, and what of it a power cut leaves.

use std::sync::Arc;

use crate::chance::Chance;
use crate::disk::{FileId, Files, overwrite};

/// What a disk writes at once, in bytes, if it writes anything of it.
const SECTOR: usize = 512;

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Create {
        name: String,
        named: bool,
    },
    Write {
        file: FileId,
        at: usize,
        bytes: Arc<[u8]>,
    },
    Truncate {
        file: FileId,
        size: usize,
    },
    Sync(FileId),
    FailedSync(FileId),
    /// `synced`: its folder is synced with it.
    Delete {
        file: FileId,
        synced: bool,
    },
    Mark(u64),
}

/// A change of a file that is not synced.
#[derive(Clone, Debug)]
enum Pending {
    Write { at: usize, bytes: Arc<[u8]> },
    Truncate { size: usize },
}

#[derive(Clone, Debug)]
struct OnDisk {
    name: String,
    /// The name is on the disk.
    named: bool,
    /// The name was taken away, and that is not synced.
    unnamed: bool,
    /// As of the last sync.
    synced: Vec<u8>,
    pending: Vec<Pending>,
}

/// A record that is gone through step by step; it stands after the steps that were taken.
#[derive(Debug)]
pub struct Replay {
    events: std::vec::IntoIter<Event>,
    /// `None`: gone for good.
    files: Vec<Option<OnDisk>>,
    mark: u64,
    in_doubt: bool,
    /// Which changes a failed sync has lost for good is decided when it happens.
    chance: Chance,
}

impl Replay {
    pub(crate) fn new(start: Files, events: Vec<Event>) -> Self {
        let files = start.into_iter().map(|(name, synced)| {
            Some(OnDisk { name, named: true, unnamed: false, synced, pending: Vec::new() })
        });
        Self {
            files: files.collect(),
            events: events.into_iter(),
            mark: 0,
            in_doubt: false,
            chance: Chance::new(1),
        }
    }

    /// The last number that the user of the disk had noted by then.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// Whether a sync has failed since the user of the disk last noted a number.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Takes one step; false at the end of the record.
    pub fn step(&mut self) -> bool {
        let Some(event) = self.events.next() else {
            return false;
        };
        match event {
            Event::Create { name, named } => self.files.push(Some(OnDisk {
                name,
                named,
                unnamed: false,
                synced: Vec::new(),
                pending: Vec::new(),
            })),
            Event::Write { file, at, bytes } => self.change(file, Pending::Write { at, bytes }),
            Event::Truncate { file, size } => self.change(file, Pending::Truncate { size }),
            Event::Sync(file) => {
                let mut new = false;
                if let Some(file) = &mut self.files[file] {
                    for change in std::mem::take(&mut file.pending) {
                        change.apply(&mut file.synced);
                    }
                    new = !file.named;
                }
                if new {
                    // With the first sync of a file that it made SQLite syncs the folder.
                    self.sync_folder();
                }
            }
            Event::FailedSync(file) => {
                self.in_doubt = true;
                if let Some(file) = &mut self.files[file] {
                    file.pending.retain(|_| !self.chance.one_in(2));
                }
            }
            Event::Delete { file, synced } => {
                if let Some(file) = &mut self.files[file] {
                    file.unnamed = true;
                }
                if synced {
                    self.sync_folder();
                }
            }
            Event::Mark(n) => (self.mark, self.in_doubt) = (n, false),
        }
        true
    }

    fn sync_folder(&mut self) {
        for place in &mut self.files {
            match place {
                Some(file) if file.unnamed => *place = None,
                Some(file) => file.named = true,
                None => {}
            }
        }
    }

    fn change(&mut self, file: FileId, change: Pending) {
        if let Some(file) = &mut self.files[file] {
            file.pending.push(change);
        }
    }

    /// What is on the disk if the power is cut now: all that was synced, and of the rest what chance wants.
    #[must_use]
    pub fn power_cut(&self, chance: &mut Chance) -> Files {
        let mut left = Files::new();
        for file in self.files.iter().flatten() {
            if (!file.named && chance.one_in(2)) || (file.unnamed && chance.one_in(2)) {
                continue;
            }
            let mut bytes = file.synced.clone();
            // Nothing, a beginning, or any combination of what was not synced.
            let kept = match chance.below(4) {
                0 => 0,
                1 => usize::try_from(chance.below(file.pending.len() as u64 + 1)).unwrap_or(0),
                _ => file.pending.len(),
            };
            let whole = chance.one_in(3);
            for change in &file.pending[..kept] {
                if whole {
                    change.apply(&mut bytes);
                } else {
                    change.apply_in_part(&mut bytes, chance);
                }
            }
            left.insert(file.name.clone(), bytes);
        }
        left
    }
}

impl Pending {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => overwrite(file, bytes, *at),
            Self::Truncate { size } => file.truncate(*size),
        }
    }

    fn apply_in_part(&self, file: &mut Vec<u8>, chance: &mut Chance) {
        let (mut at, mut bytes) = match self {
            Self::Truncate { .. } if chance.one_in(2) => return,
            Self::Truncate { size } => return file.truncate(*size),
            Self::Write { at, bytes } => (*at, &bytes[..]),
        };
        while !bytes.is_empty() {
            let (sector, rest) = bytes.split_at(bytes.len().min(SECTOR - at % SECTOR));
            match chance.below(8) {
                0..=3 => overwrite(file, sector, at),
                4 => {
                    let torn = usize::try_from(chance.below(sector.len() as u64)).unwrap_or(0);
                    overwrite(file, &sector[..torn], at);
                }
                5 => {
                    let garbage: Vec<u8> =
                        sector.iter().map(|_| chance.below(256).to_le_bytes()[0]).collect();
                    overwrite(file, &garbage, at);
                }
                _ => {}
            }
            at += sector.len();
            bytes = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::Disk;

    #[test]
    fn what_was_synced_is_always_left_and_nothing_else_is() {
        let disk = Disk::unmounted(Path::new("/anywhere"), Files::new());
        let file = disk.open("a", true, true).unwrap_or_default();
        disk.write(file, &[1; 4_096], 0).unwrap_or_default();
        disk.sync(file).unwrap_or_default();
        disk.write(file, &[2; 4_096], 4_096).unwrap_or_default();
        let mut replay = disk.replay();
        while replay.step() {}
        let mut chance = Chance::new(3);
        let left: Vec<_> = (0..200).map(|_| replay.power_cut(&mut chance)["a"].clone()).collect();
        assert!(left.iter().all(|file| file[..4_096] == [1; 4_096]), "the synced half");
        let (whole, none) = (vec![2; 4_096], Vec::new());
        assert!(left.iter().any(|file| file[4_096..] == whole));
        assert!(left.iter().any(|file| file[4_096..] == none));
        assert!(left.iter().any(|file| file[4_096..].contains(&2) && file[4_096..].contains(&0)), "torn");
    }
}
