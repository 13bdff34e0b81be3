//! Who is whom: immutable snapshots, replaced whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{JabberId, PersonId, Time};
use crate::inbound::{Facts, PersonFacts};

/// One person of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The Webex person.
    pub id: PersonId,
    /// The person's organization is ours.
    pub ours: bool,
    /// The JID, where IM and Presence knows the person.
    pub jid: Option<JabberId>,
    /// The node that homes the person, in the edges' words; empty where any node will do. `None`: another connector
    /// serves the person, so that we know and do not serve.
    #[serde(default = "anywhere")]
    pub home: Option<Box<str>>,
    /// The mail address, lower-case.
    pub mail: Box<str>,
    /// The display name.
    pub name: Box<str>,
    /// Entitled for Hybrid Message.
    pub enabled: bool,
    /// Invited to Webex and never signed in.
    pub pending: bool,
    /// We can act as this person in Webex.
    pub token: bool,
    /// Since when the person has been enabled; `None` while not. Nothing older is carried (rule 17).
    pub enabled_since: Option<Time>,
    /// Since when the JID has been this person's; `None` without a JID.
    pub jid_since: Option<Time>,
}

impl Person {
    /// Whether the connector holds a session for this person when awake: enabled, of our organization,
    /// and homed here.
    #[must_use]
    pub fn served(&self) -> bool {
        self.enabled && self.ours && self.jid.is_some() && self.home.is_some()
    }

    /// Whether another connector holds the session: enabled, of our organization, and not homed here.
    #[must_use]
    pub fn served_elsewhere(&self) -> bool {
        self.enabled && self.ours && self.jid.is_some() && self.home.is_none()
    }
}

/// What snapshots meant that were written before homes were told.
#[allow(clippy::unnecessary_wraps, reason = "it is the value of a field")]
fn anywhere() -> Option<Box<str>> {
    Some("".into())
}

/// A snapshot of everybody, looked up by any of the three names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    people: BTreeMap<PersonId, Arc<Person>>,
    by_jid: BTreeMap<JabberId, PersonId>,
    by_mail: BTreeMap<Box<str>, PersonId>,
    complete: bool,
}

/// Why a stored directory could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the stored directory is not readable")]
pub struct DirectoryError(#[from] serde_json::Error);

impl Directory {
    /// The person by this id.
    #[must_use]
    pub fn by_person(&self, id: &PersonId) -> Option<&Arc<Person>> {
        self.people.get(id)
    }

    /// The person with this bare JID.
    #[must_use]
    pub fn by_jid(&self, jid: &JabberId) -> Option<&Arc<Person>> {
        self.people.get(self.by_jid.get(jid)?)
    }

    /// The person with this mail address, in lower case.
    #[must_use]
    pub fn by_mail(&self, mail: &str) -> Option<&Arc<Person>> {
        self.people.get(self.by_mail.get(mail)?)
    }

    /// Everybody, in order of their ids.
    pub fn people(&self) -> impl Iterator<Item = &Arc<Person>> {
        self.people.values()
    }

    /// Whether everybody has been read at least once: nothing is judged before (rule 16).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The next snapshot: this one with `facts` read at `now`.
    ///
    /// A person who is merely missing stays as known. Only a complete read disables anybody, and only one who
    /// is named in it (rule 16). Whoever becomes enabled is so since `since` (rule 17).
    #[must_use]
    pub fn with(&self, facts: &Facts, now: Time, since: Time) -> Self {
        let mut people = self.people.clone();
        for read in &facts.people {
            let known = people.get(&read.id).map(Arc::as_ref);
            let person = Arc::new(merge(known, read, facts.complete, now, since));
            people.insert(read.id.clone(), person);
        }
        // A JID has one owner: whoever was read last with it takes it over.
        let owners: BTreeMap<&JabberId, &PersonId> =
            facts.people.iter().filter_map(|p| Some((p.jid.as_ref()?, &p.id))).collect();
        for person in people.values_mut() {
            let owner = person.jid.as_ref().and_then(|jid| owners.get(jid));
            if owner.is_some_and(|owner| **owner != person.id) {
                let former = Arc::make_mut(person);
                (former.jid, former.jid_since) = (None, None);
            }
        }
        Self::indexed(people, self.complete || facts.complete)
    }

    /// The snapshot as bytes for the store.
    #[must_use]
    pub fn encode(&self) -> Box<[u8]> {
        let people: Vec<&Person> = self.people.values().map(Arc::as_ref).collect();
        serde_json::to_vec(&people).expect("a person has text keys only").into()
    }

    /// The snapshot that [`Directory::encode`] wrote. Only complete ones are stored.
    ///
    /// # Errors
    /// The bytes are not what `encode` writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DirectoryError> {
        let people: Vec<Person> = serde_json::from_slice(bytes)?;
        Ok(Self::indexed(people.into_iter().map(|p| (p.id.clone(), Arc::new(p))).collect(), true))
    }

    fn indexed(people: BTreeMap<PersonId, Arc<Person>>, complete: bool) -> Self {
        let by_jid = people.values().filter_map(|p| Some((p.jid.clone()?, p.id.clone()))).collect();
        let by_mail = people.values().map(|p| (p.mail.clone(), p.id.clone())).collect();
        Self { people, by_jid, by_mail, complete }
    }
}

