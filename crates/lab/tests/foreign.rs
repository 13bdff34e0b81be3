//! A client made by others, slixmpp, logs in to the stand-in and talks to a built-in person. Needs Python 3 with `venv`;
//! the packages are installed into the target folder on first use.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use lab::net::Network;
use lab::options::Options;
use lab::people::{Act, What};
use serde_json::{Value, json};
use support::World;
use tokio::sync::mpsc;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/slixmpp");

struct Bot {
    child: Child,
    stdin: ChildStdin,
    events: mpsc::UnboundedReceiver<Value>,
    seen: Vec<Value>,
}

impl Bot {
    fn start(world: &World, name: &str, password: &str, mechanism: &str) -> Self {
        let mut child = Command::new(tests::python())
            .arg(Path::new(SCRIPTS).join("bot.py"))
            .args([
                "127.0.0.1",
                &world.client.to_string(),
                &format!("{name}@lab.example/slix"),
                password,
                mechanism,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, events) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let Ok(event) = serde_json::from_str(&line) else { continue };
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Self { child, stdin, events, seen: Vec::new() }
    }

    fn does(&mut self, command: &Value) {
        writeln!(self.stdin, "{command}").unwrap();
    }

    /// Waits until the bot tells something like this.
    async fn tells(&mut self, expected: &Value) -> Value {
        let is_like = |event: &Value| {
            expected.as_object().unwrap().iter().all(|(name, value)| event.get(name) == Some(value))
        };
        let wait = async {
            while let Some(event) = self.events.recv().await {
                self.seen.push(event.clone());
                if is_like(&event) {
                    return Some(event);
                }
            }
            None
        };
        let told = tokio::time::timeout(Duration::from_secs(60), wait).await.ok().flatten();
        told.unwrap_or_else(|| panic!("the bot never told {expected}, but {:#?}", self.seen))
    }

    fn texts(&self) -> Vec<&str> {
        self.seen.iter().filter_map(|event| event["body"].as_str()).collect()
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn world() -> World {
    let world = World::on(Network::Tcp, Options { kind: true, time_scale: 20, ..Options::default() }).await;
    lab::people::jabber::start(&world.ctx, world.client, 0);
    world.idle().await;
    world
}

#[tokio::test]
#[ignore = "needs Python; `cargo xtask test foreign` or `-- --ignored` runs it"]
async fn slixmpp_talks_to_a_built_in_person() {
    let world = world().await;
    let mut bob = Bot::start(&world, "bob", "secret", "SCRAM-SHA-1");
    let ready = bob.tells(&json!({"event": "ready"})).await;
    assert_eq!(ready["jid"], "bob@lab.example/slix");
    assert_eq!(ready["roster"].as_array().unwrap().len(), 7);
    assert!(ready["features"].as_array().unwrap().contains(&json!("urn:xmpp:carbons:2")), "{ready}");

    world.say("alice", "bob", "hello <bob> & co").await;
    bob.tells(
        &json!({"event": "message", "peer": "alice@lab.example", "body": "hello <bob> & co", "late": false}),
    )
    .await;
    bob.does(&json!({"do": "say", "to": "alice@lab.example", "body": "grüße ☕"}));
    world.until("alice", "in message bob grüße ☕").await;
    // Bob's built-in client sees what he wrote in the other one, and the other way round.
    world.until("bob", "out message alice grüße ☕").await;
    world.say("bob", "alice", "from the built-in one").await;
    bob.tells(&json!({"event": "copy", "direction": "sent", "peer": "alice@lab.example", "body": "from the built-in one"}))
        .await;

    bob.does(&json!({"do": "type", "to": "alice@lab.example"}));
    world.until("alice", "in typing bob typing").await;
    world.act("alice", &Act { to: Some("bob".into()), ..Act::new(What::Typing) }).await.unwrap();
    bob.tells(&json!({"event": "typing", "peer": "alice@lab.example"})).await;
    bob.does(&json!({"do": "status", "show": "away", "status": ""}));
    world.until("alice", "in presence bob Away").await;
    world.status("alice", "dnd").await;
    bob.tells(&json!({"event": "presence", "peer": "alice@lab.example", "show": "dnd"})).await;
    bob.does(&json!({"do": "ping", "to": "lab.example"}));
    bob.tells(&json!({"event": "pong"})).await;
    world.ctx.shut_down().await;
}

/// The connection is cut again and again in the middle of a conversation; everything comes once and in order.
#[tokio::test]
#[ignore = "needs Python; `cargo xtask test foreign` or `-- --ignored` runs it"]
async fn slixmpp_resumes() {
    let world = world().await;
    world.does("carol", What::Offline).await;
    let mut carol = Bot::start(&world, "carol", "secret", "PLAIN");
    carol.tells(&json!({"event": "ready"})).await;
    let mut expected = Vec::new();
    for fault in ["imp-client-cut", "imp-client-cut-before-writing", "imp-client-cut-after-writing"] {
        world.fault(&json!({"name": fault, "on": true, "count": 1, "person": "carol"}).to_string());
        for n in 0..3 {
            expected.push(format!("{fault} {n}"));
            world.say("alice", "carol", &format!("{fault} {n}")).await;
        }
        carol.tells(&json!({"event": "resumed"})).await;
        carol.tells(&json!({"event": "message", "body": format!("{fault} 2")})).await;
    }
    assert_eq!(carol.texts(), expected);
    world.ctx.shut_down().await;
}

#[tokio::test]
#[ignore = "needs Python; `cargo xtask test foreign` or `-- --ignored` runs it"]
async fn slixmpp_is_refused_with_a_wrong_password() {
    let world = world().await;
    let mut dave = Bot::start(&world, "dave", "guess", "SCRAM-SHA-256");
    dave.tells(&json!({"event": "refused"})).await;
    world.ctx.shut_down().await;
}
