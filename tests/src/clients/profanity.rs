//! profanity in a terminal that nobody looks at (tmux).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::wait_until;

const SOON: Duration = Duration::from_secs(60);

/// A logged-in profanity; it ends with this.
#[derive(Debug)]
pub struct Profanity {
    /// Its folder: settings, and what was said.
    home: PathBuf,
}

impl Profanity {
    /// Logs in at a port of this host.
    ///
    /// # Panics
    /// It is not logged in within a minute; what it shows is in the message.
    #[must_use]
    pub fn log_in(scratch: &Path, port: u16, jid: &str, password: &str) -> Self {
        let home = scratch.join("profanity");
        fs::create_dir_all(&home).expect("the test's folder can be written");
        let client = Self { home };
        let run = format!(
            "env HOME={0} XDG_CONFIG_HOME={0} XDG_DATA_HOME={0} LC_ALL=C.UTF-8 profanity",
            client.home.display()
        );
        client.tmux(&["-f", "/dev/null", "new-session", "-d", "-s", "p", "-x", "160", "-y", "50", &run]);
        assert!(
            wait_until(SOON, || client.shows("Profanity")),
            "profanity does not start: {}",
            client.screen()
        );
        client.types(&format!("/connect {jid} server 127.0.0.1 port {port} tls disable"));
        assert!(
            wait_until(SOON, || client.shows("Enter password")),
            "it asks for no password: {}",
            client.screen()
        );
        client.types(password);
        let logged_in = wait_until(SOON, || client.shows("logged in successfully"));
        assert!(logged_in, "profanity does not log in as {jid}: {}", client.screen());
        // Whatever other clients its user has, messages come to this one.
        client.types("/priority 10");
        assert!(wait_until(SOON, || client.shows("Priority set to 10")), "no priority: {}", client.screen());
        client
    }

    fn tmux(&self, args: &[&str]) -> Output {
        // A server of its own, so that nobody else's is touched.
        let socket = self.home.join("tmux");
        let ran = Command::new("tmux").arg("-S").arg(socket).args(args).output();
        ran.expect("tmux is there: apt-get install tmux")
    }

    fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-t", "p", "-l", line]);
        self.tmux(&["send-keys", "-t", "p", "Enter"]);
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p", "-t", "p"]).stdout).into_owned()
    }

    fn shows(&self, text: &str) -> bool {
        self.screen().contains(text)
    }

    /// Writes to somebody.
    pub fn say(&self, to: &str, text: &str) {
        self.types(&format!("/msg {to} {text}"));
    }

    /// Waits until it was shown this text, in whichever of its windows: it keeps what was said in a database.
    #[must_use]
    pub fn hears(&self, text: &str) -> bool {
        let database = self.home.join("profanity/database");
        wait_until(SOON, || has_text(&database, text))
    }
}

/// Whether a file in this folder or below has this text.
fn has_text(folder: &Path, text: &str) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).any(|path| match path.is_dir() {
        true => has_text(&path, text),
        false => {
            let bytes = fs::read(&path).unwrap_or_default();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        }
    })
}

impl Drop for Profanity {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
