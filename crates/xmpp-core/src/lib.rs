#![doc = include_str!("../README.md")]

pub mod accept;
pub mod c2s;
pub mod component;
pub mod ext;
pub mod negotiation;
pub mod ns;
mod progress;
pub mod router_link;
pub mod sasl;
mod secret;
pub mod session;
pub mod session_control;
pub mod sm;
pub mod stanza;
pub mod stream;
pub mod timing;
#[cfg(feature = "tokio")]
pub mod tokio;
pub mod xml;

pub use jid::{BareJid, FullJid, Jid};
pub use minidom::Element;
pub use secret::{Entropy, NoRandomness, Secret};
pub use {jid, minidom};
