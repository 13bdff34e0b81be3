//! A contact of a foreign domain, who is in no directory (SC-21 to SC-23).

use lab::people::{Act, What};
use lab::seen::Kind;

use super::{Scene, play, play_with};

const PAT: &str = "pat@partner.example";

fn said(scene: &Scene, who: &str) -> Vec<(String, String)> {
    scene.shown(who, Kind::Message).into_iter().map(|line| (line.peer, line.text)).collect()
}

fn by(peer: &str, texts: &[&str]) -> Vec<(String, String)> {
    texts.iter().map(|text| (peer.to_owned(), (*text).to_owned())).collect()
}

/// Alice answers, in Webex, the message that has this text there.
async fn answers(scene: &Scene, to: &str, text: &str) {
    let lines = scene.shown("alice/webex", Kind::Message);
    let line = lines.into_iter().find(|line| line.text.ends_with(to)).unwrap();
    scene.act("alice/webex", Act { id: line.id, text: text.to_owned(), ..Act::new(What::Reply) }).await;
}

#[test]
fn a_contact_of_another_domain_and_an_enabled_person_talk_in_jabber() {
    play(async |scene| {
        // Alice is enabled: her session with the connector takes part in all of it.
        scene.say("pat/jabber", "alice", "from outside").await;
        scene.rest().await;
        scene.say("alice/jabber", "pat", "from inside").await;
        scene.rest().await;
        let both = ["from outside", "from inside"];
        assert_eq!(said(scene, "alice/jabber"), by(PAT, &both));
        assert_eq!(said(scene, "pat/jabber"), by("alice", &both));
        for who in ["alice/jabber", "pat/jabber"] {
            assert!(scene.shown(who, Kind::Error).is_empty(), "{who}");
        }
    });
}

#[test]
fn what_a_federated_contact_writes_is_shown_in_both_clients_and_an_answer_goes_back() {
    play(async |scene| {
        scene.say("pat/jabber", "alice", "one").await;
        scene.say("pat/jabber", "alice", "two").await;
        scene.rest().await;
        assert_eq!(said(scene, "alice/jabber"), by(PAT, &["one", "two"]));
        assert_eq!(said(scene, "alice/webex"), by("bot", &["one", "two"]));
        answers(scene, "two", "an answer").await;
        scene.rest().await;
        assert_eq!(said(scene, "pat/jabber"), by("alice", &["one", "two", "an answer"]));
        // Her own Jabber has it too, and nobody else anything.
        assert_eq!(said(scene, "alice/jabber"), by(PAT, &["one", "two", "an answer"]));
        assert!(said(scene, "bob/webex").is_empty());
        let status = scene.status().await;
        assert!(status.router.wedged.is_empty(), "{:?}", status.router.wedged);
    });
}

#[test]
fn whenever_the_process_dies_it_is_shown_once_and_in_order() {
    let texts = ["one", "two", "three"];
    for steps in (0..72).step_by(4) {
        play(async |scene| {
            for text in texts {
                scene.say("pat/jabber", "alice", text).await;
            }
            scene.dies_after(steps).await;
            scene.dies_after(steps).await;
            scene.rest().await;
            assert_eq!(said(scene, "alice/webex"), by("bot", &texts), "dead after {steps} steps");
            assert_eq!(said(scene, "alice/jabber"), by(PAT, &texts), "dead after {steps} steps");
            answers(scene, "three", "an answer").await;
            scene.dies_after(steps).await;
            scene.rest().await;
            let back = said(scene, "pat/jabber").split_off(texts.len());
            assert_eq!(back, by("alice", &["an answer"]), "dead after {steps} steps");
            assert!(scene.shown("pat/jabber", Kind::Error).is_empty(), "dead after {steps} steps");
        });
    }
}

#[test]
fn an_answer_that_the_other_domain_does_not_take_is_told() {
    play(async |scene| {
        scene.say("pat/jabber", "alice", "hello").await;
        scene.rest().await;
        scene.fault("imp-refuses-messages", true, Some("alice"));
        answers(scene, "hello", "an answer").await;
        scene.rest().await;
        let told = said(scene, "alice/webex").pop().unwrap().1;
        let words =
            "Your message to pat@partner.example of 2024-05-01 10:00 UTC could not be delivered in Jabber.";
        assert_eq!(told, words);
    });
}

#[test]
fn without_a_bot_or_where_it_is_switched_off_such_messages_stay_in_jabber() {
    for (bot, federated, rule) in [
        (false, true, "SC-22: a federated contact, and there is no bot (webex.bot_token_file)"),
        (true, false, "LIC-07: somebody who is not in the directory"),
    ] {
        play_with(
            |config| {
                config.deployment.federation = federated;
                if !bot {
                    config.webex.bot_token = None;
                }
            },
            async |scene| {
                scene.say("pat/jabber", "alice", "from outside").await;
                scene.rest().await;
                assert_eq!(said(scene, "alice/jabber"), by(PAT, &["from outside"]));
                assert!(said(scene, "alice/webex").is_empty());
                assert_eq!(scene.status().await.router.not_carried.get(rule), Some(&1));
            },
        );
    }
}
