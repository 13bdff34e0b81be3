//! The doors: each accepted connection has one task, which moves stanzas between its stream and the server's state.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use xmpp_core::accept;
use xmpp_core::session::{CloseReason, Event};
use xmpp_core::sm::{Outcome, Resumable, ResumeRefused, ResumeRegistry};
use xmpp_core::tokio::{AcceptConfig, AcceptTls, BoxIo, Connection};
use xmpp_core::{Element, Entropy, Jid};

use super::accounts::Accounts;
use super::queue::Stamps;
use super::state::{Owner, RESUMPTION, Standing, WireId};
use super::{Server, faults, stanza};
use crate::net::Listener;
use crate::people::{DOMAIN, SECOND_DOMAIN};

/// A peer that is told of the end of its stream has this long to read it.
const FAREWELL: Duration = Duration::from_secs(5);
/// A connection that has this many bytes unwritten is not read by its peer, and is dropped.
const UNWRITTEN: usize = 64 << 20;

/// Which door a connection came through.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Door {
    /// Client streams; at the door of one node its users alone, else everybody's, as if their node was found for them.
    Client(Option<usize>),
    /// The trusted link of this node.
    Link(usize),
}

impl Door {
    /// The node behind it.
    fn node(self) -> Option<usize> {
        match self {
            Self::Client(node) => node,
            Self::Link(node) => Some(node),
        }
    }
}

/// Accepts connections for ever.
pub(crate) async fn serve(server: Arc<Server>, door: Door, mut listener: Listener, tls: AcceptTls) {
    loop {
        match listener.accept().await {
            Ok(io) => {
                let (server, tls) = (Arc::clone(&server), tls.clone());
                let ctx = Arc::clone(&server.ctx);
                ctx.spawn(async move { connection(server, door, Box::new(io), tls).await });
            }
            Err(error) => {
                tracing::error!(?door, %error, "the door is broken");
                return;
            }
        }
    }
}

async fn connection(server: Arc<Server>, door: Door, io: BoxIo, tls: AcceptTls) {
    if door.node().is_some_and(|node| !server.ctx.nodes.is_up(node)) {
        return;
    }
    let mut acceptor = accept::Config::new(
        vec![DOMAIN.to_owned(), SECOND_DOMAIN.to_owned()],
        Entropy::from_bytes(server.ctx.rng.bytes()),
    );
    let names = match door {
        Door::Client(_) => &faults::CLIENT,
        Door::Link(_) => &faults::LINK,
    };
    if !server.ctx.faults.is_on(names.no_management) {
        acceptor.registry = Some(Arc::new(Registry(Arc::clone(&server), door.node())));
    }
    let mut config = AcceptConfig::new(acceptor);
    config.tls = tls;
    let accounts = Arc::new(Accounts { ctx: Arc::clone(&server.ctx), node: door.node() });
    let accepted = match door {
        Door::Client(_) => Connection::accept_client(io, config, accounts).await,
        Door::Link(_) => Connection::accept_component(io, config, accounts).await,
    };
    let connection = match accepted {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(?door, %error, "a stream was not established");
            return;
        }
    };
    let wake = Arc::new(Notify::new());
    let resumed = matches!(connection.outcome(), Outcome::Resumed { .. });
    let registered = match resumed {
        true => server.state().attach(connection.jid(), door.node(), Arc::clone(&wake)),
        false => register(&server, door, &connection, &wake),
    };
    let Some((wire, epoch)) = registered else { return };
    Driver { server, names, connection, node: door.node(), wire, epoch, wake, resumed }.run().await;
}

/// Gives a connection a stream of its own. That of a component is there for as long as it has not said whether it wants
/// an earlier one back.
fn register(
    server: &Server,
    door: Door,
    connection: &Connection,
    wake: &Arc<Notify>,
) -> Option<(WireId, u64)> {
    let mut state = server.state();
    let jid = connection.jid();
    let owner = match (door, jid.resource()) {
        (Door::Client(_), Some(resource)) => Owner::Client(jid.to_bare().to_string(), resource.to_string()),
        (Door::Client(_), None) => return None,
        (Door::Link(_), _) => Owner::Link(jid.to_string()),
    };
    let (wire, epoch) = state.open(owner.clone(), door.node(), Arc::clone(wake));
    if let Owner::Client(bare, resource) = &owner {
        state.bind(bare, resource, wire, None);
    }
    Some((wire, epoch))
}

/// Lets `xmpp-core` ask the state about stream management.
struct Registry(Arc<Server>, Option<usize>);

impl ResumeRegistry for Registry {
    fn enable(&self, jid: &Jid) -> Option<String> {
        self.0.state().grant_resumption(jid, self.1)
    }

    fn max_seconds(&self) -> Option<u32> {
        u32::try_from(self.0.ctx.clock.scaled(RESUMPTION).as_secs()).ok()
    }

    fn resume(&self, id: &str, h: u32, jid: &Jid) -> Result<Resumable, ResumeRefused> {
        self.0.state().claim(id, h, jid, self.1)
    }
}

