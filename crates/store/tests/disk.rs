//! A disk that loses what was not synced, fills up and fails: what was acknowledged is there afterwards.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use faulty_vfs::{Chance, Disk, Files, Spoil};
use router::ids::{ConversationId, EntryId, ImpStreamId, Time};
use router::memory::MemoryStorage;
use router::outbox::{Batch, Change, EntryState, Lane, Storage, StorageError};
use store::{Broken, OpenError, Options, Store};
use support::{Place, batch, key, person, tagger, text};

/// Commits of one workload.
const COMMITS: u64 = 60;

/// A folder whose files lie on a faulty disk.
struct Bench {
    place: Place,
    broken: Option<Broken>,
}

impl Bench {
    fn new(broken: Option<Broken>) -> Self {
        Self { place: Place::new(), broken }
    }

    fn file(&self) -> PathBuf {
        self.place.file()
    }

    fn open(&self) -> Result<Store, OpenError> {
        let mut options = Options::default();
        options.file_system = Some(faulty_vfs::NAME);
        options.broken = self.broken;
        Store::open(&self.file(), &key(), tagger(), options)
    }

    /// What a new process finds there. It dies after that.
    fn read(&self) -> Result<String, String> {
        let mut store = self.open().map_err(|error| self.said(&error))?;
        let found = contents(&mut store).map_err(|error| self.said(&error));
        std::mem::forget(store);
        found
    }

    fn said(&self, error: &dyn std::error::Error) -> String {
        error.to_string().replace(&self.file().display().to_string(), "FILE")
    }
}

/// Everything that can be read from a store, but for numbers of runs and skipped places.
fn contents(store: &mut dyn Storage) -> Result<String, StorageError> {
    let mut loaded = store.load(Time(0))?;
    (loaded.run, loaded.next_place) = (0, 0);
    let mut entries = Vec::new();
    for id in 1..=4 * COMMITS {
        entries.extend(store.entry(EntryId(id))?);
    }
    let stored = entries.iter_mut().map(|stored| &mut stored.entry);
    stored.chain(&mut loaded.entries).chain(&mut loaded.delivered).for_each(|entry| entry.run = 0);
    Ok(format!("{loaded:?}\n{entries:?}"))
}

/// The `n`th commit: new entries, some of them long, receipts that erase, and the edges' state.
fn nth(n: u64, chance: &mut Chance) -> Vec<Batch> {
    let size = usize::try_from(chance.below(if n.is_multiple_of(5) { 90_000 } else { 600 })).unwrap();
    let inputs = (0..=chance.below(3)).map(|i| {
        let mut input = text(&format!("{n}-{i}"), &"x".repeat(size));
        input.state = EntryState::Waiting((1 << 32) + 4 * n + i);
        if i == 1 {
            input.lane = Lane::ToJabber(ConversationId::new("c"));
        }
        input
    });
    let mut changes = vec![
        Change::Handled(ImpStreamId::new("s"), n),
        Change::Cursor(person("ann"), Some(Time(n.cast_signed()))),
        Change::Keep(format!("k{}", n % 7).into(), Some(vec![n.to_le_bytes()[0]; 100].into())),
    ];
    if n > 4 {
        changes.push(Change::Attempt(EntryId(n - 2), None));
        changes.push(Change::Done(EntryId(n - 3), None));
    }
    if n.is_multiple_of(20) {
        changes.push(Change::Directory("person,".repeat(3_000).into_bytes().into()));
    }
    vec![batch(inputs.collect(), changes)]
}

/// What a store holds after each commit, by the number of commits.
fn states(seed: u64) -> Vec<String> {
    let mut chance = Chance::new(seed);
    let mut model = MemoryStorage::new(tagger());
    let mut states = vec![contents(&mut model).unwrap()];
    for n in 1..=COMMITS {
        model.commit(&nth(n, &mut chance), Time(n.cast_signed())).unwrap();
        states.push(contents(&mut model).unwrap());
    }
    states
}

/// One workload on one disk, and how far it came.
struct Work<'a> {
    bench: &'a Bench,
    disk: Disk,
    states: Vec<String>,
    /// Commits that failed, by what was said.
    failures: BTreeMap<String, usize>,
}

