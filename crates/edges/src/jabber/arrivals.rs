//! What comes for the sessions of a link: stanzas, answers to what they asked, and what comes back.

use router::envelope::{Envelope, Form, JabberOrigin, Kind, Origin};
use router::ids::{JabberId, PersonId, StanzaId, Upstream};
use router::inbound::{Inbound, SessionEvent};
use tokio::time::Instant;
use xmpp_core::Element;
use xmpp_core::session_control::SessionIds;

use super::archive;
use super::intake::{self, Me, Reading};
use super::link::Link;
use super::outgoing::Purpose;
use super::session::Step;
use crate::crash;

impl Link {
    /// A session's ids are on disk.
    pub(super) fn session_kept(&mut self, ask: u64, now: Instant) {
        let Some(person) = self.asks.remove(&ask) else { return };
        match self.sessions.get_mut(&person).map(|session| &mut session.step) {
            Some(Step::Preparing { ask: awaited, .. }) if *awaited == Some(ask) => {
                crash::point(crash::SESSION_KEPT);
                *awaited = None;
            }
            _ => return,
        }
        self.drive(&person, now);
    }

    /// A stanza came for a session.
    pub(super) fn stanza(&mut self, person: &PersonId, stanza: &Element, upstream: Upstream, now: Instant) {
        let Some(session) = self.sessions.get_mut(person) else {
            self.intake.push_back(Inbound::Handled(upstream));
            return;
        };
        let archived = archive::id_of(stanza, &session.jid.to_bare());
        if let Some(id) = archived {
            self.archive_is_known(person, id, now);
        }
        if self.archive_answered(person, stanza, now) {
            self.intake.push_back(Inbound::Handled(upstream));
            return;
        }
        let shared = self.is_trusted();
        let Some(session) = self.sessions.get_mut(person) else { return };
        let archive = match &session.step {
            Step::Settling { archive: Some(query), .. } if query.carries => Some(&*query.id),
            _ => None,
        };
        let me = Me { person, jid: &session.jid, utc_offset: self.shared.config.utc_offset, archive };
        match intake::read(stanza, &me, &upstream, self.shared.clock.now()) {
            Reading::Inbound(inbound) => return self.intake.push_back(*inbound),
            Reading::Client { jid, priority } => {
                session.client(jid, priority);
                self.drive(person, now);
            }
            Reading::Answer(_) if shared && !session.may_answer(now) => {
                tracing::debug!(%person, "too much is asked");
            }
            Reading::Answer(answer) => {
                let ids = session.ids.clone();
                let answer = self.wrap(ids.as_ref(), answer);
                self.outgoing.push(Purpose::Other, answer);
            }
            Reading::Response { id, ok } => self.response(person, &id, ok, now),
            Reading::Ignored(why) => tracing::debug!(%person, why, "not carried"),
        }
        if self.sessions.get(person).is_some_and(|session| !matches!(session.step, Step::Settled)) {
            self.intake.push_back(Inbound::Session(person.clone(), SessionEvent::Active));
        }
        self.intake.push_back(Inbound::Handled(upstream));
    }

    /// A request of ours was answered.
    fn response(&mut self, person: &PersonId, id: &str, ok: bool, now: Instant) {
        self.lower_barrier(id, now);
        let Some(session) = self.sessions.get_mut(person) else { return };
        match &mut session.step {
            Step::Preparing { carbons, .. } if carbons.as_deref() == Some(id) => {
                if !ok {
                    tracing::warn!(%person, "no carbons: what other clients do is not seen");
                }
                *carbons = None;
                session.without_copies = !ok;
            }
            Step::Settling { ping, .. } if ping.as_deref() == Some(id) => {
                *ping = None;
                return self.settled_if_done(person, now);
            }
            Step::Doubted { ping, settled } if &**ping == id => {
                let settled = *settled;
                let Some(mut session) = self.sessions.remove(person) else { return };
                match settled {
                    true => session.go(Step::Settled, now),
                    false => self.settle(person, &mut session, now),
                }
                self.sessions.insert(person.clone(), session);
                self.keep_session(person);
            }
            _ => return,
        }
        self.drive(person, now);
    }

    /// Ends an opening whose ping and whose archive have been answered.
    pub(super) fn settled_if_done(&mut self, person: &PersonId, now: Instant) {
        let Some(session) = self.sessions.get_mut(person) else { return };
        if matches!(session.step, Step::Settling { ping: None, archive: None }) {
            crash::point(crash::SESSION_SETTLED);
            session.go(Step::Settled, now);
            session.tries = 0;
            self.intake.push_back(Inbound::Session(person.clone(), SessionEvent::Settled));
            self.keep_session(person);
        }
        self.drive(person, now);
    }

    /// A stanza of ours came back, as one of a session that the server does not know, and that may be over here
    /// too by now.
    pub(super) fn bounced(&mut self, ids: &SessionIds, stanza: &Element, upstream: Upstream, now: Instant) {
        let id = stanza.attr("id").unwrap_or_default();
        if stanza.name() != "message" {
            self.lower_barrier(id, now);
            self.intake.push_back(Inbound::Handled(upstream));
            return self.ended(ids, false, now);
        }
        self.outgoing.came_back(id);
        let person = self.by_ids.get(&ids.ours).cloned();
        // The id alone says what it is about, whoever sent it.
        let (session, own) = (person.clone().unwrap_or(PersonId::new("")), JabberId::new(""));
        let origin = JabberOrigin {
            session,
            form: Form::Direct,
            from: "".into(),
            from_bare: own.clone(),
            to: own,
            stanza: StanzaId::new(id),
            origin_id: None,
            text_hash: intake::hash(""),
            stamp: None,
        };
        let kind = Kind::Bounced { of: StanzaId::new(id), condition: "session-ended".into() };
        let envelope = Envelope { origin: Origin::Jabber(origin), kind, arrived: self.shared.clock.now() };
        self.intake.push_back(Inbound::Message(envelope, Vec::new(), upstream));
        let Some(person) = person else { return };
        let Some(mut session) = self.sessions.remove(&person) else { return };
        if session.sends() {
            let settled = matches!(session.step, Step::Settled);
            let ping = self.send_ping(&person, &session);
            session.go(Step::Doubted { ping, settled }, now);
        }
        self.sessions.insert(person.clone(), session);
        self.drive(&person, now);
    }
}
