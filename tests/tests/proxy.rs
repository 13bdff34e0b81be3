//! The connector behind an HTTP proxy, through which all of the cloud is reached, in TLS.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tests::{Connector, Lab, Scratch, connector_binary, get, wait_until};

const SOON: Duration = Duration::from_secs(60);
const USER: &str = "connector";
const PASSWORD: &str = "canary-Passwort";

/// What the proxy does with who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mood {
    /// Makes the tunnel.
    Serves,
    /// Says that the target is not allowed.
    Refuses,
    /// Closes the connection.
    Dead,
}

#[derive(Debug)]
struct State {
    mood: Mood,
    targets: BTreeSet<String>,
    open: Vec<TcpStream>,
}

/// A CONNECT proxy that wants Basic credentials.
#[derive(Clone, Debug)]
struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let state = State { mood: Mood::Serves, targets: BTreeSet::new(), open: Vec::new() };
        let proxy = Self { port: listener.local_addr().unwrap().port(), state: Arc::new(Mutex::new(state)) };
        let serving = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (proxy, client) = (serving.clone(), client.unwrap());
                // Whoever goes away in the middle is not served.
                thread::spawn(move || proxy.serve(client).is_ok());
            }
        });
        proxy
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What it does from now on; dead, it takes every tunnel with it.
    fn set(&self, mood: Mood) {
        let mut state = self.state();
        state.mood = mood;
        if mood == Mood::Dead {
            for open in state.open.drain(..) {
                // One that has ended already is as it should be.
                let _ = open.shutdown(Shutdown::Both);
            }
        }
    }

    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let credentials = format!("proxy-authorization: Basic {}\r\n", encoded());
        if !head.to_lowercase().contains(&credentials.to_lowercase()) {
            return client
                .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n");
        }
        let target =
            head.strip_prefix("CONNECT ").and_then(|rest| rest.split_once(' ')).unwrap().0.to_owned();
        let far = TcpStream::connect(&target)?;
        {
            // In one, so that no tunnel is made that its death would miss.
            let mut state = self.state();
            match state.mood {
                Mood::Serves => {}
                Mood::Refuses => {
                    return client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
                }
                Mood::Dead => return Ok(()),
            }
            state.targets.insert(target);
            state.open.extend([client.try_clone()?, far.try_clone()?]);
        }
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        let (mut from, mut to) = (client.try_clone()?, far.try_clone()?);
        let there = thread::spawn(move || carry(&mut from, &mut to));
        carry(&mut { far }, &mut client);
        there.join().unwrap();
        Ok(())
    }
}

/// Carries what one says to the other until one of them ends, and ends the other.
fn carry(from: &mut TcpStream, to: &mut TcpStream) {
    // However it ends, it has ended.
    let _ = io::copy(from, to);
    let _ = to.shutdown(Shutdown::Both);
}

fn encoded() -> String {
    STANDARD.encode(format!("{USER}:{PASSWORD}"))
}

/// Puts the connector of this lab behind the proxy, with this password, and everything into its log.
fn put_behind(lab: &Lab, settings: &str, proxy: &Proxy, password: &str) {
    let file = std::path::Path::new(lab.endpoint("connector_config"));
    std::fs::write(file.with_file_name("proxy.password"), password).unwrap();
    let proxy = format!(
        "[webex]\nproxy = \"http://127.0.0.1:{}\"\nproxy_user = \"{USER}\"\nproxy_password_file = \"proxy.password\"\n",
        proxy.port
    );
    let settings = settings.replacen("[webex]\n", &proxy, 1) + "\n[log]\nlevel = \"debug\"\n";
    std::fs::write(file, settings).unwrap();
}

/// What `connector check` says, in which neither password may be.
fn check(lab: &Lab) -> String {
    let mut command = Command::new(connector_binary());
    let out = command.args(["check", "--config"]).arg(lab.endpoint("connector_config")).output().unwrap();
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(!said.contains("Passwort") && !said.contains(&encoded()), "{said}");
    said
}

#[test]
fn all_of_the_cloud_is_reached_through_the_proxy_and_its_death_loses_nothing() {
    let scratch = Scratch::new("proxy");
    let lab = Lab::start(scratch.path(), &["--stand-ins", "--tls", "--time-scale", "20"]);
    let settings = std::fs::read_to_string(lab.endpoint("connector_config")).unwrap();
    let proxy = Proxy::start();

    put_behind(&lab, &settings, &proxy, "wrong-Passwort");
    let said = check(&lab);
    let refused = |status: &str| format!("proxy 127.0.0.1:{} refused with status {status}", proxy.port);
    assert!(said.contains(&refused("407 Proxy Authentication Required")), "{said}");
    put_behind(&lab, &settings, &proxy, PASSWORD);
    proxy.set(Mood::Refuses);
    let said = check(&lab);
    assert!(said.contains(&refused("403 Forbidden")), "{said}");
    proxy.set(Mood::Serves);
    let said = check(&lab);
    assert!(!said.contains("FAILED"), "{said}");

    let connector = Connector::start(&lab);
    connector.wait_up(&lab);
    lab.say("alice/jabber", "bob", "one");
    lab.say("bob/webex", "alice", "two");
    assert!(wait_until(SOON, || lab.heard("bob/webex", "alice") == ["one"]));
    assert!(wait_until(SOON, || lab.heard("alice/jabber", "bob") == ["two"]));

    // It dies with a socket for everybody and requests on their way. There is no way around it.
    proxy.set(Mood::Dead);
    lab.say("alice/jabber", "bob", "three");
    lab.say("alice/jabber", "bob", "four");
    lab.say("bob/webex", "alice", "five");
    let status = || get(&format!("{}/status", lab.connector_status())).unwrap_or_default();
    let blocked = || {
        let status: Option<Value> = serde_json::from_str(&status()).ok();
        status.is_some_and(|s| s["router"]["blocked"].as_object().is_some_and(|hosts| !hosts.is_empty()))
    };
    assert!(wait_until(SOON, blocked), "{}", status());
    assert_eq!(lab.heard("bob/webex", "alice"), ["one"]);
    assert_eq!(lab.heard("alice/jabber", "bob"), ["two"]);
    proxy.set(Mood::Serves);
    assert!(wait_until(SOON, || lab.heard("bob/webex", "alice") == ["one", "three", "four"]), "{}", status());
    assert!(wait_until(SOON, || lab.heard("alice/jabber", "bob") == ["two", "five"]), "{}", status());

    let cloud = lab.endpoint("cloud").trim_start_matches("https://").to_owned();
    assert_eq!(proxy.state().targets, BTreeSet::from([cloud]), "IM and Presence is reached directly");
    let log = std::fs::read_to_string(lab.folder().join("connector.log")).unwrap();
    assert!(log.lines().count() > 100, "{} lines", log.lines().count());
    for canary in [PASSWORD, encoded().as_str(), "wrong-Passwort"] {
        assert!(!log.contains(canary), "the log has a password of the proxy");
    }
}
