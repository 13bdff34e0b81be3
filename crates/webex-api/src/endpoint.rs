//! A request as a type: how it is written as HTTP, and how its answer is read.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::AccessToken;
use crate::catalog::Service;
use crate::{ApiError, TrackingId, Url};

/// What a request needs besides itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Base address of the service that [`Endpoint::destination`] names; unused when it names an
    /// address.
    pub base: &'a Url,
    /// In whose name; `None` for the few requests that need nobody's.
    pub token: Option<&'a AccessToken>,
    /// From which device; what is done from none counts as done by the person.
    pub device: Option<&'a Url>,
    /// Names this one request.
    pub tracking_id: &'a TrackingId,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Destination<'a> {
    /// To this service, at the base address that the catalog gives.
    Service(Service),
    /// To an address that the cloud gave in an earlier answer.
    Address(&'a Url),
}

/// One kind of request to the cloud and its answer; any HTTP client can carry it.
pub trait Endpoint {
    /// What a 2xx answer holds.
    type Response;

    /// Where it goes. Before a token is sent to an address, ask
    /// [`Catalog::trusts`](crate::catalog::Catalog::trusts).
    fn destination(&self) -> Destination<'_>;

    /// Writes the request.
    ///
    /// # Errors
    /// [`ApiError::Request`] when a part of it does not fit into HTTP.
    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError>;

    /// Reads the answer.
    ///
    /// # Errors
    /// [`ApiError::Status`] for anything but 2xx, [`ApiError::Body`] for a body that is not what the
    /// endpoint answers.
    fn from_http(response: Response<Bytes>) -> Result<Self::Response, ApiError>;
}

/// Starts a request with the headers that all have.
fn builder(method: Method, url: &Url, context: &Context<'_>) -> Result<http::request::Builder, ApiError> {
    let tracking = HeaderValue::from_str(context.tracking_id.as_str());
    let mut builder = Request::builder()
        .method(method)
        .uri(url.as_str())
        .header(header::ACCEPT, HeaderValue::from_static("application/json"))
        .header("trackingid", tracking.map_err(|error| ApiError::Request(error.into()))?);
    if let Some(token) = context.token {
        builder = builder.header(header::AUTHORIZATION, token.to_header());
    }
    if let Some(device) = context.device {
        builder = builder.header("cisco-device-url", device.as_str());
    }
    Ok(builder)
}

/// A request without a body.
pub(crate) fn plain(method: Method, url: &Url, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
    builder(method, url, context)?.body(Bytes::new()).map_err(ApiError::Request)
}

/// A request with a JSON body.
pub(crate) fn json(
    method: Method,
    url: &Url,
    context: &Context<'_>,
    body: &impl Serialize,
) -> Result<Request<Bytes>, ApiError> {
    let body = serde_json::to_vec(body).map_err(ApiError::Body)?;
    builder(method, url, context)?
        .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .body(body.into())
        .map_err(ApiError::Request)
}

/// The answer's body, if the status is 2xx.
pub(crate) fn accepted(response: Response<Bytes>) -> Result<Bytes, ApiError> {
    let (parts, body) = response.into_parts();
    if parts.status.is_success() {
        return Ok(body);
    }
    Err(ApiError::from_status(parts.status, &parts.headers, &body))
}

/// The answer as JSON, if the status is 2xx.
pub(crate) fn read<T: DeserializeOwned>(response: Response<Bytes>) -> Result<T, ApiError> {
    serde_json::from_slice(&accepted(response)?).map_err(ApiError::Body)
}

/// The address behind `rel="next"` of a `Link` header (RFC 8288 §3), if there is one.
pub(crate) fn next_link(response: &Response<Bytes>) -> Option<Url> {
    let links = response.headers().get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    for link in links.flat_map(|value| value.split(",<").flat_map(|part| part.split(", <"))) {
        let Some((address, parameters)) = link.trim_start_matches([' ', '<']).split_once('>') else {
            continue;
        };
        let next = parameters.split(';').any(|parameter| {
            let parameter = parameter.trim().to_ascii_lowercase();
            matches!(parameter.as_str(), r#"rel="next""# | "rel=next")
        });
        if next {
            return address.parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        for (link, next) in [
            (r#"<http://h/a?x=1>; rel="next""#, Some("http://h/a?x=1")),
            (r#"<http://h/a>; rel="first", <http://h/b>; rel="next""#, Some("http://h/b")),
            (r#"<http://h/a,b>; title="t"; rel=next"#, Some("http://h/a,b")),
            (r#"<http://h/a>; rel="prev""#, None),
            (r#"</relative>; rel="next""#, None),
            (r#"rubbish, <http://h/b>; rel="next""#, Some("http://h/b")),
            ("rubbish", None),
        ] {
            let response = Response::builder().header("link", link).body(Bytes::new()).unwrap();
            assert_eq!(next_link(&response).as_ref().map(Url::as_str), next, "{link}");
        }
    }
}
