//! The driver: machines of this crate over any tokio byte stream, TCP and TLS (feature `tokio`).

mod connect;

use std::fmt;
use std::future::Future as _;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use ::tokio::time::{Instant, Sleep};
use rustls::pki_types::ServerName;

use crate::session::Session;
use crate::xml::{Reader, XmlError};
use crate::{Element, Jid, accept, c2s, jid};

pub use crate::accept::Authenticator;
pub use crate::component::Config as ComponentConfig;
pub use crate::negotiation::NegotiationError;
pub use crate::router_link::Config as RouterConfig;
pub use crate::session::{CloseReason, Event};
pub use crate::sm::{Outcome, ResumeRegistry, ResumeState};

/// How many bytes are read at once: on a busy link some twenty stanzas.
const CHUNK: usize = 16 << 10;

/// A byte stream in both directions, of any kind.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A byte stream whose kind is not known to the compiler: TCP, TLS, or a pipe in a test.
pub type BoxIo = Box<dyn Io>;

/// Whether and how a client stream is encrypted.
///
/// The configuration must name its crypto provider (`rustls::ClientConfig::builder_with_provider`).
#[derive(Clone, Debug)]
pub enum Tls {
    /// Never, even if offered.
    Off,
    /// By STARTTLS if the server offers it, else in the clear.
    Allowed(Arc<rustls::ClientConfig>),
    /// By STARTTLS; a server that does not offer it is refused.
    Required(Arc<rustls::ClientConfig>),
    /// From the first byte (XEP-0368).
    Direct(Arc<rustls::ClientConfig>),
}

/// Whether and how an accepted client stream is encrypted.
#[derive(Clone, Debug)]
pub enum AcceptTls {
    /// Never.
    Off,
    /// By STARTTLS if the client asks for it.
    Allowed(Arc<rustls::ServerConfig>),
    /// By STARTTLS; nothing else is offered before.
    Required(Arc<rustls::ServerConfig>),
    /// From the first byte (XEP-0368).
    Direct(Arc<rustls::ServerConfig>),
}

/// How to open a client stream.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Who logs in, and how.
    pub negotiation: c2s::Config,
    /// Whether the stream is encrypted.
    pub tls: Tls,
    /// The name that the server's certificate must have; `None`: the domain of the JID.
    pub server_name: Option<ServerName<'static>>,
}

impl ClientConfig {
    /// A stream whose certificate names the JID's domain.
    #[must_use]
    pub fn new(negotiation: c2s::Config, tls: Tls) -> Self {
        Self { negotiation, tls, server_name: None }
    }
}

/// How to accept a stream.
#[derive(Clone)]
pub struct AcceptConfig {
    /// Which domains are served, and what is offered.
    pub acceptor: accept::Config,
    /// Whether a client stream is encrypted; component streams never are.
    pub tls: AcceptTls,
}

impl AcceptConfig {
    /// Streams in the clear.
    #[must_use]
    pub fn new(acceptor: accept::Config) -> Self {
        Self { acceptor, tls: AcceptTls::Off }
    }
}

