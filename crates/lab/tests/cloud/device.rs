//! Registrations.

use serde_json::json;

use super::{device, fault, get, lab, send, token};

#[tokio::test(start_paused = true)]
async fn ten_devices_are_the_limit_and_deleting_one_makes_room() {
    let lab = lab().await;
    // The built-in client of carol has one.
    let mut last = json!(null);
    for _ in 0..9 {
        last = device(&lab, "carol").await;
    }
    let carol = token(&lab, "carol");
    let refused = send(&lab, "POST", "/wdm/api/v1/devices", &carol, json!({})).await;
    assert_eq!(
        (refused.status.as_u16(), refused.message()),
        (403, "User has excessive device registrations")
    );
    let listed = get(&lab, "/wdm/api/v1/devices", &carol).await.body;
    assert_eq!(listed["devices"].as_array().unwrap().len(), 10);
    let url = last["url"].as_str().unwrap();
    assert_eq!(send(&lab, "DELETE", url, &carol, json!(null)).await.status, 204);
    assert_eq!(send(&lab, "PUT", url, &carol, json!({})).await.status, 404);
    device(&lab, "carol").await;
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_registration_has_what_clients_read_and_takes_what_they_leak() {
    let lab = lab().await;
    let made = device(&lab, "alice").await;
    assert_eq!(made["userId"], super::user(&lab, "alice").person_id);
    for member in ["developer", "entitlement", "user"] {
        assert!(made["features"][member].is_array(), "{member}");
    }
    assert!(made["webSocketUrl"].as_str().unwrap().starts_with("ws://"));
    let leaky = json!({"register-request-id": {"a": 1}, "name": "renamed", "url": "http://elsewhere/"});
    let refreshed = send(&lab, "PUT", made["url"].as_str().unwrap(), &token(&lab, "alice"), leaky).await;
    assert_eq!(
        (refreshed.body["name"].clone(), refreshed.body["url"].clone()),
        (json!("renamed"), made["url"].clone())
    );
    assert!(!refreshed.header("etag").is_empty());
    fault(&lab, json!({"name": "device-gone", "on": true, "count": 1, "person": "alice"}));
    let gone = send(&lab, "PUT", made["url"].as_str().unwrap(), &token(&lab, "alice"), json!({})).await;
    assert_eq!(gone.status, 404);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_entitlement_follows_the_licence_from_the_next_refresh_on() {
    let lab = lab().await;
    let entitled = |device: &serde_json::Value| {
        let toggles = device["features"]["entitlement"].as_array().unwrap().clone();
        toggles.iter().find(|toggle| toggle["key"] == "spark-hybrid-impinterop").unwrap()["value"].clone()
    };
    assert_eq!(entitled(&device(&lab, "alice").await), true);
    let carols = device(&lab, "carol").await;
    assert_eq!(entitled(&carols), false);
    lab.ctx().people.update("carol", |person| person.enabled = true).unwrap();
    let url = carols["url"].as_str().unwrap();
    assert_eq!(entitled(&send(&lab, "PUT", url, &token(&lab, "carol"), json!({})).await.body), true);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_touches_somebody_elses_device() {
    let lab = lab().await;
    let made = device(&lab, "alice").await;
    let url = made["url"].as_str().unwrap();
    assert_eq!(send(&lab, "DELETE", url, &token(&lab, "bob"), json!(null)).await.status, 404);
    assert_eq!(get(&lab, url, &token(&lab, "alice")).await.status, 200);
    lab.stop().await;
}
