//! The connections of one connector: pipes into the lab on which bytes take their time, stand still, or get lost, and a
//! life that ends at a given step.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use connector_edges::seam::{BoxIo, Dial, Generator};
use lab::net::Network;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf, duplex,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How many bytes the near end of a connection holds before its writer waits.
const PIPE: usize = 64 * 1024;

/// One process of the connector: it counts the steps at which the world outside can be changed by it or can change it,
/// and is dead from a given step on. What it wrote before that step arrives, as with a kill.
#[derive(Debug)]
pub(super) struct Life {
    left: AtomicU64,
    over: CancellationToken,
}

impl Life {
    /// A life of so many steps; `u64::MAX` for one without an end.
    pub(super) fn of(steps: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(steps), over: CancellationToken::new() })
    }

    /// It ends after so many more steps.
    pub(super) fn ends_after(&self, steps: u64) {
        self.left.store(steps, Relaxed);
    }

    /// Counts a step. False once the process is dead.
    pub(super) fn step(&self) -> bool {
        if !self.over.is_cancelled() && self.left.fetch_sub(1, Relaxed) == 0 {
            self.over.cancel();
        }
        !self.over.is_cancelled()
    }

    /// Ends it now.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        self.over.cancelled().await;
    }
}

fn dead() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the process is dead")
}

/// All that the connector writes, by port: what a scene looks through.
pub(super) type Tap = Arc<Mutex<Vec<(u16, Vec<u8>)>>>;

/// What goes wrong with connections, whichever process made them.
#[derive(Debug)]
pub(super) struct Weather {
    chance: Generator,
    /// Connections are as fast as can be where this is zero.
    latency: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    open: Vec<(u16, CancellationToken)>,
    /// Nothing passes through connections to this port before that moment.
    stalled: Option<(u16, Instant)>,
}

impl Weather {
    pub(super) fn new(chance: Generator, latency: Duration) -> Arc<Self> {
        Arc::new(Self { chance, latency, inner: Mutex::default() })
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts every connection to this port; what is on its way is lost.
    pub(super) fn cut_all(&self, port: u16) {
        self.inner().open.retain(|(to, wire)| {
            if *to == port {
                wire.cancel();
            }
            *to != port
        });
    }

    /// Cuts one connection to this port.
    pub(super) fn cut_one(&self, port: u16) {
        let mut inner = self.inner();
        inner.open.retain(|(_, wire)| !wire.is_cancelled());
        let there: Vec<_> =
            inner.open.iter().filter(|(to, _)| *to == port).map(|(_, wire)| wire.clone()).collect();
        if let Some(wire) = there.get((self.chance.number() % there.len().max(1) as u64) as usize) {
            wire.cancel();
        }
    }

    /// Nothing passes to or from this port for a while; nobody is told.
    pub(super) fn stall(&self, port: u16, time: Duration) {
        self.inner().stalled = Some((port, Instant::now() + time));
    }

    /// When a piece that comes now arrives.
    fn arrival(&self, port: u16) -> Instant {
        let now = Instant::now();
        let late = now + self.latency.mul_f64((self.chance.number() % 1000) as f64 / 1000.0);
        match self.inner().stalled {
            Some((there, until)) if there == port && until > now => until,
            _ => late,
        }
    }

    /// How much of what is there is taken in one piece.
    fn piece(&self) -> usize {
        match self.chance.number() % 16 {
            0 => 1,
            1 => 100,
            _ => 16 * 1024,
        }
    }

    async fn flow(&self, port: u16, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let most = self.piece();
            match from.read(&mut buffer[..most]).await {
                Ok(0) | Err(_) => break,
                Ok(n) => {
                    let arrival = self.arrival(port);
                    if arrival > Instant::now() {
                        tokio::time::sleep_until(arrival).await;
                    }
                    if to.write_all(&buffer[..n]).await.is_err() {
                        break;
                    }
                }
            }
        }
        let _ = to.shutdown().await;
    }
}

/// Opens the connections of one process.
pub(super) struct Net {
    pub(super) network: Network,
    pub(super) weather: Arc<Weather>,
    pub(super) life: Arc<Life>,
    pub(super) tap: Option<Tap>,
}

impl Dial for Net {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxIo>> + Send + 'a>> {
        Box::pin(async move {
            if !self.life.step() {
                return Err(dead());
            }
            let far = self.network.dial(host, port).await?;
            let (near, middle) = duplex(PIPE);
            let cut = CancellationToken::new();
            self.weather.inner().open.push((port, cut.clone()));
            let weather = Arc::clone(&self.weather);
            let (far, middle) = (tokio::io::split(far), tokio::io::split(middle));
            tokio::spawn(async move {
                tokio::select! {
                    biased;
                    () = cut.cancelled() => {}
                    () = both(&weather, port, middle, far) => {}
                }
            });
            let tap = self.tap.clone().map(|tap| (port, tap));
            Ok(Box::new(Wire { near, life: Arc::clone(&self.life), tap }) as BoxIo)
        })
    }
}

async fn both(
    weather: &Weather,
    port: u16,
    (near_out, near_in): (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>),
    (far_in, far_out): (ReadHalf<lab::net::BoxIo>, WriteHalf<lab::net::BoxIo>),
) {
    let towards = weather.flow(port, near_out, far_out);
    let back = weather.flow(port, far_in, near_in);
    tokio::join!(biased; towards, back);
}

/// The process's end of a connection.
struct Wire {
    near: DuplexStream,
    life: Arc<Life>,
    tap: Option<(u16, Tap)>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.near).poll_read(cx, buf);
        if read.is_ready() && !self.life.step() {
            buf.set_filled(before);
            return Poll::Ready(Err(dead()));
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.life.step() {
            return Poll::Ready(Err(dead()));
        }
        let written = Pin::new(&mut self.near).poll_write(cx, buf);
        if let (Poll::Ready(Ok(n)), Some((port, tap))) = (&written, &self.tap) {
            tap.lock().unwrap_or_else(PoisonError::into_inner).push((*port, buf[..*n].to_vec()));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.near).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.near).poll_shutdown(cx)
    }
}
