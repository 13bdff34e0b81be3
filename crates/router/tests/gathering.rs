//! What is committed together while many deliveries are under way.

mod rig;

use std::time::Duration;

use rig::{Rig, config, facts, stream};
use router::Config;
use router::ids::Position;
use router::inbound::Inbound;
use router::times::Times;

const PEOPLE: u32 = 40;

/// A world of pairs, the first of each writes; commits are gathered as in life.
fn pairs() -> Rig {
    let people = (0..PEOPLE).map(|n| facts(&name(n), true)).collect();
    Rig::with(Config { times: Times::default(), capacity: 100, ..config() }, people)
}

fn name(n: u32) -> String {
    format!("p{n:02}")
}

fn write(rig: &mut Rig, pairs: std::ops::Range<u32>) {
    for n in pairs {
        rig.jabber(&name(2 * n), &name(2 * n), &name(2 * n + 1), "1", "hello");
    }
}

#[test]
fn where_little_is_under_way_everything_is_committed_at_once() {
    let mut rig = pairs();
    rig.pass(Duration::from_secs(1));
    rig.commits = 0;
    write(&mut rig, 0..8);
    assert_eq!((rig.commits, rig.deliveries().len()), (8, 8));
}

#[test]
fn where_much_is_under_way_a_commit_is_for_all_that_comes_within_25_milliseconds() {
    let mut rig = pairs();
    rig.pass(Duration::from_secs(1));
    write(&mut rig, 0..8);
    assert_eq!(rig.deliveries().len(), 8);
    rig.commits = 0;
    write(&mut rig, 8..14);
    rig.pass(Duration::from_millis(24));
    write(&mut rig, 14..20);
    assert_eq!((rig.commits, rig.deliveries().len()), (0, 0), "it waits for more");
    rig.pass(Duration::from_millis(1));
    assert_eq!((rig.commits, rig.deliveries().len()), (1, 12), "and no longer");
    // After a while without any, the next one is made at once.
    rig.pass(Duration::from_millis(25));
    rig.jabber("p00", "p00", "p03", "2", "hello");
    assert_eq!((rig.commits, rig.deliveries().len()), (2, 1));
}

#[test]
fn places_in_a_stream_are_committed_together_as_soon_as_all_that_is_under_way_waits_for_it() {
    let mut rig = pairs();
    rig.pass(Duration::from_secs(1));
    for n in 0..20 {
        let (from, to) = (name(2 * n), name(2 * n + 1));
        rig.webex(&from, &from, &to, &format!("activity {n}"));
    }
    rig.pass(Duration::from_millis(25));
    let deliveries = rig.deliveries();
    assert_eq!(deliveries.len(), 20);
    rig.commits = 0;
    for ((ticket, ..), n) in deliveries.into_iter().zip(1..) {
        assert_eq!(rig.commits, 0);
        rig.handle(Inbound::Attempt(ticket, Some(Position { stream: stream(), n })));
    }
    assert_eq!(rig.commits, 1);
}
