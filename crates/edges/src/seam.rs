//! The seams of a replayable world (rule 25): time, chance and connections are arguments.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};
use router::ids::Time;
use tokio::io::{AsyncRead, AsyncWrite};

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
pub struct TcpDial;

impl Dial for TcpDial {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxIo>> + Send + 'a>> {
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect((host, port)).await?;
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
