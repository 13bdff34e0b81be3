//! The sessions of a link: opened under the limit, published when it differs, ended, opened again.

use std::time::Duration;

use router::ids::PersonId;
use router::inbound::{Cause, Inbound, Outcome, SessionEvent};
use router::outbound::Wanted;
use tokio::time::Instant;
use xmpp_core::session_control::SessionIds;
use xmpp_core::{Element, FullJid};

use super::config::backoff;
use super::kept::{self, KeptPresence, KeptSession};
use super::link::{Carriage, Link};
use super::nodes::News;
use super::outgoing::{Purpose, Ready};
use super::session::{Prepared, Session, Step, Turn};
use super::turns::Rank;
use super::words;
use crate::crash;

/// How long a server may take to answer one step of an opening or an ending; then the session is opened
/// anew (rule 8).
const STEP: Duration = Duration::from_secs(60);
/// How often a node of a pair is asked for a session without waiting for longer each time.
const PATIENT: u32 = 4;
/// Why somebody has no session: it is not fought for.
pub(super) const TAKEN: &str = "another client has taken the session";
/// And this would be somebody else's.
pub(super) const ANOTHER: &str = "another session was bound than asked for";

impl Link {
    /// The state wanted of a session, and the JID that it is to have.
    pub(super) fn want(&mut self, person: PersonId, jid: FullJid, wanted: Wanted, now: Instant) {
        let new = || Box::new(Session::new(jid.clone(), now));
        let session = self.sessions.entry(person.clone()).or_insert_with(new);
        session.next_jid = (session.jid != jid).then_some(jid);
        if wanted == Wanted::Closed {
            session.barred = false;
        }
        session.wanted = Some(wanted);
        // Its urgency is another now.
        for turn in [&mut session.turn, &mut self.turn] {
            if *turn == Turn::Asked {
                *turn = Turn::Unasked;
            }
        }
        self.drive(&person, now);
    }

    /// It is a person's turn; what the person waited for may be over.
    pub(super) fn turn(&mut self, person: &PersonId, now: Instant) {
        if self.turn == Turn::Asked {
            self.turn = if self.wants_connection() { Turn::Given } else { Turn::Unasked };
            return;
        }
        let Some(session) = self.sessions.get_mut(person) else { return };
        if session.turn == Turn::Asked {
            session.turn = if self.open { Turn::Given } else { Turn::Unasked };
        }
        self.drive(person, now);
    }

    /// A delivery is ready for its session; the session may not be ready for it.
    pub(super) fn deliver(&mut self, person: &PersonId, jid: FullJid, prepared: Prepared, now: Instant) {
        let new = || Box::new(Session::new(jid, now));
        let session = self.sessions.entry(person.clone()).or_insert_with(new);
        session.waiting.push_back(prepared);
        self.drive(person, now);
    }

    /// Sends a stanza that is not missed if it cannot be sent now.
    pub(super) fn send_as(&mut self, person: &PersonId, element: Element) {
        if self.is_crowded() {
            return;
        }
        let Some(session) = self.sessions.get(person).filter(|session| self.open && session.sends()) else {
            return;
        };
        let element = self.wrap(session.ids.as_ref(), element);
        self.outgoing.push(Purpose::Other, element);
    }

    /// Looks at every session: the link has changed.
    pub(super) fn drive_all(&mut self, now: Instant) {
        let people: Vec<PersonId> = self.sessions.keys().cloned().collect();
        for person in people {
            self.drive(&person, now);
        }
    }

    /// Does what can be done for one session, and sets its timer.
    pub(super) fn drive(&mut self, person: &PersonId, now: Instant) {
        let Some(mut session) = self.sessions.remove(person) else { return };
        self.step(person, &mut session, now);
        self.pass_on(person, &mut session, now);
        if let Some(at) = session.timer.take() {
            self.timers.remove(&(at, person.clone()));
        }
        session.timer = self.next_look(&session).map(|at| at.max(now));
        if let Some(at) = session.timer {
            self.timers.insert((at, person.clone()));
        }
        self.sessions.insert(person.clone(), session);
    }

