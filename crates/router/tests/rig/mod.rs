//! A router with a store in memory that commits at once: for tests of one behaviour at a time.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use router::entitlement::Client;
use router::envelope::{
    Body, Envelope, Form, JabberOrigin, Kind, Link, Marked, Origin, Typing, TypingOrigin, Via, WebexOrigin,
};
use router::ids::{
    ActivityId, ConversationId, EntryId, ImpStreamId, JabberId, PersonId, StanzaId, StreamId, Ticket, Time,
    Upstream,
};
use router::inbound::{Facts, Inbound, Outcome, PersonFacts, SessionEvent};
use router::memory::MemoryStorage;
use router::outbound::{Hint, MaybeSent, Outbound, Wanted};
use router::outbox::{Entry, EntryState, Storage};
use router::tag::Tagger;
use router::times::Times;
use router::{Config, Router};

pub(crate) fn tagger() -> Tagger {
    Tagger::new(b"the organization's key", &[])
}

pub(crate) fn person(name: &str) -> PersonId {
    PersonId::new(name)
}

pub(crate) fn stream() -> ImpStreamId {
    ImpStreamId::new("link")
}

/// A person of the directory: of our organization, in Jabber and in Webex.
pub(crate) fn facts(name: &str, enabled: bool) -> PersonFacts {
    PersonFacts {
        id: person(name),
        ours: true,
        jid: Some(JabberId::new(format!("{name}@x"))),
        home: Some("".into()),
        mail: format!("{name}@corp.example").into(),
        name: name.into(),
        enabled,
        pending: false,
        token: true,
    }
}

/// The router and what it has asked for.
pub(crate) struct Rig {
    pub(crate) router: Router,
    pub(crate) storage: MemoryStorage,
    pub(crate) now: Time,
    pub(crate) out: Vec<Outbound>,
    /// How many batches were committed.
    pub(crate) commits: usize,
    n: u64,
    config: Config,
}

pub(crate) fn config() -> Config {
    Config {
        tagger: tagger(),
        // What comes is committed at once, however much is under way.
        times: Times { gather: Duration::ZERO, ..Times::default() },
        capacity: 8,
        deliver_to_pending: false,
        since: Some(Time(0)),
        rate: None,
        bot: true,
        notices: false,
        federation: Some(vec!["x".into()]),
    }
}

impl Rig {
    /// Enabled ann and bob, and carol and dave who are not; sessions settled, everybody caught up.
    pub(crate) fn new() -> Self {
        Self::with(
            config(),
            [("ann", true), ("bob", true), ("carol", false), ("dave", false)]
                .map(|(n, e)| facts(n, e))
                .to_vec(),
        )
    }

    pub(crate) fn with(config: Config, people: Vec<PersonFacts>) -> Self {
        let mut rig = Self::bare(config);
        let served: Vec<PersonId> =
            people.iter().filter(|p| p.enabled && p.ours).map(|p| p.id.clone()).collect();
        rig.handle(Inbound::Directory(Facts { people, complete: true }));
        for person in served {
            rig.open(person.as_str());
            rig.caught_up(person.as_str(), 0);
        }
        rig.out.clear();
        rig
    }

    /// A router with an empty store, that knows nobody.
    pub(crate) fn bare(config: Config) -> Self {
        let mut storage = MemoryStorage::new(config.tagger.clone());
        let now = Time(1_000_000_000_000);
        let loaded = storage.load(now).expect("memory loads");
        let router = Router::new(config.clone(), loaded, now).expect("an empty store is readable");
        let mut rig = Self { router, storage, now, out: Vec::new(), commits: 0, n: 0, config };
        rig.drain();
        rig
    }

    /// The process dies and starts again from the store.
    pub(crate) fn restart(&mut self) {
        let loaded = self.storage.load(self.now).expect("memory loads");
        self.router = Router::new(self.config.clone(), loaded, self.now).expect("the store is readable");
        self.out.clear();
        self.drain();
    }

    /// The same with other settings.
    pub(crate) fn restart_with(&mut self, config: Config) {
        self.config = config;
        self.restart();
    }

