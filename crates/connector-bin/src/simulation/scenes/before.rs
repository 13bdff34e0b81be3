//! What was written before its author was enabled (rule 17).

use std::time::Duration;

use lab::people::{Act, What};
use lab::seen::Kind;

use super::{Scene, play};

async fn revises(scene: &Scene, what: What, id: &str, text: &str) {
    let (id, text) = (id.to_owned(), text.to_owned());
    scene.act("carol/webex", Act { id, text, to: Some("bob".into()), ..Act::new(what) }).await;
    scene.rest().await;
}

/// How often bob was told in Jabber that something is gone.
fn notices(scene: &Scene) -> usize {
    scene.shown("bob/jabber", Kind::Notice).len()
}

/// How often the cloud was asked when something was written.
fn asked(scene: &Scene) -> usize {
    let [_, cloud] = scene.written();
    let path = |line: &&str| line.starts_with("/conversation") && line.contains("/activities/");
    cloud.split("GET ").filter(path).count()
}

#[test]
fn what_becomes_of_it_is_no_news_in_jabber() {
    play(async |scene| {
        let mut old = Vec::new();
        for text in ["deleted later", "edited later", "edited and deleted later"] {
            old.push(scene.say("carol/webex", "bob", text).await);
        }
        scene.rest().await;
        scene.world.lab.ctx().people.update("carol", |carol| carol.enabled = true).unwrap();
        // The directory is read again.
        tokio::time::sleep(Duration::from_secs(90)).await;
        scene.rest().await;
        assert!(scene.texts("bob/jabber").is_empty());

        revises(scene, What::Delete, &old[0], "").await;
        assert_eq!((notices(scene), asked(scene)), (0, 1));
        // A new text is new, and nothing is gone with it.
        revises(scene, What::Edit, &old[1], "a new text").await;
        revises(scene, What::Edit, &old[2], "another").await;
        assert_eq!((notices(scene), asked(scene)), (0, 3));
        // But that is gone now, which was shown: of what the store knows nobody is asked.
        revises(scene, What::Delete, &old[2], "").await;
        assert_eq!((notices(scene), asked(scene)), (1, 3));
        let new = scene.say("carol/webex", "bob", "of now").await;
        scene.rest().await;
        revises(scene, What::Delete, &new, "").await;
        assert_eq!((notices(scene), asked(scene)), (2, 3));
        assert_eq!(scene.texts("bob/jabber"), ["a new text", "another", "of now"]);
    });
}
