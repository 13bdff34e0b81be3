//! Presence as IM and Presence shows it: contacts see one *composed* state per user, of the resource `composed`; the user's
//! own sessions see that too, and each other as they are.
//!
//! The newest device presence wins; what a user set by hand beats it; do-not-disturb holds for the whole user, and what
//! one device says of it no other can lift.

use std::collections::BTreeMap;

use xmpp_core::xml::Compose as _;
use xmpp_core::{Element, Jid, ns};

use super::state::State;
use super::{rooms, stanza};
use crate::clock::Time;
use crate::people::Person;

/// The resource under which contacts see a user.
pub(crate) const COMPOSED: &str = "composed";

/// The presence of one session.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// From -128 to 127; below zero it takes no part in traffic to the bare JID.
    pub(crate) priority: i8,
    /// The stanza as it was sent, with `from`.
    presence: Element,
    /// Rises with every presence that the server receives.
    order: u64,
    at: Time,
}

/// A state that a user chose, in place of what devices say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Manual {
    /// `away`, `dnd`, `xa`, or empty for available.
    pub(crate) show: String,
    /// The user's own words.
    pub(crate) status: String,
    /// Rises with every change.
    pub(crate) order: u64,
}

/// What contacts see.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Shown {
    show: String,
    status: String,
    since: Time,
}

impl Shown {
    fn is_like(&self, other: &Self) -> bool {
        (&self.show, &self.status) == (&other.show, &other.status)
    }
}

/// Who sees whom: the people of the lab's contract one another, users that were added one another by tens. Subscriptions
/// inside the enterprise are approved without asking, so nobody has to ask; and fifteen thousand users who all saw one
/// another would be a test of something else.
#[derive(Debug)]
pub(crate) struct Groups {
    group_of: BTreeMap<String, usize>,
    groups: Vec<Vec<String>>,
}

impl Groups {
    pub(crate) fn new(people: &[Person], contacts: u32) -> Self {
        let size = contacts as usize + 1;
        let is_added =
            |name: &str| name.len() == 6 && name.starts_with('u') && name[1..].parse::<u32>().is_ok();
        let mut groups = vec![Vec::new()];
        let mut group_of = BTreeMap::new();
        for person in people.iter().filter(|person| !person.jid.is_empty()) {
            let full = groups.last().is_some_and(|last| groups.len() == 1 || last.len() == size);
            let group = match (is_added(&person.name), full) {
                (false, _) => 0,
                (true, true) => {
                    groups.push(Vec::new());
                    groups.len() - 1
                }
                (true, false) => groups.len() - 1,
            };
            groups[group].push(person.jid.clone());
            group_of.insert(person.jid.clone(), group);
        }
        Self { group_of, groups }
    }

    /// The others whom a user sees and who see them.
    pub(crate) fn contacts(&self, bare: &str) -> Vec<String> {
        let group = self.group_of.get(bare).and_then(|group| self.groups.get(*group));
        group.into_iter().flatten().filter(|other| *other != bare).cloned().collect()
    }
}

impl State {
    /// A session sends presence; `from` is stamped already.
    pub(crate) fn presence_from_session(&mut self, bare: &str, resource: &str, presence: Element) {
        let kind = presence.attr("type").map(str::to_owned);
        match (presence.attr("to").map(str::to_owned), kind.as_deref()) {
            (None, None) => self.publish_presence(bare, resource, presence),
            (None, Some("unavailable")) => self.withdraw_presence(bare, resource),
            (None, Some(_)) => {}
            (Some(to), kind) => self.direct_presence(bare, resource, &to, kind, presence),
        }
    }

    fn publish_presence(&mut self, bare: &str, resource: &str, presence: Element) {
        let priority =
            stanza::child_text(&presence, "priority").and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let device = Device { priority, presence: presence.clone(), order: self.number(), at: self.now() };
        let Some(session) = self.users.get_mut(bare).and_then(|user| user.sessions.get_mut(resource)) else {
            return;
        };
        let before = session.device.replace(device);
        if before.is_none() {
            self.greet(bare, resource);
        }
        self.tell_own(bare, &presence);
        self.show(bare);
        if priority >= 0 && before.is_none_or(|before| before.priority < 0) {
            self.replay(bare, resource);
        }
    }

    /// A session that comes up learns what is the case (RFC 6121 §4.2.2 and §4.3.2).
    fn greet(&mut self, bare: &str, resource: &str) {
        let seconds = self.ctx.faults.is_on("imp-stamps-whole-seconds");
        let domain = bare.rsplit('@').next().unwrap_or_default();
        let own = self.users.get(bare).into_iter().flat_map(|user| &user.sessions);
        let mut presences: Vec<Element> = own
            .filter(|(other, _)| other.as_str() != resource)
            .filter_map(|(_, session)| session.device.as_ref())
            .map(|device| stanza::stamped(device.presence.clone(), domain, device.at, seconds))
            .collect();
        for contact in self.groups.contacts(bare).into_iter().chain([bare.to_owned()]) {
            if let Some(shown) = self.users.get(&contact).and_then(|user| user.shown.as_ref()) {
                let domain = contact.rsplit('@').next().unwrap_or_default();
                let composed = composed_presence(&contact, Some(shown));
                presences.push(stanza::stamped(composed, domain, shown.since, seconds));
            }
        }
        for presence in presences {
            let to = format!("{bare}/{resource}");
            self.deliver(bare, resource, presence.with_attr("to", to));
        }
    }

