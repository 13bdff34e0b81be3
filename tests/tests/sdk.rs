//! The cloud's official JavaScript SDK, unmodified: against the lab's cloud, and as the Webex App of a person whose partner
//! has a Jabber that others made, with the connector between.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tests::{Connector, Lab, Scratch, python};

/// One lab at a time, or they wait for each other's processors.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The folder with the scenes and the installed SDK: beside the build, not in the source.
fn suite() -> &'static Path {
    static SUITE: OnceLock<PathBuf> = OnceLock::new();
    SUITE.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/lab/tests/sdk");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sdk");
        let lock = |folder: &Path| std::fs::read(folder.join("package-lock.json")).unwrap_or_default();
        let installed = folder.join("node_modules").exists() && lock(&folder) == lock(&source);
        std::fs::create_dir_all(&folder).expect("the build folder can be written");
        for file in ["package.json", "package-lock.json", "sdk.js", "run.js", "trouble.js", "bridge.js"] {
            std::fs::copy(source.join(file), folder.join(file)).expect("the suite's files can be copied");
        }
        if !installed {
            let npm = Command::new("npm")
                .args(["ci", "--legacy-peer-deps", "--ignore-scripts", "--no-audit", "--no-fund"])
                .current_dir(&folder)
                .status();
            assert!(
                npm.is_ok_and(|status| status.success()),
                "`npm ci` fails: is Node.js with npm installed?"
            );
        }
        folder
    })
}

/// Plays a scene of the suite with a lab. The scene asks for what only we can do by lines that begin with `please`.
fn play(scene: &str, lab: &Lab, args: &[&str], mut asked: impl FnMut(&str)) {
    let mut node = Command::new("node")
        .arg(suite().join(scene))
        .arg(lab.folder().join("endpoints.json"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Node.js can be started");
    let mut answers = node.stdin.take().expect("it is piped");
    for line in BufReader::new(node.stdout.take().expect("it is piped")).lines() {
        let line = line.expect("a scene prints text");
        println!("{line}");
        if let Some(what) = line.strip_prefix("please ") {
            asked(what);
            writeln!(answers).expect("the scene waits for that");
        }
    }
    let ended = node.wait();
    assert!(ended.is_ok_and(|status| status.success()), "{scene} {args:?} fails: its steps are above");
}

fn nothing_asked(what: &str) {
    panic!("this scene does not ask for `{what}`");
}

fn stand_ins(scratch: &Scratch) -> Lab {
    Lab::start(scratch.path(), &["--stand-ins", "--time-scale", "20"])
}

#[test]
#[ignore = "needs Node and packages from npm: cargo xtask test sdk"]
fn the_official_sdk_talks_through_the_labs_cloud() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new("sdk");
    play("run.js", &stand_ins(&scratch), &[], nothing_asked);
}

#[test]
#[ignore = "needs Node and packages from npm: cargo xtask test sdk"]
fn the_same_by_seed_with_answers_that_are_late_lost_repeated_and_slow() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new("sdk-seed");
    play("run.js", &stand_ins(&scratch), &["2"], nothing_asked);
}

#[test]
#[ignore = "needs Node and packages from npm: cargo xtask test sdk"]
fn the_official_sdk_has_two_devices_and_trouble_with_sockets_keys_and_clocks() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new("sdk-trouble");
    play("trouble.js", &stand_ins(&scratch), &[], nothing_asked);
}

#[test]
#[ignore = "needs Node, packages from npm, and Python: cargo xtask test sdk"]
fn the_official_sdk_and_slixmpp_talk_through_the_connector() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new("sdk-bridge");
    let lab = stand_ins(&scratch);
    let mut connector = Connector::start(&lab);
    connector.wait_up(&lab);
    let bot = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/lab/tests/slixmpp/bot.py");
    play("bridge.js", &lab, &[&python().to_string_lossy(), &bot.to_string_lossy()], |what| {
        match what {
            "kill" => connector.kill(),
            "stop" => assert_eq!(
                connector.terminate(Duration::from_secs(60)),
                Some(0),
                "it ends when it is asked to"
            ),
            other => panic!("nobody knows how to `{other}`"),
        }
        connector = Connector::start(&lab);
        connector.wait_up(&lab);
    });
}
