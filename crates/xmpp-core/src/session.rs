//! An established stream: stanzas in and out, stream management, keepalive and deadline.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use minidom::Element;

use crate::sm::{self, Counters, Outcome, ResumeRegistry, ResumeState, Unacknowledged};
use crate::stream::{FOOTER, StreamError};
use crate::timing::Timing;
use crate::xml::{Compose as _, Frame, Outline, XmlError, write_within};
use crate::{Jid, ns};

/// What happens on an established stream. Its `Debug` shows no content.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A stanza, or any other element outside the protocol of the stream itself.
    Stanza {
        /// In the namespace `jabber:client` on any kind of stream.
        element: Element,
        /// How many counted stanzas have come on this stream, this one included, across resumptions: what
        /// to give to `acknowledge` once it is safe.
        n: u64,
    },
    /// The peer has handled this many of our stanzas, widened to 64 bits.
    Acked(u64),
    /// Accepting side only: the peer enabled stream management ([`Outcome::Fresh`]) or resumed a stream
    /// ([`Outcome::Resumed`]), in which case the owner now resends what is above `h`. From here on the
    /// counters are those of that stream.
    Managed(Outcome),
    /// The stream is over.
    Closed(CloseReason),
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stanza { element, n } => {
                f.debug_struct("Stanza").field("element", &Outline(element)).field("n", n).finish()
            }
            Self::Acked(h) => f.debug_tuple("Acked").field(h).finish(),
            Self::Managed(outcome) => f.debug_tuple("Managed").field(outcome).finish(),
            Self::Closed(reason) => f.debug_tuple("Closed").field(reason).finish(),
        }
    }
}

/// Why a stream is over.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CloseReason {
    /// We closed it.
    Local,
    /// The peer closed it properly.
    Peer,
    /// The peer ended it with an error.
    StreamError(StreamError),
    /// The connection was lost.
    Lost(io::ErrorKind),
    /// Nothing came for too long.
    Silent,
    /// The peer's XML is malformed or over a limit. We told it so and ended the stream.
    Xml(XmlError),
    /// The peer claims to have handled `h` stanzas where only `sent` were sent (XEP-0198 §4). We told it so
    /// and ended the stream.
    HandledTooHigh {
        /// The peer's counter, widened.
        h: u64,
        /// How many were sent.
        sent: u64,
    },
}

impl CloseReason {
    /// Whether the peer may still hold the stream, so that resuming it is worth a try (XEP-0198 §5).
    #[must_use]
    pub fn is_resumable(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Silent => true,
            Self::Local | Self::Peer | Self::StreamError(_) | Self::Xml(_) | Self::HandledTooHigh { .. } => {
                false
            }
        }
    }
}

/// Which side of the stream we are.
#[derive(Clone)]
pub(crate) enum Role {
    /// We opened it.
    Initiator,
    /// We accepted it, and decide about stream management by this, if we offer it.
    Acceptor(Option<Arc<dyn ResumeRegistry>>),
}

/// An established stream without I/O, of either role and any kind.
///
/// Give it frames, read [`Session::poll_event`] until `None`, call [`Session::answer`], and write
/// [`Session::output`]; then wait for bytes or for [`Session::deadline`]. Counted stanzas are, on a client stream,
/// `message`, `presence` and `iq`; on a trusted link, `<route>` only: one envelope is one stanza there, and what is
/// outside of any has no part in acknowledgement.
pub struct Session {
    jid: Jid,
    content_ns: &'static str,
    role: Role,
    timing: Timing,
    counters: Counters,
    managed: bool,
    /// The id under which the stream can be resumed.
    resume_id: Option<String>,
    outcome: Outcome,
    /// Stanzas up to this one were reported before the resumption.
    skip_until: u64,
    /// The id of the ping that told whether there is stream management; its answer is nobody's business.
    own_ping: Option<String>,
    unacknowledged: Unacknowledged,
    events: VecDeque<Event>,
    out: Vec<u8>,
    written: usize,
    /// An `<a/>` is to be written.
    answer_due: bool,
    /// An `<r/>` came when this much was received and not all of it handled: another `<a/>` is owed.
    answer_owed: Option<u64>,
    last_read: Instant,
    last_write: Instant,
    closed: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("jid", &self.jid.as_str())
            .field("content_ns", &self.content_ns)
            .field("counters", &self.counters)
            .field("managed", &self.managed)
            .field("outcome", &self.outcome)
            .field("queued", &self.queued())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(jid: Jid, content_ns: &'static str, role: Role, timing: Timing, now: Instant) -> Self {
        Self {
            jid,
            content_ns,
            role,
            timing,
            counters: Counters::default(),
            managed: false,
            resume_id: None,
            outcome: Outcome::Fresh,
            skip_until: 0,
            own_ping: None,
            unacknowledged: Unacknowledged::default(),
            events: VecDeque::new(),
            out: Vec::new(),
            written: 0,
            answer_due: false,
            answer_owed: None,
            last_read: now,
            last_write: now,
            closed: false,
        }
    }

