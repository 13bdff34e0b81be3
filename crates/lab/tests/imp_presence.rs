//! What another Jabber user sees of somebody: the rows of the presence table that are the server's to decide. A session on
//! the trusted link plays the connector and submits what it would.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use std::time::Duration;

use lab::options::Options;
use lab::people::What;
use support::{Link, World};
use xmpp_core::session_control::{ControlEvent, SessionIds};
use xmpp_core::{Element, ns};

const ACTIVE: &str = "<presence><status>@ Webex</status></presence>";
const AWAY: &str = "<presence><show>away</show><status>@ Webex</status></presence>";
const DND: &str = "<presence><show>dnd</show></presence>";

/// Steps of a row, in time order: `J:` is a state of Bob's Jabber client, `W:` one that his Webex session submits.
type Row = (&'static str, &'static [&'static str], &'static str);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("PR-B01", &["J:available"],                                        "Available"),
    ("PR-B02", &["J:available: In the lab"],                            "Available: In the lab"),
    ("PR-B03", &["J:away"],                                             "Away"),
    ("PR-B04", &["J:away: On a train"],                                 "Away: On a train"),
    ("PR-B05", &["J:dnd"],                                              "Do Not Disturb"),
    ("PR-B06", &["J:out"],                                              "Offline"),
    ("PR-B07", &["J:out", "W:active"],                                  "Available @ Webex"),
    ("PR-B09", &["J:out", "W:active", "W:away"],                        "Away @ Webex"),
    ("PR-B12", &["J:out", "W:away", "W:end"],                           "Offline"),
    ("PR-B13", &["J:out", "W:away", "W:end", "W:active"],               "Available @ Webex"),
    ("PR-B14", &["J:out", "W:dnd"],                                     "Do Not Disturb"),
    ("PR-B16", &["J:out", "W:dnd", "W:away"],                           "Away @ Webex"),
    ("PR-B25", &["J:available", "W:active"],                            "Available @ Webex"),
    ("PR-B26", &["W:active", "J:available"],                            "Available"),
    ("PR-B27", &["J:away", "W:active"],                                 "Available @ Webex"),
    ("PR-B28", &["W:active", "J:away"],                                 "Away"),
    ("PR-B29", &["J:available", "W:away"],                              "Away @ Webex"),
    ("PR-B30", &["W:away", "J:available"],                              "Available"),
    ("PR-B31", &["J:away", "W:away"],                                   "Away @ Webex"),
    ("PR-B32", &["W:away", "J:away"],                                   "Away"),
    ("PR-B34", &["J:available", "W:away", "W:end"],                     "Available"),
    ("PR-B35", &["J:away", "W:away", "W:end"],                          "Away"),
    ("PR-B36", &["J:available: In the lab", "W:away", "W:end"],         "Available: In the lab"),
    ("PR-B37", &["W:away", "J:out", "W:end"],                           "Offline"),
    ("PR-B38", &["W:active", "J:out"],                                  "Available @ Webex"),
    ("PR-B39", &["J:available: In the lab", "W:away"],                  "Available: In the lab"),
    ("PR-B39", &["W:away", "J:available: In the lab"],                  "Available: In the lab"),
    ("PR-B40", &["J:away: On a train", "W:active"],                     "Away: On a train"),
    ("PR-B40", &["W:active", "J:away: On a train"],                     "Away: On a train"),
    ("PR-B41", &["J:dnd", "W:active"],                                  "Do Not Disturb"),
    ("PR-B41", &["W:active", "J:dnd"],                                  "Do Not Disturb"),
    ("PR-B42", &["W:active", "J:dnd", "J:manual available"],            "Available"),
    ("PR-B43", &["J:available", "W:dnd"],                               "Do Not Disturb"),
    ("PR-B43", &["W:dnd", "J:away"],                                    "Do Not Disturb"),
    ("PR-B44", &["W:dnd", "J:available: In the lab"],                   "Do Not Disturb"),
    ("PR-B44", &["J:manual available", "W:dnd"],                        "Do Not Disturb"),
    ("PR-B45", &["W:dnd", "J:dnd", "J:manual available"],               "Do Not Disturb"),
    ("PR-B46", &["J:available", "W:dnd", "W:active"],                   "Available @ Webex"),
    ("PR-B46", &["W:dnd", "W:active", "J:away"],                        "Away"),
    ("PR-B47", &["J:available", "W:away"],                              "Away @ Webex"),
    ("PR-B48", &["W:away", "J:away"],                                   "Away"),
    ("PR-B51", &["J:away: On a train", "W:active", "J:automatic"],      "Available @ Webex"),
    ("PR-B51", &["W:active", "J:away: On a train", "J:automatic"],      "Available @ Webex"),
    ("PR-B52", &["J:away"],                                             "Away"),
    ("PR-B54", &["J:out"],                                              "Offline"),
    ("PR-B55", &["J:out"],                                              "Offline"),
];

