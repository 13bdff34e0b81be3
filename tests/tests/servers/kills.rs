//! The connector is killed again and again on each server. Where the server has stream management nothing is lost,
//! doubled or reordered; elsewhere exactly that may happen which `docs/guarantees.md` names.

use std::time::{Duration, Instant};

use tests::{Chance, Connector, Lab, Scratch, Traffic, Verdict, carried, three_conversations, wait_until};

use super::{Able, Expected, Pair, has_heard, lab, started};

/// Five, or as many as `PAIR_KILLS` says.
fn kills() -> usize {
    std::env::var("PAIR_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(5)
}

pub(super) fn killed(pair: &Pair) {
    let Expected::Sessions(able) = &pair.expected else { panic!("nothing is carried by {}", pair.name) };
    let scratch = Scratch::new(&format!("kills-{}", pair.folder()));
    let Some(server) = started(pair, &scratch) else { return };
    let lab = lab(&scratch, pair, server.as_ref());
    let verdict = traffic_through(&lab, pair.name);
    judge(pair.name, able, &verdict);
}

fn traffic_through(lab: &Lab, name: &str) -> Verdict {
    let mut chance = Chance::new(1);
    let voices = three_conversations();
    let mut connector = Connector::start(lab);
    connector.wait_up(lab);
    // What is written before the first sessions are there is nobody's promise, and a server that was started just now, beside
    // others, may take its time with them.
    assert!(all_carry(lab), "the connector does not come up: see {}", lab.folder().display());
    let traffic = Traffic::start(lab.endpoint("control"), &voices, (80, 600), 1);
    for _ in 0..kills() {
        std::thread::sleep(chance.millis(1_000, 4_000));
        assert!(!connector.has_ended(), "the connector has ended by itself");
        connector.kill();
        connector = Connector::start(lab);
    }
    let between = carried(lab.endpoint("control"), &voices);
    // The last life is to be one in which everything that can be carried is.
    assert!(all_carry(lab), "the connector does not come up: see {}", lab.folder().display());
    let said = traffic.stop();
    assert!(lab.wait_idle(Duration::from_secs(180)), "it does not come to rest");
    // A foreign server does not say whether it is at rest: the count has to stand still.
    let (mut verdict, mut since) = (Verdict::of(lab.endpoint("control"), &said), Instant::now());
    wait_until(Duration::from_secs(60), || {
        let now = Verdict::of(lab.endpoint("control"), &said);
        if now != verdict {
            (verdict, since) = (now, Instant::now());
        }
        verdict.is_clean() || since.elapsed() > Duration::from_secs(5)
    });
    println!("{name}: {} kills, {between} sights carried until then: {verdict}", kills());
    assert!(between > 20, "only {between} sights were carried between the kills");
    verdict
}

/// Whether the sessions of all who are enabled are there.
fn all_carry(lab: &Lab) -> bool {
    ["alice", "bob", "erin", "gina"].iter().all(|name| carries_to(lab, name))
}

/// Whether a person's session is there: what others write in Jabber is carried to Webex.
fn carries_to(lab: &Lab, name: &str) -> bool {
    let mut tries = 0;
    wait_until(Duration::from_secs(180), || {
        tries += 1;
        let text = format!("are you there, {name}? ({tries})");
        lab.say("dave/jabber", name, &text);
        wait_until(Duration::from_secs(5), || has_heard(lab, &format!("{name}/webex"), &text))
    })
}

fn judge(name: &str, able: &Able, verdict: &Verdict) {
    if able.acknowledges {
        // The connector carries nothing from Jabber to Jabber: the order there is the server's own matter. ejabberd was
        // once seen to show the second message of two people late to a client that had just begun.
        let native = |row: &&String| row.contains("/jabber: ") && row.contains("/jabber to ");
        let ours: Vec<_> = verdict.reordered.iter().filter(|row| !native(row)).collect();
        assert!(verdict.lost.is_empty() && verdict.doubled.is_empty(), "{name}: {verdict}");
        return assert!(ours.is_empty(), "{name}: {verdict}");
    }
    // `in CLIENT: WRITER to ADDRESSEE: …`. What a client shows of its own person, or of its own network, is the
    // matter of servers that copy or do not.
    let crossed = |row: &&String| {
        let app = if row.contains("/webex to ") { "jabber" } else { "webex" };
        let addressee = row.split(" to ").nth(1).and_then(|rest| rest.split(':').next()).unwrap_or_default();
        row.starts_with(&format!("in {addressee}/{app}: "))
    };
    let from_webex = |row: &&String| row.contains("/webex to ");
    let lost: Vec<_> = verdict.lost.iter().filter(crossed).collect();
    println!("{name}: of what was to cross {} were lost while nobody listened", lost.len());
    assert!(!lost.iter().any(from_webex), "{name}: what was written in Webex is never lost: {lost:?}");
    let doubled: Vec<_> = verdict.doubled.iter().filter(|row| !from_webex(row)).collect();
    assert!(doubled.is_empty(), "{name}: what was written in Jabber is never doubled: {doubled:?}");
    // At most what was in flight at a kill: one of each of three conversations, in both clients of its reader.
    let most = kills() * 3 * 2;
    assert!(verdict.doubled.len() <= most, "{name}: more doubled than was in flight: {verdict}");
    if able.archive {
        assert!(verdict.lost.is_empty(), "{name}: what was missed is in the archive: {verdict}");
    }
}
