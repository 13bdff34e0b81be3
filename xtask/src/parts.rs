//! The parts of a run: each has a name, a budget in minutes on two cores, and what it runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{arrows, overview, tools, watchdog};

/// One part of a run.
pub(crate) struct Part {
    name: &'static str,
    /// Minutes on two cores; an overrun is a defect, and is printed.
    budget: f64,
    run: fn() -> Result<(), String>,
}

impl Part {
    /// When what still runs hangs: far above the budget, since machines differ.
    fn limit(&self) -> Duration {
        Duration::from_secs_f64(60.0 * (3.0 * self.budget + 5.0))
    }
}

/// Before any test.
pub(crate) const CHECKS: &[Part] = &[
    Part { name: "format", budget: 0.2, run: format },
    Part { name: "lints", budget: 3.0, run: lints },
    Part { name: "docs", budget: 2.0, run: docs },
    Part { name: "arrows", budget: 0.1, run: arrows::check },
    Part { name: "overview", budget: 0.1, run: overview::check },
    Part { name: "licences", budget: 3.0, run: licences },
];

/// The tests, the fast ones first.
pub(crate) const TEST: &[Part] = &[
    Part { name: "build", budget: 8.0, run: build },
    Part { name: "unit", budget: 4.0, run: unit },
    Part { name: "fuzz", budget: 1.5, run: fuzz },
    Part { name: "simulation", budget: 5.0, run: simulation },
    Part { name: "alone", budget: 4.0, run: alone },
    Part { name: "benches", budget: 1.0, run: benches },
    Part { name: "lab", budget: 3.0, run: lab },
    Part { name: "examples", budget: 1.0, run: examples },
    Part { name: "kill", budget: 5.0, run: kill },
    Part { name: "foreign", budget: 3.0, run: foreign },
    Part { name: "servers", budget: 5.0, run: servers },
    Part { name: "sdk", budget: 4.0, run: sdk },
    Part { name: "packages", budget: 1.0, run: packages },
];

/// Too long for every push.
pub(crate) const NIGHTLY: &[Part] = &[
    Part { name: "aws-lc", budget: 10.0, run: aws_lc },
    Part { name: "fuzz-long", budget: 55.0, run: fuzz_long },
    Part { name: "kill-long", budget: 60.0, run: kill_long },
    Part { name: "servers-long", budget: 40.0, run: servers_long },
    Part { name: "benches-full", budget: 60.0, run: benches_full },
];

/// Runs the parts, or those named, and prints how long each took.
pub(crate) fn run(parts: &[Part], only: &[String]) -> Result<(), String> {
    let mut table = Vec::new();
    let mut failed = None;
    for part in parts.iter().filter(|p| only.is_empty() || only.iter().any(|name| name == p.name)) {
        println!("── {} ──", part.name);
        let start = Instant::now();
        let given_up = watchdog::watch(std::process::id(), part.limit());
        let outcome = (part.run)();
        let outcome = match given_up.stop() {
            true => Err(format!("still at it after {} minutes, and ended", part.limit().as_secs() / 60)),
            false => outcome,
        };
        table.push((part, start.elapsed(), outcome.is_ok()));
        if let Err(message) = outcome {
            failed = Some(format!("{}: {message}", part.name));
            break;
        }
    }
    print_times(&table);
    failed.map_or(Ok(()), Err)
}

fn print_times(table: &[(&Part, Duration, bool)]) {
    println!("\npart          minutes  budget");
    for (part, took, ok) in table {
        let minutes = took.as_secs_f64() / 60.0;
        let remark = match (ok, minutes > part.budget) {
            (false, _) => "  FAILED",
            (true, true) => "  over budget",
            (true, false) => "",
        };
        println!("{:12} {minutes:8.2} {:7.1}{remark}", part.name, part.budget);
    }
}

/// The folder that holds the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Runs a program in the workspace's folder and waits for it.
pub(crate) fn sh(program: &str, args: &[&str], env: &[(&str, &str)]) -> Result<(), String> {
    println!("$ {program} {}", args.join(" "));
    let status = Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .current_dir(root())
        .status()
        .map_err(|e| format!("cannot run {program}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{program} {}` failed: {status}", args.join(" "))) }
}

