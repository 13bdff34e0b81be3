//! Two-way traffic between the lab's people, and the count of what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use crate::{get, post};

/// Small reproducible chance: one number after the other (xorshift64*).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Chance from this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number from `low` up to, but without, `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        low + self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % (high - low).max(1)
    }

    /// A duration between two numbers of milliseconds.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }
}

/// One person's client writing to one other person.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Voice {
    /// Whose client, `NAME/jabber` or `NAME/webex`.
    pub client: String,
    /// To whom.
    pub to: String,
}

impl Voice {
    /// What the `n`th message says.
    #[must_use]
    pub fn text(&self, n: usize) -> String {
        format!("{} to {}: message {n:05}", self.client, self.to)
    }

    /// The clients that are to show it: both of the addressee, and the author's other one.
    fn audience(&self) -> [String; 3] {
        let (name, app) = self.client.split_once('/').expect("a client is NAME/app");
        let other = if app == "jabber" { "webex" } else { "jabber" };
        [format!("{}/jabber", self.to), format!("{}/webex", self.to), format!("{name}/{other}")]
    }
}

/// Everybody of three conversations: alice and bob, alice and erin, bob and gina. All are enabled.
#[must_use]
pub fn three_conversations() -> Vec<Voice> {
    [("alice", "bob"), ("alice", "erin"), ("bob", "gina")].map(conversation).concat()
}

/// Everybody of twenty conversations among twelve enabled people, eight of whom come with `--users 8`. Everybody
/// is in two at least, alice in four.
#[must_use]
pub fn twenty_conversations() -> Vec<Voice> {
    let added = |n: u32| format!("u{n:05}");
    let ring = (1..=8).map(|n| (added(n), added(n % 8 + 1)));
    let across = (1..=4).map(|n| (added(n), added(n + 4)));
    let named = [("alice", "bob"), ("alice", "erin"), ("alice", "gina"), ("bob", "gina")];
    let named = named.map(|(one, other)| (one.to_owned(), other.to_owned()));
    let joining = ["alice", "bob", "erin", "gina"].map(str::to_owned).into_iter().zip((1..).map(added));
    let all = ring.chain(across).chain(named).chain(joining);
    all.flat_map(|(one, other)| conversation((&one, &other))).collect()
}

/// Both clients of each of two people, writing to the other.
#[must_use]
pub fn conversation((one, other): (&str, &str)) -> Vec<Voice> {
    let voice =
        |name: &str, app: &str, to: &str| Voice { client: format!("{name}/{app}"), to: to.to_owned() };
    let voices = |name: &str, to: &str| ["jabber", "webex"].map(|app| voice(name, app, to));
    [voices(one, other), voices(other, one)].concat()
}

/// When each voice has said each of its messages, the first one first.
pub type Said = BTreeMap<Voice, Vec<Instant>>;

/// People who write until they are told to stop, each client on a thread of its own.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<(Voice, Vec<Instant>)>>,
}

/// A writer looks so often whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

impl Traffic {
    /// Begins to write through this control interface, each voice with pauses between `pause` milliseconds.
    #[must_use]
    pub fn start(control: &str, voices: &[Voice], pause: (u64, u64), seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let writers = voices
            .iter()
            .zip(seed..)
            .map(|(voice, seed)| {
                let (stop, voice) = (Arc::clone(&stop), voice.clone());
                let url = format!("{}/say", control.trim_end_matches('/'));
                let mut chance = Chance::new(seed);
                std::thread::spawn(move || {
                    let mut said = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let body =
                            json!({"client": voice.client, "to": voice.to, "text": voice.text(said.len())});
                        said.push(Instant::now());
                        post(&url, &body).unwrap_or_else(|e| panic!("{e} (asked: {body})"));
                        let next = Instant::now() + chance.millis(pause.0, pause.1);
                        while Instant::now() < next && !stop.load(Ordering::Relaxed) {
                            std::thread::sleep(LOOK.min(next.saturating_duration_since(Instant::now())));
                        }
                    }
                    (voice, said)
                })
            })
            .collect();
        Self { stop, writers }
    }

    /// Everybody falls silent; what was said.
    ///
    /// # Panics
    /// The lab has refused a message.
    #[must_use]
    pub fn stop(self) -> Said {
        self.stop.store(true, Ordering::Relaxed);
        self.writers.into_iter().map(|writer| writer.join().expect("the lab takes every message")).collect()
    }
}

