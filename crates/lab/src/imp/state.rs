//! What the server knows: users, their sessions, and the streams that carry them. Everything here happens at once, under
//! one lock, so that what one stanza causes is never half done.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use xmpp_core::session_control::{self, RequestIds};
use xmpp_core::sm::{Resumable, ResumeRefused, widen_below};
use xmpp_core::{Element, Jid};

use super::offline::Store;
use super::presence::{Device, Groups, Manual, Shown};
use super::queue::{Item, Queue};
use super::rooms::Room;
use super::{Server, faults};
use crate::clock::Time;
use crate::ctx::{Ctx, SERVICE_JID};

/// How long a stream can be resumed after its connection was lost; scaled.
pub(crate) const RESUMPTION: Duration = Duration::from_secs(300);
/// A peer that is behind by more than this many stanzas loses its stream.
const BEHIND: usize = 100_000;

/// Names a stream, for the life of the lab.
pub(crate) type WireId = u64;

/// Whose stream it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Owner {
    /// A user's client, bound to this bare JID and resource.
    Client(String, String),
    /// The trusted link of a component.
    Link(String),
}

impl Owner {
    /// The JID that the stream is bound to, or the component's name.
    fn address(&self) -> String {
        match self {
            Self::Client(bare, resource) => format!("{bare}/{resource}"),
            Self::Link(name) => name.clone(),
        }
    }

    /// Which door its faults are named after.
    pub(crate) fn door(&self) -> &'static faults::Door {
        match self {
            Self::Client(..) => &faults::CLIENT,
            Self::Link(_) => &faults::LINK,
        }
    }
}

/// One stream. It outlives its connection while it can be resumed.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) owner: Owner,
    /// The node that it is a stream of; `None`: its door found one.
    pub(crate) node: Option<usize>,
    pub(crate) queue: Queue,
    /// Wakes the task of the connection; `None` while there is no connection.
    connection: Option<Arc<Notify>>,
    /// Rises with each connection, so that the task of an earlier one knows.
    epoch: u64,
    /// Stream management runs.
    managed: bool,
    /// The id under which it can be resumed.
    resumption: Option<String>,
    /// A resumption was granted and its connection has not reported yet.
    claimed: bool,
    /// How many of the peer's stanzas are handled.
    handled: u64,
    /// The position of the last stanza written.
    written: u64,
    /// It is over, and this is the condition to tell the peer.
    ended: Option<&'static str>,
}

/// What the task of a connection learns about its stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// It goes on.
    Current,
    /// Another connection took it over, or it is forgotten.
    Gone,
    /// It is over; the condition to tell the peer.
    Ended(&'static str),
}

/// One bound resource of a user.
#[derive(Debug)]
pub(crate) struct Session {
    /// The stream that carries it.
    pub(crate) wire: WireId,
    /// Its names on a trusted link; `None` on a client stream.
    pub(crate) ids: Option<RequestIds>,
    /// Copies are wanted (XEP-0280).
    pub(crate) carbons: bool,
    /// Its presence; `None` before the first and after `unavailable`.
    pub(crate) device: Option<Device>,
    /// What its user set by hand here.
    pub(crate) manual: Option<Manual>,
}

/// One account.
#[derive(Debug, Default)]
pub(crate) struct User {
    /// By resource.
    pub(crate) sessions: BTreeMap<String, Session>,
    /// What came while nobody was there.
    pub(crate) offline: Store,
    /// What contacts were told last.
    pub(crate) shown: Option<Shown>,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) ctx: Arc<Ctx>,
    pub(crate) me: Weak<Server>,
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) wires: BTreeMap<WireId, Wire>,
    /// The sessions of trusted links by stream and the component's own id.
    pub(crate) routes: BTreeMap<(WireId, String), (String, String)>,
    /// Who sees whom.
    pub(crate) groups: Groups,
    /// Group chats, by address.
    pub(crate) rooms: BTreeMap<String, Room>,
    counter: u64,
}

impl State {
    pub(crate) fn new(ctx: Arc<Ctx>, me: Weak<Server>) -> Self {
        Self {
            groups: Groups::new(&ctx.people.all(), ctx.options.contacts),
            ctx,
            me,
            users: BTreeMap::new(),
            wires: BTreeMap::new(),
            routes: BTreeMap::new(),
            rooms: BTreeMap::new(),
            counter: 0,
        }
    }

