//! The ready-made session of `webex-api`, with keys by `kms-client`, against this cloud and what goes wrong in it.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use kms_client::client::{Client, Timings};
use kms_client::jose::jwe;
use kms_client::message::{Asker, Bearer};
use kms_client::trust::Trust;
use kms_client::{Random as _, SystemRandom};
use lab::{Lab, net::Network};
use rustls::pki_types::UnixTime;
use serde_json::json;
use webex_api::activity::{Action, Activity, Comment, Object, Text, Verb};
use webex_api::auth::AccessToken;
use webex_api::client::{BoxFuture, BoxIo, Dial, Happened, Session, SessionConfig, SessionError};
use webex_api::conversation::{Create, FindDirect};
use webex_api::mercury::Event;
use webex_api::people::Lookup;
use webex_api::{Random, Timestamp, device};

use super::{fault, lab, lab_with, say, user};

#[derive(Debug)]
struct LabDial(Network);

impl Dial for LabDial {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(async move { Ok(Box::new(self.0.dial(host, port).await?) as BoxIo) })
    }
}

fn config(lab: &Lab) -> SessionConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.unwrap().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let discovery = format!("{}/u2c/api/v1", lab.endpoints().cloud).parse().unwrap();
    let mut config = SessionConfig::new(discovery, "session", Arc::new(tls));
    config.http.dial = Arc::new(LabDial(lab.ctx().network.clone()));
    config.mercury.dial = Arc::clone(&config.http.dial);
    config
}

fn access(lab: &Lab, name: &str) -> AccessToken {
    user(lab, name).access_token.try_into().unwrap()
}

async fn signed_in(lab: &Lab, name: &str) -> Session {
    Session::sign_in(config(lab), access(lab, name), Random::seeded(1)).await.unwrap()
}

async fn keys(session: &mut Session, token: &str) -> Client {
    let info = session.key_service().await.unwrap();
    let trust = Trust::danger_any_chain();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_millis(session.now().millis() as u64));
    let service =
        trust.check(&info.kms_cluster.as_str().parse().unwrap(), &info.rsa_public_key, now).unwrap();
    let (device, user) = (session.device().url.to_string(), session.me().to_string());
    let asker = Asker { device, user, bearer: Bearer::new(token) };
    Client::new(asker, service, Timings::default(), Box::new(SystemRandom::new()))
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The next activity that is not a making or joining.
async fn said(session: &mut Session) -> Activity {
    loop {
        if let Happened::Event(Event::Activity(activity)) = session.next().await.unwrap()
            && activity.verb == Verb::Post
        {
            return *activity;
        }
    }
}

