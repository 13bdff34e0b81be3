//! What the router was told and what it wanted, as lines and as one hash.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use connector_edges::hub::{Step, Watch};
use ring::digest::{Context, SHA256};

/// The record of one world, over all its processes.
#[derive(Clone)]
pub(super) struct Record(Arc<Mutex<Inner>>);

struct Inner {
    hash: Context,
    steps: u64,
    /// The lines themselves, where somebody wants to compare them.
    lines: Option<Vec<String>>,
}

impl Record {
    pub(super) fn new(keep_lines: bool) -> Self {
        let inner = Inner { hash: Context::new(&SHA256), steps: 0, lines: keep_lines.then(Vec::new) };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds one line.
    pub(super) fn add(&self, line: String) {
        self.with(|inner| {
            inner.steps += 1;
            inner.hash.update(line.as_bytes());
            inner.hash.update(b"\n");
            if let Some(lines) = &mut inner.lines {
                lines.push(line);
            }
        });
    }

    /// Adds every step of a router.
    pub(super) fn watch(&self) -> Watch {
        let record = self.clone();
        Box::new(move |now, step| {
            let line = match step {
                Step::In(inbound) => format!("{} in  {inbound:?}", now.0),
                Step::Timeout => format!("{} deadline", now.0),
                Step::Out(outbound) => format!("{} out {outbound:?}", now.0),
            };
            record.add(line);
        })
    }

    /// How many lines there are, and the hash of all.
    pub(super) fn hash(&self) -> (u64, String) {
        self.with(|inner| {
            let hash = inner.hash.clone().finish();
            let mut text = String::new();
            for byte in &hash.as_ref()[..16] {
                // Writing to a text cannot fail.
                let _ = write!(text, "{byte:02x}");
            }
            (inner.steps, text)
        })
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.with(|inner| inner.lines.clone().unwrap_or_default())
    }
}
