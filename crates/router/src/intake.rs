//! What an input becomes: decided from its envelope, the directory and who is awake, never from its text.

use std::sync::Arc;
use std::time::Duration;

use ring::digest;

use crate::directory::{Directory, Person};
use crate::entitlement::{Client, Party, judge};
use crate::envelope::{Body, Envelope, JabberOrigin, Kind, Marked, Origin, WebexOrigin};
use crate::held::Holds;
use crate::ids::{ActivityId, ConversationId, ImpStreamId, JabberId, PersonId, SourceId, StanzaId, Time};
use crate::outbox::{EntryKind, EntryState, Input, Lane, Part, Repeat, Report, TargetRef};
use crate::tag::Tagger;

/// What an input becomes.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Entries, in a state still to be decided; or a note that keeps later ones from being carried.
    Carry(Box<Input>),
    /// Something that we wrote in Webex is back: a receipt.
    OwnPost { written: Box<str>, activity: ActivityId, conversation: ConversationId },
    /// Something that we wrote in Jabber is back, or a copy of it: nothing.
    OwnStanza,
    /// A stanza of ours failed; `outside`: a federated contact's server says so.
    Bounced { of: StanzaId, condition: Box<str>, outside: bool },
    /// Nothing, by this rule.
    NotCarried(&'static str),
}

/// What a decision rests on.
pub(crate) struct Facts<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) holds: &'a Holds,
    pub(crate) tagger: &'a Tagger,
    pub(crate) deliver_to_pending: bool,
    pub(crate) bot: bool,
    pub(crate) federation: Option<&'a [Box<str>]>,
    pub(crate) retention: Duration,
    pub(crate) now: Time,
}

const UNKNOWN: &str = "LIC-07: somebody who is not in the directory";
const GROUP: &str = "GRP-01: not a conversation of two";
const ONESELF: &str = "rule 3: a message to oneself";
const STRANGER: &str = "rule 3: a copy on the session of neither";
const OLDER: &str = "rule 17: older than the enablement or the JID";
const EXPIRED: &str = "rule 22: older than source ids are kept";
const NO_JID: &str = "rule 16: the sender is not homed here";
const ELSEWHERE: &str = "CAP-23: the sender's session is another connector's to carry";
const NO_BOT: &str = "SC-22: a federated contact, and there is no bot (webex.bot_token_file)";
const EMPTY: &str = "nothing to carry in it";

/// A federated contact, to the verdict: a Jabber user who is not enabled. What has no Webex account is in no other
/// organization of Webex.
const FEDERATED: Party = Party { ours: true, enabled: false, awake: false, in_webex: false };

/// A stamp may have been cut to whole seconds.
const STAMP_STEP: Duration = Duration::from_secs(1);

/// Decides what an input becomes.
pub(crate) fn decide(
    envelope: &Envelope,
    parts: Vec<Body>,
    stream: Option<&ImpStreamId>,
    facts: &Facts<'_>,
) -> Decision {
    let decided = match &envelope.origin {
        Origin::Jabber(origin) => facts.jabber(envelope, origin, parts, stream),
        Origin::Webex(origin) => facts.webex(envelope, origin, parts),
    };
    decided.unwrap_or_else(Decision::NotCarried)
}

