//! Message carbons (XEP-0280): copies of what one's other resources receive and send.

use std::fmt;

use minidom::Element;

use crate::xml::Compose as _;
use crate::{BareJid, FullJid, ns};

/// Which way a copied message went.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Direction {
    /// Another resource of ours received it.
    Received,
    /// Another resource of ours sent it.
    Sent,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Sent => "sent",
        }
    }
}

/// What a message is, as far as carbons go. Its `Debug` shows no content.
#[derive(Clone, PartialEq)]
pub enum Unwrapped {
    /// No carbon: the message as it came.
    Direct(Element),
    /// A copy of a message.
    Carbon {
        /// Which way the message went.
        direction: Direction,
        /// The message itself.
        message: Element,
        /// When it went, if the server says so beside the message (XEP-0297 §4, XEP-0203).
        delay: Option<Element>,
    },
    /// It looks like a carbon and is not from our own account: anybody can send such a thing (XEP-0280 §11),
    /// so it is to be ignored.
    Forged,
    /// A carbon from our own account without a message in it.
    Malformed,
}

impl fmt::Debug for Unwrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(_) => f.write_str("Direct"),
            Self::Carbon { direction, .. } => write!(f, "Carbon({direction:?})"),
            Self::Forged => f.write_str("Forged"),
            Self::Malformed => f.write_str("Malformed"),
        }
    }
}

/// The request to have carbons, to be sent before the initial presence.
#[must_use]
pub fn enable(id: &str) -> Element {
    Element::bare("iq", ns::CLIENT)
        .with_attr("type", "set")
        .with_attr("id", id)
        .with_child(Element::bare("enable", ns::CARBONS))
}

/// Takes a message that the session of `own` received out of its carbon, if it is in one.
#[must_use]
pub fn unwrap(mut message: Element, own: &BareJid) -> Unwrapped {
    let found = [Direction::Received, Direction::Sent].into_iter().find(|direction| {
        message.is("message", ns::CLIENT) && message.has_child(direction.name(), ns::CARBONS)
    });
    let Some(direction) = found else { return Unwrapped::Direct(message) };
    let from = message.attr("from").and_then(|from| from.parse::<crate::Jid>().ok());
    if from.is_none_or(|from| from.resource().is_some() || from.to_bare() != *own) {
        return Unwrapped::Forged;
    }
    let forwarded = message
        .remove_child(direction.name(), ns::CARBONS)
        .and_then(|mut carbon| carbon.remove_child("forwarded", ns::FORWARD));
    let Some(mut forwarded) = forwarded else { return Unwrapped::Malformed };
    match forwarded.remove_child("message", ns::CLIENT) {
        Some(message) => {
            Unwrapped::Carbon { direction, message, delay: forwarded.remove_child("delay", ns::DELAY) }
        }
        None => Unwrapped::Malformed,
    }
}

/// Wraps a message as a copy for one resource of the account `own`.
#[must_use]
pub fn wrap(direction: Direction, own: &BareJid, to: &FullJid, message: Element) -> Element {
    let forwarded = Element::bare("forwarded", ns::FORWARD);
    let outer = Element::bare("message", ns::CLIENT)
        .with_attr("from", own.as_str())
        .with_attr("to", to.as_str())
        .with_optional("type", message.attr("type"));
    let carbon = Element::bare(direction.name(), ns::CARBONS).with_child(forwarded.with_child(message));
    outer.with_child(carbon)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Element {
        Element::bare("message", ns::CLIENT)
            .with_attr("from", "bob@lab.example/desk")
            .with_attr("type", "chat")
            .with_child(Element::bare("body", ns::CLIENT).with_text("hi"))
    }

    #[test]
    fn what_is_wrapped_can_be_unwrapped() {
        let own: BareJid = "alice@lab.example".parse().unwrap();
        let to = "alice@lab.example/webex".parse().unwrap();
        for direction in [Direction::Received, Direction::Sent] {
            let carbon = wrap(direction, &own, &to, message());
            assert_eq!(carbon.attr("type"), Some("chat"));
            let expected = Unwrapped::Carbon { direction, message: message(), delay: None };
            assert_eq!(unwrap(carbon, &own), expected);
        }
        assert_eq!(unwrap(message(), &own), Unwrapped::Direct(message()));
    }

    #[test]
    fn a_carbon_counts_only_from_ones_own_account() {
        let own: BareJid = "alice@lab.example".parse().unwrap();
        let to = "alice@lab.example/webex".parse().unwrap();
        for from in
            ["mallory@lab.example", "alice@lab.example/jabber", "alice@lab2.example", "lab.example", "@", ""]
        {
            let forged = wrap(Direction::Sent, &own, &to, message()).with_attr("from", from);
            assert_eq!(unwrap(forged, &own), Unwrapped::Forged, "{from:?}");
        }
        let mixed_case = wrap(Direction::Sent, &own, &to, message()).with_attr("from", "Alice@LAB.example");
        assert!(matches!(unwrap(mixed_case, &own), Unwrapped::Carbon { .. }));
    }

    #[test]
    fn an_empty_carbon_is_malformed_and_its_delay_is_kept() {
        let own: BareJid = "alice@lab.example".parse().unwrap();
        let outer = || Element::bare("message", ns::CLIENT).with_attr("from", "alice@lab.example");
        let empty = outer().with_child(Element::bare("received", ns::CARBONS));
        assert_eq!(unwrap(empty, &own), Unwrapped::Malformed);
        let delay = Element::bare("delay", ns::DELAY).with_attr("stamp", "2026-11-24T00:00:00Z");
        let forwarded =
            Element::bare("forwarded", ns::FORWARD).with_child(delay.clone()).with_child(message());
        let stamped = outer().with_child(Element::bare("received", ns::CARBONS).with_child(forwarded));
        let expected =
            Unwrapped::Carbon { direction: Direction::Received, message: message(), delay: Some(delay) };
        assert_eq!(unwrap(stamped, &own), expected);
    }
}
