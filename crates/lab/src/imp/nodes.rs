//! The nodes of the cluster: who is homed where, which node is down, and who takes over for whom.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use tokio::sync::Notify;

use super::Server;
use super::state::{Owner, State, Wire, WireId};

/// How the nodes stand. Two of them are one redundancy group.
#[derive(Debug)]
pub struct Nodes {
    nodes: Mutex<Vec<Node>>,
    changed: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    up: bool,
    /// Its users are on its partner.
    taken_over: bool,
}

/// What is to become of a node; what is left out stays.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeChange {
    /// Its number, from 0.
    pub node: usize,
    /// It runs. When it dies, the sessions on it are over and nobody answers there.
    #[serde(default)]
    pub up: Option<bool>,
    /// Its partner takes its users over, or gives them back: the sessions of its users end, and may be opened where they
    /// belong now.
    #[serde(default)]
    pub taken_over: Option<bool>,
}

/// There is no such node, or none that could take over.
#[derive(Debug, thiserror::Error)]
#[error("there is no node {0} with a partner")]
pub struct NoNode(usize);

impl Nodes {
    pub(crate) fn new(count: u32) -> Self {
        let node = Node { up: true, taken_over: false };
        Self { nodes: Mutex::new(vec![node; count.max(1) as usize]), changed: Notify::new() }
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> usize {
        self.nodes().len()
    }

    /// What the cluster calls a node.
    pub(crate) fn name(node: usize) -> String {
        format!("imp{}.lab.example", node + 1)
    }

    /// Changes how a node stands.
    ///
    /// # Errors
    /// There is no such node.
    pub fn change(&self, change: NodeChange) -> Result<(), NoNode> {
        let mut nodes = self.nodes();
        let alone = nodes.len() < 2;
        let node = nodes.get_mut(change.node).filter(|_| !alone).ok_or(NoNode(change.node))?;
        node.up = change.up.unwrap_or(node.up);
        node.taken_over = change.taken_over.unwrap_or(node.taken_over);
        drop(nodes);
        self.changed.notify_one();
        Ok(())
    }

    pub(crate) fn is_up(&self, node: usize) -> bool {
        self.nodes().get(node).is_some_and(|node| node.up)
    }

    /// `tkhaserverstate` of a node.
    pub(crate) fn state(&self, node: usize) -> &'static str {
        let nodes = self.nodes();
        let backs_up = nodes.iter().enumerate().any(|(other, n)| other != node && n.taken_over);
        match nodes.get(node) {
            Some(_) if nodes.len() == 1 => "2",
            Some(own) if own.taken_over || !own.up => "8",
            Some(_) if backs_up => "4",
            _ => "3",
        }
    }

    /// The node that homes a user: a matter of the JID, so that it is the same in every run.
    pub(crate) fn home(&self, bare: &str) -> usize {
        bare.bytes().map(usize::from).sum::<usize>() % self.count()
    }

    /// The node that serves a user now.
    pub(crate) fn serving(&self, bare: &str) -> usize {
        let home = self.home(bare);
        let nodes = self.nodes();
        match nodes.get(home) {
            Some(node) if node.taken_over => (home + 1) % nodes.len(),
            _ => home,
        }
    }
}

/// Ends what a change of the nodes ends, for ever.
pub(crate) async fn follow(server: std::sync::Arc<Server>) {
    loop {
        server.ctx.nodes.changed.notified().await;
        server.state().nodes_changed();
    }
}

impl State {
    fn nodes_changed(&mut self) {
        let is_down = |wire: &Wire| wire.node.is_some_and(|node| !self.ctx.nodes.is_up(node));
        let down: Vec<WireId> =
            self.wires.iter().filter(|(_, wire)| is_down(wire)).map(|(id, _)| *id).collect();
        for wire in down {
            self.kill_wire(wire);
        }
        // Streams of clients that are on another node than the one that serves their user now.
        let is_elsewhere = |wire: &Wire| match &wire.owner {
            Owner::Client(bare, _) => wire.node.is_some_and(|node| node != self.ctx.nodes.serving(bare)),
            Owner::Link(_) => false,
        };
        let elsewhere: Vec<WireId> =
            self.wires.iter().filter(|(_, wire)| is_elsewhere(wire)).map(|(id, _)| *id).collect();
        for wire in elsewhere {
            self.end_wire(wire, "see-other-host");
        }
        // And sessions on trusted links that are on another node than the one that serves their user now.
        let moved: Vec<(String, String)> = self
            .routes
            .iter()
            .filter(|((wire, _), (bare, _))| {
                self.wires.get(wire).is_some_and(|wire| wire.node != Some(self.ctx.nodes.serving(bare)))
            })
            .map(|(_, session)| session.clone())
            .collect();
        for (bare, resource) in moved {
            if let Some((wire, ids)) =
                self.end_session(&bare, &resource).and_then(|old| Some((old.wire, old.ids?)))
            {
                self.push_control(wire, xmpp_core::session_control::ended(&ids));
            }
        }
    }
}