/// How a connection came to its end.
enum End {
    /// Without a word, so that the stream can be resumed.
    Cut,
    /// The peer closed it, or broke it.
    Closed(CloseReason),
    /// Another connection has the stream.
    Gone,
    /// The stream is over, for this reason.
    Ended(&'static str),
}

struct Driver {
    server: Arc<Server>,
    names: &'static faults::Door,
    connection: Connection,
    node: Option<usize>,
    wire: WireId,
    epoch: u64,
    wake: Arc<Notify>,
    /// The connection has the stream that it wanted back.
    resumed: bool,
}

impl Driver {
    async fn run(mut self) {
        let end = self.pump().await;
        match end {
            End::Cut => self.server.state().lost(self.wire, self.epoch, true),
            End::Closed(reason) => {
                tracing::debug!(wire = self.wire, ?reason, "a stream was closed");
                self.server.state().lost(self.wire, self.epoch, reason.is_resumable());
            }
            End::Gone => {}
            End::Ended(condition) => {
                let farewell = self.connection.close_with(condition);
                let _ = tokio::time::timeout(FAREWELL, farewell).await;
                self.server.state().forget(self.wire);
            }
        }
    }

    async fn pump(&mut self) -> End {
        let ctx = Arc::clone(&self.server.ctx);
        loop {
            let changed = ctx.faults.changed();
            if let Some(end) = self.write().await {
                return end;
            }
            if ctx.faults.hit(self.names.cut, self.person().as_deref()) {
                return End::Cut;
            }
            if ctx.faults.is_on(self.names.silent) {
                changed.await;
                continue;
            }
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = changed => {}
                event = self.connection.next() => {
                    if let Some(end) = self.take(event) {
                        return end;
                    }
                }
            }
        }
    }

    /// The short name of the user of a client stream.
    fn person(&self) -> Option<String> {
        self.server.ctx.people.by_jid(&self.connection.jid().to_bare().to_string()).map(|person| person.name)
    }

    fn take(&mut self, event: Event) -> Option<End> {
        match event {
            Event::Stanza { element, n } => {
                if let Some(end) = self.handle(element, n) {
                    return Some(end);
                }
            }
            Event::Acked(h) => self.server.state().acknowledged(self.wire, h),
            Event::Managed(Outcome::Resumed { .. }) if self.resumed => {}
            Event::Managed(Outcome::Resumed { .. }) => {
                self.resumed = true;
                let mut state = self.server.state();
                state.forget(self.wire);
                match state.attach(self.connection.jid(), self.node, Arc::clone(&self.wake)) {
                    Some((wire, epoch)) => (self.wire, self.epoch) = (wire, epoch),
                    None => return Some(End::Gone),
                }
            }
            Event::Managed(_) => {
                let mut state = self.server.state();
                state.managed(self.wire);
                state.settle_link(self.wire);
            }
            Event::Closed(reason) => return Some(End::Closed(reason)),
            _ => {}
        }
        None
    }

    /// Handles what the peer sent, and lets it know. The faults strike messages that say something.
    fn handle(&mut self, element: Element, n: u64) -> Option<End> {
        let mut state = self.server.state();
        match state.standing(self.wire, self.epoch) {
            Standing::Current => {}
            Standing::Gone => return Some(End::Gone),
            Standing::Ended(condition) => return Some(End::Ended(condition)),
        }
        let author = state.author(self.wire, &element);
        let faults = &self.server.ctx.faults;
        if author.is_some() && faults.hit(self.names.cut_before_handling, author.as_deref()) {
            return Some(End::Cut);
        }
        state.take(self.wire, element);
        state.handled(self.wire, n);
        if author.is_some() && faults.hit(self.names.cut_after_handling, author.as_deref()) {
            return Some(End::Cut);
        }
        drop(state);
        self.connection.acknowledge(n);
        None
    }

    /// Hands the connection all that waits.
    async fn write(&mut self) -> Option<End> {
        let faults = Arc::clone(&self.server.ctx);
        let faults = &faults.faults;
        if faults.is_on(self.names.silent) {
            return None;
        }
        let stamps = Stamps {
            resent: faults.is_on("imp-resent-stamped"),
            whole_seconds: faults.is_on("imp-stamps-whole-seconds"),
        };
        let mut wrote = false;
        let mut cut = false;
        {
            let mut state = self.server.state();
            match state.standing(self.wire, self.epoch) {
                Standing::Current => {}
                Standing::Gone => return Some(End::Gone),
                Standing::Ended(condition) => return Some(End::Ended(condition)),
            }
            while let Some(item) = state.next_item(self.wire) {
                let reader =
                    item.owner.as_ref().filter(|_| stanza::is_substantial(&item.element)).map(|(bare, _)| {
                        self.server.ctx.people.by_jid(bare).map(|person| person.name).unwrap_or_default()
                    });
                if reader.is_some() && faults.hit(self.names.cut_before_writing, reader.as_deref()) {
                    state.put_back(self.wire, item);
                    return Some(End::Cut);
                }
                let domain =
                    item.owner.as_ref().and_then(|(bare, _)| bare.rsplit('@').next()).unwrap_or(DOMAIN);
                let before = self.connection.sent();
                let position = self.connection.send(&item.render(domain, stamps));
                if position > before {
                    state.written(self.wire, position, item);
                }
                wrote = true;
                if reader.is_some() && faults.hit(self.names.cut_after_writing, reader.as_deref()) {
                    cut = true;
                    break;
                }
            }
        }
        if cut {
            self.flush().await;
            return Some(End::Cut);
        }
        if wrote && self.connection.is_managed() {
            self.connection.request_ack();
        }
        (self.connection.queued() > UNWRITTEN).then_some(End::Closed(CloseReason::Silent))
    }

    /// Writes what is queued, as far as that goes quickly. What comes meanwhile is lost with the connection.
    async fn flush(&mut self) {
        for _ in 0..100 {
            if self.connection.queued() == 0 {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_millis(5), self.connection.next()).await;
        }
    }
}
