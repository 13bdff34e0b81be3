//! The initiating side of a client stream: from features to bound (RFC 6120 §4.3 to §7).

use std::fmt;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use minidom::Element;

use crate::negotiation::{NegotiationError, Output, condition, unexpected};
use crate::progress::{Progress, Steps, Waits};
use crate::sasl::{Client as Sasl, Credentials, SaslError};
use crate::session::{Role, Session, h_of};
use crate::sm::{self, ResumeState};
use crate::stream::{Features, Header};
use crate::timing::Timing;
use crate::xml::{Compose as _, Frame, Limits, write};
use crate::{BareJid, Entropy, FullJid, ns};

/// Who logs in, and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// The account whose session is wanted; its domain is the stream's `to`.
    pub jid: BareJid,
    /// The resource to ask for; `None`: the server makes one up.
    pub resource: Option<String>,
    /// How to prove who we are.
    pub credentials: Credentials,
    /// Whether stream management is enabled where the server has it; on by default.
    pub manage: bool,
    /// The stream to take up again, if any.
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
    /// A new managed stream with default limits and waits.
    #[must_use]
    pub fn new(jid: BareJid, credentials: Credentials, entropy: Entropy) -> Self {
        Self {
            jid,
            resource: None,
            credentials,
            manage: true,
            resume: None,
            skip: 0,
            limits: Limits::default(),
            timing: Timing::default(),
            entropy,
        }
    }
}

/// Whether STARTTLS is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StartTls {
    /// Not even if offered: also where the byte stream is encrypted already.
    Off,
    /// If offered.
    Allowed,
    /// Always; a server that does not offer it is refused.
    Required,
}

/// Negotiates a client stream, from the first header to a bound or resumed [`Session`].
///
/// ```text
///  header ─ features ─┬─ starttls ─ proceed ─ (TLS) ─ header ─ features ─┐
///                     └──────────────────────┬───────────────────────────┘
///                                            auth ─ challenge* ─ success ─ header ─ features
///                     ┌──────────────────────────────────────────────────────────────┘
///                     ├─ resume ─┬─ resumed ─────────────────────────── established
///                     │          └─ failed ─┐
///                     └─────────────────────┴─ bind ─ enable ─ enabled ─ established
/// ```
pub struct Negotiation {
    config: Config,
    starttls: StartTls,
    progress: Progress<State>,
    encrypted: bool,
    authenticated: bool,
    /// How the wanted resumption failed, once it did.
    resume_failed: Option<Option<u64>>,
    /// Whether the server offers stream management.
    offers_sm: bool,
}

pub(crate) enum State {
    Header,
    Features,
    Proceed,
    /// TLS is being negotiated by the driver.
    Tls,
    Sasl(Sasl),
    Resume,
    Bind,
    Enable(FullJid),
    /// Established or failed.
    Over,
}

const BIND_ID: &str = "bind";

impl fmt::Debug for Negotiation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Negotiation")
            .field("waits_for", &self.progress.state.expected())
            .finish_non_exhaustive()
    }
}

impl Negotiation {
    /// Begins with the stream header.
    #[must_use]
    pub fn new(config: Config, starttls: StartTls, now: Instant) -> Self {
        let mut negotiation = Self {
            progress: Progress::new(State::Header, config.timing, now),
            config,
            starttls,
            encrypted: false,
            authenticated: false,
            resume_failed: None,
            offers_sm: false,
        };
        negotiation.open();
        negotiation
    }

    fn open(&mut self) {
        let header = Header {
            content_ns: ns::CLIENT.to_owned(),
            to: Some(self.config.jid.domain().to_string()),
            version: Some("1.0".to_owned()),
            ..Header::default()
        };
        self.progress.write(header.to_bytes());
        self.progress.state = State::Header;
    }

    fn send(&mut self, element: &Element) {
        let mut bytes = Vec::new();
        write(element, &mut bytes);
        self.progress.write(bytes);
    }

    fn features(&mut self, features: Features) -> Result<(), NegotiationError> {
        if self.authenticated {
            return self.authenticated_features(&features);
        }
        if !self.encrypted && self.starttls != StartTls::Off {
            if features.starttls {
                self.send(&Element::bare("starttls", ns::TLS));
                self.progress.state = State::Proceed;
                return Ok(());
            }
            if self.starttls == StartTls::Required {
                return Err(NegotiationError::NoTls);
            }
        }
        let Config { credentials, jid, entropy, .. } = &self.config;
        let Some(chosen) = Sasl::choose(credentials, jid, &features.mechanisms, entropy) else {
            return Err(NegotiationError::NoMechanism { offered: features.mechanisms });
        };
        let (mechanism, sasl) = chosen?;
        let initial = sasl.initial();
        // An empty initial response is written as `=` (RFC 6120 §6.4.2).
        let text = if initial.is_empty() { "=".to_owned() } else { BASE64.encode(initial) };
        let auth = Element::bare("auth", ns::SASL).with_attr("mechanism", mechanism.name()).with_text(text);
        self.send(&auth);
        self.progress.state = State::Sasl(sasl);
        Ok(())
    }

