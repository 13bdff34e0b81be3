//! Requests to the cloud as a person: its catalog, tokens, limits, and its clock.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use router::ids::{PersonId, Time};
use router::inbound::Cause;
use tokio::time::Instant;
use webex_api::auth::{AccessToken, Secret};
use webex_api::catalog::{self, Catalog, Service};
use webex_api::client::{BoxIo, Caller, Dial, Http, HttpConfig, MercuryConfig, ProxyDial};
use webex_api::endpoint::{Destination, Endpoint};
use webex_api::{ApiError, ConversationId, Fate, IdError, OrgId, Random, Timestamp, Url};

use super::shelf::Shelf;
use super::token::{Enrolled, RefusedToken, TokenConfig, TokenError, Tokens};
use crate::probe::causes;
use crate::seam::{self, Clock, Generator, Scale};

/// Where the cloud is and how we speak to it.
#[derive(Clone, Debug)]
pub struct CloudConfig {
    /// Base address of the service catalog.
    pub discovery: Url,
    /// The organization whose catalog it is.
    pub organization: OrgId,
    /// By what right we act as people.
    pub tokens: TokenConfig,
    /// For `https` and `wss`, with an explicit crypto provider.
    pub tls: Arc<rustls::ClientConfig>,
    /// What all connections to it go through; `None`: they are made directly.
    pub proxy: Option<Proxy>,
    /// Connections to one host at once.
    pub connections_per_host: usize,
    /// Requests to one host in a second; `None`: no limit of ours.
    pub requests_per_second: Option<NonZeroU32>,
    /// Of the time-outs.
    pub scale: Scale,
}

/// An HTTP proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Its name, or IP address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User and password, where it wants them.
    pub credentials: Option<(String, Secret)>,
}

/// The cloud, as a client sees it; cheap to clone.
#[derive(Clone, Debug)]
pub struct Cloud {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: CloudConfig,
    http: Http,
    dial: Arc<dyn Dial>,
    tokens: Tokens,
    clock: Clock,
    catalog: tokio::sync::Mutex<Option<(Arc<Catalog>, Instant)>>,
    /// The registered device of each served person.
    devices: Mutex<BTreeMap<PersonId, Url>>,
    /// Hosts that asked us to wait, and until when.
    limited: Mutex<BTreeMap<String, Instant>>,
    seen: Mutex<Option<Seen>>,
}

/// The latest word of the cloud's clock.
#[derive(Clone, Copy, Debug)]
struct Seen {
    cloud: Time,
    ours: Time,
}

/// Why a request to the cloud has no answer to give.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// There is no token for the person.
    #[error("no token for person {person}")]
    Token {
        /// Who.
        person: PersonId,
        /// Why.
        #[source]
        source: TokenError,
    },
    /// The host asked us to wait, and the time is not over: nothing was sent.
    #[error("{host} limits our requests")]
    Limited {
        /// Which host.
        host: String,
        /// How long it still wants.
        after: Duration,
    },
    /// The catalog does not list the service.
    #[error("catalog lists no service {0}")]
    NoService(&'static str),
    /// The answer pointed somewhere where our tokens must not go.
    #[error("address on {0} is not the cloud's")]
    Untrusted(String),
    /// The cloud named an address where our tokens would travel unencrypted.
    #[error("address on {0} is not encrypted")]
    Plain(String),
    /// The request failed.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl CloudError {
    /// Whether this proves that nothing was carried out (rule 10).
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Token { .. }
            | Self::Limited { .. }
            | Self::NoService(_)
            | Self::Untrusted(_)
            | Self::Plain(_) => true,
            Self::Api(error) => error.is_refusal(),
        }
    }

    /// Whether what was asked for is not there, or not for whoever asked.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let status = self.api().and_then(ApiError::status);
        status.is_some_and(|status| matches!(status.as_u16(), 403 | 404))
    }

    /// What is in the way, for a request that can be sent again, and how long it wants to be left alone.
    #[must_use]
    pub fn cause(&self) -> (Cause, Option<u64>) {
        let millis = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        match self {
            Self::Token { person, .. } => (Cause::Token(person.clone()), None),
            Self::Limited { host, after } => (Cause::Host(host.as_str().into()), Some(millis(*after))),
            Self::NoService(name) => (Cause::Host((*name).into()), None),
            Self::Untrusted(host) | Self::Plain(host) => (Cause::Host(host.as_str().into()), None),
            Self::Api(error) => {
                let host = match error {
                    ApiError::Connect { host, .. }
                    | ApiError::Broken { host, .. }
                    | ApiError::Timeout { host } => host.as_str(),
                    _ => "cloud",
                };
                let after = match error.fate() {
                    Fate::Later(after) => after.map(millis),
                    _ => None,
                };
                (Cause::Host(host.into()), after)
            }
        }
    }

    /// The failed request's own error, where it got so far.
    #[must_use]
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Api(error) => Some(error),
            _ => None,
        }
    }
}

