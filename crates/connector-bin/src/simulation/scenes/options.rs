//! What Jabber offers in a chat with somebody who is in Webex (FT-04, FT-06).

use lab::people::{Act, What};
use lab::seen::Kind;

use super::{Scene, play};

/// What alice's Jabber says of the chat with somebody.
async fn options(scene: &Scene, of: &str) -> String {
    scene.act("alice/jabber", Act { to: Some(of.to_owned()), ..Act::new(What::Options) }).await;
    let line = scene.shown("alice/jabber", Kind::Notice).pop().unwrap();
    assert_eq!(line.peer, of);
    line.text
}

#[test]
fn files_and_screens_go_to_who_is_in_jabber_or_wherever_the_server_takes_them() {
    const USABLE: &str = "file transfer and screen capture are usable";
    const DISABLED: &str = "file transfer and screen capture are disabled";
    play(async |scene| {
        scene.fault("imp-no-managed-files", true, None);
        scene.does("bob/jabber", What::Offline, "").await;
        scene.rest().await;
        scene.say("bob/webex", "alice", "from Webex").await;
        scene.say("carol/jabber", "alice", "from Jabber").await;
        scene.rest().await;
        assert_eq!(options(scene, "bob").await, DISABLED);
        assert_eq!(options(scene, "carol").await, USABLE);
        scene.fault("imp-no-managed-files", false, None);
        assert_eq!(options(scene, "bob").await, USABLE);
        // Back in Jabber, it is his client that is written to.
        scene.fault("imp-no-managed-files", true, None);
        scene.does("bob/jabber", What::Online, "").await;
        scene.rest().await;
        scene.say("bob/jabber", "alice", "from Jabber").await;
        scene.rest().await;
        assert_eq!(options(scene, "bob").await, USABLE);
    });
}
