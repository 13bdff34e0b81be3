//! Clients that are not ours talk, on a server, with people in Webex, through the connector.

use std::fs;
use std::path::PathBuf;

use tests::clients::{Profanity, Slixmpp};
use tests::recorder::Recorder;
use tests::servers::{PASSWORD, Server};
use tests::{Lab, Scratch};

use super::{Able, Pair, hears};

/// Who is not enabled speaks with who is, from slixmpp and from profanity, in both directions.
pub(super) fn others_talk(lab: &Lab, scratch: &Scratch, server: Option<&Server>, able: &Able) {
    let port = server.map_or_else(
        || lab.endpoint("xmpp_client").rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port"),
        |server| server.client_port,
    );
    let mut carol = Slixmpp::log_in(port, "carol@lab.example", PASSWORD, able.copies);
    let dave = Profanity::log_in(scratch.path(), port, "dave@lab.example", PASSWORD);
    carol.say("bob@lab.example", "from slixmpp");
    assert!(hears(lab, "bob/webex", "from slixmpp"), "slixmpp to Webex");
    dave.say("bob@lab.example", "from profanity");
    assert!(hears(lab, "bob/webex", "from profanity"), "profanity to Webex");
    for (name, text) in [("carol", "to slixmpp & back: \u{e9}\u{1f600}"), ("dave", "to profanity")] {
        lab.say("alice/webex", name, text);
    }
    assert!(carol.hears("to slixmpp & back: \u{e9}\u{1f600}"), "Webex to slixmpp: {carol:?}");
    assert!(dave.hears("to profanity"), "Webex to profanity");
}

/// With `RECORD_WIRE` in the environment, what passes between connector and server is written to `tests/wire`.
pub(super) struct Recording(Option<(Recorder, PathBuf)>);

impl Recording {
    pub(super) fn start(lab: &Lab, pair: &Pair) -> Self {
        if std::env::var_os("RECORD_WIRE").is_none() {
            return Self(None);
        }
        let file = lab.endpoint("connector_config");
        let settings = fs::read_to_string(file).expect("the lab writes the settings");
        let nodes =
            settings.lines().find(|line| line.starts_with("nodes = ")).expect("the settings name a node");
        let door = nodes.split('"').nth(1).expect("a node is a text");
        let recorder = Recorder::before(door).expect("loopback has a free port");
        let changed = settings.replace(nodes, &format!("nodes = [\"127.0.0.1:{}\"]", recorder.port));
        fs::write(file, changed).expect("the test's folder can be written");
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("wire");
        Self(Some((
            recorder,
            folder.join(format!("{}.wire", pair.name.replace(", ", "-").replace(' ', "-").to_lowercase())),
        )))
    }

    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn write(&self) {
        if let Some((recorder, file)) = &self.0 {
            recorder.write(file).expect("tests/wire can be written");
        }
    }
}
