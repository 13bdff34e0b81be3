//! Any interleaving of sessions, sockets, answers and restarts leaves each lane in its order.

mod rig;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use rig::Rig;
use router::inbound::{Cause, Inbound, Outcome};
use router::outbox::{Entry, Lane};

#[derive(Clone, Debug)]
enum Step {
    /// The next message of this author to that person, in Jabber or in Webex.
    Write {
        from: usize,
        to: usize,
        jabber: bool,
    },
    /// The copy of an earlier message on the other's session or socket.
    Copy,
    Answer {
        which: usize,
        how: usize,
    },
    Pass(u64),
}

const NAMES: [&str; 4] = ["ann", "bob", "carol", "dave"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4usize, 1..4usize, any::<bool>())
            .prop_map(|(from, by, jabber)| Step::Write { from, to: (from + by) % 4, jabber }),
        2 => Just(Step::Copy),
        4 => (0..8usize, 0..6usize).prop_map(|(which, how)| Step::Answer { which, how }),
        2 => (0..5_000u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_lane_in_order(steps in prop::collection::vec(step(), 1..120)) {
        let mut rig = Rig::new();
        let mut pending = Vec::new();
        let mut copies = Vec::new();
        let mut arrived: BTreeMap<Lane, Vec<u64>> = BTreeMap::new();
        let mut written = 0;
        for step in steps {
            match step {
                Step::Write { from, to, jabber } => {
                    let (from, to) = (NAMES[from], NAMES[to]);
                    let Some(first) = [from, to].into_iter().find(|n| ["ann", "bob"].contains(n)) else { continue };
                    written += 1;
                    let id = format!("m{written}");
                    if jabber {
                        rig.jabber(first, from, to, &id, &id);
                    } else {
                        rig.webex(first, from, to, &id);
                    }
                    copies.push((from, to, id, jabber));
                }
                Step::Copy => {
                    let Some((from, to, id, jabber)) = copies.pop() else { continue };
                    if !(["ann", "bob"].contains(&from) && ["ann", "bob"].contains(&to)) {
                        continue;
                    }
                    if jabber {
                        rig.jabber(to, from, to, &id, &id);
                    } else {
                        rig.webex(to, from, to, &id);
                    }
                }
                Step::Answer { which, how } => {
                    pending.append(&mut rig.deliveries());
                    if pending.is_empty() {
                        continue;
                    }
                    let (ticket, entry, _) = pending.remove(which % pending.len());
                    answer(&mut rig, ticket, &entry, how, &mut arrived);
                }
                Step::Pass(ms) => rig.pass(Duration::from_millis(ms)),
            }
        }
        // Everything heals; all that was accepted arrives.
        for _ in 0..2_000 {
            pending.append(&mut rig.deliveries());
            match pending.pop() {
                Some((ticket, entry, _)) => answer(&mut rig, ticket, &entry, 0, &mut arrived),
                None if rig.router.idle() => break,
                None => rig.pass(Duration::from_secs(10)),
            }
        }
        prop_assert!(rig.router.idle(), "{:?}", rig.router.counters());
        for (lane, entries) in arrived {
            prop_assert!(entries.is_sorted(), "{lane:?}: {entries:?}");
            let mut once = entries.clone();
            once.dedup();
            prop_assert_eq!(once, entries);
        }
    }
}

fn answer(
    rig: &mut Rig,
    ticket: router::ids::Ticket,
    entry: &Entry,
    how: usize,
    arrived: &mut BTreeMap<Lane, Vec<u64>>,
) {
    match how {
        1 => rig.receipt(ticket, Outcome::Later { cause: Cause::Kms, after: None }),
        2 => rig.receipt(ticket, Outcome::Later { cause: Cause::Host("cloud".into()), after: Some(700) }),
        3 => rig.receipt(ticket, Outcome::Unknown),
        4 => {
            rig.handle(Inbound::Receipt(ticket, Outcome::Unknown));
            rig.handle(Inbound::Receipt(ticket, Outcome::Unsettled));
        }
        _ => {
            arrived.entry(entry.lane.clone()).or_default().push(entry.id.0);
            rig.delivered(ticket, entry);
        }
    }
}
