//! The connector dies at every step of a message's walk: nothing is lost, doubled or reordered.

use std::time::Duration;

use tests::{Connector, Lab, Scratch, Traffic, Verdict, crashing_binary, three_conversations, wait_until};

/// The steps at which a build with `crash-points` can be made to die, as `edges::crash` names them.
const STEPS: [&str; 7] =
    ["intake", "before-commit", "after-commit", "acknowledge", "deliver", "attempt-committed", "receipt"];

/// How often each step is passed before the connector dies at it: the first time, and in the middle.
const PASSES: [u32; 2] = [1, 9];

#[test]
fn dying_at_any_step_loses_doubles_and_reorders_nothing() {
    let program = crashing_binary();
    let scratch = Scratch::new("crash");
    let lab = Lab::start(scratch.path(), &["--stand-ins", "--time-scale", "20"]);
    Connector::start(&lab).wait_up(&lab);
    let traffic = Traffic::start(lab.endpoint("control"), &three_conversations(), (60, 500), 1);
    for pass in PASSES {
        for step in STEPS {
            let at = format!("{step}:{pass}");
            let mut connector = Connector::start_as(program, &lab, &[("CONNECTOR_CRASH_AT", &at)]);
            let died = wait_until(Duration::from_secs(60), || connector.has_ended());
            assert!(died, "`{at}` is never reached: see {}", lab.folder().display());
        }
    }
    let connector = Connector::start(&lab);
    std::thread::sleep(Duration::from_secs(1));
    let said = traffic.stop();
    assert!(lab.wait_idle(Duration::from_secs(180)), "it does not come to rest");
    let verdict = Verdict::of(lab.endpoint("control"), &said);
    println!("{} deaths: {verdict}", STEPS.len() * PASSES.len());
    assert!(verdict.is_clean(), "{verdict}");
    drop(connector);
}
