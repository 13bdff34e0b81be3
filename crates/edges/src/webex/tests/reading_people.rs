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
use crate::webex::{Jids, JidsError, PeopleConfig, PeopleError, Source};

#[derive(Debug)]
struct Told(BTreeMap<String, JabberId>);

impl Jids for Told {
    fn read(&self) -> BoxFuture<'_, Result<BTreeMap<String, JabberId>, JidsError>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

/// What is read of alice and bob, who have these licences, where these people have JIDs.
async fn reading(
    licences: [Value; 2],
    homed: &[&str],
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
    let sky = Sky::new(move |_, address, _| {
        if address.contains("catalog") {
            let links = json!({"conversation": BASE, "hydra": "http://cloud.example/hydra"});
            return Some((200, json!({"serviceLinks": links})));
        }
        address.contains("/people").then(|| (200, json!({"items": items})))
    });
    let jids = homed
        .iter()
        .map(|name| (format!("{name}@corp.example"), JabberId::new(format!("{name}@lab.example"))));
    let config = PeopleConfig {
        source: Source::Licences {
            admin: AccessToken::try_from("admin".to_owned()).unwrap(),
            license: "hybrid".into(),
            jids: Arc::new(Told(jids.collect())),
        },
        organization: organization(),
        refresh: Duration::from_secs(60),
    };
    read(&sky.cloud, known, &config).await
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
