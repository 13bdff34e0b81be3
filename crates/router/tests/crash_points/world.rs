//! One seeded world: the hub, the far sides, and everything that may happen next.

use std::collections::{BTreeMap, VecDeque};

use router::entitlement::Client;
use router::ids::{BatchId, JabberId, PersonId, StreamId, Time};
use router::inbound::{Facts, Inbound, PersonFacts, SessionEvent, StreamEvent};
use router::memory::MemoryStorage;
use router::outbound::Outbound;
use router::outbox::{Batch, Novelty, Storage};
use router::tag::Tagger;
use router::times::Times;
use router::{Config, Router};

use crate::cloud::{self, Cloud, Post, What};
use crate::imp::{self, Imp, Stanza, Written};
use crate::{Break, Rng, conversation};

/// What a world consists of, and what may go wrong in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) jabber: usize,
    pub(crate) webex: usize,
    pub(crate) deletes: usize,
    pub(crate) edits: usize,
    pub(crate) crashes: usize,
    pub(crate) cuts: usize,
    pub(crate) deaths: usize,
    /// How often a resumption may be refused; then what was in flight outbound may be repeated once.
    pub(crate) refusals: usize,
    pub(crate) unkind: bool,
}

impl Setup {
    pub(crate) fn both() -> Self {
        Self {
            jabber: 5,
            webex: 5,
            deletes: 0,
            edits: 0,
            crashes: 3,
            cuts: 3,
            deaths: 2,
            refusals: 0,
            unkind: true,
        }
    }

    pub(crate) fn to_webex() -> Self {
        Self { jabber: 6, webex: 0, deaths: 0, ..Self::both() }
    }

    pub(crate) fn to_jabber() -> Self {
        Self { jabber: 0, webex: 6, ..Self::both() }
    }

    /// With a resumption refused: what waited is replayed with stamps, mixed with live traffic.
    pub(crate) fn refused() -> Self {
        Self { refusals: 1, cuts: 4, ..Self::both() }
    }

    pub(crate) fn deletes() -> Self {
        Self { jabber: 1, webex: 4, deletes: 3, ..Self::both() }
    }

    pub(crate) fn edits() -> Self {
        Self { jabber: 1, webex: 4, edits: 3, ..Self::both() }
    }
}

/// One process of the connector.
struct Run {
    router: Router,
    batch: Option<Batch>,
    answer: Option<(BatchId, Vec<Novelty>)>,
    jabber: imp::Edge,
    webex: cloud::Edge,
    /// What the edges have put on their way to the router.
    inbox: VecDeque<Inbound>,
}

impl Run {
    /// Whether every session has settled, and what it held is released on disk.
    fn holds_nothing(&self, served: &[PersonId]) -> bool {
        let counters = self.router.counters();
        let committed = self.batch.is_none() && self.answer.is_none() && self.router.uncommitted() == 0;
        committed && counters.held == 0 && counters.sessions == served.len()
    }
}

pub(crate) struct World {
    rng: Rng,
    now: Time,
    times: Times,
    setup: Setup,
    broken: Option<Break>,
    storage: MemoryStorage,
    run: Option<Run>,
    imp: Imp,
    cloud: Cloud,
    served: Vec<PersonId>,
    /// What was written in Jabber, in order: conversation and text.
    written: Vec<(String, String)>,
    /// How often a resumption was refused.
    refused: usize,
    /// When the link was cut, every session had settled. What an opening session holds when it is refused may
    /// come late: the stated window, in which no order is promised.
    was_settled: bool,
    /// What happened, step by step, where somebody wants to read it.
    trace: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
enum Step {
    WriteInJabber,
    WriteInWebex,
    Delete(usize),
    Edit(usize),
    Inbox,
    Commit,
    Committed,
    Connect,
    ReadStanza,
    HandleStanza,
    Answer,
    Ping,
    Presence,
    Attempt,
    Cut,
    Socket(PersonId),
    Die(PersonId),
    ReadEvent(PersonId),
    CatchUp(PersonId),
    Hour(PersonId),
    Work,
    PostAnswer,
    Crash,
    Restart,
    Wait,
}

const PEOPLE: [(&str, bool); 3] = [("ann", true), ("bob", true), ("carol", false)];

fn tagger() -> Tagger {
    Tagger::new(b"the organization's key", &[])
}

impl World {
    pub(crate) fn new(seed: u64, setup: Setup, broken: Option<Break>) -> Self {
        let served = PEOPLE.iter().filter(|(_, h)| *h).map(|(name, _)| PersonId::new(*name)).collect();
        let mut world = Self {
            rng: Rng(seed),
            now: Time(1_000_000_000_000),
            times: Times::default(),
            setup,
            broken,
            storage: MemoryStorage::new(tagger()),
            run: None,
            imp: Imp::default(),
            cloud: Cloud::default(),
            served,
            written: Vec::new(),
            refused: 0,
            was_settled: false,
            trace: None,
        };
        world.start();
        world
    }

