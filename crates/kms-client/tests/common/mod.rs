//! What several test files need: a KMS with a fixed key, its certificate, a clock, and a client of it.
#![allow(dead_code, reason = "no test file needs all of it")]

use std::time::{Duration, Instant};

use kms_client::client::{Client, Event, RequestError, RequestId, Timings};
use kms_client::jose::jwk::{ContentKey, OctJwk};
use kms_client::message::{Asker, Bearer, Key, OctKey, Request, Resource, Response};
use kms_client::responder::{Call, Incoming, OpenError, Responder, StaticKey};
use kms_client::trust::{StaticPublic, Trust};
use kms_client::uri::{ClusterUri, EphemeralUri, KeyUri, ResourceUri};
use kms_client::{Random, SystemRandom};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};

pub(crate) const STATIC_KEY: &[u8] = include_bytes!("../data/static-key.der");
pub(crate) const OTHER_KEY: &[u8] = include_bytes!("../data/other-key.der");
pub(crate) const KID: &str = "kms://kms.example/server";
pub(crate) const DEVICE: &str = "https://wdm.example/devices/1";
pub(crate) const USER: &str = "11111111-1111-4111-8111-111111111111";

/// A self-signed certificate of `key` for these DNS names.
pub(crate) fn certificate(key: &[u8], names: &[&str], common_name: &str) -> CertificateDer<'static> {
    let key = key_pair(key);
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.self_signed(&key).unwrap().der().clone()
}

pub(crate) fn key_pair(der: &[u8]) -> KeyPair {
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_RSA_SHA256).unwrap()
}

pub(crate) fn static_key() -> StaticKey {
    let chain = vec![certificate(STATIC_KEY, &["kms.example"], "kms")];
    StaticKey::from_pkcs8(STATIC_KEY, KID, chain).unwrap()
}

pub(crate) fn cluster() -> ClusterUri {
    "kms://kms.example".parse().unwrap()
}

pub(crate) fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000))
}

pub(crate) fn trusted(key: &StaticKey) -> StaticPublic {
    Trust::danger_any_chain().check(&cluster(), &key.public_json(), now()).unwrap()
}

pub(crate) fn asker() -> Asker {
    Asker { device: DEVICE.into(), user: USER.into(), bearer: Bearer::new("canary-token") }
}

/// Counts up: never the same bytes twice, always the same sequence.
pub(crate) fn counting() -> impl Random {
    let mut n = 0_u64;
    move |out: &mut [u8]| {
        for chunk in out.chunks_mut(8) {
            n += 1;
            chunk.copy_from_slice(&n.to_le_bytes()[..chunk.len()]);
        }
    }
}

pub(crate) fn client(timings: Timings) -> Client {
    Client::new(asker(), trusted(&static_key()), timings, Box::new(counting()))
}

/// The KMS: answers everything that is well formed.
pub(crate) struct Kms {
    pub(crate) responder: Responder,
    /// Lifetime that is told to clients.
    pub(crate) expires: &'static str,
    contexts: u32,
}

pub(crate) const CREATED: &str = "2024-05-01T10:00:00.000Z";
pub(crate) const EXPIRES: &str = "2024-05-01T11:00:00.000Z";

impl Kms {
    pub(crate) fn new() -> Self {
        let responder = Responder::new(static_key(), Box::new(SystemRandom::new()));
        Self { responder, expires: EXPIRES, contexts: 0 }
    }

    /// The answer to one message, or why it was not understood.
    pub(crate) fn answer(&mut self, message: &str) -> Result<String, OpenError> {
        match self.responder.open(message)? {
            Incoming::Exchange(exchange) => {
                assert_eq!(exchange.asker.bearer.as_str(), "canary-token");
                self.contexts += 1;
                let id = format!("context-{}", self.contexts);
                Ok(self.responder.agree(&exchange, &id, CREATED, self.expires).unwrap())
            }
            Incoming::Call(call) => Ok(self.reply(&call)),
        }
    }

