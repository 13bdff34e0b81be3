//! What stands in the way of several lanes is tried by one of them (rule 14).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::ids::{PersonId, Time};
use crate::inbound::Cause;
use crate::outbox::Lane;
use crate::times::Times;

/// All causes that stand in the way of something now.
#[derive(Debug, Default)]
pub(crate) struct Causes(BTreeMap<Cause, Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    lanes: BTreeSet<(Lane, PersonId)>,
    last: Option<(Lane, PersonId)>,
    failed: u32,
}

/// What a delivery found out about a cause.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    /// It was the probe.
    pub(crate) probed: bool,
    /// The far side named a time, in milliseconds from now.
    pub(crate) after: Option<u64>,
}

impl Causes {
    pub(crate) fn stands(&self, cause: &Cause) -> bool {
        self.0.contains_key(cause)
    }

    /// A sender's part of a lane waits for the cause to go. Gives the moment of the next probe, where
    /// this changes it: for a new cause, and after a failed probe.
    pub(crate) fn wait(
        &mut self,
        cause: &Cause,
        lane: &Lane,
        sender: &PersonId,
        tried: Tried,
        now: Time,
        times: &Times,
    ) -> Option<Time> {
        let Tried { probed, after } = tried;
        let new = !self.0.contains_key(cause);
        let waiting = self.0.entry(cause.clone()).or_default();
        waiting.lanes.insert((lane.clone(), sender.clone()));
        if probed {
            waiting.failed = waiting.failed.saturating_add(1);
        }
        if !new && !probed && after.is_none() {
            return None;
        }
        let wait = times.probe_first.saturating_mul(1 << waiting.failed.min(16)).min(times.probe_longest);
        let named = after.and_then(|ms| i64::try_from(ms).ok()).map(|ms| now.plus(ms));
        Some(named.unwrap_or(now).max(now.after(wait)))
    }

    /// The lane that tries next, each in its turn.
    pub(crate) fn probe(&mut self, cause: &Cause) -> Option<(Lane, PersonId)> {
        let waiting = self.0.get_mut(cause)?;
        let after = waiting.last.take().map_or(Bound::Unbounded, Bound::Excluded);
        let next = waiting.lanes.range((after, Bound::Unbounded)).next().or(waiting.lanes.first()).cloned();
        let Some(next) = next else {
            self.0.remove(cause);
            return None;
        };
        waiting.lanes.remove(&next);
        waiting.last = Some(next.clone());
        Some(next)
    }

    /// The cause is gone: who waited for it.
    pub(crate) fn gone(&mut self, cause: &Cause) -> BTreeSet<(Lane, PersonId)> {
        self.0.remove(cause).map(|w| w.lanes).unwrap_or_default()
    }

    /// What stands in the way now, in words, with the number of lanes behind it.
    pub(crate) fn summary(&self) -> BTreeMap<String, usize> {
        let mut summary = BTreeMap::new();
        for (cause, waiting) in &self.0 {
            let word = match cause {
                Cause::Kms => "key service".to_owned(),
                Cause::Token(_) => "token of a person".to_owned(),
                Cause::Session(_) => "session of a person".to_owned(),
                Cause::Host(host) => format!("host {host}"),
                Cause::Conversation(_) => "a conversation".to_owned(),
                Cause::Client(_) => "client of a person".to_owned(),
            };
            *summary.entry(word).or_insert(0) += waiting.lanes.len();
        }
        summary
    }
}
