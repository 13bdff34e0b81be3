//! What a request can come back as, other than its answer.

use std::io;
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use crate::{Timestamp, TrackingId};

/// Why a request has no answer to give.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The request could not be written down; nothing was sent.
    #[error("request cannot be built")]
    Request(#[source] http::Error),
    /// No connection: nothing of the request was sent.
    #[error("cannot connect to {host}")]
    Connect {
        /// Whom we tried to reach.
        host: String,
        /// What the connection failed with.
        #[source]
        source: io::Error,
    },
    /// The service answered with a status other than 2xx.
    #[error("{0}")]
    Status(Box<StatusError>),
    /// The service answered 2xx, but not with what this endpoint answers.
    #[error("answer cannot be read")]
    Body(#[source] serde_json::Error),
    /// The answer is longer than the client's limit.
    #[error("answer is longer than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The connection broke after the request had begun.
    #[error("connection to {host} broke")]
    Broken {
        /// With whom we spoke.
        host: String,
        /// How it broke.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No complete answer came in time.
    #[error("no answer from {host} in time")]
    Timeout {
        /// Who did not answer.
        host: String,
    },
}

/// An answer with a status other than 2xx, with what the cloud says about it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{status}{}: {message}{}", code(.error_code), tracked(.tracking_id))]
#[non_exhaustive]
pub struct StatusError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The service's own number for the reason, when it gave one.
    pub error_code: Option<u64>,
    /// The service's words, at most 200 characters; may be empty. For OAuth, its error name.
    pub message: String,
    /// What to quote to the cloud's support.
    pub tracking_id: Option<TrackingId>,
    /// How long the service asks us to wait (`Retry-After`, in seconds or until a date); a day at most.
    pub retry_after: Option<Duration>,
    /// The cloud's clock when it answered.
    pub date: Option<Timestamp>,
}

/// Nobody is believed who asks for a longer wait.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

fn code(code: &Option<u64>) -> String {
    code.map(|code| format!(" (error code {code})")).unwrap_or_default()
}

fn tracked(id: &Option<TrackingId>) -> String {
    id.as_ref().map(|id| format!(" [tracking id {id}]")).unwrap_or_default()
}

/// What to do with a request that has no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// Send it again after this long; `None`: at the caller's own pace.
    Later(Option<Duration>),
    /// Get a new access token, then send it again.
    NewToken,
    /// The conversation's key was changed: read the conversation, seal again, send again.
    NewKey,
    /// It may have been carried out: ask before sending it again, unless repeating does no harm.
    Unanswered,
    /// The same request would be refused again.
    Refused,
}

/// What `Retry-After` asks for: seconds, or a date, which counts from that of the answer itself (RFC 9110 §10.2.3).
fn wait(text: &str, answered: Option<Timestamp>) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let wait = Timestamp::from_http_date(text)?.millis().saturating_sub(answered?.millis());
    Some(Duration::from_millis(wait.try_into().unwrap_or(0)))
}

impl ApiError {
    /// Reads an answer that is not 2xx; the body may be anything.
    pub fn from_status(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let body: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let tracking_id = text("trackingid").or(body.tracking_id.as_deref());
        let date = text(header::DATE.as_str()).and_then(Timestamp::from_http_date);
        let mut message = body.text().unwrap_or_default().to_owned();
        if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS) {
            message.truncate(end);
        }
        Self::Status(Box::new(StatusError {
            status,
            error_code: body.error_code.as_ref().and_then(|code| {
                code.as_u64().or_else(|| code.as_str().and_then(|digits| digits.parse().ok()))
            }),
            message,
            tracking_id: tracking_id.and_then(|id| id.parse().ok()),
            retry_after: text(header::RETRY_AFTER.as_str())
                .and_then(|text| wait(text.trim(), date))
                .map(|wait| wait.min(LONGEST_WAIT)),
            date,
        }))
    }

    /// The status that the service answered with; `None` without an answer.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status(error) => Some(error.status),
            _ => None,
        }
    }

    /// The service's own number for the reason.
    pub fn error_code(&self) -> Option<u64> {
        match self {
            Self::Status(error) => error.error_code,
            _ => None,
        }
    }

    /// Whether this proves that nothing was carried out: nothing was sent, or the answer is one of
    /// 400, 401, 403, 404, 409, 413, 429. Anything else leaves the outcome open.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Request(_) | Self::Connect { .. } => true,
            Self::Status(error) => REFUSALS.contains(&error.status.as_u16()),
            Self::Body(_) | Self::TooLarge { .. } | Self::Broken { .. } | Self::Timeout { .. } => false,
        }
    }

    /// Whether the user has as many registered devices as the cloud allows.
    pub fn is_device_limit(&self) -> bool {
        match self {
            Self::Status(error) => {
                error.status == StatusCode::FORBIDDEN
                    && error.message.to_ascii_lowercase().contains("excessive device registrations")
            }
            _ => false,
        }
    }

    /// What to do now. Every kind of failure is named: a new one cannot be added without its fate.
    pub fn fate(&self) -> Fate {
        match self {
            Self::Request(_) => Fate::Refused,
            Self::Connect { .. } => Fate::Later(None),
            Self::Body(_) | Self::TooLarge { .. } | Self::Broken { .. } | Self::Timeout { .. } => {
                Fate::Unanswered
            }
            Self::Status(error) => match (error.status, error.error_code) {
                (_, Some(KEY_ROTATION_REQUIRED | KEY_ALREADY_ROTATED | KEY_MISMATCH)) => Fate::NewKey,
                (StatusCode::UNAUTHORIZED, _) => Fate::NewToken,
                (StatusCode::TOO_MANY_REQUESTS, _) => Fate::Later(error.retry_after),
                (status, _) if REFUSALS.contains(&status.as_u16()) => Fate::Refused,
                _ => Fate::Unanswered,
            },
        }
    }
}

