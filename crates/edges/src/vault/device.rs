//! One device's conversation with its key service: a task around a [`kms_client::client::Client`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kms_client::SystemRandom;
use kms_client::client::{Client, Event, RequestError, RequestId};
use kms_client::jose::jwe::ContentKey;
use kms_client::message::{Asker, Bearer, Request, Response};
use kms_client::uri::{ClusterUri, KeyUri};
use router::ids::{ConversationId, PersonId};
use router::inbound::Cause;
use rustls::pki_types::UnixTime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use webex_api::auth::AccessToken;
use webex_api::client::BoxFuture;
use webex_api::kms_messages::{GetInfo, MAX_MESSAGES, Send};
use webex_api::{KmsUri, Url};

use super::Shared;
use crate::jabber::OpenError;
use crate::probe::causes;
use crate::webex::{CloudError, PATIENCE};

/// Where an answer goes. Nobody may be waiting there any more.
pub(super) type Answer<T> = oneshot::Sender<Result<T, OpenError>>;

/// What the vault asks of a person's task.
pub(super) enum Ask {
    /// The key of that name.
    Key(KeyUri, Answer<ContentKey>),
    /// A key that did not exist before; it is kept in the ring.
    NewKey(Answer<KeyUri>),
    /// This request, wrapped for another call.
    Wrap(Request, Answer<String>),
}

/// Who waits for what a request brings.
enum Waiting {
    /// Everybody who asked for this key.
    Key(KeyUri, Vec<Answer<ContentKey>>),
    NewKey(Answer<KeyUri>),
    Wrap(Answer<String>),
}

impl Waiting {
    /// What was asked for.
    fn name(&self) -> Box<str> {
        match self {
            Self::Key(uri, _) => uri.to_string().into(),
            Self::NewKey(_) => "a new key".into(),
            Self::Wrap(_) => "a request for another service".into(),
        }
    }

    fn fail(self, error: &OpenError) {
        // Who stopped waiting needs no answer.
        match self {
            Self::Key(_, answers) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
            Self::NewKey(answer) => drop(answer.send(Err(error.clone()))),
            Self::Wrap(answer) => drop(answer.send(Err(error.clone()))),
        }
    }
}

/// A post of messages on its way.
type Post = BoxFuture<'static, Result<(), CloudError>>;

/// The refusals of more keys than this are not counted.
const MOST_REFUSED: usize = 1_000;

/// The task's state.
pub(super) struct Device {
    person: PersonId,
    address: Url,
    shared: Arc<Shared>,
    /// The conversation, and where its messages are posted; `None` until the first question, and again when the key
    /// service was silent to an exchange, or refused it: the person may have another by now, or that another static key.
    client: Option<(Client, KmsUri)>,
    token: Option<AccessToken>,
    waiting: BTreeMap<RequestId, Waiting>,
    fetching: BTreeMap<KeyUri, RequestId>,
    /// How often what was asked for has been refused in a row, by the name of the key, or of the question.
    refusals: BTreeMap<Box<str>, u32>,
}

impl Device {
    pub(super) fn new(person: PersonId, address: Url, shared: Arc<Shared>) -> Self {
        let (waiting, fetching, refusals) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { person, address, shared, client: None, token: None, waiting, fetching, refusals }
    }

    /// Runs until the vault lets go of the other ends.
    pub(super) async fn run(
        mut self,
        mut asks: mpsc::Receiver<Ask>,
        mut replies: mpsc::Receiver<Vec<String>>,
    ) {
        let mut post: Option<Post> = None;
        loop {
            self.settle().await;
            if post.is_none() {
                post = self.post();
            }
            let deadline = self.client.as_ref().and_then(|(client, _)| client.deadline());
            tokio::select! {
                biased;
                messages = replies.recv() => match messages {
                    Some(messages) => self.take_replies(&messages),
                    None => return,
                },
                posted = pending(&mut post) => {
                    post = None;
                    if let Err(error) = posted {
                        self.not_posted(&error);
                    }
                }
                ask = asks.recv() => match ask {
                    Some(ask) => self.take(ask).await,
                    None => return,
                },
                () = until(deadline) => {
                    if let Some((client, _)) = &mut self.client {
                        client.handle_timeout(now());
                    }
                }
            }
        }
    }

