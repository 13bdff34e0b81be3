//! What others may ask of a running hub.

use router::counters::Counters;
use router::entitlement::{Client, Verdict};
use router::ids::{JabberId, Time};
use router::outbox::{EntrySummary, TargetRef};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

/// What the status page shows of the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The number of this run, from 1.
    pub run: u32,
    /// When this was true.
    pub at: Time,
    /// Batches that the store has not answered.
    pub committing: usize,
    /// Inputs that wait for the next batch.
    pub uncommitted: usize,
    /// Inputs that have not been read.
    pub intake: usize,
    /// What Mercury sockets brought and found no room, in this run: messages among it are read from listings.
    pub dropped: u64,
    /// Deliveries that an edge is busy with.
    pub with_edges: usize,
    /// Bytes that may still be written before intake stops; `None`: not bounded.
    pub room: Option<u64>,
    /// What the router counts.
    pub router: Counters,
}

/// A request to the hub.
#[derive(Debug)]
pub(super) enum Request {
    Status(oneshot::Sender<Status>),
    Idle(oneshot::Sender<bool>),
    Judge {
        sender: JabberId,
        from: Client,
        recipient: JabberId,
        to: Client,
        reply: oneshot::Sender<Option<Verdict>>,
    },
    Target {
        target: TargetRef,
        reply: oneshot::Sender<Vec<EntrySummary>>,
    },
    Stop {
        sign_out: bool,
    },
}

/// A way to ask a running hub; may be cloned freely.
#[derive(Clone, Debug)]
pub struct HubHandle(mpsc::Sender<Request>);

impl HubHandle {
    pub(super) fn new(requests: mpsc::Sender<Request>) -> Self {
        Self(requests)
    }

    /// Everything that is counted, at one moment. `None` once the hub has ended.
    pub async fn status(&self) -> Option<Status> {
        self.ask(Request::Status).await
    }

    /// Whether nothing waits: all lanes are empty, nothing is uncommitted, no session opens and nobody is
    /// behind. False once the hub has ended.
    pub async fn idle(&self) -> bool {
        self.ask(Request::Idle).await.unwrap_or(false)
    }

    /// The verdict about a message that `sender` writes in `from`, for `recipient` who looks in `to`.
    /// `None` if either is unknown, or once the hub has ended.
    pub async fn judge(
        &self,
        sender: JabberId,
        from: Client,
        recipient: JabberId,
        to: Client,
    ) -> Option<Verdict> {
        self.ask(|reply| Request::Judge { sender, from, recipient, to, reply }).await.flatten()
    }

    /// What a reference means, as far as the store knows. `None` once the hub has ended.
    pub async fn target(&self, target: TargetRef) -> Option<Vec<EntrySummary>> {
        self.ask(|reply| Request::Target { target, reply }).await
    }

    /// Asks the hub to stop: nothing new is taken, what was taken is committed, and deliveries in flight
    /// may finish within the grace period. Sessions are left to be resumed unless `sign_out`.
    pub async fn stop(&self, sign_out: bool) {
        // A hub that has ended needs no stopping.
        let _ = self.0.send(Request::Stop { sign_out }).await;
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.0.send(request(reply)).await.ok()?;
        answer.await.ok()
    }
}
