//! What the connector leaves alone, seen by all that it writes: contacts, and the statuses of Webex (CT-02, CT-03, PR-02,
//! PR-03, PR-06, PR-40).

use std::collections::BTreeSet;
use std::time::Duration;

use lab::people::{Act, Change, What};

use super::{Scene, play};

/// All that is ever asked of the cloud: nothing about contacts, and of presence only that it be told.
const ASKED: &[&str] = &[
    "GET /conversation/api/v1/conversations",
    "GET /conversation/api/v1/conversations/*",
    "GET /conversation/api/v1/conversations/*/activities",
    "GET /conversation/api/v1/conversations/user/*",
    "GET /encryption/api/v1/kms/*",
    "GET /u2c/api/v1/limited/catalog",
    "GET /v1/apps/wx2/registrations/*/messages",
    "GET /v1/people",
    "GET /v1/people/me",
    "POST /apheleia/api/v1/compositions",
    "POST /apheleia/api/v1/subscriptions",
    "POST /conversation/api/v1/conversations",
    "POST /conversation/api/v1/conversations/*/activities",
    "POST /conversation/api/v1/conversations/*/status/typing",
    "POST /encryption/api/v1/kms/messages",
    "POST /idb/oauth2/v1/access_token",
    "POST /wdm/api/v1/devices",
];

/// People do everything that there is to do, in both clients.
async fn a_day(scene: &Scene) {
    for (who, to) in
        [("alice/jabber", "bob"), ("bob/webex", "alice"), ("carol/jabber", "alice"), ("alice/webex", "dave")]
    {
        let id = scene.say(who, to, "hello").await;
        scene.rest().await;
        let about =
            |what| Act { id: id.clone(), text: "hello again".into(), to: Some(to.into()), ..Act::new(what) };
        scene.act(who, about(What::Typing)).await;
        scene.act(who, Act { name: "a.txt".into(), base64: "aGVsbG8=".into(), ..about(What::File) }).await;
        if who.ends_with("webex") {
            scene.act(who, about(What::Edit)).await;
            scene.act(who, about(What::Delete)).await;
        }
        scene.rest().await;
    }
    for status in ["dnd", "active"] {
        scene.does("bob/webex", What::Status, status).await;
        scene.rest().await;
    }
    let now = scene.world.lab.ctx().clock.now().0;
    let absence = Some((now, now + 3_600_000));
    scene
        .world
        .lab
        .ctx()
        .people
        .change(&Change { name: "bob".into(), absence, ..Change::default() })
        .unwrap();
    scene.rest().await;
    scene.does("bob/webex", What::Status, "dnd").await;
    scene.rest().await;
    for status in ["dnd", "available", "manual away", "automatic", "away", "available: at lunch", "automatic"]
    {
        scene.does("bob/jabber", What::Status, status).await;
        scene.rest().await;
    }
    // The next poll of presence comes by.
    tokio::time::sleep(Duration::from_secs(11 * 60)).await;
    scene.rest().await;
}

/// Everything that was asked of the cloud: method and path, ids left out.
fn asked(cloud: &str) -> BTreeSet<String> {
    let mut asked = BTreeSet::new();
    for request in cloud.split(" HTTP/1.1") {
        let Some((before, address)) = request.rsplit_once(' ') else { continue };
        let method = ["GET", "POST", "PUT", "PATCH", "DELETE"].into_iter().find(|m| before.ends_with(m));
        let (Some(method), Some(path)) = (method, address.split('?').next()) else { continue };
        let named = path.split('/').map(|part| if part.len() < 32 { part } else { "*" });
        asked.insert(format!("{method} {}", named.collect::<Vec<_>>().join("/")));
    }
    asked
}

#[test]
fn contacts_and_the_statuses_of_webex_are_left_alone() {
    play(async |scene| {
        a_day(scene).await;
        let [link, cloud] = scene.written();
        let asked = asked(&cloud);
        assert!(asked.iter().all(|one| ASKED.contains(&one.as_str())), "{asked:#?}");
        // It is not that nothing was looked at.
        assert!(asked.len() > 10, "{asked:#?}");
        let verbs: BTreeSet<_> =
            cloud.split("\"verb\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(verbs, BTreeSet::from(["add", "create", "post"]));
        assert!(link.contains("<presence") && link.contains("<body>"), "the link is looked at too");
        // No contact list is asked for or changed, nobody subscribes, and nothing is set by hand.
        for never in ["jabber:iq:roster", "subscribe", "pubsub", "manual"] {
            assert!(!link.contains(never), "{never}");
        }
        // What bob showed in Jabber has changed nothing of what he set in Webex.
        let bob = scene.world.lab.ctx().people.by_name("bob").unwrap();
        assert_eq!((bob.status.as_deref(), bob.hidden), (Some("dnd"), false));
    });
}
