//! Files: who may put and fetch them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use base64::{Engine, engine::general_purpose::STANDARD};
use lab::{
    people::{Act, What},
    seen::{App, Client, Kind},
};
use serde_json::{Value, json};

use super::{direct, fault, get, lab, send, token, try_send};

#[tokio::test(start_paused = true)]
async fn a_file_is_for_the_members_of_its_conversation() {
    let lab = lab().await;
    let conversation = direct(&lab, "alice", "bob").await;
    let alice = token(&lab, "alice");
    let space = format!("{}/space", conversation["url"].as_str().unwrap());
    let space =
        send(&lab, "PUT", &space, &alice, json!({})).await.body["spaceUrl"].as_str().unwrap().to_owned();
    let announce = |size: Value| json!({"fileSize": size, "uploadProtocol": "content-length"});
    let sessions = format!("{space}/upload_sessions?transcode=true");
    for (who, size, status) in
        [("carol", json!(4), 404), ("alice", json!("4"), 400), ("alice", json!(4), 200)]
    {
        assert_eq!(
            send(&lab, "POST", &sessions, &token(&lab, who), announce(size)).await.status,
            status,
            "{who}"
        );
    }
    let session = send(&lab, "POST", &sessions, &alice, announce(json!(4))).await.body;
    let upload = session["uploadUrl"].as_str().unwrap();
    let finish = session["finishUploadUrl"].as_str().unwrap();
    assert_eq!(
        send(&lab, "POST", finish, &alice, json!({"fileSize": 4})).await.status,
        404,
        "nothing came yet"
    );
    for (bytes, status) in [("12345", 400), ("1234", 200)] {
        // Whoever knows the address may.
        let put = try_send(&lab, "PUT", upload, "", "application/octet-stream", bytes.into()).await.unwrap();
        assert_eq!(put.status, status);
    }
    let file = send(&lab, "POST", finish, &alice, json!({"fileSize": 4})).await.body["downloadUrl"].clone();
    let file = file.as_str().unwrap();
    for (who, status) in [("alice", 200), ("bob", 200), ("carol", 404), ("heidi", 404)] {
        let answer = get(&lab, file, &token(&lab, who)).await;
        assert_eq!(answer.status, status, "{who}");
        assert!(status != 200 || answer.body == 1234);
    }
    assert_eq!(get(&lab, file, "").await.status, 401);
    let late = try_send(&lab, "PUT", upload, "", "application/octet-stream", "4321".into()).await.unwrap();
    assert_eq!(late.status, 400, "a file that was shared is not replaced");
    for status in [403, 503] {
        fault(&lab, json!({"name": format!("file-{status}"), "on": true, "count": 1, "person": "bob"}));
        assert_eq!(get(&lab, file, &token(&lab, "bob")).await.status, status);
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_shared_file_is_fetched_and_opened_by_whoever_is_shown_it() {
    let lab = lab().await;
    let client = Client::new("alice", App::Webex);
    let act = Act {
        to: Some("bob".into()),
        name: "plan.txt".into(),
        base64: STANDARD.encode("tomorrow at nine"),
        ..Act::new(What::File)
    };
    lab.ctx().puppets.get(&client).unwrap().act(&act).await.unwrap();
    while !lab.is_idle().await {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for name in ["alice", "bob"] {
        let seen = lab.ctx().seen.after(&Client::new(name, App::Webex), 0);
        let files: Vec<_> =
            seen.iter().filter(|line| line.kind == Kind::File).map(|line| &line.text).collect();
        assert_eq!(files, ["plan.txt"], "{name}: {seen:?}");
    }
    lab.stop().await;
}
