//! What the examples about the cloud share: a signed-in client, made of `webex-api` and `kms-client` alone. It has a
//! device, a Mercury socket, and an exchange with the key service, which answers over that socket.

#![allow(dead_code, reason = "each example uses its part")]

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kms_client::client::{Client, Event as KeyEvent, Timings};
use kms_client::jose::jwk::ContentKey;
use kms_client::message::{Asker, Bearer, Request, Response};
use kms_client::trust::Trust;
use rustls_pki_types::UnixTime;
use webex_api::auth::AccessToken;
use webex_api::catalog::{self, Catalog, Service};
use webex_api::client::{Http, HttpConfig, MercuryConfig, MercurySocket};
use webex_api::device::{self, Device, Registration};
use webex_api::endpoint::{Destination, Endpoint};
use webex_api::mercury::{Event, Output};
use webex_api::{PersonId, Random, Timestamp, Url, kms_messages, people};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// A signed-in client.
pub(crate) struct Cloud {
    pub(crate) http: Http,
    token: AccessToken,
    pub(crate) me: PersonId,
    catalog: Catalog,
    device: Device,
    socket: MercurySocket,
    keys: Client,
    info: kms_messages::Info,
    /// What came while a key was waited for.
    events: VecDeque<Event>,
}

impl Cloud {
    /// Finds the services, registers a device, opens its socket, and learns which key service it has.
    pub(crate) async fn sign_in(discovery: &str, token: &str) -> Outcome<Self> {
        let discovery: Url = discovery.parse()?;
        let token = AccessToken::try_from(token.to_owned())?;
        let tls = system_tls()?;
        let http = Http::new(HttpConfig::new(Arc::clone(&tls)), &mut random())?;
        let catalog = http.send(catalog::Get::Full, &discovery, Some(&token)).await?.value;
        let registration = Registration {
            name: "example".into(),
            device_type: "DESKTOP".into(),
            model: "example".into(),
            localized_model: "example".into(),
            system_name: "example".into(),
            system_version: "1".into(),
        };
        let wdm = catalog.base(Service::Wdm).ok_or("the catalog has no device service")?;
        let device = http.send(device::Create(registration), wdm, Some(&token)).await?.value;
        let me = device.user_id.clone().ok_or("the device says nothing of its owner")?;

        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let now = Timestamp(i64::try_from(since.as_millis())?);
        let config = MercuryConfig::new(tls);
        let mut socket =
            MercurySocket::connect(&config, &device.web_socket_url, &token, now, random()).await?;
        while !matches!(socket.next().await.ok_or("the socket ended")?, Output::Ready) {}

        let encryption = catalog.base(Service::Encryption).ok_or("the catalog has no key service")?;
        let info = http.send(kms_messages::GetInfo(me.clone()), encryption, Some(&token)).await?.value;
        // Whoever wants to be sure of the key service pins the root of its chain: `Trust::pinned`.
        let cluster = info.kms_cluster.as_str().parse()?;
        let now = UnixTime::since_unix_epoch(since);
        let trusted = Trust::danger_any_chain().check(&cluster, &info.rsa_public_key, now)?;
        let asker = Asker {
            device: device.url.as_str().into(),
            user: me.as_str().into(),
            bearer: Bearer::new(token.expose()),
        };
        let system = kms_client::SystemRandom::new();
        let keys = Client::new(asker, trusted, Timings::default(), Box::new(system));
        Ok(Self { http, token, me, catalog, device, socket, keys, info, events: VecDeque::new() })
    }

    /// Sends a request, with the token only to where the catalog says that it may go.
    pub(crate) async fn send<E: Endpoint>(&self, endpoint: E) -> Outcome<E::Response> {
        let base = match endpoint.destination() {
            Destination::Service(service) => self.catalog.base(service).cloned(),
            Destination::Address(url) => Some(url.clone()),
        };
        let base = base.ok_or("a service is missing")?;
        Ok(self.http.send(endpoint, &base, self.token_for(&base)).await?.value)
    }

    /// The token, if an address is one that it may go to.
    pub(crate) fn token_for(&self, url: &Url) -> Option<&AccessToken> {
        Some(&self.token).filter(|_| self.catalog.trusts(url))
    }

