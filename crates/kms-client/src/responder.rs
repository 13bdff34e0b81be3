//! The KMS role: opens what clients send, agrees on ephemeral keys, seals the answers.
//!
//! It is here so that both roles are tried against each other and so that a stand-in of the cloud has a real key
//! service. It decides nothing: who may have which key, when an ephemeral key expires and what is stored is the
//! business of whoever holds it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::crypto::{Agreement, IV, Random};
use crate::jose::jwk::{ContentKey, EcJwk, Jwk, RsaJwk, RsaPrivateKey};
use crate::jose::{JweError, JwsError, jwe, jws};
use crate::message::{self, Asker, EphemeralKey, ExchangeResponse, MessageError, Received, Response};
use crate::uri::{ClusterUri, EphemeralUri, UriError};

/// How many ephemeral keys are kept; beyond that the oldest is forgotten.
const MAX_CONTEXTS: usize = 16_384;

/// Why a static key could not be made or used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StaticKeyError {
    /// The private key is not PKCS #8 DER of an RSA key of 2048 to 4096 bits.
    #[error("unusable RSA private key")]
    Key,
    /// The name of the key is not a `kms://` URI.
    #[error("key name is {0}")]
    Name(#[from] UriError),
}

/// The long-lived RSA key by which clients know a KMS.
pub struct StaticKey {
    private: RsaPrivateKey,
    kid: String,
    cluster: ClusterUri,
    chain: Vec<CertificateDer<'static>>,
}

impl StaticKey {
    /// Takes a private key (PKCS #8 DER), its name (`kms://<host>/<anything>`) and its certificate chain, leaf first.
    /// The chain is published as it is: whether it fits is for the clients to find out.
    ///
    /// # Errors
    /// [`StaticKeyError`] if the key or the name is unusable.
    pub fn from_pkcs8(
        der: &[u8],
        kid: &str,
        chain: Vec<CertificateDer<'static>>,
    ) -> Result<Self, StaticKeyError> {
        let private = RsaPrivateKey::from_pkcs8(der).map_err(|_| StaticKeyError::Key)?;
        Ok(Self { private, kid: kid.into(), cluster: ClusterUri::of(kid)?, chain })
    }

    /// Makes a private key of this many bits and returns it as PKCS #8 DER, for [`from_pkcs8`](Self::from_pkcs8)
    /// and for whatever signs the certificate. Takes seconds in a debug build.
    ///
    /// # Errors
    /// [`StaticKeyError::Key`] if the size is outside of 2048 to 4096.
    pub fn generate_pkcs8(bits: usize) -> Result<Zeroizing<Vec<u8>>, StaticKeyError> {
        RsaPrivateKey::generate(bits).and_then(|key| key.to_pkcs8()).map_err(|_| StaticKeyError::Key)
    }

    /// The public half with its name and chain.
    #[must_use]
    pub fn jwk(&self) -> RsaJwk {
        RsaJwk {
            kid: Some(self.kid.clone()),
            x5c: self.chain.iter().map(|der| STANDARD.encode(der)).collect(),
            ..self.private.public()
        }
    }

    /// The text that `GET {encryption}/kms/{userId}` gives as `rsaPublicKey`: a string with JSON in it.
    #[must_use]
    pub fn public_json(&self) -> String {
        serde_json::to_string(&Jwk::Rsa(self.jwk())).expect("a key has string keys only")
    }

    /// The cluster this key speaks for, which is also given as `kmsCluster`.
    #[must_use]
    pub fn cluster(&self) -> &ClusterUri {
        &self.cluster
    }

    /// Name of the key.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// What a client sent, opened.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// It wants an ephemeral key: answer with [`Responder::agree`].
    Exchange(Exchange),
    /// It asks something over its ephemeral key: answer with [`Responder::answer`].
    Call(Call),
}

/// A client's wish for an ephemeral key.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Goes into the answer unchanged.
    pub request_id: String,
    /// Who asks. The token must be checked before the answer.
    pub asker: Asker,
    peer: EcJwk,
}

/// A request over an ephemeral key.
#[derive(Clone, Debug)]
pub struct Call {
    /// The key that it came with, and that the answer goes back with.
    pub context: EphemeralUri,
    /// What is asked, and by whom.
    pub received: Received,
}

