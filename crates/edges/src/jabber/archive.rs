//! Catching up from the server's archive (XEP-0313): what came for a user while nothing of ours could hear it.
//!
//! A session that opens anew asks for everything after the last message that is known of the archive; one that
//! knows none only learns which the last one is. What the archive brings is a form of its own, so the store tells
//! by itself which of it is known (rule 3).

use std::time::Duration;

use router::ids::PersonId;
use tokio::time::Instant;
use xmpp_core::xml::Compose as _;
use xmpp_core::{BareJid, Element, ns};

use super::link::Link;
use super::outgoing::Purpose;
use super::session::{Session, Step};
use super::{kept, ns as more};

/// How many messages are asked for at a time.
const PAGE: &str = "100";
/// How often the place in an archive is put on disk at most. From an older place more is read, and is known.
const KEEP: Duration = Duration::from_secs(60);

/// A question to an archive that is being answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// Of the request, and of what it brings.
    pub(super) id: Box<str>,
    /// What it brings is to be carried. Otherwise only the place of the last message is learnt.
    pub(super) carries: bool,
}

/// How far a user's archive is known.
#[derive(Debug)]
pub(super) struct Place {
    /// The id of the last message that was read.
    last: Box<str>,
    /// Its number on the stream: it is ours once so much of the stream is handled.
    n: u64,
    /// When a place was last put on disk; `None`: not in this run.
    kept: Option<Instant>,
}

impl Place {
    /// A place that an earlier run has kept.
    pub(super) fn kept(last: Box<str>) -> Self {
        Self { last, n: 0, kept: None }
    }

    /// Another stream begins.
    pub(super) fn begin(&mut self) {
        self.n = 0;
    }
}

impl Link {
    /// Asks for what came while nothing listened. Nothing to wait for where there is no archive.
    pub(super) fn ask_archive(&mut self, person: &PersonId, session: &Session) -> Option<Query> {
        // On a stream that goes on nothing was missed, and what its archive brought once would come as new again.
        if self.no_archive || self.stream.as_ref().is_none_or(|stream| !stream.fresh) {
            return None;
        }
        let after = self.archives.get(person).map(|place| place.last.clone());
        let query = Query { id: self.request(), carries: after.is_some() };
        let request = self.wrap(session.ids.as_ref(), request(&query.id, after.as_deref()));
        self.outgoing.push(Purpose::Archive(person.clone()), request);
        Some(query)
    }

    /// Whether this answers the session's question to its archive; if so, asks for the next page or settles.
    pub(super) fn archive_answered(&mut self, person: &PersonId, stanza: &Element, now: Instant) -> bool {
        let Some(session) = self.sessions.get(person) else { return false };
        let Step::Settling { archive: Some(query), .. } = &session.step else { return false };
        if stanza.name() != "iq" || stanza.attr("id") != Some(&*query.id) {
            return false;
        }
        let carries = query.carries;
        let more_of_it = match stanza.get_child("fin", more::ARCHIVE) {
            Some(fin) => {
                let last = fin
                    .get_child("set", more::RESULT_SET)
                    .and_then(|set| set.get_child("last", more::RESULT_SET));
                match last.map(Element::text).filter(|last| !last.is_empty()) {
                    Some(last) => {
                        if !carries {
                            // Nothing is carried from before the place that was learnt, so it is safe at once.
                            self.board.keep(kept::archive_key(person), Some(last.as_bytes().into()));
                        }
                        self.archive_is_known(person, last.into(), now);
                        carries && fin.attr("complete") != Some("true")
                    }
                    None => false,
                }
            }
            // The place is gone from the archive, or there is none at all. Either way nothing is to be had.
            None => {
                if self.archives.remove(person).is_some() {
                    tracing::warn!(%person, "the archive does not know the place where it was left");
                    self.board.keep(kept::archive_key(person), None);
                } else {
                    self.no_archive = true;
                }
                false
            }
        };
        let Some(mut session) = self.sessions.remove(person) else { return true };
        let next = if more_of_it { self.ask_archive(person, &session) } else { None };
        if let Step::Settling { archive, .. } = &mut session.step {
            *archive = next;
            session.since = now;
        }
        self.sessions.insert(person.clone(), session);
        self.settled_if_done(person, now);
        true
    }

