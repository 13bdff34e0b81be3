//! The lab and the connector as processes of their own.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::{get, post, wait_until};

/// A folder for one test, removed at the end unless the test fails.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new empty folder under the build's own.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let path = target().join("scratch").join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the build folder can be written");
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("logs and stores are kept in {}", self.0.display());
        } else {
            // What cannot be removed is in the build folder, and disturbs nobody.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// The `connector` program of this build, built if need be.
///
/// # Panics
/// It does not build.
pub fn connector_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build(&[]))
}

/// The `connector` that dies at named steps and breaks its promise when told to, built if need be.
///
/// # Panics
/// It does not build.
pub fn crashing_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // Both builds end at the same path, so the one that is kept is the first to be there.
        connector_binary();
        let built = build(&["--features", "crash-points"]);
        let kept = built.with_file_name("connector-crash-points");
        std::fs::copy(&built, &kept).expect("the build folder can be written");
        build(&[]);
        kept
    })
}

fn build(args: &[&str]) -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--package", "connector-bin"])
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.is_ok_and(|status| status.success()), "the connector does not build");
    target().join("debug/connector")
}

/// The build folder.
pub(crate) fn target() -> PathBuf {
    // A test binary lies in TARGET/debug/deps.
    let exe = std::env::current_exe().expect("a process knows its program");
    exe.ancestors().nth(3).expect("a test binary lies in the build folder").to_path_buf()
}

/// A running `connector lab`.
#[derive(Debug)]
pub struct Lab {
    child: Child,
    /// Its endpoints document.
    pub endpoints: Value,
    folder: PathBuf,
}

