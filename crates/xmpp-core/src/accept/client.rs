//! Accepts a client stream (RFC 6120 §4.3 to §7, from the other side).

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use minidom::Element;

use super::{Authenticator, Config};
use crate::c2s::{StartTls, decode};
use crate::negotiation::{Machine, NegotiationError, Output, unexpected};
use crate::sasl::{Context, Mechanism, Server as Sasl, Step};
use crate::session::{Role, Session, answer_resume};
use crate::stream::{FOOTER, Features, Header, StreamError};
use crate::xml::{Compose as _, Frame, write};
use crate::{BareJid, Jid, ns};

/// How many wrong passwords end the stream (RFC 6120 §6.4.5).
const ATTEMPTS: usize = 3;

/// Accepts a client stream, up to a bound or resumed [`Session`].
pub struct ClientAcceptor {
    config: Config,
    starttls: StartTls,
    authenticator: Arc<dyn Authenticator>,
    state: State,
    encrypted: bool,
    certificate: Option<Vec<u8>>,
    /// The domain that the client opened the stream to.
    domain: String,
    attempts: usize,
    headers: usize,
    output: VecDeque<Output>,
    last_step: Instant,
}

enum State {
    /// Once it is known, whose stream it will be.
    Header(Option<BareJid>),
    Auth,
    /// TLS is being negotiated by the driver.
    Tls,
    Sasl(Sasl),
    Bind(BareJid),
    /// Established or failed.
    Over,
}

impl fmt::Debug for ClientAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAcceptor").field("waits_for", &self.state.expected()).finish_non_exhaustive()
    }
}

impl ClientAcceptor {
    /// Waits for the client's stream header. `encrypted`: the byte stream is encrypted already.
    #[must_use]
    pub fn new(
        config: Config,
        starttls: StartTls,
        encrypted: bool,
        authenticator: Arc<dyn Authenticator>,
        now: Instant,
    ) -> Self {
        Self {
            config,
            starttls,
            authenticator,
            state: State::Header(None),
            encrypted,
            certificate: None,
            domain: String::new(),
            attempts: 0,
            headers: 0,
            output: VecDeque::new(),
            last_step: now,
        }
    }

    fn send(&mut self, element: &Element) {
        let mut bytes = Vec::new();
        write(element, &mut bytes);
        self.output.push_back(Output::Write(bytes));
    }

    fn step(&mut self, state: State, frame: Frame, now: Instant) -> Result<(), NegotiationError> {
        match (state, frame) {
            (State::Header(account), Frame::Open(header)) => self.header(account, header),
            (State::Auth, Frame::Element(element)) if element.is("starttls", ns::TLS) => {
                if self.encrypted || self.starttls == StartTls::Off {
                    self.send(&Element::bare("failure", ns::TLS));
                    return self.reject_silently("unsupported-feature");
                }
                self.send(&Element::bare("proceed", ns::TLS));
                self.output.push_back(Output::StartTls);
                self.state = State::Tls;
                Ok(())
            }
            (State::Auth, Frame::Element(element)) if element.is("auth", ns::SASL) => self.auth(&element),
            (State::Sasl(sasl), Frame::Element(element)) if element.is("response", ns::SASL) => {
                self.sasl(sasl, &element)
            }
            (State::Sasl(_), Frame::Element(element)) if element.is("abort", ns::SASL) => {
                self.failure("aborted")
            }
            (State::Bind(account), Frame::Element(element)) => self.bind(account, &element, now),
            (State::Auth | State::Sasl(_), Frame::Element(element))
                if StreamError::read(&element).is_none() =>
            {
                self.reject("not-authorized")
            }
            (state, frame) => Err(unexpected(&frame, state.expected())),
        }
    }

