//! The vault over a cloud in memory, whose key service is the real one in its other role.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming as Body;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kms_client::SystemRandom;
use kms_client::jose::jwe::{self, ContentKey};
use kms_client::jose::jwk::OctJwk;
use kms_client::message as kms;
use kms_client::message::{Key, OctKey, Resource};
use kms_client::responder::{Incoming, Responder, StaticKey};
use kms_client::trust::Trust;
use kms_client::uri::{ClusterUri, EphemeralUri, KeyUri, ResourceUri};
use router::ids::{ConversationId, PersonId, Time};
use router::inbound::Cause;
use router::times::Times;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio::time::Instant;
use webex_api::Url;
use webex_api::auth::{AccessToken, Client};

use super::{Vault, VaultConfig};
use crate::jabber::OpenError;
use crate::seam::{BoxIo, Clock, Dial, Generator, Scale};
use crate::webex::{Cloud, CloudConfig, Keys, TokenConfig};

/// A test key, not a secret: making one takes long.
const STATIC_KEY: &[u8] = include_bytes!("../../../kms-client/tests/data/static-key.der");
const KEY: &str = "kms://kms.example/keys/1";

/// The cloud as far as the vault needs it.
struct Service {
    vault: OnceLock<Vault>,
    state: Mutex<State>,
}

struct State {
    kms: Responder,
    /// The key service takes messages and says nothing.
    silent: bool,
    /// Messages are not taken: this is the status.
    closed: Option<u16>,
    /// Every request is refused with this status.
    refuse: Option<u16>,
    /// Every exchange is refused with this status.
    refuse_exchange: Option<u16>,
    /// Nobody can connect.
    unreachable: bool,
    infos: usize,
    tokens: usize,
    exchanges: usize,
    asked: Vec<kms::Request>,
    keys: BTreeMap<KeyUri, ContentKey>,
}

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn answer(self: Arc<Self>, request: Request<Body>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let (status, json) = self.route(&parts.method, parts.uri.path(), &body);
        let mut response = Response::new(Full::new(Bytes::from(json.to_string())));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        Ok(response)
    }

    fn route(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let mut state = self.state();
        match (method.as_str(), path) {
            ("GET", "/u2c/limited/catalog") => {
                let links =
                    json!({"encryption": "http://cloud.example/enc", "idbroker": "http://cloud.example"});
                (200, json!({"serviceLinks": links, "hostCatalog": {}}))
            }
            ("POST", "/idb/oauth2/v1/access_token") => {
                state.tokens += 1;
                let token = format!("token-{}", state.tokens);
                (200, json!({"access_token": token, "token_type": "Bearer", "expires_in": 1_209_599}))
            }
            ("GET", path) if path.starts_with("/enc/kms/") => {
                state.infos += 1;
                let key = state.kms.static_key();
                (200, json!({"kmsCluster": key.cluster(), "rsaPublicKey": key.public_json()}))
            }
            ("POST", "/enc/kms/messages") => {
                if let Some(status) = state.closed {
                    return (status, json!({"message": "closed"}));
                }
                let body: Value = serde_json::from_slice(body).unwrap();
                assert_eq!(body["destination"], "kms://kms.example");
                for message in body["kmsMessages"].as_array().unwrap() {
                    if let Some((user, reply)) = state.kms_answer(message.as_str().unwrap()) {
                        // As in life: it is there before the request is answered.
                        self.vault.get().unwrap().replies(&user, vec![reply]);
                    }
                }
                (202, json!({}))
            }
            other => panic!("{other:?}"),
        }
    }
}

