//! Moments as the cloud writes them.

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// A moment in milliseconds since the Unix epoch; RFC 3339 with milliseconds and `Z` in bodies.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(into = "String")]
pub struct Timestamp(pub i64);

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::ids::from_text(deserializer)
    }
}

/// A text that is no moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an RFC 3339 time")]
pub struct TimestampError;

impl Timestamp {
    /// Milliseconds since the Unix epoch, as query parameters want them.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Reads the `Date` header of an HTTP answer (RFC 9110 §5.6.7, IMF-fixdate only).
    pub fn from_http_date(text: &str) -> Option<Self> {
        let rest = text.split_once(", ")?.1.strip_suffix(" GMT")?;
        let mut words = rest.split(' ');
        let (day, month, year, clock) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let month = MONTHS.iter().position(|name| *name == month)?;
        let mut date = [0; 20];
        write!(&mut date[..], "{year}-{:02}-{day}T{clock}Z", month + 1).ok()?;
        if words.next().is_some() { None } else { std::str::from_utf8(&date).ok()?.parse().ok() }
    }

    /// Writes the `Date` header of an HTTP answer (RFC 9110 §5.6.7).
    pub fn to_http_date(self) -> String {
        let (year, month, day) = civil(self.0.div_euclid(DAY));
        let weekday = WEEKDAYS[(self.0.div_euclid(DAY) + 4).rem_euclid(7) as usize];
        let (hour, minute, second, _) = clock(self.0.rem_euclid(DAY));
        let month = MONTHS[month as usize - 1];
        format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
    }
}

const DAY: i64 = 86_400_000;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// Days since the epoch of a date in the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day is the last of its year.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn clock(of_day: i64) -> (i64, i64, i64, i64) {
    (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60, of_day % 1_000)
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        parse(text).map(Self).ok_or(TimestampError)
    }
}

fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let shape = b"dddd-dd-ddTdd:dd:dd";
    if bytes.len() < shape.len() + 1 {
        return None;
    }
    for (have, want) in bytes.iter().zip(shape) {
        let fits = match want {
            b'd' => have.is_ascii_digit(),
            b'T' => matches!(have, b'T' | b't' | b' '),
            other => have == other,
        };
        if !fits {
            return None;
        }
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // A leap second (60) is read as the first instant of the next minute.
    if civil(days(year, month, day)) != (year, month, day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut millis = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let (fraction, tail) = fraction.split_at_checked(digits)?;
        if digits == 0 {
            return None;
        }
        let thousandths = fraction.bytes().chain(*b"00").take(3);
        millis = thousandths.fold(0, |millis, digit| millis * 10 + i64::from(digit - b'0'));
        rest = tail;
    }
    let offset = match rest.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2]
            if [h1, h2, m1, m2].iter().all(|digit| digit.is_ascii_digit()) =>
        {
            let two = |a: &u8, b: &u8| i64::from((a - b'0') * 10 + (b - b'0'));
            let minutes = two(h1, h2) * 60 + two(m1, m2);
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + (minute - offset) * 60 + second;
    Some(seconds * 1_000 + millis)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0.div_euclid(DAY));
        let (hour, minute, second, millis) = clock(self.0.rem_euclid(DAY));
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

impl TryFrom<String> for Timestamp {
    type Error = TimestampError;
    fn try_from(text: String) -> Result<Self, TimestampError> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_both_ways() {
        for (text, millis) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2024-05-01T10:00:00.000Z", 1_714_557_600_000),
            ("2024-02-29T23:59:59.999Z", 1_709_251_199_999),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2000-03-01T00:00:00.000Z", 951_868_800_000),
        ] {
            assert_eq!(text.parse(), Ok(Timestamp(millis)), "{text}");
            assert_eq!(Timestamp(millis).to_string(), text);
        }
        assert_eq!("2024-05-01T12:00:00.5+02:00".parse(), Ok(Timestamp(1_714_557_600_500)));
        assert_eq!("2024-05-01T10:00:00Z".parse(), Ok(Timestamp(1_714_557_600_000)));
        assert_eq!("2024-05-01T10:00:00.1234567Z".parse(), Ok(Timestamp(1_714_557_600_123)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [
            "",
            "2024-05-01",
            "2024-13-01T10:00:00Z",
            "2023-02-29T10:00:00Z",
            "2024-05-01T24:00:00Z",
            "2024-05-01T10:00:00",
            "2024-05-01T10:00:00.Z",
            "2024-05-01T10:00:00+é2:00",
            "2024-05-01T10:00:00é",
        ] {
            assert_eq!(bad.parse::<Timestamp>(), Err(TimestampError), "{bad}");
        }
    }

    #[test]
    fn http_dates_both_ways() {
        let text = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(Timestamp::from_http_date(text), Some(Timestamp(784_111_777_000)));
        assert_eq!(Timestamp(784_111_777_000).to_http_date(), text);
        assert_eq!(Timestamp::from_http_date("yesterday"), None);
    }
}
