//! Any inputs in any order into the router, with a store in memory: also what no sound edge would say.
//!
//! Whatever comes, the router acknowledges nothing that is not committed, has one delivery of a lane under way,
//! no more deliveries than its credit, and goes on where it was after a restart.

use std::collections::BTreeMap;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use presence_map::Status;
use router::envelope::{
    Body, Envelope, Form, JabberOrigin, Kind, Link, Marked, Origin, Typing, TypingOrigin, Via, WebexOrigin,
};
use router::ids::{
    ActivityId, ConversationId, ImpStreamId, JabberId, PersonId, Position, StanzaId, StreamId, Ticket, Time,
    Upstream,
};
use router::inbound::{Cause, Facts, Inbound, Observation, Outcome, PersonFacts, SessionEvent, StreamEvent};
use router::memory::MemoryStorage;
use router::outbound::Outbound;
use router::outbox::{Lane, Storage};
use router::tag::Tagger;
use router::times::Times;
use router::{Config, Router};

const CAPACITY: usize = 4;
const NAMES: [&str; 4] = ["ann", "bob", "carol", "dave"];

pub(crate) fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut world = World::new();
    while !input.is_empty() {
        if world.step(&mut input).is_err() {
            break;
        }
    }
    world.pass(Duration::from_secs(60));
    world.restart();
}

struct World {
    router: Router,
    storage: MemoryStorage,
    now: Time,
    /// What is on disk of each stream's count.
    committed: BTreeMap<StreamId, u64>,
    in_flight: BTreeMap<Ticket, Lane>,
    came: u64,
}

fn config() -> Config {
    Config {
        tagger: tagger(),
        times: Times::default(),
        capacity: CAPACITY,
        deliver_to_pending: false,
        since: Some(Time(0)),
        rate: Some((20, Duration::from_secs(1))),
        bot: true,
        notices: true,
        federation: Some(vec!["x".into()]),
    }
}

fn tagger() -> Tagger {
    Tagger::new(b"the organization's key", &[])
}

impl World {
    fn new() -> Self {
        let mut storage = MemoryStorage::new(tagger());
        let now = Time(1_000_000_000_000);
        let loaded = storage.load(now).expect("memory loads");
        let router = Router::new(config(), loaded, now).expect("an empty store is readable");
        let mut world =
            Self { router, storage, now, committed: BTreeMap::new(), in_flight: BTreeMap::new(), came: 0 };
        let people = NAMES.iter().enumerate().map(|(n, name)| facts(name, n < 2)).collect();
        world.handle(Inbound::Directory(Facts { people, complete: true }));
        world
    }

    fn restart(&mut self) {
        let loaded = self.storage.load(self.now).expect("memory loads");
        self.router = Router::new(config(), loaded, self.now).expect("the router reads what it wrote");
        self.in_flight.clear();
        self.drain();
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let inbound = match input.int_in_range(0..=15)? {
            0..=3 => self.message(input)?,
            4..=6 => match self.answer(input)? {
                Some(inbound) => inbound,
                None => return Ok(()),
            },
            7 => Inbound::Stream(stream(input)?, stream_event(input)?),
            8 => Inbound::Session(person(input)?, self.session_event(input)?),
            9 => Inbound::Behind(person(input)?, input.int_in_range(0..=3)?),
            10 => Inbound::CaughtUp(person(input)?, input.int_in_range(0..=3)?, self.near(input)?),
            11 => Inbound::Statuses(vec![Observation {
                person: person(input)?,
                status: *input.choose(&[
                    Status::ByActivity,
                    Status::Hidden,
                    Status::DoNotDisturb,
                    Status::OutOfOffice,
                ])?,
                last_active: input.arbitrary::<bool>()?.then_some(self.now),
                by_our_device: input.arbitrary()?,
                at: self.near(input)?,
            }]),
            12 => Inbound::Directory(Facts {
                people: vec![facts(input.choose(&NAMES)?, input.arbitrary()?)],
                complete: input.ratio(1, 4)?,
            }),
            13 => {
                let from = TypingOrigin::Webex {
                    socket: person(input)?,
                    actor: person(input)?,
                    conversation: conversation(input)?,
                };
                let upstream = self.upstream(input)?;
                Inbound::Typing(Typing { from, active: input.arbitrary()?, stale: false }, upstream)
            }
            14 => {
                self.pass(Duration::from_millis(u64::from(input.arbitrary::<u16>()?) * 8));
                return Ok(());
            }
            _ => {
                if input.ratio(1, 4)? {
                    self.restart();
                    return Ok(());
                }
                if input.ratio(1, 4)? {
                    self.handle(Inbound::Gap(person(input)?, self.near(input)?, self.now));
                    return Ok(());
                }
                Inbound::Handled(self.upstream(input)?)
            }
        };
        self.handle(inbound);
        Ok(())
    }