/// Two people who take turns, each from either client, and answer only what that client has shown them.
#[derive(Debug)]
pub struct Dialogue {
    people: [&'static str; 2],
    stop: Arc<AtomicBool>,
    turns: JoinHandle<Vec<String>>,
}

impl Dialogue {
    /// Begins to talk through this control interface.
    #[must_use]
    pub fn start(control: &str, people: [&'static str; 2], seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let turns = {
            let (stop, control) = (Arc::clone(&stop), control.trim_end_matches('/').to_owned());
            let mut chance = Chance::new(seed);
            std::thread::spawn(move || {
                let mut said: Vec<String> = Vec::new();
                'turns: for turn in 0.. {
                    let (who, to) = (people[turn % 2], people[(turn + 1) % 2]);
                    let client = format!("{who}/{}", ["jabber", "webex"][chance.between(0, 2) as usize]);
                    while said.last().is_some_and(|last| !texts_of(&control, &client).contains(last)) {
                        if stop.load(Ordering::Relaxed) {
                            break 'turns;
                        }
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    // Now and then two in a row.
                    for part in 0..=chance.between(0, 2) {
                        let text =
                            format!("{} and {}: turn {turn}.{part} from {client}", people[0], people[1]);
                        let body = json!({"client": client, "to": to, "text": text});
                        post(&format!("{control}/say"), &body)
                            .unwrap_or_else(|e| panic!("{e} (asked: {body})"));
                        said.push(text);
                    }
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
                said
            })
        };
        Self { people, stop, turns }
    }

    /// They fall silent; what they said, in order, and the two of them.
    ///
    /// # Panics
    /// The lab has refused a message.
    #[must_use]
    pub fn stop(self) -> ([&'static str; 2], Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        (self.people, self.turns.join().expect("the lab takes every message"))
    }
}

/// What a client has shown of a dialogue, in order.
#[must_use]
pub fn shown(control: &str, client: &str, people: [&str; 2]) -> Vec<String> {
    let theirs = format!("{} and {}: turn ", people[0], people[1]);
    texts_of(control, client).into_iter().filter(|text| text.starts_with(&theirs)).collect()
}

/// What became of the messages, as the receiving clients saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages written.
    pub written: usize,
    /// Messages due in clients, and so looked for.
    pub due: usize,
    /// Due and never seen.
    pub lost: Vec<String>,
    /// Seen more often than once, each surplus sight once.
    pub doubled: Vec<String>,
    /// Of those, the sights under another id than the first.
    pub renamed: Vec<String>,
    /// Seen after a later message of the same client.
    pub reordered: Vec<String>,
}

impl Verdict {
    /// Compares what each client has seen with what was said.
    ///
    /// # Panics
    /// The control interface refuses.
    #[must_use]
    pub fn of(control: &str, said: &Said) -> Self {
        let mut verdict = Self::default();
        let mut seen: BTreeMap<String, Vec<Sight>> = BTreeMap::new();
        for (voice, moments) in said {
            let count = moments.len();
            verdict.written += count;
            for client in voice.audience() {
                let sights = seen.entry(client.clone()).or_insert_with(|| sights_of(control, &client));
                verdict.judge(voice, count, &client, sights);
            }
        }
        verdict
    }

    fn judge(&mut self, voice: &Voice, count: usize, client: &str, sights: &[Sight]) {
        self.due += count;
        let mut last = 0;
        for n in 0..count {
            let text = voice.text(n);
            let mut sights = sights.iter().enumerate().filter(|(_, sight)| sight.text == text);
            let said = format!("in {client}: {text}");
            let Some((at, first)) = sights.next() else {
                self.lost.push(said);
                continue;
            };
            if at < last {
                self.reordered.push(said.clone());
            }
            last = last.max(at);
            for (_, again) in sights {
                self.doubled.push(said.clone());
                if again.id != first.id {
                    self.renamed.push(said.clone());
                }
            }
        }
    }

    /// Whether every message was seen once, in order.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.reordered.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { written, due, lost, doubled, reordered, .. } = self;
        write!(
            f,
            "{written} written, {due} due in clients, {} lost, {} doubled, {} reordered",
            lost.len(),
            doubled.len(),
            reordered.len()
        )?;
        for (what, rows) in [("lost", lost), ("doubled", doubled), ("reordered", reordered)] {
            for row in rows.iter().take(10) {
                write!(f, "\n  {what} {row}")?;
            }
        }
        Ok(())
    }
}

/// How many sights there are so far of messages in the network in which they were not written: what the
/// connector has carried.
#[must_use]
pub fn carried(control: &str, voices: &[Voice]) -> usize {
    let clients: BTreeSet<String> = voices.iter().flat_map(Voice::audience).collect();
    let foreign = |client: &str| {
        let other = if client.ends_with("/jabber") { "/webex to " } else { "/jabber to " };
        texts_of(control, client).iter().filter(|text| text.contains(other)).count()
    };
    clients.iter().map(|client| foreign(client)).sum()
}

/// The texts of all messages that a client has shown, in order.
fn texts_of(control: &str, client: &str) -> Vec<String> {
    sights_of(control, client).into_iter().map(|sight| sight.text).collect()
}

/// A message as a client has shown it.
#[derive(Deserialize)]
struct Sight {
    kind: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    text: String,
}

/// All messages that a client has shown, in order.
fn sights_of(control: &str, client: &str) -> Vec<Sight> {
    let url = format!("{}/seen?client={client}&after=0", control.trim_end_matches('/'));
    let lines = get(&url).unwrap_or_else(|e| panic!("{e}"));
    lines
        .lines()
        .map(|line| serde_json::from_str::<Sight>(line).expect("seen answers JSON lines"))
        .filter(|sight| sight.kind == "message")
        .collect()
}
