//! Both ends of a stream over a pipe: logging in, stanzas, acknowledgement, cuts and resumption.

#![allow(clippy::unwrap_used)] // a test may

mod support;

use std::sync::Arc;

use support::*;
use xmpp_core::sasl::{Credentials, Mechanism};
use xmpp_core::session_control::{self, Control, ControlEvent, Request};
use xmpp_core::tokio::{
    CloseReason, ConnectError, Connection, Event, NegotiationError, Outcome, ResumeState,
};
use xmpp_core::xml::Compose as _;
use xmpp_core::{Element, Jid, ns};

/// Logs in without stream management and gives the bound JID.
async fn login(
    credentials: Credentials,
    server: Arc<dyn xmpp_core::accept::Authenticator>,
) -> Result<Jid, ConnectError> {
    let (near, far) = pipe();
    let (client, server) = tokio::join!(
        Connection::client(near, client_config(credentials)),
        Connection::accept_client(far, accept_config(None), server)
    );
    let client = client?;
    assert_eq!(client.jid(), server.unwrap().jid());
    Ok(client.jid().clone())
}

#[tokio::test]
async fn every_mechanism_logs_in() {
    let jid: Jid = "alice@lab.example/webex".parse().unwrap();
    let service = || Credentials::Service { username: "service".into(), password: "secret".into() };
    for (credentials, mechanism) in [
        (Credentials::Password("secret".into()), Mechanism::ScramSha256),
        (Credentials::Password("secret".into()), Mechanism::ScramSha1),
        (Credentials::Password("secret".into()), Mechanism::Plain),
        // A server without a mechanism for tokens takes one as the password.
        (Credentials::Token("secret".into()), Mechanism::Plain),
    ] {
        assert_eq!(login(credentials, Arc::new(Only(mechanism))).await.unwrap(), jid, "{mechanism}");
    }
    for credentials in [service(), Credentials::External, Credentials::Token("token".into())] {
        let name = format!("{credentials:?}");
        assert_eq!(login(credentials, Arc::new(Accounts)).await.unwrap(), jid, "{name}");
    }
}

