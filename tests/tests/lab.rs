//! The connector as a person meets it: the tour, the checks, an orderly stop, and what its log tells.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Connector, Lab, Scratch, connector_binary, get};

const SCALE: [&str; 2] = ["--time-scale", "20"];
const SOON: Duration = Duration::from_secs(30);

fn connector(args: &[&str]) -> Output {
    Command::new(connector_binary()).args(args).output().expect("the connector can be started")
}

fn stand_ins(scratch: &Scratch) -> Lab {
    Lab::start(scratch.path(), &["--stand-ins", SCALE[0], SCALE[1]])
}

/// Starts the connector of a lab and waits until it is at rest.
fn running(lab: &Lab) -> Connector {
    let connector = Connector::start(lab);
    connector.wait_up(lab);
    connector
}

#[test]
fn the_tour_is_one_document_of_sixteen_interactions_and_ends_with_status_0() {
    let out = connector(&["lab", "--tour", "--json", SCALE[0], SCALE[1]]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let report: Value = serde_json::from_slice(&out.stdout).expect("the document is JSON and nothing else");
    let interactions = report["interactions"].as_array().expect("`interactions` is a list");
    let ids: Vec<_> = interactions.iter().filter_map(|i| i["id"].as_str()).collect();
    assert_eq!(ids, (1..=16).map(|n| format!("IX-T{n:02}")).collect::<Vec<_>>());
    for i in interactions {
        assert!(i["sender"].is_string() && i["recipient"].is_string() && i["rule"].is_string(), "{i}");
        assert_eq!(i["arrived"], i["expected"], "{i}");
        assert_eq!(i["milliseconds"].is_number(), i["arrived"] == true, "{i}");
    }
    assert_eq!(interactions.iter().filter(|i| i["arrived"] == true).count(), 13);
}

#[test]
fn the_tour_tells_its_story_at_the_speed_of_life() {
    let out = connector(&["lab", "--tour"]);
    let story = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{story}");
    assert!(story.contains("alice writes to bob in webex: Morning Bob"), "{story}");
    assert!(story.contains("seen by bob/jabber after "), "{story}");
    assert!(story.contains("IX-T04  carol/webex   bob/jabber    does not no"), "{story}");
}

#[test]
fn the_tour_is_the_same_over_tls_with_a_client_stream_for_each_user() {
    for link in ["b", "c"] {
        let out = connector(&["lab", "--tour", "--tls", "--link", link, SCALE[0], SCALE[1]]);
        let story = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "link {link}: {story}{}", String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn the_tour_is_as_the_table_says_for_each_way_to_act_as_a_person() {
    // With the bot alone nobody has a socket, so that nothing that is written in Webex reaches Jabber.
    for (source, missing) in [
        ("user", &["IX-T02", "IX-T04", "IX-T05"][..]),
        ("relay", &["IX-T02", "IX-T04", "IX-T05", "IX-T10", "IX-T12"]),
    ] {
        let out = connector(&["lab", "--tour", "--json", "--token-source", source, SCALE[0], SCALE[1]]);
        assert!(out.status.success(), "{source}: {}", String::from_utf8_lossy(&out.stderr));
        let report: Value =
            serde_json::from_slice(&out.stdout).expect("the document is JSON and nothing else");
        let interactions = report["interactions"].as_array().expect("`interactions` is a list");
        assert_eq!(interactions.len(), 16, "{source}");
        let stayed = interactions.iter().filter(|i| i["arrived"] == false).filter_map(|i| i["id"].as_str());
        assert_eq!(stayed.collect::<Vec<_>>(), missing, "{source}");
    }
}

#[test]
fn a_port_that_was_asked_for_and_is_taken_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = taken.local_addr().expect("it has an address").port().to_string();
    let out = connector(&["lab", "--stand-ins", "--cloud-port", &port]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success());
    assert!(said.contains(&port), "the port is not named: {said}");
}

#[test]
fn a_second_connector_on_the_same_store_is_refused() {
    let scratch = Scratch::new("second");
    let lab = stand_ins(&scratch);
    let _first = running(&lab);
    let good = lab.endpoint("connector_config").to_owned();
    let other = std::path::Path::new(&good).with_file_name("other.toml");
    let settings = fs::read_to_string(&good).expect("the lab's settings can be read");
    let status = lab_status(&settings);
    fs::write(&other, settings.replace(&status, "127.0.0.1:0")).expect("the state folder can be written");
    let out = connector(&["run", "--config", &other.to_string_lossy()]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains(lab.endpoint("store")), "the store is not named: {said}");
}

/// The status address in a settings file.
fn lab_status(settings: &str) -> String {
    let line = settings.lines().find(|line| line.starts_with("listen = ")).expect("the lab names an address");
    line.trim_start_matches("listen = ").trim_matches('"').to_owned()
}

#[test]
fn a_request_to_stop_ends_cleanly_and_the_next_start_goes_on_unnoticed() {
    let scratch = Scratch::new("stop");
    let lab = stand_ins(&scratch);
    let mut connector = running(&lab);
    lab.say("alice/webex", "bob", "before the stop");
    assert!(lab.wait_idle(SOON));
    let seen_before = lab.seen("carol/jabber").len();

    assert_eq!(connector.terminate(SOON), Some(0), "SIGTERM ends it with status 0");
    lab.say("bob/jabber", "alice", "while it was away");
    lab.say("alice/webex", "bob", "also while it was away");
    let mut connector = running(&lab);
    assert!(lab.wait_idle(SOON));
    assert_eq!(lab.heard("bob/jabber", "alice"), ["before the stop", "also while it was away"]);
    assert_eq!(lab.heard("alice/webex", "bob"), ["while it was away"]);
    // Sessions were resumed: nobody saw anybody go.
    let presences = &lab.seen("carol/jabber")[seen_before..];
    let gone: Vec<_> = presences.iter().filter(|row| row["kind"] == "presence").collect();
    assert!(gone.is_empty(), "presence flapped: {gone:?}");
    assert_eq!(connector.terminate(SOON), Some(0));
}

#[test]
fn files_cross_as_links_and_notices() {
    let scratch = Scratch::new("files");
    let lab = stand_ins(&scratch);
    let _connector = running(&lab);
    let file = json!({"client": "alice/webex", "what": "file", "to": "bob", "name": "plan.txt", "base64": "YSBwbGFu"});
    lab.control("/act", &file);
    assert!(lab.wait_idle(SOON));
    let heard = lab.heard("bob/jabber", "alice");
    let [name, link] = &heard[..] else { panic!("a name and a link: {heard:?}") };
    assert_eq!(name, "plan.txt");
    assert!(link.starts_with(lab.endpoint("cloud")), "{link}");
    let seen = lab.seen("alice/webex");
    let shared = seen.iter().find(|row| row["kind"] == "file").expect("alice sees her own file");
    lab.control("/act", &json!({"client": "alice/webex", "what": "delete", "id": shared["id"]}));
    assert!(lab.wait_idle(SOON));
    let deleted = "Alice Liddell used Webex App to delete a previously posted message";
    let seen = lab.seen("bob/jabber");
    let notices: Vec<_> = seen.iter().filter(|row| row["kind"] == "notice").map(|row| &row["text"]).collect();
    // One for each line that the share had become.
    assert!(!notices.is_empty() && notices.iter().all(|text| *text == deleted), "{notices:?}");

    let file =
        json!({"client": "bob/jabber", "what": "file", "to": "alice", "name": "notes.pdf", "base64": ""});
    lab.control("/act", &file);
    assert!(lab.wait_idle(SOON));
    assert_eq!(
        lab.heard("alice/webex", "bob"),
        ["A file was sent in Jabber and can be opened there: notes.pdf"]
    );
    let files =
        lab.seen("alice/webex").iter().filter(|row| row["kind"] == "file" && row["dir"] == "in").count();
    assert_eq!(files, 0, "no file crosses");
}

/// The local addresses, as the kernel writes them, on which a process listens.
fn listens(pid: u32) -> Vec<String> {
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the process runs")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    let tables = tables.map(Result::unwrap_or_default).concat();
    // Local address, far address, state (0A listens), …, inode: proc_net_tcp(5).
    let rows = tables.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = |inode: &str| sockets.iter().any(|socket| socket == inode);
    let listening = rows.filter(|row| row.len() > 9 && row[3] == "0A" && ours(row[9]));
    listening.map(|row| row[1].to_owned()).collect()
}

#[test]
fn nothing_listens_but_the_status_page_which_counts_whoever_is_inactive() {
    let scratch = Scratch::new("listens");
    let lab = stand_ins(&scratch);
    let connector = running(&lab);
    let status = lab.connector_status();
    let port: u16 = status.rsplit(':').next().and_then(|port| port.parse().ok()).expect("it has a port");
    assert_eq!(listens(connector.pid()), [format!("0100007F:{port:04X}")], "on loopback, and nowhere else");
    let limits = fs::read_to_string(format!("/proc/{}/limits", connector.pid())).expect("it runs");
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap_or_default();
    assert_eq!(
        core.split_whitespace().take(2).collect::<Vec<_>>(),
        ["0", "0"],
        "its memory is laid on no disk"
    );

    let inactive = || {
        let page = get(&format!("{status}/status")).expect("it answers");
        serde_json::from_str::<Value>(&page).expect("in JSON")["router"]["inactive"].as_u64()
    };
    assert_eq!(inactive(), Some(0));
    let long_ago = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later")
        - Duration::from_secs(73 * 60 * 60);
    lab.control("/user", &json!({"name": "bob", "last_active": long_ago.as_millis() as u64}));
    // Read with the next poll, half a minute later at most.
    assert!(tests::wait_until(4 * SOON, || inactive() == Some(1)), "{:?}", inactive());
}

#[test]
fn the_metrics_count_what_happened() {
    let scratch = Scratch::new("metrics");
    let lab = stand_ins(&scratch);
    let _connector = running(&lab);
    lab.say("carol/jabber", "bob", "carried");
    lab.say("carol/jabber", "frank", "not carried");
    assert!(lab.wait_idle(SOON));
    let page = get(&format!("{}/metrics", lab.connector_status())).expect("it answers");
    for line in [
        "# TYPE connector_sessions gauge",
        "connector_enabled 4",
        "connector_sessions 4",
        "connector_waiting 0",
        "connector_oldest_seconds 0.0",
        "# TYPE connector_delivered counter",
        "connector_delivered_total 1",
    ] {
        assert!(page.lines().any(|shown| shown == line), "`{line}` is not in:\n{page}");
    }
    // An exposition that was cut off does not end so.
    assert!(page.ends_with("# EOF\n"), "{page}");
}

#[test]
fn whoever_keeps_the_status_page_open_takes_few_descriptors_and_not_for_long() {
    let scratch = Scratch::new("seats");
    let lab = stand_ins(&scratch);
    let connector = running(&lab);
    let status = lab.connector_status();
    let descriptors = || {
        fs::read_dir(format!("/proc/{}/fd", connector.pid())).expect("it runs").filter_map(Result::ok).count()
    };
    let before = descriptors();
    let address = status.trim_start_matches("http://");
    let silent: Vec<_> =
        (0..50).map(|_| std::net::TcpStream::connect(address).expect("the kernel takes it")).collect();
    // Connections for requests that were open before may have been closed.
    assert!(tests::wait_until(SOON, || descriptors() >= before + 16), "{} of {before}", descriptors());
    // It is asked after all of them.
    assert!(tests::wait_until(4 * SOON, || get(&format!("{status}/status")).is_ok()));
    assert!(descriptors() < before + 40, "{} descriptors", descriptors());
    drop(silent);
}

#[test]
fn who_is_disabled_is_served_no_more() {
    let scratch = Scratch::new("disabled");
    let lab = stand_ins(&scratch);
    let _connector = running(&lab);
    lab.say("carol/jabber", "bob", "while enabled");
    assert!(lab.wait_idle(SOON));
    lab.control("/user", &json!({"name": "bob", "enabled": false}));
    let status = format!(
        "http://{}",
        lab_status(&fs::read_to_string(lab.endpoint("connector_config")).unwrap_or_default())
    );
    let enabled = || -> u64 {
        let text = get(&format!("{status}/status")).unwrap_or_default();
        serde_json::from_str::<Value>(&text).ok().and_then(|v| v["router"]["enabled"].as_u64()).unwrap_or(0)
    };
    assert!(tests::wait_until(SOON, || enabled() == 3), "the connector does not notice");
    lab.say("carol/jabber", "bob", "when disabled");
    assert!(lab.wait_idle(SOON));
    assert_eq!(lab.heard("bob/webex", "carol"), ["while enabled"]);
    assert_eq!(lab.heard("bob/jabber", "carol"), ["while enabled", "when disabled"]);
}

#[test]
fn what_the_server_gives_back_three_times_arrives_once_and_in_order() {
    let scratch = Scratch::new("given-back");
    let lab = stand_ins(&scratch);
    let _connector = running(&lab);
    lab.control("/fault", &json!({"name": "imp-bounces-routes", "on": true, "count": 3}));
    let texts: Vec<String> = (0..10).map(|n| format!("text {n}")).collect();
    for text in &texts {
        lab.say("alice/webex", "bob", text);
    }
    assert!(lab.wait_idle(SOON));
    assert_eq!(lab.heard("bob/jabber", "alice"), texts);
}

#[test]
fn no_text_token_or_secret_reaches_a_log_or_the_disk() {
    canaries("canary", &[]);
}

#[test]
fn nor_with_client_streams_and_people_who_enrolled() {
    canaries("canary-user", &["--link", "b", "--token-source", "user"]);
}

/// Plants texts, sees them in the clients, and looks for them and for every secret of the lab in all that was written.
fn canaries(name: &str, options: &[&str]) {
    let scratch = Scratch::new(name);
    let lab = Lab::start(scratch.path(), &[&["--stand-ins", SCALE[0], SCALE[1]], options].concat());
    let config = lab.endpoint("connector_config").to_owned();
    let settings = fs::read_to_string(&config).expect("the lab's settings can be read");
    fs::write(&config, format!("{settings}\n[log]\nlevel = \"trace\"\n"))
        .expect("the state folder can be written");
    // Enough for over a thousand lines.
    const MESSAGES: usize = 150;
    let mut connector = running(&lab);
    let mut last = String::new();
    for n in 0..MESSAGES {
        last = lab.say("alice/webex", "bob", &format!("canary-webex-{n}"));
        lab.say("bob/jabber", "alice", &format!("canary-jabber-{n}"));
        lab.say("erin/jabber", "alice", &format!("canary-erin-{n}"));
    }
    let edit = json!({"client": "alice/webex", "what": "edit", "id": last, "text": "canary-edited"});
    lab.control("/act", &edit);
    let file = json!({"client": "alice/webex", "what": "file", "to": "bob", "name": "canary-file.txt", "base64": "YSBwbGFu"});
    lab.control("/act", &file);
    assert!(lab.wait_idle(4 * SOON));
    assert_eq!(connector.terminate(SOON), Some(0));
    // The canaries lived: they are in the clients.
    let heard =
        |client, from| lab.heard(client, from).iter().filter(|text| text.starts_with("canary-")).count();
    assert!(heard("bob/jabber", "alice") >= MESSAGES);
    assert!(heard("alice/webex", "bob") >= MESSAGES);
    assert!(heard("alice/webex", "erin") >= MESSAGES);
    let shown = |text: &str| lab.seen("bob/jabber").iter().any(|row| row.to_string().contains(text));
    assert!(shown("canary-edited") && shown("canary-file.txt"));

    let log = fs::read_to_string(lab.folder().join("connector.log")).expect("the connector logs");
    assert!(log.lines().count() > 1000, "only {} lines: too few to mean anything", log.lines().count());
    let mut secrets = vec!["canary-".to_owned()];
    // Tokens that the connector was given by exchange have the people's names in them.
    secrets.extend(["lab_alice.", "lab_bob.", "lab_erin.", "lab_gina."].map(str::to_owned));
    let state = std::path::Path::new(&config).parent().expect("it lies in a folder");
    for file in fs::read_dir(state)
        .expect("the state folder is there")
        .map(|file| file.expect("it can be read").path())
    {
        let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if ["token", "secret", "password", "key", "csv"].contains(&ending) {
            let text = fs::read_to_string(&file).expect("a secret is text");
            secrets.extend(
                text.split([',', '\n'])
                    .filter(|word| !word.is_empty() && !is_public(word))
                    .map(str::to_owned),
            );
        }
    }
    assert!(secrets.len() > 12, "{secrets:?}");
    for secret in &secrets {
        let line = log.lines().find(|line| line.contains(secret.as_str()));
        assert!(line.is_none(), "`{secret}` is in the log: {}", line.unwrap_or_default());
    }
    let store = lab.endpoint("store").to_owned();
    for file in [store.clone(), format!("{store}-wal")] {
        let bytes = fs::read(&file).unwrap_or_default();
        for secret in &secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "`{secret}` is in {file}");
        }
    }
}

/// Whether a word beside a secret is a person's id.
fn is_public(word: &str) -> bool {
    word.len() == 36 && word.matches('-').count() == 4
}
