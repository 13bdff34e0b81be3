//! What waits to be written on one stream, and the discipline of its positions (rule 11).
//!
//! Deliveries whose bytes are finished get positions, which are committed before they are written or given
//! up. In between no other stanza is written. Everything written is remembered by position until the far
//! side has acknowledged it, since after a resumption only the owner knows what to do about the rest.

use std::collections::{BTreeMap, VecDeque};

use router::ids::{DerivedId, PersonId, Ticket};
use xmpp_core::Element;

/// How many deliveries share one commit at most.
const ROUND: usize = 64;

/// Where stanzas are written, and counted.
pub(super) trait Wire {
    /// Writes a stanza; its position.
    fn send(&mut self, stanza: &Element) -> u64;
    /// The position of the last stanza that was written.
    fn sent(&self) -> u64;
}

/// Why a stanza other than a delivery is written: what to do again if it is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Starts the person's session.
    Start(PersonId),
    /// Turns carbons on.
    Carbons(PersonId),
    /// Says what the person shows.
    Presence(PersonId),
    /// Ends an opening when it returns.
    Ping(PersonId),
    /// Asks an archive.
    Archive(PersonId),
    /// Ends the session.
    End(PersonId),
    /// Returns when everything before it has been handled, on a stream without acknowledgement.
    Barrier,
    /// Not missed when it is lost.
    Other,
}

/// A delivery whose bytes are finished.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) ticket: Ticket,
    /// Whose session sends it.
    pub(super) person: PersonId,
    pub(super) derived: DerivedId,
    /// As it goes on the wire.
    pub(super) element: Element,
    /// Goes in its place if it is given up and nothing else waits.
    pub(super) filler: Element,
}

struct Attempt {
    ready: Ready,
    position: u64,
    /// The hub's answer: write it, or give it up.
    write: Option<bool>,
}

enum Written {
    Delivery(Ticket, DerivedId),
    Other(Purpose),
}

/// What came of one [`Outgoing::write`].
#[derive(Default)]
pub(super) struct Wrote {
    /// Attempts to be committed now.
    pub(super) attempts: Vec<(Ticket, u64)>,
    /// Other stanzas that were written, with their positions.
    pub(super) others: Vec<(Purpose, u64)>,
    /// The person by whose session the last delivery was written, if any was.
    pub(super) delivered_by: Option<PersonId>,
}

impl Wrote {
    /// Whether any stanza was written.
    pub(super) fn any(&self) -> bool {
        self.delivered_by.is_some() || !self.others.is_empty()
    }
}

/// The outgoing side of one stream.
#[derive(Default)]
pub(super) struct Outgoing {
    others: VecDeque<(Purpose, Element)>,
    ready: VecDeque<Ready>,
    round: VecDeque<Attempt>,
    written: BTreeMap<u64, Written>,
}

impl Outgoing {
    /// Queues a stanza that is no delivery.
    pub(super) fn push(&mut self, purpose: Purpose, element: Element) {
        self.others.push_back((purpose, element));
    }

    /// Queues a delivery.
    pub(super) fn push_ready(&mut self, ready: Ready) {
        self.ready.push_back(ready);
    }

    /// The attempt is on disk (`write`), or is not to be made. One that nobody waits for any more is ignored.
    pub(super) fn answer(&mut self, ticket: Ticket, write: bool) {
        if let Some(attempt) = self.round.iter_mut().find(|attempt| attempt.ready.ticket == ticket) {
            attempt.write = Some(write);
        }
    }