impl Facts<'_> {
    fn jabber(
        &self,
        envelope: &Envelope,
        origin: &JabberOrigin,
        parts: Vec<Body>,
        stream: Option<&ImpStreamId>,
    ) -> Result<Decision, &'static str> {
        if let Kind::Bounced { of, condition } = &envelope.kind {
            let outside = self.is_outside(&origin.from_bare);
            return Ok(Decision::Bounced { of: of.clone(), condition: condition.clone(), outside });
        }
        let ours = |id: &str| self.tagger.is_ours(id);
        if ours(origin.stanza.as_str()) || origin.origin_id.as_deref().is_some_and(ours) {
            return Ok(Decision::OwnStanza);
        }
        let author = self.directory.by_jid(&origin.from_bare);
        let recipient = self.directory.by_jid(&origin.to).ok_or(UNKNOWN)?;
        let sender = match author {
            Some(author) => author.id.clone(),
            None => self.federated(&origin.from_bare)?,
        };
        if sender == recipient.id {
            return Err(ONESELF);
        }
        let both = [author.unwrap_or(recipient), recipient];
        let Some(session) = both.iter().find(|p| p.id == origin.session) else {
            return Err(STRANGER);
        };
        if author.is_some_and(|author| author.served_elsewhere()) {
            return Err(ELSEWHERE);
        }
        self.young_enough(origin.stamp, session, &both)?;
        let awake = |person: &Arc<Person>| Party {
            awake: person.id == origin.session || self.holds.is_open(&person.id),
            ..self.party(person)
        };
        let verdict = judge(author.map_or(FEDERATED, awake), Client::Jabber, awake(recipient), Client::Webex);
        verdict.carrier.ok_or(verdict.rule)?;

        let lane = Lane::to_webex(&sender, &recipient.id);
        let time = origin.stamp.unwrap_or(envelope.arrived);
        let input = Input {
            source: SourceId::new(""),
            repeat: Repeat::Exact,
            lane,
            sender: sender.clone(),
            recipient: Some(recipient.id.clone()),
            carrier: sender.clone(),
            stanza: None,
            from: Some(origin.from.clone()),
            conversation: None,
            time,
            stamp: origin.stamp,
            iv: None,
            parts: Vec::new(),
            target: None,
            prompt: false,
            state: EntryState::Closed("".into()),
        };
        let kind = match &envelope.kind {
            Kind::Text => EntryKind::Text,
            Kind::FileNotice => EntryKind::FileNotice,
            // In Webex a mark is made as its reader, and a federated contact is nobody there.
            Kind::Read(Marked::Stanza(id)) if author.is_some() => {
                return Ok(Decision::Carry(Box::new(Input {
                    source: SourceId::new(format!("read/{sender}/{}/{id}", recipient.id)),
                    parts: vec![Part { kind: EntryKind::Read, body: Body::None }],
                    target: Some(TargetRef::Stanza { author: recipient.id.clone(), id: id.clone() }),
                    ..input
                })));
            }
            _ => return Err(EMPTY),
        };
        if parts.is_empty() {
            return Err(EMPTY);
        }
        Ok(Decision::Carry(Box::new(Input {
            source: jabber_source(&origin.from, &recipient.id, &origin.stanza, &origin.text_hash),
            repeat: Repeat::Window(Report {
                // What an archive lists has come on no stream.
                stream: stream.cloned().unwrap_or_else(|| ImpStreamId::new("")),
                session: origin.session.clone(),
                form: origin.form,
                stamped: origin.stamp.is_some(),
            }),
            stanza: Some(origin.stanza.clone()).filter(|id| !id.as_str().is_empty()),
            parts: parts.into_iter().map(|body| Part { kind: kind.clone(), body }).collect(),
            ..input
        })))
    }

    fn webex(
        &self,
        envelope: &Envelope,
        origin: &WebexOrigin,
        parts: Vec<Body>,
    ) -> Result<Decision, &'static str> {
        if let Some(id) = origin.client_temp_id.as_deref().filter(|id| self.tagger.is_ours(id)) {
            return Ok(Decision::OwnPost {
                written: id.into(),
                activity: origin.activity.clone(),
                conversation: origin.conversation.clone(),
            });
        }
        if !origin.one_on_one {
            return Err(GROUP);
        }
        let sender = self.directory.by_person(&origin.actor).ok_or(UNKNOWN)?;
        // Who the recipient is shows at delivery; the verdict towards Jabber does not depend on it.
        let other = self.directory.by_person(&origin.socket).filter(|p| p.id != sender.id);
        let recipient = other
            .map_or(Party { ours: true, enabled: false, awake: false, in_webex: true }, |person| {
                self.party(person)
            });
        let verdict = judge(self.party(sender), Client::Webex, recipient, Client::Jabber);
        verdict.carrier.ok_or(verdict.rule)?;
        if sender.served_elsewhere() {
            return Err(ELSEWHERE);
        }
        if sender.jid.is_none() {
            return Err(NO_JID);
        }
        // That something older was deleted is noted: it was never shown, and whoever deletes or edits it is not told of.
        let noted = envelope.kind == Kind::Tombstone;
        if !noted && sender.enabled_since.is_none_or(|since| origin.published < since) {
            return Err(OLDER);
        }
        let with = |kind: EntryKind| move |body| Part { kind: kind.clone(), body };
        let notice = Part { kind: EntryKind::DeleteNotice, body: Body::None };
        let mut source = SourceId::new(origin.activity.as_str());
        let mut target = None;
        let mut state = EntryState::Held { by: Vec::new() };
        let parts: Vec<Part> = match &envelope.kind {
            Kind::Text => parts.into_iter().map(with(EntryKind::Text)).collect(),
            Kind::Files => parts.into_iter().map(with(EntryKind::Files)).collect(),
            Kind::Edit { of } => {
                target = Some(TargetRef::Activity(of.clone()));
                let edited = parts.into_iter().map(with(EntryKind::Edit));
                edited.chain(std::iter::once(notice)).collect()
            }
            Kind::Delete { of } => {
                target = Some(TargetRef::Activity(of.clone()));
                vec![notice]
            }
            Kind::Tombstone => {
                state = EntryState::Closed(NEVER_SHOWN.into());
                vec![Part { kind: EntryKind::Text, body: Body::None }]
            }
            Kind::Read(Marked::Activity(of)) => {
                source = SourceId::new(format!("read/{}/{of}", sender.id));
                target = Some(TargetRef::Activity(of.clone()));
                vec![Part { kind: EntryKind::Read, body: Body::None }]
            }
            _ => Vec::new(),
        };
        if parts.is_empty() {
            return Err(EMPTY);
        }
        Ok(Decision::Carry(Box::new(Input {
            source,
            repeat: Repeat::Exact,
            lane: Lane::ToJabber(origin.conversation.clone()),
            sender: sender.id.clone(),
            recipient: None,
            carrier: sender.id.clone(),
            stanza: None,
            from: None,
            conversation: Some(origin.conversation.clone()),
            time: origin.published,
            stamp: None,
            iv: origin.iv,
            parts,
            target,
            prompt: false,
            state,
        })))
    }

    /// Somebody of another domain who is in no directory, if what such people write is carried.
    fn federated(&self, address: &JabberId) -> Result<PersonId, &'static str> {
        match self.is_outside(address) {
            false => Err(UNKNOWN),
            true if !self.bot => Err(NO_BOT),
            true => Ok(PersonId::federated(address)),
        }
    }

    /// Whether this is a federated contact's address. Below a domain of ours are its rooms and services.
    fn is_outside(&self, address: &JabberId) -> bool {
        let (Some(own), Some((_, domain))) = (self.federation, address.as_str().split_once('@')) else {
            return false;
        };
        let is_in =
            |own: &str| domain.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        self.directory.by_jid(address).is_none() && !own.iter().any(|own| is_in(own))
    }

    /// Rules 17 and 22, for what comes from Jabber. What is not stamped is of now.
    fn young_enough(
        &self,
        stamp: Option<Time>,
        session: &Person,
        both: &[&Arc<Person>],
    ) -> Result<(), &'static str> {
        let Some(stamp) = stamp else { return Ok(()) };
        if stamp < self.now.before(self.retention) {
            return Err(EXPIRED);
        }
        let newest = both.iter().filter_map(|p| p.jid_since).chain(session.enabled_since).max();
        if newest.is_some_and(|since| stamp.after(STAMP_STEP) < since) {
            return Err(OLDER);
        }
        Ok(())
    }

    pub(crate) fn party(&self, person: &Person) -> Party {
        Party {
            ours: person.ours,
            enabled: person.enabled,
            awake: self.holds.is_open(&person.id),
            in_webex: !person.pending || self.deliver_to_pending,
        }
    }
}

/// Why an activity that was deleted before it was ever committed is closed.
pub(crate) const NEVER_SHOWN: &str = "deleted before it was shown";

/// The source id of what was written in Jabber (rule 3).
#[must_use]
pub fn jabber_source(from: &str, recipient: &PersonId, stanza: &StanzaId, text_hash: &[u8; 32]) -> SourceId {
    let mut hash = digest::Context::new(&digest::SHA256);
    let fields = [from.as_bytes(), recipient.as_str().as_bytes(), stanza.as_str().as_bytes(), text_hash];
    for field in fields {
        let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
        hash.update(&length.to_be_bytes());
        hash.update(field);
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finish().as_ref() {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
    SourceId::new(text)
}
