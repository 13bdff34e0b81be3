//! Each target with its corpus, and for some seconds with what a seeded generator makes of it.
//!
//! `FUZZ_SECONDS` is how long (default 5), `FUZZ_SEED` where the generator starts (default 1). A failure writes the
//! input to `fuzz/failures/TARGET` and says how to run it alone; once mended, it moves into the corpus.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuzz::{TARGETS, Target, target};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

/// The inputs that are kept, in the order of their names.
fn corpus(target: Target) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = std::fs::read_dir(folder("corpus").join(target.name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn try_one(target: Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        let file = folder("failures").join(target.name);
        std::fs::create_dir_all(folder("failures")).unwrap();
        std::fs::write(&file, input).unwrap();
        eprintln!("alone: FUZZ_FILE={} cargo test -p fuzz alone", file.display());
        std::panic::resume_unwind(panic);
    }
}

/// A new input out of those that are kept: some of it again, gone, swapped, bent, or out of another one.
fn change(corpus: &[Vec<u8>], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut input = corpus[random.random_range(0..corpus.len())].clone();
    for _ in 0..random.random_range(1..6) {
        let from = random.random_range(0..=input.len());
        let to = (from + random.random_range(0..64)).min(input.len());
        let at = random.random_range(0..=input.len());
        match random.random_range(0..7) {
            0 => drop(input.drain(from..to)),
            1 => {
                let piece = input[from..to].to_vec();
                input.splice(at..at, piece);
            }
            2 => {
                let other = &corpus[random.random_range(0..corpus.len())];
                let start = random.random_range(0..=other.len());
                let end = (start + random.random_range(0..200)).min(other.len());
                input.splice(at..at, other[start..end].iter().copied());
            }
            3 => input.truncate(from),
            4 if from < to => input[from] = random.random(),
            5 if from < to => input[from] ^= 1 << random.random_range(0..8),
            // Where structure begins and ends.
            _ => input.insert(at, *b"<>\"'&;{}[],:\n.0~!"[..].get(random.random_range(0..17)).unwrap()),
        }
    }
    input.truncate(64 * 1024);
    input
}

#[allow(clippy::disallowed_methods, reason = "a test may take so long and no longer")]
fn run(name: &str) {
    let target = target(name).unwrap();
    let corpus = corpus(target);
    for input in &corpus {
        try_one(target, input);
    }
    let seed = variable("FUZZ_SEED", 1);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let until = Instant::now() + Duration::from_secs(variable("FUZZ_SECONDS", 5));
    let mut count = 0;
    while Instant::now() < until {
        try_one(target, &change(&corpus, &mut random));
        count += 1;
    }
    println!("{name}: {} kept inputs, {count} new ones from seed {seed}", corpus.len());
}

#[test]
fn answers() {
    run("answers");
}

#[test]
fn jose() {
    run("jose");
}

#[test]
fn kms_reply() {
    run("kms_reply");
}

#[test]
fn mercury_frames() {
    run("mercury_frames");
}

#[test]
fn router_ops() {
    run("router_ops");
}

#[test]
fn soap() {
    run("soap");
}

#[test]
fn stanza() {
    run("stanza");
}

#[test]
fn stream_ops() {
    run("stream_ops");
}

#[test]
fn xml_stream() {
    run("xml_stream");
}

/// One file alone, such as one that an instrumented run has found.
#[test]
fn alone() {
    let Some(file) = std::env::var_os("FUZZ_FILE").map(PathBuf::from) else { return };
    // As the shell of whoever calls cargo means it, which is not where a test runs.
    let input = std::fs::read(folder("..").join(&file)).unwrap();
    let named = |target: &&Target| file.components().any(|part| part.as_os_str() == target.name);
    let target = TARGETS.iter().find(named).expect("the path names a target");
    (target.run)(&input);
}

#[test]
fn each_target_has_a_test_and_a_corpus() {
    let text = include_str!("corpus.rs");
    for target in TARGETS {
        assert!(text.contains(&format!("run(\"{}\")", target.name)), "{target:?} has no test");
        assert!(!corpus(*target).is_empty(), "{target:?} has no corpus");
    }
}
