//! What happened since a moment, read from listings.

use std::collections::{BTreeSet, VecDeque};

use super::{Session, SessionError};
use crate::activity::Activity;
use crate::conversation::{List, Walk, WalkError};
use crate::{Timestamp, Url};

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
        let mut found = Vec::new();
        let mut clusters = VecDeque::from([None]);
        let (mut asked, mut read) = (BTreeSet::<Url>::new(), BTreeSet::<Url>::new());
        while let Some(cluster) = clusters.pop_front() {
            let mut page = Some(List::First { cluster, since: Some(since) });
            for pages in 0.. {
                let Some(question) = page.take() else { break };
                if pages == MOST_PAGES {
                    return Err(WalkError::Endless.into());
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
                        let mut walk = Walk::since(url, since);
                        while let Some(question) = walk.question() {
                            walk.take(self.send(question).await?)?;
                        }
                        for mut activity in walk.into_activities() {
                            if activity.conversation().is_none() {
                                activity.target = Some(conversation.clone());
                            }
                            found.push(activity);
                        }
                    }
                }
            }
        }
        // Those of one conversation and millisecond keep their order.
        found.sort_by_key(|activity| activity.published);
        Ok(found)
    }
}
