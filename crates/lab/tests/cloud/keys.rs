//! The key service: whom it answers, and what it gives to whom.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use kms_client::{
    SystemRandom,
    client::{Client, Event, RequestError, Timings},
    message::{Asker, Bearer, Request, Response},
    trust::Trust,
};
use lab::Lab;
use rustls::pki_types::UnixTime;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Socket, device, direct, fault, get, lab, send, token, user};

/// A device with its socket and its own exchange with the key service.
struct Party<'a> {
    lab: &'a Lab,
    name: &'a str,
    socket: Socket,
    client: Client,
}

impl<'a> Party<'a> {
    async fn new(lab: &'a Lab, name: &'a str) -> Self {
        let device = device(lab, name).await;
        let socket = Socket::ready(lab, &device, name).await;
        let me = user(lab, name);
        let info =
            get(lab, &format!("/encryption/api/v1/kms/{}", me.person_id), &token(lab, name)).await.body;
        let cluster = info["kmsCluster"].as_str().unwrap().parse().unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_714_557_600));
        let key =
            Trust::danger_any_chain().check(&cluster, info["rsaPublicKey"].as_str().unwrap(), now).unwrap();
        let asker = Asker {
            device: device["url"].as_str().unwrap().to_owned(),
            user: me.person_id,
            bearer: Bearer::new(me.access_token),
        };
        let client = Client::new(asker, key, Timings::default(), Box::new(SystemRandom::new()));
        Self { lab, name, socket, client }
    }

    async fn ask(&mut self, request: Request) -> Result<Box<Response>, RequestError> {
        self.client.submit(request, Instant::now().into_std()).unwrap();
        loop {
            while let Some(message) = self.client.poll_message() {
                let body = json!({"destination": "kms://kms.lab.example", "kmsMessages": [message]});
                send(self.lab, "POST", "/encryption/api/v1/kms/messages", &token(self.lab, self.name), body)
                    .await;
            }
            if let Some(Event::Answered { outcome, .. }) = self.client.poll_event() {
                return outcome;
            }
            let deadline = self.client.deadline().map_or(Instant::now(), Instant::from_std);
            match tokio::time::timeout_at(deadline, self.socket.read()).await {
                Ok(frame) => {
                    for message in
                        frame.unwrap()["data"]["encryption"]["kmsMessages"].as_array().into_iter().flatten()
                    {
                        // What is passed over is asked for again.
                        let _ =
                            self.client.handle_reply(message.as_str().unwrap(), Instant::now().into_std());
                    }
                }
                Err(_) => self.client.handle_timeout(Instant::now().into_std()),
            }
        }
    }
}

fn status(outcome: Result<Box<Response>, RequestError>) -> u16 {
    match outcome {
        Ok(response) => response.status,
        Err(RequestError::Refused { status, .. }) => status,
        Err(error) => panic!("{error}"),
    }
}

fn key_of(conversation: &Value) -> Request {
    Request::RetrieveKey {
        key: conversation["defaultActivityEncryptionKeyUrl"].as_str().unwrap().parse().unwrap(),
    }
}

#[tokio::test(start_paused = true)]
async fn members_get_a_conversations_key_and_a_stranger_does_not() {
    let lab = lab().await;
    let conversation = direct(&lab, "alice", "bob").await;
    for (name, expected) in [("alice", 200), ("bob", 200), ("carol", 403), ("heidi", 403)] {
        let outcome = Party::new(&lab, name).await.ask(key_of(&conversation)).await;
        assert_eq!(status(outcome), expected, "{name}");
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unbound_key_is_its_makers_and_binding_opens_it() {
    let lab = lab().await;
    let (mut alice, mut bob) = (Party::new(&lab, "alice").await, Party::new(&lab, "bob").await);
    let key = alice.ask(Request::CreateKeys { count: 2 }).await.unwrap().keys[0].uri.clone();
    let retrieve = || Request::RetrieveKey { key: key.clone() };
    assert_eq!(status(bob.ask(retrieve()).await), 403);
    let users = vec![user(&lab, "alice").person_id];
    let made = alice.ask(Request::CreateResource { users, keys: vec![key.clone()] }).await.unwrap();
    let resource = made.resource.unwrap().uri;
    assert_eq!(status(bob.ask(retrieve()).await), 403);
    let users = vec![user(&lab, "bob").person_id];
    let add = |resource| Request::CreateAuthorizations { resource, users: users.clone() };
    assert_eq!(status(bob.ask(add(resource.clone())).await), 403, "nobody lets himself in");
    assert_eq!(status(alice.ask(add(resource.clone())).await), 201);
    assert_eq!(status(bob.ask(retrieve()).await), 200);
    let user = users[0].clone();
    assert_eq!(status(alice.ask(Request::DeleteAuthorization { resource, user }).await), 200);
    assert_eq!(status(bob.ask(retrieve()).await), 403);
    assert_eq!(status(bob.ask(Request::CreateKeys { count: 501 }).await), 400);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_the_asking_device_is_answered() {
    let lab = lab().await;
    let other = device(&lab, "alice").await;
    let mut other = Socket::ready(&lab, &other, "alice").await;
    let mut party = Party::new(&lab, "alice").await;
    assert_eq!(status(party.ask(Request::Ping).await), 200);
    assert!(other.soon().await.is_none());
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_forged_asker_is_refused() {
    let lab = lab().await;
    let conversation = direct(&lab, "alice", "bob").await;
    let mut carol = Party::new(&lab, "carol").await;
    assert_eq!(status(carol.ask(Request::Ping).await), 200);
    // A token that is no token any more: the message opens, the answer is no.
    carol.client.set_bearer(Bearer::new("lab_bob.999_x"));
    assert_eq!(status(carol.ask(key_of(&conversation)).await), 403);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn lost_late_garbled_and_forgotten_are_got_over() {
    let lab = lab().await;
    let mut party = Party::new(&lab, "alice").await;
    for name in ["kms-drop", "kms-delay", "kms-garble", "kms-forget"] {
        fault(&lab, json!({"name": name, "on": true, "count": 1, "person": "alice"}));
        assert_eq!(status(party.ask(Request::Ping).await), 200, "{name}");
    }
    fault(&lab, json!({"name": "kms-deny-key", "on": true, "count": 1}));
    let key = party.ask(Request::CreateKeys { count: 1 }).await.unwrap().keys[0].uri.clone();
    assert_eq!(status(party.ask(Request::RetrieveKey { key }).await), 403);
    lab.ctx().clock.advance(Duration::from_secs(3_601));
    assert_eq!(status(party.ask(Request::Ping).await), 200, "the ephemeral key has expired and is made anew");
    lab.stop().await;
}
