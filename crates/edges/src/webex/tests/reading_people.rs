//! The directory, read from pages of people and the JIDs of IM and Presence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use router::directory::Directory;
use router::ids::{JabberId, PersonId, Time};
use router::inbound::{Facts, PersonFacts};
use serde_json::{Value, json};
use webex_api::auth::AccessToken;
use webex_api::client::BoxFuture;

use super::world::{ALICE, BASE, BOB, Sky, organization};
use crate::webex::people::read;
use crate::webex::{Account, Jids, JidsError, PeopleConfig, PeopleError, ResourceGroups, Source};

#[derive(Debug)]
struct Told(BTreeMap<String, Account>);

impl Jids for Told {
    fn read(&self) -> BoxFuture<'_, Result<BTreeMap<String, Account>, JidsError>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

/// What is read of alice and bob, who have these licences, where these people have JIDs.
async fn reading(
    licences: [Value; 2],
    homed: &[&str],
    known: &Directory,
) -> Result<Vec<PersonFacts>, PeopleError> {
    let jids = homed.iter().map(|name| (format!("{name}@corp.example"), account(name))).collect();
    reading_with(licences, jids, ResourceGroups::default(), known).await
}

/// The same where these accounts are known, and people are in these resource groups.
async fn reading_with(
    licences: [Value; 2],
    jids: BTreeMap<String, Account>,
    groups: ResourceGroups,
    known: &Directory,
) -> Result<Vec<PersonFacts>, PeopleError> {
    let person = |id: &str, name: &str, licences: &Value| {
        let mut person = json!({"id": id, "emails": [format!("{name}@corp.example")],
            "orgId": organization().as_str()});
        if !licences.is_null() {
            person["licenses"] = licences.clone();
        }
        person
    };
    let items = json!([person(ALICE, "alice", &licences[0]), person(BOB, "bob", &licences[1])]);
    let endless = licences[0] == json!(["endless"]);
    let sky = Sky::new(move |_, address, _| {
        if address.contains("catalog") {
            let links = json!({"conversation": BASE, "hydra": "http://cloud.example/hydra"});
            return Some((200, json!({"serviceLinks": links})));
        }
        let next = || json!("http://cloud.example/hydra/people?cursor=again");
        address.contains("/people").then(|| {
            let page =
                if endless { json!({"items": items, "next": next()}) } else { json!({"items": items}) };
            (200, page)
        })
    });
    let config = PeopleConfig {
        source: Source::Licences {
            admin: AccessToken::try_from("admin".to_owned()).unwrap(),
            license: "hybrid".into(),
            jids: Arc::new(Told(jids)),
        },
        organization: organization(),
        groups,
        refresh: Duration::from_secs(60),
    };
    read(&sky.cloud, known, &config).await
}

/// An account on the first node of the first cluster.
fn account(name: &str) -> Account {
    Account { jid: JabberId::new(format!("{name}@lab.example")), home: Some("0/imp1".into()) }
}

#[tokio::test(start_paused = true)]
async fn an_account_that_may_see_nothing_disables_nobody() {
    let (held, none) = (json!(["basic", "hybrid"]), json!(["basic"]));
    let both = ["alice", "bob"];
    let known = Directory::default();
    let people = reading([held.clone(), none], &both, &known).await.unwrap();
    assert_eq!(people.iter().map(|person| person.enabled).collect::<Vec<_>>(), [true, false]);

    let known = known.with(&Facts { people, complete: true }, Time(1), Time(1));
    assert!(known.by_person(&PersonId::new(ALICE)).unwrap().served());
    let people = reading([Value::Null, held.clone()], &both, &known).await.unwrap();
    assert!(people.iter().all(|person| person.enabled), "of alice nothing is said, and nothing changes");

    let error = reading([Value::Null, Value::Null], &both, &known).await.unwrap_err();
    assert!(matches!(error, PeopleError::NoLicences), "{error}");
    let error = reading([held.clone(), held], &[], &known).await.unwrap_err();
    assert!(matches!(error, PeopleError::NoJids), "{error}");
}

#[tokio::test(start_paused = true)]
async fn who_is_homed_elsewhere_or_in_another_group_is_known_and_not_served() {
    let held = || [json!(["hybrid"]), json!(["hybrid"])];
    let accounts = |bobs: Option<&str>| {
        let bob = Account { home: bobs.map(Into::into), ..account("bob") };
        BTreeMap::from([("alice@corp.example".into(), account("alice")), ("bob@corp.example".into(), bob)])
    };
    let homes = |people: Vec<PersonFacts>| -> Vec<Option<Box<str>>> {
        assert!(people.iter().all(|person| person.enabled && person.jid.is_some()));
        people.into_iter().map(|person| person.home).collect()
    };
    let known = Directory::default();
    let none = ResourceGroups::default();
    let people = reading_with(held(), accounts(None), none.clone(), &known).await.unwrap();
    assert_eq!(homes(people), [Some("0/imp1".into()), None], "bob is homed in another cluster");

    let asia = BTreeMap::from([("bob@corp.example".to_owned(), "asia".into())]);
    let outside = ResourceGroups { own: None, of: asia.clone() };
    let people = reading_with(held(), accounts(Some("0/imp1")), outside, &known).await.unwrap();
    assert_eq!(homes(people), [Some("0/imp1".into()), None], "we are in no group");
    let inside = ResourceGroups { own: Some("asia".into()), of: asia };
    let people = reading_with(held(), accounts(Some("0/imp1")), inside, &known).await.unwrap();
    assert_eq!(homes(people), [None, Some("0/imp1".into())], "we are in the group of bob");

    let everywhere =
        BTreeMap::from([("alice@corp.example".into(), Account { home: None, ..account("alice") })]);
    let error = reading_with(held(), everywhere, none, &known).await.unwrap_err();
    assert!(matches!(error, PeopleError::NoJids), "{error}");
}

#[tokio::test(start_paused = true)]
async fn pages_without_an_end_are_no_directory() {
    let held = json!(["endless"]);
    let error = reading([held.clone(), held], &["alice"], &Directory::default()).await.unwrap_err();
    assert!(matches!(error, PeopleError::Endless), "{error}");
}
