//! `connector users`: people allow the connector to act as them, by the device authorization grant (RFC 8628).
//!
//! The store has one process, so what a person has allowed travels to it in a sealed letter beside the store. A
//! connector that runs reads it at once, one that does not when it starts; the command waits for the word.

use std::path::{Path, PathBuf};
use std::time::Duration;

use connector_edges::probe::causes;
use connector_edges::webex::{Cloud, CloudError, Enrolling, enrolled};
use connector_edges::webex_api::auth::device_grant::{Authorization, Authorize, Poll, Polled};
use connector_edges::webex_api::auth::{AccessToken, Tokens};
use connector_edges::webex_api::people::Me;
use connector_edges::webex_api::{self, ApiError};
use router::ids::PersonId;
use serde::{Deserialize, Serialize};
use store::{Look, OpenError, StoreKey, letter};
use tokio::time::{Instant, sleep};

use crate::app::report;
use crate::config::{self, Config, TokenSource};
use crate::wiring::{self, Ground, Parts};
use crate::{Settings, admin};

/// What is done about who is enrolled.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Let a person allow the connector to act as them: prints an address and a code, and waits until the person has
    /// typed the code in.
    Enroll {
        /// The person's mail address in Webex.
        address: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// List who is enrolled.
    List {
        #[command(flatten)]
        settings: Settings,
    },
    /// Take a person's enrolment back: the connector acts as them no more.
    Remove {
        /// The mail address that was enrolled, or the person's id.
        person: String,
        #[command(flatten)]
        settings: Settings,
    },
}

/// What the letter says.
#[derive(Deserialize, Serialize)]
struct Letter {
    person: String,
    mail: String,
    /// `None`: the enrolment is taken back.
    refresh: Option<String>,
}

/// What messages need.
const SCOPES: &str = "spark:all spark:kms";
/// How often a connector looks for letters.
const LOOK: Duration = Duration::from_secs(1);
/// How long a command waits for the connector that runs to read its letter.
const READING: Duration = Duration::from_secs(20);

/// Carries a command out, and prints what came of it.
///
/// # Errors
/// What is wrong, and what to do.
pub(crate) async fn run(command: Command) -> Result<(), String> {
    let (Command::Enroll { settings, .. } | Command::List { settings } | Command::Remove { settings, .. }) =
        &command;
    let path = &settings.config;
    let config = config::load(path).map_err(|mistakes| report(path, &mistakes))?;
    if config.webex.token_source != TokenSource::User {
        return Err(format!(
            "{}: nobody enrols unless webex.token_source is \"user\": set it so first",
            path.display()
        ));
    }
    match command {
        Command::Enroll { address, .. } => enroll(&config, &address).await,
        Command::List { .. } => {
            let people = list(&config).await?;
            for Person { person, mail } in &people {
                println!("{person}  {mail}");
            }
            println!("{} enrolled", people.len());
            Ok(())
        }
        Command::Remove { person, .. } => remove(&config, &person).await,
    }
}

async fn enroll(config: &Config, address: &str) -> Result<(), String> {
    let cloud = Parts::new(config, Ground::real(config))?.cloud;
    let asked = Authorize { client_id: config.webex.client_id.clone(), scope: SCOPES.to_owned() };
    let grant = cloud.send(asked, None).await.map_err(|error| refused(&error))?;
    let minutes = grant.expires_in.as_secs().div_ceil(60);
    println!("{address} must open   {}", grant.verification_uri);
    println!("and type in the code  {}", grant.user_code);
    if let Some(complete) = &grant.verification_uri_complete {
        println!("or open               {complete}");
    }
    println!("within {minutes} minutes. Waiting …");
    let tokens = allowed(&cloud, config, &grant).await?;
    let person = whose(&cloud, &tokens.access_token, address, config).await?;
    let refresh = tokens.refresh_token.ok_or(
        "the cloud gave no refresh token: has the integration the scopes spark:all and spark:kms? Nothing was stored",
    )?;
    let refresh = Some(refresh.expose().to_owned());
    let letter = Letter { person: person.as_str().to_owned(), mail: address.to_owned(), refresh };
    let read = send(config, &letter).await?;
    println!("{address} is enrolled{read}");
    Ok(())
}

/// Asks until the person has typed the code in.
async fn allowed(cloud: &Cloud, config: &Config, grant: &Authorization) -> Result<Tokens, String> {
    let end = Instant::now() + grant.expires_in;
    // A little slower than asked for: a question that comes too soon is refused.
    let mut pause = grant.interval + Duration::from_secs(1);
    let too_late = || "nobody typed the code in while it lived: start again".to_owned();
    while Instant::now() < end {
        sleep(pause).await;
        let poll = Poll { client: wiring::oauth_client(config), device_code: grant.device_code.clone() };
        match cloud.send(poll, None).await {
            Ok(Polled::Granted(tokens)) => return Ok(tokens),
            Ok(Polled::Pending) => {}
            Ok(Polled::SlowDown) => pause += Duration::from_secs(5),
            Err(CloudError::Limited { after, .. }) => sleep(after).await,
            Err(CloudError::Api(ApiError::Status(error))) => match error.message.as_str() {
                "access_denied" => return Err("the person declined: nothing was stored".into()),
                "expired_token" => return Err(too_late()),
                _ => return Err(refused(&CloudError::Api(ApiError::Status(error)))),
            },
            // The code still lives: the next question may be answered.
            Err(error) => eprintln!("the cloud does not answer, asking again: {}", causes(&error)),
        }
    }
    Err(too_late())
}

