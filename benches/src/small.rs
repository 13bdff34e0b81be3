//! Single steps, each against the least that it could cost.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use kms_client::jose::jwe;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use router::envelope::{Body, Envelope, Form, JabberOrigin, Kind, Link, Origin};
use router::ids::{
    ActivityId, BatchId, ConversationId, ImpStreamId, JabberId, PersonId, SourceId, StanzaId, StreamId, Time,
    Upstream,
};
use router::inbound::{Facts, Inbound, PersonFacts, SessionEvent};
use router::memory::MemoryStorage;
use router::outbound::Outbound;
use router::outbox::{Batch, Change, EntryKind, EntryState, Input, Lane, Novelty, Part, Repeat, Storage};
use router::tag::Tagger;
use router::times::Times;
use router::{Config, Router};
use store::{Options, Store, StoreKey};
use xmpp_core::xml::{Frame, Limits, Reader, write};

use crate::calibration::{TEXT, calibrate, cpu, key};
use crate::world::scratch;
use crate::{Failure, Size, failed};

/// Sealing and opening 200 bytes as a JWE, against the same with the cipher alone.
///
/// # Errors
/// A text does not open.
pub(crate) fn jwe(size: Size) -> Result<(), Failure> {
    let count = size.of(200_000, 100);
    let key = key();
    let raw = UnboundKey::new(&AES_256_GCM, key.as_bytes()).map_err(|_| "no key")?;
    let raw = LessSafeKey::new(raw);
    let iv = |n: u32| {
        let mut iv = [0; 12];
        iv[..4].copy_from_slice(&n.to_be_bytes());
        iv
    };
    let nonce = |n| Nonce::assume_unique_for_key(iv(n));
    let aead = |_| Failure::from("the cipher failed");
    let mut sealed = TEXT.as_bytes().to_vec();
    raw.seal_in_place_append_tag(nonce(0), Aad::from(b"header"), &mut sealed).map_err(aead)?;
    let seal_raw = cpu(|| {
        for n in 0..count {
            let mut text = TEXT.as_bytes().to_vec();
            raw.seal_in_place_append_tag(nonce(n), Aad::from(b"header"), &mut text).map_err(aead)?;
            black_box(text);
        }
        Ok(())
    })?;
    let open_raw = cpu(|| {
        for _ in 0..count {
            let mut text = sealed.clone();
            black_box(raw.open_in_place(nonce(0), Aad::from(b"header"), &mut text).map_err(aead)?);
        }
        Ok(())
    })?;
    let seal = cpu(|| {
        for n in 0..count {
            black_box(jwe::seal(&key, &iv(n), TEXT.as_bytes())?);
        }
        Ok(())
    })?;
    let compact = jwe::seal(&key, &iv(0), TEXT.as_bytes())?;
    let open = cpu(|| {
        for _ in 0..count {
            black_box(jwe::open(&key, &compact)?);
        }
        Ok(())
    })?;
    let micros = |ms: f64| ms * 1e3 / f64::from(count);
    println!(
        "jwe: seal {:.2} µs, {:.1} times the cipher alone (goal 6); open {:.2} µs, {:.1} times (goal 5)",
        micros(seal),
        seal / seal_raw,
        micros(open),
        open / open_raw
    );
    Ok(())
}

/// The head of a trusted link's stream.
pub(crate) const HEADER: &str = "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:component:accept' from='lab.example' id='1'>";

/// A message of 200 bytes as a trusted link carries it.
pub(crate) fn stanza() -> String {
    format!(
        "<route xmlns='jabber:component:accept' from='lab.example' to='connector.lab.example'><message xmlns='jabber:client' \
         from='alice@lab.example/phone' to='bob@lab.example/webex' type='chat' id='11111111-1111-4111-8111-111111111111'>\
         <body>{TEXT}</body><active xmlns='http://jabber.org/protocol/chatstates'/></message></route>"
    )
}

/// Reading and writing one message as a trusted link carries it.
///
/// # Errors
/// It is not read.
pub(crate) fn framing(size: Size) -> Result<(), Failure> {
    let count = size.of(50_000, 50);
    let stanza = stanza();
    let mut reader = Reader::new(Limits::default());
    reader.feed(HEADER.as_bytes());
    let Some(Frame::Open(_)) = reader.next()? else { return failed("the header is not read") };
    let mut element = None;
    let reading = cpu(|| {
        for _ in 0..count {
            reader.feed(stanza.as_bytes());
            let Some(Frame::Element(read)) = reader.next()? else { return failed("the stanza is not read") };
            element = Some(read);
        }
        Ok(())
    })?;
    let element = element.ok_or("nothing was read")?;
    let writing = cpu(|| {
        for _ in 0..count {
            let mut bytes = Vec::new();
            write(&element, &mut bytes);
            black_box(bytes);
        }
        Ok(())
    })?;
    let micros = |ms: f64| ms * 1e3 / f64::from(count);
    println!(
        "framing: read {:.1} µs, write {:.1} µs a message in its route; calibration {:.1} ms per 1,000",
        micros(reading),
        micros(writing),
        calibrate()?
    );
    Ok(())
}

