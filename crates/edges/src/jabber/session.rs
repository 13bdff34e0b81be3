//! One user's session: how far it is, what is wanted of it, what waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use presence_map::Show;
use router::ids::{DerivedId, Ticket};
use router::outbound::Wanted;
use tokio::time::Instant;
use xmpp_core::session_control::SessionIds;
use xmpp_core::xml::Compose as _;
use xmpp_core::{Element, FullJid};

use super::archive::Query;

/// Other clients of one user that are remembered; more are not told of what went wrong.
const CLIENTS: usize = 16;

/// Requests of others that a session answers in a minute where its link has other sessions too: all that the clients of
/// some hundred contacts ask when it comes up, and no more of whoever asks without end.
const ANSWERS: u32 = 600;
const MINUTE: Duration = Duration::from_secs(60);

/// ```text
/// Closed ─► Starting ─► Preparing ─► Settling ─► Settled ─► Ending ─► Closed
///             start       carbons,      presence,   ▲  │         end
///                         ids on disk   ping        │  ▼ a stanza came back
///                                                  Doubted
/// ```
#[derive(Debug)]
pub(super) enum Step {
    /// There is none.
    Closed,
    /// It was asked for: the session on a trusted link, or the client stream itself.
    Starting,
    /// It exists. Presence waits until carbons have been answered, or nothing would bring what other
    /// clients do, and until its ids are on disk, or a restart could not go on with it.
    Preparing {
        /// The request that turns carbons on; `None` once it is answered.
        carbons: Option<Box<str>>,
        /// The answer of the store that is awaited; `None` once it is there.
        ask: Option<u64>,
    },
    /// It has presence: what it brings counts as replay until both are back.
    Settling {
        /// The ping's id; `None` once it is answered.
        ping: Option<Box<str>>,
        /// The question to the archive; `None` once all of it is answered, or where there is none.
        archive: Option<Query>,
    },
    /// What it brings is live.
    Settled,
    /// A stanza of ours came back as if the server did not know the session. Nothing is sent before this
    /// ping has come back too, which ends the session, or is answered, which proves that it is there.
    Doubted {
        /// The ping's id.
        ping: Box<str>,
        /// What it brings is live.
        settled: bool,
    },
    /// Its end was asked for.
    Ending,
}

/// Whether a session that is closed may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nobody has asked.
    Unasked,
    /// It failed; a turn is asked for then.
    After(Instant),
    /// Others are first.
    Asked,
    /// It may.
    Given,
}

/// A delivery whose text is ready and whose session may not be.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) ticket: Ticket,
    pub(super) derived: DerivedId,
    pub(super) element: Element,
    /// From here on it does not wait any more (rule 14).
    pub(super) until: Instant,
    /// It goes to the client of this very user to which it is addressed, or to another one that is there.
    pub(super) to_own_client: bool,
}

/// A presence that was sent, or is about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) show: Show,
    pub(super) text: Box<str>,
    pub(super) priority: i8,
}

/// One user's session.
#[derive(Debug)]
pub(super) struct Session {
    /// Its JID, with our resource.
    pub(super) jid: FullJid,
    /// The JID that it is to have, where that is another one by now.
    pub(super) next_jid: Option<FullJid>,
    /// What the router wants; `None` until it says so in this run.
    pub(super) wanted: Option<Wanted>,
    pub(super) step: Step,
    /// Since when it is in this step.
    pub(super) since: Instant,
    /// It must not be opened again until the router has wanted it closed, or the JID is another.
    pub(super) barred: bool,
    /// Whether it may be opened.
    pub(super) turn: Turn,
    /// Openings that failed in a row.
    pub(super) tries: u32,
    /// Its ids on a trusted link; `None` on a client stream, and before it is started.
    pub(super) ids: Option<SessionIds>,
    /// What was last said, where it is certain; `None`: nothing, or it may be lost.
    pub(super) said: Option<Said>,
    /// The position of what was last said, once it is written.
    pub(super) said_at: Option<u64>,
    /// The router has been told of an opening, and of no end since.
    pub(super) told: bool,
    pub(super) waiting: VecDeque<Prepared>,
    /// Other clients of the same user that are there, and their priorities.
    pub(super) clients: BTreeMap<FullJid, i8>,
    /// The server makes no copies of what they send and receive (XEP-0280).
    pub(super) without_copies: bool,
    /// Since when requests of others are counted, and how many have been answered.
    answered: (Instant, u32),
    /// When it is looked at next; the link's book of timers has the same.
    pub(super) timer: Option<Instant>,
}

