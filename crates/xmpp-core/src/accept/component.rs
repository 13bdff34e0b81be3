//! Accepts a component's stream (XEP-0114).

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use minidom::Element;

use super::{Authenticator, Config};
use crate::component::digest;
use crate::negotiation::{NegotiationError, unexpected};
use crate::progress::{Progress, Steps, Waits};
use crate::secret::equal;
use crate::session::{Role, Session};
use crate::stream::{FOOTER, Header, StreamError};
use crate::xml::{Frame, write_within};
use crate::{Jid, Secret, ns};

/// Accepts a component's stream, up to its handshake. Stream management comes later, inside the session.
pub struct ComponentAcceptor {
    config: Config,
    authenticator: Arc<dyn Authenticator>,
    progress: Progress<State>,
}

pub(crate) enum State {
    Header,
    Handshake {
        name: Jid,
        id: String,
        secret: Secret,
    },
    /// Established or failed.
    Over,
}

impl fmt::Debug for ComponentAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComponentAcceptor")
            .field("waits_for", &self.progress.state.expected())
            .finish_non_exhaustive()
    }
}

impl ComponentAcceptor {
    /// Waits for the component's stream header.
    #[must_use]
    pub fn new(config: Config, authenticator: Arc<dyn Authenticator>, now: Instant) -> Self {
        Self { progress: Progress::new(State::Header, config.timing, now), config, authenticator }
    }

    fn header(&mut self, header: Header) -> Result<(), NegotiationError> {
        let id = self.config.entropy.token("stream id");
        let name = header.to.unwrap_or_default();
        let answer = Header {
            content_ns: ns::COMPONENT_ACCEPT.to_owned(),
            from: Some(name.clone()),
            id: Some(id.clone()),
            ..Header::default()
        };
        self.progress.write(answer.to_bytes());
        if header.content_ns != ns::COMPONENT_ACCEPT {
            return self.reject("invalid-namespace");
        }
        let name = name.parse().ok().filter(|name: &Jid| name.node().is_none() && name.resource().is_none());
        match name.and_then(|name| Some((self.authenticator.component(name.as_str())?, name))) {
            Some((secret, name)) => {
                self.progress.state = State::Handshake { name, id, secret };
                Ok(())
            }
            None => self.reject("host-unknown"),
        }
    }

    fn reject(&mut self, condition: &'static str) -> Result<(), NegotiationError> {
        let mut bytes = Vec::new();
        write_within(&StreamError::element(condition, None), ns::COMPONENT_ACCEPT, &mut bytes);
        bytes.extend_from_slice(FOOTER);
        self.progress.write(bytes);
        Err(NegotiationError::Rejected(condition))
    }
}

impl Steps for ComponentAcceptor {
    type State = State;

    fn progress(&self) -> &Progress<State> {
        &self.progress
    }

    fn progress_mut(&mut self) -> &mut Progress<State> {
        &mut self.progress
    }

    fn step(&mut self, state: State, frame: Frame, now: Instant) -> Result<(), NegotiationError> {
        match (state, frame) {
            (State::Header, Frame::Open(header)) => self.header(header),
            (State::Handshake { name, id, secret }, Frame::Element(element))
                if element.is("handshake", ns::CLIENT) =>
            {
                if !equal(element.text().trim().as_bytes(), digest(&id, &secret).as_bytes()) {
                    return self.reject("not-authorized");
                }
                let mut bytes = Vec::new();
                write_within(&Element::bare("handshake", ns::CLIENT), ns::COMPONENT_ACCEPT, &mut bytes);
                self.progress.write(bytes);
                let role = Role::Acceptor(self.config.registry.clone());
                let session = Session::new(name, ns::COMPONENT_ACCEPT, role, self.config.timing, now);
                self.progress.establish(session);
                Ok(())
            }
            (State::Handshake { .. }, Frame::Element(_)) => self.reject("not-authorized"),
            (state, frame) => Err(unexpected(&frame, state.expected())),
        }
    }
}

impl Waits for State {
    const OVER: Self = Self::Over;

    fn expected(&self) -> &'static str {
        match self {
            Self::Header => "a stream header",
            Self::Handshake { .. } => "a handshake",
            Self::Over => "nothing more",
        }
    }
}
