//! Every way to log in to the client door, and every way not to.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use lab::ctx::{SERVICE_JID, SERVICE_PASSWORD};
use lab::options::Options;
use support::{World, stanza};
use xmpp_core::sasl::Credentials;
use xmpp_core::tokio::{ClientConfig, ConnectError, Connection, Event, Tls};
use xmpp_core::{Entropy, c2s, ns};

async fn log_in(world: &World, jid: &str, credentials: Credentials) -> Result<Connection, ConnectError> {
    let io = world.ctx.network.dial("127.0.0.1", world.client).await.unwrap();
    let entropy = Entropy::from_bytes(world.ctx.rng.bytes());
    let mut config = c2s::Config::new(jid.parse().unwrap(), credentials, entropy);
    config.resource = Some("here".to_owned());
    Connection::client(Box::new(io), ClientConfig::new(config, Tls::Off)).await
}

fn service(password: &str) -> Credentials {
    Credentials::Service { username: "connector-service".into(), password: password.into() }
}

/// Asks the login service, and takes one text out of what it answers; `None` is a refusal.
async fn login_service(world: &World, key: Option<&str>, question: &str, wanted: &str) -> Option<String> {
    let key = key.map(|key| format!("<session-key xmlns='urn:cisco:epas:soap'>{key}</session-key>"));
    let body = format!(
        "<s:Envelope xmlns:s='http://www.w3.org/2003/05/soap-envelope'><s:Header>{}</s:Header><s:Body>{question}</s:Body>\
         </s:Envelope>",
        key.unwrap_or_default()
    );
    let io = world.ctx.network.dial("127.0.0.1", world.axl).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post("/EPASSoap/service/v80").header("host", "127.0.0.1");
    let answer = sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let answer = answer.into_body().collect().await.unwrap().to_bytes();
    drop(sender);
    let _ = connection.await;
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let (_, rest) = text.split_once(&format!("<{wanted}>"))?;
    Some(rest.split_once('<')?.0.to_owned())
}

fn login(user: &str, password: Option<&str>) -> String {
    let password = password.map(|password| format!("<password>{password}</password>")).unwrap_or_default();
    format!("<login xmlns='urn:cisco:epas:soap'><username>{user}</username>{password}</login>")
}

/// A one-time password of this user, made by the application user.
async fn one_time(world: &World, jid: &str) -> Credentials {
    let application = login(SERVICE_JID, Some(SERVICE_PASSWORD));
    let key = login_service(world, None, &application, "session-key").await.unwrap();
    let key = login_service(world, Some(&key), &login(jid, None), "session-key").await.unwrap();
    let question = "<get-onetime-password xmlns='urn:cisco:epas:soap'/>";
    Credentials::Token(login_service(world, Some(&key), question, "password").await.unwrap().into())
}

#[tokio::test(start_paused = true)]
async fn users_services_and_tokens_log_in() {
    let world = World::stand_in(Options::default()).await;
    let password = one_time(&world, "bob@lab.example").await;
    for (jid, credentials) in [
        ("alice@lab.example", Credentials::Password("secret".into())),
        ("erin@lab2.example", Credentials::Password("secret".into())),
        ("bob@lab.example", service(SERVICE_PASSWORD)),
        ("bob@lab.example", password.clone()),
    ] {
        let connection = log_in(&world, jid, credentials).await.unwrap();
        assert_eq!(connection.jid().as_str(), format!("{jid}/here"));
        assert!(connection.resume_state().is_some());
    }
    let error = log_in(&world, "bob@lab.example", password).await.err().unwrap().to_string();
    assert_eq!(error, "authentication refused: not-authorized", "it was used");
}

#[tokio::test(start_paused = true)]
async fn nobody_else_does() {
    let world = World::stand_in(Options::default()).await;
    let old = one_time(&world, "bob@lab.example").await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let others = one_time(&world, "alice@lab.example").await;
    for (jid, credentials) in [
        ("alice@lab.example", Credentials::Password("guess".into())),
        ("zoe@lab.example", Credentials::Password("secret".into())),
        ("bob@lab.example", service("guess")),
        ("zoe@lab.example", service(SERVICE_PASSWORD)),
        ("bob@lab.example", Credentials::Service { username: "alice".into(), password: "secret".into() }),
        ("bob@lab.example", old),
        ("bob@lab.example", others),
        ("bob@lab.example", Credentials::Token("guess".into())),
    ] {
        let error = log_in(&world, jid, credentials.clone()).await.err().unwrap().to_string();
        assert!(error.starts_with("authentication refused: "), "{jid} {credentials:?}: {error}");
    }
    let error =
        log_in(&world, "a@elsewhere.example", Credentials::Password("secret".into())).await.err().unwrap();
    assert_eq!(error.to_string(), "the peer ended the stream: host-unknown");
}

