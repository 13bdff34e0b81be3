//! The router itself: it takes inputs apart, asks the modules that decide, and hands out what they want.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::counters::Counters;
use crate::directory::{Directory, DirectoryError};
use crate::ids::Time;
use crate::inbound::Inbound;
use crate::outbound::Outbound;
use crate::outbox::Loaded;
use crate::tag::Tagger;
use crate::times::Times;

/// What the router is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Recognizes what we wrote, and makes the ids of what we are going to write.
    pub tagger: Tagger,
    /// Every wait.
    pub times: Times,
    /// How many deliveries may be with the edges at once (rule 14); at least 1.
    pub capacity: usize,
    /// Post to people who were invited to Webex and never signed in (MIG-07).
    pub deliver_to_pending: bool,
    /// Carry also what is older than a person's enablement, back to here (rule 17).
    pub since: Option<Time>,
    /// How many messages one sender may write in a row, and how long one takes to be forgotten (rule 13).
    pub rate: Option<(u32, Duration)>,
}

/// Why a router could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouterError {
    /// The stored directory is damaged, or of a later version.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// All decisions, as one state machine. See the crate documentation for how to drive it.
#[derive(Debug)]
pub struct Router {
    config: Config,
    directory: Arc<Directory>,
    out: VecDeque<Outbound>,
}

impl Router {
    /// A router that goes on where the store has left off.
    ///
    /// # Errors
    /// What the store holds cannot be read.
    pub fn new(config: Config, loaded: Loaded, now: Time) -> Result<Self, RouterError> {
        let _ = now;
        let directory = match &loaded.directory {
            Some(bytes) => Directory::decode(bytes)?,
            None => Directory::default(),
        };
        Ok(Self { config, directory: Arc::new(directory), out: VecDeque::new() })
    }

    /// Takes one input. Then take the outputs until there is none.
    pub fn handle(&mut self, inbound: Inbound, now: Time) {
        let _ = (inbound, now, &self.config);
    }

    /// The next thing to be done; `None` until the next input or deadline.
    pub fn poll_outbound(&mut self) -> Option<Outbound> {
        self.out.pop_front()
    }

    /// When [`Router::handle_timeout`] is due; `None` if nothing waits for time to pass.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        None
    }

    /// Does what is due at `now`. Then take the outputs until there is none.
    pub fn handle_timeout(&mut self, now: Time) {
        let _ = now;
    }

    /// Who is whom, as of now.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// What the status page shows.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters::default()
    }

    /// Whether nothing waits: every lane is empty, nothing is uncommitted, nobody is behind.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.out.is_empty()
    }
}
