#![doc = include_str!("../README.md")]

mod calendar;
pub mod crash;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod hub;
pub mod jabber;
pub mod port;
pub mod probe;
pub mod seam;
mod soap;
pub mod topology;
pub mod vault;
pub mod webex;

// Whoever builds the edges needs some of their crates' types, and must not depend on those crates.
pub use {axl_client, kms_client, webex_api, xmpp_core};
