//! The client role: one device's conversation with its KMS, without I/O.
//!
//! ```text
//!            submit, wrap                        signed answer
//!   idle ────────────────► negotiating ──────────────────────────► ready ──► sealed requests
//!    ▲                     │  no answer: again, waiting twice as      │
//!    │                     │  long, then all requests fail            │
//!    └─────────────────────┴──────────────────────────────────────────┘
//!                   the key expires, or the KMS no longer knows it, or is silent on it
//! ```
//!
//! Nothing is negotiated before something is asked. After every call drain [`Client::poll_message`] and
//! [`Client::poll_event`], then wait for a reply or [`Client::deadline`].

mod asking;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use crate::crypto::{IV, Random};
use crate::exchange::{Context, Exchange, ExchangeError};
use crate::jose::{JweError, JwsError, jwe, jws};
use crate::message::{self, Asker, Bearer, ExchangeResponse, MessageError, Request, Response};
use crate::trust::StaticPublic;

pub use self::asking::AskError;

/// How many requests may wait for their answers at once.
pub const MAX_PENDING: usize = 256;
/// How often a key that has moved is followed.
const MAX_REDIRECTS: u8 = 3;

/// How long to wait for the KMS, all in real time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timings {
    /// First wait for an answer; each further one is twice as long. Default 6 s.
    pub first: Duration,
    /// When the next wait would be this long, the ephemeral key is given up and a new one negotiated; while
    /// negotiating, everything fails. Default 32 s.
    pub longest: Duration,
    /// Bound of all waits for one request together, negotiations included. Default 96 s.
    pub total: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(6),
            longest: Duration::from_secs(32),
            total: Duration::from_secs(96),
        }
    }
}

impl Timings {
    /// The same waits, each divided by `by` (which is taken as 1 if it is 0).
    #[must_use]
    pub fn divided(self, by: u32) -> Self {
        let by = by.max(1);
        Self { first: self.first / by, longest: self.longest / by, total: self.total / by }
    }
}

/// Names a request towards its owner; never sent.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RequestId(u64);

/// What a client has to say to its owner.
#[derive(Clone, Debug)]
pub enum Event {
    /// A request of [`Client::submit`] is done, or one of [`Client::wrap`] failed before it was sealed.
    Answered {
        /// Which request.
        id: RequestId,
        /// What came of it.
        outcome: Result<Box<Response>, RequestError>,
    },
    /// A request of [`Client::wrap`] is sealed. The client is done with it.
    Wrapped {
        /// Which request.
        id: RequestId,
        /// Goes as `kmsMessage` into the call.
        message: String,
        /// What [`Client::unwrap`] needs to read the answer.
        reply: String,
    },
}

/// Why a request came to nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The KMS did not answer within [`Timings`]. It may, later.
    #[error("key service is silent")]
    Silent,
    /// The KMS refused to agree on an ephemeral key: that is about the user's token or device, or about the service,
    /// never about what was asked.
    #[error("key service refused the exchange: status {status}")]
    ExchangeRefused {
        /// As in HTTP: 401 and 403 are about the token, 429 and 5xx about the service.
        status: u16,
        /// The reason in the service's words.
        reason: Option<String>,
    },
    /// The KMS refused this request.
    #[error("key service refused: status {status}")]
    Refused {
        /// As in HTTP: 401 is about the token, 403 about the user, 404 about the key, 429 and 5xx about the service.
        status: u16,
        /// The service's own number for the reason; 405005 and 405006 are a revoked customer key.
        error_code: Option<i64>,
        /// The reason in the service's words.
        reason: Option<String>,
    },
    /// The KMS said yes, but without what was asked for, or with another key.
    #[error("key service answered something else")]
    Unexpected,
    /// The request is too long to be sealed.
    #[error("request is too long")]
    TooLong,
    /// The static key of the KMS cannot encrypt.
    #[error("static key cannot be used")]
    StaticKey,
}

/// There are [`MAX_PENDING`] requests waiting already.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("too many requests wait for the key service")]
pub struct Full;

