//! Against a real server, so that both our roles cannot be wrong together. Asked for by name:
//! `cargo test -p xmpp-core --features tokio --test servers`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // a test may, and it starts its own clock

mod jabberd2;
mod prosody;

use std::sync::Arc;
use std::time::Duration;

use jabberd2::Jabberd2;
use prosody::Prosody;
use tokio::time::timeout;
use xmpp_core::ext::carbons::{self, Direction, Unwrapped};
use xmpp_core::sasl::Credentials;
use xmpp_core::session_control::{Control, ControlEvent, SessionIds};
use xmpp_core::tokio::{
    ClientConfig, ComponentConfig, ConnectError, Connection, Event, NegotiationError, Outcome, ResumeState,
    RouterConfig, Tls,
};
use xmpp_core::xml::Compose as _;
use xmpp_core::{Element, Entropy, c2s, ns};

fn password() -> Credentials {
    Credentials::Password("secret".into())
}

fn config(jid: &str, resource: &str, credentials: Credentials) -> ClientConfig {
    let mut config = c2s::Config::new(jid.parse().unwrap(), credentials, Entropy::system().unwrap());
    config.resource = Some(resource.into());
    ClientConfig::new(config, Tls::Off)
}

/// A session with carbons that has said that it is there.
async fn online(server: &Prosody, jid: &str, resource: &str) -> Connection {
    let mut connection =
        Connection::client(server.client().await, config(jid, resource, password())).await.unwrap();
    connection.send(&carbons::enable("carbons"));
    until(&mut connection, |element| element.attr("id") == Some("carbons")).await;
    connection.send(&Element::bare("presence", ns::CLIENT));
    let own = connection.jid().to_string();
    until(&mut connection, |element| element.name() == "presence" && element.attr("from") == Some(&own))
        .await;
    connection
}

