//! What the connector itself tells people (rule 21): that a message is not delivered, in the client in which it was
//! written, and what they would not find out by themselves.
//!
//! What is told is an entry like any other. It is committed together with what it tells of, so that no crash comes
//! between, and its source id says what it is about, so that it is told once.

use crate::entitlement::Client;
use crate::envelope::{Body, Kind, WebexOrigin};
use crate::ids::{PersonId, SourceId, Time};
use crate::machine::Router;
use crate::outbox::{Change, Entry, EntryKind, EntryState, Input, Lane, Part, Repeat};

impl Router {
    /// Tells the writer of an entry, once for all parts of the message, that it is not delivered.
    pub(crate) fn tell_writer(&mut self, entry: &Entry, kind: EntryKind, now: Time) {
        if !entry.kind.is_written() {
            return;
        }
        let writer = entry.sender.clone();
        let (client, carrier) = match entry.lane.towards() {
            Client::Webex => {
                // One that does not know the client can only speak to its own.
                let other = entry.recipient.as_ref().filter(|_| entry.from.is_some());
                let soon = now < entry.committed.after(self.config.times.bounce);
                (Client::Jabber, self.teller(&writer, other, soon))
            }
            Client::Jabber => (Client::Webex, self.config.bot.then(|| writer.clone())),
        };
        let Some(carrier) = carrier else {
            return self.count("people whom nobody can tell of their message");
        };
        self.outgoing.change(Change::Reported(entry.id));
        self.tell(Input {
            source: SourceId::new(format!("told/{}/{}", entry.source, entry.occurrence)),
            repeat: Repeat::Exact,
            lane: Lane::Told(writer, client),
            sender: entry.sender.clone(),
            recipient: entry.recipient.clone(),
            carrier,
            stanza: entry.stanza.clone(),
            from: entry.from.clone(),
            conversation: entry.conversation.clone(),
            time: entry.time,
            stamp: None,
            iv: None,
            parts: vec![part(kind)],
            target: None,
            prompt: false,
            state: EntryState::Waiting(0),
        });
    }

    /// A message that is refused for its writer's rate becomes what tells of that, under its own source id, so that
    /// no copy of it is carried (rule 13).
    pub(crate) fn refusal(&mut self, message: Input, session: &PersonId) -> Input {
        let carrier = self.teller(&message.sender, message.recipient.as_ref(), true);
        Input {
            lane: Lane::Told(message.sender.clone(), Client::Jabber),
            carrier: carrier.unwrap_or_else(|| session.clone()),
            parts: vec![part(EntryKind::Refused)],
            state: EntryState::Waiting(self.places(1)),
            ..message
        }
    }

    /// Whose session tells somebody in Jabber. Soon after the message the client that wrote it is certainly there, and
    /// hears it from the person to whom it wrote. Later only the writer's own session sees which clients are there.
    fn teller(&self, writer: &PersonId, other: Option<&PersonId>, soon: bool) -> Option<PersonId> {
        let mut people: Vec<&PersonId> = [writer].into_iter().chain(other).collect();
        if soon {
            people.reverse();
        }
        let served = |person: &&&PersonId| self.directory.by_person(person).is_some_and(|p| p.served());
        let open = people.iter().find(|person| self.holds.is_open(person));
        open.or_else(|| people.iter().find(served)).map(|person| (*person).clone())
    }

    /// Somebody got something in Webex that the rules do not carry, and would not notice in Jabber.
    pub(crate) fn left_in_the_dark(&mut self, origin: &WebexOrigin, kind: &Kind) {
        let (person, author) = (&origin.socket, &origin.actor);
        let is_message = matches!(kind, Kind::Text | Kind::Files);
        let served = |person| self.directory.by_person(person).is_some_and(|p| p.served());
        if !is_message || person == author || !served(person) {
            return;
        }
        let half = |p: &std::sync::Arc<crate::directory::Person>| p.ours && !p.enabled;
        if !origin.one_on_one {
            // Whoever uses Webex sees the space there (GRP-11).
            if !self.presence.wants_open(person) {
                self.notice(EntryKind::SpaceNotice, person.clone(), None, (origin.published, None));
            }
        } else if self.directory.by_person(author).is_some_and(half) {
            let author = Some(author.clone());
            self.notice(EntryKind::HalfNotice, person.clone(), author, (origin.published, None));
        }
    }

    /// What was written to this person in this time is not going to be read.
    pub(crate) fn gap(&mut self, person: PersonId, from: Time, to: Time) {
        self.count("gaps of more than 72 hours");
        self.notice(EntryKind::GapNotice, person, None, (from, Some(to)));
    }

    /// Tells somebody in Webex, where that is wanted and possible.
    fn notice(
        &mut self,
        kind: EntryKind,
        person: PersonId,
        about: Option<PersonId>,
        (time, stamp): (Time, Option<Time>),
    ) {
        if !(self.config.bot && self.config.notices) {
            return;
        }
        let source = match kind {
            EntryKind::GapNotice => format!("{}/{person}/{}", kind.tag(), time.0),
            _ => format!("{}/{person}", kind.tag()),
        };
        let source = SourceId::new(source);
        // The store would tell, but need not be asked about every message of a busy space.
        if !self.noticed.insert(source.clone()) {
            return;
        }
        self.tell(Input {
            source,
            repeat: Repeat::Exact,
            lane: Lane::Told(person.clone(), Client::Webex),
            sender: about.unwrap_or_else(|| person.clone()),
            recipient: None,
            carrier: person,
            stanza: None,
            from: None,
            conversation: None,
            time,
            stamp,
            iv: None,
            parts: vec![part(kind)],
            target: None,
            prompt: false,
            state: EntryState::Waiting(0),
        });
    }

    /// Goes into the next batch, with the changes that it tells of.
    fn tell(&mut self, input: Input) {
        if self.outgoing.told.contains_key(&input.source) {
            return;
        }
        let state = EntryState::Waiting(self.places(1));
        self.outgoing.told.insert(input.source.clone(), Input { state, ..input });
        self.outgoing.urgent = true;
    }
}

fn part(kind: EntryKind) -> Part {
    Part { kind, body: Body::None }
}
