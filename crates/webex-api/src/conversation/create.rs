//! The one conversation of two people: found, or made.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::Conversation;
use crate::activity::Items;
use crate::catalog::Service;
use crate::endpoint::{Context, Destination, Endpoint, json, plain, read};
use crate::{ApiError, KmsUri, PersonId};

/// `GET {conversation}/conversations/user/{person}`: the conversation of the asking person with
/// another; `None` when there is none yet.
#[derive(Clone, Debug)]
pub struct FindDirect(pub PersonId);

impl Endpoint for FindDirect {
    type Response = Option<Conversation>;

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::Conversation)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        let url = context.base.join(["conversations", "user", self.0.as_str()]).with_query([
            ("uuidEntryFormat", "true"),
            ("personRefresh", "true"),
            ("activitiesLimit", "0"),
            ("includeConvWithDeletedUserUUID", "true"),
            ("includeParticipants", "true"),
        ]);
        plain(Method::GET, &url, context)
    }

    fn from_http(response: Response<Bytes>) -> Result<Option<Conversation>, ApiError> {
        if response.status() == StatusCode::NOT_FOUND { Ok(None) } else { read(response).map(Some) }
    }
}

/// `POST {conversation}/conversations`: makes the conversation of two people, empty.
///
/// What the cloud answers when somebody else made it first is not known: read it again by
/// [`FindDirect`] after any answer, and use what that says.
#[derive(Clone, Debug)]
pub struct Create {
    /// The token's own person.
    pub me: PersonId,
    /// The other one.
    pub other: PersonId,
    /// A key that is not bound to any resource yet.
    pub key: KmsUri,
    /// A wrapped request to the key service: create a resource with both people and the key.
    pub kms_message: String,
}

impl Endpoint for Create {
    type Response = Conversation;

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::Conversation)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        let me = PersonOut::new(&self.me);
        let activity =
            |verb, object| ActivityOut { object_type: "activity", verb, actor: me.clone(), object };
        let body = CreateWire {
            object_type: "conversation",
            tags: ["ONE_ON_ONE"],
            encryption_key_url: &self.key,
            default_activity_encryption_key_url: &self.key,
            kms_message: &self.kms_message,
            participants: Items::default(),
            activities: Activities {
                items: [
                    activity("create", None),
                    activity("add", Some(me.clone())),
                    activity("add", Some(PersonOut::new(&self.other))),
                ],
            },
        };
        json(Method::POST, &context.base.join(["conversations"]), context, &body)
    }

    fn from_http(response: Response<Bytes>) -> Result<Conversation, ApiError> {
        read(response)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreateWire<'a> {
    object_type: &'static str,
    tags: [&'static str; 1],
    encryption_key_url: &'a KmsUri,
    default_activity_encryption_key_url: &'a KmsUri,
    kms_message: &'a str,
    participants: Items,
    activities: Activities<'a>,
}

#[derive(Serialize)]
struct Activities<'a> {
    items: [ActivityOut<'a>; 3],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActivityOut<'a> {
    object_type: &'static str,
    verb: &'static str,
    actor: PersonOut<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<PersonOut<'a>>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct PersonOut<'a> {
    object_type: &'static str,
    id: &'a PersonId,
    #[serde(rename = "entryUUID")]
    entry_uuid: &'a PersonId,
}

impl<'a> PersonOut<'a> {
    fn new(id: &'a PersonId) -> Self {
        Self { object_type: "person", id, entry_uuid: id }
    }
}
