//! The connector as a process: its settings, its store and its status page; it ends in order.

use std::path::Path;

use connector_edges::hub::{Ended, HubHandle, Keeping};
use connector_edges::probe::causes;
use router::ids::Time;
use tokio::task::JoinHandle;

use crate::admin::Sources;
use crate::config::{self, Config, LinkTls, Mistake};
use crate::wiring::{self, Ground, Parts, Wired};
use crate::{admin, process, telemetry, users};

/// Runs until SIGTERM or Ctrl-C.
///
/// # Errors
/// What is wrong, and what to do.
pub(crate) async fn run(path: &Path, sign_out: bool, since: Option<Time>) -> Result<(), String> {
    let config = config::load(path).map_err(|mistakes| report(path, &mistakes))?;
    let bursts = telemetry::start(&config.log.level, config.log.lines_per_minute)?;
    tokio::spawn(bursts.tell());
    for imp in config.imp.iter().filter(|imp| imp.tls == LinkTls::Off) {
        tracing::warn!(publisher = %imp.publisher, "the links to this cluster are plain TCP: keep its port unreachable for others");
    }
    // Whoever asks while it starts is heard when it has started.
    let stop = stop_signal();
    let connector = Connector::start(config, since).await?;
    tracing::info!(status = %connector.status, "the connector runs");
    process::no_more_huge_pages();
    connector.until(stop, sign_out).await
}

/// All mistakes of a file, each with its line.
pub(crate) fn report(path: &Path, mistakes: &[Mistake]) -> String {
    let mistakes_are = if mistakes.len() == 1 { "one mistake" } else { "these mistakes" };
    let mut text = format!("{} has {mistakes_are}:", path.display());
    for mistake in mistakes {
        text.push_str(&format!("\n  {mistake}"));
    }
    text
}

/// Ends with the first request to stop that comes after this call, also if it is awaited later.
pub(crate) fn stop_signal() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let asked = [signal(SignalKind::terminate()), signal(SignalKind::interrupt())];
    async move {
        match asked {
            [Ok(mut terminate), Ok(mut interrupt)] => {
                tokio::select! {
                    biased;
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            // Without a handler the kernel ends the process, which is safe at any moment.
            _ => std::future::pending().await,
        }
    }
}

/// A connector that runs.
pub(crate) struct Connector {
    /// For the status page, and to stop it.
    pub(crate) hub: HubHandle,
    /// Where the status page is.
    pub(crate) status: std::net::SocketAddr,
    wired: Wired,
    page: JoinHandle<()>,
    letters: JoinHandle<()>,
}

impl Connector {
    /// Starts it; whoever begins with it is read in Webex from `since` on, or from now on. Nothing has been said to
    /// anybody when this fails.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(crate) async fn start(config: Config, since: Option<Time>) -> Result<Self, String> {
        let listener = admin::listen(config.status).await?;
        let status = listener.local_addr().map_err(|e| e.to_string())?;
        let parts = Parts { since, ..Parts::new(&config, Ground::real(&config))? };
        let store = wiring::open_store(&config)?;
        let figures = store.figures();
        let wired = parts.join(&config, Box::new(store), Keeping::Thread)?;
        let hub = wired.handle.clone();
        let sources = Sources {
            hub: hub.clone(),
            enrolling: wired.enrolling.clone(),
            refusals: wired.refusals.clone(),
            figures,
        };
        let page = tokio::spawn(admin::serve(listener, sources));
        let letters = tokio::spawn(users::take_letters(
            config.store.path.clone(),
            wiring::store_key(&config),
            wired.enrolling.clone(),
        ));
        Ok(Self { hub, status, wired, page, letters })
    }

    /// Runs until `stop`, then ends in order: what was accepted is committed, deliveries in flight may finish. With
    /// `sign_out` the sessions are closed; otherwise the next start resumes them.
    ///
    /// # Errors
    /// It had to end by itself: why.
    pub(crate) async fn until(
        mut self,
        stop: impl Future<Output = ()>,
        sign_out: bool,
    ) -> Result<(), String> {
        let Wired { running, edges: [jabber, webex], .. } = &mut self.wired;
        let ended = tokio::select! {
            biased;
            ended = &mut *running => Some(ended),
            _ = jabber => return Err("the Jabber edge has died; a restart goes on from the store".into()),
            _ = webex => return Err("the Webex edge has died; a restart goes on from the store".into()),
            () = stop => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                tracing::info!("stopping");
                self.hub.stop(sign_out).await;
                running.await
            }
        };
        self.page.abort();
        self.letters.abort();
        match ended {
            Ok(Ok(Ended::Clean)) => Ok(()),
            Ok(Ok(Ended::Unanswered(n))) => {
                tracing::warn!(
                    deliveries = n,
                    "not finished within the grace period; the next start asks after them"
                );
                Ok(())
            }
            Ok(Err(e)) => Err(causes(&e)),
            Err(e) => Err(format!("the hub has died: {e}; a restart goes on from the store")),
        }
    }
}
