//! Frames of the socket: control frames and events.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::activity::Activity;
use crate::conversation::Person;
use crate::presence::Presence;
use crate::typing::State;
use crate::{ConversationId, EnvelopeId, Timestamp};

/// One frame from the cloud.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Envelope {
    /// What an acknowledgement names; `None`: it can't be acknowledged.
    pub id: Option<EnvelopeId>,
    /// Its number on this socket.
    pub sequence_number: Option<u64>,
    /// When the cloud made it.
    pub timestamp: Option<Timestamp>,
    /// What happened.
    pub event: Event,
}

/// What an event says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Something happened in a conversation.
    Activity(Box<Activity>),
    /// The key service's answers, wrapped.
    KmsMessages(Vec<String>),
    /// Somebody types, or has stopped.
    Typing(Box<TypingEvent>),
    /// Somebody's presence changed.
    Presence(Box<Presence>),
    /// An event of a known type whose inside cannot be read.
    Unreadable {
        /// Its type.
        event_type: String,
        /// What does not fit; holds no text of a message.
        reason: String,
    },
    /// An event of another type, by its type.
    Other(String),
}

/// Somebody types in a conversation, or has stopped.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TypingEvent {
    /// Who.
    pub actor: Person,
    /// Where.
    pub conversation_id: ConversationId,
    /// Begun or stopped.
    #[serde(skip, default = "paused")]
    pub state: State,
}

fn paused() -> State {
    State::Paused
}

/// A frame that is no JSON object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// It is no JSON.
    #[error("frame is not JSON: line {line}, column {column}")]
    Json {
        /// Where the reading stopped.
        line: usize,
        /// Where the reading stopped.
        column: usize,
    },
    /// It is JSON, but no object.
    #[error("frame is not a JSON object")]
    NotAnObject,
}

/// What kind of frame it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Pong,
    Shutdown,
    Ready,
    Event,
}

/// A frame that has been read.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) envelope: Envelope,
    pub(super) kind: Kind,
}

/// Overrides name a path; a longer one is ignored, so that a path cannot build a deep tree.
const MAX_OVERRIDE_DEPTH: usize = 16;

/// A frame with an activity, as most are: read in one pass.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plain<'a> {
    id: Option<EnvelopeId>,
    sequence_number: Option<u64>,
    timestamp: Option<i64>,
    #[serde(rename = "type")]
    kind: Option<IgnoredAny>,
    #[serde(rename = "headers")]
    _changes: Option<Nothing>,
    #[serde(borrow)]
    data: PlainData<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlainData<'a> {
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(rename = "headers")]
    _changes: Option<Nothing>,
    activity: Box<Activity>,
}

/// An object without members.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Incoming {
    pub(super) fn parse(text: &str) -> Result<Self, FrameError> {
        match Self::plain(text) {
            Some(incoming) => Ok(incoming),
            None => Self::any(text),
        }
    }

    /// A frame that brings an activity and changes nothing in it; `None` for every other, and for every doubt.
    fn plain(text: &str) -> Option<Self> {
        let frame: Plain<'_> = serde_json::from_str(text).ok()?;
        if frame.kind.is_some() || frame.data.event_type != "conversation.activity" {
            return None;
        }
        let envelope = Envelope {
            id: frame.id,
            sequence_number: frame.sequence_number,
            timestamp: frame.timestamp.map(Timestamp),
            event: Event::Activity(frame.data.activity),
        };
        Some(Self { envelope, kind: Kind::Event })
    }

    fn any(text: &str) -> Result<Self, FrameError> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| FrameError::Json { line: error.line(), column: error.column() })?;
        let Value::Object(mut frame) = value else { return Err(FrameError::NotAnObject) };
        let mut data = match frame.remove("data") {
            Some(Value::Object(data)) => data,
            _ => Map::new(),
        };
        // Values for this recipient alone, over a body that all recipients share: some clouds put
        // them beside the data with full paths, the official client reads those inside the data.
        if let Some(Value::Object(headers)) = frame.remove("headers") {
            for (path, value) in headers {
                if let Some(path) = path.strip_prefix("data.") {
                    set(&mut data, path, value);
                }
            }
        }
        if let Some(Value::Object(headers)) = data.remove("headers") {
            for (path, value) in headers {
                set(&mut data, &path, value);
            }
        }
        let event_type = match data.get("eventType") {
            Some(Value::String(event_type)) => event_type.clone(),
            _ => String::new(),
        };
        let kind = match frame.get("type").and_then(Value::as_str) {
            Some("pong") => Kind::Pong,
            Some("shutdown") => Kind::Shutdown,
            _ if matches!(&*event_type, "mercury.buffer_state" | "mercury.registration_status") => {
                Kind::Ready
            }
            _ => Kind::Event,
        };
        let event = if kind == Kind::Event { event(event_type, data) } else { Event::Other(event_type) };
        let envelope = Envelope {
            id: frame.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok()),
            sequence_number: frame.get("sequenceNumber").and_then(Value::as_u64),
            timestamp: frame.get("timestamp").and_then(Value::as_i64).map(Timestamp),
            event,
        };
        Ok(Self { envelope, kind })
    }
}

