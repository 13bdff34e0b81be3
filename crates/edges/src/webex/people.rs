//! Who is whom: people of the cloud with their licences, joined with the JIDs that IM and Presence knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use router::directory::Directory;
use router::ids::JabberId;
use router::inbound::{Facts, Inbound, PersonFacts};
use tokio::time::Instant;
use webex_api::auth::AccessToken;
use webex_api::client::BoxFuture;
use webex_api::people::{List, Lookup, Person};
use webex_api::{OrgId, PersonId};

use super::Side;
use super::http::{Cloud, CloudError};
use super::intake::person;
use crate::probe::causes;

/// Why JIDs could not be read, in the reader's words.
pub type JidsError = Box<dyn std::error::Error + Send + Sync>;

/// An account on IM and Presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The bare JID, prepared and in lower case.
    pub jid: JabberId,
    /// The node that homes it, in this crate's words; `None`: another cluster does, so it is known and not served.
    pub home: Option<Box<str>>,
}

/// Reads the accounts that IM and Presence knows.
pub trait Jids: fmt::Debug + Send + Sync {
    /// Accounts by mail address in lower case.
    fn read(&self) -> BoxFuture<'_, Result<BTreeMap<String, Account>, JidsError>>;

    /// Waits until something may have changed since the last reading; for ever where nobody tells.
    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// Which people are whose: the users of another group are known, and served by the connectors of that group (CAP-23).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceGroups {
    /// The group of this connector; `None`: it serves who is in no group.
    pub own: Option<Box<str>>,
    /// Groups by mail address in lower case.
    pub of: BTreeMap<String, Box<str>>,
}

impl ResourceGroups {
    fn serve(&self, mails: &[String]) -> bool {
        mails.iter().find_map(|mail| self.of.get(mail)) == self.own.as_ref()
    }
}

/// Where the directory comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Pages of the organization's people, and JIDs from IM and Presence.
    Licences {
        /// An administrator's token.
        admin: AccessToken,
        /// The licence that entitles for Hybrid Message.
        license: Box<str>,
        /// Where the JIDs are read.
        jids: Arc<dyn Jids>,
    },
    /// A table; only the person ids are asked for.
    Table {
        /// Bare JID, mail address in lower case, and whether the person is enabled.
        rows: Vec<(JabberId, String, bool)>,
        /// Any token that may look addresses up.
        token: AccessToken,
    },
}

/// How the directory is kept up to date.
#[derive(Clone, Debug)]
pub struct PeopleConfig {
    /// Where it comes from.
    pub source: Source,
    /// Our organization: nobody else is served.
    pub organization: OrgId,
    /// Who of them is served by this connector.
    pub groups: ResourceGroups,
    /// How often it is read; after a failure it is tried again sooner.
    pub refresh: Duration,
}

/// Why the directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// The cloud did not tell.
    #[error("people of the cloud cannot be read")]
    Cloud(#[from] CloudError),
    /// IM and Presence did not tell.
    #[error("JIDs cannot be read")]
    Jids(#[source] JidsError),
    /// The cloud names one more page for ever.
    #[error("the pages of people do not end")]
    Endless,
    /// Everybody would count as disabled.
    #[error("no licence of anybody is told: webex.admin_token_file needs the token of a full administrator")]
    NoLicences,
    /// Everybody would count as homed elsewhere.
    #[error(
        "no JID of anybody is told: may the AXL user read end users, and are they assigned to this cluster?"
    )]
    NoJids,
}

/// The cloud's page size for people.
const PAGE: u32 = 100;
/// More pages than this are no organization.
const MOST_PAGES: usize = 2_000;
/// Particular people in one question.
const BY_ID: usize = 85;
/// Addresses in one question.
const LOOKUPS: usize = 100;
/// A reading for the sake of a change takes at most this share of the time.
const SHARE: u32 = 10;
/// After a failure.
const AGAIN: Duration = Duration::from_secs(10);

/// Reads the directory again and again.
pub(super) async fn run(side: Arc<Side>, config: PeopleConfig) {
    loop {
        let start = Instant::now();
        let wait = match read(&side.cloud, &side.directory(), &config).await {
            Ok(people) => {
                tracing::debug!(people = people.len(), "directory read");
                let facts = Facts { people, complete: true };
                if !side.hub.take(Inbound::Directory(facts)).await {
                    return;
                }
                config.refresh
            }
            Err(error) => {
                tracing::warn!(error = causes(&error), "directory not read");
                side.scale().of(AGAIN).min(config.refresh)
            }
        };
        tokio::select! {
            biased;
            () = side.enrolled.notified() => {}
            () = changed(&config.source, start.elapsed() * SHARE) => {}
            () = tokio::time::sleep(side.generator.jittered(wait)) => {}
        }
    }
}

/// Waits until something may have changed; not before so much time has passed.
async fn changed(source: &Source, rest: Duration) {
    match source {
        Source::Licences { jids, .. } => {
            tokio::time::sleep(rest).await;
            jids.changed().await;
        }
        Source::Table { .. } => std::future::pending().await,
    }
}

