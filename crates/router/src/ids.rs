//! The names that decisions are made on. All of them are opaque here: the router compares them and
//! never looks inside. A copy is the same text in memory, since each stands in many places.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as it is; whoever reads it from the wire has checked and normalized it.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// A person in the Webex identity service: a lower-case UUID. Never a mail address, never a JID; only somebody who
    /// is in no directory has an address for a name ([`PersonId::federated`]).
    PersonId
}
text_id! {
    /// A bare JID, prepared and lower-case, as the Jabber edge gives it.
    JabberId
}
text_id! {
    /// A Webex conversation, by its absolute URL: ids alone do not tell the cluster.
    ConversationId
}
text_id! {
    /// A Webex activity: a UUID.
    ActivityId
}
text_id! {
    /// A stanza id as it stood in the `id` attribute; empty where there was none.
    StanzaId
}
text_id! {
    /// What makes two arrivals one message (rules 2 and 3): derived from what the far side said.
    SourceId
}
text_id! {
    /// The id under which we write something on the other side: a UUID of version 8 (rule 1).
    DerivedId
}
text_id! {
    /// An XMPP stream to an IM and Presence node, new with each stream that is not a resumption.
    ImpStreamId
}

/// What stands before the address of a federated contact.
const FEDERATED: &str = "xmpp:";

impl PersonId {
    /// A federated contact: somebody of another domain, who is in no directory and is known by this address alone.
    #[must_use]
    pub fn federated(address: &JabberId) -> Self {
        Self::new(format!("{FEDERATED}{address}"))
    }

    /// The address of a federated contact; `None`: a person of the directory.
    #[must_use]
    pub fn federated_address(&self) -> Option<&str> {
        self.0.strip_prefix(FEDERATED)
    }

    /// Whether this is a federated contact.
    #[must_use]
    pub fn is_federated(&self) -> bool {
        self.federated_address().is_some()
    }
}

/// Something whose inputs are counted and acknowledged in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamId {
    /// A trusted link or a client stream. Its count outlives the process (XEP-0198).
    Imp(ImpStreamId),
    /// One Mercury socket of one person; the number tells sockets of one run apart.
    Mercury(PersonId, u64),
}

/// The `n`th input of a stream, counted from 1. Acknowledging it acknowledges all before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Upstream {
    /// Where it came from.
    pub stream: StreamId,
    /// Its number on that stream.
    pub n: u64,
}

/// A place in the outbound count of an XMPP stream: the `n`th stanza sent, counted from 1 (rule 11).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The stream.
    pub stream: ImpStreamId,
    /// The 64-bit count, widened from XEP-0198's `h`.
    pub n: u64,
}

/// A committed entry, numbered by the store in order of commit, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId(pub u64);

/// One batch on its way to the store; numbers rise within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// One delivery on its way; numbers rise within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A moment in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub i64);

impl Time {
    /// The moment `millis` later (earlier where negative).
    #[must_use]
    pub fn plus(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// The moment `wait` later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        self.plus(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
    }

    /// The moment `wait` earlier.
    #[must_use]
    pub fn before(self, wait: Duration) -> Self {
        self.plus(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX).saturating_neg())
    }

    /// Milliseconds from `earlier` to here; negative where `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}