#[tokio::test(start_paused = true)]
async fn contacts_see_the_composed_state() {
    let world = World::usual().await;
    let mut link = Link::connect(&world, None).await;
    for (name, steps, expected) in TABLE {
        world.does("bob", What::Online).await;
        world.status("bob", "automatic").await;
        world.status("bob", "available").await;
        let mut session: Option<SessionIds> = None;
        for step in *steps {
            match step.split_once(':').unwrap() {
                ("J", "out") => world.does("bob", What::Offline).await,
                ("J", status) => world.status("bob", status).await,
                (_, "end") => end(&mut link, session.take()).await,
                (_, webex) => {
                    if session.is_none() {
                        session = Some(link.start("bob@lab.example/webex").await);
                    }
                    let session = session.as_ref().unwrap();
                    let submitted = match webex {
                        "active" => ACTIVE,
                        "away" => AWAY,
                        _ => DND,
                    };
                    link.send(session, submitted);
                    link.settle(session).await;
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        for other in ["alice", "erin"] {
            assert_eq!(world.sees(other, "bob"), *expected, "{name} {steps:?}, seen by {other}");
        }
        end(&mut link, session).await;
    }
}

async fn end(link: &mut Link, session: Option<SessionIds>) {
    if let Some(session) = session {
        let end = link.control.end(&session);
        link.connection.send(&end);
        while !matches!(link.next().await, ControlEvent::Ended { .. }) {}
    }
}

/// A state that did not change is told to nobody again, and who comes later learns it.
#[tokio::test(start_paused = true)]
async fn contacts_are_told_of_changes_and_latecomers_of_the_present() {
    let world = World::usual().await;
    world.does("alice", What::Offline).await;
    let told =
        |world: &World| world.lines("erin", 0).iter().filter(|line| line.contains(" presence bob ")).count();
    let before = told(&world);
    for _ in 0..3 {
        world.status("bob", "away").await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(told(&world), before + 1);
    world.does("alice", What::Online).await;
    world.idle().await;
    assert_eq!(world.sees("alice", "bob"), "Away");
}

/// Only those who have something to do with each other see each other.
#[tokio::test(start_paused = true)]
async fn added_users_see_their_ten() {
    let world = World::new(Options { users: 12, ..Options::default() }).await;
    for name in ["u00001", "u00010", "u00011"] {
        world.does(name, What::Online).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.sees("u00001", "u00010"), "Available");
    assert_eq!(world.sees("u00010", "u00001"), "Available");
    let own = |line: &String| line.starts_with("in presence u00011 ");
    assert!(world.lines("u00011", 0).iter().all(own), "only its own state");
    assert!(!world.lines("alice", 0).iter().any(|line| line.contains("u000")));
}

/// Do not disturb is the user's, whichever device says it: each of the user's own shows it, and each that comes later.
#[tokio::test(start_paused = true)]
async fn do_not_disturb_is_shown_by_every_client_of_the_user() {
    let world = World::usual().await;
    let mut link = Link::connect(&world, None).await;
    let phone = link.open("bob@lab.example/phone").await;
    let webex = link.open("bob@lab.example/webex").await;
    let own = |stanzas: Vec<Element>| {
        let composed = |stanza: &&Element| stanza.attr("from") == Some("bob@lab.example/composed");
        let show =
            |stanza: &Element| stanza.get_child("show", ns::CLIENT).map_or_else(String::new, Element::text);
        stanzas.iter().rfind(composed).map(show)
    };
    for (webex_says, jabber_says, shown) in [
        (Some(DND), None, ("dnd", "Do Not Disturb")),
        (Some(ACTIVE), None, ("", "Available @ Webex")),
        (None, Some("dnd"), ("dnd", "Do Not Disturb")),
    ] {
        if let Some(says) = webex_says {
            link.send(&webex, says);
        }
        if let Some(says) = jabber_says {
            world.status("bob", says).await;
        }
        let (on_webex, on_phone) = link.collect_of(&webex, &[&phone]).await;
        for seen in [on_webex, on_phone] {
            assert_eq!(own(seen).as_deref(), Some(shown.0), "{shown:?}");
        }
        world.until("bob", &format!("in presence bob {}", shown.1)).await;
    }
    let late = link.start("bob@lab.example/late").await;
    link.send(&late, "<presence/>");
    assert_eq!(own(link.collect(&late).await).as_deref(), Some("dnd"));
}

/// The user's own sessions see each other as they are, and what they send themselves.
#[tokio::test(start_paused = true)]
async fn own_sessions_see_each_other_uncomposed() {
    let world = World::usual().await;
    let mut link = Link::connect(&world, None).await;
    let session = link.start("bob@lab.example/webex").await;
    link.send(&session, ACTIVE);
    let from: Vec<String> = link
        .collect(&session)
        .await
        .iter()
        .filter(|stanza| stanza.name() == "presence")
        .filter_map(|stanza| stanza.attr("from").map(str::to_owned))
        .collect();
    assert_eq!(from[0], "bob@lab.example/jabber");
    assert!(from.contains(&"alice@lab.example/composed".to_owned()), "{from:?}");
    assert_eq!(from[from.len() - 2..], ["bob@lab.example/webex", "bob@lab.example/composed"]);
}

/// Subscriptions are approved without asking; a probe and a presence to one person are answered and passed on.
#[tokio::test(start_paused = true)]
async fn subscriptions_probes_and_directed_presence() {
    let world = World::usual().await;
    world.does("frank", What::Offline).await;
    let mut link = Link::connect(&world, None).await;
    let session = link.open("bob@lab.example/webex").await;
    link.send(&session, "<presence to='alice@lab.example' type='subscribe'/>");
    link.send(&session, "<presence to='frank@lab.example' type='probe'/>");
    let got: Vec<String> = link
        .collect(&session)
        .await
        .iter()
        .map(|stanza| format!("{} {}", stanza.attr("from").unwrap(), stanza.attr("type").unwrap_or("-")))
        .collect();
    let expected = [
        "alice@lab.example subscribed",
        "alice@lab.example/composed -",
        "frank@lab.example/composed unavailable",
    ];
    assert_eq!(got, expected);
    link.send(&session, "<presence to='alice@lab.example'><status>for you</status></presence>");
    link.settle(&session).await;
    world.until("alice", "in presence bob Available: for you").await;
}
