//! Activities: what happens in a conversation, and `POST {conversation}/activities` and `…/content`.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::{Method, Request, Response};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::conversation::{Conversation, Person};
use crate::endpoint::{Context, Destination, Endpoint, json, read};
use crate::{ActivityId, ApiError, ClientTempId, ConversationId, KmsUri, PersonId, Timestamp, Url};

/// A text as it travels: a compact JWE when its activity names a key, else plain. Never printed.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// Takes the text as it is to be sent: sealed already.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text as it travels.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text as it travels.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.0.len())
    }
}

/// What an activity does.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(from = "String")]
#[non_exhaustive]
pub enum Verb {
    /// Says something; with a parent of type `edit`, says it anew.
    Post,
    /// Shares files.
    Share,
    /// Reads up to an activity.
    Acknowledge,
    /// Takes an activity back.
    Delete,
    /// What a listing shows in place of a deleted or replaced activity.
    Tombstone,
    /// Adds a person; with an object of type `reaction2`, reacts.
    Add,
    /// Leaves, or removes a person.
    Leave,
    /// Begins the conversation.
    Create,
    /// Changes the title, or brings another form of a file.
    Update,
    /// Any other, as it was written.
    Other(String),
}

impl From<String> for Verb {
    fn from(verb: String) -> Self {
        match verb.as_str() {
            "post" => Self::Post,
            "share" => Self::Share,
            "acknowledge" => Self::Acknowledge,
            "delete" => Self::Delete,
            "tombstone" => Self::Tombstone,
            "add" => Self::Add,
            "leave" => Self::Leave,
            "create" => Self::Create,
            "update" => Self::Update,
            _ => Self::Other(verb),
        }
    }
}

/// One activity as the cloud stored it. Fields not listed here are ignored.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Activity {
    /// Its identifier; what acknowledgements, edits and deletes name.
    pub id: ActivityId,
    /// What it does.
    pub verb: Verb,
    /// When the cloud stored it.
    pub published: Option<Timestamp>,
    /// Its address.
    pub url: Option<Url>,
    /// The author's own name for it; listings may leave it out.
    pub client_temp_id: Option<ClientTempId>,
    /// The key that its texts are sealed with; see [`Activity::key`].
    pub encryption_key_url: Option<KmsUri>,
    /// Who did it.
    pub actor: Option<Person>,
    /// What it was done with.
    pub object: Option<Object>,
    /// Where it was done; for `create` the conversation is the object.
    pub target: Option<Conversation>,
    /// What it belongs to.
    pub parent: Option<Parent>,
}

/// The activity that another one belongs to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[non_exhaustive]
pub struct Parent {
    /// The first activity, also for an edit of an edit.
    pub id: ActivityId,
    /// How the two belong together.
    #[serde(rename = "type", default = "unnamed")]
    pub kind: ParentKind,
}

fn unnamed() -> ParentKind {
    ParentKind::Other(String::new())
}

/// How an activity belongs to its parent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(from = "String")]
#[non_exhaustive]
pub enum ParentKind {
    /// Replaces its text.
    Edit,
    /// Answers it in its thread.
    Reply,
    /// Reacts to it.
    Reaction,
    /// Any other, as it was written.
    Other(String),
}

impl From<String> for ParentKind {
    fn from(kind: String) -> Self {
        match kind.as_str() {
            "edit" => Self::Edit,
            "reply" => Self::Reply,
            "reaction" => Self::Reaction,
            _ => Self::Other(kind),
        }
    }
}

/// What an activity is done with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Object {
    /// A text; both fields are gone once it is deleted.
    Comment {
        /// The plain text.
        display_name: Option<Text>,
        /// The same as HTML; not to be trusted.
        content: Option<Text>,
    },
    /// Files, with a text or without.
    Content {
        /// The plain text.
        display_name: Option<Text>,
        /// The same as HTML; not to be trusted.
        content: Option<Text>,
        /// The files.
        files: Vec<File>,
    },
    /// Another activity: the one read up to, or taken back.
    Activity {
        /// Which one.
        id: ActivityId,
        /// Its address.
        url: Option<Url>,
    },
    /// A person who is added or removed.
    Person(Box<Person>),
    /// The conversation itself.
    Conversation(Box<Conversation>),
    /// Any other, by its type; empty when it has none.
    Other(String),
}

