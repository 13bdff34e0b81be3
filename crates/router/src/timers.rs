//! What is to be done at which moment.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{ImpStreamId, PersonId, Time};
use crate::inbound::Cause;
use crate::outbox::Lane;
use crate::typing::Lease;

/// Something that waits for its moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Changes that were not urgent have waited long enough for a commit.
    Changes,
    /// Enough has been gathered for the next commit.
    Gather,
    /// The hold of this person's session has lasted long enough (rule 8).
    Session(PersonId),
    /// The hold of this person's catch-up has made no progress (rule 8).
    CatchUp(PersonId),
    /// It is time to probe (rule 14).
    Probe(Cause),
    /// The head of this lane may be tried again, or passed.
    Lane(Lane),
    /// A typing hint runs out.
    Typing(Lease),
    /// Time alone changes what this person's presence means.
    Presence(PersonId),
    /// Something may have become old enough to be reported or given up.
    Age,
    /// What is kept for a while may be forgotten.
    Housekeeping,
    /// This stream of an earlier run has had its time to come back.
    Resumption(ImpStreamId),
}

/// Timers, each at most once.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(Time, Timer)>,
    of: BTreeMap<Timer, Time>,
}

impl Timers {
    /// Sets a timer, whatever it was set to before.
    pub(crate) fn set(&mut self, timer: Timer, at: Time) {
        self.cancel(&timer);
        self.due.insert((at, timer.clone()));
        self.of.insert(timer, at);
    }

    /// Sets a timer unless it is set to an earlier moment.
    pub(crate) fn set_at_latest(&mut self, timer: Timer, at: Time) {
        if self.of.get(&timer).is_none_or(|set| at < *set) {
            self.set(timer, at);
        }
    }

    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some(at) = self.of.remove(timer) {
            self.due.remove(&(at, timer.clone()));
        }
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes one that is due, the earliest first.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.due.pop_first()?;
        self.of.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_set_once_and_taken_once() {
        let mut timers = Timers::default();
        timers.set(Timer::Age, Time(9));
        timers.set(Timer::Age, Time(5));
        timers.set_at_latest(Timer::Age, Time(7));
        timers.set_at_latest(Timer::Changes, Time(6));
        assert_eq!(timers.next(), Some(Time(5)));
        assert_eq!(timers.pop(Time(4)), None);
        assert_eq!(timers.pop(Time(10)), Some(Timer::Age));
        assert_eq!(timers.pop(Time(10)), Some(Timer::Changes));
        assert_eq!(timers.pop(Time(10)), None);
    }
}
