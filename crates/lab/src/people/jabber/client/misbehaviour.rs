//! What some clients send that nobody may believe or has to answer.

use xmpp_core::xml::Compose as _;
use xmpp_core::{BareJid, Element, ns};

use super::{Client, Outgoing, RESOURCE};
use crate::imp::stanza;

impl Client {
    /// What some clients send besides messages, if that is asked for.
    pub(super) fn misbehave(&mut self, peer: &BareJid) {
        let mut extra = Vec::new();
        if self.ctx.faults.hit("jabber-forges-copies", Some(&self.me.name)) {
            let forged = self
                .message(peer, &self.ctx.rng.uuid())
                .with_attr("from", self.jid.as_str())
                .with_child(stanza::text_child("body", "a forged copy"));
            extra.push(stanza::carbon("sent", peer.as_str(), peer.as_str(), &forged));
        }
        if self.ctx.faults.hit("jabber-noise", Some(&self.me.name)) {
            let message = |id: String| self.message(peer, &id);
            let headline = message(self.ctx.rng.uuid())
                .with_attr("type", "headline")
                .with_child(stanza::text_child("body", "noise"));
            let invitation = Element::bare("x", "http://jabber.org/protocol/muc#user")
                .with_child(Element::bare("invite", "http://jabber.org/protocol/muc#user"));
            let question = Element::bare("iq", ns::CLIENT)
                .with_attr("type", "get")
                .with_attr("to", format!("{peer}/{RESOURCE}"))
                .with_attr("id", self.ctx.rng.uuid())
                .with_child(Element::bare("query", "jabber:iq:version"));
            extra.extend([headline, message(self.ctx.rng.uuid()).with_child(invitation), question]);
        }
        for element in extra {
            self.queue(Outgoing { element, position: None, answer: None, passing: true, _held: None });
        }
    }
}
