//! The edge's side of the port: which link an answer of the hub belongs to.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use router::ids::{ImpStreamId, Ticket};
use router::inbound::{Inbound, Outcome, StreamEvent};
use tokio::sync::mpsc::UnboundedSender;

use super::link::Command;
use crate::port::HubPort;

/// The port, and who waits for which answer on it.
pub(super) struct Board {
    pub(super) port: HubPort,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    tickets: BTreeMap<Ticket, UnboundedSender<Command>>,
    asks: BTreeMap<u64, UnboundedSender<Command>>,
    streams: BTreeMap<ImpStreamId, UnboundedSender<Command>>,
    last_ask: u64,
}

impl Board {
    pub(super) fn new(port: HubPort) -> Self {
        Self { port, waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This link takes the delivery over.
    pub(super) fn assign(&self, ticket: Ticket, link: &UnboundedSender<Command>) {
        self.waiting().tickets.insert(ticket, link.clone());
    }

    /// Answers a delivery for good.
    pub(super) fn receipt(&self, ticket: Ticket, outcome: Outcome) {
        self.waiting().tickets.remove(&ticket);
        self.port.answer(Inbound::Receipt(ticket, outcome));
    }

    /// Reports a stream's fate; from `Up` or `Resumed` on, its acknowledgements go to `link`.
    pub(super) fn stream(&self, id: &ImpStreamId, event: StreamEvent, link: &UnboundedSender<Command>) {
        match event {
            StreamEvent::Up { .. } | StreamEvent::Resumed { .. } => {
                self.waiting().streams.insert(id.clone(), link.clone());
            }
            StreamEvent::Refused { .. } => {
                self.waiting().streams.remove(id);
            }
            StreamEvent::Lost => {}
        }
        self.port.answer(Inbound::Stream(id.clone(), event));
    }

    /// Keeps a value, or forgets it, without waiting for the answer.
    pub(super) fn keep(&self, key: Box<str>, value: Option<Box<[u8]>>) {
        self.port.answer(Inbound::Keep { key, value, ask: 0 });
    }

    /// Keeps a value; `link` is told by the number returned when it is on disk.
    pub(super) fn keep_and_tell(
        &self,
        key: Box<str>,
        value: Box<[u8]>,
        link: &UnboundedSender<Command>,
    ) -> u64 {
        let mut waiting = self.waiting();
        waiting.last_ask += 1;
        let ask = waiting.last_ask;
        waiting.asks.insert(ask, link.clone());
        drop(waiting);
        self.port.answer(Inbound::Keep { key, value: Some(value), ask });
        ask
    }

    /// Hands the hub's word on a delivery to its link; nobody may wait for it any more.
    pub(super) fn answered(&self, ticket: Ticket, command: Command) {
        let link = self.waiting().tickets.remove(&ticket);
        if let Some(link) = link {
            // A link that has ended needs no answer.
            let _ = link.send(command);
        }
    }

    /// Tells the link that asked.
    pub(super) fn kept(&self, ask: u64) {
        let link = self.waiting().asks.remove(&ask);
        if let Some(link) = link {
            let _ = link.send(Command::Kept(ask));
        }
    }

    /// Tells the link that carries this stream.
    pub(super) fn to_stream(&self, id: &ImpStreamId, command: Command) {
        let link = self.waiting().streams.get(id).cloned();
        if let Some(link) = link {
            let _ = link.send(command);
        }
    }
}
