//! A person's Webex App: a device, a Mercury socket and a key exchange of its own.
//!
//! It signs in with the person's own refresh token, opens by itself what its socket brings, and records that without
//! leaving repeats out. What happened while it was signed out it reads from listings, as the real one does.

mod keys;
mod raw;
mod share;
mod socket;
mod status;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use http::StatusCode;
use kms_client::{jose::jwe, message, uri::KeyUri};
use serde_json::json;
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::sync::CancellationToken;
use webex_api::{
    ActivityId, ApiError, ClientTempId, PersonId, Random, Url,
    activity::{Action, Activity, Comment, Object, Post, Posted, Target, Text, Verb},
    auth::{AccessToken, Client as OAuthClient, Grant, TokenRequest},
    catalog::{Catalog, Get, Service},
    client::{self, Http, HttpConfig},
    conversation::{self, Conversation},
    device::{self, Device},
    endpoint::{Destination, Endpoint},
    typing::{State, Typing},
};

use self::raw::PresenceEvent;
use super::{Act, Nobody, Person, Puppet, PuppetError, What};
use crate::{
    clock::Time,
    cloud::PUPPET,
    ctx::{CLIENT_ID, CLIENT_SECRET, Ctx},
    net::Network,
    seen::{App, Client, Direction, Kind, Sight},
};

/// How long one request may take. It is not scaled: a loaded machine is no fault of the cloud.
const REQUEST: Duration = Duration::from_secs(30);
/// After how long the client signs in anew: before its token ends. By the lab's clock, which can be moved.
const TOKEN: Duration = Duration::from_secs(13 * 86_400);
/// How often somebody who uses the client is reported as active, at most.
const ACTIVE: Duration = Duration::from_secs(60);
/// How many messages a client remembers, to read, edit and delete them later.
const REMEMBERED: usize = 10_000;

/// How a puppet reaches the cloud.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The address of the service catalog.
    pub discovery: Url,
    /// What is trusted where the cloud speaks TLS.
    pub tls: Arc<rustls::ClientConfig>,
}

/// One person's Webex App.
pub struct WebexApp {
    ctx: Arc<Ctx>,
    me: Person,
    client: Client,
    reach: Reach,
    refresh: String,
    http: Http,
    /// One signs in at a time.
    signing: AsyncMutex<()>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    line: Option<Arc<Line>>,
    /// What was seen or written, by id: the conversation, and whether it is one's own.
    messages: BTreeMap<String, Target>,
    /// When the client was last signed out.
    left: Option<Time>,
    /// The person wants to be signed out.
    away: bool,
    /// When the person was last reported as active.
    active: Option<Time>,
}

/// What a signed-in client has.
struct Line {
    catalog: Catalog,
    token: AccessToken,
    device: Device,
    keys: keys::Keys,
    /// Ends the socket.
    stop: CancellationToken,
    since: Time,
}

#[derive(Debug)]
struct NetworkDial(Network);

impl client::Dial for NetworkDial {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> client::BoxFuture<'a, std::io::Result<client::BoxIo>> {
        Box::pin(async move { Ok(Box::new(self.0.dial(host, port).await?) as client::BoxIo) })
    }
}

/// A generator for identifiers, seeded from the lab's.
fn random(ctx: &Arc<Ctx>) -> Random {
    let ctx = Arc::clone(ctx);
    Random::new(move || u64::from_le_bytes(ctx.rng.bytes()))
}

fn failed(error: impl std::fmt::Display) -> PuppetError {
    PuppetError::Failed(error.to_string())
}

fn api(what: &str) -> impl Fn(ApiError) -> PuppetError + '_ {
    move |error| PuppetError::Failed(format!("{what}: {error}"))
}