fn cargo(args: &[&str]) -> Result<(), String> {
    sh("cargo", args, &[])
}

fn format() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"])
}

fn lints() -> Result<(), String> {
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"])
}

fn docs() -> Result<(), String> {
    sh(
        "cargo",
        &["doc", "--workspace", "--no-deps", "--locked", "--quiet"],
        &[("RUSTDOCFLAGS", "--deny warnings")],
    )
}

fn licences() -> Result<(), String> {
    let deny = tools::cargo_deny()?;
    cargo(&["fetch", "--locked"])?;
    println!("advisories: not checked here; the public workflow checks them");
    sh(&deny, &["--offline", "check", "licenses", "bans", "sources"], &[])
}

fn build() -> Result<(), String> {
    cargo(&["build", "--workspace", "--all-targets", "--locked"])
}

/// Everything that needs nothing but Rust: unit tests, tables, properties, corpora, doctests.
fn unit() -> Result<(), String> {
    cargo(&[
        "test",
        "--workspace",
        "--locked",
        "--lib",
        "--bins",
        "--tests",
        "--exclude",
        "tests",
        "--exclude",
        "fuzz",
        "--exclude",
        "benches",
        "--no-fail-fast",
        "--",
        "--skip",
        "simulation::",
    ])?;
    cargo(&["test", "--workspace", "--locked", "--doc"])
}

/// Bad input for every parser and machine: what is kept, and five seconds each of what a seed makes of it.
fn fuzz() -> Result<(), String> {
    cargo(&["test", "--locked", "--package", "fuzz", "--no-fail-fast", "--", "--nocapture"])
}

/// The same under libFuzzer, which sees the code that an input reaches: five minutes each.
fn fuzz_long() -> Result<(), String> {
    let folder = root().join("fuzz/instrumented");
    let targets = std::fs::read_dir(root().join("fuzz/corpus")).map_err(|e| format!("fuzz/corpus: {e}"))?;
    for target in targets {
        let name = target.map_err(|e| format!("fuzz/corpus: {e}"))?.file_name();
        println!("$ TARGET={} cargo run --release (in fuzz/instrumented)", name.display());
        let found = folder.join("found").join(&name);
        std::fs::create_dir_all(&found).map_err(|e| format!("{}: {e}", found.display()))?;
        // libFuzzer writes new inputs to the first folder and reads the others.
        let status = Command::new("cargo")
            .current_dir(&folder)
            .args(["run", "--release", "--"])
            .arg(&found)
            .arg(root().join("fuzz/corpus").join(&name))
            .arg("-max_total_time=300")
            .env("TARGET", &name)
            .status()
            .map_err(|e| format!("cannot run cargo: {e}"))?;
        if !status.success() {
            return Err(format!("{} fails: its input is in fuzz/instrumented", name.display()));
        }
    }
    Ok(())
}

/// Worlds by seed: the router with a storage between two models, then the whole connector between the stand-ins.
fn simulation() -> Result<(), String> {
    // Built as the unit tests are, so that nothing is built again.
    let test = ["test", "--workspace", "--exclude", "tests", "--exclude", "fuzz", "--locked"];
    let router = [&test[..], &["--test", "crash_points"]].concat();
    sh("cargo", &router, &[("CRASH_POINTS_SEEDS", "1500")])?;
    let whole = ["--bin", "connector", "simulation::", "--", "--nocapture"];
    cargo(&[&test[..], &whole].concat())
}

/// Each published crate built and tested by itself, without and with its features: nothing leans on what the workspace
/// switches on for others.
fn alone() -> Result<(), String> {
    for (package, features) in [
        ("xmpp-core", ""),
        ("xmpp-core", "tokio"),
        ("kms-client", "ring"),
        ("webex-api", ""),
        ("webex-api", "client"),
        ("axl-client", ""),
        ("presence-map", ""),
    ] {
        let of = ["test", "--locked", "--package", package, "--no-default-features", "--features", features];
        cargo(&[&of[..], &["--lib", "--tests"]].concat())?;
    }
    Ok(())
}

