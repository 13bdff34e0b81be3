//! Whoever wrote something that cannot be delivered hears of it in the client in which it was written (rule 21).

use lab::seen::Kind;

use super::{Scene, play, play_with};

/// The cloud refuses what bob writes in Jabber, and IM and Presence what erin writes in Webex.
async fn refused(scene: &mut Scene) -> String {
    scene.fault("post-403", true, Some("bob"));
    scene.fault("imp-refuses-messages", true, Some("erin"));
    let id = scene.say("bob/jabber", "alice", "from Jabber").await;
    scene.say("erin/webex", "bob", "from Webex").await;
    id
}

fn is_told_once(scene: &Scene, id: &str, when: &str) {
    let errors = scene.shown("bob/jabber", Kind::Error);
    let [error] = &errors[..] else { panic!("{when}: {errors:?}") };
    assert_eq!((error.id.as_str(), error.text.as_str()), (id, "Message could not be delivered"), "{when}");
    let told: Vec<_> =
        scene.shown("erin/webex", Kind::Message).into_iter().filter(|line| line.peer == "bot").collect();
    let [told] = &told[..] else { panic!("{when}: {told:?}") };
    assert_eq!(
        told.text, "Your message to Bob Baker of 2024-05-01 10:00 UTC could not be delivered in Jabber.",
        "{when}"
    );
    // And nobody else hears anything of it.
    assert!(scene.shown("erin/jabber", Kind::Error).is_empty(), "{when}");
    assert!(scene.shown("bob/webex", Kind::Message).iter().all(|line| line.peer != "bot"), "{when}");
}

#[test]
fn who_wrote_what_nobody_takes_is_told_where_it_was_written() {
    play(async |scene| {
        let id = refused(scene).await;
        scene.rest().await;
        is_told_once(scene, &id, "without a death");
        let status = scene.status().await;
        assert_eq!(status.router.events.get("people told"), Some(&2));
        assert_eq!(status.router.wedged.values().sum::<u64>(), 2);
    });
}

#[test]
fn whenever_the_process_dies_they_are_told_and_once() {
    // The story takes some 170 steps.
    for steps in (0..175).step_by(7) {
        play(async |scene| {
            let id = refused(scene).await;
            scene.dies_after(steps).await;
            scene.rest().await;
            is_told_once(scene, &id, &format!("dead after {steps} steps"));
        });
    }
}

#[test]
fn a_half_conversation_is_told_of_once_where_that_is_wanted() {
    for notices in [true, false] {
        play_with(
            |config| config.webex.notices = notices,
            async |scene| {
                for text in ["one", "two"] {
                    scene.say("carol/webex", "alice", text).await;
                    scene.rest().await;
                }
                let told: Vec<_> = scene.shown("alice/webex", Kind::Message);
                let told: Vec<_> = told.iter().filter(|l| l.peer == "bot").map(|l| l.text.as_str()).collect();
                let words = "Carol Chen writes to you in Webex. This is not shown in Jabber, since Carol Chen is not \
                             enabled for it.";
                assert_eq!(told, if notices { vec![words] } else { vec![] });
                assert!(scene.texts("alice/jabber").is_empty());
            },
        );
    }
}