    /// A session is no longer available.
    pub(crate) fn withdraw_presence(&mut self, bare: &str, resource: &str) {
        let session = self.users.get_mut(bare).and_then(|user| user.sessions.get_mut(resource));
        if session.and_then(|session| session.device.take()).is_none() {
            return;
        }
        let gone = Element::bare("presence", ns::CLIENT)
            .with_attr("from", format!("{bare}/{resource}"))
            .with_attr("type", "unavailable");
        self.tell_own(bare, &gone);
        self.show(bare);
        self.leave_rooms(bare, resource);
    }

    /// A user chose a state in one of its sessions, or (`None`) leaves it to devices again.
    pub(crate) fn set_manual(&mut self, bare: &str, resource: &str, manual: Option<(String, String)>) {
        let order = self.number();
        let Some(session) = self.users.get_mut(bare).and_then(|user| user.sessions.get_mut(resource)) else {
            return;
        };
        session.manual = manual.map(|(show, status)| Manual { show, status, order });
        self.show(bare);
    }

    fn direct_presence(
        &mut self,
        bare: &str,
        resource: &str,
        to: &str,
        kind: Option<&str>,
        presence: Element,
    ) {
        let Ok(to) = to.parse::<Jid>() else { return };
        if rooms::is_room(&to) {
            return self.presence_to_room(bare, resource, &to, kind == Some("unavailable"));
        }
        let whom = to.to_bare().to_string();
        match kind {
            Some("probe") => {
                let shown = self.users.get(&whom).and_then(|user| user.shown.as_ref());
                let answer = composed_presence(&whom, shown);
                if self.groups.contacts(bare).contains(&whom) {
                    self.deliver(bare, resource, answer.with_attr("to", format!("{bare}/{resource}")));
                }
            }
            // Approved without asking; the presence follows as to any contact.
            Some("subscribe") if self.is_account(&whom) => {
                let answer = |kind: &str| {
                    Element::bare("presence", ns::CLIENT)
                        .with_attr("from", whom.clone())
                        .with_attr("to", bare)
                        .with_attr("type", kind)
                };
                let shown = self.users.get(&whom).and_then(|user| user.shown.as_ref());
                let current = composed_presence(&whom, shown).with_attr("to", bare);
                self.deliver(bare, resource, answer("subscribed"));
                self.deliver(bare, resource, current);
            }
            None | Some("unavailable") => {
                let available = self.users.get(&whom).into_iter().flat_map(|user| &user.sessions);
                let targets: Vec<String> = match to.resource() {
                    Some(resource) => vec![resource.to_string()],
                    None => available.filter(|(_, s)| s.device.is_some()).map(|(r, _)| r.clone()).collect(),
                };
                for target in targets {
                    self.deliver(&whom, &target, presence.clone());
                }
            }
            Some(_) => {}
        }
    }

    /// All available sessions of a user, the one that sent it included, see a presence of one of them.
    fn tell_own(&mut self, bare: &str, presence: &Element) {
        for resource in self.available(bare) {
            let to = format!("{bare}/{resource}");
            self.deliver(bare, &resource, presence.clone().with_attr("to", to));
        }
    }

    /// Tells contacts, and the user's own sessions, what a user's state is now, if that changed.
    pub(crate) fn show(&mut self, bare: &str) {
        let now = self.now();
        let Some(user) = self.users.get_mut(bare) else { return };
        let composed =
            compose(user.sessions.values().map(|session| (session.device.as_ref(), session.manual.as_ref())))
                .map(|(show, status)| Shown { show, status, since: now });
        let same = match (&user.shown, &composed) {
            (None, None) => true,
            (Some(before), Some(after)) => before.is_like(after),
            _ => false,
        };
        if same {
            return;
        }
        user.shown = composed;
        let presence = composed_presence(bare, user.shown.as_ref());
        for contact in self.groups.contacts(bare).into_iter().chain([bare.to_owned()]) {
            for resource in self.available(&contact) {
                let to = format!("{contact}/{resource}");
                self.deliver(&contact, &resource, presence.clone().with_attr("to", to));
            }
        }
        self.show_in_rooms(bare);
    }

    fn available(&self, bare: &str) -> Vec<String> {
        let sessions = self.users.get(bare).into_iter().flat_map(|user| &user.sessions);
        sessions
            .filter(|(_, session)| session.device.is_some())
            .map(|(resource, _)| resource.clone())
            .collect()
    }
}

/// The state of a user with these sessions, as `show` and `status`; `None` is offline.
fn compose<'a>(
    sessions: impl Iterator<Item = (Option<&'a Device>, Option<&'a Manual>)>,
) -> Option<(String, String)> {
    let present: Vec<_> = sessions.filter_map(|(device, manual)| Some((device?, manual))).collect();
    let said = |device: &Device| {
        let text = |name| stanza::child_text(&device.presence, name).unwrap_or_default();
        (text("show"), text("status"))
    };
    let disturbing = present.iter().map(|(device, _)| said(device)).find(|(show, _)| show == "dnd");
    let by_hand = || {
        let newest = present.iter().filter_map(|(_, manual)| *manual).max_by_key(|manual| manual.order);
        newest.map(|manual| (manual.show.clone(), manual.status.clone()))
    };
    let newest = || present.iter().max_by_key(|(device, _)| device.order).map(|(device, _)| said(device));
    disturbing.or_else(by_hand).or_else(newest)
}

pub(super) fn composed_presence(bare: &str, shown: Option<&Shown>) -> Element {
    let presence = Element::bare("presence", ns::CLIENT).with_attr("from", format!("{bare}/{COMPOSED}"));
    let Some(shown) = shown else { return presence.with_attr("type", "unavailable") };
    let with = |presence: Element, name: &str, text: &str| match text {
        "" => presence,
        text => presence.with_child(stanza::text_child(name, text)),
    };
    with(with(presence, "show", &shown.show), "status", &shown.status)
}
