//! Group chats of Jabber, and people who are in Webex meanwhile (GRP-05 to GRP-09, GRP-13, GRP-14).

use std::time::Duration;

use lab::people::{Act, What};
use lab::seen::Kind;

use super::{Scene, play};

/// Somebody is added to a chat, and their clients have time to come in.
async fn invites(scene: &Scene, who: &str, chat: &str, whom: &[&str]) {
    for whom in whom {
        let act = Act { id: chat.to_owned(), to: Some((*whom).to_owned()), ..Act::new(What::Invite) };
        scene.act(who, act).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.rest().await;
}

/// How a client shows somebody; `None` where it never did.
fn shows(scene: &Scene, who: &str, whom: &str) -> Option<String> {
    let lines = scene.shown(who, Kind::Presence);
    lines.into_iter().rev().find(|line| line.peer == whom).map(|line| line.text)
}

/// Nothing of a chat is in Webex, nobody was told of it, and no session of the connector came in.
async fn nothing_crossed(scene: &Scene) {
    scene.rest().await;
    for who in ["alice/webex", "bob/webex", "carol/webex", "dave/webex"] {
        assert!(scene.texts(who).is_empty(), "{who}: {:?}", scene.texts(who));
    }
    for who in ["alice/jabber", "bob/jabber", "carol/jabber", "dave/jabber"] {
        assert!(scene.shown(who, Kind::Error).is_empty(), "{who}");
    }
    let [link, _] = scene.written();
    assert!(link.contains("@ Webex") && !link.contains("conference.") && !link.contains("persistent."));
}

#[test]
fn who_is_in_webex_is_chosen_for_a_chat_and_not_added_and_nobody_is_told() {
    play(async |scene| {
        // Bob is enabled, and in Webex only: his session in Jabber is the connector's.
        scene.does("bob/jabber", What::Offline, "").await;
        invites(scene, "alice/jabber", "#team", &["bob", "carol", "dave"]).await;
        assert!(
            shows(scene, "alice/jabber", "bob").unwrap().contains("@ Webex"),
            "he looks as if he were there"
        );
        scene.say("alice/jabber", "#team", "hello all").await;
        scene.rest().await;
        for who in ["alice", "carol", "dave"] {
            let client = format!("{who}/jabber");
            assert_eq!(scene.texts(&client), ["hello all"], "{who}");
            for whom in ["alice", "carol", "dave"] {
                let shown = shows(scene, &client, &format!("#team/{whom}"));
                assert!(shown.is_some_and(|shown| shown != "Offline"), "{who} sees {whom}");
            }
            assert_eq!(shows(scene, &client, "#team/bob"), None, "{who} sees no sign of bob");
        }
        assert!(scene.texts("bob/jabber").is_empty());
        nothing_crossed(scene).await;
    });
}

#[test]
fn who_switches_to_webex_vanishes_from_ad_hoc_chats() {
    play(async |scene| {
        invites(scene, "alice/jabber", "#team", &["bob", "carol"]).await;
        assert!(shows(scene, "carol/jabber", "#team/bob").is_some_and(|shown| shown != "Offline"));
        scene.does("bob/jabber", What::Offline, "").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        for who in ["alice/jabber", "carol/jabber"] {
            assert_eq!(shows(scene, who, "#team/bob").as_deref(), Some("Offline"), "{who}");
            assert!(
                shows(scene, who, "bob").unwrap().contains("@ Webex"),
                "{who}: and is there all the same"
            );
        }
        scene.say("alice/jabber", "#team", "without bob").await;
        scene.rest().await;
        scene.does("bob/jabber", What::Online, "").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.texts("carol/jabber"), ["without bob"]);
        assert!(scene.texts("bob/jabber").is_empty());
        nothing_crossed(scene).await;
    });
}

#[test]
fn a_member_of_a_persistent_chat_who_is_in_webex_looks_available_there_and_reads_nothing() {
    play(async |scene| {
        invites(scene, "alice/jabber", "##board", &["bob", "carol"]).await;
        scene.does("bob/jabber", What::Offline, "").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        for who in ["alice/jabber", "carol/jabber"] {
            assert_eq!(shows(scene, who, "##board/bob").as_deref(), Some("Available @ Webex"), "{who}");
        }
        scene.say("alice/jabber", "##board", "news").await;
        scene.rest().await;
        assert_eq!(scene.texts("carol/jabber"), ["news"]);
        nothing_crossed(scene).await;
        assert!(scene.texts("bob/jabber").is_empty(), "not before he is back in Jabber");
        scene.does("bob/jabber", What::Online, "").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        scene.rest().await;
        assert_eq!(scene.texts("bob/jabber"), ["news"]);
        nothing_crossed(scene).await;
    });
}
