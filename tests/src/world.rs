//! A lab in which people write while the connector dies and comes back, and what became of it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Connector, Lab, Said, Scratch, Traffic, Verdict, Voice, carried, connector_binary, get};

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// Of its folder.
    pub name: &'a str,
    /// Further options of the lab.
    pub options: &'a [&'a str],
    /// The connector's program.
    pub program: &'a Path,
    /// Variables of its environment.
    pub env: &'a [(&'a str, &'a str)],
    /// Who writes to whom.
    pub voices: Vec<Voice>,
    /// How many milliseconds lie between two messages of one voice, from and to.
    pub pause: (u64, u64),
    /// Of everything left to chance.
    pub seed: u64,
    /// How many times faster than life the waits of both sides run.
    pub scale: u32,
}

impl Plan<'_> {
    /// The usual one: the usual program, and twenty conversations at a rate that two cores bear for three worlds, or
    /// for nine at the pace of life.
    #[must_use]
    pub fn of(name: &str, seed: u64, scale: u32) -> Plan<'_> {
        let pause = if scale < 5 { (6_000, 36_000) } else { (1_500, 9_000) };
        Plan {
            name,
            options: &[],
            program: connector_binary(),
            env: &[],
            voices: crate::twenty_conversations(),
            pause,
            seed,
            scale,
        }
    }
}

/// A lab, its connector and people who write.
#[derive(Debug)]
pub struct World<'a> {
    /// What it is made of.
    pub plan: &'a Plan<'a>,
    /// The stand-ins.
    pub lab: Lab,
    connector: Connector,
    traffic: Traffic,
    pulse: Pulse,
    began: Instant,
    deaths: Vec<Death>,
    /// What was said besides the traffic.
    aside: Said,
    _scratch: Scratch,
}

/// One death of the connector.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// After so long.
    pub after: Duration,
    /// The moment itself.
    pub at: Instant,
    /// How much it had in hand just before, by its own word: taken and not delivered.
    pub in_hand: u64,
}

/// What became of a world.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the receiving clients saw.
    pub verdict: Verdict,
    /// Each death of the connector.
    pub deaths: Vec<Death>,
    /// How many sights of what was written on the other side there were before the last death.
    pub between: usize,
    /// When what was said.
    pub said: Said,
    /// How long people wrote.
    pub traffic: Duration,
    /// How long it took to come to rest after that.
    pub rest: Duration,
    /// The longest time in which the stand-ins did not answer a question that they can answer at once.
    pub slowest: Duration,
    scale: u32,
}

impl<'a> World<'a> {
    /// Starts everything; people write from when the connector is up.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn begin(plan: &'a Plan<'a>) -> Self {
        let scratch = Scratch::new(plan.name);
        let (scale, seed) = (plan.scale.to_string(), plan.seed.to_string());
        let always = ["--stand-ins", "--users", "8", "--time-scale", &scale, "--seed", &seed];
        let lab = Lab::start(scratch.path(), &[&always, plan.options].concat());
        let connector = Connector::start_as(plan.program, &lab, plan.env);
        connector.wait_up(&lab);
        let control = lab.endpoint("control");
        let traffic = Traffic::start(control, &plan.voices, plan.pause, plan.seed);
        let pulse = Pulse::of(control);
        let (began, deaths, aside) = (Instant::now(), Vec::new(), Said::new());
        Self { plan, connector, traffic, pulse, began, deaths, aside, _scratch: scratch, lab }
    }

    /// The connector is killed after so long, whatever it is doing.
    ///
    /// # Panics
    /// It has ended by itself before.
    pub fn kill_after(&mut self, life: Duration) {
        std::thread::sleep(life);
        let in_hand = self.in_hand();
        self.kill(life, in_hand);
    }

    /// The connector is killed after so long, and as soon as it has something in hand: a fast machine is often idle.
    ///
    /// # Panics
    /// It has ended by itself before.
    pub fn kill_at_work_after(&mut self, life: Duration) {
        std::thread::sleep(life);
        let patience = Instant::now() + Duration::from_secs(10);
        let mut in_hand = self.in_hand();
        while in_hand == 0 && Instant::now() < patience {
            in_hand = self.in_hand();
        }
        self.kill(life, in_hand);
    }

    fn kill(&mut self, life: Duration, in_hand: u64) {
        assert!(!self.connector.has_ended(), "the connector has ended by itself");
        let at = Instant::now();
        self.connector.kill();
        self.deaths.push(Death { after: life, at, in_hand });
    }

    /// It is started again.
    pub fn start_again(&mut self) {
        self.connector = Connector::start_as(self.plan.program, &self.lab, self.plan.env);
    }

    /// It is started to die at this passing of a named step, and does while `meanwhile` is called again and again.
    ///
    /// # Panics
    /// It does not die there within three minutes.
    pub fn die_at(&mut self, step: &str, passing: u32, mut meanwhile: impl FnMut(&mut Self)) {
        let at = format!("{step}:{passing}");
        self.connector = Connector::start_as(self.plan.program, &self.lab, &[("CONNECTOR_CRASH_AT", &at)]);
        let began = Instant::now();
        while !self.connector.has_ended() {
            let folder = self.lab.folder().display();
            assert!(began.elapsed() < Duration::from_secs(180), "`{at}` is never reached: see {folder}");
            meanwhile(self);
            std::thread::sleep(Duration::from_millis(20));
        }
        // What a program that aborts dies of.
        assert_eq!(self.connector.ended_by(), Some(6), "`{at}`: see {}", self.lab.folder().display());
    }

    /// Somebody says something besides the traffic; it is counted with that.
    ///
    /// # Panics
    /// The lab refuses it.
    pub fn say(&mut self, voice: &Voice) {
        let said = self.aside.entry(voice.clone()).or_default();
        let text = voice.text(said.len());
        said.push(Instant::now());
        self.lab.say(&voice.client, &voice.to, &text);
    }

    /// What the connector says of itself; `None` while it does not answer.
    #[must_use]
    pub fn status(&self) -> Option<Value> {
        serde_json::from_str(&get(&format!("{}/status", self.lab.connector_status())).ok()?).ok()
    }

    /// How much the connector has taken and not delivered; nothing while its status page does not answer.
    fn in_hand(&self) -> u64 {
        let Some(status) = self.status() else { return 0 };
        let hub = ["intake", "uncommitted", "committing", "with_edges"].map(|name| status[name].as_u64());
        let router = ["held", "waiting"].map(|name| status["router"][name].as_u64());
        hub.into_iter().chain(router).flatten().sum()
    }

    /// How many sights of what was written on the other side there are so far.
    #[must_use]
    pub fn carried(&self) -> usize {
        carried(self.lab.endpoint("control"), &self.plan.voices)
    }

    /// Everybody falls silent, all comes to rest, and is counted.
    ///
    /// # Panics
    /// It does not come to rest.
    #[must_use]
    pub fn end(self) -> Outcome {
        let between = self.carried();
        std::thread::sleep(Duration::from_secs(1));
        let mut said = self.traffic.stop();
        said.extend(self.aside);
        let silent = Instant::now();
        // Ten minutes of its own time, and as long again as a machine may have been asked too much of.
        let limit = Duration::from_secs(150) + Duration::from_secs(600) / self.plan.scale;
        let rests = self.lab.wait_idle(limit);
        let slowest = self.pulse.stop();
        let status = get(&format!("{}/status", self.lab.connector_status())).unwrap_or_else(|e| e);
        let verdict = Verdict::of(self.lab.endpoint("control"), &said);
        assert!(rests, "{}: it does not come to rest: {verdict}\n{status}", self.plan.name);
        Outcome {
            verdict,
            deaths: self.deaths,
            between,
            said,
            traffic: silent - self.began,
            rest: silent.elapsed(),
            slowest,
            scale: self.plan.scale,
        }
    }
}

