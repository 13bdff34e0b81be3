//! The key service: real ephemeral keys, keys, resources and authorizations, behind two doors.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kms_client::{
    SystemRandom,
    jose::jwk::{ContentKey, OctJwk},
    message::{Asker, Authorization, Key, OctKey, Request, Resource, Response},
    responder::{Call, Incoming, OpenError, Responder, StaticKey},
    uri::{ClusterUri, EphemeralUri, KeyUri, ResourceUri},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

use crate::{clock::Time, fault::Kind, generator::Generator};

/// The host in every `kms://` URI of the lab.
pub const HOST: &str = "kms.lab.example";
/// How long an ephemeral key lives. Not scaled: it stands on the wire as a date.
const EPHEMERAL: Duration = Duration::from_secs(3_600);
/// How many keys one request may make.
const MAX_KEYS: u32 = 500;

/// TEST FIXTURE, not a secret: one fixed key, so that no start waits for a new one and worlds repeat.
const STATIC_KEY: &str = include_str!("../fixtures/kms-static-key.test-only.pem");

/// What can go wrong with the key service.
pub(crate) const FAULTS: &[Kind] = &[
    Kind {
        name: "kms-drop",
        explanation: "The key service takes a message and never answers it.",
        unkind: false,
    },
    Kind {
        name: "kms-delay",
        explanation: "An answer of the key service comes later, by `value` scaled milliseconds (3000).",
        unkind: false,
    },
    Kind {
        name: "kms-forget",
        explanation: "The key service forgets all ephemeral keys before it reads a message.",
        unkind: false,
    },
    Kind {
        name: "kms-refuse-unknown",
        explanation: "A message under an unknown ephemeral key is answered with a signed 403 in place of silence.",
        unkind: false,
    },
    Kind {
        name: "kms-deny-key",
        explanation: "A request for a key is refused with status 403.",
        unkind: false,
    },
    Kind {
        name: "kms-garble",
        explanation: "One character of an answer of the key service is changed.",
        unkind: false,
    },
];

/// Why the key service of the lab could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the key service's static key is unusable: {0}")]
pub struct SetupError(String);

/// What becomes of a message at the first door.
#[derive(Debug)]
pub(crate) enum Reply {
    /// This goes to that device, and to no other.
    To { device: String, message: String },
    /// The time-out is the answer.
    Silence,
}

/// What becomes of a message that came with a conversation call.
#[derive(Debug)]
pub(crate) struct Relayed {
    /// The status inside of the answer.
    pub(crate) status: u16,
    /// The sealed answer, for the caller to open.
    pub(crate) message: String,
    /// The resource that was made.
    pub(crate) resource: Option<String>,
}

/// One key service.
#[derive(Debug)]
pub(crate) struct Kms(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    responder: Responder,
    expiries: BTreeMap<EphemeralUri, Time>,
    keys: BTreeMap<KeyUri, Stored>,
    resources: BTreeMap<ResourceUri, BTreeSet<String>>,
}

#[derive(Debug)]
struct Stored {
    key: ContentKey,
    creator: String,
    device: String,
    created: Time,
    bound: Option<(ResourceUri, Time)>,
}