impl State {
    fn kms_answer(&mut self, message: &str) -> Option<(PersonId, String)> {
        if self.silent {
            return None;
        }
        match self.kms.open(message).ok()? {
            Incoming::Exchange(exchange) => {
                self.exchanges += 1;
                let user = PersonId::new(exchange.asker.user.as_str());
                let reply = match self.refuse_exchange {
                    Some(status) => self.kms.refuse(status, &exchange.request_id, "no"),
                    None => self.kms.agree(
                        &exchange,
                        &format!("context-{}", self.exchanges),
                        "2024-05-01T10:00:00Z",
                        "2024-05-01T11:00:00Z",
                    ),
                };
                Some((user, reply.unwrap()))
            }
            Incoming::Call(call) => {
                let request = call.received.request.clone();
                self.asked.push(request.clone());
                let ok = kms::Response::new(200, "");
                let response = match (self.refuse, request) {
                    (Some(status), _) => kms::Response::refusal(status, "", "no"),
                    (None, kms::Request::RetrieveKey { key }) => match self.keys.get(&key) {
                        Some(k) => kms::Response { key: Some(key_object(&key, k)), ..ok },
                        None => kms::Response::refusal(404, "", "no such key"),
                    },
                    (None, kms::Request::CreateKeys { .. }) => {
                        let uri = KeyUri::new(&cluster(), &format!("new-{}", self.asked.len())).unwrap();
                        let key = ContentKey::new([9; 32]);
                        let keys = vec![key_object(&uri, &key)];
                        self.keys.insert(uri, key);
                        kms::Response { keys, ..ok }
                    }
                    (None, kms::Request::CreateResource { .. }) => {
                        let uri = ResourceUri::new(&cluster(), "1").unwrap();
                        let (key_uris, authorization_uris) = (Vec::new(), Vec::new());
                        let resource = Some(Resource { uri, key_uris, authorization_uris });
                        kms::Response { resource, ..ok }
                    }
                    (None, _) => ok,
                };
                let user = PersonId::new(call.received.asker.user.as_str());
                Some((user, self.kms.answer(&call, response).unwrap()))
            }
        }
    }
}

fn cluster() -> ClusterUri {
    "kms://kms.example".parse().unwrap()
}

fn key_object(uri: &KeyUri, key: &ContentKey) -> Key {
    Key {
        uri: uri.clone(),
        jwk: OctKey(OctJwk { kid: None, alg: None, k: key.clone() }),
        user_id: None,
        client_id: None,
        create_date: None,
        expiration_date: None,
        bind_date: None,
        resource_uri: None,
    }
}

/// Connects everybody to the service, through pipes.
struct Pipes(Arc<Service>);

impl Dial for Pipes {
    fn dial<'a>(
        &'a self,
        _host: &'a str,
        _port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxIo>> + Send + 'a>> {
        Box::pin(async move {
            if self.0.state().unreachable {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (near, far) = tokio::io::duplex(64 * 1024);
            let service = Arc::clone(&self.0);
            let serve = service_fn(move |request| Arc::clone(&service).answer(request));
            let mut server = hyper::server::conn::http1::Builder::new();
            server.auto_date_header(false);
            tokio::spawn(server.serve_connection(TokioIo::new(far), serve));
            Ok(Box::new(near) as BoxIo)
        })
    }
}

struct World {
    service: Arc<Service>,
    vault: Vault,
}

impl World {
    fn new() -> Self {
        Self::trusting(Trust::danger_any_chain())
    }

