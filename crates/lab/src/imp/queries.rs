//! Questions to the server (RFC 6120 §8.2.3), and questions that it passes on.

use xmpp_core::xml::Compose as _;
use xmpp_core::{Element, Jid, ns};

use super::stanza::{self, DISCO_INFO, DISCO_ITEMS, PUBSUB, ROSTER, TIME};
use super::state::State;
use crate::clock::Time;
use crate::people::{DOMAIN, SECOND_DOMAIN};

/// The node under which a client publishes a state that its user set by hand. The product does this apart from device
/// presence too, but how is not public; this node is the lab's own.
pub const MANUAL_NODE: &str = "urn:lab:manual-presence";

/// What the server says that it can.
const FEATURES: [&str; 8] = [
    DISCO_INFO,
    DISCO_ITEMS,
    ns::PING,
    ns::CARBONS,
    ROSTER,
    TIME,
    "http://jabber.org/protocol/pubsub#publish",
    "msgoffline",
];

impl State {
    /// A session sends an iq; `from` is stamped already.
    pub(crate) fn iq_from_session(&mut self, bare: &str, resource: &str, iq: Element) {
        let sender = format!("{bare}/{resource}");
        let is_question = matches!(iq.attr("type"), Some("get" | "set"));
        let to = iq.attr("to").unwrap_or(bare).parse::<Jid>();
        let Ok(to) = to else {
            let error = stanza::error(&iq, bare, &sender, "modify", "jid-malformed");
            return self.deliver(bare, resource, error);
        };
        let whom = to.to_bare().to_string();
        if let Some(other) = to.resource().map(|resource| resource.to_string())
            && self.users.get(&whom).is_some_and(|user| user.sessions.contains_key(&other))
        {
            return self.deliver(&whom, &other, iq);
        }
        if !is_question {
            return; // an answer to somebody who is gone
        }
        let answer = if whom == bare && to.resource().is_none() {
            self.answer_account(bare, resource, &iq)
        } else if [DOMAIN, SECOND_DOMAIN].contains(&to.as_str()) {
            answer_server(&iq, to.as_str(), &sender, self.time())
        } else {
            None
        };
        let answer = answer.unwrap_or_else(|| {
            let served = [DOMAIN, SECOND_DOMAIN].contains(&to.domain().as_str());
            let condition = if served { "service-unavailable" } else { "remote-server-not-found" };
            stanza::error(&iq, to.as_str(), &sender, "cancel", condition)
        });
        self.deliver(bare, resource, answer);
    }

    /// The time that the server tells.
    pub(crate) fn time(&self) -> Time {
        let ahead = self.ctx.faults.lasting_value("imp-clock-skew").unwrap_or(0);
        Time(self.ctx.clock.now().0 + ahead)
    }

    /// Questions to the user's own account.
    fn answer_account(&mut self, bare: &str, resource: &str, iq: &Element) -> Option<Element> {
        let sender = format!("{bare}/{resource}");
        let payload = iq.children().next()?;
        let setting = iq.attr("type") == Some("set");
        let done = |payload| Some(stanza::result(iq, bare, &sender, payload));
        if payload.is("enable", ns::CARBONS) || payload.is("disable", ns::CARBONS) {
            if self.ctx.faults.is_on("imp-no-carbons") {
                return None;
            }
            let session = self.users.get_mut(bare)?.sessions.get_mut(resource)?;
            session.carbons = payload.name() == "enable";
            return done(None);
        }
        if payload.is("query", ROSTER) {
            return done((!setting).then(|| self.roster(bare)));
        }
        if setting && payload.is("pubsub", PUBSUB) {
            self.publish(bare, resource, payload)?;
            return done(None);
        }
        if payload.is("session", ns::SESSION) {
            return done(None);
        }
        answer_server(iq, bare, &sender, self.time())
    }

    /// Everybody whom a user sees; nobody has to be added.
    fn roster(&self, bare: &str) -> Element {
        let mut query = Element::bare("query", ROSTER);
        for contact in self.groups.contacts(bare) {
            let name = self.ctx.people.by_jid(&contact).map(|person| person.display_name);
            let item = Element::bare("item", ROSTER)
                .with_attr("jid", contact)
                .with_attr("subscription", "both")
                .with_optional("name", name);
            query.append_child(item);
        }
        query
    }

    /// A state set by hand: an item with a `<presence/>`, or one without to leave it to devices again.
    fn publish(&mut self, bare: &str, resource: &str, pubsub: &Element) -> Option<()> {
        let publish = pubsub.get_child("publish", PUBSUB)?;
        if publish.attr("node") != Some(MANUAL_NODE) {
            return None;
        }
        let presence = publish.get_child("item", PUBSUB)?.get_child("presence", ns::CLIENT);
        let text =
            |name| presence.and_then(|presence| stanza::child_text(presence, name)).unwrap_or_default();
        let manual = presence.map(|_| (text("show"), text("status")));
        self.set_manual(bare, resource, manual);
        Some(())
    }
}

/// Questions that any part of the server answers alike; `None` if it has no answer.
pub(crate) fn answer_server(iq: &Element, from: &str, to: &str, now: Time) -> Option<Element> {
    let payload = iq.children().next()?;
    if payload.is("ping", ns::PING) {
        return Some(stanza::result(iq, from, to, None));
    }
    if payload.is("time", TIME) {
        let utc = Element::bare("utc", TIME).with_text(now.rfc3339());
        let offset = Element::bare("tzo", TIME).with_text("+00:00");
        return Some(stanza::result(
            iq,
            from,
            to,
            Some(Element::bare("time", TIME).with_child(offset).with_child(utc)),
        ));
    }
    if payload.is("query", DISCO_ITEMS) {
        return Some(stanza::result(iq, from, to, Some(Element::bare("query", DISCO_ITEMS))));
    }
    if payload.is("query", DISCO_INFO) {
        let identity = Element::bare("identity", DISCO_INFO)
            .with_attr("category", "server")
            .with_attr("type", "im")
            .with_attr("name", "IM and Presence stand-in");
        let mut query = Element::bare("query", DISCO_INFO).with_child(identity);
        for feature in FEATURES {
            query.append_child(Element::bare("feature", DISCO_INFO).with_attr("var", feature));
        }
        return Some(stanza::result(iq, from, to, Some(query)));
    }
    None
}
