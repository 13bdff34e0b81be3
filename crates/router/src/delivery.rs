//! Deliveries: handed out by credit, attempted, settled by their stream, returned or finished.

use std::time::Duration;

use crate::entitlement::Client;
use crate::envelope::Link;
use crate::ids::{DerivedId, EntryId, ImpStreamId, PersonId, Position, StanzaId, Ticket, Time};
use crate::inbound::{Cause, Outcome, StreamEvent};
use crate::lane::{Live, Pick, own};
use crate::machine::Router;
use crate::outbound::{MaybeSent, Outbound};
use crate::outbox::{Change, EntryKind, EntryState, Lane};
use crate::probe::Tried;
use crate::timers::Timer;
use crate::times::Times;

/// One delivery that an edge is busy with.
#[derive(Debug)]
pub(crate) struct Delivery {
    entry: EntryId,
    lane: Lane,
    /// It finds out whether this cause is gone.
    probe: Option<Cause>,
    position: Option<Position>,
}

/// How many posts of a lane share the commit that says that they are attempted.
const AHEAD: usize = 32;

/// How often a stanza that came back with this error condition is sent again ([RFC 6120 §8.3.3],
/// [`Kind::Bounced`](crate::envelope::Kind)): as often as its session has to be opened again, a few times where
/// the server could not, and not at all where the recipient's side will not have it.
///
/// [RFC 6120 §8.3.3]: https://www.rfc-editor.org/rfc/rfc6120#section-8.3.3
fn patience(condition: &str) -> u32 {
    match condition {
        "session-ended" => u32::MAX,
        "internal-server-error" | "remote-server-timeout" | "resource-constraint" | "undefined-condition" => {
            5
        }
        _ => 0,
    }
}

/// The recipient is not in Jabber, and nothing is stored for whoever is away: in Webex it has arrived (OFF-06).
fn is_away(condition: &str) -> bool {
    matches!(condition, "service-unavailable" | "recipient-unavailable")
}

const GONE: &str = "rule 16: sender or recipient has left the directory";
const NOTHING_TO_RETRACT: &str = "rule 19: the deleted message was never shown";
const DISABLED: &str = "disabled";
const TOO_OLD: &str = "undelivered for too long";
const BOUNCED: &str = "the recipient's server refused it";

impl Router {
    /// Hands out what lanes have to deliver, while there is credit (rule 14).
    pub(crate) fn dispatch(&mut self, now: Time) {
        while self.deliveries.len() < self.config.capacity.max(1) {
            let Some(lane) = self.lanes.next_ready() else { return };
            loop {
                match self.lanes.pick(&lane, now, &self.config.times) {
                    Pick::Nothing => break,
                    Pick::NotBefore(at) => {
                        self.timers.set(Timer::Lane(lane.clone()), at);
                        break;
                    }
                    Pick::Entry { id, passes, probe } => {
                        if let Some(reason) = self.unfit(id) {
                            self.count_not_carried(reason);
                            self.close(id, reason);
                        } else if !self.wait_for_known(id, &lane, probe.as_ref(), now) {
                            if passes {
                                self.count("passed another sender's message");
                            }
                            self.deliver(id, lane.clone(), probe, now);
                            break;
                        }
                    }
                }
            }
            // A lane that was to try a cause and cannot, since something else stands in its way, leaves it to the next.
            if let Some(cause) = self.lanes.take_probe(&lane) {
                self.probe(&cause, now);
            }
        }
    }

