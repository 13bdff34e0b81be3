//! Mercury, the cloud's WebSocket of events, as a machine without I/O.

mod backoff;
mod envelope;
mod sequence;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;
use zeroize::Zeroizing;

pub use self::backoff::Backoff;
pub use self::envelope::{Envelope, Event, FrameError, TypingEvent};
use self::envelope::{Incoming, Kind};
use self::sequence::Sequence;
use crate::auth::AccessToken;
use crate::{EnvelopeId, Random, Timestamp, Url};

/// How long a [`Socket`] waits for what.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// For readiness after the socket is open; default 30 s.
    pub ready_timeout: Duration,
    /// From a pong to the next ping; default 15 s.
    pub ping_interval: Duration,
    /// From a ping to its pong; default 14 s. A silent connection is noticed after both together.
    pub pong_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ready_timeout: Duration::from_secs(30),
            ping_interval: Duration::from_secs(15),
            pong_timeout: Duration::from_secs(14),
        }
    }
}

/// What to do when a socket has closed. Nothing closes a socket for good: a connector goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// Open a socket to the same address, after a pause.
    Reconnect,
    /// Get a new access token, then as [`Fate::Reconnect`].
    NewToken,
    /// Renew the device's registration, then open a socket to the address that it gives.
    Renew,
    /// Register a new device in place of this one, then open a socket to its address.
    Register,
}

/// A text frame for the peer. Its text is not printed: the first one holds the token.
#[derive(Eq, PartialEq)]
pub struct Frame(Zeroizing<String>);

impl Frame {
    /// The frame's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.0.len())
    }
}

/// What a [`Socket`] wants done, or tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output {
    /// Send this text frame.
    Send(Frame),
    /// The socket is ready: from now on every event comes by it.
    Ready,
    /// Something happened.
    Event(Box<Envelope>),
    /// Events were lost, or could not be read: what they said must be read elsewhere.
    Gap,
    /// The cloud will soon close this socket; a second one to the same address may be opened now.
    Shutdown,
    /// Close the WebSocket with this code and reason. [`Output::Closed`] follows.
    Close {
        /// The WebSocket close code.
        code: u16,
        /// The reason to give.
        reason: &'static str,
    },
    /// The socket is closed; the last output.
    Closed(Fate),
}

/// One Mercury socket, from its opening to its end.
///
/// After each call of a `handle_` method or of [`Socket::acknowledge`] drain [`Socket::poll_output`]
/// until `None`; call [`Socket::handle_timeout`] when [`Socket::deadline`] has come.
///
/// Every frame is acknowledged at once, but for activities: those only by [`Socket::acknowledge`],
/// so that the cloud is told "received" when that is true.
#[derive(Debug)]
pub struct Socket {
    config: Config,
    random: Random,
    output: VecDeque<Output>,
    state: State,
    sequence: Sequence,
    shutdown: bool,
    cloud: Option<Timestamp>,
}

#[derive(Debug)]
enum State {
    /// Authorization is sent; readiness is awaited.
    Opening { until: Instant },
    /// Ready; the next ping is due at `at`.
    Idle { at: Instant },
    /// A ping is out; its pong is awaited.
    Pinged { id: String, until: Instant },
    /// Nothing more happens.
    Closed,
}

/// The address to open: the device's own, asking for text frames.
pub fn socket_url(web_socket_url: &Url, now_millis: i64) -> Url {
    web_socket_url.with_query([
        ("outboundWireFormat", "text"),
        ("bufferStates", "true"),
        ("aliasHttpStatus", "true"),
        ("clientTimestamp", now_millis.to_string().as_str()),
    ])
}

impl Socket {
    /// Begins right after the WebSocket is open, with the authorization frame.
    pub fn new(config: Config, token: &AccessToken, mut random: Random, now: Instant) -> Self {
        let id = crate::ids::uuid(random.next_u128());
        let bearer = Zeroizing::new(format!("Bearer {}", token.expose()));
        let authorization = Authorization {
            id: &id,
            kind: "authorization",
            data: AuthorizationData { token: &bearer },
            tracking_id: &id,
        };
        let until = now + config.ready_timeout;
        let output = VecDeque::from([Output::Send(frame(&authorization))]);
        let (state, sequence) = (State::Opening { until }, Sequence::default());
        Self { config, random, output, state, sequence, shutdown: false, cloud: None }
    }

