//! Both ends of the conversation with the KMS, with late, lost, repeated and forged replies.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod common;

use common::*;
use kms_client::client::{Event, Full, MAX_PENDING, ReplyError, RequestError, Timings};
use kms_client::jose::jwe::{self, ContentKey};
use kms_client::jose::{JweError, JwsError};
use kms_client::message::{Bearer, Request, Response};
use kms_client::responder::{Incoming, OpenError, Responder, StaticKey};
use kms_client::{SystemRandom, client};

fn retrieve(n: u32) -> Request {
    Request::RetrieveKey { key: key_uri(n) }
}

#[test]
fn nothing_is_negotiated_before_something_is_asked() {
    let mut pair = Pair::new();
    assert_eq!(pair.client.deadline(), None);
    assert!(pair.wait(seconds(7200)).is_empty());
    pair.submit(retrieve(1));
    assert_eq!(pair.sent().len(), 1, "the exchange, and nothing beside it");
}

#[test]
fn a_key_is_fetched_over_one_exchange() {
    let mut pair = Pair::new();
    let first = pair.submit(retrieve(1));
    pair.settle();
    assert_eq!(pair.answer(first).unwrap().key.unwrap().jwk.0.k, key_bytes(&key_uri(1)));
    let second = pair.submit(retrieve(2));
    let sent = pair.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(jwe::peek(&sent[0]).unwrap().alg, "dir", "the ephemeral key is used again");
    let answer = pair.kms.answer(&sent[0]).unwrap();
    pair.client.handle_reply(&answer, pair.now).unwrap();
    assert_eq!(pair.answer(second).unwrap().key.unwrap().uri, key_uri(2));
}

#[test]
fn every_kind_of_request_is_answered() {
    let users = vec![USER.to_owned(), "22222222-2222-4222-8222-222222222222".to_owned()];
    let resource = resource_uri();
    for request in [
        Request::CreateKeys { count: 3 },
        retrieve(1),
        Request::CreateResource { users: users.clone(), keys: vec![key_uri(1)] },
        Request::BindKey { key: key_uri(1), resource: resource.clone() },
        Request::CreateAuthorizations { resource: resource.clone(), users },
        Request::DeleteAuthorization { resource: resource.clone(), user: USER.into() },
        Request::ListAuthorizations { resource },
        Request::Ping,
    ] {
        let mut pair = Pair::new();
        let id = pair.submit(request.clone());
        pair.settle();
        let response = pair.answer(id).unwrap_or_else(|error| panic!("{request:?}: {error}"));
        assert!((200..300).contains(&response.status), "{request:?}: {response:?}");
    }
}