    /// The person with a mail address.
    pub(crate) async fn person(&self, mail: &str) -> Outcome<PersonId> {
        let found = self.send(people::Lookup { emails: vec![mail.to_owned()] }).await?;
        found.into_values().next().ok_or_else(|| format!("there is nobody called {mail}").into())
    }

    /// The next event, acknowledged.
    pub(crate) async fn event(&mut self) -> Outcome<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let output = self.socket.next().await;
            self.take(output)?;
        }
    }

    fn take(&mut self, output: Option<Output>) -> Outcome<()> {
        match output {
            Some(Output::Event(envelope)) => {
                if let Some(id) = &envelope.id {
                    self.socket.acknowledge(id);
                }
                match envelope.event {
                    Event::KmsMessages(messages) => {
                        for message in messages {
                            // A reply that is not understood is asked for again.
                            let _ = self.keys.handle_reply(&message, Instant::now());
                        }
                    }
                    event => self.events.push_back(event),
                }
            }
            Some(Output::Gap) => println!("a gap: read the conversations again"),
            Some(Output::Closed(fate)) => return Err(format!("closed: {fate:?}").into()),
            Some(_) => {}
            None => return Err("the socket ended".into()),
        }
        Ok(())
    }

    /// Asks the key service.
    pub(crate) async fn ask(&mut self, request: Request) -> Outcome<Response> {
        self.keys.submit(request, Instant::now())?;
        match self.answer().await? {
            KeyEvent::Answered { outcome, .. } => Ok(*outcome?),
            KeyEvent::Wrapped { .. } => Err("a wrapped request in place of an answer".into()),
        }
    }

    /// Seals a request to the key service that another request carries.
    pub(crate) async fn wrap(&mut self, request: Request) -> Outcome<String> {
        self.keys.wrap(request, Instant::now())?;
        match self.answer().await? {
            KeyEvent::Wrapped { message, .. } => Ok(message),
            KeyEvent::Answered { outcome, .. } => Err(format!("not wrapped: {outcome:?}").into()),
        }
    }

    /// The key with this address.
    pub(crate) async fn key(&mut self, address: &str) -> Outcome<ContentKey> {
        let response = self.ask(Request::RetrieveKey { key: address.parse()? }).await?;
        Ok(response.key.ok_or("no key was given")?.jwk.0.k)
    }

    async fn answer(&mut self) -> Outcome<KeyEvent> {
        loop {
            if let Some(event) = self.keys.poll_event() {
                return Ok(event);
            }
            while let Some(message) = self.keys.poll_message() {
                let destination = self.info.kms_cluster.clone();
                self.send(kms_messages::Send { destination, kms_messages: vec![message] }).await?;
            }
            let wait = self.keys.deadline().map_or(Duration::ZERO, |at| at.duration_since(Instant::now()));
            match tokio::time::timeout(wait, self.socket.next()).await {
                Ok(output) => self.take(output)?,
                Err(_) => self.keys.handle_timeout(Instant::now()),
            }
        }
    }

    /// Deletes the device, which ends the socket.
    pub(crate) async fn sign_out(mut self) -> Outcome<()> {
        // The last acknowledgement is written by the call after it.
        let _ = tokio::time::timeout(Duration::from_millis(200), self.socket.next()).await;
        self.send(device::Delete(self.device.url.clone())).await
    }
}

/// TLS with the system's authorities, on ring.
fn system_tls() -> Outcome<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Identifiers and jitter; never keys.
pub(crate) fn random() -> Random {
    Random::new(|| u64::from_ne_bytes(bytes()))
}

/// A new id (a UUID of version 4).
pub(crate) fn id() -> String {
    let (high, low) = (u64::from_ne_bytes(bytes()), u64::from_ne_bytes(bytes()));
    let (first, second, third) = (high >> 32, (high >> 16) & 0xffff, high & 0xfff);
    format!("{first:08x}-{second:04x}-4{third:03x}-8{:03x}-{:012x}", low >> 52, low & 0xffff_ffff_ffff)
}

/// Bytes that nobody can guess.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    use ring::rand::{SecureRandom as _, SystemRandom};
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system has randomness");
    bytes
}
