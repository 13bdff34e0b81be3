#![doc = include_str!("../README.md")]

mod crypto;
pub mod jose;
pub mod message;
pub mod responder;
pub mod uri;

pub use crypto::{Random, SystemRandom};
