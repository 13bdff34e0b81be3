//! IM and Presence may refuse what people write; Webex knows nothing of that (SC-02, SC-03).

use lab::seen::Kind;

use super::play;

#[test]
fn what_compliance_refuses_is_not_delivered_and_what_it_lets_through_is_carried() {
    play(async |scene| {
        scene.fault("imp-refuses-messages", true, Some("alice"));
        // Alice is refused on her own client: nobody sees it, and her client shows that.
        let refused = scene.say("alice/jabber", "bob", "refused in Jabber").await;
        // And what her session would send for her: it comes back to whoever wrote it.
        scene.say("alice/webex", "bob", "refused on the way").await;
        scene.say("bob/webex", "alice", "let through").await;
        scene.rest().await;
        let errors: Vec<_> =
            scene.shown("alice/jabber", Kind::Error).into_iter().map(|line| line.id).collect();
        assert_eq!(errors, [refused]);
        assert_eq!(scene.texts("bob/jabber"), ["let through"]);
        let told = scene.texts("alice/webex");
        assert!(told.iter().any(|text| text.ends_with("could not be delivered in Jabber.")), "{told:?}");
        assert_eq!(scene.texts("alice/jabber"), ["refused in Jabber", "let through"]);
        assert!(!scene.texts("bob/webex").contains(&"refused in Jabber".to_owned()));
    });
}

#[test]
fn two_who_are_blocked_in_jabber_still_write_to_each_other_in_webex() {
    play(async |scene| {
        for blocked in ["alice", "bob"] {
            scene.fault("imp-refuses-messages", true, Some(blocked));
            scene.say("alice/webex", "bob", &format!("{blocked} is blocked")).await;
            scene.say("bob/webex", "alice", &format!("I see that {blocked} is")).await;
            scene.rest().await;
            scene.fault("imp-refuses-messages", false, None);
        }
        let both = ["alice is blocked", "I see that alice is", "bob is blocked", "I see that bob is"];
        for who in ["alice/webex", "bob/webex"] {
            let texts: Vec<_> =
                scene.texts(who).into_iter().filter(|text| both.contains(&text.as_str())).collect();
            assert_eq!(texts, both, "{who}");
        }
        let jabber: Vec<_> = scene.texts("bob/jabber");
        assert_eq!(jabber, ["I see that alice is", "bob is blocked"], "of each only what nobody blocks");
    });
}
