//! What IM and Presence says of itself over AXL: its nodes and how they fare, who takes over for whom, and who is homed
//! where.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axl_client::changes::{Changes, Mark};
use axl_client::nodes::{Node, State};
use axl_client::redundancy::Group;
use axl_client::users::{self, Home, Pages, Reading, Scheme};
use axl_client::{AxlError, Client, Fate, Request, Row, Session, Version};
use router::ids::JabberId;
use tokio::sync::watch;
use webex_api::client::{BoxFuture, Http};
use webex_api::{ApiError, Url};

use crate::jabber::{NodeStanding, Standing};
use crate::probe::causes;
use crate::seam::Scale;
use crate::soap::Call;
use crate::webex::{Account, Jids, JidsError};

/// Rows asked for at a time, until the publisher wants fewer.
const PAGE: u64 = 10_000;
/// How often a publisher that is busy is asked again before the whole reading is put off.
const TRIES: u32 = 4;
/// The wait before it is asked again; doubled each time. Scaled.
const PAUSE: Duration = Duration::from_secs(2);
/// How often it is asked whether something has changed. Scaled.
const NEWS: Duration = Duration::from_secs(30);
/// How often it is asked how its nodes fare. Scaled.
const LOOK: Duration = Duration::from_secs(15);

/// A publisher whose address or credentials cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("AXL at {address}: {reason}")]
pub struct PublisherError {
    address: String,
    reason: String,
}

/// One publisher, as it is to be asked.
#[derive(Debug)]
pub struct PublisherConfig {
    /// Which of the Jabber edge's clusters it is the publisher of.
    pub cluster: usize,
    /// Scheme, host and port.
    pub address: String,
    /// A user with the role Standard AXL API Access.
    pub user: String,
    /// That user's password.
    pub password: String,
    /// What IM addresses are made of, where it does not tell them.
    pub scheme: Scheme,
}

/// The users of several IM and Presence clusters, as their publishers tell.
#[derive(Debug)]
pub struct AxlJids {
    publishers: Vec<Publisher>,
    http: Http,
    scale: Scale,
}

/// One publisher; cookies, the version that it speaks and the queue of its changes are kept between readings.
#[derive(Debug)]
struct Publisher {
    cluster: usize,
    base: Url,
    scheme: Scheme,
    state: tokio::sync::Mutex<(Client, Session)>,
    queue: tokio::sync::Mutex<Queue>,
}

/// What is known of a publisher's queue of changes.
#[derive(Clone, Debug, PartialEq)]
enum Queue {
    /// It was not asked.
    Unasked,
    /// It was read up to here.
    At(Mark),
    /// There is none: not every publisher of IM and Presence tells its changes.
    None,
}

/// What one publisher said of its cluster.
#[derive(Debug)]
pub struct ClusterFacts {
    /// Which of the Jabber edge's clusters it is.
    pub cluster: usize,
    /// The nodes, by their ids.
    pub nodes: Vec<Node>,
    /// Who takes over for whom; `None` where the publisher does not tell.
    pub groups: Option<Vec<Group>>,
    /// Its users, and what is wrong with some.
    pub users: users::Directory,
}

impl ClusterFacts {
    /// How many users it homes.
    #[must_use]
    pub fn homed(&self) -> usize {
        self.users.served()
    }
}

impl AxlJids {
    /// The publishers, asked by this client.
    ///
    /// # Errors
    /// An address or a user name cannot be used: which, and why.
    pub fn new(
        publishers: impl IntoIterator<Item = PublisherConfig>,
        http: Http,
        scale: Scale,
    ) -> Result<Self, PublisherError> {
        let publishers: Result<Vec<_>, _> = publishers
            .into_iter()
            .map(|PublisherConfig { cluster, address, user, password, scheme }| {
                let wrong = |reason: String| PublisherError { address: address.clone(), reason };
                let base = address.parse().map_err(|e| wrong(format!("{e}")))?;
                let client = Client::new(&address, &user, &password).map_err(|e| wrong(e.to_string()))?;
                let state = tokio::sync::Mutex::new((client, Session::new()));
                let queue = tokio::sync::Mutex::new(Queue::Unasked);
                Ok(Publisher { cluster, base, scheme, state, queue })
            })
            .collect();
        Ok(Self { publishers: publishers?, http, scale })
    }

    /// Everything that the publishers tell, one cluster after another.
    ///
    /// # Errors
    /// Why one of them did not tell.
    pub async fn clusters(&self) -> Result<Vec<ClusterFacts>, JidsError> {
        let mut clusters = Vec::new();
        for publisher in &self.publishers {
            clusters.push(self.cluster(publisher).await?);
        }
        Ok(clusters)
    }