    fn message(&mut self, input: &mut Unstructured<'_>) -> Result<Inbound> {
        let kind = match input.int_in_range(0..=9)? {
            0..=4 => Kind::Text,
            5 => Kind::Edit { of: activity(input)? },
            6 => Kind::Delete { of: activity(input)? },
            7 => Kind::Read(Marked::Activity(activity(input)?)),
            8 => Kind::Read(Marked::Stanza(stanza(input)?)),
            _ => Kind::Bounced { of: stanza(input)?, condition: "service-unavailable".into() },
        };
        let body = matches!(kind, Kind::Text | Kind::Edit { .. });
        let (origin, part) = if input.arbitrary()? {
            let from = *input.choose(&NAMES)?;
            // A federated contact is called as one of us.
            let domain = if from == "dave" { "partner.example" } else { "x" };
            let origin = Origin::Jabber(JabberOrigin {
                session: person(input)?,
                form: *input.choose(&[Form::Direct, Form::Received, Form::Sent])?,
                from: format!("{from}@{domain}/phone").into(),
                from_bare: JabberId::new(format!("{from}@{domain}")),
                to: JabberId::new(format!("{}@x", input.choose(&NAMES)?)),
                stanza: stanza(input)?,
                origin_id: None,
                text_hash: [input.int_in_range(0..=2)?; 32],
                stamp: if input.arbitrary()? { Some(self.near(input)?) } else { None },
            });
            (origin, Body::Clear("text".into()))
        } else {
            let origin = Origin::Webex(WebexOrigin {
                socket: person(input)?,
                via: if input.arbitrary()? { Via::Socket } else { Via::CatchUp(input.int_in_range(0..=3)?) },
                activity: activity(input)?,
                conversation: conversation(input)?,
                one_on_one: input.ratio(3, 4)?,
                actor: person(input)?,
                published: self.near(input)?,
                client_temp_id: None,
                iv: input.arbitrary::<bool>()?.then_some([1; 12]),
            });
            (origin, Body::Sealed { key: "kms://kms.example/keys/1".into(), jwe: "sealed".into() })
        };
        let envelope = Envelope { origin, kind, arrived: self.now };
        let parts = if body { vec![part; input.int_in_range(1..=2)?] } else { Vec::new() };
        Ok(Inbound::Message(envelope, parts, self.upstream(input)?))
    }

    /// What becomes of a delivery, or of one that never was.
    fn answer(&mut self, input: &mut Unstructured<'_>) -> Result<Option<Inbound>> {
        let known: Vec<Ticket> = self.in_flight.keys().copied().collect();
        let ticket = if known.is_empty() || input.ratio(1, 8)? {
            Ticket(input.int_in_range(0..=20)?)
        } else {
            *input.choose(&known)?
        };
        let outcome = match input.int_in_range(0..=8)? {
            0 | 1 => Outcome::Delivered(Link::Activity(activity(input)?, conversation(input)?)),
            2 => Outcome::Unknown,
            3 => Outcome::Unsettled,
            4 => Outcome::Later { cause: Cause::Kms, after: None },
            5 => Outcome::Later { cause: Cause::Session(person(input)?), after: Some(50) },
            6 => Outcome::Uncarried("other".into()),
            7 => Outcome::Wedged("broken".into()),
            _ => {
                let position = Position { stream: stream(input)?, n: input.int_in_range(1..=9)? };
                let position = input.arbitrary::<bool>()?.then_some(position);
                return Ok(Some(Inbound::Attempt(ticket, position)));
            }
        };
        self.in_flight.remove(&ticket);
        Ok(Some(Inbound::Receipt(ticket, outcome)))
    }

