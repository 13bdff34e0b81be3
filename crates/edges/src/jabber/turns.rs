//! Whose session is opened next. Servers limit how many are opened in a second, and so do we: one after another, with
//! jitter, so that connectors that come back at one moment do not go on in step; whoever was active last is first. A
//! cluster that is away is not asked by all of its client streams in turn: one at a time is tried, and the rest wait
//! until one is let in.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use presence_map::Show;
use router::ids::{PersonId, Time};
use router::outbound::Wanted;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::link::Command;
use crate::seam::{Generator, Scale};

/// So many client streams of a cluster have to fail in a row for it to be away.
const AWAY: u32 = 3;
/// How soon the next one is tried there. Scaled, with jitter.
const PROBE: Duration = Duration::from_secs(3);

/// How urgent an opening is; the least is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// How often it has failed: it must not keep others waiting.
    tries: u32,
    /// The person is not there now.
    idle: bool,
    /// When the person last did something.
    active: Reverse<Option<Time>>,
}

impl Rank {
    pub(super) fn of(wanted: Option<&Wanted>, tries: u32) -> Self {
        let (idle, active) = match wanted {
            Some(Wanted::Open { show, active, .. }) => (*show != Show::Available, *active),
            _ => (true, None),
        };
        Self { tries, idle, active: Reverse(active) }
    }
}

/// The turns of all links together.
#[derive(Debug)]
pub(super) struct Turns {
    interval: Duration,
    probe: Duration,
    generator: Generator,
    queue: Mutex<Queue>,
    entered: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<(Rank, PersonId), Waiter>,
    ranks: BTreeMap<PersonId, Rank>,
    /// The clusters whose client streams failed last.
    failing: BTreeMap<usize, Failing>,
    /// When the next turn would be without jitter, and when it is.
    next: Option<(Instant, Instant)>,
}

/// Who is told of a turn, and the cluster to which a stream is then connected.
#[derive(Debug)]
struct Waiter {
    link: UnboundedSender<Command>,
    cluster: Option<usize>,
}

/// A cluster whose last client streams did not come about.
#[derive(Debug)]
struct Failing {
    in_a_row: u32,
    /// While it is away: when the next one is tried.
    probe: Instant,
    /// And who waits for it to be back.
    parked: BTreeMap<(Rank, PersonId), Waiter>,
}