/// The statuses that prove that a request was not carried out.
const REFUSALS: [u16; 7] = [400, 401, 403, 404, 409, 413, 429];
const KEY_ROTATION_REQUIRED: u64 = 1_400_087;
const KEY_ALREADY_ROTATED: u64 = 1_409_004;
const KEY_MISMATCH: u64 = 1_400_049;
const MESSAGE_CHARS: usize = 200;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ErrorBody {
    error: Option<serde_json::Value>,
    error_string: Option<String>,
    message: Option<String>,
    msg: Option<String>,
    error_code: Option<serde_json::Value>,
    tracking_id: Option<String>,
}

impl ErrorBody {
    /// The first of the fields in which the services put their words.
    fn text(&self) -> Option<&str> {
        let error = self.error.as_ref().and_then(|error| error.as_str());
        error.or(self.error_string.as_deref()).or(self.message.as_deref()).or(self.msg.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> ApiError {
        ApiError::from_status(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn refused_and_unanswered_are_told_apart() {
        for (status, refusal, fate) in [
            (400, true, Fate::Refused),
            (401, true, Fate::NewToken),
            (403, true, Fate::Refused),
            (404, true, Fate::Refused),
            (408, false, Fate::Unanswered),
            (409, true, Fate::Refused),
            (413, true, Fate::Refused),
            (429, true, Fate::Later(None)),
            (451, false, Fate::Unanswered),
            (500, false, Fate::Unanswered),
            (503, false, Fate::Unanswered),
        ] {
            let error = answer(status, "");
            assert_eq!((error.is_refusal(), error.fate()), (refusal, fate), "{status}");
        }
        let late = ApiError::Timeout { host: "h".into() };
        assert_eq!((late.is_refusal(), late.fate()), (false, Fate::Unanswered));
    }

    #[test]
    fn the_clouds_words_are_kept() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        headers.insert("date", "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        let body = br#"{"message":"Slow down.","errorCode":1429001,"trackingId":"t_1"}"#;
        let error = ApiError::from_status(StatusCode::TOO_MANY_REQUESTS, &headers, body);
        assert_eq!(
            error.to_string(),
            "429 Too Many Requests (error code 1429001): Slow down. [tracking id t_1]"
        );
        assert_eq!(error.fate(), Fate::Later(Some(Duration::from_secs(7))));
        let ApiError::Status(status) = error else { panic!("a status") };
        assert_eq!(status.date, Some(Timestamp(784_111_777_000)));
        for (until, wait) in [
            ("Sun, 06 Nov 1994 08:51:37 GMT", Some(120)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
        ] {
            headers.insert("retry-after", until.parse().unwrap());
            let error = ApiError::from_status(StatusCode::TOO_MANY_REQUESTS, &headers, body);
            assert_eq!(error.fate(), Fate::Later(wait.map(Duration::from_secs)), "{until}");
        }
        // One that is forged must not lead out of the clock of whoever adds it to a moment.
        headers.insert("retry-after", u64::MAX.into());
        let error = ApiError::from_status(StatusCode::TOO_MANY_REQUESTS, &headers, body);
        assert_eq!(error.fate(), Fate::Later(Some(LONGEST_WAIT)));
    }

    #[test]
    fn key_rotation_is_known_by_its_code() {
        for code in ["1400087", "1409004", "1400049", r#""1400087""#] {
            assert_eq!(answer(400, &format!(r#"{{"errorCode":{code}}}"#)).fate(), Fate::NewKey, "{code}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_is_no_hindrance() {
        for body in ["", "<html>", "[1]", r#"{"message":5}"#, "\u{0}"] {
            assert_eq!(answer(502, body).to_string(), "502 Bad Gateway: ", "{body}");
        }
        let long = format!(r#"{{"message":"{}"}}"#, "ä".repeat(500));
        let ApiError::Status(error) = answer(400, &long) else { panic!("a status") };
        assert_eq!(error.message.chars().count(), MESSAGE_CHARS);
    }

    #[test]
    fn the_device_limit_is_known_by_its_words() {
        assert!(answer(403, r#"{"message":"User has excessive device registrations"}"#).is_device_limit());
        assert!(!answer(403, r#"{"message":"no"}"#).is_device_limit());
    }
}
