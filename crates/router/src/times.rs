//! Every wait of the connector, so that a laboratory can shorten them all alike.

use std::time::Duration;

/// The waits that guarantees are made of. [`Times::default`] is for production.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How many times faster than life the scaled waits run; at least 1.
    pub scale: u32,
    /// How long after an unanswered POST *absent* begins to count (rule 10). Scaled; 30 s.
    pub settle: Duration,
    /// After how long a stored activity is certainly listed (rule 9). Scaled; 5 s.
    pub visibility: Duration,
    /// How far a cursor stays behind what was read (rule 9). Scaled, never under 3 s; 120 s.
    pub overlap: Duration,
    /// A hold of a session ends after so long without a stanza for it (rule 8). Scaled, never under 2 s; 5 s.
    pub hold_silence: Duration,
    /// A hold of a session ends after so long in all (rule 8). Scaled, never under 15 s; 60 s.
    pub hold: Duration,
    /// A hold of a catch-up ends after so long without progress (rule 8). Scaled, never under 15 s; 60 s.
    pub catch_up: Duration,
    /// Kept so long by its sender's token or session, an entry lets the other person's pass (rule 7).
    /// Scaled, never under 15 s; 60 s.
    pub bypass: Duration,
    /// How long a delivery may wait inside an edge before it answers `Later` (rule 14). Scaled; 5 s.
    pub delivery: Duration,
    /// The first wait before a probe, doubled with each that fails. Scaled; 1 s.
    pub probe_first: Duration,
    /// The longest wait before a probe. Scaled; 60 s.
    pub probe_longest: Duration,
    /// How long receipts and the counts of streams wait for a commit to ride on, before they get one of their own
    /// (rule 11). Scaled, never under 20 ms; 1 s.
    pub ride: Duration,
    /// While many deliveries are under way a commit begins no sooner than this after the one before, so that it is
    /// for many, unless all of them wait for it. 25 ms.
    pub gather: Duration,
    /// How long an attempt on a stream of an earlier run waits for word of that stream. Scaled; 10 min.
    pub resumption: Duration,
    /// Our own write explains a `lastActive` that is no farther from it (rule 18). 5 s.
    pub own_write: Duration,
    /// How long a typing hint lasts without another. 5 min.
    pub typing: Duration,
    /// A receipt is taken as final after this, and the body erased. 10 min.
    pub bounce: Duration,
    /// An entry undelivered so long is reported once to its sender (rule 21). 24 h.
    pub report: Duration,
    /// An entry undelivered so long is given up (rule 13). 7 days.
    pub give_up: Duration,
    /// How long source ids and links are kept (rule 22). 30 days; a setting.
    pub retention: Duration,
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What gives up an order when it runs out is never shorter: in it also our own machine does its work, which no
/// scale makes faster.
const OWN_WORK: Duration = Duration::from_secs(15);

impl Default for Times {
    fn default() -> Self {
        Self::scaled(1)
    }
}

impl Times {
    /// The waits of a world that runs `scale` times faster than life. What the far side's own clocks decide
    /// is never scaled: presence borders, the window of rule 3, typing, reports, retention.
    #[must_use]
    pub fn scaled(scale: u32) -> Self {
        let scale = scale.max(1);
        let of = |wait: Duration| wait / scale;
        Self {
            scale,
            settle: of(Duration::from_secs(30)),
            visibility: of(Duration::from_secs(5)),
            overlap: of(2 * MINUTE).max(Duration::from_secs(3)),
            hold_silence: of(Duration::from_secs(5)).max(Duration::from_secs(2)),
            hold: of(MINUTE).max(OWN_WORK),
            catch_up: of(MINUTE).max(OWN_WORK),
            bypass: of(MINUTE).max(OWN_WORK),
            delivery: of(Duration::from_secs(5)),
            probe_first: of(Duration::from_secs(1)),
            probe_longest: of(MINUTE),
            ride: of(Duration::from_secs(1)).max(Duration::from_millis(20)),
            gather: Duration::from_millis(25),
            resumption: of(10 * MINUTE),
            own_write: Duration::from_secs(5),
            typing: 5 * MINUTE,
            bounce: 10 * MINUTE,
            report: DAY,
            give_up: 7 * DAY,
            retention: 30 * DAY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_shortens_waits_but_not_what_others_measure() {
        let (slow, fast) = (Times::default(), Times::scaled(20));
        assert_eq!(fast.settle, Duration::from_millis(1500));
        assert_eq!(fast.overlap, Duration::from_secs(6));
        assert_eq!(Times::scaled(1000).overlap, Duration::from_secs(3));
        assert_eq!((slow.catch_up, fast.catch_up), (MINUTE, OWN_WORK));
        assert_eq!((slow.typing, slow.report), (fast.typing, fast.report));
        assert_eq!(Times::scaled(0), slow);
    }
}
