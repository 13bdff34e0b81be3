//! Moments as people read them.

use router::ids::Time;

/// A moment to the minute, in a zone so many minutes ahead of UTC: `2024-05-01 10:00 UTC`, `2024-05-01 12:00 +02:00`.
pub(crate) fn moment(at: Time, utc_offset: i32) -> String {
    let minutes = at.0.div_euclid(60_000) + i64::from(utc_offset);
    let (days, minute) = (minutes.div_euclid(24 * 60), minutes.rem_euclid(24 * 60));
    let (year, month, day) = civil(days);
    let zone = match utc_offset {
        0 => "UTC".to_owned(),
        offset => {
            let sign = if offset < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60)
        }
    };
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} {zone}", minute / 60, minute % 60)
}

/// Year, month and day of a day counted from 1970-01-01 (the Gregorian calendar, years from March on).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
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
