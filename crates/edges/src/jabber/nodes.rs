//! Which node of a cluster holds a person's session: the one that homes the person, or its partner while that one is
//! away. Learnt from the publisher where it tells, and from the streams themselves.

use std::collections::{BTreeMap, BTreeSet};

use router::ids::PersonId;

use super::config::Cluster;

/// How the nodes of all clusters stand, as the publishers last said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// By cluster and node name.
    pub nodes: BTreeMap<(usize, Box<str>), NodeStanding>,
}

/// How one node stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStanding {
    /// The node that takes over for it; `None`: it is alone, or high availability is switched off.
    pub partner: Option<Box<str>>,
    /// Its users are on the partner (true) or on itself (false); `None`: not certain.
    pub taken_over: Option<bool>,
}

/// A node: its cluster, and its place in the cluster's list.
pub(super) type NodeKey = (usize, usize);

/// What a link tells of itself, for the edge to decide who goes where.
#[derive(Debug)]
pub(super) enum News {
    /// Nobody answers at its node, and has not for several tries.
    Unreachable,
    /// Its node answers.
    Reachable,
    /// The node serves this person no longer.
    Elsewhere(PersonId),
    /// The node starts no session for this person.
    Refused(PersonId),
    /// This person's session is none of its any more, and the hub knows.
    Left(PersonId),
}

/// Where sessions belong.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    standing: Standing,
    unreachable: BTreeSet<NodeKey>,
    /// Who is on the partner of the home node.
    strayed: BTreeSet<PersonId>,
}

impl Nodes {
    /// The node that holds a person's session, by the name of the node that homes the person; `None` where the name is of
    /// no node that we are told of.
    pub(super) fn serving(
        &self,
        clusters: &[Cluster],
        cluster: usize,
        home: &str,
        person: &PersonId,
    ) -> Option<NodeKey> {
        let home = (cluster, clusters[cluster].names.iter().position(|name| name == home)?);
        let partner = self.partner(clusters, home).filter(|_| self.strayed.contains(person));
        Some(partner.unwrap_or(home))
    }

    /// The node that takes over for another: as the publisher says, else the other one of two.
    pub(super) fn partner(&self, clusters: &[Cluster], node: NodeKey) -> Option<NodeKey> {
        let (cluster, at) = node;
        let names = &clusters[cluster].names;
        match self.standing.nodes.get(&(cluster, names.get(at)?.as_str().into())) {
            Some(standing) => {
                let partner = standing.partner.as_deref()?;
                Some((cluster, names.iter().position(|name| name == partner)?))
            }
            None => (names.len() == 2).then_some((cluster, 1 - at)),
        }
    }

    /// A person is looked for on the other node of the two, unless nobody answers there. Whether that is another than
    /// before.
    pub(super) fn stray(&mut self, clusters: &[Cluster], home: NodeKey, person: &PersonId) -> bool {
        let Some(partner) = self.partner(clusters, home) else { return false };
        let strayed = self.strayed.contains(person);
        let other = if strayed { home } else { partner };
        if self.unreachable.contains(&other) {
            return false;
        }
        match strayed {
            true => self.strayed.remove(person),
            false => self.strayed.insert(person.clone()),
        }
    }

    /// A session was found to be held on this node.
    pub(super) fn found(&mut self, home: NodeKey, on: NodeKey, person: &PersonId) {
        if on != home {
            self.strayed.insert(person.clone());
        }
    }

    /// Nobody answers there, or somebody does again.
    pub(super) fn reachable(&mut self, node: NodeKey, is: bool) {
        match is {
            true => self.unreachable.remove(&node),
            false => self.unreachable.insert(node),
        };
    }

    pub(super) fn is_unreachable(&self, node: NodeKey) -> bool {
        self.unreachable.contains(&node)
    }

    /// Takes what the publishers say. Only what has changed counts: of the same thing said again, what the streams have
    /// shown since is the newer. `people` are those who are homed on a node.
    pub(super) fn take(&mut self, standing: Standing, people: impl Fn(&(usize, Box<str>)) -> Vec<PersonId>) {
        let before = std::mem::replace(&mut self.standing, standing);
        for (node, now) in &self.standing.nodes {
            let was = before.nodes.get(node).and_then(|was| was.taken_over);
            let Some(taken_over) = now.taken_over.filter(|_| was != now.taken_over) else { continue };
            tracing::info!(cluster = node.0, node = &*node.1, taken_over, "redundancy");
            for person in people(node) {
                match taken_over {
                    true => self.strayed.insert(person),
                    false => self.strayed.remove(&person),
                };
            }
        }
    }
}