impl WebexApp {
    /// A client that is signed out; `refresh` is the person's own refresh token.
    ///
    /// # Errors
    /// When its HTTP client cannot be made.
    pub fn new(ctx: &Arc<Ctx>, me: Person, reach: Reach, refresh: String) -> Result<Arc<Self>, PuppetError> {
        let mut config = HttpConfig::new(Arc::clone(&reach.tls));
        config.dial = Arc::new(NetworkDial(ctx.network.clone()));
        config.timeout = REQUEST;
        config.user_agent = PUPPET.to_owned();
        let http = Http::new(config, &mut random(ctx)).map_err(failed)?;
        Ok(Arc::new(Self {
            ctx: Arc::clone(ctx),
            client: Client::new(me.name.clone(), App::Webex),
            me,
            reach,
            refresh,
            http,
            signing: AsyncMutex::default(),
            inner: Mutex::default(),
        }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the client needs to do something: it signs in for that, unless the person wants to be signed out.
    async fn line(self: &Arc<Self>) -> Result<Arc<Line>, PuppetError> {
        let (line, away) = {
            let inner = self.inner();
            (inner.line.clone(), inner.away)
        };
        if away {
            return Err(PuppetError::Offline(self.client.clone()));
        }
        if let Some(line) = &line
            && self.ctx.clock.now().since(line.since) >= TOKEN
        {
            self.sign_out().await?;
        }
        self.sign_in().await?;
        let line = self.inner().line.clone().ok_or_else(|| PuppetError::Offline(self.client.clone()))?;
        self.be_active(&line).await?;
        Ok(line)
    }

    /// Signs in, unless signed in already: token, device, socket, and what was missed.
    ///
    /// # Errors
    /// What the cloud refused.
    pub async fn sign_in(self: &Arc<Self>) -> Result<(), PuppetError> {
        let _one = self.signing.lock().await;
        if self.inner().line.is_some() {
            return Ok(());
        }
        let catalog = self.http.send(
            Get::Limited(self.me.org_id.parse().map_err(failed)?),
            &self.reach.discovery,
            None,
        );
        let catalog = catalog.await.map_err(api("catalog"))?.value;
        let base = |service| catalog.base(service).cloned().ok_or_else(|| failed("a service is missing"));
        let request = TokenRequest {
            client: OAuthClient { id: CLIENT_ID.to_owned(), secret: CLIENT_SECRET.to_owned().into() },
            grant: Grant::Refresh(self.refresh.clone().into()),
        };
        let token = self.http.send(request, &base(Service::Idbroker)?, None).await.map_err(api("token"))?;
        let token = token.value.access_token;
        let registration = device::Registration::named(PUPPET);
        let wdm = base(Service::Wdm)?;
        let create = self.http.send(device::Create(registration), &wdm, Some(&token));
        let device = create.await.map_err(api("device"))?.value;
        let keys = keys::Keys::new(self, &base(Service::Encryption)?, &token, &device).await?;
        let line = Arc::new(Line {
            catalog,
            token,
            device,
            keys,
            stop: self.ctx.stop.child_token(),
            since: self.ctx.clock.now(),
        });
        socket::start(self, &line).await?;
        let left = {
            let mut inner = self.inner();
            inner.line = Some(Arc::clone(&line));
            inner.left.take()
        };
        if let Some(left) = left {
            self.catch_up(&line, left).await?;
        }
        Ok(())
    }

    /// Signs out: the socket ends and the device is deleted.
    async fn sign_out(&self) -> Result<(), PuppetError> {
        let line = {
            let mut inner = self.inner();
            if inner.line.is_some() {
                inner.left = Some(self.ctx.clock.now());
            }
            inner.line.take()
        };
        let Some(line) = line else { return Ok(()) };
        line.stop.cancel();
        match self
            .http
            .send(device::Delete(line.device.url.clone()), &line.device.url, Some(&line.token))
            .await
        {
            // A token that has ended takes the right to delete with it; the device is of no more use anyway.
            Err(ApiError::Status(refused)) if refused.status == StatusCode::UNAUTHORIZED => Ok(()),
            answer => answer.map(drop).map_err(api("device")),
        }
    }

    /// Reads from listings what happened while signed out, oldest first.
    async fn catch_up(self: &Arc<Self>, line: &Arc<Line>, since: Time) -> Result<(), PuppetError> {
        let _held = self.ctx.idle.hold();
        // Listings show things late; by then everything before the sign-in is in them.
        let until = self.ctx.clock.now().0;
        self.ctx.clock.sleep(self.ctx.clock.scaled(Duration::from_secs(3))).await;
        let list = conversation::List::First { cluster: None, since: Some(webex_api::Timestamp(since.0)) };
        let listed = self.send(line, list).await?;
        let mut missed = Vec::new();
        for conversation in listed.conversations {
            let Some(url) = conversation.url.clone() else { continue };
            let mut from = since.0;
            loop {
                let page = conversation::Activities {
                    conversation: url.clone(),
                    since: Some(webex_api::Timestamp(from)),
                    until: Some(webex_api::Timestamp(until)),
                    limit: 100,
                };
                let page = self.send(line, page).await?;
                let last = page.activities.iter().filter_map(|activity| activity.published).max();
                let full = page.entries == 100;
                missed.extend(page.activities);
                match last {
                    Some(last) if full => from = last.millis() + 1,
                    _ => break,
                }
            }
        }
        missed.sort_by_key(|activity| activity.published);
        for activity in missed {
            let known = self.inner().messages.contains_key(activity.id.as_str());
            if !known {
                self.saw(line, &activity).await;
            }
        }
        Ok(())
    }

    async fn send<E: Endpoint>(&self, line: &Line, endpoint: E) -> Result<E::Response, PuppetError> {
        let base = match endpoint.destination() {
            Destination::Service(service) => line.catalog.base(service).cloned(),
            Destination::Address(url) => Some(url.clone()),
        };
        let base = base.ok_or_else(|| failed("a service is missing"))?;
        let answer = self.http.send(endpoint, &base, Some(&line.token)).await;
        answer.map(|answer| answer.value).map_err(api("the cloud"))
    }

    /// Reports the person as active, as a client in use does now and then.
    async fn be_active(&self, line: &Line) -> Result<(), PuppetError> {
        let now = self.ctx.clock.now();
        {
            let mut inner = self.inner();
            if inner.active.is_some_and(|last| now.since(last) < ACTIVE) {
                return Ok(());
            }
            inner.active = Some(now);
        }
        let event = json!({"subject": self.me.person_id, "eventType": "active", "label": self.me.person_id, "ttl": 600});
        self.send(line, PresenceEvent(event)).await
    }

    fn my_id(&self) -> Result<PersonId, PuppetError> {
        self.me.person_id.parse().map_err(failed)
    }

    /// The 1:1 with somebody; made where there is none.
    async fn conversation_with(&self, line: &Line, to: &str) -> Result<Conversation, PuppetError> {
        let other = self.ctx.people.by_name(to).ok_or_else(|| Nobody(to.to_owned()))?;
        let other: PersonId = other.person_id.parse().map_err(failed)?;
        let find = || conversation::FindDirect(other.clone());
        if let Some(found) = self.send(line, find()).await? {
            return Ok(found);
        }
        let key = line.keys.make().await?;
        let request = message::Request::CreateResource {
            users: vec![self.me.person_id.clone(), other.as_str().to_owned()],
            keys: vec![key.clone()],
        };
        let create = conversation::Create {
            me: self.my_id()?,
            other: other.clone(),
            key: key.as_str().parse().map_err(failed)?,
            kms_message: line.keys.wrap(request).await?,
        };
        // Somebody else may have been first; whatever the answer was, the one that is there now is the one.
        let made = self.send(line, create).await;
        match self.send(line, find()).await? {
            Some(found) => Ok(found),
            None => made,
        }
    }

    async fn post(&self, line: &Line, target: Target, action: Action) -> Result<Posted, PuppetError> {
        let post = Post {
            actor: self.my_id()?,
            client_temp_id: self.ctx.rng.uuid().parse::<ClientTempId>().map_err(failed)?,
            target,
            action,
        };
        self.send(line, post).await
    }

    async fn sealed(&self, line: &Line, target: &Target, text: &str) -> Result<Comment, PuppetError> {
        let fresh = self.send(line, conversation::Get(target.url.clone())).await?;
        let key =
            fresh.default_activity_encryption_key_url.ok_or_else(|| failed("the conversation has no key"))?;
        let uri: KeyUri = key.as_str().parse().map_err(failed)?;
        let sealed = jwe::seal(&line.keys.get(&uri).await?, &self.ctx.rng.bytes(), text.as_bytes());
        Ok(Comment { display_name: Text::new(sealed.map_err(failed)?), content: None, key })
    }

    fn known(&self, id: &str) -> Result<Target, PuppetError> {
        let found = self.inner().messages.get(id).cloned();
        found.ok_or_else(|| PuppetError::UnknownMessage(id.to_owned()))
    }

    fn remember(&self, id: &str, target: &Target) {
        let mut inner = self.inner();
        if inner.messages.len() < REMEMBERED {
            inner.messages.insert(id.to_owned(), target.clone());
        }
    }

    /// Records one activity as this client shows it.
    async fn saw(&self, line: &Line, activity: &Activity) {
        let actor = activity.actor.as_ref().and_then(|actor| actor.id.clone());
        let mine = actor.as_ref().is_some_and(|actor| actor.as_str() == self.me.person_id);
        let name = |id: &PersonId| {
            self.ctx.people.by_id(id.as_str()).map_or_else(|| id.as_str().to_owned(), |person| person.name)
        };
        let target = activity.conversation().and_then(Conversation::target);
        let author = actor.as_ref().map_or_else(String::new, name);
        let peer = if mine { self.peer_of(line, target.as_ref()).await.unwrap_or_default() } else { author };
        let mut sight = Sight {
            peer,
            dir: if mine { Direction::Out } else { Direction::In },
            kind: Kind::Message,
            id: activity.id.as_str().to_owned(),
            text: String::new(),
        };
        match (&activity.verb, &activity.object) {
            (Verb::Post, Some(Object::Comment { display_name, .. })) => {
                let edit = activity.parent.is_some();
                match self.open(line, activity, display_name.as_ref()).await {
                    Ok(text) if edit => (sight.kind, sight.text) = (Kind::Notice, format!("edited: {text}")),
                    Ok(text) => sight.text = text,
                    Err(error) => (sight.kind, sight.text) = (Kind::Error, error),
                }
            }
            (Verb::Share, Some(Object::Content { files, .. })) => {
                sight.kind = Kind::File;
                match self.fetch(line, activity, files.first()).await {
                    Ok(name) => sight.text = name,
                    Err(error) => (sight.kind, sight.text) = (Kind::Error, error),
                }
            }
            (Verb::Delete, Some(Object::Activity { id, .. })) => {
                (sight.kind, sight.text, sight.id) =
                    (Kind::Notice, "deleted".to_owned(), id.as_str().to_owned());
            }
            (Verb::Acknowledge, Some(Object::Activity { id, .. })) => {
                (sight.kind, sight.id) = (Kind::Read, id.as_str().to_owned());
            }
            _ => return,
        }
        if let (Verb::Post | Verb::Share, Some(target)) = (&activity.verb, &target) {
            self.remember(activity.id.as_str(), target);
        }
        self.ctx.seen.record(&self.client, sight);
    }

    /// Whom a conversation is with.
    async fn peer_of(&self, line: &Line, target: Option<&Target>) -> Option<String> {
        let get = conversation::Get(target?.url.clone());
        let conversation = self.send(line, get).await.ok()?;
        let others = conversation.participants().iter().filter_map(|person| person.id.as_ref());
        let other = others.map(PersonId::as_str).find(|id| *id != self.me.person_id)?;
        self.ctx.people.by_id(other).map(|person| person.name)
    }

    /// Opens one sealed text of an activity.
    async fn open(&self, line: &Line, activity: &Activity, text: Option<&Text>) -> Result<String, String> {
        let text = text.ok_or("there is no text")?;
        let key = activity.key().ok_or("no key is named")?;
        let uri: KeyUri = key.as_str().parse().map_err(|_| "the key has no name")?;
        let key = line.keys.get(&uri).await.map_err(|error| error.to_string())?;
        let opened = jwe::open(&key, text.as_str()).map_err(|error| error.to_string())?;
        String::from_utf8(opened.to_vec()).map_err(|_| "the text is no text".to_owned())
    }

    async fn act_now(self: &Arc<Self>, act: &Act) -> Result<(), PuppetError> {
        match act.what {
            What::Online => {
                self.inner().away = false;
                return self.line().await.map(drop);
            }
            What::Offline => {
                self.inner().away = true;
                return self.sign_out().await;
            }
            _ => {}
        }
        let line = self.line().await?;
        let id = || act.id.parse::<ActivityId>().map_err(failed);
        match act.what {
            What::Online | What::Offline => Ok(()),
            What::Invite => Err(PuppetError::Unsupported("a group chat is Jabber's")),
            What::Options => Err(PuppetError::Unsupported("a chat in Webex has all options")),
            What::Read => {
                let action = Action::Acknowledge { id: id()? };
                self.post(&line, self.known(&act.id)?, action).await.map(drop)
            }
            What::Delete => {
                let action = Action::Delete { id: id()? };
                self.post(&line, self.known(&act.id)?, action).await.map(drop)
            }
            What::Reply => {
                let target = self.known(&act.id)?;
                let comment = self.sealed(&line, &target, &act.text).await?;
                self.post(&line, target, Action::Comment(comment)).await.map(drop)
            }
            What::Edit => {
                let target = self.known(&act.id)?;
                let comment = self.sealed(&line, &target, &act.text).await?;
                self.post(&line, target, Action::Edit { original: id()?, comment }).await.map(drop)
            }
            What::Typing | What::Paused => {
                let target = match self.known(act.recipient()) {
                    Ok(target) => target,
                    Err(_) => self.target_with(&line, act.recipient()).await?,
                };
                let state = if act.what == What::Typing { State::Typing } else { State::Paused };
                let typing = Typing { url: target.url, conversation: target.id, state };
                self.send(&line, typing).await
            }
            What::Status => {
                let body = if act.text == "dnd" {
                    json!({"subject": self.me.person_id, "eventType": "dnd", "ttl": 3600})
                } else {
                    json!({"subject": self.me.person_id, "eventType": act.text, "label": self.me.person_id, "ttl": 600})
                };
                self.send(&line, PresenceEvent(body)).await
            }
            What::Follow => self.follow(&line, act.recipient()).await,
            What::File => self.share(&line, act).await,
        }
    }

    async fn target_with(&self, line: &Line, to: &str) -> Result<Target, PuppetError> {
        let conversation = self.conversation_with(line, to).await?;
        conversation.target().ok_or_else(|| failed("the conversation has no address"))
    }
}

impl Puppet for Arc<WebexApp> {
    fn say<'a>(&'a self, to: &'a str, text: &'a str) -> BoxFuture<'a, Result<String, PuppetError>> {
        async move {
            let line = self.line().await?;
            let target = self.target_with(&line, to).await?;
            let comment = self.sealed(&line, &target, text).await?;
            let posted = self.post(&line, target.clone(), Action::Comment(comment)).await?;
            self.remember(posted.id.as_str(), &target);
            Ok(posted.id.as_str().to_owned())
        }
        .boxed()
    }

    fn act<'a>(&'a self, act: &'a Act) -> BoxFuture<'a, Result<(), PuppetError>> {
        self.act_now(act).boxed()
    }
}

impl std::fmt::Debug for WebexApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WebexApp({})", self.client)
    }
}
