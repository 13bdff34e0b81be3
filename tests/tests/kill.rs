//! The connector is killed again and again while people write: nothing is lost, doubled or reordered.

use std::time::Duration;

use serde_json::json;
use tests::asked::{kills, scale, seed};
use tests::{
    Chance, Connector, Dialogue, Lab, Outcome, Plan, Scratch, World, crashing_binary, played, shown,
};

/// How many worlds are played at once.
const AT_ONCE: usize = 3;

#[test]
fn fifty_kills_lose_double_and_reorder_nothing() {
    exactly_once("kill", &[], kills(50));
}

#[test]
fn nor_do_ten_where_the_stand_ins_are_kind() {
    exactly_once("kill-kind", &["--kind"], kills(50) / 5);
}

#[test]
fn nor_do_ten_with_a_client_stream_for_each_user() {
    exactly_once("kill-link-b", &["--link", "b"], kills(50) / 5);
}

#[test]
fn no_answer_is_shown_before_what_its_author_had_seen() {
    let scratch = Scratch::new("kill-answers");
    let lab = Lab::start(scratch.path(), &["--stand-ins", "--time-scale", &scale().to_string()]);
    let control = lab.endpoint("control");
    let mut connector = Connector::start(&lab);
    connector.wait_up(&lab);
    let pairs = [["alice", "bob"], ["alice", "erin"], ["bob", "gina"]];
    let dialogues = pairs.map(|people| Dialogue::start(control, people, seed()));
    let mut chance = Chance::new(seed());
    for _ in 0..10 {
        std::thread::sleep(chance.millis(300, 4_000));
        connector.kill();
        connector = Connector::start(&lab);
    }
    let said = dialogues.map(Dialogue::stop);
    assert!(lab.wait_idle(Duration::from_secs(180)), "it does not come to rest");
    for (people, turns) in said {
        println!("{people:?} have written {} messages", turns.len());
        assert!(turns.len() > 10, "{people:?} have hardly talked");
        for client in people.map(|name| ["jabber", "webex"].map(|app| format!("{name}/{app}"))).concat() {
            assert_eq!(shown(control, &client, people), turns, "in {client}");
        }
    }
}

/// The tests above can fail: a connector that acknowledges before it commits loses what it is killed with.
#[test]
fn acknowledging_before_the_commit_loses() {
    let plan = Plan {
        program: crashing_binary(),
        env: &[("CONNECTOR_ACKNOWLEDGE_EARLY", "1")],
        ..Plan::of("kill-early", seed(), scale())
    };
    let outcome = killed(&plan, 10);
    assert!(!outcome.verdict.lost.is_empty(), "{outcome}");
}

/// And one that posts again what may have arrived, without asking, doubles it.
#[test]
fn posting_again_without_asking_doubles() {
    let plan = Plan {
        program: crashing_binary(),
        env: &[("CONNECTOR_RETRY_UNASKED", "1")],
        ..Plan::of("kill-unasked", seed(), scale())
    };
    let outcome = played(&plan, |world| {
        // Every second post fails and is stored all the same, besides those that a kill interrupts.
        world.lab.control("/fault", &json!({"name": "post-500", "on": true, "seed": plan.seed}));
        dies(world, 10);
        world.lab.control("/fault", &json!({"name": "post-500", "on": false}));
    });
    assert!(!outcome.verdict.doubled.is_empty(), "{outcome}");
}

/// So many kills of several worlds, in each of which twenty conversations go on.
fn exactly_once(name: &str, options: &[&str], kills: usize) {
    let mut worlds = AT_ONCE.min(kills.div_ceil(5)).max(1);
    if scale() < 5 {
        // Lives are long then, and the machine has little to do.
        worlds *= 3;
    }
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let playing: Vec<_> = (0..worlds)
            .map(|world| {
                let name = format!("{name}-{world}");
                let kills = kills / worlds + usize::from(world < kills % worlds);
                scope.spawn(move || {
                    let plan = Plan { options, ..Plan::of(&name, seed() + world as u64, scale()) };
                    let outcome = killed(&plan, kills);
                    assert!(outcome.verdict.is_clean(), "{name}: {outcome}");
                    outcome
                })
            })
            .collect();
        playing.into_iter().map(|world| world.join().expect("the world holds")).collect()
    });
    let between: usize = outcomes.iter().map(|outcome| outcome.between).sum();
    assert!(between > 20, "{name}: only {between} sights were carried between the kills");
    let in_flight: usize = outcomes.iter().map(Outcome::in_flight).sum();
    println!("{name}: {kills} kills in {worlds} worlds, {in_flight} of them with something in hand");
    assert!(in_flight * 2 >= kills, "only {in_flight} of {kills} kills hit work in flight");
}

fn killed(plan: &Plan<'_>, kills: usize) -> Outcome {
    played(plan, |world| dies(world, kills))
}

/// The connector dies so many times, at random moments.
fn dies(world: &mut World<'_>, kills: usize) {
    let mut chance = Chance::new(world.plan.seed);
    // Three seconds at the usual scale, a minute at that of life.
    let longest = (60_000 / u64::from(world.plan.scale)).max(3_000);
    for n in 0..kills {
        let life = chance.millis(100, longest);
        // Every other one whatever it is doing, its start included.
        if n % 2 == 0 {
            world.kill_at_work_after(life)
        } else {
            world.kill_after(life)
        }
        world.start_again();
    }
}
