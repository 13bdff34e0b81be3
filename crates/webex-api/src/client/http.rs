//! Sends endpoints over HTTP/1.1, with a bounded number of connections for each host.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::dial::{Dial, Origin, TcpDial};
use crate::auth::AccessToken;
use crate::endpoint::{Context, Endpoint};
use crate::{ApiError, IdError, Random, Timestamp, TrackingId, Url};

/// How an [`Http`] connects and what it bounds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpConfig {
    /// Makes the connections; default [`TcpDial`].
    pub dial: Arc<dyn Dial>,
    /// For `https`. Made with an explicit crypto provider by the caller.
    pub tls: Arc<rustls::ClientConfig>,
    /// From the call of [`Http::send`] to the whole answer, the waits for its turn and for a connection included;
    /// default 30 s.
    pub timeout: Duration,
    /// Connections to one host at once; further requests wait. Default 16.
    pub connections_per_host: usize,
    /// Requests to one host in a second, of which as many may begin at once; further ones wait. Default `None`: no limit.
    pub requests_per_second: Option<NonZeroU32>,
    /// The longest answer in bytes; default 4 MiB.
    pub body_limit: usize,
    /// The `User-Agent` header, and the prefix of tracking ids; visible ASCII, default `webex-api`.
    pub user_agent: String,
}

impl HttpConfig {
    /// The defaults, with this TLS configuration.
    pub fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        Self {
            dial: Arc::new(TcpDial),
            tls,
            timeout: Duration::from_secs(30),
            connections_per_host: 16,
            requests_per_second: None,
            body_limit: 4 * 1024 * 1024,
            user_agent: "webex-api".to_owned(),
        }
    }
}

/// An endpoint's answer, and the cloud's clock when it gave it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer<T> {
    /// What the endpoint answers.
    pub value: T,
    /// The `Date` header, in whole seconds; `None` when there was none.
    pub date: Option<Timestamp>,
}

/// In whose name a request is sent. Made from a token, or from `None` for nobody's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller<'a> {
    /// The person's token; `None` for the few requests that need nobody's.
    pub token: Option<&'a AccessToken>,
    /// The person's device that does it, if one does.
    pub device: Option<&'a Url>,
}

impl<'a> Caller<'a> {
    pub(super) fn context(self, base: &'a Url, tracking_id: &'a TrackingId) -> Context<'a> {
        Context { base, token: self.token, device: self.device, tracking_id }
    }
}

impl<'a> From<Option<&'a AccessToken>> for Caller<'a> {
    fn from(token: Option<&'a AccessToken>) -> Self {
        Self { token, device: None }
    }
}

/// A REST client: cheap to clone, all clones share their connections.
#[derive(Clone)]
pub struct Http {
    shared: Arc<Shared>,
}

struct Shared {
    config: HttpConfig,
    user_agent: HeaderValue,
    client: u128,
    requests: AtomicU64,
    hosts: Mutex<BTreeMap<Origin, Arc<Host>>>,
}

/// The connections to one host that are not in use, and permits for all.
struct Host {
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    /// When the requests so far would all have begun at an even pace.
    paced: Mutex<Option<Instant>>,
}

struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

/// What a request carries: a text that is there whole, or a file in pieces.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A body that is there whole.
pub(super) fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

/// An answer whose head has come.
pub(super) struct Begun {
    pub(super) response: Response<Incoming>,
    pub(super) connection: Connection,
}

/// A connection in use; dropped, it is closed.
pub(super) struct Connection {
    pub(super) host_name: String,
    host: Arc<Host>,
    sender: SendRequest<Body>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Keeps it for the next request, once the answer was read to its end.
    pub(super) fn keep(self) {
        let idle = Idle { sender: self.sender, since: Instant::now() };
        self.host.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
    }
}

/// A connection left alone longer than this may be closed by the far side at any moment.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

impl Http {
    /// A client without connections yet; `random` names it in tracking ids.
    ///
    /// # Errors
    /// When the user agent cannot be part of a tracking id.
    pub fn new(config: HttpConfig, random: &mut Random) -> Result<Self, IdError> {
        let client = random.next_u128();
        TrackingId::numbered(&config.user_agent, client, u64::MAX)?;
        let user_agent = HeaderValue::from_str(&config.user_agent).expect("visible ASCII, as just checked");
        let (requests, hosts) = (AtomicU64::new(0), Mutex::default());
        Ok(Self { shared: Arc::new(Shared { config, user_agent, client, requests, hosts }) })
    }

