//! Starts a Prosody of its own for each test: loopback, free ports, a directory that goes away with it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use xmpp_core::tokio::BoxIo;

/// A running server with the accounts alice and bob (password `secret`) on two domains. `lab2.example` does
/// not offer SCRAM-SHA-256.
pub(crate) struct Prosody {
    child: Child,
    directory: PathBuf,
    client_port: u16,
    component_port: u16,
    certificate: CertificateDer<'static>,
}

impl Prosody {
    /// Starts one, or says why there is none: `None` means that the test is not run.
    ///
    /// With `CI` in the environment a missing server is a failure.
    pub(crate) async fn start(name: &str) -> Option<Self> {
        let directory = std::env::temp_dir().join(format!("xmpp-core-{}-{name}", std::process::id()));
        std::fs::create_dir_all(directory.join("data")).unwrap();
        let [client_port, component_port] = free_ports();
        let certificate = certify(&directory);
        std::fs::write(directory.join("prosody.cfg.lua"), config(&directory, client_port, component_port))
            .unwrap();
        for host in ["lab%2eexample", "lab2%2eexample"] {
            let accounts = directory.join("data").join(host).join("accounts");
            std::fs::create_dir_all(&accounts).unwrap();
            for user in ["alice", "bob"] {
                std::fs::write(accounts.join(format!("{user}.dat")), "return { password = 'secret' };\n")
                    .unwrap();
            }
        }
        let output = std::fs::File::create(directory.join("output")).unwrap();
        let child = Command::new("prosody")
            .arg("--config")
            .arg(directory.join("prosody.cfg.lua"))
            .arg("-F")
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn();
        let Ok(child) = child else {
            let _ = std::fs::remove_dir_all(&directory);
            let advice = "Prosody is not installed: `apt-get install prosody` (0.12 or later)";
            assert!(std::env::var_os("CI").is_none(), "{advice}");
            println!("NOT RUN: {name}. {advice}.");
            return None;
        };
        let server = Self { child, directory, client_port, component_port, certificate };
        for port in [client_port, component_port] {
            server.wait_for(port).await;
        }
        Some(server)
    }

    async fn wait_for(&self, port: u16) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let output = || std::fs::read_to_string(self.directory.join("output")).unwrap_or_default();
            assert!(Instant::now() < deadline, "Prosody does not listen on {port}: {}", output());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn client(&self) -> BoxIo {
        Box::new(TcpStream::connect(("127.0.0.1", self.client_port)).await.unwrap())
    }

    pub(crate) async fn component(&self) -> BoxIo {
        Box::new(TcpStream::connect(("127.0.0.1", self.component_port)).await.unwrap())
    }

    /// Trusts the server's own certificate and nothing else.
    pub(crate) fn trust(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    }
}

impl Drop for Prosody {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Ports that were free a moment ago.
fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn certify(directory: &Path) -> CertificateDer<'static> {
    let names = vec!["lab.example".to_owned(), "lab2.example".to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(directory.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(directory.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

fn config(directory: &Path, client_port: u16, component_port: u16) -> String {
    let directory = directory.display();
    // Prosody does not run as root unless told so; other users need no word about it.
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt as _;
        own.uid() == 0
    });
    format!(
        r#"run_as_root = {root}
data_path = "{directory}/data"
pidfile = "{directory}/pid"
interfaces = {{ "127.0.0.1" }}
component_interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {client_port} }}
component_ports = {{ {component_port} }}
s2s_ports = {{}}
http_ports = {{}}
https_ports = {{}}
modules_enabled = {{ "disco", "roster", "saslauth", "tls", "carbons", "smacks", "ping" }}
modules_disabled = {{ "s2s" }}
ssl = {{ key = "{directory}/key.pem"; certificate = "{directory}/cert.pem" }}
authentication = "internal_plain"
storage = "internal"
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
limits = {{}}
log = {{ {{ levels = {{ min = "info" }}; to = "file"; filename = "{directory}/log" }} }}

VirtualHost "lab.example"
VirtualHost "lab2.example"
  disable_sasl_mechanisms = {{ "SCRAM-SHA-256"; "SCRAM-SHA-256-PLUS" }}
Component "connector.lab.example"
  component_secret = "componentsecret"
"#
    )
}