fn event(event_type: String, mut data: Map<String, Value>) -> Event {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct KmsMessages {
        kms_messages: Vec<String>,
    }
    let member = |data: &mut Map<String, Value>, name| data.remove(name).unwrap_or_default();
    let read = match &*event_type {
        "conversation.activity" => serde_json::from_value(member(&mut data, "activity")).map(Event::Activity),
        "encryption.kms_message" => serde_json::from_value(member(&mut data, "encryption"))
            .map(|KmsMessages { kms_messages }| Event::KmsMessages(kms_messages)),
        "status.start_typing" | "status.stop_typing" => {
            let typing = event_type == State::Typing.event_type();
            serde_json::from_value(Value::Object(data)).map(|mut event: Box<TypingEvent>| {
                event.state = if typing { State::Typing } else { State::Paused };
                Event::Typing(event)
            })
        }
        "apheleia.subscription_update" => {
            // Here the event's own type would pass for the status.
            data.remove("eventType");
            serde_json::from_value(Value::Object(data)).map(Event::Presence)
        }
        _ => return Event::Other(event_type),
    };
    // The kind of the mistake only: its full text may quote what was sent.
    read.unwrap_or_else(|error| Event::Unreadable { event_type, reason: describe(&error) })
}

/// What was wrong, without quoting values.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let (head, tail) = text.split_once(": ").unwrap_or((&text, ""));
    let expected = tail.rsplit_once("expected ").map(|(_, expected)| expected);
    match (head, expected) {
        ("invalid type" | "invalid value", Some(expected)) => format!("{head}, expected {expected}"),
        _ if head.starts_with("missing field") || head.ends_with("visible ASCII characters") => {
            head.to_owned()
        }
        _ => "does not fit".to_owned(),
    }
}

