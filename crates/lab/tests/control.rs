//! The control interface and the endpoints document, as a driver outside of the process meets them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{client::conn::http1, server, service::service_fn};
use hyper_util::rt::TokioIo;
use lab::{
    Lab,
    clock::Time,
    endpoints::Endpoints,
    net::{Network, Pipes},
    options::Options,
};
use serde_json::{Value, json};

async fn lab_with(options: Options) -> Lab {
    Lab::start_on(options, Network::Pipes(Pipes::default()), Time(1_714_557_600_000)).await.unwrap()
}

async fn lab() -> Lab {
    lab_with(Options { stand_ins: true, ..Options::default() }).await
}

async fn raw(lab: &Lab, method: &str, path: &str, body: String) -> (u16, String) {
    let port = lab.endpoints().control.rsplit_once(':').unwrap().1.parse().unwrap();
    let io = lab.ctx().network.dial("127.0.0.1", port).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(header::HOST, "control");
    let response = sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    connection.abort();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn post(lab: &Lab, path: &str, body: Value) -> Value {
    let (status, text) = raw(lab, "POST", path, body.to_string()).await;
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

async fn get(lab: &Lab, path: &str) -> String {
    let (status, text) = raw(lab, "GET", path, String::new()).await;
    assert_eq!(status, 200, "{path}: {text}");
    text
}

async fn settle(lab: &Lab) {
    for _ in 0..1_000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if get(lab, "/idle").await == "true" {
            return;
        }
    }
    panic!("the lab is never idle");
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn people_are_driven_in_both_clients_and_watched() {
    let lab = lab().await;
    for app in ["webex", "jabber"] {
        let said =
            post(&lab, "/say", json!({"client": format!("alice/{app}"), "to": "bob", "text": "hello"})).await;
        settle(&lab).await;
        let seen = lines(&get(&lab, &format!("/seen?client=bob/{app}&after=0")).await);
        let line = seen.iter().find(|line| line["kind"] == "message").unwrap();
        let members: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["client", "dir", "id", "kind", "ms", "n", "peer", "text"]);
        assert_eq!((&line["id"], &line["peer"], &line["dir"]), (&said["id"], &json!("alice"), &json!("in")));
        let after = line["n"].as_u64().unwrap();
        let later = lines(&get(&lab, &format!("/seen?client=bob/{app}&after={after}")).await);
        assert!(later.iter().all(|line| line["n"].as_u64().unwrap() > after));
        post(&lab, "/act", json!({"client": format!("bob/{app}"), "what": "read", "id": said["id"]})).await;
        settle(&lab).await;
        let seen = lines(&get(&lab, &format!("/seen?client=alice/{app}")).await);
        assert!(seen.iter().any(|line| line["kind"] == "read" && line["dir"] == "in"), "{app}");
    }
    assert!(lines(&get(&lab, "/seen").await).len() > 4);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn each_mistake_has_its_words() {
    let lab = lab().await;
    let rows = [
        ("POST", "/say", "{", 400, "EOF while parsing an object at line 1 column 1"),
        (
            "POST",
            "/say",
            r#"{"client":"zoe/webex","to":"bob","text":"x"}"#,
            404,
            "there is nobody called `zoe/webex`",
        ),
        (
            "POST",
            "/say",
            r#"{"client":"zoe","to":"bob","text":"x"}"#,
            400,
            "`zoe` does not name a client: NAME/jabber or NAME/webex is expected",
        ),
        (
            "POST",
            "/say",
            r#"{"client":"frank/webex","to":"bob","text":"x"}"#,
            404,
            "there is nobody called `frank/webex`",
        ),
        (
            "POST",
            "/say",
            r#"{"client":"bob/webex","to":"zoe","text":"x"}"#,
            404,
            "there is nobody called `zoe`",
        ),
        (
            "POST",
            "/act",
            r#"{"client":"bob/webex","what":"read","id":"x"}"#,
            404,
            "this client has no message `x`",
        ),
        (
            "POST",
            "/act",
            r#"{"client":"bob/webex","what":"file","to":"alice","base64":"%"}"#,
            400,
            "the content is not base64",
        ),
        ("POST", "/fault", r#"{"name":"x","on":true}"#, 404, "there is no fault `x`"),
        ("POST", "/user", r#"{"name":"zoe"}"#, 404, "there is nobody called `zoe`"),
        ("POST", "/clock", "{}", 400, "missing field `advance_ms` at line 1 column 2"),
        ("GET", "/seen?client=bob/webex&after=x", "", 400, "`after` is not a number"),
        ("GET", "/nowhere", "", 404, "there is no such call"),
    ];
    for (method, path, body, status, words) in rows {
        let (answered, text) = raw(&lab, method, path, body.to_owned()).await;
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((answered, error["error"].as_str().unwrap()), (status, words), "{path} {body}");
    }
    let act = json!({"client": "bob/webex", "what": "offline"});
    post(&lab, "/act", act).await;
    let say = json!({"client": "bob/webex", "to": "alice", "text": "x"}).to_string();
    assert_eq!(
        raw(&lab, "POST", "/say", say).await,
        (409, r#"{"error":"bob/webex is signed out"}"#.to_owned())
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn faults_people_and_the_clock_are_changed() {
    let lab = lab().await;
    post(&lab, "/fault", json!({"name": "kms-drop", "on": true, "count": 3})).await;
    let faults: Vec<Value> = serde_json::from_str(&get(&lab, "/faults").await).unwrap();
    let fault = faults.iter().find(|fault| fault["name"] == "kms-drop").unwrap();
    assert_eq!((&fault["on"], &fault["count"], &fault["hits"]), (&json!(true), &json!(3), &json!(0)));
    assert!(faults.iter().all(|fault| fault["explanation"].as_str().unwrap().len() > 10));
    post(
        &lab,
        "/user",
        json!({"name": "carol", "enabled": true, "hidden": true, "pending": true, "status": "dnd"}),
    )
    .await;
    let carol = lab.ctx().people.by_name("carol").unwrap();
    assert!(carol.enabled && carol.hidden && carol.pending && carol.status.as_deref() == Some("dnd"));
    let before = lab.ctx().clock.now().0;
    let now = post(&lab, "/clock", json!({"advance_ms": 3_600_000})).await["now_ms"].as_i64().unwrap();
    assert!((3_600_000..3_601_000).contains(&(now - before)));
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_connector_counts_from_when_it_is_seen_and_then_must_answer() {
    let lab = lab().await;
    settle(&lab).await;
    let port = lab.status_address().rsplit_once(':').unwrap().1.parse().unwrap();
    for (answer, idle) in [("false", "false"), ("true", "true")] {
        let mut door = lab.ctx().network.listen(Some(port), port).await.unwrap();
        let connector = tokio::spawn(async move {
            let io = door.accept().await.unwrap();
            let say = service_fn(move |_| async move {
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(answer))))
            });
            let _ = server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), say).await;
        });
        assert_eq!(get(&lab, "/idle").await, idle);
        connector.await.unwrap();
    }
    assert_eq!(get(&lab, "/idle").await, "false", "it was there, and cannot be reached");
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_endpoints_document_is_written_whole_and_the_settings_beside_the_store() {
    let folder = std::env::temp_dir().join(format!("lab-test-control-{}", std::process::id()));
    let file = folder.join("endpoints.json");
    std::fs::create_dir_all(&folder).unwrap();
    let options = Options { stand_ins: true, endpoints: Some(file.clone()), ..Options::default() };
    let lab = lab_with(options).await;
    let written: Endpoints = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(written.users.len(), 8);
    assert_eq!((written.status, written.connector_pid), (None, None));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no temporary file is left");
    let settings = std::fs::read_to_string(&written.connector_config).unwrap();
    for line in [
        format!("listen = \"{}\"", lab.status_address()),
        format!("discovery_url = \"{}/u2c/api/v1\"", written.cloud),
        "component = \"connector.lab.example\"".to_owned(),
    ] {
        assert!(settings.lines().any(|found| found == line), "{line}\n{settings}");
    }
    let beside = written.connector_config.parent().unwrap();
    assert_eq!(std::fs::read_to_string(beside.join("store.key")).unwrap().len(), 64);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(beside.join("client.secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    lab.stop().await;
    assert!(!beside.exists(), "the lab's own folder is gone with it");
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_port_that_was_asked_for_and_is_taken_is_an_error() {
    let network = Network::Pipes(Pipes::default());
    let _taken = network.listen(Some(7_777), 1).await.unwrap();
    let mut options = Options { stand_ins: true, ..Options::default() };
    options.ports.cloud_port = Some(7_777);
    let error = Lab::start_on(options, network, Time(0)).await.unwrap_err();
    assert_eq!(error.to_string(), "port 7777: taken");
}