/// The dialler of the whole connector, for the client of this one cloud.
struct Dialler(Arc<dyn seam::Dial>);

impl std::fmt::Debug for Dialler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dialler")
    }
}

impl Dial for Dialler {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxIo>> + Send + 'a>> {
        Box::pin(async move { Ok(Box::new(self.0.dial(host, port).await?) as BoxIo) })
    }
}

/// The way to the cloud: through the proxy, where there is one.
fn way(dial: Arc<dyn Dial>, proxy: Option<&Proxy>) -> Arc<dyn Dial> {
    let Some(Proxy { host, port, credentials }) = proxy else { return dial };
    let way = ProxyDial::new(host.clone(), *port, dial);
    Arc::new(match credentials {
        Some((user, password)) => way.with_credentials(user, password),
        None => way,
    })
}

/// A client over the connector's own dialler.
///
/// # Errors
/// The user agent cannot be part of a tracking id.
pub fn http_client(
    mut config: HttpConfig,
    dial: Arc<dyn seam::Dial>,
    generator: &Generator,
) -> Result<Http, IdError> {
    config.dial = Arc::new(Dialler(dial));
    Http::new(config, &mut random(generator))
}

/// A generator of ours as the client's.
pub(super) fn random(generator: &Generator) -> Random {
    let generator = generator.clone();
    Random::new(move || generator.number())
}

/// How long a catalog is used before it is asked for again.
const CATALOG_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
const TIMEOUT: Duration = Duration::from_secs(20);
/// When the cloud names no time at a 429.
const LIMITED_FOR: Duration = Duration::from_secs(5);