    /// The next messages, as one post.
    fn post(&mut self) -> Option<Post> {
        let (client, destination) = self.client.as_mut()?;
        let kms_messages: Vec<_> = std::iter::from_fn(|| client.poll_message()).take(MAX_MESSAGES).collect();
        if kms_messages.is_empty() {
            return None;
        }
        let send = Send { destination: destination.clone(), kms_messages };
        let (shared, person) = (Arc::clone(&self.shared), self.person.clone());
        Some(Box::pin(async move { shared.cloud.send_as(&person, send).await }))
    }

    /// Where it is certain that nothing arrived, nobody need wait; else the client asks again by itself.
    fn not_posted(&mut self, error: &CloudError) {
        tracing::debug!(%error, "messages to the key service not posted");
        if error.is_refusal() {
            if let Some((client, _)) = &mut self.client {
                client.abandon();
            }
            self.fail_all(&OpenError::Later(error.cause().0));
        }
    }

    fn take_replies(&mut self, messages: &[String]) {
        let Some((client, _)) = &mut self.client else { return };
        for message in messages {
            if let Err(error) = client.handle_reply(message, now()) {
                tracing::debug!(%error, "reply of the key service passed over");
            }
        }
    }

    async fn take(&mut self, ask: Ask) {
        let closed = match &ask {
            Ask::Key(_, answer) => answer.is_closed(),
            Ask::NewKey(answer) => answer.is_closed(),
            Ask::Wrap(_, answer) => answer.is_closed(),
        };
        if closed {
            return;
        }
        let (request, mut waiting) = match ask {
            Ask::Key(uri, answer) => {
                let kept = self.shared.ring().get(&uri);
                if let Some(key) = kept {
                    let _ = answer.send(Ok(key));
                    return;
                }
                let joined = self.fetching.get(&uri).and_then(|id| self.waiting.get_mut(id));
                if let Some(Waiting::Key(_, answers)) = joined {
                    answers.push(answer);
                    return;
                }
                (Request::RetrieveKey { key: uri.clone() }, Waiting::Key(uri, vec![answer]))
            }
            Ask::NewKey(answer) => (Request::CreateKeys { count: 1 }, Waiting::NewKey(answer)),
            Ask::Wrap(request, answer) => (request, Waiting::Wrap(answer)),
        };
        let client = match self.ready().await {
            Ok(client) => client,
            Err(error) => return waiting.fail(&error),
        };
        let id = match &waiting {
            Waiting::Wrap(_) => client.wrap(request, now()),
            _ => client.submit(request, now()),
        };
        match id {
            Ok(id) => {
                if let Waiting::Key(uri, _) = &mut waiting {
                    self.fetching.insert(uri.clone(), id);
                }
                self.waiting.insert(id, waiting);
            }
            Err(_) => waiting.fail(&OpenError::Later(Cause::Kms)),
        }
    }

    /// The client with a token that is good now.
    async fn ready(&mut self) -> Result<&mut Client, OpenError> {
        let later = |error: CloudError| OpenError::Later(error.cause().0);
        let cloud = &self.shared.cloud;
        let token = cloud.token(&self.person).await.map_err(later)?;
        let bearer = Bearer::new(token.expose());
        self.token = Some(token);
        if self.client.is_none() {
            let person = self.person.as_str().parse().map_err(|_| {
                OpenError::Wedged(format!("person id `{}` cannot be sent", self.person).into())
            })?;
            let info = cloud.send_as(&self.person, GetInfo(person)).await.map_err(later)?;
            let distrusted = |error: &dyn std::fmt::Display| {
                tracing::error!(cluster = %info.kms_cluster, %error, "key service is not trusted");
                OpenError::Later(Cause::Kms)
            };
            let cluster: ClusterUri =
                info.kms_cluster.as_str().parse().map_err(|error| distrusted(&error))?;
            let today = Duration::from_millis(u64::try_from(cloud.now().0).unwrap_or(0));
            let today = UnixTime::since_unix_epoch(today);
            let config = &self.shared.config;
            let key = config
                .trust
                .check(&cluster, &info.rsa_public_key, today)
                .map_err(|error| distrusted(&error))?;
            let asker = Asker {
                device: self.address.as_str().to_owned(),
                user: self.person.as_str().to_owned(),
                bearer: bearer.clone(),
            };
            let client = Client::new(asker, key, config.timings, Box::new(SystemRandom::new()));
            self.client = Some((client, info.kms_cluster));
        }
        let (client, _) = self.client.as_mut().expect("made just above where there was none");
        client.set_bearer(bearer);
        Ok(client)
    }

