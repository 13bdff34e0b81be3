//! What a Jabber client makes of what it receives, and the words for a person's state.

use xmpp_core::xml::Compose as _;
use xmpp_core::{Element, Jid, ns};

use crate::imp::MANUAL_NODE;
use crate::imp::stanza::{self, MARKERS, OOB, PUBSUB};
use crate::seen::{Direction, Kind};

/// How a line about an earlier message ends, as the overview words it.
const NOTICE: &str = "used Webex App to delete a previously posted message";

/// What an error looks like to a person.
const UNDELIVERED: &str = "Message could not be delivered";

/// Something for the eyes of a person.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Shown {
    /// The other person, as an address.
    pub(super) peer: Jid,
    pub(super) dir: Direction,
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) text: String,
}

/// What a message shows to the user with this bare JID; `None` if nothing.
pub(super) fn message(own: &str, outer: &Element) -> Option<Shown> {
    let (dir, message) = match stanza::carbon_content(outer) {
        // Anybody can send the element; only the own account's is a copy (XEP-0280 §11).
        Some(_) if outer.attr("from").is_some_and(|from| from != own) => return None,
        Some((true, message)) => (Direction::Out, message),
        Some((false, message)) => (Direction::In, message),
        None => (Direction::In, outer),
    };
    let peer = match dir {
        Direction::In => message.attr("from").unwrap_or(own),
        Direction::Out => message.attr("to").unwrap_or(own),
    };
    let peer = peer.parse().ok()?;
    let id = message.attr("id").unwrap_or_default().to_owned();
    let shown = |kind, id: String, text: String| Some(Shown { peer, dir, kind, id, text });
    match message.attr("type") {
        Some("error") => return shown(Kind::Error, id, UNDELIVERED.to_owned()),
        Some("groupchat" | "headline") => return None,
        _ => {}
    }
    if let Some(file) = message.get_child("x", OOB) {
        let name = file.get_child("desc", OOB).or_else(|| file.get_child("url", OOB)).map(Element::text);
        return shown(Kind::File, id, name.unwrap_or_default());
    }
    if let Some(text) = stanza::child_text(message, "body") {
        let kind = if text.trim_end_matches('.').ends_with(NOTICE) { Kind::Notice } else { Kind::Message };
        return shown(kind, id, text);
    }
    if let Some(marker) = message.get_child("displayed", MARKERS) {
        return shown(Kind::Read, marker.attr("id").unwrap_or_default().to_owned(), String::new());
    }
    match stanza::chat_state(message)? {
        "composing" => shown(Kind::Typing, id, "typing".to_owned()),
        _ => shown(Kind::Typing, id, "paused".to_owned()),
    }
}

/// Whether this says that a message was for somebody who was not there, and was not stored.
pub(super) fn is_of_nobody_there(message: &Element) -> bool {
    let error = message.get_child("error", ns::CLIENT).filter(|_| message.attr("type") == Some("error"));
    error.is_some_and(|error| error.get_child("service-unavailable", ns::STANZA_ERRORS).is_some())
}

/// The words that a Jabber client shows for another user's presence.
pub(super) fn presence(presence: &Element) -> String {
    let status = stanza::child_text(presence, "status").unwrap_or_default();
    let state = match (presence.attr("type"), stanza::child_text(presence, "show").as_deref()) {
        (Some(_), _) => return "Offline".to_owned(),
        (None, Some("dnd")) => "Do Not Disturb",
        (None, Some("away" | "xa")) => "Away",
        (None, _) => "Available",
    };
    match status.as_str() {
        "" => state.to_owned(),
        suffix if suffix.starts_with('@') => format!("{state} {suffix}"),
        own => format!("{state}: {own}"),
    }
}

/// A state that a person sets, as `POST /act` words it: `available`, `away` or `dnd`, by hand when `manual` stands before
/// it or `: own words` after it, and `dnd` always; `automatic` leaves it to the device again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Status {
    /// What the device says by itself: `away` after a time without use, or empty for available.
    Device(&'static str),
    /// What the person says: show and own words.
    Manual(&'static str, String),
    /// Nothing by hand any more.
    Automatic,
}

impl Status {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (state, own) = match text.split_once(':') {
            Some((state, own)) => (state.trim(), Some(own.trim().to_owned())),
            None => (text.trim(), None),
        };
        let (by_hand, state) = match state.strip_prefix("manual ") {
            Some(state) => (true, state),
            None => (own.is_some(), state),
        };
        let show = match state {
            "automatic" if !by_hand => return Some(Self::Automatic),
            "available" => "",
            "away" => "away",
            "dnd" => "dnd",
            _ => return None,
        };
        let by_hand = by_hand || show == "dnd";
        Some(if by_hand { Self::Manual(show, own.unwrap_or_default()) } else { Self::Device(show) })
    }
}

