//! The people of the lab: who they are, and the clients that act for them.

pub mod jabber;
pub mod webex;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use serde::Deserialize;

use crate::{
    clock::Time,
    seen::{App, Client},
};

/// The organization of everybody but heidi.
pub const ORG_ID: &str = "33333333-3333-4333-8333-333333333333";
/// heidi's organization.
pub const OTHER_ORG_ID: &str = "44444444-4444-4444-8444-444444444444";
/// The domain of most JIDs.
pub const DOMAIN: &str = "lab.example";
/// The domain of erin's JID.
pub const SECOND_DOMAIN: &str = "lab2.example";
/// Everybody's password in Jabber.
pub const PASSWORD: &str = "secret";
/// The licence that makes a person enabled for the connector.
pub const LICENSE_ID: &str = "lab-license-message-free";

/// One person (or the service bot) as both stand-ins know it.
#[derive(Clone, Debug)]
pub struct Person {
    /// The short name, unique in the lab.
    pub name: String,
    /// The name that others see.
    pub display_name: String,
    /// Whether the person has the licence of the connector.
    pub enabled: bool,
    /// The bare JID; empty for the bot, which is not in Jabber.
    pub jid: String,
    /// The password in Jabber.
    pub password: String,
    /// The mail address, the name of the person in Webex.
    pub mail: String,
    /// The organization in Webex.
    pub org_id: String,
    /// The id in Webex, a UUID.
    pub person_id: String,
    /// Imported to Webex but never signed in.
    pub pending: bool,
    /// Does not show a status to others.
    pub hidden: bool,
    /// A status set by hand, in the cloud's words (`dnd`, …); `None`: the calendar and activity decide.
    pub status: Option<String>,
    /// Webex reads the person's calendar.
    pub calendar: bool,
    /// From when until when the calendar says that the person is out of office.
    pub absence: Option<(Time, Time)>,
    /// The last activity in Webex; `None`: never.
    pub last_active: Option<Time>,
    /// The service bot.
    pub bot: bool,
}

/// The people of the lab's contract, then `extra` enabled ones named `u00001` and so on, then the bot.
/// Those who use Webex were last active at `start`.
#[must_use]
pub fn roster(extra: u32, start: Time) -> Vec<Person> {
    let mut people = Vec::new();
    let mut add = |name: &str, display_name: &str, change: &dyn Fn(&mut Person)| {
        let number = people.len() + 1;
        let mut person = Person {
            name: name.to_owned(),
            display_name: display_name.to_owned(),
            enabled: false,
            jid: format!("{name}@{DOMAIN}"),
            password: PASSWORD.to_owned(),
            mail: format!("{name}@corp.example"),
            org_id: ORG_ID.to_owned(),
            person_id: format!("{number:08x}-0000-4000-8000-{number:012x}"),
            pending: false,
            hidden: false,
            status: None,
            calendar: true,
            absence: None,
            last_active: Some(start),
            bot: false,
        };
        change(&mut person);
        people.push(person);
    };
    add("alice", "Alice Liddell", &|p| {
        p.enabled = true;
        p.mail = "a.liddell@corp.example".to_owned();
    });
    add("bob", "Bob Baker", &|p| p.enabled = true);
    add("carol", "Carol Chen", &|_| {});
    add("dave", "Dave Diaz", &|_| {});
    add("erin", "Erin Evans", &|p| {
        p.enabled = true;
        p.jid = format!("erin@{SECOND_DOMAIN}");
    });
    add("frank", "Frank Fischer", &|p| {
        p.pending = true;
        p.last_active = None;
    });
    add("gina", "Gina Garcia", &|p| {
        p.enabled = true;
        p.hidden = true;
    });
    add("heidi", "Heidi Holm", &|p| p.org_id = OTHER_ORG_ID.to_owned());
    for n in 1..=extra {
        add(&format!("u{n:05}"), &format!("User {n:05}"), &|p| p.enabled = true);
    }
    add("bot", "Messenger", &|p| {
        p.jid.clear();
        p.mail = "messenger@bots.example".to_owned();
        p.bot = true;
    });
    people
}

/// A change of one person, as `POST /user` takes it; what is absent stays.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Change {
    /// Who.
    pub name: String,
    /// Gives or takes the licence.
    pub enabled: Option<bool>,
    /// Sets a status in the cloud's words; an empty one lets calendar and activity decide again.
    pub status: Option<String>,
    /// Lets Webex read the person's calendar, or not.
    pub calendar: Option<bool>,
    /// Writes an absence into the calendar, in place of the one before: from when until when, in milliseconds since the
    /// Unix epoch.
    pub absence: Option<(i64, i64)>,
    /// Sets the last activity, in milliseconds since the Unix epoch; a negative number means never.
    pub last_active: Option<i64>,
    /// Hides or shows the status.
    pub hidden: Option<bool>,
    /// Makes the person one who never signed in, or one who did.
    pub pending: Option<bool>,
}