#[tokio::test]
async fn wrong_credentials_are_refused_with_the_servers_condition() {
    let refused = |condition: &str| format!("authentication refused: {condition}");
    let service =
        |username: &str| Credentials::Service { username: username.into(), password: "secret".into() };
    for (credentials, server, expected) in [
        (Credentials::Password("wrong".into()), Mechanism::ScramSha256, refused("not-authorized")),
        (Credentials::Password("wrong".into()), Mechanism::ScramSha1, refused("not-authorized")),
        (Credentials::Password("wrong".into()), Mechanism::Plain, refused("not-authorized")),
        (service("nobody"), Mechanism::Plain, refused("not-authorized")),
        (service("bob"), Mechanism::Plain, refused("invalid-authzid")),
        (Credentials::External, Mechanism::External, refused("not-authorized")),
        (Credentials::Token("old".into()), Mechanism::CiscoVtgToken, refused("not-authorized")),
        (Credentials::External, Mechanism::Plain, "no usable SASL mechanism; offered: PLAIN".to_owned()),
    ] {
        let name = format!("{credentials:?} with {server}");
        let (near, far) = pipe();
        let server =
            tokio::spawn(Connection::accept_client(far, accept_config(None), Arc::new(Only(server))));
        let error = Connection::client(near, client_config(credentials)).await.unwrap_err();
        assert_eq!(error.to_string(), expected, "{name}");
        server.await.unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn stanzas_are_numbered_and_acknowledged_both_ways() {
    let registry = Arc::new(Registry::default());
    let (mut client, mut server, outcome) = client_pair(alice(), accept_config(Some(registry))).await;
    assert_eq!((client.outcome(), outcome), (Outcome::Fresh, Outcome::Fresh));

    assert_eq!(client.send(&message("one")), 1);
    assert_eq!(client.send(&message("two")), 2);
    client.request_ack();
    assert_eq!(hear(&mut server, &mut client).await, ("one".into(), 1));
    assert_eq!(hear(&mut server, &mut client).await, ("two".into(), 2));

    // Nothing is acknowledged before the owner allows it; then the peer is told without asking again.
    server.send(&message("reply"));
    assert_eq!(hear(&mut client, &mut server).await, ("reply".into(), 1));
    server.acknowledge(1);
    assert_eq!(acked(&mut client, &mut server, 1).await, 1);
    server.acknowledge(2);
    assert_eq!(acked(&mut client, &mut server, 2).await, 2);

    assert_eq!(server.unacknowledged().len(), 1);
    client.acknowledge(1);
    server.request_ack();
    assert_eq!(acked(&mut server, &mut client, 1).await, 1);
    assert!(server.unacknowledged().is_empty());
}

#[tokio::test]
async fn questions_that_come_together_have_one_answer() {
    let registry = Arc::new(Registry::default());
    let (mut client, mut server, _) = client_pair(alice(), accept_config(Some(registry))).await;
    for body in ["one", "two", "three"] {
        server.send(&message(body));
        server.request_ack();
    }
    for (body, n) in [("one", 1), ("two", 2), ("three", 3)] {
        // An answer on the way would be an event of the server's.
        assert_eq!(hear(&mut client, &mut server).await, (body.into(), n));
        client.acknowledge(n);
    }
    assert_eq!(acked(&mut server, &mut client, 0).await, 3, "the first answer");
}

/// Waits for an acknowledgement of at least `n`, keeping the other end going.
async fn acked(connection: &mut Connection, other: &mut Connection, n: u64) -> u64 {
    loop {
        tokio::select! {
            biased;
            event = connection.next() => match event {
                Event::Acked(h) if h >= n => return h,
                Event::Acked(_) => {}
                event => panic!("expected an acknowledgement, got {event:?}"),
            },
            event = other.next() => panic!("unexpected {event:?}"),
        }
    }
}

#[tokio::test]
async fn a_cut_stream_is_resumed_exactly_in_the_same_process() {
    let registry = Arc::new(Registry::default());
    let (mut client, mut server, _) = client_pair(alice(), accept_config(Some(registry.clone()))).await;
    for body in ["c1", "c2"] {
        client.send(&message(body));
        hear(&mut server, &mut client).await;
    }
    for body in ["s1", "s2", "s3"] {
        server.send(&message(body));
        hear(&mut client, &mut server).await;
    }
    client.acknowledge(1); // s2 and s3 were seen, but are not safe yet
    assert_eq!(client.send(&message("c3, lost")), 3);
    server.send(&message("s4, lost"));

    let state = client.resume_state().unwrap();
    assert_eq!((state.inbound, state.outbound), (1, 3));
    registry.keep(&server);
    let resend: Vec<Element> = server.unacknowledged().iter().map(|(_, stanza)| stanza.clone()).collect();
    let mut config = alice();
    config.negotiation.skip = client.received() - state.inbound;
    config.negotiation.resume = Some(state);
    drop((client, server));

    let (mut client, mut server, outcome) = client_pair(config, accept_config(Some(registry))).await;
    assert_eq!(client.outcome(), Outcome::Resumed { h: 2 });
    assert_eq!(outcome, Outcome::Resumed { h: 1 });
    assert_eq!(client.jid().as_str(), "alice@lab.example/webex");
    assert_eq!(server.jid(), client.jid());
    // The server resends what is above h; what the client had already is not reported again.
    for stanza in resend.iter().skip(1) {
        server.send(stanza);
    }
    assert_eq!(hear(&mut client, &mut server).await, ("s4, lost".into(), 4));
    // The lost stanza's position is given out again.
    assert_eq!(client.send(&message("c3")), 3);
    assert_eq!(hear(&mut server, &mut client).await, ("c3".into(), 3));
}

#[tokio::test]
async fn a_link_is_resumed_after_a_restart() {
    let registry = Arc::new(Registry::default());
    let (mut link, mut server, _) =
        component_pair(managed_connector(), accept_config(Some(registry.clone()))).await;
    let mut control = Control::new("connector.lab.example");
    let alice = "alice@lab.example/webex".parse().unwrap();
    assert_eq!(link.send(&control.start("r1", &alice)), 1);
    let Event::Stanza { element, n: 1 } = next_with(&mut server, &mut link).await else { panic!() };
    let Some(Request::Start(start)) = session_control::parse_request(&element) else { panic!() };
    server.send(&session_control::started(&start, "f48c"));
    let Event::Stanza { element, n: 1 } = next_with(&mut link, &mut server).await else { panic!() };
    let ControlEvent::Started { request, session, jid } = control.handle(element) else { panic!() };
    assert_eq!((request.as_str(), &jid), ("r1", &alice));
    link.acknowledge(1);
    server.send(&session_control::deliver(
        &session_control::RequestIds {
            component: start.component.clone(),
            domain: start.domain.clone(),
            c2s: start.c2s.clone(),
            sm: "f48c".into(),
        },
        message("not safe before the crash"),
    ));
    next_with(&mut link, &mut server).await;

    // What is kept is text.
    let kept = (link.resume_state().unwrap().to_string(), session.to_string());
    registry.keep(&server);
    let resend: Vec<Element> =
        server.unacknowledged().iter().skip(1).map(|(_, stanza)| stanza.clone()).collect();
    drop((link, server, control));

    let mut config = managed_connector();
    config.resume = Some(kept.0.parse::<ResumeState>().unwrap());
    let (mut link, mut server, outcome) = component_pair(config, accept_config(Some(registry))).await;
    assert_eq!((link.outcome(), outcome), (Outcome::Resumed { h: 1 }, Outcome::Resumed { h: 1 }));
    let mut control = Control::new("connector.lab.example");
    control.restore(kept.1.parse().unwrap());
    for stanza in &resend {
        server.send(stanza);
    }
    let Event::Stanza { element, n: 2 } = next_with(&mut link, &mut server).await else { panic!() };
    let ControlEvent::Stanza { session: of, stanza } = control.handle(element) else { panic!() };
    assert_eq!((of, body(&stanza)), (session.clone(), "not safe before the crash".into()));
    assert_eq!(link.send(&control.route(&session, message("after"))), 2);
    assert_eq!(hear(&mut server, &mut link).await, ("after".into(), 2));
}

#[tokio::test]
async fn a_stream_that_is_gone_gives_a_new_one_and_says_so() {
    for (client, id) in [(true, "gone"), (false, "gone")] {
        let registry = Arc::new(Registry::default());
        let state =
            |jid: &str| ResumeState { id: id.into(), jid: jid.parse().unwrap(), inbound: 7, outbound: 9 };
        let (mut near, mut far, outcome) = if client {
            let mut config = alice();
            config.negotiation.resume = Some(state("alice@lab.example/webex"));
            client_pair(config, accept_config(Some(registry))).await
        } else {
            let config = xmpp_core::tokio::ComponentConfig {
                resume: Some(state("connector.lab.example")),
                ..managed_connector()
            };
            component_pair(config, accept_config(Some(registry))).await
        };
        assert_eq!((near.outcome(), outcome), (Outcome::ResumeFailed { h: None }, Outcome::Fresh));
        let stanza = if client {
            message("one")
        } else {
            Control::new("x").start("r1", &"alice@lab.example/webex".parse().unwrap())
        };
        assert_eq!(near.send(&stanza), 1, "counters start again");
        assert!(matches!(next_with(&mut far, &mut near).await, Event::Stanza { n: 1, .. }));
    }
}

#[tokio::test]
async fn somebody_elses_stream_is_not_resumed() {
    let registry = Arc::new(Registry::default());
    let (client, server, _) = client_pair(alice(), accept_config(Some(registry.clone()))).await;
    registry.keep(&server);
    let mut config = alice();
    config.negotiation.jid = "bob@lab.example".parse().unwrap();
    config.negotiation.resume = client.resume_state();
    let (client, _, _) = client_pair(config, accept_config(Some(registry))).await;
    assert_eq!(client.outcome(), Outcome::ResumeFailed { h: None });
    assert_eq!(client.jid().as_str(), "bob@lab.example/webex");
}

#[tokio::test]
async fn a_link_without_stream_management_is_found_out_by_the_ping() {
    let (near, far) = pipe();
    let server = async {
        let mut server =
            Connection::accept_component(far, accept_config(None), Arc::new(Accounts)).await.unwrap();
        // What comes before the answer is not lost.
        server.send(&message("early"));
        let Event::Stanza { element, n: 0 } = server.next().await else { panic!("no ping") };
        assert!(element.has_child("ping", ns::PING) && element.attr("to") == Some("lab.example"));
        let pong = Element::bare("iq", ns::CLIENT)
            .with_attr("type", "result")
            .with_attr("id", element.attr("id").unwrap());
        server.send(&pong);
        tokio::select! { event = server.next() => panic!("{event:?}"), () = tokio::task::yield_now() => server }
    };
    let (link, _server) = tokio::join!(Connection::component(near, managed_connector()), server);
    let mut link = link.unwrap();
    assert!(!link.is_managed() && link.resume_state().is_none());
    assert_eq!(link.jid().as_str(), "connector.lab.example");
    let Event::Stanza { element, n: 0 } = link.next().await else { panic!() };
    assert_eq!(body(&element), "early");
}

#[tokio::test]
async fn a_component_is_refused_with_the_condition_of_the_stream_error() {
    for (name, secret, expected) in [
        ("connector.lab.example", "wrong", "not-authorized"),
        ("other.lab.example", "componentsecret", "host-unknown"),
        ("", "componentsecret", ""),
    ] {
        let (near, far) = pipe();
        let server = tokio::spawn(Connection::accept_component(far, accept_config(None), Arc::new(Accounts)));
        let config = xmpp_core::tokio::ComponentConfig::new(name, secret.into(), entropy());
        match Connection::component(near, config).await.unwrap_err() {
            ConnectError::Negotiation(NegotiationError::Stream(error)) => {
                assert_eq!(error.condition, expected)
            }
            ConnectError::ComponentName { name: of, .. } => assert_eq!((of.as_str(), expected), (name, "")),
            error => panic!("{name}: {error}"),
        }
        server.await.unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn closing_is_not_losing() {
    let registry = Arc::new(Registry::default());
    let (mut client, mut server, _) = client_pair(alice(), accept_config(Some(registry.clone()))).await;
    client.send(&message("last"));
    client.close().await;
    assert!(matches!(server.next().await, Event::Stanza { n: 1, .. }));
    for _ in 0..2 {
        assert_eq!(server.next().await, Event::Closed(CloseReason::Peer));
    }
    assert_eq!(client.next().await, Event::Closed(CloseReason::Local));

    let (client, mut server, _) = client_pair(alice(), accept_config(Some(registry))).await;
    drop(client);
    let Event::Closed(reason) = server.next().await else { panic!() };
    assert!(reason.is_resumable(), "{reason:?}");
}
