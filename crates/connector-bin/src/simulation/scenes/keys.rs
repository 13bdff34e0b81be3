//! Another organization key in place of the one before (rule 1).

use std::time::Duration;

use super::{Scene, play};

/// Whether a client has shown this text.
async fn shows(scene: &Scene, who: &str, text: &str) {
    for _ in 0..60_000 {
        if scene.texts(who).iter().any(|shown| shown == text) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{who} never shows `{text}`");
}

#[test]
fn what_was_written_under_the_key_before_is_not_carried_back_as_long_as_that_is_known() {
    for known in [true, false] {
        play(async |scene| {
            scene.say("alice/webex", "bob", "under the first key").await;
            // Bob has it, and so has the session that the connector holds for him; that copy is not taken yet.
            shows(scene, "bob/jabber", "under the first key").await;
            scene.dies(|world| world.replaces_key(known)).await;
            scene.rest().await;
            let times = |who| scene.texts(who).iter().filter(|text| *text == "under the first key").count();
            let back = usize::from(!known);
            assert_eq!((times("bob/jabber"), times("alice/webex")), (1, 1 + back), "known: {known}");

            scene.say("alice/webex", "bob", "under the second key").await;
            scene.rest().await;
            scene.say("bob/jabber", "alice", "an answer").await;
            scene.rest().await;
            for who in ["alice/webex", "bob/jabber"] {
                let texts = scene.texts(who);
                let last: Vec<&str> = texts.iter().rev().take(2).rev().map(String::as_str).collect();
                assert_eq!(last, ["under the second key", "an answer"], "{who}, known: {known}");
            }
        });
    }
}
