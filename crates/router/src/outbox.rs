//! What must survive, and the trait of whatever makes it survive.
//!
//! The store decides repeats (rule 4): an [`Input`] names its source id, and the answer says whether it
//! is new. Everything else is a [`Change`] that the router has decided.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::entitlement::Client;
use crate::envelope::{Body, Form, Link};
use crate::ids::{
    ActivityId, BatchId, ConversationId, DerivedId, EntryId, ImpStreamId, PersonId, Position, SourceId,
    StanzaId, StreamId, Time,
};
use crate::intake::NEVER_SHOWN;
use crate::tag::Tagger;

/// What is committed together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Answered with.
    pub id: BatchId,
    /// New messages, each with all its parts; answered by one [`Novelty`] each, in order.
    pub inputs: Vec<Input>,
    /// Everything else, carried out in order after the inputs.
    pub changes: Vec<Change>,
}

/// One input: a message that may be new.
#[derive(Clone, Debug)]
pub struct Input {
    /// What makes it the same as another.
    pub source: SourceId,
    /// How a repeat is told.
    pub repeat: Repeat,
    /// Where it goes.
    pub lane: Lane,
    /// Its author.
    pub sender: PersonId,
    /// Its addressee; `None` towards Jabber, where it is looked up at delivery.
    pub recipient: Option<PersonId>,
    /// Whose session or token carries it.
    pub carrier: PersonId,
    /// The stanza id that it came under, for marks on native messages (rule 20).
    pub stanza: Option<StanzaId>,
    /// The full JID of the client that wrote it in Jabber: what goes wrong is told there (rule 21).
    pub from: Option<Box<str>>,
    /// The conversation that it came from, where it came from Webex.
    pub conversation: Option<ConversationId>,
    /// The stamp, the time of publication, or else the arrival.
    pub time: Time,
    /// The stamp by which it sorts when it is released (rule 8); `None`: as it came.
    pub stamp: Option<Time>,
    /// The IV of its sealed text, where it came from Webex: by it a post of ours is known (rule 6).
    pub iv: Option<[u8; 12]>,
    /// Its parts, at least one; each becomes an entry, at consecutive places.
    pub parts: Vec<Part>,
    /// What it refers to: looked up in the same transaction, before its own entries exist.
    pub target: Option<TargetRef>,
    /// Its first entry may be attempted as soon as this is committed, without another word (rule 10).
    pub prompt: bool,
    /// The state in which its entries begin. An input that begins *waiting* and repeats a held message of the
    /// same lane releases that message at its own place, in the same transaction; one that begins *held* and
    /// repeats a held message adds its holders and its stamp to it (rule 8).
    pub state: EntryState,
}

/// One part of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is to the far side.
    pub kind: EntryKind,
    /// Its body; a mark or a notice has none.
    pub body: Body,
}

/// How far apart the times of two arrivals of one message may be (rule 3).
pub const WINDOW: Duration = Duration::from_secs(10 * 60);

/// How a repeat is told (rules 2 and 3).
#[derive(Clone, Debug)]
pub enum Repeat {
    /// The source id alone decides: an activity.
    Exact,
    /// The oldest row with this source id within 10 minutes that this report has not reported yet.
    Window(Report),
}

/// One way in which one message can be reported: the store remembers which have been.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Report {
    /// The stream.
    pub stream: ImpStreamId,
    /// Whose session on it.
    pub session: PersonId,
    /// The form.
    pub form: Form,
    /// It carried a delay stamp.
    pub stamped: bool,
}

/// One direction of one conversation: first in, first out (rule 7).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// Towards Webex, between two people, the smaller id first.
    ToWebex(PersonId, PersonId),
    /// Towards Jabber, from one conversation.
    ToJabber(ConversationId),
    /// What the connector itself tells one person, in this client (rule 21).
    Told(PersonId, Client),
}

impl Lane {
    /// The side that delivers what is in the lane.
    #[must_use]
    pub fn towards(&self) -> Client {
        match self {
            Self::ToWebex(..) => Client::Webex,
            Self::ToJabber(_) => Client::Jabber,
            Self::Told(_, client) => *client,
        }
    }

    /// The lane towards Webex of two people, in either order.
    #[must_use]
    pub fn to_webex(a: &PersonId, b: &PersonId) -> Self {
        if a <= b { Self::ToWebex(a.clone(), b.clone()) } else { Self::ToWebex(b.clone(), a.clone()) }
    }
}

