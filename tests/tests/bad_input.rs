//! What a person does wrong, and what the process says of it: one row a case, with the exact words.
//!
//! What a peer does wrong has its rows with the crates that read it: `crates/xmpp-core/tests/hostile.rs`,
//! `crates/kms-client/tests/exchange.rs`, `crates/webex-api/tests/mercury.rs`, and `fuzz/`.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tests::{Connector, Lab, Scratch, connector_binary, get, wait_until};

const SOON: Duration = Duration::from_secs(60);

/// A copy of the lab's state folder, whose settings have a status address of their own.
fn copy(lab: &Lab, name: &str) -> PathBuf {
    let settings = Path::new(lab.endpoint("connector_config"));
    let from = settings.parent().unwrap();
    let to = lab.folder().join(name);
    fs::create_dir(&to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    let text = fs::read_to_string(settings).unwrap();
    let listen = text.lines().find(|line| line.starts_with("listen = ")).unwrap();
    let text = text.replace(listen, "listen = \"127.0.0.1:0\"");
    let store = lab.endpoint("store");
    fs::write(to.join("connector.toml"), text.replace(store, &to.join("connector.db").to_string_lossy()))
        .unwrap();
    to
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "`{from}` is not in {}", file.display());
    fs::write(file, text.replace(from, to)).unwrap();
}

/// The last words of a connector that ends, without its folder.
fn last_words(folder: &Path) -> String {
    let settings = folder.join("connector.toml");
    let out = Command::new(connector_binary()).args(["run", "--config"]).arg(&settings).output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{said}");
    let start = said.find("connector: ").unwrap_or_else(|| panic!("no last words in {said}"));
    said[start..].trim_end().replace(&folder.display().to_string(), "FOLDER")
}

