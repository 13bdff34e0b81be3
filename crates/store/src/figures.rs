//! What a store counts about itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counters of one open store, readable while another thread commits.
///
/// `inputs() / commits()` is how many messages shared a sync.
#[derive(Debug, Default)]
pub struct Figures {
    commits: AtomicU64,
    batches: AtomicU64,
    inputs: AtomicU64,
    commit_micros: AtomicU64,
    slowest_micros: AtomicU64,
}

impl Figures {
    /// Transactions committed; each has waited for the disk once.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits.load(Relaxed)
    }

    /// Batches in those transactions.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.batches.load(Relaxed)
    }

    /// Inputs in those batches, repeats included.
    #[must_use]
    pub fn inputs(&self) -> u64 {
        self.inputs.load(Relaxed)
    }

    /// Time spent in commits, in all.
    #[must_use]
    pub fn time_in_commits(&self) -> Duration {
        Duration::from_micros(self.commit_micros.load(Relaxed))
    }

    /// The slowest commit so far.
    #[must_use]
    pub fn slowest_commit(&self) -> Duration {
        Duration::from_micros(self.slowest_micros.load(Relaxed))
    }

    pub(crate) fn count(&self, batches: usize, inputs: usize, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commits.fetch_add(1, Relaxed);
        self.batches.fetch_add(batches as u64, Relaxed);
        self.inputs.fetch_add(inputs as u64, Relaxed);
        self.commit_micros.fetch_add(micros, Relaxed);
        self.slowest_micros.fetch_max(micros, Relaxed);
    }
}
