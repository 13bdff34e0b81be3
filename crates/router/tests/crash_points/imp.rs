//! IM and Presence and the Jabber edge, as simple as they can be: one stream that carries every session.

use std::collections::{BTreeMap, VecDeque};

use router::envelope::{Body, Envelope, Form, JabberOrigin, Kind, Link, Origin};
use router::ids::{
    DerivedId, ImpStreamId, JabberId, PersonId, Position, StanzaId, StreamId, Ticket, Time, Upstream,
};
use router::inbound::{Cause, Inbound, Outcome, SessionEvent, StreamEvent};
use router::outbox::{EntryKind, Stored};

/// What the server sends to the connector.
#[derive(Clone, Debug)]
pub(crate) enum Stanza {
    Chat { session: PersonId, form: Form, from: PersonId, to: PersonId, id: String, text: String },
    Pong(PersonId),
}

/// What the connector writes.
#[derive(Clone, Debug)]
pub(crate) enum Written {
    Message { id: DerivedId, conversation: String, text: String },
    Ping(PersonId),
    Presence,
}

/// The server.
#[derive(Debug, Default)]
pub(crate) struct Imp {
    /// Which stream it is, counted from 1; 0 before the first.
    pub(crate) generation: u32,
    sent: u64,
    /// Sent and not acknowledged; with the time of sending, and whether it was sent again.
    pub(crate) unacknowledged: VecDeque<(u64, Stanza, Time, bool)>,
    /// Handled of ours.
    pub(crate) h: u64,
    pub(crate) tcp: VecDeque<Written>,
    /// What Jabber users have seen of us, in order, by conversation.
    pub(crate) shown: BTreeMap<String, Vec<(String, DerivedId)>>,
}

impl Imp {
    pub(crate) fn send(&mut self, stanza: Stanza, now: Time) {
        self.sent += 1;
        self.unacknowledged.push_back((self.sent, stanza, now, false));
    }

    /// The next stream: what was not acknowledged on the last one is replayed, stamped; pings are forgotten.
    fn begin_another(&mut self, now: Time) {
        self.generation += 1;
        (self.sent, self.h) = (0, 0);
        for (_, stanza, sent, _) in std::mem::take(&mut self.unacknowledged) {
            if let Stanza::Chat { .. } = stanza {
                self.send(stanza, sent);
            }
        }
        // The server stamps with the moment at which it first had the message, before the session began.
        for (_, _, sent, again) in &mut self.unacknowledged {
            (*sent, *again) = ((*sent).min(now.plus(-1)), true);
        }
    }

    /// Handles the next stanza of ours. Copies go to the sessions of both, and are ours to recognize.
    pub(crate) fn handle(&mut self, now: Time, served: &[PersonId]) {
        let Some(written) = self.tcp.pop_front() else { return };
        self.h += 1;
        match written {
            Written::Message { id, conversation, text } => {
                let (a, b) = super::pair(&conversation);
                self.shown.entry(conversation).or_default().push((text.clone(), id.clone()));
                for (session, form, from, to) in [(&a, Form::Direct, &b, &a), (&b, Form::Sent, &b, &a)] {
                    if served.contains(session) {
                        let (session, from, to) = (session.clone(), from.clone(), to.clone());
                        let (id, text) = (id.as_str().to_owned(), text.clone());
                        self.send(Stanza::Chat { session, form, from, to, id, text }, now);
                    }
                }
            }
            Written::Ping(person) => self.send(Stanza::Pong(person), now),
            Written::Presence => {}
        }
    }

    pub(crate) fn acknowledged(&mut self, n: u64) {
        while self.unacknowledged.front().is_some_and(|(k, ..)| *k <= n) {
            self.unacknowledged.pop_front();
        }
    }
}

/// The Jabber edge of one run.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) up: bool,
    /// Read in this process.
    pub(crate) read: u64,
    /// What we may acknowledge.
    pub(crate) allowed: u64,
    /// Stanzas written, as far as counts go.
    out: u64,
    /// An attempt that waits for its commit: nothing else is written meanwhile.
    pub(crate) busy: Option<(Ticket, Written)>,
    pub(crate) queue: VecDeque<(Ticket, Stored)>,
    unanswered: Vec<(u64, Ticket, DerivedId)>,
    /// Nothing is written before the router has settled the stream.
    pub(crate) settling: bool,
    pub(crate) pings: VecDeque<PersonId>,
}

pub(crate) fn stream(generation: u32) -> ImpStreamId {
    ImpStreamId::new(format!("link-{generation}"))
}

impl Edge {
    pub(crate) fn new(stored: u64) -> Self {
        Self {
            up: false,
            read: stored,
            allowed: stored,
            out: 0,
            busy: None,
            queue: VecDeque::new(),
            unanswered: Vec::new(),
            settling: false,
            pings: VecDeque::new(),
        }
    }

