//! Stanzas that the edge writes, and every word in them that a person reads.
//!
//! The words of the notice about a file go to Webex; they are here because a text is fixed when its message
//! is committed (rule 5), and that is on this side.

use presence_map::Show;
use router::ids::{DerivedId, StanzaId, Time};
use xmpp_core::xml::Compose as _;
use xmpp_core::{BareJid, Element, FullJid, ns};

use super::ns as more;

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
    let minutes = sent.0.div_euclid(60_000) + i64::from(utc_offset);
    let (days, minute) = (minutes.div_euclid(24 * 60), minutes.rem_euclid(24 * 60));
    let (year, month, day) = civil(days);
    let zone = match utc_offset {
        0 => "UTC".to_owned(),
        offset => {
            let sign = if offset < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60)
        }
    };
    format!("[{year:04}-{month:02}-{day:02} {:02}:{:02} {zone}] ", minute / 60, minute % 60)
}

/// Year, month and day of a day counted from 1970-01-01 (the Gregorian calendar, years from March on).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
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

/// The error that tells a client of the sender that its stanza `of` was not delivered (rule 21).
pub(super) fn undelivered(to: &FullJid, of: &StanzaId) -> Element {
    let text = Element::bare("text", ns::STANZA_ERRORS).with_text("Message could not be delivered");
    let error = Element::bare("error", ns::CLIENT)
        .with_attr("type", "cancel")
        .with_child(Element::bare("recipient-unavailable", ns::STANZA_ERRORS))
        .with_child(text);
    Element::bare("message", ns::CLIENT)
        .with_attr("type", "error")
        .with_attr("to", to.as_str())
        .with_attr("id", of.as_str())
        .with_child(error)
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
    fn dates_are_those_of_the_calendar() {
        let at = |seconds: i64, offset| time_prefix(Time(seconds * 1000), offset);
        assert_eq!(at(0, 0), "[1970-01-01 00:00 UTC] ");
        assert_eq!(at(951_782_399, 0), "[2000-02-28 23:59 UTC] ");
        assert_eq!(at(951_782_400, 0), "[2000-02-29 00:00 UTC] ");
        assert_eq!(at(1_798_761_600, -90), "[2026-12-31 22:30 -01:30] ");
        assert_eq!(at(1_790_000_000, 120), "[2026-09-21 16:13 +02:00] ");
        assert_eq!(at(-1, 0), "[1969-12-31 23:59 UTC] ");
    }

    #[test]
    fn the_notice_is_the_overviews() {
        let words = "Alice Liddell used Webex App to delete a previously posted message";
        assert_eq!(delete_notice("Alice Liddell"), words);
    }
}