/// What an entry is to the far side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A text to be posted or sent.
    Text,
    /// A link to files shared in Webex, for the Jabber user.
    Files,
    /// The notice that a file was sent in Jabber.
    FileNotice,
    /// The edited text of an earlier activity, sent as a new message.
    Edit,
    /// The notice that a message was deleted.
    DeleteNotice,
    /// A read mark of the carrier on the entry's target.
    Read,
    /// Its writer is told that a message is not delivered and will not be.
    Undelivered,
    /// Its writer is told that a message still waits after a day.
    Late,
    /// Its writer is told that a message was refused, for its writer's rate.
    Refused,
    /// A person is told that spaces of several people are not shown in Jabber.
    SpaceNotice,
    /// A person is told that what the sender writes in Webex is not shown in Jabber.
    HalfNotice,
    /// A person is told that what was written from `time` to `stamp` was not carried.
    GapNotice,
}

/// How an entry fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryState {
    /// Committed, not yet released to its lane (rule 8).
    Held {
        /// Whose opening sessions (towards Webex) or sockets that catch up (towards Jabber) brought it.
        by: Vec<PersonId>,
    },
    /// In its lane, at this place.
    Waiting(u64),
    /// Delivered, as this.
    Done(Option<Link>),
    /// Never to be delivered, for this reason; the body is erased.
    Closed(Box<str>),
}

/// One committed part. What the connector itself tells somebody names the sender, the recipient, the conversation, the
/// stanza and the time of the message that it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number.
    pub id: EntryId,
    /// The source id of its input.
    pub source: SourceId,
    /// Which message of that source id, from 0 (rule 3).
    pub occurrence: u32,
    /// Which part of that message, from 0.
    pub part: u32,
    /// The id under which it is written on the other side (rule 1).
    pub derived: DerivedId,
    /// The IV under which its text is sealed, where it goes to Webex with a text (rule 5).
    pub iv: Option<[u8; 12]>,
    /// Where it goes.
    pub lane: Lane,
    /// What it is to the far side.
    pub kind: EntryKind,
    /// Its author.
    pub sender: PersonId,
    /// Its addressee, where known.
    pub recipient: Option<PersonId>,
    /// Whose session or token carries it.
    pub carrier: PersonId,
    /// The conversation that it came from, where it came from Webex.
    pub conversation: Option<ConversationId>,
    /// The stanza id that it came under.
    pub stanza: Option<StanzaId>,
    /// The full JID of the client that wrote it in Jabber; `None` for what an earlier release committed.
    pub from: Option<Box<str>>,
    /// The stamp, the time of publication, or else the arrival.
    pub time: Time,
    /// The stamp by which it sorts when it is released; `None`: as it came.
    pub stamp: Option<Time>,
    /// What it refers to, where it is an edit, a notice or a mark.
    pub target: Option<TargetRef>,
    /// When it was committed.
    pub committed: Time,
    /// How it fares.
    pub state: EntryState,
    /// The run that may last have attempted it: the one that committed it, where it was prompt, or one that said so
    /// before. 0: none has.
    pub run: u32,
    /// The position of its last attempt towards Jabber.
    pub attempt: Option<Position>,
    /// What tells its sender that it is not delivered was committed (rule 21).
    pub reported: bool,
    /// Its body. [`Storage::load`] leaves it out.
    pub body: Body,
}

impl Input {
    /// The entries of this input, once the store has decided the occurrence. Every [`Storage`] makes
    /// its rows with this, so that ids and IVs are the same everywhere.
    #[must_use]
    pub fn entries(
        &self,
        first: EntryId,
        occurrence: u32,
        now: Time,
        run: u32,
        tagger: &Tagger,
    ) -> Vec<Entry> {
        let to_webex = self.lane.towards() == Client::Webex;
        (0u32..)
            .zip(&self.parts)
            .map(|(part, Part { kind, body })| {
                let derived = tagger.derive(kind.tag(), &self.source, occurrence, part);
                let iv = match body {
                    Body::Clear(text) if to_webex => Some(tagger.iv(&derived, "displayName", text)),
                    _ => None,
                };
                Entry {
                    id: EntryId(first.0 + u64::from(part)),
                    source: self.source.clone(),
                    occurrence,
                    part,
                    derived,
                    iv,
                    lane: self.lane.clone(),
                    kind: kind.clone(),
                    sender: self.sender.clone(),
                    recipient: self.recipient.clone(),
                    carrier: self.carrier.clone(),
                    conversation: self.conversation.clone(),
                    stanza: self.stanza.clone(),
                    from: self.from.clone(),
                    time: self.time,
                    stamp: self.stamp,
                    target: self.target.clone(),
                    committed: now,
                    state: match &self.state {
                        EntryState::Waiting(place) => EntryState::Waiting(place + u64::from(part)),
                        other => other.clone(),
                    },
                    run: if self.prompt && part == 0 { run } else { 0 },
                    attempt: None,
                    reported: false,
                    body: body.clone(),
                }
            })
            .collect()
    }
}

