//! Lanes, causes and probes (rules 7 and 14), and unanswered posts (rule 10).

mod rig;

use std::time::Duration;

use rig::{Rig, config, facts, person, stream};
use router::Config;
use router::envelope::{Kind, Link};
use router::inbound::{Cause, Inbound, Outcome, SessionEvent};
use router::outbound::{MaybeSent, Outbound};
use router::outbox::EntryState;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn hours(n: u64) -> Duration {
    seconds(n * 3600)
}

fn later(cause: Cause) -> Outcome {
    Outcome::Later { cause, after: None }
}

#[test]
fn a_lane_has_one_delivery_in_flight_and_both_directions_of_a_pair_share_it() {
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "bob", "1", "one");
    rig.jabber("bob", "bob", "ann", "2", "two");
    rig.jabber("ann", "ann", "carol", "3", "three");
    let deliveries = rig.deliveries();
    assert_eq!(deliveries.len(), 2, "one for each pair");
    let (ticket, entry, _) = &deliveries[0];
    rig.delivered(*ticket, entry);
    assert_eq!(rig.delivery().1.sender, person("bob"));
}

#[test]
fn only_the_senders_own_token_lets_the_other_pass_and_only_after_a_minute() {
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "bob", "1", "one");
    rig.jabber("bob", "bob", "ann", "2", "two");
    let token = || later(Cause::Token(person("ann")));
    let (ticket, ..) = rig.delivery();
    rig.receipt(ticket, token());
    let mut passed_at = None;
    for second in 0..70 {
        rig.pass(seconds(1));
        for (ticket, entry, _) in rig.deliveries() {
            if entry.sender == person("ann") {
                rig.receipt(ticket, token());
            } else {
                passed_at.get_or_insert(second);
                rig.delivered(ticket, &entry);
            }
        }
    }
    assert_eq!(passed_at, Some(59));
    assert_eq!(rig.router.counters().events["passed another sender's message"], 1);

    // Nothing else does.
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "bob", "1", "one");
    rig.jabber("bob", "bob", "ann", "2", "two");
    for _ in 0..300 {
        for (ticket, entry, _) in rig.deliveries() {
            assert_eq!(entry.sender, person("ann"));
            rig.receipt(ticket, later(Cause::Kms));
        }
        rig.pass(seconds(1));
    }
}

#[test]
fn lanes_of_one_cause_wait_behind_one_probe() {
    let people = (0..20).map(|n| facts(&format!("p{n:02}"), true)).collect();
    let mut rig = Rig::with(Config { capacity: 100, ..config() }, people);
    for n in 1..20 {
        rig.jabber("p00", "p00", &format!("p{n:02}"), &n.to_string(), "hello");
    }
    let first = rig.deliveries();
    assert_eq!(first.len(), 19);
    for (ticket, ..) in first {
        rig.receipt(ticket, later(Cause::Host("cloud".into())));
    }
    let mut probes = 0;
    for _ in 0..600 {
        rig.pass(seconds(1));
        for (ticket, ..) in rig.deliveries() {
            probes += 1;
            rig.receipt(ticket, later(Cause::Host("cloud".into())));
        }
    }
    assert!((10..=20).contains(&probes), "{probes} probes in ten minutes");
    assert_eq!(rig.router.counters().blocked.get("host cloud"), Some(&19));
    // One success, and all go on at once.
    while rig.deliveries().is_empty() {
        rig.pass(seconds(1));
        let Some(Outbound::Deliver(ticket, ..)) = rig.out.iter().find(|o| matches!(o, Outbound::Deliver(..)))
        else {
            continue;
        };
        let ticket = *ticket;
        let (_, entry, _) = rig.delivery();
        rig.delivered(ticket, &entry);
        assert_eq!(rig.deliveries().len(), 18);
        return;
    }
}

#[test]
fn a_probe_whose_post_comes_back_has_found_its_cause_gone() {
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "bob", "1", "one");
    rig.jabber("ann", "ann", "carol", "2", "two");
    for (ticket, ..) in rig.deliveries() {
        rig.receipt(ticket, later(Cause::Token(person("ann"))));
    }
    rig.pass(seconds(2));
    let (_, entry, _) = rig.delivery();
    // The post is seen on a socket before its answer comes.
    let other = entry.recipient.as_ref().expect("somebody was written to").as_str().to_owned();
    let mut origin = rig.webex_origin("ann", "ann", &other, "posted");
    origin.client_temp_id = Some(entry.derived.as_str().into());
    rig.webex_with(origin, Kind::Text);
    assert_eq!(rig.deliveries().len(), 1, "the other lane goes on at once");
}

#[test]
fn a_lane_that_cannot_try_a_cause_leaves_it_to_the_next() {
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "bob", "1", "one");
    rig.jabber("bob", "bob", "dave", "2", "two");
    for (ticket, ..) in rig.deliveries() {
        rig.receipt(ticket, later(Cause::Host("cloud".into())));
    }
    // Then ann's token is found to be gone, too: only bob's lane can try the host.
    rig.jabber("ann", "ann", "carol", "3", "three");
    let (ticket, ..) = rig.delivery();
    rig.receipt(ticket, Outcome::Later { cause: Cause::Token(person("ann")), after: Some(600_000) });
    rig.pass(seconds(2));
    let (_, entry, _) = rig.delivery();
    assert_eq!(entry.sender, person("bob"));
}

