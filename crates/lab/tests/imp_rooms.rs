//! Group chats: who comes in, and what sessions on the trusted link are sent.

mod support;

use lab::people::{Act, What};
use support::{Link, World};
use xmpp_core::session_control::ControlEvent;

const MUC_USER: &str = "http://jabber.org/protocol/muc#user";

#[tokio::test(start_paused = true)]
async fn an_invitation_reaches_every_session_and_brings_in_the_clients_that_join() {
    let world = World::usual().await;
    world.fault(r#"{"name":"jabber-high-priority","on":false}"#);
    world.does("bob", What::Offline).await;
    let mut link = Link::connect(&world, None).await;
    let bob = link.open("bob@lab.example/webex").await;
    for whom in ["bob", "carol"] {
        let act = Act { id: "#team".into(), to: Some(whom.into()), ..Act::new(What::Invite) };
        world.act("alice", &act).await.unwrap();
    }
    // Among what the session is sent is the invitation, and it is in nobody's way that nothing is done about it.
    loop {
        let ControlEvent::Stanza { session, stanza } = link.next().await else { continue };
        if let Some(x) = stanza.get_child("x", MUC_USER) {
            assert_eq!((session.ours, stanza.attr("from")), (bob.ours, Some("team@conference.lab.example")));
            assert_eq!(x.get_child("invite", MUC_USER).unwrap().attr("from"), Some("alice@lab.example"));
            break;
        }
    }
    world.until("alice", "presence #team/carol Available").await;
    world.say("carol", "#team", "here").await;
    world.until("alice", "#team/carol here").await;
    assert_eq!(world.chat("alice"), ["in message #team/carol here"]);
    assert_eq!(world.chat("carol"), ["out message #team/carol here"]);
    assert!(!world.lines("alice", 0).iter().any(|line| line.contains("#team/bob")));
}

#[tokio::test(start_paused = true)]
async fn a_chat_is_known_by_its_sign() {
    let world = World::usual().await;
    let act = Act { id: "team".into(), to: Some("bob".into()), ..Act::new(What::Invite) };
    let error = world.act("alice", &act).await.unwrap_err().to_string();
    assert_eq!(error, "a group chat is called #NAME or ##NAME");
}
