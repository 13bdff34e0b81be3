//! Typing hints: leases that run out by themselves (DM-08).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{ConversationId, PersonId, Time};
use crate::rate::Rates;

/// Who types where: one indicator that is lit on the other side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lease {
    /// Types in Jabber, shown in Webex to the second person.
    ToWebex(PersonId, PersonId),
    /// Types in Webex in this conversation, shown in Jabber.
    ToJabber(PersonId, ConversationId),
}

/// Every indicator that is lit.
#[derive(Debug)]
pub(crate) struct Leases {
    /// When the other side was last told.
    lit: BTreeMap<Lease, Time>,
    /// Who lights one again and again.
    rates: Rates,
}

/// How often one person may light indicators in a row, and how long each counts: each is a request to the cloud, and who
/// begins and stops without end would use up what everybody has of them.
const RATE: (u32, Duration) = (10, Duration::from_secs(3));

/// How often a hint that goes on is passed on again, since the far side forgets by itself.
const AGAIN: Duration = Duration::from_secs(10);

impl Default for Leases {
    fn default() -> Self {
        Self { lit: BTreeMap::new(), rates: Rates::new(Some(RATE)) }
    }
}

impl Leases {
    /// Somebody types: whether the other side has to be told (again).
    pub(crate) fn start(&mut self, lease: &Lease, now: Time) -> bool {
        let (Lease::ToWebex(who, _) | Lease::ToJabber(who, _)) = lease;
        let is_known = self.lit.get(lease).is_some_and(|told| now.since(*told) < AGAIN.as_millis() as i64);
        if is_known || self.rates.exceeded(who, now) {
            return false;
        }
        self.rates.forget(now);
        self.rates.count(who, now);
        self.lit.insert(lease.clone(), now);
        true
    }

    /// Somebody stopped, wrote, or has typed for too long: whether an indicator was lit.
    pub(crate) fn stop(&mut self, lease: &Lease) -> bool {
        self.lit.remove(lease).is_some()
    }

    /// Whether this person is shown as typing in Webex because of what we passed on: what comes back
    /// from there then is our own doing.
    pub(crate) fn shown_in_webex(&self, person: &PersonId, to: &PersonId) -> bool {
        self.lit.contains_key(&Lease::ToWebex(person.clone(), to.clone()))
    }
}