    /// Initiator: stream management runs from here on.
    pub(crate) fn enabled(mut self, resume_id: Option<String>) -> Self {
        self.managed = true;
        self.resume_id = resume_id;
        self
    }

    /// Initiator: the old stream goes on; the peer has handled `h` of our stanzas.
    pub(crate) fn resumed(mut self, state: ResumeState, h: u64, skip: u64) -> Self {
        self.managed = true;
        self.jid = state.jid;
        self.resume_id = Some(state.id);
        self.outcome = Outcome::Resumed { h };
        self.counters =
            Counters { received: state.inbound, handled: state.inbound, sent: h, acknowledged: h };
        self.skip_until = state.inbound.saturating_add(skip);
        self
    }

    /// Initiator: the old stream could not be resumed.
    pub(crate) fn resume_failed(mut self, h: Option<u64>) -> Self {
        self.outcome = Outcome::ResumeFailed { h };
        self
    }

    /// Swallows the answer to a ping of the negotiation.
    pub(crate) fn with_own_ping(mut self, id: String) -> Self {
        self.own_ping = Some(id);
        self
    }

    /// Reports stanzas that came before the stream was up; they are not counted.
    pub(crate) fn with_early(mut self, early: Vec<Element>) -> Self {
        let n = self.counters.received;
        self.events.extend(early.into_iter().map(|element| Event::Stanza { element, n }));
        self
    }

    /// Acceptor: the peer resumed a stream; reported as an event, for the owner to resend.
    pub(crate) fn take_up(&mut self, id: String, resumable: sm::Resumable) {
        let sm::Resumable { jid, inbound, outbound } = resumable;
        self.jid = jid;
        self.resume_id = Some(id);
        self.managed = true;
        self.counters =
            Counters { received: inbound, handled: inbound, sent: outbound, acknowledged: outbound };
        self.outcome = Outcome::Resumed { h: outbound };
        self.unacknowledged = Unacknowledged::default();
        self.events.push_back(Event::Managed(self.outcome));
    }

    /// The bound full JID, or the component's name.
    #[must_use]
    pub fn jid(&self) -> &Jid {
        &self.jid
    }

