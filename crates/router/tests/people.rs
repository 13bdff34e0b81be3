//! Who is served, what is shown of them, and who types (rules 16 to 18, DM-05 to DM-09).

mod rig;

use std::time::Duration;

use presence_map::{Show, Status};
use rig::{Rig, config, facts, person};
use router::Config;
use router::envelope::{Kind, Typing, TypingOrigin};
use router::ids::{ActivityId, ConversationId, JabberId, PersonId, StanzaId};
use router::inbound::{Cause, Facts, Inbound, Observation, Outcome, PersonFacts};
use router::outbound::{Hint, Wanted};
use router::outbox::{EntryKind, EntryState};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn hours(n: u64) -> Duration {
    seconds(n * 3600)
}

fn later(cause: Cause) -> Outcome {
    Outcome::Later { cause, after: None }
}

fn read(rig: &mut Rig, people: Vec<PersonFacts>) {
    rig.handle(Inbound::Directory(Facts { people, complete: true }));
}

#[test]
fn disabling_ends_the_session_and_gives_up_what_needed_it() {
    // The same for somebody whom another connector serves from now on: what waits here must not come after what it says.
    let elsewhere = PersonFacts { home: None, ..facts("ann", true) };
    for ann in [facts("ann", false), elsewhere] {
        let mut rig = Rig::new();
        rig.webex("ann", "ann", "bob", "one");
        let (ticket, entry, _) = rig.delivery();
        rig.receipt(ticket, later(Cause::Session(person("ann"))));
        read(&mut rig, vec![ann]);
        assert_eq!(rig.wanted("ann"), Some(Wanted::Closed));
        assert_eq!(rig.state(entry.id), EntryState::Closed("disabled".into()));
        assert_eq!(rig.given_up(), [(entry.id, "disabled")]);
        assert_eq!(rig.router.counters().wedged[&Box::from("disabled")], 1);
        assert_eq!(rig.told().len(), 1, "its writer is told");
        let loaded = router::outbox::Storage::load(&mut rig.storage, rig.now).expect("memory loads");
        assert!(loaded.cursors.iter().all(|(p, _)| *p != person("ann")));
    }
}

#[test]
fn nothing_older_than_the_enablement_is_carried() {
    let people = || vec![facts("ann", true), facts("bob", false)];
    let mut rig = Rig::with(Config { since: None, ..config() }, people());
    rig.pass(seconds(3600));
    read(&mut rig, vec![facts("ann", true), facts("bob", true)]);
    rig.open("bob");
    rig.caught_up("bob", 0);
    let mut origin = rig.webex_origin("bob", "bob", "ann", "old");
    origin.published = rig.now.plus(-1);
    rig.webex_with(origin, Kind::Text);
    assert_eq!(rig.not_carried("rule 17"), 1);
    let origin = rig.webex_origin("bob", "bob", "ann", "new");
    rig.webex_with(origin, Kind::Text);
    assert_eq!(rig.deliver_all().len(), 1);
    // Nor what becomes of it: a listing shows that it was deleted, and then that it was edited or deleted is no news. Of
    // what no listing shows, an edge finds out how old it is.
    let mut origin = rig.webex_origin("bob", "bob", "ann", "older");
    origin.published = rig.now.plus(-2);
    rig.webex_with(origin, Kind::Tombstone);
    let of = |activity| ActivityId::new(activity);
    let origin = rig.webex_origin("bob", "bob", "ann", "a delete");
    rig.webex_with(origin, Kind::Delete { of: of("older") });
    assert!(rig.deliveries().is_empty());
    let origin = rig.webex_origin("bob", "bob", "ann", "an edit");
    rig.webex_with(origin, Kind::Edit { of: of("older") });
    let kinds: Vec<EntryKind> = rig.deliver_all().into_iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::Edit], "the new text, and no notice");
    let origin = rig.webex_origin("bob", "bob", "ann", "another delete");
    rig.webex_with(origin, Kind::Delete { of: of("old") });
    let (ticket, ..) = rig.delivery();
    rig.receipt(ticket, Outcome::Uncarried("rule 17: as an edge says it".into()));
    assert_eq!(rig.not_carried("rule 17"), 2);
    // The same for what an IM and Presence server replays.
    let mut origin = rig.jabber_origin("bob", "ann", "bob", "1", "old");
    origin.stamp = Some(rig.now.before(seconds(60)));
    rig.jabber_with(origin, Kind::Text, "old");
    assert_eq!(rig.not_carried("rule 17"), 3);
}