/// A shared file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct File {
    /// The file's name, sealed as the activity's texts are.
    pub display_name: Option<Text>,
    /// Its size in bytes.
    pub file_size: Option<u64>,
    /// Its media type.
    pub mime_type: Option<String>,
    /// Where its ciphertext lies.
    pub url: Option<Url>,
    /// Where and with which key it is fetched, sealed as the activity's texts are.
    pub scr: Option<Text>,
}

#[derive(Default, Deserialize)]
struct FilesWire {
    #[serde(default)]
    items: Vec<File>,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// Keeps what each type of object needs. What it is of may be said at its end, so what is not known to be needless by
/// then is kept.
struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut object_type = None::<String>;
        let (mut display_name, mut content) = (None, None);
        let mut files = None::<FilesWire>;
        let mut rest = serde_json::Map::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "objectType" => object_type = Some(map.next_value()?),
                "displayName" => display_name = map.next_value()?,
                "content" => content = map.next_value()?,
                "files" => files = map.next_value()?,
                _ if matches!(object_type.as_deref(), Some("comment" | "content")) => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => {
                    rest.insert(key.into_owned(), map.next_value()?);
                }
            }
        }
        let object_type = object_type.unwrap_or_default();
        let rest = serde_json::Value::Object(rest);
        // An object whose inside does not fit its type is kept as [`Object::Other`].
        let object = match object_type.as_str() {
            "comment" => Some(Object::Comment { display_name, content }),
            "content" => {
                Some(Object::Content { display_name, content, files: files.unwrap_or_default().items })
            }
            "activity" => {
                Reference::deserialize(rest).ok().map(|Reference { id, url }| Object::Activity { id, url })
            }
            "person" => serde_json::from_value(rest).ok().map(|person| Object::Person(Box::new(person))),
            "conversation" => serde_json::from_value(rest)
                .ok()
                .map(|conversation| Object::Conversation(Box::new(conversation))),
            _ => None,
        };
        Ok(object.unwrap_or(Object::Other(object_type)))
    }
}

#[derive(Deserialize)]
struct Reference {
    id: ActivityId,
    url: Option<Url>,
}

impl Activity {
    /// The key that the texts are sealed with; `None`: they are plain.
    pub fn key(&self) -> Option<&KmsUri> {
        let of_target = || self.target.as_ref()?.encryption_key_url.as_ref();
        self.encryption_key_url.as_ref().or_else(of_target)
    }

    /// The conversation that it happened in.
    pub fn conversation(&self) -> Option<&Conversation> {
        match (&self.target, &self.object) {
            (Some(target), _) => Some(target),
            (None, Some(Object::Conversation(conversation))) => Some(conversation),
            _ => None,
        }
    }
}

/// `POST {conversation}/activities`, for files `…/content`: does something in a conversation. The answer says as what
/// it was stored.
#[derive(Clone, Debug)]
pub struct Post {
    /// Where.
    pub target: Target,
    /// As whom; must be the token's own person.
    pub actor: PersonId,
    /// Echoed in the answer and in events; listings may leave it out.
    pub client_temp_id: ClientTempId,
    /// What.
    pub action: Action,
}

/// The conversation that a [`Post`] goes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// Its identifier.
    pub id: ConversationId,
    /// Its address.
    pub url: Url,
    /// Its resource at the key service.
    pub kms_resource_object_url: Option<KmsUri>,
}

/// What a [`Post`] does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Action {
    /// Says something.
    Comment(Comment),
    /// Says something anew.
    Edit {
        /// The original activity, also when it was edited before.
        original: ActivityId,
        /// What it says now.
        comment: Comment,
    },
    /// Shares files that were uploaded ([`files`](crate::files)).
    Share {
        /// What is said with them, as a JWE.
        comment: Option<Text>,
        /// The files.
        files: Vec<SharedFile>,
        /// The key that all of it is sealed with.
        key: KmsUri,
    },
    /// Reads up to an activity.
    Acknowledge {
        /// The last one read.
        id: ActivityId,
    },
    /// Takes an activity back.
    Delete {
        /// Which one; must be the actor's own.
        id: ActivityId,
    },
}

/// A text to post, sealed.
#[derive(Clone, Debug)]
pub struct Comment {
    /// The plain text, as a JWE.
    pub display_name: Text,
    /// The same as HTML, as a JWE; `None`: plain text only.
    pub content: Option<Text>,
    /// The key that both are sealed with.
    pub key: KmsUri,
}

