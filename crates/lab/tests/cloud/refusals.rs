//! Bad input: one row a case, with the status and the exact words.

use std::time::Duration;

use serde_json::json;

use super::{comment, direct, fault, get, lab, post, send, token, try_send, user};

#[tokio::test(start_paused = true)]
async fn each_mistake_has_its_words() {
    let lab = lab().await;
    let conversation = direct(&lab, "alice", "bob").await;
    let own = conversation["url"].as_str().unwrap();
    let (alice, carol) = (token(&lab, "alice"), token(&lab, "carol"));
    let activities = format!("{own}/activities");
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut activity = comment(&conversation, "t");
        change(&mut activity);
        activity.to_string()
    };
    let fifty_one = json!({"subjects": vec!["x"; 51]}).to_string();
    let unauthorized = "The access token is missing, unknown, expired or revoked.";
    let rows: Vec<(&str, &str, &str, String, u16, &str)> = vec![
        ("GET", "/u2c/api/v1/catalog", "", String::new(), 401, unauthorized),
        ("GET", "/u2c/api/v1/catalog", "Bearer lab_bob.999_x", String::new(), 401, unauthorized),
        ("GET", "/nowhere", &alice, String::new(), 404, "There is no such address."),
        ("GET", own, &carol, String::new(), 404, "Conversation not found."),
        (
            "GET",
            "/conversation/api/v1/conversations/nope",
            &alice,
            String::new(),
            404,
            "Conversation not found.",
        ),
        ("POST", &activities, &carol, with(&|_| {}), 404, "Conversation not found."),
        (
            "POST",
            &activities,
            &alice,
            "{".into(),
            400,
            "The body is not what is expected: EOF while parsing an object at line 1 column 1",
        ),
        ("POST", &activities, &alice, "{}".into(), 400, "The activity has no verb."),
        (
            "POST",
            &activities,
            &alice,
            with(&|a| a["object"]["displayName"] = "plain".into()),
            400,
            "This conversation keeps only sealed texts.",
        ),
        (
            "POST",
            &activities,
            &alice,
            with(&|a| a["object"]["content"] = "a.b.c.d.e".into()),
            400,
            "This conversation keeps only sealed texts.",
        ),
        (
            "POST",
            &activities,
            &alice,
            with(&|a| a["encryptionKeyUrl"] = json!(null)),
            400,
            "The activity names no key.",
        ),
        (
            "POST",
            &activities,
            &alice,
            with(&|a| a["encryptionKeyUrl"] = "kms://kms.lab.example/keys/x".into()),
            400,
            "The key is not one of this conversation.",
        ),
        (
            "POST",
            &activities,
            &alice,
            with(&|a| a["kmsMessage"] = "x".into()),
            400,
            "The message for the key service was not understood.",
        ),
        (
            "POST",
            &activities,
            &alice,
            json!({"verb": "acknowledge", "object": {"id": "x"}}).to_string(),
            400,
            "The activity that was read is unknown.",
        ),
        (
            "POST",
            &activities,
            &alice,
            json!({"verb": "delete", "object": {"id": "x"}}).to_string(),
            400,
            "The activity is unknown.",
        ),
        (
            "POST",
            &activities,
            &alice,
            json!({"verb": "leave", "object": {"id": "x"}}).to_string(),
            403,
            "Only a moderator may do that.",
        ),
        (
            "POST",
            "/apheleia/api/v1/subscriptions",
            &alice,
            fifty_one,
            400,
            "At most 50 subjects can be named.",
        ),
        ("POST", "/apheleia/api/v1/events", &alice, "{}".into(), 403, "Only the own status can be set."),
        (
            "POST",
            "/encryption/api/v1/kms/messages",
            &alice,
            r#"{"kmsMessages":[]}"#.into(),
            400,
            "Between 1 and 50 messages are expected.",
        ),
        ("GET", "/encryption/api/v1/kms/somebody", &alice, String::new(), 403, "That is somebody else."),
        ("PUT", "/wdm/api/v1/devices/nope", &alice, "{}".into(), 404, "Device not found."),
        ("GET", "/v1/apps/wx2/registrations/nope/messages", &alice, String::new(), 404, "Device not found."),
        (
            "GET",
            "/v1/people?max=100",
            &alice,
            String::new(),
            400,
            "Email, displayName, or id list should be specified.",
        ),
    ];
    for (method, path, auth, body, status, words) in rows {
        let answer = try_send(&lab, method, path, auth, "application/json", body.clone()).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.message()), (status, words), "{method} {path} {body}");
        assert_eq!(answer.header("trackingid"), "test_1");
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn faults_spoil_what_they_name_and_nothing_of_the_witnesses() {
    let lab = lab().await;
    let conversation = direct(&lab, "alice", "bob").await;
    for status in [401, 403, 404, 409, 429, 500, 502, 503] {
        fault(
            &lab,
            json!({"name": format!("post-{status}"), "on": true, "count": 1, "person": "alice", "value": 7}),
        );
        super::say(&lab, "alice", "bob", "the built-in client is not touched").await;
        let answer = post(&lab, "alice", &conversation, comment(&conversation, "t")).await;
        assert_eq!(answer.status.as_u16(), status);
        assert_eq!(answer.header("retry-after"), if status == 429 { "7" } else { "" });
        let other = post(&lab, "alice", &conversation, comment(&conversation, "u")).await;
        assert_eq!(other.status, 200, "only once");
    }
    fault(&lab, json!({"name": "http-cut", "on": true, "count": 1}));
    let cut = try_send(&lab, "GET", "/u2c/api/v1/limited/catalog", "", "", String::new()).await;
    assert!(cut.is_none());
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_date_is_the_labs_and_moves_with_it() {
    let lab = lab().await;
    lab.ctx().clock.advance(Duration::from_secs(3_600));
    let date = get(&lab, "/u2c/api/v1/limited/catalog", "").await.header("date").to_owned();
    assert_eq!(date, "Wed, 01 May 2024 11:00:00 GMT");
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_clouds_clock_can_be_wrong_about_everything_it_says() {
    let lab = lab().await;
    let conversation = direct(&lab, "alice", "bob").await;
    fault(&lab, json!({"name": "clock-skew", "on": true, "value": -7_200_000}));
    let answer = post(&lab, "alice", &conversation, comment(&conversation, "t")).await;
    assert_eq!(answer.header("date"), "Wed, 01 May 2024 08:00:00 GMT");
    assert!(answer.body["published"].as_str().unwrap().starts_with("2024-05-01T08:00:0"), "{}", answer.body);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_trickles_comes_whole_in_the_end() {
    let lab = lab().await;
    fault(&lab, json!({"name": "http-trickle", "on": true, "count": 1, "value": 1_600}));
    let start = tokio::time::Instant::now();
    let answer = get(&lab, "/u2c/api/v1/limited/catalog", "").await;
    assert!(answer.body["serviceLinks"].is_object());
    assert!(start.elapsed() >= Duration::from_millis(1_500), "{:?}", start.elapsed());
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rotated_key_is_said_and_the_new_one_is_there() {
    let lab = lab().await;
    let before = direct(&lab, "alice", "bob").await;
    for (name, code) in [("post-rotate-1400087", 1_400_087), ("post-rotate-1409004", 1_409_004)] {
        fault(&lab, json!({"name": name, "on": true, "count": 1}));
        let refused = post(&lab, "alice", &before, comment(&before, "t")).await;
        assert_eq!(refused.body["errorCode"], code);
        let after = get(&lab, before["url"].as_str().unwrap(), &token(&lab, "alice")).await.body;
        assert_ne!(after["defaultActivityEncryptionKeyUrl"], before["defaultActivityEncryptionKeyUrl"]);
        assert_eq!(post(&lab, "alice", &after, comment(&after, "u")).await.status, 200);
    }
    // Whoever was a member can have the new key.
    super::say(&lab, "bob", "alice", "under the new key").await;
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn metrics_are_taken_and_forgotten() {
    let lab = lab().await;
    let answer = send(&lab, "POST", "/metrics/api/v1/clientmetrics", "", json!({"metrics": []})).await;
    assert_eq!(answer.status, 204);
    assert!(!user(&lab, "bob").access_token.is_empty());
    lab.stop().await;
}