    /// A number that was never used before.
    pub(crate) fn number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// The time now.
    pub(crate) fn now(&self) -> Time {
        self.ctx.clock.now()
    }

    /// Whether there is such an account.
    pub(crate) fn is_account(&self, bare: &str) -> bool {
        bare == SERVICE_JID || self.ctx.people.by_jid(bare).is_some()
    }

    /// Whether a fault strikes something of this user.
    pub(crate) fn strikes(&self, fault: &str, bare: &str) -> bool {
        self.ctx.faults.hit(fault, self.ctx.people.by_jid(bare).map(|person| person.name).as_deref())
    }

    /// A stream with a connection that `wake` wakes.
    pub(crate) fn open(&mut self, owner: Owner, node: Option<usize>, wake: Arc<Notify>) -> (WireId, u64) {
        let id = self.number();
        let wire = Wire {
            owner,
            node,
            queue: Queue::default(),
            connection: Some(wake),
            epoch: 0,
            managed: false,
            resumption: None,
            claimed: false,
            handled: 0,
            written: 0,
            ended: None,
        };
        self.wires.insert(id, wire);
        (id, 0)
    }

    /// How a connection's stream stands.
    pub(crate) fn standing(&self, wire: WireId, epoch: u64) -> Standing {
        match self.wires.get(&wire) {
            Some(Wire { ended: Some(condition), .. }) => Standing::Ended(condition),
            Some(wire) if wire.epoch == epoch => Standing::Current,
            _ => Standing::Gone,
        }
    }

    /// Stream management begins on a stream: from here on what is written is kept until it is acknowledged.
    pub(crate) fn managed(&mut self, wire: WireId) {
        if let Some(wire) = self.wires.get_mut(&wire) {
            wire.managed = true;
        }
    }

    /// A component begins anew on this stream, so whatever it had on earlier ones is over.
    pub(crate) fn settle_link(&mut self, wire: WireId) {
        let Some((owner, node)) = self.wires.get(&wire).map(|wire| (wire.owner.clone(), wire.node)) else {
            return;
        };
        let earlier =
            self.wires.range(..wire).filter(|(_, other)| other.owner == owner && other.node == node);
        let earlier: Vec<_> = earlier.map(|(id, _)| *id).collect();
        for id in earlier {
            self.end_wire(id, "conflict");
        }
    }

    /// The id under which the newest unmanaged stream of an address can be resumed from now on.
    pub(crate) fn grant_resumption(&mut self, address: &Jid, node: Option<usize>) -> Option<String> {
        let id = format!("{}-{}", self.ctx.rng.uuid(), self.number());
        let address = address.to_string();
        let wire = self.wires.values_mut().rev().find(|wire| {
            wire.node == node
                && wire.connection.is_some()
                && wire.resumption.is_none()
                && wire.owner.address() == address
        })?;
        wire.resumption = Some(id.clone());
        Some(id)
    }

    /// A peer wants its stream back; what it does not have is queued again.
    pub(crate) fn claim(
        &mut self,
        id: &str,
        h: u32,
        jid: &Jid,
        node: Option<usize>,
    ) -> Result<Resumable, ResumeRefused> {
        let unknown = ResumeRefused { h: None };
        let (wire_id, wire) = self
            .wires
            .iter_mut()
            .find(|(_, wire)| {
                wire.resumption.as_deref() == Some(id) && wire.ended.is_none() && wire.node == node
            })
            .ok_or(unknown)?;
        let wire_id = *wire_id;
        let same = match &wire.owner {
            Owner::Client(bare, _) => *bare == jid.to_bare().to_string(),
            Owner::Link(name) => *name == jid.to_string(),
        };
        if !same {
            return Err(unknown);
        }
        let (handled, door) = (wire.handled, wire.owner.door());
        let refused = ResumeRefused { h: Some(handled) };
        let Some(outbound) = widen_below(wire.written, h) else { return Err(refused) };
        let address = wire.owner.address();
        let person = match &wire.owner {
            Owner::Client(bare, _) => self.ctx.people.by_jid(bare).map(|person| person.name),
            Owner::Link(_) => None,
        };
        if self.ctx.faults.hit(door.no_resumption, person.as_deref()) {
            self.end_wire(wire_id, "conflict");
            return Err(refused);
        }
        let Ok(jid) = address.parse() else { return Err(refused) };
        wire.queue.resume(outbound);
        wire.claimed = true;
        self.disconnect(wire_id);
        Ok(Resumable { jid, inbound: handled, outbound })
    }