impl Session {
    pub(super) fn new(jid: FullJid, now: Instant) -> Self {
        Self {
            jid,
            next_jid: None,
            wanted: None,
            step: Step::Closed,
            since: now,
            barred: false,
            turn: Turn::Unasked,
            tries: 0,
            ids: None,
            said: None,
            said_at: None,
            told: false,
            waiting: VecDeque::new(),
            clients: BTreeMap::new(),
            without_copies: false,
            answered: (now, 0),
            timer: None,
        }
    }

    /// Goes on to another step.
    pub(super) fn go(&mut self, step: Step, now: Instant) {
        self.step = step;
        self.since = now;
    }

    /// Whether one is to be held. In a new run a session that goes on is, until the router says otherwise.
    pub(super) fn wants_open(&self) -> bool {
        !self.barred
            && self.next_jid.is_none()
            && match self.wanted {
                Some(Wanted::Open { .. }) => true,
                Some(Wanted::Closed) => false,
                None => !matches!(self.step, Step::Closed | Step::Ending),
            }
    }

    /// What is to be said and has not been; `None` where nothing is.
    pub(super) fn unsaid(&self) -> Option<Said> {
        match &self.wanted {
            Some(Wanted::Open { show, text, .. }) => {
                let wanted = Said { show: *show, text: (*text).into(), priority: self.priority() };
                (self.said.as_ref() != Some(&wanted)).then_some(wanted)
            }
            _ => None,
        }
    }

    /// With copies everything comes to priority 0 as well. Without them a message to the account goes to the highest
    /// priority alone, so ours follows that of the other clients (rule 23).
    fn priority(&self) -> i8 {
        let highest = self.clients.values().copied().max().unwrap_or(0);
        if self.without_copies { highest.max(0) } else { 0 }
    }

    /// Whether it can send messages.
    pub(super) fn sends(&self) -> bool {
        matches!(self.step, Step::Settling { .. } | Step::Settled)
    }

    /// Addresses a delivery to a client of this user that is there, if it needs that; gives its ticket back if none
    /// is.
    pub(super) fn aim(&self, prepared: Prepared) -> Result<Prepared, Ticket> {
        if !prepared.to_own_client {
            return Ok(prepared);
        }
        let meant = prepared.element.attr("to").unwrap_or_default();
        let there = self.clients.keys().find(|jid| jid.as_str() == meant);
        let Some(client) = there.or_else(|| self.clients.keys().next()) else { return Err(prepared.ticket) };
        let element = prepared.element.with_attr("to", client.as_str());
        Ok(Prepared { element, ..prepared })
    }

    /// Whether another request may be answered, which counts it.
    pub(super) fn may_answer(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.answered.0) >= MINUTE {
            self.answered = (now, 0);
        }
        self.answered.1 = self.answered.1.saturating_add(1);
        self.answered.1 <= ANSWERS
    }

    /// Another client of the user is there, with this priority, or gone.
    pub(super) fn client(&mut self, jid: FullJid, priority: Option<i8>) {
        match priority {
            None => {
                self.clients.remove(&jid);
            }
            Some(priority) => {
                if self.clients.len() < CLIENTS || self.clients.contains_key(&jid) {
                    self.clients.insert(jid, priority);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever logs in again and again under another name makes nobody remember all of them.
    #[test]
    fn a_bounded_number_of_other_clients_is_remembered() {
        let jid = |resource: String| FullJid::new(&format!("bob@lab.example/{resource}")).unwrap();
        let mut session = Session::new(jid("webex-1".into()), Instant::now());
        for n in 0..1_000 {
            session.client(jid(format!("client-{n}")), Some(0));
        }
        assert_eq!(session.clients.len(), CLIENTS);
        session.client(jid("client-3".into()), Some(5));
        session.client(jid("client-4".into()), None);
        session.client(jid("another".into()), Some(1));
        assert_eq!(session.clients.len(), CLIENTS);
        assert_eq!(session.clients[&jid("client-3".into())], 5, "what is remembered is kept up to date");
        assert!(session.clients.contains_key(&jid("another".into())), "there is room for one again");
    }
}
