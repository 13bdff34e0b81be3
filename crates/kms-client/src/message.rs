//! What is said inside of the sealed messages: requests and responses as types, for both roles.
//!
//! A request is `method` and `uri` with a few members; a response is a `status` with what was asked for. The
//! same `requestId` joins the two. Members that we do not know are passed over in both directions.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::crypto::Random;
use crate::jose::JwkError;
use crate::jose::jwk::{ContentKey, EcJwk, Jwk, OctJwk};
use crate::uri::{ClusterUri, EphemeralUri, KeyUri, ResourceUri};

/// The text is not a message of the kind that was expected. What it says is kept out of the error.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("malformed {what}")]
pub struct MessageError {
    what: &'static str,
}

impl MessageError {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what }
    }
}

/// An access token, without the word `Bearer`. Wiped when dropped, never printed.
#[derive(Clone, Default)]
pub struct Bearer(Zeroizing<String>);

impl Bearer {
    /// Takes the text of a token.
    #[must_use]
    pub fn new(token: impl Into<String>) -> Self {
        Self(Zeroizing::new(token.into()))
    }

    /// The text of the token.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer")
    }
}

/// Who asks: a device, and a user with a token whose scopes include `spark:kms`.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Address of the device at the device service; the KMS answers to this device alone.
    pub device: String,
    /// UUID of the user.
    pub user: String,
    /// The user's access token.
    pub bearer: Bearer,
}

impl Asker {
    fn from_json(request: &Value) -> Option<Self> {
        let client = request.get("client")?;
        let credential = client.get("credential")?;
        Some(Self {
            device: client.get("clientId")?.as_str()?.into(),
            user: credential.get("userId")?.as_str()?.into(),
            bearer: Bearer::new(credential.get("bearer")?.as_str()?),
        })
    }
}

/// What can be asked of the KMS over an established context.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Request {
    /// Make keys that are bound to no resource yet; only their creator may fetch them. Answered by
    /// [`Response::keys`].
    CreateKeys {
        /// How many, at least 1.
        count: u32,
    },
    /// Hand out a key. Answered by [`Response::key`].
    RetrieveKey {
        /// Which one; also one of another organization's cluster.
        key: KeyUri,
    },
    /// Make a resource, authorize these users on it and bind these keys to it. Answered by
    /// [`Response::resource`].
    CreateResource {
        /// UUIDs of the users, the asker among them.
        users: Vec<String>,
        /// Keys of the asker that are not bound yet.
        keys: Vec<KeyUri>,
    },
    /// Bind one more key to a resource, as when a conversation's key is rotated. Answered by [`Response::key`].
    BindKey {
        /// The key, not bound yet.
        key: KeyUri,
        /// The resource it is bound to.
        resource: ResourceUri,
    },
    /// Authorize more users. Answered by [`Response::authorizations`].
    CreateAuthorizations {
        /// On which resource.
        resource: ResourceUri,
        /// Their UUIDs.
        users: Vec<String>,
    },
    /// Take a user's authorization away. Answered by [`Response::authorizations`].
    DeleteAuthorization {
        /// On which resource.
        resource: ResourceUri,
        /// UUID of the user.
        user: String,
    },
    /// List who is authorized. Answered by [`Response::authorizations`].
    ListAuthorizations {
        /// On which resource.
        resource: ResourceUri,
    },
    /// Nothing but an answer.
    Ping,
    /// What the KMS role received and does not know; it should be refused.
    Other {
        /// The method as it was written.
        method: String,
        /// The URI as it was written.
        uri: String,
    },
}

impl Request {
    /// The JSON that is sealed and sent.
    #[must_use]
    pub fn to_json(&self, request_id: &str, asker: &Asker) -> Zeroizing<Vec<u8>> {
        let mut wire = Wire::default();
        let uri;
        (wire.method, uri) = match self {
            Self::CreateKeys { count } => {
                wire.count = Some(*count);
                ("create", "/keys".into())
            }
            Self::RetrieveKey { key } => ("retrieve", key.to_string()),
            Self::CreateResource { users, keys } => {
                (wire.user_ids, wire.key_uris) = (Some(users), Some(keys));
                ("create", "/resources".into())
            }
            Self::BindKey { key, resource } => {
                wire.resource_uri = Some(resource);
                ("update", key.to_string())
            }
            Self::CreateAuthorizations { resource, users } => {
                (wire.resource_uri, wire.user_ids) = (Some(resource), Some(users));
                ("create", "/authorizations".into())
            }
            Self::DeleteAuthorization { resource, user } => {
                ("delete", format!("{resource}/authorizations?authId={user}"))
            }
            Self::ListAuthorizations { resource } => ("retrieve", format!("{resource}/authorizations")),
            Self::Ping => ("update", "/ping".into()),
            Self::Other { method, uri } => (method.as_str(), uri.clone()),
        };
        wire.uri = &uri;
        wire.write(request_id, asker)
    }