    fn step(&mut self, person: &PersonId, session: &mut Session, now: Instant) {
        let late = self.open && session.since + self.of(STEP) <= now;
        match &session.step {
            Step::Closed => self.open_session(person, session, now),
            Step::Starting if self.open && !self.is_trusted() => self.prepare(person, session, now),
            Step::Starting if late => {
                tracing::warn!(%person, "a session does not answer");
                self.starts.retain(|_, starting| starting != person);
                session.tries = session.tries.saturating_add(1);
                session.go(Step::Closed, now);
                self.open_session(person, session, now);
            }
            Step::Starting => {}
            Step::Preparing { .. } | Step::Settling { .. } | Step::Settled | Step::Doubted { .. }
                if !session.wants_open() =>
            {
                self.end(person, session, now);
            }
            Step::Preparing { .. } | Step::Settling { .. } | Step::Doubted { .. } if late => {
                tracing::warn!(%person, "a session does not answer");
                session.tries = session.tries.saturating_add(1);
                self.end(person, session, now);
            }
            Step::Preparing { carbons: None, ask: None } => {
                let kept = self.stream.as_ref().is_some_and(|stream| stream.ask.is_none());
                if self.open && kept && session.told && session.wanted.is_some() {
                    self.settle(person, session, now);
                }
            }
            Step::Preparing { .. } | Step::Doubted { .. } => {}
            Step::Settling { .. } | Step::Settled => self.publish(person, session),
            Step::Ending if late && self.is_trusted() => {
                self.forget_ids(session);
                session.go(Step::Closed, now);
                self.open_session(person, session, now);
            }
            Step::Ending => {}
        }
    }

    /// Opens a session that is wanted, when the link is there and the limit lets it.
    fn open_session(&mut self, person: &PersonId, session: &mut Session, now: Instant) {
        if let Some(jid) = session.next_jid.take() {
            (session.jid, session.barred) = (jid, false);
        }
        if !session.wants_open() {
            session.turn = Turn::Unasked;
            return;
        }
        if self.is_trusted() && !self.open {
            return;
        }
        match session.turn {
            Turn::Given => {}
            Turn::Unasked if self.wait(session) > 0 => {
                session.turn = Turn::After(now + backoff(self.wait(session), &self.shared));
                return;
            }
            Turn::After(at) if now < at => return,
            // It is its stream's connection that waits for a turn.
            Turn::Unasked | Turn::After(_) if !self.is_trusted() => {}
            Turn::Unasked | Turn::After(_) => {
                session.turn = Turn::Asked;
                let rank = Rank::of(session.wanted.as_ref(), session.tries);
                self.shared.turns.enter(person, rank, &self.mailbox, None);
                return;
            }
            Turn::Asked => return,
        }
        session.turn = Turn::Unasked;
        session.go(Step::Starting, now);
        let request = self.request();
        if let Carriage::Trusted(control, _) = &mut self.carriage {
            let start = control.start(&request, &session.jid);
            self.outgoing.push(Purpose::Start(person.clone()), start);
            self.starts.insert(request, person.clone());
        } else if self.open {
            // The connection of a stream that could not be resumed is there already.
            self.prepare(person, session, now);
        }
    }

    /// How often an opening has failed, as far as it is to be waited for that. Where a partner may take over at any
    /// moment, the first few tries follow one another.
    fn wait(&self, session: &Session) -> u32 {
        match self.paired {
            true => session.tries.min(1).max(session.tries.saturating_sub(PATIENT)),
            false => session.tries,
        }
    }

    /// A session exists: carbons on, its ids on disk, and only then presence.
    fn prepare(&mut self, person: &PersonId, session: &mut Session, now: Instant) {
        let Some(stream) = self.stream.as_ref().map(|stream| stream.id.clone()) else { return };
        self.shared.refusals.forget(person);
        let opening = SessionEvent::Opening { stream, resumed: false, at: self.shared.clock.now() };
        self.intake.push_back(Inbound::Session(person.clone(), opening));
        session.told = true;
        let carbons = self.send_carbons(person, session);
        let ask = self
            .encode(session)
            .map(|value| self.board.keep_and_tell(kept::session_key(person), value, &self.mailbox));
        self.asks.extend(ask.map(|ask| (ask, person.clone())));
        session.go(Step::Preparing { carbons: Some(carbons), ask }, now);
    }

    fn send_carbons(&mut self, person: &PersonId, session: &Session) -> Box<str> {
        let id = self.request();
        let carbons = self.wrap(session.ids.as_ref(), words::carbons(&id));
        self.outgoing.push(Purpose::Carbons(person.clone()), carbons);
        id
    }

