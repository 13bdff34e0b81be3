//! The Hybrid Message connector: people on Jabber and in the Webex App talk to each other.

mod admin;
mod app;
mod bursts;
mod check;
mod config;
mod lab_command;
mod metrics;
mod plan;
mod process;
mod restore;
#[cfg(test)]
mod simulation;
mod telemetry;
mod tls;
mod users;
mod wiring;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use connector_edges::webex_api::Timestamp;
use router::ids::Time;

/// Messages are many small pieces that one thread makes and another drops, which glibc's allocator is slow at:
/// benches/README.md has the figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// People on Jabber and in the Webex App talk to each other.
#[derive(Parser)]
#[command(name = "connector", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the connector against the IM and Presence nodes and the cloud of the settings file.
    Run {
        #[command(flatten)]
        settings: Settings,
        /// When asked to stop, close the sessions on IM and Presence, so that people are seen to go, instead of leaving
        /// them to be resumed by the next start.
        #[arg(long)]
        sign_out: bool,
        /// From when people's Webex conversations are read who begin with this run, as 2026-01-31T08:00:00Z: everybody,
        /// in a new store or one that was put back, and else whoever is enabled meanwhile. Without it from now on; at
        /// most 72 hours back.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        since: Option<Time>,
    },
    /// Make a store that was put back from a backup fit to be run: what it says of both sides is not true any more.
    Restore(Settings),
    /// Find every mistake in the settings file, then try each connection; nothing is written.
    Check(Settings),
    /// Say what the product's limits make of a deployment: how many connectors it needs, what is too much, and who
    /// lacks a licence.
    Plan(plan::Args),
    /// Enrol people whom the connector acts as, with token_source = "user".
    #[command(subcommand)]
    Users(users::Command),
    /// Print a settings file with every setting, its default and its unit.
    Example,
    /// Run everything on loopback: stand-ins for both sides, and the connector between them.
    Lab(lab_command::Args),
}

#[derive(clap::Args)]
pub(crate) struct Settings {
    /// The settings file; connector.example.toml shows every setting.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Threads for all but the store: half of the cores. The store's thread and the kernel need the others, and each thread
/// more is woken for less work: benches/README.md has the figures.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => return fail(&format!("cannot start: {e}")),
        };
    process::prepare();
    let done = match cli.command {
        Command::Run { settings, sign_out, since } => {
            runtime.block_on(app::run(&settings.config, sign_out, since))
        }
        Command::Restore(settings) => restore::run(&settings.config),
        Command::Check(settings) => runtime.block_on(check::run(&settings.config)),
        Command::Plan(args) => runtime.block_on(plan::run(args)),
        Command::Users(command) => runtime.block_on(users::run(command)),
        Command::Example => {
            print!("{}", config::example());
            Ok(())
        }
        Command::Lab(args) => runtime.block_on(lab_command::run(args)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(&message),
    }
}

/// A time of the past, as it is given to a command.
fn moment(text: &str) -> Result<Time, String> {
    let moment: Timestamp =
        text.parse().map_err(|_| "expected a time such as 2026-01-31T08:00:00Z".to_owned())?;
    let moment = Time(moment.millis());
    if moment > wiring::now() { Err("it is in the future".into()) } else { Ok(moment) }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("connector: {message}");
    ExitCode::FAILURE
}