    fn sasl(&mut self, mut sasl: Sasl, element: &Element) -> Result<(), NegotiationError> {
        match element.name() {
            "challenge" => {
                let challenge = decode(element)?.unwrap_or_default();
                let response = sasl.challenge(&challenge)?;
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
            "failure" => Err(NegotiationError::Refused {
                condition: condition(element, ns::SASL),
                text: element.get_child("text", ns::SASL).map(Element::text),
            }),
            name => Err(NegotiationError::Unexpected { expected: "an answer to auth", got: name.to_owned() }),
        }
    }

    fn authenticated_features(&mut self, features: &Features) -> Result<(), NegotiationError> {
        self.offers_sm = features.sm;
        match &self.config.resume {
            Some(state) if features.sm => {
                let resume = resume_element(state);
                self.send(&resume);
                self.progress.state = State::Resume;
                return Ok(());
            }
            Some(_) => self.resume_failed = Some(None),
            None => {}
        }
        if !features.bind {
            return Err(NegotiationError::Bind("not offered".to_owned()));
        }
        self.bind();
        Ok(())
    }

    fn resume(&mut self, element: &Element, now: Instant) -> Result<(), NegotiationError> {
        let Some(state) = self.config.resume.clone() else { return Ok(()) };
        match resume_answer(element, &state)? {
            ResumeAnswer::Resumed(h) => {
                let session = self.session(state.jid.clone(), now).resumed(state, h, self.config.skip);
                self.progress.establish(session);
            }
            ResumeAnswer::Failed(h) => {
                self.resume_failed = Some(h);
                self.bind();
            }
        }
        Ok(())
    }

    fn bind(&mut self) {
        let mut bind = Element::bare("bind", ns::BIND);
        if let Some(resource) = &self.config.resource {
            bind.append_child(Element::bare("resource", ns::BIND).with_text(resource));
        }
        let iq = Element::bare("iq", ns::CLIENT).with_attr("type", "set").with_attr("id", BIND_ID);
        self.send(&iq.with_child(bind));
        self.progress.state = State::Bind;
    }

    fn bound(&mut self, iq: &Element, now: Instant) -> Result<(), NegotiationError> {
        if iq.attr("type") != Some("result") {
            let error = iq.get_child("error", ns::CLIENT);
            let condition = error.map(|error| condition(error, ns::STANZA_ERRORS));
            return Err(NegotiationError::Bind(condition.unwrap_or_else(|| "no reason given".to_owned())));
        }
        let jid = iq.get_child("bind", ns::BIND).and_then(|bind| bind.get_child("jid", ns::BIND));
        let jid: Option<FullJid> = jid.and_then(|jid| jid.text().parse().ok());
        let jid = jid.ok_or_else(|| NegotiationError::Bind("no JID in the answer".to_owned()))?;
        if jid.to_bare() != self.config.jid {
            return Err(NegotiationError::BoundElsewhere {
                asked: self.config.jid.clone(),
                bound: jid.into(),
            });
        }
        if self.config.manage && self.offers_sm {
            self.send(&enable_element());
            self.progress.state = State::Enable(jid);
        } else {
            let session = self.session(jid.into(), now);
            self.progress.establish(session);
        }
        Ok(())
    }

    fn enabled(&mut self, jid: FullJid, element: &Element, now: Instant) -> Result<(), NegotiationError> {
        let session = self.session(jid.into(), now);
        let session = if element.is("enabled", ns::SM) {
            session.enabled(resume_id(element))
        } else if element.is("failed", ns::SM) {
            session
        } else {
            return Err(unexpected(&Frame::Element(element.clone()), "an answer to enable"));
        };
        self.progress.establish(session);
        Ok(())
    }

    fn session(&mut self, jid: crate::Jid, now: Instant) -> Session {
        let session = Session::new(jid, ns::CLIENT, Role::Initiator, self.config.timing, now);
        match self.resume_failed {
            Some(h) => session.resume_failed(h),
            None => session,
        }
    }
}

impl Steps for Negotiation {
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
                if header.content_ns != ns::CLIENT {
                    let got = format!("stream of `{}`", header.content_ns);
                    return Err(NegotiationError::Unexpected { expected: "a client stream", got });
                }
                self.progress.state = State::Features;
                Ok(())
            }
            (State::Features, Frame::Element(element)) => match Features::read(&element) {
                Some(features) => self.features(features),
                None => Err(unexpected(&Frame::Element(element), "stream features")),
            },
            (State::Proceed, Frame::Element(element)) if element.is("proceed", ns::TLS) => {
                self.progress.state = State::Tls;
                self.progress.want(Output::StartTls);
                Ok(())
            }
            (State::Proceed, Frame::Element(element)) if element.is("failure", ns::TLS) => {
                Err(NegotiationError::NoTls)
            }
            (State::Sasl(sasl), Frame::Element(element)) if element.has_ns(ns::SASL) => {
                self.sasl(sasl, &element)
            }
            (State::Resume, Frame::Element(element)) if element.has_ns(ns::SM) => self.resume(&element, now),
            (State::Bind, Frame::Element(element)) => {
                if element.is("iq", ns::CLIENT) && element.attr("id") == Some(BIND_ID) {
                    return self.bound(&element, now);
                }
                if !element.has_ns(ns::CLIENT) {
                    return Err(unexpected(&Frame::Element(element), "an answer to bind"));
                }
                self.progress.state = State::Bind;
                self.progress.keep(element)
            }
            (State::Enable(jid), Frame::Element(element)) => {
                if element.has_ns(ns::CLIENT) {
                    self.progress.state = State::Enable(jid);
                    return self.progress.keep(element);
                }
                self.enabled(jid, &element, now)
            }
            (state, frame) => Err(unexpected(&frame, state.expected())),
        }
    }

    fn is_encrypted(&mut self) {
        self.encrypted = true;
        self.open();
    }
}

