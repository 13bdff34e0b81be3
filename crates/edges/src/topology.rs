//! Who IM and Presence homes where: one bulk query to the publisher, over AXL.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axl_client::nodes::Node;
use axl_client::users::{self, Home, Pages};
use axl_client::{AxlError, Client, Fate, Request, Row, Session, Version};
use bytes::Bytes;
use router::ids::JabberId;
use webex_api::client::{BoxFuture, Http};
use webex_api::endpoint::{Context, Destination, Endpoint};
use webex_api::{ApiError, Url};

use crate::seam::Scale;
use crate::webex::{Jids, JidsError};

/// Rows asked for at a time, until the publisher wants fewer.
const PAGE: u64 = 5_000;
/// How often a publisher that is busy is asked again before the whole reading is put off.
const TRIES: u32 = 4;
/// The wait before it is asked again; doubled each time. Scaled.
const PAUSE: Duration = Duration::from_secs(2);

/// A publisher whose address or credentials cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("AXL at {address}: {reason}")]
pub struct PublisherError {
    address: String,
    reason: String,
}

/// The users of several IM and Presence clusters, as their publishers tell.
#[derive(Debug)]
pub struct AxlJids {
    publishers: Vec<Publisher>,
    http: Http,
    scale: Scale,
}

/// One publisher; cookies and the version that it speaks are kept between readings.
#[derive(Debug)]
struct Publisher {
    base: Url,
    state: tokio::sync::Mutex<(Client, Session)>,
}

impl AxlJids {
    /// Publishers by address (scheme, host, port), user and password.
    ///
    /// # Errors
    /// An address or a user name cannot be used: which, and why.
    pub fn new(
        publishers: impl IntoIterator<Item = (String, String, String)>,
        http: Http,
        scale: Scale,
    ) -> Result<Self, PublisherError> {
        let publishers: Result<Vec<_>, _> = publishers
            .into_iter()
            .map(|(address, user, password)| {
                let wrong = |reason: String| PublisherError { address: address.clone(), reason };
                let base = address.parse().map_err(|e| wrong(format!("{e}")))?;
                let client = Client::new(&address, &user, &password).map_err(|e| wrong(e.to_string()))?;
                Ok(Publisher { base, state: tokio::sync::Mutex::new((client, Session::new())) })
            })
            .collect();
        Ok(Self { publishers: publishers?, http, scale })
    }

    /// One publisher's users, with the problems that it has with some.
    async fn users(&self, publisher: &Publisher) -> Result<users::Directory, JidsError> {
        let mut state = publisher.state.lock().await;
        let (client, session) = &mut *state;
        let nodes = self.ask(publisher, client, session, &Node::query()).await?;
        let nodes: BTreeSet<String> = nodes.iter().filter_map(Node::read).map(|node| node.id).collect();
        let mut pages = Pages::new(PAGE);
        while let Some(page) = pages.next() {
            match self.ask(publisher, client, session, &users::bulk_query(page)).await {
                Ok(rows) => pages.rows(rows),
                Err(AxlFailure::Axl(error)) => match error.fate() {
                    Fate::Smaller(suggested) if pages.too_large(suggested) => {}
                    _ => return Err(Box::new(error)),
                },
                Err(other) => return Err(Box::new(other)),
            }
        }
        Ok(users::Directory::read(&pages.into_rows(), &nodes))
    }

    /// One question; a publisher that is busy is asked again, one that speaks an older version is met.
    async fn ask(
        &self,
        publisher: &Publisher,
        client: &mut Client,
        session: &mut Session,
        request: &Request,
    ) -> Result<Vec<Row>, AxlFailure> {
        let mut tries = 0;
        loop {
            let call = Call { request: client.request(session, request), address: publisher.base.clone() };
            let answered = match self.http.send(call, &publisher.base, None).await {
                Ok(answer) => client.parse(session, request, &answer.value).map_err(AxlFailure::Axl),
                Err(error) => Err(AxlFailure::Http(error)),
            };
            let failure = match answered {
                Ok(rows) => return Ok(rows),
                Err(failure) => failure,
            };
            // A publisher that does not know our version answers with a fault that has no code.
            if let AxlFailure::Axl(error @ AxlError::Fault { code: None, .. }) = &failure
                && error.fate() == Fate::Final
            {
                if let Some(older) = client.version().older() {
                    client.set_version(older);
                    continue;
                }
                client.set_version(Version::NEWEST);
            }
            let pause = match &failure {
                AxlFailure::Axl(error) => match error.fate() {
                    Fate::Retry(after) => after,
                    _ => return Err(failure),
                },
                AxlFailure::Http(_) => None,
            };
            tries += 1;
            if tries == TRIES {
                return Err(failure);
            }
            let wait = pause.unwrap_or_else(|| self.scale.of(PAUSE * (1 << tries)));
            tokio::time::sleep(wait).await;
        }
    }
}

impl Jids for AxlJids {
    fn read(&self) -> BoxFuture<'_, Result<BTreeMap<String, JabberId>, JidsError>> {
        Box::pin(async move {
            let mut jids = BTreeMap::new();
            for publisher in &self.publishers {
                let directory = self.users(publisher).await?;
                for problem in &directory.problems {
                    tracing::warn!(%problem, "a user of IM and Presence is not served");
                }
                for (jid, user) in directory.users {
                    if let (Some(mail), false) = (user.mail, user.home == Home::Elsewhere) {
                        jids.insert(mail, JabberId::new(jid));
                    }
                }
            }
            Ok(jids)
        })
    }
}

/// Why one question had no answer.
#[derive(Debug, thiserror::Error)]
enum AxlFailure {
    #[error("the publisher refused")]
    Axl(#[source] AxlError),
    #[error("the publisher cannot be reached")]
    Http(#[source] ApiError),
}

/// An AXL request as the HTTP client takes it: written and read by `axl-client`.
struct Call {
    request: http::Request<Bytes>,
    address: Url,
}

impl Endpoint for Call {
    type Response = http::Response<Bytes>;

    fn destination(&self) -> Destination<'_> {
        Destination::Address(&self.address)
    }

    fn into_http(self, _: &Context<'_>) -> Result<http::Request<Bytes>, ApiError> {
        Ok(self.request)
    }

    fn from_http(response: http::Response<Bytes>) -> Result<Self::Response, ApiError> {
        Ok(response)
    }
}