/// An established stream of either role and any kind, with its byte stream.
///
/// There is no task behind it: [`Connection::next`] reads, writes and keeps the stream alive, so it has to
/// be polled for anything to happen. Dropping a connection leaves the stream resumable;
/// [`Connection::close`] ends it.
pub struct Connection {
    io: BoxIo,
    reader: Reader,
    session: Session,
    /// Wakes at the session's deadline, as far as that is known.
    alarm: Pin<Box<Sleep>>,
    reading: bool,
    /// Something was written that the byte stream may still hold back.
    unflushed: bool,
    closed: Option<CloseReason>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Connection {
    /// Opens a client stream: TLS, SASL, then resumption or binding, then stream management.
    ///
    /// # Errors
    /// Whatever stands in the way, see [`ConnectError`].
    pub async fn client(io: BoxIo, config: ClientConfig) -> Result<Self, ConnectError> {
        connect::client(io, config).await
    }

    /// Opens a component's stream (XEP-0114), then stream management where the server has it.
    ///
    /// # Errors
    /// Whatever stands in the way, see [`ConnectError`].
    pub async fn component(io: BoxIo, config: ComponentConfig) -> Result<Self, ConnectError> {
        connect::component(io, config).await
    }

    /// Opens a link to a jabberd2 router and binds a name on it.
    ///
    /// # Errors
    /// Whatever stands in the way, see [`ConnectError`].
    pub async fn router(io: BoxIo, config: RouterConfig) -> Result<Self, ConnectError> {
        connect::router(io, config).await
    }

    /// Accepts a client stream, up to its binding or resumption.
    ///
    /// # Errors
    /// Whatever stands in the way, see [`ConnectError`].
    pub async fn accept_client(
        io: BoxIo,
        config: AcceptConfig,
        authenticator: Arc<dyn Authenticator>,
    ) -> Result<Self, ConnectError> {
        connect::accept_client(io, config, authenticator).await
    }

    /// Accepts a component's stream, up to its handshake.
    ///
    /// # Errors
    /// Whatever stands in the way, see [`ConnectError`].
    pub async fn accept_component(
        io: BoxIo,
        config: AcceptConfig,
        authenticator: Arc<dyn Authenticator>,
    ) -> Result<Self, ConnectError> {
        connect::accept_component(io, config, authenticator).await
    }

    fn new(io: BoxIo, reader: Reader, session: Session) -> Self {
        let alarm = Box::pin(::tokio::time::sleep_until(Instant::now()));
        Self { io, reader, session, alarm, reading: true, unflushed: false, closed: None }
    }

    /// The bound full JID, or the component's name.
    #[must_use]
    pub fn jid(&self) -> &Jid {
        self.session.jid()
    }

    /// How this stream relates to the one that was to be resumed. On the accepting side this changes with
    /// [`Event::Managed`].
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.session.outcome()
    }

    /// What to keep so that the stream can be resumed; `None` if the peer does not offer that.
    #[must_use]
    pub fn resume_state(&self) -> Option<ResumeState> {
        self.session.resume_state()
    }

