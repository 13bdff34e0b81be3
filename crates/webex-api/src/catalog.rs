//! The service catalog (U2C): which base address each service has for an organization.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::{Method, Request, Response};
use serde::{Deserialize, Serialize};

use crate::endpoint::{Context, Destination, Endpoint, plain, read};
use crate::{ApiError, OrgId, Url};

/// A service that this crate speaks to.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Service {
    /// The catalog itself.
    U2c,
    /// Conversations and activities.
    Conversation,
    /// Device registration.
    Wdm,
    /// Carries messages to and from the key service.
    Encryption,
    /// Presence.
    Apheleia,
    /// The public API: people.
    Hydra,
    /// Tokens.
    Idbroker,
}

impl Service {
    /// The name under which the catalog lists it.
    pub fn name(self) -> &'static str {
        match self {
            Self::U2c => "u2c",
            Self::Conversation => "conversation",
            Self::Wdm => "wdm",
            Self::Encryption => "encryption",
            Self::Apheleia => "apheleia",
            Self::Hydra => "hydra",
            Self::Idbroker => "idbroker",
        }
    }
}

/// Asks for the catalog: with a token the person's own, without one that of an organization.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Get {
    /// `GET {u2c}/catalog?format=hostmap`, with a token.
    Full,
    /// `GET {u2c}/limited/catalog?orgId=…&format=hostmap`, without one.
    Limited(OrgId),
}

/// Base addresses by service name; entries that are no absolute address are left out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct Catalog {
    links: BTreeMap<String, Url>,
    /// Host, port and whether encrypted of all of them, each once: asked for with each request.
    places: BTreeSet<(String, u16, bool)>,
}

impl Catalog {
    /// A catalog made by hand.
    pub fn new(links: impl IntoIterator<Item = (Service, Url)>) -> Self {
        Self::of(links.into_iter().map(|(service, url)| (service.name().to_owned(), url)).collect())
    }

    fn of(links: BTreeMap<String, Url>) -> Self {
        let places = links.values().map(|url| (url.host().to_owned(), url.port(), url.is_secure())).collect();
        Self { links, places }
    }

    /// The base address of a service; `None` when the catalog does not list it.
    pub fn base(&self, service: Service) -> Option<&Url> {
        self.links.get(service.name())
    }

    /// Whether a token may be sent to this address: one of the catalog's own hosts, or a host
    /// inside the cloud's domains. Addresses in answers are followed only if so.
    pub fn trusts(&self, url: &Url) -> bool {
        let (host, port, secure) = (url.host(), url.port(), url.is_secure());
        self.places.iter().any(|place| (place.0.as_str(), place.1, place.2) == (host, port, secure))
            || (url.is_secure()
                && CLOUD_DOMAINS
                    .iter()
                    .any(|domain| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))))
    }
}

/// Domains of the cloud, whose hosts are trusted over an encrypted connection.
const CLOUD_DOMAINS: [&str; 4] = ["wbx2.com", "ciscospark.com", "webex.com", "webexapis.com"];

impl Endpoint for Get {
    type Response = Catalog;

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::U2c)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        let url = match &self {
            Self::Full => context.base.join(["catalog"]).with_query([("format", "hostmap")]),
            Self::Limited(org) => context
                .base
                .join(["limited", "catalog"])
                .with_query([("orgId", org.as_str()), ("format", "hostmap")]),
        };
        plain(Method::GET, &url, context)
    }

    fn from_http(response: Response<Bytes>) -> Result<Catalog, ApiError> {
        read(response)
    }
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    service_links: BTreeMap<String, serde_json::Value>,
}

impl From<Wire> for Catalog {
    fn from(wire: Wire) -> Self {
        let url = |value: serde_json::Value| value.as_str()?.parse().ok();
        let links = wire.service_links.into_iter();
        Self::of(links.filter_map(|(name, value)| Some((name, url(value)?))).collect())
    }
}

impl From<Catalog> for Wire {
    fn from(catalog: Catalog) -> Self {
        let links = catalog.links.into_iter();
        Self { service_links: links.map(|(name, url)| (name, String::from(url).into())).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_to_the_catalogs_hosts_and_the_clouds_domains_only() {
        let url = |text: &str| text.parse::<Url>().unwrap();
        let catalog = Catalog::new([(Service::Conversation, url("http://127.0.0.1:80/conversation/api/v1"))]);
        for (address, trusted) in [
            ("http://127.0.0.1/other", true),
            ("http://127.0.0.1:81/other", false),
            ("https://127.0.0.1:80/other", false),
            ("https://conv-k.wbx2.com/conversation/api/v1", true),
            ("http://conv-k.wbx2.com/conversation/api/v1", false),
            ("https://evilwbx2.com/", false),
            ("https://wbx2.com.evil.example/", false),
        ] {
            assert_eq!(catalog.trusts(&url(address)), trusted, "{address}");
        }
    }
}