    /// Sends one request and reads its answer. `base` is the address of the endpoint's service,
    /// unused by endpoints that carry their own.
    ///
    /// # Errors
    /// As [`ApiError`] says; [`ApiError::is_refusal`] tells whether the request can have had an
    /// effect.
    pub async fn send<'a, E: Endpoint>(
        &self,
        endpoint: E,
        base: &Url,
        caller: impl Into<Caller<'a>>,
    ) -> Result<Answer<E::Response>, ApiError> {
        let tracking_id = self.tracking_id();
        let request = endpoint.into_http(&caller.into().context(base, &tracking_id))?;
        let deadline = Instant::now() + self.shared.config.timeout;
        let response = self.exchange(request.map(whole), deadline).await?;
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(Timestamp::from_http_date);
        tracing::trace!(%tracking_id, status = response.status().as_u16(), "answered");
        Ok(Answer { value: E::from_http(response)?, date })
    }

    pub(super) fn config(&self) -> &HttpConfig {
        &self.shared.config
    }

    pub(super) fn tracking_id(&self) -> TrackingId {
        let n = self.shared.requests.fetch_add(1, Ordering::Relaxed) + 1;
        TrackingId::numbered(&self.shared.config.user_agent, self.shared.client, n)
            .expect("checked when the client was made")
    }

    /// Carries one request and reads the whole answer.
    pub(super) async fn exchange(
        &self,
        request: Request<Body>,
        deadline: Instant,
    ) -> Result<Response<Bytes>, ApiError> {
        let begun = self.begin(request, deadline).await?;
        self.read(begun, deadline).await
    }

    /// Carries one request over a free connection or a new one, until the head of its answer has come.
    pub(super) async fn begin(&self, request: Request<Body>, deadline: Instant) -> Result<Begun, ApiError> {
        let (mut parts, body) = request.into_parts();
        let origin = Origin::of(&parts.uri).expect("endpoints write absolute addresses");
        let host_name = origin.host.clone();
        let authority = parts.uri.authority().expect("an absolute address has one").as_str();
        // User information is no part of the Host header (RFC 9110 §7.2).
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        let authority = HeaderValue::from_str(authority).map_err(|error| ApiError::Request(error.into()))?;
        parts.headers.insert(header::HOST, authority);
        parts.headers.insert(header::USER_AGENT, self.shared.user_agent.clone());
        parts.uri = parts.uri.into_parts().path_and_query.map_or_else(Uri::default, Uri::from);
        let mut request = Request::from_parts(parts, body);

        let connect_error = |source| ApiError::Connect { host: host_name.clone(), source };
        let late = || connect_error(std::io::ErrorKind::TimedOut.into());
        let host = self.host(&origin);
        if let Some(rate) = self.shared.config.requests_per_second {
            let turn = host.turn(rate, deadline).ok_or_else(late)?;
            // A timer takes a millisecond also where there is nothing to wait for.
            if turn > Instant::now() {
                tokio::time::sleep_until(turn).await;
            }
        }
        let permit = Arc::clone(&host.permits).acquire_owned();
        let permit = timeout_at(deadline, permit).await.map_err(|_| late())?;
        let permit = permit.expect("the semaphore is never closed");
        let mut reused = true;
        loop {
            let mut sender = match host.take_idle() {
                Some(sender) if reused => sender,
                _ => {
                    reused = false;
                    let connection = Box::pin(self.connect(&origin));
                    timeout_at(deadline, connection).await.map_err(|_| late())?.map_err(connect_error)?
                }
            };
            // A kept connection may still be reading the end of the answer before, or be closed.
            if timeout_at(deadline, sender.ready()).await.map_err(|_| late())?.is_err() && reused {
                continue;
            }
            let sent = timeout_at(deadline, sender.try_send_request(request)).await;
            let sent = sent.map_err(|_| ApiError::Timeout { host: host_name.clone() })?;
            let response = match sent {
                Ok(response) => response,
                Err(mut error) => match error.take_message() {
                    // The far side closed a kept connection before anything was written.
                    Some(unsent) if reused => {
                        request = unsent;
                        continue;
                    }
                    Some(_) => return Err(connect_error(std::io::ErrorKind::ConnectionAborted.into())),
                    None => return Err(broken(&host_name, error.into_error())),
                },
            };
            let connection = Connection { host_name, host, sender, _permit: permit };
            return Ok(Begun { response, connection });
        }
    }

    /// Reads the whole answer and keeps the connection for the next request.
    pub(super) async fn read(&self, begun: Begun, deadline: Instant) -> Result<Response<Bytes>, ApiError> {
        let limit = self.shared.config.body_limit;
        let Begun { response, connection } = begun;
        let (parts, body) = response.into_parts();
        let host = || connection.host_name.clone();
        let body = timeout_at(deadline, Limited::new(body, limit).collect()).await;
        let body = body.map_err(|_| ApiError::Timeout { host: host() })?;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                ApiError::TooLarge { limit }
            } else {
                ApiError::Broken { host: host(), source: error }
            }
        })?;
        connection.keep();
        Ok(Response::from_parts(parts, body.to_bytes()))
    }

    fn host(&self, origin: &Origin) -> Arc<Host> {
        let mut hosts = self.shared.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = hosts.entry(origin.clone()).or_insert_with(|| {
            let permits = Arc::new(Semaphore::new(self.shared.config.connections_per_host.max(1)));
            Arc::new(Host { permits, idle: Mutex::default(), paced: Mutex::default() })
        });
        Arc::clone(host)
    }

    async fn connect(&self, origin: &Origin) -> std::io::Result<SendRequest<Body>> {
        let config = &self.shared.config;
        let io = origin.connect(&*config.dial, &config.tls).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(std::io::Error::other)?;
        // Ends by itself when the sender is dropped or the far side closes.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        Ok(sender)
    }
}

impl Host {
    /// When the next request may begin, which it does then; `None`: not before this deadline.
    fn turn(&self, rate: NonZeroU32, deadline: Instant) -> Option<Instant> {
        let (now, step) = (Instant::now(), Duration::from_secs(1) / rate.get());
        let mut paced = self.paced.lock().unwrap_or_else(PoisonError::into_inner);
        let even = paced.map_or(now, |paced| paced.max(now));
        let turn = now + (even - now).saturating_sub(Duration::from_secs(1) - step);
        if turn > deadline {
            return None;
        }
        *paced = Some(even + step);
        Some(turn)
    }

    fn take_idle(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| idle.since.elapsed() < IDLE_LIMIT && !idle.sender.is_closed());
        // The one used last is the least likely to be closed.
        idle.pop().map(|idle| idle.sender)
    }
}

fn broken(host: &str, error: hyper::Error) -> ApiError {
    ApiError::Broken { host: host.to_owned(), source: Box::new(error) }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
