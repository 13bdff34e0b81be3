//! The key service: whom it answers, and what it gives to whom.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use kms_client::{
    SystemRandom,
    client::{Client, Event, RequestError, Timings},
    message::{Asker, Bearer, Request, Response},
    trust::Trust,
    uri::ClusterUri,
};
use lab::Lab;
use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Socket, comment, device, direct, fault, get, lab, post, send, token, user};

/// A device with its socket and its own exchange with the key service.
struct Party<'a> {
    lab: &'a Lab,
    name: &'a str,
    socket: Socket,
    client: Client,
    cluster: String,
}

impl<'a> Party<'a> {
    async fn new(lab: &'a Lab, name: &'a str) -> Self {
        let device = device(lab, name).await;
        let socket = Socket::ready(lab, &device, name).await;
        let me = user(lab, name);
        let info =
            get(lab, &format!("/encryption/api/v1/kms/{}", me.person_id), &token(lab, name)).await.body;
        let cluster: ClusterUri = info["kmsCluster"].as_str().unwrap().parse().unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_714_557_600));
        // Whichever key service it is, its chain leads to one of the lab's roots.
        let roots = std::fs::read(&lab.endpoints().kms_ca).unwrap();
        let roots: Vec<_> = CertificateDer::pem_slice_iter(&roots).map(Result::unwrap).collect();
        assert_eq!(roots.len(), 2);
        let trust = Trust::pinned(&roots).unwrap();
        let key = trust.check(&cluster, info["rsaPublicKey"].as_str().unwrap(), now).unwrap();
        for root in &roots {
            let alone = Trust::pinned([root]).unwrap();
            let believed = alone.check(&cluster, info["rsaPublicKey"].as_str().unwrap(), now).is_ok();
            assert_eq!(believed, (root == &roots[1]) == (cluster.host() == "kms.corp.example"));
        }
        let asker = Asker {
            device: device["url"].as_str().unwrap().to_owned(),
            user: me.person_id,
            bearer: Bearer::new(me.access_token),
        };
        let client = Client::new(asker, key, Timings::default(), Box::new(SystemRandom::new()));
        Self { lab, name, socket, client, cluster: cluster.to_string() }
    }

    async fn ask(&mut self, request: Request) -> Result<Box<Response>, RequestError> {
        self.client.submit(request, Instant::now().into_std()).unwrap();
        loop {
            while let Some(message) = self.client.poll_message() {
                let body = json!({"destination": self.cluster, "kmsMessages": [message]});
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

#[tokio::test(start_paused = true)]
async fn the_key_service_on_premises_hands_out_what_the_clouds_has_and_the_other_way_round() {
    let lab = lab().await;
    // Another organization has its own.
    for (maker, asker) in [("alice", "heidi"), ("heidi", "alice")] {
        let mut maker = Party::new(&lab, maker).await;
        let key = maker.ask(Request::CreateKeys { count: 1 }).await.unwrap().keys[0].uri.clone();
        assert!(key.as_str().starts_with(&maker.cluster), "{key} of {}", maker.cluster);
        let users = vec![user(&lab, asker).person_id];
        maker.ask(Request::CreateResource { users, keys: vec![key.clone()] }).await.unwrap();
        let mut asker = Party::new(&lab, asker).await;
        assert_ne!(asker.cluster, maker.cluster);
        let got = asker.ask(Request::RetrieveKey { key: key.clone() }).await.unwrap();
        assert_eq!(got.key.unwrap().uri, key);
        let mut stranger = Party::new(&lab, "bob").await;
        assert_eq!(status(stranger.ask(Request::RetrieveKey { key }).await), 403);
    }
    // And one of this organization can be moved there.
    fault(&lab, json!({"name": "kms-on-premises", "on": true, "person": "bob"}));
    let clusters = [Party::new(&lab, "bob").await.cluster, Party::new(&lab, "alice").await.cluster];
    assert_eq!(clusters, ["kms://kms.corp.example", "kms://kms.lab.example"]);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_moved_is_found_and_one_that_was_revoked_is_not() {
    let lab = lab().await;
    let conversation = direct(&lab, "alice", "bob").await;
    let mut alice = Party::new(&lab, "alice").await;
    let here = alice.ask(key_of(&conversation)).await.unwrap().key.unwrap();
    fault(&lab, json!({"name": "kms-moved", "on": true, "count": 1, "person": "alice"}));
    let there = alice.ask(key_of(&conversation)).await.unwrap().key.unwrap();
    assert_eq!(there.uri.as_str(), here.uri.as_str().replace("kms.lab.", "kms.corp."));
    assert!(there.jwk == here.jwk, "the same key under another name");
    fault(&lab, json!({"name": "kms-revoked", "on": true, "count": 1, "person": "alice"}));
    match alice.ask(key_of(&conversation)).await {
        Err(RequestError::Refused { status: 405, error_code: Some(405_005), .. }) => {}
        other => panic!("{other:?}"),
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_end_has_come_seals_no_more_and_opens_still() {
    let lab = lab().await;
    fault(
        &lab,
        json!({"name": "kms-short-lived", "on": true, "count": 1, "person": "alice", "value": 1_000}),
    );
    let (alice, bob) = (user(&lab, "alice"), user(&lab, "bob"));
    let mut party = Party::new(&lab, "alice").await;
    let key = party.ask(Request::CreateKeys { count: 1 }).await.unwrap().keys[0].clone();
    assert!(key.expiration_date.is_some());
    party
        .client
        .wrap(
            Request::CreateResource {
                users: vec![alice.person_id.clone(), bob.person_id.clone()],
                keys: vec![key.uri.clone()],
            },
            Instant::now().into_std(),
        )
        .unwrap();
    let message = loop {
        if let Some(Event::Wrapped { message, .. }) = party.client.poll_event() {
            break message;
        }
    };
    let person = |id: &str| json!({"objectType": "person", "id": id});
    let body = json!({
        "objectType": "conversation",
        "tags": ["ONE_ON_ONE"],
        "defaultActivityEncryptionKeyUrl": key.uri.as_str(),
        "kmsMessage": message,
        "activities": {"items": [
            {"verb": "create"},
            {"verb": "add", "object": person(&alice.person_id)},
            {"verb": "add", "object": person(&bob.person_id)},
        ]},
    });
    let made = send(&lab, "POST", "/conversation/api/v1/conversations", &token(&lab, "alice"), body).await;
    let conversation = made.body;
    assert_eq!(post(&lab, "alice", &conversation, comment(&conversation, "t")).await.status, 200);
    lab.ctx().clock.advance(Duration::from_secs(2));
    let refused = post(&lab, "alice", &conversation, comment(&conversation, "u")).await;
    assert_eq!(refused.body["errorCode"], 1_400_087);
    let fresh = get(&lab, conversation["url"].as_str().unwrap(), &token(&lab, "alice")).await.body;
    assert_ne!(fresh["defaultActivityEncryptionKeyUrl"], conversation["defaultActivityEncryptionKeyUrl"]);
    assert_eq!(post(&lab, "alice", &fresh, comment(&fresh, "v")).await.status, 200);
    assert_eq!(status(Party::new(&lab, "bob").await.ask(key_of(&conversation)).await), 200);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_key_service_refuses_a_conversation_it_says_sealed() {
    let lab = lab().await;
    let conversation = direct(&lab, "alice", "bob").await;
    let mut party = Party::new(&lab, "alice").await;
    assert_eq!(status(party.ask(Request::Ping).await), 200);
    party.client.wrap(Request::Ping, Instant::now().into_std()).unwrap();
    let Some(Event::Wrapped { message, .. }) = party.client.poll_event() else { panic!("wrapped") };
    fault(&lab, json!({"name": "post-kms-refused", "on": true, "count": 1, "person": "alice"}));
    let mut activity = comment(&conversation, "t");
    activity["kmsMessage"] = message.into();
    let refused = post(&lab, "alice", &conversation, activity).await;
    assert_eq!((refused.status.as_u16(), refused.body["errorCode"].as_i64()), (400, Some(1_900_000)));
    assert_eq!(refused.message().split('.').count(), 5, "a compact JWE: {}", refused.message());
    assert_eq!(refused.body["errors"][0]["description"], refused.body["message"]);
    lab.stop().await;
}
