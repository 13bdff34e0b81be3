//! The driver: machines of this crate over any tokio byte stream, TCP and TLS (feature `tokio`).

use std::io;
use std::sync::Arc;

use ::tokio::io::{AsyncRead, AsyncWrite};
use rustls::pki_types::ServerName;

use crate::xml::XmlError;
use crate::{Element, Jid, accept, c2s, component};

pub use crate::accept::Authenticator;
pub use crate::component::Config as ComponentConfig;
pub use crate::negotiation::NegotiationError;
pub use crate::session::{CloseReason, Event};
pub use crate::sm::{Outcome, ResumeRegistry, ResumeState};

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
}

impl Connection {
    /// Opens a client stream: TLS, SASL, then resumption or binding, then stream management.
    ///
    /// # Errors
    /// Whatever stands in the way, see [`ConnectError`].
    pub async fn client(io: BoxIo, config: ClientConfig) -> Result<Self, ConnectError> {
        let _ = (io, config);
        unimplemented!("first landing: signatures only")
    }

    /// Opens a component's stream (XEP-0114), then stream management where the server has it.
    ///
    /// # Errors
    /// Whatever stands in the way, see [`ConnectError`].
    pub async fn component(io: BoxIo, config: ComponentConfig) -> Result<Self, ConnectError> {
        let _ = (io, config);
        unimplemented!("first landing: signatures only")
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
        let _ = (io, config, authenticator);
        unimplemented!("first landing: signatures only")
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
        let _ = (io, config, authenticator);
        unimplemented!("first landing: signatures only")
    }

    /// The bound full JID, or the component's name.
    #[must_use]
    pub fn jid(&self) -> &Jid {
        unimplemented!("first landing: signatures only")
    }

    /// How this stream relates to the one that was to be resumed. On the accepting side of a component
    /// stream this changes with [`Event::Managed`].
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        unimplemented!("first landing: signatures only")
    }

    /// What to keep so that the stream can be resumed; `None` if the peer does not offer that.
    #[must_use]
    pub fn resume_state(&self) -> Option<ResumeState> {
        unimplemented!("first landing: signatures only")
    }

    /// Whether stream management runs.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        unimplemented!("first landing: signatures only")
    }

    /// How many counted stanzas the peer has sent on this stream.
    #[must_use]
    pub fn received(&self) -> u64 {
        unimplemented!("first landing: signatures only")
    }

    /// How many counted stanzas were sent on this stream: the position of the last one.
    #[must_use]
    pub fn sent(&self) -> u64 {
        unimplemented!("first landing: signatures only")
    }

    /// Queues a stanza and returns its position: the number of counted stanzas sent on this stream so far,
    /// this one included, across resumptions. It is written by [`Connection::next`].
    ///
    /// Counted are, on a client stream, `message`, `presence` and `iq`; on a trusted link, `<route>` only.
    pub fn send(&mut self, stanza: &Element) -> u64 {
        let _ = (stanza, &mut self.io);
        unimplemented!("first landing: signatures only")
    }

    /// Asks the peer how much it has handled (`<r/>`).
    pub fn request_ack(&mut self) {
        unimplemented!("first landing: signatures only")
    }

    /// Allows the peer to be told that its first `n` stanzas are handled. Never falls; every `<r/>` is
    /// answered with the highest value so far.
    pub fn acknowledge(&mut self, n: u64) {
        let _ = n;
        unimplemented!("first landing: signatures only")
    }

    /// How many bytes wait to be written.
    #[must_use]
    pub fn queued(&self) -> usize {
        unimplemented!("first landing: signatures only")
    }

    /// Stops or takes up reading. While reading is stopped, [`Connection::next`] only writes, and returns
    /// nothing but a failure to write.
    pub fn set_reading(&mut self, reading: bool) {
        let _ = reading;
        unimplemented!("first landing: signatures only")
    }

    /// Server role with stream management: what was sent and is not acknowledged, oldest first.
    #[must_use]
    pub fn unacknowledged(&self) -> &crate::sm::Unacknowledged {
        unimplemented!("first landing: signatures only")
    }

    /// Reads, writes, answers `<r/>` and keeps the stream alive until something happens. Cancel safe.
    ///
    /// After [`Event::Closed`] it returns the same again.
    pub async fn next(&mut self) -> Event {
        unimplemented!("first landing: signatures only")
    }

    /// Writes what is queued and `</stream:stream>`, and shuts the connection down. The peer then cannot be
    /// resumed with. Waits for a peer that does not read, so the caller sets a limit.
    pub async fn close(&mut self) {
        unimplemented!("first landing: signatures only")
    }
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The peer refused, or did not keep to the protocol.
    #[error("{0}")]
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
    /// The byte stream failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The peer closed the byte stream in the middle of the negotiation.
    #[error("the peer closed the connection in the middle of the negotiation")]
    Eof,
}
