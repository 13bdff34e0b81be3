//! Logs: to standard error, filtered by `log.level`. No level shows a text or a secret.

use tracing_subscriber::EnvFilter;

/// Sets logging up for the whole process.
///
/// # Errors
/// The filter cannot be read: what is wrong with it, in words.
pub(crate) fn start(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|e| format!("log.level: `{filter}` is no level or filter: {e}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(true)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    Ok(())
}
