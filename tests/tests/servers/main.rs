//! Each way of holding sessions, on each server that is to be able to do it: the whole connector against it, once
//! for each row of the table below. What does not work on a server is expected, told by `check`, and tested too.

mod clients;
mod kills;

use std::process::Command;
use std::time::Duration;

use tests::servers::{Kind, Server};
use tests::{Connector, Lab, Scratch, connector_binary, wait_until};

const SOON: Duration = Duration::from_secs(60);

/// One row: a link, a server, and what is to be seen of them.
struct Pair {
    /// As in `docs/protocol/xmpp.md`, which has the same rows.
    name: &'static str,
    link: &'static str,
    /// `None`: the lab's stand-in.
    server: Option<Kind>,
    expected: Expected,
}

enum Expected {
    /// There is no session, for a reason that `check` gives in these words.
    Refused(&'static str),
    Sessions(Able),
}

/// What the server can do, and so what is carried.
#[derive(Clone, Copy)]
struct Able {
    acknowledges: bool,
    copies: bool,
    archive: bool,
}

const ACKNOWLEDGED: Able = Able { acknowledges: true, copies: true, archive: false };
const ARCHIVED: Able = Able { acknowledges: false, copies: true, archive: true };
const BARE: Able = Able { acknowledges: false, copies: false, archive: false };

#[rustfmt::skip]
const PAIRS: &[Pair] = &[
    Pair { name: "A, stand-in", link: "a", server: None, expected: Expected::Sessions(ACKNOWLEDGED) },
    Pair { name: "A, Prosody with our module", link: "a", server: Some(Kind::ProsodyWithModule),
        expected: Expected::Sessions(ARCHIVED) },
    Pair { name: "A, jabberd2", link: "a", server: Some(Kind::Jabberd2), expected: Expected::Sessions(BARE) },
    Pair { name: "A, Prosody", link: "a", server: Some(Kind::Prosody),
        expected: Expected::Refused("it does not know session control") },
    Pair { name: "A, ejabberd", link: "a", server: Some(Kind::Ejabberd),
        expected: Expected::Refused("it does not know session control") },
    Pair { name: "B, stand-in", link: "b", server: None, expected: Expected::Sessions(ACKNOWLEDGED) },
    Pair { name: "B, ejabberd", link: "b", server: Some(Kind::Ejabberd), expected: Expected::Sessions(ACKNOWLEDGED) },
    Pair { name: "B, Prosody", link: "b", server: Some(Kind::Prosody),
        expected: Expected::Refused("a service account cannot act for users here") },
    Pair { name: "C, stand-in", link: "c", server: None, expected: Expected::Sessions(ACKNOWLEDGED) },
    Pair { name: "C, ejabberd", link: "c", server: Some(Kind::Ejabberd), expected: Expected::Sessions(ACKNOWLEDGED) },
];

impl Pair {
    fn row_start(&self) -> String {
        format!("| {} |", self.name)
    }

    /// Its row in the table of the documents.
    fn row(&self) -> String {
        let word = |there: bool| if there { "yes" } else { "no" };
        match &self.expected {
            Expected::Refused(reason) => format!("{} no: {reason} | | | | |", self.row_start()),
            Expected::Sessions(able) => {
                let over_a_kill = match (able.acknowledges, able.archive) {
                    (true, _) => "nothing lost, doubled or reordered",
                    (false, true) => {
                        "from Webex: in flight, doubled; from Jabber: out of the archive, perhaps late"
                    }
                    (false, false) => "from Webex: in flight, doubled; from Jabber: lost while away",
                };
                format!(
                    "{} yes | {} | {} | {} | {over_a_kill} |",
                    self.row_start(),
                    word(able.acknowledges),
                    word(able.copies),
                    word(able.archive)
                )
            }
        }
    }

    /// Whether clients of others log in to the server in this test; in one of those that there are for each server.
    fn has_clients(&self) -> bool {
        self.link == "a" || (self.link, self.server) == ("b", Some(Kind::Ejabberd))
    }

    /// Its name, as a folder may be called.
    fn folder(&self) -> String {
        self.name.replace([' ', ','], "")
    }
}

fn named(name: &str) -> &'static Pair {
    PAIRS.iter().find(|pair| pair.name == name).expect("the pair is in the table")
}

