//! Access tokens: `POST {idbroker}/idb/oauth2/v1/access_token`, its grants, and what they give.

pub mod device_grant;

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::catalog::Service;
use crate::endpoint::{Context, Destination, Endpoint, read};
use crate::url::form;
use crate::{ApiError, PersonId, Url};

/// A token that is no visible ASCII and so fits into no header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("token must be visible ASCII")]
pub struct TokenError;

/// An access token; never printed, wiped when dropped.
#[derive(Clone, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct AccessToken(Zeroizing<String>);

impl AccessToken {
    /// The bare token, without the word `Bearer`.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The value of the `Authorization` header, marked as sensitive.
    pub fn to_header(&self) -> HeaderValue {
        let text = Zeroizing::new(format!("Bearer {}", self.expose()));
        let mut value = HeaderValue::from_str(&text).expect("tokens are visible ASCII");
        value.set_sensitive(true);
        value
    }
}

impl TryFrom<String> for AccessToken {
    type Error = TokenError;
    fn try_from(text: String) -> Result<Self, TokenError> {
        let text = Zeroizing::new(text);
        let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if good { Ok(Self(text)) } else { Err(TokenError) }
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken")
    }
}

/// A secret text (a refresh token, a client's secret); never printed, wiped when dropped.
#[derive(Clone, Deserialize, Eq, PartialEq)]
#[serde(from = "String")]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The OAuth client that asks (HTTP Basic, RFC 6749 §2.3.1).
#[derive(Clone, Debug)]
pub struct Client {
    /// The client's identifier.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
}

/// What the client has to show for the token it asks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Grant {
    /// A refresh token (RFC 6749 §6).
    Refresh(Secret),
    /// The client's own authority (RFC 6749 §4.4); scopes separated by spaces.
    ClientCredentials {
        /// The scopes asked for.
        scope: String,
    },
    /// A machine account's token for a token of the person it acts for (RFC 8693).
    /// `urn:lab:person` as the subject's type is the lab's own; a real cloud's is not known.
    Exchange {
        /// Whose token is asked for.
        subject: PersonId,
        /// The machine account's own token.
        actor: AccessToken,
    },
    /// A token for one that may do less (the cloud's own grant); the client's secret is not shown.
    Reduce {
        /// The token that may do more.
        token: AccessToken,
        /// The scopes that are to be left, separated by spaces.
        scope: String,
    },
}

/// Asks the token endpoint for tokens.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// Who asks.
    pub client: Client,
    /// By what right.
    pub grant: Grant,
}

/// What the token endpoint gives.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Tokens {
    /// For requests.
    pub access_token: AccessToken,
    /// How long the access token lives, from the moment of the answer.
    #[serde(deserialize_with = "seconds")]
    pub expires_in: Duration,
    /// For the next refresh; `None`: keep using the one that was sent.
    pub refresh_token: Option<Secret>,
    /// The scopes granted, separated by spaces.
    pub scope: Option<String>,
}

/// Nothing that the cloud lends lives longer; a time that is added to a moment must not leave the clock.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(|seconds| Duration::from_secs(seconds).min(LONGEST))
}

impl Endpoint for TokenRequest {
    type Response = Tokens;

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::Idbroker)
    }

    /// The context's token is not used: the client's own credentials are.
    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        let body = Zeroizing::new(match &self.grant {
            Grant::Refresh(token) => {
                form(&[("grant_type", "refresh_token"), ("refresh_token", token.expose())])
            }
            Grant::ClientCredentials { scope } => form(&[
                ("grant_type", "client_credentials"),
                ("scope", scope),
                ("self_contained_token", "true"),
            ]),
            Grant::Exchange { subject, actor } => form(&[
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                ("subject_token", subject.as_str()),
                ("subject_token_type", "urn:lab:person"),
                ("actor_token", actor.expose()),
                ("actor_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ]),
            Grant::Reduce { token, scope } => form(&[
                ("grant_type", "urn:cisco:oauth:grant-type:scope-reduction"),
                ("token", token.expose()),
                ("scope", scope),
                ("client_id", &self.client.id),
                ("self_contained_token", "true"),
            ]),
        });
        // The token that is narrowed proves enough; no client authentication goes with it.
        let client = (!matches!(self.grant, Grant::Reduce { .. })).then_some(&self.client);
        let url = context.base.join(["idb", "oauth2", "v1", "access_token"]);
        post_form(&url, client, &body, context)
    }

    fn from_http(response: Response<Bytes>) -> Result<Tokens, ApiError> {
        read(response)
    }
}

/// Basic credentials (RFC 7617 §2), marked as sensitive.
pub(crate) fn basic(user: &str, password: &str) -> HeaderValue {
    let pair = Zeroizing::new(format!("{user}:{password}"));
    let text = Zeroizing::new(format!("Basic {}", *Zeroizing::new(STANDARD.encode(&*pair))));
    let mut value = HeaderValue::from_str(&text).expect("base64 fits a header");
    value.set_sensitive(true);
    value
}

/// A form, in the client's name if one is given (HTTP Basic, RFC 6749 §2.3.1).
fn post_form(
    url: &Url,
    client: Option<&Client>,
    form: &Zeroizing<String>,
    context: &Context<'_>,
) -> Result<Request<Bytes>, ApiError> {
    let mut request = Request::post(url.as_str())
        .header(header::ACCEPT, HeaderValue::from_static("application/json"))
        .header(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
        .header("trackingid", context.tracking_id.as_str());
    if let Some(client) = client {
        // Both halves are form-encoded before they are joined.
        let (mut id, mut secret) = (String::new(), Zeroizing::new(String::new()));
        crate::url::encode(&client.id, &mut id);
        crate::url::encode(client.secret.expose(), &mut secret);
        request = request.header(header::AUTHORIZATION, basic(&id, &secret));
    }
    request.body(Bytes::copy_from_slice(form.as_bytes())).map_err(ApiError::Request)
}