/// The next stanza that is `wanted`, and its number.
async fn until(connection: &mut Connection, wanted: impl Fn(&Element) -> bool) -> (Element, u64) {
    let next = async {
        loop {
            match connection.next().await {
                Event::Stanza { element, n } if wanted(&element) => return (element, n),
                Event::Stanza { .. } | Event::Acked(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(Duration::from_secs(10), next).await.expect("in time")
}

fn is_message(element: &Element) -> bool {
    element.name() == "message"
}

fn body(message: &Element) -> String {
    message.get_child("body", ns::CLIENT).map(Element::text).unwrap_or_default()
}

/// Keeps a connection going until all that was sent is acknowledged.
async fn settle(connection: &mut Connection) {
    let sent = connection.sent();
    connection.request_ack();
    let acked = async {
        loop {
            match connection.next().await {
                Event::Acked(h) if h == sent => return,
                Event::Stanza { .. } | Event::Acked(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(Duration::from_secs(10), acked).await.expect("acknowledged in time");
}

fn message(to: &str, body: &str) -> Element {
    Element::bare("message", ns::CLIENT)
        .with_attr("to", to)
        .with_attr("type", "chat")
        .with_attr("id", body)
        .with_child(Element::bare("body", ns::CLIENT).with_text(body))
}

#[tokio::test]
async fn mechanisms_and_tls() {
    let Some(server) = Prosody::start("mechanisms_and_tls").await else { return };
    let plain = || Credentials::Service { username: "alice".into(), password: "secret".into() };
    let tls = Tls::Required(server.trust());
    for (what, jid, credentials, tls) in [
        ("PLAIN", "alice@lab.example", plain(), Tls::Off),
        ("SCRAM-SHA-256", "alice@lab.example", password(), Tls::Off),
        ("SCRAM-SHA-1", "alice@lab2.example", password(), Tls::Off),
        ("PLAIN over TLS", "alice@lab.example", plain(), tls.clone()),
        ("SCRAM-SHA-256 over TLS", "alice@lab.example", password(), tls),
        ("TLS where offered", "alice@lab2.example", password(), Tls::Allowed(server.trust())),
    ] {
        let config = ClientConfig { tls, ..config(jid, "webex", credentials) };
        let mut connection = Connection::client(server.client().await, config).await.expect(what);
        assert_eq!(connection.jid().to_string(), format!("{jid}/webex"), "{what}");
        assert!(connection.is_managed() && connection.resume_state().is_some(), "{what}");
        connection.close().await;
    }
}

#[tokio::test]
async fn who_is_not_let_in() {
    let Some(server) = Prosody::start("who_is_not_let_in").await else { return };
    let wrong = config("alice@lab.example", "webex", Credentials::Password("wrong".into()));
    let error = Connection::client(server.client().await, wrong).await.unwrap_err();
    assert_eq!(error.to_string(), "authentication refused: not-authorized");

    // Prosody passes over the authorization id and binds the service's own account: we must notice.
    let service = Credentials::Service { username: "bob".into(), password: "secret".into() };
    let error = Connection::client(server.client().await, config("alice@lab.example", "webex", service));
    match error.await.unwrap_err() {
        ConnectError::Negotiation(NegotiationError::BoundElsewhere { bound, .. }) => {
            assert_eq!(bound.to_string(), "bob@lab.example/webex");
        }
        error => panic!("{error}"),
    }

    // Nobody signed for this certificate.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let stranger = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let config = ClientConfig {
        tls: Tls::Required(Arc::new(stranger)),
        ..config("alice@lab.example", "x", password())
    };
    let error = Connection::client(server.client().await, config).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls(_)), "{error}");
}

#[tokio::test]
async fn carbons_of_both_directions() {
    let Some(server) = Prosody::start("carbons_of_both_directions").await else { return };
    let mut webex = online(&server, "alice@lab.example", "webex").await;
    let mut jabber = online(&server, "alice@lab.example", "jabber").await;
    let mut bob = online(&server, "bob@lab.example", "desk").await;

    bob.send(&message("alice@lab.example/jabber", "to jabber"));
    settle(&mut bob).await;
    until(&mut jabber, is_message).await;
    jabber.send(&message("bob@lab.example/desk", "from jabber"));
    settle(&mut jabber).await;
    let own = webex.jid().to_bare();
    for (expected, text) in [(Direction::Received, "to jabber"), (Direction::Sent, "from jabber")] {
        let (copy, _) = until(&mut webex, is_message).await;
        match carbons::unwrap(copy, &own) {
            Unwrapped::Carbon { direction, message, .. } => {
                assert_eq!((direction, body(&message).as_str()), (expected, text));
            }
            other => panic!("{other:?}"),
        }
    }

    // A carbon that bob makes up passes the server, and is told apart.
    let made_up = carbons::wrap(
        Direction::Sent,
        &own,
        &"alice@lab.example/webex".parse().unwrap(),
        message("bob@lab.example", "never said"),
    );
    let made_up = made_up.children().next().unwrap().clone();
    let forged =
        Element::bare("message", ns::CLIENT).with_attr("to", "alice@lab.example/webex").with_child(made_up);
    bob.send(&forged);
    settle(&mut bob).await;
    let (copy, _) = until(&mut webex, is_message).await;
    assert_eq!(carbons::unwrap(copy, &own), Unwrapped::Forged);
}

#[tokio::test]
async fn a_cut_connection_is_resumed_exactly() {
    let Some(server) = Prosody::start("a_cut_connection_is_resumed_exactly").await else { return };
    let mut alice = online(&server, "alice@lab.example", "webex").await;
    let mut bob = online(&server, "bob@lab.example", "desk").await;

    for text in ["one", "two", "three"] {
        bob.send(&message("alice@lab.example/webex", text));
    }
    settle(&mut bob).await;
    let (_, first) = until(&mut alice, is_message).await;
    until(&mut alice, is_message).await;
    alice.acknowledge(first); // one is safe; two was seen; three is on its way
    alice.send(&message("bob@lab.example/desk", "before"));
    settle(&mut alice).await;
    assert_eq!(body(&until(&mut bob, is_message).await.0), "before");
    let position = alice.sent();
    let kept = alice.resume_state().unwrap().to_string();
    drop(alice); // the connection, not the stream

    bob.send(&message("alice@lab.example/webex", "four"));
    settle(&mut bob).await;

    // In a new process: nothing but the text is left, and what was seen and not safe comes again.
    let mut config = config("alice@lab.example", "webex", password());
    config.negotiation.resume = Some(kept.parse::<ResumeState>().unwrap());
    let mut alice = Connection::client(server.client().await, config).await.unwrap();
    assert_eq!(alice.outcome(), Outcome::Resumed { h: position });
    assert_eq!(alice.jid().to_string(), "alice@lab.example/webex");
    for (text, n) in [("two", first + 1), ("three", first + 2), ("four", first + 3)] {
        let (message, number) = until(&mut alice, is_message).await;
        assert_eq!((body(&message).as_str(), number), (text, n));
    }
    alice.acknowledge(first + 3);
    assert_eq!(alice.send(&message("bob@lab.example/desk", "after")), position + 1);
    settle(&mut alice).await;
    assert_eq!(body(&until(&mut bob, is_message).await.0), "after");

    // In the same process: what was seen is skipped by count.
    bob.send(&message("alice@lab.example/webex", "five"));
    settle(&mut bob).await;
    until(&mut alice, |element| body(element) == "five").await;
    let state = alice.resume_state().unwrap();
    let mut config = self::config("alice@lab.example", "webex", password());
    config.negotiation.skip = alice.received() - state.inbound;
    config.negotiation.resume = Some(state);
    drop(alice);
    let mut alice = Connection::client(server.client().await, config).await.unwrap();
    bob.send(&message("alice@lab.example/webex", "six"));
    settle(&mut bob).await;
    let (message, number) = until(&mut alice, is_message).await;
    assert_eq!((body(&message).as_str(), number), ("six", first + 5));
}

#[tokio::test]
async fn a_stream_that_the_server_forgot() {
    let Some(server) = Prosody::start("a_stream_that_the_server_forgot").await else { return };
    let mut config = config("alice@lab.example", "webex", password());
    let jid = "alice@lab.example/webex".parse().unwrap();
    config.negotiation.resume = Some(ResumeState { id: "unknown".into(), jid, inbound: 3, outbound: 4 });
    let alice = Connection::client(server.client().await, config).await.unwrap();
    assert_eq!(alice.outcome(), Outcome::ResumeFailed { h: None });
    assert!(alice.is_managed());
}

#[tokio::test]
async fn components() {
    let Some(server) = Prosody::start("components").await else { return };
    let config = |name: &str, secret: &str| {
        let config = ComponentConfig::new(name, secret.into(), Entropy::system().unwrap());
        ComponentConfig { manage: Some("lab.example".into()), ..config }
    };
    for (name, secret, condition) in [
        ("connector.lab.example", "wrong", "not-authorized"),
        ("other.lab.example", "componentsecret", "host-unknown"),
    ] {
        match Connection::component(server.component().await, config(name, secret)).await.unwrap_err() {
            ConnectError::Negotiation(NegotiationError::Stream(error)) => {
                assert_eq!(error.condition, condition)
            }
            error => panic!("{name}: {error}"),
        }
    }

    let right = || config("connector.lab.example", "componentsecret");
    let mut link = Connection::component(server.component().await, right()).await.unwrap();
    assert!(!link.is_managed(), "Prosody has no stream management on this kind of stream");
    match Connection::component(server.component().await, right()).await.unwrap_err() {
        ConnectError::Negotiation(NegotiationError::Stream(error)) => assert_eq!(error.condition, "conflict"),
        error => panic!("{error}"),
    }

    let mut alice = online(&server, "alice@lab.example", "webex").await;
    link.send(&message("alice@lab.example/webex", "hi").with_attr("from", "bot@connector.lab.example"));
    alice.send(&message("bot@connector.lab.example", "hello"));
    let received = async { until(&mut alice, is_message).await };
    let (at_link, at_alice) = tokio::join!(until(&mut link, is_message), received);
    assert_eq!((body(&at_link.0), body(&at_alice.0)), ("hello".into(), "hi".into()));
    // On any kind of stream a stanza in memory is in jabber:client.
    assert!(at_link.0.has_ns(ns::CLIENT));
}

/// The next event of the link that is `wanted`.
async fn from_link<T>(
    link: &mut Connection,
    control: &mut Control,
    wanted: impl Fn(ControlEvent) -> Option<T>,
) -> T {
    let next = async {
        loop {
            match link.next().await {
                Event::Stanza { element, .. } => {
                    if let Some(found) = wanted(control.handle(element)) {
                        return found;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(Duration::from_secs(10), next).await.expect("in time")
}

async fn start(link: &mut Connection, control: &mut Control, jid: &str) -> SessionIds {
    let jid = jid.parse().unwrap();
    link.send(&control.start(&format!("start {jid}"), &jid));
    from_link(link, control, |event| match event {
        ControlEvent::Started { session, jid: bound, .. } if bound == jid => Some(session),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn sessions_of_many_users_over_a_router_link() {
    let Some(server) = Jabberd2::start("sessions_of_many_users").await else { return };
    let config = |secret: &str| RouterConfig::new("connector", secret.into(), Entropy::system().unwrap());
    let error = Connection::router(server.connect().await, config("wrong")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Negotiation(NegotiationError::Refused { .. })), "{error}");

    let mut link = Connection::router(server.connect().await, config("componentsecret")).await.unwrap();
    let mut control = Control::new("connector");
    from_link(&mut link, &mut control, |event| {
        (event == ControlEvent::DomainUp("lab.example".into())).then_some(())
    })
    .await;
    let alice = start(&mut link, &mut control, "alice@lab.example/webex").await;
    let bob = start(&mut link, &mut control, "bob@lab.example/webex").await;
    for session in [&alice, &bob] {
        link.send(&control.route(session, Element::bare("presence", ns::CLIENT)));
    }
    link.send(&control.route(&alice, message("bob@lab.example/webex", "hi")));
    let heard = from_link(&mut link, &mut control, |event| match event {
        ControlEvent::Stanza { session, stanza } if session == bob && is_message(&stanza) => Some(stanza),
        _ => None,
    })
    .await;
    assert_eq!((heard.attr("from"), body(&heard)), (Some("alice@lab.example/webex"), "hi".into()));

    // Nobody serves this domain; the router gives the start back.
    link.send(&control.start("nowhere", &"carol@elsewhere.example/webex".parse().unwrap()));
    from_link(&mut link, &mut control, |event| {
        (event == ControlEvent::Refused { request: "nowhere".into() }).then_some(())
    })
    .await;

    // Somebody else binds the same resource.
    let again = start(&mut link, &mut control, "bob@lab.example/webex").await;
    assert_ne!(again, bob);
    assert!(control.sessions().all(|session| *session != bob), "the first one was replaced");

    // What is sent on a session that is over comes back.
    link.send(&control.end(&alice));
    from_link(&mut link, &mut control, |event| {
        (event == ControlEvent::Ended { session: alice.clone() }).then_some(())
    })
    .await;
    control.restore(alice.clone());
    link.send(&control.route(&alice, message("bob@lab.example/webex", "too late")));
    from_link(&mut link, &mut control, |event| match event {
        ControlEvent::Bounced { session, stanza } if session == alice => Some(body(&stanza)),
        _ => None,
    })
    .await;
    link.close().await;
}
