//! Whose session is opened next. Servers limit how many are opened in a second, and so do we: one after another, with
//! jitter, so that connectors that come back at one moment do not go on in step; whoever was active last is first.

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

/// How urgent an opening is; the least is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// It has failed before: it must not keep others waiting.
    again: bool,
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
        Self { again: tries > 0, idle, active: Reverse(active) }
    }
}

/// The turns of all links together.
#[derive(Debug)]
pub(super) struct Turns {
    interval: Duration,
    generator: Generator,
    queue: Mutex<Queue>,
    entered: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<(Rank, PersonId), UnboundedSender<Command>>,
    ranks: BTreeMap<PersonId, Rank>,
    /// When the next turn would be without jitter, and when it is.
    next: Option<(Instant, Instant)>,
}

impl Turns {
    /// At most so many turns in a second.
    pub(super) fn new(per_second: u32, scale: Scale, generator: Generator) -> Self {
        let interval = scale.of(Duration::from_secs(1) / per_second.max(1));
        Self { interval, generator, queue: Mutex::default(), entered: Notify::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A person waits for a turn, which `link` is told of. Whoever waits already does so with this rank from now on.
    pub(super) fn enter(&self, person: &PersonId, rank: Rank, link: &UnboundedSender<Command>) {
        let mut queue = self.queue();
        if let Some(before) = queue.ranks.insert(person.clone(), rank) {
            queue.waiting.remove(&(before, person.clone()));
        }
        if queue.waiting.is_empty() {
            let now = Instant::now();
            queue.next = Some(queue.next.map_or((now, now), |(even, at)| (even.max(now), at.max(now))));
        }
        queue.waiting.insert((rank, person.clone()), link.clone());
        self.entered.notify_one();
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
        while queue.at().is_some_and(|at| at <= now) {
            let Some(((_, person), link)) = queue.waiting.pop_first() else { return };
            queue.ranks.remove(&person);
            let even = queue.next.map_or(now, |(even, _)| even) + self.interval;
            // Between nothing and one interval.
            let jitter = self.generator.jittered(self.interval * 2).saturating_sub(self.interval);
            queue.next = Some((even, even + jitter));
            // A link that has ended opens nothing.
            let _ = link.send(Command::Turn(person));
        }
    }
}

impl Queue {
    /// When the next turn is to be given; `None`: nobody waits.
    fn at(&self) -> Option<Instant> {
        self.next.filter(|_| !self.waiting.is_empty()).map(|(_, at)| at)
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