impl<'a> Work<'a> {
    /// All commits, with a new process now and then, and after each that failed. Before each the disk is
    /// spoiled as `spoil` says.
    fn done(bench: &'a Bench, seed: u64, spoil: impl Fn(u64, &mut Chance) -> Option<Spoil>) -> Self {
        let disk = Disk::new(bench.place.folder());
        let mut work = Self { bench, disk, states: states(seed), failures: BTreeMap::new() };
        let (mut chance, mut trouble) = (Chance::new(seed), Chance::new(seed));
        let mut store = work.restarted();
        for n in 1..=COMMITS {
            let batches = nth(n, &mut chance);
            if let Some(spoil) = spoil(n, &mut trouble) {
                work.disk.spoil(Some(spoil));
            }
            let now = Time(n.cast_signed());
            while let Err(error) = store.commit(&batches, now) {
                *work.failures.entry(bench.said(&error)).or_default() += 1;
                // A process that does not know what it has ends without a word.
                std::mem::forget(std::mem::replace(&mut store, work.restarted()));
                let found = contents(&mut store).unwrap();
                let whole = work.states.iter().rposition(|state| *state == found).expect("whole commits");
                // What it finds counts as its own.
                work.disk.mark(whole as u64);
                if whole as u64 == n {
                    break;
                }
                assert_eq!(whole as u64, n - 1, "what was acknowledged is there without a power cut");
            }
            work.disk.mark(n);
            if n.is_multiple_of(25) {
                std::mem::forget(std::mem::replace(&mut store, work.restarted()));
            }
        }
        work
    }

    /// Another process, which may have to try again on a disk that fails.
    fn restarted(&mut self) -> Store {
        for _ in 0..3 {
            match self.bench.open().map_err(|error| self.bench.said(&error)) {
                Ok(mut store) => match store.load(Time(0)) {
                    Ok(_) => return store,
                    Err(error) => *self.failures.entry(self.bench.said(&error)).or_default() += 1,
                },
                Err(said) => *self.failures.entry(said).or_default() += 1,
            }
        }
        panic!("the store does not open again: {:?}", self.failures)
    }

    /// Cuts the power about so often, at any steps; what is wrong then, by kind, and how many cuts were made.
    fn cut(&self, seed: u64, cuts: u64) -> (BTreeMap<String, usize>, usize) {
        let mut chance = Chance::new(seed);
        let steps = {
            let mut replay = self.disk.replay();
            std::iter::from_fn(|| replay.step().then_some(())).count() as u64
        };
        let mut replay = self.disk.replay();
        let (mut wrong, mut made) = (BTreeMap::new(), 0);
        loop {
            // Between a sync that failed and the end of the next opening nothing is promised: the log that is
            // read then may be lost before it is written anew.
            if !replay.in_doubt() && chance.below(steps) < cuts {
                made += 1;
                let acknowledged = usize::try_from(replay.mark()).unwrap();
                if let Err(verdict) = self.judge(replay.power_cut(&mut chance), acknowledged, &mut chance) {
                    *wrong.entry(verdict).or_default() += 1;
                }
            }
            if !replay.step() {
                return (wrong, made);
            }
        }
    }

    /// What a store makes of these files; once in three times the power is cut again while it opens.
    fn judge(&self, files: Files, acknowledged: usize, chance: &mut Chance) -> Result<(), String> {
        let disk = Disk::holding(self.bench.place.folder(), files);
        let found = self.bench.read()?;
        match self.states.iter().rposition(|state| *state == found) {
            None => return Err("half a commit".into()),
            Some(n) if n < acknowledged => return Err("an acknowledged commit is lost".into()),
            Some(n) if n > acknowledged + 1 => return Err("a commit from the future".into()),
            Some(n) if chance.one_in(3) => {
                let mut replay = disk.replay();
                let mut steps = chance.below(60);
                while steps > 0 && replay.step() {
                    steps -= 1;
                }
                let _again = Disk::holding(self.bench.place.folder(), replay.power_cut(chance));
                if !self.states[acknowledged..=n].contains(&self.bench.read()?) {
                    return Err("lost by a power cut while opening".into());
                }
            }
            Some(_) => {}
        }
        Ok(())
    }
}

fn nothing(_: u64, _: &mut Chance) -> Option<Spoil> {
    None
}

