//! The connector is killed again and again while people write: nothing is lost, doubled or reordered.

use std::time::{Duration, Instant};

use tests::{
    Chance, Connector, Dialogue, Lab, Scratch, Traffic, Verdict, carried, crashing_binary, shown,
    three_conversations,
};

#[test]
fn twenty_kills_lose_double_and_reorder_nothing() {
    exactly_once("kill", &[], 20);
}

#[test]
fn nor_do_ten_where_the_stand_ins_are_kind() {
    exactly_once("kill-kind", &["--kind"], 10);
}

#[test]
fn nor_do_ten_with_a_client_stream_for_each_user() {
    exactly_once("kill-link-b", &["--link", "b"], 10);
}

#[test]
fn no_answer_is_shown_before_what_its_author_had_seen() {
    let scratch = Scratch::new("kill-answers");
    let lab = stand_ins(&scratch, &[]);
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
    let program = crashing_binary();
    let scratch = Scratch::new("kill-early");
    let lab = stand_ins(&scratch, &[]);
    let early = [("CONNECTOR_ACKNOWLEDGE_EARLY", "1")];
    let (verdict, _) = killed(&lab, 10, || Connector::start_as(program, &lab, &early));
    assert!(!verdict.lost.is_empty(), "{verdict}");
}

fn exactly_once(name: &str, options: &[&str], kills: usize) {
    let scratch = Scratch::new(name);
    let lab = stand_ins(&scratch, options);
    let (verdict, between) = killed(&lab, kills, || Connector::start(&lab));
    assert!(verdict.is_clean(), "{verdict}");
    assert!(between > 20, "only {between} sights were carried between the kills");
}

/// The stand-ins, twenty times faster than life.
fn stand_ins(scratch: &Scratch, options: &[&str]) -> Lab {
    let always = ["--stand-ins", "--time-scale", "20"];
    Lab::start(scratch.path(), &[&always, options].concat())
}

/// A fixed seed, unless one is given: `KILL_SEED=7 cargo test -p tests --test kill`.
fn seed() -> u64 {
    std::env::var("KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// Three conversations go on while the connector dies so many times; what came of it, and how much was
/// carried before the last death.
fn killed(lab: &Lab, kills: usize, start: impl Fn() -> Connector) -> (Verdict, usize) {
    let seed = seed();
    let mut chance = Chance::new(seed);
    let voices = three_conversations();
    let mut connector = start();
    connector.wait_up(lab);
    let began = Instant::now();
    let traffic = Traffic::start(lab.endpoint("control"), &voices, (40, 400), seed);
    let mut lives = Vec::new();
    for _ in 0..kills {
        let life = chance.millis(100, 3_000);
        std::thread::sleep(life);
        assert!(!connector.has_ended(), "the connector has ended by itself");
        connector.kill();
        lives.push(life.as_millis());
        connector = start();
    }
    let between = carried(lab.endpoint("control"), &voices);
    std::thread::sleep(Duration::from_secs(1));
    let said = traffic.stop();
    let silent = Instant::now();
    assert!(lab.wait_idle(Duration::from_secs(180)), "it does not come to rest");
    let verdict = Verdict::of(lab.endpoint("control"), &said);
    println!(
        "{kills} kills after {lives:?} ms (seed {seed}), {:.1} s of traffic, {between} sights carried until then, \
         at rest {:.1} s later: {verdict}",
        (silent - began).as_secs_f32(),
        silent.elapsed().as_secs_f32(),
    );
    (verdict, between)
}
