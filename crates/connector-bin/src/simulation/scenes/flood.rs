//! One person who writes without end (rule 13), while others talk.

use std::time::Duration;

use lab::seen::Kind;

use super::play_with;

const FLOOD: usize = 500;
const LIMIT: u32 = 60;

#[test]
fn one_person_who_writes_without_end_is_refused_what_is_too_much_and_holds_up_nobody() {
    play_with(
        |config| config.limits.messages_per_minute = LIMIT,
        async |scene| {
            let mut others = Vec::new();
            for n in 0..FLOOD {
                scene.say("alice/jabber", "bob", &format!("flood {n}")).await;
                if n % 100 == 0 {
                    // To the same reader, from him, and past both.
                    for (from, to) in [("erin", "bob"), ("bob", "erin"), ("erin", "gina")] {
                        let text = format!("{from} to {to} during {n}");
                        scene.say(&format!("{from}/jabber"), to, &text).await;
                        others.push((to, text));
                    }
                }
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
            for (to, text) in &others {
                let shown = scene.texts(&format!("{to}/webex"));
                assert!(shown.contains(text), "`{text}` is late");
            }
            scene.rest().await;
            let carried: Vec<String> =
                scene.texts("bob/webex").into_iter().filter(|text| text.starts_with("flood")).collect();
            let told = scene.shown("alice/jabber", Kind::Error).len();
            assert_eq!(carried.len() + told, FLOOD, "each is carried, or its author is told");
            // All of them within a few seconds, in which the rate gives a little more.
            assert!((60..=75).contains(&carried.len()), "{} carried", carried.len());
            let expected: Vec<String> = (0..carried.len()).map(|n| format!("flood {n}")).collect();
            assert_eq!(carried, expected, "the first ones, in order");
            for (to, text) in &others {
                for app in ["jabber", "webex"] {
                    let shown = scene.texts(&format!("{to}/{app}"));
                    assert_eq!(shown.iter().filter(|shown| *shown == text).count(), 1, "`{text}` in {app}");
                }
            }
            for who in ["erin/jabber", "bob/jabber"] {
                assert!(scene.shown(who, Kind::Error).is_empty(), "{who}");
            }
        },
    );
}
