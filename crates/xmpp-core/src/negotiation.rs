//! What all negotiations have in common: how they are driven, and how they fail.

use std::fmt;
use std::time::Instant;

use crate::session::Session;
use crate::stream::StreamError;
use crate::xml::Frame;
use crate::{BareJid, Element, Jid};

/// What a negotiation wants done. Its `Debug` shows no content, since a password may be among the bytes.
pub enum Output {
    /// Write these bytes.
    Write(Vec<u8>),
    /// Start TLS on the byte stream, then call [`Machine::encrypted`]. Bytes that the peer sent in the clear
    /// after its last element must be thrown away or, better, refused.
    StartTls,
    /// Read what comes now as a new XML document ([`crate::xml::Reader::restart`]).
    Restart,
    /// The stream is up; the negotiation is over.
    Established(Box<Session>),
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(bytes) => write!(f, "Write({} bytes)", bytes.len()),
            Self::StartTls => f.write_str("StartTls"),
            Self::Restart => f.write_str("Restart"),
            Self::Established(session) => f.debug_tuple("Established").field(session).finish(),
        }
    }
}

/// A negotiation without I/O: from a byte stream to an established [`Session`].
///
/// Drain [`Machine::poll_output`] until it returns `None`, then wait for a frame or for the deadline. After
/// an error nothing works any more, except that what it left to write should still be written.
pub trait Machine {
    /// Takes in a frame.
    ///
    /// # Errors
    /// The peer refused, or broke the protocol.
    fn handle(&mut self, frame: Frame, now: Instant) -> Result<(), NegotiationError>;

    /// What to do next; `None` until more comes.
    fn poll_output(&mut self) -> Option<Output>;

    /// When the negotiation gives up unless a frame comes; `None` if it waits for ever.
    fn deadline(&self) -> Option<Instant>;

    /// Gives up if the deadline has passed.
    ///
    /// # Errors
    /// [`NegotiationError::TimedOut`] if so.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), NegotiationError>;

    /// The peer showed this certificate when TLS came up (DER; it was verified). Said before anything else is
    /// handled in the encrypted stream; of no interest to whoever opens streams.
    fn certificate(&mut self, certificate: Vec<u8>) {
        let _ = certificate;
    }

    /// TLS is up, after [`Output::StartTls`].
    fn encrypted(&mut self, now: Instant);
}

/// Why a negotiation failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NegotiationError {
    /// The peer ended the stream with an error (RFC 6120 §4.9). A component meets `conflict` while the server
    /// still holds its lost connection: that one is worth another try.
    #[error("the peer ended the stream: {0}")]
    Stream(StreamError),
    /// The peer closed the stream without a reason.
    #[error("the peer closed the stream while waiting for {0}")]
    Closed(&'static str),
    /// Nothing came in time.
    #[error("no {0} came in time")]
    TimedOut(&'static str),
    /// Something came that has no place here.
    #[error("expected {expected}, got <{got}>")]
    Unexpected {
        /// What the protocol asks for.
        expected: &'static str,
        /// The name of what came.
        got: String,
    },
    /// Encryption is required and not offered, or refused.
    #[error("the server offers no encryption, which is required")]
    NoTls,
    /// The server offers no SASL mechanism that the credentials can serve.
    #[error("no usable SASL mechanism; offered: {}", .offered.join(" "))]
    NoMechanism {
        /// What it offers.
        offered: Vec<String>,
    },
    /// The credentials are not accepted (RFC 6120 §6.5).
    #[error("authentication refused: {condition}")]
    Refused {
        /// The condition's name, such as `not-authorized`.
        condition: String,
        /// What the server says about it, for people.
        text: Option<String>,
    },
    /// The peer's part of the SASL exchange is wrong: it may not know the password.
    #[error("bad SASL exchange: {0}")]
    Sasl(#[from] crate::sasl::SaslError),
    /// The server does not bind a resource (RFC 6120 §7.6.2, §7.7.3).
    #[error("binding refused: {0}")]
    Bind(String),
    /// The server bound somebody else's account, as some do that ignore an authorization id.
    #[error("asked for a session of {asked}, but {bound} was bound")]
    BoundElsewhere {
        /// Whose session was wanted.
        asked: BareJid,
        /// Whose it would have been.
        bound: Jid,
    },
    /// The peer claims to have handled more stanzas than were sent (XEP-0198 §5).
    #[error("the peer claims to have handled {h} stanzas, but only {sent} were sent")]
    HandledTooHigh {
        /// The peer's counter, as it came.
        h: u32,
        /// How many were sent at most.
        sent: u64,
    },
    /// More came before the stream was up than is kept.
    #[error("too many stanzas before the stream was up")]
    TooEarly,
    /// Accepting side: we refused the peer, and told it this condition.
    #[error("refused the peer: {0}")]
    Rejected(&'static str),
}

/// What has no place here: a stream error, the stream's end, or something else.
pub(crate) fn unexpected(frame: &Frame, expected: &'static str) -> NegotiationError {
    match frame {
        Frame::Element(element) => match StreamError::read(element) {
            Some(error) => NegotiationError::Stream(error),
            None => NegotiationError::Unexpected { expected, got: element.name().to_owned() },
        },
        Frame::Open(_) => NegotiationError::Unexpected { expected, got: "stream:stream".to_owned() },
        Frame::Close => NegotiationError::Closed(expected),
    }
}

/// The name of the condition inside an error or failure, `undefined-condition` if there is none.
pub(crate) fn condition(error: &Element, namespace: &str) -> String {
    let mut conditions = error.children().filter(|child| child.has_ns(namespace) && child.name() != "text");
    conditions.next().map_or("undefined-condition", Element::name).to_owned()
}