impl Waits for State {
    const OVER: Self = Self::Over;

    fn expected(&self) -> &'static str {
        match self {
            Self::Header => "a stream header",
            Self::Features => "stream features",
            Self::Proceed => "an answer to starttls",
            Self::Tls => "TLS",
            Self::Sasl(_) => "an answer to auth",
            Self::Resume => "an answer to resume",
            Self::Bind => "an answer to bind",
            Self::Enable(_) => "an answer to enable",
            Self::Over => "nothing more",
        }
    }
}

/// The payload of a SASL element; `None` if it has none, which differs from an empty one (RFC 6120 §6.4.2).
pub(crate) fn decode(element: &Element) -> Result<Option<Vec<u8>>, SaslError> {
    match element.text().trim() {
        "" => Ok(None),
        "=" => Ok(Some(Vec::new())),
        text => BASE64.decode(text).map(Some).map_err(|_| SaslError::Malformed),
    }
}

pub(crate) fn enable_element() -> Element {
    Element::bare("enable", ns::SM).with_attr("resume", "true")
}

/// The id in `<enabled/>`, if the server allows resumption.
pub(crate) fn resume_id(enabled: &Element) -> Option<String> {
    let resumable = matches!(enabled.attr("resume"), Some("true" | "1"));
    enabled.attr("id").filter(|id| resumable && !id.is_empty()).map(str::to_owned)
}

pub(crate) fn resume_element(state: &ResumeState) -> Element {
    Element::bare("resume", ns::SM)
        .with_attr("previd", &state.id)
        .with_attr("h", sm::narrow(state.inbound).to_string())
}

pub(crate) enum ResumeAnswer {
    Resumed(u64),
    Failed(Option<u64>),
}

/// Reads `<resumed/>` or `<failed/>` (XEP-0198 §5).
pub(crate) fn resume_answer(
    element: &Element,
    state: &ResumeState,
) -> Result<ResumeAnswer, NegotiationError> {
    let widened = h_of(element).map(|h| (h, sm::widen_below(state.outbound, h)));
    match element.name() {
        "resumed" if element.attr("previd").is_none_or(|previd| previd == state.id) => match widened {
            Some((_, Some(h))) => Ok(ResumeAnswer::Resumed(h)),
            Some((h, None)) => Err(NegotiationError::HandledTooHigh { h, sent: state.outbound }),
            None => Err(NegotiationError::Unexpected {
                expected: "resumed with a counter",
                got: "resumed".to_owned(),
            }),
        },
        "failed" => Ok(ResumeAnswer::Failed(widened.and_then(|(_, h)| h))),
        name => Err(NegotiationError::Unexpected { expected: "an answer to resume", got: name.to_owned() }),
    }
}