#[test]
fn what_ends_the_start_is_said_in_one_way_only() {
    let scratch = Scratch::new("bad-start");
    let lab = Lab::start(scratch.path(), &["--stand-ins", "--time-scale", "20"]);
    // A store that a connector has written.
    let written = copy(&lab, "written");
    let mut child = start(&written);
    let log = written.join("connector.log");
    assert!(
        wait_until(SOON, || fs::read_to_string(&log).is_ok_and(|text| text.contains("the connector runs")))
    );
    // Who leaves the links in the clear is told so at each start.
    assert!(fs::read_to_string(&log).unwrap().contains("the links to this cluster are plain TCP"));
    // Asked to stop, it leaves one file with everything in it.
    Command::new("kill").args(["-TERM", &child.0.id().to_string()]).status().unwrap();
    assert!(child.0.wait().unwrap().success());

    // (what is done to the folder; what is said)
    type Spoil = fn(&Path);
    let rows: [(&str, Spoil, &str); 12] = [
        (
            "no settings",
            |folder| fs::remove_file(folder.join("connector.toml")).unwrap(),
            "connector: FOLDER/connector.toml has one mistake:\n  the file: cannot be read: No such file or directory \
             (os error 2) (make one: connector example > FOLDER/connector.toml)",
        ),
        (
            "two mistakes",
            |folder| {
                replace(&folder.join("connector.toml"), "link = \"a\"", "link = \"d\"");
                replace(&folder.join("connector.toml"), "time_scale = 20", "time_scale = \"fast\"");
            },
            "connector: FOLDER/connector.toml has these mistakes:\n  line 25: imp.link: expected one of \"a\", \"b\", \
             \"c\"\n  line 44: testing.time_scale: expected a whole number from 1 to 1000",
        ),
        (
            "a secret is missing",
            |folder| fs::remove_file(folder.join("imp.secret")).unwrap(),
            "connector: FOLDER/connector.toml has one mistake:\n  line 27: imp.secret_file: cannot read \
             FOLDER/imp.secret: No such file or directory (os error 2)",
        ),
        (
            "a secret is empty",
            |folder| fs::write(folder.join("client.secret"), "").unwrap(),
            "connector: FOLDER/connector.toml has one mistake:\n  line 15: webex.client_secret_file: \
             FOLDER/client.secret is empty",
        ),
        (
            "a key is too short",
            |folder| fs::write(folder.join("organization.key"), "abc").unwrap(),
            "connector: FOLDER/connector.toml has one mistake:\n  line 5: organization.key_file: the file must hold 64 \
             hexadecimal digits (make one: openssl rand -hex 32)",
        ),
        (
            "a key is no text",
            |folder| fs::write(folder.join("store.key"), [0xFF; 32]).unwrap(),
            "connector: FOLDER/connector.toml has one mistake:\n  line 9: store.key_file: FOLDER/store.key holds \
             something else than text",
        ),
        (
            "a token in the clear over the network",
            |folder| replace(&folder.join("connector.toml"), "http://127.0.0.1", "http://192.0.2.1"),
            "connector: FOLDER/connector.toml has these mistakes:\n  line 12: webex.discovery_url: plain http is refused \
             off loopback: use https\n  line 29: imp.axl_url: plain http is refused off loopback: use https\n  line 44: \
             testing.time_scale: above 1 is refused unless every address is on loopback",
        ),
        (
            "the store is something else",
            |folder| fs::write(folder.join("connector.db"), "jid,mail,enabled\n".repeat(1_000)).unwrap(),
            "connector: the store FOLDER/connector.db is damaged: restore it from a backup, or move it away to start \
             with an empty one: file is not a database: Error code 26: file is not a database",
        ),
        (
            "the store is a folder",
            |folder| {
                let _ = fs::remove_file(folder.join("connector.db"));
                fs::create_dir(folder.join("connector.db")).unwrap();
            },
            "connector: the store FOLDER/connector.db cannot be opened or created: Is a directory (os error 21)",
        ),
        (
            "a later release wrote the store",
            |folder| {
                // The user version of the SQLite file header (file format §1.3.13), big-endian.
                let mut bytes = fs::read(folder.join("connector.db")).unwrap();
                bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
                fs::write(folder.join("connector.db"), bytes).unwrap();
            },
            "connector: the store FOLDER/connector.db has format 99, this release reads up to 2: use the release that \
             wrote it, or a later one",
        ),
        (
            "the store's key is another one",
            |folder| fs::write(folder.join("store.key"), "0f".repeat(32)).unwrap(),
            "connector: the store FOLDER/connector.db was written under another key: give the key file that belongs to it",
        ),
        (
            "the status address is taken",
            |folder| {
                replace(
                    &folder.join("connector.toml"),
                    "listen = \"127.0.0.1:0\"",
                    "listen = \"192.0.2.1:1\"",
                )
            },
            "connector: status.listen: cannot listen on 192.0.2.1:1: Cannot assign requested address (os error 99)",
        ),
    ];
    for (n, (case, spoil, expected)) in rows.into_iter().enumerate() {
        let folder = copy(&lab, &format!("case-{n}"));
        fs::copy(written.join("connector.db"), folder.join("connector.db")).unwrap();
        spoil(&folder);
        assert_eq!(last_words(&folder), expected, "{case}");
    }
}

