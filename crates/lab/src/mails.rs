//! Mails that Webex would send. Nothing leaves the lab: they are written down.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::people::{People, Person};

/// One mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mail {
    /// The short name of whom it invites to use Webex.
    pub to: String,
    /// The short name of who has written to that person.
    pub from: String,
}

/// All mails since the lab started.
#[derive(Debug, Default)]
pub struct Mails(Mutex<Vec<Mail>>);

impl Mails {
    /// What was sent so far, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Mail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Somebody has written to these: whoever of them has never signed in is invited, unless the organization uses Hybrid
    /// Message, which switches that off for everybody in it.
    pub(crate) fn invite<'a>(&self, people: &People, from: &Person, to: impl Iterator<Item = &'a String>) {
        let invited: Vec<Person> =
            to.filter_map(|id| people.by_id(id)).filter(|person| person.pending).collect();
        let switched_off =
            |org: &str| people.all().iter().any(|person| person.enabled && person.org_id == org);
        for person in invited.into_iter().filter(|person| !switched_off(&person.org_id)) {
            let mail = Mail { to: person.name, from: from.name.clone() };
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
        }
    }
}
