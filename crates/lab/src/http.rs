//! HTTP as the stand-ins serve it: a whole request in, a whole answer out, the `Date` by the lab's clock.

use std::{collections::BTreeMap, convert::Infallible, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    clock::Clock,
    ctx::Ctx,
    net::{BoxIo, Listener},
};

/// The longest body that is read; files are the longest.
const BODY: usize = 64 * 1024 * 1024;
/// In how many pieces a body trickles.
const PIECES: u32 = 16;

/// A request, read whole.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// The segments of the path, decoded.
    pub(crate) path: Vec<String>,
    /// The path and query as they were sent.
    pub(crate) target: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The upgrade that the client asks for, where it asks for one.
    pub(crate) upgrade: Option<hyper::upgrade::OnUpgrade>,
}

impl Call {
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether a built-in person's client asks.
    pub(crate) fn is_puppet(&self) -> bool {
        self.header("user-agent") == Some(crate::cloud::PUPPET)
    }

    /// The body as JSON; an empty one counts as `{}`.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Answer> {
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        serde_json::from_slice(body).map_err(|error| {
            Answer::error(
                StatusCode::BAD_REQUEST,
                1_400_001,
                &format!("The body is not what is expected: {error}"),
            )
        })
    }

    /// The body as a form.
    pub(crate) fn form(&self) -> BTreeMap<String, String> {
        pairs(&String::from_utf8_lossy(&self.body))
    }

    /// A query parameter that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.query.get(name)?.parse().ok()
    }

    /// The segments of the path as text slices, to match on.
    pub(crate) fn segments(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Bytes,
    /// The connection is cut in place of answering.
    pub(crate) cut: bool,
    /// The body comes in pieces, over this long.
    pub(crate) trickle: Option<Duration>,
}

impl Answer {
    /// An answer without a body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), cut: false, trickle: None }
    }

    /// A JSON answer.
    pub(crate) fn json(status: StatusCode, body: &Value) -> Self {
        Self::bytes(status, "application/json;charset=UTF-8", Bytes::from(body.to_string()))
    }

    /// A JSON answer with status 200.
    pub(crate) fn ok(body: &Value) -> Self {
        Self::json(StatusCode::OK, body)
    }

    /// Any bytes.
    pub(crate) fn bytes(status: StatusCode, content_type: &str, body: Bytes) -> Self {
        Self { body, ..Self::empty(status) }.with(header::CONTENT_TYPE, content_type)
    }

    /// A refusal in the cloud's form.
    pub(crate) fn error(status: StatusCode, code: i64, message: &str) -> Self {
        Self::json(
            status,
            &json!({"message": message, "errors": [{"description": message}], "errorCode": code, "trackingId": null}),
        )
    }

    /// No answer at all: the connection is cut.
    pub(crate) fn cut() -> Self {
        Self { cut: true, ..Self::empty(StatusCode::INTERNAL_SERVER_ERROR) }
    }

    /// Adds a header.
    pub(crate) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A refusal is an answer too, so handlers can leave early with `?`.
pub(crate) type Handled = Result<Answer, Answer>;

/// Serves every connection of a door until the lab stops.
pub(crate) async fn serve<F, R>(
    ctx: Arc<Ctx>,
    mut listener: Listener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    handle: F,
) where
    F: Fn(Call) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    loop {
        let io = match listener.accept().await {
            Ok(io) => io,
            Err(error) => {
                tracing::error!(%error, "a door broke");
                return;
            }
        };
        let (tls, handle, shared) = (tls.clone(), handle.clone(), Arc::clone(&ctx));
        ctx.spawn(async move {
            let io: BoxIo = match tls {
                None => io,
                Some(tls) => match tls.accept(io).await {
                    Ok(io) => Box::new(io),
                    Err(error) => {
                        tracing::debug!(%error, "a TLS handshake failed");
                        return;
                    }
                },
            };
            connection(shared, io, handle).await;
        });
    }
}

async fn connection<F, R>(ctx: Arc<Ctx>, io: BoxIo, handle: F)
where
    F: Fn(Call) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (handle, ctx) = (handle.clone(), Arc::clone(&ctx));
        async move {
            let tracking = request.headers().get("trackingid").cloned();
            let answer = match read(request).await {
                Ok(call) => handle(call).await,
                Err(answer) => answer,
            };
            if answer.cut {
                return Err(Cut);
            }
            Ok(write(answer, tracking, &ctx.clock))
        }
    });
    let served = http1::Builder::new()
        .auto_date_header(false)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::trace!(%error, "a connection ended early");
    }
}

/// Ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut on purpose")]
struct Cut;

async fn read(mut request: Request<Incoming>) -> Result<Call, Answer> {
    let upgrade = request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(Answer::error(StatusCode::PAYLOAD_TOO_LARGE, 1_413_000, "The body is too long."));
        }
        Err(_) => return Err(Answer::error(StatusCode::BAD_REQUEST, 1_400_000, "The body broke off.")),
    };
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let path = parts.uri.path().split('/').filter(|segment| !segment.is_empty()).map(decode).collect();
    let query = pairs(parts.uri.query().unwrap_or_default());
    Ok(Call { method: parts.method, path, target, query, headers: parts.headers, body, upgrade })
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn write(answer: Answer, tracking: Option<HeaderValue>, clock: &Clock) -> Response<Body> {
    let mut response = Response::new(match answer.trickle {
        None => Full::new(answer.body).boxed_unsync(),
        Some(over) => trickle(answer.body, over / PIECES, clock.clone()),
    });
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(name, value);
        }
    }
    if let Ok(date) = HeaderValue::from_str(&clock.now().http_date()) {
        // The cloud's clock may show something else.
        headers.entry(header::DATE).or_insert(date);
    }
    if let Some(tracking) = tracking {
        headers.insert(HeaderName::from_static("trackingid"), tracking);
    }
    response
}

/// A body in pieces, with a pause before each.
fn trickle(body: Bytes, pause: Duration, clock: Clock) -> Body {
    let length = body.len().div_ceil(PIECES as usize).max(1);
    let pieces = stream::unfold((body, clock), move |(mut body, clock)| async move {
        if body.is_empty() {
            return None;
        }
        clock.sleep(pause).await;
        let piece = body.split_to(length.min(body.len()));
        Some((Ok(Frame::data(piece)), (body, clock)))
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// `a=1&b=2`, decoded; of a repeated name the last counts.
fn pairs(text: &str) -> BTreeMap<String, String> {
    let decode = |part: &str| decode(&part.replace('+', " "));
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// Percent-decoding; what is no escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |offset: usize| bytes.get(at + offset).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_forms_are_decoded() {
        let rows = [
            ("a=1&b=%2Fx%20y&c", vec![("a", "1"), ("b", "/x y"), ("c", "")]),
            ("m=a%40b.example&n=1+2", vec![("m", "a@b.example"), ("n", "1 2")]),
            ("bad=%4&%zz=1", vec![("%zz", "1"), ("bad", "%4")]),
            ("", vec![]),
        ];
        for (text, expected) in rows {
            let expected: BTreeMap<String, String> =
                expected.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            assert_eq!(pairs(text), expected, "{text}");
        }
    }
}