    /// Writes what may be written now. A position that was given up in the middle of a round is taken by the
    /// next stanza that waits, or by the delivery's filler.
    pub(super) fn write(&mut self, wire: &mut impl Wire) -> Wrote {
        let mut wrote = Wrote::default();
        if self.round.iter().any(|attempt| attempt.write.is_none()) {
            return wrote;
        }
        while self.round.back().is_some_and(|attempt| attempt.write == Some(false)) {
            self.round.pop_back();
        }
        for attempt in std::mem::take(&mut self.round) {
            debug_assert_eq!(wire.sent() + 1, attempt.position, "nothing was written during a round");
            if attempt.write == Some(true) {
                let position = wire.send(&attempt.ready.element);
                wrote.delivered_by = Some(attempt.ready.person);
                let delivery = Written::Delivery(attempt.ready.ticket, attempt.ready.derived);
                self.written.insert(position, delivery);
            } else {
                let next = self.others.pop_front();
                let (purpose, element) = next.unwrap_or((Purpose::Other, attempt.ready.filler));
                self.write_other(purpose, &element, wire, &mut wrote);
            }
        }
        while let Some((purpose, element)) = self.others.pop_front() {
            self.write_other(purpose, &element, wire, &mut wrote);
        }
        let first = wire.sent() + 1;
        let count = self.ready.len().min(ROUND);
        self.round = (first..)
            .zip(self.ready.drain(..count))
            .map(|(position, ready)| Attempt { ready, position, write: None })
            .collect();
        wrote.attempts = self.round.iter().map(|attempt| (attempt.ready.ticket, attempt.position)).collect();
        wrote
    }

    fn write_other(&mut self, purpose: Purpose, element: &Element, wire: &mut impl Wire, wrote: &mut Wrote) {
        let position = wire.send(element);
        // Whoever asks us without end makes us remember nothing, also where answers are never acknowledged.
        if purpose != Purpose::Other {
            self.written.insert(position, Written::Other(purpose.clone()));
        }
        wrote.others.push((purpose, position));
    }

    /// The far side has handled everything up to `h`: the deliveries among it.
    pub(super) fn acknowledged(&mut self, h: u64) -> Vec<(Ticket, DerivedId)> {
        let rest = self.written.split_off(&h.saturating_add(1));
        std::mem::replace(&mut self.written, rest)
            .into_values()
            .filter_map(|written| match written {
                Written::Delivery(ticket, derived) => Some((ticket, derived)),
                Written::Other(_) => None,
            })
            .collect()
    }

    /// A delivery has come back undelivered: that the far side has handled it is no receipt any more. The router
    /// ends it when it hears of that, and until then its lane waits, so that nothing overtakes it.
    pub(super) fn came_back(&mut self, derived: &str) {
        self.written.retain(
            |_, written| !matches!(written, Written::Delivery(_, written) if written.as_str() == derived),
        );
    }

    /// The connection is lost: these were never attempted. What was attempted is the router's to settle,
    /// with the fate of the stream.
    pub(super) fn lost(&mut self) -> Vec<(Ticket, PersonId)> {
        self.ready.drain(..).map(|ready| (ready.ticket, ready.person)).collect()
    }

    /// The stream goes on, and the far side has handled `h`: what else than deliveries has to be done again,
    /// in order, and the deliveries that this side forgets.
    pub(super) fn resumed(&mut self, h: u64) -> (Vec<Purpose>, Vec<Ticket>) {
        let attempted = self.round.drain(..).map(|attempt| attempt.ready.ticket);
        let mut forgotten: Vec<Ticket> = attempted.collect();
        let mut again = Vec::new();
        for (position, written) in std::mem::take(&mut self.written) {
            match written {
                Written::Delivery(ticket, _) => forgotten.push(ticket),
                Written::Other(purpose) if position > h => again.push(purpose),
                Written::Other(_) => {}
            }
        }
        (again, forgotten)
    }

    /// The stream is over, with everything on it: the deliveries that this side forgets.
    pub(super) fn over(&mut self) -> Vec<Ticket> {
        self.others.clear();
        self.resumed(u64::MAX).1
    }

    /// Whether a delivery is on its way.
    pub(super) fn delivers(&self) -> bool {
        let written = || self.written.values().any(|written| matches!(written, Written::Delivery(..)));
        !self.ready.is_empty() || !self.round.is_empty() || written()
    }

    /// How many stanzas wait that are no deliveries.
    pub(super) fn backlog(&self) -> usize {
        self.others.len()
    }
}

#[cfg(test)]
mod tests {
    use xmpp_core::ns;

    use super::*;

    #[test]
    fn what_is_not_missed_is_not_remembered() {
        let (mut outgoing, mut sheet) = (Outgoing::default(), Sheet::default());
        for _ in 0..1_000 {
            outgoing.push(Purpose::Other, Element::bare("iq", ns::CLIENT));
            assert!(outgoing.write(&mut sheet).any());
        }
        assert_eq!((sheet.sent(), outgoing.written.len()), (1_000, 0));
    }

