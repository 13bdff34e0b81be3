//! Sequence numbers of one socket: a number that is skipped is a frame that was lost.

/// The highest number seen on a socket.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    last: Option<u64>,
}

impl Sequence {
    /// Takes a frame's number and tells whether frames before it are missing. Frames without a
    /// number (pongs) don't count; one that comes late, after its gap was told, is no second gap.
    pub(super) fn observe(&mut self, number: Option<u64>) -> bool {
        let Some(number) = number else { return false };
        let gap = self.last.is_some_and(|last| number > last.saturating_add(1));
        self.last = self.last.max(Some(number));
        gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_number_is_a_gap_and_a_late_one_is_not() {
        let mut sequence = Sequence::default();
        let gaps = [Some(7), Some(8), None, Some(9), Some(11), Some(10), Some(12), Some(12), Some(u64::MAX)]
            .map(|number| sequence.observe(number));
        assert_eq!(gaps, [false, false, false, false, true, false, false, false, true]);
        assert!(!sequence.observe(Some(u64::MAX)));
    }
}