    /// How this stream relates to the one that was to be resumed.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether stream management runs.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        self.managed
    }

    /// What to keep so that the stream can be resumed; `None` if the peer does not offer that.
    #[must_use]
    pub fn resume_state(&self) -> Option<ResumeState> {
        Some(ResumeState {
            id: self.resume_id.clone()?,
            jid: self.jid.clone(),
            inbound: self.counters.handled,
            outbound: self.counters.sent,
        })
    }

    /// How many counted stanzas the peer has sent on this stream.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.counters.received
    }

    /// How many counted stanzas were sent on this stream: the position of the last one.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.counters.sent
    }

    /// Acceptor with stream management: what was sent and is not acknowledged, oldest first.
    #[must_use]
    pub fn unacknowledged(&self) -> &Unacknowledged {
        &self.unacknowledged
    }

    /// Queues a stanza and returns its position: how many counted stanzas were sent on this stream, this one
    /// included if it is counted. After the stream's end nothing is queued, but positions go on.
    pub fn send(&mut self, stanza: &Element) -> u64 {
        if self.counts(stanza) {
            self.counters.sent += 1;
            if self.managed && matches!(self.role, Role::Acceptor(_)) {
                self.unacknowledged.push(self.counters.sent, stanza.clone());
            }
        }
        self.write(stanza);
        self.counters.sent
    }

    /// Asks the peer how much it has handled (`<r/>`); without stream management nothing happens.
    pub fn request_ack(&mut self) {
        if self.managed {
            self.write(&Element::bare("r", ns::SM));
        }
    }

    /// Allows the peer to be told that its first `n` stanzas are handled. Never falls, and never exceeds
    /// what was received. A peer that asked before is told at once, so that it need not ask again.
    pub fn acknowledge(&mut self, n: u64) {
        let before = self.counters.handled;
        self.counters.allow(n);
        if let Some(owed) = self.answer_owed
            && self.counters.handled > before
        {
            self.answer_due = true;
            if self.counters.handled >= owed {
                self.answer_owed = None;
            }
        }
    }

    /// Ends the stream properly; what was queued goes out before.
    pub fn close(&mut self) {
        self.end(CloseReason::Local, None);
    }

    /// Ends the stream with an error condition such as `conflict` (RFC 6120 §4.9.3); what was queued goes out before.
    pub fn close_with(&mut self, condition: &'static str) {
        self.end(CloseReason::Local, Some((condition, None)));
    }

    /// Takes in a frame.
    pub fn handle(&mut self, frame: Frame, now: Instant) {
        self.last_read = now;
        if self.closed {
            return;
        }
        match frame {
            Frame::Element(element) => self.handle_element(element),
            Frame::Close => self.end(CloseReason::Peer, None),
            // The reader gives a header only at the beginning of a document.
            Frame::Open(_) => {}
        }
    }

    fn handle_element(&mut self, element: Element) {
        if element.has_ns(ns::SM) {
            self.handle_management(&element);
        } else if let Some(error) = StreamError::read(&element) {
            self.end(CloseReason::StreamError(error), None);
        } else if self.own_ping.is_some() && self.is_own_ping(&element) {
            self.own_ping = None;
        } else {
            if self.counts(&element) {
                self.counters.received += 1;
                if self.counters.received <= self.skip_until {
                    return;
                }
            }
            self.events.push_back(Event::Stanza { element, n: self.counters.received });
        }
    }

    fn is_own_ping(&self, element: &Element) -> bool {
        element.is("iq", ns::CLIENT)
            && element.attr("id") == self.own_ping.as_deref()
            && matches!(element.attr("type"), Some("result" | "error"))
    }

    fn handle_management(&mut self, element: &Element) {
        match element.name() {
            "r" if self.managed => {
                self.answer_due = true;
                if self.counters.handled < self.counters.received {
                    self.answer_owed = Some(self.counters.received);
                }
            }
            "a" if self.managed => {
                let Some(h) = h_of(element) else {
                    return self.fail(XmlError::Invalid);
                };
                match self.counters.peer_handled(h) {
                    Ok(h) => {
                        self.unacknowledged.acknowledge(h);
                        self.events.push_back(Event::Acked(h));
                    }
                    Err(claimed) => self.handled_too_high(claimed, h),
                }
            }
            "enable" => self.enable(element),
            "resume" => self.resume(element),
            // Answers to nothing that we asked on this stream.
            _ => {}
        }
    }

    fn handled_too_high(&mut self, claimed: u64, h: u32) {
        let sent = self.counters.sent;
        let detail = Element::bare("handled-count-too-high", ns::SM)
            .with_attr("h", h.to_string())
            .with_attr("send-count", sm::narrow(sent).to_string());
        let reason = CloseReason::HandledTooHigh { h: claimed, sent };
        self.end(reason, Some(("undefined-condition", Some(detail))));
    }

    fn enable(&mut self, element: &Element) {
        let Role::Acceptor(registry) = &self.role else { return };
        let Some(registry) = registry else {
            return self.write(&failed("feature-not-implemented", None));
        };
        if self.managed {
            return self.write(&failed("unexpected-request", None));
        }
        let wants_resumption = matches!(element.attr("resume"), Some("true" | "1"));
        let id = if wants_resumption { registry.enable(&self.jid) } else { None };
        let max = registry.max_seconds();
        let mut enabled = Element::bare("enabled", ns::SM);
        if let Some(id) = &id {
            enabled = enabled
                .with_attr("id", id)
                .with_attr("resume", "true")
                .with_optional("max", max.map(|seconds| seconds.to_string()));
        }
        self.write(&enabled);
        self.managed = true;
        self.resume_id = id;
        self.counters = Counters::default();
        self.outcome = Outcome::Fresh;
        self.events.push_back(Event::Managed(Outcome::Fresh));
    }

    /// On a component's stream, which is established before anything is resumed.
    fn resume(&mut self, element: &Element) {
        let Role::Acceptor(registry) = &self.role else { return };
        if self.managed || self.content_ns != ns::COMPONENT_ACCEPT {
            return self.write(&failed("unexpected-request", None));
        }
        let registry = registry.clone();
        match answer_resume(registry.as_deref(), element, &self.jid) {
            Ok((answer, id, resumable)) => {
                self.write(&answer);
                self.take_up(id, resumable);
            }
            Err(answer) => self.write(&answer),
        }
    }

    /// The next event; `None` until more comes.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Answers what the peer has asked since the last answer (`<r/>`), once for all of it. To be called when all that has
    /// come is taken in; says whether there is something more to write.
    pub fn answer(&mut self) -> bool {
        let due = std::mem::take(&mut self.answer_due) && !self.closed;
        if due {
            let h = sm::narrow(self.counters.handled);
            self.write(&Element::bare("a", ns::SM).with_attr("h", h.to_string()));
        }
        due
    }

    /// What is to be written. After writing `n` bytes of it, call [`Session::advance`].
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// How many bytes wait to be written.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.out.len() - self.written
    }

    /// The first `n` bytes of the output were written.
    pub fn advance(&mut self, n: usize, now: Instant) {
        self.last_write = now;
        self.written = (self.written + n).min(self.out.len());
        if self.written == self.out.len() {
            // An idle stream keeps no buffer.
            self.out = Vec::new();
            self.written = 0;
        } else if self.written >= self.out.len() - self.written {
            // A busy one does not keep what it has written; at most as many bytes move as have gone.
            self.out.drain(..self.written);
            self.written = 0;
        }
    }

    /// Bytes came, whether or not they make a frame.
    pub fn heard(&mut self, now: Instant) {
        self.last_read = now;
    }

    /// The peer's XML is not acceptable: tells it so and ends the stream.
    pub fn fail(&mut self, error: XmlError) {
        self.end(CloseReason::Xml(error), Some((error.condition(), None)));
    }

    /// The connection is lost.
    pub fn lost(&mut self, kind: io::ErrorKind) {
        self.out.clear();
        self.written = 0;
        self.stop(CloseReason::Lost(kind));
    }

    /// When [`Session::handle_timeout`] has something to do; `None` after the stream's end.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let keepalive = self.last_write.checked_add(self.timing.keepalive);
        let silent = self.last_read.checked_add(self.timing.silence).filter(|_| self.managed);
        keepalive.into_iter().chain(silent).min()
    }

    /// Keeps the stream alive, or ends it if the peer has been silent for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        if self.managed && now.saturating_duration_since(self.last_read) >= self.timing.silence {
            self.out.clear();
            self.written = 0;
            self.stop(CloseReason::Silent);
        } else if now.saturating_duration_since(self.last_write) >= self.timing.keepalive {
            // What is queued and cannot be written would be followed by ever more signs of life.
            if self.queued() == 0 {
                if self.managed { self.request_ack() } else { self.out.push(b' ') }
            }
            self.last_write = now;
        }
    }

    fn counts(&self, element: &Element) -> bool {
        if self.content_ns == ns::CLIENT {
            element.has_ns(ns::CLIENT) && matches!(element.name(), "message" | "presence" | "iq")
        } else {
            element.is("route", ns::ROUTE)
        }
    }

    fn write(&mut self, element: &Element) {
        if !self.closed {
            write_within(element, self.content_ns, &mut self.out);
        }
    }

    fn end(&mut self, reason: CloseReason, error: Option<(&'static str, Option<Element>)>) {
        if self.closed {
            return;
        }
        if let Some((condition, detail)) = error {
            self.write(&StreamError::element(condition, detail));
        }
        self.out.extend_from_slice(FOOTER);
        self.stop(reason);
    }

    fn stop(&mut self, reason: CloseReason) {
        if !self.closed {
            self.closed = true;
            self.events.push_back(Event::Closed(reason));
        }
    }
}

