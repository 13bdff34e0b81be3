//! A Python that has slixmpp, a client of Jabber that others made.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// What it has installed.
const REQUIREMENTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/lab/tests/slixmpp/requirements.txt");

/// The Python of an environment that has slixmpp, made in the build folder on first use.
///
/// # Panics
/// Python or its `venv` is missing; the message says how to install them.
#[must_use]
pub fn python() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = crate::process::target().join("tmp/slixmpp");
    let python = folder.join("bin/python");
    let installed = folder.join("installed.txt");
    let wanted = std::fs::read(REQUIREMENTS).expect("the list of packages is in the source");
    if std::fs::read(&installed).is_ok_and(|there| there == wanted) {
        return python;
    }
    std::fs::create_dir_all(&folder).expect("the build folder can be written");
    let run = |command: &mut Command| {
        let shown = format!("{command:?}");
        let missing = "a foreign client is missing: install python3 and python3-venv";
        let output = command.output().unwrap_or_else(|error| panic!("{missing} ({shown}: {error})"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{missing} ({shown}: {said})");
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
    let install = ["-m", "pip", "install", "--quiet", "--requirement"];
    run(Command::new(&python).args(install).arg(Path::new(REQUIREMENTS)));
    std::fs::write(&installed, wanted).expect("the build folder can be written");
    python
}
