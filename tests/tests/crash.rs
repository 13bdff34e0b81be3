//! The connector dies at every step of the walks: nothing is lost, doubled or reordered.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use connector_edges::crash;
use serde_json::json;
use tests::{Plan, Voice, World, crashing_binary, played, three_conversations};

/// How many worlds share the steps.
const AT_ONCE: usize = 2;

/// What has to happen for a step to be passed in each life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// That people write.
    Traffic,
    /// That posts have no answer.
    Silence,
    /// That two people write to each other for the first time.
    Strangers,
    /// That somebody falls asleep and wakes.
    Sleeper,
    /// That somebody is enabled or is not any more.
    Licence,
}

fn needs(step: &str) -> Needs {
    match step {
        crash::QUESTION | crash::ANSWER => Needs::Silence,
        crash::CREATE | crash::CREATED => Needs::Strangers,
        crash::SESSION_STARTED | crash::SESSION_KEPT | crash::SESSION_ENDED | crash::PRESENCE_WRITTEN => {
            Needs::Sleeper
        }
        _ if step.ends_with("-commit-of-presence") => Needs::Sleeper,
        _ if step.ends_with("-commit-of-directory") => Needs::Licence,
        _ => Needs::Traffic,
    }
}

/// How often a step is passed before the connector dies at it: the first time, and in the middle of traffic.
fn passings(step: &str) -> &'static [u32] {
    match needs(step) {
        // Of these there may be no more in a life.
        _ if matches!(step, crash::RESUMED | crash::SETTLED | crash::STATUS_READ) => &[1],
        _ if step.ends_with("-commit-of-release") => &[1],
        Needs::Traffic => &[1, 5],
        _ => &[1],
    }
}

#[test]
fn dying_at_any_step_loses_doubles_and_reorders_nothing() {
    let program = crashing_binary();
    let deaths: Vec<(&str, u32)> =
        crash::points().into_iter().flat_map(|step| passings(step).iter().map(move |n| (step, *n))).collect();
    let hits: Vec<BTreeMap<&str, u32>> = std::thread::scope(|scope| {
        let playing: Vec<_> = (0..AT_ONCE)
            .map(|world| {
                let share = deaths.len().div_ceil(AT_ONCE);
                let mine = deaths.iter().copied().skip(world * share).take(share).collect::<Vec<_>>();
                scope.spawn(move || {
                    let name = format!("crash-{world}");
                    let voices = three_conversations();
                    let plan = Plan {
                        program,
                        voices,
                        pause: (300, 2_000),
                        ..Plan::of(&name, 1 + world as u64, 20)
                    };
                    let outcome = played(&plan, |world| die_at_each(world, &mine));
                    assert!(outcome.verdict.is_clean(), "{name}: {outcome}");
                    // Each was seen to die where it was to.
                    let mut hits = BTreeMap::new();
                    mine.iter().for_each(|(step, _)| *hits.entry(*step).or_insert(0) += 1);
                    hits
                })
            })
            .collect();
        playing.into_iter().map(|world| world.join().expect("the world holds")).collect()
    });
    for step in crash::points() {
        let hits: u32 = hits.iter().filter_map(|hits| hits.get(step)).sum();
        println!("{step:32} {hits}");
        assert!(hits > 0, "nothing died at `{step}`");
    }
}

fn die_at_each(world: &mut World<'_>, deaths: &[(&str, u32)]) {
    world.kill_after(Duration::ZERO);
    let mut strangers = strangers().into_iter();
    for (step, passing) in deaths {
        let mut looks = 0;
        world.die_at(step, *passing, |world| {
            // Once a second or so.
            let turn = (looks % 50 == 25).then_some(looks / 50);
            looks += 1;
            match (needs(step), turn) {
                (Needs::Strangers, Some(0)) => {
                    world.say(&strangers.next().expect("there are enough"));
                }
                (Needs::Silence, Some(_)) => {
                    // Stored late or never: what comes back at once would be the answer.
                    world.lab.control("/fault", &json!({"name": "post-500", "on": true, "count": 1}));
                }
                (Needs::Sleeper, Some(turn)) => sleeps_or_wakes(world, turn % 2 == 0),
                (Needs::Licence, Some(turn)) => {
                    world.lab.control("/user", &json!({"name": "carol", "enabled": turn % 2 == 0}));
                }
                _ => {}
            }
        });
    }
    world.start_again();
}

/// People who have not written to each other.
fn strangers() -> Vec<Voice> {
    (2..=8).map(|n| Voice { client: "u00001/jabber".into(), to: format!("u{n:05}") }).collect()
}

/// After three days without activity nobody has a session.
fn sleeps_or_wakes(world: &World<'_>, sleeps: bool) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()) * 1_000;
    let active = if sleeps { now - 80 * 60 * 60 * 1_000 } else { now };
    world.lab.control("/user", &json!({"name": "u00008", "last_active": active}));
}