/// The value of `h`; `None` if it is missing or not a number of 32 bits.
pub(crate) fn h_of(element: &Element) -> Option<u32> {
    element.attr("h")?.parse().ok()
}

/// `<failed/>` with a condition (XEP-0198 §3, §5).
pub(crate) fn failed(condition: &'static str, h: Option<u64>) -> Element {
    Element::bare("failed", ns::SM)
        .with_optional("h", h.map(|h| sm::narrow(h).to_string()))
        .with_child(Element::bare(condition, ns::STANZA_ERRORS))
}

/// Decides about a `<resume/>` of the peer that authenticated as `jid`: the answer to write, and what it means.
pub(crate) fn answer_resume(
    registry: Option<&dyn ResumeRegistry>,
    element: &Element,
    jid: &Jid,
) -> Result<(Element, String, sm::Resumable), Element> {
    let registry = registry.ok_or_else(|| failed("feature-not-implemented", None))?;
    let (id, h) = element.attr("previd").zip(h_of(element)).ok_or_else(|| failed("bad-request", None))?;
    let resumable = registry.resume(id, h, jid).map_err(|refused| failed("item-not-found", refused.h))?;
    let answer = Element::bare("resumed", ns::SM)
        .with_attr("previd", id)
        .with_attr("h", sm::narrow(resumable.inbound).to_string());
    Ok((answer, id.to_owned(), resumable))
}