#[test]
fn a_recipient_who_has_left_is_not_posted_to() {
    let mut rig = Rig::new();
    rig.jabber("ann", "ann", "carol", "0", "keeps the lane busy");
    let (ticket, entry, _) = rig.delivery();
    rig.jabber("ann", "ann", "carol", "1", "one");
    let mut carol = facts("carol", false);
    carol.ours = false;
    read(&mut rig, vec![carol]);
    rig.delivered(ticket, &entry);
    assert!(rig.deliveries().is_empty());
    assert_eq!(rig.not_carried("rule 16"), 1);
    rig.pass(seconds(1));
    assert!(rig.router.idle());
}

#[test]
fn nothing_is_judged_before_somebody_is_known() {
    let mut rig = Rig::bare(config());
    assert!(!rig.router.idle());
    rig.jabber("ann", "ann", "bob", "1", "one");
    assert_eq!(rig.router.uncommitted(), 1);
    rig.handle(Inbound::Directory(Facts {
        people: vec![facts("ann", true), facts("bob", true)],
        complete: true,
    }));
    assert_eq!(rig.deliveries().len(), 1);
}

fn observe(rig: &mut Rig, status: Status, idle: Duration) {
    observe_with(rig, status, idle, false);
}

fn observe_with(rig: &mut Rig, status: Status, idle: Duration, by_our_device: bool) {
    let observation = Observation {
        person: person("ann"),
        status,
        last_active: Some(rig.now.before(idle)),
        by_our_device,
        at: rig.now,
    };
    rig.handle(Inbound::Statuses(vec![observation]));
}

fn shows(show: Show, text: &'static str) -> Wanted {
    Wanted::Open { show, text, active: None }
}

#[test]
fn time_alone_turns_available_to_away_and_ends_the_session() {
    let mut rig = Rig::new();
    observe(&mut rig, Status::ByActivity, Duration::ZERO);
    assert_eq!(rig.wanted("ann"), None, "it was shown as available already");
    rig.pass(seconds(600));
    assert_eq!(rig.wanted("ann"), None, "exactly ten minutes is still available");
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.wanted("ann"), Some(shows(Show::Away, "@ Webex")));
    rig.pass(hours(72) - seconds(600) - Duration::from_millis(1));
    assert_eq!(rig.wanted("ann"), Some(shows(Show::Away, "@ Webex")), "exactly 72 hours is still away");
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.wanted("ann"), Some(Wanted::Closed));
    assert_eq!(rig.router.counters().inactive, 1);
    // A message written in Webex wakes at once.
    rig.webex("ann", "ann", "bob", "one");
    assert_eq!(rig.wanted("ann"), Some(shows(Show::Available, "@ Webex")));
    assert_eq!(rig.router.counters().inactive, 0);
}

#[test]
fn with_a_presence_it_is_said_when_the_person_was_last_active() {
    let mut rig = Rig::new();
    let last = rig.now;
    observe(&mut rig, Status::ByActivity, seconds(0));
    rig.pass(seconds(601));
    assert!(matches!(rig.session("ann"), Some(Wanted::Open { active: Some(at), .. }) if *at == last));
    rig.out.clear();
    // Later activity alone is nothing to be said.
    observe(&mut rig, Status::Hidden, seconds(0));
    assert_eq!(rig.session("ann"), None);
}

#[test]
fn presence_is_said_only_when_it_changes() {
    let mut rig = Rig::new();
    for _ in 0..5 {
        observe(&mut rig, Status::ByActivity, seconds(60));
        rig.pass(seconds(60));
    }
    assert_eq!(rig.wanted("ann"), None);
    observe(&mut rig, Status::DoNotDisturb, seconds(60));
    assert_eq!(rig.wanted("ann"), Some(shows(Show::DoNotDisturb, "")));
    rig.out.clear();
    observe(&mut rig, Status::Hidden, hours(100));
    rig.pass(hours(1000));
    assert_eq!(rig.wanted("ann"), Some(shows(Show::Away, "@ Webex")), "a hidden person keeps the session");
}

#[test]
fn a_restart_remembers_who_was_asleep() {
    let mut rig = Rig::new();
    observe(&mut rig, Status::ByActivity, hours(100));
    rig.pass(seconds(1));
    rig.restart();
    assert_eq!(rig.wanted("ann"), Some(Wanted::Closed));
    assert_eq!(rig.wanted("bob"), Some(shows(Show::Available, "@ Webex")), "of whom nothing is known");
    // Who was known to hide is not shown as available before the first answer.
    observe(&mut rig, Status::Hidden, hours(100));
    rig.pass(seconds(1));
    rig.restart();
    assert_eq!(rig.wanted("ann"), Some(shows(Show::Away, "@ Webex")));
}

