//! What a message, a socket and a session cost. README.md says what each figure means and what was reached.

mod axl;
mod calibration;
mod end_to_end;
mod latency;
mod many;
mod memory;
mod parts;
mod process;
mod small;
mod world;

use std::process::ExitCode;

use lab::options::Options;

/// Why a bench has no figure.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn failed<T>(why: impl Into<String>) -> Result<T, Failure> {
    Err(why.into().into())
}

/// The connector's limits, out of the way.
pub(crate) const LIMITS: &str = "[limits]\nmessages_per_minute = 100000\nsessions_per_second = 1000\n";

const USAGE: &str = "\
usage: cargo run --release -p benches -- COMMAND [--smoke]

  end-to-end   time and commits of 1,000 messages each way
  parts        the same work by its libraries alone, split
  latency      how much later a message is seen, at 50 a second
  memory       what an idle user weighs
  leak         what messages leave behind
  sockets      15,000 Mercury sockets on TLS: up, cut, back
  sessions     15,000 sessions on the trusted link, 5,000 client streams
  axl          195,000 users read from a publisher
  jwe          a text sealed and opened, against the cipher alone
  framing      a stanza read and written
  router       a message through the router, for 1,000 and for 15,000 people
  outbox       commits alone and grouped
  all          everything, one after the other

  --smoke      counts so small that it only shows that the bench runs
";

/// How much of each bench is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Size {
    Full,
    Smoke,
}

impl Size {
    /// A lab in life's own time, or one that only has to show that it runs.
    pub(crate) fn lab(self, users: u32) -> Options {
        Options { users, time_scale: self.of(1, 20), ..Options::default() }
    }

    /// A count: the full one, or the small one.
    pub(crate) fn of<T>(self, full: T, smoke: T) -> T {
        match self {
            Self::Full => full,
            Self::Smoke => smoke,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let size = if args.iter().any(|arg| arg == "--smoke") { Size::Smoke } else { Size::Full };
    if let [reader, address, user, password] = &args[..]
        && reader == "axl-reader"
    {
        return ended(axl::read(address, user, password).await);
    }
    let command = args.iter().find(|arg| !arg.starts_with("--")).map_or("", String::as_str);
    ended(run(command, size).await)
}

fn ended(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches: {error}");
            ExitCode::FAILURE
        }
    }
}

const ALL: [&str; 12] = [
    "axl",
    "jwe",
    "framing",
    "router",
    "outbox",
    "end-to-end",
    "parts",
    "latency",
    "memory",
    "leak",
    "sockets",
    "sessions",
];

async fn run(command: &str, size: Size) -> Result<(), Failure> {
    if command == "all" {
        for one in ALL {
            Box::pin(run(one, size)).await.map_err(|error| format!("{one}: {error}"))?;
        }
        return Ok(());
    }
    match command {
        "end-to-end" => end_to_end::run(size).await,
        "parts" => parts::run(size),
        "latency" => latency::run(size).await,
        "memory" => memory::idle(size).await,
        "leak" => memory::leak(size).await,
        "sockets" => many::sockets(size).await,
        "sessions" => many::sessions(size).await,
        "axl" => axl::run(size).await,
        "jwe" => small::jwe(size),
        "framing" => small::framing(size),
        "router" => small::router(size),
        "outbox" => small::outbox(size),
        _ => failed(USAGE),
    }
}
