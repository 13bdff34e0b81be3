//! Accepts a component's stream (XEP-0114).

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use minidom::Element;

use super::{Authenticator, Config};
use crate::component::digest;
use crate::negotiation::{Machine, NegotiationError, Output, unexpected};
use crate::secret::equal;
use crate::session::{Role, Session};
use crate::stream::{FOOTER, Header, StreamError};
use crate::xml::{Frame, write_within};
use crate::{Jid, Secret, ns};

/// Accepts a component's stream, up to its handshake. Stream management comes later, inside the session.
pub struct ComponentAcceptor {
    config: Config,
    authenticator: Arc<dyn Authenticator>,
    state: State,
    output: VecDeque<Output>,
    last_step: Instant,
}

enum State {
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
        f.debug_struct("ComponentAcceptor").field("waits_for", &self.state.expected()).finish_non_exhaustive()
    }
}

impl ComponentAcceptor {
    /// Waits for the component's stream header.
    #[must_use]
    pub fn new(config: Config, authenticator: Arc<dyn Authenticator>, now: Instant) -> Self {
        Self { config, authenticator, state: State::Header, output: VecDeque::new(), last_step: now }
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
        self.output.push_back(Output::Write(answer.to_bytes()));
        if header.content_ns != ns::COMPONENT_ACCEPT {
            return self.reject("invalid-namespace");
        }
        let name = name.parse().ok().filter(|name: &Jid| name.node().is_none() && name.resource().is_none());
        match name.and_then(|name| Some((self.authenticator.component(name.as_str())?, name))) {
            Some((secret, name)) => {
                self.state = State::Handshake { name, id, secret };
                Ok(())
            }
            None => self.reject("host-unknown"),
        }
    }

    fn reject(&mut self, condition: &'static str) -> Result<(), NegotiationError> {
        let mut bytes = Vec::new();
        write_within(&StreamError::element(condition, None), ns::COMPONENT_ACCEPT, &mut bytes);
        bytes.extend_from_slice(FOOTER);
        self.output.push_back(Output::Write(bytes));
        Err(NegotiationError::Rejected(condition))
    }
}

impl Machine for ComponentAcceptor {
    fn handle(&mut self, frame: Frame, now: Instant) -> Result<(), NegotiationError> {
        self.last_step = now;
        // Stays over on an error.
        match (mem::replace(&mut self.state, State::Over), frame) {
            (State::Header, Frame::Open(header)) => self.header(header),
            (State::Handshake { name, id, secret }, Frame::Element(element))
                if element.is("handshake", ns::CLIENT) =>
            {
                if !equal(element.text().trim().as_bytes(), digest(&id, &secret).as_bytes()) {
                    return self.reject("not-authorized");
                }
                let mut bytes = Vec::new();
                write_within(&Element::bare("handshake", ns::CLIENT), ns::COMPONENT_ACCEPT, &mut bytes);
                self.output.push_back(Output::Write(bytes));
                let role = Role::Acceptor(self.config.registry.clone());
                let session = Session::new(name, ns::COMPONENT_ACCEPT, role, self.config.timing, now);
                self.output.push_back(Output::Established(Box::new(session)));
                Ok(())
            }
            (State::Handshake { .. }, Frame::Element(_)) => self.reject("not-authorized"),
            (state, frame) => Err(unexpected(&frame, state.expected())),
        }
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

    fn encrypted(&mut self, now: Instant) {
        self.last_step = now;
    }
}

impl State {
    fn expected(&self) -> &'static str {
        match self {
            Self::Header => "a stream header",
            Self::Handshake { .. } => "a handshake",
            Self::Over => "nothing more",
        }
    }
}
