//! The Webex stand-in: catalog, tokens, devices, Mercury, conversations, people, presence, toggles, files.
//!
//! It answers what it is asked over HTTP and WebSocket and keeps everything in memory. It can read no message: of
//! texts it stores ciphertext only, and refuses anything else.

mod activities;
mod catalog;
mod conversations;
mod devices;
mod encryption;
mod files;
mod listing;
mod mercury;
mod people;
mod spoil;
mod status;
mod tokens;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::{
    clock::Time,
    ctx::Ctx,
    http::{Answer, Call, Handled, serve},
    kms::{self, Kms, SetupError},
    net::Listener,
};

pub(crate) use tokens::Bearer;

/// The name of puppets' devices and HTTP clients. They are the judges: no fault touches them, though what the cloud does
/// unkindly to everybody, it does to them too.
pub(crate) const PUPPET: &str = "lab-puppet";
/// The path of the conversation service.
const CONVERSATION: &str = "/conversation/api/v1";
/// The path of a second cluster's, used where a fault asks for it.
const SECOND_CLUSTER: &str = "/conversation-k/api/v1";

/// The Webex stand-in.
#[derive(Debug)]
pub struct Cloud {
    ctx: Arc<Ctx>,
    origin: String,
    web_socket_origin: String,
    kms: Kms,
    state: Mutex<State>,
    /// Held while an activity is stored and everybody is told: no device hears of the next one before this one, even if
    /// another device's owner has answered in between.
    telling: Mutex<()>,
    /// Rung when a status, a subscription or an expiry changed.
    status_moved: Notify,
}

#[derive(Debug, Default)]
struct State {
    tokens: tokens::Tokens,
    devices: devices::Devices,
    conversations: conversations::Conversations,
    conversations_made: u64,
    statuses: status::Statuses,
    files: files::Files,
    /// By short name, kind and key.
    toggles: BTreeMap<(String, String, String), Value>,
}

impl Cloud {
    /// Starts the stand-in on a door.
    ///
    /// # Errors
    /// When the key service's static key is unusable.
    pub fn start(
        ctx: &Arc<Ctx>,
        listener: Listener,
        tls: Option<TlsAcceptor>,
    ) -> Result<Arc<Self>, SetupError> {
        ctx.faults.register(activities::FAULTS);
        ctx.faults.register(mercury::FAULTS);
        ctx.faults.register(kms::FAULTS);
        ctx.faults.register(spoil::FAULTS);
        ctx.faults.register(spoil::MORE_FAULTS);
        let secure = if tls.is_some() { "s" } else { "" };
        let cloud = Arc::new(Self {
            ctx: Arc::clone(ctx),
            origin: format!("http{secure}://{}", listener.address()),
            web_socket_origin: format!("ws{secure}://{}", listener.address()),
            kms: Kms::new()?,
            state: Mutex::default(),
            telling: Mutex::default(),
            status_moved: Notify::new(),
        });
        let watched = Arc::downgrade(&cloud);
        ctx.people.watch(move |person| {
            if let Some(cloud) = watched.upgrade() {
                cloud.person_changed(person);
            }
        });
        ctx.spawn(status::watch(Arc::downgrade(&cloud)));
        let serving = Arc::clone(&cloud);
        ctx.spawn(serve(Arc::clone(ctx), listener, tls, move |call| {
            let cloud = Arc::clone(&serving);
            async move { cloud.handle(call).await }
        }));
        Ok(cloud)
    }