#[test]
fn our_own_writes_are_no_activity() {
    let mut rig = Rig::new();
    observe(&mut rig, Status::ByActivity, hours(50));
    assert_eq!(rig.wanted("ann"), Some(shows(Show::Away, "@ Webex")));
    rig.out.clear();
    // Carol writes to ann in Jabber, ann answers in Jabber: we post as ann.
    rig.jabber("ann", "ann", "carol", "1", "one");
    let (ticket, entry, _) = rig.delivery();
    rig.delivered(ticket, &entry);
    rig.pass(seconds(2));
    observe(&mut rig, Status::ByActivity, seconds(2));
    assert_eq!(rig.wanted("ann"), None, "explained by our own post");
    rig.pass(seconds(60));
    observe_with(&mut rig, Status::ByActivity, Duration::ZERO, true);
    assert_eq!(rig.wanted("ann"), None, "seen on our own device");
    observe(&mut rig, Status::ByActivity, seconds(1));
    assert_eq!(rig.wanted("ann"), Some(shows(Show::Available, "@ Webex")));
}

#[test]
fn nothing_is_said_of_somebody_who_is_not_enabled() {
    let mut rig = Rig::new();
    let observation = Observation {
        person: person("carol"),
        status: Status::ByActivity,
        last_active: Some(rig.now),
        by_our_device: false,
        at: rig.now,
    };
    rig.handle(Inbound::Statuses(vec![observation]));
    assert_eq!(rig.wanted("carol"), None);
}

fn in_jabber(session: &str, from: &str, to: &str) -> TypingOrigin {
    TypingOrigin::Jabber {
        session: person(session),
        from: JabberId::new(format!("{from}@x")),
        to: JabberId::new(format!("{to}@x")),
        stanza: StanzaId::new("t"),
    }
}

#[test]
fn typing_is_lit_once_and_for_five_minutes_at_most() {
    let mut rig = Rig::new();
    let (from, to) = (person("carol"), person("ann"));
    rig.typing(in_jabber("ann", "carol", "ann"), true);
    rig.typing(in_jabber("ann", "carol", "ann"), true);
    let lit = |active| Hint::TypingInWebex { from: from.clone(), to: to.clone(), active };
    assert_eq!(rig.hints(), [lit(true)]);
    rig.pass(seconds(299));
    assert_eq!(rig.hints(), []);
    rig.pass(seconds(1));
    assert_eq!(rig.hints(), [lit(false)]);
    rig.typing(in_jabber("ann", "carol", "ann"), false);
    assert_eq!(rig.hints(), [], "it was not lit");
    // A message ends it by itself.
    rig.typing(in_jabber("ann", "carol", "ann"), true);
    rig.jabber("ann", "carol", "ann", "1", "one");
    rig.hints();
    rig.pass(seconds(600));
    assert_eq!(rig.hints(), []);
}

#[test]
fn who_begins_and_stops_to_type_without_end_is_passed_on_a_few_times() {
    let mut rig = Rig::new();
    for _ in 0..1_000 {
        rig.typing(in_jabber("ann", "carol", "ann"), true);
        rig.typing(in_jabber("ann", "carol", "ann"), false);
    }
    assert_eq!(rig.hints().len(), 20, "ten times on and off");
    rig.typing(in_jabber("ann", "ann", "carol"), true);
    assert_eq!(rig.hints().len(), 1, "others are not held up");
    rig.pass(seconds(3));
    rig.typing(in_jabber("ann", "carol", "ann"), true);
    assert_eq!(rig.hints().len(), 1, "and after a while there is room again");
}

#[test]
fn typing_that_a_server_kept_and_brings_late_is_not_shown() {
    let mut rig = Rig::new();
    let upstream = rig.upstream();
    let typing = Typing { from: in_jabber("ann", "carol", "ann"), active: true, stale: true };
    rig.handle(Inbound::Typing(typing, upstream));
    rig.pass(seconds(600));
    assert_eq!(rig.hints(), []);
}

#[test]
fn typing_in_webex_crosses_only_for_somebody_who_is_enabled() {
    let mut rig = Rig::new();
    let typing = |actor: &str, socket: &str| TypingOrigin::Webex {
        socket: person(socket),
        actor: person(actor),
        conversation: ConversationId::new("c"),
    };
    rig.typing(typing("carol", "ann"), true);
    assert_eq!(rig.hints(), []);
    rig.typing(typing("bob", "ann"), true);
    let hints = rig.hints();
    assert!(
        matches!(&hints[..], [Hint::TypingInJabber { from, active: true, id, .. }]
            if *from == PersonId::new("bob") && rig::tagger().is_ours(id.as_str())),
        "{hints:?}"
    );
}
