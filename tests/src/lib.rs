//! What the tests of the whole connector share: processes of the lab and of the connector, and their
//! interfaces, driven from outside as anybody could.

pub mod asked;
pub mod clients;
mod http;
mod process;
mod python;
pub mod recorder;
pub mod servers;
mod traffic;
mod world;

pub use http::{get, get_as, post};
pub use process::{Connector, Lab, Scratch, connector_binary, crashing_binary};
pub use python::python;
pub use traffic::{
    Chance, Dialogue, Said, Traffic, Verdict, Voice, carried, conversation, shown, three_conversations,
    twenty_conversations,
};
pub use world::{Death, Outcome, Plan, World, played};

use std::time::{Duration, Instant};

/// Waits until `done` says so; false if it did not within `limit`.
pub fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if done() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