fn merge(known: Option<&Person>, read: &PersonFacts, complete: bool, now: Time, since: Time) -> Person {
    let was_enabled = known.is_some_and(|p| p.enabled);
    let enabled = read.enabled || (was_enabled && !complete);
    let enabled_since = match known.and_then(|p| p.enabled_since) {
        _ if !enabled => None,
        Some(earlier) => Some(earlier),
        None => Some(since),
    };
    let jid_since = match known {
        _ if read.jid.is_none() => None,
        Some(p) if p.jid == read.jid => p.jid_since,
        // A new store does not know how long a JID has been whose; a change of owner it sees.
        None => Some(since),
        Some(_) => Some(now),
    };
    Person {
        id: read.id.clone(),
        ours: read.ours,
        jid: read.jid.clone(),
        home: read.home.clone(),
        mail: read.mail.clone(),
        name: read.name.clone(),
        enabled,
        pending: read.pending,
        token: read.token,
        enabled_since,
        jid_since,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(id: &str, jid: Option<&str>, enabled: bool) -> PersonFacts {
        PersonFacts {
            id: PersonId::new(id),
            ours: true,
            jid: jid.map(JabberId::new),
            home: Some("".into()),
            mail: format!("{id}@corp.example").into(),
            name: id.into(),
            enabled,
            pending: false,
            token: true,
        }
    }

    fn read(people: Vec<PersonFacts>, complete: bool) -> Facts {
        Facts { people, complete }
    }

    #[test]
    fn only_an_explicit_fact_in_a_complete_read_disables() {
        let ann = PersonId::new("ann");
        let first =
            Directory::default().with(&read(vec![facts("ann", Some("ann@x"), true)], true), Time(5), Time(5));
        assert!(first.by_person(&ann).unwrap().served());
        let partial = first.with(&read(vec![facts("ann", Some("ann@x"), false)], false), Time(6), Time(6));
        assert!(partial.by_person(&ann).unwrap().enabled);
        let missing = first.with(&read(vec![], true), Time(6), Time(6));
        assert!(missing.by_person(&ann).unwrap().enabled);
        let disabled = first.with(&read(vec![facts("ann", Some("ann@x"), false)], true), Time(6), Time(6));
        assert!(!disabled.by_person(&ann).unwrap().enabled);
        assert_eq!(disabled.by_person(&ann).unwrap().enabled_since, None);
    }

    #[test]
    fn since_when_is_kept_until_it_changes() {
        let first =
            Directory::default().with(&read(vec![facts("ann", Some("ann@x"), true)], true), Time(5), Time(3));
        let later = first.with(
            &read(vec![facts("ann", Some("annie@x"), true), facts("bob", Some("ann@x"), true)], true),
            Time(9),
            Time(9),
        );
        let ann = later.by_person(&PersonId::new("ann")).unwrap();
        assert_eq!((ann.enabled_since, ann.jid_since), (Some(Time(3)), Some(Time(9))));
        assert_eq!(later.by_jid(&JabberId::new("ann@x")).unwrap().id, PersonId::new("bob"));
    }

    #[test]
    fn a_jid_that_moves_leaves_its_former_owner() {
        let first =
            Directory::default().with(&read(vec![facts("ann", Some("a@x"), true)], true), Time(1), Time(1));
        let later = first.with(&read(vec![facts("bob", Some("a@x"), true)], true), Time(2), Time(2));
        assert_eq!(later.by_person(&PersonId::new("ann")).unwrap().jid, None);
        assert_eq!(later.by_jid(&JabberId::new("a@x")).unwrap().id, PersonId::new("bob"));
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let directory = Directory::default().with(
            &read(vec![facts("ann", Some("ann@x"), true), facts("hal", None, false)], true),
            Time(5),
            Time(5),
        );
        assert_eq!(Directory::decode(&directory.encode()).unwrap(), directory);
        assert_eq!(directory.by_mail("hal@corp.example").unwrap().jid, None);
        assert!(Directory::decode(b"{").is_err());
    }
}
