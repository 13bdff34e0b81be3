//! Built-in people use Webex among themselves: no connector, everything through the cloud's own doors.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use lab::{
    Lab,
    clock::Time,
    mails::Mail,
    net::{Network, Pipes},
    options::Options,
    people::{Act, Change, What},
    seen::{App, Client, Direction, Kind, Line},
};

/// A lab in memory with a paused clock; `kind` switches off what is unkind.
async fn lab(kind: bool, seed: u64) -> Lab {
    lab_with(Options { stand_ins: true, kind, seed, ..Options::default() }).await
}

async fn lab_with(options: Options) -> Lab {
    Lab::start_on(options, Network::Pipes(Pipes::default()), Time(1_714_557_600_000)).await.unwrap()
}

fn webex(name: &str) -> Client {
    Client::new(name, App::Webex)
}

async fn say(lab: &Lab, from: &str, to: &str, text: &str) -> String {
    lab.ctx().puppets.get(&webex(from)).unwrap().say(to, text).await.unwrap()
}

async fn act(lab: &Lab, who: &str, act: Act) {
    lab.ctx().puppets.get(&webex(who)).unwrap().act(&act).await.unwrap();
}

async fn settle(lab: &Lab) {
    for _ in 0..1_000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if lab.is_idle().await {
            return;
        }
    }
    panic!("the lab is never idle");
}

fn seen(lab: &Lab, name: &str) -> Vec<Line> {
    lab.ctx().seen.after(&webex(name), 0)
}

