//! One conversation's activities over as many pages as they take, without I/O.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{Activities, Page};
use crate::activity::Activity;
use crate::{ActivityId, Timestamp, Url};

/// How many activities are asked for at once.
const PAGE: u32 = 100;
/// The most that is asked for at once, where more than a page has one time.
const LARGEST_PAGE: u32 = 1000;
/// More pages than this are no listing.
const MOST_PAGES: usize = 10_000;

/// Every activity of a conversation since a moment, whichever way the cloud lists them.
///
/// Ask [`Walk::question`] and give the answer to [`Walk::take`] until there is no question any more; then
/// [`Walk::into_activities`] has them all.
#[derive(Debug)]
pub struct Walk {
    conversation: Url,
    from: Timestamp,
    until: Option<Timestamp>,
    limit: u32,
    pages: usize,
    ended: bool,
    /// Each once, in the order of its first listing.
    listed: Vec<(Timestamp, Activity)>,
    places: BTreeMap<(Timestamp, ActivityId), usize>,
    newest_first: bool,
}

/// Why the activities of a conversation cannot all be listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    /// There are always more pages.
    #[error("the listing does not end")]
    Endless,
    /// There is no way to ask for the rest, and whoever went on would lose it.
    #[error("more activities have one time than a page can hold")]
    Crowded,
}

impl Walk {
    /// Begins; what was published at that moment itself is listed too.
    pub fn since(conversation: Url, since: Timestamp) -> Self {
        Self {
            conversation,
            from: since,
            until: None,
            limit: PAGE,
            pages: 0,
            ended: false,
            listed: Vec::new(),
            places: BTreeMap::new(),
            newest_first: false,
        }
    }

    /// The next page to ask for; `None`: all of it was read.
    pub fn question(&self) -> Option<Activities> {
        (!self.ended).then(|| Activities {
            conversation: self.conversation.clone(),
            since: Some(self.from),
            until: self.until,
            limit: self.limit,
        })
    }

    /// Takes the answer to the last question.
    ///
    /// # Errors
    /// There is no way to read the rest; a part is not the whole.
    pub fn take(&mut self, page: Page) -> Result<(), WalkError> {
        self.pages += 1;
        let times: Vec<_> = page.activities.iter().filter_map(|activity| activity.published).collect();
        let before = self.listed.len();
        for activity in page.activities {
            // What has no time is no entry of a listing in time.
            let Some(published) = activity.published else { continue };
            self.add(published, activity);
        }
        let (Some(&first), Some(&last)) = (times.first(), times.last()) else {
            self.ended = true;
            return Ok(());
        };
        self.newest_first |= first > last;
        let more = page.entries >= usize::try_from(self.limit).unwrap_or(usize::MAX);
        let news = self.listed.len() > before;
        // A full page is followed from its last time itself, since more may share it. The cloud may give
        // fewer than asked for: then it is only the absence of news that ends a listing.
        let crowded = page.entries > 1 && first == last;
        if more && crowded && self.limit == LARGEST_PAGE {
            return Err(WalkError::Crowded);
        }
        if (crowded || !news && more) && self.limit < LARGEST_PAGE {
            // Perhaps more entries share one time than fit into a page.
            self.limit = (self.limit * 2).min(LARGEST_PAGE);
        } else if !news {
            self.ended = true;
        } else if first > last {
            self.until = Some(last);
        } else {
            self.from = last;
        }
        if self.pages == MOST_PAGES && !self.ended { Err(WalkError::Endless) } else { Ok(()) }
    }

    /// What is listed again stands as it was listed last.
    fn add(&mut self, published: Timestamp, activity: Activity) {
        match self.places.entry((published, activity.id.clone())) {
            Entry::Occupied(place) => self.listed[*place.get()].1 = activity,
            Entry::Vacant(place) => {
                place.insert(self.listed.len());
                self.listed.push((published, activity));
            }
        }
    }

    /// All that was read, oldest first; those of one millisecond keep the order that they are listed in.
    pub fn into_activities(mut self) -> Vec<Activity> {
        if self.newest_first {
            self.listed.reverse();
        }
        self.listed.sort_by_key(|(published, _)| *published);
        self.listed.into_iter().map(|(_, activity)| activity).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a listing that gives three entries a page, whatever is asked for.
    fn walked(newest_first: bool) -> String {
        // Three of one millisecond, whose ids say nothing about their order.
        let listed = [("d", 1), ("c", 2), ("z", 3), ("a", 3), ("m", 3), ("b", 4)];
        let mut walk = Walk::since("http://h/c".parse().unwrap(), Timestamp(0));
        while let Some(question) = walk.question() {
            let (from, until) = (question.since.unwrap().0, question.until.map_or(i64::MAX, |until| until.0));
            let mut asked: Vec<_> = listed.iter().filter(|(_, at)| (from..=until).contains(at)).collect();
            if newest_first {
                asked.reverse();
            }
            let limit = if question.limit > PAGE { 4 } else { 3 };
            let activities: Vec<Activity> =
                asked.iter().take(limit).map(|(id, at)| activity(id, *at)).collect();
            let entries = if activities.len() == limit { question.limit as usize } else { activities.len() };
            walk.take(Page { activities, entries, unreadable: 0 }).unwrap();
        }
        walk.into_activities().iter().map(|activity| activity.id.as_str()).collect()
    }

    fn activity(id: &str, at: i64) -> Activity {
        let published = Timestamp(at).to_string();
        serde_json::from_value(serde_json::json!({"id": id, "verb": "post", "published": published})).unwrap()
    }

    #[test]
    fn what_was_written_in_one_millisecond_keeps_its_order_whichever_way_it_is_listed() {
        assert_eq!([walked(false), walked(true)], ["dczamb", "dczamb"]);
    }
}
