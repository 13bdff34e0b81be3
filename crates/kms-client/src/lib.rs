#![doc = include_str!("../README.md")]

pub mod client;
mod crypto;
pub mod exchange;
pub mod jose;
pub mod message;
pub mod responder;
pub mod ring;
pub mod trust;
pub mod uri;

pub use crypto::{Random, SystemRandom};
