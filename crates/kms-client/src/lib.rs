#![doc = include_str!("../README.md")]

#[cfg(not(any(feature = "ring", feature = "aws-lc")))]
compile_error!("one of the features `ring` (default) and `aws-lc` must be on");

pub mod client;
mod crypto;
pub mod exchange;
pub mod file;
pub mod jose;
pub mod message;
pub mod responder;
pub mod ring;
pub mod trust;
pub mod uri;

pub use crypto::{Random, SystemRandom};
