//! Status: composed, hidden, subscribed to, expiring.

use std::time::Duration;

use lab::people::Change;
use serde_json::{Value, json};

use super::{Socket, device, get, lab, send, token, user};

async fn status(lab: &lab::Lab, name: &str) -> Value {
    let path = format!("/apheleia/api/v1/compositions?userId={}", user(lab, name).person_id);
    get(lab, &path, &token(lab, "alice")).await.body
}

#[tokio::test(start_paused = true)]
async fn activity_hiding_and_hands_decide() {
    let lab = lab().await;
    assert_eq!(status(&lab, "bob").await["status"], "active");
    let hidden = status(&lab, "gina").await;
    assert_eq!((hidden["status"].as_str(), hidden["lastActive"].as_str()), (Some("unknown"), None));
    assert_eq!(status(&lab, "frank").await["status"], "pending");
    lab.ctx().clock.advance(Duration::from_secs(600));
    lab.ctx()
        .people
        .change(&Change {
            name: "bob".into(),
            last_active: Some(lab.ctx().clock.now().0 - 600_000),
            ..Change::default()
        })
        .unwrap();
    assert_eq!(status(&lab, "bob").await["status"], "active", "ten minutes are active still");
    lab.ctx().clock.advance(Duration::from_millis(1));
    assert_eq!(status(&lab, "bob").await["status"], "inactive");
    lab.ctx()
        .people
        .change(&Change { name: "bob".into(), status: Some("ooo".into()), ..Change::default() })
        .unwrap();
    assert_eq!(status(&lab, "bob").await["status"], "ooo");
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn subscribers_are_told_until_the_subscription_ends() {
    let lab = lab().await;
    let mine = device(&lab, "alice").await;
    let mut socket = Socket::ready(&lab, &mine, "alice").await;
    let subjects = json!([user(&lab, "bob").person_id]);
    let ask = json!({"subjects": subjects, "subscriptionTtl": 1200, "includeStatus": true});
    let answer = send(&lab, "POST", "/apheleia/api/v1/subscriptions", &token(&lab, "alice"), ask).await.body;
    assert_eq!(answer["responses"][0]["responseCode"], 200);
    assert_eq!(answer["responses"][0]["status"]["status"], "active");
    let event = json!({"subject": user(&lab, "bob").person_id, "eventType": "dnd", "ttl": 300});
    send(&lab, "POST", "/apheleia/api/v1/events", &token(&lab, "bob"), event).await;
    let told = socket.read().await.unwrap();
    assert_eq!(told["data"]["eventType"], "apheleia.subscription_update");
    assert_eq!(
        (told["data"]["status"].as_str(), told["data"]["expiresTTL"].as_i64()),
        (Some("dnd"), Some(300))
    );
    lab.ctx().clock.advance(Duration::from_secs(300));
    assert_eq!(socket.read().await.unwrap()["data"]["status"], "active", "it has expired");
    lab.ctx().clock.advance(Duration::from_secs(301));
    assert_eq!(socket.read().await.unwrap()["data"]["status"], "inactive", "by time alone");
    lab.ctx().clock.advance(Duration::from_secs(600));
    lab.ctx()
        .people
        .change(&Change { name: "bob".into(), status: Some("dnd".into()), ..Change::default() })
        .unwrap();
    assert!(socket.soon().await.is_none(), "the subscription is over");
    lab.stop().await;
}