/// The pair's server; `None` where it is not installed, which was said. The stand-in comes with the lab.
fn started(pair: &Pair, scratch: &Scratch) -> Option<Option<Server>> {
    match pair.server {
        Some(kind) => Server::start(kind, scratch.path()).map(Some),
        None => Some(None),
    }
}

fn pair(pair: &Pair) {
    let scratch = Scratch::new(&format!("pair-{}", pair.folder()));
    let Some(server) = started(pair, &scratch) else { return };
    let lab = lab(&scratch, pair, server.as_ref());
    let recording = clients::Recording::start(&lab, pair);
    let checked = check(&lab);
    println!("{}: {checked}", pair.name);
    match &pair.expected {
        Expected::Refused(reason) => {
            assert!(checked.contains(reason), "`{reason}` is not in:\n{checked}");
            nothing_is_carried(&lab);
        }
        Expected::Sessions(able) => {
            let told = |shortcoming: &str| checked.contains(shortcoming);
            assert!(told("opens a session of "), "{checked}");
            assert_eq!(told("acknowledges (XEP-0198)"), able.acknowledges, "{checked}");
            assert_eq!(told("no acknowledgement (XEP-0198)"), !able.acknowledges, "{checked}");
            assert_eq!(told("no copies (XEP-0280)"), !able.copies, "{checked}");
            assert_eq!(told("an archive (XEP-0313)"), able.archive, "{checked}");
            let connector = Connector::start(&lab);
            connector.wait_up(&lab);
            what_is_carried(&lab, able);
            // Once on each server, or on all links where what passes is kept.
            if pair.has_clients() || recording.is_on() {
                clients::others_talk(&lab, &scratch, server.as_ref(), able);
            }
            recording.write();
        }
    }
}

/// A lab whose Jabber clients, and whose connector, are on this server. Foreign servers are at life's own speed, so
/// the waits are scaled less than elsewhere.
fn lab(scratch: &Scratch, pair: &Pair, server: Option<&Server>) -> Lab {
    let port = server.map(|server| server.client_port.to_string());
    let mut args = vec!["--stand-ins", "--time-scale", "10", "--link", pair.link];
    if let Some(port) = &port {
        args.extend(["--jabber-server", port]);
    }
    let lab = Lab::start(scratch.path(), &args);
    if let Some(server) = server {
        server.serve(&lab, pair.link);
    }
    lab
}

/// What `check` says of the lab's settings.
fn check(lab: &Lab) -> String {
    let args = ["check", "--config", lab.endpoint("connector_config")];
    let out = Command::new(connector_binary()).args(args).output().expect("the connector can be started");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    said.split_once("node ").map_or_else(|| said.clone(), |(_, node)| node.to_owned())
}

/// Waits until a client has received this text from somebody, or shows it as written by its own person elsewhere.
fn hears(lab: &Lab, client: &str, text: &str) -> bool {
    wait_until(SOON, || lab.seen(client).iter().any(|row| row["kind"] == "message" && row["text"] == text))
}

fn has_heard(lab: &Lab, client: &str, text: &str) -> bool {
    lab.seen(client).iter().any(|row| row["kind"] == "message" && row["text"] == text)
}

fn what_is_carried(lab: &Lab, able: &Able) {
    // Both enabled, both ways, in both clients of both.
    lab.say("alice/webex", "bob", "from webex");
    assert!(hears(lab, "bob/jabber", "from webex"), "from Webex to Jabber");
    lab.say("bob/jabber", "alice", "from jabber");
    assert!(hears(lab, "alice/webex", "from jabber"), "from Jabber to Webex");
    assert!(hears(lab, "bob/webex", "from jabber"), "the writer's own other client");
    // Only the recipient is enabled.
    lab.say("carol/jabber", "bob", "from a stranger to the service");
    assert!(hears(lab, "bob/webex", "from a stranger to the service"), "to an enabled recipient");
    // Another domain on the same link.
    lab.say("erin/webex", "alice", "from another domain");
    assert!(hears(lab, "alice/jabber", "from another domain"), "another domain, to Jabber");
    lab.say("erin/jabber", "bob", "from another domain's jabber");
    assert!(hears(lab, "bob/webex", "from another domain's jabber"), "another domain, to Webex");
    // Only the writer is enabled: it takes a copy of what was sent.
    lab.say("alice/jabber", "carol", "to a stranger to the service");
    let carried = hears_or_not(lab, "alice/webex", "to a stranger to the service", able.copies);
    assert_eq!(carried, able.copies, "what an enabled person writes to others is carried where copies are");
    // Each once, everywhere.
    for client in ["alice/jabber", "alice/webex", "bob/jabber", "bob/webex", "erin/webex"] {
        let texts: Vec<String> = lab
            .seen(client)
            .iter()
            .filter(|row| row["kind"] == "message")
            .filter_map(|row| row["text"].as_str().map(str::to_owned))
            .collect();
        let mut once = texts.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), texts.len(), "{client} has seen something twice: {texts:?}");
    }
}

