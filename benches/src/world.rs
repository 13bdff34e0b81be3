//! The stand-ins in this process, and the connector in one of its own.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::Lab;
use lab::options::Options;
use lab::people::{Act, People, What};
use lab::seen::{App, Client, Direction, Kind, Line};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::calibration::TEXT;
use crate::process::Process;
use crate::{Failure, failed};

/// How long anything that is waited for may take before a bench gives up.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a connector that says so has to be idle to be believed.
const QUIET: Duration = Duration::from_secs(2);

/// A lab that runs, and the connector against it.
pub(crate) struct World {
    pub(crate) lab: Lab,
    connector: Child,
    status: String,
    folder: PathBuf,
    /// The folder tells of a fault.
    keep: bool,
}

/// A way that messages take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    ToWebex,
    ToJabber,
}

impl Way {
    /// In which client it is written, and in which it is to be seen.
    pub(crate) fn apps(self) -> (App, App) {
        match self {
            Self::ToWebex => (App::Jabber, App::Webex),
            Self::ToJabber => (App::Webex, App::Jabber),
        }
    }

    /// What its messages begin with.
    fn mark(self) -> char {
        match self {
            Self::ToWebex => 'w',
            Self::ToJabber => 'j',
        }
    }
}

impl World {
    /// Stand-ins with kind habits and these many added users, on a disk of their own folder. `settings` are further
    /// ones of the connector, as TOML.
    ///
    /// # Errors
    /// Something does not start.
    pub(crate) async fn start(options: Options, settings: &str) -> Result<Self, Failure> {
        Self::start_with(options, settings, |_| {}).await
    }