impl Kms {
    pub(crate) fn new() -> Result<Self, SetupError> {
        let setup = |error: &dyn std::fmt::Display| SetupError(error.to_string());
        let der = PrivatePkcs8KeyDer::from_pem_slice(STATIC_KEY.as_bytes()).map_err(|error| setup(&error))?;
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_RSA_SHA256)
            .map_err(|error| setup(&error))?;
        let certificate = rcgen::CertificateParams::new(vec![HOST.to_owned()])
            .and_then(|params| params.self_signed(&pair))
            .map_err(|error| setup(&error))?;
        let key = StaticKey::from_pkcs8(
            der.secret_pkcs8_der(),
            &format!("kms://{HOST}/server"),
            vec![certificate.der().clone()],
        )
        .map_err(|error| setup(&error))?;
        let responder = Responder::new(key, Box::new(SystemRandom::new()));
        Ok(Self(Mutex::new(Inner {
            responder,
            expiries: BTreeMap::new(),
            keys: BTreeMap::new(),
            resources: BTreeMap::new(),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, message: &str, now: Time) -> Result<Incoming, OpenError> {
        let mut inner = self.inner();
        inner.expire(now);
        inner.responder.open(message)
    }

    /// What `GET /kms/{user}` tells: the cluster and the static key as a text with JSON in it.
    pub(crate) fn info(&self) -> (String, String) {
        let inner = self.inner();
        let key = inner.responder.static_key();
        (key.cluster().as_str().to_owned(), key.public_json())
    }

    /// Forgets all ephemeral keys.
    pub(crate) fn forget_all(&self) {
        let mut inner = self.inner();
        inner.responder.forget_all();
        inner.expiries.clear();
    }

    /// Whether users of this resource may be given this key.
    pub(crate) fn is_bound(&self, key: &str, resource: &str) -> bool {
        let bound = |stored: &Stored| stored.bound.as_ref().is_some_and(|(to, _)| to.as_str() == resource);
        key.parse().ok().and_then(|key: KeyUri| self.inner().keys.get(&key).map(bound)).unwrap_or(false)
    }

    /// Makes a key of the cloud's own and binds it, as when a conversation's key is rotated by an administrator.
    pub(crate) fn rotate(&self, resource: &str, now: Time, rng: &Generator) -> Option<String> {
        let resource: ResourceUri = resource.parse().ok()?;
        let mut inner = self.inner();
        let uri = inner.make_key("", "", now, rng)?;
        inner.keys.get_mut(&uri)?.bound = Some((resource, now));
        Some(uri.as_str().to_owned())
    }

    /// The first door: one of the `kmsMessages` that a device posted. `trusted` tells whether a token is that user's,
    /// fit for key service, and whether the device is that user's.
    pub(crate) fn message(
        &self,
        message: &str,
        now: Time,
        rng: &Generator,
        refuse_unknown: bool,
        deny: &dyn Fn() -> bool,
        trusted: &dyn Fn(&Asker) -> bool,
    ) -> Reply {
        let opened = self.open(message, now);
        // Asked without the lock: whoever answers holds one of its own, under which it asks us.
        let accepted = match &opened {
            Ok(Incoming::Exchange(exchange)) => trusted(&exchange.asker),
            Ok(Incoming::Call(call)) => {
                let denied = matches!(call.received.request, Request::RetrieveKey { .. }) && deny();
                trusted(&call.received.asker) && !denied
            }
            Err(_) => false,
        };
        let mut inner = self.inner();
        match opened {
            Ok(Incoming::Exchange(exchange)) => {
                let device = exchange.asker.device.clone();
                if !accepted {
                    return match inner.responder.refuse(
                        403,
                        &exchange.request_id,
                        "The token is not accepted.",
                    ) {
                        Ok(message) => Reply::To { device, message },
                        Err(_) => Reply::Silence,
                    };
                }
                let id = rng.uuid();
                let expires = now.plus(EPHEMERAL);
                match inner.responder.agree(&exchange, &id, &now.rfc3339(), &expires.rfc3339()) {
                    Ok(message) => {
                        if let Some(uri) =
                            inner.cluster().and_then(|cluster| EphemeralUri::new(&cluster, &id).ok())
                        {
                            inner.expiries.insert(uri, expires);
                        }
                        Reply::To { device, message }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "no ephemeral key was agreed on");
                        Reply::Silence
                    }
                }
            }
            Ok(Incoming::Call(call)) => {
                let device = call.received.asker.device.clone();
                let response = if accepted {
                    inner.perform(&call, now, rng)
                } else {
                    Response::refusal(403, "", "This is refused.")
                };
                match inner.responder.answer(&call, response) {
                    Ok(message) => Reply::To { device, message },
                    Err(_) => Reply::Silence,
                }
            }
            // Whose message it was cannot be read, so nobody could be told but for a switch that guesses nothing:
            // the refusal carries no request id.
            Err(OpenError::UnknownContext(_)) if refuse_unknown => {
                match inner.responder.refuse(403, "", "The ephemeral key is unknown.") {
                    Ok(message) => Reply::To { device: String::new(), message },
                    Err(_) => Reply::Silence,
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a message to the key service was not understood");
                Reply::Silence
            }
        }
    }

    /// The second door: the `kmsMessage` of a conversation call. `None`: it was not understood.
    pub(crate) fn relay(
        &self,
        message: &str,
        now: Time,
        rng: &Generator,
        trusted: &dyn Fn(&Asker) -> bool,
    ) -> Option<Relayed> {
        let Ok(Incoming::Call(call)) = self.open(message, now) else { return None };
        let accepted = trusted(&call.received.asker);
        let mut inner = self.inner();
        let response = if accepted {
            inner.perform(&call, now, rng)
        } else {
            Response::refusal(403, "", "The token is not accepted.")
        };
        let status = response.status;
        let resource = response.resource.as_ref().map(|resource| resource.uri.as_str().to_owned());
        let message = inner.responder.answer(&call, response).ok()?;
        Some(Relayed { status, message, resource })
    }
}

impl Inner {
    fn cluster(&self) -> Option<ClusterUri> {
        Some(self.responder.static_key().cluster().clone())
    }

    fn expire(&mut self, now: Time) {
        let gone: Vec<_> = self
            .expiries
            .iter()
            .filter(|(_, expires)| **expires <= now)
            .map(|(uri, _)| uri.clone())
            .collect();
        for uri in gone {
            self.expiries.remove(&uri);
            self.responder.forget(&uri);
        }
    }

    fn make_key(&mut self, creator: &str, device: &str, now: Time, rng: &Generator) -> Option<KeyUri> {
        let uri = KeyUri::new(&self.cluster()?, &rng.uuid()).ok()?;
        let stored = Stored {
            key: ContentKey::generate(&mut SystemRandom::new()),
            creator: creator.to_owned(),
            device: device.to_owned(),
            created: now,
            bound: None,
        };
        self.keys.insert(uri.clone(), stored);
        Some(uri)
    }

    fn shown(&self, uri: &KeyUri) -> Option<Key> {
        let stored = self.keys.get(uri)?;
        let kid = uri.as_str().rsplit('/').next().map(str::to_owned);
        Some(Key {
            uri: uri.clone(),
            jwk: OctKey(OctJwk { kid, alg: None, k: stored.key.clone() }),
            user_id: Some(stored.creator.clone()),
            client_id: Some(stored.device.clone()),
            create_date: Some(stored.created.rfc3339()),
            expiration_date: None,
            bind_date: stored.bound.as_ref().map(|(_, when)| when.rfc3339()),
            resource_uri: stored.bound.as_ref().map(|(resource, _)| resource.clone()),
        })
    }

    /// Whether a user may have a key: its creator while it is unbound, then whoever is authorized on its resource.
    fn may_have(&self, user: &str, stored: &Stored) -> bool {
        match &stored.bound {
            None => stored.creator == user,
            Some((resource, _)) => self.is_authorized(user, resource),
        }
    }

    fn is_authorized(&self, user: &str, resource: &ResourceUri) -> bool {
        self.resources.get(resource).is_some_and(|users| users.contains(user))
    }

    fn authorization(resource: &ResourceUri, user: &str) -> Authorization {
        // The id is a function of the two, so that the same authorization is named the same each time.
        let id = uuid::Uuid::from_u64_pair(fold(resource.as_str()), fold(user));
        Authorization {
            uri: format!("kms://{HOST}/authorizations/{id}"),
            resource_uri: Some(resource.clone()),
            auth_id: Some(user.to_owned()),
        }
    }

    fn perform(&mut self, call: &Call, now: Time, rng: &Generator) -> Response {
        let asker = &call.received.asker;
        let refuse = |status, reason: &str| Response::refusal(status, "", reason);
        let not_yours = || refuse(403, "The user is not authorized on the resource.");
        match &call.received.request {
            Request::CreateKeys { count } if (1..=MAX_KEYS).contains(count) => {
                let made: Vec<KeyUri> =
                    (0..*count).filter_map(|_| self.make_key(&asker.user, &asker.device, now, rng)).collect();
                let keys = made.iter().filter_map(|uri| self.shown(uri)).collect();
                Response { keys, ..Response::new(201, "") }
            }
            Request::CreateKeys { .. } => refuse(400, "The count is out of range."),
            Request::RetrieveKey { key } => match self.keys.get(key) {
                None => refuse(404, "There is no such key."),
                Some(stored) if !self.may_have(&asker.user, stored) => not_yours(),
                Some(_) => Response { key: self.shown(key), ..Response::new(200, "") },
            },
            Request::CreateResource { users, keys } => {
                for key in keys {
                    match self.keys.get(key) {
                        None => return refuse(404, "There is no such key."),
                        Some(stored) if stored.creator != asker.user => return not_yours(),
                        Some(stored) if stored.bound.is_some() => {
                            return refuse(409, "The key is bound already.");
                        }
                        Some(_) => {}
                    }
                }
                let Some(uri) =
                    self.cluster().and_then(|cluster| ResourceUri::new(&cluster, &rng.uuid()).ok())
                else {
                    return refuse(500, "The resource has no name.");
                };
                for key in keys {
                    if let Some(stored) = self.keys.get_mut(key) {
                        stored.bound = Some((uri.clone(), now));
                    }
                }
                let mut authorized: BTreeSet<String> = users.iter().cloned().collect();
                authorized.insert(asker.user.clone());
                let authorization_uris =
                    authorized.iter().map(|user| Self::authorization(&uri, user).uri).collect();
                self.resources.insert(uri.clone(), authorized);
                let resource = Resource { uri, key_uris: keys.clone(), authorization_uris };
                Response { resource: Some(resource), ..Response::new(201, "") }
            }
            Request::BindKey { key, resource } => {
                if !self.is_authorized(&asker.user, resource) {
                    return not_yours();
                }
                match self.keys.get_mut(key) {
                    None => return refuse(404, "There is no such key."),
                    Some(stored) if stored.creator != asker.user => return not_yours(),
                    Some(stored) if stored.bound.is_some() => {
                        return refuse(409, "The key is bound already.");
                    }
                    Some(stored) => stored.bound = Some((resource.clone(), now)),
                }
                Response { key: self.shown(key), ..Response::new(200, "") }
            }
            Request::CreateAuthorizations { resource, users } => {
                if !self.is_authorized(&asker.user, resource) {
                    return not_yours();
                }
                if let Some(authorized) = self.resources.get_mut(resource) {
                    authorized.extend(users.iter().cloned());
                }
                let authorizations = users.iter().map(|user| Self::authorization(resource, user)).collect();
                Response { authorizations, ..Response::new(201, "") }
            }
            Request::DeleteAuthorization { resource, user } => {
                if !self.is_authorized(&asker.user, resource) {
                    return not_yours();
                }
                let gone = self.resources.get_mut(resource).is_some_and(|authorized| authorized.remove(user));
                if !gone {
                    return refuse(404, "There is no such authorization.");
                }
                Response {
                    authorizations: vec![Self::authorization(resource, user)],
                    ..Response::new(200, "")
                }
            }
            Request::ListAuthorizations { resource } => {
                if !self.is_authorized(&asker.user, resource) {
                    return not_yours();
                }
                let users = self.resources.get(resource).into_iter().flatten();
                let authorizations = users.map(|user| Self::authorization(resource, user)).collect();
                Response { authorizations, ..Response::new(200, "") }
            }
            Request::Ping => Response::new(200, ""),
            _ => refuse(400, "The request is not known."),
        }
    }
}

/// Sixty-four bits of a text (FNV-1a).
fn fold(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
