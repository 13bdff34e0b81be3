//! The Jabber side as one value: sessions held on IM and Presence, what they bring, what they send.
//!
//! ```text
//!   hub ── orders ──► JabberEdge ── commands ──► Link ◄─► xmpp_core::tokio::Connection
//!    ▲                  │ prepares deliveries      │ sessions, positions, resumption
//!    └──── HubPort ◄────┴──────────────────────────┘
//! ```
//!
//! There is one link for each node of a cluster with a trusted link (one for the cluster where it is not known who is
//! homed on which node), and one for each user otherwise. A link is one task. It keeps to rule 11 by itself: positions before bytes, nothing in between, nothing after a
//! resumption before the router has settled it.

mod archive;
mod arrivals;
mod board;
mod config;
mod delivery;
mod dial;
pub(crate) mod intake;
mod kept;
mod link;
mod nodes;
mod ns;
mod one_time;
mod opener;
mod outgoing;
mod pool;
mod refusals;
mod session;
#[cfg(test)]
mod tests;
mod trial;
mod turns;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use router::directory::Directory;
use router::ids::{PersonId, StreamId};
use router::inbound::{Cause, Inbound, Outcome, SessionEvent};
use router::outbound::{Hint, Wanted};
use router::outbox::Lane;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use xmpp_core::{BareJid, FullJid};

pub use config::{Access, Cluster, Config, Encryption, Framing};
pub use kept::{Kept, keeps};
pub use nodes::{NodeStanding, Standing};
pub use one_time::OneTime;
pub use opener::{Cleartext, OpenError, Opener, Opening};
pub use refusals::{Refusals, RefusedSession};
pub use trial::{Capabilities, TrialError, measure};

use self::board::Board;
use self::config::Shared;
use self::link::{Command, Link};
use self::nodes::{News, NodeKey, Nodes};
use self::session::Prepared;
use self::turns::Turns;
use crate::crash;
use crate::port::{Delivery, HubPort, Order};
use crate::seam::{Clock, Dial, Generator, Scale};
use crate::topology::home_of;

/// How long a delivery may wait for a key or a session (rule 14). Scaled.
const WAIT: Duration = Duration::from_secs(5);

/// The Jabber edge. There is nothing to hold of it: it lives in its task, and speaks through its port.
#[derive(Debug)]
pub struct JabberEdge;

/// What the edge is given to work with, besides its settings.
pub struct Means {
    /// Opens sealed bodies, and knows who takes part in a conversation.
    pub opener: Arc<dyn Opener>,
    /// Makes connections.
    pub dial: Arc<dyn Dial>,
    /// The time of day.
    pub clock: Clock,
    /// Chance.
    pub generator: Generator,
    /// How fast waits run.
    pub scale: Scale,
    /// How nodes stand, where a publisher tells.
    pub standing: Option<watch::Receiver<Standing>>,
    /// Is told whom no server gives a session.
    pub refusals: Refusals,
}

impl JabberEdge {
    /// Starts the edge where the store has left off. Its task ends after [`Order::Stop`], or when the hub is
    /// gone.
    pub fn start(
        config: Config,
        port: HubPort,
        orders: UnboundedReceiver<Order>,
        kept: Kept,
        means: Means,
    ) -> JoinHandle<()> {
        let Means { opener, dial, clock, generator, scale, standing, refusals } = means;
        // One word for each change of a link or of who is on it: the edge takes them at once.
        let (news, told) = mpsc::unbounded_channel();
        let turns = Turns::new(config.sessions_per_second, scale, generator.clone());
        let shared = Arc::new(Shared { config, dial, clock, generator, scale, turns, refusals, news });
        let mut edge = Edge {
            shared,
            board: Arc::new(Board::new(port)),
            opener,
            directory: Arc::new(Directory::default()),
            kept,
            links: BTreeMap::new(),
            people: BTreeMap::new(),
            nodes: Nodes::default(),
            told,
            standing,
            tasks: JoinSet::new(),
            preparing: JoinSet::new(),
            stopping: false,
        };
        edge.take_up();
        tokio::spawn(edge.run(orders))
    }
}

/// Which link carries whom: one for everybody of a cluster or of a node, or one for a person.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LinkKey {
    Cluster(usize),
    Node(NodeKey),
    Person(usize, PersonId),
}

