//! slixmpp, driven line by line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::{python, wait_until};

const SOON: Duration = Duration::from_secs(60);

/// A logged-in bot; it ends with this.
#[derive(Debug)]
pub struct Slixmpp {
    child: Child,
    stdin: ChildStdin,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Slixmpp {
    /// Logs in at a port of this host; with `copies`, wants to see what its user's other clients send and receive, which
    /// not every server answers.
    ///
    /// # Panics
    /// It is not logged in within a minute.
    #[must_use]
    pub fn log_in(port: u16, jid: &str, password: &str, copies: bool) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/lab/tests/slixmpp/bot.py");
        let mut child = Command::new(python())
            .arg(script)
            .args(["127.0.0.1", &port.to_string(), &format!("{jid}/slix"), password])
            .env("COPIES", if copies { "on" } else { "off" })
            // Whatever other clients its user has, messages come to this one.
            .env("PRIORITY", "10")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python can be started");
        let stdin = child.stdin.take().expect("it was asked for");
        let stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&events);
        std::thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            for event in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        });
        let bot = Self { child, stdin, events };
        assert!(bot.has("ready", None), "slixmpp does not log in as {jid}: {:?}", bot.events());
        bot
    }

    fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for an event, with this body where one is given.
    fn has(&self, event: &str, body: Option<&str>) -> bool {
        let is_it = |e: &Value| e["event"] == event && body.is_none_or(|body| e["body"] == body);
        wait_until(SOON, || self.events().iter().any(is_it))
    }

    /// Writes to somebody.
    ///
    /// # Panics
    /// It has ended.
    pub fn say(&mut self, to: &str, text: &str) {
        writeln!(self.stdin, "{}", json!({"do": "say", "to": to, "body": text})).expect("it runs");
    }

    /// Waits until it was shown this text.
    #[must_use]
    pub fn hears(&self, text: &str) -> bool {
        self.has("message", Some(text))
    }
}

impl Drop for Slixmpp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
