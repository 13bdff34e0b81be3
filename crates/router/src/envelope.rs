//! Everything about a message but its text: what the router decides on.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{ActivityId, ConversationId, DerivedId, JabberId, PersonId, StanzaId, Time};

/// Everything that an edge knows of one input besides its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Where it was read, and what stood on it.
    pub origin: Origin,
    /// What it is.
    pub kind: Kind,
    /// When the edge read it.
    pub arrived: Time,
}

/// Where an input was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On a session that we hold on IM and Presence.
    Jabber(JabberOrigin),
    /// On a Mercury socket, or in a listing.
    Webex(WebexOrigin),
}

/// What stood on a stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JabberOrigin {
    /// Whose session brought it.
    pub session: PersonId,
    /// In which form it came (rule 3).
    pub form: Form,
    /// The author's full JID as the server stamped it, prepared.
    pub from: Box<str>,
    /// The author's bare JID.
    pub from_bare: JabberId,
    /// The addressee's bare JID.
    pub to: JabberId,
    /// The `id` attribute.
    pub stanza: StanzaId,
    /// The `origin-id` (XEP-0359), where there was one.
    pub origin_id: Option<Box<str>>,
    /// SHA-256 of the text as it stood in the body, before any prefix of ours.
    pub text_hash: [u8; 32],
    /// The delay stamp (XEP-0203), where there was one.
    pub stamp: Option<Time>,
}

/// The form in which a stanza reaches a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Form {
    /// Addressed to the session itself.
    Direct,
    /// A carbon of what another client of the user received (XEP-0280).
    Received,
    /// A carbon of what another client of the user sent (XEP-0280).
    Sent,
    /// Out of the user's archive (XEP-0313), whoever wrote it.
    Archived,
}

/// What stood on an activity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebexOrigin {
    /// On whose socket, or in whose listing, it was read.
    pub socket: PersonId,
    /// Live or by catch-up.
    pub via: Via,
    /// The activity.
    pub activity: ActivityId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// The conversation carries the tag `ONE_ON_ONE`.
    pub one_on_one: bool,
    /// Its author.
    pub actor: PersonId,
    /// When the cloud stored it.
    pub published: Time,
    /// The client's own id, where the cloud still shows it.
    pub client_temp_id: Option<Box<str>>,
    /// The IV of its sealed text, by which a post of ours is known (rule 6).
    pub iv: Option<[u8; 12]>,
}

/// How an activity came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Over the Mercury socket.
    Socket,
    /// In a listing of the catch-up with this trigger number (rule 9).
    CatchUp(u64),
}

/// What an input is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text, in one or more parts.
    Text,
    /// Files shared in Webex: the parts are the lines that a Jabber user reads.
    Files,
    /// A file sent in Jabber by managed file transfer: the notice for the Webex user.
    FileNotice,
    /// A new text for an earlier activity.
    Edit {
        /// The activity that it replaces.
        of: ActivityId,
    },
    /// An activity was deleted by its author.
    Delete {
        /// The deleted activity.
        of: ActivityId,
    },
    /// In a listing: this activity was deleted, and nothing of it is left to carry (rule 19).
    Tombstone,
    /// Somebody read up to here.
    Read(Marked),
    /// A stanza of ours came back as an error.
    Bounced {
        /// The id of the stanza that failed.
        of: StanzaId,
        /// The error condition (RFC 6120 §8.3.3), or `session-ended` where it was the sender's own session
        /// that the server did not know any more.
        condition: Box<str>,
    },
}

/// What a read mark points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marked {
    /// An activity, marked in Webex by the actor.
    Activity(ActivityId),
    /// A stanza, marked in Jabber by its reader; the author is the addressee of the mark.
    Stanza(StanzaId),
}

/// The body of one part: the router carries it and reads none of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Nothing to carry (a mark, a delete), or erased with its receipt (rule 13).
    None,
    /// Plain text from Jabber, as it is to be posted; sealed at rest by the store.
    Clear(Arc<str>),
    /// A compact JWE from Webex, under the key at `key`.
    Sealed {
        /// The key's URI (`kms://…`).
        key: Arc<str>,
        /// The JWE as it came.
        jwe: Arc<str>,
    },
}

impl fmt::Debug for Body {
    /// Prints sizes, never content, so that an entry is safe in any log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Clear(text) => write!(f, "Clear({} bytes)", text.len()),
            Self::Sealed { jwe, .. } => write!(f, "Sealed({} bytes)", jwe.len()),
        }
    }
}

/// A passing hint: never stored, never missed (typing).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typing {
    /// Where it was seen.
    pub from: TypingOrigin,
    /// Started, or stopped.
    pub active: bool,
    /// It carried a delay stamp, so it is stale (docs/protocol/xmpp.md: servers replay chat states).
    pub stale: bool,
}

/// Who types, as the edge saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypingOrigin {
    /// A chat state (XEP-0085) on a session.
    Jabber {
        /// Whose session brought it.
        session: PersonId,
        /// The typing user's bare JID.
        from: JabberId,
        /// The addressee's bare JID.
        to: JabberId,
        /// The id of the stanza, by which our own is known.
        stanza: StanzaId,
    },
    /// A typing event on a Mercury socket.
    Webex {
        /// Whose socket brought it.
        socket: PersonId,
        /// Who types.
        actor: PersonId,
        /// Where.
        conversation: ConversationId,
    },
}

/// The two halves of a delivered message that refer to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Link {
    /// What the entry became in Webex, and where.
    Activity(ActivityId, ConversationId),
    /// The id of the stanza that carried it to Jabber.
    Stanza(DerivedId),
}
