//! What a crash leaves: every commit that returned, whole, and nothing of one that did not.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};

use router::ids::{ImpStreamId, Time};
use router::outbox::{Change, Storage};
use support::{Place, batch, freeze, open, text};

/// Each commit makes two entries and counts them on a stream, so that half of one would show.
fn commit_pair(store: &mut store::Store, n: u64) {
    let inputs = vec![text(&format!("a{n}"), "one"), text(&format!("b{n}"), "two")];
    let changes = vec![Change::Handled(ImpStreamId::new("s"), 2 * n)];
    store.commit(&[batch(inputs, vec![]), batch(vec![], changes)], Time(0)).unwrap();
}

/// How many pairs are there, after a check that each is whole.
fn pairs(place: &Place) -> u64 {
    let loaded = open(&place.file()).unwrap().load(Time(0)).unwrap();
    let handled = loaded.streams.first().map_or(0, |(_, n)| *n);
    assert_eq!(loaded.entries.len() as u64, handled, "half a commit");
    handled / 2
}

#[test]
fn what_was_committed_is_there_whenever_the_process_dies() {
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    for n in 1..=60 {
        commit_pair(&mut store, n);
        assert_eq!(pairs(&freeze(&place)), n, "the files as they were after commit {n}");
    }
}

#[test]
fn a_log_cut_anywhere_gives_whole_commits_up_to_there() {
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    let log = |place: &Place| place.folder().join("connector.db-wal");
    let mut ends = vec![std::fs::metadata(log(&place)).unwrap().len()];
    for n in 1..=8 {
        commit_pair(&mut store, n);
        ends.push(std::fs::metadata(log(&place)).unwrap().len());
    }
    let last = *ends.last().unwrap();
    // Odd steps, so that cuts fall into headers, pages and between them.
    for cut in (ends[0]..=last).step_by(1_237).chain(ends.clone()) {
        let torn = freeze(&place);
        OpenOptions::new().write(true).open(log(&torn)).unwrap().set_len(cut).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count() as u64 - 1;
        assert_eq!(pairs(&torn), whole, "cut at {cut}");
    }
    // The same with the rest of the file as garbage in place of nothing.
    for cut in (ends[0]..last).step_by(5_003) {
        let torn = freeze(&place);
        let mut file = OpenOptions::new().write(true).open(log(&torn)).unwrap();
        file.seek(SeekFrom::Start(cut)).unwrap();
        file.write_all(&vec![0xa5; usize::try_from(last - cut).unwrap()]).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count() as u64 - 1;
        assert_eq!(pairs(&torn), whole, "garbage from {cut} on");
    }
}

#[test]
fn the_log_stays_bounded_and_its_copying_loses_nothing() {
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    let mut longest = 0;
    // Twice as much as the log holds before it is copied.
    let (rounds, each) = (70, 200);
    for n in 0..rounds {
        let inputs = (0..each).map(|i| text(&format!("{n}-{i}"), &"x".repeat(2_000))).collect();
        store.commit(&[batch(inputs, vec![])], Time(0)).unwrap();
        longest = longest.max(std::fs::metadata(place.folder().join("connector.db-wal")).unwrap().len());
    }
    assert!(longest < 20 << 20, "the log grew to {longest} bytes");
    assert_eq!(open(&freeze(&place).file()).unwrap().load(Time(0)).unwrap().entries.len(), rounds * each);
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_panic() {
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    for n in 1..=20 {
        commit_pair(&mut store, n);
    }
    drop(store);
    let mut whole = Vec::new();
    File::open(place.file()).unwrap().read_to_end(&mut whole).unwrap();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(1_500) {
        let mut bytes = whole.clone();
        for byte in &mut bytes[at..(at + 64).min(whole.len())] {
            *byte ^= 0xff;
        }
        let damaged = Place::new();
        std::fs::write(damaged.file(), &bytes).unwrap();
        let met = match open(&damaged.file()) {
            Err(error) => Some(error.to_string()),
            Ok(mut store) => store
                .load(Time(0))
                .and_then(|loaded| loaded.entries.iter().try_for_each(|e| store.entry(e.id).map(drop)))
                .err()
                .map(|error| error.to_string()),
        };
        if let Some(said) = met {
            refused += 1;
            assert!(said.contains("connector.db"), "{said}");
        }
    }
    assert!(refused > 5, "only {refused} kinds of damage were met");
}
