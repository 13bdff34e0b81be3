//! Stop after every step, restart, compare: nothing lost, nothing doubled, nothing out of order.
//!
//! The router and a store in memory between two simple far sides that do what they may at the worst moment: links are
//! cut, sockets drop events, answers get lost, posts are stored late and listed later, and the connector dies between
//! any two steps. Every world is a seed and replays; `CRASH_POINTS_SEED` runs the world of one seed alone. Some worlds run with one rule switched off in the edges or in the
//! store: those must fail, or the rule would not be needed.

mod cloud;
mod imp;
mod world;

use router::ids::PersonId;

use crate::world::{Setup, World};

/// A rule that is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    /// Idea 4: a stanza is acknowledged when it is read.
    Acknowledge,
    /// Rule 4: a source id is no key.
    Key,
    /// Rule 6: an own post is not known by its IV.
    Iv,
    /// Rule 8: what is brought meanwhile is not held.
    Hold,
    /// Rule 9: a gap starts no catch-up.
    Gap,
    /// Rule 9: the cursor is moved to the listing's start, without the overlap.
    Cursor,
    /// Rule 10: an unanswered POST is repeated without a question.
    Question,
    /// Rule 10: *absent* counts at once.
    Settle,
    /// Rule 10: what had to wait is posted before that is on disk.
    Mark,
    /// Rule 11: other stanzas are written between an attempt and its `Write`.
    Between,
    /// Rule 11: stanzas are written before a resumed stream is settled.
    Unsettled,
}

/// A small generator of pseudo-random numbers (splitmix64), so that a seed is a world.
#[derive(Clone, Debug)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).expect("below a usize")
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// The conversation of two people, in either order.
fn conversation(a: &PersonId, b: &PersonId) -> String {
    if a <= b { format!("{a}+{b}") } else { format!("{b}+{a}") }
}

fn pair(conversation: &str) -> (PersonId, PersonId) {
    let (a, b) = conversation.split_once('+').expect("a conversation has two people");
    (PersonId::new(a), PersonId::new(b))
}

/// The seeds of each test: 250, or as many as `CRASH_POINTS_SEEDS` says, or the one of `CRASH_POINTS_SEED`.
fn seeds() -> std::ops::Range<u64> {
    let asked = |name| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    match asked("CRASH_POINTS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..asked("CRASH_POINTS_SEEDS").unwrap_or(250),
    }
}

fn all_hold(test: &str, setup: Setup) {
    for seed in seeds() {
        if let Err(wrong) = World::new(seed, setup, None).run() {
            let mut again = World::traced(seed, setup, None);
            assert_eq!(again.run(), Err(wrong.clone()), "seed {seed} does not replay");
            panic!(
                "seed {seed} of {setup:?}: {wrong}\n{}\nagain: CRASH_POINTS_SEED={seed} cargo test -p router --test \
                 crash_points {test}",
                again.trace()
            );
        }
    }
}

fn some_fail(setup: Setup, broken: Break) {
    let counterexample = (0..10_000)
        .find_map(|seed| World::new(seed, setup, Some(broken)).run().err().map(|wrong| (seed, wrong)));
    if let Some((seed, wrong)) = &counterexample {
        println!("without {broken:?}, seed {seed}: {wrong}");
    }
    assert!(
        counterexample.is_some(),
        "without {broken:?} nothing goes wrong in {setup:?}: is the rule needed, and is it tested?"
    );
}

#[test]
fn what_is_written_in_jabber_arrives_once_and_in_order() {
    all_hold("what_is_written_in_jabber_arrives_once_and_in_order", Setup::to_webex());
}

#[test]
fn what_is_written_in_webex_arrives_once_and_in_order() {
    all_hold("what_is_written_in_webex_arrives_once_and_in_order", Setup::to_jabber());
}

#[test]
fn both_ways_at_once() {
    all_hold("both_ways_at_once", Setup::both());
}

#[test]
fn what_is_deleted_is_taken_back_or_noticed() {
    all_hold("what_is_deleted_is_taken_back_or_noticed", Setup::deletes());
}

#[test]
fn what_is_edited_replaces_or_follows() {
    all_hold("what_is_edited_replaces_or_follows", Setup::edits());
}

#[test]
fn a_refused_resumption_repeats_what_was_in_flight_and_no_more() {
    all_hold("a_refused_resumption_repeats_what_was_in_flight_and_no_more", Setup::refused());
}

#[test]
fn without_crashes_nothing_is_special() {
    all_hold("without_crashes_nothing_is_special", Setup { crashes: 0, ..Setup::both() });
}

#[test]
fn every_rule_is_needed_towards_webex() {
    for broken in [Break::Acknowledge, Break::Key, Break::Question, Break::Settle, Break::Mark] {
        some_fail(Setup::to_webex(), broken);
    }
}

#[test]
fn what_an_opening_session_brings_has_to_be_held() {
    some_fail(Setup::refused(), Break::Hold);
}

#[test]
fn every_rule_is_needed_towards_jabber() {
    for broken in [Break::Key, Break::Gap, Break::Cursor, Break::Between, Break::Unsettled, Break::Hold] {
        some_fail(Setup::to_jabber(), broken);
    }
}

#[test]
fn the_iv_keeps_our_own_posts_from_coming_back() {
    some_fail(Setup::both(), Break::Iv);
}
