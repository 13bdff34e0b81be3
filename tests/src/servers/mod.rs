//! XMPP servers of others, each a process of its own on loopback: free ports, a folder that the test gives, the
//! people of the lab as accounts.
//!
//! None of them is ours, so what the connector does with them cannot be right by our own mistake.

mod ejabberd;
mod jabberd2;
mod prosody;

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Lab, wait_until};

/// The domains that each server serves.
pub const DOMAINS: [&str; 2] = ["lab.example", "lab2.example"];
/// The accounts that it has on both.
pub const ACCOUNTS: [&str; 8] = ["alice", "bob", "carol", "dave", "erin", "frank", "gina", "heidi"];
/// Their password.
pub const PASSWORD: &str = "secret";
/// The account that acts for others where a server lets it; it is on both domains.
pub const SERVICE: &str = "connector-service";
/// The name of a trusted link, but for jabberd2.
pub const COMPONENT: &str = "connector.lab.example";
/// The name of a trusted link on jabberd2, whose router takes no name with a dot.
pub const ROUTER_USER: &str = "connector";
/// What authenticates the trusted link, and the service account.
pub const SECRET: &str = "componentsecret";
/// What signs tokens that ejabberd takes.
pub const TOKEN_KEY: &str = "a key of at least thirty-two bytes";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Prosody as it comes: a component link without session control.
    Prosody,
    /// Prosody with our module, `contrib/prosody`, and an archive.
    ProsodyWithModule,
    /// ejabberd, which lets a service act for users and takes tokens.
    Ejabberd,
    /// jabberd2: router, session manager, client door.
    Jabberd2,
}

/// A running server; it ends with this.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    processes: Vec<Child>,
    folder: PathBuf,
    /// The client door.
    pub client_port: u16,
    /// The door of components, or of the router.
    pub link_port: u16,
}

impl Server {
    /// Starts one in a folder of its own under `scratch`; `None` if it is not installed, which is said.
    ///
    /// # Panics
    /// It does not start. It is not installed, and `CI` is in the environment.
    #[must_use]
    pub fn start(kind: Kind, scratch: &Path) -> Option<Self> {
        let (program, package) = match kind {
            Kind::Prosody | Kind::ProsodyWithModule => ("/usr/bin/prosody", "prosody"),
            Kind::Ejabberd => ("/usr/sbin/ejabberdctl", "ejabberd"),
            Kind::Jabberd2 => ("/usr/sbin/jabberd2-router", "jabberd2"),
        };
        if !Path::new(program).exists() {
            let advice = format!("{program} is missing: apt-get install {package}");
            assert!(std::env::var_os("CI").is_none(), "{advice}");
            println!("NOT RUN: {advice}");
            return None;
        }
        let folder = scratch.join(package);
        fs::create_dir_all(&folder).expect("the test's folder can be written");
        let [client_port, link_port] = free_ports();
        let mut server = Self { kind, processes: Vec::new(), folder, client_port, link_port };
        server.run();
        Some(server)
    }

    /// Starts its processes again after [`Server::stop`], on the same ports and with the same data.
    ///
    /// # Panics
    /// It does not start.
    pub fn run(&mut self) {
        match self.kind {
            Kind::Prosody => prosody::run(self, false),
            Kind::ProsodyWithModule => prosody::run(self, true),
            Kind::Ejabberd => ejabberd::run(self),
            Kind::Jabberd2 => jabberd2::run(self),
        }
        for port in [self.client_port, self.link_port] {
            let up = wait_until(Duration::from_secs(60), || TcpStream::connect(("127.0.0.1", port)).is_ok());
            assert!(up, "{:?} does not listen on {port}: see {}", self.kind, self.folder.display());
        }
    }

    /// Kills its processes, the last one first.
    pub fn stop(&mut self) {
        for mut process in self.processes.drain(..).rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Its name on the trusted link.
    #[must_use]
    pub fn link_name(&self) -> &'static str {
        if self.kind == Kind::Jabberd2 { ROUTER_USER } else { COMPONENT }
    }

    /// Makes the connector of this lab hold its sessions here, by link `a`, `b` or `c`. The lab was started with the
    /// same link.
    ///
    /// # Panics
    /// The lab's settings are not as they were when this was written.
    pub fn serve(&self, lab: &Lab, link: &str) {
        let file = PathBuf::from(lab.endpoint("connector_config"));
        let settings = fs::read_to_string(&file).expect("the lab writes the settings");
        let (port, secret) = match link {
            "a" => (self.link_port, SECRET),
            "b" => (self.client_port, SECRET),
            _ => (self.client_port, TOKEN_KEY),
        };
        let mut changed = String::new();
        for line in settings.lines() {
            let line = match line.split_once(" = ").map_or(line, |(key, _)| key) {
                "nodes" => format!("nodes = [\"127.0.0.1:{port}\"]"),
                "component" => format!("component = \"{}\"", self.link_name()),
                "service_jid" => format!("service_jid = \"{SERVICE}\""),
                "login_url" => "tokens = \"signed\"".to_owned(),
                "link" if self.kind == Kind::Jabberd2 => format!("{line}\nprotocol = \"jabberd2\""),
                _ => line.to_owned(),
            };
            changed.push_str(&line);
            changed.push('\n');
        }
        changed.push_str("\n[log]\nlevel = \"info,edges::jabber=debug\"\n");
        assert!(changed.contains(&format!("link = \"{link}\"")), "the lab has another link");
        fs::write(&file, changed).expect("the test's folder can be written");
        let secrets = file.with_file_name("imp.secret");
        fs::write(secrets, secret).expect("the test's folder can be written");
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.join(file), text).expect("the server's folder can be written");
    }

    /// Starts a process whose output goes to `NAME.out`, and waits until `log` has `ready` in it.
    fn process(&mut self, name: &str, command: &mut Command, log: &str, ready: &str) {
        let output =
            File::create(self.folder.join(format!("{name}.out"))).expect("the folder can be written");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can be shared"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} cannot be started: {e}"));
        let log = self.folder.join(log);
        let up = wait_until(Duration::from_secs(180), || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains(ready))
                || child.try_wait().is_ok_and(|status| status.is_some())
        });
        let ended = child.try_wait().is_ok_and(|status| status.is_some());
        self.processes.push(child);
        assert!(up && !ended, "{name} does not start: see {}", self.folder.display());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Ports that were free a moment ago.
fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"));
    listeners.map(|listener| listener.local_addr().expect("it has an address").port())
}
