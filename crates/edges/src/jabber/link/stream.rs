//! The life of a link's stream: taken up from an earlier run, connected, resumed or refused, lost, over.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use router::ids::{ImpStreamId, PersonId};
use router::inbound::StreamEvent;
use tokio::time::Instant;
use xmpp_core::BareJid;
use xmpp_core::session_control::SessionIds;
use xmpp_core::tokio::{CloseReason, ConnectError, Connection, Outcome as Established, ResumeState};

use super::{Carriage, GRACE, Link, MARGIN, Phase, YIELD};
use crate::crash;
use crate::jabber::archive::Place;
use crate::jabber::config::backoff;
use crate::jabber::dial::{self, Fate, Resume, Whose};
use crate::jabber::kept::{self, Kept, KeptSession, KeptStream};
use crate::jabber::nodes::News;
use crate::jabber::pool::{ANOTHER, TAKEN};
use crate::jabber::session::{Session, Step, Turn};
use crate::jabber::turns::Rank;
use crate::probe::causes;

/// How long a lost connection is waited with for what it brought to be committed.
const COMMIT: Duration = Duration::from_secs(30);
/// After so many failures in a row the users of a node are looked for on its partner.
const UNREACHABLE: u32 = 3;
/// A server that is away is tried each four seconds at least (as `backoff` counts), so that it is found soon after it is back.
const SOON: u32 = 2;
/// So many failures in a row are told.
const TOLD: u32 = 5;

/// The stream as the router knows it: it outlives its connections.
pub(in crate::jabber) struct Stream {
    pub(in crate::jabber) id: ImpStreamId,
    /// What resumes it; `None` where that is not possible.
    pub(super) resume: Option<ResumeState>,
    /// The far side acknowledges (XEP-0198).
    pub(super) acknowledges: bool,
    /// It began in this run.
    pub(in crate::jabber) fresh: bool,
    /// Stanzas received and handed on.
    pub(in crate::jabber) received: u64,
    /// Stanzas that the far side may forget.
    pub(in crate::jabber) handled: u64,
    /// The ask under which it is being kept; `None` once it is on disk.
    pub(in crate::jabber) ask: Option<u64>,
}

impl Stream {
    /// What the next connection resumes.
    fn resume(&self) -> Option<Resume> {
        let mut state = self.resume.clone()?;
        state.inbound = self.handled;
        Some(Resume { state, skip: self.received.saturating_sub(self.handled) })
    }

    fn encode(&self) -> Box<[u8]> {
        let resume = self.resume.as_ref().map(ToString::to_string);
        kept::encode(&KeptStream { stream: self.id.clone(), resume })
    }
}

impl Link {
    /// Takes up the stream and the sessions of an earlier run. A stream that cannot be resumed is over.
    pub(super) fn restore(&mut self, kept: &Kept, now: Instant) {
        let places = kept.values.iter().filter_map(|(key, last)| {
            let last = String::from_utf8(last.to_vec()).ok()?;
            Some((kept::archive_owner(key)?, Place::kept(last.into())))
        });
        self.archives = places.collect();
        let Some(stored) = kept.get::<KeptStream>(&self.kept_name()) else { return };
        let resume = stored.resume.and_then(|resume| resume.parse::<ResumeState>().ok());
        let Some(mut resume) = resume else {
            self.board.stream(&stored.stream, StreamEvent::Refused { h: None }, &self.mailbox);
            self.board.keep(self.kept_name(), None);
            return;
        };
        let handled = kept.streams.get(&stored.stream).copied().unwrap_or(0);
        // The far side's counter is taken for the largest one below this that has its low 32 bits.
        resume.outbound = resume.outbound.saturating_add(MARGIN);
        for key in kept.values.keys() {
            let Some(person) = kept::session_owner(key) else { continue };
            let session = kept.get::<KeptSession>(key).filter(|session| session.stream == stored.stream);
            if let Some(session) = session {
                self.restore_session(person, session, now);
            }
        }
        self.stream = Some(Stream {
            id: stored.stream,
            resume: Some(resume),
            acknowledges: true,
            fresh: false,
            received: handled,
            handled,
            ask: None,
        });
    }

    pub(super) fn restore_session(&mut self, person: PersonId, stored: KeptSession, now: Instant) {
        let resource = self.shared.resource();
        let jid = BareJid::new(&stored.jid).and_then(|jid| jid.with_resource_str(&resource));
        let Ok(jid) = jid else { return };
        let mut session = Session::new(jid, now);
        if let Carriage::Trusted(control, _) = &mut self.carriage {
            let ids = stored.ids.and_then(|ids| ids.parse::<SessionIds>().ok());
            let Some(ids) = ids else { return };
            control.restore(ids.clone());
            self.by_ids.insert(ids.ours, person.clone());
            session.ids = Some(ids);
        }
        // Without a presence the opening had not ended: it begins again.
        session.step = Step::Preparing { carbons: None, ask: None };
        session.without_copies = stored.without_copies;
        if let Some(said) = stored.said {
            session.said_at = Some(said.position);
            session.said = said.said();
            session.step = Step::Settled;
        }
        self.sessions.insert(person, Box::new(session));
    }

