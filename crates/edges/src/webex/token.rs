//! Acting as a Webex user: where access tokens come from, and how long they are used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use router::ids::PersonId;
use tokio::time::Instant;
use webex_api::auth::{AccessToken, Client, Grant, Secret, TokenRequest, Tokens as Answer};
use webex_api::client::{BoxFuture, Http};
use webex_api::{ApiError, Fate, Url};

/// By what right we act as people.
#[derive(Clone, Debug)]
pub enum TokenConfig {
    /// A machine account of the organization exchanges its token for the person's (RFC 8693). The form of
    /// this exchange is the lab's; how a real cloud wants it is not known.
    Organization {
        /// The OAuth client.
        client: Client,
        /// The machine account's token.
        machine: AccessToken,
    },
    /// Each person has enrolled with a refresh token of their own.
    User {
        /// The OAuth client.
        client: Client,
        /// The refresh token that each person enrolled with.
        enrolled: BTreeMap<PersonId, Secret>,
    },
    /// We act as nobody: a bot relays.
    Relay,
}

/// Why there is no token for a person.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The person never enrolled: there will be none.
    #[error("nobody enrolled as this person")]
    NotEnrolled,
    /// The token endpoint refused.
    #[error("token refused")]
    Refused(#[source] ApiError),
    /// The token endpoint did not answer, or asks us to wait.
    #[error("token endpoint does not answer")]
    Unavailable(#[source] ApiError),
}

/// Gives tokens for people. One module knows how, since no two clouds agree on it.
pub trait TokenSource: std::fmt::Debug + Send + Sync {
    /// Whether a token for this person can be had at all.
    fn covers(&self, person: &PersonId) -> bool;

    /// Asks for a new token.
    fn request<'a>(
        &'a self,
        person: &'a PersonId,
        http: &'a Http,
        idbroker: &'a Url,
    ) -> BoxFuture<'a, Result<Answer, TokenError>>;
}

/// The organization form: one machine account for everybody.
#[derive(Debug)]
struct Exchange {
    client: Client,
    machine: AccessToken,
}

/// The user form: everybody's own refresh token, replaced by what each refresh gives.
#[derive(Debug)]
struct Enrolled {
    client: Client,
    tokens: Mutex<BTreeMap<PersonId, Secret>>,
}

/// The relay form: nobody's.
#[derive(Debug)]
struct Nobody;

impl TokenSource for Nobody {
    fn covers(&self, _person: &PersonId) -> bool {
        false
    }

    fn request<'a>(
        &'a self,
        _person: &'a PersonId,
        _http: &'a Http,
        _idbroker: &'a Url,
    ) -> BoxFuture<'a, Result<Answer, TokenError>> {
        Box::pin(async { Err(TokenError::NotEnrolled) })
    }
}

async fn ask(http: &Http, idbroker: &Url, client: &Client, grant: Grant) -> Result<Answer, TokenError> {
    let request = TokenRequest { client: client.clone(), grant };
    match http.send(request, idbroker, None).await {
        Ok(answer) => Ok(answer.value),
        Err(error) => Err(match error.fate() {
            Fate::Refused | Fate::NewToken | Fate::NewKey => TokenError::Refused(error),
            Fate::Later(_) | Fate::Unanswered => TokenError::Unavailable(error),
        }),
    }
}

impl TokenSource for Exchange {
    fn covers(&self, _person: &PersonId) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        person: &'a PersonId,
        http: &'a Http,
        idbroker: &'a Url,
    ) -> BoxFuture<'a, Result<Answer, TokenError>> {
        Box::pin(async move {
            let Ok(subject) = person.as_str().parse() else { return Err(TokenError::NotEnrolled) };
            let grant = Grant::Exchange { subject, actor: self.machine.clone() };
            ask(http, idbroker, &self.client, grant).await
        })
    }
}

impl Enrolled {
    fn tokens(&self) -> std::sync::MutexGuard<'_, BTreeMap<PersonId, Secret>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenSource for Enrolled {
    fn covers(&self, person: &PersonId) -> bool {
        self.tokens().contains_key(person)
    }

    fn request<'a>(
        &'a self,
        person: &'a PersonId,
        http: &'a Http,
        idbroker: &'a Url,
    ) -> BoxFuture<'a, Result<Answer, TokenError>> {
        Box::pin(async move {
            let refresh = self.tokens().get(person).cloned().ok_or(TokenError::NotEnrolled)?;
            let answer = ask(http, idbroker, &self.client, Grant::Refresh(refresh)).await?;
            if let Some(next) = &answer.refresh_token {
                self.tokens().insert(person.clone(), next.clone());
            }
            Ok(answer)
        })
    }
}

/// Everybody's access tokens, renewed ahead of their end.
#[derive(Debug)]
pub struct Tokens {
    source: Box<dyn TokenSource>,
    /// Tokens that do not come from the source: the bot's.
    own: Mutex<BTreeMap<PersonId, AccessToken>>,
    held: Mutex<BTreeMap<PersonId, Arc<tokio::sync::Mutex<Option<Held>>>>>,
}

#[derive(Debug)]
struct Held {
    token: AccessToken,
    renew_at: Instant,
}

/// A token is renewed this long before its end, or at half its life if that is later.
const AHEAD: Duration = Duration::from_secs(10 * 60);

impl Tokens {
    /// None yet, from this source.
    #[must_use]
    pub fn new(config: TokenConfig) -> Self {
        let source: Box<dyn TokenSource> = match config {
            TokenConfig::Organization { client, machine } => Box::new(Exchange { client, machine }),
            TokenConfig::User { client, enrolled } => {
                Box::new(Enrolled { client, tokens: Mutex::new(enrolled) })
            }
            TokenConfig::Relay => Box::new(Nobody),
        };
        Self { source, own: Mutex::default(), held: Mutex::default() }
    }

    /// Whether a token for this person can be had at all.
    #[must_use]
    pub fn covers(&self, person: &PersonId) -> bool {
        self.source.covers(person)
    }

    /// A token for this person, from memory or new. Those who ask at the same time share one request.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get(
        &self,
        person: &PersonId,
        http: &Http,
        idbroker: &Url,
    ) -> Result<AccessToken, TokenError> {
        if let Some(own) = self.own.lock().unwrap_or_else(PoisonError::into_inner).get(person) {
            return Ok(own.clone());
        }
        let held = self.slot(person);
        let mut held = held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| Instant::now() < held.renew_at) {
            return Ok(held.token.clone());
        }
        let answer = self.source.request(person, http, idbroker).await?;
        let life = answer.expires_in;
        let renew_at = Instant::now() + life.saturating_sub(AHEAD).max(life / 2);
        *held = Some(Held { token: answer.access_token.clone(), renew_at });
        Ok(answer.access_token)
    }

    /// From now on this is the person's token, whatever the source says.
    pub fn adopt(&self, person: &PersonId, token: AccessToken) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).insert(person.clone(), token);
    }

    /// The cloud did not accept this token: the next one asked for is new.
    pub async fn rejected(&self, person: &PersonId, token: &AccessToken) {
        let held = self.slot(person);
        let mut held = held.lock().await;
        if held.as_ref().is_some_and(|held| held.token == *token) {
            *held = None;
        }
    }

    fn slot(&self, person: &PersonId) -> Arc<tokio::sync::Mutex<Option<Held>>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(held.entry(person.clone()).or_default())
    }
}
