//! The Webex side as one value: sockets of the people we serve, what they bring, what is posted.
//!
//! ```text
//!   hub ── orders ──► Edge ─┬─ one `Line` a person ◄─► Mercury socket ── KMS answers ──► Keys
//!    ▲                      ├─ one task a delivery ──► conversation service
//!    │                      └─ presence and people, asked again and again
//!    └──── HubPort ◄─────────┘
//! ```
//!
//! A line never waits for anything but its socket (rule 13): what it cannot hand over it drops and reads
//! again from a listing. Deliveries wait for keys and answers, each by itself and not for long (rule 14).

mod aged;
mod asked;
mod catch_up;
mod conversations;
mod delivery;
mod device;
mod http;
pub(crate) mod intake;
mod keys;
mod mercury;
mod people;
mod posts;
mod relay;
mod shelf;
mod status;
#[cfg(test)]
mod tests;
mod token;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use router::directory::{Directory, Person};
use router::ids::{ActivityId, ConversationId, EntryId, PersonId, StreamId, Ticket, Time};
use router::tag::Tagger;
use router::times::Times;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::timeout;
use webex_api::Url;
use webex_api::auth::{AccessToken, Secret};
use webex_api::client::MercuryConfig;
use webex_api::conversation::GetActivity;
use webex_api::device::Device;
use webex_api::mercury::Backoff;

pub use http::{Cloud, CloudConfig, CloudError, Proxy, http_client};
pub use keys::{Keys, NewConversation};
pub use people::{
    Account, Jids, JidsError, PeopleConfig, PeopleError, ResourceGroups, Source, read_organization,
    read_people,
};
pub use posts::Ledger;
pub use status::PresenceConfig;
pub use token::{Enrolled, RefusedToken, TokenConfig, TokenError, TokenSource, Tokens, enrolled};

use self::asked::Asked;
use self::conversations::Conversations;
use self::mercury::{Line, Purpose, Taken};
use self::posts::Posts;
use self::relay::Relays;
use self::shelf::Shelf;
use crate::jabber::{Cleartext, OpenError, Opener, Opening};
use crate::port::{HubPort, Order};
use crate::seam::{Clock, Generator, Scale};

/// The settings of the Webex edge.
#[derive(Clone, Debug)]
pub struct WebexConfig {
    /// Every wait.
    pub times: Times,
    /// Sockets being opened at once, listings being read at once, and again for the listings that ask after
    /// a delivery; at least 1.
    pub handshakes: usize,
    /// How presence is watched.
    pub presence: PresenceConfig,
    /// How the directory is read.
    pub people: PeopleConfig,
    /// The token of the bot that relays for people without a token, and tells people in Webex what concerns them
    /// alone; `None`: nobody does.
    pub bot: Option<AccessToken>,
    /// The bot also relays for federated contacts.
    pub federated: bool,
    /// Minutes that local time is ahead of UTC, for the times that people are told.
    pub utc_offset: i32,
}

/// What the edge is given to work with, besides its settings.
pub struct WebexMeans {
    /// The cloud.
    pub cloud: Cloud,
    /// Seals, opens, and speaks to the key service.
    pub keys: Arc<dyn Keys>,
    /// What the store knows.
    pub ledger: Arc<dyn Ledger>,
    /// Fixes the IV of what the bot tells people.
    pub tagger: Tagger,
    /// The time of day.
    pub clock: Clock,
    /// Chance.
    pub generator: Generator,
}

/// Where the store has left off.
#[derive(Clone, Debug, Default)]
pub struct WebexKept {
    /// The number of this run.
    pub run: u32,
    /// How far each person's Webex side has been read, in cloud time.
    pub cursors: Vec<(PersonId, Time)>,
    /// The kept values by their names; those of others may be among them.
    pub values: Vec<(Box<str>, Box<[u8]>)>,
}

/// The Webex edge before it is started.
pub struct WebexEdge {
    side: Arc<Side>,
    presence: PresenceConfig,
    people: PeopleConfig,
    bot: Option<AccessToken>,
    kept: WebexKept,
}

