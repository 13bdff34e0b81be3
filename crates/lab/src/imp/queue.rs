//! What a stream has to bring to its peer: what waits, and what was sent and is not acknowledged (XEP-0198 §4).

use std::collections::VecDeque;

use xmpp_core::Element;
use xmpp_core::session_control::{self, RequestIds};

use super::stanza;
use crate::clock::Time;

/// One thing on its way to a peer.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// What.
    pub(crate) element: Element,
    /// On which session of a trusted link; `None` on a client stream and for what is no session's.
    pub(crate) session: Option<RequestIds>,
    /// Whose it is, for a stanza that a session receives: bare JID and resource.
    pub(crate) owner: Option<(String, String)>,
    /// When the server had it.
    pub(crate) at: Time,
    /// The connection broke while it was on its way, or before.
    pub(crate) late: bool,
}

/// How what is late is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamps {
    /// Whether a late stanza carries a stamp.
    pub(crate) resent: bool,
    /// Whether stamps have whole seconds.
    pub(crate) whole_seconds: bool,
}

impl Item {
    /// The element as it goes on the wire.
    pub(crate) fn render(&self, domain: &str, stamps: Stamps) -> Element {
        let mut element = self.element.clone();
        if self.late && stamps.resent {
            element = stanza::stamped(element, domain, self.at, stamps.whole_seconds);
        }
        match &self.session {
            Some(ids) => session_control::deliver(ids, element),
            None => element,
        }
    }
}

/// The two queues of one stream.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<Item>,
    sent: VecDeque<(u64, Item)>,
}

impl Queue {
    /// Appends.
    pub(crate) fn push(&mut self, item: Item) {
        self.waiting.push_back(item);
    }

    /// The next that waits.
    pub(crate) fn pop(&mut self) -> Option<Item> {
        self.waiting.pop_front()
    }

    /// Puts one back that was not written after all.
    pub(crate) fn put_back(&mut self, item: Item) {
        self.waiting.push_front(item);
    }

    /// Keeps one that was written, until it is acknowledged.
    pub(crate) fn keep(&mut self, position: u64, item: Item) {
        self.sent.push_back((position, item));
    }

    /// Forgets what the peer has.
    pub(crate) fn acknowledge(&mut self, h: u64) {
        while self.sent.front().is_some_and(|(position, _)| *position <= h) {
            self.sent.pop_front();
        }
    }

    /// The connection broke: all that the peer may not have is late now.
    pub(crate) fn broken(&mut self) {
        for item in self.sent.iter_mut().map(|(_, item)| item).chain(&mut self.waiting) {
            item.late = true;
        }
    }

    /// The stream goes on where the peer has `h`: the rest is sent again, in order.
    pub(crate) fn resume(&mut self, h: u64) {
        self.acknowledge(h);
        self.broken();
        while let Some((_, item)) = self.sent.pop_back() {
            self.waiting.push_front(item);
        }
    }

    /// All that the peer may not have, oldest first.
    pub(crate) fn take(&mut self) -> Vec<Item> {
        self.sent.drain(..).map(|(_, item)| item).chain(self.waiting.drain(..)).collect()
    }

    /// How many things the peer may not have.
    pub(crate) fn len(&self) -> usize {
        self.sent.len() + self.waiting.len()
    }

    /// Whether something is on its way that a person would miss.
    pub(crate) fn holds_something_substantial(&self) -> bool {
        let mut all = self.sent.iter().map(|(_, item)| item).chain(&self.waiting);
        all.any(|item| stanza::is_substantial(&item.element))
    }
}

#[cfg(test)]
mod tests {
    use xmpp_core::ns;
    use xmpp_core::xml::Compose as _;

    use super::*;

    fn item(n: u64) -> Item {
        let element = Element::bare("message", ns::CLIENT).with_attr("id", n.to_string());
        Item { element, session: None, owner: None, at: Time(0), late: false }
    }

    fn ids(items: &[Item]) -> Vec<&str> {
        items.iter().filter_map(|item| item.element.attr("id")).collect()
    }

    /// Written, kept and waiting stanzas come again in their order, those that the peer has do not, and all are late.
    #[test]
    fn a_resumption_sends_again_exactly_what_is_not_acknowledged() {
        let mut queue = Queue::default();
        (1..=5).for_each(|n| queue.push(item(n)));
        for n in 1..=4 {
            let next = queue.pop().unwrap();
            queue.keep(n, next);
        }
        queue.acknowledge(1);
        assert_eq!(queue.len(), 4);
        queue.resume(2);
        queue.push(item(6));
        let again = queue.take();
        assert_eq!(ids(&again), ["3", "4", "5", "6"]);
        assert_eq!(again.iter().map(|item| item.late).collect::<Vec<_>>(), [true, true, true, false]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn what_was_popped_and_not_written_is_first_again() {
        let mut queue = Queue::default();
        (1..=2).for_each(|n| queue.push(item(n)));
        let first = queue.pop().unwrap();
        queue.put_back(first);
        assert_eq!(ids(&queue.take()), ["1", "2"]);
    }

    #[test]
    fn only_what_is_late_is_stamped() {
        let stamps = Stamps { resent: true, whole_seconds: true };
        let mut one = item(1);
        assert!(!one.render("lab.example", stamps).has_child("delay", ns::DELAY));
        one.late = true;
        assert!(one.render("lab.example", stamps).has_child("delay", ns::DELAY));
        let kind = Stamps { resent: false, whole_seconds: true };
        assert!(!one.render("lab.example", kind).has_child("delay", ns::DELAY));
    }
}
