//! The examples run, against a lab where they need one.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tests::{Lab, Scratch};

const SOON: Duration = Duration::from_secs(30);

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
fn each_example_of_the_cloud_stands_alone_in_less_than_sixty_lines() {
    for name in ["mercury_tail", "send_message", "fetch_file", "watch_presence"] {
        let file = format!("{}/../examples/{name}.rs", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(file).expect("the example is there");
        assert!(text.lines().count() < 60, "{name}: {} lines", text.lines().count());
        assert!(!text.lines().any(|line| line.starts_with("mod ")), "{name} leans on another file");
    }
}

#[test]
fn the_examples_of_both_networks_run_against_a_lab() {
    let scratch = Scratch::new("examples");
    let lab = Lab::start(scratch.path(), &["--time-scale", "20"]);

    let said = example("xmpp_login", &[lab.endpoint("xmpp_client"), "carol@lab.example", "secret"]);
    assert!(said.contains("bound as carol@lab.example/"), "{said}");
    assert!(said.contains("stream management: on"), "{said}");
    assert!(!said.contains("secret"), "{said}");

    let discovery = format!("{}/u2c/api/v1", lab.endpoint("cloud"));
    let users = lab.endpoints["users"].as_array().expect("the document lists people");
    let of = |name: &str, what: &str| {
        let person = users.iter().find(|user| user["name"] == name).expect("the person is one of them");
        person[what].as_str().expect("people have mail addresses and tokens").to_owned()
    };
    let (bob, alice, carol) =
        (of("bob", "access_token"), of("alice", "access_token"), of("carol", "access_token"));

    let said = example("send_message", &[&discovery, &carol, &of("dave", "mail"), "Hello from an example"]);
    assert!(said.contains("posted ") && !said.contains("Hello"), "{said}");
    assert!(lab.wait_idle(SOON));
    assert_eq!(lab.heard("dave/webex", "carol"), ["Hello from an example"]);

    let folder = scratch.path().join("files");
    std::fs::create_dir(&folder).expect("the test's folder can be written");
    let fetch = {
        let (discovery, bob, folder) =
            (discovery.clone(), bob.clone(), folder.to_string_lossy().into_owned());
        std::thread::spawn(move || example("fetch_file", &[&discovery, &bob, &folder]))
    };
    let share = json!({"client": "carol/webex", "what": "file", "to": "bob", "name": "plan.txt", "base64": "YSBwbGFu"});
    while !fetch.is_finished() {
        lab.control("/act", &share);
        std::thread::sleep(Duration::from_millis(300));
    }
    let said = fetch.join().expect("the example does not panic");
    assert!(said.contains("plan.txt is there"), "{said}");
    assert_eq!(std::fs::read_to_string(folder.join("plan.txt")).expect("the file is there"), "a plan");
    assert!(!folder.join("unproven").exists());

    let mail = of("bob", "mail");
    let watch = {
        let (discovery, mail) = (discovery.clone(), mail.clone());
        std::thread::spawn(move || example("watch_presence", &[&discovery, &alice, "1", &mail]))
    };
    for status in ["dnd", "active"].iter().cycle() {
        if watch.is_finished() {
            break;
        }
        lab.control("/act", &json!({"client": "bob/webex", "what": "status", "text": status}));
        std::thread::sleep(Duration::from_millis(300));
    }
    let said = watch.join().expect("the example does not panic");
    assert!(said.lines().filter(|line| line.starts_with(&mail)).count() >= 2, "{said}");

    let tail = std::thread::spawn(move || example("mercury_tail", &[&discovery, &bob, "1"]));
    // Something for the tail to see, again and again until it has.
    while !tail.is_finished() {
        lab.say("carol/webex", "bob", "anybody there?");
        std::thread::sleep(Duration::from_millis(300));
    }
    let said = tail.join().expect("the example does not panic");
    assert!(said.contains("ready") && said.contains("activity"), "{said}");
    assert!(!said.contains("anybody there?"), "{said}");

    let file = scratch.path().join("endpoints.json");
    let said = example("lab_world", &[&file.to_string_lossy()]);
    assert!(said.contains("alice/webex reads it after"), "{said}");
    assert!(said.contains("carol/jabber reads it after"), "{said}");
}
