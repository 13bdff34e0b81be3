//! The driver's own matters: TLS by policy, waits in paused time, cancelling, peers that misbehave.

#![allow(clippy::unwrap_used)] // a test may

mod support;

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig as ClientTls, RootCertStore, ServerConfig as ServerTls};
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};
use xmpp_core::BareJid;
use xmpp_core::sasl::{Credentials, Mechanism};
use xmpp_core::tokio::{
    AcceptConfig, AcceptTls, Authenticator, BoxIo, ClientConfig, CloseReason, ConnectError, Connection,
    Event, NegotiationError, Tls,
};
use xmpp_core::xml::XmlError;

/// Both ends' settings, with a certificate for this name.
fn tls(name: &str) -> (Arc<ClientTls>, Arc<ServerTls>) {
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientTls::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let server = ServerTls::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    (Arc::new(client), Arc::new(server))
}

#[tokio::test]
async fn tls_by_policy() {
    let (client, server) = tls("lab.example");
    let (stranger, _) = tls("lab.example");
    let (other, _other_server) = tls("other.example");
    for (what, near, far, outcome) in [
        ("required", Tls::Required(client.clone()), AcceptTls::Allowed(server.clone()), "ok"),
        ("required by both", Tls::Required(client.clone()), AcceptTls::Required(server.clone()), "ok"),
        ("allowed and offered", Tls::Allowed(client.clone()), AcceptTls::Required(server.clone()), "ok"),
        ("allowed, not offered", Tls::Allowed(client.clone()), AcceptTls::Off, "ok"),
        ("direct", Tls::Direct(client.clone()), AcceptTls::Direct(server.clone()), "ok"),
        ("off, offered", Tls::Off, AcceptTls::Allowed(server.clone()), "ok"),
        (
            "off, required by the server",
            Tls::Off,
            AcceptTls::Required(server.clone()),
            "no usable SASL mechanism; offered: ",
        ),
        (
            "required, not offered",
            Tls::Required(client.clone()),
            AcceptTls::Off,
            "the server offers no encryption, which is required",
        ),
        ("another certificate", Tls::Required(stranger), AcceptTls::Allowed(server.clone()), "TLS failed"),
        ("another authority", Tls::Direct(other), AcceptTls::Direct(server), "TLS failed"),
    ] {
        let (near_io, far_io) = pipe();
        let mut config = alice();
        config.tls = near;
        config.negotiation.manage = false;
        let mut accept = accept_config(None);
        accept.tls = far;
        let server = tokio::spawn(Connection::accept_client(far_io, accept, Arc::new(Accounts)));
        let got = Connection::client(near_io, config).await;
        assert_eq!(got.as_ref().map_or_else(ToString::to_string, |_| "ok".into()), outcome, "{what}");
        if let Ok(mut client) = got {
            let mut server = server.await.unwrap().unwrap();
            client.send(&message("hi"));
            assert_eq!(hear(&mut server, &mut client).await.0, "hi", "{what}");
        }
    }
}

