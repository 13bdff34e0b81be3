//! Starts a jabberd2 router and session manager of their own: loopback, a free port, a directory that goes away.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use xmpp_core::tokio::BoxIo;

/// A running router (user `connector`, secret `componentsecret`) with a session manager for `lab.example`,
/// which makes up the users that it is asked for.
pub(crate) struct Jabberd2 {
    children: Vec<Child>,
    directory: PathBuf,
    port: u16,
}

impl Jabberd2 {
    /// Starts one, or says why there is none: `None` means that the test is not run.
    ///
    /// With `CI` in the environment a missing server is a failure.
    pub(crate) async fn start(name: &str) -> Option<Self> {
        let Some(modules) = modules() else {
            let advice = "jabberd2 is not installed: `apt-get install jabberd2` (2.7)";
            assert!(std::env::var_os("CI").is_none(), "{advice}");
            println!("NOT RUN: {name}. {advice}.");
            return None;
        };
        let directory = std::env::temp_dir().join(format!("xmpp-core-{}-{name}", std::process::id()));
        fs::create_dir_all(directory.join("data")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let write = |file: &str, text: String| fs::write(directory.join(file), text).unwrap();
        write("users.xml", users());
        write("router.xml", router(&directory, port));
        write("sm.xml", session_manager(&directory, &modules, port));
        let mut server = Self { children: Vec::new(), directory, port };
        server.run("router", "listening for incoming connections").await;
        server.run("sm", "sm ready for sessions").await;
        Some(server)
    }

    async fn run(&mut self, part: &str, ready: &str) {
        let output = fs::File::create(self.directory.join(format!("{part}.out"))).unwrap();
        let child = Command::new(format!("/usr/sbin/jabberd2-{part}"))
            .arg("-c")
            .arg(self.directory.join(format!("{part}.xml")))
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn();
        self.children.push(child.unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        let read =
            |end: &str| fs::read_to_string(self.directory.join(format!("{part}.{end}"))).unwrap_or_default();
        while !read("log").contains(ready) {
            assert!(
                Instant::now() < deadline,
                "jabberd2-{part} is not ready: {} {}",
                read("out"),
                read("log")
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn connect(&self) -> BoxIo {
        Box::new(TcpStream::connect(("127.0.0.1", self.port)).await.unwrap())
    }
}

impl Drop for Jabberd2 {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Where the modules are: `/usr/lib/<architecture>/jabberd2`.
fn modules() -> Option<PathBuf> {
    let architectures = fs::read_dir("/usr/lib").ok()?;
    architectures
        .filter_map(|entry| Some(entry.ok()?.path().join("jabberd2")))
        .find(|path| path.join("storage_fs.so").exists())
}

fn users() -> String {
    let user =
        |name: &str, secret: &str| format!("<user><name>{name}</name><secret>{secret}</secret></user>");
    format!("<users>{}{}</users>\n", user("jabberd", "internal"), user("connector", "componentsecret"))
}

fn router(directory: &Path, port: u16) -> String {
    let directory = directory.display();
    format!(
        "<router><id>router</id><pidfile>{directory}/router.pid</pidfile>\
         <log type='file'><file>{directory}/router.log</file></log>\
         <local><ip>127.0.0.1</ip><port>{port}</port><users>{directory}/users.xml</users></local>\
         <io><max_fds>256</max_fds></io>\
         <aci><acl type='all'><user>jabberd</user></acl><acl type='bind'><user>connector</user></acl></aci>\
         </router>\n"
    )
}

fn session_manager(directory: &Path, modules: &Path, port: u16) -> String {
    let (directory, modules) = (directory.display(), modules.display());
    let chain = |id: &str, names: &[&str]| {
        let names: String = names.iter().map(|name| format!("<module>{name}</module>")).collect();
        format!("<chain id='{id}'>{names}</chain>")
    };
    let chains = [
        chain("in-sess", &["validate", "roster", "iq-ping", "presence", "deliver"]),
        chain("in-router", &["session", "validate", "presence"]),
        chain("pkt-sm", &["iq-ping", "presence"]),
        chain("pkt-user", &["roster", "presence", "deliver"]),
        chain("pkt-router", &["session"]),
        chain("user-load", &["active", "roster"]),
        chain("user-create", &["active"]),
    ]
    .concat();
    format!(
        "<sm><id>sm</id><pidfile>{directory}/sm.pid</pidfile>\
         <router><ip>127.0.0.1</ip><port>{port}</port><user>jabberd</user><pass>internal</pass></router>\
         <log type='file'><file>{directory}/sm.log</file></log><local><id>lab.example</id></local>\
         <storage><path>{modules}</path><driver>fs</driver><fs><path>{directory}/data</path></fs></storage>\
         <modules><path>{modules}</path>{chains}</modules><user><auto-create/></user></sm>\n"
    )
}
