//! What the cloud does unkindly by default, and does not when it is kind.

use std::time::Duration;

use serde_json::json;

use super::{comment, direct, fault, lab_with, listed, post, token, try_send};

#[tokio::test(start_paused = true)]
async fn a_repeated_post_is_a_second_activity_and_listings_hide_the_temporary_id() {
    for kind in [false, true] {
        let lab = lab_with(|options| options.kind = kind).await;
        let conversation = direct(&lab, "alice", "bob").await;
        let first = post(&lab, "alice", &conversation, comment(&conversation, "same")).await.body;
        let second = post(&lab, "alice", &conversation, comment(&conversation, "same")).await.body;
        assert_eq!(first["id"] == second["id"], kind);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let listed = listed(&lab, "bob", &conversation).await;
        let posts: Vec<_> = listed.iter().filter(|activity| activity["verb"] == "post").collect();
        // The first post of `direct` is there, too.
        assert_eq!(posts.len(), if kind { 2 } else { 3 });
        assert_eq!(posts.iter().all(|activity| activity["clientTempId"].is_null()), !kind);
        lab.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn listings_are_late_by_up_to_two_seconds() {
    for kind in [false, true] {
        let lab = lab_with(|options| options.kind = kind).await;
        let conversation = direct(&lab, "alice", "bob").await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut missing = 0;
        for n in 0..10 {
            let sent =
                post(&lab, "alice", &conversation, comment(&conversation, &format!("t{n}"))).await.body;
            let is_there =
                |all: Vec<serde_json::Value>| all.iter().any(|activity| activity["id"] == sent["id"]);
            missing += usize::from(!is_there(listed(&lab, "bob", &conversation).await));
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert!(is_there(listed(&lab, "bob", &conversation).await));
        }
        assert_eq!(missing > 0, !kind);
        lab.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_that_timed_out_is_stored_all_the_same_within_twenty_seconds() {
    let lab = lab_with(|options| options.seed = 5).await;
    let conversation = direct(&lab, "alice", "bob").await;
    fault(&lab, json!({"name": "post-stall", "on": true, "count": 3}));
    let path = format!("{}/activities", conversation["url"].as_str().unwrap());
    for n in 0..3 {
        let body = comment(&conversation, &format!("late{n}")).to_string();
        let alice = token(&lab, "alice");
        let waited = try_send(&lab, "POST", &path, &alice, "application/json", body);
        assert!(tokio::time::timeout(Duration::from_secs(5), waited).await.is_err());
    }
    assert!(!lab.is_idle().await, "what is late counts as undelivered");
    tokio::time::sleep(Duration::from_secs(22)).await;
    assert_eq!(listed(&lab, "bob", &conversation).await.iter().filter(|a| a["verb"] == "post").count(), 4);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_on_a_post_does_not_stop_it() {
    let lab = lab_with(|options| options.seed = 6).await;
    let conversation = direct(&lab, "alice", "bob").await;
    let path = format!("{}/activities", conversation["url"].as_str().unwrap());
    let body = comment(&conversation, "gone").to_string();
    let alice = token(&lab, "alice");
    let waited = try_send(&lab, "POST", &path, &alice, "application/json", body);
    assert!(tokio::time::timeout(Duration::from_micros(1), waited).await.is_err());
    tokio::time::sleep(Duration::from_secs(22)).await;
    let posts = listed(&lab, "bob", &conversation).await.iter().filter(|a| a["verb"] == "post").count();
    assert!((1..=2).contains(&posts), "it was stored late, or had not arrived");
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn posting_counts_as_activity_unless_the_lab_is_kind() {
    for kind in [false, true] {
        let lab = lab_with(|options| options.kind = kind).await;
        let conversation = direct(&lab, "alice", "bob").await;
        lab.ctx().clock.advance(Duration::from_secs(3_600));
        let before = lab.ctx().people.by_name("alice").unwrap().last_active;
        post(&lab, "alice", &conversation, comment(&conversation, "t")).await;
        assert_eq!(lab.ctx().people.by_name("alice").unwrap().last_active == before, kind);
        lab.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_cluster_has_its_own_listing() {
    let lab = lab_with(|_| {}).await;
    fault(&lab, json!({"name": "second-cluster", "on": true}));
    direct(&lab, "alice", "bob").await;
    direct(&lab, "alice", "carol").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let alice = token(&lab, "alice");
    let first = super::get(&lab, "/conversation/api/v1/conversations", &alice).await.body;
    let other = first["additionalUrls"][0].as_str().unwrap().to_owned();
    let second = super::get(&lab, &format!("{other}/conversations"), &alice).await.body;
    assert_eq!((first["items"].as_array().unwrap().len(), second["items"].as_array().unwrap().len()), (1, 1));
    assert!(second["items"][0]["url"].as_str().unwrap().starts_with(&other));
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_message_leaves_a_tombstone_and_an_edited_one_too() {
    let lab = lab_with(|_| {}).await;
    let conversation = direct(&lab, "alice", "bob").await;
    let one = post(&lab, "alice", &conversation, comment(&conversation, "one")).await.body;
    let two = post(&lab, "alice", &conversation, comment(&conversation, "two")).await.body;
    let mut edit = comment(&conversation, "edit");
    edit["parent"] = json!({"id": one["id"], "type": "edit"});
    assert_eq!(post(&lab, "bob", &conversation, edit.clone()).await.status, 403, "not bob's");
    assert_eq!(post(&lab, "alice", &conversation, edit).await.status, 200);
    let delete = json!({"verb": "delete", "object": {"objectType": "activity", "id": two["id"]}});
    assert_eq!(post(&lab, "alice", &conversation, delete).await.status, 200);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let all = listed(&lab, "bob", &conversation).await;
    let verbs: Vec<&str> = all.iter().map(|activity| activity["verb"].as_str().unwrap()).collect();
    assert_eq!(verbs, ["create", "post", "tombstone", "tombstone", "post", "delete"]);
    assert!(all.iter().filter(|a| a["verb"] == "tombstone").all(|a| a["object"]["displayName"].is_null()));
    lab.stop().await;
}
