//! AXL, asked by the client that the connector uses.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use axl_client::changes::{Changes, Mark};
use axl_client::users::{Directory, Home, Pages, Reading, Scheme, bulk_query};
use axl_client::{AxlError, Client, Page, Request, Row, Select, Session};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use lab::ctx::{AXL_PASSWORD, AXL_USER};
use lab::options::Options;
use support::World;

async fn ask(
    world: &World,
    client: &Client,
    session: &mut Session,
    request: &Request,
) -> Result<Vec<Row>, AxlError> {
    let io = world.ctx.network.dial("127.0.0.1", world.axl).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    let connection = tokio::spawn(connection);
    let (mut parts, body) = client.request(session, request).into_parts();
    let host = parts.uri.authority().unwrap().to_string();
    parts.headers.insert("host", host.parse().unwrap());
    parts.uri = parts.uri.path().parse().unwrap();
    let response = sender.send_request(http::Request::from_parts(parts, Full::new(body))).await.unwrap();
    let (parts, body) = response.into_parts();
    let body: Bytes = body.collect().await.unwrap().to_bytes();
    drop(sender);
    let _ = connection.await;
    client.parse(session, request, &http::Response::from_parts(parts, body))
}

fn client() -> Client {
    Client::new("http://127.0.0.1:8443", AXL_USER, AXL_PASSWORD).unwrap()
}

async fn directory(world: &World, first: u64) -> (Directory, u32) {
    let (client, mut session) = (client(), Session::new());
    let nodes = ask(world, &client, &mut session, &axl_client::nodes::Node::query()).await.unwrap();
    let nodes: BTreeSet<String> =
        nodes.iter().map(|row| axl_client::nodes::Node::read(row).unwrap().id).collect();
    let mut reading = Reading::new(nodes, Scheme::Unknown);
    let (mut pages, mut asked) = (Pages::new(first), 0);
    while let Some(page) = pages.next() {
        asked += 1;
        match ask(world, &client, &mut session, &bulk_query(page)).await {
            Ok(rows) => {
                pages.took(rows.len());
                reading.take(&rows);
            }
            Err(AxlError::TooLarge { suggested, .. }) => assert!(pages.too_large(suggested)),
            Err(error) => panic!("{error}"),
        }
    }
    (reading.finish(), asked)
}