    fn session_event(&self, input: &mut Unstructured<'_>) -> Result<SessionEvent> {
        Ok(match input.int_in_range(0..=3)? {
            0 => SessionEvent::Opening { stream: stream(input)?, resumed: input.arbitrary()?, at: self.now },
            1 => SessionEvent::Settled,
            2 => SessionEvent::Active,
            _ => SessionEvent::Closed { for_good: input.arbitrary()? },
        })
    }

    /// The next place of a stream.
    fn upstream(&mut self, input: &mut Unstructured<'_>) -> Result<Upstream> {
        self.came += 1;
        let n = self.came;
        let stream = if input.arbitrary()? {
            StreamId::Imp(stream(input)?)
        } else {
            StreamId::Mercury(person(input)?, 1)
        };
        Ok(Upstream { stream, n })
    }

    fn near(&self, input: &mut Unstructured<'_>) -> Result<Time> {
        Ok(self.now.plus(i64::from(input.arbitrary::<i16>()?) * 40))
    }

    fn handle(&mut self, inbound: Inbound) {
        self.router.handle(inbound, self.now);
        self.drain();
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now.after(time);
        for _ in 0..100_000 {
            let Some(due) = self.router.deadline().filter(|due| *due <= until) else {
                self.now = until;
                return;
            };
            self.now = due.max(self.now);
            self.router.handle_timeout(self.now);
            self.drain();
        }
        panic!("a deadline that never moves on");
    }

    fn drain(&mut self) {
        while let Some(outbound) = self.router.poll_outbound() {
            match outbound {
                Outbound::Commit(batch) => {
                    let id = batch.id;
                    let mut answers = self.storage.commit(&[batch], self.now).expect("memory commits");
                    self.router.handle(Inbound::Committed(id, answers.remove(0)), self.now);
                }
                Outbound::Deliver(ticket, entry, _) => {
                    let stored = self.storage.entry(entry).expect("memory reads");
                    let lane = stored.expect("what is to be delivered is in the store").entry.lane;
                    self.in_flight.retain(|ticket, _| self.router.is_in_flight(*ticket));
                    let under_way = self.in_flight.values().any(|other| *other == lane);
                    assert!(!under_way, "two deliveries of {lane:?} are under way");
                    self.in_flight.insert(ticket, lane);
                    assert!(self.in_flight.len() <= CAPACITY, "more deliveries than the credit");
                }
                Outbound::Acknowledge(Upstream { stream, n }) => {
                    assert!(n <= self.came, "what never came is acknowledged");
                    let before = self.committed.insert(stream, n);
                    assert!(before.is_none_or(|before| before <= n), "an acknowledgement goes back");
                }
                _ => {}
            }
        }
    }
}

fn facts(name: &str, enabled: bool) -> PersonFacts {
    PersonFacts {
        id: PersonId::new(name),
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

fn person(input: &mut Unstructured<'_>) -> Result<PersonId> {
    Ok(PersonId::new(*input.choose(&NAMES)?))
}

fn stream(input: &mut Unstructured<'_>) -> Result<ImpStreamId> {
    Ok(ImpStreamId::new(*input.choose(&["link", "other"])?))
}

fn stream_event(input: &mut Unstructured<'_>) -> Result<StreamEvent> {
    Ok(match input.int_in_range(0..=3)? {
        0 => StreamEvent::Up { acknowledges: input.arbitrary()? },
        1 => StreamEvent::Resumed { h: input.int_in_range(0..=9)? },
        2 => StreamEvent::Refused { h: input.arbitrary::<bool>()?.then_some(input.int_in_range(0..=9)?) },
        _ => StreamEvent::Lost,
    })
}

fn activity(input: &mut Unstructured<'_>) -> Result<ActivityId> {
    Ok(ActivityId::new(format!("a{}", input.int_in_range(0..=7)?)))
}

fn stanza(input: &mut Unstructured<'_>) -> Result<StanzaId> {
    Ok(StanzaId::new(format!("s{}", input.int_in_range(0..=3)?)))
}

fn conversation(input: &mut Unstructured<'_>) -> Result<ConversationId> {
    Ok(ConversationId::new(*input.choose(&["ann+bob", "ann+carol", "bob+dave"])?))
}
