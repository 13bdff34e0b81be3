//! Every way to log in to the client door, and every way not to.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use lab::ctx::{SERVICE_PASSWORD, TOKEN_KEY};
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

fn token(claims: &str, secret: &str) -> Credentials {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let signed = format!("{}.{}", base64.encode(r#"{"alg":"HS256"}"#), base64.encode(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let signature = base64.encode(ring::hmac::sign(&key, signed.as_bytes()));
    Credentials::Token(format!("{signed}.{signature}").into())
}

#[tokio::test(start_paused = true)]
async fn users_services_and_tokens_log_in() {
    let world = World::stand_in(Options::default()).await;
    let claims = r#"{"jid":"bob@lab.example","exp":1714557700}"#;
    for (jid, credentials) in [
        ("alice@lab.example", Credentials::Password("secret".into())),
        ("erin@lab2.example", Credentials::Password("secret".into())),
        ("bob@lab.example", service(SERVICE_PASSWORD)),
        ("bob@lab.example", token(claims, TOKEN_KEY)),
    ] {
        let connection = log_in(&world, jid, credentials).await.unwrap();
        assert_eq!(connection.jid().as_str(), format!("{jid}/here"));
        assert!(connection.resume_state().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_else_does() {
    let world = World::stand_in(Options::default()).await;
    let expired = r#"{"jid":"bob@lab.example","exp":1714557600}"#;
    let others = r#"{"jid":"alice@lab.example","exp":1714557700}"#;
    for (jid, credentials) in [
        ("alice@lab.example", Credentials::Password("guess".into())),
        ("zoe@lab.example", Credentials::Password("secret".into())),
        ("bob@lab.example", service("guess")),
        ("zoe@lab.example", service(SERVICE_PASSWORD)),
        ("bob@lab.example", Credentials::Service { username: "alice".into(), password: "secret".into() }),
        ("bob@lab.example", token(expired, TOKEN_KEY)),
        ("bob@lab.example", token(others, TOKEN_KEY)),
        ("bob@lab.example", token(others, "guess")),
    ] {
        let error = log_in(&world, jid, credentials.clone()).await.err().unwrap().to_string();
        assert!(error.starts_with("authentication refused: "), "{jid} {credentials:?}: {error}");
    }
    let error =
        log_in(&world, "a@elsewhere.example", Credentials::Password("secret".into())).await.err().unwrap();
    assert_eq!(error.to_string(), "the peer ended the stream: host-unknown");
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