impl Entry {
    /// As much of it as a decision needs.
    #[must_use]
    pub fn summary(&self) -> EntrySummary {
        EntrySummary {
            id: self.id,
            kind: self.kind.clone(),
            state: self.state.clone(),
            lane: self.lane.clone(),
            time: self.time,
            source: self.source.clone(),
            sender: self.sender.clone(),
            conversation: self.conversation.clone(),
            stanza: self.stanza.clone(),
            derived: self.derived.clone(),
        }
    }
}

impl EntrySummary {
    /// Whether all that was ever seen of it is that it had been deleted.
    #[must_use]
    pub fn was_never_shown(&self) -> bool {
        matches!(&self.state, EntryState::Closed(reason) if **reason == *NEVER_SHOWN)
    }

    /// The activity that this message is in Webex, and its conversation: where it came from, or what it
    /// was posted as. `None` while it has not been posted.
    #[must_use]
    pub fn activity(&self) -> Option<(ActivityId, ConversationId)> {
        match (&self.lane, &self.state) {
            (Lane::ToJabber(conversation), _) => {
                Some((ActivityId::new(self.source.as_str()), conversation.clone()))
            }
            (_, EntryState::Done(Some(Link::Activity(activity, conversation)))) => {
                Some((activity.clone(), conversation.clone()))
            }
            _ => None,
        }
    }

    /// The id of the stanza that this message is in Jabber: the one that it came under, or the one that
    /// we wrote it under. `None` where it came under none.
    #[must_use]
    pub fn stanza_id(&self) -> Option<&str> {
        match self.lane {
            Lane::ToJabber(_) => Some(self.derived.as_str()),
            Lane::ToWebex(..) => self.stanza.as_ref().map(StanzaId::as_str),
            Lane::Told(..) => None,
        }
    }
}

impl EntryState {
    /// Whether nothing more will happen to it, unless it comes back.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Closed(_))
    }
}

impl EntryKind {
    /// The word that goes into derived ids; never changed once released (rule 1).
    #[must_use]
    pub fn tag(&self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Files => "files",
            Self::FileNotice => "file-notice",
            Self::Edit => "edit",
            Self::DeleteNotice => "delete-notice",
            Self::Read => "read",
            Self::Undelivered => "undelivered",
            Self::Late => "late",
            Self::Refused => "refused",
            Self::SpaceNotice => "space-notice",
            Self::HalfNotice => "half-notice",
            Self::GapNotice => "gap-notice",
        }
    }

    /// Whether somebody wrote it: what goes wrong with it is told.
    #[must_use]
    pub fn is_written(&self) -> bool {
        matches!(self, Self::Text | Self::Files | Self::FileNotice | Self::Edit)
    }

    /// Whether the connector itself says it.
    #[must_use]
    pub fn is_told(&self) -> bool {
        match self {
            Self::Undelivered
            | Self::Late
            | Self::Refused
            | Self::SpaceNotice
            | Self::HalfNotice
            | Self::GapNotice => true,
            Self::Text | Self::Files | Self::FileNotice | Self::Edit | Self::DeleteNotice | Self::Read => {
                false
            }
        }
    }
}

/// What an input refers to. A lookup gives all its parts, in order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TargetRef {
    /// This activity: the message with this source id (it went to Jabber), or the one that was posted as
    /// it (it came from Jabber); and with it the earlier edits that refer to the same activity.
    Activity(ActivityId),
    /// This stanza: what we wrote under this id, or else the message that its author sent under it.
    Stanza {
        /// Who wrote the stanza, in whosever voice it was sent.
        author: PersonId,
        /// Its id.
        id: StanzaId,
    },
}

/// What the store answers to one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Novelty {
    /// It is new: its entries, part by part.
    New {
        /// The entries.
        entries: Vec<EntryId>,
        /// Which message of its source id it is.
        occurrence: u32,
        /// What it refers to; empty if that is unknown.
        target: Vec<EntrySummary>,
    },
    /// It repeats a message: whose entries these are.
    Repeat {
        /// The entries.
        entries: Vec<EntryId>,
        /// They were held, and this copy has released them at its place.
        released: bool,
    },
    /// It is a post of ours that came back: same IV, same author, no other conversation (rule 6).
    Own(EntrySummary),
}

/// As much of an entry as a decision about it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrySummary {
    /// Its number.
    pub id: EntryId,
    /// What it is to the far side.
    pub kind: EntryKind,
    /// How it fares.
    pub state: EntryState,
    /// Where it goes.
    pub lane: Lane,
    /// The stamp, the time of publication, or else the arrival.
    pub time: Time,
    /// Its source id: the activity, for what came from Webex.
    pub source: SourceId,
    /// Its author.
    pub sender: PersonId,
    /// The conversation that it came from or was posted to.
    pub conversation: Option<ConversationId>,
    /// The stanza id that it came under.
    pub stanza: Option<StanzaId>,
    /// The id under which we wrote it.
    pub derived: DerivedId,
}

