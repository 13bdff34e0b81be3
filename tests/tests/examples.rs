//! The examples run, against a lab where they need one.

use std::process::Command;

use tests::{Lab, Scratch};

/// Runs an example; what it printed. Fails with it.
fn example(name: &str, args: &[&str]) -> String {
    let out = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--locked", "--package", "examples", "--example", name, "--"])
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be started");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{name}: {said}{}", String::from_utf8_lossy(&out.stderr));
    said
}

#[test]
fn presence_table_prints_the_borders() {
    let table = example("presence_table", &["10"]);
    assert!(table.contains("Available"), "{table}");
    assert!(example("presence_table", &["11"]).contains("Away"));
}

#[test]
fn seal_and_open_ends_with_a_refusal() {
    let said = example("seal_and_open", &[]);
    assert!(said.contains("opened: Hello from the other side"), "{said}");
    assert!(said.contains("changed by one character: ciphertext failed authentication"), "{said}");
}

#[test]
fn bridge_in_memory_carries_and_swallows() {
    let said = example("bridge_in_memory", &[]);
    assert!(said.contains("bob reads in Webex: hello"), "{said}");
    assert!(said.contains("the copy was a repeat"), "{said}");
}

#[test]
fn three_examples_run_against_a_lab() {
    let scratch = Scratch::new("examples");
    let lab = Lab::start(scratch.path(), &["--time-scale", "20"]);

    let said = example("xmpp_login", &[lab.endpoint("xmpp_client"), "carol@lab.example", "secret"]);
    assert!(said.contains("bound as carol@lab.example/"), "{said}");
    assert!(said.contains("stream management: on"), "{said}");
    assert!(!said.contains("secret"), "{said}");

    let discovery = format!("{}/u2c/api/v1", lab.endpoint("cloud"));
    let users = lab.endpoints["users"].as_array().expect("the document lists people");
    let bob = users.iter().find(|user| user["name"] == "bob").expect("bob is one of them");
    let token = bob["access_token"].as_str().expect("bob has a token").to_owned();
    let tail = std::thread::spawn(move || example("mercury_tail", &[&discovery, &token, "1"]));
    // Something for the tail to see, again and again until it has.
    while !tail.is_finished() {
        lab.say("carol/webex", "bob", "anybody there?");
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    let said = tail.join().expect("the example does not panic");
    assert!(said.contains("ready") && said.contains("activity"), "{said}");
    assert!(!said.contains("anybody there?"), "{said}");

    let file = scratch.path().join("endpoints.json");
    let said = example("lab_world", &[&file.to_string_lossy()]);
    assert!(said.contains("alice/webex reads it after"), "{said}");
    assert!(said.contains("carol/jabber reads it after"), "{said}");
}
