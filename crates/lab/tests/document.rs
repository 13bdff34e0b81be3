//! `docs/lab.md` says what is: options, members, people, calls and faults are compared with the lab itself.

use std::collections::BTreeMap;

use clap::{Args, Command};
use lab::{
    Lab,
    clock::Time,
    net::{Network, Pipes},
    options::Options,
};

const DOCUMENT: &str = include_str!("../../../docs/lab.md");

/// The words in backticks of the first column of every table row below a heading, and the rest of the row.
fn rows(heading: &str) -> Vec<(Vec<&'static str>, &'static str)> {
    let section =
        DOCUMENT.split("\n## ").find(|section| section.starts_with(heading)).expect("the heading is there");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    let rows = rows.filter(|row| !row.starts_with("---"));
    rows.filter_map(|row| row.split_once(" | "))
        .map(|(first, rest)| (first.split('`').skip(1).step_by(2).collect(), rest))
        .collect()
}

#[test]
fn every_option_is_described() {
    let command = Options::augment_args(Command::new("lab"));
    let described: String =
        rows("Options").into_iter().flat_map(|(words, _)| words).map(|w| format!("{w} ")).collect();
    for option in command.get_arguments().filter_map(|argument| argument.get_long()) {
        assert!(described.contains(&format!("--{option} ")), "--{option} is not described");
    }
    for word in described.split_whitespace().filter_map(|word| word.strip_prefix("--")) {
        assert!(
            command.get_arguments().any(|argument| argument.get_long() == Some(word)),
            "--{word} does not exist"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn members_people_and_faults_are_those_of_the_lab() {
    let options = Options { stand_ins: true, ..Options::default() };
    let lab =
        Lab::start_on(options, Network::Pipes(Pipes::default()), Time(1_714_557_600_000)).await.unwrap();

    let endpoints = serde_json::to_value(lab.endpoints()).unwrap();
    let mut members: Vec<&str> = endpoints.as_object().unwrap().keys().map(String::as_str).collect();
    let mut described: Vec<&str> =
        rows("The endpoints document").into_iter().flat_map(|(words, _)| words).collect();
    members.sort_unstable();
    described.sort_unstable();
    assert_eq!(described, members);

    let people: Vec<String> = lab
        .endpoints()
        .users
        .iter()
        .map(|user| format!("| {} | {} |", user.name, if user.enabled { "yes" } else { "no" }))
        .collect();
    for person in people {
        assert!(DOCUMENT.contains(&person), "{person}");
    }

    let mut expected: BTreeMap<String, bool> = BTreeMap::new();
    let (mut kinds, mut hows) = (Vec::new(), Vec::new());
    let mut table = 0;
    for (words, rest) in rows("Faults") {
        match words.as_slice() {
            [] => table += 1,
            [name] if table == 1 => drop(expected.insert((*name).to_owned(), rest.starts_with("on"))),
            words if table == 2 => kinds.extend_from_slice(words),
            words => hows.extend_from_slice(words),
        }
    }
    for kind in kinds {
        expected.extend(hows.iter().map(|how| (format!("{kind}-{how}"), false)));
    }
    let real: BTreeMap<String, bool> =
        lab.ctx().faults.list().into_iter().map(|fault| (fault.name.to_owned(), fault.unkind)).collect();
    let missing: Vec<_> = real.iter().filter(|(name, on)| expected.get(*name) != Some(on)).collect();
    let extra: Vec<_> = expected.keys().filter(|name| !real.contains_key(*name)).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "not or wrongly described: {missing:?}; not there: {extra:?}"
    );
    lab.stop().await;
}