#[tokio::test(start_paused = true)]
async fn the_login_service_serves_the_application_user_alone() {
    let world = World::stand_in(Options::default()).await;
    let open = async |key: Option<&str>, user: &str, password: Option<&str>| {
        login_service(&world, key, &login(user, password), "session-key").await
    };
    assert_eq!(open(None, SERVICE_JID, Some("guess")).await, None);
    assert_eq!(open(None, "alice@lab.example", Some("secret")).await, None);
    assert_eq!(open(Some("guess"), "alice@lab.example", None).await, None);
    let application = open(None, SERVICE_JID, Some(SERVICE_PASSWORD)).await.unwrap();
    assert_eq!(open(Some(&application), "zoe@lab.example", None).await, None, "there is no such user");
    let alice = open(Some(&application), "alice@lab.example", None).await.unwrap();
    assert_eq!(open(Some(&alice), "bob@lab.example", None).await, None, "a user acts for nobody");
    let question = "<get-onetime-password xmlns='urn:cisco:epas:soap'/>";
    assert_eq!(login_service(&world, Some(&application), question, "password").await, None);
    assert!(login_service(&world, Some(&alice), question, "password").await.is_some());
    world.fault(r#"{"name":"epas-refuses","on":true,"person":"bob","count":1}"#);
    assert_eq!(open(Some(&application), "bob@lab.example", None).await, None);
    world.fault(r#"{"name":"epas-forgets","on":true,"count":1}"#);
    assert_eq!(open(Some(&application), "bob@lab.example", None).await, None, "it has to log in again");
}

/// With a certificate authority of the lab, client streams are encrypted when the client wants it.
#[tokio::test(start_paused = true)]
async fn streams_can_be_encrypted() {
    let authority = lab::tls::Authority::new().unwrap();
    let trust = lab::tls::client_config(Some(&authority.pem)).unwrap();
    let world = World::with_tls(Options::default(), Some(authority.server)).await;
    let io = world.ctx.network.dial("127.0.0.1", world.client).await.unwrap();
    let entropy = Entropy::from_bytes(world.ctx.rng.bytes());
    let jid = "alice@lab.example".parse().unwrap();
    let config = c2s::Config::new(jid, Credentials::Password("secret".into()), entropy);
    let config = ClientConfig::new(config, Tls::Required(trust));
    let connection = Connection::client(Box::new(io), config).await.unwrap();
    assert_eq!(connection.jid().to_bare().as_str(), "alice@lab.example");
    // And in the clear for who does not.
    log_in(&world, "bob@lab.example", Credentials::Password("secret".into())).await.unwrap();
}

/// Link B: a stream per user, opened by the service account; taking the same resource again ends the first with a reason.
#[tokio::test(start_paused = true)]
async fn a_stream_for_a_user_carries_its_session() {
    let world = World::usual().await;
    let mut first = log_in(&world, "bob@lab.example", service(SERVICE_PASSWORD)).await.unwrap();
    first.send(&stanza("<presence/>"));
    first.send(&stanza(
        "<message to='alice@lab.example' type='chat' id='b1'><body>by stream</body></message>",
    ));
    let own = async {
        loop {
            if let Event::Stanza { element, .. } = first.next().await
                && element.name() == "presence"
                && element.attr("from") == Some("bob@lab.example/here")
            {
                return;
            }
        }
    };
    own.await;
    world.until("alice", "in message bob by stream").await;

    let _second = log_in(&world, "bob@lab.example", service(SERVICE_PASSWORD)).await.unwrap();
    let reason = loop {
        if let Event::Closed(reason) = first.next().await {
            break reason;
        }
    };
    assert_eq!(format!("{reason:?}"), "StreamError(StreamError { condition: \"conflict\", text: None })");
}

/// 24 kB nested 3,400 deep, too much in one stanza, and no XML at all: each ends its own stream, and no other.
#[tokio::test(start_paused = true)]
async fn hostile_streams_end_alone() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::usual().await;
    let header = format!(
        "<stream:stream to='lab.example' version='1.0' xmlns='{}' xmlns:stream='{}'>",
        ns::CLIENT,
        ns::STREAM
    );
    let deep = format!("{header}<message>{}", "<a>".repeat(3_400));
    let long = format!("{header}<message><body>{}", "x".repeat(300_000));
    for bytes in [deep.as_str(), long.as_str(), "GET / HTTP/1.1\r\n\r\n", "<!DOCTYPE x>", "\u{0}\u{0}"] {
        for port in [world.client, world.trusted] {
            let mut io = world.ctx.network.dial("127.0.0.1", port).await.unwrap();
            let _ = io.write_all(bytes.as_bytes()).await;
            let mut answer = Vec::new();
            let read = tokio::time::timeout(std::time::Duration::from_secs(60), io.read_to_end(&mut answer));
            let _ = read.await.expect("the stream stays open");
        }
    }
    world.say("alice", "bob", "unharmed").await;
    world.idle().await;
    assert_eq!(world.chat("bob"), ["in message alice unharmed"]);
}
