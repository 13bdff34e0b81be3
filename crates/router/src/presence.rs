//! What is known of people's presence, and what was last said about it (rule 18).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use presence_map::{Session, Show, Status, translate};
use serde::{Deserialize, Serialize};

use crate::ids::{PersonId, Ticket, Time};
use crate::inbound::Observation;
use crate::outbound::Wanted;
use crate::times::Times;

/// The presence of everybody who is served.
#[derive(Debug, Default)]
pub(crate) struct PresenceBook {
    people: BTreeMap<PersonId, Page>,
    /// Cloud time less ours, from the last answer.
    ahead: i64,
}

/// What is known of one person.
#[derive(Debug, Default)]
struct Page {
    known: Known,
    /// When the last answer was given, in cloud time.
    at: Option<Time>,
    said: Option<Wanted>,
    /// What we wrote as this person: from when, until when it may explain an activity, in cloud time.
    own: VecDeque<(Ticket, Time, Time)>,
}

/// What survives of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    status: Option<StoredStatus>,
    last_active: Option<Time>,
    /// The last activity is known, even if there never was one.
    told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum StoredStatus {
    ByActivity,
    Hidden,
    DoNotDisturb,
    OutOfOffice,
}

/// How many of our own writes are remembered for each person.
const OWN_WRITES: usize = 64;

/// What is said about a person of whom nothing is known yet.
const UNKNOWN: Wanted = Wanted::Open { show: Show::Available, text: "@ Webex", active: None };

impl PresenceBook {
    /// A person is served from now on; `stored` is what an earlier run remembered.
    pub(crate) fn open(&mut self, person: &PersonId, stored: Option<&[u8]>) {
        let page = self.people.entry(person.clone()).or_default();
        // What cannot be read is asked for again by the first answer of the cloud.
        if let Some(known) = stored.and_then(|bytes| serde_json::from_slice(bytes).ok()) {
            page.known = known;
        }
    }

    /// A person is not served any more.
    pub(crate) fn close(&mut self, person: &PersonId) {
        self.people.remove(person);
    }

    /// Takes what the cloud says. True if anything that survives has changed.
    pub(crate) fn observe(&mut self, observation: &Observation, now: Time, times: &Times) -> bool {
        self.ahead = observation.at.since(now);
        let Some(page) = self.people.get_mut(&observation.person) else { return false };
        if page.at.is_some_and(|at| observation.at < at) {
            return false;
        }
        page.at = Some(observation.at);
        let before = page.known;
        page.known.status = Some(observation.status.into());
        match observation.last_active {
            // Our own writes are not activity.
            Some(active) if observation.by_our_device || page.explains(active, times) => {}
            None if page.known.told => {}
            // Something that we saw after the answer was given, the answer could not know.
            _ if page.known.last_active.is_some_and(|known| known > observation.at) => {}
            active => (page.known.last_active, page.known.told) = (active, true),
        }
        before != page.known
    }

    /// This person did something in Webex that we did not. True if anything has changed.
    pub(crate) fn active(&mut self, person: &PersonId, at: Time) -> bool {
        let Some(page) = self.people.get_mut(person) else { return false };
        let newer = page.known.last_active.is_none_or(|known| known < at);
        if newer {
            page.known.last_active = Some(at);
            page.known.told = true;
        }
        newer
    }

    /// We begin to write as this person; until it is answered it may happen at any time up to the end of
    /// the settle time.
    pub(crate) fn writing(&mut self, person: &PersonId, ticket: Ticket, now: Time, times: &Times) {
        let now = now.plus(self.ahead);
        let Some(page) = self.people.get_mut(person) else { return };
        page.own.push_back((ticket, now, now.after(times.settle.max(times.own_write))));
        if page.own.len() > OWN_WRITES {
            page.own.pop_front();
        }
    }

    /// What we wrote as this person has been stored, now or at the latest now.
    pub(crate) fn written(&mut self, person: &PersonId, ticket: Ticket, now: Time) {
        let now = now.plus(self.ahead);
        let Some(page) = self.people.get_mut(person) else { return };
        if let Some(write) = page.own.iter_mut().rev().find(|w| w.0 == ticket) {
            write.2 = now;
        }
    }

    /// What is wanted of this person's session now, and for how long if nothing but time changes.
    /// `None`: the person is not served.
    pub(crate) fn wanted(&self, person: &PersonId, now: Time) -> Option<(Wanted, Option<Duration>)> {
        let page = self.people.get(person)?;
        let Some(status) = page.known.status else { return Some((UNKNOWN, None)) };
        if !page.known.told && status == StoredStatus::ByActivity {
            return Some((UNKNOWN, None));
        }
        let now = now.plus(self.ahead);
        let idle = page
            .known
            .last_active
            .map(|active| Duration::from_millis(u64::try_from(now.since(active)).unwrap_or(0)));
        let said = translate(status.into(), idle);
        let wanted = match said.session {
            Session::Held => {
                Wanted::Open { show: said.show, text: said.text, active: page.known.last_active }
            }
            Session::Ended => Wanted::Closed,
        };
        Some((wanted, said.valid_for))
    }

    /// Notes what is said; false if it was said already.
    pub(crate) fn say(&mut self, person: &PersonId, wanted: &Wanted) -> bool {
        let Some(page) = self.people.get_mut(person) else { return false };
        let new = page.said.as_ref().is_none_or(|said| !said.is_like(wanted));
        page.said = Some(wanted.clone());
        new
    }

    /// Whether a session is wanted for this person, as last said.
    pub(crate) fn wants_open(&self, person: &PersonId) -> bool {
        matches!(self.people.get(person), Some(Page { said: Some(Wanted::Open { .. }), .. }))
    }

    /// Everybody who is served.
    pub(crate) fn people(&self) -> impl Iterator<Item = &PersonId> {
        self.people.keys()
    }

    /// What survives of a person's page.
    pub(crate) fn encode(&self, person: &PersonId) -> Option<Box<[u8]>> {
        let page = self.people.get(person)?;
        serde_json::to_vec(&page.known).ok().map(Into::into)
    }
}

impl Page {
    fn explains(&self, active: Time, times: &Times) -> bool {
        self.own.iter().any(|(_, from, until)| {
            from.before(times.own_write) <= active && active <= until.after(times.own_write)
        })
    }
}

impl From<Status> for StoredStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::ByActivity => Self::ByActivity,
            Status::Hidden => Self::Hidden,
            Status::DoNotDisturb => Self::DoNotDisturb,
            Status::OutOfOffice => Self::OutOfOffice,
        }
    }
}

impl From<StoredStatus> for Status {
    fn from(status: StoredStatus) -> Self {
        match status {
            StoredStatus::ByActivity => Self::ByActivity,
            StoredStatus::Hidden => Self::Hidden,
            StoredStatus::DoNotDisturb => Self::DoNotDisturb,
            StoredStatus::OutOfOffice => Self::OutOfOffice,
        }
    }
}
