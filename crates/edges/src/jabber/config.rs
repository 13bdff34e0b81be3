//! What the edge is told once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use xmpp_core::Secret;

use super::LinkKey;
use super::nodes::News;
use super::one_time::OneTime;
use super::refusals::Refusals;
use super::turns::Turns;
use crate::seam::{Clock, Dial, Generator, Scale};

/// The settings of the Jabber edge.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this node: its sessions have the resource `webex-` and this, so that no two nodes fight
    /// over one.
    pub node: Box<str>,
    /// Minutes that local time is ahead of UTC, for the time before a text that comes late.
    pub utc_offset: i32,
    /// How many sessions are opened in a second at most, over all links; at least 1. Scaled.
    pub sessions_per_second: u32,
    /// The IM and Presence clusters; a user belongs to the first that serves the domain of the JID.
    pub clusters: Vec<Cluster>,
}

/// One IM and Presence cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The XMPP domains that it serves, in lower case; the first also answers pings on a trusted link.
    pub domains: Vec<String>,
    /// Host and port of its nodes: the first that answers is used, beginning with the one used before.
    pub nodes: Vec<(String, u16)>,
    /// What the cluster itself calls each of them: whoever is homed on a node of that name has a session there, on a
    /// link to that node. Empty where that is not known: one trusted link then carries everybody.
    pub names: Vec<String>,
    /// How sessions are held.
    pub access: Access,
    /// How its streams are encrypted.
    pub encryption: Encryption,
}

/// How the streams of a cluster are encrypted.
#[derive(Clone, Debug)]
pub enum Encryption {
    /// Not at all: plain TCP, as on the trusted port of IM and Presence.
    Off,
    /// As is usual: STARTTLS on client streams, which a server that does not offer it is refused for; TLS from
    /// the first byte on a trusted link, where no other form is defined.
    Usual(Arc<rustls::ClientConfig>),
    /// TLS from the first byte, on client streams as well (XEP-0368).
    Direct(Arc<rustls::ClientConfig>),
}

/// How sessions are held on a cluster.
#[derive(Clone, Debug)]
pub enum Access {
    /// All on one trusted link, by session control.
    Trusted {
        /// Our name on the link.
        component: String,
        /// The secret shared with the server.
        secret: Secret,
        /// What the link's stream is.
        framing: Framing,
    },
    /// Each on a client stream, opened with the password of one service account.
    Service {
        /// The account's bare JID: in its own domain it logs in by its localpart, elsewhere by the whole. Or a
        /// localpart alone: an account of that name in each domain.
        account: String,
        /// Its password.
        password: Secret,
    },
    /// Each on a client stream, opened with a token that we make for the user: a JSON Web Token signed with
    /// a shared key (RFC 7519, HS256).
    Token {
        /// The key.
        key: Secret,
    },
    /// Each on a client stream, opened with a one-time password that IM and Presence makes for the user.
    OneTime(OneTime),
}

/// What the stream of a trusted link is. The sessions on it are controlled in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A component's stream (XEP-0114), with stream management where the server has it.
    Component,
    /// A stream of jabberd2's router; our name is that of the router's user, too.
    Jabberd2,
}

impl Access {
    /// One link carries everybody.
    pub(super) fn is_trusted(&self) -> bool {
        matches!(self, Self::Trusted { .. })
    }
}

/// What all links share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) clock: Clock,
    pub(super) generator: Generator,
    pub(super) scale: Scale,
    pub(super) turns: Turns,
    /// Who is given no session.
    pub(super) refusals: Refusals,
    /// What links tell the edge.
    pub(super) news: UnboundedSender<(LinkKey, News)>,
}

impl Shared {
    /// The resource of all sessions of this node.
    pub(super) fn resource(&self) -> String {
        format!("webex-{}", self.config.node)
    }
}

/// The wait before the `tries`th new try: doubled from one second to a minute, with jitter, scaled.
pub(super) fn backoff(tries: u32, shared: &Shared) -> Duration {
    let longest = Duration::from_secs(60);
    let wait = Duration::from_secs(1).saturating_mul(1 << tries.min(6)).min(longest);
    shared.generator.jittered(shared.scale.of(wait))
}
