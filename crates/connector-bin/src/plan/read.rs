//! A deployment, read from the settings of its connectors, from IM and Presence, and from the cloud.

use std::collections::BTreeMap;
use std::path::PathBuf;

use connector_edges::axl_client::users::Home;
use connector_edges::probe::causes;
use connector_edges::topology::ClusterFacts;
use connector_edges::webex::{Source, read_organization};

use super::deployment::{ConnectorCluster, Deployment, Group, Host, ImpCluster, Node, Unlicensed};
use crate::app;
use crate::config::{self, Config};
use crate::wiring::{Ground, Parts};

/// Reads the deployment of these connectors.
///
/// # Errors
/// Which file or server could not be read, and why.
pub(super) async fn deployment(paths: &[PathBuf]) -> Result<Deployment, String> {
    let mut deployment = Deployment::default();
    let mut clusters: BTreeMap<String, ConnectorCluster> = BTreeMap::new();
    let mut first: Option<Config> = None;
    let mut users = Vec::new();
    for path in paths {
        let config = config::load(path).map_err(|mistakes| app::report(path, &mistakes))?;
        if first.as_ref().is_some_and(|first| first.organization.id != config.organization.id) {
            return Err(format!("{}: its organization is another one than the first file's", path.display()));
        }
        deployment.federation |= config.deployment.federation;
        deployment.government |= config.deployment.government;
        add(&mut clusters, &config);
        let known = |name: &str| deployment.imp.iter().any(|imp| imp.name == name);
        if config.imp.iter().any(|imp| !known(&imp.publisher)) {
            read_imp(&config, &mut deployment.imp, &mut users).await?;
        }
        for (mail, group) in config.directory.resource_groups.iter().flatten() {
            deployment.resource_groups.entry(group.to_string()).or_default().insert(mail.clone());
        }
        first.get_or_insert(config);
    }
    if let Some(config) = &first {
        read_people(config, &users, &mut deployment).await?;
    }
    deployment.connectors = clusters.into_values().collect();
    Ok(deployment)
}

/// Adds a connector to its cluster.
fn add(clusters: &mut BTreeMap<String, ConnectorCluster>, config: &Config) {
    let own = &config.deployment;
    let cluster = clusters.entry(own.cluster.clone()).or_insert_with(|| ConnectorCluster {
        name: own.cluster.clone(),
        resource_group: own.resource_group.clone(),
        ..ConnectorCluster::default()
    });
    let source_ports = config.limits.source_ports.as_ref().map(|ports| ports.len() as u64);
    let host = Host { source_ports, ..own.host };
    cluster.nodes.push(Node { name: own.node.clone(), primary: own.primary, host });
    cluster.serves.extend(config.imp.iter().map(|imp| imp.publisher.clone()));
}

/// A user of IM and Presence, as the cloud is compared with it.
struct User {
    cluster: String,
    jid: String,
    mail: Option<String>,
    /// Where the settings say it; else the cloud's licences do.
    enabled: Option<bool>,
}

/// Reads the IM and Presence clusters of a connector that were not read yet.
async fn read_imp(config: &Config, imp: &mut Vec<ImpCluster>, users: &mut Vec<User>) -> Result<(), String> {
    let is_new = |name: &str, imp: &[ImpCluster]| imp.iter().all(|known| known.name != name);
    if let Some(rows) = &config.directory.users {
        for cluster in &config.imp {
            if !is_new(&cluster.publisher, imp) {
                continue;
            }
            let domains: Vec<String> = cluster.domains.iter().map(|domain| domain.to_lowercase()).collect();
            let homed = rows.iter().filter(|(jid, ..)| {
                let domain = jid.as_str().rsplit('@').next().unwrap_or_default();
                domains.iter().any(|served| served == domain)
            });
            let homed: Vec<User> = homed
                .map(|(jid, mail, enabled)| User {
                    cluster: cluster.publisher.clone(),
                    jid: jid.as_str().to_owned(),
                    mail: Some(mail.clone()),
                    enabled: Some(*enabled),
                })
                .collect();
            imp.push(found(&cluster.publisher, &homed, None));
            users.extend(homed);
        }
        return Ok(());
    }
    let parts = Parts::new(config, Ground::real(config))?;
    for facts in parts.publishers(config)?.clusters().await.map_err(|e| causes(&*e))? {
        let name = &config.imp[facts.cluster].publisher;
        if !is_new(name, imp) {
            continue;
        }
        let homed = homed(name, &facts);
        let groups = facts.groups.map(|groups| {
            let group = |group: connector_edges::axl_client::redundancy::Group| Group {
                name: group.name,
                nodes: group.nodes.len(),
                enabled: group.enabled,
            };
            groups.into_iter().map(group).collect()
        });
        imp.push(found(name, &homed, groups));
        users.extend(homed);
    }
    Ok(())
}

fn homed(name: &str, facts: &ClusterFacts) -> Vec<User> {
    let homed = facts.users.users.values().filter(|user| user.home != Home::Elsewhere);
    homed
        .map(|user| User {
            cluster: name.to_owned(),
            jid: user.jid.clone(),
            mail: user.mail.clone(),
            enabled: None,
        })
        .collect()
}

fn found(name: &str, homed: &[User], groups: Option<Vec<Group>>) -> ImpCluster {
    let told: Option<Vec<bool>> = homed.iter().map(|user| user.enabled).collect();
    ImpCluster {
        name: name.to_owned(),
        users: homed.len() as u64,
        enabled: told.map(|told| told.into_iter().filter(|enabled| *enabled).count() as u64),
        mails: homed.iter().filter_map(|user| user.mail.clone()).collect(),
        groups,
    }
}

/// Compares the users of IM and Presence with the people of the organization.
async fn read_people(config: &Config, users: &[User], deployment: &mut Deployment) -> Result<(), String> {
    let parts = Parts::new(config, Ground::real(config))?;
    let Source::Licences { admin, license, .. } = parts.people(config)?.source else { return Ok(()) };
    let people = read_organization(&parts.cloud, &admin).await.map_err(|e| causes(&e))?;
    let mut licences: BTreeMap<String, &[String]> = BTreeMap::new();
    for person in &people {
        for mail in &person.emails {
            licences.insert(mail.to_lowercase(), person.licenses.as_deref().unwrap_or_default());
        }
    }
    let holds = |held: &[String], wanted: &str| held.iter().any(|held| held == wanted);
    deployment.in_webex = Some(people.len() as u64);
    let enabled = people.iter().filter(|p| p.licenses.as_deref().is_some_and(|held| holds(held, &license)));
    deployment.enabled = Some(enabled.count() as u64);
    for imp in &mut deployment.imp {
        let enabled = users.iter().filter(|user| user.cluster == imp.name);
        let enabled = enabled.filter(|user| {
            user.mail.as_ref().and_then(|mail| licences.get(mail)).is_some_and(|held| holds(held, &license))
        });
        imp.enabled = Some(enabled.count() as u64);
    }
    let wanted = config.webex.message_license_id.as_deref();
    let mut unlicensed = Unlicensed { missing: Vec::new(), lacking: wanted.map(|_| Vec::new()) };
    for user in users {
        match (user.mail.as_ref().and_then(|mail| licences.get(mail)), wanted, &mut unlicensed.lacking) {
            (None, ..) => unlicensed.missing.push(user.jid.clone()),
            (Some(held), Some(wanted), Some(lacking)) if !holds(held, wanted) => {
                lacking.push(user.jid.clone())
            }
            _ => {}
        }
    }
    deployment.unlicensed = Some(unlicensed);
    Ok(())
}
