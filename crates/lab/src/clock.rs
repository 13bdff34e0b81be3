//! The one clock of the stand-ins: it can be moved, it is scaled where the lab says so, and it may be paused with tokio's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Milliseconds since the Unix epoch, by the lab's clock.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time(pub i64);

impl Time {
    /// This moment plus a duration.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 with milliseconds and `Z`, as the cloud writes times in bodies.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let civil = Civil::of(self);
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            civil.year, civil.month, civil.day, civil.hour, civil.minute, civil.second, civil.millisecond
        )
    }

    /// The form of the `Date` header (RFC 9110 §5.6.7), which has whole seconds.
    #[must_use]
    pub fn http_date(self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let civil = Civil::of(self);
        let weekday = usize::try_from(self.0.div_euclid(DAY).rem_euclid(7)).unwrap_or(0);
        format!(
            "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
            DAYS[weekday],
            civil.day,
            MONTHS[usize::try_from(civil.month - 1).unwrap_or(0)],
            civil.year,
            civil.hour,
            civil.minute,
            civil.second
        )
    }
}

const DAY: i64 = 86_400_000;

/// A moment in the proleptic Gregorian calendar, UTC.
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    millisecond: i64,
}

impl Civil {
    fn of(time: Time) -> Self {
        let days = time.0.div_euclid(DAY);
        let within = time.0.rem_euclid(DAY);
        // Years begin in March here, so that the leap day is the last day of its year.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: of_year - (153 * march_month + 2) / 5 + 1,
            hour: within / 3_600_000,
            minute: within / 60_000 % 60,
            second: within / 1_000 % 60,
            millisecond: within % 1_000,
        }
    }
}

/// Tells the time, and waits. Clones share one clock.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    base: Time,
    started: Instant,
    advanced: AtomicI64,
    moved: Notify,
    scale: u32,
}

impl Clock {
    /// A clock that shows `base` now and divides scaled waits by `scale` (0 counts as 1).
    #[must_use]
    pub fn new(base: Time, scale: u32) -> Self {
        Self(Arc::new(Shared {
            base,
            started: Instant::now(),
            advanced: AtomicI64::new(0),
            moved: Notify::new(),
            scale: scale.max(1),
        }))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Time {
        let shared = &*self.0;
        let elapsed = i64::try_from(shared.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        Time(shared.base.0 + elapsed + shared.advanced.load(Ordering::SeqCst))
    }

    /// Moves the clock forward; everything that waits by it notices at once.
    pub fn advance(&self, by: Duration) {
        self.0.advanced.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX / 4), Ordering::SeqCst);
        self.0.moved.notify_waiters();
    }

    /// A wait that the time scale shortens, as it is in this lab.
    #[must_use]
    pub fn scaled(&self, wait: Duration) -> Duration {
        wait / self.0.scale
    }

    /// Waits until the clock shows `when`, also when it is moved there.
    pub async fn sleep_until(&self, when: Time) {
        loop {
            let moved = self.0.moved.notified();
            let now = self.now();
            if now >= when {
                return;
            }
            tokio::select! {
                biased;
                () = moved => {}
                () = tokio::time::sleep(when.since(now)) => {}
            }
        }
    }

    /// Waits for a duration by this clock, unscaled.
    pub async fn sleep(&self, wait: Duration) {
        self.sleep_until(self.now().plus(wait)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_both_forms() {
        let rows = [
            (0, "1970-01-01T00:00:00.000Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
            (1_714_557_600_123, "2024-05-01T10:00:00.123Z", "Wed, 01 May 2024 10:00:00 GMT"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z", "Tue, 29 Feb 2000 00:00:00 GMT"),
            (784_111_777_000, "1994-11-06T08:49:37.000Z", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ];
        for (ms, body, header) in rows {
            assert_eq!(Time(ms).rfc3339(), body);
            assert_eq!(Time(ms).http_date(), header);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleeper_wakes_when_the_clock_is_moved() {
        let clock = Clock::new(Time(1_000), 20);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep(Duration::from_secs(3_600)).await;
                clock.now()
            }
        });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(sleeper.await.unwrap(), Time(3_601_000));
        assert_eq!(clock.scaled(Duration::from_secs(20)), Duration::from_secs(1));
    }
}