#[test]
fn the_headers_are_those_that_the_cloud_expects() {
    let mut pair = Pair::new();
    pair.submit(retrieve(1));
    let header = |message: &str| {
        use base64::Engine;
        let part = message.split('.').next().unwrap();
        String::from_utf8(base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let exchange = pair.sent().remove(0);
    assert_eq!(header(&exchange), r#"{"enc":"A256GCM","alg":"RSA-OAEP","kid":"kms://kms.example/server"}"#);
    let answer = pair.kms.answer(&exchange).unwrap();
    assert_eq!(header(&answer), r#"{"alg":"RS256","kid":"kms://kms.example/server"}"#);
    pair.client.handle_reply(&answer, pair.now).unwrap();
    let request = pair.sent().remove(0);
    let wanted = r#"{"enc":"A256GCM","alg":"dir","kid":"kms://kms.example/ecdhe/context-1"}"#;
    assert_eq!(header(&request), wanted);
    assert_eq!(header(&pair.kms.answer(&request).unwrap()), wanted);
}

#[test]
fn a_lost_request_is_sent_again_with_another_id() {
    let mut pair = Pair::new();
    let id = pair.submit(retrieve(1));
    let exchange = pair.sent().remove(0);
    let answer = pair.kms.answer(&exchange).unwrap();
    pair.client.handle_reply(&answer, pair.now).unwrap();
    let lost = pair.sent().remove(0);
    assert!(pair.wait(seconds(5)).is_empty());
    let again = pair.wait(seconds(1));
    assert_eq!(again.len(), 1);
    let request_id = |message: &str| match pair.kms.responder.open(message).unwrap() {
        Incoming::Call(call) => call.received.request_id,
        other => panic!("{other:?}"),
    };
    assert_ne!(request_id(&lost), request_id(&again[0]));
    let answer = pair.kms.answer(&again[0]).unwrap();
    pair.client.handle_reply(&answer, pair.now).unwrap();
    assert!(pair.answer(id).is_ok());
    assert_eq!(pair.client.handle_reply(&answer, pair.now), Err(ReplyError::UnknownRequest));
    assert!(pair.events().is_empty(), "a repeated reply changes nothing");
}

#[test]
fn a_late_reply_to_an_earlier_attempt_counts() {
    let mut pair = Pair::new();
    let id = pair.submit(retrieve(1));
    let first = pair.sent().remove(0);
    let second = pair.wait(seconds(6)).remove(0);
    // The answer to the first exchange comes after the second was asked for.
    let late = pair.kms.answer(&first).unwrap();
    pair.client.handle_reply(&late, pair.now).unwrap();
    let request = pair.sent().remove(0);
    let other = pair.kms.answer(&second).unwrap();
    assert_eq!(pair.client.handle_reply(&other, pair.now), Err(ReplyError::UnknownRequest));
    let late = pair.kms.answer(&request).unwrap();
    let again = pair.wait(seconds(6));
    assert_eq!(again.len(), 1);
    pair.client.handle_reply(&late, pair.now).unwrap();
    assert!(pair.answer(id).is_ok());
    let after = pair.kms.answer(&again[0]).unwrap();
    assert_eq!(pair.client.handle_reply(&after, pair.now), Err(ReplyError::UnknownRequest));
}

#[test]
fn a_silent_kms_fails_everything_after_a_bounded_time() {
    let mut pair = Pair::new();
    let ids = [pair.submit(retrieve(1)), pair.submit(retrieve(2))];
    assert_eq!(pair.sent().len(), 1);
    // 6, 12 and 24 seconds; then the next wait would be more than 32.
    assert_eq!(pair.wait(seconds(6)).len(), 1);
    assert_eq!(pair.wait(seconds(12)).len(), 1);
    assert!(pair.wait(seconds(23)).is_empty());
    assert!(pair.events().is_empty());
    pair.wait(seconds(1));
    for (event, id) in pair.events().into_iter().zip(ids) {
        assert!(
            matches!(event, Event::Answered { id: i, outcome: Err(RequestError::Silent) } if i == id),
            "{event:?}"
        );
    }
    assert_eq!(pair.client.deadline(), None);
    assert!(pair.wait(seconds(7200)).is_empty(), "and then there is silence on our side, too");
    // When it is back, so are we.
    let id = pair.submit(retrieve(3));
    pair.settle();
    assert!(pair.answer(id).is_ok());
}

#[test]
fn a_kms_that_falls_silent_is_negotiated_with_anew() {
    let mut pair = Pair::new();
    let warm = pair.submit(Request::Ping);
    pair.settle();
    pair.answer(warm).unwrap();
    let id = pair.submit(retrieve(1));
    pair.sent();
    assert_eq!(pair.wait(seconds(6)).len(), 1);
    assert_eq!(pair.wait(seconds(12)).len(), 1);
    let exchange = pair.wait(seconds(24));
    assert_eq!(exchange.len(), 1);
    assert_eq!(jwe::peek(&exchange[0]).unwrap().alg, "RSA-OAEP");
    let answer = pair.kms.answer(&exchange[0]).unwrap();
    pair.client.handle_reply(&answer, pair.now).unwrap();
    pair.settle();
    assert!(pair.answer(id).is_ok());
}

#[test]
fn one_request_never_waits_longer_than_the_total() {
    let mut pair = Pair::new();
    let warm = pair.submit(Request::Ping);
    pair.settle();
    pair.answer(warm).unwrap();
    let id = pair.submit(retrieve(1));
    pair.sent();
    for _ in 0..95 {
        for message in pair.wait(seconds(1)) {
            // It answers the exchange, but nothing else.
            if jwe::peek(&message).unwrap().alg == "RSA-OAEP" {
                let answer = pair.kms.answer(&message).unwrap();
                pair.client.handle_reply(&answer, pair.now).unwrap();
            }
        }
        assert!(pair.events().is_empty());
    }
    pair.wait(seconds(1));
    assert_eq!(pair.answer(id), Err(RequestError::Silent));
}

#[test]
fn the_waits_can_be_divided() {
    let mut pair = Pair::new();
    pair.client = client(Timings::default().divided(20));
    let id = pair.submit(retrieve(1));
    pair.sent();
    assert_eq!(pair.wait(std::time::Duration::from_millis(300)).len(), 1);
    pair.wait(seconds(3));
    assert_eq!(pair.answer(id), Err(RequestError::Silent));
}

#[test]
fn the_ephemeral_key_is_dropped_before_it_expires() {
    let mut pair = Pair::new();
    let id = pair.submit(retrieve(1));
    pair.settle();
    pair.answer(id).unwrap();
    assert!(pair.wait(seconds(3569)).is_empty());
    assert!(pair.client.is_ready());
    assert!(pair.wait(seconds(1)).is_empty(), "nothing is asked, so nothing is negotiated");
    assert!(!pair.client.is_ready());
    let id = pair.submit(retrieve(2));
    let sent = pair.sent();
    assert_eq!(jwe::peek(&sent[0]).unwrap().alg, "RSA-OAEP");
    let answer = pair.kms.answer(&sent[0]).unwrap();
    pair.client.handle_reply(&answer, pair.now).unwrap();
    pair.settle();
    assert!(pair.answer(id).is_ok());
}

#[test]
fn a_reply_with_the_ephemeral_key_before_the_present_one_still_counts() {
    let mut pair = Pair::new();
    let warm = pair.submit(Request::Ping);
    pair.settle();
    pair.answer(warm).unwrap();
    pair.wait(seconds(3569));
    let id = pair.submit(retrieve(1));
    let request = pair.sent().remove(0);
    let reply = pair.kms.answer(&request).unwrap();
    pair.wait(seconds(2));
    assert!(!pair.client.is_ready());
    pair.client.handle_reply(&reply, pair.now).unwrap();
    assert!(pair.answer(id).is_ok());
}

#[test]
fn a_kms_that_forgot_us_is_negotiated_with_anew() {
    let mut pair = Pair::new();
    let warm = pair.submit(Request::Ping);
    pair.settle();
    pair.answer(warm).unwrap();
    pair.kms.forget(1);
    pair.wait(seconds(10));
    let id = pair.submit(retrieve(1));
    let request = pair.sent().remove(0);
    assert_eq!(
        pair.kms.answer(&request),
        Err(OpenError::UnknownContext("kms://kms.example/ecdhe/context-1".into()))
    );
    let refusal = pair.kms.responder.refuse(403, "", "unknown key").unwrap();
    pair.client.handle_reply(&refusal, pair.now).unwrap();
    pair.settle();
    assert!(pair.answer(id).is_ok());
}

#[test]
fn a_replayed_refusal_does_not_make_us_negotiate_again_and_again() {
    let mut pair = Pair::new();
    let refusal = pair.kms.responder.refuse(403, "", "unknown key").unwrap();
    let id = pair.submit(retrieve(1));
    pair.settle();
    pair.answer(id).unwrap();
    assert_eq!(pair.client.handle_reply(&refusal, pair.now), Err(ReplyError::UnknownRequest));
    assert!(pair.client.is_ready());
    let other = pair.kms.responder.refuse(403, "somebody else's", "unknown key").unwrap();
    pair.wait(seconds(60));
    assert_eq!(pair.client.handle_reply(&other, pair.now), Err(ReplyError::UnknownRequest));
    assert!(pair.client.is_ready());
}

#[test]
fn a_refused_exchange_fails_what_waits_with_the_reason() {
    let mut pair = Pair::new();
    let id = pair.submit(retrieve(1));
    let exchange = pair.sent().remove(0);
    let Incoming::Exchange(exchange) = pair.kms.responder.open(&exchange).unwrap() else { panic!() };
    let refusal = pair.kms.responder.refuse(401, &exchange.request_id, "token expired").unwrap();
    pair.client.handle_reply(&refusal, pair.now).unwrap();
    let refused = RequestError::ExchangeRefused { status: 401, reason: Some("token expired".into()) };
    assert_eq!(pair.answer(id), Err(refused));
    // With a new token it goes on.
    pair.client.set_bearer(Bearer::new("canary-token"));
    let id = pair.submit(retrieve(1));
    pair.settle();
    assert!(pair.answer(id).is_ok());
}

#[test]
fn a_refused_request_fails_alone() {
    let mut pair = Pair::new();
    let ids = [pair.submit(retrieve(1)), pair.submit(retrieve(2))];
    let exchange = pair.sent().remove(0);
    let answer = pair.kms.answer(&exchange).unwrap();
    pair.client.handle_reply(&answer, pair.now).unwrap();
    for (n, message) in pair.sent().into_iter().enumerate() {
        let Incoming::Call(call) = pair.kms.responder.open(&message).unwrap() else { panic!() };
        let reply = if n == 0 {
            let refusal = Response { error_code: Some(405_005), ..Response::refusal(405, "", "key revoked") };
            pair.kms.responder.answer(&call, refusal).unwrap()
        } else {
            pair.kms.reply(&call)
        };
        pair.client.handle_reply(&reply, pair.now).unwrap();
    }
    let events = pair.events();
    assert_eq!(events.len(), 2);
    for (event, wanted) in events.into_iter().zip(ids) {
        let Event::Answered { id, outcome } = event else { panic!() };
        assert_eq!(id, wanted);
        match outcome {
            Err(RequestError::Refused { status: 405, error_code: Some(405_005), .. }) => {
                assert_eq!(id, ids[0]);
            }
            Ok(response) => assert_eq!(response.key.unwrap().uri, key_uri(2)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_key_that_moved_is_followed_but_not_for_ever() {
    let mut pair = Pair::new();
    let id = pair.submit(retrieve(1));
    let exchange = pair.sent().remove(0);
    let answer = pair.kms.answer(&exchange).unwrap();
    pair.client.handle_reply(&answer, pair.now).unwrap();
    for (n, status) in [(2, 301), (3, 400), (4, 301)] {
        let message = pair.sent().remove(0);
        let Incoming::Call(call) = pair.kms.responder.open(&message).unwrap() else { panic!() };
        assert_eq!(call.received.request, retrieve(n - 1));
        let moved = Response {
            error_code: Some(301_002),
            redirect_uri: Some(key_uri(n)),
            ..Response::refusal(status, "", "moved")
        };
        let reply = pair.kms.responder.answer(&call, moved).unwrap();
        pair.client.handle_reply(&reply, pair.now).unwrap();
        assert!(pair.events().is_empty());
    }
    let message = pair.sent().remove(0);
    let Incoming::Call(call) = pair.kms.responder.open(&message).unwrap() else { panic!() };
    let moved = Response { redirect_uri: Some(key_uri(9)), ..Response::refusal(301, "", "moved") };
    let reply = pair.kms.responder.answer(&call, moved).unwrap();
    pair.client.handle_reply(&reply, pair.now).unwrap();
    assert!(matches!(pair.answer(id), Err(RequestError::Refused { status: 301, .. })));
}

#[test]
fn another_key_than_the_one_asked_for_is_not_taken() {
    let mut pair = Pair::new();
    let id = pair.submit(retrieve(1));
    let exchange = pair.sent().remove(0);
    let answer = pair.kms.answer(&exchange).unwrap();
    pair.client.handle_reply(&answer, pair.now).unwrap();
    let message = pair.sent().remove(0);
    let Incoming::Call(call) = pair.kms.responder.open(&message).unwrap() else { panic!() };
    let wrong = Response { key: Some(key(&key_uri(2))), ..Response::new(200, "") };
    let reply = pair.kms.responder.answer(&call, wrong).unwrap();
    pair.client.handle_reply(&reply, pair.now).unwrap();
    assert_eq!(pair.answer(id), Err(RequestError::Unexpected));
}

#[test]
fn a_request_is_wrapped_for_another_call_and_its_answer_unwrapped() {
    let mut pair = Pair::new();
    let request = Request::CreateResource { users: vec![USER.into()], keys: vec![key_uri(1)] };
    let id = pair.client.wrap(request.clone(), pair.now).unwrap();
    pair.settle();
    let [Event::Wrapped { id: wrapped, message, reply }] = &pair.events()[..] else { panic!() };
    assert_eq!(*wrapped, id);
    assert_eq!(pair.client.deadline(), Some(pair.now + seconds(3570)), "only the ephemeral key's end");
    let Incoming::Call(call) = pair.kms.responder.open(message).unwrap() else { panic!() };
    assert_eq!(call.received.request, request);
    let answer = pair.kms.reply(&call);
    let response = pair.client.unwrap(reply, &answer).unwrap();
    assert_eq!(response.resource.unwrap().uri, resource_uri());
    assert_eq!(pair.client.unwrap("another", &answer), Err(ReplyError::UnknownRequest));
    assert_eq!(pair.client.unwrap(reply, "no message"), Err(ReplyError::Jwe(JweError::Shape)));
}

#[test]
fn a_wrap_fails_when_the_kms_is_silent() {
    let mut pair = Pair::new();
    let id = pair.client.wrap(Request::Ping, pair.now).unwrap();
    pair.wait(seconds(42));
    assert_eq!(pair.answer(id), Err(RequestError::Silent));
}

#[test]
fn forged_replies_change_nothing() {
    let mut pair = Pair::new();
    let id = pair.submit(retrieve(1));
    let exchange = pair.sent().remove(0);
    let Incoming::Exchange(asked) = pair.kms.responder.open(&exchange).unwrap() else { panic!() };

    // Somebody else's static key.
    let key = StaticKey::from_pkcs8(OTHER_KEY, KID, Vec::new()).unwrap();
    let mut forger = Responder::new(key, Box::new(SystemRandom::new()));
    let forged = forger.agree(&asked, "forged", CREATED, EXPIRES).unwrap();
    assert_eq!(pair.client.handle_reply(&forged, pair.now), Err(ReplyError::Jws(JwsError::Signature)));
    for nonsense in ["", "a.b.c", "a.b.c.d.e", "..", "....", "x".repeat(3_000_000).as_str()] {
        assert!(pair.client.handle_reply(nonsense, pair.now).is_err());
    }
    assert!(!pair.client.is_ready());

    let answer = pair.kms.answer(&exchange).unwrap();
    pair.client.handle_reply(&answer, pair.now).unwrap();
    assert_eq!(
        pair.client.handle_reply(&answer, pair.now),
        Err(ReplyError::UnknownRequest),
        "an exchange is answered once"
    );
    let request = pair.sent().remove(0);
    let reply = pair.kms.answer(&request).unwrap();

    // Sealed with a key that is not the ephemeral one, but names it.
    let body = br#"{"status":200,"requestId":"x"}"#;
    let kid = "kms://kms.example/ecdhe/context-1";
    let forged = jwe::seal_for(&ContentKey::new([7; 32]), kid, &[1; 12], body).unwrap();
    assert_eq!(pair.client.handle_reply(&forged, pair.now), Err(ReplyError::Jwe(JweError::Authentication)));
    let forged = jwe::seal_for(&ContentKey::new([7; 32]), "kms://x/ecdhe/y", &[1; 12], body).unwrap();
    assert_eq!(pair.client.handle_reply(&forged, pair.now), Err(ReplyError::UnknownKey));
    let (sealed, tag) = reply.rsplit_once('.').unwrap();
    let changed = format!("{sealed}.{}{}", if tag.starts_with('A') { 'B' } else { 'A' }, &tag[1..]);
    assert_eq!(pair.client.handle_reply(&changed, pair.now), Err(ReplyError::Jwe(JweError::Authentication)));
    assert!(pair.events().is_empty());
    pair.client.handle_reply(&reply, pair.now).unwrap();
    assert!(pair.answer(id).is_ok());
}

#[test]
fn an_answer_without_a_usable_half_leaves_the_next_attempt() {
    for (crv, x) in [("P-384", [1; 32].as_slice()), ("P-256", &[1; 31]), ("P-256", &[1; 32])] {
        let mut pair = Pair::new();
        let id = pair.submit(retrieve(1));
        let exchange = pair.sent().remove(0);
        let Incoming::Exchange(asked) = pair.kms.responder.open(&exchange).unwrap() else { panic!() };
        let b64 = |bytes: &[u8]| {
            use base64::Engine;
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
        };
        let body = format!(
            r#"{{"status":201,"requestId":"{}","key":{{"uri":"kms://kms.example/ecdhe/1",
                "jwk":{{"kty":"EC","crv":"{crv}","x":"{}","y":"{}"}}}}}}"#,
            asked.request_id,
            b64(x),
            b64(&[2; 32])
        );
        let key = kms_client::jose::jwk::RsaPrivateKey::from_pkcs8(STATIC_KEY).unwrap();
        let answer = kms_client::jose::jws::sign(&key, KID, body.as_bytes()).unwrap();
        assert!(matches!(
            pair.client.handle_reply(&answer, pair.now),
            Err(ReplyError::Exchange(client_error)) if client_error.to_string().contains("usable")
        ));
        let again = pair.wait(seconds(6)).remove(0);
        let answer = pair.kms.answer(&again).unwrap();
        pair.client.handle_reply(&answer, pair.now).unwrap();
        pair.settle();
        assert!(pair.answer(id).is_ok());
    }
}

#[test]
fn an_ephemeral_key_that_has_expired_already_is_not_taken() {
    let mut pair = Pair::new();
    pair.kms.expires = CREATED;
    let id = pair.submit(retrieve(1));
    let exchange = pair.sent().remove(0);
    let answer = pair.kms.answer(&exchange).unwrap();
    assert!(pair.client.handle_reply(&answer, pair.now).is_err());
    assert!(pair.sent().is_empty(), "no endless loop of exchanges");
    pair.wait(seconds(42));
    assert_eq!(pair.answer(id), Err(RequestError::Silent));
}

#[test]
fn what_was_abandoned_is_over() {
    let mut pair = Pair::new();
    pair.submit(retrieve(1));
    let exchange = pair.sent().remove(0);
    pair.submit(retrieve(2));
    pair.client.abandon();
    assert_eq!(pair.client.deadline(), None);
    assert!(pair.sent().is_empty() && pair.events().is_empty());
    let late = pair.kms.answer(&exchange).unwrap();
    assert_eq!(pair.client.handle_reply(&late, pair.now), Err(ReplyError::UnknownRequest));
    let id = pair.submit(retrieve(3));
    pair.settle();
    assert!(pair.answer(id).is_ok());
    // The ephemeral key stays when there is one.
    pair.submit(retrieve(4));
    pair.sent();
    pair.client.abandon();
    assert!(pair.client.is_ready() && pair.events().is_empty());
}

#[test]
fn what_waits_is_bounded() {
    let mut pair = Pair::new();
    for n in 0..MAX_PENDING {
        pair.submit(retrieve(u32::try_from(n).unwrap()));
    }
    assert_eq!(pair.client.submit(Request::Ping, pair.now), Err(Full));
    assert_eq!(pair.client.wrap(Request::Ping, pair.now), Err(Full));
    pair.settle();
    assert_eq!(pair.events().len(), MAX_PENDING);
    assert!(pair.client.submit(Request::Ping, pair.now).is_ok());
}

#[test]
fn one_device_cannot_use_the_ephemeral_key_of_another() {
    let mut pair = Pair::new();
    let id = pair.submit(retrieve(1));
    let exchange = pair.sent().remove(0);
    let answer = pair.kms.answer(&exchange).unwrap();
    // The same key under another user's name.
    let mut thief = asker();
    thief.user = "99999999-9999-4999-8999-999999999999".into();
    let mut other =
        client::Client::new(thief, trusted(&static_key()), Timings::default(), Box::new(SystemRandom::new()));
    other.submit(Request::Ping, pair.now).unwrap();
    assert_eq!(other.handle_reply(&answer, pair.now), Err(ReplyError::UnknownRequest));
    pair.client.handle_reply(&answer, pair.now).unwrap();
    pair.settle();
    assert!(pair.answer(id).is_ok());
}

#[test]
fn no_secret_is_printed() {
    let mut pair = Pair::new();
    let id = pair.submit(Request::CreateKeys { count: 1 });
    pair.settle();
    let response = pair.answer(id).unwrap();
    let secret = serde_json::to_value(&response.keys[0]).unwrap()["jwk"]["k"].as_str().unwrap().to_owned();
    for printed in [
        format!("{:?}", pair.client),
        format!("{:?}", pair.kms.responder),
        format!("{response:?}"),
        format!("{:?}", asker()),
        format!("{:?}", static_key()),
        format!("{:?}", kms_client::jose::jwk::RsaPrivateKey::from_pkcs8(STATIC_KEY).unwrap()),
    ] {
        assert!(!printed.contains(&secret), "{printed}");
        assert!(!printed.contains("canary-token"), "{printed}");
        assert!(printed.len() < 1500, "{printed}");
    }
}
