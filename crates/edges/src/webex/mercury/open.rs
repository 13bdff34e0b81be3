//! One socket of a line: opened, and what is owed to the cloud on it.

use std::collections::VecDeque;

use router::ids::{PersonId, StreamId, Upstream};
use webex_api::auth::AccessToken;
use webex_api::client::MercurySocket;
use webex_api::device::Device;
use webex_api::mercury::{Fate, Output};
use webex_api::{EnvelopeId, Timestamp};

use super::super::Side;
use super::super::http::CloudError;
use crate::crash;
use crate::probe::causes;

/// A socket that is ready.
pub(super) struct Ready {
    pub(super) socket: MercurySocket,
    /// What came before it was.
    pub(super) early: Vec<Output>,
    /// What it was opened with.
    pub(super) token: AccessToken,
}

/// Readiness comes first; what comes before it all the same is kept, but not without end.
const MOST_EARLY: usize = 1_000;

/// Opens a socket of this device and waits until it is ready.
pub(super) async fn ready(side: &Side, person: &PersonId, device: &Device) -> Result<Ready, Fate> {
    let failed = |error: &CloudError| {
        tracing::warn!(%person, error = causes(error), "no socket is tried");
        Fate::Reconnect
    };
    side.cloud.socket_may_go(&device.web_socket_url).await.map_err(|error| failed(&error))?;
    let token = side.cloud.token(person).await.map_err(|error| failed(&error))?;
    let now = Timestamp(side.clock.now().0);
    let random = super::super::http::random(&side.generator);
    let connected = MercurySocket::connect(&side.mercury, &device.web_socket_url, &token, now, random).await;
    let mut socket = connected.map_err(|error| {
        tracing::warn!(%person, error = causes(&error), "no socket");
        error.fate()
    })?;
    let mut early = Vec::new();
    loop {
        match socket.next().await {
            Some(Output::Ready) => return Ok(Ready { socket, early, token }),
            Some(Output::Closed(fate)) => return Err(fate),
            None => return Err(Fate::Reconnect),
            Some(other) if early.len() < MOST_EARLY => early.push(other),
            Some(_) => return Err(Fate::Reconnect),
        }
    }
}

/// A ready socket, and the frames that are to be acknowledged on it.
pub(super) struct Open {
    /// Tells sockets of one run apart.
    number: u64,
    pub(super) socket: MercurySocket,
    /// Nothing more comes by it.
    pub(super) ended: bool,
    /// Inputs handed over from it.
    inputs: u64,
    /// Frames to acknowledge once their input is taken.
    unacknowledged: VecDeque<(u64, EnvelopeId)>,
    /// Frames that found no room, until a catch-up has made them good.
    dropped: Vec<EnvelopeId>,
}

/// So many frames without room are remembered; those beyond are left to the cloud, which may send them again on the next
/// socket.
const MOST_DROPPED: usize = 10_000;

impl Open {
    pub(super) fn new(number: u64, socket: MercurySocket) -> Self {
        Self { number, socket, ended: false, inputs: 0, unacknowledged: VecDeque::new(), dropped: Vec::new() }
    }

    /// The name of the next input that is handed over from it.
    pub(super) fn upstream(&mut self, person: &PersonId) -> Upstream {
        self.inputs += 1;
        Upstream { stream: StreamId::Mercury(person.clone(), self.number), n: self.inputs }
    }

    /// This frame is acknowledged when the latest input is taken.
    pub(super) fn owes(&mut self, id: Option<EnvelopeId>) {
        self.unacknowledged.extend(id.map(|id| (self.inputs, id)));
    }

    /// This frame found no room.
    pub(super) fn drops(&mut self, id: Option<EnvelopeId>) {
        let room = MOST_DROPPED - self.dropped.len();
        self.dropped.extend(id.into_iter().take(room));
    }

    /// What found no room was read from listings and handed over: it is acknowledged when an input that is handed over
    /// now is taken, the name of which is returned; `None`: there is nothing of the kind.
    pub(super) fn made_good(&mut self, person: &PersonId) -> Option<Upstream> {
        let dropped = std::mem::take(&mut self.dropped);
        let upstream = (!dropped.is_empty()).then(|| self.upstream(person));
        self.unacknowledged.extend(dropped.into_iter().map(|id| (self.inputs, id)));
        upstream
    }

    /// What was handed over is committed, if it came on this socket: the cloud may forget it.
    pub(super) fn taken(&mut self, (number, n): super::Taken) {
        while let Some((taken, id)) = self.unacknowledged.front()
            && number == self.number
            && *taken <= n
        {
            self.socket.acknowledge(id);
            crash::point(crash::ACTIVITY_ACKNOWLEDGED);
            self.unacknowledged.pop_front();
        }
    }
}
