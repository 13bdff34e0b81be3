//! Typing and reading, as the clients of both sides show it (DM-05, DM-10, DM-11, FW-09).

use lab::people::{Act, What};
use lab::seen::{Direction, Kind};

use super::{Scene, play};

/// Somebody marks the last message of another as read.
async fn reads(scene: &Scene, who: &str, of: &str) {
    let lines = scene.shown(who, Kind::Message);
    let last = lines.iter().rev().find(|line| line.peer == of && line.dir == Direction::In).unwrap();
    scene.act(who, Act { id: last.id.clone(), to: Some(of.into()), ..Act::new(What::Read) }).await;
    scene.rest().await;
}

/// The texts that a client shows as read by its person or by the other one, in this direction.
fn read(scene: &Scene, who: &str, dir: Direction) -> Vec<String> {
    let messages = scene.shown(who, Kind::Message);
    let marks = scene.shown(who, Kind::Read).into_iter().filter(|mark| mark.dir == dir);
    marks.map(|mark| messages.iter().find(|line| line.id == mark.id).unwrap().text.clone()).collect()
}

#[test]
fn typing_in_jabber_is_shown_in_webex() {
    play(async |scene| {
        scene.say("bob/webex", "alice", "a conversation").await;
        scene.rest().await;
        scene.does("alice/jabber", What::Typing, "bob").await;
        scene.rest().await;
        scene.does("alice/jabber", What::Paused, "bob").await;
        scene.rest().await;
        let typed = scene.shown("bob/webex", Kind::Typing);
        let typed: Vec<_> =
            typed.iter().filter(|line| line.peer == "alice").map(|line| line.text.as_str()).collect();
        assert_eq!(typed, ["typing", "paused"]);
    });
}

#[test]
fn what_was_read_in_one_client_is_read_in_the_others_too() {
    play(async |scene| {
        // Written in either client, and read in either.
        for (text, author, reader) in [
            ("one", "alice/jabber", "bob/webex"),
            ("two", "alice/webex", "bob/webex"),
            ("three", "alice/webex", "bob/jabber"),
            ("four", "alice/jabber", "bob/jabber"),
        ] {
            scene.say(author, "bob", text).await;
            scene.rest().await;
            reads(scene, reader, "alice").await;
            // Alice sees in both of her clients that bob has read it, and bob that he has.
            for (who, dir) in [("alice/jabber", Direction::In), ("alice/webex", Direction::In)] {
                assert_eq!(
                    read(scene, who, dir).last().map(String::as_str),
                    Some(text),
                    "{who}, read in {reader}"
                );
            }
            let other = if reader == "bob/webex" { "bob/jabber" } else { "bob/webex" };
            assert_eq!(read(scene, other, Direction::Out).last().map(String::as_str), Some(text), "{other}");
        }
    });
}