/// The account of a certificate, and of no other.
struct Certified(CertificateDer<'static>);

impl Authenticator for Certified {
    fn mechanisms(&self, encrypted: bool) -> Vec<Mechanism> {
        if encrypted { vec![Mechanism::External] } else { Vec::new() }
    }

    fn external(&self, domain: &str, asked: Option<&str>, certificate: Option<&[u8]>) -> Option<BareJid> {
        let alice: BareJid = format!("alice@{domain}").parse().unwrap();
        let is_hers = certificate == Some(&*self.0) && asked.is_none_or(|asked| asked == alice.as_str());
        is_hers.then_some(alice)
    }
}

#[tokio::test]
async fn a_client_certificate_logs_in() {
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let certified = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        (made.cert.der().clone(), key)
    };
    let (server, server_key) = certified("lab.example");
    let (alice, alice_key) = certified("alice");
    let (bob, bob_key) = certified("bob");
    let roots = |of: &[&CertificateDer<'static>]| {
        let mut roots = RootCertStore::empty();
        of.iter().for_each(|certificate| roots.add((*certificate).clone()).unwrap());
        roots
    };
    let believes = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&[&alice, &bob])), provider());
    let far = ServerTls::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let far = far
        .with_client_cert_verifier(believes.allow_unauthenticated().build().unwrap())
        .with_single_cert(vec![server.clone()], server_key)
        .unwrap();
    let far = Arc::new(far);
    let near = |shown: Option<(&CertificateDer<'static>, &PrivateKeyDer<'static>)>| {
        let near =
            ClientTls::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let near = near.with_root_certificates(roots(&[&server]));
        Arc::new(match shown {
            Some((shown, key)) => near.with_client_auth_cert(vec![shown.clone()], key.clone_key()).unwrap(),
            None => near.with_no_client_auth(),
        })
    };
    let (hers, his) = (near(Some((&alice, &alice_key))), near(Some((&bob, &bob_key))));
    let refused = "authentication refused: not-authorized";
    for (what, tls, accepts, whose, outcome) in [
        ("STARTTLS", Tls::Required(hers.clone()), AcceptTls::Required(far.clone()), "alice", "ok"),
        ("direct", Tls::Direct(hers.clone()), AcceptTls::Direct(far.clone()), "alice", "ok"),
        ("hers, for another", Tls::Direct(hers.clone()), AcceptTls::Direct(far.clone()), "bob", refused),
        ("another's", Tls::Required(his), AcceptTls::Required(far.clone()), "alice", refused),
        ("none", Tls::Direct(near(None)), AcceptTls::Direct(far), "alice", refused),
        ("in the clear", Tls::Off, AcceptTls::Off, "alice", "no usable SASL mechanism; offered: "),
    ] {
        let (near_io, far_io) = pipe();
        let mut config = client_config(Credentials::External);
        config.negotiation.jid = format!("{whose}@lab.example").parse().unwrap();
        config.tls = tls;
        let mut accept = accept_config(None);
        accept.tls = accepts;
        let accounts = Arc::new(Certified(alice.clone()));
        let server = tokio::spawn(Connection::accept_client(far_io, accept, accounts));
        let got = Connection::client(near_io, config).await;
        assert_eq!(got.as_ref().map_or_else(ToString::to_string, |_| "ok".into()), outcome, "{what}");
        if outcome == "ok" {
            assert_eq!(server.await.unwrap().unwrap().jid().as_str(), "alice@lab.example/webex", "{what}");
        }
    }
}

#[tokio::test]
async fn bytes_between_consent_and_tls_are_refused() {
    let (client, _) = tls("lab.example");
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let mut config = alice();
    config.tls = Tls::Required(client);
    far.write_all(
        b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>\
        <stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>\
        <proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><message/>",
    )
    .await
    .unwrap();
    let error = Connection::client(Box::new(near), config).await.unwrap_err();
    assert!(matches!(error, ConnectError::Injected), "{error}");
}

#[tokio::test]
async fn a_name_that_no_certificate_can_have() {
    let (client, _) = tls("lab.example");
    let mut config = alice();
    config.negotiation.jid = "alice@b\u{fc}cher.example".parse().unwrap();
    config.tls = Tls::Direct(client);
    let (near, _far) = pipe();
    let error = Connection::client(near, config).await.unwrap_err();
    assert_eq!(error.to_string(), "`b\u{fc}cher.example` is not a name that a certificate can have");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_given_up() {
    let start = Instant::now();
    let (near, _far) = pipe();
    let error = Connection::client(near, alice()).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Negotiation(NegotiationError::TimedOut("a stream header"))),
        "{error}"
    );
    assert_eq!(start.elapsed().as_secs(), 20);
    let (_near, far) = pipe();
    let error = Connection::accept_component(far, accept_config(None), Arc::new(Accounts)).await.unwrap_err();
    assert_eq!(error.to_string(), "no a stream header came in time");
}