impl Outcome {
    /// Whether the machine was too slow for the pace of the world's clocks, so that a stand-in broke its own word. An
    /// unanswered post is stored and listed within 22 seconds of its own time, and asked after 30 s after it was sent
    /// (rule 10): what is between is all that the machine may be late. It excuses what is doubled or reordered; nothing
    /// excuses a loss.
    #[must_use]
    pub fn is_unfair(&self) -> bool {
        self.slowest > Duration::from_secs(8) / self.scale && self.verdict.lost.is_empty()
    }

    /// At how many deaths the connector had something in hand.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.deaths.iter().filter(|death| death.in_hand > 0).count()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lives: Vec<_> = self.deaths.iter().map(|death| death.after.as_millis()).collect();
        let in_hand: Vec<_> = self.deaths.iter().map(|death| death.in_hand).collect();
        write!(
            f,
            "{} deaths after {lives:?} ms with {in_hand:?} in hand, {:.1} s of traffic, {} sights carried until then, at \
             rest {:.1} s later, stand-ins at most {} ms late at time scale {}: {}",
            lives.len(),
            self.traffic.as_secs_f32(),
            self.between,
            self.rest.as_secs_f32(),
            self.slowest.as_millis(),
            self.scale,
            self.verdict
        )
    }
}

/// Plays a world. One that went wrong while the machine could not keep up with its clocks proves nothing: it is played
/// again at half the pace, down to that of life.
pub fn played(plan: &Plan<'_>, story: impl Fn(&mut World<'_>)) -> Outcome {
    let mut plan = plan.clone();
    loop {
        let mut world = World::begin(&plan);
        story(&mut world);
        let outcome = world.end();
        println!("{}: {outcome}", plan.name);
        if outcome.verdict.is_clean() || !outcome.is_unfair() || plan.scale == 1 {
            return outcome;
        }
        println!("{}: the machine is too slow for time scale {}: again at half of it", plan.name, plan.scale);
        plan.scale /= 2;
    }
}

/// How late the stand-ins are, asked again and again.
#[derive(Debug)]
struct Pulse {
    stop: Arc<AtomicBool>,
    slowest: Arc<AtomicU64>,
    asking: JoinHandle<()>,
}

impl Pulse {
    fn of(control: &str) -> Self {
        let (stop, slowest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let url = format!("{}/faults", control.trim_end_matches('/'));
        let asking = {
            let (stop, slowest) = (Arc::clone(&stop), Arc::clone(&slowest));
            std::thread::spawn(move || {
                while !stop.load(Relaxed) {
                    let asked = Instant::now();
                    let answered = get(&url).is_ok();
                    if answered {
                        let took = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
                        slowest.fetch_max(took, Relaxed);
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            })
        };
        Self { stop, slowest, asking }
    }

    fn stop(self) -> Duration {
        self.stop.store(true, Relaxed);
        // It has only asked questions.
        let _ = self.asking.join();
        Duration::from_millis(self.slowest.load(Relaxed))
    }
}
