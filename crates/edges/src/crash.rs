//! The steps at which a test may let the connector die (the walks of `ARCHITECTURE.md`).
//!
//! Only a build with the feature `crash-points` looks at the environment: `CONNECTOR_CRASH_AT` names a
//! step, with `:n` after it for its `n`th passing, and the process aborts there. Such a build breaks a rule when
//! told to, so that the kill test can be seen to fail: `CONNECTOR_ACKNOWLEDGE_EARLY` acknowledges before the commit,
//! `CONNECTOR_RETRY_UNASKED` posts again without asking. In every other build a step is nothing.

use router::outbox::{Batch, Change};

/// Declares steps, and their list.
macro_rules! steps {
    ($($(#[$what:meta])+ $name:ident = $text:literal;)+) => {
        $($(#[$what])+ pub const $name: &str = $text;)+

        /// Every step but those of the store, in the order in which a message or a session passes them.
        const STEPS: &[&str] = &[$($name),+];
    };
}

steps! {
    /// A stanza was read from a stream.
    STANZA_READ = "stanza-read";
    /// An activity was read from a socket.
    ACTIVITY_READ = "activity-read";
    /// An input was read from the intake, and is not committed.
    INTAKE = "intake";
    /// What was committed is about to be acknowledged to the far side.
    ACKNOWLEDGE = "acknowledge";
    /// A stream's count was told.
    STANZA_ACKNOWLEDGED = "stanza-acknowledged";
    /// An activity was acknowledged.
    ACTIVITY_ACKNOWLEDGED = "activity-acknowledged";
    /// An entry is about to be handed to an edge.
    DELIVER = "deliver";
    /// A conversation is about to be asked for a post that may have arrived.
    QUESTION = "question";
    /// It has answered.
    ANSWER = "answer";
    /// A conversation is about to be made.
    CREATE = "create";
    /// It was made, and was not read again.
    CREATED = "created";
    /// A text was sealed.
    SEALED = "sealed";
    /// It is about to be posted.
    POST = "post";
    /// It was posted, and nobody was told.
    POSTED = "posted";
    /// A text was opened, and is a stanza.
    OPENED = "opened";
    /// A stanza has a place in its stream, which is not committed.
    ATTEMPT = "attempt";
    /// The place is committed, and the stanza is not written.
    ATTEMPT_COMMITTED = "attempt-committed";
    /// It is written.
    WRITTEN = "written";
    /// The server has told its count.
    HANDLED = "handled";
    /// A receipt has come: the far side has the message, and no commit says so.
    RECEIPT = "receipt";
    /// A stream was resumed, and what was attempted on it is not settled.
    RESUMED = "resumed";
    /// It is settled, and nothing was written on it.
    SETTLED = "settled";
    /// A socket is ready, and nothing was read from it.
    SOCKET_READY = "socket-ready";
    /// A listing was read, and is not handed on.
    LISTED = "listed";
    /// All listings of a catch-up were handed on.
    CAUGHT_UP = "caught-up";
    /// The cloud has told how people are.
    STATUS_READ = "status-read";
    /// The server has started a session.
    SESSION_STARTED = "session-started";
    /// What the session is known by is on disk.
    SESSION_KEPT = "session-kept";
    /// A presence was written.
    PRESENCE_WRITTEN = "presence-written";
    /// The ping behind it is back.
    SESSION_SETTLED = "session-settled";
    /// The end of a session was asked for.
    SESSION_ENDED = "session-ended";
}

/// What may be in a commit: the step before it, and the step after it, of which nobody knows.
const COMMITS: [[&str; 2]; 9] = [
    ["before-commit-of-messages", "after-commit-of-messages"],
    ["before-commit-of-release", "after-commit-of-release"],
    ["before-commit-of-attempt", "after-commit-of-attempt"],
    ["before-commit-of-receipt", "after-commit-of-receipt"],
    ["before-commit-of-cursor", "after-commit-of-cursor"],
    ["before-commit-of-count", "after-commit-of-count"],
    ["before-commit-of-session", "after-commit-of-session"],
    ["before-commit-of-presence", "after-commit-of-presence"],
    ["before-commit-of-directory", "after-commit-of-directory"],
];

/// Every step.
#[must_use]
pub fn points() -> Vec<&'static str> {
    STEPS.iter().copied().chain(COMMITS.into_iter().flatten()).collect()
}

/// Which of [`COMMITS`] this is; `None`: none of its own.
fn kind(change: &Change) -> Option<usize> {
    match change {
        Change::Release(_) => Some(1),
        Change::Attempt(..) => Some(2),
        Change::Done(..) => Some(3),
        Change::Cursor(..) => Some(4),
        Change::Handled(..) => Some(5),
        Change::Keep(..) => Some(6),
        Change::Presence(..) => Some(7),
        Change::Directory(_) => Some(8),
        _ => None,
    }
}

/// Passes the step before, or after, a commit of these.
pub(crate) fn commit(batches: &[Batch], after: bool) {
    if !cfg!(feature = "crash-points") {
        return;
    }
    for batch in batches {
        let messages = (!batch.inputs.is_empty()).then_some(0);
        for kind in messages.into_iter().chain(batch.changes.iter().filter_map(kind)) {
            point(COMMITS[kind][usize::from(after)]);
        }
    }
}

/// Passes a step; in a test build the process may end here.
#[cfg(not(feature = "crash-points"))]
pub fn point(_name: &'static str) {}

/// Whether the hub acknowledges before it commits, and commits late.
#[cfg(not(feature = "crash-points"))]
pub(crate) fn acknowledges_early() -> bool {
    false
}

/// Whether what may have been posted is posted again without a question.
#[cfg(not(feature = "crash-points"))]
pub(crate) fn retries_unasked() -> bool {
    false
}

#[cfg(feature = "crash-points")]
pub use armed::point;

#[cfg(feature = "crash-points")]
pub(crate) use armed::{acknowledges_early, retries_unasked};

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
        if name == super::COMMITS[0][0] && acknowledges_early() {
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

    pub(crate) fn retries_unasked() -> bool {
        static UNASKED: OnceLock<bool> = OnceLock::new();
        *UNASKED.get_or_init(|| std::env::var_os("CONNECTOR_RETRY_UNASKED").is_some())
    }
}