/// One decided change.
#[derive(Clone, Debug)]
pub enum Change {
    /// Those of these entries that are still held get their places in their lanes.
    Release(Vec<(EntryId, u64)>),
    /// An entry that waits moves to this place (an edit to that of what it replaces, rule 19).
    Move(EntryId, u64),
    /// This run may write it now, at this position (`None`: a POST).
    Attempt(EntryId, Option<Position>),
    /// It did not arrive: back to its place, unattempted at any position.
    Return(EntryId),
    /// It arrived. Towards Webex its body is erased; towards Jabber [`Change::Erase`] does it, since a
    /// stanza may come back as failed after its receipt (rule 11).
    Done(EntryId, Option<Link>),
    /// It leaves its lane for good; its body is erased.
    Close(EntryId, Box<str>),
    /// It came back as failed: it waits again at this place, unattempted (rule 11).
    Reopen(EntryId, u64),
    /// What tells its sender that it is not delivered is in this batch (rule 21).
    Reported(EntryId),
    /// Erase the bodies of finished entries committed before this.
    Erase(Time),
    /// So much of this stream has been taken over.
    Handled(ImpStreamId, u64),
    /// This stream is over: its count and the positions on it mean nothing any more.
    ForgetStream(ImpStreamId),
    /// How far this person's Webex side has been read; `None` forgets it.
    Cursor(PersonId, Option<Time>),
    /// An edge's small state; `None` forgets it.
    Keep(Box<str>, Option<Box<[u8]>>),
    /// The directory, whole, in the router's own encoding.
    Directory(Box<[u8]>),
    /// What is remembered of this person's presence, in the router's own encoding.
    Presence(PersonId, Box<[u8]>),
    /// Forget links and source ids of finished entries committed before this (rule 22).
    Expire(Time),
}

/// What a store holds at the start of a run.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The number of this run, from 1; it has been committed.
    pub run: u32,
    /// All unfinished entries, without their bodies, in order of their numbers.
    pub entries: Vec<Entry>,
    /// What those of them refer to that have a target.
    pub targets: Vec<(EntryId, Vec<EntrySummary>)>,
    /// What was delivered to Jabber and still has its body, since it may come back as failed (rule 11): without
    /// the body, and in the state in which it waited, in order of numbers.
    pub delivered: Vec<Entry>,
    /// How much of each stream has been taken over.
    pub streams: Vec<(ImpStreamId, u64)>,
    /// How far each person's Webex side has been read.
    pub cursors: Vec<(PersonId, Time)>,
    /// What the edges keep.
    pub kept: Vec<(Box<str>, Box<[u8]>)>,
    /// The last complete directory; `None` in a new store.
    pub directory: Option<Box<[u8]>>,
    /// What is remembered of people's presence.
    pub presence: Vec<(PersonId, Box<[u8]>)>,
    /// Places below this one have been given out.
    pub next_place: u64,
}

/// One entry, and what it refers to, as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The entry, with its body.
    pub entry: Entry,
    /// What its target is now; empty where it has none, or where that is unknown.
    pub target: Vec<EntrySummary>,
}

/// Why a store failed. After a failed commit its effect is unknown and the process ends (rule 12).
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct StorageError {
    /// What failed, and what to do, without any content.
    pub what: String,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Whatever makes batches survive. Synchronous: the hub gives it a thread of its own.
pub trait Storage: Send {
    /// Begins a run: numbers it, and gives what is there.
    ///
    /// # Errors
    /// The store cannot be read.
    fn load(&mut self, now: Time) -> Result<Loaded, StorageError>;

    /// Commits batches, all or none, in order; answers each batch's inputs in order.
    ///
    /// # Errors
    /// The effect is unknown: the caller must end the process.
    fn commit(&mut self, batches: &[Batch], now: Time) -> Result<Vec<Vec<Novelty>>, StorageError>;

    /// One entry with its body and its target; `None` if there is none by this number.
    ///
    /// # Errors
    /// The store cannot be read.
    fn entry(&mut self, id: EntryId) -> Result<Option<Stored>, StorageError>;

    /// What a reference means now; empty where it means nothing that is known.
    ///
    /// # Errors
    /// The store cannot be read.
    fn target(&mut self, target: &TargetRef) -> Result<Vec<EntrySummary>, StorageError>;

    /// Bytes that may still be written before intake has to stop (rule 13); `None`: not bounded.
    fn room(&self) -> Option<u64> {
        None
    }
}

/// Whose count a [`StreamId`] is, if the store keeps it.
#[must_use]
pub fn durable(stream: &StreamId) -> Option<&ImpStreamId> {
    match stream {
        StreamId::Imp(id) => Some(id),
        StreamId::Mercury(..) => None,
    }
}