#[tokio::test(start_paused = true)]
async fn the_bulk_query_brings_everybody_in_pages() {
    let world = World::stand_in(Options { users: 20, ..Options::default() }).await;
    let (whole, asked) = directory(&world, 500).await;
    assert_eq!(asked, 1);
    assert_eq!((whole.users.len(), whole.served()), (28, 28));
    assert!(whole.problems.is_empty(), "{:?}", whole.problems);
    assert_eq!(whole.users["alice@lab.example"].mail.as_deref(), Some("a.liddell@corp.example"));
    assert_eq!(whole.users["erin@lab2.example"].mail.as_deref(), Some("erin@corp.example"));

    world.fault(r#"{"name":"axl-too-large","on":true,"value":7}"#);
    let (paged, asked) = directory(&world, 500).await;
    assert_eq!(paged, whole);
    assert_eq!(asked, 6, "once too large, then 28 by 6, the last page short");

    world.fault(r#"{"name":"axl-intercluster","on":true}"#);
    let (more, _) = directory(&world, 6).await;
    assert_eq!((more.users.len(), more.served()), (29, 28));
    assert_eq!(more.users["yuri@lab.example"].home, Home::Elsewhere);
}

#[tokio::test(start_paused = true)]
async fn faults_are_what_the_client_knows_them_as() {
    let world = World::stand_in(Options::default()).await;
    let query = |sql: &str| Request::execute_sql_query(&Select::new(sql).unwrap());
    let usual = query("select userid from enduser");
    let outcome = async |client: &Client, request: &Request| {
        ask(&world, client, &mut Session::new(), request)
            .await
            .map(|rows| rows.len())
            .map_err(|error| error.to_string())
    };
    let wrong = Client::new("http://127.0.0.1:8443", AXL_USER, "guess").unwrap();
    let refused = "the publisher refuses the user name or the password (401)";
    assert_eq!(outcome(&wrong, &usual).await.unwrap_err(), refused);
    for (fault, text) in [
        ("axl-unauthorized", refused),
        ("axl-forbidden", "the user may not use AXL (403)"),
        ("axl-unavailable", "the AXL service is not available now (503)"),
        ("axl-fault", "fault: Maximum AXL Memory Allocation Consumed. Please retry your request later."),
        ("axl-garbage", "unreadable answer"),
    ] {
        world.fault(&format!(r#"{{"name":"{fault}","on":true,"count":1,"value":3}}"#));
        assert_eq!(outcome(&client(), &usual).await.unwrap_err(), text);
        assert_eq!(outcome(&client(), &usual).await, Ok(8), "after {fault}");
    }
    world.fault(r#"{"name":"axl-unavailable","on":true,"count":1,"value":3}"#);
    let busy = ask(&world, &client(), &mut Session::new(), &usual).await;
    assert_eq!(busy, Err(AxlError::Unavailable { retry_after: Some(Duration::from_secs(3)) }));
    let code = async |sql: &str| match ask(&world, &client(), &mut Session::new(), &query(sql)).await {
        Err(AxlError::Fault { code, .. }) => code,
        other => panic!("{sql}: {other:?}"),
    };
    assert_eq!(code("select x from enduser").await, Some(-217));
    assert_eq!(code("select userid from nowhere").await, Some(-206));
    assert_eq!(code("select userid from enduser where").await, Some(-201));
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_what_a_reader_asks() {
    let world = World::stand_in(Options::default()).await;
    let mut session = Session::new();
    for request in [Request::list_process_node(), Request::list_presence_redundancy_group()] {
        let rows = ask(&world, &client(), &mut session, &request).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert!(rows[0].uuid().is_some());
    }
    let unknown = Request::list_assigned_presence_users(None);
    let unknown = ask(&world, &client(), &mut session, &unknown).await.unwrap_err();
    assert_eq!(unknown.to_string(), "fault: Operation listAssignedPresenceUsers is not implemented.");
    assert_eq!(format!("{session:?}"), r#"{"JSESSIONID"}"#);
}

#[tokio::test(start_paused = true)]
async fn one_user_is_asked_for_by_name_and_many_by_a_pattern() {
    let world = World::stand_in(Options { users: 20, ..Options::default() }).await;
    world.fault(r#"{"name":"axl-intercluster","on":true}"#);
    let ask = async |request: &Request| ask(&world, &client(), &mut Session::new(), request).await;
    let get = Request::get_user("ALICE").unwrap();
    let alice = ask(&get).await.unwrap().remove(0);
    assert_eq!(alice.text("userid"), Some("alice"));
    assert_eq!(alice.text("mailid"), Some("a.liddell@corp.example"));
    let there = ["homeCluster", "imAndPresenceEnable", "enableUserToHostConferenceNow"];
    assert_eq!(there.map(|field| alice.flag(field)), [Some(true), Some(true), Some(false)]);
    let person = world.ctx.people.by_name("alice").unwrap();
    assert_eq!(alice.uuid(), Some(person.person_id.as_str()));
    let error = ask(&Request::get_user("nobody").unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "fault 5007: Item not valid: The specified nobody was not found");

    let names = async |pattern: &str, page: Option<Page>| {
        let rows = ask(&Request::list_user(pattern, page).unwrap()).await?;
        Ok::<_, AxlError>(rows.iter().map(|row| row.text("userid").unwrap().to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(names("%", None).await.unwrap().len(), 29);
    assert_eq!(names("A%", None).await.unwrap(), ["alice"]);
    assert_eq!(names("u0000_", None).await.unwrap(), <[&str; 0]>::default(), "only % stands for others");
    let yuri = ask(&Request::list_user("yuri", None).unwrap()).await.unwrap().remove(0);
    assert_eq!(yuri.flag("homeCluster"), Some(false), "of another cluster");

    // The faults are those of every question.
    world.fault(r#"{"name":"axl-too-large","on":true,"value":7}"#);
    let error = names("u%", None).await.unwrap_err();
    assert_eq!(error, AxlError::TooLarge { matched: 20, suggested: 7 });
    let (mut pages, mut all) = (Pages::new(500), Vec::new());
    while let Some(page) = pages.next() {
        match names("u%", Some(page)).await {
            Ok(more) => {
                pages.took(more.len());
                all.extend(more);
            }
            Err(AxlError::TooLarge { suggested, .. }) => assert!(pages.too_large(suggested)),
            Err(error) => panic!("{error}"),
        }
    }
    let expected: Vec<String> = (1..=20).map(|n| format!("u{n:05}")).collect();
    assert_eq!(all, expected, "each once, in order");
    world.fault(r#"{"name":"axl-unavailable","on":true,"count":1}"#);
    assert!(matches!(ask(&get).await, Err(AxlError::Unavailable { .. })));
    world.fault(r#"{"name":"axl-garbage","on":true,"count":1}"#);
    assert_eq!(ask(&get).await.unwrap_err().to_string(), "unreadable answer");
}

#[tokio::test(start_paused = true)]
async fn the_queue_of_changes_says_who_has_changed() {
    let world = World::stand_in(Options::default()).await;
    let mut session = Session::new();
    let mut since: Option<Mark> = None;
    let mut next = async |world: &World| {
        let question = Request::list_change(since.as_ref()).unwrap();
        let rows = ask(world, &client(), &mut session, &question).await.unwrap();
        let changes = Changes::read(&rows).unwrap();
        let news = changes.is_news(since.as_ref());
        since = Some(changes.mark);
        (changes.count, news)
    };
    assert_eq!(next(&world).await, (0, false));
    for _ in 0..2 {
        world.ctx.people.update("bob", |bob| bob.enabled = !bob.enabled).unwrap();
    }
    assert_eq!(next(&world).await, (2, true));
    assert_eq!(next(&world).await, (0, false));
    world.fault(r#"{"name":"axl-queue-rebuilt","on":true,"count":1}"#);
    assert_eq!(next(&world).await, (0, true));
    assert_eq!(next(&world).await, (0, false));
    world.fault(r#"{"name":"axl-no-changes","on":true}"#);
    let question = Request::list_change(None).unwrap();
    let error = ask(&world, &client(), &mut Session::new(), &question).await.unwrap_err();
    assert!(matches!(error, AxlError::Fault { code: None, .. }), "{error:?}");
}
