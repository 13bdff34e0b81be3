//! Which files open, and what is said of those that do not.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::os::unix::fs::PermissionsExt;

use router::envelope::Body;
use router::ids::{EntryId, Time};
use router::outbox::{Change, Storage};
use store::{FORMAT_VERSION, OpenError, Options, Store, StoreKey};
use support::{Place, batch, commit, insert, key, open, tagger, text};

fn said(place: &Place) -> String {
    open(&place.file()).unwrap_err().to_string().replace(&place.file().display().to_string(), "FILE")
}

#[test]
fn a_second_process_is_told_who_has_the_store() {
    let place = Place::new();
    let store = place.open();
    assert_eq!(
        said(&place),
        "the store FILE is in use by another process: stop that one, or give this one a store of its own"
    );
    drop(store);
    place.open();
}

#[test]
fn a_newer_format_is_left_alone() {
    let place = Place::new();
    drop(place.open());
    let db = rusqlite::Connection::open(place.file()).unwrap();
    db.pragma_update(None, "user_version", FORMAT_VERSION + 1).unwrap();
    drop(db);
    let before = std::fs::read(place.file()).unwrap();
    assert_eq!(
        said(&place),
        "the store FILE has format 3, this release reads up to 2: use the release that wrote it, or a later one"
    );
    assert_eq!(std::fs::read(place.file()).unwrap(), before);
}

#[test]
fn something_else_is_not_taken_for_a_store() {
    let place = Place::new();
    std::fs::write(place.file(), "jid,mail,enabled\n".repeat(1_000)).unwrap();
    let damaged =
        "the store FILE is damaged: restore it from a backup, or move it away to start with an empty one";
    assert_eq!(said(&place), damaged);
    std::fs::remove_file(place.file()).unwrap();
    rusqlite::Connection::open(place.file()).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert_eq!(said(&place), "FILE is not a store of this connector: name another file");
    std::fs::remove_file(place.file()).unwrap();
    std::fs::create_dir(place.file()).unwrap();
    assert_eq!(said(&place), "the store FILE cannot be opened or created");
}

#[test]
fn another_key_is_refused_before_anything_is_written() {
    let place = Place::new();
    drop(place.open());
    let other = Store::open(&place.file(), &StoreKey::new([8; 32]), tagger(), Options::default());
    assert!(matches!(other.unwrap_err(), OpenError::OtherKey { .. }));
    place.open();
}

#[test]
fn only_the_owner_may_read_the_files() {
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    for file in std::fs::read_dir(place.folder()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
}

#[test]
fn nothing_clear_lies_on_the_disk() {
    const CANARY: &str = "canary-7f3a91c2";
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    let id = insert(&mut store, text("a", CANARY));
    let secret = || Some(CANARY.as_bytes().into());
    commit(
        &mut store,
        vec![],
        vec![Change::Keep("token".into(), secret()), Change::Directory(CANARY.as_bytes().into())],
    );
    assert_eq!(store.entry(id).unwrap().unwrap().entry.body, Body::Clear(CANARY.into()));
    let look = |when: &str| {
        let mut files = 0;
        for file in std::fs::read_dir(place.folder()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            files += usize::from(bytes.windows(8).any(|window| window == b"SQLite f"));
            assert!(!bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()), "{when}");
        }
        assert!(files > 0, "the search has looked at no file");
    };
    look("in the log");
    drop(store);
    look("in the file");
    let loaded = place.open().load(Time(0)).unwrap();
    assert_eq!(loaded.kept[0].1, CANARY.as_bytes().into());
}

#[test]
fn an_erased_body_is_overwritten() {
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    // A body from Webex lies as it came, so that its bytes can be searched for.
    let jwe = "eyJhbGciOiJkaXIi-canary-jwe";
    let mut input = text("a", "");
    input.parts[0].body = Body::Sealed { key: "kms://k/1".into(), jwe: jwe.into() };
    let id = insert(&mut store, input);
    drop(store);
    let there = || {
        let bytes = std::fs::read(place.file()).unwrap();
        bytes.windows(jwe.len()).any(|window| window == jwe.as_bytes())
    };
    assert!(there());
    commit(&mut place.open(), vec![], vec![Change::Done(id, None)]);
    assert!(!there());
}

#[test]
fn a_full_disk_is_an_error_that_ends_the_store_and_loses_nothing() {
    let place = Place::new();
    let mut options = Options::default();
    options.max_pages = Some(60);
    let open_small = || Store::open(&place.file(), &key(), tagger(), options).unwrap();
    let mut store = open_small();
    store.load(Time(0)).unwrap();
    let mut committed = 0;
    let error = loop {
        let input = text(&format!("s{committed}"), &"x".repeat(10_000));
        match store.commit(&[batch(vec![input], vec![])], Time(0)) {
            Ok(_) => committed += 1,
            Err(error) => break error,
        }
        assert!(committed < 100, "the disk never filled up");
    };
    let file = place.file().display().to_string();
    assert_eq!(
        error.to_string().replace(&file, "FILE"),
        "the disk of the store FILE is full: free some space and start again"
    );
    let again = store.commit(&[batch(vec![], vec![Change::Expire(Time(0))])], Time(0)).unwrap_err();
    assert_eq!(
        again.to_string().replace(&file, "FILE"),
        "the store FILE has failed before, and what is in it is unknown here: start again"
    );
    drop(store);
    let mut store = open_small();
    assert_eq!(store.load(Time(0)).unwrap().entries.len(), committed);
    assert!(committed > 5);
    // Updates still fit, and they make room.
    let done = (1..=3).map(|id| Change::Done(EntryId(id), None)).collect();
    store.commit(&[batch(vec![], done)], Time(0)).unwrap();
    store.commit(&[batch(vec![text("more", &"x".repeat(10_000))], vec![])], Time(0)).unwrap();
}

#[test]
fn room_is_the_free_space_above_the_floor() {
    let place = Place::new();
    let room = |floor: u64| {
        let mut options = Options::default();
        options.floor = floor;
        Store::open(&place.file(), &key(), tagger(), options).unwrap().room().unwrap()
    };
    // Others write to the same disk meanwhile, so the floor is far above what they could.
    let all = room(0);
    let less = room(all / 2);
    assert!(all > 1 << 20 && less < all - all / 4, "{all} {less}");
    assert_eq!(room(u64::MAX), 0);
}