    /// Takes one text frame.
    ///
    /// # Errors
    /// When the frame is no JSON object. The socket goes on; [`Output::Gap`] says that something is
    /// missing.
    pub fn handle_text(&mut self, text: &str, now: Instant) -> Result<(), FrameError> {
        if matches!(self.state, State::Closed) {
            return Ok(());
        }
        let Incoming { envelope, kind } = Incoming::parse(text).inspect_err(|_| {
            self.output.push_back(Output::Gap);
        })?;
        self.cloud = self.cloud.max(envelope.timestamp);
        if self.sequence.observe(envelope.sequence_number) {
            self.output.push_back(Output::Gap);
        }
        if let Some(id) = envelope.id.as_ref().filter(|_| !matches!(envelope.event, Event::Activity(_))) {
            self.acknowledge(&id.clone());
        }
        match kind {
            Kind::Pong => self.pong(envelope.id.as_ref(), now),
            Kind::Shutdown => {
                self.shutdown = true;
                self.output.push_back(Output::Shutdown);
            }
            Kind::Ready => {
                if matches!(self.state, State::Opening { .. }) {
                    self.output.push_back(Output::Ready);
                    self.ping(now);
                }
            }
            Kind::Event => self.output.push_back(Output::Event(Box::new(envelope))),
        }
        Ok(())
    }

    /// Tells the cloud that an activity has arrived and will not be needed again.
    pub fn acknowledge(&mut self, id: &EnvelopeId) {
        if !matches!(self.state, State::Closed) {
            self.output.push_back(Output::Send(frame(&Acknowledge { message_id: id, kind: "ack" })));
        }
    }

    /// Takes the end of the WebSocket; `None`: the connection broke without a close frame (1006).
    pub fn handle_close(&mut self, code: Option<u16>, reason: &str) {
        let fate = self.fate(code.unwrap_or(1006), &reason.to_ascii_lowercase());
        self.close(fate);
    }

    /// When [`Socket::handle_timeout`] wants to be called; `None` once closed.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Opening { until } | State::Pinged { until, .. } => Some(until),
            State::Idle { at } => Some(at),
            State::Closed => None,
        }
    }

    /// Does what is due; does nothing before the deadline.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            State::Opening { .. } => self.give_up("not ready in time"),
            State::Pinged { .. } => self.give_up("Pong not received"),
            State::Idle { .. } => self.ping(now),
            State::Closed => {}
        }
    }

    /// The cloud's clock as of its latest frame; `None` before a frame named it.
    pub fn cloud_time(&self) -> Option<Timestamp> {
        self.cloud
    }

    /// The next thing to do, in order; `None`: nothing for now.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    fn ping(&mut self, now: Instant) {
        let id = crate::ids::uuid(self.random.next_u128());
        self.output.push_back(Output::Send(frame(&Ping { id: &id, kind: "ping" })));
        self.state = State::Pinged { id, until: now + self.config.pong_timeout };
    }

    fn pong(&mut self, pong: Option<&EnvelopeId>, now: Instant) {
        if let State::Pinged { id, .. } = &self.state {
            if pong.is_some_and(|pong| pong.as_str() == id) {
                self.state = State::Idle { at: now + self.config.ping_interval };
            } else {
                self.give_up("Pong mismatch");
            }
        }
    }

    fn give_up(&mut self, reason: &'static str) {
        self.output.push_back(Output::Close { code: 1000, reason });
        self.close(Fate::Reconnect);
    }

    fn close(&mut self, fate: Fate) {
        if !matches!(self.state, State::Closed) {
            self.state = State::Closed;
            self.output.push_back(Output::Closed(fate));
        }
    }

    /// The official client stops for good on most codes; a connector starts anew instead.
    fn fate(&self, code: u16, reason: &str) -> Fate {
        let ready = !matches!(self.state, State::Opening { .. });
        let code = match (code, reason) {
            (1005, "replaced") => 4000,
            (1005, "authentication failed") => 1008,
            _ => code,
        };
        match (ready, code) {
            (false, 4401) => Fate::NewToken,
            (false, 1005) => Fate::Renew,
            (false, 4400 | 4403 | 4404) => Fate::Register,
            (false, _) => Fate::Reconnect,
            // Announced by `shutdown`: the cloud moves us, the registration stays.
            (true, 4001) if self.shutdown => Fate::Reconnect,
            (true, 1001 | 1005 | 1006 | 1011) => Fate::Reconnect,
            (true, 1000 | 3050)
                if matches!(reason, "idle" | "done (forced)" | "pong not received" | "pong mismatch") =>
            {
                Fate::Reconnect
            }
            (true, 1000 | 3050) => Fate::Renew,
            (true, _) => Fate::Register,
        }
    }
}

fn frame(value: &impl Serialize) -> Frame {
    Frame(Zeroizing::new(serde_json::to_string(value).expect("plain structs of texts become JSON")))
}

#[derive(Serialize)]
struct Authorization<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    data: AuthorizationData<'a>,
    #[serde(rename = "trackingId")]
    tracking_id: &'a str,
}

#[derive(Serialize)]
struct AuthorizationData<'a> {
    token: &'a str,
}

#[derive(Serialize)]
struct Acknowledge<'a> {
    #[serde(rename = "messageId")]
    message_id: &'a EnvelopeId,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Ping<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}