    /// Whether stream management runs.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        self.session.is_managed()
    }

    /// How many counted stanzas the peer has sent on this stream. Less [`ResumeState::inbound`], it is the
    /// `skip` of the next resumption in this process.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.session.received()
    }

    /// How many counted stanzas were sent on this stream: the position of the last one.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.session.sent()
    }

    /// Queues a stanza and returns its position: the number of counted stanzas sent on this stream so far,
    /// this one included, across resumptions. It is written by [`Connection::next`].
    ///
    /// Counted are, on a client stream, `message`, `presence` and `iq`; on a trusted link, `<route>` only.
    pub fn send(&mut self, stanza: &Element) -> u64 {
        self.session.send(stanza)
    }

    /// Asks the peer how much it has handled (`<r/>`); without stream management nothing happens.
    pub fn request_ack(&mut self) {
        self.session.request_ack();
    }

    /// Allows the peer to be told that its first `n` stanzas are handled. Never falls. A peer that
    /// asks (`<r/>`), however often in what is read at once, is answered once with the highest value so far.
    pub fn acknowledge(&mut self, n: u64) {
        self.session.acknowledge(n);
    }

    /// How many bytes wait to be written.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.session.queued()
    }

    /// Stops or takes up reading. While reading is stopped, [`Connection::next`] only writes, and reports
    /// nothing but a failure to do so: a silence of our own doing is not held against the peer, and for how long
    /// it may be left unread is for the caller to say.
    pub fn set_reading(&mut self, reading: bool) {
        self.reading = reading;
    }

    /// Accepting side with stream management: what was sent and is not acknowledged, oldest first.
    #[must_use]
    pub fn unacknowledged(&self) -> &crate::sm::Unacknowledged {
        self.session.unacknowledged()
    }

    /// Reads, writes, answers `<r/>` and keeps the stream alive until something happens. Cancel safe.
    ///
    /// After [`Event::Closed`] it returns the same again.
    pub async fn next(&mut self) -> Event {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`Connection::next`] for those who write their own futures.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(reason) = &self.closed {
            return Poll::Ready(Event::Closed(reason.clone()));
        }
        loop {
            let unwritable = self.poll_write(cx).err();
            if let Some(event) = self.session.poll_event() {
                if let Event::Closed(reason) = &event {
                    self.closed = Some(reason.clone());
                }
                return Poll::Ready(event);
            }
            if self.reading && self.take_frame() {
                continue;
            }
            // Only now that all that came at once is taken: a peer that asks after each of its stanzas has one answer.
            if self.session.answer() {
                continue;
            }
            if self.reading && self.poll_read(cx).is_ready() {
                continue;
            }
            // Only now: a peer that hung up may have said why before, and that decides whether to come back.
            if let Some(error) = unwritable {
                self.session.lost(error.kind());
                continue;
            }
            // A session without a deadline is over, and has said so above.
            let Some(deadline) = self.session.deadline().map(Instant::from_std) else { return Poll::Pending };
            if self.alarm.deadline() != deadline {
                self.alarm.as_mut().reset(deadline);
            }
            match self.alarm.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    let now = Instant::now().into_std();
                    if !self.reading {
                        self.session.heard(now);
                    }
                    self.session.handle_timeout(now);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Writes what can be written without waiting.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            let bytes = self.session.output();
            if bytes.is_empty() {
                break;
            }
            match Pin::new(&mut self.io).poll_write(cx, bytes) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    self.session.advance(n, Instant::now().into_std());
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.io).poll_flush(cx)
        {
            self.unflushed = false;
            flushed?;
        }
        Ok(())
    }

    /// Gives the session the next frame of what was read; false: there is no whole one.
    fn take_frame(&mut self) -> bool {
        match self.reader.next() {
            Ok(Some(frame)) => self.session.handle(frame, Instant::now().into_std()),
            Ok(None) => return false,
            Err(error) => self.session.fail(error),
        }
        true
    }

    /// Reads more bytes.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // On the stack, so that an idle connection holds no buffer.
        let mut chunk = [MaybeUninit::uninit(); CHUNK];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        match Pin::new(&mut self.io).poll_read(cx, &mut chunk) {
            Poll::Ready(Ok(())) if chunk.filled().is_empty() => {
                self.session.lost(io::ErrorKind::UnexpectedEof)
            }
            Poll::Ready(Ok(())) => {
                self.session.heard(Instant::now().into_std());
                self.reader.feed(chunk.filled());
            }
            Poll::Ready(Err(error)) => self.session.lost(error.kind()),
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(())
    }

    /// Writes what is queued and `</stream:stream>`, and shuts the connection down: the stream can then not
    /// be resumed. Waits for a peer that does not read, so the caller sets a limit.
    pub async fn close(&mut self) {
        self.session.close();
        self.shut_down().await;
    }

    /// Like [`Connection::close`], and tells the peer why: an error condition such as `conflict`.
    pub async fn close_with(&mut self, condition: &'static str) {
        self.session.close_with(condition);
        self.shut_down().await;
    }

    async fn shut_down(&mut self) {
        loop {
            let bytes = self.session.output();
            if bytes.is_empty() {
                break;
            }
            match self.io.write(bytes).await {
                Ok(n) if n > 0 => self.session.advance(n, Instant::now().into_std()),
                _ => break,
            }
        }
        // The stream is over either way; a peer that is gone already is no news.
        let _ = self.io.shutdown().await;
        self.closed.get_or_insert(CloseReason::Local);
    }
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The peer refused, or did not keep to the protocol.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// The peer's XML is malformed or over a limit.
    #[error("bad XML from the peer: {0}")]
    Xml(#[from] XmlError),
    /// TLS failed.
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    /// The domain is not a name that a certificate can have.
    #[error("`{0}` is not a name that a certificate can have")]
    ServerName(String),
    /// The peer put bytes between its consent to TLS and TLS itself: somebody may have injected them.
    #[error("data between the consent to TLS and TLS itself")]
    Injected,
    /// The component's name is not a domain.
    #[error("`{name}` is not a component's name")]
    ComponentName {
        /// The name as configured.
        name: String,
        /// What is wrong with it.
        source: jid::Error,
    },
    /// The byte stream failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The peer closed the byte stream in the middle of the negotiation.
    #[error("the peer closed the connection in the middle of the negotiation")]
    Eof,
}
