//! Questions that are awaited: the caller's function is the way there and back.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]
#![allow(clippy::disallowed_methods, reason = "a clock must begin somewhere")]

mod common;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use common::*;
use kms_client::client::{AskError, RequestError, Timings};
use kms_client::message::Request;

/// The relays of these tests never wait, but for those that wait for ever.
fn polled<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn done<T>(future: impl Future<Output = T>) -> T {
    match polled(future) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn a_key_is_fetched_with_one_call_whatever_else_the_socket_brings() {
    let (mut kms, mut client, now) = (Kms::new(), client(Timings::default()), Instant::now());
    let relay = async |messages: Vec<String>, until: Instant| {
        assert!(until > now);
        let mut replies = vec!["rubbish".to_owned(), "a.b.c".to_owned(), "a.b.c.d.e".to_owned()];
        for message in messages {
            let reply = kms.answer(&message).unwrap();
            replies.extend([reply.clone(), reply]);
        }
        Ok::<_, ()>((replies, now))
    };
    let key = done(client.fetch_key(key_uri(1), now, relay)).unwrap();
    assert_eq!(key, key_bytes(&key_uri(1)));
    assert!(client.poll_message().is_none() && client.poll_event().is_none());
}

#[test]
fn a_key_is_made_for_people_and_the_call_that_binds_it_is_sealed() {
    let (mut kms, mut client, now) = (Kms::new(), client(Timings::default()), Instant::now());
    let relay = async |messages: Vec<String>, _| {
        let replies = messages.iter().map(|message| kms.answer(message).unwrap()).collect();
        Ok::<_, ()>((replies, now))
    };
    let users = vec![USER.to_owned(), "22222222-2222-4222-8222-222222222222".to_owned()];
    let (key, message) = done(client.make_key(users.clone(), now, relay)).unwrap();
    match kms.responder.open(&message).unwrap() {
        kms_client::responder::Incoming::Call(call) => {
            assert_eq!(call.received.request, Request::CreateResource { users, keys: vec![key] });
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_service_that_is_silent_is_given_up_in_time_by_the_callers_clock() {
    let (mut client, begin) = (client(Timings::default()), Instant::now());
    let (mut posted, mut last) = (0, begin);
    let relay = async |messages: Vec<String>, until: Instant| {
        posted += messages.len();
        last = until;
        Ok::<_, ()>((Vec::new(), until))
    };
    let silent = done(client.ask(Request::Ping, begin, relay));
    assert!(matches!(silent, Err(AskError::Request(RequestError::Silent))), "{silent:?}");
    assert!(posted > 1 && last - begin <= Timings::default().total, "{posted} in {:?}", last - begin);
}

#[test]
fn a_broken_way_and_a_dropped_question_leave_nothing_behind() {
    let (mut kms, mut client, now) = (Kms::new(), client(Timings::default()), Instant::now());
    let broken =
        done(client.ask(Request::Ping, now, async |_, _| Err::<(Vec<String>, Instant), _>("no way")));
    assert!(matches!(broken, Err(AskError::Relay("no way"))), "{broken:?}");
    let mut first = Vec::new();
    let never = async |messages: Vec<String>, _| {
        first.extend(messages);
        std::future::pending::<Result<(Vec<String>, Instant), ()>>().await
    };
    assert!(polled(client.ask(Request::Ping, now, never)).is_pending());
    let late = first.iter().map(|message| kms.answer(message).unwrap()).collect::<Vec<_>>();
    for reply in late {
        let _ = client.handle_reply(&reply, now);
    }
    assert!(client.poll_event().is_none() && client.poll_message().is_none(), "nothing waits any more");
    // And the next is answered, once the exchange that was lost is tried again.
    let mut clock = now;
    let relay = async |messages: Vec<String>, until: Instant| {
        if messages.is_empty() {
            clock = until;
        }
        let replies = messages.iter().map(|message| kms.answer(message).unwrap()).collect();
        Ok::<_, ()>((replies, clock))
    };
    assert_eq!(done(client.ask(Request::Ping, now, relay)).unwrap().status, 200);
}