    /// The connection that resumed the stream of this address reports for work.
    pub(crate) fn attach(
        &mut self,
        address: &Jid,
        node: Option<usize>,
        wake: Arc<Notify>,
    ) -> Option<(WireId, u64)> {
        let address = address.to_string();
        let is_it = |wire: &Wire| wire.claimed && wire.node == node && wire.owner.address() == address;
        let (id, wire) = self.wires.iter_mut().find(|(_, wire)| is_it(wire))?;
        wire.claimed = false;
        wire.connection = Some(wake);
        wire.epoch += 1;
        Some((*id, wire.epoch))
    }

    /// Drops a stream that only waited for its component to say which stream it wants.
    pub(crate) fn forget(&mut self, wire: WireId) {
        self.wires.remove(&wire);
    }

    /// Its connection is lost. Where it can be resumed it waits for that, else it is over.
    pub(crate) fn lost(&mut self, wire: WireId, epoch: u64, resumable: bool) {
        let Some(found) = self.wires.get_mut(&wire).filter(|found| found.epoch == epoch) else { return };
        if found.ended.is_some() {
            self.wires.remove(&wire);
        } else if resumable && found.resumption.is_some() {
            found.queue.broken();
            self.disconnect(wire);
        } else {
            found.connection = None;
            self.end_wire(wire, "undefined-condition");
        }
    }

