//! The key exchange, client role: an ephemeral Diffie-Hellman agreement on P-256 that gives the key with which
//! device and KMS seal what they say to each other from then on.
//!
//! ```text
//! Z   = ECDH(our key, theirs), the x-coordinate
//! key = HKDF-SHA-256(Z, salt empty, info empty, 32 bytes)
//! ```

use std::time::{Duration, Instant};

use crate::crypto::{Agreement, Random};
use crate::jose::jwk::{ContentKey, EcJwk, Jwk};
use crate::jose::{JweError, jwe};
use crate::message::{self, Asker, ExchangeResponse};
use crate::trust::StaticPublic;
use crate::uri::EphemeralUri;

/// How long before its end an ephemeral key is no longer used.
const MARGIN: Duration = Duration::from_secs(30);
/// How long an ephemeral key is used when the KMS does not say from when to when.
const UNSAID: Duration = Duration::from_secs(600);
/// The longest that an ephemeral key is used, whatever the KMS says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Why an answer to the exchange was not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// No request could be made: the static key does not encrypt, or there is no randomness.
    #[error("key exchange cannot be started")]
    Start,
    /// The KMS said yes, but without its half of the key, with one that is no point of P-256, with one that has expired,
    /// or with a name from another cluster.
    #[error("key exchange was answered without a usable key")]
    Peer,
}

impl From<JweError> for ExchangeError {
    fn from(_: JweError) -> Self {
        Self::Start
    }
}

/// One attempt: our half is made, theirs is awaited.
pub struct Exchange {
    ours: Agreement,
    request_id: String,
    static_key: StaticPublic,
}

impl Exchange {
    /// Makes our half and the message that carries it, sealed to the static key of the KMS.
    ///
    /// # Errors
    /// [`ExchangeError::Start`] if the static key does not encrypt.
    pub fn start(
        static_key: &StaticPublic,
        asker: &Asker,
        random: &mut dyn Random,
    ) -> Result<(Self, String), ExchangeError> {
        let ours = Agreement::generate().map_err(|_| ExchangeError::Start)?;
        let request_id = message::request_id(random);
        let jwk = EcJwk::from_point(&ours.public);
        let text = message::exchange_json(&static_key.cluster, &jwk, &request_id, asker);
        let message = jwe::seal_to(&static_key.key, &static_key.kid, random, &text)?;
        Ok((Self { ours, request_id, static_key: static_key.clone() }, message))
    }

    /// The id by which the answer names this attempt.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Derives the ephemeral key from an answer whose signature was verified and whose id is ours.
    pub(crate) fn finish(self, answer: ExchangeResponse, now: Instant) -> Result<Context, ExchangeError> {
        let key = answer.key.ok_or(ExchangeError::Peer)?;
        if key.uri.cluster() != self.static_key.cluster {
            return Err(ExchangeError::Peer);
        }
        let Jwk::Ec(theirs) = key.jwk else { return Err(ExchangeError::Peer) };
        let theirs = theirs.point().map_err(|_| ExchangeError::Peer)?;
        let secret = self.ours.agree(&theirs).map_err(|_| ExchangeError::Peer)?;
        let life = lifetime(key.create_date.as_deref(), key.expiration_date.as_deref());
        if life.is_zero() {
            return Err(ExchangeError::Peer);
        }
        Ok(Context { uri: key.uri, key: ContentKey::from_wiped(secret), made: now, end: now + life })
    }
}

/// An ephemeral key that is agreed on.
pub(crate) struct Context {
    pub(crate) uri: EphemeralUri,
    pub(crate) key: ContentKey,
    pub(crate) made: Instant,
    /// From when on it is not used any more.
    pub(crate) end: Instant,
}

/// How long to use a key from its receipt on. Both dates are by the clock of the KMS, so that ours does not matter.
fn lifetime(created: Option<&str>, expires: Option<&str>) -> Duration {
    let seconds = || Some(rfc3339(expires?)? - rfc3339(created?)?);
    let Some(seconds) = seconds() else { return UNSAID };
    let life = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(LONGEST);
    // A key that lives shorter than the margin must still be used for a while, or no exchange would ever end.
    life.saturating_sub(MARGIN).max(life / 2)
}

/// Seconds since 1970 of an RFC 3339 time; `None` if it is not one.
fn rfc3339(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, byte)| text.as_bytes().get(at) != Some(&byte)) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), ..] if zone.len() == 6 && zone.as_bytes()[3] == b':' => {
            let at = text.len() - 6;
            let minutes = number(at + 1..at + 3)? * 60 + number(at + 4..at + 6)?;
            if *sign == b'+' { minutes * 60 } else { -minutes * 60 }
        }
        _ => return None,
    };
    // Days since 1970 by counting years from March on, so that the leap day is the last of its year.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years * 365 + years.div_euclid(4) - years.div_euclid(100)
        + years.div_euclid(400)
        + (months * 153 + 2) / 5
        + day
        - 1
        - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second - offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2024-05-01T10:00:00.000Z", Some(1_714_557_600)),
            ("2024-02-29T23:59:59.999999Z", Some(1_709_251_199)),
            ("2000-03-01T00:00:00Z", Some(951_868_800)),
            ("1969-12-31T23:59:59Z", Some(-1)),
            ("2024-05-01T12:00:00+02:00", Some(1_714_557_600)),
            ("2024-05-01T04:30:00.5-05:30", Some(1_714_557_600)),
            ("2024-05-01", None),
            ("2024-13-01T10:00:00Z", None),
            ("2024-05-01T10:00:00", None),
            ("2024-05-01T10:00:00+0200", None),
            ("2024-05-01T10:0é:00Z", None),
            ("", None),
        ] {
            assert_eq!(rfc3339(text), seconds, "{text}");
        }
    }

    #[test]
    fn a_key_is_given_up_before_its_end() {
        let life = |from, to| lifetime(Some(from), Some(to)).as_secs();
        let start = "2024-05-01T10:00:00Z";
        assert_eq!(life(start, "2024-05-01T11:00:00Z"), 3570);
        assert_eq!(life(start, "2024-05-01T10:00:40Z"), 20, "never so early that it is not used at all");
        assert_eq!(life(start, "2024-05-01T09:00:00Z"), 0);
        assert_eq!(life(start, "2034-05-01T09:00:00Z"), LONGEST.as_secs() - 30);
        assert_eq!(lifetime(None, Some("2024-05-01T11:00:00Z")), UNSAID);
        assert_eq!(lifetime(Some(start), Some("soon")), UNSAID);
    }
}
