//! Through an HTTP proxy: it is asked for a tunnel (CONNECT, RFC 9110 §9.3.6), in which the connection is made.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::dial::{BoxFuture, BoxIo, Dial};
use crate::auth::{Secret, basic};

/// Makes every connection through an HTTP proxy. What goes to the proxy itself, credentials included, is not encrypted;
/// the connections in its tunnels are, as their own addresses say.
#[derive(Clone, Debug)]
pub struct ProxyDial {
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
    dial: Arc<dyn Dial>,
}

/// Why a proxy made no tunnel; the cause of the [`io::Error`] that [`Dial::dial`] gives. Never names the credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The proxy itself cannot be reached.
    #[error("proxy {proxy} cannot be reached")]
    Unreachable {
        /// Host and port of the proxy.
        proxy: String,
        /// What the connection failed with.
        #[source]
        source: io::Error,
    },
    /// It refused: 407 where it wants other credentials, 403 and others where the target is not allowed or not there.
    #[error("proxy {proxy} refused with status {status}")]
    Refused {
        /// Host and port of the proxy.
        proxy: String,
        /// Its answer.
        status: StatusCode,
    },
    /// It closed the connection, or does not speak HTTP.
    #[error("proxy {proxy} did not answer")]
    Broken {
        /// Host and port of the proxy.
        proxy: String,
        /// How it broke.
        #[source]
        source: hyper::Error,
    },
}

/// The longest head of an answer in bytes.
const LONGEST_HEAD: usize = 16 * 1024;

impl ProxyDial {
    /// Through the proxy at this host (a name or an IP address without brackets) and port, which `dial` connects to.
    pub fn new(host: String, port: u16, dial: Arc<dyn Dial>) -> Self {
        Self { host, port, authorization: None, dial }
    }

    /// Shows these credentials to the proxy (Basic, RFC 7617); the user must have no colon in it.
    #[must_use]
    pub fn with_credentials(mut self, user: &str, password: &Secret) -> Self {
        self.authorization = Some(basic(user, password.expose()));
        self
    }

    async fn tunnel(&self, host: &str, port: u16) -> Result<BoxIo, ProxyError> {
        let proxy = || authority(&self.host, self.port);
        let unreachable = |source| ProxyError::Unreachable { proxy: proxy(), source };
        let broken = |source| ProxyError::Broken { proxy: proxy(), source };
        let io = self.dial.dial(&self.host, self.port).await.map_err(unreachable)?;
        let handshake = http1::Builder::new().max_buf_size(LONGEST_HEAD).handshake(TokioIo::new(io));
        let (mut sender, connection) = handshake.await.map_err(broken)?;
        // Ends by itself when it is upgraded or the sender is dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection to the proxy ended");
            }
        });
        let target = authority(host, port);
        let mut request = Request::connect(&target).header(header::HOST, &target);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::PROXY_AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::<Bytes>::new());
        let request =
            request.map_err(|error| unreachable(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        if !response.status().is_success() {
            return Err(ProxyError::Refused { proxy: proxy(), status: response.status() });
        }
        Ok(Box::new(TokioIo::new(hyper::upgrade::on(response).await.map_err(broken)?)))
    }
}

impl Dial for ProxyDial {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(async move { self.tunnel(host, port).await.map_err(io::Error::other) })
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