    fn trusting(trust: Trust) -> Self {
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(STATIC_KEY),
            &rcgen::PKCS_RSA_SHA256,
        );
        let certificate = rcgen::CertificateParams::new(vec!["kms.example".to_owned()]).unwrap();
        let chain = vec![certificate.self_signed(&pair.unwrap()).unwrap().der().clone()];
        let key = StaticKey::from_pkcs8(STATIC_KEY, "kms://kms.example/server", chain).unwrap();
        let keys = [(KEY.parse().unwrap(), ContentKey::new([7; 32]))].into();
        let state = Mutex::new(State {
            kms: Responder::new(key, Box::new(SystemRandom::new())),
            silent: false,
            closed: None,
            refuse: None,
            refuse_exchange: None,
            unreachable: false,
            infos: 0,
            tokens: 0,
            exchanges: 0,
            asked: Vec::new(),
            keys,
        });
        let service = Arc::new(Service { vault: OnceLock::new(), state });
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let config = CloudConfig {
            discovery: "http://cloud.example/u2c".parse().unwrap(),
            organization: "33333333-3333-4333-8333-333333333333".parse().unwrap(),
            tokens: TokenConfig::Organization {
                client: Client { id: "client".into(), secret: String::from("secret").into() },
                machine: AccessToken::try_from(String::from("machine")).unwrap(),
            },
            tls: Arc::new(tls),
            proxy: None,
            connections_per_host: 4,
            requests_per_second: None,
            scale: Scale(1),
        };
        let clock = Clock::starting_at(Time(1_800_000_000_000));
        let pipes = Arc::new(Pipes(Arc::clone(&service)));
        let cloud = Cloud::new(config, pipes, clock, &Generator::seeded(1)).unwrap();
        let vault = Vault::new(VaultConfig::new(trust, &Times::default()), cloud);
        service.vault.set(vault.clone()).unwrap();
        let world = Self { service, vault };
        world.vault.attached(&alice(), &device(1));
        world
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.service.state()
    }

    fn count<T>(&self, of: impl FnOnce(&State) -> T) -> T {
        of(&self.state())
    }

    async fn open(&self, via: &PersonId) -> Result<String, OpenError> {
        self.vault.open(via, KEY, &sealed()).await.map(|text| text.as_str().to_owned())
    }
}

fn alice() -> PersonId {
    PersonId::new("11111111-1111-4111-8111-111111111111")
}

fn bob() -> PersonId {
    PersonId::new("22222222-2222-4222-8222-222222222222")
}

fn device(n: u8) -> Url {
    format!("http://cloud.example/wdm/devices/{n}").parse().unwrap()
}

fn sealed() -> String {
    jwe::seal(&ContentKey::new([7; 32]), &[3; 12], "Grüße".as_bytes()).unwrap()
}

fn hello() -> Result<String, OpenError> {
    Ok("Grüße".to_owned())
}

fn later(cause: Cause) -> Result<String, OpenError> {
    Err(OpenError::Later(cause))
}