/// An uploaded file to share.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "objectType", rename = "file")]
pub struct SharedFile {
    /// Its name, as a JWE.
    pub display_name: Text,
    /// Its length in bytes.
    pub file_size: u64,
    /// Its media type.
    pub mime_type: String,
    /// Where its ciphertext lies.
    pub url: Url,
    /// The reference with its key, as a JWE.
    pub scr: Text,
}

/// What the cloud gave to an activity that was posted; the rest of its answer is what was posted.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Posted {
    /// Its identifier.
    pub id: ActivityId,
    /// When it was stored.
    pub published: Option<Timestamp>,
    /// Its address.
    pub url: Option<Url>,
}

impl Endpoint for Post {
    type Response = Posted;

    fn destination(&self) -> Destination<'_> {
        Destination::Address(&self.target.url)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        let url = match &self.action {
            Action::Share { .. } => self.target.url.join(["content"]).with_query([
                ("personRefresh", "true"),
                ("transcode", "true"),
                ("async", "false"),
            ]),
            _ => self.target.url.join(["activities"]).with_query([("personRefresh", "true")]),
        };
        let (verb, object, key, parent) = match &self.action {
            Action::Comment(comment) => ("post", comment.to_wire(), Some(&comment.key), None),
            Action::Edit { original, comment } => {
                let parent = ParentWire { id: original, kind: "edit" };
                ("post", comment.to_wire(), Some(&comment.key), Some(parent))
            }
            Action::Share { comment, files, key } => {
                ("share", ObjectOut::content(comment.as_ref(), files), Some(key), None)
            }
            Action::Acknowledge { id } => ("acknowledge", ObjectOut::activity(id), None, None),
            Action::Delete { id } => ("delete", ObjectOut::activity(id), None, None),
        };
        let body = PostWire {
            object_type: "activity",
            verb,
            client_temp_id: &self.client_temp_id,
            actor: ActorWire { object_type: "person", id: &self.actor, entry_uuid: &self.actor },
            object,
            target: TargetWire {
                id: &self.target.id,
                object_type: "conversation",
                url: &self.target.url,
                kms_resource_object_url: self.target.kms_resource_object_url.as_ref(),
                activities: Items::default(),
                participants: Items::default(),
            },
            encryption_key_url: key,
            parent,
        };
        json(Method::POST, &url, context, &body)
    }

    fn from_http(response: Response<Bytes>) -> Result<Posted, ApiError> {
        read(response)
    }
}

impl Comment {
    fn to_wire(&self) -> ObjectOut<'_> {
        ObjectOut {
            object_type: "comment",
            display_name: Some(&self.display_name),
            content: self.content.as_ref(),
            ..ObjectOut::default()
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PostWire<'a> {
    object_type: &'static str,
    verb: &'static str,
    client_temp_id: &'a ClientTempId,
    actor: ActorWire<'a>,
    object: ObjectOut<'a>,
    target: TargetWire<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_key_url: Option<&'a KmsUri>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<ParentWire<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActorWire<'a> {
    object_type: &'static str,
    id: &'a PersonId,
    #[serde(rename = "entryUUID")]
    entry_uuid: &'a PersonId,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectOut<'a> {
    object_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a ActivityId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<&'a Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_category: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<FilesOut<'a>>,
}

#[derive(Serialize)]
struct FilesOut<'a> {
    items: &'a [SharedFile],
}

impl<'a> ObjectOut<'a> {
    fn activity(id: &'a ActivityId) -> Self {
        Self { object_type: "activity", id: Some(id), ..Self::default() }
    }

    fn content(comment: Option<&'a Text>, files: &'a [SharedFile]) -> Self {
        let all = |kind: &str| files.iter().all(|file| file.mime_type.starts_with(kind));
        let category = if all("image/") {
            "images"
        } else if all("video/") {
            "videos"
        } else {
            "documents"
        };
        Self {
            object_type: "content",
            display_name: comment,
            content_category: Some(category),
            files: Some(FilesOut { items: files }),
            ..Self::default()
        }
    }
}

#[derive(Serialize)]
struct ParentWire<'a> {
    id: &'a ActivityId,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TargetWire<'a> {
    id: &'a ConversationId,
    object_type: &'static str,
    url: &'a Url,
    #[serde(skip_serializing_if = "Option::is_none")]
    kms_resource_object_url: Option<&'a KmsUri>,
    activities: Items,
    participants: Items,
}

/// The service wants the lists to be there, though empty.
#[derive(Default, Serialize)]
pub(crate) struct Items {
    items: [(); 0],
}