    /// When the next connection is due, while there is none: not before all that the last one brought is committed.
    ///
    /// A stream is resumed with the count of what is committed. What had been read and was committed only after the
    /// resumption would raise that count beyond what the far side has written again, and there are servers that take no
    /// count of what they have not written since a resumption.
    pub(super) fn dials_at(&self) -> Option<Instant> {
        let Phase::Down(at) = self.phase else { return None };
        if self.turn == Turn::Asked {
            return None;
        }
        let uncommitted = self.stream.as_ref().is_some_and(|stream| stream.received > stream.handled);
        let due = if uncommitted { at.max(self.lost_at + self.of(COMMIT)) } else { at };
        self.wants_connection().then_some(due)
    }

    /// Connects if that is wanted and due.
    pub(super) fn dial(&mut self, now: Instant) {
        if self.dials_at().is_none_or(|at| now < at) {
            return;
        }
        let whose = match &self.carriage {
            Carriage::Trusted(..) => Whose::Link,
            Carriage::Client(person) => {
                let Some(session) = self.sessions.get(person) else { return };
                if self.turn != Turn::Given {
                    self.turn = Turn::Asked;
                    let rank = Rank::of(session.wanted.as_ref(), self.tries.max(session.tries));
                    return self.shared.turns.enter(person, rank, &self.mailbox, Some(self.cluster));
                }
                self.turn = Turn::Unasked;
                Whose::User(session.jid.to_bare())
            }
        };
        let resume = self.stream.as_ref().and_then(Stream::resume);
        let shared = Arc::clone(&self.shared);
        self.phase = Phase::Dialing(Box::pin(dial::connect(
            shared,
            self.cluster,
            whose,
            resume,
            self.node,
            self.pinned,
        )));
    }

    pub(in crate::jabber) fn wants_connection(&self) -> bool {
        let held = || self.sessions.values().any(|session| !matches!(session.step, Step::Closed));
        self.stopping.is_none() && (self.is_trusted() || self.stream.is_some() || held())
    }

    /// No connection came about.
    pub(super) fn refused(&mut self, error: &ConnectError, now: Instant) {
        let fate = dial::fate(error);
        // An outage of hours is not told each few seconds.
        match self.tries < TOLD {
            true => tracing::warn!(link = %self.kept_name(), error = causes(error), "no stream"),
            false => tracing::debug!(link = %self.kept_name(), error = causes(error), "no stream"),
        }
        if !self.is_trusted() {
            match fate {
                Fate::Retry => self.shared.turns.fails(self.cluster),
                Fate::Rarely | Fate::Never => self.shared.turns.answers(self.cluster),
            }
        }
        self.tries = if fate == Fate::Retry { self.tries.saturating_add(1) } else { u32::MAX };
        let wait = if fate == Fate::Retry { self.tries.min(SOON) } else { self.tries };
        self.phase = Phase::Down(now + backoff(wait, &self.shared));
        if self.pinned && !self.unreachable && self.tries >= UNREACHABLE {
            self.unreachable = true;
            self.tell(News::Unreachable);
        }
        if let (Fate::Rarely, Carriage::Client(person)) = (fate, &self.carriage) {
            self.refuse(person, "the server lets no stream in for this user");
        }
        if fate == Fate::Never {
            self.over(None, now);
            self.bar_all(ANOTHER, now);
        }
    }

