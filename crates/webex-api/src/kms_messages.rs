//! Messages to the key service, carried unread; its answers come over Mercury.

use bytes::Bytes;
use http::{Method, Request, Response};
use serde::{Deserialize, Serialize};

use crate::catalog::Service;
use crate::endpoint::{Context, Destination, Endpoint, accepted, json, plain, read};
use crate::{ApiError, KmsUri, PersonId};

/// `GET {encryption}/kms/{person}`: which key service a person has, and its public key.
#[derive(Clone, Debug)]
pub struct GetInfo(pub PersonId);

/// Where a person's key service is, and what to check its messages with.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Info {
    /// The destination of all messages of this person.
    pub kms_cluster: KmsUri,
    /// The service's public key: JSON text of a JWK with its certificate chain.
    pub rsa_public_key: String,
}

/// `POST {encryption}/kms/messages`: hands over wrapped messages. The answer to them comes over the
/// Mercury socket of the device that they name, perhaps before this request is answered.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Send {
    /// The asking person's own [`Info::kms_cluster`], also for keys of other organizations.
    pub destination: KmsUri,
    /// At most [`MAX_MESSAGES`] compact JWEs.
    pub kms_messages: Vec<String>,
}

/// How many messages fit into one [`Send`].
pub const MAX_MESSAGES: usize = 50;

impl Endpoint for GetInfo {
    type Response = Info;

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::Encryption)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        plain(Method::GET, &context.base.join(["kms", self.0.as_str()]), context)
    }

    fn from_http(response: Response<Bytes>) -> Result<Info, ApiError> {
        read(response)
    }
}

impl Endpoint for Send {
    type Response = ();

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::Encryption)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        json(Method::POST, &context.base.join(["kms", "messages"]), context, &self)
    }

    fn from_http(response: Response<Bytes>) -> Result<(), ApiError> {
        accepted(response).map(drop)
    }
}