/// What all tasks of the edge share.
struct Side {
    cloud: Cloud,
    keys: Arc<dyn Keys>,
    ledger: Arc<dyn Ledger>,
    tagger: Tagger,
    utc_offset: i32,
    hub: HubPort,
    clock: Clock,
    generator: Generator,
    times: Times,
    run: u32,
    mercury: MercuryConfig,
    handshakes: Semaphore,
    listings: Semaphore,
    /// How many catch-ups have been read to their end.
    listed: AtomicU64,
    /// Listings that ask after a delivery: they give up after a while, so they must not queue behind those
    /// of catch-ups, which do not.
    questions: Semaphore,
    asked: Asked,
    conversations: Conversations,
    posts: Posts,
    relays: Relays,
    /// A bot relays for people without a token.
    relays_texts: bool,
    /// And for federated contacts.
    federated: bool,
    /// Who the bot is, once its token said so.
    bot: Mutex<Option<PersonId>>,
    /// Keeps what must survive the process.
    shelf: Arc<Shelf>,
    /// Somebody has enrolled, or takes that back: the directory is read again.
    enrolled: Notify,
    /// How often an entry's delivery was refused.
    refusals: Mutex<BTreeMap<EntryId, u32>>,
    directory: Mutex<Arc<Directory>>,
    attached: Mutex<BTreeSet<PersonId>>,
    /// Nothing new is taken over; sockets go on for the sake of keys.
    stopping: AtomicBool,
    /// Deliveries that wait for a word about their attempt.
    writes: Mutex<BTreeMap<Ticket, oneshot::Sender<bool>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Side {
    fn scale(&self) -> Scale {
        Scale(self.times.scale)
    }

    fn backoff(&self) -> Backoff {
        let of = |seconds| self.scale().of(Duration::from_secs(seconds));
        Backoff::new(of(1), of(32))
    }

    fn directory(&self) -> Arc<Directory> {
        Arc::clone(&locked(&self.directory))
    }

    fn person(&self, id: &PersonId) -> Option<Arc<Person>> {
        self.directory().by_person(id).cloned()
    }

    /// Everybody for whom a socket is kept.
    fn served(&self) -> BTreeSet<PersonId> {
        let directory = self.directory();
        let served = directory.people().filter(|person| person.served() && self.cloud.covers(&person.id));
        served.map(|person| person.id.clone()).collect()
    }

    fn attach(&self, person: &PersonId, device: &Url) {
        self.keys.attached(person, device);
        locked(&self.attached).insert(person.clone());
    }

    fn detach(&self, person: &PersonId) {
        if locked(&self.attached).remove(person) {
            self.keys.detached(person);
        }
    }

    fn is_attached(&self, person: &PersonId) -> bool {
        locked(&self.attached).contains(person)
    }

    /// Through whom a conversation is read: its author, or else another who reads there and has a socket.
    fn reader(&self, conversation: &ConversationId, author: &PersonId) -> PersonId {
        if self.is_attached(author) {
            return author.clone();
        }
        let readers = self.conversations.readers(conversation);
        readers.into_iter().find(|reader| self.is_attached(reader)).unwrap_or_else(|| author.clone())
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl WebexEdge {
    /// An edge that does nothing yet.
    #[must_use]
    pub fn new(config: WebexConfig, port: HubPort, kept: WebexKept, means: WebexMeans) -> Self {
        let WebexMeans { cloud, keys, ledger, tagger, clock, generator } = means;
        let mercury = cloud.mercury_config(Scale(config.times.scale));
        let shelf = Arc::new(Shelf::new(port.clone()));
        cloud.restore_tokens(&kept.values, Arc::clone(&shelf));
        let side = Side {
            mercury,
            cloud,
            keys,
            shelf,
            enrolled: Notify::new(),
            ledger,
            tagger,
            utc_offset: config.utc_offset,
            hub: port,
            clock,
            generator,
            times: config.times,
            run: kept.run,
            handshakes: Semaphore::new(config.handshakes.max(1)),
            listings: Semaphore::new(config.handshakes.max(1)),
            listed: AtomicU64::new(0),
            questions: Semaphore::new(config.handshakes.max(1)),
            asked: Asked::default(),
            conversations: Conversations::default(),
            posts: Posts::default(),
            relays: Relays::default(),
            relays_texts: config.bot.is_some(),
            federated: config.federated,
            bot: Mutex::default(),
            refusals: Mutex::default(),
            directory: Mutex::default(),
            attached: Mutex::default(),
            stopping: AtomicBool::new(false),
            writes: Mutex::default(),
        };
        for (key, value) in &kept.values {
            side.relays.restore(key, value, config.federated);
            if let (Some(person), Some(device)) = (device::owner(key), device::kept(value)) {
                side.cloud.set_device(&person, Some(device.url));
            }
        }
        let WebexConfig { presence, people, bot, .. } = config;
        Self { side: Arc::new(side), presence, people, bot, kept }
    }

    /// Where people are enrolled while the connector runs.
    #[must_use]
    pub fn enrolling(&self) -> Enrolling {
        Enrolling(Arc::clone(&self.side))
    }

    /// What the Jabber edge needs from this side.
    #[must_use]
    pub fn opener(&self) -> Arc<dyn Opener> {
        Arc::new(WebexOpener(Arc::clone(&self.side)))
    }

    /// Starts the edge. After [`Order::Stop`] it takes nothing new; its task ends when the hub is gone.
    pub fn start(self, orders: UnboundedReceiver<Order>) -> JoinHandle<()> {
        let cursors = self.kept.cursors.into_iter().collect();
        let kept: BTreeMap<Box<str>, Box<[u8]>> = self.kept.values.into_iter().collect();
        let mut tasks = JoinSet::new();
        let watchers = vec![
            tasks.spawn(people::run(Arc::clone(&self.side), self.people)),
            tasks.spawn(status::run(Arc::clone(&self.side), self.presence)),
            tasks.spawn(renew(Arc::clone(&self.side))),
        ];
        if let Some(token) = self.bot {
            tasks.spawn(relay::bot(Arc::clone(&self.side), token, kept.clone()));
        }
        let edge = Edge { side: self.side, cursors, kept, lines: BTreeMap::new(), watchers, tasks };
        tokio::spawn(edge.run(orders))
    }
}

/// One person's line, as the edge holds it.
struct Held {
    taken: UnboundedSender<Taken>,
    task: AbortHandle,
}

struct Edge {
    side: Arc<Side>,
    cursors: BTreeMap<PersonId, Time>,
    kept: BTreeMap<Box<str>, Box<[u8]>>,
    lines: BTreeMap<PersonId, Held>,
    /// Presence and people, asked again and again.
    watchers: Vec<AbortHandle>,
    /// Everything that runs: watchers, lines, deliveries, hints.
    tasks: JoinSet<()>,
}

impl Edge {
    async fn run(mut self, mut orders: UnboundedReceiver<Order>) {
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(order) => self.order(order),
                    // The hub is gone, so there is nobody to carry anything for.
                    None => return,
                },
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended
                        && error.is_panic()
                    {
                        tracing::error!(%error, "a task of the Webex side has died");
                        return;
                    }
                }
            }
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Deliver(delivery) => {
                self.tasks.spawn(delivery::run(Arc::clone(&self.side), delivery));
            }
            Order::Write(ticket) => self.answer(ticket, true),
            Order::Skip(ticket) => self.answer(ticket, false),
            Order::Acknowledge(upstream) => {
                if let StreamId::Mercury(person, socket) = &upstream.stream
                    && let Some(line) = self.lines.get(person)
                {
                    // A line that has ended has nothing to acknowledge.
                    let _ = line.taken.send((*socket, upstream.n));
                }
            }
            Order::Hint(hint, place) => {
                if !self.side.is_stopping() {
                    let side = Arc::clone(&self.side);
                    self.tasks.spawn(async move {
                        delivery::hint(side, hint).await;
                        drop(place);
                    });
                }
            }
            Order::Directory(directory) => {
                *locked(&self.side.directory) = directory;
                if !self.side.is_stopping() {
                    self.serve();
                }
            }
            Order::Kept(ask) => self.side.shelf.kept(ask),
            Order::Session(..) | Order::Settled(_) => {}
            Order::Stop { .. } => self.stop(),
        }
    }

    fn answer(&self, ticket: Ticket, write: bool) {
        if let Some(waiting) = locked(&self.side.writes).remove(&ticket) {
            // A delivery that gave up meanwhile has said so itself.
            let _ = waiting.send(write);
        }
    }

    /// A line for everybody who is served, and for nobody else.
    fn serve(&mut self) {
        let served = self.side.served();
        let gone: Vec<PersonId> =
            self.lines.keys().filter(|person| !served.contains(*person)).cloned().collect();
        for person in gone {
            if let Some(line) = self.lines.remove(&person) {
                line.task.abort();
            }
            self.side.detach(&person);
            self.cursors.remove(&person);
            if let Some(device) = self.side.cloud.device(&person) {
                let side = Arc::clone(&self.side);
                self.tasks.spawn(async move { device::give_up(&side, &person, device).await });
            }
        }
        for person in served {
            if self.lines.contains_key(&person) {
                continue;
            }
            let since = self.side.person(&person).and_then(|person| person.enabled_since);
            let since = since.unwrap_or_else(|| self.side.cloud.now());
            let cursor = self.cursors.get(&person).copied().unwrap_or(since).max(since);
            let device = self.kept_device(&person);
            // One word for each commit with something of this socket: at most what the hub takes uncommitted.
            let (taken, mailbox) = mpsc::unbounded_channel();
            let side = Arc::clone(&self.side);
            let line = Line::new(side, person.clone(), device, cursor, mailbox, Purpose::Person);
            let task = self.tasks.spawn(line.run());
            self.lines.insert(person, Held { taken, task });
        }
    }

    fn kept_device(&mut self, person: &PersonId) -> Option<Device> {
        self.kept.remove(&device::key(person)).and_then(|value| device::kept(&value))
    }

    /// Nothing new is taken over. Sockets stay until the hub is gone, since keys for what is still being
    /// delivered come by them; then they are dropped, not closed, and the next run goes on with the devices.
    fn stop(&mut self) {
        self.side.stopping.store(true, Ordering::Relaxed);
        for watcher in self.watchers.drain(..) {
            watcher.abort();
        }
    }
}

