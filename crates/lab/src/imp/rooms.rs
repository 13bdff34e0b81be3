//! Group chats (XEP-0045), as much of them as shows what becomes of people in them who use Webex.
//!
//! Whoever is invited is in the chat when a client of theirs joins; nobody is told of one that does not. An ad hoc chat has
//! the people who are in it. A persistent one has members: it shows each member's composed presence, also of those who left,
//! and gives them what was said meanwhile when they come back.

use std::collections::BTreeMap;

use xmpp_core::xml::Compose as _;
use xmpp_core::{Element, Jid, ns};

use super::presence::composed_presence;
use super::stanza::{self, MUC_USER};
use super::state::State;
use crate::clock::Time;

/// Where ad hoc chats are.
pub(crate) const AD_HOC: &str = "conference.lab.example";
/// Where persistent ones are.
pub(crate) const PERSISTENT: &str = "persistent.lab.example";

/// One chat.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Who is in it: by nickname, the account and its resource.
    occupants: BTreeMap<String, (String, String)>,
    /// Who ever was in a persistent one.
    members: BTreeMap<String, Member>,
    /// What was said in a persistent one.
    history: Vec<(Element, Time)>,
}

#[derive(Debug)]
struct Member {
    bare: String,
    /// How much of the history this member has.
    has: usize,
}

/// Whether somebody at this address is a chat.
pub(crate) fn is_room(address: &Jid) -> bool {
    [AD_HOC, PERSISTENT].contains(&address.domain().as_str())
}

fn is_persistent(room: &str) -> bool {
    room.ends_with(&format!("@{PERSISTENT}"))
}

impl State {
    /// A session joins a chat under the nickname of the address, or leaves it.
    pub(crate) fn presence_to_room(&mut self, bare: &str, resource: &str, to: &Jid, leaves: bool) {
        let Some(nick) = to.resource().map(|nick| nick.to_string()) else { return };
        let room = to.to_bare().to_string();
        if leaves {
            return self.leave(&room, &nick);
        }
        let persistent = is_persistent(&room);
        let chat = self.rooms.entry(room.clone()).or_default();
        chat.occupants.insert(nick.clone(), (bare.to_owned(), resource.to_owned()));
        let mut missed = Vec::new();
        if persistent {
            let all = chat.history.len();
            let new = Member { bare: bare.to_owned(), has: all };
            let has = chat.members.insert(nick.clone(), new).map_or(0, |member| member.has);
            missed.extend_from_slice(&chat.history[has..]);
        }
        let others: Vec<String> = chat.members.keys().chain(chat.occupants.keys()).cloned().collect();
        for other in others.into_iter().filter(|other| *other != nick) {
            let presence = self.shown_in(&room, &other);
            self.deliver(bare, resource, presence.with_attr("to", format!("{bare}/{resource}")));
        }
        self.show_in(&room, &nick);
        for (message, at) in missed {
            let message = message.with_attr("to", format!("{bare}/{resource}"));
            self.deliver(bare, resource, stanza::stamped(message, PERSISTENT, at, false));
        }
    }

    /// A session writes to a chat, or invites somebody to it.
    pub(crate) fn message_to_room(&mut self, bare: &str, resource: &str, to: &Jid, message: Element) {
        let room = to.to_bare().to_string();
        let is_mine = |(_, (who, which)): &(&String, &(String, String))| who == bare && which == resource;
        let nick = self.rooms.get(&room).and_then(|chat| chat.occupants.iter().find(is_mine));
        let Some(nick) = nick.map(|(nick, _)| nick.clone()) else {
            let error =
                stanza::error(&message, &room, &format!("{bare}/{resource}"), "modify", "not-acceptable");
            return self.deliver(bare, resource, error);
        };
        if message.attr("type") == Some("groupchat") {
            let at = self.now();
            let message = message.with_attr("from", format!("{room}/{nick}"));
            self.tell_room(&room, &message);
            if let Some(chat) = self.rooms.get_mut(&room).filter(|_| is_persistent(&room)) {
                chat.history.push((message, at));
                let all = chat.history.len();
                for nick in chat.occupants.keys() {
                    if let Some(member) = chat.members.get_mut(nick) {
                        member.has = all;
                    }
                }
            }
            return;
        }
        let invitations = message.get_child("x", MUC_USER).map(|x| x.children().cloned().collect::<Vec<_>>());
        for invite in invitations.unwrap_or_default() {
            let Some(whom) = invite.attr("to").filter(|_| invite.is("invite", MUC_USER)) else { continue };
            let invite = Element::bare("invite", MUC_USER).with_attr("from", bare);
            let invitation = Element::bare("message", ns::CLIENT)
                .with_attr("from", room.as_str())
                .with_attr("to", whom)
                .with_child(Element::bare("x", MUC_USER).with_child(invite));
            self.route_message(invitation);
        }
    }

    /// A session that is no longer available is in no chat.
    pub(crate) fn leave_rooms(&mut self, bare: &str, resource: &str) {
        let mine: Vec<(String, String)> = self
            .rooms
            .iter()
            .flat_map(|(room, chat)| chat.occupants.iter().map(move |(nick, who)| (room, nick, who)))
            .filter(|(_, _, (who, which))| who == bare && which == resource)
            .map(|(room, nick, _)| (room.clone(), nick.clone()))
            .collect();
        for (room, nick) in mine {
            self.leave(&room, &nick);
        }
    }

    fn leave(&mut self, room: &str, nick: &str) {
        let Some(chat) = self.rooms.get_mut(room) else { return };
        if chat.occupants.remove(nick).is_some() {
            self.show_in(room, nick);
        }
    }

    /// The composed presence of a user has changed, and so what chats show of it.
    pub(crate) fn show_in_rooms(&mut self, bare: &str) {
        let mut shown = Vec::new();
        for (room, chat) in &self.rooms {
            let present = chat.occupants.iter().filter(|(_, (who, _))| who == bare).map(|(nick, _)| nick);
            let members = chat.members.iter().filter(|(_, member)| member.bare == bare).map(|(nick, _)| nick);
            let nicks: std::collections::BTreeSet<&String> = present.chain(members).collect();
            shown.extend(nicks.into_iter().map(|nick| (room.clone(), nick.clone())));
        }
        for (room, nick) in shown {
            self.show_in(&room, &nick);
        }
    }

    fn show_in(&mut self, room: &str, nick: &str) {
        let presence = self.shown_in(room, nick);
        self.tell_room(room, &presence);
    }

    /// What a chat shows of somebody.
    fn shown_in(&self, room: &str, nick: &str) -> Element {
        let chat = self.rooms.get(room);
        let occupant = chat.and_then(|chat| chat.occupants.get(nick)).map(|(bare, _)| bare);
        let member = chat.and_then(|chat| chat.members.get(nick)).map(|member| &member.bare);
        let user = occupant.or(member).and_then(|bare| self.users.get(bare));
        composed_presence(room, user.and_then(|user| user.shown.as_ref()))
            .with_attr("from", format!("{room}/{nick}"))
    }

    fn tell_room(&mut self, room: &str, stanza: &Element) {
        let occupants = self.rooms.get(room).into_iter().flat_map(|chat| chat.occupants.values());
        for (bare, resource) in occupants.cloned().collect::<Vec<_>>() {
            let stanza = stanza.clone().with_attr("to", format!("{bare}/{resource}"));
            self.deliver(&bare, &resource, stanza);
        }
    }
}
