//! The initiating side of a component's stream (XEP-0114).

use std::fmt::{self, Write as _};
use std::time::Instant;

use minidom::Element;
use ring::digest;

use crate::c2s::{ResumeAnswer, enable_element, resume_answer, resume_element, resume_id};
use crate::negotiation::{NegotiationError, unexpected};
use crate::progress::{Progress, Steps, Waits};
use crate::session::{Role, Session};
use crate::sm::ResumeState;
use crate::stream::Header;
use crate::timing::Timing;
use crate::xml::{Compose as _, Frame, Limits, write_within};
use crate::{Entropy, Jid, Secret, jid, ns};

/// Which component connects, and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// The component's name: a domain.
    pub name: String,
    /// The secret that it shares with the server.
    pub secret: Secret,
    /// Whether stream management is tried: `<enable/>`, or `<resume/>`, and a ping to this domain of the
    /// server, whose answer without `<enabled/>` before it means that there is none. `None`: not tried.
    pub manage: Option<String>,
    /// The stream to take up again, if any; needs `manage`.
    pub resume: Option<ResumeState>,
    /// After a resumption in the same process: how many stanzas beyond [`ResumeState::inbound`] were already
    /// received, so that the first ones are counted but not reported again.
    pub skip: u64,
    /// Bounds on what the server sends.
    pub limits: Limits,
    /// How long to wait.
    pub timing: Timing,
    /// Random bytes of this negotiation alone.
    pub entropy: Entropy,
}

impl Config {
    /// A stream without stream management, with default limits and waits.
    #[must_use]
    pub fn new(name: impl Into<String>, secret: Secret, entropy: Entropy) -> Self {
        Self {
            name: name.into(),
            secret,
            manage: None,
            resume: None,
            skip: 0,
            limits: Limits::default(),
            timing: Timing::default(),
            entropy,
        }
    }
}

/// Negotiates a component's stream: header, handshake and, if wanted, stream management.
///
/// What comes before the answer to `<enable/>` is kept and reported once the stream is up, uncounted.
pub struct Handshake {
    config: Config,
    jid: Jid,
    progress: Progress<State>,
    /// How the wanted resumption failed, once it did.
    resume_failed: Option<Option<u64>>,
}

pub(crate) enum State {
    Header,
    Handshake,
    /// Asked to resume; the ping's answer would mean that there is no stream management.
    Resume {
        ping: String,
    },
    /// Asked to enable; likewise.
    Enable {
        ping: String,
    },
    /// Established or failed.
    Over,
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("waits_for", &self.progress.state.expected())
            .finish_non_exhaustive()
    }
}

impl Handshake {
    /// Begins with the stream header.
    ///
    /// # Errors
    /// The component's name is not a domain.
    pub fn new(config: Config, now: Instant) -> Result<Self, jid::Error> {
        let jid = Jid::new(&config.name)?;
        let header = Header {
            content_ns: ns::COMPONENT_ACCEPT.to_owned(),
            to: Some(config.name.clone()),
            ..Header::default()
        };
        let mut progress = Progress::new(State::Header, config.timing, now);
        progress.write(header.to_bytes());
        Ok(Self { progress, config, jid, resume_failed: None })
    }

    fn send(&mut self, element: &Element) {
        let mut bytes = Vec::new();
        write_within(element, ns::COMPONENT_ACCEPT, &mut bytes);
        self.progress.write(bytes);
    }

    fn manage(&mut self, now: Instant) {
        if self.config.manage.is_none() {
            let session = self.session(now);
            return self.progress.establish(session);
        }
        let (ask, state): (_, fn(String) -> State) = match &self.config.resume {
            Some(state) => (resume_element(state), |ping| State::Resume { ping }),
            None => (enable_element(), |ping| State::Enable { ping }),
        };
        self.send(&ask);
        self.progress.state = state(self.ping("first ping"));
    }

    fn ping(&mut self, label: &str) -> String {
        let id = self.config.entropy.token(label);
        let ping = Element::bare("iq", ns::CLIENT)
            .with_attr("type", "get")
            .with_attr("id", id.clone())
            .with_attr("from", self.config.name.clone())
            .with_optional("to", self.config.manage.clone())
            .with_child(Element::bare("ping", ns::PING));
        self.send(&ping);
        id
    }

