//! The document that tells whoever drives the lab where everything is.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Addresses, secrets and people of a running lab.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Endpoints {
    /// `host:port` of the XMPP client door.
    pub xmpp_client: String,
    /// `host:port` of the trusted link of the first node.
    pub xmpp_trusted: String,
    /// `name=host:port` of the trusted link of each node.
    pub nodes: Vec<String>,
    /// `name=host:port` of the door for client streams of each node; empty where there is one node.
    pub client_nodes: Vec<String>,
    /// `host:port` of the AXL service.
    pub axl: String,
    /// Origin of every cloud service.
    pub cloud: String,
    /// Base address of the lab's control interface.
    pub control: String,
    /// Base address of the connector's status interface; `None` without a connector.
    pub status: Option<String>,
    /// The organization that all people but heidi belong to.
    pub org_id: String,
    /// The component name of the connector on the trusted link.
    pub trusted_name: String,
    /// The secret that goes with it.
    pub trusted_secret: String,
    /// The service account that may open client streams for others.
    pub service_jid: String,
    /// Its password.
    pub service_password: String,
    /// The OAuth client of the connector.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// The access token of the machine account that may exchange it for a user's.
    pub machine_token: String,
    /// The access token of an administrator, who may page through people.
    pub admin_token: String,
    /// The service bot.
    pub bot: Bot,
    /// The AXL account.
    pub axl_user: String,
    /// Its password.
    pub axl_password: String,
    /// A PEM file with the CA of the lab; `None` without TLS.
    pub ca: Option<PathBuf>,
    /// A PEM file with the roots of the key services' certificate chains, for clients that pin them.
    pub kms_ca: PathBuf,
    /// The process of the stand-ins.
    pub pid: u32,
    /// The process of the connector; `None` without one.
    pub connector_pid: Option<u32>,
    /// Where the connector of this lab keeps its store.
    pub store: PathBuf,
    /// A file of settings that the connector takes as it is.
    pub connector_config: PathBuf,
    /// The people.
    pub users: Vec<User>,
}

/// The service bot's account.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Bot {
    /// Its mail address.
    pub mail: String,
    /// Its id in the cloud.
    pub person_id: String,
    /// Its access token.
    pub access_token: String,
}

/// One person, as the driver of the lab needs to know it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct User {
    /// The short name, which every other interface of the lab uses.
    pub name: String,
    /// Whether the person was enabled for the connector at start.
    pub enabled: bool,
    /// The bare JID.
    pub jid: String,
    /// The password in Jabber.
    pub password: String,
    /// The mail address, the name of the person in Webex.
    pub mail: String,
    /// The organization in Webex.
    pub org_id: String,
    /// The id in the cloud.
    pub person_id: String,
    /// An access token of the person.
    pub access_token: String,
    /// The refresh token that goes with it.
    pub refresh_token: String,
}

impl Endpoints {
    /// Writes the document in one piece: to a temporary name in the same folder, then renamed.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let json = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        write_atomically(file, &json)
    }
}

/// Puts `bytes` at `file` so that nobody ever reads half of them.
pub(crate) fn write_atomically(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = file.file_name().ok_or_else(|| io::Error::other("the file has no name"))?.to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = file.with_file_name(name);
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, file)
}
