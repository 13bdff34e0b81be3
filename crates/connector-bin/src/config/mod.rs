//! Typed settings: the file is read whole, every mistake is reported at once, and only then is anything
//! opened or bound.

mod file;
mod files;
mod reader;
mod settings;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use connector_edges::webex_api::auth::AccessToken;
use file::File;
pub(crate) use files::User;
pub(crate) use reader::Mistake;
use router::ids::{PersonId, Time};
pub(crate) use settings::example;

use crate::plan::deployment::Host;

/// Everything that the file says.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) organization: Organization,
    pub(crate) store: Store,
    pub(crate) webex: Webex,
    pub(crate) imp: Vec<Imp>,
    pub(crate) directory: Directory,
    pub(crate) deployment: Deployment,
    pub(crate) presence: Presence,
    pub(crate) limits: Limits,
    pub(crate) status: SocketAddr,
    pub(crate) log: Log,
    pub(crate) time_scale: u32,
}

#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) level: String,
    /// Of each kind; 0: all.
    pub(crate) lines_per_minute: u32,
}

#[derive(Debug)]
pub(crate) struct Organization {
    pub(crate) id: String,
    pub(crate) key: Secret,
    /// Keys that were replaced, and when the day ended on which each was.
    pub(crate) earlier_keys: Vec<(Secret, Time)>,
    /// Minutes east of UTC.
    pub(crate) timezone: i32,
}

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) path: PathBuf,
    pub(crate) key: Secret,
    pub(crate) retention: Duration,
}

#[derive(Debug)]
pub(crate) struct Webex {
    pub(crate) discovery_url: String,
    pub(crate) token_source: TokenSource,
    pub(crate) client_id: String,
    pub(crate) client_secret: Secret,
    pub(crate) machine_token: Option<AccessToken>,
    pub(crate) user_tokens: Vec<(PersonId, Secret)>,
    pub(crate) bot_token: Option<AccessToken>,
    pub(crate) admin_token: Option<AccessToken>,
    pub(crate) license_id: Option<String>,
    pub(crate) message_license_id: Option<String>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) kms_ca_file: Option<PathBuf>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) notices: bool,
    pub(crate) deliver_to_pending: bool,
}

/// The proxy between us and the cloud.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// User and password.
    pub(crate) credentials: Option<(String, Secret)>,
}

/// How we act as a Webex user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenSource {
    Organization,
    User,
    Relay,
}

#[derive(Debug)]
pub(crate) struct Imp {
    pub(crate) publisher: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) link: LinkKind,
    pub(crate) domains: Vec<String>,
    pub(crate) component: Option<String>,
    pub(crate) service_jid: Option<String>,
    pub(crate) secret: Secret,
    pub(crate) protocol: LinkProtocol,
    pub(crate) tokens: LinkTokens,
    /// Where one-time passwords are asked for.
    pub(crate) login_url: String,
    pub(crate) tls: LinkTls,
    pub(crate) ca_file: Option<PathBuf>,
    /// Certificate chain and key that we show to the nodes.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    /// IM addresses are directory URIs, where the publisher does not tell them.
    pub(crate) directory_uris: bool,
    pub(crate) axl: Option<Axl>,
}

/// A node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// What the cluster calls it.
    pub(crate) name: String,
    /// Without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// How sessions are held on IM and Presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkKind {
    Trusted,
    Service,
    Token,
}

/// What the trusted link's stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkProtocol {
    Component,
    Jabberd2,
}

/// Where the tokens of link c come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkTokens {
    OneTime,
    Signed,
}

/// How streams to IM and Presence are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkTls {
    Off,
    Required,
    Direct,
}

#[derive(Debug)]
pub(crate) struct Axl {
    pub(crate) url: String,
    pub(crate) user: String,
    pub(crate) password: Secret,
}

#[derive(Debug)]
pub(crate) struct Directory {
    /// The people of the file that is read in place of AXL and licences; `None` without one.
    pub(crate) users: Option<Vec<User>>,
    pub(crate) refresh: Duration,
    /// The resource group of each mail address; `None` where nobody is in any.
    pub(crate) resource_groups: Option<BTreeMap<String, Box<str>>>,
}

/// What this connector is among others.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) cluster: String,
    pub(crate) node: String,
    pub(crate) primary: bool,
    pub(crate) resource_group: Option<String>,
    pub(crate) host: Host,
    pub(crate) federation: bool,
    pub(crate) government: bool,
}

#[derive(Debug)]
pub(crate) struct Presence {
    pub(crate) poll: Duration,
    pub(crate) subscribe: bool,
}

#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) deliveries: u32,
    pub(crate) sessions_per_second: u32,
    pub(crate) handshakes: u32,
    pub(crate) requests_per_second: u32,
    pub(crate) messages_per_minute: u32,
    pub(crate) source_ports: Option<RangeInclusive<u16>>,
    pub(crate) free_space: u64,
    pub(crate) grace: Duration,
}

/// The content of a secret's file; never printed.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// The secret itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// A key, as its file would say it.
    #[cfg(test)]
    pub(crate) fn of_key(key: [u8; 32]) -> Self {
        Self(key.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The 32 bytes of a key given as 64 hexadecimal digits; the file was checked when it was read.
    pub(crate) fn key(&self) -> [u8; 32] {
        let mut key = [0; 32];
        for (byte, digits) in key.iter_mut().zip(self.0.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).unwrap_or("00");
            *byte = u8::from_str_radix(digits, 16).unwrap_or(0);
        }
        key
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Reads a file of settings.
///
/// # Errors
/// All mistakes in it, in the order of its lines; paths are relative to the file's folder.
pub(crate) fn load(path: &Path) -> Result<Config, Vec<Mistake>> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        vec![Mistake {
            line: None,
            key: "the file".to_owned(),
            what: format!("cannot be read: {e} (make one: connector example > {})", path.display()),
        }]
    })?;
    parse(&text, path.parent().unwrap_or(Path::new("")))
}

fn parse(text: &str, folder: &Path) -> Result<Config, Vec<Mistake>> {
    match File::new(text, folder).read() {
        (Some(config), mistakes) if mistakes.is_empty() => Ok(config),
        (_, mistakes) => Err(mistakes),
    }
}

#[cfg(test)]
mod tests;
