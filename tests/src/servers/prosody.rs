//! Prosody 0.12, stock or with our module.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use super::{ACCOUNTS, COMPONENT, DOMAINS, PASSWORD, SECRET, SERVICE, Server};

pub(super) fn run(server: &mut Server, with_module: bool) {
    for domain in DOMAINS {
        let accounts = server.folder.join("data").join(domain.replace('.', "%2e")).join("accounts");
        fs::create_dir_all(&accounts).expect("the server's folder can be written");
        let passwords = ACCOUNTS.map(|name| (name, PASSWORD)).into_iter().chain([(SERVICE, SECRET)]);
        for (name, password) in passwords {
            // A file name as Prosody writes it.
            let file = accounts.join(format!("{}.dat", name.replace('-', "%2d")));
            fs::write(file, format!("return {{ password = '{password}' }};\n"))
                .expect("the server's folder can be written");
        }
    }
    server.write("prosody.cfg.lua", &config(server, with_module));
    let mut command = Command::new("prosody");
    command.arg("--config").arg(server.folder.join("prosody.cfg.lua")).arg("-F");
    let _ = fs::remove_file(server.folder.join("log"));
    server.process("prosody", &mut command, "log", "Activated service 'component'");
}

fn config(server: &Server, with_module: bool) -> String {
    let Server { folder, client_port, link_port, .. } = server;
    let folder = folder.display();
    // Prosody does not run as root unless told so; other users need no word about it.
    let root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let module = if with_module {
        format!(
            "modules_enabled = {{ \"session_control\" }}; session_control_components = {{ \"{COMPONENT}\" }}"
        )
    } else {
        String::new()
    };
    let archive = if with_module { ", \"mam\"" } else { "" };
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/prosody");
    let modules = modules.display();
    let [one, two] = DOMAINS;
    format!(
        r#"run_as_root = {root}
data_path = "{folder}/data"
pidfile = "{folder}/pid"
plugin_paths = {{ "{modules}" }}
interfaces = {{ "127.0.0.1" }}
component_interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {client_port} }}
component_ports = {{ {link_port} }}
s2s_ports = {{}}
http_ports = {{}}
https_ports = {{}}
modules_enabled = {{ "disco", "roster", "saslauth", "carbons", "smacks", "ping", "offline"{archive} }}
default_archive_policy = true
archive_expires_after = "1d"
modules_disabled = {{ "s2s", "tls" }}
authentication = "internal_plain"
storage = "internal"
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
limits = {{}}
network_settings = {{ tcp_backlog = 1024 }}
log = {{ {{ levels = {{ min = "info" }}; to = "file"; filename = "{folder}/log" }} }}

VirtualHost "{one}"
  {module}
VirtualHost "{two}"
  {module}
Component "{COMPONENT}"
  component_secret = "{SECRET}"
"#
    )
}