    pub(crate) fn reply(&mut self, call: &Call) -> String {
        let response = match &call.received.request {
            Request::CreateKeys { count } => {
                let keys = (0..*count).map(|n| key(&key_uri(n))).collect();
                Response { keys, ..Response::new(201, "") }
            }
            Request::RetrieveKey { key: uri } => Response { key: Some(key(uri)), ..Response::new(200, "") },
            Request::CreateResource { keys, .. } => {
                let resource =
                    Resource { uri: resource_uri(), key_uris: keys.clone(), authorization_uris: Vec::new() };
                Response { resource: Some(resource), ..Response::new(201, "") }
            }
            Request::Other { .. } => Response::refusal(405, "", "no such request"),
            _ => Response::new(200, ""),
        };
        self.responder.answer(call, response).unwrap()
    }

    pub(crate) fn forget(&mut self, context: u32) {
        let uri = EphemeralUri::new(&cluster(), &format!("context-{context}")).unwrap();
        self.responder.forget(&uri);
    }
}

pub(crate) fn key_uri(n: u32) -> KeyUri {
    KeyUri::new(&cluster(), &format!("00000000-0000-4000-8000-{n:012}")).unwrap()
}

pub(crate) fn resource_uri() -> ResourceUri {
    ResourceUri::new(&cluster(), "resource-1").unwrap()
}

/// The key of that name: its bytes follow from the name.
pub(crate) fn key(uri: &KeyUri) -> Key {
    Key {
        uri: uri.clone(),
        jwk: OctKey(OctJwk { kid: None, alg: None, k: key_bytes(uri) }),
        user_id: Some(USER.into()),
        client_id: Some(DEVICE.into()),
        create_date: Some(CREATED.into()),
        expiration_date: None,
        bind_date: None,
        resource_uri: None,
    }
}

pub(crate) fn key_bytes(uri: &KeyUri) -> ContentKey {
    let mut bytes = [0; 32];
    for (n, byte) in uri.as_str().bytes().enumerate() {
        bytes[n % 32] ^= byte;
    }
    ContentKey::new(bytes)
}

/// A client, a KMS, and the time.
pub(crate) struct Pair {
    pub(crate) client: Client,
    pub(crate) kms: Kms,
    pub(crate) now: Instant,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self { client: client(Timings::default()), kms: Kms::new(), now: start() }
    }

    pub(crate) fn submit(&mut self, request: Request) -> RequestId {
        self.client.submit(request, self.now).unwrap()
    }

    /// What the client wants to send now.
    pub(crate) fn sent(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.client.poll_message()).collect()
    }

    /// Carries messages back and forth until neither side has one.
    pub(crate) fn settle(&mut self) {
        loop {
            let sent = self.sent();
            if sent.is_empty() {
                return;
            }
            for message in sent {
                let answer = self.kms.answer(&message).unwrap();
                self.client.handle_reply(&answer, self.now).unwrap();
            }
        }
    }

    /// Lets time pass without any answer, waking the client whenever it wants to be.
    pub(crate) fn wait(&mut self, time: Duration) -> Vec<String> {
        let end = self.now + time;
        let mut sent = Vec::new();
        while let Some(due) = self.client.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.client.handle_timeout(self.now);
            sent.extend(self.sent());
        }
        self.now = end;
        sent
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    /// The one answer there is.
    pub(crate) fn answer(&mut self, id: RequestId) -> Result<Response, RequestError> {
        match &mut *self.events() {
            [Event::Answered { id: answered, outcome }] => {
                assert_eq!(*answered, id);
                outcome.clone().map(|response| *response)
            }
            other => panic!("expected one answer, got {other:?}"),
        }
    }
}

/// Some moment: there is no other way to make an `Instant`, and which one it is does not matter.
#[allow(clippy::disallowed_methods, reason = "a test has to begin somewhere")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

pub(crate) const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
