//! A signed-in device, ready-made: the catalog, a registration, a Mercury socket that is opened again whatever closes it,
//! and requests that take the token only where the catalog says that it may go.
//!
//! It is for programs that are one person's client. It reads its socket whenever it is asked for something, so that
//! answers of the key service and pongs never wait for a request. One that is asked for nothing for half a minute loses
//! its socket, and says so ([`Happened::Missed`]).

mod catch_up;

use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Download, Http, HttpConfig, MercuryConfig, MercuryError, MercurySocket};
use crate::activity::{Action, Post, Posted, Target};
use crate::auth::AccessToken;
use crate::catalog::{self, Catalog, Service};
use crate::conversation::WalkError;
use crate::device::{self, Device, Registration};
use crate::endpoint::{Destination, Endpoint};
use crate::mercury::{Backoff, Event, Fate, Output};
use crate::{ApiError, ClientTempId, EnvelopeId, PersonId, Random, Timestamp, Url, files, kms_messages};

/// How a [`Session`] signs in and what it bounds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionConfig {
    /// The address of the service catalog.
    pub discovery: Url,
    /// How the device presents itself.
    pub registration: Registration,
    /// A device of an earlier session, which is used again if it is still there; `None`: register one.
    pub device: Option<Device>,
    /// For requests.
    pub http: HttpConfig,
    /// For the socket.
    pub mercury: MercuryConfig,
    /// The first and the longest pause between attempts to open a socket; default 1 s and 32 s.
    pub pauses: (Duration, Duration),
}

impl SessionConfig {
    /// The defaults, for a device of this name.
    pub fn new(discovery: Url, name: &str, tls: Arc<rustls::ClientConfig>) -> Self {
        Self {
            discovery,
            registration: Registration::named(name),
            device: None,
            http: HttpConfig::new(Arc::clone(&tls)),
            mercury: MercuryConfig::new(tls),
            pauses: (Duration::from_secs(1), Duration::from_secs(32)),
        }
    }
}

/// What a session tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum Happened {
    /// Something came by the socket.
    Event(Event),
    /// Something may have happened that did not come by the socket: see [`Session::catch_up`].
    Missed,
    /// The device was gone, and another was registered: whoever talks to the key service begins anew in its name.
    Registered,
}

