//! Of log lines of one kind so many in a minute, and of those beyond one line with their number. While the cloud is away
//! everybody is without a socket, and a line for each try of each of fifteen thousand people is no log.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

const MINUTE: Duration = Duration::from_secs(60);
/// How often it is looked whether a minute is over.
const ROUND: Duration = Duration::from_secs(10);

/// Lets the first lines of each kind pass. A kind is a place in the program that logs; what is shown at the levels `debug`
/// and `trace` was asked for, and passes.
#[derive(Clone)]
pub(crate) struct Bursts(Arc<Shared>);

struct Shared {
    most: u32,
    kinds: Mutex<HashMap<Identifier, Kind>>,
}

/// One place that logs, and its last minute.
struct Kind {
    began: Instant,
    shown: u32,
    hidden: u64,
    target: &'static str,
    message: String,
}

impl Bursts {
    /// So many lines of each kind in a minute; 0: all.
    pub(crate) fn new(most: u32) -> Self {
        Self(Arc::new(Shared { most, kinds: Mutex::default() }))
    }

    /// Says how many lines were not shown, a minute after the first of them, until it is dropped.
    pub(crate) async fn tell(self) {
        loop {
            tokio::time::sleep(ROUND).await;
            // Outside of the lock, since what is logged comes by here.
            for (target, message, hidden) in self.hidden(now()) {
                tracing::warn!(hidden, of = target, "more lines like `{message}` within a minute");
            }
        }
    }

    /// Whether one more line of this kind is shown.
    fn passes(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        if self.0.most == 0 || *metadata.level() > Level::INFO {
            return true;
        }
        let mut kinds = self.kinds();
        let kind = kinds.entry(metadata.callsite()).or_insert_with(|| Kind {
            began: now,
            shown: 0,
            hidden: 0,
            target: metadata.target(),
            message: message(event),
        });
        if kind.hidden == 0 && now.duration_since(kind.began) >= MINUTE {
            (kind.began, kind.shown) = (now, 0);
        }
        let passes = kind.shown < self.0.most;
        if passes {
            kind.shown += 1;
        } else {
            kind.hidden += 1;
        }
        passes
    }

    /// What was not shown in minutes that are over by `now`; those begin anew.
    fn hidden(&self, now: Instant) -> Vec<(&'static str, String, u64)> {
        let mut kinds = self.kinds();
        let over =
            kinds.values_mut().filter(|kind| kind.hidden > 0 && now.duration_since(kind.began) >= MINUTE);
        over.map(|kind| {
            let hidden = std::mem::take(&mut kind.hidden);
            (kind.began, kind.shown) = (now, 0);
            (kind.target, kind.message.clone(), hidden)
        })
        .collect()
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<Identifier, Kind>> {
        self.0.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Bursts {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.passes(event, now())
    }
}

fn now() -> Instant {
    Instant::now()
}

/// What the line says, without its fields.
fn message(event: &Event<'_>) -> String {
    struct Message(String);
    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "message" {
                let _ = write!(self.0, "{value:?}"); // writing to a String does not fail
            }
        }
    }
    let mut message = Message(String::new());
    event.record(&mut message);
    message.0
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::registry;

    use super::*;

    /// Counts what arrives.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Lines {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().unwrap().push(message(event));
        }
    }

    #[test]
    fn of_each_kind_so_many_are_shown_and_the_others_are_counted_once() {
        let (bursts, lines) = (Bursts::new(3), Lines::default());
        let _guard = tracing::subscriber::set_default(registry().with(lines.clone()).with(bursts.clone()));
        for person in 0..1000 {
            tracing::warn!(person, "no socket");
            tracing::debug!("asked for");
        }
        tracing::error!("something else");
        let shown = lines.0.lock().unwrap().clone();
        let count = |what: &str| shown.iter().filter(|line| *line == what).count();
        assert_eq!((count("no socket"), count("asked for"), count("something else")), (3, 1000, 1));

        assert!(bursts.hidden(now()).is_empty(), "the minute is not over");
        let later = now() + MINUTE;
        let hidden = bursts.hidden(later);
        assert_eq!(hidden, [(module_path!(), "no socket".to_owned(), 997)]);
        assert!(bursts.hidden(later + MINUTE).is_empty(), "they are told once");
    }

    #[test]
    fn with_0_all_are_shown() {
        let (bursts, lines) = (Bursts::new(0), Lines::default());
        let _guard = tracing::subscriber::set_default(registry().with(lines.clone()).with(bursts));
        for _ in 0..1000 {
            tracing::warn!("no socket");
        }
        assert_eq!(lines.0.lock().unwrap().len(), 1000);
    }
}
