//! OAuth: what is given, to whom, and for how long.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use lab::Lab;

use serde_json::json;

use super::{Answer, fault, get, lab, say, token, try_send, user};

const TOKEN: &str = "/idb/oauth2/v1/access_token";

async fn form(lab: &Lab, path: &str, secret: &str, form: &str) -> Answer {
    let basic = format!("Basic {}", STANDARD.encode(format!("{}:{secret}", lab.endpoints().client_id)));
    try_send(lab, "POST", path, &basic, "application/x-www-form-urlencoded", form.to_owned()).await.unwrap()
}

async fn granted(lab: &Lab, fields: &str) -> Answer {
    form(lab, TOKEN, &lab.endpoints().client_secret, fields).await
}

#[tokio::test(start_paused = true)]
async fn a_refresh_gives_a_new_token_each_time_and_the_old_one_lives_on() {
    let lab = lab().await;
    let fields = format!("grant_type=refresh_token&refresh_token={}", user(&lab, "bob").refresh_token);
    let (one, other) = (granted(&lab, &fields).await.body, granted(&lab, &fields).await.body);
    assert_ne!(one["access_token"], other["access_token"]);
    for body in [&one, &other] {
        let parts: Vec<&str> = body["access_token"].as_str().unwrap().split('_').collect();
        assert!(
            matches!(parts.as_slice(), ["lab", name, org] if name.starts_with("bob.") && *org == lab.endpoints().org_id)
        );
        let bearer = format!("Bearer {}", body["access_token"].as_str().unwrap());
        assert_eq!(get(&lab, "/conversation/api/v1/users", &bearer).await.status, 200);
    }
    lab.ctx().clock.advance(Duration::from_secs(15 * 86_400));
    assert_eq!(get(&lab, "/conversation/api/v1/users", &token(&lab, "bob")).await.status, 401);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_is_used_may_be_dead_and_an_access_token_short() {
    let lab = lab().await;
    for fault in [r#"{"name":"refresh-once","on":true}"#, r#"{"name":"short-tokens","on":true,"value":3}"#] {
        lab.ctx().faults.switch(&serde_json::from_str(fault).unwrap()).unwrap();
    }
    let fields = format!("grant_type=refresh_token&refresh_token={}", user(&lab, "bob").refresh_token);
    let given = granted(&lab, &fields).await.body;
    assert_eq!(granted(&lab, &fields).await.body["error"], "invalid_grant");
    let next = format!("grant_type=refresh_token&refresh_token={}", given["refresh_token"].as_str().unwrap());
    assert_eq!(granted(&lab, &next).await.status, 200);
    let bearer = format!("Bearer {}", given["access_token"].as_str().unwrap());
    assert_eq!(given["expires_in"], 3);
    assert_eq!(get(&lab, "/conversation/api/v1/users", &bearer).await.status, 200);
    lab.ctx().clock.advance(Duration::from_secs(3));
    assert_eq!(get(&lab, "/conversation/api/v1/users", &bearer).await.status, 401);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_machine_becomes_people_of_its_organization_only() {
    let lab = lab().await;
    let machine = lab.endpoints().machine_token.clone();
    let exchange = |subject: String, actor: String| {
        format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token={subject}\
             &subject_token_type=urn%3Alab%3Aperson&actor_token={actor}\
             &actor_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token"
        )
    };
    for (name, status) in [("bob", 200), ("carol", 200), ("frank", 400), ("heidi", 400)] {
        let answer = granted(&lab, &exchange(user(&lab, name).person_id, machine.clone())).await;
        assert_eq!(answer.status, status, "{name}");
    }
    let bobs = exchange(user(&lab, "carol").person_id, user(&lab, "bob").access_token);
    assert_eq!(granted(&lab, &bobs).await.body["error"], "invalid_grant");
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_named() {
    let lab = lab().await;
    let secret = lab.endpoints().client_secret.clone();
    let rows = [
        ("wrong", "grant_type=refresh_token&refresh_token=x", 401, "invalid_client"),
        (secret.as_str(), "grant_type=refresh_token&refresh_token=x", 400, "invalid_grant"),
        (secret.as_str(), "grant_type=password", 400, "unsupported_grant_type"),
        (secret.as_str(), "", 400, "unsupported_grant_type"),
    ];
    for (secret, fields, status, error) in rows {
        let answer = form(&lab, TOKEN, secret, fields).await;
        assert_eq!(
            (answer.status.as_u16(), answer.body["error"].as_str().unwrap()),
            (status, error),
            "{fields}"
        );
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_device_grant_waits_for_the_person() {
    let lab = lab().await;
    let secret = lab.endpoints().client_secret.clone();
    let client = lab.endpoints().client_id.clone();
    let asked = form(&lab, "/v1/device/authorize", &secret, &format!("client_id={client}&scope=spark%3Aall"))
        .await
        .body;
    let poll =
        format!("grant_type=x&client_id={client}&device_code={}", asked["device_code"].as_str().unwrap());
    assert_eq!(form(&lab, "/v1/device/token", &secret, &poll).await.status, 428);
    let page = format!("{}&user=erin", asked["verification_uri_complete"].as_str().unwrap());
    assert_eq!(get(&lab, &page, "").await.status, 200);
    let given = form(&lab, "/v1/device/token", &secret, &poll).await;
    assert!(given.body["access_token"].as_str().unwrap().starts_with("lab_erin."));
    assert_eq!(form(&lab, "/v1/device/token", &secret, &poll).await.body["error"], "expired_token");
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_is_refused() {
    let lab = lab().await;
    let secret = lab.endpoints().client_secret.clone();
    let fields = format!("token={}&token_type_hint=access_token", user(&lab, "bob").access_token);
    assert_eq!(form(&lab, "/idb/oauth2/v1/revoke", &secret, &fields).await.status, 200);
    assert_eq!(get(&lab, "/conversation/api/v1/users", &token(&lab, "bob")).await.status, 401);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn whose_tokens_are_all_revoked_still_has_the_built_in_client() {
    let lab = lab().await;
    fault(&lab, json!({"name": "revoke", "on": true, "count": 1, "person": "bob"}));
    assert_eq!(get(&lab, "/conversation/api/v1/users", &token(&lab, "bob")).await.status, 401);
    let fields = format!("grant_type=refresh_token&refresh_token={}", user(&lab, "bob").refresh_token);
    assert_eq!(granted(&lab, &fields).await.body["error"], "invalid_grant");
    let client = lab::seen::Client::new("bob", lab::seen::App::Webex);
    let puppet = lab.ctx().puppets.get(&client).unwrap();
    for what in [lab::people::What::Offline, lab::people::What::Online] {
        puppet.act(&lab::people::Act::new(what)).await.unwrap();
    }
    say(&lab, "bob", "alice", "with a token of its own, got anew").await;
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_code_is_given_to_the_client_that_was_allowed_and_used_once() {
    let lab = lab().await;
    let ask = |client: &str, who: &str| {
        format!(
            "/v1/authorize?client_id={client}&response_type=code&redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Fback&state=s{who}"
        )
    };
    let client = lab.endpoints().client_id.clone();
    assert_eq!(get(&lab, &ask("nobody", "&user=bob"), "").await.status, 400);
    assert_eq!(get(&lab, &ask(&client, ""), "").await.status, 400);
    let sent_back = get(&lab, &ask(&client, "&user=bob"), "").await;
    assert_eq!(sent_back.status, 302);
    let back = sent_back.header("location").to_owned();
    let code =
        back.strip_prefix("http://127.0.0.1:1/back?code=").and_then(|rest| rest.strip_suffix("&state=s"));
    let fields =
        |back: &str| format!("grant_type=authorization_code&code={}&redirect_uri={back}", code.unwrap());
    let given = granted(&lab, &fields("http%3A%2F%2F127.0.0.1%3A1%2Fback")).await;
    assert!(given.body["access_token"].as_str().unwrap().starts_with("lab_bob."));
    let again = granted(&lab, &fields("http%3A%2F%2F127.0.0.1%3A1%2Fback")).await;
    assert_eq!(again.body["error"], "invalid_grant");
    lab.stop().await;
}
