//! One seeded world: the lab, the connector in it, and what goes wrong.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connector_edges::hub::{HubHandle, Keeping};
use connector_edges::seam::{Clock, Generator};
use lab::Lab;
use lab::net::{Network, Pipes};
use lab::options::{Link, Options};
use router::ids::Time;
use router::memory::MemoryStorage;
use router::tag::Tagger;

use super::disk::Disk;
use super::faults::Faults;
use super::net::{Life, Net, Tap, Weather};
use super::off::Off;
use super::people::{Habits, Talk, Verdict, Windows};
use super::record::Record;
use crate::config::{self, Config, Secret};
use crate::wiring::{self, Ground, Parts, Wired};

/// When every world begins.
const START: i64 = 1_714_557_600_000;

/// What a world consists of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// Whether the stand-ins are kind.
    pub(super) kind: bool,
    pub(super) link: Link,
    pub(super) habits: Habits,
    /// How often the connector dies.
    pub(super) crashes: u64,
    /// How many other things go wrong.
    pub(super) faults: u64,
    /// The longest time that a piece is on its way.
    pub(super) latency: Duration,
    /// What is switched off; such a world fails.
    pub(super) off: Option<Off>,
}

/// What came of a world.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) written: usize,
    pub(super) steps: u64,
    pub(super) hash: String,
    pub(super) lines: Vec<String>,
}

/// Runs the world of a seed to its end.
pub(super) fn run(seed: u64, setup: Setup, keep_lines: bool) -> Result<Outcome, String> {
    in_virtual_time(World::run(seed, setup, keep_lines))
}

/// Runs something in which time passes when nobody does anything.
pub(super) fn in_virtual_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O needs nothing of the system").block_on(work)
}

pub(super) struct World {
    pub(super) lab: Lab,
    network: Network,
    pub(super) config: Config,
    clock: Clock,
    chance: Generator,
    pub(super) weather: Arc<Weather>,
    disk: Disk,
    record: Record,
    off: Option<Off>,
    /// The way to the process that runs now.
    handle: Mutex<Option<HubHandle>>,
    gave_up_an_order: AtomicBool,
    pub(super) tap: Option<Tap>,
    /// How many inputs wait before links are left unread.
    pub(super) intake: usize,
}

/// The connector, and its life.
pub(super) struct Running {
    pub(super) life: Arc<Life>,
    pub(super) wired: Wired,
}

impl World {
    async fn run(seed: u64, setup: Setup, keep_lines: bool) -> Result<Outcome, String> {
        let mut world = Self::new(seed, setup, keep_lines).await?;
        let outcome = world.live(setup).await;
        world.lab.stop().await;
        outcome
    }

    pub(super) async fn new(seed: u64, setup: Setup, keep_lines: bool) -> Result<Self, String> {
        let chance = Generator::seeded(seed);
        let network = Network::Pipes(Pipes::default());
        let options =
            Options { stand_ins: true, seed, kind: setup.kind, link: setup.link, ..Options::default() };
        let lab = Lab::start_on(options, network.clone(), lab::clock::Time(START)).await;
        let lab = lab.map_err(|e| e.to_string())?;
        let path = &lab.endpoints().connector_config;
        let mut config = config::load(path).map_err(|mistakes| crate::app::report(path, &mistakes))?;
        config.directory.refresh = Duration::from_secs(60);
        let tagger = if setup.off == Some(Off::OwnIds) {
            Tagger::new(b"another key", &[])
        } else {
            wiring::tagger(&config, Time(START))
        };
        let storage = MemoryStorage::new(tagger);
        Ok(Self {
            lab,
            network,
            config,
            clock: Clock::starting_at(Time(START)),
            weather: Weather::new(Generator::seeded(chance.number()), setup.latency),
            chance,
            disk: Disk::new(storage, setup.off, Generator::seeded(seed)),
            off: setup.off,
            record: Record::new(keep_lines),
            handle: Mutex::default(),
            gave_up_an_order: AtomicBool::new(false),
            tap: None,
            intake: wiring::INTAKE,
        })
    }

    /// The organization's key is replaced; the earlier one is still `known`, or not.
    pub(super) fn replaces_key(&mut self, known: bool) {
        let now = self.clock.now();
        let organization = &mut self.config.organization;
        let earlier = std::mem::replace(&mut organization.key, Secret::of_key([8; 32]));
        organization.earlier_keys = if known { vec![(earlier, now)] } else { Vec::new() };
        self.disk.goes_on_with(wiring::tagger(&self.config, now));
    }

