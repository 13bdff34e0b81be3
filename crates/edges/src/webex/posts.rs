//! What was posted, as far as we saw it: a tombstone in a listing no longer says what it was.

use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::num::NonZeroU64;
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

/// A text as it is remembered, since there are many: 64 bits of a hash, which two texts share by chance alone. It is never
/// written anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Print(NonZeroU64);

impl Print {
    fn of(text: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self(NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MIN))
    }
}

/// By what a post of ours is known.
#[derive(Debug)]
struct Mark {
    client_temp_id: Option<Print>,
    iv: Option<Print>,
}

impl Mark {
    fn new(client_temp_id: Option<&str>, iv: Option<&[u8; 12]>) -> Self {
        Self {
            client_temp_id: client_temp_id.map(|id| Print::of(id.as_bytes())),
            iv: iv.map(|iv| Print::of(iv)),
        }
    }
}

/// Posts that came by sockets and listings, by their ids; the oldest are forgotten at will.
#[derive(Debug)]
pub(super) struct Posts {
    seen: Mutex<Aged<Print, Mark>>,
}

impl Default for Posts {
    fn default() -> Self {
        Self { seen: Mutex::new(Aged::new(MOST)) }
    }
}

/// More are not remembered: each takes some fifty bytes, and nothing apart from the map, where it would lie among what
/// is soon gone and keep the memory around it from being given back.
const MOST: usize = 20_000;

impl Posts {
    /// Remembers a post.
    pub(super) fn saw(&self, envelope: &Envelope) {
        let (Origin::Webex(origin), Kind::Text) = (&envelope.origin, &envelope.kind) else { return };
        let mark = Mark::new(origin.client_temp_id.as_deref(), origin.iv.as_ref());
        locked(&self.seen).insert(Print::of(origin.activity.as_str().as_bytes()), mark);
    }

    /// Remembers that this activity, of which only a tombstone is left, was taken for this entry: it is no other's.
    pub(super) fn took(&self, activity: &ActivityId, entry: &Entry) {
        let mark = Mark::new(Some(entry.derived.as_str()), entry.iv.as_ref());
        locked(&self.seen).insert(Print::of(activity.as_str().as_bytes()), mark);
    }

    /// Whether this activity was seen, and was something other than this entry.
    pub(super) fn is_other(&self, activity: &ActivityId, entry: &Entry) -> bool {
        let entry = Mark::new(Some(entry.derived.as_str()), entry.iv.as_ref());
        locked(&self.seen).get(&Print::of(activity.as_str().as_bytes())).is_some_and(|mark| {
            let by_id = mark.client_temp_id == entry.client_temp_id;
            let by_iv = entry.iv.is_some() && mark.iv == entry.iv;
            !by_id && !by_iv
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Up to [`MOST`] of them are kept.
    #[test]
    fn a_post_that_is_remembered_takes_less_than_its_id() {
        assert_eq!(size_of::<(Print, Mark)>(), 24);
    }
}
