//! What happened since a moment, read from listings.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Session, SessionError};
use crate::activity::Activity;
use crate::conversation::{Activities, Conversation, List};
use crate::{ActivityId, Timestamp, Url};

/// How many activities are asked for at once, at first and at most.
const PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 1000;
/// A listing with more pages has no end.
const MOST_PAGES: usize = 10_000;

impl Session {
    /// Everything that happened in this person's conversations since a moment, in all clusters, oldest first: posts,
    /// edits, deletes, tombstones and the like. Read marks and typing are in no listing.
    ///
    /// A listing may show things some seconds late, and the socket may bring some of them too: ask from a moment
    /// well before the last thing that was seen, and know by the identifiers what was seen already.
    ///
    /// # Errors
    /// [`SessionError`]. Then nothing is told: a part would look like the whole.
    pub async fn catch_up(&mut self, since: Timestamp) -> Result<Vec<Activity>, SessionError> {
        let mut found = BTreeMap::new();
        let mut clusters = VecDeque::from([None]);
        let (mut asked, mut read) = (BTreeSet::<Url>::new(), BTreeSet::<Url>::new());
        while let Some(cluster) = clusters.pop_front() {
            let mut page = Some(List::First { cluster, since: Some(since) });
            for pages in 0.. {
                let Some(question) = page.take() else { break };
                if pages == MOST_PAGES {
                    return Err(SessionError::Endless);
                }
                let listed = self.send(question).await?;
                for url in listed.additional_urls {
                    if asked.insert(url.clone()) {
                        clusters.push_back(Some(url));
                    }
                }
                page = listed.next.map(List::Next);
                for conversation in listed.conversations {
                    if let Some(url) = conversation.url.clone()
                        && read.insert(url.clone())
                    {
                        self.since(&conversation, url, since, &mut found).await?;
                    }
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// The activities of one conversation, whichever way the cloud lists them.
    async fn since(
        &mut self,
        conversation: &Conversation,
        url: Url,
        since: Timestamp,
        found: &mut BTreeMap<(Timestamp, ActivityId), Activity>,
    ) -> Result<(), SessionError> {
        let (mut from, mut until, mut limit) = (since, None, PAGE);
        for _ in 0..MOST_PAGES {
            let question = Activities { conversation: url.clone(), since: Some(from), until, limit };
            let page = self.send(question).await?;
            let times: Vec<_> = page.activities.iter().filter_map(|activity| activity.published).collect();
            let before = found.len();
            for mut activity in page.activities {
                // What has no time is no entry of a listing in time.
                let Some(published) = activity.published else { continue };
                if activity.conversation().is_none() {
                    activity.target = Some(conversation.clone());
                }
                found.insert((published, activity.id.clone()), activity);
            }
            let (Some(&first), Some(&last)) = (times.first(), times.last()) else { return Ok(()) };
            let (more, news) = (page.entries >= limit as usize, found.len() > before);
            // The next page begins at the last time itself, since more may share it.
            let crowded = page.entries > 1 && first == last;
            if more && crowded && limit == LARGEST_PAGE {
                return Err(SessionError::Endless);
            }
            if (crowded || !news && more) && limit < LARGEST_PAGE {
                limit = (limit * 2).min(LARGEST_PAGE);
            } else if !news {
                return Ok(());
            } else if first > last {
                until = Some(last);
            } else {
                from = last;
            }
        }
        Err(SessionError::Endless)
    }
}
