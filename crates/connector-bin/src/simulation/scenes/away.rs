//! A recipient who is not in Jabber (OFF-01, FT-08).

use lab::people::{Act, What};
use lab::seen::Kind;

use super::{Scene, play};

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

/// FT-08: the session of Webex was there and took it, so nothing is stored; and a file does not cross.
#[test]
fn a_file_is_not_had_by_who_was_not_in_jabber_when_it_was_sent() {
    play(async |scene| {
        let file = |name: &str| Act { to: Some("bob".into()), name: name.into(), ..Act::new(What::File) };
        scene.does("bob/jabber", What::Offline, "").await;
        scene.rest().await;
        scene.act("alice/jabber", file("missed.pdf")).await;
        scene.rest().await;
        let notice = |name: &str| format!("A file was sent in Jabber and can be opened there: {name}");
        let told = |scene: &Scene, name: &str| scene.texts("bob/webex").contains(&notice(name));
        assert!(told(scene, "missed.pdf"), "{:?}", scene.texts("bob/webex"));
        scene.does("bob/jabber", What::Online, "").await;
        scene.rest().await;
        scene.act("alice/jabber", file("seen.pdf")).await;
        scene.rest().await;
        assert!(told(scene, "seen.pdf"));
        let had: Vec<String> =
            scene.shown("bob/jabber", Kind::File).into_iter().map(|line| line.text).collect();
        assert_eq!(had, ["seen.pdf"]);
    });
}
