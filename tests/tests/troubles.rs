//! The connector is killed while something else is wrong, too: nothing is lost, doubled or reordered.

use std::time::Duration;

use serde_json::json;
use tests::asked::{scale, seed};
use tests::{Chance, Plan, World, played, wait_until};

/// Something that goes wrong for a while.
struct Trouble {
    /// The lab's faults that make it.
    faults: &'static [&'static str],
    /// How often each strikes; `None`: as long as it lasts.
    count: Option<u32>,
    /// For how long, in seconds of the world's time, and at least how many of ours.
    lasts: (u64, u64),
}

const fn once(faults: &'static [&'static str], count: u32) -> Trouble {
    Trouble { faults, count: Some(count), lasts: (10, 1) }
}

const fn lasting(faults: &'static [&'static str], lasts: (u64, u64)) -> Trouble {
    Trouble { faults, count: None, lasts }
}

const ON_PREMISES: &[Trouble] = &[
    once(&["imp-link-cut"], 3),
    once(&["imp-link-cut-after-writing"], 3),
    once(&["imp-link-cut-before-writing"], 3),
    once(&["imp-link-cut-after-handling"], 3),
    once(&["imp-link-cut-before-handling"], 3),
    lasting(&["imp-link-silent"], (30, 1)),
    once(&["mercury-cut"], 20),
    // Longer than what comes is held (rule 8).
    lasting(&["mercury-refuse", "mercury-cut"], (70, 17)),
];

const IN_THE_CLOUD: &[Trouble] = &[
    // Silent for half a minute.
    lasting(&["kms-drop"], (30, 1)),
    lasting(&["post-429"], (30, 1)),
    lasting(&["post-500"], (30, 1)),
    lasting(&["post-stall"], (30, 1)),
    lasting(&["post-lost-answer"], (30, 1)),
    lasting(&["list-429"], (30, 1)),
    lasting(&["list-500"], (30, 1)),
    lasting(&["list-stall"], (30, 1)),
    lasting(&["http-429"], (30, 1)),
    lasting(&["http-500"], (30, 1)),
    lasting(&["http-stall"], (30, 1)),
];

#[test]
fn kills_while_links_and_sockets_are_cut_change_nothing() {
    killed_in("troubles-links", ON_PREMISES);
}

#[test]
fn nor_do_kills_while_the_cloud_fails() {
    killed_in("troubles-cloud", IN_THE_CLOUD);
}

fn killed_in(name: &str, troubles: &[Trouble]) {
    let outcome = played(&Plan::of(name, seed(), scale()), |world| {
        let mut chance = Chance::new(seed());
        for trouble in troubles {
            let lasts = Duration::from_secs(trouble.lasts.0) / world.plan.scale;
            let lasts = lasts.max(Duration::from_secs(trouble.lasts.1));
            let before: Vec<u64> = trouble.faults.iter().map(|fault| world.lab.hits(fault)).collect();
            switch(world, trouble, true);
            // Some of it before the kill, some after.
            let life = lasts.mul_f32(chance.between(1, 10) as f32 / 10.0);
            world.kill_after(life);
            world.start_again();
            std::thread::sleep(lasts.saturating_sub(life));
            for (fault, before) in trouble.faults.iter().zip(before) {
                // A silence has no single occasions.
                let strikes =
                    |world: &World<'_>| *fault == "imp-link-silent" || world.lab.hits(fault) > before;
                assert!(wait_until(Duration::from_secs(60), || strikes(world)), "{fault} never strikes");
            }
            switch(world, trouble, false);
            // Enough of a calm for what was put off to meet what comes next.
            std::thread::sleep(chance.millis(300, 2_000));
        }
        let struck: Vec<_> = troubles
            .iter()
            .flat_map(|trouble| trouble.faults)
            .map(|fault| (*fault, world.lab.hits(fault)))
            .collect();
        println!("{name}: how often what has struck: {struck:?}");
    });
    assert!(outcome.verdict.is_clean(), "{name}: {outcome}");
}

fn switch(world: &World<'_>, trouble: &Trouble, on: bool) {
    for fault in trouble.faults {
        let count = trouble.count.filter(|_| on);
        world.lab.control("/fault", &json!({"name": fault, "on": on, "count": count}));
    }
}
