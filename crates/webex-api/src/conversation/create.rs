//! Conversations that are found or made: the one of two people, and locked spaces.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::Conversation;
use crate::activity::{Items, Text};
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

/// `POST {conversation}/conversations`: makes a space of several people that only its maker may change.
#[derive(Clone, Debug)]
pub struct CreateLocked {
    /// The token's own person, who becomes the moderator.
    pub me: PersonId,
    /// Everybody else.
    pub others: Vec<PersonId>,
    /// The title, sealed with the key.
    pub title: Text,
    /// A key that is not bound to any resource yet.
    pub key: KmsUri,
    /// A wrapped request to the key service: create a resource with all people and the key.
    pub kms_message: String,
}

impl Endpoint for Create {
    type Response = Conversation;

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::Conversation)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        let body = CreateWire {
            object_type: "conversation",
            tags: ["ONE_ON_ONE"],
            display_name: None,
            encryption_key_url: &self.key,
            default_activity_encryption_key_url: &self.key,
            kms_message: &self.kms_message,
            participants: Items::default(),
            activities: ActivitiesOut::new(&self.me, std::slice::from_ref(&self.other)),
        };
        json(Method::POST, &context.base.join(["conversations"]), context, &body)
    }

    fn from_http(response: Response<Bytes>) -> Result<Conversation, ApiError> {
        read(response)
    }
}

impl Endpoint for CreateLocked {
    type Response = Conversation;

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::Conversation)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        let body = CreateWire {
            object_type: "conversation",
            tags: ["LOCKED"],
            display_name: Some(&self.title),
            encryption_key_url: &self.key,
            default_activity_encryption_key_url: &self.key,
            kms_message: &self.kms_message,
            participants: Items::default(),
            activities: ActivitiesOut::new(&self.me, &self.others),
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
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<&'a Text>,
    encryption_key_url: &'a KmsUri,
    default_activity_encryption_key_url: &'a KmsUri,
    kms_message: &'a str,
    participants: Items,
    activities: ActivitiesOut<'a>,
}

#[derive(Serialize)]
struct ActivitiesOut<'a> {
    items: Vec<ActivityOut<'a>>,
}

impl<'a> ActivitiesOut<'a> {
    /// The making itself, then everybody who is added, the maker among them.
    fn new(me: &'a PersonId, others: &'a [PersonId]) -> Self {
        let activity =
            |verb, object| ActivityOut { object_type: "activity", verb, actor: PersonOut::new(me), object };
        let added = std::iter::once(me).chain(others);
        let added = added.map(|person| activity("add", Some(PersonOut::new(person))));
        Self { items: std::iter::once(activity("create", None)).chain(added).collect() }
    }
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

#[derive(Serialize)]
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
