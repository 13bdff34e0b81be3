//! All that an edge can be asked.

use presence_map::Show;

use crate::ids::{ConversationId, DerivedId, EntryId, ImpStreamId, PersonId, Ticket, Time, Upstream};
use crate::outbox::Batch;

/// One output of the router.
#[derive(Debug)]
pub enum Outbound {
    /// Put this on disk, then answer `Committed`.
    Commit(Batch),
    /// Tell the far side that it may forget everything up to here.
    Acknowledge(Upstream),
    /// Deliver this entry; the hub adds the entry itself, body included, from the store.
    Deliver(Ticket, EntryId, MaybeSent),
    /// The attempt is on disk: write the bytes.
    Write(Ticket),
    /// Do not write; the next stanza takes the position.
    Skip(Ticket),
    /// What was attempted on this resumed stream is settled, on disk: stanzas may be written again
    /// (rule 11). Between `Stream(_, Resumed)` and this an edge writes none on it.
    Settled(ImpStreamId),
    /// Pass this on if it is easy, or drop it.
    Hint(Hint),
    /// The state wanted for this person's session; the last one said counts.
    Session(PersonId, Wanted),
    /// The value kept under this `ask` is on disk.
    Kept(u64),
    /// The directory has changed: the hub hands `Router::directory` to the edges.
    DirectoryChanged,
    /// An operator is told that this entry was given up, and why; its sender is told by an entry (rule 21).
    GivenUp(EntryId, Box<str>),
}

/// Whether an earlier attempt may have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaybeSent {
    /// It was never attempted.
    No,
    /// It may have been; ask first, and count the settle time from here (rule 10).
    Since(Time),
}

/// The state wanted for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// None is held.
    Closed,
    /// One is held, showing this.
    Open {
        /// The availability.
        show: Show,
        /// The text beside it; may be empty.
        text: &'static str,
        /// When the person last did something, as far as was known when this was said: where many sessions are to be
        /// opened, whoever was active last is first.
        active: Option<Time>,
    },
}

impl Wanted {
    /// Whether this is the same session showing the same.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Closed, Self::Closed) => true,
            (Self::Open { show, text, .. }, Self::Open { show: other_show, text: other_text, .. }) => {
                (show, text) == (other_show, other_text)
            }
            _ => false,
        }
    }
}

/// A passing hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Show in Jabber that `from` types to `to`; sent from `from`'s session.
    TypingInJabber {
        /// Who types.
        from: PersonId,
        /// In which conversation; the edge looks the other participant up.
        conversation: ConversationId,
        /// Started, or stopped.
        active: bool,
        /// The id to write on it, recognized as ours.
        id: DerivedId,
    },
    /// Show in Webex that `from` types to `to`.
    TypingInWebex {
        /// Who types.
        from: PersonId,
        /// To whom.
        to: PersonId,
        /// Started, or stopped.
        active: bool,
    },
}
