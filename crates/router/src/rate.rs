//! How fast one person may write (rule 13).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{PersonId, Time};

/// A bucket for each person that fills with what the person writes, or is written from outside, and leaks.
#[derive(Debug)]
pub(crate) struct Rates {
    /// How much a bucket holds, and how long one message takes to leak out.
    limit: Option<(i64, i64)>,
    /// When each bucket will be empty.
    empty_at: BTreeMap<PersonId, Time>,
}

impl Rates {
    pub(crate) fn new(rate: Option<(u32, Duration)>) -> Self {
        let limit =
            rate.map(|(burst, each)| (i64::from(burst), i64::try_from(each.as_millis()).unwrap_or(i64::MAX)));
        Self { limit, empty_at: BTreeMap::new() }
    }

    /// Whether this person has written too much lately.
    pub(crate) fn exceeded(&self, person: &PersonId, now: Time) -> bool {
        let (Some((burst, each)), Some(empty)) = (self.limit, self.empty_at.get(person)) else {
            return false;
        };
        empty.since(now) > burst.saturating_sub(1).saturating_mul(each)
    }

    /// Forgets the buckets that are empty.
    pub(crate) fn forget(&mut self, now: Time) {
        self.empty_at.retain(|_, empty| *empty > now);
    }

    /// Counts one message; repeats are not counted.
    pub(crate) fn count(&mut self, person: &PersonId, now: Time) {
        if let Some((_, each)) = self.limit {
            let empty = self.empty_at.entry(person.clone()).or_insert(now);
            *empty = (*empty).max(now).plus(each);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_in_each_interval() {
        let (ann, mut rates) = (PersonId::new("ann"), Rates::new(Some((3, Duration::from_secs(1)))));
        for _ in 0..3 {
            assert!(!rates.exceeded(&ann, Time(0)));
            rates.count(&ann, Time(0));
        }
        assert!(rates.exceeded(&ann, Time(0)));
        assert!(rates.exceeded(&ann, Time(999)));
        assert!(!rates.exceeded(&ann, Time(1000)));
        assert!(!rates.exceeded(&PersonId::new("bob"), Time(0)));
        rates.forget(Time(2_999));
        assert!(rates.exceeded(&ann, Time(0)), "it still counts");
        rates.forget(Time(3_000));
        assert!(rates.empty_at.is_empty(), "nobody is remembered for ever");
    }
}
