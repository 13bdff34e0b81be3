//! Typing hints: leases that run out by themselves (DM-08).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{ConversationId, PersonId, Time};

/// Who types where: one indicator that is lit on the other side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lease {
    /// Types in Jabber, shown in Webex to the second person.
    ToWebex(PersonId, PersonId),
    /// Types in Webex in this conversation, shown in Jabber.
    ToJabber(PersonId, ConversationId),
}

/// Every indicator that is lit.
#[derive(Debug, Default)]
pub(crate) struct Leases(BTreeMap<Lease, Time>);

/// How often a hint that goes on is passed on again, since the far side forgets by itself.
const AGAIN: Duration = Duration::from_secs(10);

impl Leases {
    /// Somebody types: whether the other side has to be told (again).
    pub(crate) fn start(&mut self, lease: &Lease, now: Time) -> bool {
        match self.0.get(lease) {
            Some(told) if now.since(*told) < AGAIN.as_millis() as i64 => false,
            _ => {
                self.0.insert(lease.clone(), now);
                true
            }
        }
    }

    /// Somebody stopped, wrote, or has typed for too long: whether an indicator was lit.
    pub(crate) fn stop(&mut self, lease: &Lease) -> bool {
        self.0.remove(lease).is_some()
    }

    /// Whether this person is shown as typing in Webex because of what we passed on: what comes back
    /// from there then is our own doing.
    pub(crate) fn shown_in_webex(&self, person: &PersonId, to: &PersonId) -> bool {
        self.0.contains_key(&Lease::ToWebex(person.clone(), to.clone()))
    }
}
