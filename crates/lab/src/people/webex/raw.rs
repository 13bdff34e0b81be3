//! The one request that the typed endpoints do not have: saying something of the own presence.

use bytes::Bytes;
use http::{Method, Request, Response, header};
use serde_json::Value;
use webex_api::{
    ApiError,
    catalog::Service,
    endpoint::{Context, Destination, Endpoint},
};

/// `POST {apheleia}/events`: an event of the own presence.
pub(super) struct PresenceEvent(pub(super) Value);

impl Endpoint for PresenceEvent {
    type Response = ();

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::Apheleia)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        let mut builder = Request::builder()
            .method(Method::POST)
            .uri(context.base.join(["events"]).as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header("trackingid", context.tracking_id.as_str());
        if let Some(token) = context.token {
            builder = builder.header(header::AUTHORIZATION, token.to_header());
        }
        builder.body(self.0.to_string().into()).map_err(ApiError::Request)
    }

    fn from_http(response: Response<Bytes>) -> Result<(), ApiError> {
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        Err(ApiError::from_status(status, response.headers(), response.body()))
    }
}
