//! People talk in Jabber: what each client sees, and who is told what.

mod support;

use lab::options::Options;
use lab::people::{Act, What};
use support::World;

#[tokio::test(start_paused = true)]
async fn two_people_talk_and_each_sees_both_halves() {
    let world = World::usual().await;
    world.say("alice", "bob", "hello").await;
    world.say("bob", "alice", "hi <there> & good day").await;
    world.say("alice", "bob", "bye").await;
    world.idle().await;
    let alice = ["out message bob hello", "in message bob hi <there> & good day", "out message bob bye"];
    let bob = ["in message alice hello", "out message alice hi <there> & good day", "in message alice bye"];
    assert_eq!(world.chat("alice"), alice);
    assert_eq!(world.chat("bob"), bob);
    assert!(world.chat("carol").is_empty());
}

#[tokio::test(start_paused = true)]
async fn typing_reading_and_files_are_seen() {
    let world = World::usual().await;
    let to = |what, to: &str| Act { to: Some(to.to_owned()), ..Act::new(what) };
    world.act("alice", &to(What::Typing, "erin")).await.unwrap();
    world.act("alice", &to(What::Paused, "erin")).await.unwrap();
    let id = world.say("alice", "erin", "look").await;
    world.idle().await;
    world.act("erin", &Act { id: id.clone(), ..Act::new(What::Read) }).await.unwrap();
    world.act("erin", &Act { name: "plan.txt".into(), ..to(What::File, "alice") }).await.unwrap();
    world.idle().await;
    assert_eq!(
        world.chat("erin"),
        [
            "in typing alice typing",
            "in typing alice paused",
            "in message alice look",
            "out file alice plan.txt"
        ]
    );
    assert_eq!(world.chat("alice"), ["out message erin look", "in read erin ", "in file erin plan.txt"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_is_said() {
    let world = World::usual().await;
    let error = |result: Result<(), _>| {
        result.map_err(|error: lab::people::PuppetError| error.to_string()).unwrap_err()
    };
    assert_eq!(
        error(world.act("alice", &Act { id: "x".into(), ..Act::new(What::Read) }).await),
        "this client has no message `x`"
    );
    assert_eq!(
        error(world.act("alice", &Act { to: Some("zoe".into()), ..Act::new(What::Typing) }).await),
        "there is nobody called `zoe`"
    );
    assert_eq!(error(world.act("alice", &Act::new(What::Edit)).await), "Jabber cannot change what was sent");
    assert!(
        error(world.act("alice", &Act::new(What::Status)).await)
            .starts_with("a status is available, away or dnd")
    );
    assert_eq!(
        world.puppet("alice").say("zoe", "x").await.unwrap_err().to_string(),
        "there is nobody called `zoe`"
    );
    world.does("alice", What::Offline).await;
    let offline = world.puppet("alice").say("bob", "x").await.unwrap_err().to_string();
    assert_eq!(offline, "alice/jabber is signed out");
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_nobody_is_there_waits() {
    let world = World::usual().await;
    world.does("bob", What::Offline).await;
    world.until("alice", "bob Offline").await;
    world.say("alice", "bob", "one").await;
    world.say("alice", "bob", "two").await;
    world.idle().await;
    assert!(world.chat("bob").is_empty());
    world.does("bob", What::Online).await;
    world.idle().await;
    assert_eq!(world.chat("bob"), ["in message alice one", "in message alice two"]);
    world.does("bob", What::Offline).await;
    world.does("bob", What::Online).await;
    world.idle().await;
    assert_eq!(world.chat("bob").len(), 2, "the same resource gets them once");
}

#[tokio::test(start_paused = true)]
async fn without_a_store_the_sender_is_told() {
    let world = World::usual().await;
    world.fault(r#"{"name":"imp-suppress-offline","on":true}"#);
    world.does("bob", What::Offline).await;
    world.say("alice", "bob", "lost").await;
    world.until("alice", "Message could not be delivered").await;
    world.does("bob", What::Online).await;
    world.idle().await;
    assert_eq!(world.chat("alice"), ["out message bob lost", "in error bob Message could not be delivered"]);
    assert!(world.chat("bob").is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_jabber_before_12_5_says_that_nobody_was_there() {
    let world = World::usual().await;
    world.fault(r#"{"name":"imp-suppress-offline","on":true}"#);
    world.fault(r#"{"name":"jabber-since-12-5","on":true,"person":"alice"}"#);
    world.does("bob", What::Offline).await;
    world.say("alice", "bob", "lost").await;
    world.say("carol", "bob", "lost too").await;
    world.until("carol", "Message could not be delivered").await;
    world.idle().await;
    assert_eq!(world.chat("alice"), ["out message bob lost"]);
    // What was refused for another reason every version shows.
    world.fault(r#"{"name":"imp-refuses-messages","on":true,"count":1,"person":"alice"}"#);
    world.say("alice", "carol", "no").await;
    world.until("alice", "Message could not be delivered").await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_may_refuse() {
    let world = World::usual().await;
    world.fault(r#"{"name":"imp-refuses-messages","on":true,"count":1,"person":"alice"}"#);
    world.say("alice", "bob", "no").await;
    world.until("alice", "Message could not be delivered").await;
    world.say("alice", "bob", "yes").await;
    world.idle().await;
    assert_eq!(world.chat("bob"), ["in message alice yes"]);
}

/// Forged copies, headlines, invitations and questions are nothing to a person; ids may come again.
#[tokio::test(start_paused = true)]
async fn clients_that_misbehave_are_not_believed() {
    let world = World::usual().await;
    for fault in ["jabber-forges-copies", "jabber-noise", "jabber-reuses-ids"] {
        world.fault(&format!(r#"{{"name":"{fault}","on":true}}"#));
    }
    assert_eq!(world.say("alice", "bob", "one").await, "1");
    assert_eq!(world.say("alice", "bob", "two").await, "2");
    world.does("alice", What::Offline).await;
    world.does("alice", What::Online).await;
    assert_eq!(world.say("alice", "bob", "one").await, "1");
    world.idle().await;
    assert_eq!(world.chat("bob"), ["in message alice one", "in message alice two", "in message alice one"]);
    let struck = |name| world.ctx.faults.list().iter().any(|fault| fault.name == name && fault.hits == 3);
    assert!(struck("jabber-forges-copies") && struck("jabber-noise"));
}

/// A connection that breaks at the worst moment, on either side: nothing is lost, nothing comes twice.
#[tokio::test(start_paused = true)]
async fn broken_connections_change_nothing() {
    let world = World::usual().await;
    for fault in
        ["cut", "cut-before-handling", "cut-after-handling", "cut-before-writing", "cut-after-writing"]
    {
        for person in ["alice", "bob"] {
            world.fault(&format!(
                r#"{{"name":"imp-client-{fault}","on":true,"count":1,"person":"{person}"}}"#
            ));
            world.say("alice", "bob", &format!("{fault} {person} 1")).await;
            world.say("bob", "alice", &format!("{fault} {person} 2")).await;
            world.idle().await;
        }
    }
    let spoken = |start: &str| -> Vec<String> {
        let chat = world.chat("bob");
        chat.iter().filter_map(|line| line.strip_prefix(start)).map(str::to_owned).collect()
    };
    let expected = |n: u8| -> Vec<String> {
        let faults =
            ["cut", "cut-before-handling", "cut-after-handling", "cut-before-writing", "cut-after-writing"];
        faults
            .iter()
            .flat_map(|fault| ["alice", "bob"].map(|person| format!("{fault} {person} {n}")))
            .collect()
    };
    assert_eq!(spoken("in message alice "), expected(1));
    assert_eq!(spoken("out message alice "), expected(2));
    let spoiled: u64 = world.ctx.faults.list().iter().map(|fault| fault.hits).sum();
    assert_eq!(spoiled, 10, "every fault struck");
}

/// Without stream management what was under way is lost, and what comes later is not.
#[tokio::test(start_paused = true)]
async fn without_stream_management_a_window_opens() {
    let world = World::stand_in(Options::default()).await;
    world.fault(r#"{"name":"imp-client-no-management","on":true}"#);
    lab::people::jabber::start(&world.ctx, world.client, 0);
    world.idle().await;
    world.fault(r#"{"name":"imp-client-cut-before-handling","on":true,"count":1,"person":"alice"}"#);
    world.say("alice", "bob", "under way").await;
    world.until("bob", "alice Offline").await;
    world.does("alice", What::Online).await;
    world.say("alice", "bob", "later").await;
    world.until("bob", "later").await;
    assert_eq!(world.chat("bob"), ["in message alice later"]);
}

/// The same seed gives the same lab, line by line and id by id.
#[tokio::test(start_paused = true)]
async fn a_seed_replays() {
    let run = |seed| async move {
        let world = World::new(Options { seed, ..Options::default() }).await;
        for n in 0..5 {
            world.say("alice", "bob", &n.to_string()).await;
            world.say("bob", "erin", &n.to_string()).await;
        }
        world.idle().await;
        let lines = world.ctx.seen.all_after(0);
        world.ctx.shut_down().await;
        serde_json::to_string(&lines).unwrap()
    };
    let first = run(1).await;
    assert_eq!(first, run(1).await);
    assert_ne!(first, run(2).await);
}

#[tokio::test(start_paused = true)]
async fn a_contact_of_another_domain_writes_to_people_and_is_written_to() {
    let world = World::usual().await;
    world.say("pat", "alice", "from outside").await;
    world.until("alice", "pat@partner.example from outside").await;
    world.say("alice", "pat", "from inside").await;
    world.until("pat", "in message alice from inside").await;
    world.idle().await;
    let alice =
        ["in message pat@partner.example from outside", "out message pat@partner.example from inside"];
    assert_eq!(world.chat("alice"), alice);
    // Somebody away reads it later; nobody else is there.
    world.does("bob", What::Offline).await;
    world.until("alice", "bob Offline").await;
    world.say("pat", "bob", "for later").await;
    world.does("bob", What::Online).await;
    world.until("bob", "for later").await;
    assert_eq!(
        world.puppet("pat").say("zoe", "x").await.unwrap_err().to_string(),
        "there is nobody called `zoe`"
    );
}