/// Reads the directory once, for whoever wants to see that it can be read.
///
/// # Errors
/// Which side did not tell.
pub async fn read_people(cloud: &Cloud, config: &PeopleConfig) -> Result<Vec<PersonFacts>, PeopleError> {
    read(cloud, &Directory::default(), config).await
}

/// Everybody in the organization, for whoever wants to see their licences.
///
/// # Errors
/// The cloud did not tell.
pub async fn read_organization(cloud: &Cloud, admin: &AccessToken) -> Result<Vec<Person>, PeopleError> {
    everybody(cloud, &Directory::default(), admin).await
}

/// One complete reading.
pub(super) async fn read(
    cloud: &Cloud,
    known: &Directory,
    config: &PeopleConfig,
) -> Result<Vec<PersonFacts>, PeopleError> {
    match &config.source {
        Source::Licences { admin, license, jids } => {
            let people = everybody(cloud, known, admin).await?;
            // An account that has lost its rights is answered too, with less: that says nothing of anybody.
            if people.iter().all(|person| person.licenses.is_none()) {
                return Err(PeopleError::NoLicences);
            }
            let jids = jids.read().await.map_err(PeopleError::Jids)?;
            if jids.values().all(|account| account.home.is_none()) {
                return Err(PeopleError::NoJids);
            }
            Ok(people.iter().map(|person| join(cloud, known, person, license, &jids, config)).collect())
        }
        Source::Table { rows, token } => table(cloud, rows, token, &config.groups).await,
    }
}

/// All pages, and then by id those whom we know and who were on none: only what is said of a person
/// disables the person (rule 16).
async fn everybody(
    cloud: &Cloud,
    known: &Directory,
    admin: &AccessToken,
) -> Result<Vec<Person>, PeopleError> {
    let mut people: Vec<Person> = Vec::new();
    let mut next = Some(List::First { max: PAGE });
    let mut pages = 0;
    while let Some(question) = next.take() {
        pages += 1;
        if pages > MOST_PAGES {
            return Err(PeopleError::Endless);
        }
        let page = cloud.send(question, Some(admin)).await?;
        if page.unreadable > 0 {
            tracing::warn!(count = page.unreadable, "people that cannot be read");
        }
        people.extend(page.people);
        next = page.next.map(List::Next);
    }
    let told: BTreeSet<&PersonId> = people.iter().map(|person| &person.id).collect();
    let known = known.people().filter_map(|known| known.id.as_str().parse().ok());
    let missing: Vec<PersonId> = known.filter(|id: &PersonId| !told.contains(id)).collect();
    for some in missing.chunks(BY_ID) {
        people.extend(cloud.send(List::ById(some.to_vec()), Some(admin)).await?.people);
    }
    Ok(people)
}

fn join(
    cloud: &Cloud,
    known: &Directory,
    read: &Person,
    license: &str,
    jids: &BTreeMap<String, Account>,
    config: &PeopleConfig,
) -> PersonFacts {
    let mails: Vec<String> = read.emails.iter().map(|mail| mail.to_lowercase()).collect();
    let id = person(&read.id);
    let mail = mails.first().cloned().unwrap_or_default();
    // Of whom no licences are told, what is known holds (rule 16).
    let enabled = match &read.licenses {
        Some(held) => held.iter().any(|held| held == license),
        None => known.by_person(&id).is_some_and(|person| person.enabled),
    };
    let account = mails.iter().find_map(|mail| jids.get(mail));
    PersonFacts {
        ours: read.org_id.as_ref() == Some(&config.organization),
        jid: account.map(|account| account.jid.clone()),
        home: account.and_then(|account| account.home.clone()).filter(|_| config.groups.serve(&mails)),
        name: read.display_name.as_deref().unwrap_or(&mail).into(),
        enabled,
        pending: read.invite_pending,
        token: cloud.covers(&id),
        mail: mail.into(),
        id,
    }
}

async fn table(
    cloud: &Cloud,
    rows: &[(JabberId, String, bool)],
    token: &AccessToken,
    groups: &ResourceGroups,
) -> Result<Vec<PersonFacts>, PeopleError> {
    let mut people = Vec::new();
    for some in rows.chunks(LOOKUPS) {
        let emails = some.iter().map(|(_, mail, _)| mail.clone()).collect();
        let found = cloud.send(Lookup { emails }, Some(token)).await?;
        for (jid, mail, enabled) in some {
            let Some(id) = found.get(mail).map(person) else {
                tracing::warn!(%jid, "nobody in the cloud has this person's address");
                continue;
            };
            people.push(PersonFacts {
                ours: true,
                jid: Some(jid.clone()),
                home: groups.serve(std::slice::from_ref(mail)).then(|| "".into()),
                name: mail.split('@').next().unwrap_or(mail).into(),
                mail: mail.as_str().into(),
                enabled: *enabled,
                pending: false,
                token: cloud.covers(&id),
                id,
            });
        }
    }
    Ok(people)
}