/// Where people are enrolled while the connector runs.
#[derive(Clone)]
pub struct Enrolling(Arc<Side>);

impl Enrolling {
    /// Takes a person's refresh token in, or with `None` takes the enrolment back, and the registration of our device with
    /// it. A token that was taken in before changes nothing. True once it is on disk; false where nobody enrols, or the
    /// connector ends.
    pub async fn bring(&self, person: &PersonId, mail: &str, token: Option<Secret>) -> bool {
        let side = &self.0;
        let last = if token.is_none() { self.last_of(person).await } else { None };
        let brought = side.cloud.bring_token(person, mail, token).await;
        if brought {
            if last.is_some() {
                side.cloud.set_device(person, None);
            }
            side.enrolled.notify_one();
            // Now the person's line can register nothing any more.
            if let Some((device, token)) = last {
                device::give_up_with(side, person, device, &token).await;
            }
        }
        brought
    }

    /// The device of somebody who leaves, and a token to delete it with: afterwards there is none.
    async fn last_of(&self, person: &PersonId) -> Option<(Url, AccessToken)> {
        let side = &self.0;
        let device = side.cloud.device(person)?;
        let token = timeout(side.scale().of(LAST_TOKEN), side.cloud.token(person)).await.ok()?.ok()?;
        Some((device, token))
    }