    /// Starts a process that lives for so many steps.
    pub(super) fn start(&self, steps: u64) -> Result<Running, String> {
        let life = Life::of(steps);
        let ground = Ground {
            dial: Arc::new(Net {
                network: self.network.clone(),
                weather: Arc::clone(&self.weather),
                life: Arc::clone(&life),
                tap: self.tap.clone(),
            }),
            clock: self.clock,
            generator: Generator::seeded(self.chance.number()),
            watch: Some(self.record.watch()),
            intake: self.intake,
        };
        let mut parts = Parts::new(&self.config, ground)?;
        if let Some(off) = self.off {
            off.shorten(&mut parts.times);
        }
        let wired = parts.join(&self.config, self.disk.held_by(Arc::clone(&life)), Keeping::Inline)?;
        *self.handle.lock().unwrap_or_else(PoisonError::into_inner) = Some(wired.handle.clone());
        Ok(Running { life, wired })
    }

    async fn live(&mut self, setup: Setup) -> Result<Outcome, String> {
        let first = self.start(u64::MAX)?;
        self.wait_ready(&first).await?;
        let talk = Talk::default();
        let chance = || Generator::seeded(self.chance.number());
        let (for_talk, for_faults, for_deaths) = (chance(), chance(), chance());
        let faults = Faults {
            lab: &self.lab,
            weather: &self.weather,
            chance: for_faults,
            ports: self.ports(setup.link),
        };
        if setup.faults > 0 {
            faults.begin();
        }
        let talking = talk.go_on(&self.lab, setup.habits, &for_talk);
        let dying = self.die(first, setup.crashes, for_deaths);
        let failing = faults.happen(setup.faults);
        let all = async {
            let (running, (), ()) = tokio::join!(biased; dying, failing, talking);
            let running = running?;
            self.wait_idle(&running).await?;
            Ok::<_, String>(running)
        };
        let running = tokio::select! {
            biased;
            running = all => running?,
            () = self.watch_orders() => unreachable!("it is watched to the end"),
        };
        // Where holds are switched off every order is given up, and that is what such a world has to show.
        let gave_up_an_order = self.gave_up_an_order.load(Relaxed) && self.off.is_none();
        let windows = Windows { gave_up_an_order, posted_as: self.disk.posted_as() };
        let verdict = talk.judge(&self.lab, &windows);
        running.stop().await;
        let (steps, hash) = self.record.hash();
        let lines = self.record.lines();
        Ok(Outcome { verdict, written: talk.len(), steps, hash, lines })
    }

    /// Notes when a hold has taken too long, for as long as the world goes on.
    async fn watch_orders(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some(handle) = handle else { continue };
            // One that is dead may never answer.
            let asked = tokio::time::timeout(Duration::from_millis(500), handle.status()).await;
            if let Ok(Some(status)) = asked
                && status.router.events.contains_key("holds that took too long")
            {
                self.gave_up_an_order.store(true, Relaxed);
            }
        }
    }

    /// Lets the connector die so often; the last one goes on.
    async fn die(&self, mut running: Running, crashes: u64, chance: Generator) -> Result<Running, String> {
        for _ in 0..crashes {
            // Deaths soon after the start and much later are equally likely.
            let most = 1 << (4 + chance.number() % 9);
            running.life.ends_after(chance.number() % most);
            let patience = Duration::from_millis(chance.number() % 20_000);
            let _ = tokio::time::timeout(patience, running.life.ended()).await;
            running.stop().await;
            let away = if chance.number().is_multiple_of(2) { 100 } else { 10_000 };
            tokio::time::sleep(Duration::from_millis(chance.number() % away)).await;
            running = self.start(u64::MAX)?;
        }
        Ok(running)
    }

    /// The ports of the trusted link, or of client streams, and of the cloud.
    pub(super) fn ports(&self, link: Link) -> [u16; 2] {
        let endpoints = self.lab.endpoints();
        let imp = if link == Link::A { &endpoints.xmpp_trusted } else { &endpoints.xmpp_client };
        [imp, &endpoints.cloud].map(|address| {
            let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
            port.expect("every address of the lab ends in its port")
        })
    }

    pub(super) async fn wait_ready(&self, running: &Running) -> Result<(), String> {
        for _ in 0..120 {
            let status = running.wired.handle.status().await;
            if status.is_some_and(|s| s.router.enabled > 0) && running.wired.handle.idle().await {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Err("the connector does not get ready".into())
    }

    pub(super) async fn wait_idle(&self, running: &Running) -> Result<(), String> {
        let mut quiet = 0;
        for _ in 0..1800 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let idle = self.lab.ctx().idle.is_idle() && running.wired.handle.idle().await;
            quiet = if idle { quiet + 1 } else { 0 };
            if quiet == 3 {
                return Ok(());
            }
        }
        let status = running.wired.handle.status().await;
        Err(format!("it does not come to rest: lab idle {}, {status:?}", self.lab.ctx().idle.is_idle()))
    }
}

impl Running {
    /// Kills it: nothing of it goes on.
    pub(super) async fn stop(self) {
        self.life.end();
        let Wired { running, edges, .. } = self.wired;
        for edge in &edges {
            edge.abort();
        }
        running.abort();
        let _ = running.await;
        for edge in edges {
            let _ = edge.await;
        }
    }
}
