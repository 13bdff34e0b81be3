//! The status interface: JSON for operators and for the lab, metrics for who watches, on loopback by default.
//!
//! `GET /status`, `GET /metrics`, `GET /users`, `GET /idle`, `GET /judge?sender=JID&from=jabber|webex&recipient=JID&to=jabber|webex`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use connector_edges::hub::HubHandle;
use connector_edges::jabber::Refusals;
use connector_edges::webex::Enrolling;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use router::entitlement::{Client, Verdict};
use router::ids::JabberId;
use serde_json::{Value, json};
use store::Figures;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::metrics::{self, Reading};

/// Listens, so that a taken port is known before anything else starts.
///
/// # Errors
/// The address cannot be listened on: which, and why.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|e| format!("status.listen: cannot listen on {address}: {e}"))
}

/// Who is asked for what the page says.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) hub: HubHandle,
    pub(crate) enrolling: Enrolling,
    pub(crate) refusals: Refusals,
    pub(crate) figures: Arc<Figures>,
}

/// Connections to the page at one time: each takes a descriptor, and people's sockets need those.
const SEATS: usize = 32;

/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(5);

/// Answers until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, sources: Sources) {
    let seats = Arc::new(Semaphore::new(SEATS));
    loop {
        let seat = Arc::clone(&seats).acquire_owned().await.expect("the semaphore is never closed");
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: what is open must close first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let sources = sources.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let sources = sources.clone();
                async move { Ok::<_, Infallible>(answer(&request, &sources).await) }
            });
            // A client that breaks off is its own business.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(SILENCE)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(seat);
        });
    }
}

/// What the status interface of a connector that runs answers.
///
/// # Errors
/// It does not, and what to do.
pub(crate) async fn ask(address: SocketAddr, path: &str) -> Result<Bytes, String> {
    let wrong = |e: &dyn std::fmt::Display| {
        format!(
            "a connector runs, but status.listen ({address}) does not answer: {e}; give it the same settings file"
        )
    };
    let stream = TcpStream::connect(address).await.map_err(|e| wrong(&e))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| wrong(&e))?;
    tokio::spawn(connection);
    let request = Request::get(path).header(header::HOST, address.to_string());
    let request = request.body(Full::<Bytes>::default()).map_err(|e| wrong(&e))?;
    let answer = sender.send_request(request).await.map_err(|e| wrong(&e))?;
    if answer.status() != StatusCode::OK {
        return Err(wrong(&answer.status()));
    }
    Ok(answer.into_body().collect().await.map_err(|e| wrong(&e))?.to_bytes())
}

async fn answer(request: &Request<Incoming>, sources: &Sources) -> Response<Full<Bytes>> {
    let Sources { hub, enrolling, refusals, figures } = sources;
    if request.method() != Method::GET {
        return json_answer(StatusCode::METHOD_NOT_ALLOWED, &json!({"error": "only GET is answered here"}));
    }
    match request.uri().path() {
        "/" | "/status" => match hub.status().await {
            Some(status) => {
                let mut status = json!(status);
                let enrolled = enrolling.enrolled().map(|people| people.len());
                status["tokens"] = json!({"enrolled": enrolled, "refused": enrolling.refused()});
                status["refused_sessions"] = json!(refusals.list());
                status["store"] = store_json(figures);
                json_answer(StatusCode::OK, &status)
            }
            None => stopping(),
        },
        "/metrics" => match hub.status().await {
            Some(status) => {
                let (refused_sessions, refused_tokens) = (refusals.list().len(), enrolling.refused().len());
                let reading =
                    Reading { status, figures: Arc::clone(figures), refused_sessions, refused_tokens };
                said(StatusCode::OK, metrics::CONTENT_TYPE, reading.text())
            }
            None => stopping(),
        },
        "/users" => json_answer(StatusCode::OK, &json!(enrolling.enrolled())),
        "/idle" => json_answer(StatusCode::OK, &Value::Bool(hub.idle().await)),
        "/judge" => judge(request.uri().query().unwrap_or_default(), hub).await,
        _ => {
            let known = "there are /status, /metrics, /users, /idle and /judge";
            json_answer(StatusCode::NOT_FOUND, &json!({"error": known}))
        }
    }
}

/// What the store counts about itself in this run.
fn store_json(figures: &Figures) -> Value {
    json!({
        "commits": figures.commits(),
        "batches": figures.batches(),
        "inputs": figures.inputs(),
        "ms_in_commits": figures.time_in_commits().as_millis() as u64,
        "slowest_commit_ms": figures.slowest_commit().as_millis() as u64,
    })
}

async fn judge(query: &str, hub: &HubHandle) -> Response<Full<Bytes>> {
    let given: BTreeMap<&str, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k, percent_decoded(v)))
        .collect();
    let jid = |key: &str| given.get(key).map(|jid| JabberId::new(jid.to_lowercase()));
    let client = |key: &str| match given.get(key).map(String::as_str) {
        Some("jabber") => Some(Client::Jabber),
        Some("webex") => Some(Client::Webex),
        _ => None,
    };
    let (Some(sender), Some(from), Some(recipient), Some(to)) =
        (jid("sender"), client("from"), jid("recipient"), client("to"))
    else {
        let usage = "expected sender=JID&from=jabber|webex&recipient=JID&to=jabber|webex";
        return json_answer(StatusCode::BAD_REQUEST, &json!({"error": usage}));
    };
    match hub.judge(sender, from, recipient, to).await {
        Some(verdict) => json_answer(StatusCode::OK, &verdict_json(&verdict)),
        None => {
            json_answer(StatusCode::NOT_FOUND, &json!({"error": "one of the two is not in the directory"}))
        }
    }
}

fn verdict_json(verdict: &Verdict) -> Value {
    json!({"arrives": verdict.arrives, "carried": verdict.carrier.is_some(), "rule": verdict.rule})
}

fn stopping() -> Response<Full<Bytes>> {
    json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": "the connector is stopping"}))
}

fn json_answer(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    said(status, "application/json", value.to_string())
}

fn said(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (first, hex.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::percent_decoded;

    #[test]
    fn queries_are_decoded() {
        assert_eq!(percent_decoded("a%40b.example"), "a@b.example");
        assert_eq!(percent_decoded("100%"), "100%");
        assert_eq!(percent_decoded("%zz+%c3%a4"), "%zz ä");
    }
}
