//! The key services: real ephemeral keys, keys, resources and authorizations, behind two doors.
//!
//! There are two, the cloud's and one on premises. Each person belongs to one and asks nobody else; they hand each other's
//! keys out to whoever may have them, as the real ones do.

mod site;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kms_client::{
    SystemRandom,
    jose::{
        jwe,
        jwk::{ContentKey, OctJwk},
    },
    message::{Asker, Authorization, Key, OctKey, Request, Resource, Response},
    responder::{Call, Incoming, OpenError},
    uri::{ClusterUri, EphemeralUri, KeyUri, ResourceUri},
};

pub(crate) use site::Home;
use site::Site;

use crate::{clock::Time, fault::Kind, generator::Generator};

/// The host in the `kms://` URIs of the cloud's key service.
pub const HOST: &str = "kms.lab.example";
/// The host in the `kms://` URIs of the key service on premises.
pub const ON_PREMISES_HOST: &str = "kms.corp.example";
/// How long an ephemeral key lives. Not scaled: it stands on the wire as a date.
const EPHEMERAL: Duration = Duration::from_secs(3_600);
/// How many keys one request may make.
const MAX_KEYS: u32 = 500;

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
        name: "kms-on-premises",
        explanation: "A person's key service is the one on premises, with a certificate chain of its own; otherwise only heidi's organization has one.",
        unkind: false,
    },
    Kind {
        name: "kms-moved",
        explanation: "A request for a key is answered with status 301, errorCode 301002 and the name that the key has in the other key service.",
        unkind: false,
    },
    Kind {
        name: "kms-revoked",
        explanation: "A request for a key is refused with status 405 and errorCode 405005: the customer's key was revoked.",
        unkind: false,
    },
    Kind {
        name: "kms-short-lived",
        explanation: "A key that is made may seal for `value` milliseconds (60000): its end is told, and a POST under it is refused with 1400087 then.",
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

/// What a request for a key comes to, when a fault wants something else than the key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Spoilt {
    /// Nothing is wrong.
    Not,
    /// Refused for good.
    Denied,
    /// The customer has revoked its keys.
    Revoked,
    /// It is in the other key service now.
    Moved,
}

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

/// What the first door asks its keeper.
pub(crate) struct Door<'a> {
    /// A message under an ephemeral key that is not known is refused in place of silence.
    pub(crate) refuse_unknown: bool,
    /// Whether a token is that user's, fit for key service, and the device that user's.
    pub(crate) trusted: &'a dyn Fn(&Asker) -> bool,
    /// What becomes of a request for a key.
    pub(crate) spoil: &'a dyn Fn() -> Spoilt,
    /// Until when a key that is made now may seal.
    pub(crate) ends: &'a dyn Fn() -> Option<Time>,
}

/// All key services.
#[derive(Debug)]
pub(crate) struct Kms(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// In the order of [`Home::ALL`].
    sites: [Site; 2],
    keys: BTreeMap<KeyUri, Stored>,
    resources: BTreeMap<ResourceUri, BTreeSet<String>>,
}

#[derive(Clone, Debug)]
struct Stored {
    key: ContentKey,
    creator: String,
    device: String,
    created: Time,
    /// From when on nothing may be sealed with it; it opens for ever.
    ends: Option<Time>,
    bound: Option<(ResourceUri, Time)>,
}

