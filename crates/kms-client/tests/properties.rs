//! What holds for all inputs: nothing panics, what is sealed opens, what is written is read, each request ends once.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::*;
use kms_client::client::{Event, MAX_PENDING};
use kms_client::jose::jwe::{self, ContentKey};
use kms_client::jose::jwk::Jwk;
use kms_client::jose::jws;
use kms_client::message::{Received, Request, Response};
use kms_client::uri::{ClusterUri, EphemeralUri, KeyUri, ResourceUri};
use proptest::prelude::*;

fn requests() -> impl Strategy<Value = Request> {
    let users = || prop::collection::vec("[0-9a-f-]{1,36}", 0..4);
    let key = || (0_u32..9).prop_map(key_uri);
    let resource = || Just(resource_uri());
    prop_oneof![
        (1_u32..100).prop_map(|count| Request::CreateKeys { count }),
        key().prop_map(|key| Request::RetrieveKey { key }),
        (users(), prop::collection::vec(key(), 0..3))
            .prop_map(|(users, keys)| Request::CreateResource { users, keys }),
        (key(), resource()).prop_map(|(key, resource)| Request::BindKey { key, resource }),
        (resource(), users()).prop_map(|(resource, users)| Request::CreateAuthorizations { resource, users }),
        (resource(), "[0-9a-f-]{1,36}")
            .prop_map(|(resource, user)| Request::DeleteAuthorization { resource, user }),
        resource().prop_map(|resource| Request::ListAuthorizations { resource }),
        Just(Request::Ping),
    ]
}

