//! The connector is killed again and again while people write: nothing is lost, doubled or reordered.

use std::time::{Duration, Instant};

use tests::{Chance, Connector, Lab, Scratch, Traffic, Verdict, carried, conversation, wait_for_status};

/// How often the connector dies.
const KILLS: usize = 20;

/// How much faster than life both sides wait.
const SCALE: &str = "20";

#[test]
fn twenty_kills_lose_double_and_reorder_nothing() {
    let scratch = Scratch::new("kill");
    let lab = Lab::start(scratch.path(), &["--stand-ins", "--time-scale", SCALE]);
    let verdict = killed(&lab, &[], seed());
    assert!(verdict.is_clean(), "{verdict}");
    assert!(verdict.written > 300, "too little was written to mean anything: {verdict}");
}

/// A fixed seed, unless one is given: `KILL_SEED=7 cargo test -p tests --test kill`.
fn seed() -> u64 {
    std::env::var("KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// Four clients each of three conversations write while the connector dies twenty times; what came of it.
fn killed(lab: &Lab, env: &[(&str, &str)], seed: u64) -> Verdict {
    let mut chance = Chance::new(seed);
    let (alice, bob) = (["alice/jabber", "alice/webex"], ["bob/jabber", "bob/webex"]);
    let (erin, gina) = (["erin/jabber", "erin/webex"], ["gina/jabber", "gina/webex"]);
    let voices = [conversation(alice, bob), conversation(alice, erin), conversation(bob, gina)].concat();

    let mut connector = Connector::start(lab, env);
    // The lab counts the connector in from the first answer of its status page on.
    let up = wait_for_status(&lab.connector_status(), Duration::from_secs(60))
        && lab.wait_idle(Duration::from_secs(60));
    assert!(up, "the connector does not come up: see {}", lab.folder().display());
    let began = Instant::now();
    let traffic = Traffic::start(lab.endpoint("control"), &voices, (40, 400), seed);
    let mut lives = Vec::new();
    for _ in 0..KILLS {
        let life = chance.millis(100, 2_500);
        std::thread::sleep(life);
        assert!(!connector.has_ended(), "the connector has ended by itself");
        connector.kill();
        lives.push(life.as_millis());
        connector = Connector::start(lab, env);
    }
    let between = carried(lab.endpoint("control"), &voices);
    std::thread::sleep(Duration::from_secs(1));
    let said = traffic.stop();
    let silent = Instant::now();
    assert!(lab.wait_idle(Duration::from_secs(120)), "it does not come to rest");
    let verdict = Verdict::of(lab.endpoint("control"), &said);
    println!(
        "{KILLS} kills after {lives:?} ms (seed {seed}), {:.1} s of traffic, {between} sights carried until then, at rest {:.1} s later: {verdict}",
        (silent - began).as_secs_f32(),
        silent.elapsed().as_secs_f32(),
    );
    verdict
}
