//! `connector plan`: what the limits of the product overview make of a deployment.

pub(crate) mod deployment;
mod read;
mod rules;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use self::deployment::{ConnectorCluster, Deployment, Host, ImpCluster, Node, Size};
use self::rules::{Outcome, Report};

/// What `plan` is asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The settings file of a connector; give each connector's. Users, nodes and licences are then read from IM and
    /// Presence and from the cloud.
    #[arg(long, value_name = "FILE", required_unless_present = "imp", conflicts_with = "imp")]
    config: Vec<PathBuf>,
    /// Without settings files: an IM and Presence cluster and how many users it homes.
    #[arg(long, value_name = "NAME=USERS", value_parser = imp)]
    imp: Vec<(String, u64)>,
    /// How many connectors serve all these clusters together; without it, as many as are needed for each.
    #[arg(long, value_name = "COUNT", requires = "imp")]
    nodes: Option<usize>,
    /// How large their hosts are.
    #[arg(long, value_enum, default_value = "large", requires = "imp")]
    size: Size,
    /// How many users one connector may serve, where that is fewer than its size allows.
    #[arg(long, value_name = "USERS", requires = "imp")]
    users_per_node: Option<u64>,
    /// Hybrid Calling or Hybrid Calendar run on the hosts too.
    #[arg(long, requires = "imp")]
    shared_host: bool,
    /// The hosts are part of a cluster for Mobile and Remote Access.
    #[arg(long, requires = "imp")]
    mra: bool,
    /// IM and Presence federates with a foreign domain.
    #[arg(long, requires = "imp")]
    federation: bool,
    /// The organization is in the government environment.
    #[arg(long, requires = "imp")]
    government: bool,
    /// Print one JSON document, and nothing else.
    #[arg(long)]
    json: bool,
}

fn imp(text: &str) -> Result<(String, u64), String> {
    let (name, users) = text.split_once('=').ok_or("expected NAME=USERS")?;
    Ok((name.to_owned(), users.parse().map_err(|_| format!("`{users}` is no number of users"))?))
}

/// Judges, and prints a line for each rule.
///
/// # Errors
/// A file or a server could not be read; or how many rules are broken, each of which has been printed.
pub(crate) async fn run(args: Args) -> Result<(), String> {
    let deployment =
        if args.config.is_empty() { given(&args) } else { read::deployment(&args.config).await? };
    let report = rules::judge(&deployment);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(|e| e.to_string())?);
    } else {
        print!("{}", text(&report));
    }
    match report.broken() {
        0 => Ok(()),
        n => Err(format!("{n} rule(s) broken")),
    }
}

/// The deployment that the arguments describe.
fn given(args: &Args) -> Deployment {
    let host = Host {
        size: args.size,
        users_per_node: args.users_per_node,
        shared: args.shared_host,
        mra: args.mra,
        source_ports: None,
    };
    let cluster = |name: String, nodes: u64, serves: Vec<String>| ConnectorCluster {
        name,
        nodes: (1..=nodes).map(|n| Node { name: format!("connector{n}"), primary: n == 1, host }).collect(),
        serves: serves.into_iter().collect(),
        resource_group: None,
    };
    let connectors = match args.nodes {
        Some(nodes) => {
            let serves = args.imp.iter().map(|(name, _)| name.clone()).collect();
            vec![cluster("connectors".into(), nodes as u64, serves)]
        }
        // As recommended: one connector cluster for each, with a node in reserve.
        None => args
            .imp
            .iter()
            .map(|(name, users)| {
                let nodes = users.div_ceil(host.users().max(1)).max(1) + 1;
                cluster(format!("connectors of {name}"), nodes.min(6), vec![name.clone()])
            })
            .collect(),
    };
    let imp = args.imp.iter().map(|(name, users)| ImpCluster {
        name: name.clone(),
        users: *users,
        ..ImpCluster::default()
    });
    Deployment {
        connectors,
        imp: imp.collect(),
        federation: args.federation,
        government: args.government,
        ..Deployment::default()
    }
}

fn text(report: &Report) -> String {
    let mut text = format!("{}\n\n", report.model);
    for finding in &report.findings {
        let outcome = match finding.outcome {
            Outcome::Holds => "holds",
            Outcome::Warning => "WARNING",
            Outcome::Broken => "BROKEN",
        };
        text.push_str(&format!("{outcome:8}{:8}{}: {}\n", finding.rule, finding.about, finding.what));
    }
    text
}