impl Lab {
    /// Starts a lab with these further arguments, and waits for its endpoints document.
    ///
    /// # Panics
    /// It does not start within a minute; its log is in `folder`.
    #[must_use]
    pub fn start(folder: &Path, args: &[&str]) -> Self {
        let file = folder.join("endpoints.json");
        let log = File::create(folder.join("lab.log")).expect("the test's folder can be written");
        // Labs run side by side. On the usual ports one would meet the connector of another that has just ended.
        let doors =
            ["--xmpp-client-port", "--xmpp-trusted-port", "--axl-port", "--cloud-port", "--control-port"];
        let mut child = Command::new(connector_binary())
            .arg("lab")
            .args(doors.iter().flat_map(|door| [*door, "0"]))
            .args(args)
            .arg("--endpoints")
            .arg(&file)
            .arg("--state")
            .arg(folder.join("state"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("the connector can be started");
        let up = wait_until(Duration::from_secs(60), || {
            file.exists() || child.try_wait().is_ok_and(|s| s.is_some())
        });
        assert!(up && file.exists(), "the lab does not start: see {}", folder.join("lab.log").display());
        let text = std::fs::read_to_string(&file).expect("the document is written in one piece");
        let endpoints = serde_json::from_str(&text).expect("the document is JSON");
        Self { child, endpoints, folder: folder.to_path_buf() }
    }

    /// A text member of the endpoints document.
    ///
    /// # Panics
    /// There is none by this name.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> &str {
        self.endpoints[name].as_str().unwrap_or_else(|| panic!("the endpoints document has no `{name}`"))
    }

    /// Calls the control interface with a POST.
    ///
    /// # Panics
    /// It refuses.
    pub fn control(&self, call: &str, body: &Value) -> Value {
        let url = format!("{}{call}", self.endpoint("control").trim_end_matches('/'));
        post(&url, body).unwrap_or_else(|e| panic!("{e} (asked: {body})"))
    }

    /// How often a fault has struck.
    ///
    /// # Panics
    /// The lab has no fault of this name.
    #[must_use]
    pub fn hits(&self, fault: &str) -> u64 {
        let url = format!("{}/faults", self.endpoint("control").trim_end_matches('/'));
        let faults: Value = serde_json::from_str(&get(&url).expect("the lab answers")).expect("in JSON");
        let listed = faults.as_array().expect("a list").iter().find(|listed| listed["name"] == fault);
        listed.and_then(|listed| listed["hits"].as_u64()).expect("the lab has every fault that is named here")
    }

    /// Makes a built-in person write; the id of what was written.
    ///
    /// # Panics
    /// The control interface refuses.
    pub fn say(&self, client: &str, to: &str, text: &str) -> String {
        let said = self.control("/say", &serde_json::json!({"client": client, "to": to, "text": text}));
        said["id"].as_str().expect("what was said has an id").to_owned()
    }

    /// What a client has seen so far, as its own socket brought it.
    ///
    /// # Panics
    /// The control interface refuses, or answers no JSON lines.
    #[must_use]
    pub fn seen(&self, client: &str) -> Vec<Value> {
        let url = format!("{}/seen?client={client}&after=0", self.endpoint("control").trim_end_matches('/'));
        let lines = get(&url).unwrap_or_else(|e| panic!("{e}"));
        lines.lines().map(|line| serde_json::from_str(line).expect("seen answers JSON lines")).collect()
    }

    /// The texts of the messages that a client has received from this person, in order.
    #[must_use]
    pub fn heard(&self, client: &str, from: &str) -> Vec<String> {
        let fits = |row: &&Value| row["kind"] == "message" && row["dir"] == "in" && row["peer"] == from;
        self.seen(client)
            .iter()
            .filter(fits)
            .filter_map(|row| row["text"].as_str().map(str::to_owned))
            .collect()
    }

    /// Waits until nothing is on its way; false if something still is after `limit`.
    #[must_use]
    pub fn wait_idle(&self, limit: Duration) -> bool {
        let url = format!("{}/idle", self.endpoint("control").trim_end_matches('/'));
        // Twice, since something may be between two places at the moment of the question.
        let mut quiet = 0;
        wait_until(limit, || {
            quiet = if get(&url).is_ok_and(|answer| answer.trim() == "true") { quiet + 1 } else { 0 };
            quiet >= 2
        })
    }

    /// Where the connector of this lab shows its status, as its settings say.
    ///
    /// # Panics
    /// The settings do not say so.
    #[must_use]
    pub fn connector_status(&self) -> String {
        let file = self.endpoint("connector_config");
        let settings = std::fs::read_to_string(file).expect("the lab writes the settings");
        let listen = settings
            .split_once("[status]")
            .and_then(|(_, rest)| rest.split_once("listen = \"")?.1.split_once('"'))
            .unwrap_or_else(|| panic!("{file} says no status address"));
        format!("http://{}", listen.0)
    }

    /// The folder with its log and state.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running `connector run`.
#[derive(Debug)]
pub struct Connector {
    child: Child,
}

impl Connector {
    /// Starts the connector of this lab; its log is appended to `connector.log` in the lab's folder.
    ///
    /// # Panics
    /// The program cannot be started.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        Self::start_as(connector_binary(), lab, &[])
    }

    /// The same with another build of the program, and with these variables in its environment.
    ///
    /// # Panics
    /// The program cannot be started.
    #[must_use]
    pub fn start_as(program: &Path, lab: &Lab, env: &[(&str, &str)]) -> Self {
        Self::spawn(program, lab, Path::new(lab.endpoint("connector_config")), &[], env)
    }

    /// The same with these further arguments of `run`.
    ///
    /// # Panics
    /// The program cannot be started.
    #[must_use]
    pub fn start_asked(lab: &Lab, args: &[&str]) -> Self {
        Self::spawn(connector_binary(), lab, Path::new(lab.endpoint("connector_config")), args, &[])
    }

    /// Another connector in the same lab, with settings of its own.
    ///
    /// # Panics
    /// The program cannot be started.
    #[must_use]
    pub fn start_with(lab: &Lab, settings: &Path) -> Self {
        Self::spawn(connector_binary(), lab, settings, &[], &[])
    }

    fn spawn(program: &Path, lab: &Lab, settings: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        let log = File::options().create(true).append(true).open(lab.folder().join("connector.log"));
        let log = log.expect("the test's folder can be written");
        let child = Command::new(program)
            .args(["run", "--config"])
            .arg(settings)
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("the connector can be started");
        Self { child }
    }

    /// Waits until its status page answers and nothing is on its way.
    ///
    /// # Panics
    /// It does not come up within a minute.
    pub fn wait_up(&self, lab: &Lab) {
        let limit = Duration::from_secs(60);
        let status = format!("{}/status", lab.connector_status());
        // The lab counts the connector in from the first answer of its status page on.
        let up = wait_until(limit, || get(&status).is_ok()) && lab.wait_idle(limit);
        let shown = if up { String::new() } else { get(&status).unwrap_or_else(|e| e) };
        assert!(up, "the connector does not come up: see {}; {shown}", lab.folder().display());
    }

    /// Kills it as the kernel would: SIGKILL, now.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop (SIGTERM), and waits; its exit status, or `None` if it has not ended in time.
    pub fn terminate(&mut self, limit: Duration) -> Option<i32> {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let mut code = None;
        wait_until(limit, || {
            code = self.child.try_wait().ok().flatten().map(|status| status.code().unwrap_or(-1));
            code.is_some()
        });
        code
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The signal that ended the process; `None` while it runs, or if it ended in another way.
    pub fn ended_by(&mut self) -> Option<i32> {
        self.child.try_wait().ok()??.signal()
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        self.kill();
    }
}
