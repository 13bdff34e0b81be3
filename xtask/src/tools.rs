//! Tools and foreign peers that tests need: found, or installed, or named precisely.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::parts::{root, sh};

const DENY_VERSION: &str = "0.20.2";

/// The path of cargo-deny, built into `target/tools` if the machine has none.
pub(crate) fn cargo_deny() -> Result<String, String> {
    if answers("cargo-deny", "--version") {
        return Ok("cargo-deny".into());
    }
    let folder = root().join("target/tools");
    let path = folder.join("bin/cargo-deny").display().to_string();
    if !answers(&path, "--version") {
        let folder = folder.display().to_string();
        println!("cargo-deny is missing: building version {DENY_VERSION} into target/tools (about a minute)");
        let target = root().join("target/tools/build").display().to_string();
        let args = [
            "install",
            "cargo-deny",
            "--version",
            DENY_VERSION,
            "--locked",
            "--root",
            &folder,
            "--quiet",
            "--debug",
        ];
        sh("cargo", &args, &[("CARGO_TARGET_DIR", &target)])?;
    }
    Ok(path)
}

/// Node, Python, Prosody, ejabberd, jabberd2 and profanity, which the foreign peers are, or run on.
pub(crate) fn foreign_peers() -> Result<(), String> {
    let server = |path: &str| Path::new(path).exists();
    let peers: [(bool, &[&str]); 6] = [
        (answers("node", "--version") && answers("npm", "--version"), &["nodejs", "npm"]),
        (answers("python3", "--version"), &["python3", "python3-venv"]),
        (server("/usr/bin/prosody"), &["prosody"]),
        (server("/usr/sbin/jabberd2-router"), &["jabberd2"]),
        (server("/usr/sbin/ejabberdctl"), &["ejabberd"]),
        (server("/usr/bin/profanity") && server("/usr/bin/tmux"), &["profanity", "tmux"]),
    ];
    let missing: Vec<&str> =
        peers.iter().filter(|(there, _)| !there).flat_map(|(_, packages)| packages.iter().copied()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let install = format!("apt-get install --yes {}", missing.join(" "));
    if !is_root() {
        return Err(format!("foreign peers are missing; install them first: sudo {install}"));
    }
    println!("foreign peers are missing: {}", missing.join(" "));
    // A package must not start a server of its own while it is installed.
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let ours = !policy.exists();
    if ours {
        std::fs::write(policy, "#!/bin/sh\nexit 101\n").map_err(|e| e.to_string())?;
        sh("chmod", &["+x", "/usr/sbin/policy-rc.d"], &[])?;
    }
    let mut args = vec!["install", "--yes", "-qq", "--no-install-recommends"];
    args.extend(missing);
    let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
    let installed = sh("apt-get", &["update", "-qq"], &quiet).and_then(|()| sh("apt-get", &args, &quiet));
    if ours {
        // Left behind it would only keep other services from starting.
        let _ = std::fs::remove_file(policy);
    }
    installed.map_err(|e| format!("{e}; install by hand: {install}"))
}

fn answers(program: &str, flag: &str) -> bool {
    let quiet = Command::new(program).arg(flag).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}
