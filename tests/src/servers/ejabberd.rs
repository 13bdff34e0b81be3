//! ejabberd 23: stream management, a service that acts for users, and JSON Web Tokens. It runs without Erlang's
//! distribution, so that there is no further port, and several run side by side.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{ACCOUNTS, COMPONENT, DOMAINS, PASSWORD, SECRET, SERVICE, Server, TOKEN_KEY};

pub(super) fn run(server: &mut Server) {
    let folder = server.folder.clone();
    let spool = folder.join("spool");
    for made in [&spool, &folder.join("home")] {
        fs::create_dir_all(made).expect("the server's folder can be written");
    }
    let key = URL_SAFE_NO_PAD.encode(TOKEN_KEY);
    server.write("key.json", &format!(r#"{{"kty":"oct","k":"{key}"}}"#));
    server.write("ejabberd.yml", &config(server));
    // Accounts are made inside, once the application is up; the file says that they are there.
    let _ = fs::remove_file(folder.join("ready"));
    let accounts: Vec<String> = ACCOUNTS
        .map(|name| (name, PASSWORD))
        .into_iter()
        .chain([(SERVICE, SECRET)])
        .flat_map(|(name, password)| DOMAINS.map(|domain| (name, domain, password)))
        .map(|(name, domain, password)| {
            format!("ejabberd_auth:try_register(<<\"{name}\">>, <<\"{domain}\">>, <<\"{password}\">>)")
        })
        .collect();
    let setup =
        format!("{},\nfile:write_file(\"{}/ready\", \"ready\").\n", accounts.join(",\n"), folder.display());
    server.write("setup.erl.txt", &setup);
    let mut command = Command::new("erl");
    command
        .args(["+K", "true", "-noinput", "-mnesia", "dir"])
        .arg(format!("\"{}\"", spool.display()))
        .args(["-s", "ejabberd", "-eval"])
        .arg(format!("file:eval(\"{}/setup.erl.txt\")", folder.display()))
        .current_dir(&spool)
        .env("HOME", folder.join("home"))
        .env("ERL_LIBS", libraries())
        .env("EJABBERD_CONFIG_PATH", folder.join("ejabberd.yml"))
        .env("EJABBERD_LOG_PATH", folder.join("ejabberd.log"))
        .env("EJABBERD_PID_PATH", folder.join("pid"))
        .env("ERL_CRASH_DUMP", folder.join("crash.dump"));
    server.process("ejabberd", &mut command, "ready", "ready");
}

/// Where the application is: `/usr/lib/<architecture>`.
fn libraries() -> PathBuf {
    let architectures = fs::read_dir("/usr/lib").expect("a Debian system has /usr/lib");
    let has_ejabberd = |path: &PathBuf| {
        fs::read_dir(path).is_ok_and(|mut entries| {
            entries.any(|e| e.is_ok_and(|e| e.file_name().to_string_lossy().starts_with("ejabberd-")))
        })
    };
    let found = architectures.filter_map(|entry| Some(entry.ok()?.path())).find(has_ejabberd);
    found.expect("the package ejabberd has its application in /usr/lib")
}

fn config(server: &Server) -> String {
    let Server { folder, client_port, link_port, .. } = server;
    let folder = folder.display();
    let [one, two] = DOMAINS;
    format!(
        r#"hosts: ["{one}", "{two}"]
loglevel: info
auth_method: [mnesia, jwt]
auth_password_format: plain
jwt_key: "{folder}/key.json"
resource_conflict: closeold
new_sql_schema: true
default_db: mnesia
acme: {{auto: false}}
s2s_access: none
shaper_rules: {{max_user_sessions: 20, max_user_offline_messages: 5000}}
acl: {{local: {{user_regexp: ""}}}}
access_rules: {{c2s: {{allow: all}}, local: {{allow: local}}}}
listen:
  - {{ip: "127.0.0.1", port: {client_port}, module: ejabberd_c2s, max_stanza_size: 262144, backlog: 1024, starttls: false, access: c2s}}
  - {{ip: "127.0.0.1", port: {link_port}, module: ejabberd_service, access: all, hosts: {{"{COMPONENT}": {{password: "{SECRET}"}}}}}}
modules:
  mod_carboncopy: {{}}
  mod_disco: {{}}
  mod_offline: {{access_max_user_messages: max_user_offline_messages}}
  mod_ping: {{}}
  mod_roster: {{}}
  mod_stream_mgmt: {{resume_timeout: 300, resend_on_timeout: if_offline, max_ack_queue: 5000}}
"#
    )
}
