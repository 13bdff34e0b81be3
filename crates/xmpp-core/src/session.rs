//! An established stream.

use crate::Element;
use crate::sm::Outcome;
use crate::stream::StreamError;
use crate::xml::XmlError;

/// An established stream without I/O.
#[derive(Debug)]
pub struct Session {}

/// What happens on an established stream.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A stanza, or any other element outside the protocol of the stream itself.
    Stanza {
        /// In the namespace `jabber:client` on any kind of stream.
        element: Element,
        /// How many counted stanzas have come on this stream, this one included, across resumptions: what
        /// to give to `acknowledge` once it is safe.
        n: u64,
    },
    /// The peer has handled this many of our stanzas, widened to 64 bits.
    Acked(u64),
    /// Accepting side only: the peer enabled stream management ([`Outcome::Fresh`]) or resumed a stream
    /// ([`Outcome::Resumed`]), in which case the owner now resends what is above `h`. From here on the
    /// counters are those of that stream.
    Managed(Outcome),
    /// The stream is over.
    Closed(CloseReason),
}

/// Why a stream is over.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CloseReason {
    /// We closed it.
    Local,
    /// The peer closed it properly: it cannot be resumed.
    Peer,
    /// The peer ended it with an error: it cannot be resumed.
    StreamError(StreamError),
    /// The connection was lost: the stream may be resumed.
    Lost(std::io::ErrorKind),
    /// Nothing came for too long: the stream may be resumed.
    Silent,
    /// The peer's XML is malformed or over a limit. We told it so and ended the stream.
    Xml(XmlError),
    /// The peer claims to have handled `h` stanzas where only `sent` were sent (XEP-0198 §4). We told it so
    /// and ended the stream.
    HandledTooHigh {
        /// The peer's counter, widened.
        h: u64,
        /// How many were sent.
        sent: u64,
    },
}