/// `<show/>` and `<status/>` where they say something.
fn said(mut presence: Element, show: &str, status: &str) -> Element {
    for (name, text) in [("show", show), ("status", status)] {
        if !text.is_empty() {
            presence.append_child(stanza::text_child(name, text));
        }
    }
    presence
}

/// The presence of the device.
pub(super) fn device_presence(show: &str, priority: i8) -> Element {
    let presence = said(Element::bare("presence", ns::CLIENT), show, "");
    if priority == 0 {
        presence
    } else {
        presence.with_child(stanza::text_child("priority", &priority.to_string()))
    }
}

/// The question that sets (or with `None` ends) a state by hand.
pub(super) fn publish_manual(id: String, manual: Option<&(&'static str, String)>) -> Element {
    let item = Element::bare("item", PUBSUB).with_attr("id", "current");
    let item = match manual {
        Some((show, status)) => item.with_child(said(Element::bare("presence", ns::CLIENT), show, status)),
        None => item,
    };
    let publish = Element::bare("publish", PUBSUB).with_attr("node", MANUAL_NODE).with_child(item);
    Element::bare("iq", ns::CLIENT)
        .with_attr("type", "set")
        .with_attr("id", id)
        .with_child(Element::bare("pubsub", PUBSUB).with_child(publish))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        for (text, expected) in [
            ("available", Some(Status::Device(""))),
            ("away", Some(Status::Device("away"))),
            ("dnd", Some(Status::Manual("dnd", String::new()))),
            ("manual available", Some(Status::Manual("", String::new()))),
            ("available: At lunch", Some(Status::Manual("", "At lunch".into()))),
            ("away:  in a train ", Some(Status::Manual("away", "in a train".into()))),
            ("automatic", Some(Status::Automatic)),
            ("manual automatic", None),
            ("asleep", None),
            ("", None),
        ] {
            assert_eq!(Status::parse(text), expected, "{text}");
        }
    }

    fn read(xml: &str) -> Option<Shown> {
        message("alice@lab.example", &xml.parse().unwrap())
    }

    #[test]
    fn what_messages_show() {
        let direct = |inside: &str| {
            read(&format!(
                "<message xmlns='jabber:client' from='bob@lab.example/x' type='chat' id='1'>{inside}</message>"
            ))
            .map(|shown| (shown.kind, shown.id, shown.text))
        };
        let of = |kind, id: &str, text: &str| Some((kind, id.to_owned(), text.to_owned()));
        assert_eq!(
            direct("<body>hi</body><active xmlns='http://jabber.org/protocol/chatstates'/>"),
            of(Kind::Message, "1", "hi")
        );
        let notice = "Bob Baker used Webex App to delete a previously posted message";
        assert_eq!(direct(&format!("<body>{notice}</body>")), of(Kind::Notice, "1", notice));
        assert_eq!(
            direct("<composing xmlns='http://jabber.org/protocol/chatstates'/>"),
            of(Kind::Typing, "1", "typing")
        );
        assert_eq!(
            direct("<gone xmlns='http://jabber.org/protocol/chatstates'/>"),
            of(Kind::Typing, "1", "paused")
        );
        assert_eq!(direct("<displayed xmlns='urn:xmpp:chat-markers:0' id='9'/>"), of(Kind::Read, "9", ""));
        assert_eq!(
            direct("<x xmlns='jabber:x:oob'><url>u</url><desc>a.txt</desc></x>"),
            of(Kind::File, "1", "a.txt")
        );
        assert_eq!(direct(""), None);
    }

    #[test]
    fn only_the_own_account_sends_copies() {
        let copy = |from: &str, direction: &str| {
            read(&format!(
                "<message xmlns='jabber:client' from='{from}'><{direction} xmlns='urn:xmpp:carbons:2'>\
                 <forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='alice@lab.example/y' \
                 to='bob@lab.example' type='chat' id='2'><body>copied</body></message></forwarded></{direction}></message>"
            ))
        };
        let sent = copy("alice@lab.example", "sent").unwrap();
        assert_eq!(
            (sent.dir, sent.peer.as_str(), sent.text.as_str()),
            (Direction::Out, "bob@lab.example", "copied")
        );
        assert_eq!(copy("alice@lab.example", "received").unwrap().dir, Direction::In);
        assert_eq!(copy("mallory@lab.example", "sent"), None);
        assert_eq!(copy("alice@lab.example/z", "received"), None);
    }

    #[test]
    fn presences_read_like_in_the_client() {
        for (inside, kind, expected) in [
            ("", "", "Available"),
            ("<status>@ Webex</status>", "", "Available @ Webex"),
            ("<show>away</show><status>@ Webex</status>", "", "Away @ Webex"),
            ("<show>away</show><status>in a train</status>", "", "Away: in a train"),
            ("<show>dnd</show>", "", "Do Not Disturb"),
            ("", " type='unavailable'", "Offline"),
        ] {
            let xml = format!("<presence xmlns='jabber:client'{kind}>{inside}</presence>");
            assert_eq!(presence(&xml.parse().unwrap()), expected);
        }
    }
}
