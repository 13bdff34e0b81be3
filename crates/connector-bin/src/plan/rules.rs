//! The overview's rules of capacity, topology, licensing and scope, as one function over a deployment.

use std::collections::BTreeSet;

use serde::Serialize;

use super::deployment::{ConnectorCluster, Deployment, ImpCluster};

/// How a rule came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It holds, or this is what it says.
    Holds,
    /// It holds, at a price; or it could not be looked at.
    Warning,
    /// It does not hold.
    Broken,
}

/// What a rule says of a deployment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// Its id in the map of the overview.
    pub(crate) rule: &'static str,
    pub(crate) outcome: Outcome,
    /// The cluster or group in question, or `organization`.
    pub(crate) about: String,
    pub(crate) what: String,
}

/// Enabled users of an organization (CAP-02).
const ORGANIZATION: u64 = 195_000;
/// Users of a connector cluster (CAP-06).
const CLUSTER: u64 = 75_000;
/// Nodes of a connector cluster (CAP-11).
const NODES: usize = 6;
/// IM and Presence clusters of a connector cluster (CAP-20).
const SERVED: usize = 5;
/// Users of a cluster beside Mobile and Remote Access (SC-16).
const MRA_CLUSTER: u64 = 500;
/// How many of a list are named.
const NAMED: usize = 20;

/// What was found, and the name of the deployment model.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) model: String,
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    /// How many rules are broken.
    pub(crate) fn broken(&self) -> usize {
        self.findings.iter().filter(|finding| finding.outcome == Outcome::Broken).count()
    }
}

/// Judges a deployment by every rule.
pub(crate) fn judge(deployment: &Deployment) -> Report {
    let mut judge = Judge { deployment, findings: Vec::new() };
    judge.organization();
    judge.licences();
    for connectors in &deployment.connectors {
        judge.connectors(connectors);
    }
    for imp in &deployment.imp {
        judge.redundancy(imp);
    }
    let model = judge.topology();
    judge.resource_groups();
    Report { model, findings: judge.findings }
}

struct Judge<'a> {
    deployment: &'a Deployment,
    findings: Vec<Finding>,
}

impl<'a> Judge<'a> {
    fn say(&mut self, rule: &'static str, outcome: Outcome, about: &str, what: impl Into<String>) {
        self.findings.push(Finding { rule, outcome, about: about.to_owned(), what: what.into() });
    }

    /// A limit: it holds up to and with `most`.
    fn limit(&mut self, rule: &'static str, about: &str, counted: u64, most: u64, of: &str) {
        let outcome = if counted <= most { Outcome::Holds } else { Outcome::Broken };
        self.say(rule, outcome, about, format!("{counted} of at most {most} {of}"));
    }