    /// How the nodes of all clusters stand. A publisher that does not answer leaves its own out.
    pub async fn standing(&self) -> Standing {
        let mut standing = Standing::default();
        for publisher in &self.publishers {
            let mut state = publisher.state.lock().await;
            let (client, session) = &mut *state;
            let nodes = match self.ask(publisher, client, session, &Node::query()).await {
                Ok(rows) => rows.iter().filter_map(Node::read).collect::<Vec<_>>(),
                Err(error) => {
                    tracing::warn!(cluster = publisher.cluster, error = causes(&error), "nodes not read");
                    continue;
                }
            };
            let groups = self.groups(publisher, client, session).await.ok().flatten().unwrap_or_default();
            standing.nodes.extend(stand(publisher.cluster, &nodes, &groups));
        }
        standing
    }

    /// Asks again and again how the nodes stand, for as long as somebody wants to know.
    #[must_use]
    pub fn watch(self: Arc<Self>) -> watch::Receiver<Standing> {
        let (told, receiver) = watch::channel(Standing::default());
        tokio::spawn(async move {
            loop {
                let standing = self.standing().await;
                if told.is_closed() {
                    return;
                }
                told.send_if_modified(|before| {
                    let changed = *before != standing;
                    *before = standing;
                    changed
                });
                tokio::time::sleep(self.scale.of(LOOK)).await;
            }
        });
        receiver
    }

    /// Whether something has changed since the queue was asked last. That it cannot be asked is no news: everything is
    /// read again and again anyway.
    async fn has_news(&self, publisher: &Publisher) -> bool {
        let mut queue = publisher.queue.lock().await;
        let before = match &*queue {
            Queue::Unasked => None,
            Queue::At(mark) => Some(mark.clone()),
            Queue::None => return false,
        };
        let Ok(request) = Request::list_change(before.as_ref()) else {
            *queue = Queue::Unasked;
            return true;
        };
        let mut state = publisher.state.lock().await;
        let (client, session) = &mut *state;
        match self.ask(publisher, client, session, &request).await {
            Ok(rows) => match Changes::read(&rows) {
                Some(changes) => {
                    let news = changes.is_news(before.as_ref());
                    *queue = Queue::At(changes.mark);
                    news
                }
                None => {
                    *queue = Queue::None;
                    false
                }
            },
            // It does not know our mark any more, or no such thing at all.
            Err(AxlFailure::Axl(error)) if error.fate() == Fate::Final => {
                *queue = if before.is_some() { Queue::Unasked } else { Queue::None };
                before.is_some()
            }
            Err(error) => {
                tracing::debug!(cluster = publisher.cluster, error = causes(&error), "no changes read");
                false
            }
        }
    }

    async fn cluster(&self, publisher: &Publisher) -> Result<ClusterFacts, JidsError> {
        // What changes from here on is news, whether this reading sees it or not.
        self.has_news(publisher).await;
        let mut state = publisher.state.lock().await;
        let (client, session) = &mut *state;
        let nodes = self.ask(publisher, client, session, &Node::query()).await?;
        let nodes: Vec<Node> = nodes.iter().filter_map(Node::read).collect();
        let groups = self.groups(publisher, client, session).await?;
        let here: BTreeSet<String> = nodes.iter().map(|node| node.id.clone()).collect();
        let mut reading = Reading::new(here, publisher.scheme.clone());
        let (mut pages, mut with_addresses) = (Pages::new(PAGE), true);
        while let Some(page) = pages.next() {
            let query = match with_addresses {
                true => users::bulk_query(page),
                false => users::bulk_query_without_addresses(page),
            };
            match self.ask(publisher, client, session, &query).await {
                Ok(rows) => {
                    pages.took(rows.len());
                    reading.take(&rows);
                }
                Err(AxlFailure::Axl(AxlError::Fault { code: Some(users::NO_SUCH_COLUMN), .. }))
                    if with_addresses =>
                {
                    with_addresses = false;
                }
                Err(AxlFailure::Axl(error)) => match error.fate() {
                    Fate::Smaller(suggested) if pages.too_large(suggested) => {}
                    _ => return Err(Box::new(error)),
                },
                Err(other) => return Err(Box::new(other)),
            }
        }
        let users = reading.finish();
        Ok(ClusterFacts { cluster: publisher.cluster, nodes, groups, users })
    }

