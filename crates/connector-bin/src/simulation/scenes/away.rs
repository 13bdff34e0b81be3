//! A recipient who is not in Jabber (OFF-01).

use lab::people::What;
use lab::seen::Kind;

use super::play;

#[test]
fn what_an_enabled_person_writes_waits_for_who_is_not_in_jabber() {
    play(async |scene| {
        // Of the three only bob and alice are enabled. Dave has no session that would take anything for him.
        scene.does("dave/jabber", What::Offline, "").await;
        scene.rest().await;
        scene.say("alice/webex", "dave", "stored, since alice is enabled").await;
        scene.say("carol/webex", "dave", "not carried, since carol is not").await;
        scene.rest().await;
        assert!(scene.texts("dave/jabber").is_empty());
        scene.does("dave/jabber", What::Online, "").await;
        scene.rest().await;
        assert_eq!(scene.texts("dave/jabber"), ["stored, since alice is enabled"]);
        assert!(scene.shown("alice/jabber", Kind::Error).is_empty());
        // And once only in Webex, where it was all the time.
        let times = scene.texts("dave/webex").iter().filter(|text| text.starts_with("stored")).count();
        assert_eq!(times, 1);
    });
}
