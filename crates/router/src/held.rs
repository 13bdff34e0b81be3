//! Who is catching up and whose session is opening: what they bring is held (rule 8).

use std::collections::BTreeMap;

use crate::ids::{PersonId, Time};
use crate::times::Times;

/// The side on which something is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// By sessions, on its way to Webex.
    Session,
    /// By sockets, on its way to Jabber.
    Socket,
}

/// What becomes of what a session or a socket brings now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It is released at once.
    No,
    /// It is released at once, although its sorted place is lost: the hold took too long.
    Late,
    /// It is held; stamps before this moment sort, `None`: none does.
    Yes {
        /// The server's time when the session began; `None` once it had settled.
        sorts_before: Option<Time>,
    },
}

/// The state of every session and every socket, as far as holds go.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    sessions: BTreeMap<PersonId, Session>,
    /// When the session of an opening began that has not settled, through however many resumptions.
    began: BTreeMap<PersonId, Time>,
    sockets: BTreeMap<PersonId, Socket>,
}

#[derive(Debug)]
enum Session {
    Opening { sorts_before: Option<Time>, since: Time, active: Time, over: bool },
    Settled,
    Closed { for_good: bool },
}

#[derive(Debug)]
struct Socket {
    /// The newest trigger that has been seen.
    trigger: u64,
    behind: bool,
    progress: Time,
    over: bool,
}

impl Holds {
    /// A session opens, or goes on after a resumption. What a resumption stamps was sent after the session
    /// began, so only stamps from before that sort.
    pub(crate) fn opening(&mut self, person: &PersonId, resumed: bool, at: Time, now: Time) {
        if !resumed {
            self.began.insert(person.clone(), at);
        }
        let sorts_before = self.began.get(person).copied();
        let opening = Session::Opening { sorts_before, since: now, active: now, over: false };
        self.sessions.insert(person.clone(), opening);
    }

    /// In an earlier run a session began then, and had not settled.
    pub(crate) fn had_begun(&mut self, person: PersonId, at: Time) {
        self.began.insert(person, at);
    }

    /// The opening has ended. True if it was that of a session, not only a resumption.
    pub(crate) fn settled(&mut self, person: &PersonId) -> bool {
        self.sessions.insert(person.clone(), Session::Settled);
        self.began.remove(person).is_some()
    }

    pub(crate) fn closed(&mut self, person: &PersonId, for_good: bool) {
        self.sessions.insert(person.clone(), Session::Closed { for_good });
    }

    /// A stanza came for this session: its hold counts silence from here.
    pub(crate) fn active(&mut self, person: &PersonId, now: Time) {
        if let Some(Session::Opening { active, .. }) = self.sessions.get_mut(person) {
            *active = now;
        }
    }

    /// This person's Webex side is behind; triggers rise.
    pub(crate) fn behind(&mut self, person: &PersonId, trigger: u64, now: Time) {
        let trigger = trigger.max(self.sockets.get(person).map_or(0, |s| s.trigger));
        self.sockets.insert(person.clone(), Socket { trigger, behind: true, progress: now, over: false });
    }

    /// The catch-up for `trigger` is complete. False if a newer one is owed (rule 9).
    pub(crate) fn caught_up(&mut self, person: &PersonId, trigger: u64) -> bool {
        let Some(socket) = self.sockets.get_mut(person) else { return false };
        if trigger < socket.trigger {
            return false;
        }
        socket.behind = false;
        true
    }

    /// A listing of this person's catch-up brought something.
    pub(crate) fn progress(&mut self, person: &PersonId, now: Time) {
        if let Some(socket) = self.sockets.get_mut(person) {
            socket.progress = now;
        }
    }

    /// Forgets a person who is not served any more.
    pub(crate) fn forget(&mut self, person: &PersonId) {
        self.sessions.remove(person);
        self.began.remove(person);
        self.sockets.remove(person);
    }

    pub(crate) fn session(&self, person: &PersonId) -> Hold {
        match self.sessions.get(person) {
            Some(Session::Opening { over: true, .. }) => Hold::Late,
            Some(Session::Opening { sorts_before, .. }) => Hold::Yes { sorts_before: *sorts_before },
            _ => Hold::No,
        }
    }

    pub(crate) fn socket(&self, person: &PersonId) -> Hold {
        match self.sockets.get(person) {
            Some(Socket { behind: true, over: true, .. }) => Hold::Late,
            Some(Socket { behind: true, .. }) => Hold::Yes { sorts_before: None },
            _ => Hold::No,
        }
    }

    pub(crate) fn is_behind(&self, person: &PersonId) -> bool {
        self.sockets.get(person).is_some_and(|s| s.behind)
    }

    /// Whether a session is held for this person now, opening or settled.
    pub(crate) fn is_open(&self, person: &PersonId) -> bool {
        matches!(self.sessions.get(person), Some(Session::Opening { .. } | Session::Settled))
    }

    pub(crate) fn is_settled(&self, person: &PersonId) -> bool {
        matches!(self.sessions.get(person), Some(Session::Settled))
    }

    pub(crate) fn is_closed_for_good(&self, person: &PersonId) -> bool {
        matches!(self.sessions.get(person), Some(Session::Closed { for_good: true }))
    }

    /// When the hold ends at the latest, as things are; `None` where nothing is held.
    pub(crate) fn ends(&self, side: Side, person: &PersonId, times: &Times) -> Option<Time> {
        match side {
            Side::Session => match self.sessions.get(person)? {
                Session::Opening { since, active, over: false, .. } => {
                    Some(active.after(times.hold_silence).min(since.after(times.hold)))
                }
                _ => None,
            },
            Side::Socket => match self.sockets.get(person)? {
                Socket { behind: true, over: false, progress, .. } => Some(progress.after(times.catch_up)),
                _ => None,
            },
        }
    }

    /// The hold has lasted too long: what comes later is released at once, and counted. False if nothing was
    /// held any more.
    pub(crate) fn over(&mut self, side: Side, person: &PersonId) -> bool {
        match side {
            Side::Session => match self.sessions.get_mut(person) {
                Some(Session::Opening { over, .. }) => !std::mem::replace(over, true),
                _ => false,
            },
            Side::Socket => match self.sockets.get_mut(person) {
                Some(Socket { behind: true, over, .. }) => !std::mem::replace(over, true),
                _ => false,
            },
        }
    }
}
