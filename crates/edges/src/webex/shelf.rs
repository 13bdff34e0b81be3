//! What must survive the process: handed to the hub, and certain once the hub says that it is on disk.

use std::collections::BTreeMap;
use std::sync::Mutex;

use router::inbound::Inbound;
use tokio::sync::oneshot;

use super::locked;
use crate::port::HubPort;

/// The way to the store, and who waits for the word that something is there.
#[derive(Debug)]
pub(super) struct Shelf {
    hub: HubPort,
    /// The number asked under last, and who waits under which.
    asks: Mutex<(u64, BTreeMap<u64, oneshot::Sender<()>>)>,
}

impl Shelf {
    /// A shelf with nothing asked of it.
    pub(super) fn new(hub: HubPort) -> Self {
        Self { hub, asks: Mutex::default() }
    }

    /// Puts a value in place of the one before. True once it is on disk; false if the hub ends before it says so.
    pub(super) async fn keep(&self, key: Box<str>, value: Box<[u8]>) -> bool {
        let (kept, word) = oneshot::channel();
        let ask = {
            let mut asks = locked(&self.asks);
            asks.0 += 1;
            let ask = asks.0;
            asks.1.insert(ask, kept);
            ask
        };
        self.hub.answer(Inbound::Keep { key, value: Some(value), ask });
        word.await.is_ok()
    }

    /// Takes a value away; should the process die before that is on disk, it is there again.
    pub(super) fn forget(&self, key: Box<str>) {
        self.hub.answer(Inbound::Keep { key, value: None, ask: 0 });
    }

    /// The hub's word.
    pub(super) fn kept(&self, ask: u64) {
        let waiting = locked(&self.asks).1.remove(&ask);
        if let Some(waiting) = waiting {
            // Whoever was given up meanwhile does not wait any more.
            let _ = waiting.send(());
        }
    }
}
