//! The IM and Presence stand-in.

use crate::net::Listener;

/// The doors of the IM and Presence stand-in.
#[derive(Debug)]
pub struct Listeners {
    /// Client streams.
    pub client: Listener,
    /// The trusted link.
    pub trusted: Listener,
    /// The AXL service.
    pub axl: Listener,
}
