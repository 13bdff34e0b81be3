//! How far a negotiation has come. All of them are driven alike; what differs is the step that each takes for a frame.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use crate::Element;
use crate::negotiation::{Machine, NegotiationError, Output};
use crate::session::Session;
use crate::timing::Timing;
use crate::xml::Frame;

/// How many stanzas are kept that come before a stream is up: on a component's stream some may.
const EARLY: usize = 256;

/// What a negotiation waits for.
pub(crate) trait Waits: Sized {
    /// The state of one that is established or has failed.
    const OVER: Self;

    /// What it waits for, for people.
    fn expected(&self) -> &'static str;
}

/// Where a negotiation stands, what it wants done, and since when it waits.
#[derive(Debug)]
pub(crate) struct Progress<S> {
    pub(crate) state: S,
    /// Stanzas that came before the stream was up.
    early: Vec<Element>,
    output: VecDeque<Output>,
    patience: Duration,
    last_step: Instant,
}

impl<S> Progress<S> {
    pub(crate) fn new(state: S, timing: Timing, now: Instant) -> Self {
        Self { state, early: Vec::new(), output: VecDeque::new(), patience: timing.step, last_step: now }
    }

    pub(crate) fn want(&mut self, output: Output) {
        self.output.push_back(output);
    }

    pub(crate) fn write(&mut self, bytes: Vec<u8>) {
        self.want(Output::Write(bytes));
    }

    /// Keeps a stanza that came before the stream was up.
    pub(crate) fn keep(&mut self, stanza: Element) -> Result<(), NegotiationError> {
        if self.early.len() == EARLY {
            return Err(NegotiationError::TooEarly);
        }
        self.early.push(stanza);
        Ok(())
    }

    /// The stream is up, and what came before that is the first that it reports.
    pub(crate) fn establish(&mut self, session: Session) {
        let session = session.with_early(mem::take(&mut self.early));
        self.want(Output::Established(Box::new(session)));
    }
}

/// A negotiation that goes on by a step for each frame.
pub(crate) trait Steps {
    /// What it may wait for.
    type State: Waits;

    /// Where it stands.
    fn progress(&self) -> &Progress<Self::State>;

    /// The same, to go on from there.
    fn progress_mut(&mut self) -> &mut Progress<Self::State>;

    /// Takes in a frame. The state is over by now: a step that does not end the negotiation sets the next one.
    fn step(&mut self, state: Self::State, frame: Frame, now: Instant) -> Result<(), NegotiationError>;

    /// As [`Machine::certificate`].
    fn certificate_shown(&mut self, certificate: Vec<u8>) {
        let _ = certificate;
    }

    /// TLS is up.
    fn is_encrypted(&mut self) {}
}

impl<N: Steps> Machine for N {
    fn handle(&mut self, frame: Frame, now: Instant) -> Result<(), NegotiationError> {
        let progress = self.progress_mut();
        let early = progress.early.len();
        // Stays over on an error.
        let state = mem::replace(&mut progress.state, N::State::OVER);
        let stepped = self.step(state, frame, now);
        let progress = self.progress_mut();
        // A stanza that comes early is no step: the answer is waited for no longer.
        if progress.early.len() <= early {
            progress.last_step = now;
        }
        stepped
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.progress_mut().output.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        let progress = self.progress();
        progress.last_step.checked_add(progress.patience)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), NegotiationError> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        let state = mem::replace(&mut self.progress_mut().state, N::State::OVER);
        Err(NegotiationError::TimedOut(state.expected()))
    }

    fn certificate(&mut self, certificate: Vec<u8>) {
        self.certificate_shown(certificate);
    }

    fn encrypted(&mut self, now: Instant) {
        self.progress_mut().last_step = now;
        self.is_encrypted();
    }
}