    /// Leaves a stream without a connection, for as long as it can be resumed.
    fn disconnect(&mut self, id: WireId) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        wire.epoch += 1;
        if let Some(wake) = wire.connection.take() {
            wake.notify_one();
        }
        let (epoch, me) = (wire.epoch, self.me.clone());
        let wait = self.ctx.clock.scaled(RESUMPTION);
        self.ctx.spawn(async move {
            tokio::time::sleep(wait).await;
            if let Some(server) = me.upgrade() {
                server.state().expire(id, epoch);
            }
        });
    }

    /// A stream's node has died: the connection breaks without a word, and there is nothing to resume.
    pub(crate) fn kill_wire(&mut self, id: WireId) {
        let connection = self.wires.get_mut(&id).and_then(|wire| wire.connection.take());
        self.end_wire(id, "system-shutdown");
        if let Some(wake) = connection {
            wake.notify_one();
        }
    }

    fn expire(&mut self, id: WireId, epoch: u64) {
        let waiting = |wire: &&Wire| wire.epoch == epoch && wire.connection.is_none();
        if self.wires.get(&id).filter(waiting).is_some() {
            tracing::debug!(wire = id, "not resumed in time");
            self.end_wire(id, "connection-timeout");
        }
    }

    /// A stream is over, with all its sessions; what its peer did not get goes where it would have gone without it.
    pub(crate) fn end_wire(&mut self, id: WireId, condition: &'static str) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let undelivered = wire.queue.take();
        match &wire.connection {
            Some(wake) => {
                wire.ended = Some(condition);
                wake.notify_one();
            }
            None => drop(self.wires.remove(&id)),
        }
        let sessions: Vec<(String, String)> = self
            .users
            .iter()
            .flat_map(|(bare, user)| user.sessions.iter().map(move |(resource, s)| (bare, resource, s)))
            .filter(|(_, _, session)| session.wire == id)
            .map(|(bare, resource, _)| (bare.clone(), resource.clone()))
            .collect();
        for (bare, resource) in sessions {
            self.end_session(&bare, &resource);
        }
        for item in undelivered {
            if let Some((bare, _)) = &item.owner {
                self.undelivered(bare, &item.element, item.at);
            }
        }
    }

    /// Binds a resource. Who had it before loses it (RFC 6120 §7.7.2.2).
    pub(crate) fn bind(&mut self, bare: &str, resource: &str, wire: WireId, ids: Option<RequestIds>) {
        let before = self.users.get(bare).and_then(|user| user.sessions.get(resource));
        if let Some((old_wire, old_ids)) = before.map(|old| (old.wire, old.ids.clone())) {
            match old_ids {
                Some(_) => self.replace(bare, resource),
                None => self.end_wire(old_wire, "conflict"),
            }
        }
        if let Some(ids) = &ids {
            self.routes.insert((wire, ids.c2s.clone()), (bare.to_owned(), resource.to_owned()));
        }
        let session = Session { wire, ids, carbons: false, device: None, manual: None };
        self.users.entry(bare.to_owned()).or_default().sessions.insert(resource.to_owned(), session);
    }

    /// Takes a session away from a trusted link, as another that binds its resource does.
    pub(crate) fn replace(&mut self, bare: &str, resource: &str) {
        if let Some((wire, ids)) = self.end_session(bare, resource).and_then(|old| Some((old.wire, old.ids?)))
        {
            self.push_control(wire, session_control::replaced(&ids));
        }
    }

    /// Ends a session: its resource is free, and whoever saw its presence sees it go.
    pub(crate) fn end_session(&mut self, bare: &str, resource: &str) -> Option<Session> {
        self.withdraw_presence(bare, resource);
        let session = self.users.get_mut(bare)?.sessions.remove(resource)?;
        if let Some(ids) = &session.ids {
            self.routes.remove(&(session.wire, ids.c2s.clone()));
        }
        self.show(bare); // what was set by hand there went with it
        Some(session)
    }

    /// Queues a stanza for a session that exists.
    pub(crate) fn deliver(&mut self, bare: &str, resource: &str, stanza: Element) {
        let at = self.now();
        let session = self.users.get(bare).and_then(|user| user.sessions.get(resource));
        let Some((wire, ids)) = session.map(|session| (session.wire, session.ids.clone())) else { return };
        let owner = Some((bare.to_owned(), resource.to_owned()));
        self.push(wire, Item { element: stanza, session: ids, owner, at, late: false });
    }

    /// Queues what belongs to a link and not to a session.
    pub(crate) fn push_control(&mut self, wire: WireId, element: Element) {
        let at = self.now();
        self.push(wire, Item { element, session: None, owner: None, at, late: false });
    }

    fn push(&mut self, id: WireId, mut item: Item) {
        let Some(wire) = self.wires.get_mut(&id).filter(|wire| wire.ended.is_none()) else { return };
        item.late = wire.connection.is_none();
        wire.queue.push(item);
        if let Some(wake) = &wire.connection {
            wake.notify_one();
        }
        if wire.queue.len() > BEHIND {
            tracing::warn!(wire = id, "the peer is too far behind");
            self.end_wire(id, "resource-constraint");
        }
    }

    /// The next item to write on a connection.
    pub(crate) fn next_item(&mut self, wire: WireId) -> Option<Item> {
        self.wires.get_mut(&wire)?.queue.pop()
    }

    /// An item was not written after all.
    pub(crate) fn put_back(&mut self, wire: WireId, item: Item) {
        if let Some(wire) = self.wires.get_mut(&wire) {
            wire.queue.put_back(item);
        }
    }

    /// An item was written at a position.
    pub(crate) fn written(&mut self, wire: WireId, position: u64, item: Item) {
        if let Some(wire) = self.wires.get_mut(&wire).filter(|wire| wire.managed) {
            wire.written = position;
            wire.queue.keep(position, item);
        }
    }

    /// The peer has this many.
    pub(crate) fn acknowledged(&mut self, wire: WireId, h: u64) {
        if let Some(wire) = self.wires.get_mut(&wire) {
            wire.queue.acknowledge(h);
        }
    }

    /// This many of the peer's stanzas are handled.
    pub(crate) fn handled(&mut self, wire: WireId, n: u64) {
        if let Some(wire) = self.wires.get_mut(&wire) {
            wire.handled = n;
        }
    }

    /// Whether no person would miss anything that is on its way.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.wires.values().any(|wire| wire.queue.holds_something_substantial())
    }
}