    /// Publishes what is to be seen, and asks what was missed, and a ping behind it: when all are back, the opening
    /// has ended.
    pub(super) fn settle(&mut self, person: &PersonId, session: &mut Session, now: Instant) {
        self.publish(person, session);
        // A session that was settled has missed nothing.
        let missed = !matches!(session.step, Step::Settled | Step::Doubted { .. });
        let archive = if missed { self.ask_archive(person, session) } else { None };
        let ping = Some(self.send_ping(person, session));
        session.go(Step::Settling { ping, archive }, now);
    }

    pub(super) fn send_ping(&mut self, person: &PersonId, session: &Session) -> Box<str> {
        let id = self.request();
        let ping = self.wrap(session.ids.as_ref(), words::ping(&id, session.jid.domain().as_str()));
        self.outgoing.push(Purpose::Ping(person.clone()), ping);
        id
    }

    /// Sends presence where it differs from what was last said.
    fn publish(&mut self, person: &PersonId, session: &mut Session) {
        let Some(said) = session.unsaid() else { return };
        let presence = self.wrap(session.ids.as_ref(), words::presence(said.show, &said.text, said.priority));
        self.outgoing.push(Purpose::Presence(person.clone()), presence);
        (session.said, session.said_at) = (Some(said), None);
    }

    /// A presence got its position; a restart has to know it to tell whether it arrived.
    pub(super) fn presence_written(&mut self, person: &PersonId, position: u64) {
        let Some(session) = self.sessions.get_mut(person) else { return };
        crash::point(crash::PRESENCE_WRITTEN);
        session.said_at = Some(position);
        if matches!(session.step, Step::Settled) {
            self.keep_session(person);
        }
    }

    pub(super) fn keep_session(&self, person: &PersonId) {
        let value = self.sessions.get(person).and_then(|session| self.encode(session));
        self.board.keep(kept::session_key(person), value);
    }

    /// A session as it is kept: with its presence once its opening has ended.
    fn encode(&self, session: &Session) -> Option<Box<[u8]>> {
        let said = match (&session.step, &session.said, session.said_at) {
            (Step::Settled, Some(said), Some(at)) => Some(KeptPresence::new(said, at)),
            _ => None,
        };
        Some(kept::encode(&KeptSession {
            stream: self.stream.as_ref()?.id.clone(),
            jid: session.jid.to_bare().to_string(),
            ids: session.ids.as_ref().map(ToString::to_string),
            said,
            without_copies: session.without_copies,
        }))
    }

    /// Ends a session. On a client stream, the link closes the stream.
    fn end(&mut self, person: &PersonId, session: &mut Session, now: Instant) {
        self.tell_closed(person, session, false);
        if let (Carriage::Trusted(control, _), Some(ids)) = (&mut self.carriage, &session.ids) {
            let end = control.end(ids);
            self.outgoing.push(Purpose::End(person.clone()), end);
        }
        crash::point(crash::SESSION_ENDED);
        session.go(Step::Ending, now);
    }

    /// Ends all sessions of the link: it signs out.
    pub(super) fn end_all(&mut self) {
        let people: Vec<PersonId> = self.sessions.keys().cloned().collect();
        for person in people {
            let Some(mut session) = self.sessions.remove(&person) else { continue };
            if !matches!(session.step, Step::Closed | Step::Ending) {
                self.end(&person, &mut session, Instant::now());
            }
            self.sessions.insert(person, session);
        }
    }

    /// The router is told that a session has ended, if it was told that it began.
    fn tell_closed(&mut self, person: &PersonId, session: &mut Session, for_good: bool) {
        if std::mem::take(&mut session.told) || for_good {
            let closed = SessionEvent::Closed { for_good };
            self.intake.push_back(Inbound::Session(person.clone(), closed));
        }
        self.board.keep(kept::session_key(person), None);
        (session.said, session.said_at) = (None, None);
        session.clients.clear();
    }

    fn forget_ids(&mut self, session: &mut Session) {
        if let Some(ids) = session.ids.take() {
            self.by_ids.remove(&ids.ours);
        }
    }

