//! Receipts on a stream without acknowledgement: a ping that returns tells that all that was written before it has arrived.

use std::time::Duration;

use router::ids::PersonId;
use tokio::time::Instant;

use super::Link;
use crate::jabber::outgoing::Purpose;
use crate::jabber::words;

/// How long a barrier may take before the connection counts as lost.
const BARRIER: Duration = Duration::from_secs(30);
/// After so long without traffic a stream without acknowledgement is asked for a sign of life; with [`BARRIER`], a
/// dead peer is noticed within a minute.
const QUIET: Duration = Duration::from_secs(25);

/// A ping that returns when everything written before it has been handled.
pub(super) struct Barrier {
    id: Box<str>,
    /// Whose session asks.
    person: PersonId,
    /// Its position, once it is written.
    position: Option<u64>,
    since: Instant,
}

impl Barrier {
    pub(super) fn written_at(&mut self, position: u64) {
        self.position = Some(position);
    }
}

impl Link {
    /// On a stream without acknowledgement: learns when all that was written so far has been handled.
    pub(super) fn raise_barrier(&mut self, person: &PersonId, now: Instant) {
        if self.barrier.is_some() {
            return;
        }
        // That session may be over by now, and would have no answer: any other asks as well.
        let its = self.sessions.get_key_value(person);
        let asks = its.filter(|(_, session)| session.sends());
        let asks = asks.or_else(|| self.sessions.iter().find(|(_, session)| session.sends())).or(its);
        let Some((person, session)) = asks else { return };
        let person = person.clone();
        let (ids, domain) = (session.ids.clone(), session.jid.domain().to_string());
        let id = self.request();
        let ping = self.wrap(ids.as_ref(), words::ping(&id, &domain));
        self.outgoing.push(Purpose::Barrier, ping);
        self.barrier = Some(Barrier { id, person, position: None, since: now });
        self.write(now);
    }

    /// A request that may be the barrier was answered: what was written before it has arrived.
    pub(in crate::jabber) fn lower_barrier(&mut self, id: &str, now: Instant) {
        let Some(barrier) = self.barrier.take_if(|barrier| &*barrier.id == id) else { return };
        if let Some(position) = barrier.position {
            self.acknowledged(position);
        }
        if self.outgoing.delivers() {
            self.raise_any_barrier(now);
        }
    }

    pub(super) fn raise_any_barrier(&mut self, now: Instant) {
        let person = self.sessions.iter().find(|(_, session)| session.sends()).map(|(person, _)| person);
        if let Some(person) = person.cloned() {
            self.raise_barrier(&person, now);
        }
    }

    /// A session is over, and with it perhaps the answer to what it asked: another one asks instead. Or whoever takes a
    /// session at the right moment would have the connection of all the others dropped.
    pub(in crate::jabber) fn ask_by_another(&mut self, gone: &PersonId, now: Instant) {
        let is_its = self.barrier.as_ref().is_some_and(|barrier| barrier.person == *gone);
        if is_its && self.sessions.values().any(|session| session.sends()) {
            self.barrier = None;
            self.raise_any_barrier(now);
        }
    }

    /// When the barrier has taken too long; `None`: there is none.
    pub(super) fn barrier_ends_at(&self) -> Option<Instant> {
        self.barrier.as_ref().map(|barrier| barrier.since + self.of(BARRIER))
    }

    /// When a stream without acknowledgement has to be asked whether it is still there.
    pub(super) fn is_quiet_at(&self) -> Option<Instant> {
        let asks = self.open
            && self.barrier.is_none()
            && self.stream.as_ref().is_some_and(|stream| !stream.acknowledges)
            && self.sessions.values().any(|session| session.sends());
        asks.then(|| self.last_traffic + self.of(QUIET))
    }
}
