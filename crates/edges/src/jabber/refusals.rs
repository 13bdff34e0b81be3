//! Who should have a session and is given none, and why: said once in the log, and kept for the status page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use router::ids::{PersonId, Time};
use serde::Serialize;

use super::nodes::NodeKey;

/// A person whom IM and Presence gives no session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedSession {
    /// Who.
    pub person: String,
    /// Since when, in milliseconds since 1970.
    pub since: Time,
    /// What came in the place of a session.
    pub reason: &'static str,
}

/// Everybody who should have a session and is given none. Clones are of one list.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<BTreeMap<PersonId, Refused>>>);

#[derive(Debug, Default)]
struct Refused {
    /// The nodes of the pair that have refused so far.
    by: BTreeSet<NodeKey>,
    /// What was said of it.
    told: Option<RefusedSession>,
}

impl Refusals {
    fn people(&self) -> MutexGuard<'_, BTreeMap<PersonId, Refused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everybody of whom that was said.
    #[must_use]
    pub fn list(&self) -> Vec<RefusedSession> {
        self.people().values().filter_map(|refused| refused.told.clone()).collect()
    }

    /// A node of a pair has refused; all of the pair's that have.
    pub(super) fn by(&self, person: &PersonId, node: NodeKey) -> BTreeSet<NodeKey> {
        let mut people = self.people();
        let refused = people.entry(person.clone()).or_default();
        refused.by.insert(node);
        refused.by.clone()
    }

    /// There is no session, and there will be none soon.
    pub(super) fn tell(&self, person: &PersonId, reason: &'static str, now: Time) {
        let mut people = self.people();
        let refused = people.entry(person.clone()).or_default();
        if refused.told.as_ref().is_none_or(|told| told.reason != reason) {
            tracing::warn!(%person, reason, "no session");
            refused.told = Some(RefusedSession { person: person.as_str().to_owned(), since: now, reason });
        }
    }

    /// There is a session, or none is wanted.
    pub(super) fn forget(&self, person: &PersonId) {
        self.people().remove(person);
    }
}
