//! All that an edge can tell the router.

use presence_map::Status;

use crate::envelope::{Body, Envelope, Link, Typing};
use crate::ids::{BatchId, ConversationId, ImpStreamId, PersonId, Position, Ticket, Time, Upstream};
use crate::outbox::Novelty;

/// One input of the router.
#[derive(Debug)]
pub enum Inbound {
    /// A message, edit, delete, mark or bounce; `parts` is empty where there is no body.
    Message(Envelope, Vec<Body>, Upstream),
    /// The same, read in a listing: nothing is acknowledged.
    Listed(Envelope, Vec<Body>),
    /// Somebody types, or stopped.
    Typing(Typing, Upstream),
    /// Counted by its stream, nothing to keep (presence, an iq, an event that we do not use).
    Handled(Upstream),
    /// What Webex says about people.
    Statuses(Vec<Observation>),
    /// Who is whom, read whole or in part.
    Directory(Facts),
    /// A link or a client stream came up, was resumed, was refused or got lost.
    Stream(ImpStreamId, StreamEvent),
    /// One user's session on IM and Presence.
    Session(PersonId, SessionEvent),
    /// A catch-up is owed for this person from now on, for this trigger (rule 9); numbers rise. Told again for one, its
    /// hold begins anew.
    Behind(PersonId, u64),
    /// The catch-up for this trigger is complete; the cursor that follows from its last listing.
    CaughtUp(PersonId, u64, Time),
    /// What was written to this person in Webex in this time, in cloud time, is not going to be read (rule 9).
    Gap(PersonId, Time, Time),
    /// The batch is on disk: per input *new* or *repeat*.
    Committed(BatchId, Vec<Novelty>),
    /// The bytes of this delivery are ready: commit the attempt, then answer `Write` or `Skip`.
    /// `None`: a POST of an entry that this run has not said to attempt (rule 10).
    Attempt(Ticket, Option<Position>),
    /// How a delivery ended.
    Receipt(Ticket, Outcome),
    /// An edge's small state that must survive; `None` forgets it. Answered by `Kept(ask)`.
    Keep {
        /// Its name, chosen by the edge, with the edge's own prefix.
        key: Box<str>,
        /// Its value.
        value: Option<Box<[u8]>>,
        /// Told back when it is on disk; 0 asks for no answer.
        ask: u64,
    },
}

/// What Webex says about one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Who.
    pub person: PersonId,
    /// The status, translated from its wire name by the edge.
    pub status: Status,
    /// When the person last used Webex, in cloud time; `None`: never, or not told.
    pub last_active: Option<Time>,
    /// The last activity was seen on a device that we registered (rule 18).
    pub by_our_device: bool,
    /// When the answer was given, in cloud time.
    pub at: Time,
}

/// Facts about people, from AXL and the cloud, or from a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The people that were read.
    pub people: Vec<PersonFacts>,
    /// Everybody was read: who is missing here and was known before is missing indeed.
    pub complete: bool,
}

/// What was read about one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonFacts {
    /// The Webex person.
    pub id: PersonId,
    /// The person's organization is ours.
    pub ours: bool,
    /// The JID, where IM and Presence knows the person.
    pub jid: Option<crate::ids::JabberId>,
    /// The node that homes the person, in the edges' words; empty where any node will do. `None`: another connector
    /// serves the person, so that we know and do not serve.
    pub home: Option<Box<str>>,
    /// The mail address, lower-case.
    pub mail: Box<str>,
    /// The display name.
    pub name: Box<str>,
    /// Entitled for Hybrid Message.
    pub enabled: bool,
    /// Invited to Webex and never signed in.
    pub pending: bool,
    /// We can act as this person in Webex (a token is to be had).
    pub token: bool,
}

/// What happened to a link or a client stream (rule 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// A new stream, with or without stream management.
    Up {
        /// The far side acknowledges (XEP-0198).
        acknowledges: bool,
    },
    /// The stream was resumed; the far side has handled `h` of ours.
    Resumed {
        /// The 64-bit count of our stanzas that arrived.
        h: u64,
    },
    /// It could not be resumed and is over; `h` where the refusal named it.
    Refused {
        /// The 64-bit count of our stanzas that arrived, where known.
        h: Option<u64>,
    },
    /// The connection is lost; it may be resumed later.
    Lost,
}

/// What happened to one user's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// It is being opened, or was resumed with its stream: what it brings is held (rule 8).
    Opening {
        /// The stream that carries it.
        stream: ImpStreamId,
        /// It goes on after a resumption: a stamp on what it brings does not sort.
        resumed: bool,
        /// The server's time at the opening, to compare stamps with.
        at: Time,
    },
    /// The ping sent after the initial presence is back: the opening has ended.
    Settled,
    /// A stanza came for it: holds count their silence from here.
    Active,
    /// It ended, or could not be opened.
    Closed {
        /// Another client took the resource, or the user is unknown: do not open it again.
        for_good: bool,
    },
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It arrived, as this.
    Delivered(Link),
    /// It may or may not have arrived (an unanswered POST; a stanza on a stream without
    /// acknowledgement that was lost). Asked before it is sent again.
    Unknown,
    /// The question was asked, the answer is *absent*, and the settle time is not over (rule 10).
    Unsettled,
    /// It did not arrive and can be tried again.
    Later {
        /// What is in the way; lanes of one cause wait behind one probe.
        cause: Cause,
        /// When the far side named a time (`Retry-After`), in milliseconds from now.
        after: Option<u64>,
    },
    /// It must not be carried after all, for this reason (rule 16).
    Uncarried(Box<str>),
    /// It can never be delivered, for this reason.
    Wedged(Box<str>),
}

/// What is in the way of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The key service does not answer.
    Kms,
    /// There is no usable token for this person.
    Token(PersonId),
    /// This person's session is not open.
    Session(PersonId),
    /// The service at this host is away or limits us.
    Host(Box<str>),
    /// This conversation's key or state has to be read again.
    Conversation(ConversationId),
    /// No client of this person is there in Jabber that could show anything.
    Client(PersonId),
}