impl Cloud {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// Never with the names that we give ourselves.
    pub fn new(
        config: CloudConfig,
        dial: Arc<dyn seam::Dial>,
        clock: Clock,
        generator: &Generator,
    ) -> Result<Self, IdError> {
        let mut http = HttpConfig::new(Arc::clone(&config.tls));
        http.timeout = config.scale.of(TIMEOUT);
        http.connections_per_host = config.connections_per_host;
        http.requests_per_second = config.requests_per_second;
        http.user_agent = "hybrid-message-connector".to_owned();
        let dial = way(Arc::new(Dialler(dial)), config.proxy.as_ref());
        http.dial = Arc::clone(&dial);
        let http = Http::new(http, &mut random(generator))?;
        let tokens = Tokens::new(config.tokens.clone(), clock, generator.clone(), config.scale);
        let shared = Shared {
            config,
            http,
            dial,
            tokens,
            clock,
            catalog: tokio::sync::Mutex::default(),
            devices: Mutex::default(),
            limited: Mutex::default(),
            seen: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Sends a request as this person. A token that the cloud does not accept is replaced once.
    ///
    /// # Errors
    /// As [`CloudError`] says; [`CloudError::is_refusal`] tells whether it can have had an effect.
    pub async fn send_as<E: Endpoint + Clone>(
        &self,
        person: &PersonId,
        endpoint: E,
    ) -> Result<E::Response, CloudError> {
        let device = self.device(person);
        let mut replaced = false;
        // Sent at one place, or the future of each request would have room for two.
        loop {
            let token = self.token(person).await?;
            let caller = Caller { token: Some(&token), device: device.as_ref() };
            match self.send(endpoint.clone(), caller).await {
                Err(CloudError::Api(error)) if error.fate() == Fate::NewToken && replaced => {
                    let source = TokenError::Refused(Arc::new(error));
                    return Err(CloudError::Token { person: person.clone(), source });
                }
                Err(CloudError::Api(error)) if error.fate() == Fate::NewToken => {
                    self.shared.tokens.rejected(person, &token).await;
                    replaced = true;
                }
                other => return other,
            }
        }
    }

    /// The device that we have registered for this person, if there is one.
    #[must_use]
    pub fn device(&self, person: &PersonId) -> Option<Url> {
        self.shared.devices.lock().unwrap_or_else(PoisonError::into_inner).get(person).cloned()
    }

    /// What we do as this person is done from this device from now on, so that the cloud does not take it
    /// for the person's own activity (rule 18).
    pub(super) fn set_device(&self, person: &PersonId, device: Option<Url>) {
        let mut devices = self.shared.devices.lock().unwrap_or_else(PoisonError::into_inner);
        match device {
            Some(device) => devices.insert(person.clone(), device),
            None => devices.remove(person),
        };
    }

    /// Sends a request with a token of the caller's, or with none.
    ///
    /// # Errors
    /// As [`Cloud::send_as`].
    pub async fn send<'a, E: Endpoint>(
        &self,
        endpoint: E,
        caller: impl Into<Caller<'a>>,
    ) -> Result<E::Response, CloudError> {
        let base = match endpoint.destination() {
            Destination::Service(service) => self.base(service).await?,
            Destination::Address(url) if self.catalog().await?.trusts(url) => {
                self.encrypted(url)?;
                url.clone()
            }
            Destination::Address(url) => return Err(CloudError::Untrusted(url.host().to_owned())),
        };
        self.exchange(endpoint, &base, caller.into()).await
    }

    /// Whether a socket, which is opened with a token, may go there: to the cloud's own hosts, and encrypted, but for the
    /// host that the settings themselves reach in the clear.
    ///
    /// # Errors
    /// [`CloudError::Plain`] and [`CloudError::Untrusted`]; or the catalog cannot be had.
    pub(super) async fn socket_may_go(&self, url: &Url) -> Result<(), CloudError> {
        self.encrypted(url)?;
        if !url.is_secure() || self.catalog().await?.trusts(url) {
            Ok(())
        } else {
            Err(CloudError::Untrusted(url.host().to_owned()))
        }
    }

    /// Whether a token may travel there: in the clear only to the host that the settings themselves reach so, which is
    /// on loopback.
    ///
    /// # Errors
    /// [`CloudError::Plain`] for any other address that is not encrypted.
    pub(super) fn encrypted(&self, url: &Url) -> Result<(), CloudError> {
        let discovery = &self.shared.config.discovery;
        let meant = !discovery.is_secure() && discovery.host() == url.host();
        if url.is_secure() || meant { Ok(()) } else { Err(CloudError::Plain(url.host().to_owned())) }
    }

    /// A token for this person.
    ///
    /// # Errors
    /// [`CloudError::Token`] where there is none.
    pub async fn token(&self, person: &PersonId) -> Result<AccessToken, CloudError> {
        let idbroker = self.base(Service::Idbroker).await?;
        let token = self.shared.tokens.get(person, &self.shared.http, &idbroker).await;
        token.map_err(|source| CloudError::Token { person: person.clone(), source })
    }

    /// Takes up the enrolments that the store has, and keeps there what replaces their tokens.
    pub(super) fn restore_tokens(&self, kept: &[(Box<str>, Box<[u8]>)], shelf: Arc<Shelf>) {
        self.shared.tokens.restore(kept, shelf);
    }

    /// A person has enrolled with this refresh token, or takes the enrolment back. True once that is on disk.
    pub(super) async fn bring_token(&self, person: &PersonId, mail: &str, token: Option<Secret>) -> bool {
        self.shared.tokens.bring(person, mail, token).await
    }

    /// Replaces the tokens that are near their end, one after the other.
    pub(super) async fn renew_tokens(&self) {
        for person in self.shared.tokens.due() {
            // Who is refused is reported there; who cannot be asked now is due again.
            if let Err(error) = self.token(&person).await {
                tracing::debug!(%person, error = causes(&error), "token not renewed");
            }
        }
    }

    /// Everybody who is enrolled; `None` where nobody needs to be.
    #[must_use]
    pub fn enrolled(&self) -> Option<Vec<Enrolled>> {
        self.shared.tokens.enrolled()
    }

    /// Whose tokens the cloud refuses.
    #[must_use]
    pub fn refused_tokens(&self) -> Vec<RefusedToken> {
        self.shared.tokens.refused()
    }

    /// From now on this is the person's token, whatever the source of tokens says.
    pub(super) fn adopt(&self, person: &PersonId, token: AccessToken) {
        self.shared.tokens.adopt(person, token);
    }

    /// The cloud did not accept this token on a socket.
    pub(crate) async fn reject_token(&self, person: &PersonId, token: &AccessToken) {
        self.shared.tokens.rejected(person, token).await;
    }

    /// How Mercury sockets of this cloud are opened.
    pub(super) fn mercury_config(&self, scale: Scale) -> MercuryConfig {
        let mut mercury = MercuryConfig::new(Arc::clone(&self.shared.config.tls));
        mercury.dial = Arc::clone(&self.shared.dial);
        mercury.connect_timeout = scale.of(mercury.connect_timeout);
        mercury.socket.ready_timeout = scale.of(mercury.socket.ready_timeout);
        mercury.socket.ping_interval = scale.of(mercury.socket.ping_interval);
        mercury.socket.pong_timeout = scale.of(mercury.socket.pong_timeout);
        mercury
    }

    /// Whether a token for this person can be had at all.
    #[must_use]
    pub fn covers(&self, person: &PersonId) -> bool {
        self.shared.tokens.covers(person)
    }

    /// The cloud's time now, never later than it really is: as of its latest word, and our clock since.
    /// Before any word it is our own.
    #[must_use]
    pub fn now(&self) -> Time {
        let ours = self.shared.clock.now();
        let seen = *self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.map_or(ours, |seen| seen.cloud.plus(ours.since(seen.ours)))
    }

    /// How far the cloud's clock was ahead of ours at its latest word, in milliseconds, or up to a second and the word's
    /// way more; negative: behind. `None` before any word.
    #[must_use]
    pub fn clock_offset(&self) -> Option<i64> {
        let seen = *self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.map(|seen| seen.cloud.since(seen.ours))
    }

    /// Where a conversation is that is known by its bare id alone: in the main cluster, most likely. `None`
    /// while no catalog is at hand.
    pub(super) fn likely_address(&self, id: &ConversationId) -> Option<Url> {
        let catalog = self.shared.catalog.try_lock().ok()?;
        let (catalog, _) = catalog.as_ref()?;
        Some(catalog.base(Service::Conversation)?.join(["conversations", id.as_str()]))
    }

    /// What the cloud's clock certainly did not show before our clock showed this: no later than that.
    pub(super) fn at(&self, ours: Time) -> Time {
        self.now().plus(-self.shared.clock.now().since(ours)).min(ours)
    }

    /// Takes a word of the cloud's clock: a moment that has certainly been there by now.
    pub(super) fn heard(&self, cloud: Timestamp) {
        let (cloud, ours) = (Time(cloud.millis()), self.shared.clock.now());
        let mut seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.map(|seen| seen.cloud.plus(ours.since(seen.ours)));
        // A word is late by its travel and by the rest of its second. One that is later than that
        // says that one of the clocks was set.
        let follows = known.is_none_or(|known| cloud >= known || known.since(cloud) > SLACK);
        if follows {
            *seen = Some(Seen { cloud, ours });
        }
    }

    /// Where a service is, by the catalog.
    ///
    /// # Errors
    /// The catalog cannot be read, or does not name it.
    pub async fn base(&self, service: Service) -> Result<Url, CloudError> {
        if service == Service::U2c {
            return Ok(self.shared.config.discovery.clone());
        }
        let catalog = self.catalog().await?;
        let base = catalog.base(service).ok_or(CloudError::NoService(service.name()))?;
        self.encrypted(base)?;
        Ok(base.clone())
    }

    async fn catalog(&self) -> Result<Arc<Catalog>, CloudError> {
        let config = &self.shared.config;
        let mut held = self.shared.catalog.lock().await;
        let known = held.clone();
        if let Some((catalog, until)) = &known
            && Instant::now() < *until
        {
            return Ok(Arc::clone(catalog));
        }
        let asked = catalog::Get::Limited(config.organization.clone());
        // Once a day: kept out of the futures of all requests.
        let sent = Box::pin(self.shared.http.send(asked, &config.discovery, None)).await;
        match (sent, known) {
            (Ok(answer), _) => {
                if let Some(date) = answer.date {
                    self.heard(date);
                }
                let catalog = Arc::new(answer.value);
                *held = Some((Arc::clone(&catalog), Instant::now() + CATALOG_LIFE));
                Ok(catalog)
            }
            // An old catalog serves better than none.
            (Err(_), Some((catalog, _))) => Ok(catalog),
            (Err(error), None) => Err(error.into()),
        }
    }

    /// One request, if its host is not to be left alone.
    async fn exchange<E: Endpoint>(
        &self,
        endpoint: E,
        base: &Url,
        caller: Caller<'_>,
    ) -> Result<E::Response, CloudError> {
        let host = base.host();
        if let Some(after) = self.limited(host) {
            return Err(CloudError::Limited { host: host.to_owned(), after });
        }
        let answer = self.shared.http.send(endpoint, base, caller).await;
        match answer {
            Ok(answer) => {
                if let Some(date) = answer.date {
                    self.heard(date);
                }
                Ok(answer.value)
            }
            Err(error) => {
                if let Fate::Later(after) = error.fate()
                    && error.status().is_some()
                {
                    let until = Instant::now() + after.unwrap_or(self.shared.config.scale.of(LIMITED_FOR));
                    let mut limited = self.shared.limited.lock().unwrap_or_else(PoisonError::into_inner);
                    limited.insert(host.to_owned(), until);
                }
                if let ApiError::Status(status) = &error
                    && let Some(date) = status.date
                {
                    self.heard(date);
                }
                Err(error.into())
            }
        }
    }

    fn limited(&self, host: &str) -> Option<Duration> {
        let mut limited = self.shared.limited.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        limited.retain(|_, until| *until > now);
        limited.get(host).map(|until| *until - now)
    }
}

/// How late a word of the cloud's clock may be: its second, and its travel.
const SLACK: i64 = 10_000;