/// There is nobody of that name.
#[derive(Debug, thiserror::Error)]
#[error("there is nobody called `{0}`")]
pub struct Nobody(pub String);

type Watcher = Box<dyn Fn(&Person) + Send + Sync>;

/// The living roster: what both stand-ins look people up in.
#[derive(Default)]
pub struct People {
    inner: Mutex<Inner>,
    watchers: Mutex<Vec<Watcher>>,
}

#[derive(Default)]
struct Inner {
    people: Vec<Person>,
    by_name: BTreeMap<String, usize>,
    by_id: BTreeMap<String, usize>,
    by_mail: BTreeMap<String, usize>,
    by_jid: BTreeMap<String, usize>,
}

impl People {
    /// A living roster of these people.
    #[must_use]
    pub fn new(people: Vec<Person>) -> Self {
        let mut inner = Inner::default();
        for (index, person) in people.iter().enumerate() {
            inner.by_name.insert(person.name.clone(), index);
            inner.by_id.insert(person.person_id.clone(), index);
            inner.by_mail.insert(person.mail.to_ascii_lowercase(), index);
            if !person.jid.is_empty() {
                inner.by_jid.insert(person.jid.clone(), index);
            }
        }
        inner.people = people;
        Self { inner: Mutex::new(inner), watchers: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, index: impl FnOnce(&Inner) -> Option<usize>) -> Option<Person> {
        let inner = self.inner();
        index(&inner).and_then(|index| inner.people.get(index).cloned())
    }

    /// Everybody, the bot last.
    #[must_use]
    pub fn all(&self) -> Vec<Person> {
        self.inner().people.clone()
    }

    /// The person with a short name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<Person> {
        self.find(|inner| inner.by_name.get(name).copied())
    }

    /// The person with a Webex id.
    #[must_use]
    pub fn by_id(&self, person_id: &str) -> Option<Person> {
        self.find(|inner| inner.by_id.get(person_id).copied())
    }

    /// The person with a mail address, in any case.
    #[must_use]
    pub fn by_mail(&self, mail: &str) -> Option<Person> {
        self.find(|inner| inner.by_mail.get(&mail.to_ascii_lowercase()).copied())
    }

    /// The person with a bare JID.
    #[must_use]
    pub fn by_jid(&self, jid: &str) -> Option<Person> {
        self.find(|inner| inner.by_jid.get(jid).copied())
    }

    /// Changes a person and tells who watches.
    ///
    /// # Errors
    /// When there is nobody of that name.
    pub fn change(&self, change: &Change) -> Result<(), Nobody> {
        self.update(&change.name, |person| {
            if let Some(enabled) = change.enabled {
                person.enabled = enabled;
            }
            if let Some(status) = &change.status {
                person.status = Some(status.clone()).filter(|status| !status.is_empty());
            }
            if let Some(calendar) = change.calendar {
                person.calendar = calendar;
            }
            if let Some((from, until)) = change.absence {
                person.absence = Some((Time(from), Time(until)));
            }
            if let Some(ms) = change.last_active {
                person.last_active = (ms >= 0).then_some(Time(ms));
            }
            if let Some(hidden) = change.hidden {
                person.hidden = hidden;
            }
            if let Some(pending) = change.pending {
                person.pending = pending;
            }
        })
    }

    /// Changes a person by a function and tells who watches.
    ///
    /// # Errors
    /// When there is nobody of that name.
    pub fn update(&self, name: &str, change: impl FnOnce(&mut Person)) -> Result<(), Nobody> {
        let changed = {
            let mut inner = self.inner();
            let index = *inner.by_name.get(name).ok_or_else(|| Nobody(name.to_owned()))?;
            let person = &mut inner.people[index];
            change(person);
            person.clone()
        };
        for watcher in self.watchers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            watcher(&changed);
        }
        Ok(())
    }

    /// Calls `watcher` with each person that changes from now on. It must not change anybody itself.
    pub fn watch(&self, watcher: impl Fn(&Person) + Send + Sync + 'static) {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(watcher));
    }
}

impl std::fmt::Debug for People {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("People").field("count", &self.inner().people.len()).finish_non_exhaustive()
    }
}

/// What a person can do besides writing, as `POST /act` names it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Marks everything up to the message `id` as read.
    Read,
    /// Begins to type to `to`.
    Typing,
    /// Stops typing to `to`.
    Paused,
    /// Replaces the message `id` by `text`.
    Edit,
    /// Writes `text` in the conversation of the message `id`.
    Reply,
    /// Deletes the message `id`.
    Delete,
    /// Sends a file called `name` with the content `base64` to `to`.
    File,
    /// Adds `to` to the group chat `id`, which is made if there is none: `#NAME` ad hoc, `##NAME` persistent (Jabber).
    Invite,
    /// Signs the client in.
    Online,
    /// Signs the client out.
    Offline,
    /// Sets the status `text`, in the words of that client.
    Status,
    /// Looks at which options the chat with `to` has (Jabber).
    Options,
    /// Looks at the status of `to` from now on (Webex; in Jabber who is in the roster is looked at anyway).
    Follow,
}

