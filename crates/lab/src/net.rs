//! How bytes reach a stand-in: real sockets on loopback, or pipes in memory, behind one type.

use std::{
    collections::BTreeMap,
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// Anything that bytes go in and come out of.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection, whatever carries it.
pub type BoxIo = Box<dyn Io>;

/// How many bytes a pipe holds before its writer waits.
const PIPE: usize = 64 * 1024;
/// How many connections may wait to be accepted from a pipe door.
const BACKLOG: usize = 1_024;

/// Where the stand-ins listen and what reaches them.
#[derive(Clone, Debug, Default)]
pub enum Network {
    /// TCP on loopback.
    #[default]
    Tcp,
    /// Pipes in memory, which need no runtime I/O and so run with a paused clock.
    Pipes(Pipes),
}

/// A network of pipes; clones are the same network.
#[derive(Clone, Debug, Default)]
pub struct Pipes(Arc<Mutex<BTreeMap<u16, mpsc::Sender<DuplexStream>>>>);

/// An open door.
#[derive(Debug)]
pub struct Listener {
    port: u16,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Tcp(TcpListener),
    Pipes(mpsc::Receiver<DuplexStream>),
}

impl Network {
    /// Opens a door on loopback. A port that was `asked` for must be free; without one, `usual` is tried and then any.
    ///
    /// # Errors
    /// When the asked port is taken, or no port can be opened.
    pub async fn listen(&self, asked: Option<u16>, usual: u16) -> io::Result<Listener> {
        match self {
            Self::Tcp => {
                let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
                let listener = match asked {
                    Some(port) => bind(port)
                        .await
                        .map_err(|error| io::Error::new(error.kind(), format!("port {port}: {error}")))?,
                    None => match bind(usual).await {
                        Ok(listener) => listener,
                        Err(_) => bind(0).await?,
                    },
                };
                Ok(Listener { port: listener.local_addr()?.port(), source: Source::Tcp(listener) })
            }
            Self::Pipes(pipes) => pipes.listen(asked, usual),
        }
    }

    /// Connects to a door of this network.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn dial(&self, host: &str, port: u16) -> io::Result<BoxIo> {
        match self {
            Self::Tcp => {
                let stream = TcpStream::connect((host, port)).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Pipes(pipes) => Ok(Box::new(pipes.dial(port).await?)),
        }
    }
}

impl Pipes {
    fn doors(&self) -> std::sync::MutexGuard<'_, BTreeMap<u16, mpsc::Sender<DuplexStream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self, asked: Option<u16>, usual: u16) -> io::Result<Listener> {
        let mut doors = self.doors();
        let taken = |port: u16| doors.get(&port).is_some_and(|door| !door.is_closed());
        let port = match asked {
            Some(port) if taken(port) => {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("port {port}: taken")));
            }
            Some(port) => port,
            None => {
                (usual.max(1_024)..u16::MAX).find(|port| !taken(*port)).ok_or(io::ErrorKind::AddrInUse)?
            }
        };
        let (door, source) = mpsc::channel(BACKLOG);
        doors.insert(port, door);
        Ok(Listener { port, source: Source::Pipes(source) })
    }

    async fn dial(&self, port: u16) -> io::Result<DuplexStream> {
        let door = self.doors().get(&port).cloned().ok_or(io::ErrorKind::ConnectionRefused)?;
        let (ours, theirs) = tokio::io::duplex(PIPE);
        door.send(theirs).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(ours)
    }
}

impl Listener {
    /// The port of the door.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port` of the door.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The next connection. Cancel safe.
    ///
    /// # Errors
    /// When the door is broken for good; one connection that failed is skipped.
    pub async fn accept(&mut self) -> io::Result<BoxIo> {
        match &mut self.source {
            Source::Tcp(listener) => loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        // Small frames must not wait for a full segment; a socket that refuses the option still works.
                        let _ = stream.set_nodelay(true);
                        return Ok(Box::new(stream));
                    }
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => return Err(error),
                }
            },
            Source::Pipes(pipes) => match pipes.recv().await {
                Some(pipe) => Ok(Box::new(pipe)),
                None => Err(io::ErrorKind::NotConnected.into()),
            },
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn echo(network: Network) {
        let mut listener = network.listen(None, 45_001).await.unwrap();
        let mut near = network.dial("127.0.0.1", listener.port()).await.unwrap();
        let mut far = listener.accept().await.unwrap();
        near.write_all(b"ping").await.unwrap();
        let mut bytes = [0; 4];
        far.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"ping");
        assert!(network.listen(Some(listener.port()), 1).await.is_err());
        assert_ne!(network.listen(None, listener.port()).await.unwrap().port(), listener.port());
    }

    #[tokio::test]
    async fn tcp_doors_open_and_refuse_a_taken_port() {
        echo(Network::Tcp).await;
    }

    #[tokio::test]
    async fn pipe_doors_open_and_refuse_a_taken_port() {
        echo(Network::Pipes(Pipes::default())).await;
    }
}
