//! Moments as people read them.

use router::ids::Time;
use webex_api::Timestamp;

/// A moment to the minute, in a zone so many minutes ahead of UTC: `2024-05-01 10:00 UTC`, `2024-05-01 12:00 +02:00`.
pub(crate) fn moment(at: Time, utc_offset: i32) -> String {
    let local = Timestamp(at.0.saturating_add(i64::from(utc_offset) * 60_000)).to_string();
    let (day, clock) = local.split_once('T').unwrap_or_default();
    let minute = clock.get(..5).unwrap_or_default();
    let zone = match utc_offset {
        0 => "UTC".to_owned(),
        offset => {
            let sign = if offset < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60)
        }
    };
    format!("{day} {minute} {zone}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds: i64, offset| moment(Time(seconds * 1000), offset);
        assert_eq!(at(0, 0), "1970-01-01 00:00 UTC");
        assert_eq!(at(951_782_399, 0), "2000-02-28 23:59 UTC");
        assert_eq!(at(951_782_400, 0), "2000-02-29 00:00 UTC");
        assert_eq!(at(1_798_761_600, -90), "2026-12-31 22:30 -01:30");
        assert_eq!(at(1_790_000_000, 120), "2026-09-21 16:13 +02:00");
        assert_eq!(at(-1, 0), "1969-12-31 23:59 UTC");
    }
}
