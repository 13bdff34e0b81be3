//! Which of its options a client offers in a chat: file transfer and screen capture go to whoever announces that ability
//! (XEP-0030), and to anybody where managed file transfer is on, since the server takes the file then.

use xmpp_core::xml::Compose as _;
use xmpp_core::{BareJid, Element, ns};

use super::{Client, Done, Outgoing};
use crate::imp::stanza::{CHAT_STATES, DISCO_INFO, MARKERS};
use crate::people::PuppetError;
use crate::seen::{Direction, Kind};

/// The ability to be sent a file, and a screen capture, which is one (XEP-0096).
const FILES: &str = "http://jabber.org/protocol/si/profile/file-transfer";

/// What a Jabber client announces.
pub(super) fn announced() -> Element {
    let identity =
        Element::bare("identity", DISCO_INFO).with_attr("category", "client").with_attr("type", "pc");
    let query = Element::bare("query", DISCO_INFO).with_child(identity);
    [DISCO_INFO, CHAT_STATES, MARKERS, ns::PING, FILES].into_iter().fold(query, |query, feature| {
        query.with_child(Element::bare("feature", DISCO_INFO).with_attr("var", feature))
    })
}

impl Client {
    /// Looks at the options of the chat with somebody: what was last written there came from a client that can be asked.
    pub(super) fn ask_abilities(&mut self, name: &str, id: String, done: Done) {
        let peer = match self.peer(name) {
            Ok(peer) => peer,
            Err(error) => return done.tell(Err(error)),
        };
        let Some(client) = self.locks.get(&peer) else {
            return done.tell(Err(PuppetError::Unsupported("no client of that person has written yet")));
        };
        let element = Element::bare("iq", ns::CLIENT)
            .with_attr("type", "get")
            .with_attr("to", client.as_str())
            .with_attr("id", id.as_str())
            .with_child(Element::bare("query", DISCO_INFO));
        self.asked.insert(id, (peer, done));
        self.queue(Outgoing { element, position: None, answer: None, passing: true, _held: None });
    }

    /// The stream on which questions went out is over.
    pub(super) fn ask_no_longer(&mut self) {
        for (_, done) in std::mem::take(&mut self.asked).into_values() {
            done.tell(Err(PuppetError::Offline(self.me.clone())));
        }
    }

    /// The other client has answered, or cannot.
    pub(super) fn sees_abilities(&self, peer: &BareJid, answer: &Element) {
        let query = answer.get_child("query", DISCO_INFO).filter(|_| answer.attr("type") == Some("result"));
        let announces = query.is_some_and(|query| {
            query.children().any(|child| child.name() == "feature" && child.attr("var") == Some(FILES))
        });
        let usable = announces || !self.ctx.faults.is_on("imp-no-managed-files");
        let text =
            format!("file transfer and screen capture are {}", if usable { "usable" } else { "disabled" });
        self.record(peer, Direction::In, Kind::Notice, String::new(), text);
    }
}
