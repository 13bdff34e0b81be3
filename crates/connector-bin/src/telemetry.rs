//! Logs: to standard error, filtered by `log.level`, so many of a kind in a minute. No level shows a text or a secret.

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

use crate::bursts::Bursts;

/// The filter that a text stands for.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(text).map_err(|e| e.to_string())
}

/// Sets logging up for the whole process: what passes the filter, and of each kind so many lines in a minute as
/// [`Bursts::new`] takes. Whoever is given them spawns [`Bursts::tell`].
///
/// # Errors
/// As [`filter`].
pub(crate) fn start(level: &str, most: u32) -> Result<Bursts, String> {
    let filter = filter(level).map_err(|e| format!("log.level: {e}"))?;
    let bursts = Bursts::new(most);
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(true)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    tracing_subscriber::registry().with(filter).with(lines).with(bursts.clone()).init();
    Ok(bursts)
}
