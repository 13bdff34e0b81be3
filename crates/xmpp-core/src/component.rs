//! The initiating side of a component's stream (XEP-0114).

use crate::sm::ResumeState;
use crate::timing::Timing;
use crate::xml::Limits;
use crate::{Entropy, Secret};

/// Which component connects, and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// The component's name: a domain.
    pub name: String,
    /// The secret that it shares with the server.
    pub secret: Secret,
    /// Whether stream management is tried: `<enable/>`, or `<resume/>`, and a ping to this domain of the
    /// server, whose answer without `<enabled/>` before it means that there is none. `None`: not tried.
    pub manage: Option<String>,
    /// The stream to take up again, if any; needs `manage`.
    pub resume: Option<ResumeState>,
    /// After a resumption in the same process: how many stanzas beyond [`ResumeState::inbound`] were already
    /// received, so that the first ones are counted but not reported again.
    pub skip: u64,
    /// Bounds on what the server sends.
    pub limits: Limits,
    /// How long to wait.
    pub timing: Timing,
    /// Random bytes of this negotiation alone.
    pub entropy: Entropy,
}

impl Config {
    /// A stream without stream management, with default limits and waits.
    #[must_use]
    pub fn new(name: impl Into<String>, secret: Secret, entropy: Entropy) -> Self {
        Self {
            name: name.into(),
            secret,
            manage: None,
            resume: None,
            skip: 0,
            limits: Limits::default(),
            timing: Timing::default(),
            entropy,
        }
    }
}