    /// The redundancy groups. Not every release answers this on the publisher of IM and Presence.
    async fn groups(
        &self,
        publisher: &Publisher,
        client: &mut Client,
        session: &mut Session,
    ) -> Result<Option<Vec<Group>>, JidsError> {
        match self.ask(publisher, client, session, &Request::list_presence_redundancy_group()).await {
            Ok(rows) => Ok(Some(rows.iter().filter_map(Group::read).collect())),
            Err(AxlFailure::Axl(error)) if error.fate() == Fate::Final => Ok(None),
            Err(error) => Err(Box::new(error)),
        }
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
    fn read(&self) -> BoxFuture<'_, Result<BTreeMap<String, Account>, JidsError>> {
        Box::pin(async move {
            let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
            for facts in self.clusters().await? {
                for problem in &facts.users.problems {
                    tracing::warn!(%problem, "a user of IM and Presence is not served");
                }
                for (jid, user) in facts.users.users {
                    let Some(mail) = user.mail else { continue };
                    let home = match &user.home {
                        Home::Here(id) => facts.nodes.iter().find(|node| node.id == *id),
                        Home::Elsewhere => None,
                    };
                    let home = home.map(|node| home_name(facts.cluster, &node.name));
                    let account = Account { jid: JabberId::new(jid), home };
                    // Publishers know the users of one another; the one that homes a user is right.
                    if account.home.is_some() || !accounts.contains_key(&mail) {
                        accounts.insert(mail, account);
                    }
                }
            }
            Ok(accounts)
        })
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                tokio::time::sleep(self.scale.of(NEWS)).await;
                for publisher in &self.publishers {
                    if self.has_news(publisher).await {
                        tracing::debug!(cluster = publisher.cluster, "the publisher tells of changes");
                        return;
                    }
                }
            }
        })
    }
}

/// What the state of a cluster's nodes says of where their users are.
fn stand(cluster: usize, nodes: &[Node], groups: &[Group]) -> BTreeMap<(usize, Box<str>), NodeStanding> {
    let state = |name: &str| nodes.iter().find(|node| node.name == name).map(|node| node.state);
    let serves = |state| matches!(state, Some(State::Normal | State::Idle | State::Backup));
    nodes
        .iter()
        .map(|node| {
            let group = groups.iter().find(|group| group.enabled && group.nodes.contains(&node.name));
            let partner = group.and_then(|group| group.nodes.iter().find(|other| **other != node.name));
            let taken_over = match partner.map(|partner| state(partner)) {
                Some(Some(State::Backup)) if !serves(Some(node.state)) => Some(true),
                _ if serves(Some(node.state)) => Some(false),
                _ => None,
            };
            let partner = partner.map(|partner| partner.as_str().into());
            ((cluster, node.name.as_str().into()), NodeStanding { partner, taken_over })
        })
        .collect()
}

/// A node of a cluster, as the router is told of it: words that only the edges understand.
fn home_name(cluster: usize, node: &str) -> Box<str> {
    format!("{cluster}/{node}").into()
}

/// The cluster and the node of a home; `None` where any node of the domain's cluster will do.
pub(crate) fn home_of(home: &str) -> Option<(usize, &str)> {
    let (cluster, node) = home.split_once('/')?;
    Some((cluster.parse().ok()?, node))
}

