//! The puppet's keys: a KMS client of its own, driven over the puppet's requests and socket.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use kms_client::{
    SystemRandom,
    client::{Client, Event, RequestError, RequestId, Timings},
    jose::jwk::ContentKey,
    message::{Asker, Bearer, Request, Response},
    trust::{StaticPublic, Trust},
    uri::{ClusterUri, KeyUri},
};
use rustls::pki_types::UnixTime;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use webex_api::{KmsUri, Url, auth::AccessToken, client::Http, device::Device, kms_messages};

use super::{WebexApp, api, failed};
use crate::{
    clock::{Clock, Time},
    people::PuppetError,
};

/// How long one ephemeral key is used, by the lab's clock, which can be moved: it lives for an hour.
const EPHEMERAL: Duration = Duration::from_secs(3_000);

/// What a request came to.
enum Outcome {
    Answered(Result<Box<Response>, RequestError>),
    Wrapped(String),
}

/// The keys of one signed-in client.
pub(super) struct Keys(Arc<Shared>);

struct Shared {
    http: Http,
    base: Url,
    token: AccessToken,
    cluster: KmsUri,
    clock: Clock,
    asker: Asker,
    trusted: StaticPublic,
    inner: Mutex<Inner>,
    moved: Notify,
}

struct Inner {
    client: Client,
    since: Time,
    waiting: BTreeMap<RequestId, oneshot::Sender<Outcome>>,
    known: BTreeMap<KeyUri, ContentKey>,
}

impl Keys {
    /// Asks for the key service's static key, checks it, and starts idle.
    pub(super) async fn new(
        app: &WebexApp,
        base: &Url,
        token: &AccessToken,
        device: &Device,
    ) -> Result<Self, PuppetError> {
        let me = app.me.person_id.parse().map_err(failed)?;
        let info =
            app.http.send(kms_messages::GetInfo(me), base, Some(token)).await.map_err(api("keys"))?.value;
        let cluster: ClusterUri = info.kms_cluster.as_str().parse().map_err(failed)?;
        let seconds = u64::try_from(app.ctx.clock.now().0 / 1_000).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let trusted = Trust::danger_any_chain().check(&cluster, &info.rsa_public_key, now).map_err(failed)?;
        let asker = Asker {
            device: device.url.as_str().to_owned(),
            user: app.me.person_id.clone(),
            bearer: Bearer::new(token.expose()),
        };
        let client = start(&asker, &trusted);
        let since = app.ctx.clock.now();
        let inner = Inner { client, since, waiting: BTreeMap::new(), known: BTreeMap::new() };
        let shared = Arc::new(Shared {
            http: app.http.clone(),
            base: base.clone(),
            token: token.clone(),
            cluster: info.kms_cluster,
            clock: app.ctx.clock.clone(),
            asker,
            trusted,
            inner: Mutex::new(inner),
            moved: Notify::new(),
        });
        app.ctx.spawn(wait(Arc::downgrade(&shared)));
        Ok(Self(shared))
    }

    /// Something from the key service came by the socket.
    pub(super) fn handle(&self, message: &str) {
        if let Err(error) = self.0.inner().client.handle_reply(message, Instant::now().into_std()) {
            tracing::debug!(%error, "a reply of the key service was passed over");
        }
        self.0.pump();
    }

    /// A new key, bound to nothing yet.
    pub(super) async fn make(&self) -> Result<KeyUri, PuppetError> {
        let response = self.ask(Request::CreateKeys { count: 1 }).await?;
        let key = response.keys.into_iter().next().ok_or_else(|| failed("the key service made no key"))?;
        self.0.inner().known.insert(key.uri.clone(), key.jwk.0.k.clone());
        Ok(key.uri)
    }

    /// A key by its name.
    pub(super) async fn get(&self, uri: &KeyUri) -> Result<ContentKey, PuppetError> {
        if let Some(key) = self.0.inner().known.get(uri) {
            return Ok(key.clone());
        }
        let response = self.ask(Request::RetrieveKey { key: uri.clone() }).await?;
        let key = response.key.ok_or_else(|| failed("the key service gave no key"))?.jwk.0.k;
        self.0.inner().known.insert(uri.clone(), key.clone());
        Ok(key)
    }

    /// Seals a request that a conversation call carries.
    pub(super) async fn wrap(&self, request: Request) -> Result<String, PuppetError> {
        match self.run(|client| client.wrap(request, Instant::now().into_std())).await? {
            Outcome::Wrapped(message) => Ok(message),
            Outcome::Answered(Err(error)) => Err(failed(error)),
            Outcome::Answered(Ok(_)) => Err(failed("the key service answered something else")),
        }
    }

    async fn ask(&self, request: Request) -> Result<Response, PuppetError> {
        match self.run(|client| client.submit(request, Instant::now().into_std())).await? {
            Outcome::Answered(outcome) => outcome.map(|response| *response).map_err(failed),
            Outcome::Wrapped(_) => Err(failed("the key service answered something else")),
        }
    }

    async fn run(
        &self,
        ask: impl FnOnce(&mut Client) -> Result<RequestId, kms_client::client::Full>,
    ) -> Result<Outcome, PuppetError> {
        let (done, outcome) = oneshot::channel();
        {
            let mut inner = self.0.inner();
            let now = self.0.clock.now();
            if inner.waiting.is_empty() && now.since(inner.since) >= EPHEMERAL {
                (inner.client, inner.since) = (start(&self.0.asker, &self.0.trusted), now);
            }
            let id = ask(&mut inner.client).map_err(failed)?;
            inner.waiting.insert(id, done);
        }
        self.0.pump();
        self.0.moved.notify_one();
        outcome.await.map_err(|_| failed("the client signed out"))
    }
}

fn start(asker: &Asker, trusted: &StaticPublic) -> Client {
    Client::new(asker.clone(), trusted.clone(), Timings::default(), Box::new(SystemRandom::new()))
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Posts what the client has to say and hands out what came of it.
    fn pump(self: &Arc<Self>) {
        let mut inner = self.inner();
        while let Some(event) = inner.client.poll_event() {
            let (id, outcome) = match event {
                Event::Answered { id, outcome } => (id, Outcome::Answered(outcome)),
                Event::Wrapped { id, message, .. } => (id, Outcome::Wrapped(message)),
            };
            if let Some(waiting) = inner.waiting.remove(&id) {
                // Who asked may be gone.
                let _ = waiting.send(outcome);
            }
        }
        while let Some(message) = inner.client.poll_message() {
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                let send =
                    kms_messages::Send { destination: shared.cluster.clone(), kms_messages: vec![message] };
                if let Err(error) = shared.http.send(send, &shared.base, Some(&shared.token)).await {
                    tracing::debug!(%error, "a message to the key service was not sent");
                }
            });
        }
    }
}

/// Lets the client's time-outs happen, as long as somebody is signed in.
async fn wait(shared: Weak<Shared>) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let deadline = strong.inner().client.deadline();
        // While signed in it is looked at least this often whether it still is.
        let latest = Instant::now() + Duration::from_secs(60);
        let deadline = deadline.map_or(latest, |deadline| latest.min(Instant::from_std(deadline)));
        tokio::select! {
            biased;
            () = strong.moved.notified() => continue,
            () = tokio::time::sleep_until(deadline) => {}
        }
        strong.inner().client.handle_timeout(Instant::now().into_std());
        strong.pump();
    }
}
