//! Stanzas that the edge writes, and every word in them that a person reads.
//!
//! The words of the notice about a file go to Webex; they are here because a text is fixed when its message
//! is committed (rule 5), and that is on this side.

use presence_map::Show;
use router::ids::{DerivedId, StanzaId, Time};
use router::outbox::EntryKind;
use xmpp_core::xml::Compose as _;
use xmpp_core::{BareJid, Element, ns};

use super::ns as more;
use crate::calendar::moment;

/// The notice that a message was deleted, or edited, in Webex; the overview gives it word for word.
pub(super) fn delete_notice(name: &str) -> String {
    format!("{name} used Webex App to delete a previously posted message")
}

/// The notice, for the Webex user, that a file was sent in Jabber and stays there.
pub(super) fn file_notice(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("A file was sent in Jabber and can be opened there: {name}"),
        None => "A file was sent in Jabber and can be opened there.".to_owned(),
    }
}

/// The original time of a text that comes late, to stand before it.
pub(super) fn time_prefix(sent: Time, utc_offset: i32) -> String {
    format!("[{}] ", moment(sent, utc_offset))
}

/// A text, under an id that only we can have made (rule 1).
pub(super) fn message(to: &BareJid, id: &DerivedId, text: &str) -> Element {
    chat(to, id)
        .with_child(Element::bare("body", ns::CLIENT).with_text(legal(text)))
        .with_child(Element::bare("active", more::CHAT_STATES))
        .with_child(Element::bare("markable", more::CHAT_MARKERS))
        .with_child(Element::bare("origin-id", ns::STANZA_ID).with_attr("id", id.as_str()))
}

/// A read mark up to the stanza `of` (XEP-0333); of type chat, or some servers would not copy it.
pub(super) fn displayed(to: &BareJid, id: &DerivedId, of: &StanzaId) -> Element {
    chat(to, id)
        .with_child(Element::bare("displayed", more::CHAT_MARKERS).with_attr("id", of.as_str()))
        .with_child(Element::bare("origin-id", ns::STANZA_ID).with_attr("id", id.as_str()))
        .with_child(Element::bare("store", ns::HINTS))
}

/// Somebody types, or stopped (XEP-0085); not to be kept for whoever is away (XEP-0334).
pub(super) fn typing(to: &BareJid, id: &DerivedId, active: bool) -> Element {
    chat(to, id)
        .with_child(Element::bare(if active { "composing" } else { "paused" }, more::CHAT_STATES))
        .with_child(Element::bare("no-store", ns::HINTS))
}

fn chat(to: &BareJid, id: &DerivedId) -> Element {
    Element::bare("message", ns::CLIENT)
        .with_attr("type", "chat")
        .with_attr("to", to.as_str())
        .with_attr("id", id.as_str())
}

/// The error that tells a client that its stanza `of` was not delivered (rule 21), and of which kind that is
/// (RFC 6120 §8.3.3). `None`: the kind is not for Jabber.
pub(super) fn undelivered(to: &str, of: Option<&StanzaId>, kind: &EntryKind) -> Option<Element> {
    let (fate, condition) = match kind {
        EntryKind::Undelivered => ("cancel", "recipient-unavailable"),
        EntryKind::Late => ("wait", "remote-server-timeout"),
        EntryKind::Refused => ("wait", "resource-constraint"),
        _ => return None,
    };
    let text = Element::bare("text", ns::STANZA_ERRORS).with_text("Message could not be delivered");
    let error = Element::bare("error", ns::CLIENT)
        .with_attr("type", fate)
        .with_child(Element::bare(condition, ns::STANZA_ERRORS))
        .with_child(text);
    let message = Element::bare("message", ns::CLIENT)
        .with_attr("type", "error")
        .with_attr("to", to)
        .with_optional("id", of.map(StanzaId::as_str))
        .with_child(error);
    Some(message)
}

/// What Jabber shows of a user; at a priority at which messages to the account come to this session, too.
pub(super) fn presence(show: Show, text: &str, priority: i8) -> Element {
    let mut presence = Element::bare("presence", ns::CLIENT);
    let word = match show {
        Show::Available => None,
        Show::Away => Some("away"),
        Show::DoNotDisturb => Some("dnd"),
        Show::Offline => {
            presence = presence.with_attr("type", "unavailable");
            None
        }
    };
    if let Some(word) = word {
        presence = presence.with_child(Element::bare("show", ns::CLIENT).with_text(word));
    }
    if !text.is_empty() {
        presence = presence.with_child(Element::bare("status", ns::CLIENT).with_text(text));
    }
    presence.with_child(Element::bare("priority", ns::CLIENT).with_text(priority.to_string()))
}