/// Why a message was not understood.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It is not a JWE that was sealed for this KMS.
    #[error("message cannot be opened")]
    Jwe(#[from] JweError),
    /// It was sealed with an ephemeral key that is not known, or no longer: answer with [`Responder::refuse`], or
    /// stay silent.
    #[error("unknown ephemeral key `{0}`")]
    UnknownContext(String),
    /// It was sealed with the ephemeral key of another user or device than it claims to come from.
    #[error("ephemeral key belongs to another device")]
    Foreign,
    /// It opened, but is no request.
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// Why an answer could not be made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The ephemeral key was forgotten since the request was opened.
    #[error("unknown ephemeral key `{0}`")]
    UnknownContext(EphemeralUri),
    /// The client's half of the exchange is no point of P-256.
    #[error("unusable public key")]
    Peer,
    /// The name for the ephemeral key is no name.
    #[error("name is {0}")]
    Name(#[from] UriError),
    /// It could not be sealed.
    #[error("answer cannot be sealed")]
    Jwe(#[from] JweError),
    /// It could not be signed.
    #[error("answer cannot be signed")]
    Jws(#[from] JwsError),
}

/// One KMS: a static key and the ephemeral keys agreed on with it.
pub struct Responder {
    key: StaticKey,
    random: Box<dyn Random>,
    contexts: BTreeMap<EphemeralUri, Context>,
    oldest: VecDeque<EphemeralUri>,
}

struct Context {
    key: ContentKey,
    user: String,
    device: String,
}

impl Responder {
    /// Starts without any ephemeral key.
    #[must_use]
    pub fn new(key: StaticKey, random: Box<dyn Random>) -> Self {
        Self { key, random, contexts: BTreeMap::new(), oldest: VecDeque::new() }
    }

    /// The static key.
    #[must_use]
    pub fn static_key(&self) -> &StaticKey {
        &self.key
    }

    /// Opens one element of `kmsMessages`, or a `kmsMessage` of a conversation call.
    ///
    /// # Errors
    /// Why it was not understood; nothing has changed then.
    pub fn open(&self, message: &str) -> Result<Incoming, OpenError> {
        let header = jwe::peek(message)?;
        if header.alg == "RSA-OAEP" {
            let text = jwe::open_with(&self.key.private, message)?;
            let (request_id, asker, peer) = message::parse_exchange(&text)?;
            return Ok(Incoming::Exchange(Exchange { request_id, asker, peer }));
        }
        let kid = header.kid.unwrap_or_default();
        let found = kid.parse().ok().and_then(|uri: EphemeralUri| Some((self.contexts.get(&uri)?, uri)));
        let Some((context, uri)) = found else { return Err(OpenError::UnknownContext(kid)) };
        let received = Received::parse(&jwe::open(&context.key, message)?)?;
        if received.asker.user != context.user || received.asker.device != context.device {
            return Err(OpenError::Foreign);
        }
        Ok(Incoming::Call(Call { context: uri, received }))
    }

    /// Agrees on an ephemeral key named `kms://<host>/ecdhe/<id>` and returns the signed answer. `created` and
    /// `expires` are told to the client (RFC 3339); when the time comes, call [`forget`](Self::forget).
    ///
    /// # Errors
    /// [`AnswerError::Peer`] if the client's key is unusable, [`AnswerError::Name`] if `id` is.
    pub fn agree(
        &mut self,
        exchange: &Exchange,
        id: &str,
        created: &str,
        expires: &str,
    ) -> Result<String, AnswerError> {
        let uri = EphemeralUri::new(&self.key.cluster, id)?;
        let peer = exchange.peer.point().map_err(|_| AnswerError::Peer)?;
        let ours = Agreement::generate().map_err(|_| AnswerError::Peer)?;
        let point = EcJwk::from_point(&ours.public);
        let key = ContentKey::from_wiped(ours.agree(&peer).map_err(|_| AnswerError::Peer)?);
        let body = ExchangeResponse {
            status: 201,
            request_id: exchange.request_id.clone(),
            reason: None,
            key: Some(EphemeralKey {
                uri: uri.clone(),
                jwk: Jwk::Ec(point),
                user_id: Some(exchange.asker.user.clone()),
                client_id: Some(exchange.asker.device.clone()),
                create_date: Some(created.into()),
                expiration_date: Some(expires.into()),
            }),
        };
        let body = serde_json::to_vec(&body).expect("an answer has string keys only");
        let answer = jws::sign(&self.key.private, &self.key.kid, &body)?;
        let context =
            Context { key, user: exchange.asker.user.clone(), device: exchange.asker.device.clone() };
        if self.contexts.insert(uri.clone(), context).is_none() {
            self.oldest.push_back(uri);
        }
        while self.oldest.len() > MAX_CONTEXTS {
            if let Some(uri) = self.oldest.pop_front() {
                self.contexts.remove(&uri);
            }
        }
        Ok(answer)
    }

    /// Seals the answer to a call; its `requestId` is set to that of the call.
    ///
    /// # Errors
    /// [`AnswerError::UnknownContext`] if the ephemeral key is gone, [`AnswerError::Jwe`] if it is too long.
    pub fn answer(&mut self, call: &Call, response: Response) -> Result<String, AnswerError> {
        let context = self
            .contexts
            .get(&call.context)
            .ok_or_else(|| AnswerError::UnknownContext(call.context.clone()))?;
        let response = Response { request_id: call.received.request_id.clone(), ..response };
        let mut iv = [0; IV];
        self.random.fill(&mut iv);
        Ok(jwe::seal_for(&context.key, call.context.as_str(), &iv, response.to_json().as_bytes())?)
    }

    /// Signs a refusal for a client with which there is no ephemeral key (any more): it is not secret.
    ///
    /// # Errors
    /// [`AnswerError::Jws`] if the static key cannot sign.
    pub fn refuse(&self, status: u16, request_id: &str, reason: &str) -> Result<String, AnswerError> {
        let body = Response::refusal(status, request_id, reason).to_json();
        Ok(jws::sign(&self.key.private, &self.key.kid, body.as_bytes())?)
    }

    /// Forgets an ephemeral key: it expired, or is to be lost on purpose.
    pub fn forget(&mut self, uri: &EphemeralUri) {
        self.contexts.remove(uri);
        self.oldest.retain(|kept| kept != uri);
    }

    /// Forgets all ephemeral keys, as a restart would.
    pub fn forget_all(&mut self) {
        self.contexts.clear();
        self.oldest.clear();
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("key", &self.key)
            .field("contexts", &self.contexts.len())
            .finish_non_exhaustive()
    }
}