    pub(crate) fn handle(&mut self, inbound: Inbound) {
        self.router.handle(inbound, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(outbound) = self.router.poll_outbound() {
            match outbound {
                Outbound::Commit(batch) => {
                    let id = batch.id;
                    self.commits += 1;
                    let mut answers = self.storage.commit(&[batch], self.now).expect("memory commits");
                    self.router.handle(Inbound::Committed(id, answers.remove(0)), self.now);
                }
                other => self.out.push(other),
            }
        }
    }

    /// Lets time pass, with everything that becomes due on the way.
    pub(crate) fn pass(&mut self, wait: Duration) {
        let until = self.now.after(wait);
        while let Some(at) = self.router.deadline().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.router.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    pub(crate) fn open(&mut self, who: &str) {
        let event = SessionEvent::Opening { stream: stream(), resumed: false, at: self.now };
        self.handle(Inbound::Session(person(who), event));
        self.handle(Inbound::Session(person(who), SessionEvent::Settled));
    }

    pub(crate) fn caught_up(&mut self, who: &str, trigger: u64) {
        self.handle(Inbound::CaughtUp(person(who), trigger, self.now));
    }

    pub(crate) fn upstream(&mut self) -> Upstream {
        self.n += 1;
        Upstream { stream: StreamId::Imp(stream()), n: self.n }
    }

    /// A message written in Jabber, as it comes to one session.
    pub(crate) fn jabber(&mut self, session: &str, from: &str, to: &str, id: &str, text: &str) {
        let origin = self.jabber_origin(session, from, to, id, text);
        self.jabber_with(origin, Kind::Text, text);
    }

    pub(crate) fn jabber_origin(
        &self,
        session: &str,
        from: &str,
        to: &str,
        id: &str,
        text: &str,
    ) -> JabberOrigin {
        let mut text_hash = [0; 32];
        for (at, byte) in text.bytes().take(32).enumerate() {
            text_hash[at] = byte;
        }
        JabberOrigin {
            session: person(session),
            form: if session == from { Form::Sent } else { Form::Direct },
            from: format!("{from}@x/phone").into(),
            from_bare: JabberId::new(format!("{from}@x")),
            to: JabberId::new(format!("{to}@x")),
            stanza: StanzaId::new(id),
            origin_id: None,
            text_hash,
            stamp: None,
        }
    }

    pub(crate) fn jabber_with(&mut self, origin: JabberOrigin, kind: Kind, text: &str) {
        let upstream = self.upstream();
        let parts = match kind {
            Kind::Text | Kind::FileNotice => vec![Body::Clear(text.into())],
            _ => Vec::new(),
        };
        let envelope = Envelope { origin: Origin::Jabber(origin), kind, arrived: self.now };
        self.handle(Inbound::Message(envelope, parts, upstream));
    }

    pub(crate) fn webex_origin(&self, socket: &str, actor: &str, other: &str, activity: &str) -> WebexOrigin {
        let (a, b) = if actor < other { (actor, other) } else { (other, actor) };
        WebexOrigin {
            socket: person(socket),
            via: Via::Socket,
            activity: ActivityId::new(activity),
            conversation: ConversationId::new(format!("{a}+{b}")),
            one_on_one: true,
            actor: person(actor),
            published: self.now,
            client_temp_id: None,
            iv: None,
        }
    }

    /// A message written in Webex, as it comes to one socket.
    pub(crate) fn webex(&mut self, socket: &str, actor: &str, other: &str, activity: &str) {
        let origin = self.webex_origin(socket, actor, other, activity);
        self.webex_with(origin, Kind::Text);
    }

    pub(crate) fn webex_with(&mut self, origin: WebexOrigin, kind: Kind) {
        self.n += 1;
        let upstream = Upstream { stream: StreamId::Mercury(origin.socket.clone(), 1), n: self.n };
        let sealed = Body::Sealed { key: "kms://key".into(), jwe: origin.activity.as_str().into() };
        let parts = match kind {
            Kind::Text | Kind::Files | Kind::Edit { .. } => vec![sealed],
            _ => Vec::new(),
        };
        let envelope = Envelope { origin: Origin::Webex(origin), kind, arrived: self.now };
        self.handle(Inbound::Message(envelope, parts, upstream));
    }

    pub(crate) fn webex_read(&mut self, socket: &str, reader: &str, other: &str, of: &str) {
        let origin = self.webex_origin(socket, reader, other, "mark");
        self.webex_with(origin, Kind::Read(Marked::Activity(ActivityId::new(of))));
    }

    pub(crate) fn typing(&mut self, from: TypingOrigin, active: bool) {
        let upstream = self.upstream();
        self.handle(Inbound::Typing(Typing { from, active, stale: false }, upstream));
    }

    /// Takes the deliveries that were asked for since the last time.
    pub(crate) fn deliveries(&mut self) -> Vec<(Ticket, Entry, MaybeSent)> {
        let mut deliveries = Vec::new();
        let storage = &mut self.storage;
        self.out.retain(|outbound| match outbound {
            Outbound::Deliver(ticket, id, maybe) => {
                let stored = storage.entry(*id).expect("memory reads").expect("the entry is there");
                deliveries.push((*ticket, stored.entry, *maybe));
                false
            }
            _ => true,
        });
        deliveries
    }

    /// Takes the one delivery that was asked for.
    pub(crate) fn delivery(&mut self) -> (Ticket, Entry, MaybeSent) {
        let mut deliveries = self.deliveries();
        assert_eq!(deliveries.len(), 1, "{deliveries:?}");
        deliveries.remove(0)
    }

    pub(crate) fn receipt(&mut self, ticket: Ticket, outcome: Outcome) {
        self.handle(Inbound::Receipt(ticket, outcome));
    }

    pub(crate) fn delivered(&mut self, ticket: Ticket, entry: &Entry) {
        let link = match entry.lane.towards() {
            Client::Jabber => Link::Stanza(entry.derived.clone()),
            Client::Webex => Link::Activity(
                ActivityId::new(format!("posted-{}", entry.id.0)),
                ConversationId::new("ann+bob"),
            ),
        };
        self.receipt(ticket, Outcome::Delivered(link));
    }

    /// Delivers whatever there is, and what follows from it; in order.
    pub(crate) fn deliver_all(&mut self) -> Vec<Entry> {
        let mut all = Vec::new();
        loop {
            let deliveries = self.deliveries();
            if deliveries.is_empty() {
                return all;
            }
            for (ticket, entry, _) in deliveries {
                self.delivered(ticket, &entry);
                all.push(entry);
            }
        }
    }

    pub(crate) fn state(&mut self, id: EntryId) -> EntryState {
        self.storage.entry(id).expect("memory reads").expect("the entry is there").entry.state
    }

    /// What is wanted of a person's session, as last said since the output was cleared; whenever that person did
    /// something last.
    pub(crate) fn wanted(&self, who: &str) -> Option<Wanted> {
        self.session(who).map(|wanted| match wanted {
            Wanted::Open { show, text, .. } => Wanted::Open { show: *show, text, active: None },
            Wanted::Closed => Wanted::Closed,
        })
    }

    /// The same, word for word.
    pub(crate) fn session(&self, who: &str) -> Option<&Wanted> {
        self.out.iter().rev().find_map(|outbound| match outbound {
            Outbound::Session(p, wanted) if p.as_str() == who => Some(wanted),
            _ => None,
        })
    }

    /// Takes the hints that were given.
    pub(crate) fn hints(&mut self) -> Vec<Hint> {
        let mut hints = Vec::new();
        self.out.retain(|outbound| match outbound {
            Outbound::Hint(hint) => {
                hints.push(hint.clone());
                false
            }
            _ => true,
        });
        hints
    }

    pub(crate) fn acknowledged(&self, stream: &StreamId) -> u64 {
        let acks = self.out.iter().filter_map(|outbound| match outbound {
            Outbound::Acknowledge(upstream) if upstream.stream == *stream => Some(upstream.n),
            _ => None,
        });
        acks.max().unwrap_or(0)
    }

    /// Delivers what people are told, and nothing else; in order.
    pub(crate) fn told(&mut self) -> Vec<Entry> {
        let (told, others): (Vec<_>, Vec<_>) =
            self.deliveries().into_iter().partition(|(_, entry, _)| entry.kind.is_told());
        self.out.extend(others.into_iter().map(|(t, entry, maybe)| Outbound::Deliver(t, entry.id, maybe)));
        told.into_iter()
            .map(|(ticket, entry, _)| {
                self.delivered(ticket, &entry);
                entry
            })
            .collect()
    }

    /// What an operator was told, since the output was cleared.
    pub(crate) fn given_up(&self) -> Vec<(EntryId, &str)> {
        let reasons = self.out.iter().filter_map(|outbound| match outbound {
            Outbound::GivenUp(id, reason) => Some((*id, &**reason)),
            _ => None,
        });
        reasons.collect()
    }

    pub(crate) fn not_carried(&self, rule: &str) -> u64 {
        let counters = self.router.counters();
        counters.not_carried.iter().filter(|(r, _)| r.starts_with(rule)).map(|(_, n)| n).sum()
    }
}
