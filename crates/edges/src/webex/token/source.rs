//! By what right we act as people: each form of it is a source of tokens.

use std::sync::Arc;

use router::ids::PersonId;
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
        /// Refresh tokens that were brought as a list; those that the store knows of already count no more.
        listed: Vec<(PersonId, Secret)>,
    },
    /// We act as nobody: a bot relays.
    Relay,
}

/// Why there is no token for a person.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// The person never enrolled: there will be none.
    #[error("nobody enrolled as this person")]
    NotEnrolled,
    /// The token endpoint refused, or the cloud does not accept what it gave.
    #[error("token refused")]
    Refused(#[source] Arc<ApiError>),
    /// The token endpoint did not answer, or asks us to wait.
    #[error("token endpoint does not answer")]
    Unavailable(#[source] Arc<ApiError>),
    /// A refresh token may be replaced by its use, so it is used only where the new one can be kept.
    #[error("there is no store to keep a new refresh token in")]
    NotKept,
}

/// Gives tokens for people. One module knows how, since no two clouds agree on it.
pub trait TokenSource: std::fmt::Debug + Send + Sync {
    /// Whether a token for this person can be had at all.
    fn covers(&self, person: &PersonId) -> bool;

    /// Asks for a new token. Once begun it is carried to its end: what the cloud gives may replace what we had.
    fn request<'a>(
        &'a self,
        person: &'a PersonId,
        http: &'a Http,
        idbroker: &'a Url,
    ) -> BoxFuture<'a, Result<Answer, TokenError>>;
}

/// The organization form: one machine account for everybody.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) client: Client,
    pub(super) machine: AccessToken,
}

/// The relay form: nobody's.
#[derive(Debug)]
pub(super) struct Nobody;

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

/// One question to the token endpoint.
pub(super) async fn ask(
    http: &Http,
    idbroker: &Url,
    client: &Client,
    grant: Grant,
) -> Result<Answer, TokenError> {
    let request = TokenRequest { client: client.clone(), grant };
    match http.send(request, idbroker, None).await {
        Ok(answer) => Ok(answer.value),
        Err(error) => Err(match error.fate() {
            Fate::Refused | Fate::NewToken | Fate::NewKey => TokenError::Refused(Arc::new(error)),
            Fate::Later(_) | Fate::Unanswered => TokenError::Unavailable(Arc::new(error)),
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
