//! The accepting side of both.

use std::sync::Arc;
use std::time::Instant;

use xmpp_core::accept::{self, Authenticator, ClientAcceptor, ComponentAcceptor};
use xmpp_core::c2s::StartTls;
use xmpp_core::sm::{Resumable, ResumeRefused, ResumeRegistry};
use xmpp_core::{BareJid, Jid, Secret};

use crate::{drive, entropy};

struct Accounts;

impl Authenticator for Accounts {
    fn password(&self, account: &BareJid) -> Option<Secret> {
        ["alice@lab.example", "moved@lab.example"].contains(&account.as_str()).then(|| "secret".into())
    }

    fn elsewhere(&self, account: &BareJid) -> Option<String> {
        (account.as_str() == "moved@lab.example").then(|| "imp2.lab.example".into())
    }

    fn component(&self, name: &str) -> Option<Secret> {
        (name == "connector.lab.example").then(|| "componentsecret".into())
    }
}

struct Registry;

impl ResumeRegistry for Registry {
    fn enable(&self, _: &Jid) -> Option<String> {
        Some("i1".into())
    }

    fn resume(&self, id: &str, h: u32, _: &Jid) -> Result<Resumable, ResumeRefused> {
        let jid = "alice@lab.example/webex".parse().unwrap();
        if id == "i1" {
            Ok(Resumable { jid, inbound: 9, outbound: h.into() })
        } else {
            Err(ResumeRefused { h: Some(3) })
        }
    }
}