/// Why a reply was passed over. Whatever it is, nothing changes by it: the request goes on waiting.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// It is neither a compact JWE nor a compact JWS.
    #[error("neither JWE nor JWS")]
    Shape,
    /// It was sealed with a key that we do not have, or no longer.
    #[error("sealed with an unknown key")]
    UnknownKey,
    /// It does not open.
    #[error("reply cannot be opened")]
    Jwe(#[from] JweError),
    /// It is not signed by the static key of our KMS.
    #[error("reply cannot be verified")]
    Jws(#[from] JwsError),
    /// It is no response.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// It answers nothing that we asked, or something that was answered before.
    #[error("reply answers no pending request")]
    UnknownRequest,
    /// It has no usable half of the ephemeral key.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}

/// One device's conversation with its KMS.
pub struct Client {
    asker: Asker,
    static_key: StaticPublic,
    timings: Timings,
    random: Box<dyn Random>,
    state: State,
    /// The ephemeral key before the present one, and until when an answer may still come with it.
    previous: Option<(Context, Instant)>,
    next_id: u64,
    pending: BTreeMap<RequestId, Pending>,
    messages: VecDeque<String>,
    events: VecDeque<Event>,
}

enum State {
    Idle,
    Negotiating { attempts: Vec<Exchange>, wait: Duration, due: Instant },
    Ready(Context),
}

struct Pending {
    request: Request,
    kind: Kind,
    /// The ids under which it was sent: an answer to any of them is an answer.
    sent: Vec<String>,
    /// How long the wait is that ends at `due`.
    wait: Duration,
    /// When it is sent again; `None` until it is sent with the present ephemeral key.
    due: Option<Instant>,
    give_up: Instant,
    redirects: u8,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Call,
    Wrap,
}

impl Client {
    /// Starts idle.
    #[must_use]
    pub fn new(asker: Asker, static_key: StaticPublic, timings: Timings, random: Box<dyn Random>) -> Self {
        Self {
            asker,
            static_key,
            timings,
            random,
            state: State::Idle,
            previous: None,
            next_id: 0,
            pending: BTreeMap::new(),
            messages: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Replaces the access token; what is sent from now on carries the new one.
    pub fn set_bearer(&mut self, bearer: Bearer) {
        self.asker.bearer = bearer;
    }

    /// The KMS that everything is sent to, as the `destination` of its messages.
    #[must_use]
    pub fn static_key(&self) -> &StaticPublic {
        &self.static_key
    }

    /// Whether there is an ephemeral key now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// Asks the KMS. The answer comes as [`Event::Answered`].
    ///
    /// # Errors
    /// [`Full`] if too many requests wait.
    pub fn submit(&mut self, request: Request, now: Instant) -> Result<RequestId, Full> {
        self.add(request, Kind::Call, now)
    }

    /// Seals a request that another call carries to the KMS as its `kmsMessage` (as when a conversation is made).
    /// It comes as [`Event::Wrapped`], at once if there is an ephemeral key.
    ///
    /// # Errors
    /// [`Full`] if too many requests wait.
    pub fn wrap(&mut self, request: Request, now: Instant) -> Result<RequestId, Full> {
        self.add(request, Kind::Wrap, now)
    }

    /// Gives up everything that waits, without an event for it, as when nothing can be posted.
    pub fn abandon(&mut self) {
        self.pending.clear();
        self.messages.clear();
        self.events.clear();
        if let State::Negotiating { .. } = self.state {
            self.state = State::Idle;
        }
    }

    /// Opens the `kmsMessage` in the answer of the call that carried a wrapped request; `reply` is from its
    /// [`Event::Wrapped`].
    ///
    /// # Errors
    /// Why it is not the answer to that request. A refusal is no error here: see [`Response::status`].
    pub fn unwrap(&self, reply: &str, message: &str) -> Result<Response, ReplyError> {
        let response = self.open(message)?;
        if response.request_id == reply { Ok(response) } else { Err(ReplyError::UnknownRequest) }
    }

    /// Takes one element of `kmsMessages` from the device's socket.
    ///
    /// # Errors
    /// Why it was passed over. Replies to other devices, late ones and repeated ones do occur.
    pub fn handle_reply(&mut self, message: &str, now: Instant) -> Result<(), ReplyError> {
        let taken = match message.bytes().filter(|&b| b == b'.').count() {
            2 => self.handle_signed(message, now),
            4 => self.handle_sealed(message),
            _ => Err(ReplyError::Shape),
        };
        self.drive(now);
        taken
    }

    /// The next message to post to the KMS; call until `None`.
    pub fn poll_message(&mut self) -> Option<String> {
        self.messages.pop_front()
    }

    /// The next event; call until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` while there is nothing to wait for.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let state = match &self.state {
            State::Idle => None,
            State::Negotiating { due, .. } => Some(*due),
            State::Ready(context) => Some(context.end),
        };
        let previous = self.previous.as_ref().map(|(_, until)| *until);
        let pending = self.pending.values().map(|p| p.due.map_or(p.give_up, |due| due.min(p.give_up)));
        pending.chain(state).chain(previous).min()
    }

    /// Sends again, gives up, forgets expired keys: whatever is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.previous.as_ref().is_some_and(|(_, until)| *until <= now) {
            self.previous = None;
        }
        let late: Vec<_> = self.pending.iter().filter(|(_, p)| p.give_up <= now).map(|(id, _)| *id).collect();
        for id in late {
            self.fail(id, RequestError::Silent);
        }
        match &mut self.state {
            State::Negotiating { due, wait, .. } if *due <= now => {
                *wait *= 2;
                if *wait < self.timings.longest {
                    self.negotiate(now);
                } else {
                    self.give_up(&RequestError::Silent);
                }
            }
            State::Ready(_) => self.resend(now),
            _ => {}
        }
        self.drive(now);
    }

    fn add(&mut self, request: Request, kind: Kind, now: Instant) -> Result<RequestId, Full> {
        if self.pending.len() >= MAX_PENDING {
            return Err(Full);
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let pending = Pending {
            request,
            kind,
            sent: Vec::new(),
            wait: self.timings.first,
            due: None,
            give_up: now + self.timings.total,
            redirects: 0,
        };
        self.pending.insert(id, pending);
        self.drive(now);
        Ok(id)
    }

    /// Brings what waits as far as it can go: to a negotiation, or out.
    fn drive(&mut self, now: Instant) {
        if let State::Ready(context) = &self.state
            && context.end <= now
        {
            self.retire(now);
        }
        if matches!(self.state, State::Idle) && !self.pending.is_empty() {
            self.state = State::Negotiating { attempts: Vec::new(), wait: self.timings.first, due: now };
            self.negotiate(now);
        }
        if self.is_ready() {
            let unsent: Vec<_> =
                self.pending.iter().filter(|(_, p)| p.due.is_none()).map(|(id, _)| *id).collect();
            for id in unsent {
                self.send(id, now);
            }
        }
    }

    /// Makes one more attempt at the exchange; earlier ones may still be answered.
    fn negotiate(&mut self, now: Instant) {
        let made = Exchange::start(&self.static_key, &self.asker, self.random.as_mut());
        match (&mut self.state, made) {
            (State::Negotiating { attempts, wait, due }, Ok((exchange, message))) => {
                attempts.push(exchange);
                *due = now + *wait;
                self.messages.push_back(message);
            }
            (_, Err(_)) => self.give_up(&RequestError::StaticKey),
            _ => {}
        }
    }

    /// Seals a pending request with the present ephemeral key.
    fn send(&mut self, id: RequestId, now: Instant) {
        let (State::Ready(context), Some(pending)) = (&self.state, self.pending.get_mut(&id)) else { return };
        let wire_id = message::request_id(self.random.as_mut());
        let mut iv = [0; IV];
        self.random.fill(&mut iv);
        let text = pending.request.to_json(&wire_id, &self.asker);
        let Ok(message) = jwe::seal_for(&context.key, context.uri.as_str(), &iv, &text) else {
            return self.fail(id, RequestError::TooLong);
        };
        match pending.kind {
            Kind::Call => {
                pending.sent.push(wire_id);
                pending.due = Some(now + pending.wait);
                self.messages.push_back(message);
            }
            Kind::Wrap => {
                self.pending.remove(&id);
                self.events.push_back(Event::Wrapped { id, message, reply: wire_id });
            }
        }
    }

    /// Sends again what was not answered in time, or gives the ephemeral key up if that was tried often enough.
    fn resend(&mut self, now: Instant) {
        let due: Vec<_> = self
            .pending
            .iter()
            .filter(|(_, p)| p.due.is_some_and(|due| due <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Some(pending) = self.pending.get_mut(&id) else { continue };
            pending.wait *= 2;
            if pending.wait >= self.timings.longest {
                return self.retire(now);
            }
            self.send(id, now);
        }
    }

    /// Gives the ephemeral key up. What waits is sent again with the next one.
    fn retire(&mut self, now: Instant) {
        if let State::Ready(context) = mem::replace(&mut self.state, State::Idle) {
            self.previous = Some((context, now + self.timings.total));
        }
        for pending in self.pending.values_mut() {
            pending.due = None;
            pending.wait = self.timings.first;
        }
    }

    /// Fails everything that waits, and is idle.
    fn give_up(&mut self, error: &RequestError) {
        self.state = State::Idle;
        for id in mem::take(&mut self.pending).into_keys() {
            self.events.push_back(Event::Answered { id, outcome: Err(error.clone()) });
        }
    }

    fn fail(&mut self, id: RequestId, error: RequestError) {
        if self.pending.remove(&id).is_some() {
            self.events.push_back(Event::Answered { id, outcome: Err(error) });
        }
    }

    /// An answer to the exchange, or the word that our ephemeral key is unknown. Both are signed by the static key,
    /// neither is secret.
    fn handle_signed(&mut self, message: &str, now: Instant) -> Result<(), ReplyError> {
        let text = jws::verify(&self.static_key.key, message)?;
        let answer: ExchangeResponse =
            serde_json::from_slice(&text).map_err(|_| MessageError::new("key exchange answer"))?;
        let refused = answer.status >= 400;
        match &mut self.state {
            State::Negotiating { attempts, .. } => {
                let ours = attempts.iter().position(|a| a.request_id() == answer.request_id);
                let attempt = attempts.swap_remove(ours.ok_or(ReplyError::UnknownRequest)?);
                if refused {
                    let ExchangeResponse { status, reason, .. } = answer;
                    self.give_up(&RequestError::ExchangeRefused { status, reason });
                    return Ok(());
                }
                // A useless answer leaves the other attempts, and the next one, in place.
                self.state = State::Ready(attempt.finish(answer, now)?);
                Ok(())
            }
            // A refusal that is replayed must not make us negotiate without end, hence not for a young key. If that
            // one is unknown already, the time-outs find out.
            State::Ready(context) if refused && now >= context.made + self.timings.first => {
                let ours = self.pending.values().any(|p| p.sent.contains(&answer.request_id));
                if !ours && !answer.request_id.is_empty() {
                    return Err(ReplyError::UnknownRequest);
                }
                self.retire(now);
                Ok(())
            }
            _ => Err(ReplyError::UnknownRequest),
        }
    }

    fn handle_sealed(&mut self, message: &str) -> Result<(), ReplyError> {
        let response = self.open(message)?;
        let found = self.pending.iter_mut().find(|(_, p)| p.sent.contains(&response.request_id));
        let (&id, pending) = found.ok_or(ReplyError::UnknownRequest)?;
        // 301 is what the official client waits for; a service that refuses and says where is understood as well.
        if response.status >= 300
            && let Request::RetrieveKey { key } = &mut pending.request
            && let Some(moved) = &response.redirect_uri
            && pending.redirects < MAX_REDIRECTS
        {
            // The key is elsewhere (the customer moved to its own key service, or back): ask there.
            *key = moved.clone();
            pending.redirects += 1;
            pending.sent.clear();
            pending.due = None;
            pending.wait = self.timings.first;
            return Ok(());
        }
        let outcome = judge(&pending.request, response);
        self.pending.remove(&id);
        self.events.push_back(Event::Answered { id, outcome });
        Ok(())
    }

    /// Opens a reply with the ephemeral key that it names.
    fn open(&self, message: &str) -> Result<Response, ReplyError> {
        let kid = jwe::peek(message)?.kid.unwrap_or_default();
        let present = match &self.state {
            State::Ready(context) => Some(context),
            _ => None,
        };
        let previous = self.previous.as_ref().map(|(context, _)| context);
        let context = [present, previous]
            .into_iter()
            .flatten()
            .find(|context| context.uri.as_str() == kid)
            .ok_or(ReplyError::UnknownKey)?;
        Ok(Response::parse(&jwe::open(&context.key, message)?)?)
    }
}

/// Whether a response is what its request asked for.
fn judge(request: &Request, response: Response) -> Result<Box<Response>, RequestError> {
    if response.status >= 300 {
        let Response { status, error_code, reason, .. } = response;
        return Err(RequestError::Refused { status, error_code, reason });
    }
    let fits = match request {
        Request::CreateKeys { .. } => !response.keys.is_empty(),
        Request::RetrieveKey { key } => response.key.as_ref().is_some_and(|k| k.uri == *key),
        Request::CreateResource { .. } => response.resource.is_some(),
        _ => true,
    };
    if fits { Ok(Box::new(response)) } else { Err(RequestError::Unexpected) }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Idle => "idle",
            State::Negotiating { .. } => "negotiating",
            State::Ready(_) => "ready",
        };
        f.debug_struct("Client")
            .field("device", &self.asker.device)
            .field("state", &state)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}