    /// Deliveries go on to the wire where the session can send, and back where they have waited too long.
    fn pass_on(&mut self, person: &PersonId, session: &mut Session, now: Instant) {
        let sends = self.open && session.sends();
        let hopeless = session.barred || session.wanted == Some(Wanted::Closed);
        while let Some(prepared) = session.waiting.pop_front() {
            if sends {
                let prepared = match session.aim(prepared) {
                    Ok(prepared) => prepared,
                    Err(ticket) => {
                        // One may come; nothing else of this person waits for that.
                        let cause = Cause::Client(person.clone());
                        self.board.receipt(ticket, Outcome::Later { cause, after: None });
                        continue;
                    }
                };
                let filler = words::ping("hm-filler", session.jid.domain().as_str());
                let ids = session.ids.as_ref();
                self.outgoing.push_ready(Ready {
                    ticket: prepared.ticket,
                    person: person.clone(),
                    derived: prepared.derived,
                    element: self.wrap(ids, prepared.element),
                    filler: self.wrap(ids, filler),
                });
            } else if hopeless || prepared.until <= now {
                self.give_back(prepared.ticket, person.clone());
            } else {
                session.waiting.push_front(prepared);
                return;
            }
        }
    }

    /// Nothing will be sent any more.
    pub(super) fn give_back_all(&mut self) {
        for (person, session) in &mut self.sessions {
            for prepared in session.waiting.drain(..) {
                let cause = Cause::Session(person.clone());
                self.board.receipt(prepared.ticket, Outcome::Later { cause, after: None });
            }
        }
    }

    fn next_look(&self, session: &Session) -> Option<Instant> {
        let waiting = session.waiting.front().map(|prepared| prepared.until);
        let step = match session.step {
            Step::Closed => match session.turn {
                Turn::After(at) if self.open || !self.is_trusted() => Some(at),
                _ => None,
            },
            Step::Starting | Step::Ending if !self.is_trusted() => None,
            Step::Settled => None,
            _ => self.open.then(|| session.since + self.of(STEP)),
        };
        waiting.into_iter().chain(step).min()
    }

    /// The server has started a session.
    pub(super) fn started(&mut self, request: &str, ids: SessionIds, jid: &FullJid, now: Instant) {
        let person = self.starts.remove(request);
        let session = person.as_ref().and_then(|person| self.sessions.get_mut(person));
        let (Some(person), Some(session)) = (person.clone(), session) else {
            // Nobody waits for it any more.
            if let Carriage::Trusted(control, _) = &mut self.carriage {
                let end = control.end(&ids);
                self.outgoing.push(Purpose::Other, end);
            }
            return;
        };
        crash::point(crash::SESSION_STARTED);
        self.by_ids.insert(ids.ours, person.clone());
        session.ids = Some(ids);
        if self.paired && session.tries > 0 {
            self.serves_at_last(now);
        }
        let Some(mut session) = self.sessions.remove(&person) else { return };
        if *jid == session.jid {
            self.prepare(&person, &mut session, now);
        } else {
            tracing::error!(%person, asked = %session.jid, bound = %jid, "another session than asked for");
            session.barred = true;
            self.refuse(&person, ANOTHER);
            self.tell_closed(&person, &mut session, true);
            self.end(&person, &mut session, now);
        }
        self.sessions.insert(person.clone(), session);
        self.drive(&person, now);
    }

    /// The node has started a session that it refused before, so it has taken over: nobody waits any longer.
    fn serves_at_last(&mut self, now: Instant) {
        let waits = |session: &Session| matches!(session.turn, Turn::After(_));
        let waiting: Vec<PersonId> =
            self.sessions.iter().filter(|(_, s)| waits(s)).map(|(person, _)| person.clone()).collect();
        for person in waiting {
            if let Some(session) = self.sessions.get_mut(&person) {
                (session.turn, session.tries) = (Turn::Unasked, 0);
            }
            self.drive(&person, now);
        }
    }

    /// A person who should have a session has none.
    pub(super) fn refuse(&self, person: &PersonId, reason: &'static str) {
        self.shared.refusals.tell(person, reason, self.shared.clock.now());
    }

    /// The server knows no such user. Asking again would give the same answer.
    pub(super) fn start_refused(&mut self, request: &str, now: Instant) {
        let Some(person) = self.starts.remove(request) else { return };
        if self.paired {
            // Its partner may serve this user, or will. Neither is asked in haste.
            if let Some(session) = self.sessions.get_mut(&person) {
                session.tries = session.tries.saturating_add(1);
                session.go(Step::Closed, now);
            }
            self.tell(News::Refused(person.clone()));
            return self.drive(&person, now);
        }
        self.refuse(&person, "the server starts no session for this user");
        if let Some(mut session) = self.sessions.remove(&person) {
            session.barred = true;
            session.go(Step::Closed, now);
            self.tell_closed(&person, &mut session, true);
            self.sessions.insert(person.clone(), session);
        }
        self.drive(&person, now);
    }

