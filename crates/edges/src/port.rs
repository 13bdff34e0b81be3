//! What the hub and an edge say to each other.
//!
//! The hub never awaits a send (rule 14). Towards an edge that is safe on an unbounded channel because
//! what can be in it is bounded elsewhere: deliveries, and the words about them, by the credit; session orders by the
//! number of people, since only a change is one and an edge takes orders at once; acknowledgements, settled streams and
//! kept values by what the edge itself has reported; hints by a number of places, without one they are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use router::directory::Directory;
use router::ids::{ImpStreamId, PersonId, Ticket, Upstream};
use router::inbound::Inbound;
use router::outbound::{Hint, MaybeSent, Wanted};
use router::outbox::{Entry, EntrySummary};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// One delivery, with the entry and its body.
#[derive(Debug)]
pub struct Delivery {
    /// Answered with.
    pub ticket: Ticket,
    /// What to deliver.
    pub entry: Entry,
    /// What the entry refers to, as it was when this delivery was handed out; empty where unknown.
    pub target: Vec<EntrySummary>,
    /// Whether an earlier attempt may have arrived.
    pub maybe_sent: MaybeSent,
}

/// What the hub asks of an edge. An edge takes orders at once, whatever else it waits for.
#[derive(Debug)]
pub enum Order {
    /// Deliver this; answer with `Attempt` and `Receipt` on [`HubPort::answer`].
    Deliver(Box<Delivery>),
    /// The attempt is on disk: write.
    Write(Ticket),
    /// Do not write.
    Skip(Ticket),
    /// What was attempted on this resumed stream is settled, on disk: stanzas may be written again.
    Settled(ImpStreamId),
    /// The far side may forget everything up to here.
    Acknowledge(Upstream),
    /// The state wanted for this person's session.
    Session(PersonId, Wanted),
    /// Pass on if easy; the place is kept until that is done, so that a bounded number is on its way.
    Hint(Hint, OwnedSemaphorePermit),
    /// The value kept under this `ask` is on disk.
    Kept(u64),
    /// Who is whom, from now on; also the first order of a run in whose store there was a directory.
    Directory(Arc<Directory>),
    /// Stop: accept nothing new, let deliveries in flight finish; streams are dropped, not closed,
    /// unless `sign_out`.
    Stop {
        /// Close sessions instead of leaving them to be resumed.
        sign_out: bool,
    },
}

/// An edge's way to the hub.
#[derive(Clone, Debug)]
pub struct HubPort {
    links: mpsc::Sender<Inbound>,
    sockets: mpsc::Sender<Inbound>,
    answers: mpsc::UnboundedSender<Inbound>,
    dropped: Arc<AtomicU64>,
}

impl HubPort {
    /// A port that feeds these channels of the hub: what waits for room, what is dropped without it, and answers.
    /// The first two are apart, so that a flood on a link takes no room from the sockets.
    #[must_use]
    pub fn new(
        links: mpsc::Sender<Inbound>,
        sockets: mpsc::Sender<Inbound>,
        answers: mpsc::UnboundedSender<Inbound>,
    ) -> Self {
        Self { links, sockets, answers, dropped: Arc::default() }
    }

    /// Hands an input over, waiting while the hub is full: a link is then left unread (rule 13).
    /// False once the hub has stopped.
    pub async fn take(&self, inbound: Inbound) -> bool {
        self.links.send(inbound).await.is_ok()
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// There is no room: the input is handed back.
    #[expect(clippy::result_large_err, reason = "what does not fit is handed back as it came")]
    pub fn take_at_once(&self, inbound: Inbound) -> Result<bool, Inbound> {
        match self.links.try_send(inbound) {
            Ok(()) => Ok(true),
            Err(mpsc::error::TrySendError::Closed(_)) => Ok(false),
            Err(mpsc::error::TrySendError::Full(inbound)) => Err(inbound),
        }
    }

    /// Hands an input over if there is room now; gives it back otherwise. For Mercury sockets, which
    /// are never left unread (rule 13).
    ///
    /// # Errors
    /// The hub is full, or has stopped.
    #[expect(clippy::result_large_err, reason = "what does not fit is handed back as it came")]
    pub fn try_take(&self, inbound: Inbound) -> Result<(), Inbound> {
        self.sockets.try_send(inbound).map_err(|e| match e {
            mpsc::error::TrySendError::Full(inbound) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                inbound
            }
            mpsc::error::TrySendError::Closed(inbound) => inbound,
        })
    }

    /// How many inputs found no room so far, of this port and its clones.
    pub(crate) fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    /// Answers a delivery (`Attempt`, `Receipt`) or reports a stream or session event: these have a
    /// channel of their own, bounded by the credit and by the number of streams and sessions. It
    /// overtakes the intake, so what ends an order of things (`Settled`, `CaughtUp`) goes by
    /// [`HubPort::take`], behind what it ends.
    pub fn answer(&self, inbound: Inbound) {
        // A hub that has stopped needs no answer: what it did not commit is done again.
        let _ = self.answers.send(inbound);
    }
}
