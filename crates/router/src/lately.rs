//! What was delivered to Jabber lately, since a stanza may still come back as failed (rule 11).
//!
//! There are many of these and each stays for minutes, so they are small, and next to nothing of them is allocated on its
//! own: a small piece that stays among many that go keeps the memory around it from being given back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::envelope::Body;
use crate::ids::{ConversationId, DerivedId, EntryId, PersonId, SourceId, Time};
use crate::lane::Live;
use crate::outbound::MaybeSent;
use crate::outbox::{Entry, EntryKind, EntryState, EntrySummary, Lane, TargetRef};

/// How many deliveries are kept in mind.
pub(crate) const LATELY: usize = 10_000;

const DAY: i64 = 24 * 60 * 60 * 1000;

/// What was delivered to Jabber lately.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    /// By the id under which it was written.
    lately: BTreeMap<Id, Sent>,
    /// The names of their conversations, each in memory once.
    conversations: BTreeSet<ConversationId>,
    expired: Option<Time>,
}

/// An id as it stands in memory: nearly all are UUIDs.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Uuid([u8; 16]),
    Other(Arc<str>),
}

impl Id {
    fn of(text: &str) -> Self {
        // What is written in another way is another id.
        match uuid::Uuid::try_parse(text) {
            Ok(uuid) if *uuid.hyphenated().encode_lower(&mut [0; 36]) == *text => {
                Self::Uuid(uuid.into_bytes())
            }
            _ => Self::Other(text.into()),
        }
    }

    fn text(self) -> Arc<str> {
        match self {
            Self::Uuid(bytes) => {
                Arc::from(&*uuid::Uuid::from_bytes(bytes).hyphenated().encode_lower(&mut [0; 36]))
            }
            Self::Other(text) => text,
        }
    }
}

/// As much of a message as it takes to deliver it again.
#[derive(Debug)]
struct Sent {
    /// When it was delivered.
    at: Time,
    id: EntryId,
    place: u64,
    source: Id,
    occurrence: u32,
    part: u32,
    kind: EntryKind,
    sender: PersonId,
    carrier: PersonId,
    conversation: ConversationId,
    time: Time,
    /// What an edit, a notice or a mark refers to.
    target: Option<Box<(TargetRef, Vec<EntrySummary>)>>,
    committed: Time,
    run: u32,
    reported: bool,
    returns: u32,
}

impl Sent {
    /// `None` of what is no message of a conversation with a place in it.
    fn of(live: Live, at: Time) -> Option<(Id, Self)> {
        let (place, Live { entry, targets, returns, .. }) = (live.place()?, live);
        let Lane::ToJabber(conversation) = entry.lane else { return None };
        let sent = Self {
            at,
            id: entry.id,
            place,
            source: Id::of(entry.source.as_str()),
            occurrence: entry.occurrence,
            part: entry.part,
            kind: entry.kind,
            sender: entry.sender,
            carrier: entry.carrier,
            conversation,
            time: entry.time,
            target: entry.target.map(|target| Box::new((target, targets))),
            committed: entry.committed,
            run: entry.run,
            reported: entry.reported,
            returns,
        };
        Some((Id::of(entry.derived.as_str()), sent))
    }

    /// As it waits again, unattempted.
    fn live(self, derived: DerivedId) -> Live {
        let (target, targets) = self.target.map(|target| *target).unzip();
        let entry = Entry {
            id: self.id,
            source: SourceId::new(self.source.text()),
            occurrence: self.occurrence,
            part: self.part,
            derived,
            iv: None,
            lane: Lane::ToJabber(self.conversation.clone()),
            kind: self.kind,
            sender: self.sender,
            recipient: None,
            carrier: self.carrier,
            conversation: Some(self.conversation),
            stanza: None,
            from: None,
            time: self.time,
            stamp: None,
            target,
            committed: self.committed,
            state: EntryState::Waiting(self.place),
            run: self.run,
            attempt: None,
            reported: self.reported,
            body: Body::None,
        };
        let live = Live::new(entry, targets.unwrap_or_default(), MaybeSent::No);
        Live { returns: self.returns, ..live }
    }
}

impl Delivered {
    /// Forgets what was delivered before this; true if that was anything.
    pub(crate) fn forget(&mut self, before: Time) -> bool {
        let count = self.lately.len();
        self.lately.retain(|_, sent| sent.at >= before);
        if self.lately.len() == count {
            return false;
        }
        self.conversations = self.lately.values().map(|sent| sent.conversation.clone()).collect();
        true
    }