#[test]
fn accepted_clients() {
    let open = "<stream:stream xmlns='jabber:client' to='lab.example' version='1.0' \
        xmlns:stream='http://etherx.jabber.org/streams'>";
    let auth = |payload: &str| {
        format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{payload}</auth>")
    };
    let (right, wrong) = (auth("AGFsaWNlAHNlY3JldA=="), auth("AGFsaWNlAHdyb25n"));
    let response = "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>AGFsaWNlAHNlY3JldA==</response>";
    let bind = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind></iq>";
    let bad_bind = format!(
        "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{}</resource></bind></iq>",
        "r".repeat(1024)
    );
    let tls = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    let (other_host, no_version, other_ns) = (
        open.replace("lab.ex", "other.ex"),
        open.replace("version='1.0'", ""),
        open.replace("jabber:client", "jabber:server"),
    );
    for (clause, starttls, peer, outcome, last) in [
        (
            "RFC 6120 §7.6",
            StartTls::Off,
            vec![open, &right, open, bind],
            "established alice@lab.example/r",
            "<jid>alice@lab.example/r</jid></bind></iq>",
        ),
        (
            "RFC 6120 §6.4.2 no initial response",
            StartTls::Off,
            vec![
                open,
                "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>",
                response,
                open,
                bind,
            ],
            "established alice@lab.example/r",
            "</iq>",
        ),
        (
            "wrong once, then right",
            StartTls::Off,
            vec![open, &wrong, &right, open, bind],
            "established alice@lab.example/r",
            "</iq>",
        ),
        (
            "RFC 6120 §4.9.3.19",
            StartTls::Off,
            vec![open, &auth("AG1vdmVkAHNlY3JldA=="), open],
            "refused the peer: see-other-host",
            "<see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>imp2.lab.example</see-other-host></stream:error>\
             </stream:stream>",
        ),
        (
            "RFC 6120 §6.4.5",
            StartTls::Off,
            vec![open, &wrong, &wrong, &wrong],
            "refused the peer: policy-violation",
            "</stream:stream>",
        ),
        (
            "RFC 6120 §6.5.7",
            StartTls::Off,
            vec![open, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='X-OAUTH2'/>"],
            "waiting",
            "<invalid-mechanism/></failure>",
        ),
        (
            "RFC 6120 §6.5.6",
            StartTls::Off,
            vec![open, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>!</auth>"],
            "waiting",
            "<incorrect-encoding/></failure>",
        ),
        (
            "malformed PLAIN",
            StartTls::Off,
            vec![open, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AAAA</auth>"],
            "waiting",
            "<malformed-request/></failure>",
        ),
        (
            "malformed SCRAM",
            StartTls::Off,
            vec![open, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>AAAA</auth>"],
            "waiting",
            "<malformed-request/></failure>",
        ),
        (
            "RFC 6120 §6.4.4",
            StartTls::Off,
            vec![
                open,
                "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>",
                "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
            ],
            "waiting",
            "<aborted/></failure>",
        ),
        (
            "RFC 6120 §5.3.1 required",
            StartTls::Required,
            vec![open, &right],
            "waiting",
            "<encryption-required/></failure>",
        ),
        (
            "RFC 6120 §5.4.2",
            StartTls::Required,
            vec![open, tls, open, &right, open, bind],
            "established alice@lab.example/r",
            "</iq>",
        ),
        (
            "STARTTLS not offered",
            StartTls::Off,
            vec![open, tls],
            "refused the peer: unsupported-feature",
            "</stream:stream>",
        ),
        (
            "RFC 6120 §4.9.3.6",
            StartTls::Off,
            vec![&other_host],
            "refused the peer: host-unknown",
            "</stream:stream>",
        ),
        (
            "RFC 6120 §4.9.3.25",
            StartTls::Off,
            vec![&no_version],
            "refused the peer: unsupported-version",
            "</stream:stream>",
        ),
        (
            "RFC 6120 §4.9.3.10",
            StartTls::Off,
            vec![&other_ns],
            "refused the peer: invalid-namespace",
            "</stream:stream>",
        ),
        (
            "RFC 6120 §4.9.3.12 before auth",
            StartTls::Off,
            vec![open, "<message/>"],
            "refused the peer: not-authorized",
            "</stream:stream>",
        ),
        (
            "RFC 6120 §7.1 before bind",
            StartTls::Off,
            vec![open, &right, open, "<message/>"],
            "refused the peer: not-authorized",
            "</stream:stream>",
        ),
        (
            "RFC 6120 §7.7.2.1",
            StartTls::Off,
            vec![open, &right, open, &bad_bind],
            "waiting",
            "<bad-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
        ),
        (
            "XEP-0198 §5",
            StartTls::Off,
            vec![open, &right, open, "<resume xmlns='urn:xmpp:sm:3' previd='i1' h='2'/>"],
            "established alice@lab.example/webex",
            "<resumed xmlns='urn:xmpp:sm:3' h='9' previd='i1'/>",
        ),
        (
            "XEP-0198 §5 unknown",
            StartTls::Off,
            vec![open, &right, open, "<resume xmlns='urn:xmpp:sm:3' previd='i2' h='2'/>"],
            "waiting",
            "<failed xmlns='urn:xmpp:sm:3' h='3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>",
        ),
        (
            "XEP-0198 §5 no counter",
            StartTls::Off,
            vec![open, &right, open, "<resume xmlns='urn:xmpp:sm:3' previd='i1'/>"],
            "waiting",
            "<bad-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>",
        ),
    ] {
        let mut config = accept::Config::new(vec!["lab.example".into()], entropy());
        config.registry = Some(Arc::new(Registry));
        let machine = ClientAcceptor::new(config, starttls, false, Arc::new(Accounts), Instant::now());
        let (got, written, _) = drive(machine, &peer, Instant::now());
        assert_eq!(got, outcome, "{clause}; we wrote {written}");
        assert!(written.ends_with(last), "{clause}; we wrote {written}");
    }
}

#[test]
fn accepted_components() {
    let open = "<stream:stream xmlns='jabber:component:accept' to='connector.lab.example' \
        xmlns:stream='http://etherx.jabber.org/streams'>";
    let acceptor = || {
        let config = accept::Config::new(vec!["lab.example".into()], entropy());
        ComponentAcceptor::new(config, Arc::new(Accounts), Instant::now())
    };
    let (_, written, _) = drive(acceptor(), &[open], Instant::now());
    assert!(written.contains("from='connector.lab.example'") && written.contains(" id='"), "{written}");
    for (clause, peer, outcome) in [
        ("wrong secret", vec![open, "<handshake>00</handshake>"], "refused the peer: not-authorized"),
        ("no handshake", vec![open, "<message/>"], "refused the peer: not-authorized"),
        ("a user is no component", vec![&open.replace("'conn", "'a@conn")], "refused the peer: host-unknown"),
        ("unknown name", vec![&open.replace("connector", "other")], "refused the peer: host-unknown"),
        (
            "a client",
            vec![&open.replace("component:accept", "client")],
            "refused the peer: invalid-namespace",
        ),
    ] {
        let (got, written, _) = drive(acceptor(), &peer, Instant::now());
        assert_eq!(got, outcome, "{clause}");
        assert!(written.ends_with("</stream:stream>"), "{clause}: {written}");
    }
}
