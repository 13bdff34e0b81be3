//! What can go wrong, and what a caller should do about it.

use std::time::Duration;

/// Why a request could not be made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// The text is not one single reading statement; AXL would also run others.
    #[error("not a single select statement: {0}")]
    NotASelect(&'static str),
    /// A text holds a character that XML 1.0 cannot carry.
    #[error("character U+{0:04X} cannot be sent in XML")]
    Character(u32),
    /// The publisher's address is not `http` or `https` with a host.
    #[error("`{0}` is not the address of a publisher")]
    Address(String),
    /// A user name or password that HTTP Basic authentication cannot carry (RFC 7617 §2).
    #[error("the user name of AXL may not hold a colon")]
    UserName,
}

/// Why an answer is not well-formed, or not one that we are willing to read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum XmlError {
    /// Not well-formed, or a construct that is never accepted (document type, processing instruction).
    #[error("malformed XML: {0}")]
    Malformed(String),
    /// A bound of [`Limits`](crate::Limits) was passed; its name and value.
    #[error("more than {1} {0}")]
    Limit(&'static str, usize),
    /// Well-formed, but not the SOAP 1.1 answer to the request.
    #[error("not an answer to {0}")]
    Shape(&'static str),
}

/// Why a request brought no rows.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AxlError {
    /// 401: user name or password are wrong.
    #[error("the publisher refuses the user name or the password (401)")]
    Unauthorized,
    /// 403: the user lacks the role "Standard AXL API Access".
    #[error("the user may not use AXL (403)")]
    Forbidden,
    /// 404: the AXL service is not activated on this node, or the address is another service's.
    #[error("no AXL service at this address (404)")]
    NotActivated,
    /// 503: busy, throttled or starting; `retry_after` is what the server asked for, if it did.
    #[error("the AXL service is not available now (503)")]
    Unavailable {
        /// The `Retry-After` header in its form of seconds; `None` where there is none.
        retry_after: Option<Duration>,
    },
    /// The answer would pass the server's size limit; read fewer rows at a time.
    #[error("the answer would be too large: {matched} rows matched, fewer than {suggested} suggested")]
    TooLarge {
        /// How many rows the query matches.
        matched: u64,
        /// The server wants fewer rows than this in one answer.
        suggested: u64,
    },
    /// A SOAP fault.
    #[error("fault{}: {message}", code.map(|c| format!(" {c}")).unwrap_or_default())]
    Fault {
        /// `axlcode`; Informix codes come through here (-201 syntax, -206 table, -217 column). `None` where absent.
        code: Option<i64>,
        /// The fault's own words.
        message: String,
    },
    /// A status that AXL gives no meaning to.
    #[error("unexpected HTTP status {0}")]
    Status(u16),
    /// The body could not be read.
    #[error("unreadable answer")]
    Xml(#[from] XmlError),
}

/// What a caller should do after an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// Again, after seconds and with back-off; not before the given time, if there is one.
    Retry(Option<Duration>),
    /// Again at once, with fewer rows than this at a time.
    Smaller(u64),
    /// Someone has to change the configuration; alarm, and try again slowly.
    Configuration,
    /// The same request would bring the same answer.
    Final,
}

impl AxlError {
    /// What to do about it.
    pub fn fate(&self) -> Fate {
        match self {
            Self::Unauthorized | Self::Forbidden | Self::NotActivated => Fate::Configuration,
            Self::Unavailable { retry_after } => Fate::Retry(*retry_after),
            Self::TooLarge { suggested, .. } => Fate::Smaller(*suggested),
            // A shared memory limit for large concurrent reads answers with a fault and no code of its own.
            Self::Fault { code: None, message } if message.to_ascii_lowercase().contains("memory") => {
                Fate::Retry(None)
            }
            Self::Fault { .. } => Fate::Final,
            Self::Status(status) if *status >= 500 => Fate::Retry(None),
            Self::Status(_) => Fate::Final,
            // Half an answer, or the page of something in between.
            Self::Xml(_) => Fate::Retry(None),
        }
    }
}
