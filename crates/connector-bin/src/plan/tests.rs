//! Every rule that `plan` checks, on both sides of its limit.

use super::deployment::*;
use super::rules::{Outcome, judge};

use Outcome::{Broken, Holds, Warning};

/// A cluster of so many connectors on these hosts that serves these IM and Presence clusters.
fn connectors(name: &str, nodes: usize, host: Host, serves: &[&str]) -> ConnectorCluster {
    ConnectorCluster {
        name: name.into(),
        nodes: (0..nodes).map(|n| Node { name: format!("{name}{n}"), primary: n == 0, host }).collect(),
        serves: serves.iter().map(|&imp| imp.to_owned()).collect(),
        resource_group: None,
    }
}

fn imp(name: &str, users: u64) -> ImpCluster {
    let group = Group { name: "pair".into(), nodes: 2, enabled: true };
    ImpCluster { name: name.into(), users, groups: Some(vec![group]), ..ImpCluster::default() }
}

fn of(size: Size) -> Host {
    Host { size, ..Host::default() }
}

/// One connector cluster of so many such nodes, one IM and Presence cluster of so many users.
fn one(nodes: usize, host: Host, users: u64) -> Deployment {
    Deployment {
        connectors: vec![connectors("c", nodes, host, &["imp1"])],
        imp: vec![imp("imp1", users)],
        ..Deployment::default()
    }
}

/// Several connector clusters of two large nodes, each with the IM and Presence clusters that it serves, of 1,000 users.
fn joined(pairs: &[(&str, &[&str])]) -> Deployment {
    let mut names: Vec<&str> = pairs.iter().flat_map(|(_, served)| served.iter().copied()).collect();
    names.sort_unstable();
    names.dedup();
    Deployment {
        connectors: pairs.iter().map(|(name, served)| connectors(name, 2, Host::default(), served)).collect(),
        imp: names.into_iter().map(|name| imp(name, 1_000)).collect(),
        ..Deployment::default()
    }
}

fn with(deployment: Deployment, change: impl FnOnce(&mut Deployment)) -> Deployment {
    let mut deployment = deployment;
    change(&mut deployment);
    deployment
}

const LOWERED: Host =
    Host { size: Size::Large, users_per_node: Some(2_000), shared: true, mra: false, source_ports: None };
const SHARED: Host =
    Host { size: Size::Large, users_per_node: None, shared: true, mra: false, source_ports: None };
const MRA: Host =
    Host { size: Size::Large, users_per_node: None, shared: false, mra: true, source_ports: None };

/// A deployment with one resource group whose members and homed users are these.
fn grouped(members: &[&str], homed: &[&str]) -> Deployment {
    let mails = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    with(one(2, Host::default(), homed.len() as u64), |d| {
        d.connectors[0].resource_group = Some("europe".into());
        d.imp[0].mails = mails(homed);
        d.resource_groups.insert("europe".into(), mails(members));
    })
}

fn licences(missing: &[&str], lacking: Option<&[&str]>) -> Deployment {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    with(one(2, Host::default(), 10), |d| {
        d.unlicensed = Some(Unlicensed { missing: names(missing), lacking: lacking.map(names) });
    })
}

/// The worst that a rule says of a deployment; `None`: it says nothing.
fn outcome(deployment: &Deployment, rule: &str) -> Option<Outcome> {
    let findings = judge(deployment).findings;
    let outcomes = findings.iter().filter(|finding| finding.rule == rule).map(|finding| finding.outcome);
    outcomes.max_by_key(|outcome| match outcome {
        Holds => 0,
        Warning => 1,
        Broken => 2,
    })
}

fn what(deployment: &Deployment, rule: &str) -> String {
    let findings = judge(deployment).findings.into_iter().filter(|finding| finding.rule == rule);
    findings.map(|finding| finding.what).collect::<Vec<_>>().join("\n")
}

