//! Group chats as a Jabber client has them: it comes to those that it is invited to, without asking anybody.

use xmpp_core::xml::Compose as _;
use xmpp_core::{BareJid, Element, Jid, ns};

use crate::imp::rooms::{AD_HOC, PERSISTENT, is_room};
use crate::imp::stanza::{self, MUC_USER};

/// The chat that a person calls `#NAME` or (persistent) `##NAME`, with this nickname there.
pub(super) fn named(name: &str, nick: &str) -> Option<Jid> {
    let (name, service) = match name.strip_prefix('#')? {
        name if name.starts_with('#') => (&name[1..], PERSISTENT),
        name => (name, AD_HOC),
    };
    format!("{name}@{service}/{nick}").parse().ok()
}

/// The name of a chat, and of the person in it.
pub(super) fn occupant(address: &Jid) -> Option<String> {
    let (node, nick) = (address.node().filter(|_| is_room(address))?, address.resource()?);
    let sign = if is_persistent(address) { "##" } else { "#" };
    Some(format!("{sign}{node}/{nick}"))
}

pub(super) fn is_persistent(room: &Jid) -> bool {
    room.domain().as_str() == PERSISTENT
}

/// Comes in.
pub(super) fn join(room: &Jid) -> Element {
    let muc = Element::bare("x", "http://jabber.org/protocol/muc");
    Element::bare("presence", ns::CLIENT).with_attr("to", room.as_str()).with_child(muc)
}

/// Something said to everybody there.
pub(super) fn message(room: &Jid, id: &str, text: &str) -> Element {
    to_room(room, id).with_attr("type", "groupchat").with_child(stanza::text_child("body", text))
}

/// Asks the chat to invite somebody (XEP-0045 §7.8.2).
pub(super) fn invite(room: &Jid, whom: &BareJid, id: &str) -> Element {
    let invite = Element::bare("invite", MUC_USER).with_attr("to", whom.as_str());
    to_room(room, id).with_child(Element::bare("x", MUC_USER).with_child(invite))
}

fn to_room(room: &Jid, id: &str) -> Element {
    Element::bare("message", ns::CLIENT).with_attr("to", room.to_bare().to_string()).with_attr("id", id)
}

/// What somebody said in a chat: the chat with the person, the nickname, the text.
pub(super) fn said(message: &Element) -> Option<(String, String, String)> {
    let from: Jid =
        message.attr("from").filter(|_| message.attr("type") == Some("groupchat"))?.parse().ok()?;
    let text = stanza::child_text(message, "body")?;
    Some((occupant(&from)?, from.resource()?.to_string(), text))
}

/// The chat that a message of the chat's own invites to, with the nickname of whom it is to.
pub(super) fn invitation(message: &Element) -> Option<Jid> {
    let room: Jid = message.attr("from")?.parse().ok()?;
    message.get_child("x", MUC_USER)?.get_child("invite", MUC_USER).filter(|_| is_room(&room))?;
    let own: Jid = message.attr("to")?.parse().ok()?;
    room.to_bare().with_resource_str(own.node()?.as_str()).ok().map(Jid::from)
}