    fn header(&mut self, account: Option<BareJid>, header: Header) -> Result<(), NegotiationError> {
        self.headers += 1;
        let domain = header.to.unwrap_or_default().to_lowercase();
        let known = self.config.domains.contains(&domain);
        let answer = Header {
            content_ns: ns::CLIENT.to_owned(),
            from: if known { Some(domain.clone()) } else { self.config.domains.first().cloned() },
            id: Some(self.config.entropy.token(&format!("stream id {}", self.headers))),
            version: Some("1.0".to_owned()),
            lang: Some("en".to_owned()),
            ..Header::default()
        };
        self.output.push_back(Output::Write(answer.to_bytes()));
        if header.content_ns != ns::CLIENT {
            return self.reject("invalid-namespace");
        }
        if !known {
            return self.reject("host-unknown");
        }
        if header.version.is_none() {
            return self.reject("unsupported-version");
        }
        self.domain = domain;
        let mut features = Features::default();
        match account {
            Some(account) if account.domain().as_str() == self.domain => {
                features.bind = true;
                features.sm = self.config.registry.is_some();
                self.state = State::Bind(account);
            }
            Some(_) => return self.reject("host-unknown"),
            None => {
                let encryption_missing = !self.encrypted && self.starttls == StartTls::Required;
                features.starttls = !self.encrypted && self.starttls != StartTls::Off;
                features.starttls_required = encryption_missing;
                if !encryption_missing {
                    let mechanisms = self.authenticator.mechanisms(self.encrypted);
                    features.mechanisms =
                        mechanisms.iter().map(|mechanism| mechanism.name().to_owned()).collect();
                }
                self.state = State::Auth;
            }
        }
        self.send(&features.to_element());
        Ok(())
    }

    fn auth(&mut self, element: &Element) -> Result<(), NegotiationError> {
        if !self.encrypted && self.starttls == StartTls::Required {
            return self.failure("encryption-required");
        }
        let mechanism = element.attr("mechanism").and_then(Mechanism::from_name);
        let offered = self.authenticator.mechanisms(self.encrypted);
        let Some(mechanism) = mechanism.filter(|mechanism| offered.contains(mechanism)) else {
            return self.failure("invalid-mechanism");
        };
        match decode(element) {
            Ok(Some(_)) => self.sasl(Sasl::begin(mechanism), element),
            // No initial response: an empty challenge asks for it (RFC 6120 §6.4.2).
            Ok(None) => {
                self.send(&Element::bare("challenge", ns::SASL));
                self.state = State::Sasl(Sasl::begin(mechanism));
                Ok(())
            }
            Err(_) => self.failure("incorrect-encoding"),
        }
    }

    fn sasl(&mut self, mut sasl: Sasl, element: &Element) -> Result<(), NegotiationError> {
        let Ok(message) = decode(element) else { return self.failure("incorrect-encoding") };
        let context = Context {
            domain: &self.domain,
            authenticator: &*self.authenticator,
            entropy: &self.config.entropy,
            certificate: self.certificate.as_deref(),
            attempt: self.attempts,
        };
        match sasl.handle(&message.unwrap_or_default(), &context) {
            Step::Challenge(challenge) => {
                self.send(&Element::bare("challenge", ns::SASL).with_text(BASE64.encode(challenge)));
                self.state = State::Sasl(sasl);
                Ok(())
            }
            Step::Success { account, data } => {
                let mut success = Element::bare("success", ns::SASL);
                if let Some(data) = data {
                    success.append_text(BASE64.encode(data));
                }
                self.send(&success);
                self.output.push_back(Output::Restart);
                self.state = State::Header(Some(account));
                Ok(())
            }
            Step::Failure(condition) => self.failure(condition),
        }
    }

    /// The client may try again, a few times.
    fn failure(&mut self, condition: &'static str) -> Result<(), NegotiationError> {
        let failure = Element::bare("failure", ns::SASL).with_child(Element::bare(condition, ns::SASL));
        self.send(&failure);
        self.attempts += 1;
        if self.attempts >= ATTEMPTS {
            return self.reject("policy-violation");
        }
        self.state = State::Auth;
        Ok(())
    }

