//! Requests that the typed endpoints do not have.

use bytes::Bytes;
use http::{Method, Request, Response, header};
use serde_json::Value;
use webex_api::{
    ApiError, Url,
    catalog::Service,
    endpoint::{Context, Destination, Endpoint},
};

/// A request that the typed endpoints do not have, with JSON as its answer.
pub(super) struct Raw {
    method: Method,
    at: At,
    body: Bytes,
}

enum At {
    Below(Service, &'static str),
    Url(Url),
}

impl Raw {
    /// An event of the own presence.
    pub(super) fn presence(event: Value) -> Self {
        let at = At::Below(Service::Apheleia, "events");
        Self { method: Method::POST, at, body: event.to_string().into() }
    }

    /// A request with JSON to an address that the cloud gave.
    pub(super) fn json(method: Method, url: Url, body: &Value) -> Self {
        Self::bytes(method, url, body.to_string().into())
    }

    /// A request with any bytes.
    pub(super) fn bytes(method: Method, url: Url, body: Bytes) -> Self {
        Self { method, at: At::Url(url), body }
    }
}

impl Endpoint for Raw {
    type Response = Value;

    fn destination(&self) -> Destination<'_> {
        match &self.at {
            At::Below(service, _) => Destination::Service(*service),
            At::Url(url) => Destination::Address(url),
        }
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        let url = match &self.at {
            At::Below(_, path) => context.base.join([*path]),
            At::Url(url) => url.clone(),
        };
        let mut builder = Request::builder()
            .method(self.method)
            .uri(url.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header("trackingid", context.tracking_id.as_str());
        if let Some(token) = context.token {
            builder = builder.header(header::AUTHORIZATION, token.to_header());
        }
        builder.body(self.body).map_err(ApiError::Request)
    }

    fn from_http(response: Response<Bytes>) -> Result<Value, ApiError> {
        let status = response.status();
        if !status.is_success() {
            return Err(ApiError::from_status(status, response.headers(), response.body()));
        }
        if response.body().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(response.body()).map_err(ApiError::Body)
    }
}