/// A person whose session the router has spoken of.
struct Held {
    wanted: Wanted,
    /// Where the session is, and under which JID; `None`: the person has no JID that we serve.
    place: Option<(LinkKey, FullJid)>,
    /// The link of `place` was asked to let go; where the session goes then is decided then.
    moving: bool,
    /// `place` is where an earlier run had it, and the router has not spoken of it yet.
    found: bool,
}

struct Edge {
    shared: Arc<Shared>,
    board: Arc<Board>,
    opener: Arc<dyn Opener>,
    directory: Arc<Directory>,
    kept: Kept,
    links: BTreeMap<LinkKey, UnboundedSender<Command>>,
    people: BTreeMap<PersonId, Held>,
    nodes: Nodes,
    told: UnboundedReceiver<(LinkKey, News)>,
    standing: Option<watch::Receiver<Standing>>,
    tasks: JoinSet<()>,
    preparing: JoinSet<()>,
    stopping: bool,
}

impl Edge {
    /// Connects every trusted link, and takes up the client streams of an earlier run.
    fn take_up(&mut self) {
        let owners: Vec<PersonId> =
            self.kept.values.keys().filter_map(|key| kept::stream_owner(key)).map(PersonId::new).collect();
        let shared = Arc::clone(&self.shared);
        for (at, cluster) in shared.config.clusters.iter().enumerate() {
            let Access::Trusted { component, .. } = &cluster.access else { continue };
            let node_kept = |name: &String| self.kept.values.contains_key(&kept::node_key(component, name));
            let kept: Vec<usize> =
                (0..cluster.names.len()).filter(|n| node_kept(&cluster.names[*n])).collect();
            // Two links to one node would drive each other out.
            if cluster.names.is_empty() {
                self.link(&LinkKey::Cluster(at));
            }
            for node in kept {
                let key = LinkKey::Node((at, node));
                self.link(&key);
                self.found_on(&key, &kept::node_key(component, &cluster.names[node]));
            }
        }
        for owner in owners {
            let stored: Option<kept::KeptSession> = self.kept.get(&kept::session_key(&owner));
            let jid = stored.and_then(|session| BareJid::new(&session.jid).ok());
            let cluster = jid.and_then(|jid| self.cluster(&jid));
            if let Some(cluster) = cluster.filter(|at| !self.shared.config.clusters[*at].access.is_trusted())
            {
                self.link(&LinkKey::Person(cluster, owner));
            }
        }
    }