    fn from_json(body: &Value) -> Result<Self, MessageError> {
        let malformed = || MessageError::new("request");
        let text = |name: &str| body.get(name).and_then(Value::as_str).ok_or_else(malformed);
        let (method, uri) = (text("method")?, text("uri")?);
        let resource = || text("resourceUri")?.parse::<ResourceUri>().map_err(|_| malformed());
        let list = |name: &str| -> Result<Vec<String>, MessageError> {
            let items = body.get(name).and_then(Value::as_array).ok_or_else(malformed)?;
            items.iter().map(|item| item.as_str().map(String::from).ok_or_else(malformed)).collect()
        };
        // Relative and absolute forms both occur; what follows the host decides.
        let path = match ClusterUri::of(uri) {
            Ok(cluster) => &uri[cluster.as_str().len()..],
            Err(_) => uri,
        };
        let authorizations = |path: &str| -> Option<(ResourceUri, String)> {
            let (resource, query) = path.split_once("/authorizations")?;
            let resource = uri[..uri.len() - path.len() + resource.len()].parse().ok()?;
            Some((resource, query.strip_prefix("?authId=").unwrap_or_default().into()))
        };
        Ok(match (method, path) {
            ("create", "/keys") => Self::CreateKeys {
                count: body
                    .get("count")
                    .and_then(Value::as_u64)
                    .and_then(|n| u32::try_from(n).ok())
                    .ok_or_else(malformed)?,
            },
            ("create", "/resources") => Self::CreateResource {
                users: list("userIds")?,
                keys: list("keyUris")?
                    .iter()
                    .map(|key| key.parse().map_err(|_| malformed()))
                    .collect::<Result<_, _>>()?,
            },
            ("create", "/authorizations") => {
                Self::CreateAuthorizations { resource: resource()?, users: list("userIds")? }
            }
            ("update", "/ping") => Self::Ping,
            ("retrieve", _) if uri.parse::<KeyUri>().is_ok() => {
                Self::RetrieveKey { key: uri.parse().map_err(|_| malformed())? }
            }
            ("update", _) if uri.parse::<KeyUri>().is_ok() => {
                Self::BindKey { key: uri.parse().map_err(|_| malformed())?, resource: resource()? }
            }
            ("retrieve" | "delete", _) => match (method, authorizations(path)) {
                ("retrieve", Some((resource, _))) => Self::ListAuthorizations { resource },
                ("delete", Some((resource, user))) if !user.is_empty() => {
                    Self::DeleteAuthorization { resource, user }
                }
                _ => Self::Other { method: method.into(), uri: uri.into() },
            },
            _ => Self::Other { method: method.into(), uri: uri.into() },
        })
    }
}

