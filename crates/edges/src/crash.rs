//! The steps at which a test may let the connector die (the walks of `ARCHITECTURE.md`).
//!
//! Only a build with the feature `crash-points` looks at the environment: `CONNECTOR_CRASH_AT` names a
//! step, with `:n` after it for its `n`th passing, and the process aborts there; with
//! `CONNECTOR_ACKNOWLEDGE_EARLY` set the hub acknowledges before it commits. In every other build a step
//! is nothing.

/// An input was read from the intake, and is not committed.
pub const INTAKE: &str = "intake";
/// A batch is ready, and is not committed.
pub const BEFORE_COMMIT: &str = "before-commit";
/// A batch is committed, and nobody knows.
pub const AFTER_COMMIT: &str = "after-commit";
/// What was committed is about to be acknowledged to the far side.
pub const ACKNOWLEDGE: &str = "acknowledge";
/// An entry is about to be handed to an edge.
pub const DELIVER: &str = "deliver";
/// The attempt of a delivery is committed, and its bytes are not written.
pub const ATTEMPT_COMMITTED: &str = "attempt-committed";
/// A receipt has come: the far side has the message, and no commit says so.
pub const RECEIPT: &str = "receipt";

/// Every step, in the order in which a message passes them.
pub const POINTS: [&str; 7] =
    [INTAKE, BEFORE_COMMIT, AFTER_COMMIT, ACKNOWLEDGE, DELIVER, ATTEMPT_COMMITTED, RECEIPT];

/// Passes a step; in a test build the process may end here.
#[cfg(not(feature = "crash-points"))]
pub fn point(_name: &'static str) {}

/// Whether the hub is to break its promise on purpose, so that the kill test can be seen to fail: it
/// acknowledges before it commits, and commits late. Never outside a test build.
#[cfg(not(feature = "crash-points"))]
pub(crate) fn acknowledges_early() -> bool {
    false
}

#[cfg(feature = "crash-points")]
pub use armed::point;

#[cfg(feature = "crash-points")]
pub(crate) use armed::acknowledges_early;

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::time::Duration;

    /// Where to die, and how often that step is still to be passed.
    struct Armed {
        at: String,
        left: AtomicU64,
    }

    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        ARMED
            .get_or_init(|| {
                let wanted = std::env::var("CONNECTOR_CRASH_AT").ok()?;
                let (at, nth) = wanted.split_once(':').unwrap_or((&wanted, "1"));
                Some(Armed { at: at.to_owned(), left: AtomicU64::new(nth.parse().ok()?) })
            })
            .as_ref()
    }

    /// How late a hub commits that acknowledges early.
    const LATE: Duration = Duration::from_millis(100);

    /// Passes a step; in a test build the process may end here.
    pub fn point(name: &'static str) {
        if name == super::BEFORE_COMMIT && acknowledges_early() {
            std::thread::sleep(LATE);
        }
        if let Some(armed) = armed()
            && armed.at == name
            && armed.left.fetch_sub(1, Relaxed) == 1
        {
            // No destructors, no flushing: as a power cut would.
            std::process::abort();
        }
    }

    pub(crate) fn acknowledges_early() -> bool {
        static EARLY: OnceLock<bool> = OnceLock::new();
        *EARLY.get_or_init(|| std::env::var_os("CONNECTOR_ACKNOWLEDGE_EARLY").is_some())
    }
}