    async fn run(mut self, mut orders: UnboundedReceiver<Order>) {
        let shared = Arc::clone(&self.shared);
        let mut turns = std::pin::pin!(shared.turns.run());
        loop {
            tokio::select! {
                biased;
                () = &mut turns => {}
                order = orders.recv() => match order {
                    Some(order) => self.order(order),
                    // The hub is gone, so there is nobody to carry anything for.
                    None => return,
                },
                Some((key, news)) = self.told.recv() => self.news(&key, news),
                changed = changed(&mut self.standing) => match changed {
                    Some(standing) => self.stand(standing),
                    None => self.standing = None,
                },
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a link has died");
                        return;
                    }
                }
                Some(ended) = self.preparing.join_next() => {
                    // Its delivery would be waited for in vain.
                    if let Err(error) = ended {
                        tracing::error!(%error, "the preparation of a delivery has died");
                        return;
                    }
                }
            }
            if self.stopping && self.tasks.is_empty() {
                return;
            }
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Deliver(delivery) => self.deliver(*delivery),
            Order::Write(ticket) => self.board.answered(ticket, Command::Write(ticket)),
            Order::Skip(ticket) => self.board.answered(ticket, Command::Skip(ticket)),
            Order::Settled(stream) => self.board.to_stream(&stream, Command::Settled(stream.clone())),
            Order::Acknowledge(upstream) => {
                if let StreamId::Imp(stream) = &upstream.stream {
                    self.board.to_stream(stream, Command::Acknowledge(stream.clone(), upstream.n));
                }
            }
            Order::Session(person, wanted) => self.want(person, wanted),
            Order::Hint(hint, place) => self.hint(hint, place),
            Order::Kept(ask) => self.board.kept(ask),
            Order::Directory(directory) => {
                self.directory = directory;
                self.look_up_again();
            }
            Order::Stop { sign_out } => self.stop(sign_out),
        }
    }

    /// The way to a link, which is started if there is none.
    fn link(&mut self, key: &LinkKey) -> UnboundedSender<Command> {
        if let Some(link) = self.links.get(key) {
            return link.clone();
        }
        let (shared, board) = (Arc::clone(&self.shared), Arc::clone(&self.board));
        // The stream of a user is looked for first where the user is homed.
        let first = match key {
            LinkKey::Person(_, person) => self.home_node(person).map(|(_, node)| node),
            LinkKey::Cluster(_) | LinkKey::Node(_) => None,
        };
        let (link, mailbox) = Link::new(shared, board, key.clone(), first, &self.kept);
        self.tasks.spawn(link.run());
        self.links.insert(key.clone(), mailbox.clone());
        mailbox
    }

    fn cluster(&self, jid: &BareJid) -> Option<usize> {
        let domain = jid.domain().as_str();
        self.shared.config.clusters.iter().position(|cluster| cluster.domains.iter().any(|d| d == domain))
    }

    /// Where a person's session belongs, and the JID that it has; `None` where the person has no JID, or one
    /// of a domain that we do not serve, or is homed on a node that we are not told of.
    fn place(&self, person: &PersonId) -> Option<(LinkKey, FullJid)> {
        let jid = self.directory.by_person(person)?.jid.as_ref()?;
        let jid = BareJid::new(jid.as_str()).ok()?;
        let clusters = &self.shared.config.clusters;
        let (cluster, home) = match self.home(person) {
            Some((cluster, home)) if cluster < clusters.len() => (cluster, home),
            _ => (self.cluster(&jid)?, ""),
        };
        let key = match clusters[cluster].access.is_trusted() {
            true if clusters[cluster].names.is_empty() || home.is_empty() => LinkKey::Cluster(cluster),
            true => LinkKey::Node(self.nodes.serving(clusters, cluster, home, person)?),
            false => LinkKey::Person(cluster, person.clone()),
        };
        Some((key, jid.with_resource_str(&self.shared.resource()).ok()?))
    }

    /// The cluster and the node that home a person.
    fn home(&self, person: &PersonId) -> Option<(usize, &str)> {
        home_of(self.directory.by_person(person)?.home.as_deref()?)
    }

    /// The node that homes a person, where it is one of those that we are told of.
    fn home_node(&self, person: &PersonId) -> Option<NodeKey> {
        let (cluster, home) = self.home(person)?;
        let names = &self.shared.config.clusters.get(cluster)?.names;
        Some((cluster, names.iter().position(|name| name == home)?))
    }

    /// The sessions of an earlier run on this stream are where it is.
    fn found_on(&mut self, key: &LinkKey, stream: &str) {
        let Some(stream) = self.kept.get::<kept::KeptStream>(stream).map(|kept| kept.stream) else { return };
        for name in self.kept.values.keys() {
            let Some(person) = kept::session_owner(name) else { continue };
            let session = self.kept.get::<kept::KeptSession>(name).filter(|session| session.stream == stream);
            let jid = session.and_then(|session| BareJid::new(&session.jid).ok());
            let jid = jid.and_then(|jid| jid.with_resource_str(&self.shared.resource()).ok());
            if let Some(jid) = jid {
                let held = Held {
                    wanted: Wanted::Closed,
                    place: Some((key.clone(), jid)),
                    moving: false,
                    found: true,
                };
                self.people.insert(person, held);
            }
        }
    }

    fn want(&mut self, person: PersonId, wanted: Wanted) {
        if wanted == Wanted::Closed {
            self.shared.refusals.forget(&person);
        }
        let held = self.people.get(&person);
        if held.is_some_and(|held| held.moving) {
            if let Some(held) = self.people.get_mut(&person) {
                held.wanted = wanted;
            }
            return;
        }
        let before = held.and_then(|held| held.place.clone());
        // In a new run a session may have been found on the partner.
        if held.is_some_and(|held| held.found)
            && let (Some((LinkKey::Node(on), _)), Some(home)) = (&before, self.home_node(&person))
            && self.nodes.partner(&self.shared.config.clusters, home) == Some(*on)
        {
            self.nodes.found(home, *on, &person);
        }
        let place = self.place(&person);
        match (&before, &place) {
            // The person goes to another link, or to none: the one before lets go first, so that the hub hears of the
            // end before the beginning.
            (Some((old, _)), new) if new.as_ref().is_none_or(|(key, _)| key != old) => {
                let _ = self.link(old).send(Command::Leave(person.clone()));
                self.people.insert(person, Held { wanted, place: before, moving: true, found: false });
                return;
            }
            // Who is to have no session, and whose stream there never was, needs no link.
            (_, Some((key @ LinkKey::Person(..), _)))
                if wanted == Wanted::Closed && !self.links.contains_key(key) => {}
            (_, Some((key, jid))) => self.tell(key, &person, jid, wanted.clone()),
            (_, None) if wanted != Wanted::Closed => {
                let reason = "no JID of a domain that is served, or homed on a node that is not configured";
                self.shared.refusals.tell(&person, reason, self.shared.clock.now());
                let closed = SessionEvent::Closed { for_good: true };
                self.board.port.answer(Inbound::Session(person.clone(), closed));
            }
            (_, None) => {}
        }
        self.people.insert(person, Held { wanted, place, moving: false, found: false });
    }

    /// A link tells something of itself.
    fn news(&mut self, key: &LinkKey, news: News) {
        match (news, key) {
            (News::Left(person), _) => {
                let Some(held) = self.people.get_mut(&person).filter(|held| held.moving) else { return };
                (held.place, held.moving) = (None, false);
                let wanted = held.wanted.clone();
                self.want(person, wanted);
            }
            (News::Elsewhere(person), LinkKey::Node(node)) if self.is_on(&person, *node) => {
                self.look_elsewhere(person);
            }
            (News::Refused(person), LinkKey::Node(node)) if self.is_on(&person, *node) => {
                self.refused_on(&person, *node);
                self.look_elsewhere(person);
            }
            (News::Unreachable, LinkKey::Node(node)) => {
                self.nodes.reachable(*node, false);
                self.evacuate(*node);
            }
            (News::Reachable, LinkKey::Node(node)) => {
                self.nodes.reachable(*node, true);
                // Whoever waits on a node that does not answer has somewhere to go now.
                let clusters = &self.shared.config.clusters;
                if let Some(partner) = self.nodes.partner(clusters, *node)
                    && self.nodes.is_unreachable(partner)
                {
                    self.evacuate(partner);
                }
            }
            _ => {}
        }
    }

    /// Whether a person's session is this node's, and stays there for now.
    fn is_on(&self, person: &PersonId, node: NodeKey) -> bool {
        let place = self.people.get(person).filter(|held| !held.moving).and_then(|held| held.place.as_ref());
        matches!(place, Some((LinkKey::Node(on), _)) if *on == node)
    }

    /// A node starts no session for a person. That is reported when there is no other that might.
    fn refused_on(&self, person: &PersonId, node: NodeKey) {
        let Some(home) = self.home_node(person) else { return };
        let by = self.shared.refusals.by(person, node);
        let pair = [Some(home), self.nodes.partner(&self.shared.config.clusters, home)];
        if pair.into_iter().flatten().all(|node| by.contains(&node)) {
            let reason = "no node that could serve this user starts a session";
            self.shared.refusals.tell(person, reason, self.shared.clock.now());
        }
    }

    /// Everybody on this node is looked for on the other one of the pair.
    fn evacuate(&mut self, node: NodeKey) {
        let there = |held: &Held| matches!(&held.place, Some((LinkKey::Node(on), _)) if *on == node);
        let people: Vec<PersonId> =
            self.people.iter().filter(|(_, held)| there(held)).map(|(person, _)| person.clone()).collect();
        for person in people {
            self.look_elsewhere(person);
        }
    }

    fn look_elsewhere(&mut self, person: PersonId) {
        let Some(home) = self.home_node(&person) else { return };
        if self.nodes.stray(&self.shared.config.clusters, home, &person)
            && let Some(held) = self.people.get(&person)
        {
            let wanted = held.wanted.clone();
            self.want(person, wanted);
        }
    }

    /// The publishers say something new of their nodes.
    fn stand(&mut self, standing: Standing) {
        let directory = Arc::clone(&self.directory);
        let homed = |(cluster, node): &(usize, Box<str>)| {
            let is_there = |home: &str| home_of(home) == Some((*cluster, &**node));
            let people = directory.people().filter(|person| person.home.as_deref().is_some_and(is_there));
            people.map(|person| person.id.clone()).collect()
        };
        self.nodes.take(standing, homed);
        self.look_up_again();
    }

    fn tell(&mut self, key: &LinkKey, person: &PersonId, jid: &FullJid, wanted: Wanted) {
        // A link that has ended has stopped with the edge.
        let wanted = Command::Want(Box::new((person.clone(), jid.clone(), wanted)));
        let _ = self.link(key).send(wanted);
    }

    /// The directory has changed: sessions whose JID is another now move.
    fn look_up_again(&mut self) {
        let moved: Vec<(PersonId, Wanted)> = self
            .people
            .iter()
            .filter(|(person, held)| !held.moving && !held.found && self.place(person) != held.place)
            .map(|(person, held)| (person.clone(), held.wanted.clone()))
            .collect();
        for (person, wanted) in moved {
            self.want(person, wanted);
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let ticket = delivery.ticket;
        let carrier = delivery.entry.carrier.clone();
        let moving = self.people.get(&carrier).is_some_and(|held| held.moving);
        if moving {
            let outcome = Outcome::Later { cause: Cause::Session(carrier), after: None };
            return self.board.receipt(ticket, outcome);
        }
        let place = if self.stopping { None } else { self.place(&carrier) };
        let Some((key, jid)) = place else {
            let outcome = match self.directory.by_person(&carrier).filter(|_| !self.stopping) {
                Some(_) => Outcome::Wedged("the sender has no Jabber account".into()),
                None => Outcome::Later { cause: Cause::Session(carrier), after: None },
            };
            return self.board.receipt(ticket, outcome);
        };
        let link = self.link(&key);
        self.board.assign(ticket, &link);
        let (board, directory, opener) =
            (Arc::clone(&self.board), Arc::clone(&self.directory), Arc::clone(&self.opener));
        let until = Instant::now() + self.shared.scale.of(WAIT);
        let to_own_client = matches!(&delivery.entry.lane, Lane::Told(person, _) if *person == carrier);
        self.preparing.spawn(async move {
            let made = tokio::time::timeout_at(until, delivery::stanza(&delivery, &directory, &opener)).await;
            // What takes that long is the key: everything else is at hand.
            let late = || Err(Outcome::Later { cause: Cause::Kms, after: None });
            match made.unwrap_or_else(|_| late()) {
                Ok(element) => {
                    crash::point(crash::OPENED);
                    let derived = delivery.entry.derived;
                    let prepared = Prepared { ticket, derived, element, until, to_own_client };
                    let command = Command::Deliver(Box::new((carrier.clone(), jid, prepared)));
                    if link.send(command).is_err() {
                        // The link has ended with the edge.
                        let cause = Cause::Session(carrier);
                        board.receipt(ticket, Outcome::Later { cause, after: None });
                    }
                }
                Err(outcome) => board.receipt(ticket, outcome),
            }
        });
    }

    /// Passes on that somebody types in Webex.
    fn hint(&mut self, hint: Hint, place: OwnedSemaphorePermit) {
        let Hint::TypingInJabber { from, conversation, active, id } = hint else { return };
        let Some((key, _)) = self.place(&from).filter(|_| !self.stopping) else { return };
        let link = self.link(&key);
        let (directory, opener) = (Arc::clone(&self.directory), Arc::clone(&self.opener));
        let limit = self.shared.scale.of(WAIT);
        self.preparing.spawn(async move {
            let to = delivery::recipient(&conversation, &from, &directory, &opener);
            if let Ok(Ok(to)) = tokio::time::timeout(limit, to).await {
                let typing = words::typing(&to, &id, active);
                let _ = link.send(Command::Try(Box::new((from, typing, place))));
            }
        });
    }

    fn stop(&mut self, sign_out: bool) {
        self.stopping = true;
        for link in self.links.values() {
            let _ = link.send(Command::Stop { sign_out });
        }
    }
}

/// Waits for the publishers to say something new; `None`: they will not any more. Cancel safe.
async fn changed(standing: &mut Option<watch::Receiver<Standing>>) -> Option<Standing> {
    match standing {
        Some(standing) => standing.changed().await.ok().map(|()| standing.borrow_and_update().clone()),
        None => std::future::pending().await,
    }
}
