//! The device authorization grant (RFC 8628): a person allows a client on another device, by a code.
//!
//! [`Authorize`] gives the code; the client shows it, and asks with [`Poll`] until the person has typed it in.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Client, Secret, Tokens, post_form, seconds};
use crate::ApiError;
use crate::catalog::Service;
use crate::endpoint::{Context, Destination, Endpoint, read};
use crate::url::form;

/// `POST {hydra}/device/authorize`: asks for a code. Nobody's token is needed.
#[derive(Clone, Debug)]
pub struct Authorize {
    /// The client's identifier.
    pub client_id: String,
    /// The scopes asked for, separated by spaces.
    pub scope: String,
}

/// What the person has to do, and what the client asks with meanwhile (RFC 8628 §3.2).
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Authorization {
    /// For [`Poll`].
    pub device_code: Secret,
    /// What the person types in.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it; `None` where there is none.
    pub verification_uri_complete: Option<String>,
    /// How long the code lives.
    #[serde(deserialize_with = "seconds")]
    pub expires_in: Duration,
    /// The least time between two questions; 5 s where nothing is said.
    #[serde(deserialize_with = "seconds", default = "interval")]
    pub interval: Duration,
}

fn interval() -> Duration {
    Duration::from_secs(5)
}

/// `POST {hydra}/device/token`: asks whether the person has allowed it.
#[derive(Clone, Debug)]
pub struct Poll {
    /// Who asks.
    pub client: Client,
    /// From [`Authorization::device_code`].
    pub device_code: Secret,
}

/// How far the person is.
#[derive(Clone, Debug)]
pub enum Polled {
    /// It is allowed.
    Granted(Tokens),
    /// Not yet. The cloud says so with status 428, RFC 8628 with `authorization_pending`.
    Pending,
    /// Not yet, and the next questions are to come more slowly (RFC 8628 §3.5: by 5 s).
    SlowDown,
}

impl Endpoint for Authorize {
    type Response = Authorization;

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::Hydra)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        let body = Zeroizing::new(form(&[("client_id", &self.client_id), ("scope", &self.scope)]));
        post_form(&context.base.join(["device", "authorize"]), None, &body, context)
    }

    fn from_http(response: Response<Bytes>) -> Result<Authorization, ApiError> {
        read(response)
    }
}

impl Endpoint for Poll {
    type Response = Polled;

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::Hydra)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        let body = Zeroizing::new(form(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", self.device_code.expose()),
            ("client_id", &self.client.id),
        ]));
        post_form(&context.base.join(["device", "token"]), Some(&self.client), &body, context)
    }

    /// Any other refusal means that the code is of no use any more.
    fn from_http(response: Response<Bytes>) -> Result<Polled, ApiError> {
        if response.status() == StatusCode::PRECONDITION_REQUIRED {
            return Ok(Polled::Pending);
        }
        match read(response) {
            Ok(tokens) => Ok(Polled::Granted(tokens)),
            Err(ApiError::Status(error)) if error.message == "authorization_pending" => Ok(Polled::Pending),
            Err(ApiError::Status(error)) if error.message == "slow_down" => Ok(Polled::SlowDown),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Response<Bytes> {
        Response::builder().status(status).body(Bytes::from_static(body.as_bytes())).unwrap()
    }

    #[test]
    fn a_code_lives_and_is_asked_for_as_the_cloud_says() {
        let body = r#"{"device_code":"d","user_code":"AB12CD","verification_uri":"https://h/verify","expires_in":300,"interval":2}"#;
        let told = Authorize::from_http(answer(200, body)).unwrap();
        assert_eq!((told.expires_in.as_secs(), told.interval.as_secs()), (300, 2));
        let body = r#"{"device_code":"d","user_code":"u","verification_uri":"v","expires_in":300}"#;
        assert_eq!(Authorize::from_http(answer(200, body)).unwrap().interval, interval());
        // A time that is forged must not lead out of the clock of whoever adds it to a moment.
        let body = r#"{"device_code":"d","user_code":"u","verification_uri":"v","expires_in":18446744073709551615,"interval":18446744073709551615}"#;
        let forged = Authorize::from_http(answer(200, body)).unwrap();
        assert!((forged.expires_in + forged.interval).as_secs() < 1 << 32);
        assert!(!format!("{told:?}").contains("\"d\""), "the code that is asked with is a secret");
    }

    #[test]
    fn pending_is_told_from_refused() {
        let polled = |status, body| Poll::from_http(answer(status, body));
        assert!(matches!(polled(428, "{}"), Ok(Polled::Pending)));
        assert!(matches!(polled(400, r#"{"error":"authorization_pending"}"#), Ok(Polled::Pending)));
        assert!(matches!(polled(400, r#"{"error":"slow_down"}"#), Ok(Polled::SlowDown)));
        let granted = r#"{"access_token":"a","expires_in":9,"refresh_token":"r"}"#;
        assert!(matches!(polled(200, granted), Ok(Polled::Granted(_))));
        for (status, body) in [(400, r#"{"error":"access_denied"}"#), (403, "{}"), (500, "")] {
            assert!(polled(status, body).is_err(), "{status} {body}");
        }
    }
}