    /// Connects: resumes the stream, or is refused and begins another one.
    pub(crate) fn connect(
        &mut self,
        imp: &mut Imp,
        refuse: bool,
        now: Time,
        served: &[PersonId],
    ) -> Vec<Inbound> {
        self.up = true;
        let resumed = imp.generation > 0 && !refuse;
        let mut inbound = Vec::new();
        imp.acknowledged(self.allowed);
        if resumed {
            for (n, _, _, again) in &mut imp.unacknowledged {
                *again |= *n > self.read;
            }
            self.out = imp.h;
            self.settling = true;
            let event = StreamEvent::Resumed { h: imp.h };
            inbound.push(Inbound::Stream(stream(imp.generation), event));
        } else {
            if imp.generation > 0 {
                let event = StreamEvent::Refused { h: None };
                inbound.push(Inbound::Stream(stream(imp.generation), event));
            }
            imp.begin_another(now);
            (self.read, self.allowed, self.out, self.settling) = (0, 0, 0, false);
            let event = StreamEvent::Up { acknowledges: true };
            inbound.push(Inbound::Stream(stream(imp.generation), event));
        }
        for person in served {
            let event = SessionEvent::Opening { stream: stream(imp.generation), resumed, at: now };
            inbound.push(Inbound::Session(person.clone(), event));
        }
        self.pings = served.iter().cloned().collect();
        inbound
    }

    /// The link is cut; the server has got a part of what was on the wire.
    pub(crate) fn cut(&mut self, imp: &mut Imp, arrived: usize, now: Time, served: &[PersonId]) -> Inbound {
        for _ in 0..arrived {
            imp.handle(now, served);
        }
        imp.tcp.clear();
        self.up = false;
        self.busy = None;
        self.unanswered.clear();
        Inbound::Stream(stream(imp.generation), StreamEvent::Lost)
    }

    pub(crate) fn can_write(&self) -> bool {
        self.up && !self.settling && self.busy.is_none()
    }

    pub(crate) fn write(&mut self, imp: &mut Imp, written: Written) {
        self.out += 1;
        imp.tcp.push_back(written);
    }

    /// Works on the next delivery.
    pub(crate) fn attempt(&mut self, imp: &Imp) -> Option<Inbound> {
        let (ticket, stored) = self.queue.pop_front()?;
        if !self.up {
            let cause = Cause::Session(stored.entry.carrier);
            return Some(Inbound::Receipt(ticket, Outcome::Later { cause, after: None }));
        }
        let entry = stored.entry;
        let text = match (&entry.kind, &entry.body) {
            (EntryKind::DeleteNotice, _) => format!("notice {}", entry.source),
            (_, Body::Sealed { jwe, .. }) => jwe.to_string(),
            other => panic!("a stanza of {other:?}"),
        };
        let conversation = entry.conversation.expect("it came from one").as_str().to_owned();
        self.busy = Some((ticket, Written::Message { id: entry.derived, conversation, text }));
        Some(Inbound::Attempt(ticket, Some(Position { stream: stream(imp.generation), n: self.out + 1 })))
    }

    pub(crate) fn committed(&mut self, ticket: Ticket, imp: &mut Imp, write: bool) {
        let Some((_, written)) = self.busy.take_if(|(t, _)| *t == ticket) else { return };
        if write {
            let Written::Message { id, .. } = &written else { return };
            let id = id.clone();
            self.write(imp, written);
            self.unanswered.push((self.out, ticket, id));
        }
    }

    /// The server's `<a h>`.
    pub(crate) fn answered(&mut self, h: u64) -> Vec<Inbound> {
        let (done, open) = std::mem::take(&mut self.unanswered).into_iter().partition(|(n, ..)| *n <= h);
        self.unanswered = open;
        let done: Vec<(u64, Ticket, DerivedId)> = done;
        done.into_iter()
            .map(|(_, ticket, id)| Inbound::Receipt(ticket, Outcome::Delivered(Link::Stanza(id))))
            .collect()
    }

    /// Whether the server's `<a h>` would say anything new.
    pub(crate) fn waits_for(&self, h: u64) -> bool {
        self.unanswered.iter().any(|(n, ..)| *n <= h)
    }

    /// Reads the next stanza.
    pub(crate) fn read(&mut self, imp: &Imp, now: Time) -> Vec<Inbound> {
        let next = imp.unacknowledged.iter().find(|(n, ..)| *n > self.read);
        let Some((n, stanza, sent, again)) = next else { return Vec::new() };
        self.read = *n;
        let upstream = Upstream { stream: StreamId::Imp(stream(imp.generation)), n: *n };
        match stanza {
            Stanza::Pong(person) => {
                vec![Inbound::Session(person.clone(), SessionEvent::Settled), Inbound::Handled(upstream)]
            }
            Stanza::Chat { session, form, from, to, id, text } => {
                let mut hash = [0; 32];
                hash[..text.len().min(32)].copy_from_slice(&text.as_bytes()[..text.len().min(32)]);
                let origin = JabberOrigin {
                    session: session.clone(),
                    form: *form,
                    from: format!("{from}@x/phone").into(),
                    from_bare: JabberId::new(format!("{from}@x")),
                    to: JabberId::new(format!("{to}@x")),
                    stanza: StanzaId::new(id.as_str()),
                    origin_id: None,
                    text_hash: hash,
                    stamp: again.then_some(*sent),
                };
                let envelope = Envelope { origin: Origin::Jabber(origin), kind: Kind::Text, arrived: now };
                vec![Inbound::Message(envelope, vec![Body::Clear(text.as_str().into())], upstream)]
            }
        }
    }

    pub(crate) fn can_read(&self, imp: &Imp) -> bool {
        self.up && imp.unacknowledged.back().is_some_and(|(n, ..)| *n > self.read)
    }
}