    /// Hands on what the client has to say.
    async fn settle(&mut self) {
        let mut unheard = false;
        while let Some(event) = self.client.as_mut().and_then(|(client, _)| client.poll_event()) {
            match event {
                Event::Wrapped { id, message, .. } => {
                    if let Some(Waiting::Wrap(answer)) = self.waiting.remove(&id) {
                        let _ = answer.send(Ok(message));
                    }
                }
                Event::Answered { id, outcome } => {
                    let Some(waiting) = self.waiting.remove(&id) else { continue };
                    if let Waiting::Key(uri, _) = &waiting {
                        self.fetching.remove(uri);
                    }
                    match outcome {
                        Ok(response) => self.arrived(waiting, *response),
                        Err(error) => {
                            unheard |=
                                matches!(error, RequestError::Silent | RequestError::ExchangeRefused { .. });
                            let error = self.judge(waiting.name(), error).await;
                            waiting.fail(&error);
                        }
                    }
                }
            }
        }
        if unheard && self.waiting.is_empty() && self.client.as_ref().is_some_and(|(c, _)| !c.is_ready()) {
            self.client = None;
        }
    }

    /// Keeps the key that came and hands it to all who wait for it.
    fn arrived(&mut self, waiting: Waiting, mut response: Response) {
        self.refusals.remove(&waiting.name());
        match waiting {
            Waiting::Key(uri, answers) => {
                let key = response.key.expect("the client takes no answer without the key").jwk.0.k;
                self.shared.ring().insert(uri, key.clone());
                for answer in answers {
                    let _ = answer.send(Ok(key.clone()));
                }
            }
            Waiting::NewKey(answer) => {
                let key = response.keys.swap_remove(0);
                self.shared.ring().insert(key.uri.clone(), key.jwk.0.k);
                let _ = answer.send(Ok(key.uri));
            }
            // A wrapped request has no answer of its own.
            Waiting::Wrap(_) => {}
        }
    }

    /// What becomes of a message whose key was not to be had. Only what is said again and again about this very key
    /// ends it for good.
    async fn judge(&mut self, name: Box<str>, error: RequestError) -> OpenError {
        match error {
            RequestError::ExchangeRefused { status: 401 | 403, .. }
            | RequestError::Refused { status: 401, .. } => {
                if let Some(token) = &self.token {
                    self.shared.cloud.reject_token(&self.person, token).await;
                }
                OpenError::Later(Cause::Token(self.person.clone()))
            }
            RequestError::Refused { status: status @ (400 | 403..=407 | 409..=428), error_code, .. } => {
                if self.refusals.len() == MOST_REFUSED && !self.refusals.contains_key(&name) {
                    self.refusals.pop_first();
                }
                let times = self.refusals.entry(name.clone()).or_insert(0);
                *times += 1;
                if *times < PATIENCE {
                    // In the way of this key alone.
                    return OpenError::Later(Cause::Conversation(ConversationId::new(name)));
                }
                self.refusals.remove(&name);
                let code = error_code.map(|code| format!(", error code {code}")).unwrap_or_default();
                OpenError::Wedged(format!("key service refused: status {status}{code}").into())
            }
            RequestError::TooLong => OpenError::Wedged(error.to_string().into()),
            error => {
                tracing::warn!(error = causes(&error), "key service does not do what is asked");
                OpenError::Later(Cause::Kms)
            }
        }
    }

    fn fail_all(&mut self, error: &OpenError) {
        self.fetching.clear();
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            waiting.fail(error);
        }
    }
}

/// The client's clock is that of the runtime, so that a world with paused time replays.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn pending(post: &mut Option<Post>) -> Result<(), CloudError> {
    match post {
        Some(post) => post.await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