    /// Why an entry must not be carried after all; looked up when it is its turn (rule 16).
    fn unfit(&self, id: EntryId) -> Option<&'static str> {
        let live = self.lanes.get(id)?;
        let entry = &live.entry;
        if let Lane::Told(person, _) = &entry.lane {
            return (!person.is_federated() && self.directory.by_person(person).is_none()).then_some(GONE);
        }
        let known = |person: &PersonId| {
            person.is_federated() || self.directory.by_person(person).is_some_and(|p| p.ours)
        };
        if !known(&entry.sender) || entry.recipient.as_ref().is_some_and(|p| !known(p)) {
            return Some(GONE);
        }
        let never = |state: &EntryState| matches!(state, EntryState::Closed(_));
        let notice = entry.kind == EntryKind::DeleteNotice;
        (notice && !live.targets.is_empty() && live.targets.iter().all(|t| never(&t.state)))
            .then_some(NOTHING_TO_RETRACT)
    }

    /// What is known to be in the way is not tried again, except by a probe.
    fn wait_for_known(&mut self, id: EntryId, lane: &Lane, probe: Option<&Cause>, now: Time) -> bool {
        let Some(live) = self.lanes.get_mut(id) else { return false };
        let carrier = live.entry.carrier.clone();
        let cause = match lane {
            Lane::ToWebex(..) => Cause::Token(carrier),
            Lane::ToJabber(_) | Lane::Told(_, Client::Jabber) => Cause::Session(carrier),
            Lane::Told(_, Client::Webex) => return false,
        };
        if !self.causes.stands(&cause) || probe == Some(&cause) {
            return false;
        }
        if own(&cause, &live.entry) {
            live.kept_since.get_or_insert(now);
        }
        let sender = live.entry.sender.clone();
        self.causes.wait(&cause, lane, &sender, Tried::default(), now, &self.config.times);
        self.lanes.block(lane, &sender, &cause);
        true
    }

    fn deliver(&mut self, id: EntryId, lane: Lane, probe: Option<Cause>, now: Time) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.lanes.begin(&lane, id, ticket);
        let Some(live) = self.lanes.get(id) else { return };
        let maybe = live.maybe;
        if let Lane::ToWebex(..) = lane {
            self.presence.writing(&live.entry.carrier, ticket, now, &self.config.times);
            if live.entry.kind == EntryKind::Read {
                self.note_own_mark(id);
            }
        }
        self.deliveries.insert(ticket, Delivery { entry: id, lane, probe, position: None });
        self.out.push_back(Outbound::Deliver(ticket, id, maybe));
    }

    /// The bytes are ready: the attempt is committed before they are written (rule 11).
    pub(crate) fn attempt(&mut self, ticket: Ticket, position: Option<Position>) {
        let Some(delivery) = self.deliveries.get_mut(&ticket) else {
            self.out.push_back(Outbound::Skip(ticket));
            return;
        };
        let id = delivery.entry;
        if position.as_ref().is_some_and(|p| self.lost.contains(&p.stream)) {
            self.out.push_back(Outbound::Skip(ticket));
            self.end(ticket);
            return;
        }
        delivery.position = position.clone();
        match position {
            Some(_) => {
                self.lanes.attempt(id, position.clone());
                self.outgoing.change(Change::Attempt(id, position));
            }
            None => {
                for id in self.lanes.from(id, AHEAD) {
                    if let Some(live) = self.lanes.get_mut(id).filter(|live| live.entry.run != self.run) {
                        live.entry.run = self.run;
                        self.outgoing.change(Change::Attempt(id, None));
                    }
                }
            }
        }
        self.outgoing.urgent = true;
        self.outgoing.attempts.push(ticket);
    }

    /// A delivery is over.
    pub(crate) fn receipt(&mut self, ticket: Ticket, outcome: Outcome, now: Time) {
        // One that was settled or given up meanwhile has no say any more.
        let Some(delivery) = self.deliveries.get(&ticket) else { return };
        let (id, lane, probe) = (delivery.entry, delivery.lane.clone(), delivery.probe.clone());
        let times = self.config.times;
        let to_webex = lane.towards() == Client::Webex;
        // The probe failed: whatever else ends it shows that its cause is gone (see `end`).
        if let (Outcome::Later { cause, .. }, Some(delivery)) = (&outcome, self.deliveries.get_mut(&ticket)) {
            delivery.probe.take_if(|probe| probe == cause);
        }
        match outcome {
            Outcome::Delivered(link) => self.done(id, link, now),
            Outcome::Uncarried(reason) => {
                self.count_not_carried(&reason);
                self.close(id, &reason);
            }
            Outcome::Wedged(reason) => self.wedge(id, &reason, now),
            Outcome::Unknown => {
                self.returned(id);
                if let Some(live) = self.lanes.get_mut(id) {
                    live.kept_since = None;
                    if to_webex {
                        live.maybe = MaybeSent::Since(now);
                        live.not_before = now.after(times.probe_first);
                    }
                }
            }
            Outcome::Unsettled => {
                self.returned(id);
                if let Some(live) = self.lanes.get_mut(id) {
                    live.kept_since = None;
                    let MaybeSent::Since(since) = live.maybe else { return };
                    live.not_before = since.after(times.settle).max(now.after(times.probe_first / 10));
                }
            }
            Outcome::Later { cause, after } => {
                self.returned(id);
                let Some(live) = self.lanes.get_mut(id) else { return };
                match own(&cause, &live.entry) {
                    true => live.kept_since = Some(live.kept_since.unwrap_or(now)),
                    false => live.kept_since = None,
                }
                let sender = live.entry.sender.clone();
                let tried = Tried { probed: probe.as_ref() == Some(&cause), after };
                if let Some(at) = self.causes.wait(&cause, &lane, &sender, tried, now, &times) {
                    self.timers.set(Timer::Probe(cause.clone()), at);
                }
                self.lanes.block(&lane, &sender, &cause);
            }
        }
    }

    /// What happened to a stream settles what was attempted on it (rule 11).
    pub(crate) fn stream(&mut self, stream: ImpStreamId, event: StreamEvent, now: Time) {
        match event {
            StreamEvent::Up { .. } => {
                self.lost.remove(&stream);
            }
            StreamEvent::Lost => {
                // Whatever was attempted waits for the stream's word, without credit.
                let tickets: Vec<Ticket> =
                    self.deliveries.iter().filter(|(_, d)| on(d, &stream)).map(|(t, _)| *t).collect();
                for ticket in tickets {
                    self.end(ticket);
                }
                self.lost.insert(stream);
            }
            StreamEvent::Resumed { h } => {
                self.settle(&stream, h, now);
                self.lost.remove(&stream);
                if self.committing.is_none() && self.outgoing.is_empty() {
                    self.out.push_back(Outbound::Settled(stream));
                } else {
                    self.outgoing.settled.push(stream);
                    self.outgoing.urgent = true;
                }
            }
            StreamEvent::Refused { h } => self.refused(&stream, h, now),
        }
    }

    /// A stream is over. Where its last count is unknown, everything unsettled is sent again, with the same
    /// id: the stated window.
    pub(crate) fn refused(&mut self, stream: &ImpStreamId, h: Option<u64>, now: Time) {
        self.settle(stream, h.unwrap_or(0), now);
        self.lost.remove(stream);
        self.outgoing.forget_stream(stream);
    }

    fn settle(&mut self, stream: &ImpStreamId, h: u64, now: Time) {
        self.timers.cancel(&Timer::Resumption(stream.clone()));
        for (n, id) in self.lanes.attempts(stream) {
            if n <= h {
                if let Some(live) = self.lanes.get(id) {
                    let link = Link::Stanza(live.entry.derived.clone());
                    self.done(id, link, now);
                    self.outgoing.urgent = true;
                }
            } else {
                self.returned(id);
            }
        }
    }

    /// It did not arrive, as far as we know: back to its place.
    fn returned(&mut self, id: EntryId) {
        let Some(live) = self.lanes.get(id) else { return };
        let (lane, ticket, attempted) = (live.entry.lane.clone(), live.ticket, live.entry.attempt.is_some());
        if let Some(ticket) = ticket {
            self.end(ticket);
        }
        if attempted {
            self.lanes.attempt(id, None);
            self.outgoing.change(Change::Return(id));
        }
        self.lanes.ready(&lane);
    }

    /// Takes a delivery back; its credit is free. A probe came past its cause, also where not its receipt ended
    /// it but its post that came back, or its stream.
    fn end(&mut self, ticket: Ticket) {
        if let Some(delivery) = self.deliveries.remove(&ticket) {
            self.lanes.end(&delivery.lane, delivery.entry);
            if let Some(cause) = delivery.probe {
                self.cause_gone(&cause);
            }
        }
    }

    /// It arrived, as this.
    pub(crate) fn done(&mut self, id: EntryId, link: Link, now: Time) {
        let end = EntryState::Done(Some(link.clone()));
        let Some(live) = self.finish(id, end) else { return };
        if let (Some(ticket), Lane::ToWebex(..)) = (live.ticket, &live.entry.lane) {
            self.presence.written(&live.entry.carrier, ticket, now);
        }
        self.counters.delivered += 1;
        if live.entry.kind.is_told() {
            self.count("people told");
        }
        self.outgoing.later(Change::Done(id, Some(link)));
        if let Lane::ToJabber(_) = live.entry.lane {
            self.delivered.note(live, now);
        }
    }

    /// It leaves its lane for good.
    pub(crate) fn close(&mut self, id: EntryId, reason: &str) {
        if self.finish(id, EntryState::Closed(reason.into())).is_some() {
            self.outgoing.change(Change::Close(id, reason.into()));
        }
    }

    /// It is stuck for good: an operator and its sender are told (rule 21).
    pub(crate) fn wedge(&mut self, id: EntryId, reason: &str, now: Time) {
        let Some(entry) = self.lanes.get(id).map(|live| live.entry.clone()) else { return };
        self.close(id, reason);
        *self.counters.wedged.entry(reason.into()).or_insert(0) += 1;
        self.out.push_back(Outbound::GivenUp(id, reason.into()));
        if !entry.reported {
            self.tell_writer(&entry, EntryKind::Undelivered, now);
        }
    }

    fn finish(&mut self, id: EntryId, end: EntryState) -> Option<Live> {
        let ticket = self.lanes.get(id)?.ticket;
        if let Some(ticket) = ticket {
            self.end(ticket);
        }
        let mut live = self.lanes.remove(id, end)?;
        live.ticket = ticket;
        Some(live)
    }

    /// A stanza of ours came back, from `outside` or not: it may be worth another try, also after its receipt (rule 11).
    pub(crate) fn bounced(&mut self, of: &StanzaId, condition: &str, outside: bool, now: Time) {
        self.count("returned stanzas");
        let derived = DerivedId::new(of.as_str());
        let unfinished = self.lanes.by_derived(of.as_str());
        let found = match unfinished {
            Some(id) => self.lanes.get(id).map(|live| (id, live.returns)),
            None => self.delivered.find(&derived),
        };
        let Some((id, returns)) = found else { return };
        if returns < patience(condition) {
            self.count("returned stanzas sent again");
            match unfinished {
                Some(id) => self.returned(id),
                None => self.reopen(&derived),
            }
            if let Some(live) = self.lanes.get_mut(id) {
                live.returns = returns.saturating_add(1);
                // What comes back again and again is not sent in a circle without a pause.
                live.not_before = now.after(pause(returns, &self.config.times));
            }
        } else if is_away(condition) && !outside {
            self.close(id, BOUNCED);
        } else {
            if unfinished.is_none() {
                self.reopen(&derived);
            }
            self.wedge(id, BOUNCED, now);
        }
    }

    /// Back to its place: whatever waits now came after it.
    fn reopen(&mut self, derived: &DerivedId) {
        let Some((place, live)) = self.delivered.take_back(derived) else { return };
        self.outgoing.change(Change::Reopen(live.entry.id, place));
        self.lanes.insert(live);
    }

    /// Tries whether a cause is gone, with the lane whose turn it is.
    pub(crate) fn probe(&mut self, cause: &Cause, now: Time) {
        while let Some((lane, sender)) = self.causes.probe(cause) {
            if self.lanes.unblock(&lane, &sender, Some(cause.clone())) {
                // Should nothing come of it, the next one tries.
                self.timers.set(Timer::Probe(cause.clone()), now.after(self.config.times.probe_longest));
                return;
            }
        }
    }

    /// A cause is gone: whoever waited for it goes on.
    pub(crate) fn cause_gone(&mut self, cause: &Cause) {
        self.timers.cancel(&Timer::Probe(cause.clone()));
        for (lane, sender) in self.causes.gone(cause) {
            self.lanes.unblock(&lane, &sender, None);
        }
    }

    /// What became too old while it waited is reported, then given up (rules 13 and 21).
    pub(crate) fn age(&mut self, now: Time) {
        let times = self.config.times;
        let mut next: Option<Time> = None;
        let (mut report, mut give_up) = (Vec::new(), Vec::new());
        for live in self.lanes.all() {
            let entry = &live.entry;
            let over = entry.committed.after(times.give_up);
            let told = entry.committed.after(times.report);
            let reported = entry.reported || !entry.kind.is_written();
            if over <= now {
                give_up.push(entry.id);
                continue;
            }
            if !reported && told <= now {
                report.push(entry.id);
            }
            let due = if reported || told <= now { over } else { told };
            next = Some(next.map_or(due, |n| n.min(due)));
        }
        for id in give_up {
            self.wedge(id, TOO_OLD, now);
        }
        for id in report {
            let Some(live) = self.lanes.get_mut(id) else { continue };
            live.entry.reported = true;
            let entry = live.entry.clone();
            self.count("messages not delivered for a day");
            self.tell_writer(&entry, EntryKind::Late, now);
        }
        if let Some(at) = next {
            self.timers.set(Timer::Age, at);
        }
    }

    /// What needs the session or the token of somebody who is not served any more can never go (rule 17).
    pub(crate) fn wedge_all_of(&mut self, person: &PersonId, now: Time) {
        // What the bot says needs neither.
        let carries = |live: &&Live| {
            live.entry.carrier == *person && !matches!(live.entry.lane, Lane::Told(_, Client::Webex))
        };
        let theirs: Vec<EntryId> = self.lanes.all().filter(carries).map(|live| live.entry.id).collect();
        for id in theirs {
            self.wedge(id, DISABLED, now);
        }
    }
}

/// How long something waits that has come back so often before: not at all the first time.
fn pause(returns: u32, times: &Times) -> Duration {
    match returns.checked_sub(1) {
        None => Duration::ZERO,
        Some(n) => times.probe_first.saturating_mul(1 << n.min(16)).min(times.probe_longest),
    }
}

fn on(delivery: &Delivery, stream: &ImpStreamId) -> bool {
    delivery.position.as_ref().is_some_and(|p| p.stream == *stream)
}