    fn resume(&mut self, ping: String, element: Element, now: Instant) -> Result<(), NegotiationError> {
        let Some(state) = self.config.resume.clone() else { return Ok(()) };
        if element.has_ns(ns::SM) {
            match resume_answer(&element, &state)? {
                ResumeAnswer::Resumed(h) => {
                    let session = self.session(now).resumed(state, h, self.config.skip).with_own_ping(ping);
                    self.progress.establish(session);
                }
                ResumeAnswer::Failed(h) => {
                    self.resume_failed = Some(h);
                    self.send(&enable_element());
                    // The first ping is still to be answered, so it takes another to tell.
                    let ping = self.ping("second ping");
                    self.progress.state = State::Enable { ping };
                }
            }
            return Ok(());
        }
        if is_answer(&element, &ping) {
            self.resume_failed = Some(None);
            let session = self.session(now);
            self.progress.establish(session);
            return Ok(());
        }
        self.progress.state = State::Resume { ping };
        self.keep(element)
    }

    fn enable(&mut self, ping: String, element: Element, now: Instant) -> Result<(), NegotiationError> {
        if element.is("enabled", ns::SM) {
            let session = self.session(now).enabled(resume_id(&element)).with_own_ping(ping);
            self.progress.establish(session);
        } else if element.is("failed", ns::SM) {
            let session = self.session(now).with_own_ping(ping);
            self.progress.establish(session);
        } else if is_answer(&element, &ping) {
            let session = self.session(now);
            self.progress.establish(session);
        } else {
            self.progress.state = State::Enable { ping };
            if !is_answer(&element, &self.config.entropy.token("first ping")) {
                return self.keep(element);
            }
        }
        Ok(())
    }

    fn keep(&mut self, element: Element) -> Result<(), NegotiationError> {
        if element.has_ns(ns::STREAM) {
            return Err(unexpected(&Frame::Element(element), self.progress.state.expected()));
        }
        self.progress.keep(element)
    }

    fn session(&self, now: Instant) -> Session {
        let role = Role::Initiator;
        let session = Session::new(self.jid.clone(), ns::COMPONENT_ACCEPT, role, self.config.timing, now);
        match self.resume_failed {
            Some(h) => session.resume_failed(h),
            None => session,
        }
    }
}

impl Steps for Handshake {
    type State = State;

    fn progress(&self) -> &Progress<State> {
        &self.progress
    }

    fn progress_mut(&mut self) -> &mut Progress<State> {
        &mut self.progress
    }

    fn step(&mut self, state: State, frame: Frame, now: Instant) -> Result<(), NegotiationError> {
        match (state, frame) {
            (State::Header, Frame::Open(header)) => {
                let id = header.id.unwrap_or_default();
                // Servers that do not know the name leave the id empty and send an error next. Without an
                // id the digest would be one of the bare secret, so it is not sent.
                if !id.is_empty() {
                    let digest = digest(&id, &self.config.secret);
                    self.send(&Element::bare("handshake", ns::CLIENT).with_text(digest));
                }
                self.progress.state = State::Handshake;
                Ok(())
            }
            (State::Handshake, Frame::Element(element)) if element.is("handshake", ns::CLIENT) => {
                self.manage(now);
                Ok(())
            }
            (State::Resume { ping }, Frame::Element(element)) => self.resume(ping, element, now),
            (State::Enable { ping }, Frame::Element(element)) => self.enable(ping, element, now),
            (state, frame) => Err(unexpected(&frame, state.expected())),
        }
    }
}

impl Waits for State {
    const OVER: Self = Self::Over;

    fn expected(&self) -> &'static str {
        match self {
            Self::Header => "a stream header",
            Self::Handshake => "an answer to the handshake",
            Self::Resume { .. } => "an answer to resume",
            Self::Enable { .. } => "an answer to enable",
            Self::Over => "nothing more",
        }
    }
}

fn is_answer(element: &Element, ping: &str) -> bool {
    element.is("iq", ns::CLIENT)
        && element.attr("id") == Some(ping)
        && matches!(element.attr("type"), Some("result" | "error"))
}

/// `hex(sha1(id + secret))` in lower case (XEP-0114 §3).
pub(crate) fn digest(id: &str, secret: &Secret) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(id.as_bytes());
    context.update(secret.reveal().as_bytes());
    context.finish().as_ref().iter().fold(String::with_capacity(40), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // writing to a String does not fail
        hex
    })
}
