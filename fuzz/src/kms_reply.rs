//! Steps of a client of the key service and of whoever answers it: right replies, late, again, cut or bent, and any
//! text in their place.
//!
//! Each line is a step: `k` asks for a key, `w` seals a request into a call, `>` carries the oldest message and its
//! answer, `<` brings the newest answer again, `~9` brings it with its ninth byte changed, `f` makes the service forget
//! every exchange, `!7` lets seven seconds pass, `t` changes the token, `x` abandons everything; anything else is a
//! reply as it stands.

use std::collections::{BTreeMap, VecDeque};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use kms_client::client::{Client, Event, MAX_PENDING, RequestId, Timings};
use kms_client::jose::jwk::{ContentKey, OctJwk};
use kms_client::message::{Asker, Bearer, Key, OctKey, Request, Response};
use kms_client::responder::{Incoming, Responder, StaticKey};
use kms_client::trust::Trust;
use kms_client::uri::{ClusterUri, KeyUri};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};

const KEY: &[u8] = include_bytes!("../../crates/kms-client/tests/data/static-key.der");

/// Its certificate, signed by itself.
static CERTIFICATE: LazyLock<CertificateDer<'static>> = LazyLock::new(|| {
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(KEY), &PKCS_RSA_SHA256);
    let params = CertificateParams::new(vec!["kms.example".to_owned()]).expect("a name");
    params.self_signed(&key.expect("a key")).expect("a certificate").der().clone()
});

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut world = World::new();
    // One exchange costs two RSA operations: enough steps to meet, few enough to be quick.
    for line in text.lines().take(40) {
        world.step(line);
        world.drain();
    }
    // Whatever happened, every request ends.
    world.wait(Duration::from_secs(3_600));
    assert!(world.open.is_empty(), "requests without an end: {:?}", world.open);
}

struct World {
    client: Client,
    service: Responder,
    now: Instant,
    contexts: u32,
    messages: VecDeque<String>,
    newest: Option<String>,
    /// What was asked, how, and has no answer yet.
    open: BTreeMap<RequestId, &'static str>,
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "which moment it is changes nothing")]
    fn new() -> Self {
        let cluster: ClusterUri = "kms://kms.example".parse().expect("an address");
        let at = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let service = StaticKey::from_pkcs8(KEY, "kms://kms.example/server", vec![CERTIFICATE.clone()]);
        let service = service.expect("a key and its certificate");
        let key = Trust::danger_any_chain().check(&cluster, &service.public_json(), at);
        let key = key.expect("the key is good");
        let asker = Asker { device: "device".into(), user: "user".into(), bearer: Bearer::new("token") };
        Self {
            client: Client::new(asker, key, Timings::default(), Box::new(counting(1))),
            service: Responder::new(service, Box::new(counting(1 << 60))),
            now: Instant::now(),
            contexts: 0,
            messages: VecDeque::new(),
            newest: None,
            open: BTreeMap::new(),
        }
    }

    fn step(&mut self, line: &str) {
        match (line.as_bytes(), line.get(1..).unwrap_or_default()) {
            (b"k", _) => {
                if let Ok(id) = self.client.submit(Request::RetrieveKey { key: key_uri() }, self.now) {
                    self.open.insert(id, "submit");
                }
            }
            (b"w", _) => {
                if let Ok(id) = self.client.wrap(Request::CreateKeys { count: 1 }, self.now) {
                    self.open.insert(id, "wrap");
                }
            }
            (b">", _) => {
                if let Some(message) = self.messages.pop_front()
                    && let Some(answer) = self.answer(&message)
                {
                    let _ = self.client.handle_reply(&answer, self.now);
                    self.newest = Some(answer);
                }
            }
            (b"<", _) => {
                if let Some(answer) = &self.newest {
                    assert!(self.client.handle_reply(answer, self.now).is_err(), "an answer counts twice");
                }
            }
            ([b'~', ..], at) => {
                let Some(mut answer) = self.newest.clone().map(String::into_bytes) else { return };
                let at = at.parse::<usize>().unwrap_or(0) % answer.len();
                answer[at] = if answer[at] == b'A' { b'B' } else { b'A' };
                let bent = String::from_utf8(answer).expect("ASCII");
                assert!(self.client.handle_reply(&bent, self.now).is_err(), "a bent answer counts");
            }
            (b"f", _) => self.service.forget_all(),
            ([b'!', ..], seconds) => {
                self.wait(Duration::from_secs(seconds.parse::<u64>().unwrap_or(1) % 1_000));
            }
            (b"t", _) => self.client.set_bearer(Bearer::new("another token")),
            (b"x", _) => {
                self.client.abandon();
                self.open.clear();
            }
            _ => assert!(self.client.handle_reply(line, self.now).is_err(), "any text is an answer"),
        }
    }

    fn answer(&mut self, message: &str) -> Option<String> {
        match self.service.open(message).ok()? {
            Incoming::Exchange(exchange) => {
                self.contexts += 1;
                let id = format!("context-{}", self.contexts);
                let (from, until) = ("2024-05-01T10:00:00.000Z", "2024-05-01T11:00:00.000Z");
                self.service.agree(&exchange, &id, from, until).ok()
            }
            Incoming::Call(call) => {
                let response = match &call.received.request {
                    Request::RetrieveKey { key } => {
                        Response { key: Some(key_of(key)), ..Response::new(200, "") }
                    }
                    _ => Response::new(200, ""),
                };
                self.service.answer(&call, response).ok()
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..100_000 {
            let Some(due) = self.client.deadline().filter(|due| *due <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(due);
            self.client.handle_timeout(self.now);
            self.drain();
        }
        panic!("a deadline that never moves on");
    }

    fn drain(&mut self) {
        while let Some(message) = self.client.poll_message() {
            self.messages.push_back(message);
            self.messages.truncate(MAX_PENDING);
        }
        while let Some(event) = self.client.poll_event() {
            let (id, kind) = match event {
                Event::Wrapped { id, .. } => (id, "wrap"),
                Event::Answered { id, outcome: Ok(_) } => (id, "submit"),
                Event::Answered { id, outcome: Err(_) } => (id, ""),
            };
            let asked = self.open.remove(&id).expect("answered twice, or never asked");
            assert!(kind.is_empty() || kind == asked, "the answer to another kind of question");
        }
    }
}

fn key_uri() -> KeyUri {
    "kms://kms.example/keys/00000000-0000-4000-8000-000000000001".parse().expect("an address")
}

fn key_of(uri: &KeyUri) -> Key {
    Key {
        uri: uri.clone(),
        jwk: OctKey(OctJwk { kid: None, alg: None, k: ContentKey::new([5; 32]) }),
        user_id: None,
        client_id: None,
        create_date: None,
        expiration_date: None,
        bind_date: None,
        resource_uri: None,
    }
}

/// Never the same bytes twice, always the same sequence.
fn counting(mut n: u64) -> impl FnMut(&mut [u8]) + Send {
    move |out: &mut [u8]| {
        for chunk in out.chunks_mut(8) {
            n += 1;
            chunk.copy_from_slice(&n.to_le_bytes()[..chunk.len()]);
        }
    }
}
