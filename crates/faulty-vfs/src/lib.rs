//! A disk in memory under SQLite that fills up, fails, and loses what was not synced.
//!
//! A [`Disk`] stands for one folder: whatever SQLite opens there through the file system [`NAME`] lies in
//! memory, and every write, truncation, sync and deletion is recorded. [`Disk::replay`] goes through the
//! record, and after any step of it says what a power cut at that moment could have left: what was synced,
//! and of the rest each sector whole, torn, as garbage or not at all, in any combination
//! ([`Replay::power_cut`], seeded). [`Disk::spoil`] makes the disk full, or its writes and syncs fail.
//!
//! One connection at a time uses a disk; there are no locks and no shared memory, so a write-ahead log
//! needs `PRAGMA locking_mode = EXCLUSIVE`.

mod chance;
mod disk;
mod record;
mod shim;

pub use chance::Chance;
pub use disk::{Disk, Files, Spoil};
pub use record::Replay;
pub use shim::NAME;