/// One message from Jabber through a router that serves so many people, without store and edges.
///
/// # Errors
/// It is not delivered.
pub(crate) fn router(size: Size) -> Result<(), Failure> {
    for people in [size.of(1_000, 10), size.of(15_000, 20)] {
        let count = size.of(20_000, 20);
        let mut rig = Rig::new(people)?;
        let mut step = Duration::ZERO;
        for n in 0..count {
            let (from, to) = (n % people, (n + 1) % people);
            step += rig.message(n, from, to)?;
        }
        println!(
            "router: {:.1} µs a message with {people} people enabled, commit and all the answers included",
            step.as_secs_f64() * 1e6 / count as f64
        );
    }
    Ok(())
}

struct Rig {
    router: Router,
    storage: MemoryStorage,
    stream: ImpStreamId,
}

const NOW: Time = Time(1_000_000_000_000);

impl Rig {
    fn new(people: usize) -> Result<Self, Failure> {
        let tagger = Tagger::new(b"the organization's key", &[]);
        let mut storage = MemoryStorage::new(tagger.clone());
        let config = Config {
            tagger,
            times: Times::default(),
            capacity: 256,
            deliver_to_pending: false,
            since: Some(Time(0)),
            rate: None,
            bot: false,
            notices: false,
            federation: None,
        };
        let router = Router::new(config, storage.load(NOW)?, NOW)?;
        let mut rig = Self { router, storage, stream: ImpStreamId::new("link") };
        let people: Vec<PersonFacts> = (0..people).map(facts).collect();
        let ids: Vec<PersonId> = people.iter().map(|person| person.id.clone()).collect();
        rig.handle(Inbound::Directory(Facts { people, complete: true }))?;
        for person in ids {
            let opening = SessionEvent::Opening { stream: rig.stream.clone(), resumed: false, at: NOW };
            rig.handle(Inbound::Session(person.clone(), opening))?;
            rig.handle(Inbound::Session(person.clone(), SessionEvent::Settled))?;
            rig.handle(Inbound::CaughtUp(person, 0, NOW))?;
        }
        Ok(rig)
    }

    /// The time in the router, and whether it wanted anything delivered.
    fn handle(&mut self, inbound: Inbound) -> Result<(Duration, Option<router::ids::Ticket>), Failure> {
        let (mut waiting, mut spent, mut ticket) = (vec![inbound], Duration::ZERO, None);
        while let Some(inbound) = waiting.pop() {
            let began = Instant::now();
            self.router.handle(inbound, NOW);
            spent += began.elapsed();
            while let Some(outbound) = self.router.poll_outbound() {
                match outbound {
                    Outbound::Commit(batch) => {
                        let id = batch.id;
                        let answers = self.storage.commit(&[batch], NOW)?;
                        let answer = answers.into_iter().next().ok_or("no answer")?;
                        waiting.push(Inbound::Committed(id, answer));
                    }
                    Outbound::Deliver(wanted, ..) => ticket = Some(wanted),
                    _ => {}
                }
            }
        }
        Ok((spent, ticket))
    }

    fn message(&mut self, n: usize, from: usize, to: usize) -> Result<Duration, Failure> {
        let mut text_hash = [0; 32];
        text_hash[..8].copy_from_slice(&n.to_be_bytes());
        let origin = JabberOrigin {
            session: person(to),
            form: Form::Direct,
            from: format!("{}/phone", jid(from)).into(),
            from_bare: JabberId::new(jid(from)),
            to: JabberId::new(jid(to)),
            stanza: StanzaId::new(format!("m{n}")),
            origin_id: None,
            text_hash,
            stamp: None,
        };
        let envelope = Envelope { origin: Origin::Jabber(origin), kind: Kind::Text, arrived: NOW };
        let upstream = Upstream { stream: StreamId::Imp(self.stream.clone()), n: n as u64 };
        let (spent, ticket) =
            self.handle(Inbound::Message(envelope, vec![Body::Clear(TEXT.into())], upstream))?;
        let ticket = ticket.ok_or("nothing was delivered")?;
        let link = Link::Activity(ActivityId::new(format!("a{n}")), ConversationId::new("c"));
        let (more, _) = self.handle(Inbound::Receipt(ticket, router::inbound::Outcome::Delivered(link)))?;
        Ok(spent + more)
    }
}

fn person(n: usize) -> PersonId {
    PersonId::new(format!("{n:08}-0000-4000-8000-000000000000"))
}

fn jid(n: usize) -> String {
    format!("u{n:05}@lab.example")
}

