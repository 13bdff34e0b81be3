//! Tools and foreign peers that tests need: found, or installed, or named precisely.

use std::process::{Command, Stdio};

use crate::parts::{root, sh};

const DENY_VERSION: &str = "0.20.2";

/// Packages with a test target `foreign`, and the features it needs.
pub(crate) const FOREIGN_TESTS: &[(&str, &str)] = &[("kms-client", ""), ("xmpp-core", "tokio"), ("lab", "")];

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

/// Node, Python and Prosody, which the foreign peers run on.
pub(crate) fn foreign_peers() -> Result<(), String> {
    let mut missing = Vec::new();
    for (program, flag, packages) in [
        ("node", "--version", &["nodejs", "npm"][..]),
        ("python3", "--version", &["python3", "python3-venv"]),
        ("prosody", "--version", &["prosody"]),
    ] {
        if !answers(program, flag) && !prosody_is_there(program) {
            missing.extend_from_slice(packages);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let install = format!("apt-get install --yes {}", missing.join(" "));
    if !is_root() {
        return Err(format!("foreign peers are missing; install them first: sudo {install}"));
    }
    println!("foreign peers are missing: {}", missing.join(" "));
    // A package must not start a server of its own while it is installed.
    let policy = std::path::Path::new("/usr/sbin/policy-rc.d");
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

/// Prosody has no flag that only prints its version.
fn prosody_is_there(program: &str) -> bool {
    program == "prosody" && std::path::Path::new("/usr/bin/prosody").exists()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}
