//! What was posted, as far as we saw it: a tombstone in a listing no longer says what it was.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;

use router::envelope::{Envelope, Kind, Origin};
use router::outbox::{Entry, TargetRef};
use webex_api::ActivityId;

use super::aged::Aged;
use super::locked;
use crate::hub::HubHandle;

/// What the store knows of activities, over all runs.
pub trait Ledger: Send + Sync {
    /// Whether a message is known under this activity, be it one that was written there or one that we posted; what was
    /// seen of it only when it had been deleted does not count.
    fn knows<'a>(&'a self, activity: &'a ActivityId) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;
}

impl Ledger for HubHandle {
    fn knows<'a>(&'a self, activity: &'a ActivityId) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async move {
            let target = TargetRef::Activity(router::ids::ActivityId::new(activity.as_str()));
            // A hub that has ended takes no receipt either.
            let known = self.target(target).await.unwrap_or_default();
            known.iter().any(|message| !message.was_never_shown())
        })
    }
}

/// By what a post of ours is known.
#[derive(Debug)]
struct Mark {
    client_temp_id: Option<Box<str>>,
    iv: Option<[u8; 12]>,
}

/// Posts that came by sockets and listings, by their ids; the oldest are forgotten at will.
#[derive(Debug)]
pub(super) struct Posts {
    seen: Mutex<Aged<Box<str>, Mark>>,
}

impl Default for Posts {
    fn default() -> Self {
        Self { seen: Mutex::new(Aged::new(MOST)) }
    }
}

/// More are not remembered: each takes some hundred bytes.
const MOST: usize = 20_000;

impl Posts {
    /// Remembers a post.
    pub(super) fn saw(&self, envelope: &Envelope) {
        let (Origin::Webex(origin), Kind::Text) = (&envelope.origin, &envelope.kind) else { return };
        let mark = Mark { client_temp_id: origin.client_temp_id.clone(), iv: origin.iv };
        locked(&self.seen).insert(origin.activity.as_str().into(), mark);
    }

    /// Remembers that this activity, of which only a tombstone is left, was taken for this entry: it is no other's.
    pub(super) fn took(&self, activity: &ActivityId, entry: &Entry) {
        let mark = Mark { client_temp_id: Some(entry.derived.as_str().into()), iv: entry.iv };
        locked(&self.seen).insert(activity.as_str().into(), mark);
    }

    /// Whether this activity was seen, and was something other than this entry.
    pub(super) fn is_other(&self, activity: &ActivityId, entry: &Entry) -> bool {
        locked(&self.seen).get(activity.as_str()).is_some_and(|mark| {
            let by_id = mark.client_temp_id.as_deref() == Some(entry.derived.as_str());
            let by_iv = entry.iv.is_some() && mark.iv == entry.iv;
            !by_id && !by_iv
        })
    }
}
