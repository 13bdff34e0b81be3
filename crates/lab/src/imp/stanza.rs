//! Stanzas put together and taken apart.

use xmpp_core::minidom::Node;
use xmpp_core::xml::Compose as _;
use xmpp_core::{Element, ns};

use crate::clock::Time;

/// Chat states (XEP-0085).
pub(crate) const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
/// Chat markers (XEP-0333).
pub(crate) const MARKERS: &str = "urn:xmpp:chat-markers:0";
/// Rosters (RFC 6121 §2).
pub(crate) const ROSTER: &str = "jabber:iq:roster";
/// What a server is and has (XEP-0030).
pub(crate) const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// What belongs to a server (XEP-0030).
pub(crate) const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
/// The time of an entity (XEP-0202).
pub(crate) const TIME: &str = "urn:xmpp:time";
/// Publishing (XEP-0060).
pub(crate) const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
/// What a group chat says of its people (XEP-0045).
pub(crate) const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// Out of band data (XEP-0066), with which the lab's Jabber announces a file.
pub(crate) const OOB: &str = "jabber:x:oob";

/// `<name/>` with one text, in the namespace of stanzas.
pub(crate) fn text_child(name: &str, text: &str) -> Element {
    Element::bare(name, ns::CLIENT).with_text(text)
}

/// The text of a child in the namespace of stanzas; `None` if it is absent or empty.
pub(crate) fn child_text(stanza: &Element, name: &str) -> Option<String> {
    stanza.get_child(name, ns::CLIENT).map(Element::text).filter(|text| !text.is_empty())
}

/// Whether a message, or the one that it is a copy of, says something that a person reads: a text, or that somebody has
/// read one.
pub(crate) fn is_substantial(message: &Element) -> bool {
    let message = carbon_content(message).map_or(message, |(_, inner)| inner);
    message.name() == "message"
        && message.attr("type") != Some("error")
        && (child_text(message, "body").is_some() || message.has_child("displayed", MARKERS))
}

/// The chat state of a message, if it has one.
pub(crate) fn chat_state(message: &Element) -> Option<&str> {
    message.children().find(|child| child.has_ns(CHAT_STATES)).map(Element::name)
}

/// Adds when and by whom a stanza was held back (XEP-0203), unless it says so already.
pub(crate) fn stamped(mut stanza: Element, domain: &str, at: Time, whole_seconds: bool) -> Element {
    if stanza.name() == "iq" || stanza.has_child("delay", ns::DELAY) {
        return stanza;
    }
    let at = if whole_seconds { Time(at.0 - at.0.rem_euclid(1000)) } else { at };
    let mut stamp = at.rfc3339();
    if whole_seconds {
        stamp = stamp.replace(".000Z", "Z");
    }
    let delay = Element::bare("delay", ns::DELAY).with_attr("from", domain).with_attr("stamp", stamp);
    stanza.append_child(delay);
    stanza
}

/// A copy of a message for another session of one of its two users (XEP-0280); `direction` is `sent` or `received`.
pub(crate) fn carbon(direction: &str, bare: &str, to: &str, message: &Element) -> Element {
    let forwarded = Element::bare("forwarded", ns::FORWARD).with_child(message.clone());
    Element::bare("message", ns::CLIENT)
        .with_attr("from", bare)
        .with_attr("to", to)
        .with_optional("type", message.attr("type"))
        .with_child(Element::bare(direction, ns::CARBONS).with_child(forwarded))
}

/// The message inside a carbon, and whether its user sent it.
pub(crate) fn carbon_content(outer: &Element) -> Option<(bool, &Element)> {
    let (sent, wrapper) = match outer.get_child("received", ns::CARBONS) {
        Some(wrapper) => (false, wrapper),
        None => (true, outer.get_child("sent", ns::CARBONS)?),
    };
    let message = wrapper.get_child("forwarded", ns::FORWARD)?.get_child("message", ns::CLIENT)?;
    Some((sent, message))
}

/// An error in answer to a stanza (RFC 6120 §8.3), without what caused it.
pub(crate) fn error(stanza: &Element, from: &str, to: &str, kind: &str, condition: &str) -> Element {
    let error = Element::bare("error", ns::CLIENT)
        .with_attr("type", kind)
        .with_child(Element::bare(condition, ns::STANZA_ERRORS));
    Element::bare(stanza.name(), ns::CLIENT)
        .with_attr("type", "error")
        .with_attr("from", from)
        .with_attr("to", to)
        .with_optional("id", stanza.attr("id"))
        .with_child(error)
}

/// The answer to an iq.
pub(crate) fn result(iq: &Element, from: &str, to: &str, payload: Option<Element>) -> Element {
    let answer = Element::bare("iq", ns::CLIENT)
        .with_attr("type", "result")
        .with_attr("from", from)
        .with_attr("to", to)
        .with_optional("id", iq.attr("id"));
    match payload {
        Some(payload) => answer.with_child(payload),
        None => answer,
    }
}

/// Takes `<private/>` off a message, as a server does before it delivers it (XEP-0280 §9).
pub(crate) fn without_private(mut message: Element) -> Element {
    if message.has_child("private", ns::CARBONS) {
        let nodes = message.take_nodes();
        for node in nodes {
            match node {
                Node::Element(child) if child.is("private", ns::CARBONS) => {}
                other => message.append_node(other),
            }
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Element {
        Element::bare("message", ns::CLIENT).with_attr("type", "chat").with_attr("id", "1")
    }

    #[test]
    fn a_stamp_is_added_once_and_never_to_an_iq() {
        let once = stamped(message(), "lab.example", Time(1_714_557_600_123), true);
        let delay = once.get_child("delay", ns::DELAY).unwrap();
        assert_eq!(delay.attr("stamp"), Some("2024-05-01T10:00:00Z"));
        let twice = stamped(once.clone(), "lab.example", Time(9), false);
        assert_eq!(twice, once);
        let exact = stamped(message(), "lab.example", Time(1_714_557_600_123), false);
        assert_eq!(
            exact.get_child("delay", ns::DELAY).unwrap().attr("stamp"),
            Some("2024-05-01T10:00:00.123Z")
        );
        let iq = Element::bare("iq", ns::CLIENT);
        assert_eq!(stamped(iq.clone(), "lab.example", Time(9), true), iq);
    }

    #[test]
    fn a_carbon_holds_its_message() {
        let original = message().with_child(text_child("body", "hi"));
        let copy = carbon("received", "a@lab.example", "a@lab.example/x", &original);
        assert_eq!(carbon_content(&copy), Some((false, &original)));
        let copy = carbon("sent", "a@lab.example", "a@lab.example/x", &original);
        assert_eq!(carbon_content(&copy), Some((true, &original)));
        assert_eq!(carbon_content(&original), None);
    }

    #[test]
    fn private_is_taken_off_and_the_rest_stays() {
        let body = text_child("body", "hi");
        let private = message().with_child(Element::bare("private", ns::CARBONS)).with_child(body.clone());
        assert_eq!(without_private(private), message().with_child(body));
    }

    #[test]
    fn what_a_person_reads_is_told_from_the_rest() {
        let body = message().with_child(text_child("body", "hi"));
        assert!(is_substantial(&body));
        assert!(is_substantial(&message().with_child(Element::bare("displayed", MARKERS))));
        assert!(!is_substantial(&message().with_child(Element::bare("composing", CHAT_STATES))));
        assert!(!is_substantial(&body.with_attr("type", "error")));
    }
}
