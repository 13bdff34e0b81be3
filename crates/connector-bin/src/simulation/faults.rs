//! What goes wrong in a world, besides deaths: seeded, one thing after the other.

use std::time::Duration;

use connector_edges::seam::Generator;
use lab::Lab;
use lab::fault::Switch;

use super::net::Weather;

/// Faults of the lab that spoil single occasions.
const ONCE: &[&str] = &[
    "create-409",
    "create-500",
    "create-conflict",
    "create-cut",
    "create-lost-answer",
    "create-stall",
    "device-500",
    "device-cut",
    "device-gone",
    "find-500",
    "find-cut",
    "http-429",
    "http-500",
    "http-cut",
    "http-slow",
    "imp-bounces-routes",
    "imp-link-cut",
    "imp-link-cut-after-handling",
    "imp-link-cut-after-writing",
    "imp-link-cut-before-handling",
    "imp-link-cut-before-writing",
    "kms-500",
    "kms-cut",
    "kms-delay",
    "kms-drop",
    "kms-forget",
    "kms-garble",
    "kms-refuse-unknown",
    "list-429",
    "list-500",
    "list-cut",
    "list-slow",
    "list-stall",
    "mercury-close",
    "mercury-cut",
    "mercury-lose",
    "mercury-no-pong",
    "mercury-refuse",
    "mercury-reject",
    "mercury-repeat",
    "mercury-shutdown",
    "mercury-unready",
    "mercury-wrong-pong",
    "post-429",
    "post-500",
    "post-503",
    "post-cut",
    "post-lost-answer",
    "post-rotate-1400087",
    "post-rotate-1409004",
    "post-slow",
    "post-stall",
    "presence-500",
    "revoke",
    "token-429",
    "token-500",
    "token-cut",
    "unauthorized",
];
/// Faults of the lab that last a while, and the longest while in seconds. A session or a token that is away for a minute
/// lets another author's messages pass (rule 7), so what concerns those is shorter.
const LASTING: &[(&str, u64)] = &[
    ("imp-link-silent", 10),
    ("kms-drop", 35),
    ("list-500", 35),
    ("list-stall", 35),
    ("post-429", 35),
    ("post-500", 35),
    ("post-stall", 35),
];
/// Habits of the stand-ins and clients that a world has or has not.
const WAYS: &[&str] =
    &["jabber-forges-copies", "jabber-noise", "jabber-reuses-ids", "newest-first", "second-cluster"];

/// What is wrong with the world of a seed.
pub(super) struct Faults<'a> {
    pub(super) lab: &'a Lab,
    pub(super) weather: &'a Weather,
    pub(super) chance: Generator,
    /// The ports of the trusted link, or of client streams, and of the cloud.
    pub(super) ports: [u16; 2],
}

impl Faults<'_> {
    /// Chooses the ways of this world.
    pub(super) fn begin(&self) {
        for way in WAYS {
            if self.chance.number().is_multiple_of(2) {
                self.switch(way, true, None);
            }
        }
    }

    /// So many things go wrong, each some time after the other; then all is well.
    pub(super) async fn happen(&self, count: u64) {
        for _ in 0..count {
            self.pause(4_000).await;
            let port = self.ports[self.below(2) as usize];
            match self.below(10) {
                0 => self.weather.cut_all(port),
                1 => self.weather.cut_one(port),
                2 => self.weather.stall(port, Duration::from_millis(self.below(10_000))),
                3 => {
                    let (fault, seconds) = LASTING[self.below(LASTING.len() as u64) as usize];
                    self.switch(fault, true, None);
                    self.pause(seconds * 1_000).await;
                    self.switch(fault, false, None);
                }
                _ => {
                    let fault = ONCE[self.below(ONCE.len() as u64) as usize];
                    self.switch(fault, true, Some(1 + self.below(3)));
                }
            }
        }
        self.pause(30_000).await;
        for fault in ONCE.iter().chain(LASTING.iter().map(|(fault, _)| fault)) {
            self.switch(fault, false, None);
        }
    }

    async fn pause(&self, most: u64) {
        tokio::time::sleep(Duration::from_millis(self.below(most))).await;
    }

    fn below(&self, n: u64) -> u64 {
        self.chance.number() % n
    }

    fn switch(&self, name: &str, on: bool, count: Option<u64>) {
        let switch =
            Switch { name: name.to_owned(), on, count, seed: None, person: None, value: None, text: None };
        self.lab.ctx().faults.switch(&switch).expect("the lab has every fault that is named here");
    }
}