#[test]
fn a_named_time_is_kept() {
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "bob", "1", "one");
    let (ticket, ..) = rig.delivery();
    rig.receipt(ticket, Outcome::Later { cause: Cause::Host("cloud".into()), after: Some(30_000) });
    rig.pass(Duration::from_millis(29_999));
    assert!(rig.deliveries().is_empty());
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.deliveries().len(), 1);
}

#[test]
fn the_credit_bounds_what_is_with_the_edges() {
    let people = (0..6).map(|n| facts(&format!("p{n}"), true)).collect();
    let mut rig = Rig::with(Config { capacity: 2, ..config() }, people);
    for n in 1..6 {
        rig.jabber("p0", "p0", &format!("p{n}"), &n.to_string(), "hello");
    }
    let first = rig.deliveries();
    assert_eq!(first.len(), 2);
    rig.delivered(first[0].0, &first[0].1);
    assert_eq!(rig.deliveries().len(), 1);
}

#[test]
fn a_session_that_opens_lets_its_deliveries_go() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "one");
    let (ticket, ..) = rig.delivery();
    rig.receipt(ticket, later(Cause::Session(person("ann"))));
    assert!(rig.deliveries().is_empty());
    let event = SessionEvent::Opening { stream: stream(), resumed: true, at: rig.now };
    rig.handle(Inbound::Session(person("ann"), event));
    assert_eq!(rig.deliveries().len(), 1);
}

#[test]
fn an_unanswered_post_is_asked_about_and_settled() {
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "bob", "1", "one");
    let (ticket, _, maybe) = rig.delivery();
    assert_eq!(maybe, MaybeSent::No);
    let attempted = rig.now;
    rig.receipt(ticket, Outcome::Unknown);
    rig.pass(seconds(1));
    let (ticket, _, maybe) = rig.delivery();
    assert_eq!(maybe, MaybeSent::Since(attempted));
    // Absent, but too early to count: not again before the settle time is over.
    rig.receipt(ticket, Outcome::Unsettled);
    rig.pass(Duration::from_millis(28_999));
    assert!(rig.deliveries().is_empty());
    rig.pass(Duration::from_millis(1));
    let (ticket, entry, maybe) = rig.delivery();
    assert_eq!(maybe, MaybeSent::Since(attempted));
    rig.delivered(ticket, &entry);
    rig.pass(seconds(1));
    assert!(matches!(rig.state(entry.id), EntryState::Done(Some(Link::Activity(..)))));
}

#[test]
fn after_a_restart_what_may_have_been_posted_is_asked_about_from_the_start_of_the_run() {
    let mut rig = Rig::new();
    for n in ["1", "2", "3"] {
        rig.jabber("ann", "ann", "bob", n, n);
    }
    // The first is handed out at once, and nobody answers; the others wait behind it.
    assert_eq!(rig.deliveries().len(), 1);
    rig.pass(hours(1));
    rig.restart();
    let started = rig.now;
    let (ticket, entry, maybe) = rig.delivery();
    assert_eq!(maybe, MaybeSent::Since(started));
    let run = |rig: &mut Rig, id| {
        let stored = router::outbox::Storage::entry(&mut rig.storage, id).expect("memory reads");
        stored.expect("the entry is there").entry.run
    };
    assert_eq!(run(&mut rig, entry.id), 1);
    // The rows are marked before they are posted again, and only then.
    rig.handle(Inbound::Attempt(ticket, None));
    assert!(matches!(rig.out.pop(), Some(Outbound::Write(t)) if t == ticket));
    rig.delivered(ticket, &entry);
    for _ in 0..2 {
        let (ticket, entry, maybe) = rig.delivery();
        assert_eq!(
            (maybe, run(&mut rig, entry.id)),
            (MaybeSent::No, 2),
            "marked with the first, never posted"
        );
        rig.delivered(ticket, &entry);
    }
}

#[test]
fn what_has_to_wait_is_not_posted_before_that_is_on_disk() {
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "bob", "1", "at once");
    rig.jabber("ann", "ann", "bob", "2", "behind it");
    let (ticket, first, _) = rig.delivery();
    assert_eq!(first.run, 1, "committed with the word that it is posted");
    // One that has not been posted by anybody is not asked about.
    rig.receipt(ticket, Outcome::Wedged("for good".into()));
    rig.told();
    let (_, second, _) = rig.delivery();
    assert_eq!(second.run, 0);
    rig.pass(Duration::from_secs(1));
    rig.restart();
    let (ticket, second, maybe) = rig.delivery();
    assert_eq!((second.run, maybe), (0, MaybeSent::No));
    rig.handle(Inbound::Attempt(ticket, None));
    rig.restart();
    let (_, second, maybe) = rig.delivery();
    assert_eq!((second.run, maybe), (2, MaybeSent::Since(rig.now)));
}