/// Sets the value at a path of names separated by dots, making the objects on the way.
fn set(data: &mut Map<String, Value>, path: &str, value: Value) {
    let mut names: Vec<&str> = path.split('.').collect();
    if names.len() > MAX_OVERRIDE_DEPTH {
        return;
    }
    let last = names.pop().unwrap_or_default();
    let mut at = data;
    for name in names {
        let inside = at.entry(name).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(inside) = inside else { return };
        at = inside;
    }
    at.insert(last.to_owned(), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event_of(text: &str) -> Event {
        Incoming::parse(text).unwrap().envelope.event
    }

    #[test]
    fn overrides_of_both_kinds_are_applied() {
        let text = r#"{"id":"1","headers":{"data.activity.target.lastSeenActivityDate":"2024-05-01T10:00:00.000Z",
            "other":1},"data":{"eventType":"conversation.activity","headers":{"activity.verb":"post"},
            "activity":{"id":"a","verb":"share","target":{"id":"c"}}}}"#;
        let Event::Activity(activity) = event_of(text) else { panic!("an activity") };
        assert_eq!(activity.verb, crate::activity::Verb::Post);
        let seen = activity.target.unwrap().last_seen_activity_date;
        assert_eq!(seen, Some(Timestamp(1_714_557_600_000)));
    }

    #[test]
    fn the_short_way_reads_what_the_long_way_does() {
        let inside = r#""activity":{"id":"a","verb":"post","published":"2024-05-01T10:00:00.000Z","actor":{"id":"p"},
            "object":{"objectType":"comment","displayName":"x","more":{"a":[1]}},"target":{"id":"c"}}"#;
        for (frame, short) in [
            (
                format!(
                    r#"{{"id":"1","headers":{{}},"data":{{"eventType":"conversation.activity",{inside}}}}}"#
                ),
                true,
            ),
            (
                format!(
                    r#"{{"sequenceNumber":7,"timestamp":8,"data":{{{inside},"eventType":"conversation.activity"}}}}"#
                ),
                true,
            ),
            (format!(r#"{{"id":1,"data":{{"eventType":"conversation.activity",{inside}}}}}"#), false),
            (
                format!(r#"{{"id":"1","id":"2","data":{{"eventType":"conversation.activity",{inside}}}}}"#),
                false,
            ),
            (format!(r#"{{"type":"x","data":{{"eventType":"conversation.activity",{inside}}}}}"#), false),
            (
                format!(
                    r#"{{"headers":{{"data.activity.verb":"share"}},"data":{{"eventType":"conversation.activity",{inside}}}}}"#
                ),
                false,
            ),
            (
                format!(
                    r#"{{"data":{{"eventType":"conversation.activity","headers":{{"activity.verb":"share"}},{inside}}}}}"#
                ),
                false,
            ),
            (format!(r#"{{"data":{{"eventType":"mercury.buffer_state",{inside}}}}}"#), false),
        ] {
            let plain = Incoming::plain(&frame);
            assert_eq!(plain.is_some(), short, "{frame}");
            let any = Incoming::any(&frame).unwrap();
            if let Some(plain) = plain {
                assert_eq!(format!("{plain:?}"), format!("{any:?}"));
            }
        }
    }

    #[test]
    fn an_override_cannot_build_a_deep_tree() {
        let path = vec!["a"; 100_000].join(".");
        let text = format!(r#"{{"data":{{"eventType":"x","headers":{{"{path}":1}}}}}}"#);
        assert!(matches!(event_of(&text), Event::Other(kind) if kind == "x"));
    }

    #[test]
    fn unknown_events_are_kept_and_broken_ones_are_told_without_their_text() {
        assert!(matches!(event_of(r#"{"data":{"eventType":"a.b"}}"#), Event::Other(kind) if kind == "a.b"));
        assert!(matches!(event_of(r#"{"data":[]}"#), Event::Other(kind) if kind.is_empty()));
        let broken = r#"{"data":{"eventType":"conversation.activity","activity":{"id":"a","verb":"post",
            "target":{"id":"c","tags":"canary text"}}}}"#;
        let Event::Unreadable { event_type, reason } = event_of(broken) else { panic!("unreadable") };
        assert_eq!(event_type, "conversation.activity");
        assert_eq!(reason, "invalid type, expected a sequence");
        let missing = r#"{"data":{"eventType":"conversation.activity","activity":{"id":"a"}}}"#;
        let Event::Unreadable { reason, .. } = event_of(missing) else { panic!("unreadable") };
        assert_eq!(reason, "missing field `verb`");
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        assert_eq!(Incoming::parse("{]").unwrap_err().to_string(), "frame is not JSON: line 1, column 2");
        assert_eq!(Incoming::parse("[1]").unwrap_err().to_string(), "frame is not a JSON object");
        let deep = "[".repeat(100_000);
        assert!(matches!(Incoming::parse(&deep), Err(FrameError::Json { .. })));
    }
}
