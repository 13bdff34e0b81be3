//! From a byte stream to a [`Connection`]: drives a negotiation, TLS included.

use std::io;
use std::sync::Arc;

use ::tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use ::tokio::time::{Instant, timeout_at};
use rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{AcceptConfig, AcceptTls, BoxIo, CHUNK, ClientConfig, ConnectError, Connection, Tls};
use crate::accept::{Authenticator, ClientAcceptor, ComponentAcceptor};
use crate::c2s::{Negotiation, StartTls};
use crate::component::{Config as ComponentConfig, Handshake};
use crate::negotiation::{Machine, NegotiationError, Output};
use crate::router_link::{Config as RouterConfig, Login};
use crate::stream::{FOOTER, StreamError};
use crate::xml::{Limits, Reader, write};

/// How a byte stream becomes an encrypted one.
enum Upgrade {
    Never,
    Connect(TlsConnector, ServerName<'static>),
    Accept(TlsAcceptor),
}

impl Upgrade {
    /// The encrypted stream, and the certificate that a client has shown on it.
    async fn run(
        &self,
        io: BoxIo,
        deadline: Option<Instant>,
    ) -> Result<(BoxIo, Option<Vec<u8>>), ConnectError> {
        let upgraded = async {
            Ok(match self {
                Self::Never => (io, None),
                Self::Connect(connector, name) => {
                    (Box::new(connector.connect(name.clone(), io).await?) as BoxIo, None)
                }
                Self::Accept(acceptor) => {
                    let io = acceptor.accept(io).await?;
                    let chain = io.get_ref().1.peer_certificates();
                    let certificate = chain.and_then(|chain| chain.first()).map(|first| first.to_vec());
                    (Box::new(io) as BoxIo, certificate)
                }
            })
        };
        within(deadline, upgraded)
            .await
            .ok_or(ConnectError::Negotiation(NegotiationError::TimedOut("TLS")))?
            .map_err(ConnectError::Tls)
    }
}

pub(super) async fn client(io: BoxIo, config: ClientConfig) -> Result<Connection, ConnectError> {
    let ClientConfig { negotiation, tls, server_name } = config;
    let limits = negotiation.limits;
    let (starttls, upgrade) = match &tls {
        Tls::Off => (StartTls::Off, Upgrade::Never),
        Tls::Allowed(rustls) | Tls::Required(rustls) | Tls::Direct(rustls) => {
            let domain = negotiation.jid.domain().as_str();
            let name = match server_name {
                Some(name) => name,
                None => ServerName::try_from(domain.to_owned())
                    .map_err(|_| ConnectError::ServerName(domain.to_owned()))?,
            };
            let starttls = match tls {
                Tls::Allowed(_) => StartTls::Allowed,
                Tls::Required(_) => StartTls::Required,
                Tls::Off | Tls::Direct(_) => StartTls::Off,
            };
            (starttls, Upgrade::Connect(TlsConnector::from(Arc::clone(rustls)), name))
        }
    };
    let io = match tls {
        Tls::Direct(_) => upgrade.run(io, Instant::now().checked_add(negotiation.timing.step)).await?.0,
        Tls::Off | Tls::Allowed(_) | Tls::Required(_) => io,
    };
    let machine = Negotiation::new(negotiation, starttls, Instant::now().into_std());
    negotiate(io, machine, limits, upgrade).await
}

pub(super) async fn component(io: BoxIo, config: ComponentConfig) -> Result<Connection, ConnectError> {
    let limits = config.limits;
    let name = config.name.clone();
    let machine = Handshake::new(config, Instant::now().into_std())
        .map_err(|source| ConnectError::ComponentName { name, source })?;
    negotiate(io, machine, limits, Upgrade::Never).await
}

pub(super) async fn router(io: BoxIo, config: RouterConfig) -> Result<Connection, ConnectError> {
    let limits = config.limits;
    let name = config.name.clone();
    let machine = Login::new(config, Instant::now().into_std())
        .map_err(|source| ConnectError::ComponentName { name, source })?;
    negotiate(io, machine, limits, Upgrade::Never).await
}

pub(super) async fn accept_client(
    io: BoxIo,
    config: AcceptConfig,
    authenticator: Arc<dyn Authenticator>,
) -> Result<Connection, ConnectError> {
    let AcceptConfig { acceptor, tls } = config;
    let limits = acceptor.limits;
    let (starttls, upgrade) = match &tls {
        AcceptTls::Off => (StartTls::Off, Upgrade::Never),
        AcceptTls::Allowed(rustls) => (StartTls::Allowed, Upgrade::Accept(Arc::clone(rustls).into())),
        AcceptTls::Required(rustls) => (StartTls::Required, Upgrade::Accept(Arc::clone(rustls).into())),
        AcceptTls::Direct(rustls) => (StartTls::Off, Upgrade::Accept(Arc::clone(rustls).into())),
    };
    let is_direct = matches!(tls, AcceptTls::Direct(_));
    let (io, certificate) = match is_direct {
        true => upgrade.run(io, Instant::now().checked_add(acceptor.timing.step)).await?,
        false => (io, None),
    };
    let now = Instant::now().into_std();
    let mut machine = ClientAcceptor::new(acceptor, starttls, is_direct, authenticator, now);
    if let Some(certificate) = certificate {
        machine.certificate(certificate);
    }
    negotiate(io, machine, limits, upgrade).await
}

pub(super) async fn accept_component(
    io: BoxIo,
    config: AcceptConfig,
    authenticator: Arc<dyn Authenticator>,
) -> Result<Connection, ConnectError> {
    let limits = config.acceptor.limits;
    let machine = ComponentAcceptor::new(config.acceptor, authenticator, Instant::now().into_std());
    negotiate(io, machine, limits, Upgrade::Never).await
}

/// Drives a negotiation to its end: drain its output, then wait for a frame or for its deadline.
async fn negotiate(
    mut io: BoxIo,
    mut machine: impl Machine + Send,
    limits: Limits,
    upgrade: Upgrade,
) -> Result<Connection, ConnectError> {
    let mut reader = Reader::new(limits);
    // A peer that refuses us may have closed its side before we wrote; what it said is still to be read.
    let mut broken = None;
    loop {
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Write(_) if broken.is_some() => {}
                Output::Write(bytes) => broken = write_all(&mut io, &bytes, deadline(&machine)).await.err(),
                Output::Restart => reader.restart(),
                Output::StartTls => {
                    if reader.has_unread() {
                        return Err(ConnectError::Injected);
                    }
                    let (encrypted, certificate) = upgrade.run(io, deadline(&machine)).await?;
                    io = encrypted;
                    reader = Reader::new(limits);
                    if let Some(certificate) = certificate {
                        machine.certificate(certificate);
                    }
                    machine.encrypted(Instant::now().into_std());
                }
                Output::Established(session) => return Ok(Connection::new(io, reader, *session)),
            }
        }
        match reader.next() {
            Ok(Some(frame)) => {
                if let Err(error) = machine.handle(frame, Instant::now().into_std()) {
                    say_last_words(&mut io, &mut machine).await;
                    return Err(error.into());
                }
            }
            Ok(None) => {
                let mut chunk = Vec::with_capacity(CHUNK);
                match within(deadline(&machine), io.read_buf(&mut chunk)).await {
                    None => match broken {
                        Some(error) => return Err(ConnectError::Io(error)),
                        None => machine.handle_timeout(Instant::now().into_std())?,
                    },
                    Some(Ok(0)) => return Err(broken.map_or(ConnectError::Eof, ConnectError::Io)),
                    Some(Ok(_)) => reader.feed(&chunk),
                    Some(Err(error)) => return Err(ConnectError::Io(broken.unwrap_or(error))),
                }
            }
            Err(error) => {
                let mut bytes = Vec::new();
                write(&StreamError::element(error.condition(), None), &mut bytes);
                bytes.extend_from_slice(FOOTER);
                // The peer is not to be waited for, and may be gone.
                let _ = write_all(&mut io, &bytes, deadline(&machine)).await;
                return Err(error.into());
            }
        }
    }
}

/// Writes what a failed negotiation left to say. The peer may be gone, which is no news by now.
async fn say_last_words(io: &mut BoxIo, machine: &mut (impl Machine + Send)) {
    while let Some(output) = machine.poll_output() {
        if let Output::Write(bytes) = output
            && write_all(io, &bytes, deadline(machine)).await.is_err()
        {
            return;
        }
    }
    let _ = within(deadline(machine), io.shutdown()).await;
}

async fn write_all(io: &mut BoxIo, bytes: &[u8], deadline: Option<Instant>) -> io::Result<()> {
    let written = async {
        io.write_all(bytes).await?;
        io.flush().await
    };
    within(deadline, written).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}

fn deadline(machine: &impl Machine) -> Option<Instant> {
    machine.deadline().map(Instant::from_std)
}

/// `None` if the deadline passed first.
async fn within<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}
