//! What the status page shows.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::ids::Time;

/// A count of everything that an operator asks about, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// People who are enabled.
    pub enabled: usize,
    /// Sessions that are held and settled.
    pub sessions: usize,
    /// Enabled people without a session, because they did not use Webex for 72 hours (PR-48).
    pub inactive: usize,
    /// People whose Webex side is behind: a catch-up is owed or under way.
    pub catching_up: usize,
    /// Committed entries that are held back while somebody catches up or a session opens.
    pub held: usize,
    /// Lanes with at least one entry that waits.
    pub lanes: usize,
    /// Entries that wait in lanes.
    pub waiting: usize,
    /// Deliveries that an edge is busy with.
    pub in_flight: usize,
    /// When the oldest unfinished entry was committed.
    pub oldest: Option<Time>,
    /// What stands in the way of deliveries, with the number of lanes behind it.
    pub blocked: BTreeMap<String, usize>,
    /// Entries delivered in this run.
    pub delivered: u64,
    /// Copies of what was known already, in this run.
    pub repeats: u64,
    /// What we wrote ourselves and saw again, in this run.
    pub own: u64,
    /// Messages that were not carried in this run, by rule.
    pub not_carried: BTreeMap<Box<str>, u64>,
    /// Entries given up in this run, by reason.
    pub wedged: BTreeMap<Box<str>, u64>,
    /// Other events of this run that an operator may ask about, by name.
    pub events: BTreeMap<&'static str, u64>,
}