    /// A connection is up: the stream goes on, or this is another one.
    pub(super) fn connected(&mut self, connection: Box<Connection>, node: usize, now: Instant) {
        (self.node, self.tries, self.last_traffic) = (node, 0, now);
        if !self.is_trusted() {
            self.shared.turns.answers(self.cluster);
        }
        if std::mem::take(&mut self.unreachable) {
            self.tell(News::Reachable);
        }
        let outcome = connection.outcome();
        let (resume, acknowledges) = (connection.resume_state(), connection.is_managed());
        self.phase = Phase::Up(connection);
        let name = self.kept_name();
        match (outcome, &mut self.stream) {
            (Established::Resumed { h }, Some(stream)) => {
                crash::point(crash::RESUMED);
                stream.resume = resume;
                tracing::info!(stream = %stream.id, h, "stream resumed");
                self.board.stream(&stream.id, StreamEvent::Resumed { h }, &self.mailbox);
                self.board.keep(name, Some(stream.encode()));
                let (again, forgotten) = self.outgoing.resumed(h);
                self.settled_elsewhere(forgotten);
                self.sessions_resumed(h, &again, now);
            }
            (outcome, _) => {
                let h = if let Established::ResumeFailed { h } = outcome { h } else { None };
                self.over(h, now);
                // Numbers of an earlier stream say nothing on this one.
                self.archives.values_mut().for_each(Place::begin);
                let id = ImpStreamId::new(self.shared.generator.uuid());
                tracing::info!(stream = %id, acknowledges, "stream up");
                self.board.stream(&id, StreamEvent::Up { acknowledges }, &self.mailbox);
                let mut stream =
                    Stream { id, resume, acknowledges, fresh: true, received: 0, handled: 0, ask: None };
                stream.ask = Some(self.board.keep_and_tell(name, stream.encode(), &self.mailbox));
                self.stream = Some(stream);
                self.open = true;
                self.drive_all(now);
            }
        }
    }

    /// The connection is gone, and with it the stream unless it can be resumed.
    pub(super) fn lost(&mut self, reason: &CloseReason, now: Instant) {
        tracing::warn!(link = %self.kept_name(), ?reason, "connection lost");
        let resumable = reason.is_resumable();
        let conflict = matches!(reason, CloseReason::StreamError(error) if error.condition == "conflict");
        self.drop_connection(now);
        if !resumable {
            self.over(None, now);
        }
        if conflict && self.is_trusted() {
            let wait = self.shared.generator.jittered(self.of(YIELD));
            tracing::error!(link = %self.kept_name(), ?wait, "another connector has taken the link under our name");
            self.phase = Phase::Down(now + wait);
        } else if conflict {
            self.bar_all(TAKEN, now);
        }
        self.drive_all(now);
    }

    /// Drops the connection and leaves the stream to be resumed, if it can be. What was not attempted yet
    /// goes back; what was is the router's to settle.
    pub(super) fn drop_connection(&mut self, now: Instant) {
        self.lost_at = now;
        let next = Phase::Down(now + backoff(self.tries, &self.shared));
        self.tries = self.tries.saturating_add(1);
        let before = std::mem::replace(&mut self.phase, next);
        self.open = false;
        self.barrier = None;
        if let (Some(stream), Phase::Up(connection)) = (&mut self.stream, before) {
            stream.resume = connection.resume_state();
            self.board.stream(&stream.id, StreamEvent::Lost, &self.mailbox);
        }
        for (ticket, person) in self.outgoing.lost() {
            self.give_back(ticket, person);
        }
        if self.stream.as_ref().is_some_and(|stream| stream.resume.is_none()) {
            self.over(None, now);
        }
    }

    /// The stream is over, and every session on it.
    pub(super) fn over(&mut self, h: Option<u64>, now: Instant) {
        let Some(stream) = self.stream.take() else { return };
        tracing::info!(stream = %stream.id, ?h, "stream over");
        self.board.stream(&stream.id, StreamEvent::Refused { h }, &self.mailbox);
        self.board.keep(self.kept_name(), None);
        self.open = false;
        self.barrier = None;
        let forgotten = self.outgoing.over();
        self.settled_elsewhere(forgotten);
        self.sessions_over(now);
    }

    /// Ends the client stream of a session that is to end, once what it was sending has arrived.
    pub(super) fn close_if_ended(&mut self, now: Instant) {
        let Some(until) = self.closes_at() else { return };
        let up = matches!(self.phase, Phase::Up(_));
        if matches!(self.phase, Phase::Closing(_)) || (up && self.outgoing.delivers() && now < until) {
            return;
        }
        if let Phase::Up(connection) = std::mem::replace(&mut self.phase, Phase::Down(now)) {
            self.phase = Phase::Closing(close(connection, self.of(GRACE)));
        }
        self.over(None, now);
        self.sessions_over(now);
        self.drive_all(now);
    }

    /// Until when a client stream that is to end waits for what it was sending.
    pub(super) fn closes_at(&self) -> Option<Instant> {
        // Asked at each turn: a trusted link may have thousands of sessions.
        if self.is_trusted() {
            return None;
        }
        let ending = self.sessions.values().find(|session| matches!(session.step, Step::Ending));
        ending.map(|session| session.since + self.of(GRACE))
    }

    pub(super) fn closed(&mut self, now: Instant) {
        self.phase = Phase::Down(now);
        self.drive_all(now);
    }
}

/// Closes a stream, with a limit for a peer that does not read.
pub(super) fn close(
    mut connection: Box<Connection>,
    limit: Duration,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        // A peer that does not read its end is left to find out by itself.
        let _ = tokio::time::timeout(limit, connection.close()).await;
    })
}
