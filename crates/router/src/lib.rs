#![doc = include_str!("../README.md")]

mod commit;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
pub mod counters;
mod delivery;
pub mod directory;
pub mod entitlement;
pub mod envelope;
mod held;
pub mod ids;
pub mod inbound;
mod intake;
mod lane;
mod lately;
mod machine;
pub mod memory;
pub mod outbound;
pub mod outbox;
mod people;
mod presence;
mod probe;
mod rate;
mod restored;
mod revise;
pub mod tag;
mod timers;
pub mod times;
mod told;
mod typing;

pub use intake::jabber_source;
pub use machine::{Config, Router, RouterError};
pub use restored::restored;
