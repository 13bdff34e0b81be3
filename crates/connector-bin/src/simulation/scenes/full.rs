//! A hub without room while the key service is silent (rule 13).

use std::time::Duration;

use lab::options::Link;

use super::{Scene, play_in};

/// Who writes to whom, at the same time.
const PAIRS: [(&str, &str); 4] = [("alice", "bob"), ("bob", "alice"), ("alice", "erin"), ("erin", "alice")];
const EACH: usize = 10;

/// What one person writes in one client, in order.
fn written(author: &str, to: &str) -> Vec<String> {
    (0..EACH).map(|n| format!("{n} from {author} to {to}")).collect()
}

/// What a client shows of it.
fn shown(scene: &Scene, who: &str, author: &str, to: &str) -> Vec<String> {
    let end = format!(" from {author} to {to}");
    scene.texts(who).into_iter().filter(|text| text.ends_with(&end)).collect()
}

#[test]
fn what_a_full_hub_left_is_shown_once_and_in_order_when_the_key_service_is_back() {
    play_in(
        // Commits take no time here, so there is room for one input alone.
        |world| world.intake = 1,
        async |scene| {
            scene.fault("kms-drop", true, None);
            // Whatever the cloud has to bring, it brings at once.
            let [_, cloud] = scene.world.ports(Link::A);
            scene.world.weather.stall(cloud, Duration::from_secs(10));
            for n in 0..EACH {
                for (from, to) in PAIRS {
                    for app in ["jabber", "webex"] {
                        let author = format!("{from}/{app}");
                        scene.say(&author, to, &written(&author, to)[n]).await;
                    }
                }
            }
            tokio::time::sleep(Duration::from_secs(90)).await;
            let status = scene.status().await;
            assert!(status.dropped > 0, "there was room for all");
            assert_eq!(shown(scene, "bob/jabber", "alice/webex", "bob"), [""; 0], "without a key");
            assert_eq!(shown(scene, "bob/webex", "alice/jabber", "bob"), [""; 0], "without a key");

            scene.fault("kms-drop", false, None);
            // To the lab, what is not acknowledged is on its way: what was dropped is acknowledged too, once it is read.
            scene.rest().await;
            for (from, to) in PAIRS {
                for app in ["jabber", "webex"] {
                    let author = format!("{from}/{app}");
                    for who in [
                        format!("{to}/jabber"),
                        format!("{to}/webex"),
                        format!("{from}/jabber"),
                        format!("{from}/webex"),
                    ] {
                        assert_eq!(shown(scene, &who, &author, to), written(&author, to), "{who}");
                    }
                }
            }
        },
    );
}
