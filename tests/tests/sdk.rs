//! The cloud's official JavaScript SDK, unmodified, against the lab's cloud.

use std::path::Path;
use std::process::Command;

use tests::{Lab, Scratch};

#[test]
#[ignore = "needs Node and packages from npm: cargo xtask test sdk"]
fn the_official_sdk_talks_through_the_labs_cloud() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/lab/tests/sdk");
    let scratch = Scratch::new("sdk");
    // The packages are installed beside the build, not into the source.
    for file in ["package.json", "package-lock.json", "run.js"] {
        std::fs::copy(folder.join(file), scratch.path().join(file)).expect("the suite's files can be copied");
    }
    let installed = Command::new("npm")
        .args(["ci", "--legacy-peer-deps", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(scratch.path())
        .status();
    assert!(installed.is_ok_and(|status| status.success()), "`npm ci` fails: is Node.js with npm installed?");

    let lab = Lab::start(scratch.path(), &["--stand-ins", "--time-scale", "20"]);
    let ran = Command::new("node")
        .arg(scratch.path().join("run.js"))
        .arg(scratch.path().join("endpoints.json"))
        .current_dir(scratch.path())
        .status();
    drop(lab);
    assert!(ran.is_ok_and(|status| status.success()), "the SDK suite fails: its steps are above");
}