/// One thing that a person does, as `POST /act` takes it.
#[derive(Clone, Debug, Deserialize)]
pub struct Act {
    /// What.
    pub what: What,
    /// The message it concerns; for what goes to a person, that person's name does as well.
    #[serde(default)]
    pub id: String,
    /// The short name of the person it goes to, where it goes to one.
    #[serde(default)]
    pub to: Option<String>,
    /// The new text or the status.
    #[serde(default)]
    pub text: String,
    /// The file's name.
    #[serde(default)]
    pub name: String,
    /// The file's content, in base64.
    #[serde(default)]
    pub base64: String,
}

impl Act {
    /// An act without particulars.
    #[must_use]
    pub fn new(what: What) -> Self {
        Self {
            what,
            id: String::new(),
            to: None,
            text: String::new(),
            name: String::new(),
            base64: String::new(),
        }
    }

    /// The person that the act goes to: `to`, else what stands in `id`.
    #[must_use]
    pub fn recipient(&self) -> &str {
        self.to.as_deref().unwrap_or(&self.id)
    }
}

/// Why a person could not do something.
#[derive(Debug, thiserror::Error)]
pub enum PuppetError {
    /// The client is signed out.
    #[error("{0} is signed out")]
    Offline(Client),
    /// There is nobody of that name.
    #[error(transparent)]
    Nobody(#[from] Nobody),
    /// The client never saw that message.
    #[error("this client has no message `{0}`")]
    UnknownMessage(String),
    /// This client cannot do that.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The other side refused or did not answer.
    #[error("{0}")]
    Failed(String),
}

/// A client that acts for a person: it speaks the real protocol over its own connection and records in
/// [`crate::seen::Seen`] what that connection brought.
pub trait Puppet: Send + Sync {
    /// Writes `text` to the person called `to`, and answers the id of the message.
    fn say<'a>(&'a self, to: &'a str, text: &'a str) -> BoxFuture<'a, Result<String, PuppetError>>;

    /// Does something else.
    fn act<'a>(&'a self, act: &'a Act) -> BoxFuture<'a, Result<(), PuppetError>>;
}

/// All puppets, by client. One that was not asked for yet is made and signed in when it is first needed.
#[derive(Default)]
pub struct Puppets(Mutex<BTreeMap<Client, Arc<dyn Puppet>>>);

impl Puppets {
    fn inner(&self) -> MutexGuard<'_, BTreeMap<Client, Arc<dyn Puppet>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one.
    pub fn add(&self, name: &str, app: App, puppet: Arc<dyn Puppet>) {
        self.inner().insert(Client::new(name, app), puppet);
    }

    /// The puppet of a client.
    ///
    /// # Errors
    /// When no such person has that client.
    pub fn get(&self, client: &Client) -> Result<Arc<dyn Puppet>, Nobody> {
        self.inner().get(client).cloned().ok_or_else(|| Nobody(client.to_string()))
    }
}

impl std::fmt::Debug for Puppets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.inner().keys().map(ToString::to_string)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roster_is_the_contracts() {
        let people = People::new(roster(2, Time(1)));
        let enabled: Vec<_> = people.all().into_iter().filter(|p| p.enabled).map(|p| p.name).collect();
        assert_eq!(enabled, ["alice", "bob", "erin", "gina", "u00001", "u00002"]);
        assert_eq!(people.by_mail("A.Liddell@corp.example").unwrap().jid, "alice@lab.example");
        assert_eq!(people.by_jid("erin@lab2.example").unwrap().name, "erin");
        assert!(people.by_name("frank").unwrap().pending);
        assert_ne!(people.by_name("heidi").unwrap().org_id, ORG_ID);
        assert!(people.by_jid("").is_none(), "the bot is not in Jabber");
        let ids: std::collections::BTreeSet<_> = people.all().into_iter().map(|p| p.person_id).collect();
        assert_eq!(ids.len(), people.all().len());
    }

    #[test]
    fn a_change_touches_only_what_it_names_and_is_told() {
        let people = People::new(roster(0, Time(1)));
        let told = Arc::new(Mutex::new(Vec::new()));
        people.watch({
            let told = Arc::clone(&told);
            move |person| told.lock().unwrap().push((person.name.clone(), person.status.clone()))
        });
        people
            .change(&serde_json::from_str(r#"{"name":"bob","status":"dnd","last_active":-1}"#).unwrap())
            .unwrap();
        let bob = people.by_name("bob").unwrap();
        assert_eq!((bob.status.as_deref(), bob.last_active, bob.enabled), (Some("dnd"), None, true));
        assert_eq!(*told.lock().unwrap(), [("bob".to_owned(), Some("dnd".to_owned()))]);
        assert!(people.change(&Change { name: "zoe".into(), ..Change::default() }).is_err());
    }
}
