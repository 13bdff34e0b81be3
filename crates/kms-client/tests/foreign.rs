//! Each role against the other side made by others: our KMS role answers `node-kms`, a server on `node-jose` answers
//! our client. Needs Node.js 20 or later and npm; the packages are installed on first use.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::*;
use kms_client::client::{Client, Event, RequestError, RequestId};
use kms_client::jose::jwe;
use kms_client::message::{Key, Request, Response};
use serde_json::{Value, json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node");

/// Makes sure that Node.js and the packages are there, or says what to do.
fn install() {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if Path::new(FOLDER).join("node_modules/node-kms/package.json").exists() {
        return;
    }
    let what_to_do = format!(
        "the foreign peers are not installed: install Node.js 20 or later with npm, then run \
         `npm ci --ignore-scripts` in {FOLDER}"
    );
    let npm = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(FOLDER)
        .output()
        .unwrap_or_else(|error| panic!("{what_to_do} (npm: {error})"));
    assert!(npm.status.success(), "{what_to_do} (npm: {})", String::from_utf8_lossy(&npm.stderr));
}

/// A script that answers each line with a line.
struct Peer {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Peer {
    fn start(script: &str) -> Self {
        install();
        let mut child = Command::new("node")
            .arg(script)
            .current_dir(FOLDER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("install Node.js 20 or later: `node` does not run: {error}"));
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|l| sender.send(l)));
        Self { child, stdin, lines }
    }

    fn ask(&mut self, line: &Value) -> Value {
        writeln!(self.stdin, "{line}").unwrap();
        let answer = self
            .lines
            .recv_timeout(Duration::from_secs(60))
            .unwrap_or_else(|_| panic!("the peer gave no answer to {}", line["step"]));
        serde_json::from_str(&answer).unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs Node.js; `cargo xtask test foreign` or `-- --ignored` runs it"]
fn our_kms_answers_node_kms() {
    let mut kms = Kms::new();
    let mut peer = Peer::start("client.js");
    let key: Value = serde_json::from_str(&kms.responder.static_key().public_json()).unwrap();
    let asker = json!({"clientId": DEVICE, "credential": {"userId": USER, "bearer": "canary-token"}});
    let started = peer.ask(&json!({"step": "start", "cluster": cluster(), "key": key, "asker": asker}));
    let reply = kms.answer(started["message"].as_str().unwrap()).unwrap();
    let agreed = peer.ask(&json!({"step": "agreed", "reply": reply}));
    assert_eq!(agreed["uri"], "kms://kms.example/ecdhe/context-1");
    assert_eq!(agreed["expires"], EXPIRES);

    let mut ask = |body: Value| {
        let asked = peer.ask(&json!({"step": "ask", "body": body}));
        let reply = kms.answer(asked["message"].as_str().unwrap()).unwrap();
        let answered = peer.ask(&json!({"step": "answered", "reply": reply}));
        assert_eq!(answered["body"]["requestId"], asked["requestId"]);
        answered["body"].clone()
    };
    let made = ask(json!({"method": "create", "uri": "/keys", "count": 2}));
    assert_eq!(made["status"], 201);
    assert_eq!(made["keys"].as_array().unwrap().len(), 2);
    let fetched = ask(json!({"method": "retrieve", "uri": made["keys"][1]["uri"]}));
    assert_eq!(fetched["key"], made["keys"][1]);
    let bound = ask(json!({
        "method": "create", "uri": "/resources", "userIds": [USER], "keyUris": [made["keys"][1]["uri"]]
    }));
    assert_eq!(bound["resource"]["keyUris"][0], made["keys"][1]["uri"]);
    for (method, uri) in [
        ("create", "/authorizations"),
        ("update", made["keys"][0]["uri"].as_str().unwrap()),
        ("update", "/ping"),
    ] {
        let answer = ask(json!({
            "method": method, "uri": uri, "userIds": [USER], "resourceUri": bound["resource"]["uri"]
        }));
        assert_eq!(answer["status"], 200, "{method} {uri}");
    }
    let refused = ask(json!({"method": "create", "uri": "/nonsense"}));
    assert_eq!((&refused["status"], &refused["reason"]), (&json!(405), &json!("no such request")));

    // The texts of a conversation, both ways.
    let ours: Key = serde_json::from_value(fetched["key"].clone()).unwrap();
    let sealed = peer.ask(&json!({"step": "seal", "key": fetched["key"], "text": "Grüße, 世界 👋"}));
    let opened = jwe::open(&ours.jwk.0.k, sealed["jwe"].as_str().unwrap()).unwrap();
    assert_eq!(std::str::from_utf8(&opened).unwrap(), "Grüße, 世界 👋");
    let sealed = jwe::seal(&ours.jwk.0.k, &[5; 12], "Grüße, 世界 👋".as_bytes()).unwrap();
    let opened = peer.ask(&json!({"step": "open", "key": fetched["key"], "jwe": sealed}));
    assert_eq!(opened["text"], "Grüße, 世界 👋");
}

/// Asks over the foreign KMS and returns the one answer.
fn call(client: &mut Client, peer: &mut Peer, request: Request) -> Result<Response, RequestError> {
    let now = start();
    let id: RequestId = client.submit(request, now).unwrap();
    while let Some(message) = client.poll_message() {
        let reply = peer.ask(&json!({"message": message}));
        client.handle_reply(reply["reply"].as_str().unwrap(), now).unwrap();
    }
    match client.poll_event() {
        Some(Event::Answered { id: answered, outcome }) if answered == id => outcome.map(|r| *r),
        other => panic!("{other:?}"),
    }
}

#[test]
#[ignore = "needs Node.js; `cargo xtask test foreign` or `-- --ignored` runs it"]
fn a_kms_on_node_jose_answers_our_client() {
    let mut peer = Peer::start("server.js");
    peer.ask(&json!({"pkcs8": STANDARD.encode(STATIC_KEY), "kid": KID}));
    let mut client = client(kms_client::client::Timings::default());
    let users = vec![USER.to_owned(), "22222222-2222-4222-8222-222222222222".to_owned()];

    let made = call(&mut client, &mut peer, Request::CreateKeys { count: 3 }).unwrap();
    assert_eq!((made.status, made.keys.len()), (201, 3));
    let key = &made.keys[2];
    let fetched = call(&mut client, &mut peer, Request::RetrieveKey { key: key.uri.clone() }).unwrap();
    assert_eq!(fetched.key.unwrap().jwk.0.k, key.jwk.0.k);
    let bind = Request::CreateResource { users: users.clone(), keys: vec![key.uri.clone()] };
    let resource = call(&mut client, &mut peer, bind).unwrap().resource.unwrap();
    assert_eq!(resource.key_uris, std::slice::from_ref(&key.uri));
    let more = Request::CreateAuthorizations { resource: resource.uri.clone(), users };
    assert_eq!(call(&mut client, &mut peer, more).unwrap().authorizations.len(), 2);
    let bind = Request::BindKey { key: key.uri.clone(), resource: resource.uri.clone() };
    assert_eq!(call(&mut client, &mut peer, bind).unwrap().key.unwrap().resource_uri, Some(resource.uri));
    assert_eq!(call(&mut client, &mut peer, Request::Ping).unwrap().status, 200);
    let unknown = Request::RetrieveKey { key: key_uri(404) };
    assert!(matches!(call(&mut client, &mut peer, unknown), Err(RequestError::Refused { status: 404, .. })));
}

#[test]
fn the_lock_file_names_no_registry() {
    let lock = std::fs::read_to_string(Path::new(FOLDER).join("package-lock.json")).unwrap();
    assert!(!lock.contains("\"resolved\""), "strip `resolved` from tests/node/package-lock.json");
}