    fn bind(&mut self, account: BareJid, element: &Element, now: Instant) -> Result<(), NegotiationError> {
        if element.is("resume", ns::SM) {
            return self.resume(account, element, now);
        }
        let bind = element.get_child("bind", ns::BIND);
        let is_bind = element.is("iq", ns::CLIENT) && element.attr("type") == Some("set");
        let (true, Some(bind)) = (is_bind, bind) else { return self.reject("not-authorized") };
        let id = element.attr("id");
        let asked = bind.get_child("resource", ns::BIND).map(Element::text).filter(|asked| !asked.is_empty());
        let generated = self.config.entropy.token("resource");
        let resource = self.authenticator.resource(&account, asked, generated);
        let Ok(jid) = account.with_resource_str(&resource) else {
            let condition = Element::bare("bad-request", ns::STANZA_ERRORS);
            let error = Element::bare("error", ns::CLIENT).with_attr("type", "modify").with_child(condition);
            let answer = Element::bare("iq", ns::CLIENT).with_attr("type", "error").with_optional("id", id);
            self.send(&answer.with_child(error));
            self.state = State::Bind(account);
            return Ok(());
        };
        let bound = Element::bare("bind", ns::BIND)
            .with_child(Element::bare("jid", ns::BIND).with_text(jid.as_str()));
        let answer = Element::bare("iq", ns::CLIENT).with_attr("type", "result").with_optional("id", id);
        self.send(&answer.with_child(bound));
        let session = self.session(jid.into(), now);
        self.output.push_back(Output::Established(Box::new(session)));
        Ok(())
    }

    fn resume(&mut self, account: BareJid, element: &Element, now: Instant) -> Result<(), NegotiationError> {
        let jid = Jid::from(account.clone());
        match answer_resume(self.config.registry.as_deref(), element, &jid) {
            Ok((answer, id, resumable)) => {
                self.send(&answer);
                let mut session = self.session(jid, now);
                session.take_up(id, resumable);
                self.output.push_back(Output::Established(Box::new(session)));
            }
            Err(answer) => {
                self.send(&answer);
                self.state = State::Bind(account);
            }
        }
        Ok(())
    }

    fn session(&self, jid: Jid, now: Instant) -> Session {
        let role = Role::Acceptor(self.config.registry.clone());
        Session::new(jid, ns::CLIENT, role, self.config.timing, now)
    }

    fn reject(&mut self, condition: &'static str) -> Result<(), NegotiationError> {
        self.send(&StreamError::element(condition, None));
        self.reject_silently(condition)
    }

    fn reject_silently(&mut self, condition: &'static str) -> Result<(), NegotiationError> {
        self.output.push_back(Output::Write(FOOTER.to_vec()));
        Err(NegotiationError::Rejected(condition))
    }
}

impl Machine for ClientAcceptor {
    fn handle(&mut self, frame: Frame, now: Instant) -> Result<(), NegotiationError> {
        self.last_step = now;
        // Stays over on an error.
        let state = mem::replace(&mut self.state, State::Over);
        self.step(state, frame, now)
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        self.last_step.checked_add(self.config.timing.step)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), NegotiationError> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        Err(NegotiationError::TimedOut(mem::replace(&mut self.state, State::Over).expected()))
    }

    fn certificate(&mut self, certificate: Vec<u8>) {
        self.certificate = Some(certificate);
    }

    fn encrypted(&mut self, now: Instant) {
        self.last_step = now;
        self.encrypted = true;
        self.state = State::Header(None);
    }
}

impl State {
    fn expected(&self) -> &'static str {
        match self {
            Self::Header(_) => "a stream header",
            Self::Auth => "auth",
            Self::Tls => "TLS",
            Self::Sasl(_) => "a SASL response",
            Self::Bind(_) => "bind or resume",
            Self::Over => "nothing more",
        }
    }
}
