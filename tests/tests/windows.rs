//! Where a stream is over before the connector comes back, something may be lost or shown twice: exactly that which
//! `docs/guarantees.md` says, and here it is measured.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::asked::{scale, seed};
use tests::{Chance, Outcome, Plan, World, played, wait_until};

/// So long the stand-in keeps a stream, in its own time.
const KEPT: Duration = Duration::from_secs(300);
/// From a start to where every session is open again, on a busy machine.
const OPENING: Duration = Duration::from_secs(8);
/// From where a message is written to where it can be seen in the hands of the connector.
const UNDER_WAY: Duration = Duration::from_secs(3);

#[test]
fn what_is_lost_and_shown_twice_when_the_trusted_link_is_not_taken_up_again() {
    measured("window-link-a", &[], "imp-link-no-resumption", 1);
}

#[test]
fn what_is_lost_and_shown_twice_when_client_streams_are_not_taken_up_again() {
    // Each of the twelve enabled people of the conversations has one.
    measured("window-link-b", &["--link", "b"], "imp-client-no-resumption", 12);
}

/// Four deaths: after every other one the connector comes back too late, after the others at once and is refused.
fn measured(name: &str, options: &[&str], refusal: &str, streams: u64) {
    let plan = Plan { options, pause: (700, 3_000), ..Plan::of(name, seed(), scale()) };
    // When the connector came back, death by death.
    let back = RefCell::new(Vec::new());
    let outcome = played(&plan, |world| {
        let mut chance = Chance::new(plan.seed);
        back.borrow_mut().clear();
        for n in 0..4 {
            world.kill_at_work_after(OPENING + UNDER_WAY + chance.millis(500, 3_000));
            let too_late = n % 2 == 0;
            if too_late {
                std::thread::sleep(KEPT / world.plan.scale + Duration::from_secs(2));
            }
            back.borrow_mut().push(Instant::now());
            if too_late { world.start_again() } else { refused(world, refusal, streams) }
        }
        std::thread::sleep(OPENING);
    });
    judge(name, &outcome, &back.borrow());
}

/// It is started again, and is refused every stream that it asks for.
fn refused(world: &mut World<'_>, refusal: &str, streams: u64) {
    let before = world.lab.hits(refusal);
    world.lab.control("/fault", &json!({"name": refusal, "on": true}));
    world.start_again();
    let all = wait_until(Duration::from_secs(60), || world.lab.hits(refusal) >= before + streams);
    assert!(all, "{refusal} has struck {} times of {streams}", world.lab.hits(refusal) - before);
    world.lab.control("/fault", &json!({"name": refusal, "on": false}));
}

fn judge(name: &str, outcome: &Outcome, back: &[Instant]) {
    let verdict = &outcome.verdict;
    let said: BTreeMap<String, Instant> = outcome
        .said
        .iter()
        .flat_map(|(voice, moments)| moments.iter().enumerate().map(|(n, at)| (voice.text(n), *at)))
        .collect();
    let when = |row: &String| said[row.split_once(": ").expect("`in CLIENT: TEXT`").1];
    let windows: Vec<_> = outcome.deaths.iter().map(|death| death.at).zip(back.iter().copied()).collect();
    let from_webex = |row: &&String| row.contains("/webex to ");
    let native = |row: &&String| row.contains("/jabber: ") && !from_webex(row);

    // What was written in Webex is listed when the connector is back, however late.
    let lost: Vec<_> = verdict.lost.iter().filter(from_webex).collect();
    assert!(lost.is_empty(), "{name}: written in Webex and lost: {lost:?}");
    // What was written in Jabber is lost while nobody holds the sessions, and at no other time.
    let mut latest = Duration::ZERO;
    for row in verdict.lost.iter().chain(&verdict.reordered) {
        assert!(!native(&row), "{name}: {row}");
        let at = when(row);
        let window = windows
            .iter()
            .find(|(death, back)| *death - UNDER_WAY < at && at < *back + OPENING)
            .unwrap_or_else(|| panic!("{name}: not while the connector was away: {row}\n{outcome}"));
        latest = latest.max(at.saturating_duration_since(window.1));
    }
    assert!(!verdict.lost.is_empty(), "{name}: nothing was lost: the guarantees are too modest");
    // What was shown twice was on its way to Jabber when the connector died.
    let doubled: Vec<_> = verdict.doubled.iter().filter(|row| !from_webex(row)).collect();
    assert!(doubled.is_empty(), "{name}: written in Jabber and doubled: {doubled:?}");
    println!(
        "{name}: {} of {} sights lost, the last written {} ms after the start, {} shown twice, {} late",
        verdict.lost.len(),
        verdict.due,
        latest.as_millis(),
        verdict.doubled.len(),
        verdict.reordered.len(),
    );
    for row in &verdict.doubled {
        let at = when(row);
        let in_flight = windows.iter().any(|(death, back)| *death - UNDER_WAY < at && at < *back);
        assert!(in_flight, "{name}: shown twice, and not in flight at a death: {row}\n{outcome}");
    }
    assert!(verdict.renamed.is_empty(), "{name}: shown twice under two ids: {:?}", verdict.renamed);
}