/// Makes sure that it was the right person who typed the code in.
async fn whose(
    cloud: &Cloud,
    token: &AccessToken,
    address: &str,
    config: &Config,
) -> Result<PersonId, String> {
    let me = cloud.send(Me, Some(token)).await.map_err(|error| {
        format!("the code was accepted, but the cloud does not say for whom: {}; start again", causes(&error))
    })?;
    if !me.emails.iter().any(|mail| mail.eq_ignore_ascii_case(address)) {
        let who = me.emails.first().map_or("somebody without an address", String::as_str);
        return Err(format!(
            "the code was typed in by {who}, not by {address}: nothing was stored. {address} must sign in there first"
        ));
    }
    if me.org_id.as_ref().is_none_or(|org| org.as_str() != config.organization.id) {
        return Err(format!(
            "{address} is of another organization than organization.id says: nothing was stored, and such a person is never served"
        ));
    }
    Ok(PersonId::new(me.id.as_str()))
}

fn refused(error: &CloudError) -> String {
    let said = causes(error);
    match error.api().and_then(ApiError::status).map(|status| status.as_u16()) {
        Some(400 | 401 | 403) => format!(
            "the cloud refuses the integration: {said}; compare webex.client_id and webex.client_secret_file with its \
             page among your integrations, its scopes with \"{SCOPES}\", and add the redirect addresses that the device \
             grant wants (docs/operations.md)"
        ),
        _ => format!("the cloud cannot be asked: {said}; `connector check` says more"),
    }
}

async fn remove(config: &Config, person: &str) -> Result<(), String> {
    let people = list(config).await?;
    let found = people.iter().find(|one| one.mail.eq_ignore_ascii_case(person) || one.person == person);
    let Some(found) = found else {
        return Err(format!("{person} is not enrolled; `connector users list` shows who is"));
    };
    let letter = Letter { person: found.person.clone(), mail: found.mail.clone(), refresh: None };
    let read = send(config, &letter).await?;
    println!("{person} is not enrolled any more{read}");
    Ok(())
}

/// One line of the list.
#[derive(Deserialize)]
struct Person {
    person: String,
    mail: String,
}

/// Who is enrolled: from the connector that runs, else from the store.
async fn list(config: &Config) -> Result<Vec<Person>, String> {
    match Look::at(&config.store.path, &wiring::store_key(config)) {
        Ok(None) => Ok(Vec::new()),
        Ok(Some(look)) => {
            let kept = look.kept().map_err(|error| causes(&error))?;
            let people = enrolled(kept.iter().map(|(key, value)| (&**key, &**value)));
            Ok(people.into_iter().map(|one| Person { person: one.person, mail: one.mail }).collect())
        }
        Err(OpenError::Locked { .. }) => admin::ask(config.status, "/users").await.and_then(|answer| {
            serde_json::from_slice(&answer).map_err(|error| {
                format!("what answers at status.listen is not the connector that runs: {error}")
            })
        }),
        Err(error) => Err(causes(&error)),
    }
}

/// Lays the letter down, waits for it to be read if a connector runs, and says which it was.
async fn send(config: &Config, letter: &Letter) -> Result<&'static str, String> {
    let (store, key) = (&config.store.path, wiring::store_key(config));
    // The folder must be there: a first enrolment may come before the first start.
    let name = format!("{:015}-{}", wiring::now().0, letter.person);
    let content = serde_json::to_vec(letter).map_err(|error| error.to_string())?;
    let path = letter::lay_down(store, &key, &name, &content).map_err(|error| {
        format!(
            "beside {}: nothing can be stored: {error}; run this as the connector's user",
            store.display()
        )
    })?;
    if !matches!(Look::at(store, &key), Err(OpenError::Locked { .. })) {
        return Ok("; the connector does not run, and reads it when it starts");
    }
    let until = Instant::now() + READING;
    while Instant::now() < until {
        if !path.exists() {
            return Ok("; the connector that runs has taken it in");
        }
        sleep(LOOK / 10).await;
    }
    Err(format!(
        "{} is stored, but the connector that runs did not read it: see its log, or start it again",
        path.display()
    ))
}

/// Reads letters as long as the connector runs. What was read twice changes nothing the second time.
pub(crate) async fn take_letters(store: PathBuf, key: StoreKey, enrolling: Enrolling) {
    if enrolling.enrolled().is_none() {
        return;
    }
    loop {
        match letter::waiting(&store) {
            Ok(letters) => {
                for path in letters {
                    take(&path, &key, &enrolling).await;
                }
            }
            Err(error) => tracing::warn!(%error, "letters beside the store cannot be read"),
        }
        sleep(LOOK).await;
    }
}

async fn take(path: &Path, key: &StoreKey, enrolling: &Enrolling) {
    let letter = letter::open(path, key).map_err(|error| error.to_string()).and_then(|content| {
        let content = content.ok_or("it was sealed under another key, or changed")?;
        serde_json::from_slice::<Letter>(&content).map_err(|error| error.to_string())
    });
    let done = match letter {
        Ok(Letter { person, mail, refresh }) => {
            let person = PersonId::new(person);
            let enrols = refresh.is_some();
            if !enrolling.bring(&person, &mail, refresh.map(webex_api::auth::Secret::from)).await {
                return;
            }
            tracing::info!(%person, enrols, "enrolment taken in");
            letter::remove(path)
        }
        Err(error) => {
            tracing::error!(letter = %path.display(), error, "a letter cannot be read; it is put aside");
            let aside = path.file_name().map(|name| {
                let mut aside = std::ffi::OsString::from(".unreadable-");
                aside.push(name);
                path.with_file_name(aside)
            });
            aside.map_or(Ok(()), |aside| std::fs::rename(path, aside))
        }
    };
    if let Err(error) = done {
        tracing::warn!(letter = %path.display(), %error, "a letter cannot be removed");
    }
}