    #[derive(Default)]
    struct Sheet(Vec<String>);

    impl Wire for Sheet {
        fn send(&mut self, stanza: &Element) -> u64 {
            self.0.push(stanza.name().to_owned());
            self.sent()
        }

        fn sent(&self) -> u64 {
            self.0.len() as u64
        }
    }

    fn ready(ticket: u64) -> Ready {
        Ready {
            ticket: Ticket(ticket),
            person: PersonId::new("ann"),
            derived: DerivedId::new(format!("d{ticket}")),
            element: Element::bare(format!("message{ticket}"), ns::CLIENT),
            filler: Element::bare("filler", ns::CLIENT),
        }
    }

    fn other(outgoing: &mut Outgoing, name: &str) {
        outgoing.push(Purpose::Other, Element::bare(name, ns::CLIENT));
    }

    #[test]
    fn nothing_is_written_between_attempt_and_answer() {
        let (mut outgoing, mut sheet) = (Outgoing::default(), Sheet::default());
        other(&mut outgoing, "presence");
        outgoing.push_ready(ready(1));
        outgoing.push_ready(ready(2));
        let wrote = outgoing.write(&mut sheet);
        assert_eq!(wrote.attempts, [(Ticket(1), 2), (Ticket(2), 3)]);
        other(&mut outgoing, "iq");
        outgoing.push_ready(ready(3));
        outgoing.answer(Ticket(1), true);
        assert!(!outgoing.write(&mut sheet).any());
        assert_eq!(sheet.0, ["presence"]);
        outgoing.answer(Ticket(9), true);
        outgoing.answer(Ticket(2), true);
        let wrote = outgoing.write(&mut sheet);
        assert_eq!(sheet.0, ["presence", "message1", "message2", "iq"]);
        assert_eq!(wrote.attempts, [(Ticket(3), 5)]);
        assert_eq!(outgoing.acknowledged(2), [(Ticket(1), DerivedId::new("d1"))]);
        outgoing.came_back("d1");
        assert_eq!(outgoing.acknowledged(4), [(Ticket(2), DerivedId::new("d2"))]);
    }

    #[test]
    fn a_position_given_up_is_taken_by_the_next_stanza() {
        let (mut outgoing, mut sheet) = (Outgoing::default(), Sheet::default());
        (1..=4).for_each(|ticket| outgoing.push_ready(ready(ticket)));
        outgoing.write(&mut sheet);
        for (ticket, write) in [(1, false), (2, true), (3, false), (4, true)] {
            outgoing.answer(Ticket(ticket), write);
        }
        other(&mut outgoing, "presence");
        outgoing.write(&mut sheet);
        assert_eq!(sheet.0, ["presence", "message2", "filler", "message4"]);
        assert_eq!(outgoing.acknowledged(4).len(), 2);

        outgoing.push_ready(ready(5));
        outgoing.write(&mut sheet);
        outgoing.answer(Ticket(5), false);
        outgoing.push_ready(ready(6));
        let wrote = outgoing.write(&mut sheet);
        assert_eq!(wrote.attempts, [(Ticket(6), 5)], "at the end nothing has to fill it");
    }

    #[test]
    fn after_a_resumption_only_what_was_lost_is_done_again() {
        let (mut outgoing, mut sheet) = (Outgoing::default(), Sheet::default());
        let ann = PersonId::new("ann");
        for purpose in [Purpose::Start(ann.clone()), Purpose::Presence(ann.clone())] {
            outgoing.push(purpose, Element::bare("other", ns::CLIENT));
        }
        outgoing.push_ready(ready(1));
        outgoing.write(&mut sheet);
        outgoing.answer(Ticket(1), true);
        outgoing.push_ready(ready(2));
        outgoing.write(&mut sheet);
        outgoing.push_ready(ready(3));
        assert_eq!(outgoing.lost(), [(Ticket(3), ann.clone())], "never attempted");
        let (again, forgotten) = outgoing.resumed(1);
        assert_eq!(again, [Purpose::Presence(ann)]);
        assert_eq!(forgotten, [Ticket(2), Ticket(1)], "the router settles these by their positions");
        outgoing.answer(Ticket(2), true);
        assert!(!outgoing.write(&mut sheet).any(), "an answer that comes late writes nothing");
        assert!(!outgoing.delivers());
    }
}
