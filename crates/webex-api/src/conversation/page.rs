//! Listings: which conversations moved since a moment, and what happened in one of them.

use bytes::Bytes;
use http::{Method, Request, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Conversation;
use crate::activity::Activity;
use crate::catalog::Service;
use crate::endpoint::{Context, Destination, Endpoint, next_link, plain, read};
use crate::{ActivityId, ApiError, Timestamp, Url};

/// `GET {conversation}/conversations`: the asking person's conversations. Every cluster is asked
/// by itself, and every page is followed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum List {
    /// The first page of one cluster.
    First {
        /// Which cluster, from [`Listed::additional_urls`]; `None`: the person's own.
        cluster: Option<Url>,
        /// Only those in which something happened since; `None`: all.
        since: Option<Timestamp>,
    },
    /// The page behind [`Listed::next`].
    Next(Url),
}

/// One page of conversations.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listed {
    /// The conversations.
    pub conversations: Vec<Conversation>,
    /// Other clusters that hold conversations of the person; asked with the same question.
    pub additional_urls: Vec<Url>,
    /// The next page; `None` on the last one.
    pub next: Option<Url>,
    /// How many entries were no conversation that can be read.
    pub unreadable: usize,
}

impl Endpoint for List {
    type Response = Listed;

    fn destination(&self) -> Destination<'_> {
        match self {
            Self::First { cluster: None, .. } => Destination::Service(Service::Conversation),
            Self::First { cluster: Some(url), .. } | Self::Next(url) => Destination::Address(url),
        }
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        let (cluster, since) = match self {
            Self::Next(url) => return plain(Method::GET, &url, context),
            Self::First { cluster, since } => (cluster, since),
        };
        let mut url = cluster.as_ref().unwrap_or(context.base).join(["conversations"]).with_query([
            ("personRefresh", "true"),
            ("uuidEntryFormat", "true"),
            ("activitiesLimit", "0"),
            ("participantsLimit", "0"),
        ]);
        if let Some(since) = since {
            url = url.with_query([("sinceDate", since.millis().to_string().as_str())]);
        }
        plain(Method::GET, &url, context)
    }

    fn from_http(response: Response<Bytes>) -> Result<Listed, ApiError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire {
            items: Vec<serde_json::Value>,
            #[serde(default)]
            additional_urls: Vec<Url>,
        }
        let next = next_link(&response);
        let wire: Wire = read(response)?;
        let (conversations, unreadable) = readable(wire.items);
        Ok(Listed { conversations, additional_urls: wire.additional_urls, next, unreadable })
    }
}

/// `GET {conversation.url}/activities`: what happened in a conversation. Read marks are not listed;
/// a deleted activity is listed as a tombstone, beside the `delete` itself.
#[derive(Clone, Debug)]
pub struct Activities {
    /// The conversation's address.
    pub conversation: Url,
    /// Only what was published at this moment or later; `None`: from the beginning.
    pub since: Option<Timestamp>,
    /// Only what was published before or at this moment; `None`: up to now.
    pub until: Option<Timestamp>,
    /// How many at most; the cloud may give fewer.
    pub limit: u32,
}

/// One page of activities, in the order in which the cloud listed them: oldest first was asked for,
/// but is not to be relied on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Page {
    /// The activities.
    pub activities: Vec<Activity>,
    /// How many entries the page had, unreadable ones included.
    pub entries: usize,
    /// How many entries were no activity that can be read.
    pub unreadable: usize,
}

impl Endpoint for Activities {
    type Response = Page;

    fn destination(&self) -> Destination<'_> {
        Destination::Address(&self.conversation)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        let mut url = self
            .conversation
            .join(["activities"])
            .with_query([("lastActivityFirst", "false"), ("limit", self.limit.to_string().as_str())]);
        for (name, moment) in [("sinceDate", self.since), ("maxDate", self.until)] {
            if let Some(moment) = moment {
                url = url.with_query([(name, moment.millis().to_string().as_str())]);
            }
        }
        plain(Method::GET, &url, context)
    }

    fn from_http(response: Response<Bytes>) -> Result<Page, ApiError> {
        #[derive(Deserialize)]
        struct Wire {
            items: Vec<serde_json::Value>,
        }
        let wire: Wire = read(response)?;
        let entries = wire.items.len();
        let (activities, unreadable) = readable(wire.items);
        Ok(Page { activities, entries, unreadable })
    }
}

/// `GET {conversation.url}/activities/{id}`: one activity of a conversation; of a deleted one the tombstone that is left.
#[derive(Clone, Debug)]
pub struct GetActivity {
    /// The conversation's address.
    pub conversation: Url,
    /// Which activity.
    pub id: ActivityId,
}

impl Endpoint for GetActivity {
    type Response = Activity;

    fn destination(&self) -> Destination<'_> {
        Destination::Address(&self.conversation)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        plain(Method::GET, &self.conversation.join(["activities", self.id.as_str()]), context)
    }

    fn from_http(response: Response<Bytes>) -> Result<Activity, ApiError> {
        read(response)
    }
}

/// What can be read, and how much cannot: one strange entry must not hide the others.
fn readable<T: DeserializeOwned>(items: Vec<serde_json::Value>) -> (Vec<T>, usize) {
    let entries = items.len();
    let good: Vec<T> = items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect();
    let unreadable = entries - good.len();
    (good, unreadable)
}
