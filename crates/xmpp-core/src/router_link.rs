//! The initiating side of a link to a jabberd2 router: a SASL login, then a name bound on the router.
//!
//! One of the three framings of [`session_control`](crate::session_control); observed on jabberd2 2.7, which
//! documents it nowhere. There is no stream management on it: what is in flight when it drops is lost.

use std::fmt;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use minidom::Element;

use crate::c2s::decode;
use crate::negotiation::{NegotiationError, Output, condition, unexpected};
use crate::progress::{Progress, Steps, Waits};
use crate::sasl::DigestMd5;
use crate::session::{Role, Session};
use crate::stream::{Features, Header};
use crate::timing::Timing;
use crate::xml::{Compose as _, Frame, Limits, write_within};
use crate::{Entropy, Jid, Secret, jid, ns};

/// The content namespace of a router's stream: it has none.
const CONTENT: &str = "";
const MECHANISM: &str = "DIGEST-MD5";

/// Who connects to the router, and as what.
#[derive(Clone, Debug)]
pub struct Config {
    /// The router user's name; the permission to bind is enough.
    pub username: String,
    /// The router user's secret.
    pub secret: Secret,
    /// The name to bind on the router: where routes for us go.
    pub name: String,
    /// The router's own id, `jabberd-router` unless it was changed.
    pub router: String,
    /// Bounds on what the router sends.
    pub limits: Limits,
    /// How long to wait.
    pub timing: Timing,
    /// Random bytes of this negotiation alone.
    pub entropy: Entropy,
}

impl Config {
    /// A user that binds its own name, with default limits and waits.
    #[must_use]
    pub fn new(username: impl Into<String>, secret: Secret, entropy: Entropy) -> Self {
        let username = username.into();
        Self {
            name: username.clone(),
            username,
            secret,
            router: "jabberd-router".to_owned(),
            limits: Limits::default(),
            timing: Timing::default(),
            entropy,
        }
    }
}

/// Negotiates a router link, up to the bound name.
pub struct Login {
    config: Config,
    jid: Jid,
    progress: Progress<State>,
    authenticated: bool,
}

pub(crate) enum State {
    Header,
    Features,
    Sasl(DigestMd5),
    Bind,
    /// Established or failed.
    Over,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("waits_for", &self.progress.state.expected()).finish_non_exhaustive()
    }
}

impl Login {
    /// Begins with the stream header.
    ///
    /// # Errors
    /// The name to bind is not a domain.
    pub fn new(config: Config, now: Instant) -> Result<Self, jid::Error> {
        let jid = Jid::new(&config.name)?;
        let mut login = Self {
            progress: Progress::new(State::Header, config.timing, now),
            config,
            jid,
            authenticated: false,
        };
        login.open();
        Ok(login)
    }

    fn open(&mut self) {
        let header = Header {
            content_ns: CONTENT.to_owned(),
            to: Some(self.config.router.clone()),
            version: Some("1.0".to_owned()),
            ..Header::default()
        };
        self.progress.write(header.to_bytes());
        self.progress.state = State::Header;
    }

    fn send(&mut self, element: &Element) {
        let mut bytes = Vec::new();
        write_within(element, CONTENT, &mut bytes);
        self.progress.write(bytes);
    }

    fn features(&mut self, features: Features) -> Result<(), NegotiationError> {
        let Config { username, secret, router, name, entropy, .. } = &self.config;
        if self.authenticated {
            let bind = Element::bare("bind", ns::ROUTE).with_attr("name", name);
            self.send(&bind);
            self.progress.state = State::Bind;
            return Ok(());
        }
        if !features.mechanisms.iter().any(|offered| offered == MECHANISM) {
            return Err(NegotiationError::NoMechanism { offered: features.mechanisms });
        }
        let uri = format!("xmpp/{router}");
        let sasl = DigestMd5::new(username, secret.clone(), uri, entropy.token("cnonce"));
        self.send(&Element::bare("auth", ns::SASL).with_attr("mechanism", MECHANISM));
        self.progress.state = State::Sasl(sasl);
        Ok(())
    }

    fn sasl(&mut self, mut sasl: DigestMd5, element: &Element) -> Result<(), NegotiationError> {
        match element.name() {
            "challenge" => {
                let response = sasl.challenge(&decode(element)?.unwrap_or_default())?;
                self.send(&Element::bare("response", ns::SASL).with_text(BASE64.encode(response)));
                self.progress.state = State::Sasl(sasl);
                Ok(())
            }
            "success" => {
                sasl.success(decode(element)?.as_deref())?;
                self.authenticated = true;
                self.progress.want(Output::Restart);
                self.open();
                Ok(())
            }
            _ => Err(NegotiationError::Refused {
                condition: condition(element, ns::SASL),
                text: element.get_child("text", ns::SASL).map(Element::text),
            }),
        }
    }
}

impl Steps for Login {
    type State = State;

    fn progress(&self) -> &Progress<State> {
        &self.progress
    }

    fn progress_mut(&mut self) -> &mut Progress<State> {
        &mut self.progress
    }

    fn step(&mut self, state: State, frame: Frame, now: Instant) -> Result<(), NegotiationError> {
        match (state, frame) {
            (State::Header, Frame::Open(_)) => {
                self.progress.state = State::Features;
                Ok(())
            }
            (State::Features, Frame::Element(element)) => match Features::read(&element) {
                Some(features) => self.features(features),
                None => Err(unexpected(&Frame::Element(element), "stream features")),
            },
            (State::Sasl(sasl), Frame::Element(element)) if element.has_ns(ns::SASL) => {
                self.sasl(sasl, &element)
            }
            (State::Bind, Frame::Element(element)) if element.is("bind", ns::ROUTE) => {
                if let Some(error) = element.attr("error") {
                    return Err(NegotiationError::Bind(error.to_owned()));
                }
                let session =
                    Session::new(self.jid.clone(), CONTENT, Role::Initiator, self.config.timing, now);
                self.progress.establish(session);
                Ok(())
            }
            (State::Bind, Frame::Element(element)) if !element.has_ns(ns::STREAM) => {
                self.progress.state = State::Bind;
                self.progress.keep(element)
            }
            (state, frame) => Err(unexpected(&frame, state.expected())),
        }
    }
}

impl Waits for State {
    const OVER: Self = Self::Over;

    fn expected(&self) -> &'static str {
        match self {
            Self::Header => "a stream header",
            Self::Features => "stream features",
            Self::Sasl(_) => "an answer to auth",
            Self::Bind => "an answer to bind",
            Self::Over => "nothing more",
        }
    }
}