fn facts(n: usize) -> PersonFacts {
    PersonFacts {
        id: person(n),
        ours: true,
        jid: Some(JabberId::new(jid(n))),
        mail: format!("u{n:05}@corp.example").into(),
        name: format!("User {n:05}").into(),
        home: Some("".into()),
        enabled: true,
        pending: false,
        token: true,
    }
}

/// Entries committed one by one and 256 at a time, against a bare write with `fdatasync`.
///
/// # Errors
/// The disk cannot be written.
pub(crate) fn outbox(size: Size) -> Result<(), Failure> {
    let folder = scratch();
    fs::create_dir_all(&folder)?;
    let tagger = Tagger::new(b"the organization's key", &[]);
    let path = folder.join("outbox.db");
    let mut store = Store::open(&path, &StoreKey::new([1; 32]), tagger, Options::default())?;
    store.load(NOW)?;
    let mut file = File::create(folder.join("bare"))?;
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let mut n = 0;
    for round in 0..size.of(200, 3) {
        let began = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.entry("bare").or_default().push(began.elapsed());
        for (name, count) in [("alone", 1), ("grouped", 256)] {
            let inputs = (0..count).map(|_| {
                n += 1;
                input(n)
            });
            let batch =
                Batch { id: BatchId(round * 2 + count), inputs: inputs.collect(), changes: Vec::new() };
            let began = Instant::now();
            store.commit(&[batch], NOW)?;
            times.entry(name).or_default().push(began.elapsed());
        }
    }
    let median = |name: &str| {
        let mut times = times.get(name).cloned().unwrap_or_default();
        times.sort();
        times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64) * 1e6
    };
    println!(
        "outbox: one entry a commit {:.0} µs, 256 entries {:.0} µs ({:.1} µs each); a bare write and fdatasync {:.0} µs (medians)",
        median("alone"),
        median("grouped"),
        median("grouped") / 256.0,
        median("bare")
    );
    drop(store);
    let (new, old) = grown(&folder.join("grown.db"), size)?;
    println!(
        "outbox: in groups of {GROUP} a message uses {new:.0} µs, after {} of them {old:.0} µs (CPU)",
        grown_to(size)
    );
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// How many entries are committed together in a store that grows.
const GROUP: u64 = 16;

fn grown_to(size: Size) -> u64 {
    size.of(60_000, 64)
}

/// What a message towards Webex costs the store in µs of CPU, its receipt included, in groups: in a new file, and in one
/// that has grown.
///
/// # Errors
/// The disk cannot be written.
pub(crate) fn grown(path: &Path, size: Size) -> Result<(f64, f64), Failure> {
    let (all, stretch) = (grown_to(size), size.of(4_000, 32));
    let tagger = Tagger::new(b"the organization's key", &[]);
    let mut store = Store::open(path, &StoreKey::new([1; 32]), tagger, Options::default())?;
    store.load(NOW)?;
    let mut receipts = Vec::new();
    let mut write = |groups: Range<u64>| {
        let count = groups.clone().count() as f64 * GROUP as f64;
        let used = cpu(|| {
            for group in groups {
                let inputs = (0..GROUP).map(|n| input(group * GROUP + n)).collect();
                let batch = Batch { id: BatchId(group), inputs, changes: std::mem::take(&mut receipts) };
                for novelty in store.commit(&[batch], NOW)?.into_iter().flatten() {
                    let Novelty::New { entries, .. } = novelty else { return failed("a repeat") };
                    for id in entries {
                        store.entry(id)?;
                        let activity = ActivityId::new(format!("{:036}", id.0));
                        let link = Link::Activity(activity, ConversationId::new("conversation"));
                        receipts.push(Change::Done(id, Some(link)));
                    }
                }
            }
            Ok(())
        })?;
        Ok::<_, Failure>(used * 1e3 / count)
    };
    let (first, last) = (stretch / GROUP, (all - stretch) / GROUP);
    let new = write(0..first)?;
    write(first..last)?;
    let old = write(last..all / GROUP)?;
    Ok((new, old))
}

fn input(n: u64) -> Input {
    let (a, b) = (person(1), person(2));
    Input {
        source: SourceId::new(format!("jabber\nu00001@lab.example/phone\n{b}\n{n:036}\n{n:064}")),
        repeat: Repeat::Exact,
        lane: Lane::to_webex(&a, &b),
        sender: a.clone(),
        recipient: Some(b),
        carrier: a,
        stanza: Some(StanzaId::new(format!("{n:036}"))),
        from: Some("sender@lab.example/phone".into()),
        conversation: None,
        time: NOW,
        stamp: None,
        iv: None,
        parts: vec![Part { kind: EntryKind::Text, body: Body::Clear(TEXT.into()) }],
        target: None,
        prompt: true,
        state: EntryState::Waiting((1 << 32) + n),
    }
}