    /// The session has brought this message of the archive. The one before it is put on disk now and then, if that
    /// is ours by now: a place beyond what was committed would hide what was not.
    pub(super) fn archive_is_known(&mut self, person: &PersonId, last: Box<str>, now: Instant) {
        let keep = self.of(KEEP);
        let Some(stream) = &self.stream else { return };
        let (n, handled) = (stream.received, stream.handled);
        let Some(place) = self.archives.get_mut(person) else {
            self.archives.insert(person.clone(), Place { last, n, kept: None });
            return;
        };
        if place.n <= handled && place.kept.is_none_or(|kept| kept + keep <= now) {
            place.kept = Some(now);
            self.board.keep(kept::archive_key(person), Some(place.last.as_bytes().into()));
        }
        (place.last, place.n) = (last, n);
    }
}

/// The archive's own id of a message that a session brought, in whichever form; `None` where it has none, or more
/// than one claims to be it: anybody can put one into a message (XEP-0359 §6).
pub(super) fn id_of(stanza: &Element, own: &BareJid) -> Option<Box<str>> {
    if let Some(result) = stanza.get_child("result", more::ARCHIVE) {
        let ours = stanza.attr("from").is_none_or(|from| from == own.as_str());
        return result.attr("id").filter(|_| ours).map(Box::from);
    }
    let inner = stanza
        .children()
        .filter(|child| child.has_ns(ns::CARBONS))
        .find_map(|copy| copy.get_child("forwarded", ns::FORWARD)?.get_child("message", ns::CLIENT));
    let mut ids = inner
        .unwrap_or(stanza)
        .children()
        .filter(|child| child.is("stanza-id", ns::STANZA_ID) && child.attr("by") == Some(own.as_str()))
        .filter_map(|child| child.attr("id"));
    match (ids.next(), ids.next()) {
        (Some(id), None) => Some(id.into()),
        _ => None,
    }
}

/// Asks for a page of messages after one (XEP-0059); without one, for the last message alone.
fn request(id: &str, after: Option<&str>) -> Element {
    let element = |name, text: &str| Element::bare(name, more::RESULT_SET).with_text(text);
    let set = Element::bare("set", more::RESULT_SET);
    let set = match after {
        Some(after) => set.with_child(element("max", PAGE)).with_child(element("after", after)),
        None => set.with_child(element("max", "1")).with_child(element("before", "")),
    };
    let query = Element::bare("query", more::ARCHIVE).with_attr("queryid", id).with_child(set);
    Element::bare("iq", ns::CLIENT).with_attr("type", "set").with_attr("id", id).with_child(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_believed_only_where_it_is_the_only_one_of_the_own_account() {
        let own = BareJid::new("bob@lab.example").unwrap();
        let id = |by: &str, id: &str| format!("<stanza-id xmlns='urn:xmpp:sid:0' by='{by}' id='{id}'/>");
        let message = |inner: &str| -> Element {
            format!("<message xmlns='jabber:client'>{inner}</message>").parse().unwrap()
        };
        let mine = id("bob@lab.example", "a1");
        let direct = message(&format!("{mine}{}", id("ann@lab.example", "b1")));
        assert_eq!(id_of(&direct, &own).as_deref(), Some("a1"));
        let copy = format!(
            "<sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>{}</forwarded></sent>",
            String::from(&direct)
        );
        assert_eq!(id_of(&message(&copy), &own).as_deref(), Some("a1"));
        let forged = message(&format!("{mine}{}", id("bob@lab.example", "forged")));
        assert_eq!(id_of(&forged, &own), None);
        assert_eq!(id_of(&message(""), &own), None);
        let archived = message("<result xmlns='urn:xmpp:mam:2' queryid='q' id='a7'/>");
        assert_eq!(id_of(&archived, &own).as_deref(), Some("a7"));
        let by_another = archived.with_attr("from", "eve@lab.example");
        assert_eq!(id_of(&by_another, &own), None);
    }
}
