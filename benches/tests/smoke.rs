//! Every bench still runs: with counts so small that no figure means anything.

#![allow(clippy::unwrap_used, reason = "a bench that cannot be started has failed")]

use std::process::Command;

#[test]
fn every_bench_runs() {
    let done = Command::new(env!("CARGO_BIN_EXE_benches")).args(["all", "--smoke"]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{out}\n{err}");
    for figure in [
        "axl:", "jwe:", "framing:", "router:", "outbox:", "parts:", "latency", "memory:", "leak:",
        "sockets:", "sessions",
    ] {
        assert!(out.contains(figure), "no line of {figure}: {out}");
    }
}
