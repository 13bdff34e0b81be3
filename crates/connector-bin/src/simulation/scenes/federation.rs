//! A contact of a foreign domain, who is in no directory (SC-21).

use lab::seen::Kind;

use super::play;

#[test]
fn a_contact_of_another_domain_and_an_enabled_person_talk_in_jabber() {
    play(async |scene| {
        // Alice is enabled: her session with the connector takes part in all of it.
        scene.say("pat/jabber", "alice", "from outside").await;
        scene.rest().await;
        scene.say("alice/jabber", "pat", "from inside").await;
        scene.rest().await;
        let said = |who| {
            let lines = scene.shown(who, Kind::Message);
            lines.into_iter().map(|line| (line.peer, line.text)).collect::<Vec<_>>()
        };
        let both =
            |peer: &str| ["from outside", "from inside"].map(|text| (peer.to_owned(), text.to_owned()));
        assert_eq!(said("alice/jabber"), both("pat@partner.example"));
        assert_eq!(said("pat/jabber"), both("alice"));
        for who in ["alice/jabber", "pat/jabber"] {
            assert!(scene.shown(who, Kind::Error).is_empty(), "{who}");
        }
        // Nobody in Webex is who that contact is: what is not carried is counted.
        assert!(scene.texts("alice/webex").is_empty());
        let status = serde_json::to_value(scene.status().await).unwrap();
        let rule = "LIC-07: somebody who is not in the directory";
        assert!(status["router"]["not_carried"][rule].as_u64().is_some_and(|count| count >= 2), "{status}");
    });
}