    /// Everybody who is enrolled; `None` where nobody needs to be.
    #[must_use]
    pub fn enrolled(&self) -> Option<Vec<Enrolled>> {
        self.0.cloud.enrolled()
    }

    /// Whose tokens the cloud refuses.
    #[must_use]
    pub fn refused(&self) -> Vec<RefusedToken> {
        self.0.cloud.refused_tokens()
    }
}

/// How long a token is waited for with which the device of somebody who leaves is deleted. Scaled.
const LAST_TOKEN: Duration = Duration::from_secs(10);
/// How often it is looked whose token is near its end.
const RENEWAL: Duration = Duration::from_secs(60);

/// Replaces tokens ahead of their end, also of those who do nothing.
async fn renew(side: Arc<Side>) {
    loop {
        tokio::time::sleep(side.scale().of(RENEWAL)).await;
        side.cloud.renew_tokens().await;
    }
}

/// So often the cloud may refuse something before that is believed: it is many machines, and one of them may be wrong
/// for a while.
pub(crate) const PATIENCE: u32 = 5;

struct WebexOpener(Arc<Side>);

impl Opener for WebexOpener {
    fn open<'a>(
        &'a self,
        conversation: &'a ConversationId,
        sender: &'a PersonId,
        key: &'a str,
        jwe: &'a str,
    ) -> Opening<'a, Cleartext> {
        Box::pin(async move {
            let via = self.0.reader(conversation, sender);
            self.0.keys.open(&via, key, jwe).await
        })
    }

    fn written<'a>(
        &'a self,
        conversation: &'a ConversationId,
        author: &'a PersonId,
        activity: &'a ActivityId,
    ) -> Opening<'a, Option<Time>> {
        Box::pin(async move {
            let (Ok(url), Ok(id)) = (conversation.as_str().parse(), activity.as_str().parse()) else {
                return Ok(None);
            };
            let via = self.0.reader(conversation, author);
            match self.0.cloud.send_as(&via, GetActivity { conversation: url, id }).await {
                Ok(activity) => Ok(activity.published.map(intake::time)),
                Err(error) if error.is_gone() => Ok(None),
                Err(error) => Err(OpenError::Later(error.cause().0)),
            }
        })
    }

    fn recipient<'a>(
        &'a self,
        conversation: &'a ConversationId,
        sender: &'a PersonId,
    ) -> Opening<'a, PersonId> {
        Box::pin(async move {
            if let Some((relayed, _)) = self.0.relays.parties(conversation) {
                return Ok(relayed);
            }
            let via = self.0.reader(conversation, sender);
            let members = self.0.conversations.members(&self.0.cloud, &via, conversation).await;
            let members = members.map_err(conversations::FindError::into_open_error)?;
            let mut others = members.iter().filter(|member| *member != sender);
            match (others.next(), others.next()) {
                (Some(other), None) => Ok(other.clone()),
                _ => Err(OpenError::Wedged("the conversation is not one of two people".into())),
            }
        })
    }
}