/// Each bench with small counts: that it runs, and no figure of it.
fn benches() -> Result<(), String> {
    cargo(&["test", "--locked", "--package", "benches", "--test", "smoke", "--", "--nocapture"])
}

/// Each bench in full; its figures are for reading, and fail nothing.
fn benches_full() -> Result<(), String> {
    cargo(&["run", "--locked", "--release", "--package", "benches", "--", "all"])
}

/// The whole connector against the stand-ins, as a person meets it.
fn lab() -> Result<(), String> {
    let files = std::fs::read_dir(root().join("tests/tests")).map_err(|e| format!("tests/tests: {e}"))?;
    let mut names: Vec<String> = files
        .filter_map(|file| Some(file.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .filter(|name| !OWN_PART.contains(&name.as_str()))
        .collect();
    names.sort();
    scenes(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The test files of the package `tests` that are a part of their own, or a share of one.
const OWN_PART: [&str; 7] = ["crash", "examples", "kill", "sdk", "servers", "troubles", "windows"];

/// Test files of the package `tests`.
fn scenes(files: &[&str]) -> Result<(), String> {
    let mut args = vec!["test", "--locked", "--package", "tests"];
    args.extend(files.iter().flat_map(|file| ["--test", file]));
    args.extend(["--", "--nocapture"]);
    cargo(&args)
}

fn examples() -> Result<(), String> {
    scenes(&["examples"])
}

/// Killed at random moments, at every named step of the walks, and while other things are wrong. Each test of the first
/// plays several worlds at once.
fn kill() -> Result<(), String> {
    cargo(&[KILL, &["--", "--nocapture", "--test-threads", "1"]].concat())?;
    scenes(&["crash", "troubles", "windows"])
}

/// Five hundred kills, once as fast as on every push and once at the pace of life.
fn kill_long() -> Result<(), String> {
    let args = [KILL, &["fifty_kills", "--", "--nocapture"]].concat();
    ["20", "1"]
        .into_iter()
        .try_for_each(|scale| sh("cargo", &args, &[("KILLS", "500"), ("KILL_SCALE", scale)]))
}

const KILL: &[&str] = &["test", "--locked", "--package", "tests", "--test", "kill"];

/// Software that is not ours, at the other end of each protocol: key clients, XMPP clients, XMPP servers.
fn foreign() -> Result<(), String> {
    tools::foreign_peers()?;
    for package in ["kms-client", "lab"] {
        cargo(&[
            "test",
            "--locked",
            "--package",
            package,
            "--test",
            "foreign",
            "--",
            "--ignored",
            "--nocapture",
        ])?;
    }
    let servers = ["test", "--locked", "--package", "xmpp-core", "--features", "tokio", "--test", "servers"];
    // A server that is missing fails the test then.
    sh("cargo", &servers, &[("CI", "true")])
}

/// The whole connector on each server that it can hold sessions on, and killed five times on each.
fn servers() -> Result<(), String> {
    tools::foreign_peers()?;
    sh("cargo", SERVERS, &[("CI", "true")])
}

/// The same with fifty kills for each pair.
fn servers_long() -> Result<(), String> {
    tools::foreign_peers()?;
    sh("cargo", &[SERVERS, &["kills"]].concat(), &[("CI", "true"), ("PAIR_KILLS", "50")])
}

const SERVERS: &[&str] = &[
    "test",
    "--locked",
    "--package",
    "tests",
    "--test",
    "servers",
    "--",
    "--nocapture",
    "--test-threads",
    "2",
];

/// The cloud's official SDK, unmodified, against the lab's cloud.
fn sdk() -> Result<(), String> {
    tools::foreign_peers()?;
    cargo(&["test", "--locked", "--package", "tests", "--test", "sdk", "--", "--ignored", "--nocapture"])
}

fn packages() -> Result<(), String> {
    for package in ["presence-map", "axl-client", "kms-client", "webex-api", "xmpp-core"] {
        cargo(&["package", "--locked", "--no-verify", "--allow-dirty", "--quiet", "--package", package])?;
    }
    Ok(())
}

fn aws_lc() -> Result<(), String> {
    cargo(&["test", "--locked", "--package", "kms-client", "--no-default-features", "--features", "aws-lc"])
}
