//! What the tests of the store share: a folder, a key, and short ways to say inputs.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};

use router::envelope::{Body, Form};
use router::ids::{BatchId, EntryId, ImpStreamId, PersonId, SourceId, StanzaId, Time};
use router::outbox::{
    Batch, Change, EntryKind, EntryState, Input, Lane, Novelty, Part, Repeat, Report, Storage,
};
use router::tag::Tagger;
use store::{OpenError, Options, Store, StoreKey};
use tempfile::TempDir;

/// A folder with a store in it.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.path().join("connector.db")
    }

    pub(crate) fn open(&self) -> Store {
        open(&self.file()).unwrap()
    }

    pub(crate) fn open_with(&self, options: Options) -> Store {
        Store::open(&self.file(), &key(), tagger(), options).unwrap()
    }
}

pub(crate) fn key() -> StoreKey {
    StoreKey::new([7; 32])
}

pub(crate) fn tagger() -> Tagger {
    Tagger::new(b"organization", &[])
}

pub(crate) fn open(path: &Path) -> Result<Store, OpenError> {
    Store::open(path, &key(), tagger(), Options::default())
}

pub(crate) fn person(name: &str) -> PersonId {
    PersonId::new(name)
}

pub(crate) fn report(stream: &str) -> Report {
    Report { stream: ImpStreamId::new(stream), session: person("ann"), form: Form::Sent, stamped: false }
}

/// A part with this text.
pub(crate) fn part(text: &str) -> Part {
    Part { kind: EntryKind::Text, body: Body::Clear(text.into()) }
}

/// A part of this kind without a body.
pub(crate) fn bare(kind: EntryKind) -> Part {
    Part { kind, body: Body::None }
}

/// A text of ann to bob, held by ann's opening session.
pub(crate) fn text(source: &str, text: &str) -> Input {
    Input {
        source: SourceId::new(source),
        repeat: Repeat::Exact,
        lane: Lane::to_webex(&person("ann"), &person("bob")),
        sender: person("ann"),
        recipient: Some(person("bob")),
        carrier: person("ann"),
        stanza: Some(StanzaId::new(format!("stanza-{source}"))),
        from: Some("ann@x/phone".into()),
        conversation: None,
        time: Time(1_000),
        stamp: None,
        iv: None,
        parts: vec![part(text)],
        target: None,
        prompt: true,
        state: EntryState::Held { by: vec![person("ann")] },
    }
}

pub(crate) fn batch(inputs: Vec<Input>, changes: Vec<Change>) -> Batch {
    Batch { id: BatchId(1), inputs, changes }
}

/// Commits one batch.
pub(crate) fn commit(store: &mut Store, inputs: Vec<Input>, changes: Vec<Change>) -> Vec<Novelty> {
    store.commit(&[batch(inputs, changes)], Time(2_000)).unwrap().remove(0)
}

/// Commits one input, which must be new, and gives its first entry.
pub(crate) fn insert(store: &mut Store, input: Input) -> EntryId {
    match commit(store, vec![input], vec![]).remove(0) {
        Novelty::New { entries, .. } => entries[0],
        other => panic!("{other:?}"),
    }
}

/// Copies everything that belongs to the store, as a crash would leave it, under another name.
pub(crate) fn freeze(place: &Place) -> Place {
    let copy = Place::new();
    for file in std::fs::read_dir(place.folder()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.folder().join(file.file_name())).unwrap();
    }
    copy
}