/// Whether it is heard; where it is not expected, only after something that came later was.
fn hears_or_not(lab: &Lab, client: &str, text: &str, expected: bool) -> bool {
    if !expected {
        lab.say("bob/jabber", "alice", "something later");
        assert!(hears(lab, "alice/webex", "something later"), "the link still carries");
        assert!(lab.wait_idle(SOON), "it comes to rest");
        return has_heard(lab, client, text);
    }
    hears(lab, client, text)
}

/// The connector runs, is idle, holds no session, and harms nobody: what people write stays on their own side.
fn nothing_is_carried(lab: &Lab) {
    let mut connector = Connector::start(lab);
    let status = format!("{}/status", lab.connector_status());
    assert!(wait_until(SOON, || tests::get(&status).is_ok()), "the status page answers");
    lab.say("bob/jabber", "alice", "unaware");
    lab.say("alice/webex", "bob", "unaware as well");
    assert!(hears(lab, "alice/jabber", "unaware"), "Jabber goes on");
    assert!(hears(lab, "bob/webex", "unaware as well"), "Webex goes on");
    let tried = || {
        let log = std::fs::read_to_string(lab.folder().join("connector.log")).unwrap_or_default();
        ["no stream", "connection lost", "a session does not answer", "no session"]
            .iter()
            .any(|line| log.contains(line))
    };
    assert!(wait_until(SOON, tried), "the log says that there is no session: {}", lab.folder().display());
    assert!(!has_heard(lab, "alice/webex", "unaware") && !has_heard(lab, "bob/jabber", "unaware as well"));
    assert!(!connector.has_ended(), "it goes on trying");
}

macro_rules! pairs {
    ($($test:ident: $name:literal $(, $kills:ident)?;)*) => {
        $(#[test] fn $test() { pair(named($name)); })*
        $($(#[test] fn $kills() { kills::killed(named($name)); })?)*

        #[test]
        fn each_pair_of_the_table_is_tested() {
            assert_eq!(PAIRS.iter().map(|pair| pair.name).collect::<Vec<_>>(), [$($name),*]);
        }
    };
}

pairs! {
    a_with_the_stand_in: "A, stand-in";
    a_with_prosody_and_our_module: "A, Prosody with our module", a_with_prosody_and_our_module_through_kills;
    a_with_jabberd2: "A, jabberd2", a_with_jabberd2_through_kills;
    a_with_stock_prosody_is_refused: "A, Prosody";
    a_with_ejabberd_is_refused: "A, ejabberd";
    b_with_the_stand_in: "B, stand-in";
    b_with_ejabberd: "B, ejabberd", b_with_ejabberd_through_kills;
    b_with_prosody_is_refused: "B, Prosody";
    c_with_the_stand_in: "C, stand-in", c_with_the_stand_in_through_kills;
    c_with_ejabberd: "C, ejabberd", c_with_ejabberd_through_kills;
}

/// The table of pairs in the documents says what is tested here.
#[test]
fn the_documented_table_of_pairs_is_true() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol/xmpp.md");
    let text = std::fs::read_to_string(file).expect("the document is there");
    let documented: Vec<&str> =
        text.lines().filter(|line| PAIRS.iter().any(|p| line.starts_with(&p.row_start()))).collect();
    assert_eq!(documented, PAIRS.iter().map(Pair::row).collect::<Vec<_>>());
}
