//! The initiating side of a client stream: from features to bound (RFC 6120 §4.3 to §7).

use crate::sasl::Credentials;
use crate::sm::ResumeState;
use crate::timing::Timing;
use crate::xml::Limits;
use crate::{BareJid, Entropy};

/// Who logs in, and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// The account whose session is wanted; its domain is the stream's `to`.
    pub jid: BareJid,
    /// The resource to ask for; `None`: the server makes one up.
    pub resource: Option<String>,
    /// How to prove who we are.
    pub credentials: Credentials,
    /// Whether stream management is enabled where the server has it; on by default.
    pub manage: bool,
    /// The stream to take up again, if any.
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
    /// A new managed stream with default limits and waits.
    #[must_use]
    pub fn new(jid: BareJid, credentials: Credentials, entropy: Entropy) -> Self {
        Self {
            jid,
            resource: None,
            credentials,
            manage: true,
            resume: None,
            skip: 0,
            limits: Limits::default(),
            timing: Timing::default(),
            entropy,
        }
    }
}
