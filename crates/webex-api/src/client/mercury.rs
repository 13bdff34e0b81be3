//! Drives one [`Socket`] over a WebSocket.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};

use super::dial::{BoxIo, Dial, Origin, TcpDial};
use crate::auth::AccessToken;
use crate::mercury::{Config, Fate, Output, Socket, socket_url};
use crate::{EnvelopeId, Random, Timestamp, Url};

/// How a [`MercurySocket`] connects and what it bounds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MercuryConfig {
    /// Makes the connection; default [`TcpDial`].
    pub dial: Arc<dyn Dial>,
    /// For `wss`. Made with an explicit crypto provider by the caller.
    pub tls: Arc<rustls::ClientConfig>,
    /// For the connection, TLS and the WebSocket handshake together; default 30 s.
    pub connect_timeout: Duration,
    /// The longest frame in bytes; default 1 MiB. A longer one closes the socket.
    pub message_limit: usize,
    /// The machine's own waits.
    pub socket: Config,
}

impl MercuryConfig {
    /// The defaults, with this TLS configuration.
    pub fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        Self {
            dial: Arc::new(TcpDial),
            tls,
            connect_timeout: Duration::from_secs(30),
            message_limit: 1024 * 1024,
            socket: Config::default(),
        }
    }
}

/// Why a Mercury socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MercuryError {
    /// No connection.
    #[error("cannot connect to {host}")]
    Connect {
        /// Whom we tried to reach.
        host: String,
        /// What the connection failed with.
        #[source]
        source: io::Error,
    },
    /// The cloud refused the WebSocket.
    #[error("websocket refused with status {0}")]
    Refused(StatusCode),
    /// The far side does not speak WebSocket as we do.
    #[error("websocket handshake failed")]
    Handshake(#[source] Box<Error>),
    /// It took too long.
    #[error("no websocket in time")]
    Timeout,
}

impl MercuryError {
    /// What to do now.
    pub fn fate(&self) -> Fate {
        match self {
            Self::Connect { .. } | Self::Handshake(_) | Self::Timeout => Fate::Reconnect,
            Self::Refused(status) => match status.as_u16() {
                401 => Fate::NewToken,
                403 | 404 | 410 => Fate::Renew,
                _ => Fate::Reconnect,
            },
        }
    }
}

/// An open Mercury socket. Call [`MercurySocket::next`] without pause: answers from the key service
/// and pongs come by it too.
pub struct MercurySocket {
    web_socket: WebSocketStream<BoxIo>,
    socket: Socket,
    unsent: VecDeque<Message>,
    unflushed: bool,
    end: End,
}

/// How far a socket is with its end.
#[derive(Debug)]
enum End {
    /// It is open.
    Open,
    /// The machine is done; what is unsent may still go out.
    Closing(Fate),
    /// The fate has been told.
    Told,
}

/// A peer that sends but does not read is given up when this many frames wait for it.
const MAX_UNSENT: usize = 4096;

/// What the peer did.
enum Heard {
    Text(Utf8Bytes),
    Nothing,
    Closed(Option<u16>, String),
}

impl MercurySocket {
    /// Opens the socket of a device. `now` is the wall clock, for the address only.
    ///
    /// # Errors
    /// [`MercuryError`]; its fate says how to go on.
    pub async fn connect(
        config: &MercuryConfig,
        web_socket_url: &Url,
        token: &AccessToken,
        now: Timestamp,
        random: Random,
    ) -> Result<Self, MercuryError> {
        let url = socket_url(web_socket_url, now.millis());
        let limits = WebSocketConfig::default()
            .read_buffer_size(4 * 1024)
            .write_buffer_size(0)
            .max_message_size(Some(config.message_limit))
            .max_frame_size(Some(config.message_limit));
        let open = async {
            let origin = Origin::of(&url.to_uri()).expect("a Url is absolute");
            let connected = origin.connect(&*config.dial, &config.tls).await;
            let io = connected.map_err(|source| MercuryError::Connect { host: origin.host, source })?;
            match tokio_tungstenite::client_async_with_config(url.as_str(), io, Some(limits)).await {
                Ok((web_socket, _response)) => Ok(web_socket),
                Err(Error::Http(response)) => Err(MercuryError::Refused(response.status())),
                Err(error) => Err(MercuryError::Handshake(Box::new(error))),
            }
        };
        let web_socket = timeout(config.connect_timeout, open).await.map_err(|_| MercuryError::Timeout)??;
        let socket = Socket::new(config.socket.clone(), token, random, Instant::now().into_std());
        Ok(Self { web_socket, socket, unsent: VecDeque::new(), unflushed: false, end: End::Open })
    }

