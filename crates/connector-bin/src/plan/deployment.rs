//! A deployment as `plan` judges it: connectors, IM and Presence clusters, and who is on them.

use std::collections::{BTreeMap, BTreeSet};

/// How large a connector host is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Size {
    /// Up to 5,000 users.
    Small,
    /// Up to 6,500 users.
    Medium,
    /// Up to 15,000 users.
    #[default]
    Large,
}

impl Size {
    /// How many users a node of this size may serve (CAP-03 to CAP-05).
    pub(crate) fn users(self) -> u64 {
        match self {
            Self::Small => 5_000,
            Self::Medium => 6_500,
            Self::Large => 15_000,
        }
    }
}

/// What is told of one connector's host.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Host {
    pub(crate) size: Size,
    /// The lowered limit of a host that is shared (SC-10).
    pub(crate) users_per_node: Option<u64>,
    /// Hybrid Calling or Hybrid Calendar run there too.
    pub(crate) shared: bool,
    /// Mobile and Remote Access runs there too.
    pub(crate) mra: bool,
    /// How many ports its connections may start from; `None`: as many as the system gives.
    pub(crate) source_ports: Option<u64>,
}

/// Users of a node beside Mobile and Remote Access (SC-15).
const MRA_USERS: u64 = 100;

impl Host {
    /// How many users a node on this host may serve.
    pub(crate) fn users(&self) -> u64 {
        let own = self.users_per_node.map_or(self.size.users(), |lowered| lowered.min(self.size.users()));
        if self.mra { own.min(MRA_USERS) } else { own }
    }
}

/// One connector.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// It is the one that is registered with Webex.
    pub(crate) primary: bool,
    pub(crate) host: Host,
}

/// Connectors that share the users of their IM and Presence clusters.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectorCluster {
    pub(crate) name: String,
    pub(crate) nodes: Vec<Node>,
    /// The publishers of the IM and Presence clusters that it serves.
    pub(crate) serves: BTreeSet<String>,
    pub(crate) resource_group: Option<String>,
}

impl ConnectorCluster {
    /// How many users it may serve: one node's capacity is reserve (CAP-07). A single node has no reserve.
    pub(crate) fn capacity(&self) -> u64 {
        let users: Vec<u64> = self.nodes.iter().map(|node| node.host.users()).collect();
        let reserve = if users.len() > 1 { users.iter().max().copied().unwrap_or(0) } else { 0 };
        users.iter().sum::<u64>() - reserve
    }
}

/// A presence redundancy group of an IM and Presence cluster.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) nodes: usize,
    /// High availability is switched on.
    pub(crate) enabled: bool,
}

/// One IM and Presence cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImpCluster {
    /// Its publisher.
    pub(crate) name: String,
    /// Users whom it homes.
    pub(crate) users: u64,
    /// Those of them who are enabled; `None`: not known, so that all of them count.
    pub(crate) enabled: Option<u64>,
    /// The mail addresses of its users, where they are known.
    pub(crate) mails: BTreeSet<String>,
    /// `None`: its groups could not be read.
    pub(crate) groups: Option<Vec<Group>>,
}

impl ImpCluster {
    pub(crate) fn enabled(&self) -> u64 {
        self.enabled.unwrap_or(self.users)
    }
}

/// Everything that `plan` judges.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deployment {
    pub(crate) connectors: Vec<ConnectorCluster>,
    pub(crate) imp: Vec<ImpCluster>,
    /// Enabled users of the organization; `None`: the sum of what the clusters home.
    pub(crate) enabled: Option<u64>,
    /// People in the Webex organization, enabled or not; `None`: not known.
    pub(crate) in_webex: Option<u64>,
    pub(crate) government: bool,
    /// IM and Presence federates with a foreign domain.
    pub(crate) federation: bool,
    /// Users of IM and Presence who are not in Webex, and those who are there without the licence; `None`: not known.
    pub(crate) unlicensed: Option<Unlicensed>,
    /// The mail addresses of each resource group's users; empty where there are no groups.
    pub(crate) resource_groups: BTreeMap<String, BTreeSet<String>>,
}

/// Users of IM and Presence who should be in Webex with a licence and are not (LIC-04).
#[derive(Clone, Debug, Default)]
pub(crate) struct Unlicensed {
    /// JIDs of those who are not in the organization.
    pub(crate) missing: Vec<String>,
    /// JIDs of those who lack the licence; `None`: which licence it is was not told.
    pub(crate) lacking: Option<Vec<String>>,
}
