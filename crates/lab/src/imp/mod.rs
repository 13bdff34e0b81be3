//! The IM and Presence stand-in: client streams, the trusted link with session control, AXL, and the login service.
//!
//! What it imitates: resources and the routing between them, copies of messages (XEP-0280), a store for users who are not
//! there that every resource is given, presence composed into one state per user, stream management (XEP-0198) on both
//! kinds of stream with resumption, in-enterprise subscriptions that nobody has to ask for, group chats, two domains, and a contact of
//! a third one that is somebody else's.
//!
//! Two nodes can be one redundancy group: each has a trusted link and a door for client streams of its own, which serve the
//! users whom it homes or has taken over. At the usual door client streams find the node of their user by themselves.
//!
//! What it does not: rosters that can be changed, archives, and anything of the product whose wire
//! form is not public. A state set by hand is published by a node of the lab's own ([`MANUAL_NODE`]).

mod accounts;
pub mod axl;
mod control;
mod doors;
mod end_users;
pub mod epas;
mod faults;
pub(crate) mod federation;
mod messages;
pub mod nodes;
mod offline;
mod presence;
mod queries;
mod queue;
pub(crate) mod rooms;
mod sql;
pub(crate) mod stanza;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xmpp_core::Element;
use xmpp_core::tokio::AcceptTls;

use self::state::{Owner, State, WireId};
use crate::ctx::Ctx;
use crate::net::Listener;

pub(crate) use self::presence::COMPOSED;
pub use self::queries::MANUAL_NODE;

/// The doors of the IM and Presence stand-in.
#[derive(Debug)]
pub struct Listeners {
    /// Client streams, whose node is found for them.
    pub client: Listener,
    /// Client streams of each node; empty where there is one.
    pub clients: Vec<Listener>,
    /// The trusted link of each node.
    pub trusted: Vec<Listener>,
    /// The AXL service, and the login service.
    pub axl: Listener,
}

/// Starts the stand-in; it runs until the lab stops. With `tls` client streams may be encrypted (STARTTLS) and AXL is; the
/// trusted link never is, as in the product.
pub fn start(ctx: &Arc<Ctx>, listeners: Listeners, tls: Option<Arc<rustls::ServerConfig>>) {
    ctx.faults.register(faults::KINDS);
    let server = Server::new(ctx);
    federation::start(ctx, Arc::downgrade(&server));
    let quiet = Arc::downgrade(&server);
    ctx.idle.probe(move || quiet.upgrade().is_none_or(|server| server.state().is_quiet()));
    let client_tls = tls.clone().map_or(AcceptTls::Off, AcceptTls::Allowed);
    let found = std::iter::once((None, listeners.client));
    for (node, client) in found.chain((0..).map(Some).zip(listeners.clients)) {
        let door = doors::Door::Client(node);
        ctx.spawn(doors::serve(Arc::clone(&server), door, client, client_tls.clone()));
    }
    for (node, trusted) in listeners.trusted.into_iter().enumerate() {
        ctx.spawn(doors::serve(Arc::clone(&server), doors::Door::Link(node), trusted, AcceptTls::Off));
    }
    ctx.spawn(nodes::follow(server));
    ctx.spawn(axl::serve(Arc::clone(ctx), listeners.axl, tls));
}

/// The server: its state, under one lock.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) ctx: Arc<Ctx>,
    state: Mutex<State>,
}

impl Server {
    fn new(ctx: &Arc<Ctx>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            ctx: Arc::clone(ctx),
            state: Mutex::new(State::new(Arc::clone(ctx), me.clone())),
        })
    }

    /// The state; never held across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Something came on a stream.
    pub(crate) fn take(&mut self, wire: WireId, element: Element) {
        match self.wires.get(&wire).map(|wire| wire.owner.clone()) {
            Some(Owner::Client(bare, resource)) => self.take_from_session(&bare, &resource, element),
            Some(Owner::Link(_)) => self.take_from_link(wire, element),
            None => {}
        }
    }

    /// Whose message it is that came on a stream, by short name; `None` if it is no message that says something.
    pub(crate) fn author(&self, wire: WireId, element: &Element) -> Option<String> {
        let bare = match &self.wires.get(&wire)?.owner {
            Owner::Client(bare, _) => {
                stanza::is_substantial(element).then_some(())?;
                bare.clone()
            }
            Owner::Link(_) => {
                let message = element.children().next().filter(|child| stanza::is_substantial(child))?;
                let c2s = message.attr_ns(xmpp_core::ns::SESSION_CONTROL, "c2s")?;
                self.routes.get(&(wire, c2s.to_owned()))?.0.clone()
            }
        };
        Some(self.ctx.people.by_jid(&bare).map(|person| person.name).unwrap_or_default())
    }
}
