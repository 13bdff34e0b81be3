//! Files of every format that was ever written still open, with what is in them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::path::{Path, PathBuf};

use router::entitlement::Client;
use router::envelope::{Body, Link};
use router::ids::{ActivityId, ConversationId, EntryId, ImpStreamId, StanzaId, Time};
use router::outbox::{
    Change, EntryKind, EntryState, Input, Lane, Loaded, Novelty, Repeat, Storage, TargetRef,
};
use support::{Place, bare, batch, commit, open, person, report, text};

fn kept_file(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/format-{format}.db"))
}

/// What the kept files were made with; that of format 1 has no entry that tells somebody something.
fn fill(store: &mut store::Store) {
    store.load(Time(0)).unwrap();
    let mark = Input {
        parts: vec![bare(EntryKind::Read)],
        target: Some(TargetRef::Stanza { author: person("bob"), id: StanzaId::new("s-9") }),
        state: EntryState::Waiting((1 << 32) + 7),
        ..text("mark", "")
    };
    let stanza = Input { repeat: Repeat::Window(report("stream")), ..text("stanza", "kept") };
    let told = Input {
        lane: Lane::Told(person("ann"), Client::Jabber),
        parts: vec![bare(EntryKind::Undelivered)],
        state: EntryState::Waiting((1 << 32) + 7),
        ..text("told", "")
    };
    commit(store, vec![stanza, text("posted", "gone"), mark, told], vec![]);
    let link = Link::Activity(ActivityId::new("act"), ConversationId::new("conv"));
    let changes = vec![
        Change::Done(EntryId(2), Some(link)),
        Change::Handled(ImpStreamId::new("stream"), 41),
        Change::Cursor(person("ann"), Some(Time(77))),
        Change::Keep("jabber.resume".into(), Some(b"id".as_slice().into())),
        Change::Directory(b"everybody".as_slice().into()),
        Change::Presence(person("ann"), b"away".as_slice().into()),
    ];
    commit(store, vec![], changes);
}

#[test]
fn a_file_of_format_1_opens_with_everything_in_it() {
    let loaded = opens(1);
    assert_eq!(ids(&loaded), [1, 3]);
    assert!(loaded.entries.iter().all(|entry| entry.from.is_none()), "that was not kept then");
}

#[test]
fn a_file_of_format_2_opens_with_everything_in_it() {
    let loaded = opens(2);
    assert_eq!(ids(&loaded), [1, 3, 4]);
    let told = &loaded.entries[2];
    assert_eq!(told.lane, Lane::Told(person("ann"), Client::Jabber));
    assert_eq!((&told.kind, told.from.as_deref()), (&EntryKind::Undelivered, Some("ann@x/phone")));
}

fn ids(loaded: &Loaded) -> Vec<u64> {
    loaded.entries.iter().map(|entry| entry.id.0).collect()
}

/// Opens the file of this format, finds what is in all of them, and gives what was loaded.
fn opens(format: u32) -> Loaded {
    let place = Place::new();
    std::fs::copy(kept_file(format), place.file()).unwrap();
    let mut store = place.open();
    let loaded = store.load(Time(0)).unwrap();
    assert_eq!(loaded.run, 2);
    assert_eq!(loaded.next_place, (1 << 32) + 8);
    assert_eq!(store.entry(EntryId(1)).unwrap().unwrap().entry.body, Body::Clear("kept".into()));
    let posted = store.entry(EntryId(2)).unwrap().unwrap().entry;
    assert!(matches!(posted.state, EntryState::Done(Some(Link::Activity(..)))), "{:?}", posted.state);
    assert_eq!(loaded.streams, [(ImpStreamId::new("stream"), 41)]);
    assert_eq!(loaded.cursors, [(person("ann"), Time(77))]);
    assert_eq!(loaded.kept, [("jabber.resume".into(), b"id".as_slice().into())]);
    assert_eq!(loaded.directory.as_deref(), Some(b"everybody".as_slice()));
    assert_eq!(loaded.presence.len(), 1);
    let again = |stream: &str| Input { repeat: Repeat::Window(report(stream)), ..text("stanza", "kept") };
    let answers = store.commit(&[batch(vec![again("other"), again("stream")], vec![])], Time(0)).unwrap();
    assert!(matches!(answers[0][0], Novelty::Repeat { .. }), "{answers:?}");
    assert!(matches!(answers[0][1], Novelty::New { occurrence: 1, .. }), "{answers:?}");
    loaded
}

/// Writes the file that the test above reads. To be run by hand, once for each new format:
/// `cargo test -p store --test old_versions -- --ignored`.
#[test]
#[ignore = "no test: writes the file that is kept, by hand for each new format"]
fn make_the_kept_file() {
    let file = kept_file(store::FORMAT_VERSION);
    assert!(!file.exists(), "a released format never changes: {}", file.display());
    fill(&mut open(&file).unwrap());
}