/// Why one question had no answer.
#[derive(Debug, thiserror::Error)]
enum AxlFailure {
    #[error("the publisher refused")]
    Axl(#[source] AxlError),
    #[error("the publisher cannot be reached")]
    Http(#[source] ApiError),
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::soap::far::Service;

    /// A publisher that answers by this function of what it is asked, and everybody on it.
    fn publisher(script: impl FnMut(&str) -> (u16, String) + Send + 'static) -> AxlJids {
        let config = PublisherConfig {
            cluster: 0,
            address: "http://imp.lab.example:8443".into(),
            user: "reader".into(),
            password: "secret".into(),
            scheme: Scheme::UserId("lab.example".into()),
        };
        AxlJids::new([config], Service::new(script).client(), Scale(1)).unwrap()
    }

    fn answer(operation: &str, inside: &str) -> (u16, String) {
        (
            200,
            format!(
                "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body>\
                 <n:{operation}Response xmlns:n='http://www.cisco.com/AXL/API/14.0'>{inside}</n:{operation}Response>\
                 </s:Body></s:Envelope>"
            ),
        )
    }

    fn fault(code: &str) -> (u16, String) {
        let text = "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body><s:Fault><faultstring>no\
                    </faultstring><detail><axlError>CODE<axlmessage>no</axlmessage></axlError></detail></s:Fault></s:Body>\
                    </s:Envelope>";
        (500, text.replace("CODE", code))
    }

    /// How the queue of a publisher stands.
    #[derive(Clone, Copy)]
    struct Told {
        queue: &'static str,
        last: u64,
        /// It is not there, or knows nothing of the mark that it is asked with.
        refuses: bool,
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_or_another_queue_is_a_reason_to_read_everything_again() {
        let told = Arc::new(Mutex::new(Told { queue: "A", last: 510, refuses: false }));
        let (queue, asked) = (Arc::clone(&told), Arc::new(Mutex::new(0)));
        let count = Arc::clone(&asked);
        let jids = publisher(move |question| {
            assert!(question.contains("listChange"), "{question}");
            *count.lock().unwrap() += 1;
            let Told { queue, last, refuses } = *queue.lock().unwrap();
            if refuses {
                return fault("<axlcode>5000</axlcode>");
            }
            let since = question.split_once(&format!("queueId='{queue}'>")).map(|(_, rest)| rest);
            let next: u64 = since.map_or(last + 1, |rest| rest.split('<').next().unwrap().parse().unwrap());
            let change = "<change uuid='{x}' type='User'><id>1</id><action>u</action></change>";
            let changes = change.repeat(usize::try_from(last + 1 - next).unwrap());
            let info = format!(
                "<queueInfo><nextStartChangeId>{}</nextStartChangeId><queueId>{queue}</queueId></queueInfo>",
                last + 1
            );
            answer("listChange", &format!("{info}<changes>{changes}</changes>"))
        });
        let tell = |change: fn(&mut Told)| change(&mut told.lock().unwrap());
        let news = async || jids.has_news(&jids.publishers[0]).await;
        assert!(!news().await, "where the queue stands at the beginning");
        assert!(!news().await);
        tell(|told| told.last += 2);
        assert!(news().await);
        assert!(!news().await, "once");
        tell(|told| (told.queue, told.last) = ("B", 3));
        assert!(news().await, "a queue that was built anew");
        assert!(!news().await);
        tell(|told| told.refuses = true);
        assert!(news().await, "the mark is not known any more");
        tell(|told| told.refuses = false);
        assert!(!news().await);
        // Whoever waits for changes is told of the next within a minute.
        tell(|told| told.last += 1);
        tokio::time::timeout(2 * NEWS, jids.changed()).await.unwrap();
        // One that does not know the question is not asked again.
        let (none, count) = (Arc::new(Mutex::new(0)), asked);
        let asked = Arc::clone(&none);
        let jids = publisher(move |_| {
            *asked.lock().unwrap() += 1;
            fault("<axlcode>5000</axlcode>")
        });
        for _ in 0..5 {
            assert!(!jids.has_news(&jids.publishers[0]).await);
        }
        assert_eq!((*none.lock().unwrap(), *count.lock().unwrap()), (1, 9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_release_without_columns_of_addresses_is_asked_without_them() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let questions = Arc::clone(&asked);
        let jids = publisher(move |question| {
            let rows = |rows: &str| answer("executeSQLQuery", &format!("<return>{rows}</return>"));
            if question.contains("from enterprisenode") {
                return rows("<row><id>1</id><name>imp1.lab.example</name></row>");
            }
            if !question.contains("from enduser") {
                return fault("<axlcode>5000</axlcode>");
            }
            questions.lock().unwrap().push(question.contains("imaddress"));
            match question.contains("imaddress") {
                true => fault("<axlcode>-217</axlcode>"),
                false => rows(
                    "<row><userid>Ann</userid><mailid>a@corp.example</mailid><enablecups>t</enablecups>\
                     <primarynodeid>1</primarynodeid></row>",
                ),
            }
        });
        let accounts = jids.read().await.unwrap();
        let ann = &accounts["a@corp.example"];
        assert_eq!((ann.jid.as_str(), ann.home.as_deref()), ("ann@lab.example", Some("0/imp1.lab.example")));
        assert_eq!(*asked.lock().unwrap(), [true, false]);
    }

    #[test]
    fn where_users_are_follows_from_the_states_of_both_nodes_of_a_group() {
        let node = |name: &str, state| Node { id: name.into(), name: name.into(), primary: None, state };
        let group = |enabled| Group { name: "pair".into(), nodes: vec!["one".into(), "two".into()], enabled };
        for (one, two, enabled, partner, taken_over) in [
            (State::Normal, State::Normal, true, true, Some(false)),
            (State::Idle, State::Idle, false, false, Some(false)),
            (State::Other(8), State::Backup, true, true, Some(true)),
            (State::Other(5), State::Normal, true, true, None),
            (State::Other(8), State::Backup, false, false, None),
            (State::Unknown, State::Unknown, true, true, None),
            (State::Backup, State::Other(8), true, true, Some(false)),
        ] {
            let standing = stand(3, &[node("one", one), node("two", two)], &[group(enabled)]);
            let of_one = &standing[&(3, "one".into())];
            assert_eq!(of_one.partner.as_deref(), partner.then_some("two"), "{one:?} {two:?}");
            assert_eq!(of_one.taken_over, taken_over, "{one:?} {two:?}");
        }
        assert_eq!(home_of(&home_name(3, "imp1.lab.example")), Some((3, "imp1.lab.example")));
        assert_eq!(home_of(""), None);
    }
}
