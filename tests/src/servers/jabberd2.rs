//! jabberd2 2.7: a router, a session manager that makes up the users that it is asked for, a client door.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use super::{ACCOUNTS, DOMAINS, PASSWORD, ROUTER_USER, SECRET, Server};

pub(super) fn run(server: &mut Server) {
    fs::create_dir_all(server.folder.join("data")).expect("the server's folder can be written");
    let user =
        |name: &str, secret: &str| format!("<user><name>{name}</name><secret>{secret}</secret></user>");
    let users = format!("<users>{}{}</users>\n", user("jabberd", "internal"), user(ROUTER_USER, SECRET));
    server.write("users.xml", &users);
    server.write("passwords.sh", &passwords());
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(server.folder.join("passwords.sh"), executable).expect("the file is ours");
    let modules = modules();
    server.write("router.xml", &router(server));
    server.write("sm.xml", &session_manager(server, &modules));
    server.write("c2s.xml", &client_door(server, &modules));
    for (part, ready) in [
        ("router", "listening for incoming connections"),
        ("sm", "sm ready for sessions"),
        ("c2s", "listening for connections"),
    ] {
        let _ = fs::remove_file(server.folder.join(format!("{part}.log")));
        let mut command = Command::new(format!("/usr/sbin/jabberd2-{part}"));
        command.arg("-c").arg(server.folder.join(format!("{part}.xml")));
        server.process(part, &mut command, &format!("{part}.log"), ready);
    }
}

/// Where the modules are: `/usr/lib/<architecture>/jabberd2`.
fn modules() -> String {
    let architectures = fs::read_dir("/usr/lib").expect("a Debian system has /usr/lib");
    let found: Option<PathBuf> = architectures
        .filter_map(|entry| Some(entry.ok()?.path().join("jabberd2")))
        .find(|path| path.join("storage_fs.so").exists());
    found.expect("the package jabberd2 has its modules in /usr/lib").display().to_string()
}

/// Answers the client door's questions about passwords, one a line.
fn passwords() -> String {
    let names = ACCOUNTS.join("|");
    format!(
        r#"#!/bin/sh
echo "OK USER-EXISTS CHECK-PASSWORD FREE"
while read -r question user secret realm; do
  known=
  case $user in {names}) known=1;; esac
  case $question in
    USER-EXISTS) [ -n "$known" ] && echo OK || echo NO;;
    CHECK-PASSWORD) [ -n "$known" ] && [ "$(printf %s "$secret" | base64 -d)" = "{PASSWORD}" ] && echo OK || echo NO;;
    FREE) exit 0;;
    *) echo NO;;
  esac
done
"#
    )
}

fn own_files(server: &Server, part: &str) -> String {
    let folder = server.folder.display();
    format!("<pidfile>{folder}/{part}.pid</pidfile><log type='file'><file>{folder}/{part}.log</file></log>")
}

fn to_router(server: &Server) -> String {
    format!(
        "<router><ip>127.0.0.1</ip><port>{}</port><user>jabberd</user><pass>internal</pass></router>",
        server.link_port
    )
}

fn router(server: &Server) -> String {
    format!(
        "<router><id>router</id>{}\
         <local><ip>127.0.0.1</ip><port>{}</port><users>{}/users.xml</users><secret>{SECRET}</secret></local>\
         <io><max_fds>1024</max_fds></io>\
         <aci><acl type='all'><user>jabberd</user></acl><acl type='bind'><user>{ROUTER_USER}</user></acl></aci>\
         </router>\n",
        own_files(server, "router"),
        server.link_port,
        server.folder.display()
    )
}

fn session_manager(server: &Server, modules: &str) -> String {
    let chain = |id: &str, names: &[&str]| {
        let names: String = names.iter().map(|name| format!("<module>{name}</module>")).collect();
        format!("<chain id='{id}'>{names}</chain>")
    };
    let chains = [
        chain("in-sess", &["validate", "roster", "iq-ping", "disco", "offline", "presence", "deliver"]),
        chain("in-router", &["session", "validate", "presence"]),
        chain("pkt-sm", &["iq-ping", "disco", "presence"]),
        chain("pkt-user", &["roster", "presence", "disco", "deliver", "offline"]),
        chain("pkt-router", &["session", "disco"]),
        chain("user-load", &["active", "roster"]),
        chain("user-create", &["active"]),
        chain("user-delete", &["active"]),
        chain("disco-extend", &["iq-ping"]),
    ]
    .concat();
    let ids: String = DOMAINS.map(|domain| format!("<id>{domain}</id>")).concat();
    format!(
        "<sm><id>sm</id>{}{}<local>{ids}</local>\
         <storage><path>{modules}</path><driver>fs</driver><fs><path>{}/data</path></fs></storage><aci/>\
         <modules><path>{modules}</path>{chains}</modules><user><auto-create/></user></sm>\n",
        own_files(server, "sm"),
        to_router(server),
        server.folder.display()
    )
}

fn client_door(server: &Server, modules: &str) -> String {
    let ids: String = DOMAINS.map(|domain| format!("<id>{domain}</id>")).concat();
    let folder = server.folder.display();
    format!(
        "<c2s><id>c2s</id>{}{}<local>{ids}<ip>127.0.0.1</ip><port>{}</port></local>\
         <io><max_fds>1024</max_fds><limits><bytes>0</bytes><stanzas>0</stanzas><connects>0</connects>\
         <stanzasize>262144</stanzasize></limits><access><order>allow,deny</order></access></io>\
         <stats/><pbx/><stream_redirect/>\
         <authreg><path>{modules}</path><module>pipe</module>\
         <mechanisms><traditional><plain/></traditional><sasl><plain/></sasl></mechanisms>\
         <pipe><exec>{folder}/passwords.sh</exec></pipe></authreg></c2s>\n",
        own_files(server, "c2s"),
        to_router(server),
        server.client_port
    )
}