    /// When the oldest of what may still come back was committed.
    pub(crate) fn oldest(&self) -> Option<Time> {
        self.lately.values().map(|sent| sent.committed).min()
    }

    /// Whether a day has passed since the ledger was last cleared; then it has not.
    pub(crate) fn expire_due(&mut self, now: Time) -> bool {
        let due = self.expired.is_none_or(|last| now.since(last) >= DAY);
        if due {
            self.expired = Some(now);
        }
        due
    }

    /// Keeps in mind what has been delivered, or was in an earlier run.
    pub(crate) fn note(&mut self, live: Live, now: Time) {
        if self.lately.len() >= LATELY {
            return;
        }
        let Some((id, mut sent)) = Sent::of(live, now) else { return };
        match self.conversations.get(&sent.conversation) {
            Some(known) => sent.conversation = known.clone(),
            None => drop(self.conversations.insert(sent.conversation.clone())),
        }
        self.lately.insert(id, sent);
    }

    /// Which entry was delivered under this id, and how often it had come back before.
    pub(crate) fn find(&self, derived: &DerivedId) -> Option<(EntryId, u32)> {
        self.lately.get(&Id::of(derived.as_str())).map(|sent| (sent.id, sent.returns))
    }

    /// What was delivered under this id, and where its place was: it is going to be delivered again.
    pub(crate) fn take_back(&mut self, derived: &DerivedId) -> Option<(u64, Live)> {
        let sent = self.lately.remove(&Id::of(derived.as_str()))?;
        Some((sent.place, sent.live(derived.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ActivityId;
    use crate::tag::Tagger;

    /// Up to [`LATELY`] of them are kept.
    #[test]
    fn what_may_come_back_takes_less_than_a_third_of_what_waits() {
        let each = size_of::<(Id, Sent)>();
        assert!(each <= 168, "{each} bytes");
        assert!(each * 2 < size_of::<Live>());
    }

    #[test]
    fn an_id_is_kept_as_it_was_written() {
        for text in
            ["", "abc", "0a1b2c3d-0000-8000-8000-0123456789ab", "0A1B2C3D-0000-8000-8000-0123456789AB"]
        {
            assert_eq!(*Id::of(text).text(), *text);
        }
        assert!(matches!(Id::of("0a1b2c3d-0000-8000-8000-0123456789ab"), Id::Uuid(_)));
    }

    fn live(n: u64, target: Option<TargetRef>) -> Live {
        let (source, conversation) =
            (SourceId::new(format!("{n:08x}-0000-4000-8000-00000000000a")), "https://c/1");
        let entry = Entry {
            id: EntryId(n),
            derived: Tagger::new(b"key", &[]).derive("text", &source, 0, 0),
            source,
            occurrence: 1,
            part: 2,
            iv: None,
            lane: Lane::ToJabber(ConversationId::new(conversation)),
            kind: EntryKind::Text,
            sender: PersonId::new("ann"),
            recipient: None,
            carrier: PersonId::new("bot"),
            conversation: Some(ConversationId::new(conversation)),
            stanza: None,
            from: None,
            time: Time(5),
            stamp: None,
            target,
            committed: Time(6),
            state: EntryState::Waiting(n + 100),
            run: 7,
            attempt: None,
            reported: true,
            body: Body::None,
        };
        Live { returns: 3, ..Live::new(entry, Vec::new(), MaybeSent::No) }
    }

    #[test]
    fn what_comes_back_is_as_it_was() {
        let mut delivered = Delivered::default();
        for target in [None, Some(TargetRef::Activity(ActivityId::new("a")))] {
            let before = live(1, target);
            delivered.note(before.clone(), Time(10));
            let derived = before.entry.derived.clone();
            assert_eq!(delivered.find(&derived), Some((EntryId(1), 3)));
            let (place, after) = delivered.take_back(&derived).unwrap();
            assert_eq!((place, after.returns, after.entry), (101, before.returns, before.entry));
            assert_eq!(delivered.find(&derived), None);
        }
    }

    #[test]
    fn so_many_are_kept_and_the_old_make_room() {
        let mut delivered = Delivered::default();
        for n in 0..=LATELY as u64 {
            delivered.note(live(n, None), Time(if n == 0 { 1 } else { 2 }));
        }
        assert_eq!((delivered.lately.len(), delivered.conversations.len()), (LATELY, 1));
        assert!(!delivered.forget(Time(1)) && delivered.forget(Time(2)));
        assert_eq!((delivered.lately.len(), delivered.conversations.len()), (LATELY - 1, 1));
        assert!(delivered.forget(Time(3)));
        assert!(delivered.lately.is_empty() && delivered.conversations.is_empty());
    }
}
