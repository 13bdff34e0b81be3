//! Who is served, what their sessions show, and who types.

use crate::commit::Pending;
use crate::envelope::{Typing, TypingOrigin};
use crate::held::Side;
use crate::ids::{PersonId, SourceId, Ticket, Time};
use crate::inbound::{Cause, Facts, Observation};
use crate::machine::Router;
use crate::outbound::{Hint, Outbound, Wanted};
use crate::outbox::Change;
use crate::timers::Timer;
use crate::typing::Lease;

impl Router {
    /// Takes what was read about people (rules 16 and 17).
    pub(crate) fn facts(&mut self, facts: &Facts, now: Time) {
        let next = self.directory.with(facts, now, self.since(now));
        if next == *self.directory {
            return;
        }
        let before = std::mem::replace(&mut self.directory, next.into());
        let after = self.directory();
        if after.is_complete() {
            self.outgoing.change(Change::Directory(after.encode()));
        }
        self.out.push_back(Outbound::DirectoryChanged);
        for person in after.people() {
            let was = before.by_person(&person.id);
            match (was.is_some_and(|p| p.served()), person.served()) {
                (false, true) => {
                    self.serve(&person.id, None, now);
                    if let Some(since) = person.enabled_since {
                        self.cursors.insert(person.id.clone(), since);
                        self.outgoing.later(Change::Cursor(person.id.clone(), Some(since)));
                    }
                }
                (true, false) => self.serve_no_longer(&person.id, now),
                _ => {}
            }
            if person.token && was.is_some_and(|p| !p.token) {
                self.cause_gone(&Cause::Token(person.id.clone()));
            }
        }
    }

    /// From now on a session is held for this person while awake. Nothing is known of the Webex side until
    /// it has caught up.
    pub(crate) fn serve(&mut self, person: &PersonId, stored: Option<&[u8]>, now: Time) {
        self.presence.open(person, stored);
        self.holds.behind(person, 0, now);
        self.hold_timer(Side::Socket, person.clone());
        self.say(person, now);
    }

    fn serve_no_longer(&mut self, person: &PersonId, now: Time) {
        self.out.push_back(Outbound::Session(person.clone(), Wanted::Closed));
        self.presence.close(person);
        self.timers.cancel(&Timer::Presence(person.clone()));
        self.timers.cancel(&Timer::Session(person.clone()));
        self.timers.cancel(&Timer::CatchUp(person.clone()));
        self.holds.forget(person);
        self.cursors.remove(person);
        self.outgoing.change(Change::Cursor(person.clone(), None));
        self.wedge_all_of(person, now);
        for side in [Side::Session, Side::Socket] {
            self.intake.push_back(Pending::HoldOver(side, person.clone()));
        }
    }

    /// Takes what Webex says about people.
    pub(crate) fn statuses(&mut self, observations: &[Observation], now: Time) {
        for observation in observations {
            if self.presence.observe(observation, now, &self.config.times) {
                self.remember_presence(&observation.person);
            }
            self.say(&observation.person, now);
        }
    }

    pub(crate) fn remember_presence(&mut self, person: &PersonId) {
        if let Some(bytes) = self.presence.encode(person) {
            self.outgoing.later(Change::Presence(person.clone(), bytes));
        }
    }

    /// Says what is wanted of a person's session, if that was not the last thing said.
    pub(crate) fn say(&mut self, person: &PersonId, now: Time) {
        let Some((wanted, valid_for)) = self.presence.wanted(person, now) else { return };
        match valid_for {
            Some(wait) => self.timers.set(Timer::Presence(person.clone()), now.after(wait)),
            None => self.timers.cancel(&Timer::Presence(person.clone())),
        }
        if self.presence.say(person, &wanted) {
            self.out.push_back(Outbound::Session(person.clone(), wanted));
        }
    }

    /// Somebody types, or stopped (DM-05 to DM-09).
    pub(crate) fn typing(&mut self, typing: Typing, now: Time) {
        if typing.stale {
            return;
        }
        let lease = match typing.from {
            TypingOrigin::Jabber { session, from, to, stanza } => {
                if self.config.tagger.is_ours(stanza.as_str()) {
                    return;
                }
                let (Some(from), Some(to)) = (self.directory.by_jid(&from), self.directory.by_jid(&to))
                else {
                    return;
                };
                if from.id == to.id || ![&from.id, &to.id].contains(&&session) || !from.ours || !to.ours {
                    return;
                }
                Lease::ToWebex(from.id.clone(), to.id.clone())
            }
            TypingOrigin::Webex { socket, actor, conversation } => {
                if !self.directory.by_person(&actor).is_some_and(|p| p.served())
                    || self.typing.shown_in_webex(&actor, &socket)
                {
                    return;
                }
                Lease::ToJabber(actor, conversation)
            }
        };
        let told = if typing.active { self.typing.start(&lease, now) } else { self.typing.stop(&lease) };
        if typing.active {
            self.timers.set(Timer::Typing(lease.clone()), now.after(self.config.times.typing));
        } else {
            self.timers.cancel(&Timer::Typing(lease.clone()));
        }
        if told {
            self.hint(lease, typing.active, now);
        }
    }

    /// A lease has run out: nobody types for so long.
    pub(crate) fn typed_long(&mut self, lease: Lease, now: Time) {
        if self.typing.stop(&lease) {
            self.hint(lease, false, now);
        }
    }

    fn hint(&mut self, lease: Lease, active: bool, now: Time) {
        let hint = match lease {
            Lease::ToWebex(from, to) => {
                // It counts as an activity of the person in whose name it is shown, and is none (rule 18).
                self.presence.writing(&from, Ticket(0), now, &self.config.times);
                self.presence.written(&from, Ticket(0), now);
                Hint::TypingInWebex { from, to, active }
            }
            Lease::ToJabber(from, conversation) => {
                let source = SourceId::new(format!("{conversation}/{from}/{}", now.0));
                let id = self.config.tagger.derive("typing", &source, 0, 0);
                Hint::TypingInJabber { from, conversation, active, id }
            }
        };
        self.out.push_back(Outbound::Hint(hint));
    }
}