    /// Tells the cloud that an activity has arrived and will not be needed again. Sent by the next
    /// call of [`MercurySocket::next`], which may be waiting already.
    pub fn acknowledge(&mut self, id: &EnvelopeId) {
        self.socket.acknowledge(id);
    }

    /// The cloud's clock as of its latest frame; `None` before a frame named it.
    pub fn cloud_time(&self) -> Option<Timestamp> {
        self.socket.cloud_time()
    }

    /// The next thing the machine tells: [`Output::Ready`], [`Output::Event`], [`Output::Gap`],
    /// [`Output::Shutdown`] or, once and last, [`Output::Closed`]; then `None`. It writes what is to
    /// be sent meanwhile. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Output> {
        loop {
            while let Some(output) = self.socket.poll_output() {
                match output {
                    Output::Send(frame) => self.unsent.push_back(Message::text(frame.as_str())),
                    Output::Close { code, reason } => {
                        let code = CloseCode::from(code);
                        self.unsent
                            .push_back(Message::Close(Some(CloseFrame { code, reason: reason.into() })));
                    }
                    Output::Closed(fate) => self.end = End::Closing(fate),
                    told => return Some(told),
                }
            }
            match self.end {
                End::Open => {}
                End::Closing(fate) => {
                    self.write_out().await;
                    self.end = End::Told;
                    return Some(Output::Closed(fate));
                }
                End::Told => return None,
            }
            if self.unsent.len() > MAX_UNSENT {
                self.socket.handle_close(None, "");
                continue;
            }
            let deadline = self.socket.deadline().expect("a socket that is not closed has a deadline");
            // Asked here too, since a peer that never pauses would keep the timer from being polled.
            let now = Instant::now().into_std();
            if now >= deadline {
                self.socket.handle_timeout(now);
                continue;
            }
            let heard = std::future::poll_fn(|cx| self.poll_heard(cx));
            match tokio::time::timeout_at(Instant::from_std(deadline), heard).await {
                Err(_) => self.socket.handle_timeout(Instant::now().into_std()),
                Ok(Heard::Nothing) => {}
                Ok(Heard::Text(text)) => {
                    if let Err(error) = self.socket.handle_text(&text, Instant::now().into_std()) {
                        tracing::warn!(%error, "frame dropped");
                    }
                }
                Ok(Heard::Closed(code, reason)) => self.socket.handle_close(code, &reason),
            }
        }
    }

    /// Writes what can be written, then reads; never waits for the one before the other.
    fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            return Poll::Ready(closed_by(&error));
        }
        Poll::Ready(match ready!(self.web_socket.poll_next_unpin(cx)) {
            None => Heard::Closed(None, String::new()),
            Some(Err(error)) => closed_by(&error),
            Some(Ok(Message::Text(text))) => Heard::Text(text),
            Some(Ok(Message::Close(frame))) => match frame {
                Some(frame) => Heard::Closed(Some(frame.code.into()), frame.reason.as_str().to_owned()),
                None => Heard::Closed(Some(1005), String::new()),
            },
            Some(Ok(_)) => Heard::Nothing,
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.unsent.is_empty() {
            ready!(self.web_socket.poll_ready_unpin(cx))?;
            if let Some(message) = self.unsent.pop_front() {
                self.web_socket.start_send_unpin(message)?;
                self.unflushed = true;
            }
        }
        if self.unflushed {
            ready!(self.web_socket.poll_flush_unpin(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends a last close frame if the peer takes it at once.
    async fn write_out(&mut self) {
        let written = std::future::poll_fn(|cx| self.poll_write(cx));
        if let Err(error) = timeout(CLOSE_WAIT, written).await.unwrap_or(Ok(())) {
            tracing::trace!(%error, "close frame not sent");
        }
    }
}

impl fmt::Debug for MercurySocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MercurySocket").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// How long the last frame of a socket may take.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

fn closed_by(error: &Error) -> Heard {
    tracing::debug!(%error, "websocket broke");
    Heard::Closed(None, String::new())
}
