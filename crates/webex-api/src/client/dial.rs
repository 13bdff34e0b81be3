//! How connections are made: an argument, so that a test can hand out in-memory pipes.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use http::Uri;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

/// Anything that can carry a connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection, whatever it is made of.
pub type BoxIo = Box<dyn Io>;

/// A future that can be kept and sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes connections, before any encryption.
pub trait Dial: fmt::Debug + Send + Sync {
    /// Connects to a host, which is a name or an IP address without brackets.
    ///
    /// # Errors
    /// When there is no connection to be had.
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxIo>>;
}

/// Connects over TCP, names resolved by the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDial;

impl Dial for TcpDial {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxIo)
        })
    }
}

/// Where a connection goes.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Origin {
    pub(super) host: String,
    port: u16,
    secure: bool,
}

impl Origin {
    /// The origin of an absolute address; `None` for any other.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let secure = matches!(uri.scheme_str()?, "https" | "wss");
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Self { host, port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }), secure })
    }

    /// Connects, with TLS if the scheme says so.
    pub(super) async fn connect(
        &self,
        dial: &dyn Dial,
        tls: &Arc<rustls::ClientConfig>,
    ) -> io::Result<BoxIo> {
        let io = dial.dial(&self.host, self.port).await?;
        if !self.secure {
            return Ok(io);
        }
        let name = ServerName::try_from(self.host.clone())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, io).await?))
    }
}
