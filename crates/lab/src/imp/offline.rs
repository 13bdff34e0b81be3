//! What came while nobody was there (XEP-0160), kept as IM and Presence keeps it: *every* resource that comes up gets it,
//! not only the first.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use xmpp_core::Element;

use super::stanza;
use super::state::State;
use crate::clock::Time;

/// A user's store holds at most this many messages; what comes then goes back to its sender.
const MESSAGES: usize = 5_000;
/// How long after it was first handed out a message is kept for other resources.
const KEPT: Duration = Duration::from_secs(72 * 3600);

/// The messages of one user, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Store(VecDeque<Stored>);

#[derive(Debug)]
struct Stored {
    message: Element,
    at: Time,
    /// The resources that have it.
    given: BTreeSet<String>,
    first_given: Option<Time>,
}

impl Store {
    /// Keeps a message; false if there is no room.
    fn keep(&mut self, message: Element, at: Time, now: Time) -> bool {
        self.0.retain(|stored| stored.first_given.is_none_or(|first| now < first.plus(KEPT)));
        if self.0.len() >= MESSAGES {
            return false;
        }
        self.0.push_back(Stored { message, at, given: BTreeSet::new(), first_given: None });
        true
    }

    /// What a resource has not had yet; with `once`, what no resource has had.
    fn hand_out(&mut self, resource: &str, once: bool, now: Time) -> Vec<(Element, Time)> {
        let mut messages = Vec::new();
        for stored in &mut self.0 {
            if stored.given.contains(resource) || (once && !stored.given.is_empty()) {
                continue;
            }
            stored.given.insert(resource.to_owned());
            stored.first_given.get_or_insert(now);
            messages.push((stored.message.clone(), stored.at));
        }
        messages
    }
}

impl State {
    /// Keeps a message for a user who is not there, or tells its sender that it was not kept.
    pub(crate) fn store(&mut self, bare: &str, message: &Element, at: Time) {
        let now = self.now();
        let faults = &self.ctx.faults;
        let worth_it = stanza::is_substantial(message) || faults.is_on("imp-stores-chat-states");
        let kept = worth_it
            && !faults.is_on("imp-suppress-offline")
            && self.users.entry(bare.to_owned()).or_default().offline.keep(message.clone(), at, now);
        if !kept && let Some(sender) = message.attr("from").map(str::to_owned) {
            let error = stanza::error(message, bare, &sender, "cancel", "service-unavailable");
            self.route_message(error);
        }
    }

    /// Hands a resource that came up what it has not had.
    pub(crate) fn replay(&mut self, bare: &str, resource: &str) {
        let now = self.now();
        let once = !self.ctx.faults.is_on("imp-replays-to-all");
        let seconds = self.ctx.faults.is_on("imp-stamps-whole-seconds");
        let Some(user) = self.users.get_mut(bare) else { return };
        let domain = bare.rsplit('@').next().unwrap_or_default();
        for (message, at) in user.offline.hand_out(resource, once, now) {
            self.deliver(bare, resource, stanza::stamped(message, domain, at, seconds));
        }
    }
}

#[cfg(test)]
mod tests {
    use xmpp_core::ns;
    use xmpp_core::xml::Compose as _;

    use super::*;

    fn message(id: &str) -> Element {
        Element::bare("message", ns::CLIENT).with_attr("id", id)
    }

    fn handed(store: &mut Store, resource: &str, once: bool) -> Vec<String> {
        let messages = store.hand_out(resource, once, Time(0));
        messages.iter().filter_map(|(message, _)| message.attr("id").map(str::to_owned)).collect()
    }

    #[test]
    fn every_resource_gets_each_message_once() {
        let mut store = Store::default();
        store.keep(message("1"), Time(0), Time(0));
        store.keep(message("2"), Time(0), Time(0));
        assert_eq!(handed(&mut store, "jabber", false), ["1", "2"]);
        assert_eq!(handed(&mut store, "webex", false), ["1", "2"]);
        store.keep(message("3"), Time(0), Time(0));
        assert_eq!(handed(&mut store, "jabber", false), ["3"]);
    }

    #[test]
    fn a_stock_server_hands_out_once() {
        let mut store = Store::default();
        store.keep(message("1"), Time(0), Time(0));
        assert_eq!(handed(&mut store, "jabber", true), ["1"]);
        assert!(handed(&mut store, "webex", true).is_empty());
    }

    #[test]
    fn the_store_is_bounded_and_old_messages_go() {
        let mut store = Store::default();
        for _ in 0..MESSAGES {
            assert!(store.keep(message("x"), Time(0), Time(0)));
        }
        assert!(!store.keep(message("y"), Time(0), Time(0)));
        handed(&mut store, "jabber", false);
        let later = Time(0).plus(KEPT);
        assert!(store.keep(message("z"), later, later));
        assert_eq!(handed(&mut store, "webex", false), ["z"]);
    }
}
