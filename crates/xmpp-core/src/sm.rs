//! Stream management (XEP-0198): exact counters, what survives a lost connection, and the server's queue.
//!
//! Every counter here has 64 bits and counts from the moment stream management was enabled, across all
//! resumptions. The wire carries the low 32 bits (`h`, XEP-0198 §4); [`widen`] and [`widen_below`] restore
//! the rest.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use minidom::Element;

use crate::Jid;

const WRAP: u64 = 1 << 32;

/// The smallest counter not below `floor` whose low 32 bits are `h`.
///
/// For an `<a/>` on a running stream: the peer's counter never falls, so the last value is the floor.
#[must_use]
pub fn widen(floor: u64, h: u32) -> u64 {
    let candidate = floor - floor % WRAP + u64::from(h);
    if candidate < floor { candidate.saturating_add(WRAP) } else { candidate }
}

/// The largest counter not above `ceiling` whose low 32 bits are `h`, or `None` if there is none.
///
/// For a resumption: the peer cannot have handled more than was sent, so that is the ceiling.
#[must_use]
pub fn widen_below(ceiling: u64, h: u32) -> Option<u64> {
    let candidate = ceiling - ceiling % WRAP + u64::from(h);
    if candidate <= ceiling { Some(candidate) } else { candidate.checked_sub(WRAP) }
}

/// The low 32 bits of a counter, as the wire carries it.
#[must_use]
pub fn narrow(counter: u64) -> u32 {
    (counter % WRAP) as u32
}

/// What must be kept to take up a stream again on a new connection, also in a new process (XEP-0198 §5).
///
/// The text form (`Display`, `FromStr`) has one line: inbound, outbound, JID and id, separated by tabs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResumeState {
    /// The id that the server gave the stream.
    pub id: String,
    /// The bound JID, or the component's name: a resumption does not bind again.
    pub jid: Jid,
    /// How many of the peer's stanzas are handled and safely kept; sent as `h`.
    pub inbound: u64,
    /// How many stanzas may have been sent: the highest position ever given out, written or not.
    pub outbound: u64,
}

impl fmt::Display for ResumeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}\t{}\t{}", self.inbound, self.outbound, self.jid, self.id)
    }
}

impl FromStr for ResumeState {
    type Err = ResumeStateError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut parts = s.splitn(4, '\t');
        let mut part = || parts.next().ok_or(ResumeStateError);
        Ok(Self {
            inbound: part()?.parse().map_err(|_| ResumeStateError)?,
            outbound: part()?.parse().map_err(|_| ResumeStateError)?,
            jid: part()?.parse().map_err(|_| ResumeStateError)?,
            id: part()?.to_owned(),
        })
    }
}

/// The text is not a [`ResumeState`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a stream resumption state: expected inbound, outbound, jid and id between tabs")]
pub struct ResumeStateError;

/// How the established stream relates to the one that was to be resumed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A new stream; no resumption was asked for.
    Fresh,
    /// The old stream goes on; the peer has handled `h` of our stanzas, and the next one is number `h + 1`.
    Resumed {
        /// The peer's counter, widened.
        h: u64,
    },
    /// A new stream, since the old one is gone. Counters start again at zero.
    ResumeFailed {
        /// How many stanzas of the old stream the peer had handled, if it still knew.
        h: Option<u64>,
    },
}

/// Decides about stream management where we are the server.
///
/// Calls come from inside a negotiation and must not wait for anything.
pub trait ResumeRegistry: Send + Sync {
    /// A peer enables stream management on the stream of `jid`: the id under which it can be resumed, or
    /// `None` if it cannot be. Only called when the peer asked for resumption.
    fn enable(&self, jid: &Jid) -> Option<String>;

    /// How long a stream can be resumed after its connection was lost, in seconds; announced to the peer.
    /// `None` announces nothing.
    fn max_seconds(&self) -> Option<u32> {
        None
    }

    /// A peer that authenticated as `jid` (a bare JID, or a component's name) wants stream `id` back and has
    /// handled `h` (32 bits, see [`widen_below`]) of its stanzas. Must check that the stream was `jid`'s.
    ///
    /// # Errors
    /// Returns [`ResumeRefused`] if there is no such stream.
    fn resume(&self, id: &str, h: u32, jid: &Jid) -> Result<Resumable, ResumeRefused>;
}

/// The server's side of a stream that is resumed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resumable {
    /// The JID that the stream is bound to.
    pub jid: Jid,
    /// How many of the peer's stanzas are handled; announced to the peer as `h`.
    pub inbound: u64,
    /// How many of our stanzas the peer has handled: its `h`, widened. The next one sent is this plus one,
    /// and the owner resends what is above it.
    pub outbound: u64,
}

