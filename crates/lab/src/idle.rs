//! Whether anything is still on its way through the stand-ins.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

type Probe = Box<dyn Fn() -> bool + Send + Sync>;

/// Counts what the stand-ins hold and have not delivered. Clones share one count.
#[derive(Clone, Default)]
pub struct Idle(Arc<Inner>);

#[derive(Default)]
struct Inner {
    held: AtomicUsize,
    probes: Mutex<Vec<Probe>>,
}

/// One thing that is on its way; it counts until this is dropped.
#[must_use = "what is held counts only while this lives"]
pub struct Held(Arc<Inner>);

impl Idle {
    /// Something is on its way from now until the answer is dropped.
    pub fn hold(&self) -> Held {
        self.0.held.fetch_add(1, Ordering::SeqCst);
        Held(Arc::clone(&self.0))
    }

    /// Asks `quiet` as well, each time: for what is easier looked up than counted.
    pub fn probe(&self, quiet: impl Fn() -> bool + Send + Sync + 'static) {
        self.0.probes.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(quiet));
    }

    /// True when nothing is held and every probe is quiet.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.held.load(Ordering::SeqCst) == 0
            && self.0.probes.lock().unwrap_or_else(PoisonError::into_inner).iter().all(|quiet| quiet())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

impl std::fmt::Debug for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Idle").field("held", &self.0.held).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_things_and_probes_both_count() {
        let idle = Idle::default();
        assert!(idle.is_idle());
        let held = idle.hold();
        assert!(!idle.is_idle());
        drop(held);
        assert!(idle.is_idle());
        idle.probe(|| false);
        assert!(!idle.is_idle());
    }
}
