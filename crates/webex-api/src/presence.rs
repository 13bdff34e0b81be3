//! Presence (service `apheleia`): asked for many people at once, or subscribed to.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use serde::{Deserialize, Serialize};

use crate::catalog::Service;
use crate::endpoint::{Context, Destination, Endpoint, json, read};
use crate::{ApiError, PersonId, Timestamp};

/// How many people fit into one [`List`] or [`Subscribe`].
pub const MAX_SUBJECTS: usize = 50;

/// What the cloud says about a person's presence, in an answer or in an event.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(from = "PresenceWire")]
#[non_exhaustive]
pub struct Presence {
    /// Whom it is about.
    pub subject: PersonId,
    /// The composed status; `None` when nothing is said about it (a person who hides it).
    pub status: Option<Status>,
    /// Since when.
    pub status_time: Option<Timestamp>,
    /// The last activity seen in Webex.
    pub last_active: Option<Timestamp>,
    /// Which device showed it.
    pub last_seen_device_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PresenceWire {
    subject: PersonId,
    status: Option<Status>,
    event_type: Option<Status>,
    status_time: Option<Timestamp>,
    last_active: Option<Timestamp>,
    last_seen_device_url: Option<String>,
}

impl From<PresenceWire> for Presence {
    fn from(wire: PresenceWire) -> Self {
        Self {
            subject: wire.subject,
            // Some answers name the status as an event of that type.
            status: wire.status.or(wire.event_type),
            status_time: wire.status_time,
            last_active: wire.last_active,
            last_seen_device_url: wire.last_seen_device_url,
        }
    }
}

/// A status in the cloud's words.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(from = "String")]
#[non_exhaustive]
pub enum Status {
    /// In use within the last minutes.
    Active,
    /// Not in use for a while.
    Inactive,
    /// Do not disturb.
    DoNotDisturb,
    /// Out of office.
    OutOfOffice,
    /// In a call.
    Call,
    /// In a meeting.
    Meeting,
    /// Sharing the screen.
    Presenting,
    /// Busy by the calendar.
    CalendarItem,
    /// Never signed in.
    Pending,
    /// The cloud does not know.
    Unknown,
    /// Any other, as it was written.
    Other(String),
}

impl From<String> for Status {
    /// Both the service's own names and those of the public API.
    fn from(status: String) -> Self {
        match status.as_str() {
            "active" => Self::Active,
            "inactive" => Self::Inactive,
            "dnd" | "DoNotDisturb" => Self::DoNotDisturb,
            "ooo" | "OutOfOffice" => Self::OutOfOffice,
            "call" => Self::Call,
            "meeting" => Self::Meeting,
            "presenting" => Self::Presenting,
            "calendarItem" => Self::CalendarItem,
            "pending" => Self::Pending,
            "unknown" => Self::Unknown,
            _ => Self::Other(status),
        }
    }
}

/// `POST {apheleia}/compositions`: the presence of up to [`MAX_SUBJECTS`] people.
#[derive(Clone, Debug, Serialize)]
pub struct List {
    /// Whom to ask about.
    pub subjects: Vec<PersonId>,
}

impl Endpoint for List {
    type Response = Vec<Presence>;

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::Apheleia)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        json(Method::POST, &context.base.join(["compositions"]), context, &self)
    }

    /// Entries that are no presence are left out.
    fn from_http(response: Response<Bytes>) -> Result<Vec<Presence>, ApiError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire {
            status_list: Vec<serde_json::Value>,
        }
        let wire: Wire = read(response)?;
        Ok(wire.status_list.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect())
    }
}

/// `POST {apheleia}/subscriptions`: presence of up to [`MAX_SUBJECTS`] people from now on, as
/// Mercury events to the asking person's devices.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// Whom to follow.
    pub subjects: Vec<PersonId>,
    /// For how long; zero ends the subscription. The service's own choice is 600 s.
    pub ttl: Duration,
}

/// What became of a subscription to one person.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Subscribed {
    /// Who is followed.
    pub subject: PersonId,
    /// 200, or why not, in terms of HTTP.
    pub response_code: u16,
    /// The person's presence now.
    pub status: Option<Presence>,
}

impl Endpoint for Subscribe {
    type Response = Vec<Subscribed>;

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::Apheleia)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            subjects: &'a [PersonId],
            subscription_ttl: u64,
            include_status: bool,
        }
        let body =
            Body { subjects: &self.subjects, subscription_ttl: self.ttl.as_secs(), include_status: true };
        json(Method::POST, &context.base.join(["subscriptions"]), context, &body)
    }

    /// Entries that are no answer about a person are left out.
    fn from_http(response: Response<Bytes>) -> Result<Vec<Subscribed>, ApiError> {
        #[derive(Deserialize)]
        struct Wire {
            responses: Vec<serde_json::Value>,
        }
        let wire: Wire = read(response)?;
        Ok(wire.responses.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect())
    }
}
