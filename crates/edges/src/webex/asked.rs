//! What conversations held when they were asked for posts of ours (rule 10). After a restart every unfinished post is
//! asked after: one listing answers for all that wait in its conversation.

use std::sync::{Arc, Mutex};

use router::ids::{ActivityId, ConversationId, PersonId, Time};
use router::outbox::Entry;
use webex_api::Url;
use webex_api::activity::{Activity, Object, Verb};

use super::aged::Aged;
use super::catch_up::{self, ListError};
use super::intake::{person, time};
use super::{Side, locked};

/// One conversation, listed once.
#[derive(Debug)]
pub(super) struct Listing {
    /// From when on, in cloud time.
    since: Time,
    /// When it was asked for, by our clock.
    begun: Time,
    pub(super) activities: Vec<Listed>,
}

/// As much of a listed activity as tells whether it is a post of ours.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) id: webex_api::ActivityId,
    client_temp_id: Option<Box<str>>,
    iv: Option<[u8; 12]>,
    author: Option<PersonId>,
    published: Option<Time>,
    buried: bool,
}

/// The last listing of each conversation that was asked.
#[derive(Debug)]
pub(super) struct Asked(Mutex<Aged<ConversationId, Arc<Listing>>>);

/// More are not remembered: the posts of a conversation wait in one lane, so that few are asked at one time.
const MOST: usize = 256;

impl Default for Asked {
    fn default() -> Self {
        Self(Mutex::new(Aged::new(MOST)))
    }
}

/// What a conversation shows from `since` on, in cloud time: as it was asked before, if that was at `settled` or later,
/// when *absent* counts, else as it is now.
///
/// # Errors
/// As [`catch_up::all`].
pub(super) async fn listing(
    side: &Side,
    asker: &PersonId,
    (address, url): (&ConversationId, &Url),
    since: Time,
    settled: Time,
) -> Result<Arc<Listing>, ListError> {
    let known = locked(&side.asked.0).get(address).cloned();
    if let Some(known) = known.filter(|known| known.since <= since && known.begun >= settled) {
        return Ok(known);
    }
    let _permit = side.questions.acquire().await.expect("the semaphore is never closed");
    let begun = side.clock.now();
    let activities = catch_up::all(side, asker, url, since).await?.iter().map(Listed::of).collect();
    let listing = Arc::new(Listing { since, begun, activities });
    locked(&side.asked.0).insert(address.clone(), Arc::clone(&listing));
    Ok(listing)
}

impl Listed {
    fn of(activity: &Activity) -> Self {
        let text = match &activity.object {
            Some(Object::Comment { display_name, .. }) => display_name.as_ref(),
            _ => None,
        };
        Self {
            id: activity.id.clone(),
            client_temp_id: activity.client_temp_id.as_ref().map(|id| id.as_str().into()),
            iv: text.and_then(|text| kms_client::jose::jwe::iv(text.as_str())),
            author: activity.actor.as_ref().and_then(|actor| actor.id.as_ref()).map(person),
            published: activity.published.map(time),
            // What is left of an edit names what was edited, and no post of ours does.
            buried: activity.verb == Verb::Tombstone && activity.parent.is_none(),
        }
    }

    /// Its name towards the router.
    pub(super) fn name(&self) -> ActivityId {
        ActivityId::new(self.id.as_str())
    }

    /// Whether it is this entry, posted as `actor`.
    pub(super) fn is(&self, entry: &Entry, actor: &PersonId) -> bool {
        self.client_temp_id.as_deref() == Some(entry.derived.as_str())
            || (self.author.as_ref() == Some(actor) && self.iv.is_some() && self.iv == entry.iv)
    }

    /// Whether `actor` has deleted something of that time, which may have been this.
    pub(super) fn is_buried(&self, actor: &PersonId, since: Time, until: Time) -> bool {
        self.buried
            && self.author.as_ref() == Some(actor)
            && self.published.is_some_and(|published| (since..=until).contains(&published))
    }
}
