//! A catch-up: what happened while nothing was heard, read from listings (rule 9).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use router::envelope::Via;
use router::ids::{ConversationId, PersonId, Time};
use router::inbound::Inbound;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use webex_api::activity::Activity;
use webex_api::conversation::{Conversation, Get, List, Walk, WalkError};
use webex_api::{Timestamp, Url};

use super::Side;
use super::http::CloudError;
use super::intake::{Reading, person, time};
use crate::crash;
use crate::probe::causes;

/// What a catch-up has to read.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub person: PersonId,
    /// The trigger that it answers.
    pub trigger: u64,
    /// From when, in cloud time.
    pub cursor: Time,
    /// When the trigger was seen, in cloud time: what was published later comes by the socket.
    pub seen: Time,
    /// When the listing may begin.
    pub begin: Instant,
}

/// More pages than this are no listing.
const MOST_PAGES: usize = 10_000;
/// So often a conversation may be refused before it is left out.
const REFUSALS: u32 = 4;
/// What is older is not carried.
const REACH: Duration = Duration::from_secs(72 * 60 * 60);

/// Why a listing could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListError {
    #[error(transparent)]
    Cloud(#[from] CloudError),
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// A conversation that is listed and may not be read.
    #[error("{conversation} is listed, but not to be read")]
    Closed {
        conversation: Url,
        #[source]
        source: CloudError,
    },
    #[error("the hub has stopped")]
    Stopped,
}