impl Kms {
    pub(crate) fn new() -> Result<Self, SetupError> {
        let [cloud, on_premises] = Home::ALL;
        Ok(Self(Mutex::new(Inner {
            sites: [Site::new(cloud)?, Site::new(on_premises)?],
            keys: BTreeMap::new(),
            resources: BTreeMap::new(),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a message at the key service that it is sealed for.
    fn open(&self, message: &str, now: Time) -> (Home, Result<Incoming, OpenError>) {
        let kid = jwe::peek(message).ok().and_then(|header| header.kid).unwrap_or_default();
        let cluster = ClusterUri::of(&kid).ok();
        let is_at = |home: &Home| cluster.as_ref().is_some_and(|cluster| cluster.host() == home.host());
        let home = Home::ALL.into_iter().find(is_at).unwrap_or(Home::Cloud);
        let mut inner = self.inner();
        let site = inner.site(home);
        site.expire(now);
        (home, site.responder.open(message))
    }

    /// What `GET /kms/{user}` tells: the cluster and the static key as a text with JSON in it.
    pub(crate) fn info(&self, home: Home) -> (String, String) {
        let mut inner = self.inner();
        let key = inner.site(home).responder.static_key();
        (key.cluster().as_str().to_owned(), key.public_json())
    }

    /// The roots of all chains, as PEM, for clients that pin them.
    pub(crate) fn roots(&self) -> String {
        self.inner().sites.iter().map(|site| site.root.as_str()).collect()
    }

    /// Forgets all ephemeral keys.
    pub(crate) fn forget_all(&self) {
        for site in &mut self.inner().sites {
            site.responder.forget_all();
            site.expiries.clear();
        }
    }

    /// Whether nothing may be sealed with this key any more.
    pub(crate) fn has_ended(&self, key: &str, now: Time) -> bool {
        let ended = |stored: &Stored| stored.ends.is_some_and(|ends| ends <= now);
        key.parse().ok().and_then(|key: KeyUri| self.inner().keys.get(&key).map(ended)).unwrap_or(false)
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
        let cluster = ClusterUri::of(resource.as_str()).ok()?;
        let uri = inner.make_key(&cluster, ("", ""), now, None, rng)?;
        inner.keys.get_mut(&uri)?.bound = Some((resource, now));
        Some(uri.as_str().to_owned())
    }

    /// The first door: one of the `kmsMessages` that a device posted.
    pub(crate) fn message(&self, message: &str, now: Time, rng: &Generator, door: &Door<'_>) -> Reply {
        let (home, opened) = self.open(message, now);
        // Asked without the lock: whoever answers holds one of its own, under which it asks us.
        let accepted = match &opened {
            Ok(Incoming::Exchange(exchange)) => (door.trusted)(&exchange.asker),
            Ok(Incoming::Call(call)) => (door.trusted)(&call.received.asker),
            Err(_) => false,
        };
        let spoilt = match &opened {
            Ok(Incoming::Call(call)) if matches!(call.received.request, Request::RetrieveKey { .. }) => {
                (door.spoil)()
            }
            _ => Spoilt::Not,
        };
        let ends = match &opened {
            Ok(Incoming::Call(call)) if matches!(call.received.request, Request::CreateKeys { .. }) => {
                (door.ends)()
            }
            _ => None,
        };
        let mut inner = self.inner();
        match opened {
            Ok(Incoming::Exchange(exchange)) => {
                let device = exchange.asker.device.clone();
                if !accepted {
                    return match inner.site(home).responder.refuse(
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
                let site = inner.site(home);
                match site.responder.agree(&exchange, &id, &now.rfc3339(), &expires.rfc3339()) {
                    Ok(message) => {
                        let cluster = site.responder.static_key().cluster();
                        if let Ok(uri) = EphemeralUri::new(cluster, &id) {
                            site.expiries.insert(uri, expires);
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
                let response = match (&call.received.request, spoilt) {
                    _ if !accepted => Response::refusal(403, "", "The token is not accepted."),
                    (Request::RetrieveKey { key }, spoilt) if spoilt != Spoilt::Not => {
                        inner.spoilt(&call, key, spoilt)
                    }
                    _ => inner.perform(home, &call, now, ends, rng),
                };
                match inner.site(home).responder.answer(&call, response) {
                    Ok(message) => Reply::To { device, message },
                    Err(_) => Reply::Silence,
                }
            }
            // Whose message it was cannot be read, so nobody could be told but for a switch that guesses nothing:
            // the refusal carries no request id.
            Err(OpenError::UnknownContext(_)) if door.refuse_unknown => {
                match inner.site(home).responder.refuse(403, "", "The ephemeral key is unknown.") {
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
        let (home, Ok(Incoming::Call(call))) = self.open(message, now) else { return None };
        let accepted = trusted(&call.received.asker);
        let mut inner = self.inner();
        let response = if accepted {
            inner.perform(home, &call, now, None, rng)
        } else {
            Response::refusal(403, "", "The token is not accepted.")
        };
        let status = response.status;
        let resource = response.resource.as_ref().map(|resource| resource.uri.as_str().to_owned());
        let message = inner.site(home).responder.answer(&call, response).ok()?;
        Some(Relayed { status, message, resource })
    }
}

impl Inner {
    fn site(&mut self, home: Home) -> &mut Site {
        &mut self.sites[home as usize]
    }

    fn make_key(
        &mut self,
        cluster: &ClusterUri,
        (creator, device): (&str, &str),
        now: Time,
        ends: Option<Time>,
        rng: &Generator,
    ) -> Option<KeyUri> {
        let uri = KeyUri::new(cluster, &rng.uuid()).ok()?;
        let stored = Stored {
            key: ContentKey::generate(&mut SystemRandom::new()),
            creator: creator.to_owned(),
            device: device.to_owned(),
            created: now,
            ends,
            bound: None,
        };
        self.keys.insert(uri.clone(), stored);
        Some(uri)
    }

    /// What a fault makes of a request for a key. Where it was moved, it is under its new name from now on, too.
    fn spoilt(&mut self, call: &Call, key: &KeyUri, spoilt: Spoilt) -> Response {
        let coded = |status, code, reason: &str| Response {
            error_code: Some(code),
            ..Response::refusal(status, &call.received.request_id, reason)
        };
        match spoilt {
            Spoilt::Moved => {
                let moved = Home::ALL.into_iter().find(|home| key.as_str().contains(home.host()));
                let moved = moved.and_then(|home| {
                    let to = key.as_str().replace(home.host(), home.other().host());
                    Some((to.parse::<KeyUri>().ok()?, self.keys.get(key)?.clone()))
                });
                let Some((to, stored)) = moved else {
                    return Response::refusal(404, "", "There is no such key.");
                };
                self.keys.entry(to.clone()).or_insert(stored);
                let refusal = coded(301, 301_002, "The key is kept elsewhere.");
                Response { redirect_uri: Some(to), ..refusal }
            }
            Spoilt::Revoked => coded(405, 405_005, "The customer's key was revoked."),
            Spoilt::Denied | Spoilt::Not => Response::refusal(403, "", "This is refused."),
        }
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
            expiration_date: stored.ends.map(Time::rfc3339),
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
        let cluster = ClusterUri::of(resource.as_str()).map_or_else(|_| String::new(), Into::into);
        // The id is a function of the two, so that the same authorization is named the same each time.
        let id = uuid::Uuid::from_u64_pair(fold(resource.as_str()), fold(user));
        Authorization {
            uri: format!("{cluster}/authorizations/{id}"),
            resource_uri: Some(resource.clone()),
            auth_id: Some(user.to_owned()),
        }
    }

    fn perform(
        &mut self,
        home: Home,
        call: &Call,
        now: Time,
        ends: Option<Time>,
        rng: &Generator,
    ) -> Response {
        let cluster = self.site(home).responder.static_key().cluster().clone();
        let asker = &call.received.asker;
        let refuse = |status, reason: &str| Response::refusal(status, "", reason);
        let not_yours = || refuse(403, "The user is not authorized on the resource.");
        match &call.received.request {
            Request::CreateKeys { count } if (1..=MAX_KEYS).contains(count) => {
                let maker = (asker.user.as_str(), asker.device.as_str());
                let made: Vec<KeyUri> =
                    (0..*count).filter_map(|_| self.make_key(&cluster, maker, now, ends, rng)).collect();
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
                let Ok(uri) = ResourceUri::new(&cluster, &rng.uuid()) else {
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