async fn opened(session: &mut Session, keys: &mut Client, activity: &Activity) -> String {
    let Some(Object::Comment { display_name: Some(text), .. }) = &activity.object else { panic!("no text") };
    let key = activity.key().unwrap().as_str().parse().unwrap();
    let relay = async |messages, until| session.relay(messages, until).await;
    let key = keys.fetch_key(key, now(), relay).await.unwrap();
    String::from_utf8(jwe::open(&key, text.as_str()).unwrap().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn two_sessions_make_a_conversation_and_read_each_other() {
    let lab = lab().await;
    let mut carol = signed_in(&lab, "carol").await;
    let mut carols = keys(&mut carol, &user(&lab, "carol").access_token).await;
    let mail = user(&lab, "dave").mail;
    let other = carol.send(Lookup { emails: vec![mail.clone()] }).await.unwrap()[&mail].clone();
    assert_eq!(other.as_str(), user(&lab, "dave").person_id);
    assert!(carol.send(FindDirect(other.clone())).await.unwrap().is_none());
    let both = vec![carol.me().to_string(), other.to_string()];
    let relay = async |messages, until| carol.relay(messages, until).await;
    let (key, kms_message) = carols.make_key(both, now(), relay).await.unwrap();
    let me = carol.me().clone();
    let create = Create { me, other, key: key.as_str().parse().unwrap(), kms_message };
    let conversation = carol.send(create).await.unwrap();
    // A key service that is slow, and garbles what it says, is asked again.
    fault(&lab, json!({"name": "kms-drop", "on": true, "count": 1, "person": "carol"}));
    fault(&lab, json!({"name": "kms-garble", "on": true, "count": 1, "person": "carol"}));
    let relay = async |messages, until| carol.relay(messages, until).await;
    let sealing = carols.fetch_key(key.clone(), now(), relay).await.unwrap();
    let mut dave = signed_in(&lab, "dave").await;
    let mut daves = keys(&mut dave, &user(&lab, "dave").access_token).await;
    let mut iv = [0; 12];
    SystemRandom::new().fill(&mut iv);
    let display_name = Text::new(jwe::seal(&sealing, &iv, b"between sessions").unwrap());
    let comment = Comment { display_name, content: None, key: key.as_str().parse().unwrap() };
    let posted = carol.post(conversation.target().unwrap(), Action::Comment(comment)).await.unwrap();
    let activity = said(&mut dave).await;
    assert_eq!(activity.id, posted.id);
    assert_eq!(opened(&mut dave, &mut daves, &activity).await, "between sessions");
    carol.sign_out().await.unwrap();
    dave.sign_out().await.unwrap();
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_closes_the_socket_it_is_opened_again_and_what_was_missed_is_listed() {
    let lab = lab().await;
    let mut carol = signed_in(&lab, "carol").await;
    say(&lab, "alice", "carol", "first").await;
    let mut last = said(&mut carol).await.published.unwrap();
    for (code, registers) in
        [(1001, false), (1005, false), (1011, false), (4000, true), (1008, true), (4404, true)]
    {
        let before = carol.device().url.clone();
        let close =
            json!({"name": "mercury-close", "on": true, "count": 1, "person": "carol", "value": code});
        fault(&lab, close);
        fault(&lab, json!({"name": "mercury-refuse", "on": true, "count": 2, "person": "carol"}));
        let missed = say(&lab, "alice", "carol", &format!("while away, after {code}")).await;
        let (mut registered, mut again) = (false, Vec::new());
        while again.is_empty() {
            match carol.next().await.unwrap() {
                Happened::Registered => registered = true,
                Happened::Missed => {
                    // Listings show things late.
                    while !again.iter().any(|activity: &Activity| activity.id.as_str() == missed) {
                        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                        again = carol.catch_up(last).await.unwrap();
                    }
                }
                _ => {}
            }
        }
        assert_eq!((registered, carol.device().url != before), (registers, registers), "{code}");
        assert!(
            again.iter().all(|activity| activity.conversation().is_some() && activity.published.is_some())
        );
        assert!(again.is_sorted_by_key(|activity| activity.published), "{code}");
        last = again.last().unwrap().published.unwrap();
    }
    carol.sign_out().await.unwrap();
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_the_socket_refuses_is_replaced_by_the_caller() {
    let lab = lab().await;
    let mut carol = signed_in(&lab, "carol").await;
    fault(&lab, json!({"name": "mercury-reject", "on": true, "count": 1, "person": "carol", "value": 4401}));
    fault(&lab, json!({"name": "mercury-close", "on": true, "count": 1, "person": "carol", "value": 1001}));
    say(&lab, "alice", "carol", "which wakes the socket").await;
    let refused = loop {
        match carol.next().await {
            Ok(_) => {}
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, SessionError::Token), "{refused}");
    carol.set_token(access(&lab, "carol"));
    assert!(matches!(carol.next().await.unwrap(), Happened::Missed));
    say(&lab, "alice", "carol", "with another token").await;
    said(&mut carol).await;
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_kept_device_is_used_again_and_one_that_is_gone_is_replaced() {
    let lab = lab().await;
    let kept = signed_in(&lab, "carol").await.device().clone();
    let mut again = config(&lab);
    again.device = Some(kept.clone());
    let session = Session::sign_in(again.clone(), access(&lab, "carol"), Random::seeded(2)).await.unwrap();
    assert_eq!(session.device().url, kept.url);
    session.sign_out().await.unwrap();
    let mut session = Session::sign_in(again, access(&lab, "carol"), Random::seeded(3)).await.unwrap();
    assert_ne!(session.device().url, kept.url);
    let devices = session.send(device::List).await.unwrap();
    let ours = devices.iter().filter(|device| device.name.as_deref() == Some("session"));
    assert_eq!(ours.map(|device| &device.url).collect::<Vec<_>>(), [&session.device().url]);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_told_is_acknowledged_when_the_next_is_asked_for_and_no_sooner() {
    // A kind cloud sends again what was not acknowledged.
    let lab = lab_with(|options| options.kind = true).await;
    let mut carol = signed_in(&lab, "carol").await;
    let (first, second) = (say(&lab, "alice", "carol", "1").await, say(&lab, "alice", "carol", "2").await);
    assert_eq!(said(&mut carol).await.id.as_str(), first);
    assert_eq!(said(&mut carol).await.id.as_str(), second);
    // The acknowledgement of the first is written with the next turn of the socket; the second is owed still.
    assert!(tokio::time::timeout(std::time::Duration::from_secs(1), carol.key_service()).await.is_ok());
    let device = carol.device().clone();
    drop(carol);
    let mut again = config(&lab);
    again.device = Some(device);
    let mut carol = Session::sign_in(again, access(&lab, "carol"), Random::seeded(4)).await.unwrap();
    assert_eq!(said(&mut carol).await.id.as_str(), second);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn listings_of_several_clusters_and_newest_first_are_caught_up_whole() {
    let lab = lab().await;
    for (name, times) in [("newest-first", None), ("second-cluster", Some(1))] {
        fault(&lab, json!({"name": name, "on": true, "count": times}));
        let mut carol = signed_in(&lab, "carol").await;
        let mut said = Vec::new();
        for n in 0..130 {
            said.push(say(&lab, if n % 2 == 0 { "alice" } else { "bob" }, "carol", &n.to_string()).await);
        }
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let found = carol.catch_up(Timestamp(0)).await.unwrap();
        for id in &said {
            assert_eq!(found.iter().filter(|activity| activity.id.as_str() == id).count(), 1, "{name}");
        }
        carol.sign_out().await.unwrap();
    }
    lab.stop().await;
}
