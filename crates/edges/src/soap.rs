//! A SOAP request as the HTTP client takes it: whoever asks writes it, and reads what comes back.

use bytes::Bytes;
use webex_api::endpoint::{Context, Destination, Endpoint};
use webex_api::{ApiError, Url};

/// One request to one address.
pub(crate) struct Call {
    pub(crate) request: http::Request<Bytes>,
    pub(crate) address: Url,
}

impl Endpoint for Call {
    type Response = http::Response<Bytes>;

    fn destination(&self) -> Destination<'_> {
        Destination::Address(&self.address)
    }

    fn into_http(self, _: &Context<'_>) -> Result<http::Request<Bytes>, ApiError> {
        Ok(self.request)
    }

    fn from_http(response: http::Response<Bytes>) -> Result<Self::Response, ApiError> {
        Ok(response)
    }
}