#[test]
#[rustfmt::skip]
fn every_rule_on_both_sides_of_its_limit() {
    let (small, medium, large) = (of(Size::Small), of(Size::Medium), of(Size::Large));
    let five: &[&str] = &["i1", "i2", "i3", "i4", "i5"];
    let six: &[&str] = &["i1", "i2", "i3", "i4", "i5", "i6"];
    let rows: Vec<(&str, Deployment, Option<Outcome>)> = vec![
        ("LIC-04", licences(&[], Some(&[])),                          Some(Holds)),
        ("LIC-04", licences(&["ann@x"], Some(&[])),                   Some(Broken)),
        ("LIC-04", licences(&[], Some(&["bob@x"])),                   Some(Broken)),
        ("LIC-04", licences(&[], None),                               Some(Warning)),
        ("LIC-04", one(2, large, 10),                                 Some(Warning)),

        ("CAP-01", one(2, large, 15_000),                             Some(Holds)),
        ("CAP-01", one(2, large, 15_001),                             Some(Warning)),
        ("CAP-02", with(one(6, large, 10), |d| d.enabled = Some(195_000)), Some(Holds)),
        ("CAP-02", with(one(6, large, 10), |d| d.enabled = Some(195_001)), Some(Broken)),
        ("CAP-03", one(1, small, 10),                                 Some(Holds)),
        ("CAP-03", one(1, large, 10),                                 None),
        ("CAP-07", one(1, small, 5_000),                              Some(Holds)),
        ("CAP-07", one(1, small, 5_001),                              Some(Broken)),
        ("CAP-04", one(1, medium, 10),                                Some(Holds)),
        ("CAP-04", one(1, small, 10),                                 None),
        ("CAP-07", one(1, medium, 6_500),                             Some(Holds)),
        ("CAP-07", one(1, medium, 6_501),                             Some(Broken)),
        ("CAP-05", one(1, large, 10),                                 Some(Holds)),
        ("CAP-05", one(1, small, 10),                                 None),
        ("CAP-07", one(1, large, 15_000),                             Some(Holds)),
        ("CAP-07", one(1, large, 15_001),                             Some(Broken)),
        ("CAP-06", one(6, large, 75_000),                             Some(Holds)),
        ("CAP-06", one(6, large, 75_001),                             Some(Broken)),
        ("CAP-07", one(6, large, 75_000),                             Some(Holds)),
        ("CAP-07", one(6, large, 75_001),                             Some(Broken)),
        ("CAP-07", one(6, small, 25_000),                             Some(Holds)),
        ("CAP-07", one(6, small, 25_001),                             Some(Broken)),
        ("CAP-07", one(6, medium, 32_500),                            Some(Holds)),
        ("CAP-07", one(6, medium, 32_501),                            Some(Broken)),
        ("CAP-09", one(2, large, 10),                                 Some(Holds)),
        ("CAP-09", one(1, large, 10),                                 Some(Warning)),
        ("CAP-09", with(one(2, large, 10), |d| d.imp[0].groups.as_mut().unwrap()[0].nodes = 1), Some(Warning)),
        ("CAP-09", with(one(2, large, 10), |d| d.imp[0].groups.as_mut().unwrap()[0].enabled = false), Some(Warning)),
        ("CAP-09", with(one(2, large, 10), |d| d.imp[0].groups = None), Some(Warning)),
        ("CAP-11", one(6, large, 10),                                 Some(Holds)),
        ("CAP-11", one(7, large, 10),                                 Some(Broken)),
        ("CAP-12", one(2, large, 10),                                 Some(Holds)),
        ("CAP-12", with(one(2, large, 10), |d| d.connectors[0].nodes[0].primary = false), Some(Broken)),
        ("CAP-12", with(one(2, large, 10), |d| d.connectors[0].nodes[1].primary = true),  Some(Broken)),
        ("CAP-16", joined(&[("c1", &["i1", "i2"]), ("c2", &["i1", "i2"])]), Some(Broken)),
        ("CAP-16", joined(&[("c1", &["i1", "i2"]), ("c2", &["i3"])]), Some(Holds)),
        ("CAP-17", joined(&[("c1", &["i1"]), ("c2", &["i1"])]),       Some(Broken)),
        ("CAP-17", joined(&[("c1", &["i1"]), ("c2", &["i2"])]),       Some(Holds)),
        ("SC-20",  joined(&[("c1", &["i1"]), ("c2", &["i1"])]),       Some(Broken)),
        ("SC-20",  joined(&[("c1", &["i1"]), ("c2", &["i2"])]),       None),
        ("CAP-18", one(6, large, 75_000),                             Some(Holds)),
        ("CAP-18", one(6, large, 75_001),                             Some(Warning)),
        ("CAP-20", joined(&[("c1", five)]),                           Some(Holds)),
        ("CAP-20", joined(&[("c1", six)]),                            Some(Broken)),
        ("SC-19",  joined(&[("c1", five)]),                           Some(Holds)),
        ("SC-19",  joined(&[("c1", six)]),                            Some(Broken)),
        ("CAP-21", grouped(&["ann"], &["ann"]),                       Some(Holds)),
        ("CAP-21", with(grouped(&["ann"], &["ann"]), |d| d.connectors[0].resource_group = None), Some(Broken)),
        ("CAP-21", one(2, large, 10),                                 None),
        ("CAP-22", grouped(&["ann", "bob"], &["ann", "bob"]),         Some(Holds)),
        ("CAP-22", grouped(&["ann", "bob"], &["ann"]),                Some(Broken)),
        ("CAP-22", grouped(&["ann"], &["ann", "bob"]),                Some(Broken)),

        ("TOP-01", joined(&[("c1", &["i1"])]),                        Some(Holds)),
        ("TOP-01", joined(&[("c1", &["i1", "i2"])]),                  None),
        ("TOP-02", joined(&[("c1", &["i1"]), ("c2", &["i2"])]),       Some(Holds)),
        ("TOP-02", joined(&[("c1", &["i1"])]),                        None),
        ("TOP-03", joined(&[("c1", &["i1", "i2"])]),                  Some(Warning)),
        ("TOP-03", joined(&[("c1", &["i1"])]),                        None),
        ("TOP-05", joined(&[("c1", &["i1"]), ("c2", &["i1"])]),       Some(Broken)),
        ("TOP-05", joined(&[("c1", &["i1"]), ("c2", &["i2"])]),       None),
        ("TOP-06", joined(&[("c1", &["i1", "i2"]), ("c2", &["i2"])]), Some(Broken)),
        ("TOP-06", joined(&[("c1", &["i1"]), ("c2", &["i1"])]),       None),

        ("PORT-06", one(2, Host { source_ports: Some(5_000), ..small }, 10), Some(Holds)),
        ("PORT-06", one(2, Host { source_ports: Some(4_999), ..small }, 10), Some(Warning)),
        ("PORT-06", one(2, large, 10),                                None),

        ("SC-09",  one(2, LOWERED, 10),                               Some(Holds)),
        ("SC-09",  one(2, large, 10),                                 None),
        ("SC-10",  one(2, LOWERED, 2_000),                            Some(Holds)),
        ("CAP-07", one(2, LOWERED, 2_001),                            Some(Broken)),
        ("SC-10",  one(2, SHARED, 10),                                Some(Broken)),
        ("SC-10",  one(2, Host { users_per_node: Some(15_000), ..SHARED }, 10), Some(Broken)),
        ("SC-14",  one(2, MRA, 10),                                   Some(Warning)),
        ("SC-14",  one(2, large, 10),                                 None),
        ("SC-15",  one(1, MRA, 100),                                  Some(Holds)),
        ("CAP-07", one(1, MRA, 100),                                  Some(Holds)),
        ("CAP-07", one(1, MRA, 101),                                  Some(Broken)),
        ("SC-16",  one(6, MRA, 500),                                  Some(Holds)),
        ("SC-16",  one(6, MRA, 501),                                  Some(Broken)),
        ("CAP-07", one(6, MRA, 501),                                  Some(Broken)),
        ("SC-17",  with(one(2, large, 10), |d| d.in_webex = Some(500_000)), Some(Holds)),
        ("CAP-02", with(one(2, large, 10), |d| d.in_webex = Some(500_000)), Some(Holds)),
        ("SC-24",  with(one(2, large, 10), |d| (d.federation, d.government) = (true, false)), Some(Holds)),
        ("SC-24",  with(one(2, large, 10), |d| (d.federation, d.government) = (false, true)), Some(Holds)),
        ("SC-24",  with(one(2, large, 10), |d| (d.federation, d.government) = (true, true)),  Some(Broken)),
    ];
    for (n, (rule, deployment, expected)) in rows.iter().enumerate() {
        assert_eq!(outcome(deployment, rule), *expected, "row {n}, {rule}: {}", what(deployment, rule));
    }
}

