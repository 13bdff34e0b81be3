//! What the lab can be asked to do differently.

use std::path::PathBuf;

/// How the connector reaches IM&P.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Link {
    /// One trusted link on which the sessions of all users are controlled.
    #[default]
    A,
    /// A client stream per user, opened with a service account and an authorization identity.
    B,
    /// A client stream per user, opened with a token of that user.
    C,
}

/// How the connector comes to act as a Webex user.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum TokenSource {
    /// A machine account exchanges its token for the user's.
    #[default]
    Organization,
    /// Each user has enrolled with a refresh token.
    User,
    /// Nobody has a token; a bot relays.
    Relay,
}

/// The doors that may be asked for; one that is `None` takes its usual port, or a free one when that is taken.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Ports {
    /// Port on loopback of another server's client door, where the built-in Jabber clients sign in in place of this lab's.
    #[arg(long, value_name = "PORT")]
    pub jabber_server: Option<u16>,
    /// Port of the XMPP client door (usually 5222).
    #[arg(long, value_name = "PORT")]
    pub xmpp_client_port: Option<u16>,
    /// Port of the trusted link (usually 7400).
    #[arg(long, value_name = "PORT")]
    pub xmpp_trusted_port: Option<u16>,
    /// Port of the AXL service (usually 8443).
    #[arg(long, value_name = "PORT")]
    pub axl_port: Option<u16>,
    /// Port of all cloud services (usually 18080).
    #[arg(long, value_name = "PORT")]
    pub cloud_port: Option<u16>,
    /// Port of the control interface (usually 18081).
    #[arg(long, value_name = "PORT")]
    pub control_port: Option<u16>,
    /// Port of the connector's status interface (usually 18082); the connector listens on it, not the lab.
    #[arg(long, value_name = "PORT")]
    pub status_port: Option<u16>,
}

/// Everything that can be chosen when the lab starts.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Start everything but the connector.
    #[arg(long)]
    pub stand_ins: bool,
    /// Write the endpoints document to this file once everything listens.
    #[arg(long, value_name = "FILE")]
    pub endpoints: Option<PathBuf>,
    /// How the connector reaches IM&P.
    #[arg(long, value_enum, default_value_t = Link::A)]
    pub link: Link,
    /// How the connector comes to act as a Webex user.
    #[arg(long, value_enum, default_value_t = TokenSource::Organization)]
    pub token_source: TokenSource,
    /// Divide the scaled waits of both sides by this number.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub time_scale: u32,
    /// Seed of everything that the stand-ins leave to chance.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Switch off everything unkind that the stand-ins do by default.
    #[arg(long)]
    pub kind: bool,
    /// Serve TLS with certificates of a CA made at start, in place of plain http, ws and tcp.
    #[arg(long)]
    pub tls: bool,
    /// Add this many enabled users, `u00001` and so on.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=99_999))]
    pub users: u32,
    /// How many nodes IM and Presence has: 1, or 2 that take over for each other.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    pub imp_nodes: u32,
    /// How many contacts each added user has among the added users: they are in groups of one more.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub contacts: u32,
    /// Where the store, its key and the connector's settings are put; a new folder under the system's temporary one if absent.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The doors.
    #[command(flatten)]
    pub ports: Ports,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stand_ins: false,
            endpoints: None,
            link: Link::default(),
            token_source: TokenSource::default(),
            time_scale: 1,
            seed: 1,
            kind: false,
            tls: false,
            users: 0,
            imp_nodes: 1,
            contacts: 9,
            state: None,
            ports: Ports::default(),
        }
    }
}