/// Every few commits a write fails in the middle.
fn writes(n: u64, chance: &mut Chance) -> Option<Spoil> {
    n.is_multiple_of(4).then(|| Spoil::Write(chance.below(12)))
}

/// Every few commits a sync fails, that of a commit or of a copying of the log.
fn syncs(n: u64, chance: &mut Chance) -> Option<Spoil> {
    n.is_multiple_of(4).then(|| Spoil::Sync(chance.below(3)))
}

/// Passes if no power cut finds anything wrong; what the store said of what failed.
fn survives(spoil: impl Fn(u64, &mut Chance) -> Option<Spoil>, seeds: u64) -> BTreeMap<String, usize> {
    let bench = Bench::new(None);
    let (mut all, mut failures) = (0, BTreeMap::new());
    for seed in 1..=seeds {
        let work = Work::done(&bench, seed, &spoil);
        let (wrong, cuts) = work.cut(seed, 120);
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?} of {cuts} power cuts");
        all += cuts;
        for (said, times) in work.failures {
            *failures.entry(said).or_default() += times;
        }
    }
    println!("{all} power cuts, failures: {failures:?}");
    failures
}

const FULL: &str = "the disk of the store FILE is full: free some space and start again";
const FAILS: &str = "the disk of the store FILE does not read or write: look at the system's log";

#[test]
fn no_power_cut_loses_or_halves_what_was_acknowledged() {
    assert!(survives(nothing, 3).is_empty());
}

#[test]
fn nor_one_after_writes_that_failed() {
    assert!(survives(writes, 2)[FAILS] > 10);
}

#[test]
fn nor_one_after_syncs_that_failed() {
    assert!(survives(syncs, 2)[FAILS] > 10);
}

/// The first test can fail: a store that does not wait for the disk loses.
#[test]
fn a_commit_that_does_not_wait_for_the_disk_is_lost() {
    let bench = Bench::new(Some(Broken::Unsynced));
    let (wrong, cuts) = Work::done(&bench, 1, nothing).cut(1, 120);
    println!("{wrong:?} of {cuts} power cuts");
    assert!(wrong.contains_key("an acknowledged commit is lost"), "{wrong:?}");
}

/// The third as well: what a failed sync has lost can be read by the next process, which takes it for safe.
#[test]
fn a_log_that_is_left_as_a_failed_sync_left_it_is_lost() {
    let bench = Bench::new(Some(Broken::LeavesLog));
    let (wrong, cuts) = Work::done(&bench, 1, syncs).cut(1, 120);
    println!("{wrong:?} of {cuts} power cuts");
    assert!(wrong.contains_key("an acknowledged commit is lost"), "{wrong:?}");
}

/// The disk fills up in the middle of a commit, wherever that is.
#[test]
fn a_disk_that_fills_up_is_said_and_loses_nothing() {
    let bench = Bench::new(None);
    let states = states(7);
    let mut reached = Vec::new();
    for limit in (150_000u64..2_000_000).step_by(83_003) {
        let disk = Disk::new(bench.place.folder());
        let mut chance = Chance::new(7);
        let mut store = bench.open().unwrap();
        store.load(Time(0)).unwrap();
        disk.spoil(Some(Spoil::Full(limit)));
        let mut done = 0;
        let error = loop {
            let n = done + 1;
            match store.commit(&nth(n, &mut chance), Time(n.cast_signed())) {
                Ok(_) => done = n,
                Err(error) => break error,
            }
        };
        assert_eq!(bench.said(&error), FULL);
        let again = store.commit(&nth(1, &mut Chance::new(7)), Time(0)).unwrap_err();
        assert!(again.to_string().contains("has failed before"), "{again}");
        drop(store);
        let whole = &states[usize::try_from(done).unwrap()];
        // While it is full, a start says so, or shows all; with room again all is there.
        match bench.read() {
            Ok(found) => assert!(found == *whole, "{done} commits in {limit} bytes"),
            Err(error) => assert_eq!(error, FULL),
        }
        disk.spoil(None);
        assert!(bench.read().as_ref() == Ok(whole), "{done} commits in {limit} bytes");
        reached.push(done);
    }
    println!("full after {reached:?} commits");
    assert!(reached.len() > 15 && reached.is_sorted());
}