    /// The origin of every service.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn handle(self: Arc<Self>, mut call: Call) -> Answer {
        if !call.is_puppet()
            && let Some(answer) = self.spoiled("http", None)
        {
            return answer.await;
        }
        let path = std::mem::take(&mut call.path);
        let segments: Vec<&str> = path.iter().map(String::as_str).collect();
        call.path.clone_from(&path);
        let (Ok(answer) | Err(answer)) = self.route(&mut call, &segments).await;
        let mut answer = answer.with(header::DATE, self.now().http_date());
        if !call.is_puppet()
            && !answer.body.is_empty()
            && let Some(ms) = self.ctx.faults.hit_value("http-trickle", None, 3_000)
        {
            let over = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
            answer.trickle = Some(self.ctx.clock.scaled(over));
        }
        answer
    }

    /// What the cloud's clock shows.
    fn now(&self) -> Time {
        Time(self.ctx.clock.now().0 + self.skew())
    }

    /// The time of the lab's clock at which the cloud's shows `time`.
    fn unskewed(&self, time: Time) -> Time {
        Time(time.0.saturating_sub(self.skew()))
    }

    async fn sleep_until(&self, time: Time) {
        self.ctx.clock.sleep_until(self.unskewed(time)).await;
    }

    fn skew(&self) -> i64 {
        self.ctx.faults.lasting_value("clock-skew").unwrap_or(0)
    }

    /// The roots of the key services' certificate chains, as PEM.
    pub(crate) fn kms_roots(&self) -> String {
        self.kms.roots()
    }

    async fn route(self: &Arc<Self>, call: &mut Call, path: &[&str]) -> Handled {
        let method = call.method.clone();
        match (method.as_str(), path) {
            ("GET", ["u2c", "api", "v1", "catalog"]) => {
                self.bearer(call)?;
                self.catalog()
            }
            ("GET", ["u2c", "api", "v1", "limited" | "signin", "catalog"]) => self.catalog(),
            ("POST", ["idb", "oauth2", "v1", "access_token"] | ["v1", "access_token"]) => {
                self.may_spoil("token", call).await?;
                self.token(call)
            }
            ("POST", ["idb", "oauth2", "v1", "revoke"]) => self.revoke(call),
            ("GET", ["idb", "oauth2", "v1", "authorize"] | ["v1", "authorize"]) => self.authorize(call),
            ("POST", ["v1", "device", "authorize"]) => self.device_authorize(call),
            ("POST", ["v1", "device", "token"]) => self.device_token(call),
            (_, ["verify"]) => self.device_verify(call),
            (_, ["wdm", "api", "v1", "devices", rest @ ..]) => {
                self.may_spoil("device", call).await?;
                match (method.as_str(), rest) {
                    ("POST", []) => self.device_create(call),
                    ("GET", []) => self.device_list(call),
                    (_, [id]) => self.device_one(call, id),
                    _ => Err(no_address()),
                }
            }
            ("GET", ["v1", "apps", "wx2", "registrations", id, "messages"]) => self.mercury(call, id),
            (_, ["encryption", "api", "v1", rest @ ..]) => self.encryption(call, rest).await,
            (_, ["conversation", "api", "v1", rest @ ..]) => {
                self.conversation_route(call, CONVERSATION, rest).await
            }
            (_, ["conversation-k", "api", "v1", rest @ ..]) => {
                self.conversation_route(call, SECOND_CLUSTER, rest).await
            }
            (_, ["apheleia", "api", "v1", rest @ ..]) => {
                self.may_spoil("presence", call).await?;
                match rest {
                    ["compositions"] => self.compositions(call),
                    ["subscriptions"] => self.subscriptions(call),
                    ["events"] => self.status_event(call),
                    _ => Err(no_address()),
                }
            }
            (_, ["feature", "api", "v1", "features", "users", id, kind]) => self.feature(call, id, kind),
            ("POST", ["metrics", ..]) => Ok(Answer::empty(StatusCode::NO_CONTENT)),
            ("GET", ["v1", "people", rest @ ..]) => {
                self.may_spoil("people", call).await?;
                match rest {
                    [] => self.people(call),
                    [id] => self.person(call, id),
                    _ => Err(no_address()),
                }
            }
            ("POST", ["v1" | "files", .., "download", "endpoints"]) => {
                self.may_spoil("file", call).await?;
                self.download_endpoints(call)
            }
            (_, ["files", "v1", "spaces", space, rest @ ..]) => {
                self.may_spoil("file", call).await?;
                match (method.as_str(), rest) {
                    ("POST", ["upload_sessions"]) => self.upload_session(call, space),
                    ("PUT", ["contents", id, "upload"]) => self.upload(call, id),
                    ("POST", ["contents", id, "finish"]) => self.upload_finish(call, space, id),
                    ("GET", ["contents", id]) => self.download(call, space, id),
                    _ => Err(no_address()),
                }
            }
            _ => Err(no_address()),
        }
    }

    async fn conversation_route(self: &Arc<Self>, call: &Call, base: &str, path: &[&str]) -> Handled {
        match (call.method.as_str(), path) {
            ("POST", ["users"]) => self.users_lookup(call),
            ("GET", ["users"]) => self.user(call),
            ("PATCH", ["users", "user"]) => self.user_rename(call),
            ("GET", ["conversations"]) => {
                self.may_spoil("list", call).await?;
                self.conversations(call, base)
            }
            ("POST", ["conversations"]) => {
                self.may_spoil("create", call).await?;
                self.conversation_create(call)
            }
            ("GET", ["conversations", "user", other]) => {
                self.may_spoil("find", call).await?;
                self.find_direct(call, other)
            }
            ("GET", ["conversations", "left"] | ["conversationsSummary" | "mentions" | "threads"]) => {
                self.caller(call)?;
                Ok(Answer::ok(&json!({"items": []})))
            }
            ("GET", ["conversations", id]) => self.conversation(call, id),
            ("GET", ["conversations", id, "activities"]) => {
                self.may_spoil("list", call).await?;
                self.activities(call, id)
            }
            ("POST", ["conversations", id, "activities" | "content"]) => self.activity_post(call, id).await,
            ("GET", ["activities", id] | ["conversations", _, "activities", id]) => self.activity(call, id),
            ("POST", ["bulk_activities_fetch"]) => self.bulk_activities(call),
            ("GET", ["conversations", id, "parents"]) => self.parents(call, id),
            ("POST", ["conversations", id, "status", "typing"]) => self.typing(call, id),
            ("PUT", ["conversations", id, "space"] | ["conversations", id, "space", "hidden"]) => {
                self.space(call, id)
            }
            _ => Err(no_address()),
        }
    }
}

fn no_address() -> Answer {
    Answer::error(StatusCode::NOT_FOUND, 1_404_000, "There is no such address.")
}