/// Writes one byte a second for as long as it is read.
async fn trickle(mut io: BoxIo, bytes: &'static [u8]) {
    for byte in bytes.iter().cycle() {
        if io.write_all(&[*byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_trickles_is_given_up_like_one_that_is_silent() {
    const HEADER: &[u8] =
        b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' to='lab.example' version='1.0' \
        xmlns:stream='http://etherx.jabber.org/streams'>";
    let (near_tls, far_tls) = tls("lab.example");
    for bytes in [HEADER, b" ", b"<", b"\x16\x03\x01"] {
        let start = Instant::now();
        for tls in [Tls::Off, Tls::Direct(near_tls.clone())] {
            let (near, far) = pipe();
            tokio::spawn(trickle(far, bytes));
            let config = ClientConfig { tls, ..alice() };
            Connection::client(near, config).await.unwrap_err();
        }
        for tls in [AcceptTls::Off, AcceptTls::Direct(far_tls.clone())] {
            let (near, far) = pipe();
            tokio::spawn(trickle(near, bytes));
            let config = AcceptConfig { tls, ..accept_config(None) };
            Connection::accept_client(far, config, Arc::new(Accounts)).await.unwrap_err();
        }
        let (near, far) = pipe();
        tokio::spawn(trickle(near, bytes));
        Connection::accept_component(far, accept_config(None), Arc::new(Accounts)).await.unwrap_err();
        let (near, far) = pipe();
        tokio::spawn(trickle(far, bytes));
        Connection::component(near, connector()).await.unwrap_err();
        assert!(start.elapsed() <= Duration::from_secs(6 * 20), "{:?} for six peers", start.elapsed());
    }
}

/// Takes each step of a negotiation just in time, and then sends something else for as long as that is taken.
async fn dawdle(mut io: BoxIo, steps: &'static [&'static str], then: &'static str) {
    for step in steps {
        tokio::time::sleep(Duration::from_secs(19)).await;
        if io.write_all(step.as_bytes()).await.is_err() {
            return;
        }
    }
    while io.write_all(then.as_bytes()).await.is_ok() {
        tokio::time::sleep(Duration::from_secs(19)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_negotiation_ends_however_slow_its_steps_are() {
    const STREAM: &str = "<stream:stream xmlns='jabber:client' to='lab.example' version='1.0' \
        xmlns:stream='http://etherx.jabber.org/streams'>";
    const MECHANISMS: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
        <mechanism>PLAIN</mechanism></mechanisms></stream:features>";
    const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
    const BIND: &str = "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>";
    let start = Instant::now();
    let (near, far) = pipe();
    tokio::spawn(dawdle(far, &[STREAM, MECHANISMS, SUCCESS, STREAM, BIND], "<message/>"));
    let error = Connection::client(near, alice()).await.unwrap_err();
    assert_eq!(error.to_string(), "no an answer to bind came in time");
    assert!(start.elapsed() <= Duration::from_secs(6 * 20), "the server dawdles for {:?}", start.elapsed());

    const WRONG: &str =
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGFsaWNlAHdyb25n</auth>";
    let start = Instant::now();
    let (near, far) = pipe();
    tokio::spawn(dawdle(near, &[STREAM], WRONG));
    let error = Connection::accept_client(far, accept_config(None), Arc::new(Accounts)).await.unwrap_err();
    assert_eq!(error.to_string(), "refused the peer: policy-violation", "three wrong passwords");
    assert!(start.elapsed() <= Duration::from_secs(5 * 20), "the client dawdles for {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_given_up() {
    let (near, _far) = tokio::io::duplex(16); // takes less than the header
    let error = Connection::client(Box::new(near), alice()).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Io(io) if io.kind() == std::io::ErrorKind::TimedOut), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_asked_then_dropped() {
    let registry = Arc::new(Registry::default());
    let (mut client, mut server, _) = client_pair(alice(), accept_config(Some(registry))).await;
    let start = Instant::now();
    // Both alive: acknowledgements go to and fro, and nothing ends.
    let both = async {
        loop {
            tokio::select! {
                biased;
                event = client.next() => assert!(matches!(event, Event::Acked(0)), "{event:?}"),
                event = server.next() => assert!(matches!(event, Event::Acked(0)), "{event:?}"),
            }
        }
    };
    timeout(Duration::from_secs(3_600), both).await.unwrap_err();
    // The server stops.
    let reason = loop {
        match client.next().await {
            Event::Acked(0) => {} // on its way before
            Event::Closed(reason) => break reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reason, CloseReason::Silent);
    assert!(start.elapsed() < Duration::from_secs(3_600 + 301), "{:?}", start.elapsed());
}

#[tokio::test]
async fn next_can_be_cancelled_at_any_time() {
    let registry = Arc::new(Registry::default());
    let (mut client, mut server, _) = client_pair(alice(), accept_config(Some(registry))).await;
    for n in 1..=50u64 {
        server.send(&message(&format!("{n} {}", "x".repeat(3_000))));
    }
    let mut heard = 0;
    while heard < 50 {
        // One poll at a time, dropped in between.
        tokio::select! {
            biased;
            event = server.next() => panic!("{event:?}"),
            () = std::future::ready(()) => {}
        }
        tokio::select! {
            biased;
            event = client.next() => {
                let Event::Stanza { element, n } = event else { panic!("{event:?}") };
                heard += 1;
                assert_eq!((n, body(&element).split(' ').next()), (heard, Some(heard.to_string().as_str())));
            }
            () = tokio::task::yield_now() => {}
        }
    }
}

#[tokio::test]
async fn a_stream_left_unread_still_writes() {
    let registry = Arc::new(Registry::default());
    let (mut client, mut server, _) = client_pair(alice(), accept_config(Some(registry))).await;
    client.set_reading(false);
    server.send(&message("waits"));
    client.send(&message("goes"));
    assert_eq!(hear(&mut server, &mut client).await.0, "goes");
    timeout(Duration::from_millis(50), next_with(&mut client, &mut server)).await.unwrap_err();
    client.set_reading(true);
    assert_eq!(hear(&mut client, &mut server).await.0, "waits");
}

#[tokio::test(start_paused = true)]
async fn a_stream_left_unread_is_not_silent() {
    let registry = Arc::new(Registry::default());
    let (mut client, mut server, _) = client_pair(alice(), accept_config(Some(registry))).await;
    client.set_reading(false);
    server.send(&message("waits"));
    timeout(Duration::from_secs(3_600), next_with(&mut client, &mut server)).await.unwrap_err();
    client.set_reading(true);
    assert_eq!(hear(&mut client, &mut server).await.0, "waits");
}

#[tokio::test]
async fn what_a_peer_said_before_it_hung_up_is_heard() {
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let mut config = alice();
    config.negotiation.manage = false;
    far.write_all(
        b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>\
        <stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>\
        </mechanisms></stream:features><success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>\
        <stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>\
        <stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>\
        <iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
        <jid>alice@lab.example/webex</jid></bind></iq>\
        <stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
    )
    .await
    .unwrap();
    let mut client = Connection::client(Box::new(near), config).await.unwrap();
    drop(far);
    client.send(&message("nobody reads this"));
    let Event::Closed(reason) = client.next().await else { panic!() };
    let CloseReason::StreamError(error) = &reason else { panic!("{reason:?}") };
    assert_eq!((error.condition.as_str(), reason.is_resumable()), ("conflict", false));
}

#[tokio::test]
async fn an_established_peer_that_sends_garbage_is_told_and_left() {
    let registry = Arc::new(Registry::default());
    for (garbage, expected, condition) in [
        ("<!-- -->".to_owned(), None, "restricted-xml"),
        ("</message>".to_owned(), None, "not-well-formed"),
        ("<a>".repeat(3_400), Some(XmlError::Depth(32)), "policy-violation"),
        (format!("<a>{}</a>", "x".repeat(300_000)), Some(XmlError::Size(262_144)), "policy-violation"),
        ("words".to_owned() + "<a/>", Some(XmlError::StrayText), "bad-format"),
    ] {
        let (near, far) = pipe();
        let accept =
            Connection::accept_client(far, accept_config(Some(registry.clone())), Arc::new(Accounts));
        let server = tokio::spawn(async {
            let mut server = accept.await.unwrap();
            loop {
                if let Event::Closed(reason) = server.next().await {
                    return reason;
                }
            }
        });
        let (mut near_read, mut near_write) = tokio::io::split(near);
        near_write
            .write_all(
                b"<stream:stream xmlns='jabber:client' to='lab.example' version='1.0' \
                xmlns:stream='http://etherx.jabber.org/streams'>\
                <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGFsaWNlAHNlY3JldA==</auth>\
                <stream:stream xmlns='jabber:client' to='lab.example' version='1.0' \
                xmlns:stream='http://etherx.jabber.org/streams'>\
                <iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
            )
            .await
            .unwrap();
        let read = tokio::spawn(async move {
            let mut answer = String::new();
            let _ = near_read.read_to_string(&mut answer).await;
            answer
        });
        let _ = near_write.write_all(garbage.as_bytes()).await;
        let reason = server.await.unwrap();
        let CloseReason::Xml(error) = reason else { panic!("{condition}: {reason:?}") };
        assert!(expected.is_none_or(|expected| expected == error), "{error:?}");
        drop(near_write);
        let answer = read.await.unwrap();
        let end = format!(
            "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
        );
        assert!(answer.ends_with(&end), "{condition}: {}", &answer[answer.len().saturating_sub(200)..]);
    }
}