    /// The same, with people changed before the connector sees them.
    ///
    /// # Errors
    /// Something does not start.
    pub(crate) async fn start_with(
        options: Options,
        settings: &str,
        change: impl FnOnce(&People),
    ) -> Result<Self, Failure> {
        let folder = scratch();
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let options = Options { stand_ins: true, kind: true, state: Some(folder.join("state")), ..options };
        let lab = Lab::start(options).await?;
        change(&lab.ctx().people);
        let file = &lab.endpoints().connector_config;
        let mut text = fs::read_to_string(file)?;
        // Everybody is read once; reading everybody each second is for the lab's scenes.
        text = text.replace("refresh = \"1s\"", "refresh = \"1h\"");
        let _ = write!(text, "\n{settings}\n");
        fs::write(file, &text)?;
        let status = text.split_once("listen = \"").and_then(|(_, rest)| rest.split_once('"'));
        let status = status.ok_or("the settings name no status address")?.0.to_owned();
        let connector = start_connector(file, &folder)?;
        let keep = std::env::var_os("BENCH_KEEP").is_some();
        Ok(Self { lab, connector, status, folder, keep })
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.connector.id())
    }

    /// The folder of the store, on the disk that commits go to.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until so many people are enabled and caught up, and have their sessions.
    ///
    /// # Errors
    /// It takes more than ten minutes, or the connector has ended.
    pub(crate) async fn ready(&mut self, people: u64, sessions: u64) -> Result<Duration, Failure> {
        let started = Instant::now();
        loop {
            let status = self.status().await;
            let at =
                |name: &str| status.as_ref().map_or(0, |status| status["router"][name].as_u64().unwrap_or(0));
            if at("enabled") >= people && at("sessions") >= sessions && at("catching_up") == 0 {
                return Ok(started.elapsed());
            }
            self.wait_a_little(started).await?;
        }
    }

    /// Waits until nothing is on its way: for the lab as well, or for the connector for two seconds on end, since the
    /// lab counts what the connector has dropped, listed and not acknowledged.
    ///
    /// # Errors
    /// As of [`World::ready`].
    pub(crate) async fn idle(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let mut busy = started;
        while !self.lab.is_idle().await && busy.elapsed() < QUIET {
            let head = format!("GET /idle HTTP/1.1\r\nhost: {}\r\n", self.status);
            if !ask(&self.status, &head, "").await.is_ok_and(|answer| answer.trim() == "true") {
                busy = Instant::now();
            }
            self.wait_a_little(started).await?;
        }
        Ok(())
    }

    pub(crate) async fn wait_a_little(&mut self, since: Instant) -> Result<(), Failure> {
        if let Some(status) = self.connector.try_wait()? {
            return failed(format!("the connector has ended ({status}): see {}", self.folder.display()));
        }
        if since.elapsed() > PATIENCE {
            return failed(format!("waited in vain: see {}", self.folder.display()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    }

    /// The status page; `None` while it does not answer.
    pub(crate) async fn status(&self) -> Option<Value> {
        let answer =
            ask(&self.status, &format!("GET /status HTTP/1.1\r\nhost: {}\r\n", self.status), "").await;
        serde_json::from_str(&answer.ok()?).ok()
    }

    /// What the router counts under this name; 0 while the status page does not answer.
    pub(crate) async fn count(&self, name: &str) -> u64 {
        self.status().await.unwrap_or_default()["router"][name].as_u64().unwrap_or(0)
    }

    /// A call of the lab's control interface.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn control(&self, path: &str, body: &Value) -> Result<(), Failure> {
        let address = self.lab.endpoints().control.trim_start_matches("http://");
        let head = format!("POST /{path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n");
        let answer = ask(address, &head, &body.to_string()).await?;
        if answer.contains("\"error\"") { failed(answer) } else { Ok(()) }
    }

    /// Transactions of the store so far, and those among them that only a timer asked for.
    ///
    /// # Errors
    /// The status page does not say.
    pub(crate) async fn commits(&self) -> Result<(u64, u64), Failure> {
        let status = self.status().await.ok_or("no status page")?;
        let commits = status["store"]["commits"].as_u64().ok_or("the status page counts no commits")?;
        Ok((commits, status["router"]["events"]["timed commits"].as_u64().unwrap_or(0)))
    }

    /// Both clients of each of these users sign in.
    ///
    /// # Errors
    /// One cannot.
    pub(crate) async fn sign_in(&self, users: impl IntoIterator<Item = u32>) -> Result<(), Failure> {
        for user in users {
            for app in [App::Jabber, App::Webex] {
                let puppet = self.lab.ctx().puppets.get(&Client::new(name(user), app))?;
                puppet.act(&Act::new(What::Online)).await?;
            }
        }
        Ok(())
    }

    /// One message; the time until it is seen, to the nearest half of a millisecond.
    ///
    /// # Errors
    /// It cannot be written, or does not arrive.
    pub(crate) async fn one(&mut self, way: Way, (writer, reader): (u32, u32)) -> Result<Duration, Failure> {
        let (from, to) = way.apps();
        let (puppet, shown) =
            (self.lab.ctx().puppets.get(&Client::new(name(writer), from))?, Client::new(name(reader), to));
        let before = self.lab.ctx().seen.after(&shown, 0).last().map_or(0, |line| line.n);
        let began = Instant::now();
        let said = text(way, 0);
        puppet.say(&name(reader), &said).await?;
        let writer = name(writer);
        loop {
            let new = self.lab.ctx().seen.after(&shown, before);
            if new.iter().any(|line| line.dir == Direction::In && line.peer == writer && line.text == said) {
                return Ok(began.elapsed());
            }
            if began.elapsed() > PATIENCE {
                return failed("a message did not arrive");
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }

    /// Each of these pairs' first writes to its second, `each` messages one after the other; all pairs at once. Ends when
    /// all was seen in the client on the other side.
    ///
    /// # Errors
    /// A message cannot be written, is lost or is doubled.
    pub(crate) async fn carry(&mut self, way: Way, pairs: &[(u32, u32)], each: usize) -> Result<(), Failure> {
        self.write(way, pairs, each).await?.arrive(self).await
    }

    /// The first half of [`World::carry`]: everything is written.
    ///
    /// # Errors
    /// A message cannot be written.
    pub(crate) async fn write(
        &self,
        way: Way,
        pairs: &[(u32, u32)],
        each: usize,
    ) -> Result<Written, Failure> {
        let (from, to) = way.apps();
        let seen = &self.lab.ctx().seen;
        let mut written = Written { way, due: Vec::new() };
        let mut writers = Vec::new();
        for (writer, reader) in pairs {
            let puppet = self.lab.ctx().puppets.get(&Client::new(name(*writer), from))?;
            let shown = Client::new(name(*reader), to);
            let before = seen.after(&shown, 0).last().map_or(0, |line| line.n);
            written.due.push((shown, name(*writer), before, each));
            let reader = name(*reader);
            writers.push(tokio::spawn(async move {
                for n in 0..each {
                    puppet.say(&reader, &text(way, n)).await.map_err(|error| error.to_string())?;
                }
                Ok::<_, String>(())
            }));
        }
        for writer in writers {
            writer.await??;
        }
        Ok(written)
    }

    /// The connector dies where it stands, and is started again.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        self.connector.kill()?;
        self.connector.wait()?;
        self.connector = start_connector(&self.lab.endpoints().connector_config, &self.folder)?;
        Ok(())
    }

    /// Sends the connector a signal.
    ///
    /// # Errors
    /// There is no `kill`.
    pub(crate) fn signal(&mut self, signal: &str) -> Result<(), Failure> {
        let pid = self.connector.id().to_string();
        Command::new("kill").args([signal, &pid]).status()?;
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.connector.kill();
        let _ = self.connector.wait();
        if !std::thread::panicking() && !self.keep {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Messages that were written.
pub(crate) struct Written {
    way: Way,
    /// In which client each pair's are due, from whom, after which line, and how many.
    due: Vec<(Client, String, u64, usize)>,
}

impl Written {
    /// The other half of [`World::carry`]: everything arrives, once and in order.
    ///
    /// # Errors
    /// Something is lost, doubled or out of order.
    pub(crate) async fn arrive(self, world: &mut World) -> Result<(), Failure> {
        let started = Instant::now();
        let seen = Arc::clone(world.lab.ctx());
        for (client, from, after, due) in self.due {
            let (mut after, mut count) = (after, 0);
            while count < due {
                for line in seen.seen.after(&client, after) {
                    after = line.n;
                    // What the writer wrote in the client of this side is seen in it too, at any time.
                    let ours = line.kind == Kind::Message
                        && line.dir == Direction::In
                        && line.peer == from
                        && line.text.starts_with(self.way.mark());
                    if ours {
                        if line.text != text(self.way, count) {
                            world.keep = true;
                            let came = line.text.get(..10).unwrap_or(&line.text);
                            let folder = world.folder.display();
                            // Whatever is only late shows itself.
                            tokio::time::sleep(Duration::from_secs(5)).await;
                            let around = around(&seen.seen.after(&client, 0), line.n);
                            return failed(format!(
                                "{client}: {came} in place of message {count}: see {folder}; around it:{around}"
                            ));
                        }
                        count += 1;
                    }
                }
                if count < due {
                    world.wait_a_little(started).await?;
                }
            }
        }
        Ok(())
    }
}

/// What a client showed just before this line and after it.
fn around(lines: &[Line], n: u64) -> String {
    let at = lines.partition_point(|line| line.n < n);
    let near = &lines[at.saturating_sub(4)..(at + 12).min(lines.len())];
    let word = |line: &Line| {
        let text = line.text.get(..40).unwrap_or(&line.text);
        format!("\n  {} {:?} {:?} {} `{text}` {}", line.n, line.dir, line.kind, line.peer, line.id)
    };
    near.iter().map(word).collect()
}

/// The `n`th message of a pair on this way: 200 bytes.
pub(crate) fn text(way: Way, n: usize) -> String {
    let number = format!("{}{n:08} ", way.mark());
    format!("{number}{}", &TEXT[number.len()..])
}

/// The name of an added user.
pub(crate) fn name(user: u32) -> String {
    format!("u{user:05}")
}

/// Pairs of the users from 1 on, none of them twice.
pub(crate) fn pairs(count: u32) -> Vec<(u32, u32)> {
    (0..count).map(|n| (2 * n + 1, 2 * n + 2)).collect()
}

/// A folder in the build's own, for this process.
pub(crate) fn scratch() -> PathBuf {
    build_folder().join("scratch").join(format!("benches-{}", std::process::id()))
}

/// `target/release` or `target/debug`, where this program lies.
fn build_folder() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    exe.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Builds the connector in the profile of this program; with `BENCH_BUILT` the one that lies beside it is taken as it is.
///
/// # Errors
/// It does not build.
pub(crate) fn build_connector() -> Result<(), Failure> {
    if std::env::var_os("BENCH_BUILT").is_some() {
        return Ok(());
    }
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--package", "connector-bin"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status()?;
    if built.success() { Ok(()) } else { failed("the connector does not build") }
}

async fn ask(address: &str, head: &str, body: &str) -> Result<String, Failure> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("{head}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?.1.to_owned())
}

fn start_connector(config: &Path, folder: &Path) -> Result<Child, Failure> {
    let log = File::options().create(true).append(true).open(folder.join("connector.log"))?;
    let child = Command::new(build_folder().join("connector"))
        .args(["run", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(child)
}
