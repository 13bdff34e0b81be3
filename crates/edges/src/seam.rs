//! The seams of a replayable world (rule 25): time, chance and connections are arguments.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};
use router::ids::Time;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

/// A byte stream of any kind.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// An owned byte stream of any kind.
pub type BoxIo = Box<dyn Io>;

/// Opens connections: TCP in the connector, in-memory pipes in a simulated world.
pub trait Dial: Send + Sync {
    /// Connects to a port of a host.
    fn dial<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxIo>> + Send + 'a>>;
}

/// Plain TCP with Nagle's algorithm off.
#[derive(Debug, Default)]
pub struct TcpDial {
    from: Option<SourcePorts>,
}

/// The ports that connections start from, in turn.
#[derive(Debug)]
struct SourcePorts {
    range: RangeInclusive<u16>,
    next: AtomicUsize,
}

impl TcpDial {
    /// Connections start from one of these ports of ours, for firewalls that look at them; `None`: the system chooses. A
    /// port serves many far addresses at once, but each of them only once.
    #[must_use]
    pub fn from_ports(range: Option<RangeInclusive<u16>>) -> Self {
        Self { from: range.map(|range| SourcePorts { range, next: AtomicUsize::new(0) }) }
    }
}

impl SourcePorts {
    async fn connect(&self, far: SocketAddr) -> io::Result<TcpStream> {
        for _ in self.range.clone() {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.range.len();
            let Some(port) = self.range.clone().nth(turn) else { break };
            let (socket, near) = match far {
                SocketAddr::V4(_) => (TcpSocket::new_v4()?, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
                SocketAddr::V6(_) => (TcpSocket::new_v6()?, Ipv6Addr::UNSPECIFIED.into()),
            };
            // Or a port would serve one far address alone.
            socket.set_reuseaddr(true)?;
            let connected = match socket.bind((near, port).into()) {
                Ok(()) => socket.connect(far).await,
                Err(error) => Err(error),
            };
            match connected.map_err(|error| (error.kind(), error)) {
                Err((io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable, _)) => {}
                other => return other.map_err(|(_, error)| error),
            }
        }
        let (first, last) = (self.range.start(), self.range.end());
        let what = format!("every source port from {first} to {last} is in use towards {far}");
        Err(io::Error::new(io::ErrorKind::AddrNotAvailable, what))
    }
}

impl Dial for TcpDial {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxIo>> + Send + 'a>> {
        Box::pin(async move {
            let stream = match &self.from {
                None => TcpStream::connect((host, port)).await?,
                Some(ports) => {
                    let mut tried = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
                    for far in tokio::net::lookup_host((host, port)).await? {
                        tried = ports.connect(far).await;
                        if tried.is_ok() {
                            break;
                        }
                    }
                    tried?
                }
            };
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxIo)
        })
    }
}

/// The time of day, moved only by tokio's clock: under paused time a world replays.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Time,
    started: tokio::time::Instant,
}

impl Clock {
    /// A clock that shows `base` now.
    #[must_use]
    pub fn starting_at(base: Time) -> Self {
        Self { base, started: tokio::time::Instant::now() }
    }

    /// The moment.
    #[must_use]
    pub fn now(&self) -> Time {
        let elapsed = self.started.elapsed().as_millis();
        self.base.plus(i64::try_from(elapsed).unwrap_or(i64::MAX))
    }
}

/// The one source of chance: seeded, so that jitter and ids replay.
#[derive(Clone)]
pub struct Generator(Arc<Mutex<ChaCha8Rng>>);

impl Generator {
    /// A generator that always gives the same for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed))))
    }

    /// A generator seeded by the operating system.
    #[must_use]
    pub fn from_system() -> Self {
        Self::seeded(rand::rng().next_u64())
    }

    /// A random number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// A random UUID (version 4).
    #[must_use]
    pub fn uuid(&self) -> String {
        let mut bytes = [0; 16];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// A duration between half of `d` and `d`: jitter that never makes anything longer.
    #[must_use]
    pub fn jittered(&self, d: Duration) -> Duration {
        let share = self.0.lock().unwrap_or_else(PoisonError::into_inner).random_range(0.5..=1.0);
        d.mul_f64(share)
    }
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Generator")
    }
}

/// How many times faster than life the scaled waits run: 1 in production, more in a lab.
#[derive(Clone, Copy, Debug)]
pub struct Scale(pub u32);

impl Scale {
    /// The wait in this scale.
    #[must_use]
    pub fn of(self, d: Duration) -> Duration {
        d / self.0.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_start_from_the_ports_that_are_given_and_each_leads_to_an_address_once() {
        let one = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Two ports that nobody has just now, and none of those that the system gives to connections meanwhile.
        let free = |port: u16| std::net::TcpListener::bind(("0.0.0.0", port)).is_ok();
        let first = 12_000 + (std::process::id() % 10_000) as u16;
        let last = (first..).find(|port| free(port - 1) && free(*port)).unwrap();
        let dial = TcpDial::from_ports(Some(last - 1..=last));
        let port = |listener: &tokio::net::TcpListener| listener.local_addr().unwrap().port();
        let (mut near, mut held) = (Vec::new(), Vec::new());
        for listener in [&one, &other] {
            let mut sources = Vec::new();
            for _ in 0..2 {
                near.push(dial.dial("127.0.0.1", port(listener)).await.unwrap());
                let (accepted, from) = listener.accept().await.unwrap();
                sources.push(from.port());
                held.push(accepted);
            }
            sources.sort_unstable();
            assert_eq!(sources, [last - 1, last]);
        }
        let error = dial.dial("127.0.0.1", port(&one)).await.err().unwrap();
        let expected = format!(
            "every source port from {} to {last} is in use towards 127.0.0.1:{}",
            last - 1,
            port(&one)
        );
        assert_eq!(error.to_string(), expected);
    }
}