/// A connector that ends with its test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(folder: &Path) -> Running {
    let log = fs::File::create(folder.join("connector.log")).unwrap();
    let child = Command::new(connector_binary())
        .args(["run", "--config"])
        .arg(folder.join("connector.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Running(child)
}

/// What a peer refuses ends nothing: the log says what, and the connector goes on trying.
#[test]
fn what_a_peer_refuses_is_said_and_tried_again() {
    let scratch = Scratch::new("bad-peers");
    let lab = Lab::start(scratch.path(), &["--stand-ins", "--time-scale", "20"]);
    // (the file that is spoilt, what is said at least twice)
    let rows = [
        ("imp.secret", "error=\"the peer ended the stream: not-authorized\""),
        ("client.secret", "token refused: 401 Unauthorized: invalid_client"),
        ("machine.token", "token refused: 400 Bad Request: invalid_grant"),
        ("admin.token", "people of the cloud cannot be read: 401 Unauthorized"),
        (
            "axl.password",
            "JIDs cannot be read: the publisher refused: the publisher refuses the user name or the password (401)",
        ),
    ];
    for (file, expected) in rows {
        let folder = copy(&lab, file);
        fs::write(folder.join(file), "wrong").unwrap();
        let mut child = start(&folder);
        let log = || fs::read_to_string(folder.join("connector.log")).unwrap();
        let said = wait_until(SOON, || log().matches(expected).count() >= 2);
        let ended = child.0.try_wait().unwrap();
        assert!(ended.is_none(), "{file}: a refusal ends the connector: {ended:?}");
        assert!(said, "{file}: `{expected}` is not twice in:\n{}", log());
    }
    // With everything right again, the same stand-ins serve.
    let connector = Connector::start(&lab);
    connector.wait_up(&lab);
    assert!(get(&format!("{}/status", lab.connector_status())).is_ok());
}

/// On a full disk nothing new is taken over, and what was not taken over is not lost.
#[test]
fn a_full_disk_is_said_and_loses_nothing() {
    let scratch = Scratch::new("bad-disk");
    let lab = Lab::start(scratch.path(), &["--stand-ins", "--time-scale", "20"]);
    let settings = Path::new(lab.endpoint("connector_config"));
    let text = fs::read_to_string(settings).unwrap();
    fs::write(settings, text + "\n[limits]\nfree_space = \"1MiB\"\n").unwrap();
    let log = || fs::read_to_string(lab.folder().join("connector.log")).unwrap();
    let connector = Connector::start(&lab);
    connector.wait_up(&lab);
    drop(connector);

    replace(settings, "1MiB", "1000000GiB");
    let mut full = Connector::start(&lab);
    let said = "the disk of the store is down to its floor: nothing new is taken over";
    assert!(wait_until(SOON, || log().contains(said)), "{}", log());
    lab.say("alice/webex", "bob", "while the disk was full");
    lab.say("bob/jabber", "alice", "in Jabber, too");
    std::thread::sleep(Duration::from_secs(2));
    assert!(!full.has_ended(), "it waits for room");
    assert!(lab.heard("bob/jabber", "alice").is_empty() && lab.heard("alice/webex", "bob").is_empty());
    drop(full);

    replace(settings, "1000000GiB", "1MiB");
    let _connector = Connector::start(&lab);
    for (client, from, text) in
        [("bob/jabber", "alice", "while the disk was full"), ("alice/webex", "bob", "in Jabber, too")]
    {
        assert!(wait_until(SOON, || lab.heard(client, from) == [text]), "{client}: {}", log());
    }
}

/// Where the system gives too few descriptors, `check` says so; a connector that runs all the same serves whom it can, and
/// loses nothing of the others.
#[test]
fn too_few_descriptors_are_said_and_lose_nothing() {
    let scratch = Scratch::new("bad-descriptors");
    let lab = Lab::start(scratch.path(), &["--stand-ins", "--time-scale", "20", "--users", "60"]);
    let log = || fs::read_to_string(lab.folder().join("connector.log")).unwrap();
    let limited = lab.folder().join("limited");
    fs::write(&limited, format!("#!/bin/sh\nulimit -n 48\nexec {} \"$@\"\n", connector_binary().display()))
        .unwrap();
    fs::set_permissions(&limited, fs::Permissions::from_mode(0o755)).unwrap();

    let out = Command::new(&limited)
        .args(["check", "--config", lab.endpoint("connector_config")])
        .output()
        .unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    let expected = "FAILED  descriptors: 64 enabled people take up to 564 descriptors, and this process may have 48: raise its \
                    hard limit";
    assert!(!out.status.success() && said.contains(expected), "`{expected}` is not in:\n{said}");

    let mut connector = Connector::start_as(&limited, &lab, &[]);
    assert!(wait_until(SOON, || log().contains("Too many open files")), "{}", log());
    let people = ["alice", "bob", "u00001", "u00030", "u00060"];
    for client in people.iter().flat_map(|name| ["jabber", "webex"].map(|app| format!("{name}/{app}"))) {
        lab.control("/act", &json!({"client": client, "what": "online"}));
    }
    for (n, from) in people.iter().enumerate() {
        for text in ["one", "two"] {
            lab.say(&format!("{from}/webex"), people[(n + 1) % people.len()], text);
            lab.say(&format!("{from}/jabber"), people[(n + 2) % people.len()], text);
        }
    }
    std::thread::sleep(Duration::from_secs(2));
    assert!(!connector.has_ended(), "it serves whom it can");
    connector.kill();
    let connector = Connector::start(&lab);
    connector.wait_up(&lab);
    for (n, from) in people.iter().enumerate() {
        let heard = lab.heard(&format!("{}/jabber", people[(n + 1) % people.len()]), from);
        assert_eq!(heard, ["one", "two"], "from {from}'s Webex App");
        let heard = lab.heard(&format!("{}/webex", people[(n + 2) % people.len()]), from);
        assert_eq!(heard, ["one", "two"], "from {from}'s Jabber");
    }
}