/// Turns on copies of what the user's other clients send and receive (XEP-0280).
pub(super) fn carbons(id: &str) -> Element {
    iq("set", id).with_child(Element::bare("enable", ns::CARBONS))
}

/// Asks the server for a sign of life: whatever was sent before it has then been handled (RFC 6120 §10.1).
pub(super) fn ping(id: &str, domain: &str) -> Element {
    iq("get", id).with_attr("to", domain).with_child(Element::bare("ping", ns::PING))
}

/// Asks what an account can do (XEP-0030).
pub(super) fn discover(id: &str, account: &BareJid) -> Element {
    iq("get", id).with_attr("to", account.as_str()).with_child(Element::bare("query", more::DISCO_INFO))
}

/// Asks a server for its time (XEP-0202).
pub(super) fn time(id: &str, server: &str) -> Element {
    iq("get", id).with_attr("to", server).with_child(Element::bare("time", more::TIME))
}

fn iq(kind: &'static str, id: &str) -> Element {
    Element::bare("iq", ns::CLIENT).with_attr("type", kind).with_attr("id", id)
}

/// The answer to a request: a result with or without content, or that we do not do such things.
pub(super) fn answer(request: &Element, result: Option<Option<Element>>) -> Element {
    let answer = Element::bare("iq", ns::CLIENT)
        .with_optional("to", request.attr("from"))
        .with_optional("id", request.attr("id"));
    match result {
        Some(Some(content)) => answer.with_attr("type", "result").with_child(content),
        Some(None) => answer.with_attr("type", "result"),
        None => answer.with_attr("type", "error").with_child(
            Element::bare("error", ns::CLIENT)
                .with_attr("type", "cancel")
                .with_child(Element::bare("service-unavailable", ns::STANZA_ERRORS)),
        ),
    }
}

/// What a session of ours can do: read texts, chat states and marks. No files, no rooms, no calls.
pub(super) fn features(node: Option<&str>) -> Element {
    let identity = Element::bare("identity", more::DISCO_INFO)
        .with_attr("category", "client")
        .with_attr("type", "bot")
        .with_attr("name", "Webex");
    let query = Element::bare("query", more::DISCO_INFO).with_optional("node", node).with_child(identity);
    [more::DISCO_INFO, more::CHAT_STATES, more::CHAT_MARKERS, ns::PING].iter().fold(
        query,
        |query, feature| {
            query.with_child(Element::bare("feature", more::DISCO_INFO).with_attr("var", *feature))
        },
    )
}

/// Characters that XML 1.0 cannot carry, and that would end the stream, become U+FFFD (XML 1.0 §2.2).
fn legal(text: &str) -> String {
    let is_legal = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|c| if is_legal(c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bob() -> BareJid {
        BareJid::new("bob@lab.example").unwrap()
    }

    #[test]
    fn a_text_carries_our_id_twice() {
        let id = DerivedId::new("d-1");
        let stanza = message(&bob(), &id, "a\u{0}b\u{b} <&>");
        assert_eq!(stanza.attr("type"), Some("chat"));
        assert_eq!(stanza.attr("to"), Some("bob@lab.example"));
        assert_eq!(stanza.attr("id"), Some("d-1"));
        let origin = stanza.get_child("origin-id", ns::STANZA_ID).unwrap();
        assert_eq!(origin.attr("id"), Some("d-1"));
        assert_eq!(stanza.get_child("body", ns::CLIENT).unwrap().text(), "a\u{fffd}b\u{fffd} <&>");
        assert!(stanza.children().all(|child| child.name() != "html"), "a text has one form, the plain one");
    }

    #[test]
    fn presence_shows_what_the_table_says() {
        let rows = [
            (Show::Available, "@ Webex", None, None),
            (Show::Away, "@ Webex", Some("away"), None),
            (Show::DoNotDisturb, "", Some("dnd"), None),
            (Show::Offline, "", None, Some("unavailable")),
        ];
        for (show, text, word, kind) in rows {
            let stanza = presence(show, text, 0);
            let child = |name| stanza.get_child(name, ns::CLIENT).map(Element::text);
            assert_eq!(child("show").as_deref(), word);
            assert_eq!(child("status").unwrap_or_default(), text);
            assert_eq!(child("priority").as_deref(), Some("0"));
            assert_eq!(stanza.attr("type"), kind);
        }
    }

    #[test]
    fn the_notice_is_the_overviews() {
        let words = "Alice Liddell used Webex App to delete a previously posted message";
        assert_eq!(delete_notice("Alice Liddell"), words);
    }
}
