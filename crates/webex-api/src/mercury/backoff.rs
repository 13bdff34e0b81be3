//! Pauses between attempts.

use std::time::Duration;

/// Pauses that double from attempt to attempt, each half fixed and half random, so that many
/// clients that lost their connections together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts with a pause of at most `first` and never waits longer than `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first.min(longest) }
    }

    /// The pause before the next attempt; `random` is 64 random bits.
    pub fn pause(&mut self, random: u64) -> Duration {
        let half = self.next / 2;
        self.next = (self.next * 2).min(self.longest);
        half + half.mul_f64(random as f64 / u64::MAX as f64)
    }

    /// An attempt succeeded: the next pause is short again.
    pub fn reset(&mut self) {
        self.next = self.first.min(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let longest: Vec<_> = (0..4).map(|_| backoff.pause(u64::MAX).as_millis()).collect();
        assert_eq!(longest, [1_000, 2_000, 4_000, 5_000]);
        assert_eq!(backoff.pause(0).as_millis(), 2_500, "never less than half");
        backoff.reset();
        assert_eq!(backoff.pause(0).as_millis(), 500);
    }
}
