//! Logs: to standard error, filtered by `log.level`. No level shows a text or a secret.

use tracing_subscriber::EnvFilter;

/// The filter that a text stands for.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(text).map_err(|e| e.to_string())
}

/// Sets logging up for the whole process.
///
/// # Errors
/// As [`filter`].
pub(crate) fn start(level: &str) -> Result<(), String> {
    let filter = filter(level).map_err(|e| format!("log.level: {e}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(true)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    Ok(())
}
