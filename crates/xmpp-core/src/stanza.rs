//! Stanzas: answered, and matched to the questions that they answer.

use std::collections::BTreeMap;

use minidom::Element;

use crate::xml::Compose as _;
use crate::{FullJid, ns};

/// What the receiver of a stanza error is to make of it (RFC 6120 §8.3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorType {
    /// Try again after logging in.
    Auth,
    /// Do not try again.
    Cancel,
    /// A warning; go on.
    Continue,
    /// Try again with other data.
    Modify,
    /// Try again later.
    Wait,
}

impl ErrorType {
    fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Cancel => "cancel",
            Self::Continue => "continue",
            Self::Modify => "modify",
            Self::Wait => "wait",
        }
    }
}

/// Answers a stanza with an error, without its payload (RFC 6120 §8.3); `None` for one that must not be
/// answered: an error, a result, or what is no stanza.
#[must_use]
pub fn error(stanza: &Element, kind: ErrorType, condition: &'static str) -> Option<Element> {
    let answerable = match stanza.name() {
        "iq" => matches!(stanza.attr("type"), Some("get" | "set")),
        "message" | "presence" => stanza.attr("type") != Some("error"),
        _ => false,
    };
    if !answerable || !stanza.has_ns(ns::CLIENT) {
        return None;
    }
    let error = Element::bare("error", ns::CLIENT)
        .with_attr("type", kind.name())
        .with_child(Element::bare(condition, ns::STANZA_ERRORS));
    Some(answer(stanza, "error").with_child(error))
}

/// Answers an `<iq/>` of type get or set with its result.
#[must_use]
pub fn result(iq: &Element, payload: Option<Element>) -> Element {
    let result = answer(iq, "result");
    match payload {
        Some(payload) => result.with_child(payload),
        None => result,
    }
}

fn answer(stanza: &Element, kind: &'static str) -> Element {
    Element::bare(stanza.name(), ns::CLIENT)
        .with_attr("type", kind)
        .with_optional("id", stanza.attr("id"))
        .with_optional("to", stanza.attr("from"))
        .with_optional("from", stanza.attr("to"))
}

/// A ping (XEP-0199); without `to` it goes to one's own server.
#[must_use]
pub fn ping(id: &str, to: Option<&str>) -> Element {
    Element::bare("iq", ns::CLIENT)
        .with_attr("type", "get")
        .with_attr("id", id)
        .with_optional("to", to)
        .with_child(Element::bare("ping", ns::PING))
}

/// Questions that wait for their answers, each with what the asker wants back with it.
///
/// An answer counts only from whom the question went to (RFC 6120 §8.1.2.1): anybody can send a result with
/// any id.
#[derive(Clone, Debug)]
pub struct Questions<T> {
    own: FullJid,
    waiting: BTreeMap<String, (Option<String>, T)>,
}

impl<T> Questions<T> {
    /// None yet, on the stream that is bound to `own`.
    #[must_use]
    pub fn new(own: FullJid) -> Self {
        Self { own, waiting: BTreeMap::new() }
    }

    /// Notes a question that is about to be sent. Without an `id` no answer can be matched to it.
    pub fn ask(&mut self, iq: &Element, context: T) {
        if let Some(id) = iq.attr("id") {
            self.waiting.insert(id.to_owned(), (iq.attr("to").map(str::to_owned), context));
        }
    }

    /// What belongs to the question that this stanza answers; `None` if it answers none.
    pub fn answered(&mut self, iq: &Element) -> Option<T> {
        let is_answer = iq.is("iq", ns::CLIENT) && matches!(iq.attr("type"), Some("result" | "error"));
        let id = iq.attr("id").filter(|_| is_answer)?;
        let (asked, _) = self.waiting.get(id)?;
        let rightful = match (asked.as_deref(), iq.attr("from")) {
            (Some(asked), from) => from == Some(asked),
            // One's own server answers as the account, its domain, nobody, or even the full JID (jabberd2).
            (None, None) => true,
            (None, Some(from)) => {
                from == self.own.as_str()
                    || from == self.own.to_bare().as_str()
                    || from == self.own.domain().as_str()
            }
        };
        if rightful { self.waiting.remove(id).map(|(_, context)| context) } else { None }
    }

    /// Gives up a question; a late answer is then none.
    pub fn forget(&mut self, id: &str) -> Option<T> {
        self.waiting.remove(id).map(|(_, context)| context)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iq(kind: &'static str, id: &str) -> Element {
        Element::bare("iq", ns::CLIENT).with_attr("type", kind).with_attr("id", id)
    }

    #[test]
    fn answers_count_only_from_whom_was_asked() {
        let own = "alice@lab.example/webex";
        for (asked, from, counts) in [
            (None, None, true),
            (None, Some("alice@lab.example"), true),
            (None, Some(own), true),
            (None, Some("lab.example"), true),
            (None, Some("mallory@lab.example"), false),
            (Some("bob@lab.example"), Some("bob@lab.example"), true),
            (Some("bob@lab.example"), Some("mallory@lab.example"), false),
            (Some("bob@lab.example"), None, false),
        ] {
            let mut questions = Questions::new(own.parse().unwrap());
            questions.ask(&ping("p1", asked), 7);
            let answer = iq("result", "p1").with_optional("from", from);
            assert_eq!(questions.answered(&answer), counts.then_some(7), "{asked:?} {from:?}");
            assert_eq!(questions.len(), usize::from(!counts));
        }
    }

    #[test]
    fn only_results_and_errors_are_answers() {
        let mut questions = Questions::new("alice@lab.example/webex".parse().unwrap());
        questions.ask(&ping("p1", None), ());
        for no_answer in
            [iq("get", "p1"), iq("set", "p1"), iq("result", "p2"), Element::bare("iq", ns::CLIENT)]
        {
            assert_eq!(questions.answered(&no_answer), None);
        }
        assert_eq!(questions.answered(&iq("error", "p1")), Some(()));
        assert_eq!(questions.answered(&iq("error", "p1")), None, "once");
    }

    #[test]
    fn errors_are_never_answered_with_errors() {
        let to = |element: Element| {
            element.with_attr("from", "bob@lab.example").with_attr("to", "alice@lab.example")
        };
        let answered = error(&to(iq("get", "1")), ErrorType::Cancel, "service-unavailable").unwrap();
        assert_eq!(answered.attr("to"), Some("bob@lab.example"));
        assert_eq!(answered.attr("from"), Some("alice@lab.example"));
        assert_eq!(answered.attr("id"), Some("1"));
        let detail = answered.get_child("error", ns::CLIENT).unwrap();
        assert!(detail.has_child("service-unavailable", ns::STANZA_ERRORS));
        for silent in [
            iq("result", "1"),
            iq("error", "1"),
            Element::bare("message", ns::CLIENT).with_attr("type", "error"),
            Element::bare("route", ns::ROUTE),
        ] {
            assert_eq!(error(&silent, ErrorType::Cancel, "service-unavailable"), None);
        }
    }
}
