//! Where a message goes (RFC 6121 §8), with copies for the other sessions of both its users (XEP-0280).

use xmpp_core::{Element, Jid, ns};

use super::state::State;
use super::{federation, rooms, stanza};
use crate::clock::Time;
use crate::people::{DOMAIN, SECOND_DOMAIN};

impl State {
    /// A session sends a message; `from` is stamped already.
    pub(crate) fn message_from_session(&mut self, bare: &str, resource: &str, message: Element) {
        if self.strikes("imp-refuses-messages", bare) {
            let from = message.attr("to").unwrap_or(bare).to_owned();
            let to = format!("{bare}/{resource}");
            let error = stanza::error(&message, &from, &to, "modify", "policy-violation");
            return self.deliver(bare, resource, error);
        }
        if let Some(room) = message.attr("to").and_then(|to| to.parse().ok()).filter(rooms::is_room) {
            return self.message_to_room(bare, resource, &room, message);
        }
        let receivers = self.route_message(message.clone());
        if self.is_copied(&message) {
            for other in self.sessions_with_carbons(bare) {
                // Who got a message to oneself directly needs no copy of having sent it.
                if other != resource && !receivers.contains(&(bare.to_owned(), other.clone())) {
                    let to = format!("{bare}/{other}");
                    self.deliver(bare, &other, stanza::carbon("sent", bare, &to, &message));
                }
            }
        }
    }

    /// Takes a message to where its `to` says, and answers who got it directly.
    pub(crate) fn route_message(&mut self, message: Element) -> Vec<(String, String)> {
        let kind = message.attr("type").unwrap_or("normal").to_owned();
        let Some(from) = message.attr("from").map(str::to_owned) else { return Vec::new() };
        let to = message.attr("to").unwrap_or(&from).parse::<Jid>();
        let Ok(to) = to else {
            self.refuse(&message, &from, "modify", "jid-malformed");
            return Vec::new();
        };
        if federation::serves(&to) && federation::take(&self.ctx, &to, &message) {
            return Vec::new();
        }
        let bare = to.to_bare().to_string();
        if !self.is_account(&bare) {
            let served = [DOMAIN, SECOND_DOMAIN].contains(&to.domain().as_str());
            let condition = if served { "service-unavailable" } else { "remote-server-not-found" };
            self.refuse(&message, &from, "cancel", condition);
            return Vec::new();
        }
        let resource = to.resource().map(|resource| resource.to_string());
        let addressed = resource.filter(|resource| {
            self.users.get(&bare).is_some_and(|user| user.sessions.contains_key(resource))
        });
        let targets: Vec<String> = match (&addressed, kind.as_str()) {
            (_, "groupchat") => {
                self.refuse(&message, &from, "cancel", "service-unavailable");
                return Vec::new();
            }
            (Some(resource), _) => vec![resource.clone()],
            (None, "error") => return Vec::new(),
            (None, "headline") => self.receiving(&bare).into_iter().map(|(resource, _)| resource).collect(),
            (None, _) => {
                let receiving = self.receiving(&bare);
                let highest = receiving.iter().map(|(_, priority)| *priority).max();
                receiving.into_iter().filter(|(_, p)| Some(*p) == highest).map(|(r, _)| r).collect()
            }
        };
        let delivered = stanza::without_private(message.clone());
        for resource in &targets {
            self.deliver(&bare, resource, delivered.clone());
        }
        if self.is_copied(&message) {
            for other in self.sessions_with_carbons(&bare) {
                let is_sender = from == format!("{bare}/{other}");
                if !targets.contains(&other) && !is_sender {
                    let to = format!("{bare}/{other}");
                    self.deliver(&bare, &other, stanza::carbon("received", &bare, &to, &message));
                }
            }
        }
        if targets.is_empty() && matches!(kind.as_str(), "chat" | "normal") {
            self.store(&bare, &message, self.now());
        }
        targets.into_iter().map(|resource| (bare.clone(), resource)).collect()
    }

    /// A message that a session did not get before it ended: if nobody else is there, it is as if it came only now.
    pub(crate) fn undelivered(&mut self, bare: &str, element: &Element, at: Time) {
        let direct = element.name() == "message" && stanza::carbon_content(element).is_none();
        if direct && stanza::is_substantial(element) && self.receiving(bare).is_empty() {
            self.store(bare, element, at);
        }
    }

    /// The sessions that take part in traffic to the bare JID, with their priorities.
    fn receiving(&self, bare: &str) -> Vec<(String, i8)> {
        let sessions = self.users.get(bare).into_iter().flat_map(|user| &user.sessions);
        sessions
            .filter_map(|(resource, session)| Some((resource.clone(), session.device.as_ref()?.priority)))
            .filter(|(_, priority)| *priority >= 0)
            .collect()
    }

    fn sessions_with_carbons(&self, bare: &str) -> Vec<String> {
        let sessions = self.users.get(bare).into_iter().flat_map(|user| &user.sessions);
        sessions.filter(|(_, session)| session.carbons).map(|(resource, _)| resource.clone()).collect()
    }

    /// Which messages are copied (XEP-0280 §6.1): conversation, but no receipt without a type, as on Prosody.
    fn is_copied(&self, message: &Element) -> bool {
        let conversation = match message.attr("type") {
            Some("chat") => true,
            None | Some("normal") => stanza::child_text(message, "body").is_some(),
            _ => false,
        };
        conversation
            && !self.ctx.faults.is_on("imp-no-carbons")
            && !message.has_child("private", ns::CARBONS)
            && !message.has_child("no-copy", ns::HINTS)
            && stanza::carbon_content(message).is_none()
    }

    /// Tells a sender that its message went nowhere; an error is never answered by another.
    fn refuse(&mut self, message: &Element, sender: &str, kind: &str, condition: &str) {
        if message.attr("type") == Some("error") {
            return;
        }
        let Ok(sender) = sender.parse::<Jid>() else { return };
        if let Some(resource) = sender.resource().map(|resource| resource.to_string()) {
            let from = message.attr("to").unwrap_or_default();
            let error = stanza::error(message, from, sender.as_str(), kind, condition);
            self.deliver(&sender.to_bare().to_string(), &resource, error);
        }
    }
}
