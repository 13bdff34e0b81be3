//! Requests as a person: tokens, limits, addresses, and the cloud's clock.

use std::time::Duration;

use router::ids::{PersonId, Time};
use router::inbound::Cause;
use serde_json::json;
use webex_api::Timestamp;
use webex_api::auth::AccessToken;
use webex_api::client::MercurySocket;
use webex_api::conversation::{Get, List};

use super::world::{ALICE, BASE, START, Sky, conversation};
use crate::seam::{Generator, Scale};
use crate::webex::CloudError;

const LIST: List = List::First { cluster: None, since: None };

fn alice() -> PersonId {
    PersonId::new(ALICE)
}

#[tokio::test(start_paused = true)]
async fn a_token_is_asked_for_once_and_again_before_it_ends() {
    let sky = Sky::new(|_, address, _| {
        address.contains("/conversations").then(|| (200, json!({"items": [conversation("c1", BASE)]})))
    });
    let asked = || sky.shared.asked("access_token").len();
    let alice = alice();
    let both = tokio::join!(sky.cloud.send_as(&alice, LIST), sky.cloud.send_as(&alice, LIST));
    assert!(both.0.is_ok() && both.1.is_ok());
    assert_eq!(asked(), 1, "those who ask at once share the answer");
    assert_eq!(sky.shared.asked("catalog").len(), 1);
    // The token lives for a day; it is renewed at some moment between these two.
    tokio::time::sleep(Duration::from_secs(86_400 * 45 / 100 - 1)).await;
    sky.cloud.send_as(&alice, LIST).await.unwrap();
    assert_eq!(asked(), 1);
    tokio::time::sleep(Duration::from_secs(86_400 * 45 / 100 + 1)).await;
    sky.cloud.send_as(&alice, LIST).await.unwrap();
    assert_eq!(asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_accepted_is_replaced_once() {
    let mut refusals = 1;
    let sky = Sky::new(move |_, address, _| {
        address.contains("/conversations").then(|| {
            refusals -= 1;
            if refusals >= 0 { (401, json!({})) } else { (200, json!({"items": []})) }
        })
    });
    assert!(sky.cloud.send_as(&alice(), LIST).await.is_ok());
    assert_eq!(sky.shared.asked("access_token").len(), 2);

    let sky = Sky::new(|_, address, _| address.contains("/conversations").then(|| (401, json!({}))));
    let error = sky.cloud.send_as(&alice(), LIST).await.unwrap_err();
    assert_eq!(error.cause(), (Cause::Token(alice()), None));
    assert!(error.is_refusal());
    assert_eq!(sky.shared.asked("/conversations").len(), 2, "not for ever");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_limits_us_is_left_alone_for_a_while() {
    let mut limited = true;
    let sky = Sky::new(move |_, address, _| {
        address.contains("/conversations").then(|| {
            let answer = if limited { (429, json!({})) } else { (200, json!({"items": []})) };
            limited = false;
            answer
        })
    });
    assert!(sky.cloud.send_as(&alice(), LIST).await.is_err());
    let error = sky.cloud.send_as(&alice(), LIST).await.unwrap_err();
    assert!(matches!(&error, CloudError::Limited { host, .. } if host == "cloud.example"), "{error}");
    assert_eq!(sky.shared.asked("/conversations").len(), 1, "nothing is sent meanwhile");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(sky.cloud.send_as(&alice(), LIST).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn no_token_goes_to_an_address_that_is_not_the_clouds() {
    let sky = Sky::new(|_, _, _| None);
    let elsewhere = Get("http://elsewhere.example/conversations/c1".parse().unwrap());
    let error = sky.cloud.send_as(&alice(), elsewhere).await.unwrap_err();
    assert_eq!(error.to_string(), "address on elsewhere.example is not the cloud's");
}

#[tokio::test(start_paused = true)]
async fn no_token_goes_in_the_clear_to_another_host_than_the_settings_name() {
    let sky = Sky::new(|_, address, _| {
        address.contains("catalog").then(|| {
            let links = json!({"conversation": "http://conversation.example/api/v1",
                "idbroker": "http://cloud.example", "wdm": "http://cloud.example/wdm"});
            (200, json!({"serviceLinks": links}))
        })
    });
    let plain = "address on conversation.example is not encrypted";
    assert_eq!(sky.cloud.send_as(&alice(), LIST).await.unwrap_err().to_string(), plain);
    let listed = Get("http://conversation.example/api/v1/conversations/c1".parse().unwrap());
    assert_eq!(sky.cloud.send_as(&alice(), listed).await.unwrap_err().to_string(), plain);
    for (address, refused) in [
        ("wss://mercury-connection-a.wbx2.com/d1", None),
        ("ws://cloud.example:81/d1", None),
        ("ws://mercury-connection-a.wbx2.com/d1", Some("is not encrypted")),
        // A device that was forged would have the token sent elsewhere.
        ("wss://elsewhere.example/d1", Some("is not the cloud's")),
        ("wss://wbx2.com.elsewhere.example/d1", Some("is not the cloud's")),
    ] {
        let may = sky.cloud.socket_may_go(&address.parse().unwrap()).await.map_err(|error| error.to_string());
        assert_eq!(may.is_ok(), refused.is_none(), "{address}: {may:?}");
        assert!(refused.is_none_or(|why| may.unwrap_err().ends_with(why)), "{address}");
    }
    assert!(sky.shared.asked("DIAL conversation.example").is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_cloud_is_reached_on_443_where_its_catalog_names_no_port() {
    let sky = Sky::new(|_, address, _| {
        address.contains("catalog").then(|| {
            let links = json!({"conversation": "https://conversation.example/api/v1",
                "idbroker": "http://cloud.example", "wdm": "https://wdm.example:8443/api"});
            (200, json!({"serviceLinks": links}))
        })
    });
    // Nobody there speaks TLS; where it was tried is what counts.
    assert!(sky.cloud.send_as(&alice(), LIST).await.is_err());
    assert!(sky.cloud.send_as(&alice(), webex_api::device::List).await.is_err());
    let (config, token) = (sky.cloud.mercury_config(Scale(1)), AccessToken::try_from("token".to_owned()));
    let random = crate::webex::http::random(&Generator::seeded(1));
    let address = "wss://mercury.example/d1".parse().unwrap();
    let socket = MercurySocket::connect(&config, &address, &token.unwrap(), Timestamp(START), random).await;
    assert!(socket.is_err());
    let dialed = sky.shared.asked("DIAL");
    let encrypted: Vec<&str> =
        dialed.iter().map(String::as_str).filter(|line| !line.contains(" cloud.example:")).collect();
    assert_eq!(
        encrypted,
        ["DIAL conversation.example:443", "DIAL wdm.example:8443", "DIAL mercury.example:443"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_clouds_clock_is_known_from_its_latest_word_that_was_not_late() {
    let sky = Sky::new(|_, _, _| None);
    assert_eq!(sky.cloud.now(), Time(START), "before any word it is ours");
    sky.cloud.heard(Timestamp(START + 500));
    sky.cloud.heard(Timestamp(START + 100));
    assert_eq!(sky.cloud.now(), Time(START + 500), "the second word was late, as words are");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(sky.cloud.now(), Time(START + 60_500));
    sky.cloud.heard(Timestamp(START + 3_600_000));
    assert_eq!(sky.cloud.now(), Time(START + 3_600_000), "somebody has set a clock");
    sky.cloud.heard(Timestamp(START));
    assert_eq!(sky.cloud.now(), Time(START), "and set it back");
    assert_eq!(sky.cloud.at(sky.clock.now()), Time(START));
}