fn wedged(reason: &str) -> Result<String, OpenError> {
    Err(OpenError::Wedged(reason.into()))
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_before_a_key_is_needed() {
    let world = World::new();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.count(|s| (s.infos, s.tokens)), (0, 0));
    assert_eq!(world.open(&alice()).await, hello());
    assert_eq!(world.count(|s| (s.infos, s.exchanges)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_text_is_sealed_with_the_iv_that_is_given() {
    let world = World::new();
    let text = world.vault.seal(&alice(), KEY, &[3; 12], "Grüße").await;
    assert_eq!(text, Ok(sealed()));
    assert_eq!(world.open(&alice()).await, hello());
    assert_eq!(world.state().asked.len(), 1, "the key is fetched once");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_fetched_serves_everybody() {
    let world = World::new();
    assert_eq!(world.open(&alice()).await, hello());
    assert_eq!(world.open(&bob()).await, hello(), "bob has no socket and needs none");
    assert_eq!(world.state().asked.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_the_same_key_at_once_shares_one_request() {
    let world = World::new();
    let alice = alice();
    for outcome in join_all((0..20).map(|_| world.open(&alice))).await {
        assert_eq!(outcome, hello());
    }
    assert_eq!(world.count(|s| (s.asked.len(), s.exchanges)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_silent_key_service_is_waited_for_in_bounds_and_asked_on() {
    let world = World::new();
    world.state().silent = true;
    let began = Instant::now();
    assert_eq!(world.open(&alice()).await, later(Cause::Kms));
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    world.state().silent = false;
    // The exchange is asked for again after 6 s, by itself; then the key, for whoever asks next.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.state().asked.len(), 1);
    let began = Instant::now();
    assert_eq!(world.open(&alice()).await, hello());
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(world.state().asked.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_service_that_was_silent_for_long_is_looked_up_anew() {
    let world = World::new();
    world.state().silent = true;
    assert_eq!(world.open(&alice()).await, later(Cause::Kms));
    tokio::time::sleep(Duration::from_secs(120)).await;
    world.state().silent = false;
    assert_eq!(world.open(&alice()).await, hello());
    assert_eq!(world.state().infos, 2, "it may have another static key");
}

#[tokio::test(start_paused = true)]
async fn a_key_service_that_forgot_us_is_negotiated_with_anew() {
    let world = World::new();
    assert_eq!(world.open(&alice()).await, hello());
    world.state().kms.forget(&EphemeralUri::new(&cluster(), "context-1").unwrap());
    let other: KeyUri = "kms://kms.example/keys/2".parse().unwrap();
    world.state().keys.insert(other.clone(), ContentKey::new([7; 32]));
    let first = world.vault.open(&alice(), other.as_str(), &sealed()).await;
    assert_eq!(first.unwrap_err(), OpenError::Later(Cause::Kms));
    tokio::time::sleep(Duration::from_secs(45)).await;
    assert!(world.vault.open(&alice(), other.as_str(), &sealed()).await.is_ok());
    assert_eq!(world.state().exchanges, 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_without_a_socket_is_asked_through() {
    let world = World::new();
    assert_eq!(world.open(&bob()).await, later(Cause::Token(bob())));
    world.vault.detached(&alice());
    assert_eq!(world.open(&alice()).await, later(Cause::Token(alice())));
    assert_eq!(world.state().infos, 0);
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_key_outlives_a_socket_but_not_a_device() {
    let world = World::new();
    let mut exchanges = Vec::new();
    for n in [1, 1, 2] {
        world.vault.detached(&alice());
        world.vault.attached(&alice(), &device(n));
        let conversation = world.vault.new_conversation(&alice(), &[alice(), bob()]).await;
        assert!(conversation.is_ok(), "{conversation:?}");
        exchanges.push(world.state().exchanges);
    }
    assert_eq!(exchanges, [1, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_the_key_service_refuses_has_its_fate() {
    for (status, fate) in [
        (400, later(Cause::Conversation(ConversationId::new(KEY)))),
        (403, later(Cause::Conversation(ConversationId::new(KEY)))),
        (404, later(Cause::Conversation(ConversationId::new(KEY)))),
        (405, later(Cause::Conversation(ConversationId::new(KEY)))),
        (401, later(Cause::Token(alice()))),
        (408, later(Cause::Kms)),
        (429, later(Cause::Kms)),
        (500, later(Cause::Kms)),
        (503, later(Cause::Kms)),
    ] {
        let world = World::new();
        world.state().refuse = Some(status);
        assert_eq!(world.open(&alice()).await, fate, "{status}");
        world.state().refuse = None;
        assert_eq!(world.open(&alice()).await, hello(), "{status}: a refusal is not kept");
        assert_eq!(world.state().tokens, if status == 401 { 2 } else { 1 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_is_given_up_when_it_was_refused_often() {
    let world = World::new();
    world.state().refuse = Some(403);
    for _ in 0..4 {
        assert_eq!(world.open(&alice()).await, later(Cause::Conversation(ConversationId::new(KEY))));
    }
    assert_eq!(world.open(&alice()).await, wedged("key service refused: status 403"));
    // Counted anew: for one message more and for another, the service may have come to its senses.
    assert_eq!(world.open(&alice()).await, later(Cause::Conversation(ConversationId::new(KEY))));
    world.state().refuse = None;
    assert_eq!(world.open(&alice()).await, hello());
}

#[tokio::test(start_paused = true)]
async fn a_refused_exchange_ends_no_message() {
    for (status, fate) in
        [(401, later(Cause::Token(alice()))), (403, later(Cause::Token(alice()))), (503, later(Cause::Kms))]
    {
        let world = World::new();
        world.state().refuse_exchange = Some(status);
        assert_eq!(world.open(&alice()).await, fate, "{status}");
        world.state().refuse_exchange = None;
        assert_eq!(world.open(&alice()).await, hello(), "{status}");
        assert_eq!(world.state().infos, 2, "{status}: the person may have another key service by now");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_cannot_be_posted_are_not_waited_for() {
    let world = World::new();
    world.state().closed = Some(403);
    let began = Instant::now();
    assert_eq!(world.open(&alice()).await, later(Cause::Host("cloud".into())));
    assert!(began.elapsed() < Duration::from_secs(1));
    world.state().closed = None;
    assert_eq!(world.open(&alice()).await, hello());

    let world = World::new();
    world.state().unreachable = true;
    assert_eq!(world.open(&alice()).await, later(Cause::Host("cloud.example".into())));
    world.state().unreachable = false;
    assert_eq!(world.open(&alice()).await, hello());
}

#[tokio::test(start_paused = true)]
async fn messages_that_may_have_been_posted_are_sent_again() {
    let world = World::new();
    world.state().closed = Some(503);
    assert_eq!(world.open(&alice()).await, later(Cause::Kms));
    world.state().closed = None;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.state().asked.len(), 1);
    assert_eq!(world.open(&alice()).await, hello());
}

#[tokio::test(start_paused = true)]
async fn a_key_service_that_is_not_trusted_is_told_nothing() {
    let world = World::trusting(Trust::pinned([]).unwrap());
    assert_eq!(world.open(&alice()).await, later(Cause::Kms));
    assert_eq!(world.count(|s| (s.infos, s.exchanges)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_opened_is_said_so() {
    let world = World::new();
    let other = jwe::seal(&ContentKey::new([8; 32]), &[3; 12], b"x").unwrap();
    let bytes = jwe::seal(&ContentKey::new([7; 32]), &[3; 12], b"\xff").unwrap();
    for (key, jwe, reason) in [
        ("nonsense", "", "malformed key address"),
        ("kms://kms.example/resources/1", "", "malformed key address"),
        (KEY, "nonsense", "text cannot be opened: not a compact JWE"),
        (KEY, &other, "text cannot be opened: ciphertext failed authentication"),
        (KEY, &bytes, "text is not UTF-8"),
    ] {
        let outcome = world.vault.open(&alice(), key, jwe).await;
        assert_eq!(outcome.unwrap_err(), OpenError::Wedged(reason.into()));
    }
    let long = "x".repeat(1 << 20);
    let outcome = world.vault.seal(&alice(), KEY, &[3; 12], &long).await;
    let reason = "text cannot be sealed: plaintext of 1048576 bytes is too long";
    assert_eq!(outcome, wedged(reason));
}

#[tokio::test(start_paused = true)]
async fn a_conversation_gets_a_key_and_a_wrapped_request_that_binds_it() {
    let world = World::new();
    let made = world.vault.new_conversation(&alice(), &[alice(), bob()]).await.unwrap();
    let opened = world.state().kms.open(&made.kms_message).unwrap();
    let Incoming::Call(call) = opened else { panic!("{opened:?}") };
    let users = vec![alice().as_str().to_owned(), bob().as_str().to_owned()];
    let keys = vec![made.key.parse().unwrap()];
    assert_eq!(call.received.request, kms::Request::CreateResource { users, keys });
    assert_eq!(call.received.asker.bearer.as_str(), "token-1");
    assert_eq!(world.state().asked, [kms::Request::CreateKeys { count: 1 }]);
    world.vault.seal(&alice(), &made.key, &[3; 12], "first").await.unwrap();
    assert_eq!(world.state().asked.len(), 1, "the new key is known already");
}

#[tokio::test(start_paused = true)]
async fn replies_never_hold_up_who_reads_the_socket() {
    let world = World::new();
    world.state().silent = true;
    assert_eq!(world.open(&alice()).await, later(Cause::Kms));
    for n in 0..10_000 {
        world.vault.replies(&alice(), vec![format!("nonsense {n}")]);
        world.vault.replies(&bob(), vec!["for nobody".to_owned()]);
    }
    world.state().silent = false;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.open(&alice()).await, hello());
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_printed() {
    let world = World::new();
    assert_eq!(world.open(&alice()).await, hello());
    let printed = format!("{:?}", world.vault);
    assert!(printed.contains("KeyRing(1 of 50000 keys)"), "{printed}");
    for secret in ["token-1", "machine\"", "secret\"", "Grüße"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}