/// The stream that a peer wants back is gone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ResumeRefused {
    /// How many of the peer's stanzas were handled, if that is still known (XEP-0198 §5).
    pub h: Option<u64>,
}

/// Stanzas that were sent and not yet acknowledged, oldest first: the server's queue (XEP-0198 §4).
///
/// A client of ours keeps none: its owner decides what is sent again.
#[derive(Clone, Default)]
pub struct Unacknowledged {
    queue: VecDeque<(u64, Element)>,
}

impl fmt::Debug for Unacknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(position, _)| position)).finish()
    }
}

impl Unacknowledged {
    /// Appends a stanza with its position.
    pub fn push(&mut self, position: u64, stanza: Element) {
        self.queue.push_back((position, stanza));
    }

    /// Forgets everything up to and including position `h`.
    pub fn acknowledge(&mut self, h: u64) {
        while self.queue.front().is_some_and(|(position, _)| *position <= h) {
            self.queue.pop_front();
        }
    }

    /// The stanzas with their positions, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Element)> {
        self.queue.iter().map(|(position, stanza)| (*position, stanza))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether everything sent is acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The stanzas, oldest first, leaving the queue empty.
    pub fn take(&mut self) -> Vec<Element> {
        self.queue.drain(..).map(|(_, stanza)| stanza).collect()
    }
}

/// Both counters of a stream; the part of stream management that has no XML.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counters {
    /// Stanzas received.
    pub(crate) received: u64,
    /// What we may acknowledge: never above `received`.
    pub(crate) handled: u64,
    /// Stanzas sent.
    pub(crate) sent: u64,
    /// What the peer acknowledged: never above `sent`.
    pub(crate) acknowledged: u64,
}

impl Counters {
    /// Takes in the peer's `h`.
    ///
    /// # Errors
    /// Returns the widened value if the peer claims more than was sent; counters then stay as they were.
    pub(crate) fn peer_handled(&mut self, h: u32) -> Result<u64, u64> {
        let widened = widen(self.acknowledged, h);
        if widened > self.sent {
            return Err(widened);
        }
        self.acknowledged = widened;
        Ok(widened)
    }

    /// Allows `n` to be acknowledged; never falls, never exceeds what was received.
    pub(crate) fn allow(&mut self, n: u64) {
        self.handled = self.handled.max(n.min(self.received));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_is_widened_upwards_on_a_running_stream() {
        let wrap = 1u64 << 32;
        for (floor, h, expected) in [
            (0, 0, 0),
            (0, 5, 5),
            (5, 5, 5),
            (5, 4, wrap + 4),
            (wrap - 1, u32::MAX, wrap - 1),
            (wrap - 1, 0, wrap),
            (3 * wrap + 7, 9, 3 * wrap + 9),
        ] {
            assert_eq!(widen(floor, h), expected, "floor {floor}, h {h}");
        }
    }

    #[test]
    fn h_is_widened_downwards_at_a_resumption() {
        let wrap = 1u64 << 32;
        for (ceiling, h, expected) in [
            (0, 0, Some(0)),
            (5, 5, Some(5)),
            (5, 6, None),
            (wrap, 0, Some(wrap)),
            (wrap + 1, u32::MAX, Some(wrap - 1)),
            (2 * wrap + 3, 4, Some(wrap + 4)),
        ] {
            assert_eq!(widen_below(ceiling, h), expected, "ceiling {ceiling}, h {h}");
        }
    }

    #[test]
    fn a_peer_cannot_have_handled_more_than_was_sent() {
        let mut counters = Counters { sent: 3, ..Counters::default() };
        assert_eq!(counters.peer_handled(3), Ok(3));
        assert_eq!(counters.peer_handled(4), Err(4));
        // A counter that falls would have to have wrapped, which is more than was sent, too.
        assert_eq!(counters.peer_handled(2), Err((1 << 32) + 2));
        assert_eq!(counters.acknowledged, 3);
    }

    #[test]
    fn acknowledging_never_falls_and_never_exceeds_what_came() {
        let mut counters = Counters { received: 5, ..Counters::default() };
        counters.allow(3);
        counters.allow(2);
        assert_eq!(counters.handled, 3);
        counters.allow(9);
        assert_eq!(counters.handled, 5);
    }

    #[test]
    fn resumption_state_survives_its_text_form() {
        let state = ResumeState {
            id: "a b\tc".into(),
            jid: "alice@lab.example/my webex".parse().unwrap(),
            inbound: 1 << 40,
            outbound: 17,
        };
        assert_eq!(state.to_string().parse(), Ok(state));
        for bad in ["", "1", "1\t2\t3", "x\t2\ta@b\tid", "1\t-2\ta@b\tid", "1\t2\t@\tid"] {
            assert_eq!(bad.parse::<ResumeState>(), Err(ResumeStateError), "{bad:?}");
        }
    }
}