    fn served(&self, connectors: &ConnectorCluster) -> Vec<&'a ImpCluster> {
        self.deployment.imp.iter().filter(|imp| connectors.serves.contains(&imp.name)).collect()
    }

    fn organization(&mut self) {
        let all = self.deployment;
        let enabled = all.enabled.unwrap_or_else(|| all.imp.iter().map(ImpCluster::enabled).sum());
        self.limit("CAP-02", "organization", enabled, ORGANIZATION, "enabled users");
        let others = all.in_webex.map(|people| people.saturating_sub(enabled));
        let what = match others {
            Some(others) => format!("only enabled users count; {others} other people in Webex do not"),
            None => "only enabled users count".to_owned(),
        };
        self.say("SC-17", Outcome::Holds, "organization", what);
        let (outcome, what) = match (all.federation, all.government) {
            (true, true) => (Outcome::Broken, "federation is not supported in the government environment"),
            (true, false) => (Outcome::Holds, "IM and Presence federates; not in the government environment"),
            (false, true) => (Outcome::Holds, "the government environment, without federation"),
            (false, false) => (Outcome::Holds, "neither federation nor the government environment"),
        };
        self.say("SC-24", outcome, "organization", what);
    }

    fn licences(&mut self) {
        let Some(unlicensed) = &self.deployment.unlicensed else {
            let what = "not looked at: licences are read only where IM and Presence and the cloud both are";
            return self.say("LIC-04", Outcome::Warning, "organization", what);
        };
        let missing = &unlicensed.missing;
        if !missing.is_empty() {
            let what =
                format!("{} users of IM and Presence are not in Webex: {}", missing.len(), named(missing));
            self.say("LIC-04", Outcome::Broken, "organization", what);
        }
        match &unlicensed.lacking {
            None => {
                let what = "who lacks Message Free is not known: webex.message_license_id is not given";
                self.say("LIC-04", Outcome::Warning, "organization", what);
            }
            Some(lacking) if !lacking.is_empty() => {
                let what = format!(
                    "{} users of IM and Presence lack Message Free: {}",
                    lacking.len(),
                    named(lacking)
                );
                self.say("LIC-04", Outcome::Broken, "organization", what);
            }
            Some(_) if missing.is_empty() => {
                let what = "all users of IM and Presence are in Webex and have Message Free";
                self.say("LIC-04", Outcome::Holds, "organization", what);
            }
            Some(_) => {}
        }
    }

    /// One connector cluster: its nodes and what they carry.
    fn connectors(&mut self, connectors: &ConnectorCluster) {
        let about = &connectors.name;
        let served = self.served(connectors);
        let users: u64 = served.iter().map(|imp| imp.users).sum();
        let enabled: u64 = served.iter().map(|imp| imp.enabled()).sum();
        let (nodes, capacity) = (connectors.nodes.len(), connectors.capacity());

        self.limit("CAP-11", about, nodes as u64, NODES as u64, "nodes, the primary included");
        let primaries: Vec<&str> =
            connectors.nodes.iter().filter(|node| node.primary).map(|node| node.name.as_str()).collect();
        match primaries[..] {
            [one] => self.say("CAP-12", Outcome::Holds, about, format!("{one} is primary")),
            [] => self.say("CAP-12", Outcome::Broken, about, "no node is primary"),
            _ => {
                let what = format!("several nodes are primary: {}", primaries.join(", "));
                self.say("CAP-12", Outcome::Broken, about, what);
            }
        }

        self.sizes(connectors, users);
        let reserve = "users; one node of several is reserve";
        self.limit("CAP-07", about, enabled, capacity, &format!("enabled {reserve}"));
        self.limit("CAP-06", about, enabled, CLUSTER, "enabled users of a cluster");
        if nodes > 1 {
            self.say("CAP-09", Outcome::Holds, about, "a node is in reserve");
        } else {
            self.say(
                "CAP-09",
                Outcome::Warning,
                about,
                "no reserve: with its one node down nobody is served",
            );
        }
        if users > capacity {
            let surplus = users - capacity;
            let what = format!(
                "{surplus} users of its IM and Presence clusters are more than it can serve; a second connector \
                 cluster for them is not supported"
            );
            self.say("CAP-18", Outcome::Warning, about, what);
        } else {
            self.say(
                "CAP-18",
                Outcome::Holds,
                about,
                "all users of its IM and Presence clusters can be served",
            );
        }
        self.hosts(connectors, enabled);
    }

    /// How many nodes are needed, by the size of those that are there.
    fn sizes(&mut self, connectors: &ConnectorCluster, users: u64) {
        let about = &connectors.name;
        let nodes = connectors.nodes.len();
        let each = connectors.nodes.iter().map(|node| node.host.users()).min().unwrap_or(0);
        let needed = if each == 0 { 0 } else { users.div_ceil(each) + 1 };
        let what = format!(
            "{users} users need {needed} such nodes with one in reserve, {nodes} are there; a cluster has at most {NODES}"
        );
        let outcome = if needed > nodes as u64 { Outcome::Warning } else { Outcome::Holds };
        self.say("CAP-01", outcome, about, what);
        for (rule, size) in [
            ("CAP-03", super::deployment::Size::Small),
            ("CAP-04", super::deployment::Size::Medium),
            ("CAP-05", super::deployment::Size::Large),
        ] {
            let count = connectors.nodes.iter().filter(|node| node.host.size == size).count();
            if count > 0 {
                let what = format!("{count} nodes of up to {} users each", size.users());
                self.say(rule, Outcome::Holds, about, what);
            }
        }
    }

    /// What else runs on the hosts.
    fn hosts(&mut self, connectors: &ConnectorCluster, enabled: u64) {
        let about = &connectors.name;
        let shared: Vec<_> = connectors.nodes.iter().filter(|node| node.host.shared).collect();
        if !shared.is_empty() {
            self.say("SC-09", Outcome::Holds, about, "hosts may be shared with Hybrid Calling and Calendar");
        }
        for node in &shared {
            match node.host.users_per_node {
                Some(users) if users < node.host.size.users() => {
                    let what = format!("{} shares its host and is held to {users} users", node.name);
                    self.say("SC-10", Outcome::Holds, about, what);
                }
                _ => {
                    let what = format!(
                        "{} shares its host: deployment.users_per_node must say fewer than {} users",
                        node.name,
                        node.host.size.users()
                    );
                    self.say("SC-10", Outcome::Broken, about, what);
                }
            }
        }
        for node in &connectors.nodes {
            let Some(ports) = node.host.source_ports else { continue };
            let (users, name) = (node.host.users(), &node.name);
            let what = format!(
                "{name} may serve {users} users, and {ports} source ports carry so many sockets to one address of the cloud"
            );
            self.say("PORT-06", if users > ports { Outcome::Warning } else { Outcome::Holds }, about, what);
        }
        let beside: Vec<_> = connectors.nodes.iter().filter(|node| node.host.mra).collect();
        if beside.is_empty() {
            return;
        }
        let what = "a connector beside Mobile and Remote Access is advised against";
        self.say("SC-14", Outcome::Warning, about, what);
        for node in &beside {
            let what = format!("{} is held to {} users", node.name, node.host.users());
            self.say("SC-15", Outcome::Holds, about, what);
        }
        self.limit("SC-16", about, enabled, MRA_CLUSTER, "users beside Mobile and Remote Access");
    }

    /// One IM and Presence cluster: who takes over for whom there.
    fn redundancy(&mut self, imp: &ImpCluster) {
        let Some(groups) = &imp.groups else {
            return self.say("CAP-09", Outcome::Warning, &imp.name, "its redundancy groups are not known");
        };
        let alone: Vec<String> = groups
            .iter()
            .filter(|group| !group.enabled || group.nodes < 2)
            .map(|group| match group.nodes {
                0 | 1 => format!("{} has no partner node", group.name),
                _ => format!("{} has high availability switched off", group.name),
            })
            .collect();
        if groups.is_empty() || !alone.is_empty() {
            let why = if alone.is_empty() { "it has no redundancy group".into() } else { alone.join("; ") };
            self.say("CAP-09", Outcome::Warning, &imp.name, format!("no reserve: {why}"));
        } else {
            self.say("CAP-09", Outcome::Holds, &imp.name, "every redundancy group has a partner node");
        }
    }

    /// Which connector clusters go with which IM and Presence clusters; returns the model's name.
    fn topology(&mut self) -> String {
        let all = self.deployment;
        let serving = |imp: &ImpCluster| -> Vec<&'a str> {
            let connectors = all.connectors.iter().filter(|c| c.serves.contains(&imp.name));
            connectors.map(|c| c.name.as_str()).collect()
        };
        let mut shared: Vec<&ImpCluster> = Vec::new();
        for imp in &all.imp {
            let connectors = serving(imp);
            if connectors.len() > 1 {
                let who = connectors.join(", ");
                let what = format!("several connector clusters serve it: {who}");
                self.say("CAP-17", Outcome::Broken, &imp.name, what);
                self.say(
                    "SC-20",
                    Outcome::Broken,
                    &imp.name,
                    "each connected connector costs it performance",
                );
                shared.push(imp);
            } else {
                let what =
                    connectors.first().map_or("no connector serves it".into(), |c| format!("served by {c}"));
                self.say("CAP-17", Outcome::Holds, &imp.name, what);
            }
        }
        let mut many = false;
        for connectors in &all.connectors {
            let served = self.served(connectors).len();
            many |= served > 1;
            let of = "IM and Presence clusters of a connector cluster";
            self.limit("CAP-20", &connectors.name, served as u64, SERVED as u64, of);
            self.limit("SC-19", &connectors.name, served as u64, SERVED as u64, of);
        }
        let everywhere = all.imp.len() > 1
            && all.connectors.len() > 1
            && all.connectors.iter().all(|c| all.imp.iter().all(|imp| c.serves.contains(&imp.name)));
        if everywhere {
            let what =
                "every connector cluster serves every IM and Presence cluster: overload outweighs redundancy";
            self.say("CAP-16", Outcome::Broken, "organization", what);
        } else {
            let what = "not every connector cluster serves every IM and Presence cluster, or there is one";
            self.say("CAP-16", Outcome::Holds, "organization", what);
        }
        let meshed = shared.iter().any(|imp| {
            all.connectors.iter().any(|c| c.serves.contains(&imp.name) && self.served(c).len() > 1)
        });
        let (rule, outcome, model) = match (shared.is_empty(), meshed, many) {
            (false, true, _) => (
                "TOP-06",
                Outcome::Broken,
                "a mesh of several connector clusters and several IM and Presence clusters",
            ),
            (false, false, _) => {
                ("TOP-05", Outcome::Broken, "several connector clusters for one IM and Presence cluster")
            }
            (true, _, true) => {
                ("TOP-03", Outcome::Warning, "one connector cluster for several IM and Presence clusters")
            }
            (true, _, false) if all.connectors.len() > 1 => (
                "TOP-02",
                Outcome::Holds,
                "one connector cluster for one IM and Presence cluster, at several sites",
            ),
            (true, _, false) => {
                ("TOP-01", Outcome::Holds, "one connector cluster for one IM and Presence cluster")
            }
        };
        let what = match outcome {
            Outcome::Holds => "recommended",
            Outcome::Warning => "allowed; mind scale and latency",
            Outcome::Broken => "not supported",
        };
        self.say(rule, outcome, "organization", format!("{model}: {what}"));
        model.to_owned()
    }

    /// The users of a resource group are those of the IM and Presence clusters of its connectors (CAP-22).
    fn resource_groups(&mut self) {
        let all = self.deployment;
        let mut names: BTreeSet<&str> = all.resource_groups.keys().map(String::as_str).collect();
        names.extend(all.connectors.iter().filter_map(|c| c.resource_group.as_deref()));
        for name in names {
            let connectors: Vec<&ConnectorCluster> =
                all.connectors.iter().filter(|c| c.resource_group.as_deref() == Some(name)).collect();
            let assigned: Vec<&str> = connectors.iter().map(|c| c.name.as_str()).collect();
            let none = BTreeSet::new();
            let members = all.resource_groups.get(name).unwrap_or(&none);
            let what = format!("{} users; connector clusters: {}", members.len(), assigned.join(", "));
            let outcome = if assigned.is_empty() { Outcome::Broken } else { Outcome::Holds };
            self.say("CAP-21", outcome, name, what);
            let homed: BTreeSet<String> =
                connectors.iter().flat_map(|c| self.served(c)).flat_map(|imp| imp.mails.clone()).collect();
            let strangers: Vec<String> = members.difference(&homed).cloned().collect();
            let outsiders: Vec<String> = homed.difference(members).cloned().collect();
            for (who, what) in [
                (&strangers, "are in the group, but not on the IM and Presence clusters of its connectors"),
                (&outsiders, "are on the IM and Presence clusters of its connectors, but not in the group"),
            ] {
                if !who.is_empty() {
                    self.say(
                        "CAP-22",
                        Outcome::Broken,
                        name,
                        format!("{} {what}: {}", who.len(), named(who)),
                    );
                }
            }
            if strangers.is_empty() && outsiders.is_empty() {
                let what = "its users are those of the IM and Presence clusters of its connectors";
                self.say("CAP-22", Outcome::Holds, name, what);
            }
        }
    }
}

/// The first of a list, and how many more there are.
fn named(who: &[String]) -> String {
    let mut text = who.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if who.len() > NAMED {
        text.push_str(&format!(" and {} more", who.len() - NAMED));
    }
    text
}
