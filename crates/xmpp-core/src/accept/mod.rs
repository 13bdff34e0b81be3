//! The receiving side of both kinds of stream, for stand-ins and tests.

mod client;
mod component;

use std::sync::Arc;

use crate::sasl::Mechanism;
use crate::sm::ResumeRegistry;
use crate::timing::Timing;
use crate::xml::Limits;
use crate::{BareJid, Entropy, Secret};

pub use client::ClientAcceptor;
pub use component::ComponentAcceptor;

/// Which domains are served, and what is offered.
#[derive(Clone)]
pub struct Config {
    /// The domains that a client may open a stream to. For a component: the first is the server's own name.
    pub domains: Vec<String>,
    /// Decides about stream management; `None` offers none.
    pub registry: Option<Arc<dyn ResumeRegistry>>,
    /// Bounds on what the peer sends.
    pub limits: Limits,
    /// How long to wait.
    pub timing: Timing,
    /// Random bytes of this negotiation alone.
    pub entropy: Entropy,
}

impl Config {
    /// No stream management, default limits and waits.
    #[must_use]
    pub fn new(domains: Vec<String>, entropy: Entropy) -> Self {
        Self { domains, registry: None, limits: Limits::default(), timing: Timing::default(), entropy }
    }
}

/// Knows who may do what. Calls come from inside a negotiation and must not wait for anything.
pub trait Authenticator: Send + Sync {
    /// The mechanisms to offer, best first.
    fn mechanisms(&self, encrypted: bool) -> Vec<Mechanism> {
        let _ = encrypted;
        vec![Mechanism::ScramSha256, Mechanism::ScramSha1, Mechanism::Plain]
    }

    /// The password of an account; `None` if there is no such account.
    fn password(&self, account: &BareJid) -> Option<Secret> {
        let _ = account;
        None
    }

    /// Whether `authenticated`, whose password was right, may act as `asked`; by default only as itself.
    fn authorize(&self, authenticated: &BareJid, asked: &BareJid) -> bool {
        authenticated == asked
    }

    /// Whether a one-time password of CISCO-VTG-TOKEN is right; using it may use it up.
    fn token(&self, account: &BareJid, token: &str) -> bool {
        let _ = (account, token);
        false
    }

    /// Who the peer is by means outside the stream (EXTERNAL): by the certificate (DER) that it showed in TLS, if it
    /// did. `asked` is its authorization id, if any.
    fn external(&self, domain: &str, asked: Option<&str>, certificate: Option<&[u8]>) -> Option<BareJid> {
        let _ = (domain, asked, certificate);
        None
    }

    /// The resource to bind: what the client asked for or, if it asked for none, `generated`.
    fn resource(&self, account: &BareJid, asked: Option<String>, generated: String) -> String {
        let _ = account;
        asked.unwrap_or(generated)
    }

    /// Where the streams of an account are, if not here: the client is told so (`see-other-host`, RFC 6120 §4.9.3.19)
    /// once it has proved who it is.
    fn elsewhere(&self, account: &BareJid) -> Option<String> {
        let _ = account;
        None
    }

    /// The secret of a component; `None` if there is no such component.
    fn component(&self, name: &str) -> Option<Secret> {
        let _ = name;
        None
    }
}