/// A fresh id for a request: a random UUID (RFC 9562 §5.4).
pub(crate) fn request_id(random: &mut dyn Random) -> String {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The JSON of the request that makes an ephemeral key.
pub(crate) fn exchange_json(
    cluster: &ClusterUri,
    key: &EcJwk,
    request_id: &str,
    asker: &Asker,
) -> Zeroizing<Vec<u8>> {
    let uri = format!("{cluster}/ecdhe");
    let jwk = Some(Jwk::Ec(key.clone()));
    Wire { method: "create", uri: &uri, jwk, ..Wire::default() }.write(request_id, asker)
}

/// A request as it is written: borrowed, so that the token is copied into the text and nowhere else.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    method: &'a str,
    uri: &'a str,
    request_id: &'a str,
    client: WireClient<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_ids: Option<&'a Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_uris: Option<&'a Vec<KeyUri>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_uri: Option<&'a ResourceUri>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwk: Option<Jwk>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct WireClient<'a> {
    client_id: &'a str,
    credential: WireCredential<'a>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct WireCredential<'a> {
    user_id: &'a str,
    bearer: &'a str,
}

impl<'a> Wire<'a> {
    fn write(mut self, request_id: &'a str, asker: &'a Asker) -> Zeroizing<Vec<u8>> {
        self.request_id = request_id;
        self.client = WireClient {
            client_id: &asker.device,
            credential: WireCredential { user_id: &asker.user, bearer: asker.bearer.as_str() },
        };
        // Roomy, since a text that has to move as it grows leaves a copy of the token behind.
        let mut text = Zeroizing::new(Vec::with_capacity(4096 + 2 * asker.bearer.as_str().len()));
        serde_json::to_writer(&mut *text, &self).expect("a request has string keys only");
        text
    }
}

/// A request as the KMS role reads it.
#[derive(Clone, Debug)]
pub struct Received {
    /// What is asked.
    pub request: Request,
    /// Goes into the answer unchanged.
    pub request_id: String,
    /// Who asks. The KMS must check the token.
    pub asker: Asker,
}

impl Received {
    /// Reads the opened text of a request.
    ///
    /// # Errors
    /// [`MessageError`] if a member that belongs to it is missing or of a wrong type.
    pub fn parse(text: &[u8]) -> Result<Self, MessageError> {
        let body: Value = serde_json::from_slice(text).map_err(|_| MessageError::new("request"))?;
        let (request_id, asker) = frame(&body)?;
        Ok(Self { request: Request::from_json(&body)?, request_id, asker })
    }
}

/// The members that every request has.
fn frame(body: &Value) -> Result<(String, Asker), MessageError> {
    let request_id = body.get("requestId").and_then(Value::as_str);
    match (request_id, Asker::from_json(body)) {
        (Some(id), Some(asker)) => Ok((id.into(), asker)),
        _ => Err(MessageError::new("request")),
    }
}

/// The request that makes an ephemeral key, as the KMS role reads it.
pub(crate) fn parse_exchange(text: &[u8]) -> Result<(String, Asker, EcJwk), MessageError> {
    let malformed = || MessageError::new("key exchange");
    let mut body: Value = serde_json::from_slice(text).map_err(|_| malformed())?;
    let (request_id, asker) = frame(&body)?;
    let create = body.get("method").and_then(Value::as_str) == Some("create");
    let ecdhe = body.get("uri").and_then(Value::as_str).is_some_and(|uri| uri.ends_with("/ecdhe"));
    match serde_json::from_value(body["jwk"].take()) {
        Ok(Jwk::Ec(key)) if create && ecdhe => Ok((request_id, asker, key)),
        _ => Err(malformed()),
    }
}

/// A key of a conversation, as the KMS hands it out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// Its name.
    pub uri: KeyUri,
    /// The key itself; `kid` and `alg` in it mean nothing.
    pub jwk: OctKey,
    /// UUID of its creator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Device of its creator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// When it was made (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_date: Option<String>,
    /// From when on nothing new may be sealed with it (RFC 3339); `None` means never. Opening stays allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_date: Option<String>,
    /// When it was bound (RFC 3339); `None` while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_date: Option<String>,
    /// What it is bound to; `None` while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_uri: Option<ResourceUri>,
}

/// A symmetric key as a JWK that says so.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "OctWire", into = "Jwk")]
pub struct OctKey(pub OctJwk);

/// Read member by member, since an enum tagged by a member is read into buffers that nobody wipes.
#[derive(Deserialize)]
struct OctWire {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    k: ContentKey,
}

impl TryFrom<OctWire> for OctKey {
    type Error = JwkError;

    fn try_from(wire: OctWire) -> Result<Self, JwkError> {
        if wire.kty != "oct" {
            return Err(JwkError::WrongType { wanted: "oct" });
        }
        Ok(Self(OctJwk { kid: wire.kid, alg: wire.alg, k: wire.k }))
    }
}

impl From<OctKey> for Jwk {
    fn from(key: OctKey) -> Self {
        Self::Oct(key.0)
    }
}

/// What keys are bound to and users are authorized on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// Its name, which the conversation keeps as `kmsResourceObjectUrl`.
    pub uri: ResourceUri,
    /// The keys bound to it.
    #[serde(default)]
    pub key_uris: Vec<KeyUri>,
    /// The authorizations on it.
    #[serde(default)]
    pub authorization_uris: Vec<String>,
}

/// One user's right to the keys of a resource.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// Its name.
    pub uri: String,
    /// On what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_uri: Option<ResourceUri>,
    /// UUID of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_id: Option<String>,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// As in HTTP; 400 and more is a refusal.
    pub status: u16,
    /// The id of the request; empty if the KMS could not read it.
    #[serde(default)]
    pub request_id: String,
    /// Why it was refused, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it was refused, as a number of the key service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<i64>,
    /// Where a key that was asked for is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_uri: Option<KeyUri>,
    /// The key that was asked for or bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// The keys that were made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Key>,
    /// The resource that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// The authorizations that were made, taken away or listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorizations: Vec<Authorization>,
}

impl Response {
    /// A bare answer with this status to that request.
    #[must_use]
    pub fn new(status: u16, request_id: &str) -> Self {
        Self { status, request_id: request_id.into(), ..Self::default() }
    }

    /// A refusal with a reason in words.
    #[must_use]
    pub fn refusal(status: u16, request_id: &str, reason: &str) -> Self {
        Self { reason: Some(reason.into()), ..Self::new(status, request_id) }
    }

    /// Reads the opened text of a response.
    ///
    /// # Errors
    /// [`MessageError`] if it is not JSON, has no status, or a member has a wrong type.
    pub fn parse(text: &[u8]) -> Result<Self, MessageError> {
        serde_json::from_slice(text).map_err(|_| MessageError::new("response"))
    }

    /// The JSON that is sealed and sent.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        Zeroizing::new(serde_json::to_string(self).expect("a response has string keys only"))
    }
}

/// The answer to the key exchange, before the derivation.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExchangeResponse {
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) request_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<EphemeralKey>,
}

/// The peer's half of the key exchange.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EphemeralKey {
    pub(crate) uri: EphemeralUri,
    pub(crate) jwk: Jwk,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) create_date: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expiration_date: Option<String>,
}