fn texts(lines: &[Line], dir: Direction) -> Vec<&str> {
    lines
        .iter()
        .filter(|line| line.dir == dir && line.kind == Kind::Message)
        .map(|line| line.text.as_str())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn two_people_talk_and_both_see_both_halves_once() {
    for kind in [true, false] {
        let lab = lab(kind, 1).await;
        for n in 0..5 {
            say(&lab, "alice", "bob", &format!("a{n}")).await;
            say(&lab, "bob", "alice", &format!("b{n}")).await;
        }
        settle(&lab).await;
        let (alice, bob) = (seen(&lab, "alice"), seen(&lab, "bob"));
        assert_eq!(texts(&bob, Direction::In), ["a0", "a1", "a2", "a3", "a4"], "kind: {kind}");
        assert_eq!(texts(&alice, Direction::In), ["b0", "b1", "b2", "b3", "b4"], "kind: {kind}");
        assert_eq!(texts(&alice, Direction::Out), texts(&bob, Direction::In));
        assert!(alice.iter().all(|line| line.peer == "bob") && bob.iter().all(|line| line.peer == "alice"));
        assert!(seen(&lab, "carol").is_empty());
        lab.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn both_create_the_same_conversation_at_once() {
    let lab = lab(false, 2).await;
    let (one, other) =
        tokio::join!(say(&lab, "carol", "dave", "from carol"), say(&lab, "dave", "carol", "from dave"));
    assert_ne!(one, other);
    settle(&lab).await;
    for name in ["carol", "dave"] {
        let lines = seen(&lab, name);
        let mut all: Vec<&str> =
            lines.iter().filter(|l| l.kind == Kind::Message).map(|l| l.text.as_str()).collect();
        all.sort_unstable();
        assert_eq!(all, ["from carol", "from dave"], "{name}");
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn reading_typing_editing_deleting_and_files_reach_the_other() {
    let lab = lab(false, 3).await;
    let id = say(&lab, "alice", "erin", "first").await;
    settle(&lab).await;
    act(&lab, "erin", Act { id: id.clone(), ..Act::new(What::Read) }).await;
    act(&lab, "erin", Act { id: "alice".into(), ..Act::new(What::Typing) }).await;
    act(&lab, "alice", Act { id: id.clone(), text: "second".into(), ..Act::new(What::Edit) }).await;
    act(&lab, "alice", Act { id: id.clone(), ..Act::new(What::Delete) }).await;
    let file = Act {
        to: Some("erin".into()),
        name: "n.txt".into(),
        base64: "aGVsbG8=".into(),
        ..Act::new(What::File)
    };
    act(&lab, "alice", file).await;
    settle(&lab).await;
    let of = |name: &str, kind| {
        let lines = seen(&lab, name);
        let lines = lines.into_iter().filter(|line| line.kind == kind && line.dir == Direction::In);
        lines.map(|line| (line.id, line.text)).collect::<Vec<_>>()
    };
    assert_eq!(of("alice", Kind::Read), [(id.clone(), String::new())]);
    assert_eq!(of("alice", Kind::Typing), [(String::new(), "typing".to_owned())]);
    let notices = of("erin", Kind::Notice);
    assert_eq!(notices[0].1, "edited: second");
    assert_eq!(notices[1], (id, "deleted".to_owned()));
    assert_eq!(of("erin", Kind::File)[0].1, "n.txt");
    assert!(of("erin", Kind::Error).is_empty());
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_was_signed_out_reads_it_later() {
    let lab = lab(false, 4).await;
    say(&lab, "alice", "bob", "before").await;
    settle(&lab).await;
    act(&lab, "bob", Act::new(What::Offline)).await;
    say(&lab, "alice", "bob", "meanwhile").await;
    settle(&lab).await;
    assert_eq!(texts(&seen(&lab, "bob"), Direction::In), ["before"]);
    act(&lab, "bob", Act::new(What::Online)).await;
    say(&lab, "alice", "bob", "after").await;
    settle(&lab).await;
    assert_eq!(texts(&seen(&lab, "bob"), Direction::In), ["before", "meanwhile", "after"]);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn everything_works_over_tls_under_the_labs_own_authority() {
    let lab = lab_with(Options { stand_ins: true, tls: true, ..Options::default() }).await;
    assert!(lab.endpoints().cloud.starts_with("https://"));
    let ca = std::fs::read_to_string(lab.endpoints().ca.as_ref().unwrap()).unwrap();
    assert!(ca.starts_with("-----BEGIN CERTIFICATE-----"));
    say(&lab, "alice", "bob", "sealed twice").await;
    settle(&lab).await;
    assert_eq!(texts(&seen(&lab, "bob"), Direction::In), ["sealed twice"]);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn clients_go_on_after_the_clock_was_moved_by_weeks() {
    let lab = lab(false, 7).await;
    say(&lab, "alice", "bob", "before").await;
    settle(&lab).await;
    for (days, text) in [(1, "a day"), (14, "two weeks"), (30, "a month")] {
        lab.ctx().clock.advance(Duration::from_secs(days * 86_400));
        say(&lab, "alice", "bob", text).await;
        settle(&lab).await;
    }
    assert_eq!(texts(&seen(&lab, "bob"), Direction::In), ["before", "a day", "two weeks", "a month"]);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_added_signs_in_when_first_used() {
    let lab = lab_with(Options { stand_ins: true, users: 30, ..Options::default() }).await;
    say(&lab, "u00030", "alice", "hello").await;
    settle(&lab).await;
    let lines = seen(&lab, "alice");
    assert_eq!((lines[0].peer.as_str(), lines[0].text.as_str()), ("u00030", "hello"));
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_seed_replays() {
    let mut runs = Vec::new();
    for seed in [11, 11, 12] {
        let lab = lab(false, seed).await;
        for n in 0..4 {
            let text = format!("number {n}");
            tokio::join!(
                say(&lab, "alice", "bob", &text),
                say(&lab, "carol", "bob", &text),
                say(&lab, "erin", "dave", &text),
            );
        }
        settle(&lab).await;
        let lines = lab.ctx().seen.all_after(0).into_iter().filter(|line| line.client.ends_with("/webex"));
        runs.push(lines.map(|line| (line.ms, line.client, line.id, line.text)).collect::<Vec<_>>());
        lab.stop().await;
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

/// What a client shows of somebody's status, again and again the same counted once.
fn statuses(lab: &Lab, name: &str, peer: &str) -> Vec<String> {
    let lines = seen(lab, name).into_iter().filter(|line| line.kind == Kind::Presence && line.peer == peer);
    let mut texts: Vec<String> = lines.map(|line| line.text).collect();
    texts.dedup();
    texts
}

/// Waits until a client shows that of somebody last.
async fn shows(lab: &Lab, name: &str, peer: &str, text: &str) {
    for _ in 0..600 {
        if statuses(lab, name, peer).last().is_some_and(|last| last == text) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{name} is never shown that {peer} is `{text}`, but {:?}", statuses(lab, name, peer));
}

#[tokio::test(start_paused = true)]
async fn whoever_never_signed_in_is_mailed_when_written_to_unless_hybrid_message_is_on() {
    let lab = lab(true, 7).await;
    let enabled = |name: &str, enabled| {
        lab.ctx()
            .people
            .change(&Change { name: name.to_owned(), enabled: Some(enabled), ..Change::default() })
            .unwrap();
    };
    say(&lab, "carol", "frank", "are you there?").await;
    assert_eq!(lab.ctx().mails.all(), [], "the organization uses Hybrid Message");
    for person in lab.ctx().people.all() {
        enabled(&person.name, false);
    }
    say(&lab, "carol", "frank", "and now?").await;
    say(&lab, "carol", "bob", "you are").await;
    let mail = Mail { to: "frank".to_owned(), from: "carol".to_owned() };
    assert_eq!(lab.ctx().mails.all(), std::slice::from_ref(&mail));
    // One who is enabled is enough, whoever writes.
    enabled("alice", true);
    say(&lab, "carol", "frank", "still not?").await;
    assert_eq!(lab.ctx().mails.all(), [mail]);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_shows_whom_it_follows_as_away_since_out_of_office_and_not_to_be_disturbed() {
    let lab = lab(true, 6).await;
    let follow = |who: &'static str, to: &str| {
        let follow = Act { to: Some(to.to_owned()), ..Act::new(What::Follow) };
        act(&lab, who, follow)
    };
    let bob = |change: Change| {
        lab.ctx().people.change(&Change { name: "bob".to_owned(), ..change }).unwrap();
    };
    let active = |hours: i64| {
        let last_active = Some(lab.ctx().clock.now().0 - hours * 3_600_000);
        Change { last_active, ..Change::default() }
    };
    follow("alice", "bob").await;
    shows(&lab, "alice", "bob", "active").await;
    bob(active(2));
    shows(&lab, "alice", "bob", "active 2 hours ago").await;
    bob(active(20));
    shows(&lab, "alice", "bob", "active yesterday").await;
    let now = lab.ctx().clock.now().0;
    bob(Change { absence: Some((now, now + 3_600_000)), ..Change::default() });
    shows(&lab, "alice", "bob", "airplane").await;
    act(&lab, "bob", Act { text: "dnd".to_owned(), ..Act::new(What::Status) }).await;
    shows(&lab, "alice", "bob", "crescent moon").await;
    // Gina hides: nobody is shown hers, and she is shown nobody's.
    follow("alice", "gina").await;
    follow("gina", "bob").await;
    bob(Change { status: Some(String::new()), absence: Some((0, 0)), ..active(0) });
    shows(&lab, "alice", "bob", "active").await;
    settle(&lab).await;
    assert_eq!(statuses(&lab, "alice", "gina"), [""]);
    assert_eq!(statuses(&lab, "gina", "bob"), [""]);
    lab.ctx().people.update("gina", |gina| gina.hidden = false).unwrap();
    follow("gina", "bob").await;
    shows(&lab, "gina", "bob", "active").await;
    shows(&lab, "alice", "gina", "active").await;
    lab.stop().await;
}
