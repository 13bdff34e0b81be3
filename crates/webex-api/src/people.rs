//! People: pages of an organization's people with their licences (public API), and addresses to
//! people (conversation service).

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, Request, Response};
use serde::{Deserialize, Serialize};

use crate::catalog::Service;
use crate::endpoint::{Context, Destination, Endpoint, json, next_link, plain, read};
use crate::{ApiError, OrgId, PersonId, Url};

/// `GET {hydra}/people`: one page of people. With an administrator's token it holds their licences.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum List {
    /// The first page, with at most this many people.
    First {
        /// At most 1000.
        max: u32,
    },
    /// Particular people, at most 85.
    ById(Vec<PersonId>),
    /// The page behind [`Page::next`].
    Next(Url),
}

/// One page of people.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Page {
    /// The people.
    pub people: Vec<Person>,
    /// The next page; `None` on the last one.
    pub next: Option<Url>,
    /// How many entries were no person that can be read: the page is not complete unless it is 0.
    pub unreadable: usize,
}

/// A person in an administrator's eyes.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Wire")]
#[non_exhaustive]
pub struct Person {
    /// Who it is, as activities name the person.
    pub id: PersonId,
    /// Addresses, the main one first.
    pub emails: Vec<String>,
    /// The name to show.
    pub display_name: Option<String>,
    /// The person's organization.
    pub org_id: Option<OrgId>,
    /// Licence identifiers; `None`: the asking token may not see them.
    pub licenses: Option<Vec<String>>,
    /// Whether the person was invited and has never signed in.
    pub invite_pending: bool,
    /// Whether the person may sign in; `None`: not said.
    pub login_enabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: String,
    #[serde(default)]
    emails: Vec<String>,
    display_name: Option<String>,
    org_id: Option<String>,
    licenses: Option<Vec<String>>,
    #[serde(default)]
    invite_pending: bool,
    login_enabled: Option<bool>,
}

impl TryFrom<Wire> for Person {
    type Error = crate::IdError;
    fn try_from(wire: Wire) -> Result<Self, crate::IdError> {
        Ok(Self {
            id: PersonId::from_public(&wire.id)?,
            emails: wire.emails,
            display_name: wire.display_name,
            org_id: wire.org_id.and_then(|org| OrgId::from_public(&org).ok()),
            licenses: wire.licenses,
            invite_pending: wire.invite_pending,
            login_enabled: wire.login_enabled,
        })
    }
}

impl Endpoint for List {
    type Response = Page;

    fn destination(&self) -> Destination<'_> {
        match self {
            Self::First { .. } | Self::ById(_) => Destination::Service(Service::Hydra),
            Self::Next(url) => Destination::Address(url),
        }
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        let people = context.base.join(["people"]);
        let url = match self {
            Self::First { max } => people.with_query([("max", max.to_string().as_str())]),
            Self::ById(ids) => {
                let ids: Vec<&str> = ids.iter().map(PersonId::as_str).collect();
                people.with_query([("id", ids.join(",").as_str())])
            }
            Self::Next(url) => url,
        };
        plain(Method::GET, &url, context)
    }

    fn from_http(response: Response<Bytes>) -> Result<Page, ApiError> {
        #[derive(Deserialize)]
        struct Body {
            items: Vec<serde_json::Value>,
        }
        let next = next_link(&response);
        let body: Body = read(response)?;
        let entries = body.items.len();
        let people: Vec<Person> =
            body.items.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect();
        let unreadable = entries - people.len();
        Ok(Page { people, next, unreadable })
    }
}

/// `GET {hydra}/people/me`: whose token it is.
#[derive(Clone, Copy, Debug)]
pub struct Me;

impl Endpoint for Me {
    type Response = Person;

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::Hydra)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        plain(Method::GET, &context.base.join(["people", "me"]), context)
    }

    fn from_http(response: Response<Bytes>) -> Result<Person, ApiError> {
        read(response)
    }
}

/// `POST {conversation}/users`: who has these addresses. Nobody is created.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// At most 100 addresses.
    pub emails: Vec<String>,
}

impl Endpoint for Lookup {
    /// By address as asked; addresses of nobody are missing.
    type Response = BTreeMap<String, PersonId>;

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::Conversation)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        #[derive(Serialize)]
        struct Email<'a> {
            email: &'a str,
        }
        let body: Vec<Email<'_>> = self.emails.iter().map(|email| Email { email }).collect();
        json(Method::POST, &context.base.join(["users"]), context, &body)
    }

    fn from_http(response: Response<Bytes>) -> Result<Self::Response, ApiError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Entry {
            id: Option<PersonId>,
            #[serde(default = "yes")]
            user_exists: bool,
        }
        fn yes() -> bool {
            true
        }
        let entries: BTreeMap<String, serde_json::Value> = read(response)?;
        let person = |entry| {
            let entry: Entry = serde_json::from_value(entry).ok()?;
            entry.id.filter(|_| entry.user_exists)
        };
        Ok(entries.into_iter().filter_map(|(email, entry)| Some((email, person(entry)?))).collect())
    }
}