    /// A session is over: as asked, by the server, or because another one took its resource. That one is
    /// not fought.
    pub(super) fn ended(&mut self, ids: &SessionIds, replaced: bool, now: Instant) {
        let Some(person) = self.by_ids.remove(&ids.ours) else { return };
        if let Some(mut session) = self.sessions.remove(&person) {
            session.ids = None;
            if !matches!(session.step, Step::Ending) {
                tracing::warn!(%person, replaced, "the server ended a session");
                if self.paired && !replaced {
                    self.tell(News::Elsewhere(person.clone()));
                }
                if replaced {
                    self.refuse(&person, TAKEN);
                }
                session.barred |= replaced;
                session.tries = session.tries.saturating_add(1);
                self.tell_closed(&person, &mut session, replaced);
            }
            session.go(Step::Closed, now);
            self.sessions.insert(person.clone(), session);
        }
        self.ask_by_another(&person, now);
        self.drive(&person, now);
    }

    /// No session of this link may be opened again, for this reason.
    pub(super) fn bar_all(&mut self, reason: &'static str, now: Instant) {
        let people: Vec<PersonId> = self.sessions.keys().cloned().collect();
        for person in &people {
            self.refuse(person, reason);
            let Some(mut session) = self.sessions.remove(person) else { continue };
            session.barred = true;
            session.go(Step::Closed, now);
            self.tell_closed(person, &mut session, true);
            self.sessions.insert(person.clone(), session);
        }
        self.drive_all(now);
    }

    /// The stream is over: so is every session on it.
    pub(super) fn sessions_over(&mut self, now: Instant) {
        let people: Vec<PersonId> = self.sessions.keys().cloned().collect();
        for person in people {
            let Some(mut session) = self.sessions.remove(&person) else { continue };
            if !matches!(session.step, Step::Closed) {
                self.tell_closed(&person, &mut session, false);
                session.ids = None;
                session.turn = Turn::Unasked;
                session.go(Step::Closed, now);
            }
            self.sessions.insert(person, session);
        }
        self.by_ids.clear();
        self.starts.clear();
        if let Carriage::Trusted(control, _) = &mut self.carriage {
            control.reset();
        }
    }

    /// The stream goes on, and the far side has handled `h`: each session does again what was lost of it,
    /// and what it brings counts as replay until a new ping is back.
    pub(super) fn sessions_resumed(&mut self, h: u64, again: &[Purpose], now: Instant) {
        let people: Vec<PersonId> = self.sessions.keys().cloned().collect();
        for person in people {
            let Some(mut session) = self.sessions.remove(&person) else { continue };
            session.since = now;
            if session.said_at.is_some_and(|at| at > h) {
                (session.said, session.said_at) = (None, None);
            }
            match &session.step {
                Step::Settled | Step::Doubted { settled: true, .. } => {
                    if let Some(stream) = self.stream.as_ref().map(|stream| stream.id.clone()) {
                        let at = self.shared.clock.now();
                        let opening = SessionEvent::Opening { stream, resumed: true, at };
                        self.intake.push_back(Inbound::Session(person.clone(), opening));
                        session.told = true;
                    }
                    self.settle(&person, &mut session, now);
                }
                Step::Settling { .. } | Step::Doubted { .. } => self.settle(&person, &mut session, now),
                // Taken up from an earlier run, in the middle of its opening.
                Step::Preparing { .. } if !session.told => self.prepare(&person, &mut session, now),
                Step::Preparing { ask, .. } if again.contains(&Purpose::Carbons(person.clone())) => {
                    let ask = *ask;
                    let carbons = Some(self.send_carbons(&person, &session));
                    session.step = Step::Preparing { carbons, ask };
                }
                Step::Starting if again.contains(&Purpose::Start(person.clone())) => {
                    self.starts.retain(|_, starting| *starting != person);
                    session.go(Step::Closed, now);
                }
                Step::Ending if again.contains(&Purpose::End(person.clone())) => {
                    self.end(&person, &mut session, now);
                }
                _ => {}
            }
            self.sessions.insert(person, session);
        }
    }
}
