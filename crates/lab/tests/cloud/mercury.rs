//! The socket.

use futures_util::StreamExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::{Socket, comment, device, direct, fault, lab, lab_with, post, say, token};

#[tokio::test(start_paused = true)]
async fn readiness_comes_first_and_pings_are_answered_with_their_id() {
    let lab = lab().await;
    let device = device(&lab, "alice").await;
    let mut socket = Socket::ready(&lab, &device, "alice").await;
    socket.write(json!({"id": "p1", "type": "ping"})).await;
    let pong = socket.read().await.unwrap();
    assert_eq!((pong["id"].as_str(), pong["type"].as_str()), (Some("p1"), Some("pong")));
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_the_owner_is_let_in() {
    let lab = lab().await;
    let device = device(&lab, "alice").await;
    for bearer in ["Bearer nope", "nope", &token(&lab, "bob")] {
        let mut socket = Socket::open(&lab, &device).await;
        socket.authorize(bearer).await;
        assert_eq!(socket.read().await, Err(4401), "{bearer}");
    }
    let mut silent = Socket::open(&lab, &device).await;
    assert_eq!(silent.read().await, Err(1008));
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn activities_reach_every_device_of_every_member_in_sequence() {
    let lab = lab().await;
    let conversation = direct(&lab, "alice", "bob").await;
    let (mine, theirs) = (device(&lab, "alice").await, device(&lab, "bob").await);
    let mut sockets = [Socket::ready(&lab, &mine, "alice").await, Socket::ready(&lab, &theirs, "bob").await];
    let sent = post(&lab, "alice", &conversation, comment(&conversation, "t1")).await.body;
    for socket in &mut sockets {
        let frame = socket.read().await.unwrap();
        assert_eq!(frame["sequenceNumber"], 2);
        assert!(frame["id"].is_string());
        let activity = &frame["data"]["activity"];
        assert_eq!(activity["id"], sent["id"]);
        assert_eq!(activity["clientTempId"], "t1");
        for member in ["id", "entryUUID", "emailAddress", "entryEmail"] {
            assert!(activity["actor"][member].is_string(), "{member}");
        }
        for member in ["activities", "participants"] {
            assert!(activity["target"][member]["items"].is_array(), "{member}");
        }
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_socket_takes_over() {
    let lab = lab().await;
    let device = device(&lab, "alice").await;
    let mut first = Socket::ready(&lab, &device, "alice").await;
    let mut second = Socket::ready(&lab, &device, "alice").await;
    assert_eq!(first.read().await, Err(4000));
    fault(&lab, json!({"name": "mercury-shutdown", "on": true, "count": 1, "person": "alice"}));
    let conversation = direct(&lab, "alice", "bob").await;
    second.activity().await;
    let shutdown = loop {
        let frame = second.read().await.unwrap();
        if frame["type"] == "shutdown" {
            break frame;
        }
    };
    assert!(shutdown["id"].is_string());
    let mut third = Socket::ready(&lab, &device, "alice").await;
    post(&lab, "alice", &conversation, comment(&conversation, "t")).await;
    assert_eq!(third.activity().await["clientTempId"], "t");
    while let Ok(frame) = second.read().await {
        assert_ne!(frame["data"]["activity"]["clientTempId"], "t");
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_shut_down_may_carry_what_was_on_its_way() {
    let lab = lab().await;
    let device = device(&lab, "alice").await;
    let conversation = direct(&lab, "alice", "bob").await;
    let mut first = Socket::ready(&lab, &device, "alice").await;
    fault(
        &lab,
        json!({"name": "mercury-shutdown", "on": true, "count": 1, "person": "alice", "value": 2_000}),
    );
    post(&lab, "alice", &conversation, comment(&conversation, "old")).await;
    while first.read().await.unwrap()["type"] != "shutdown" {}
    let mut second = Socket::ready(&lab, &device, "alice").await;
    post(&lab, "alice", &conversation, comment(&conversation, "new")).await;
    assert_eq!(second.activity().await["clientTempId"], "new");
    assert_eq!(first.read().await, Err(4001), "only what was on its way before");
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_not_acknowledged_is_lost_unless_the_lab_is_kind() {
    for kind in [false, true] {
        let lab = lab_with(|options| options.kind = kind).await;
        let conversation = direct(&lab, "alice", "bob").await;
        let device = device(&lab, "bob").await;
        let mut socket = Socket::ready(&lab, &device, "bob").await;
        for text in ["t1", "t2"] {
            post(&lab, "alice", &conversation, comment(&conversation, text)).await;
        }
        assert_eq!(socket.activity().await["clientTempId"], "t1");
        assert_eq!(socket.read().await.unwrap()["data"]["activity"]["clientTempId"], "t2");
        drop(socket);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        post(&lab, "alice", &conversation, comment(&conversation, "t3")).await;
        let mut socket = Socket::ready(&lab, &device, "bob").await;
        let mut again = Vec::new();
        while let Some(frame) = socket.soon().await {
            again.push(frame["data"]["activity"]["clientTempId"].as_str().unwrap().to_owned());
        }
        assert_eq!(again, if kind { vec!["t2", "t3"] } else { vec![] }, "kind: {kind}");
        lab.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn faults_close_with_any_code_and_lose_frames() {
    let lab = lab().await;
    let conversation = direct(&lab, "alice", "bob").await;
    let device = device(&lab, "bob").await;
    // A close frame without a code is 1005 to whoever gets it.
    for code in [1001, 1005, 1011, 3050, 4401, 4404] {
        let mut socket = Socket::ready(&lab, &device, "bob").await;
        fault(&lab, json!({"name": "mercury-close", "on": true, "count": 1, "person": "bob", "value": code}));
        say(&lab, "alice", "bob", "which wakes the socket").await;
        let end = loop {
            if let Err(end) = socket.read().await {
                break end;
            }
        };
        assert_eq!(i64::from(end), code);
    }
    let mut socket = Socket::ready(&lab, &device, "bob").await;
    let idle = json!({"name": "mercury-close", "on": true, "count": 1, "person": "bob", "value": 1000, "text": "idle"});
    fault(&lab, idle);
    say(&lab, "alice", "bob", "which wakes the socket").await;
    let reason = loop {
        if let Message::Close(frame) = socket.0.next().await.unwrap().unwrap() {
            break frame.unwrap().reason.to_string();
        }
    };
    assert_eq!(reason, "idle");
    let mut socket = Socket::ready(&lab, &device, "bob").await;
    fault(&lab, json!({"name": "mercury-lose", "on": true, "count": 1, "person": "bob"}));
    post(&lab, "alice", &conversation, comment(&conversation, "lost")).await;
    post(&lab, "alice", &conversation, comment(&conversation, "kept")).await;
    let frame = socket.read().await.unwrap();
    assert_eq!(frame["data"]["activity"]["clientTempId"], "kept");
    assert_eq!(frame["sequenceNumber"], 3, "number 2 is missing");
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_back_holds_no_event_up() {
    let lab = lab().await;
    let conversation = direct(&lab, "alice", "bob").await;
    let device = device(&lab, "bob").await;
    let mut socket = Socket::ready(&lab, &device, "bob").await;
    for ahead in [7_200_000, -7_200_000] {
        fault(&lab, json!({"name": "clock-skew", "on": true, "value": ahead}));
        post(&lab, "alice", &conversation, comment(&conversation, &format!("{ahead}"))).await;
        let frame = socket.soon().await.unwrap();
        assert_eq!(frame["data"]["activity"]["clientTempId"], format!("{ahead}"));
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_lab_loses_nothing_over_sockets_that_replace_one_another() {
    let lab = lab_with(|options| options.kind = true).await;
    let conversation = direct(&lab, "alice", "bob").await;
    let device = device(&lab, "bob").await;
    let mut socket = Socket::ready(&lab, &device, "bob").await;
    let mut heard = Vec::new();
    for n in 0..20 {
        for part in ["a", "b"] {
            post(&lab, "alice", &conversation, comment(&conversation, &format!("{n}{part}"))).await;
        }
        // One is taken, the other is on its way when the next socket comes.
        let frame = socket.read().await.unwrap();
        socket.ack(&frame).await;
        heard.push(frame["data"]["activity"]["clientTempId"].as_str().unwrap().to_owned());
        socket = Socket::ready(&lab, &device, "bob").await;
    }
    while let Some(frame) = socket.soon().await {
        socket.ack(&frame).await;
        heard.push(frame["data"]["activity"]["clientTempId"].as_str().unwrap().to_owned());
    }
    let missing: Vec<_> = (0..20)
        .flat_map(|n| ["a", "b"].map(|part| format!("{n}{part}")))
        .filter(|text| !heard.contains(text))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
    lab.stop().await;
}
