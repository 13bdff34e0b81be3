#![doc = include_str!("../README.md")]

pub mod counters;
pub mod directory;
pub mod entitlement;
pub mod envelope;
pub mod ids;
pub mod inbound;
mod machine;
pub mod memory;
pub mod outbound;
pub mod outbox;
pub mod tag;
pub mod times;

pub use machine::{Config, Router, RouterError};
