//! Looking at a store that somebody else has, or nobody, and letters to whoever has it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use router::outbox::Change;
use store::{FORMAT_VERSION, Look, OpenError, StoreKey, letter};
use support::{Place, commit, freeze, key};

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect()
}

#[test]
fn a_look_sees_what_was_committed_and_changes_nothing() {
    let place = Place::new();
    assert!(Look::at(&place.file(), &key()).unwrap().is_none(), "there is none yet");
    assert!(files(place.folder()).is_empty(), "and none was made");
    let mut store = place.open();
    commit(&mut store, vec![], vec![Change::Keep("a".into(), Some(b"one".as_slice().into()))]);
    // As a process that was killed leaves it: with a log that was never copied into the file.
    let left = freeze(&place);
    let before = files(left.folder());
    assert!(before.keys().any(|name| name.ends_with("-wal")), "{:?}", before.keys());
    let look = Look::at(&left.file(), &key()).unwrap().unwrap();
    assert_eq!(look.format(), FORMAT_VERSION);
    assert_eq!(look.kept().unwrap(), [("a".into(), b"one".as_slice().into())]);
    drop(look);
    assert_eq!(files(left.folder()), before);
    assert!(matches!(Look::at(&left.file(), &StoreKey::new([9; 32])), Err(OpenError::OtherKey { .. })));
    left.open();
}

#[test]
fn nor_is_anything_left_beside_a_store_that_was_closed() {
    let place = Place::new();
    commit(&mut place.open(), vec![], vec![Change::Keep("a".into(), Some(b"one".as_slice().into()))]);
    let before = files(place.folder());
    let look = Look::at(&place.file(), &key()).unwrap().unwrap();
    assert_eq!(look.kept().unwrap().len(), 1);
    drop(look);
    assert_eq!(files(place.folder()), before);
}

#[test]
fn whoever_has_the_store_is_told_by_a_look_and_not_disturbed() {
    let place = Place::new();
    let mut store = place.open();
    assert!(matches!(Look::at(&place.file(), &key()), Err(OpenError::Locked { .. })));
    commit(&mut store, vec![], vec![Change::Keep("a".into(), Some(b"one".as_slice().into()))]);
}

#[test]
fn a_letter_opens_under_its_key_and_its_name_and_is_read_in_order() {
    let place = Place::new();
    assert!(letter::waiting(&place.file()).unwrap().is_empty());
    letter::lay_down(&place.file(), &key(), "2", b"second").unwrap();
    letter::lay_down(&place.file(), &key(), "1", b"first").unwrap();
    let waiting = letter::waiting(&place.file()).unwrap();
    let read: Vec<_> = waiting.iter().map(|path| letter::open(path, &key()).unwrap().unwrap()).collect();
    assert_eq!(read, [b"first".to_vec(), b"second".to_vec()]);
    assert!(letter::open(&waiting[0], &StoreKey::new([9; 32])).unwrap().is_none());
    let renamed = waiting[0].with_file_name("3");
    std::fs::rename(&waiting[0], &renamed).unwrap();
    assert!(letter::open(&renamed, &key()).unwrap().is_none(), "under another name it is no letter");
    letter::remove(&waiting[1]).unwrap();
    assert_eq!(letter::waiting(&place.file()).unwrap(), std::slice::from_ref(&renamed));
    assert!(!std::fs::read(&renamed).unwrap().windows(5).any(|part| part == b"first"));
}