/// Why a session could not do what it was asked for. It can be asked again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A request failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The socket cannot be opened with this token: set another by [`Session::set_token`].
    #[error("the socket wants another token")]
    Token,
    /// The catalog does not list a service.
    #[error("the catalog has no service `{}`", .0.name())]
    Service(Service),
    /// The token was to be sent to an address that is not the cloud's.
    #[error("`{0}` is no host of the cloud")]
    Untrusted(String),
    /// The cloud's answer lacks something that the session needs.
    #[error("the cloud does not say {0}")]
    Missing(&'static str),
    /// The device was gone, and another was registered: what was asked in the old one's name is answered no more.
    #[error("another device was registered")]
    OtherDevice,
    /// A listing cannot be read to its end.
    #[error(transparent)]
    Listing(#[from] WalkError),
}

/// One person's signed-in device.
pub struct Session {
    config: SessionConfig,
    http: Http,
    random: Random,
    token: AccessToken,
    catalog: Catalog,
    /// The cloud's clock when we signed in, in whole seconds.
    clock: (Timestamp, Instant),
    device: Device,
    me: PersonId,
    socket: Option<MercurySocket>,
    /// What the end of the last socket asks for.
    fate: Fate,
    backoff: Backoff,
    /// What was told last, and is acknowledged once the next is asked for.
    told: Option<EnvelopeId>,
    happened: VecDeque<(Happened, Option<EnvelopeId>)>,
    replies: VecDeque<String>,
    key_service: Option<kms_messages::Info>,
}

/// So much may wait to be told; then the socket is left unread until something is taken.
const MAX_WAITING: usize = 4096;

impl Session {
    /// Finds the services, registers a device (or renews the one that it was given), and opens its socket.
    ///
    /// # Errors
    /// [`SessionError`]; for [`SessionError::Api`] see [`ApiError::fate`] and [`ApiError::is_device_limit`].
    pub async fn sign_in(
        mut config: SessionConfig,
        token: AccessToken,
        mut random: Random,
    ) -> Result<Self, SessionError> {
        let http =
            Http::new(config.http.clone(), &mut random).map_err(|_| SessionError::Missing("our name"))?;
        let answer = http.send(catalog::Get::Full, &config.discovery, Some(&token)).await?;
        let clock = (answer.date.unwrap_or(Timestamp(0)), Instant::now());
        let catalog = answer.value;
        let wdm = catalog.base(Service::Wdm).cloned().ok_or(SessionError::Service(Service::Wdm))?;
        let kept = config.device.take();
        let backoff = Backoff::new(config.pauses.0, config.pauses.1);
        let device = match kept {
            Some(kept) => renew(&http, &config.registration, &catalog, &token, kept.url).await?,
            None => None,
        };
        let device = match device {
            Some(device) => device,
            None => http.send(device::Create(config.registration.clone()), &wdm, Some(&token)).await?.value,
        };
        let me = device.user_id.clone().ok_or(SessionError::Missing("whose device it is"))?;
        let mut session = Self {
            config,
            http,
            random,
            token,
            catalog,
            clock,
            device,
            me,
            socket: None,
            fate: Fate::Reconnect,
            backoff,
            told: None,
            happened: VecDeque::new(),
            replies: VecDeque::new(),
            key_service: None,
        };
        session.open().await?;
        // Nothing can have been missed by who has just come.
        session.happened.retain(|(happened, _)| !matches!(happened, Happened::Missed));
        Ok(session)
    }

    /// Whose device it is.
    pub fn me(&self) -> &PersonId {
        &self.me
    }

    /// The device: kept, it can be used by a later session.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Where everything is.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The cloud's clock, to a second.
    pub fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.clock.1.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.clock.0.millis().saturating_add(passed))
    }

    /// Uses another token from now on.
    pub fn set_token(&mut self, token: AccessToken) {
        self.token = token;
    }

    /// The next thing that happened; what was told before is acknowledged by asking for it, and not before: a program
    /// that ends in between leaves it to the cloud. Cancelling it loses nothing.
    ///
    /// # Errors
    /// [`SessionError::Token`], or what stands in the way of another socket when this one was closed.
    pub async fn next(&mut self) -> Result<Happened, SessionError> {
        if let (Some(told), Some(socket)) = (self.told.take(), &mut self.socket) {
            socket.acknowledge(&told);
        }
        loop {
            if let Some((happened, id)) = self.happened.pop_front() {
                self.told = id;
                return Ok(happened);
            }
            self.hear().await?;
        }
    }

    /// Sends a request, with the token only to where it may go. The socket is read meanwhile.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn send<E: Endpoint>(&mut self, endpoint: E) -> Result<E::Response, SessionError> {
        let base = match endpoint.destination() {
            Destination::Service(service) => {
                self.catalog.base(service).cloned().ok_or(SessionError::Service(service))?
            }
            Destination::Address(url) => url.clone(),
        };
        let token = self.token_for(&base)?;
        let http = self.http.clone();
        Ok(self.reading(http.send(endpoint, &base, Some(&token))).await?.value)
    }

    /// Does something in a conversation, as this person.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn post(&mut self, target: Target, action: Action) -> Result<Posted, SessionError> {
        let client_temp_id = ClientTempId::random(&mut self.random);
        self.send(Post { target, actor: self.me.clone(), client_temp_id, action }).await
    }

    /// The ciphertext of a file, begun.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn download(&mut self, file: &Url) -> Result<Download, SessionError> {
        let resolved = self.send(files::Resolve { file: file.clone() }).await?;
        let at = resolved.as_ref().unwrap_or(file);
        // Where the bytes lie may be nobody's host in particular: the address alone is the permission there.
        let token = Some(&self.token).filter(|_| self.catalog.trusts(at)).cloned();
        let http = self.http.clone();
        Ok(self.reading(http.download(at, token.as_ref())).await?)
    }

    /// Which key service this person has, and its public key.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn key_service(&mut self) -> Result<kms_messages::Info, SessionError> {
        if let Some(known) = &self.key_service {
            return Ok(known.clone());
        }
        let info = self.send(kms_messages::GetInfo(self.me.clone())).await?;
        Ok(self.key_service.insert(info).clone())
    }

    /// The way to the key service and back: posts sealed messages, then waits until the socket has brought something
    /// from it, or until that moment. Returns what came, and when. What a client of the key service waits for.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn relay(
        &mut self,
        messages: Vec<String>,
        until: std::time::Instant,
    ) -> Result<(Vec<String>, std::time::Instant), SessionError> {
        let asking = self.device.url.clone();
        if self.socket.is_none() {
            // The answers come by the socket, so there must be one first.
            self.open().await?;
        }
        let destination = self.key_service().await?.kms_cluster;
        for some in messages.chunks(kms_messages::MAX_MESSAGES) {
            let message =
                kms_messages::Send { destination: destination.clone(), kms_messages: some.to_vec() };
            self.send(message).await?;
        }
        while self.replies.is_empty() {
            if self.device.url != asking {
                return Err(SessionError::OtherDevice);
            }
            match timeout_at(Instant::from_std(until), self.hear()).await {
                Ok(heard) => heard?,
                Err(_) => break,
            }
        }
        Ok((self.replies.drain(..).collect(), Instant::now().into_std()))
    }

    /// Signs out: the device is deleted, and what was told last is acknowledged.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn sign_out(mut self) -> Result<(), SessionError> {
        if let (Some(told), Some(socket)) = (self.told.take(), &mut self.socket) {
            socket.acknowledge(&told);
        }
        // The socket is read, and so written, while the cloud is asked; it is closed only with the device.
        self.send(device::Delete(self.device.url.clone())).await
    }

    fn token_for(&self, url: &Url) -> Result<AccessToken, SessionError> {
        if self.catalog.trusts(url) {
            Ok(self.token.clone())
        } else {
            Err(SessionError::Untrusted(url.host().to_owned()))
        }
    }

    /// Reads the socket while something else is waited for.
    async fn reading<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let output = tokio::select! {
                biased;
                done = &mut work => return done,
                output = heard(&mut self.socket), if self.happened.len() < MAX_WAITING => output,
            };
            self.take(output);
        }
    }

    /// Reads one thing from the socket, or opens another one.
    async fn hear(&mut self) -> Result<(), SessionError> {
        if self.socket.is_none() {
            return self.open().await;
        }
        let output = heard(&mut self.socket).await;
        self.take(output);
        Ok(())
    }

    fn take(&mut self, output: Option<Output>) {
        match output {
            Some(Output::Event(envelope)) => {
                let id = envelope.id.filter(|_| matches!(envelope.event, Event::Activity(_)));
                match envelope.event {
                    Event::KmsMessages(messages) => self.replies.extend(messages),
                    event => self.happened.push_back((Happened::Event(event), id)),
                }
            }
            Some(Output::Gap) => self.missed(),
            Some(Output::Closed(fate)) => (self.socket, self.fate) = (None, fate),
            None => (self.socket, self.fate) = (None, Fate::Reconnect),
            // Told that the cloud will shut the socket down, we wait for that.
            Some(_) => {}
        }
    }

    fn missed(&mut self) {
        let last = self.happened.back().map(|(happened, _)| happened);
        if !matches!(last, Some(Happened::Missed)) {
            self.happened.push_back((Happened::Missed, None));
        }
    }

    /// Opens a socket, again and again until there is one; only the want of a token or of a device ends that.
    async fn open(&mut self) -> Result<(), SessionError> {
        loop {
            match self.fate {
                Fate::Reconnect => {}
                Fate::NewToken => {
                    self.fate = Fate::Reconnect;
                    return Err(SessionError::Token);
                }
                Fate::Renew | Fate::Register => self.register().await?,
            }
            let url = &self.device.web_socket_url;
            let token = self.token_for(url)?;
            let now = self.now();
            let ids = Random::seeded(self.random.next_u64());
            let opened = MercurySocket::connect(&self.config.mercury, url, &token, now, ids).await;
            self.fate = match opened {
                Ok(socket) => match self.begin(socket).await {
                    None => return Ok(()),
                    Some(fate) => fate,
                },
                Err(error) => {
                    tracing::debug!(error = %causes(&error), "no socket");
                    error.fate()
                }
            };
            if self.fate != Fate::NewToken {
                let pause = self.backoff.pause(self.random.next_u64());
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Waits until a socket is ready; otherwise what its end asks for.
    async fn begin(&mut self, mut socket: MercurySocket) -> Option<Fate> {
        let mut early = Vec::new();
        loop {
            match socket.next().await {
                Some(Output::Ready) => break,
                Some(Output::Closed(fate)) => return Some(fate),
                None => return Some(Fate::Reconnect),
                Some(other) if early.len() < MAX_WAITING => early.push(other),
                Some(_) => return Some(Fate::Reconnect),
            }
        }
        self.backoff.reset();
        self.socket = Some(socket);
        self.missed();
        early.into_iter().for_each(|output| self.take(Some(output)));
        None
    }

    /// Renews the registration, or makes another one.
    async fn register(&mut self) -> Result<(), SessionError> {
        let (http, before) = (self.http.clone(), self.device.url.clone());
        let renewed = match self.fate {
            Fate::Renew => {
                let registration = &self.config.registration;
                renew(&http, registration, &self.catalog, &self.token, before.clone()).await?
            }
            _ => None,
        };
        self.device = match renewed {
            Some(device) => device,
            None => {
                let wdm = self.catalog.base(Service::Wdm).ok_or(SessionError::Service(Service::Wdm))?;
                let create = device::Create(self.config.registration.clone());
                let created = http.send(create, wdm, Some(&self.token)).await?.value;
                // Whether the old one is still there or not, we are done with it.
                let _ = http.send(device::Delete(before.clone()), wdm, Some(&self.token)).await;
                created
            }
        };
        self.fate = Fate::Reconnect;
        if self.device.url != before {
            self.replies.clear();
            self.happened.push_back((Happened::Registered, None));
        }
        Ok(())
    }
}

/// The next thing from a socket; never, if there is none.
async fn heard(socket: &mut Option<MercurySocket>) -> Option<Output> {
    match socket {
        Some(socket) => socket.next().await,
        None => std::future::pending().await,
    }
}

/// Renews a device; `None`: it is gone.
async fn renew(
    http: &Http,
    registration: &Registration,
    catalog: &Catalog,
    token: &AccessToken,
    url: Url,
) -> Result<Option<Device>, SessionError> {
    if !catalog.trusts(&url) {
        return Err(SessionError::Untrusted(url.host().to_owned()));
    }
    let refresh = device::Refresh { url: url.clone(), registration: registration.clone() };
    match http.send(refresh, &url, Some(token)).await {
        Ok(answer) => Ok(Some(answer.value)),
        Err(error) if error.status() == Some(http::StatusCode::NOT_FOUND) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn causes(error: &MercuryError) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("me", &self.me)
            .field("device", &self.device.url)
            .finish_non_exhaustive()
    }
}
