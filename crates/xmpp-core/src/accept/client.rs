//! Accepts a client stream (RFC 6120 §4.3 to §7, from the other side).

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use minidom::Element;

use super::{Authenticator, Config};
use crate::c2s::{StartTls, decode};
use crate::negotiation::{NegotiationError, Output, unexpected};
use crate::progress::{Progress, Steps, Waits};
use crate::sasl::{Context, Mechanism, Server as Sasl, Step};
use crate::session::{Role, Session, answer_resume};
use crate::stream::{FOOTER, Features, Header, SEE_OTHER_HOST, StreamError};
use crate::xml::{Compose as _, Frame, write};
use crate::{BareJid, Jid, ns};

/// How many wrong passwords end the stream (RFC 6120 §6.4.5).
const ATTEMPTS: usize = 3;

/// Accepts a client stream, up to a bound or resumed [`Session`].
pub struct ClientAcceptor {
    config: Config,
    starttls: StartTls,
    authenticator: Arc<dyn Authenticator>,
    progress: Progress<State>,
    encrypted: bool,
    certificate: Option<Vec<u8>>,
    /// The domain that the client opened the stream to.
    domain: String,
    attempts: usize,
    headers: usize,
}

pub(crate) enum State {
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
        f.debug_struct("ClientAcceptor")
            .field("waits_for", &self.progress.state.expected())
            .finish_non_exhaustive()
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
            progress: Progress::new(State::Header(None), config.timing, now),
            config,
            starttls,
            authenticator,
            encrypted,
            certificate: None,
            domain: String::new(),
            attempts: 0,
            headers: 0,
        }
    }

    fn send(&mut self, element: &Element) {
        let mut bytes = Vec::new();
        write(element, &mut bytes);
        self.progress.write(bytes);
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
        self.progress.write(answer.to_bytes());
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
                if let Some(host) = self.authenticator.elsewhere(&account) {
                    self.send(&StreamError::see_other_host(&host));
                    return self.reject_silently(SEE_OTHER_HOST);
                }
                features.bind = true;
                features.sm = self.config.registry.is_some();
                self.progress.state = State::Bind(account);
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
                self.progress.state = State::Auth;
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
                self.progress.state = State::Sasl(Sasl::begin(mechanism));
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
                self.progress.state = State::Sasl(sasl);
                Ok(())
            }
            Step::Success { account, data } => {
                let mut success = Element::bare("success", ns::SASL);
                if let Some(data) = data {
                    success.append_text(BASE64.encode(data));
                }
                self.send(&success);
                self.progress.want(Output::Restart);
                self.progress.state = State::Header(Some(account));
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
        self.progress.state = State::Auth;
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
            self.progress.state = State::Bind(account);
            return Ok(());
        };
        let bound = Element::bare("bind", ns::BIND)
            .with_child(Element::bare("jid", ns::BIND).with_text(jid.as_str()));
        let answer = Element::bare("iq", ns::CLIENT).with_attr("type", "result").with_optional("id", id);
        self.send(&answer.with_child(bound));
        let session = self.session(jid.into(), now);
        self.progress.establish(session);
        Ok(())
    }

    fn resume(&mut self, account: BareJid, element: &Element, now: Instant) -> Result<(), NegotiationError> {
        let jid = Jid::from(account.clone());
        match answer_resume(self.config.registry.as_deref(), element, &jid) {
            Ok((answer, id, resumable)) => {
                self.send(&answer);
                let mut session = self.session(jid, now);
                session.take_up(id, resumable);
                self.progress.establish(session);
            }
            Err(answer) => {
                self.send(&answer);
                self.progress.state = State::Bind(account);
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
        self.progress.write(FOOTER.to_vec());
        Err(NegotiationError::Rejected(condition))
    }
}

impl Steps for ClientAcceptor {
    type State = State;

    fn progress(&self) -> &Progress<State> {
        &self.progress
    }

    fn progress_mut(&mut self) -> &mut Progress<State> {
        &mut self.progress
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
                self.progress.want(Output::StartTls);
                self.progress.state = State::Tls;
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

    fn certificate_shown(&mut self, certificate: Vec<u8>) {
        self.certificate = Some(certificate);
    }

    fn is_encrypted(&mut self) {
        self.encrypted = true;
        self.progress.state = State::Header(None);
    }
}

impl Waits for State {
    const OVER: Self = Self::Over;

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