#[test]
fn what_is_enabled_now_is_held_to_the_limits_and_what_is_to_come_is_told() {
    let migrating = with(one(2, Host::default(), 40_000), |d| d.imp[0].enabled = Some(500));
    assert_eq!(outcome(&migrating, "CAP-07"), Some(Holds));
    assert_eq!(
        what(&migrating, "CAP-07"),
        "500 of at most 15000 enabled users; one node of several is reserve"
    );
    assert!(
        what(&migrating, "CAP-01")
            .starts_with("40000 users need 4 such nodes with one in reserve, 2 are there")
    );
    assert!(what(&migrating, "CAP-18").starts_with("25000 users of its IM and Presence clusters are more"));
}

#[test]
fn who_is_wrong_is_named() {
    assert_eq!(
        what(&grouped(&["ann", "bob"], &["ann", "cem"]), "CAP-22"),
        "1 are in the group, but not on the IM and Presence clusters of its connectors: bob\n\
         1 are on the IM and Presence clusters of its connectors, but not in the group: cem"
    );
    let many: Vec<String> = (0..25).map(|n| format!("u{n:02}@x")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let said = what(&licences(&many, Some(&[])), "LIC-04");
    assert!(said.starts_with("25 users of IM and Presence are not in Webex: u00@x, u01@x"), "{said}");
    assert!(said.ends_with("u19@x and 5 more"), "{said}");
}

#[test]
fn the_model_is_named() {
    let model = |pairs: &[(&str, &[&str])]| judge(&joined(pairs)).model;
    assert_eq!(model(&[("c1", &["i1"])]), "one connector cluster for one IM and Presence cluster");
    assert_eq!(model(&[("c1", &["i1", "i2"])]), "one connector cluster for several IM and Presence clusters");
    assert!(model(&[("c1", &["i1", "i2"]), ("c2", &["i2"])]).starts_with("a mesh of"));
}