impl Turns {
    /// At most so many turns in a second.
    pub(super) fn new(per_second: u32, scale: Scale, generator: Generator) -> Self {
        let interval = scale.of(Duration::from_secs(1) / per_second.max(1));
        Self { interval, probe: scale.of(PROBE), generator, queue: Mutex::default(), entered: Notify::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A person waits for a turn, which `link` is told of; with a `cluster`, for one to connect a stream of its own there.
    /// Whoever waits already does so with this rank from now on.
    pub(super) fn enter(
        &self,
        person: &PersonId,
        rank: Rank,
        link: &UnboundedSender<Command>,
        cluster: Option<usize>,
    ) {
        let mut queue = self.queue();
        if let Some(before) = queue.ranks.insert(person.clone(), rank) {
            let before = (before, person.clone());
            queue.waiting.remove(&before);
            queue.failing.values_mut().for_each(|failing| drop(failing.parked.remove(&before)));
        }
        queue.wait((rank, person.clone()), Waiter { link: link.clone(), cluster }, Instant::now());
        self.entered.notify_one();
    }

    /// A client stream of a cluster came about, or was refused by somebody who is there.
    pub(super) fn answers(&self, cluster: usize) {
        let mut queue = self.queue();
        let Some(failing) = queue.failing.remove(&cluster) else { return };
        if failing.is_away() {
            tracing::info!(cluster, waiting = failing.parked.len(), "client streams are let in again");
        }
        for (key, waiter) in failing.parked {
            queue.wait(key, waiter, Instant::now());
        }
        self.entered.notify_one();
    }

    /// A client stream of a cluster did not come about, and another would fare no better.
    pub(super) fn fails(&self, cluster: usize) {
        let probe = Instant::now() + self.generator.jittered(self.probe);
        let mut queue = self.queue();
        let failing = queue.failing.entry(cluster).or_insert_with(|| Failing {
            in_a_row: 0,
            probe,
            parked: BTreeMap::new(),
        });
        failing.in_a_row = failing.in_a_row.saturating_add(1);
        if failing.in_a_row == AWAY {
            failing.probe = probe;
            tracing::warn!(cluster, "no client stream comes about: one at a time is tried");
        }
    }

    /// Gives turns for ever.
    pub(super) async fn run(&self) {
        loop {
            let at = self.queue().at();
            tokio::select! {
                biased;
                () = self.entered.notified() => {}
                () = sleep_until(at) => self.give(Instant::now()),
            }
        }
    }

    /// Gives the turns that are due.
    fn give(&self, now: Instant) {
        let mut queue = self.queue();
        let Queue { ranks, failing, .. } = &mut *queue;
        for failing in failing.values_mut() {
            if failing.probes_at().is_some_and(|at| at <= now)
                && let Some(((_, person), waiter)) = failing.parked.pop_first()
            {
                ranks.remove(&person);
                failing.probe = now + self.generator.jittered(self.probe);
                let _ = waiter.link.send(Command::Turn(person));
            }
        }
        while queue.turn_at().is_some_and(|at| at <= now) {
            let Some((key, waiter)) = queue.waiting.pop_first() else { return };
            let failing = waiter.cluster.and_then(|cluster| queue.failing.get_mut(&cluster));
            if let Some(failing) = failing.filter(|failing| failing.is_away()) {
                failing.parked.insert(key, waiter);
                continue;
            }
            let (_, person) = key;
            queue.ranks.remove(&person);
            let even = queue.next.map_or(now, |(even, _)| even) + self.interval;
            // Between nothing and one interval.
            let jitter = self.generator.jittered(self.interval * 2).saturating_sub(self.interval);
            queue.next = Some((even, even + jitter));
            // A link that has ended opens nothing.
            let _ = waiter.link.send(Command::Turn(person));
        }
    }
}

impl Queue {
    /// Somebody waits among the others.
    fn wait(&mut self, key: (Rank, PersonId), waiter: Waiter, now: Instant) {
        if self.waiting.is_empty() {
            self.next = Some(self.next.map_or((now, now), |(even, at)| (even.max(now), at.max(now))));
        }
        self.waiting.insert(key, waiter);
    }

    /// When the next turn is to be given; `None`: nobody waits.
    fn turn_at(&self) -> Option<Instant> {
        self.next.filter(|_| !self.waiting.is_empty()).map(|(_, at)| at)
    }

    /// When there is something to do.
    fn at(&self) -> Option<Instant> {
        self.failing.values().filter_map(Failing::probes_at).chain(self.turn_at()).min()
    }
}

impl Failing {
    fn is_away(&self) -> bool {
        self.in_a_row >= AWAY
    }

    /// When one is tried; `None`: nobody waits for that.
    fn probes_at(&self) -> Option<Instant> {
        (self.is_away() && !self.parked.is_empty()).then_some(self.probe)
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{self, UnboundedReceiver};

    use super::*;

    /// Whose turn it was within so long; those of the first cluster fail at once.
    async fn given(
        turns: &Turns,
        link: &UnboundedSender<Command>,
        told: &mut UnboundedReceiver<Command>,
        wait: Duration,
    ) -> Vec<PersonId> {
        let mut given = Vec::new();
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                biased;
                () = turns.run() => {}
                Some(Command::Turn(person)) = told.recv() => {
                    if person.as_str().starts_with('a') {
                        turns.fails(0);
                        turns.enter(&person, Rank::of(None, 1), link, Some(0));
                    }
                    given.push(person);
                }
                () = tokio::time::sleep_until(until) => return given,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_that_is_away_takes_no_turns_of_another() {
        let turns = Turns::new(100, Scale(1), Generator::seeded(1));
        let (link, mut told) = mpsc::unbounded_channel();
        for n in 0..500 {
            turns.enter(&PersonId::new(format!("a{n}")), Rank::of(None, 1), &link, Some(0));
        }
        given(&turns, &link, &mut told, Duration::from_secs(60)).await;
        for n in 0..500 {
            turns.enter(&PersonId::new(format!("b{n}")), Rank::of(None, 1), &link, Some(1));
        }
        let given = given(&turns, &link, &mut told, Duration::from_millis(5_100)).await;
        let others = given.iter().filter(|person| person.as_str().starts_with('b')).count();
        assert_eq!(others, 500);
        assert!(given.len() - others <= 4, "{} of the cluster that is away", given.len() - others);
    }
}
