//! What the edge keeps so that a restart resumes: one value for each stream, one for each session.

use std::collections::BTreeMap;

use presence_map::Show;
use router::ids::{ImpStreamId, PersonId};
use serde::{Deserialize, Serialize};

use super::session::Said;

/// What the store has kept for the Jabber edge.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The kept values by their names; those of others may be among them.
    pub values: BTreeMap<Box<str>, Box<[u8]>>,
    /// How much of each stream has been taken over.
    pub streams: BTreeMap<ImpStreamId, u64>,
}

impl Kept {
    /// A kept value, or `None` where there is none or an earlier version wrote it.
    pub(super) fn get<'a, T: Deserialize<'a>>(&'a self, key: &str) -> Option<T> {
        serde_json::from_slice(self.values.get(key)?).ok()
    }
}

const STREAM: &str = "jabber/stream/";
const SESSION: &str = "jabber/session/";
const ARCHIVE: &str = "jabber/archive/";

/// Whether this edge keeps the value of this name: each speaks of a stream, or of how far something was read.
#[must_use]
pub fn keeps(key: &str) -> bool {
    [STREAM, SESSION, ARCHIVE].iter().any(|prefix| key.starts_with(prefix))
}

/// The name of the value of one stream; `whose` is a component's name or a person.
pub(super) fn stream_key(whose: &str) -> Box<str> {
    format!("{STREAM}{whose}").into()
}

/// The name of the value of the stream to one node.
pub(super) fn node_key(component: &str, node: &str) -> Box<str> {
    stream_key(&format!("{component} {node}"))
}

/// The name of the value of one session.
pub(super) fn session_key(person: &PersonId) -> Box<str> {
    format!("{SESSION}{person}").into()
}

/// The part of a stream's value name that says whose it is: a component, or a person.
pub(super) fn stream_owner(key: &str) -> Option<&str> {
    key.strip_prefix(STREAM)
}

/// The person of a session's value name.
pub(super) fn session_owner(key: &str) -> Option<PersonId> {
    key.strip_prefix(SESSION).map(PersonId::new)
}

/// The name of the value that says how far a person's archive is known: the id of a message in it.
pub(super) fn archive_key(person: &PersonId) -> Box<str> {
    format!("{ARCHIVE}{person}").into()
}

/// The person of such a value's name.
pub(super) fn archive_owner(key: &str) -> Option<PersonId> {
    key.strip_prefix(ARCHIVE).map(PersonId::new)
}

/// A stream that may be resumed; or that cannot, but has to be declared over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeptStream {
    /// Its name towards the router.
    pub(super) stream: ImpStreamId,
    /// What resumes it, in its own text form; `None` where the server does not offer that.
    pub(super) resume: Option<String>,
}

/// A session that goes on if its stream is resumed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeptSession {
    /// The stream that carries it.
    pub(super) stream: ImpStreamId,
    /// Its bare JID.
    pub(super) jid: String,
    /// Its ids on a trusted link, in their own text form.
    pub(super) ids: Option<String>,
    /// What was last said, once the opening has ended; `None` before.
    pub(super) said: Option<KeptPresence>,
    /// The server makes no copies of what the user's other clients send and receive.
    #[serde(default)]
    pub(super) without_copies: bool,
}

/// A presence that was sent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeptPresence {
    show: char,
    /// The text beside it.
    pub(super) text: Box<str>,
    /// Its priority.
    #[serde(default)]
    pub(super) priority: i8,
    /// Its position on the stream: above what has arrived, it counts as unsaid (rule 11).
    pub(super) position: u64,
}

impl KeptPresence {
    /// A presence, in its short form.
    pub(super) fn new(said: &Said, position: u64) -> Self {
        let show = match said.show {
            Show::Available => 'a',
            Show::Away => 'w',
            Show::DoNotDisturb => 'd',
            Show::Offline => 'o',
        };
        Self { show, text: said.text.clone(), priority: said.priority, position }
    }

    /// What it said; `None` for a letter of a later version.
    pub(super) fn said(&self) -> Option<Said> {
        let show = match self.show {
            'a' => Show::Available,
            'w' => Show::Away,
            'd' => Show::DoNotDisturb,
            'o' => Show::Offline,
            _ => return None,
        };
        Some(Said { show, text: self.text.clone(), priority: self.priority })
    }
}

/// A value as bytes for the store.
pub(super) fn encode(value: &impl Serialize) -> Box<[u8]> {
    serde_json::to_vec(value).expect("a kept value has text keys only").into()
}