/// What can happen to a client, and in which order does not matter.
#[derive(Clone, Debug)]
enum Step {
    Submit(Request),
    /// The n-th message that is under way arrives, and its answer does, too.
    Answer(usize),
    /// It arrives and its answer is kept, to come late.
    Delay(usize),
    Lose(usize),
    /// A reply that came or was kept before comes, perhaps again.
    Repeat(usize),
    Garbage(String),
    Wait(u64),
    Forget(u32),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => requests().prop_map(Step::Submit),
        6 => (0_usize..9).prop_map(Step::Answer),
        2 => (0_usize..9).prop_map(Step::Delay),
        2 => (0_usize..9).prop_map(Step::Lose),
        2 => (0_usize..9).prop_map(Step::Repeat),
        1 => ".*".prop_map(Step::Garbage),
        2 => (0_u64..60).prop_map(Step::Wait),
        1 => (0_u32..60).prop_map(|n| Step::Wait(u64::from(n) * 100)),
        1 => (1_u32..4).prop_map(Step::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sealed_opens_with_its_key_alone(
        key: [u8; 32], other: [u8; 32], iv: [u8; 12], text in prop::collection::vec(any::<u8>(), 0..2000)
    ) {
        let sealed = jwe::seal(&ContentKey::new(key), &iv, &text).unwrap();
        prop_assert_eq!(&sealed, &jwe::seal(&ContentKey::new(key), &iv, &text).unwrap());
        prop_assert_eq!(jwe::iv(&sealed), Some(iv));
        let opened = jwe::open(&ContentKey::new(key), &sealed).unwrap();
        prop_assert_eq!(opened.as_slice(), &text[..]);
        prop_assert_eq!(jwe::open(&ContentKey::new(other), &sealed).is_ok(), key == other);
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in ".*", parts in prop::collection::vec("[A-Za-z0-9_-]{0,20}", 0..7)) {
        let key = ContentKey::new([1; 32]);
        let static_key = static_key();
        for text in [text, parts.join(".")] {
            let _ = jwe::open(&key, &text);
            let _ = jwe::peek(&text);
            let _ = jwe::iv(&text);
            let _ = jws::verify(&static_key.jwk(), &text);
            let _ = jws::kid(&text);
            let _ = Jwk::parse(&text);
            let _ = Response::parse(text.as_bytes());
            let _ = Received::parse(text.as_bytes());
            let _ = text.parse::<KeyUri>();
            let _ = ClusterUri::of(&text);
        }
    }

    #[test]
    fn any_json_is_read_or_refused(
        method in "[a-z]{0,8}", uri in ".{0,40}", known in requests(), cut in 0_usize..300
    ) {
        let json = serde_json::json!({"method": method, "uri": uri, "requestId": "r",
            "client": {"clientId": "d", "credential": {"userId": "u", "bearer": "b"}}});
        let _ = Received::parse(json.to_string().as_bytes());
        let whole = known.to_json("r", &asker());
        let _ = Received::parse(&whole[..cut.min(whole.len())]);
    }

    #[test]
    fn requests_are_read_as_they_were_written(request in requests()) {
        let received = Received::parse(&request.to_json("id-1", &asker())).unwrap();
        prop_assert_eq!(received.request, request);
        prop_assert_eq!(received.request_id, "id-1");
        prop_assert_eq!(received.asker.user, USER);
        prop_assert_eq!(received.asker.device, DEVICE);
        prop_assert_eq!(received.asker.bearer.as_str(), "canary-token");
    }

    #[test]
    fn names_are_kept_as_they_were_written(host in "[a-z0-9.-]{1,20}", id in "[A-Za-z0-9_-]{1,40}") {
        let cluster: ClusterUri = format!("kms://{host}").parse().unwrap();
        prop_assert_eq!(cluster.host(), &host);
        let key = KeyUri::new(&cluster, &id).unwrap();
        prop_assert_eq!(key.as_str(), format!("kms://{host}/keys/{id}"));
        prop_assert_eq!(key.cluster(), cluster);
        prop_assert!(key.as_str().parse::<ResourceUri>().is_err());
        prop_assert!(key.as_str().parse::<EphemeralUri>().is_err());
        prop_assert!(key.as_str().parse::<ClusterUri>().is_err());
    }

    #[test]
    fn each_request_ends_exactly_once_and_in_bounded_time(
        steps in prop::collection::vec(steps(), 0..60)
    ) {
        let mut pair = Pair::new();
        let mut under_way: Vec<String> = Vec::new();
        let mut replies: Vec<String> = Vec::new();
        let mut open = BTreeMap::new();
        for step in steps {
            match step {
                Step::Submit(request) if open.len() < MAX_PENDING => {
                    open.insert(pair.submit(request), pair.now);
                }
                Step::Answer(n) | Step::Delay(n) | Step::Lose(n) if n < under_way.len() => {
                    let message = under_way.remove(n);
                    if let (Step::Answer(_) | Step::Delay(_), Ok(reply)) = (&step, pair.kms.answer(&message)) {
                        if matches!(step, Step::Answer(_)) {
                            let _ = pair.client.handle_reply(&reply, pair.now);
                        }
                        replies.push(reply);
                    }
                }
                Step::Repeat(n) if n < replies.len() => {
                    let _ = pair.client.handle_reply(&replies[n], pair.now);
                }
                Step::Garbage(text) => prop_assert!(pair.client.handle_reply(&text, pair.now).is_err()),
                Step::Wait(seconds) => under_way.extend(pair.wait(Duration::from_secs(seconds))),
                Step::Forget(n) => pair.kms.forget(n),
                _ => {}
            }
            under_way.extend(pair.sent());
            for event in pair.events() {
                let Event::Answered { id, .. } = event else { panic!("{event:?}") };
                prop_assert!(open.remove(&id).is_some(), "{:?} ended twice", id);
            }
            for asked in open.values() {
                prop_assert!(pair.now < *asked + seconds(96));
            }
        }
        pair.wait(seconds(96));
        for event in pair.events() {
            let Event::Answered { id, .. } = event else { panic!("{event:?}") };
            prop_assert!(open.remove(&id).is_some());
        }
        prop_assert!(open.is_empty(), "{:?} never ended", open);
    }
}
