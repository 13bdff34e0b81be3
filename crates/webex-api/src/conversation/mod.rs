//! Conversations and who takes part in them.

mod create;
mod page;
mod walk;

use bytes::Bytes;
use http::{Method, Request, Response};
use serde::Deserialize;

pub use self::create::{Create, CreateLocked, FindDirect};
pub use self::page::{Activities, GetActivity, List, Listed, Page};
pub use self::walk::{Walk, WalkError};
use crate::activity::Target;
use crate::endpoint::{Context, Destination, Endpoint, plain, read};
use crate::{ActivityId, ApiError, ConversationId, KmsUri, OrgId, PersonId, Timestamp, Url};

/// A conversation; as the target of an activity it comes with few of its fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Conversation {
    /// Its identifier inside its cluster.
    pub id: ConversationId,
    /// Its address, cluster included; requests go here.
    pub url: Option<Url>,
    /// What kind of conversation it is, in the cloud's words; see [`Conversation::is_direct`].
    #[serde(default)]
    pub tags: Vec<String>,
    /// The key of its title.
    pub encryption_key_url: Option<KmsUri>,
    /// The key for new activities; changes from time to time.
    pub default_activity_encryption_key_url: Option<KmsUri>,
    /// Its resource at the key service, on which participants are authorized.
    pub kms_resource_object_url: Option<KmsUri>,
    /// When the last activity of somebody else to be read was stored.
    pub last_readable_activity_date: Option<Timestamp>,
    /// Up to when the asking person has read.
    pub last_seen_activity_date: Option<Timestamp>,
    /// Who takes part, as far as asked for.
    #[serde(default)]
    participants: Option<ParticipantsWire>,
    /// The key service's wrapped answer to a `kmsMessage` that was sent along.
    pub kms_message: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ParticipantsWire {
    #[serde(default)]
    items: Vec<Person>,
}

impl Conversation {
    /// Whether it is the one conversation of two people.
    pub fn is_direct(&self) -> bool {
        self.tags.iter().any(|tag| tag == "ONE_ON_ONE")
    }

    /// Who takes part, as far as asked for.
    pub fn participants(&self) -> &[Person] {
        self.participants.as_ref().map_or(&[], |list| &list.items)
    }

    /// What a [`Post`](crate::activity::Post) needs to know of it; `None` without an address.
    pub fn target(&self) -> Option<Target> {
        Some(Target {
            id: self.id.clone(),
            url: self.url.clone()?,
            kms_resource_object_url: self.kms_resource_object_url.clone(),
        })
    }
}

/// A person as conversations and activities name them.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "PersonWire")]
#[non_exhaustive]
pub struct Person {
    /// Who it is; `None` when the cloud gave an address only.
    pub id: Option<PersonId>,
    /// The person's address; may change.
    pub email: Option<String>,
    /// The person's organization.
    pub org_id: Option<OrgId>,
    /// `PERSON`, `ROBOT` and others, as it was written.
    pub kind: Option<String>,
    /// Up to which activity the person has read, where asked for.
    pub last_seen_activity: Option<ActivityId>,
    /// Up to when the person has read, where asked for.
    pub last_seen_activity_date: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PersonWire {
    id: Option<String>,
    #[serde(rename = "entryUUID")]
    entry_uuid: Option<String>,
    entry_email: Option<String>,
    email_address: Option<String>,
    org_id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    room_properties: Option<RoomPropertiesWire>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoomPropertiesWire {
    #[serde(rename = "lastSeenActivityUUID")]
    last_seen_activity_uuid: Option<ActivityId>,
    last_seen_activity_date: Option<Timestamp>,
}

impl From<PersonWire> for Person {
    fn from(wire: PersonWire) -> Self {
        // An identifier with an `@` is an address in the identifier's place.
        let id = |text: Option<String>| text.filter(|text| !text.contains('@'))?.parse().ok();
        let room = wire.room_properties.unwrap_or_default();
        Self {
            id: id(wire.entry_uuid).or_else(|| id(wire.id)),
            email: wire.entry_email.or(wire.email_address),
            org_id: wire.org_id.and_then(|org| org.parse().ok()),
            kind: wire.kind,
            last_seen_activity: room.last_seen_activity_uuid,
            last_seen_activity_date: room.last_seen_activity_date,
        }
    }
}

/// `GET {conversation.url}`: one conversation, with its participants and how far each has read.
#[derive(Clone, Debug)]
pub struct Get(pub Url);

impl Endpoint for Get {
    type Response = Conversation;

    fn destination(&self) -> Destination<'_> {
        Destination::Address(&self.0)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        let url = self.0.with_query([
            ("uuidEntryFormat", "true"),
            ("personRefresh", "true"),
            ("activitiesLimit", "0"),
            ("participantAckFilter", "all"),
            ("includeConvWithDeletedUserUUID", "false"),
        ]);
        plain(Method::GET, &url, context)
    }

    fn from_http(response: Response<Bytes>) -> Result<Conversation, ApiError> {
        read(response)
    }
}