/// Reads everything since the cursor, however often it takes, and gives the new cursor.
pub(super) async fn run(side: &Side, task: Task) -> Option<Time> {
    tokio::time::sleep_until(task.begin).await;
    let reach = side.cloud.now().before(REACH);
    if task.cursor < reach {
        tracing::warn!(person = %task.person, "older than 72 hours: not read any more");
        side.hub.answer(Inbound::Gap(task.person.clone(), task.cursor, reach));
    }
    let mut backoff = side.backoff();
    let mut closed: BTreeMap<Url, u32> = BTreeMap::new();
    loop {
        let waits = || side.hub.answer(Inbound::Behind(task.person.clone(), task.trigger));
        let permit = turn(&side.listings, &side.listed, side.times.catch_up, waits).await;
        let start = side.cloud.now();
        let given_up = |url: &Url| closed.get(url).is_some_and(|refusals| *refusals >= REFUSALS);
        let listed = list(side, &task, start, &given_up).await;
        drop(permit);
        match listed {
            Ok(()) => {
                crash::point(crash::CAUGHT_UP);
                side.listed.fetch_add(1, Ordering::Relaxed);
                let cursor = start.before(side.times.overlap).max(task.cursor);
                let told = Inbound::CaughtUp(task.person.clone(), task.trigger, cursor);
                return side.hub.take(told).await.then_some(cursor);
            }
            Err(ListError::Stopped) => return None,
            Err(error) => {
                let wait = match &error {
                    ListError::Cloud(CloudError::Limited { after, .. }) => *after,
                    _ => backoff.pause(side.generator.number()),
                };
                if let ListError::Closed { conversation, .. } = &error {
                    *closed.entry(conversation.clone()).or_default() += 1;
                }
                tracing::warn!(person = %task.person, error = causes(&error), "catch-up goes on later");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// A turn to list. Whoever waits for one is not without progress while others get on with theirs, so that the hold
/// does not run out where many catch up at once (rule 8): `waits` is called as often as half a hold has passed so.
async fn turn<'a>(
    listings: &'a Semaphore,
    listed: &AtomicU64,
    hold: Duration,
    waits: impl Fn(),
) -> SemaphorePermit<'a> {
    let mut permit = pin!(listings.acquire());
    loop {
        let before = listed.load(Ordering::Relaxed);
        match tokio::time::timeout(hold / 2, &mut permit).await {
            Ok(permit) => return permit.expect("the semaphore is never closed"),
            Err(_) if listed.load(Ordering::Relaxed) != before => waits(),
            Err(_) => {}
        }
    }
}

/// One whole listing: all clusters, all pages, all conversations that moved.
async fn list(
    side: &Side,
    task: &Task,
    start: Time,
    given_up: &(dyn Fn(&Url) -> bool + Sync),
) -> Result<(), ListError> {
    // A cursor ahead of the cloud's clock was put there by a clock that was wrong: it says nothing.
    let cursor = Some(task.cursor).filter(|cursor| *cursor <= start);
    let since = cursor.unwrap_or_default().max(start.before(REACH));
    // Younger ones come by the socket, and in order; a listing may lack one and show the next.
    let until = start.before(side.times.visibility).max(task.seen);
    let mut clusters = VecDeque::from([None]);
    let mut asked: BTreeSet<Url> = BTreeSet::new();
    let mut read: BTreeSet<Url> = BTreeSet::new();
    while let Some(cluster) = clusters.pop_front() {
        let mut page = Some(List::First { cluster, since: Some(Timestamp(since.0)) });
        let mut pages = 0;
        while let Some(question) = page.take() {
            pages += 1;
            if pages > MOST_PAGES {
                return Err(WalkError::Endless.into());
            }
            let listed = side.cloud.send_as(&task.person, question).await?;
            for url in listed.additional_urls {
                if asked.insert(url.clone()) {
                    clusters.push_back(Some(url));
                }
            }
            page = listed.next.map(List::Next);
            for conversation in &listed.conversations {
                let Some(url) = conversation.url.as_ref().filter(|url| !given_up(url)) else { continue };
                let relay = side.relays.parties(&ConversationId::new(url.as_str())).is_some();
                if (conversation.is_direct() || relay) && read.insert(url.clone()) {
                    one(side, task, conversation, url, since, until)
                        .await
                        .map_err(|error| closed(url, error))?;
                }
            }
        }
    }
    Ok(())
}

/// A conversation that the person may not read will never be read: after some tries the others must not wait
/// for it any more.
fn closed(conversation: &Url, error: ListError) -> ListError {
    match error {
        ListError::Cloud(source) if source.is_gone() => {
            ListError::Closed { conversation: conversation.clone(), source }
        }
        other => other,
    }
}

/// One conversation: its activities from oldest to newest, then who has read how far.
async fn one(
    side: &Side,
    task: &Task,
    conversation: &Conversation,
    url: &Url,
    since: Time,
    until: Time,
) -> Result<(), ListError> {
    side.conversations.saw_by(conversation, &task.person);
    let reading = Reading {
        socket: &task.person,
        via: Via::CatchUp(task.trigger),
        arrived: side.clock.now(),
        cloud: side.cloud.now(),
    };
    let listed = all(side, &task.person, url, since).await?;
    crash::point(crash::LISTED);
    for activity in listed {
        if activity.published.is_some_and(|published| time(published) > until) {
            continue;
        }
        match reading.take(&activity, Some(conversation)) {
            Ok((mut envelope, parts)) => {
                side.relays.adopt(&mut envelope);
                side.posts.saw(&envelope);
                take(side, Inbound::Listed(envelope, parts)).await?;
            }
            Err(reason) => tracing::debug!(activity = %activity.id, reason, "listed activity left out"),
        }
    }
    let whole = side.cloud.send_as(&task.person, Get(url.clone())).await?;
    for member in whole.participants() {
        let (Some(reader), Some(last), Some(at)) =
            (&member.id, &member.last_seen_activity, member.last_seen_activity_date)
        else {
            continue;
        };
        if time(at) >= since
            && let Some(envelope) = reading.seen(&whole, &person(reader), last, at)
        {
            take(side, Inbound::Listed(envelope, Vec::new())).await?;
        }
    }
    Ok(())
}

async fn take(side: &Side, inbound: Inbound) -> Result<(), ListError> {
    if side.hub.take(inbound).await { Ok(()) } else { Err(ListError::Stopped) }
}

/// Every activity of a conversation since a moment, oldest first.
///
/// # Errors
/// The cloud does not tell, or there may be more than it can be asked for.
pub(super) async fn all(
    side: &Side,
    me: &PersonId,
    conversation: &Url,
    since: Time,
) -> Result<Vec<Activity>, ListError> {
    let mut walk = Walk::since(conversation.clone(), Timestamp(since.0));
    while let Some(question) = walk.question() {
        let page = side.cloud.send_as(me, question).await?;
        if page.unreadable > 0 {
            tracing::warn!(%conversation, count = page.unreadable, "activities that cannot be read");
        }
        walk.take(page)?;
    }
    Ok(walk.into_activities())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_turn_is_no_want_of_progress_while_others_get_on() {
        let (listings, listed, told) = (Semaphore::new(1), AtomicU64::new(0), Cell::new(0));
        let minute = Duration::from_secs(60);
        let others = async {
            let busy = listings.acquire().await.unwrap();
            for _ in 0..3 {
                tokio::time::sleep(minute / 2 - Duration::from_secs(1)).await;
                listed.fetch_add(1, Ordering::Relaxed);
            }
            // Now the cloud hangs.
            tokio::time::sleep(10 * minute).await;
            drop(busy);
        };
        let mine = async { drop(turn(&listings, &listed, minute, || told.set(told.get() + 1)).await) };
        tokio::join!(others, mine);
        assert_eq!(told.get(), 3, "once for each time in which others got on, and never while nobody did");
    }
}