    /// The same world, which says what happens in it.
    pub(crate) fn traced(seed: u64, setup: Setup, broken: Option<Break>) -> Self {
        Self { trace: Some(Vec::new()), ..Self::new(seed, setup, broken) }
    }

    pub(crate) fn trace(&self) -> String {
        self.trace.as_deref().unwrap_or_default().join("\n")
    }

    /// Runs to the end: first with everything that may go wrong, then until all is at rest.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        let mut steps = 0;
        loop {
            let choices = self.choices();
            if choices.is_empty() && self.at_rest() {
                return self.judge();
            }
            let step = match choices.len() {
                0 => Step::Wait,
                n => choices[self.rng.below(n)].clone(),
            };
            steps += 1;
            if steps > 20_000 {
                return Err(format!("it never comes to rest: {:?}", self.stuck()));
            }
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{} {step:?}", self.now.0 % 1_000_000_000));
            }
            self.step(step);
            // A clock goes on while things are published.
            self.now = self.now.max(self.cloud.clock());
        }
    }

    fn stuck(&self) -> String {
        let Some(run) = &self.run else { return "down".into() };
        format!("idle {} {:?} {:?}", run.router.idle(), run.router.deadline(), run.router.counters())
    }

    fn start(&mut self) {
        let loaded = self.storage.load(self.now).expect("memory loads");
        let current = imp::stream(self.imp.generation);
        let stored = loaded.streams.iter().find(|(s, _)| *s == current).map_or(0, |(_, n)| *n);
        let over: Vec<_> = loaded.streams.iter().map(|(s, _)| s.clone()).filter(|s| *s != current).collect();
        let (run, cursors, known) = (loaded.run, loaded.cursors.clone(), loaded.directory.is_some());
        let config = Config {
            tagger: tagger(),
            times: self.times,
            capacity: 4,
            deliver_to_pending: false,
            since: Some(Time(0)),
            rate: None,
            bot: false,
            notices: false,
            federation: None,
        };
        let router = Router::new(config, loaded, self.now).expect("the store is readable");
        // A stream that was refused, and the process died before that was committed.
        let refused = |stream| Inbound::Stream(stream, StreamEvent::Refused { h: None });
        let mut inbox: VecDeque<Inbound> = over.into_iter().map(refused).collect();
        if !known {
            inbox.push_back(Inbound::Directory(facts()));
        }
        if self.broken == Some(Break::Hold) {
            inbox.extend(self.served.iter().map(|p| Inbound::CaughtUp(p.clone(), 0, Time(0))));
        }
        self.run = Some(Run {
            router,
            batch: None,
            answer: None,
            jabber: imp::Edge::new(stored),
            webex: cloud::Edge::new(run, cursors),
            inbox,
        });
        self.drain();
    }

    /// Everything that may happen next; the likelier, the more often it stands there.
    fn choices(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut add = |wanted: bool, step: Step, weight: usize| {
            if wanted {
                steps.extend(std::iter::repeat_n(step, weight));
            }
        };
        let setup = self.setup;
        add(setup.jabber > 0, Step::WriteInJabber, 2);
        add(setup.webex > 0, Step::WriteInWebex, 2);
        add(!self.imp.tcp.is_empty(), Step::HandleStanza, 6);
        for (n, activity) in self.cloud.activities.iter().enumerate() {
            let native = activity.what == What::Post && activity.text.starts_with('w') && !activity.deleted;
            add(setup.deletes > 0 && native, Step::Delete(n), 1);
            let newest = activity.what != What::Post || native;
            add(setup.edits > 0 && newest && native, Step::Edit(n), 1);
        }
        let Some(run) = &self.run else {
            add(true, Step::Restart, 4);
            return steps;
        };
        let (jabber, webex) = (&run.jabber, &run.webex);
        add(setup.crashes > 0, Step::Crash, 1);
        add(!run.inbox.is_empty(), Step::Inbox, 12);
        add(run.batch.is_some(), Step::Commit, 6);
        add(run.answer.is_some(), Step::Committed, 6);
        add(!jabber.up, Step::Connect, 3);
        add(jabber.can_read(&self.imp), Step::ReadStanza, 8);
        add(jabber.up && jabber.waits_for(self.imp.h), Step::Answer, 4);
        let may_write = jabber.can_write()
            || (self.broken == Some(Break::Between) && jabber.up && !jabber.settling)
            || (self.broken == Some(Break::Unsettled) && jabber.up && jabber.busy.is_none());
        add(jabber.can_write() && !jabber.pings.is_empty(), Step::Ping, 6);
        let often = matches!(self.broken, Some(Break::Between | Break::Unsettled));
        add(may_write && setup.cuts + setup.crashes > 0, Step::Presence, if often { 6 } else { 1 });
        // While the link is down an edge waits for it, or answers `Later`.
        let attempts = !jabber.queue.is_empty() && (jabber.can_write() || !jabber.up);
        add(attempts, Step::Attempt, 4);
        add(jabber.up && setup.cuts > 0, Step::Cut, 1);
        add(!webex.queue.is_empty(), Step::Work, 6);
        add(webex.has_answers(), Step::PostAnswer, 4);
        if let Some(person) = webex.without_socket(&self.served) {
            add(true, Step::Socket(person.clone()), 2);
        }
        for person in webex.connected() {
            add(setup.deaths > 0, Step::Die(person.clone()), 1);
            add(webex.can_read(&person, &self.cloud), Step::ReadEvent(person.clone()), 6);
            add(webex.is_catching_up(&person, self.now), Step::CatchUp(person.clone()), 4);
        }
        if steps.is_empty() {
            // An hour without an event: whoever has one that was never followed is listed (rule 9).
            return self.cloud.dropped().map(Step::Hour).collect();
        }
        steps.push(Step::Wait);
        steps
    }

    fn step(&mut self, step: Step) {
        let (now, unkind) = (self.now, self.unkind());
        match step {
            Step::WriteInJabber => return self.write_in_jabber(),
            Step::WriteInWebex => return self.write_in_webex(),
            Step::Delete(n) => return self.revise(n, What::Delete(n)),
            Step::Edit(n) => return self.revise(n, What::Edit(n)),
            Step::HandleStanza => return self.imp.handle(now, &self.served),
            Step::Restart => return self.start(),
            Step::Crash => return self.crash(),
            Step::Wait => return self.wait(),
            _ => {}
        }
        let Some(run) = &mut self.run else { return };
        let served = &self.served;
        match step {
            Step::Inbox => {
                let Some(inbound) = run.inbox.pop_front() else { return };
                if self.broken != Some(Break::Hold) || !is_hold(&inbound) {
                    run.router.handle(inbound, now);
                }
            }
            Step::Commit => {
                let Some(batch) = run.batch.take() else { return };
                let batch = tampered(batch, self.broken, &mut self.rng);
                let id = batch.id;
                let mut answers = self.storage.commit(&[batch], now).expect("memory commits");
                run.answer = Some((id, answers.remove(0)));
            }
            Step::Committed => {
                let Some((id, novelties)) = run.answer.take() else { return };
                run.router.handle(Inbound::Committed(id, novelties), now);
            }
            Step::Connect => {
                let refuse = self.setup.refusals > 0 && self.was_settled && self.rng.one_in(2);
                self.setup.refusals -= usize::from(refuse);
                self.refused += usize::from(refuse);
                run.inbox.extend(run.jabber.connect(&mut self.imp, refuse, now, served));
            }
            Step::ReadStanza => {
                run.inbox.extend(run.jabber.read(&self.imp, now));
                if self.broken == Some(Break::Acknowledge) {
                    run.jabber.allowed = run.jabber.read;
                    self.imp.acknowledged(run.jabber.read);
                }
            }
            Step::Answer => run.inbox.extend(run.jabber.answered(self.imp.h)),
            Step::Ping => {
                if let Some(person) = run.jabber.pings.pop_front() {
                    run.jabber.write(&mut self.imp, Written::Ping(person));
                }
            }
            Step::Presence => run.jabber.write(&mut self.imp, Written::Presence),
            Step::Attempt => run.inbox.extend(run.jabber.attempt(&self.imp)),
            Step::Cut => {
                self.setup.cuts -= 1;
                self.was_settled = run.holds_nothing(served);
                let arrived = self.rng.below(self.imp.tcp.len() + 1);
                run.inbox.push_back(run.jabber.cut(&mut self.imp, arrived, now, served));
            }
            Step::Socket(person) => {
                run.inbox.push_back(run.webex.connect(&person, &mut self.cloud, now, &self.times));
            }
            Step::Die(person) => {
                self.setup.deaths -= 1;
                run.inbox.push_back(run.webex.die(&person, &mut self.cloud));
            }
            Step::ReadEvent(person) => {
                run.inbox.extend(run.webex.read(&person, &mut self.cloud, now, &self.times, self.broken));
            }
            Step::CatchUp(person) => {
                run.inbox.extend(run.webex.catch_up(&person, &self.cloud, now, &self.times, self.broken));
            }
            Step::Hour(person) => {
                run.inbox.extend(run.webex.quiet(&person, &mut self.cloud, now, &self.times));
            }
            Step::Work => {
                let (cloud, rng) = (&mut self.cloud, &mut self.rng);
                run.inbox.extend(run.webex.work(cloud, rng, now, &self.times, unkind, self.broken));
            }
            Step::PostAnswer => run.inbox.extend(run.webex.answer()),
            _ => unreachable!("done above"),
        }
        self.drain();
    }

    /// Faults go on until their budgets are spent.
    fn unkind(&self) -> bool {
        self.setup.unkind && (self.setup.crashes + self.setup.cuts + self.setup.deaths > 0)
    }

    fn write_in_jabber(&mut self) {
        self.setup.jabber -= 1;
        let (from, to) = self.two();
        if !self.served.contains(&from) && !self.served.contains(&to) {
            return;
        }
        let text = format!("j{}", self.written.len());
        self.written.push((conversation(&from, &to), text.clone()));
        // Clients do reuse ids.
        let id = format!("id-{}", self.rng.below(3));
        for (session, form) in [(&to, router::envelope::Form::Direct), (&from, router::envelope::Form::Sent)]
        {
            if self.served.contains(session) {
                let (session, from, to) = (session.clone(), from.clone(), to.clone());
                let chat = Stanza::Chat { session, form, from, to, id: id.clone(), text: text.clone() };
                self.imp.send(chat, self.now);
            }
        }
    }

    fn write_in_webex(&mut self) {
        self.setup.webex -= 1;
        let (actor, to) = self.two();
        let text = format!("w{}", self.cloud.activities.len());
        let conversation = conversation(&actor, &to);
        self.store(Post { conversation, actor, text, what: What::Post, temp_id: "client".into(), iv: None });
    }

    fn revise(&mut self, n: usize, what: What) {
        match what {
            What::Delete(_) => self.setup.deletes -= 1,
            _ => self.setup.edits -= 1,
        }
        let of = self.cloud.activities[n].clone();
        let text = format!("w{} for {n}", self.cloud.activities.len());
        let post = Post {
            conversation: of.conversation,
            actor: of.actor,
            text,
            what,
            temp_id: "client".into(),
            iv: None,
        };
        self.store(post);
    }

    fn store(&mut self, post: Post) {
        let may_drop = self.unkind();
        self.cloud.store(post, self.now, &mut self.rng, may_drop);
    }

    fn two(&mut self) -> (PersonId, PersonId) {
        let from = self.rng.below(PEOPLE.len());
        let to = (from + 1 + self.rng.below(PEOPLE.len() - 1)) % PEOPLE.len();
        (PersonId::new(PEOPLE[from].0), PersonId::new(PEOPLE[to].0))
    }

    fn crash(&mut self) {
        self.setup.crashes -= 1;
        if let Some(mut run) = self.run.take()
            && run.jabber.up
        {
            self.was_settled = run.holds_nothing(&self.served);
            let arrived = self.rng.below(self.imp.tcp.len() + 1);
            run.jabber.cut(&mut self.imp, arrived, self.now, &self.served);
        }
        self.cloud.all_sockets_die();
    }

    fn wait(&mut self) {
        self.now = self.now.plus(1 + self.rng.below(4000) as i64);
        let may_drop = self.unkind();
        self.cloud.tick(self.now, &mut self.rng, may_drop);
        if let Some(run) = &mut self.run
            && run.router.deadline().is_some_and(|at| at <= self.now)
        {
            run.router.handle_timeout(self.now);
            self.drain();
        }
    }

    /// Carries out what the router wants, as the hub does.
    fn drain(&mut self) {
        let Some(run) = &mut self.run else { return };
        while let Some(outbound) = run.router.poll_outbound() {
            match outbound {
                Outbound::Commit(batch) => run.batch = Some(batch),
                Outbound::Acknowledge(upstream) => {
                    if upstream.stream == StreamId::Imp(imp::stream(self.imp.generation)) {
                        run.jabber.allowed = run.jabber.allowed.max(upstream.n);
                        if run.jabber.up {
                            self.imp.acknowledged(run.jabber.allowed);
                        }
                    }
                }
                Outbound::Deliver(ticket, id, maybe) => {
                    let stored = self.storage.entry(id).expect("memory reads").expect("the entry is there");
                    match stored.entry.lane.towards() {
                        Client::Webex => run.webex.queue.push_back((ticket, stored, maybe)),
                        Client::Jabber => run.jabber.queue.push_back((ticket, stored)),
                    }
                }
                Outbound::Write(ticket) => {
                    run.jabber.committed(ticket, &mut self.imp, true);
                    if let Some(stored) = run.webex.attempting.remove(&ticket) {
                        let unkind = self.setup.unkind && self.setup.crashes > 0;
                        let answer =
                            run.webex.post(ticket, &stored, &mut self.cloud, &mut self.rng, self.now, unkind);
                        run.inbox.extend(answer);
                    }
                }
                Outbound::Skip(ticket) => {
                    run.jabber.committed(ticket, &mut self.imp, false);
                    run.webex.attempting.remove(&ticket);
                }
                Outbound::Settled(_) => run.jabber.settling = false,
                Outbound::GivenUp(id, reason) => panic!("{id:?} is given up: {reason}"),
                Outbound::Hint(_)
                | Outbound::Session(..)
                | Outbound::Kept(_)
                | Outbound::DirectoryChanged => {}
            }
        }
    }

    fn at_rest(&self) -> bool {
        let Some(run) = &self.run else { return false };
        run.router.idle() && self.cloud.rests() && run.jabber.up && !run.jabber.can_read(&self.imp)
    }

    fn judge(&self) -> Result<(), String> {
        self.judge_webex()?;
        self.judge_jabber()
    }

    /// What was written in Jabber, in Webex: each once, each conversation in order.
    fn judge_webex(&self) -> Result<(), String> {
        let mut expected: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (conversation, text) in &self.written {
            expected.entry(conversation).or_default().push(text);
        }
        let mut seen: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let copies = |a: &&cloud::Activity| a.text.starts_with('j');
        for activity in self.cloud.activities.iter().filter(copies) {
            seen.entry(&activity.conversation).or_default().push(&activity.text);
        }
        if expected == seen { Ok(()) } else { Err(format!("Webex shows {seen:?} instead of {expected:?}")) }
    }

    /// What enabled people wrote in Webex, in Jabber.
    fn judge_jabber(&self) -> Result<(), String> {
        for name in ["ann+bob", "ann+carol", "bob+carol"] {
            let mut shown: Vec<&str> = Vec::new();
            let mut repeats = BTreeMap::new();
            for (text, id) in self.imp.shown.get(name).into_iter().flatten() {
                // Where resumption was refused, what was in flight may come once more, with the same id.
                let count = repeats.entry(id).or_insert(0);
                if *count == 0 || *count > self.refused {
                    shown.push(text);
                }
                *count += 1;
            }
            if let Some(text) = shown.iter().find(|text| text.starts_with('j')) {
                return Err(format!("{text} has come back to Jabber"));
            }
            let times = |text: &str| shown.iter().filter(|s| **s == text).count();
            let mut order = Vec::new();
            for (n, activity) in self.cloud.activities.iter().enumerate() {
                if activity.conversation != name || activity.text.starts_with('j') {
                    continue;
                }
                let carried = self.served.contains(&activity.actor);
                let count = times(&activity.text);
                let (wanted, notice) = match activity.what {
                    What::Post => (if activity.deleted { count.min(1) } else { 1 }, None),
                    What::Edit(of) => {
                        let later = self.cloud.activities[n + 1..]
                            .iter()
                            .any(|a| a.what == What::Delete(of) || a.what == What::Edit(of));
                        let before = self.shown_before(of, n, &times);
                        let notices =
                            if count == 0 || before { times(&format!("notice activity-{n}")) } else { 9 };
                        let notice_ok = match (count, before) {
                            (1, true) => notices == 1 || later,
                            (1, false) => times(&format!("notice activity-{n}")) == 0,
                            _ => true,
                        };
                        if carried && !notice_ok {
                            return Err(format!("wrong notice of edit {n} in {shown:?}"));
                        }
                        (if later { count.min(1) } else { 1 }, None)
                    }
                    What::Delete(of) => (0, Some(usize::from(self.shown_before(of, n, &times)))),
                };
                if count != if carried { wanted } else { 0 } {
                    return Err(format!("{} is shown {count} times: {shown:?}", activity.text));
                }
                if let Some(notice) = notice
                    && carried
                    && times(&format!("notice activity-{n}")) != notice
                {
                    return Err(format!("the delete {n} should have {notice} notices: {shown:?}"));
                }
                // An edit may stand where the message stood that it replaces.
                if activity.what == What::Post {
                    order.push(activity.text.as_str());
                }
            }
            let texts: Vec<&str> = shown.iter().filter(|s| order.contains(s)).copied().collect();
            let position = |text: &&str| order.iter().position(|o| o == text);
            if !texts.is_sorted_by_key(position) {
                return Err(format!("out of order: {shown:?}"));
            }
        }
        Ok(())
    }

    /// Whether anything of this message, or of its edits before `n`, was shown.
    fn shown_before(&self, of: usize, n: usize, times: &dyn Fn(&str) -> usize) -> bool {
        let activities = &self.cloud.activities;
        times(&activities[of].text) > 0
            || activities[..n].iter().any(|a| a.what == What::Edit(of) && times(&a.text) > 0)
    }
}

/// Switches off what the store would do.
fn tampered(mut batch: Batch, broken: Option<Break>, rng: &mut Rng) -> Batch {
    if broken == Some(Break::Key) {
        for input in &mut batch.inputs {
            input.source = router::ids::SourceId::new(rng.next().to_string());
        }
    }
    batch
}

/// Whether the router is not told of this, so that it holds nothing.
fn is_hold(inbound: &Inbound) -> bool {
    matches!(inbound, Inbound::Behind(..) | Inbound::Session(_, SessionEvent::Opening { .. }))
}

fn facts() -> Facts {
    let people = PEOPLE
        .iter()
        .map(|(name, enabled)| PersonFacts {
            id: PersonId::new(*name),
            ours: true,
            jid: Some(JabberId::new(format!("{name}@x"))),
            home: Some("".into()),
            mail: format!("{name}@corp").into(),
            name: (*name).into(),
            enabled: *enabled,
            pending: false,
            token: true,
        })
        .collect();
    Facts { people, complete: true }
}
