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
    lab.stop().await;
}

/// Nobody sets it, and the cloud by itself ends it while Webex is used.
#[tokio::test(start_paused = true)]
async fn only_a_calendar_that_is_read_says_out_of_office_and_activity_ends_it() {
    const HOUR: i64 = 3_600_000;
    let lab = lab().await;
    let now = || lab.ctx().clock.now().0;
    let change = |change: Change| lab.ctx().people.change(&change).unwrap();
    let event = json!({"subject": user(&lab, "bob").person_id, "eventType": "ooo", "ttl": 300});
    let refused = send(&lab, "POST", "/apheleia/api/v1/events", &token(&lab, "bob"), event).await;
    assert_eq!(refused.status, 400);

    let mine = device(&lab, "alice").await;
    let mut socket = Socket::ready(&lab, &mine, "alice").await;
    let subjects = json!([user(&lab, "bob").person_id]);
    let ask = json!({"subjects": subjects, "subscriptionTtl": 86_400});
    send(&lab, "POST", "/apheleia/api/v1/subscriptions", &token(&lab, "alice"), ask).await;
    let absence = Some((now() + HOUR, now() + 5 * HOUR));
    change(Change { name: "bob".into(), absence, ..Change::default() });
    change(Change { name: "carol".into(), absence, calendar: Some(false), ..Change::default() });
    let mut told = async |after: i64| {
        lab.ctx().clock.advance(Duration::from_millis(after as u64));
        socket.read().await.unwrap()["data"]["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(told(600_001).await, "inactive");
    assert_eq!(told(HOUR - 600_001).await, "ooo", "when the absence begins");
    assert_eq!(status(&lab, "carol").await["status"], "inactive", "a calendar that is not read says nothing");
    let event = json!({"subject": user(&lab, "bob").person_id, "eventType": "active", "ttl": 600});
    lab.ctx().clock.advance(Duration::from_secs(1));
    send(&lab, "POST", "/apheleia/api/v1/events", &token(&lab, "bob"), event).await;
    assert_eq!(told(0).await, "active", "though the calendar says otherwise");
    assert_eq!(told(600_001).await, "ooo");
    assert_eq!(told(4 * HOUR - 601_001).await, "inactive", "when the absence ends");
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
