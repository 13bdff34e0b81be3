//! The initiating side of a client stream.

use std::time::{Duration, Instant};

use xmpp_core::c2s::{self, Negotiation, StartTls};
use xmpp_core::negotiation::Machine as _;
use xmpp_core::sasl::Credentials;
use xmpp_core::sm::Outcome;

use crate::{BIND, BOUND, CLIENT, COMPONENT, ENABLED, PLAIN, SUCCESS, alice, drive, password, resuming};

#[test]
fn client_streams() {
    let starttls = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>";
    let proceed = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    let failure =
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><account-disabled/><text>Gone.</text></failure>";
    let elsewhere = BOUND.replace("alice@", "service@");
    let conflict = "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
        <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>Twice.</text></stream:error>";
    let no_bind = "<iq type='error' id='bind'><error type='cancel'>\
        <not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";
    let login = [CLIENT, PLAIN, SUCCESS, CLIENT, BIND];
    let with = |rest: &[&'static str]| [&login[..], rest].concat();
    for (clause, config, tls, peer, outcome) in [
        (
            "RFC 6120 §7.6.1",
            password(),
            StartTls::Off,
            with(&[BOUND, ENABLED]),
            "established alice@lab.example/webex",
        ),
        (
            "XEP-0198 §3 failed",
            password(),
            StartTls::Off,
            with(&[BOUND, "<failed xmlns='urn:xmpp:sm:3'/>"]),
            "established alice@lab.example/webex",
        ),
        (
            "a stanza before enabled",
            password(),
            StartTls::Off,
            with(&[BOUND, "<message/>", ENABLED]),
            "established alice@lab.example/webex",
        ),
        (
            "a stanza before bound",
            password(),
            StartTls::Off,
            with(&["<message/>", BOUND, ENABLED]),
            "established alice@lab.example/webex",
        ),
        (
            "the bound JID differs",
            password(),
            StartTls::Off,
            with(&[&*elsewhere.clone().leak()]),
            "asked for a session of alice@lab.example, but service@lab.example/webex was bound",
        ),
        ("RFC 6120 §7.7.2", password(), StartTls::Off, with(&[no_bind]), "binding refused: not-allowed"),
        (
            "no JID in the answer",
            password(),
            StartTls::Off,
            with(&["<iq type='result' id='bind'/>"]),
            "binding refused: no JID in the answer",
        ),
        (
            "no bind offered",
            password(),
            StartTls::Off,
            vec![CLIENT, PLAIN, SUCCESS, CLIENT, "<stream:features/>"],
            "binding refused: not offered",
        ),
        (
            "RFC 6120 §6.5",
            password(),
            StartTls::Off,
            vec![CLIENT, PLAIN, failure],
            "authentication refused: account-disabled",
        ),
        (
            "no mechanism",
            alice(Credentials::External),
            StartTls::Off,
            vec![CLIENT, PLAIN],
            "no usable SASL mechanism; offered: PLAIN",
        ),
        (
            "no mechanisms at all",
            password(),
            StartTls::Off,
            vec![CLIENT, "<stream:features/>"],
            "no usable SASL mechanism; offered: ",
        ),
        (
            "PLAIN has no challenge",
            password(),
            StartTls::Off,
            vec![CLIENT, PLAIN, "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>AAAA</challenge>"],
            "bad SASL exchange: malformed message",
        ),
        (
            "not base64",
            password(),
            StartTls::Off,
            vec![CLIENT, PLAIN, "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>!</success>"],
            "bad SASL exchange: malformed message",
        ),
        (
            "RFC 6120 §5.4.2",
            password(),
            StartTls::Required,
            vec![CLIENT, starttls, proceed, CLIENT, PLAIN, SUCCESS, CLIENT, BIND, BOUND, ENABLED],
            "established alice@lab.example/webex",
        ),
        (
            "TLS required, not offered",
            password(),
            StartTls::Required,
            vec![CLIENT, PLAIN],
            "the server offers no encryption, which is required",
        ),
        (
            "TLS refused",
            password(),
            StartTls::Required,
            vec![CLIENT, starttls, "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"],
            "the server offers no encryption, which is required",
        ),
        (
            "TLS allowed, not offered",
            password(),
            StartTls::Allowed,
            with(&[BOUND, ENABLED]),
            "established alice@lab.example/webex",
        ),
        (
            "RFC 6120 §4.9.3.3",
            password(),
            StartTls::Off,
            vec![CLIENT, conflict],
            "the peer ended the stream: conflict (Twice.)",
        ),
        (
            "RFC 6120 §4.4",
            password(),
            StartTls::Off,
            vec![CLIENT, "</stream:stream>"],
            "the peer closed the stream while waiting for stream features",
        ),
        (
            "not a client stream",
            password(),
            StartTls::Off,
            vec![COMPONENT],
            "expected a client stream, got <stream of `jabber:component:accept`>",
        ),
        (
            "out of turn",
            password(),
            StartTls::Off,
            vec![CLIENT, SUCCESS],
            "expected stream features, got <success>",
        ),
        (
            "XEP-0198 §5",
            resuming(),
            StartTls::Off,
            with(&["<resumed xmlns='urn:xmpp:sm:3' previd='i1' h='9'/>"]),
            "established alice@lab.example/webex",
        ),
        (
            "XEP-0198 §5 more than sent",
            resuming(),
            StartTls::Off,
            with(&["<resumed xmlns='urn:xmpp:sm:3' previd='i1' h='10'/>"]),
            "the peer claims to have handled 10 stanzas, but only 9 were sent",
        ),
        (
            "another stream resumed",
            resuming(),
            StartTls::Off,
            with(&["<resumed xmlns='urn:xmpp:sm:3' previd='i2' h='9'/>"]),
            "expected an answer to resume, got <resumed>",
        ),
        (
            "no counter",
            resuming(),
            StartTls::Off,
            with(&["<resumed xmlns='urn:xmpp:sm:3' previd='i1'/>"]),
            "expected resumed with a counter, got <resumed>",
        ),
        (
            "counter over 32 bits",
            resuming(),
            StartTls::Off,
            with(&["<resumed xmlns='urn:xmpp:sm:3' previd='i1' h='4294967296'/>"]),
            "expected resumed with a counter, got <resumed>",
        ),
        (
            "XEP-0198 §5 failed, then bound",
            resuming(),
            StartTls::Off,
            with(&["<failed xmlns='urn:xmpp:sm:3' h='8'/>", BOUND, ENABLED]),
            "established alice@lab.example/webex",
        ),
    ] {
        let (got, written, _) = drive(Negotiation::new(config, tls, Instant::now()), &peer, Instant::now());
        assert_eq!(got, outcome, "{clause}; we wrote {written}");
    }
}

#[test]
fn what_a_client_writes() {
    let now = Instant::now();
    let peer = [CLIENT, PLAIN, SUCCESS, CLIENT, BIND, BOUND, ENABLED];
    let (_, written, session) = drive(Negotiation::new(password(), StartTls::Off, now), &peer, now);
    let header = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
        xmlns:stream='http://etherx.jabber.org/streams' to='lab.example' version='1.0'>";
    let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGFsaWNlAHNlY3JldA==</auth>";
    let bind = "<iq id='bind' type='set'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
        <resource>webex</resource></bind></iq>";
    let enable = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";
    assert_eq!(written, [header, auth, header, bind, enable].concat());
    let state = session.unwrap().resume_state().unwrap();
    assert_eq!((state.id.as_str(), state.inbound, state.outbound), ("i1", 0, 0));

    // PLAIN with an authorization id (link B), and the resumption of a stream.
    let service = Credentials::Service { username: "service".into(), password: "pw".into() };
    let config = c2s::Config { credentials: service, ..resuming() };
    let peer = [CLIENT, PLAIN, SUCCESS, CLIENT, BIND, "<resumed xmlns='urn:xmpp:sm:3' previd='i1' h='7'/>"];
    let (_, written, session) = drive(Negotiation::new(config, StartTls::Off, now), &peer, now);
    // "alice@lab.example" NUL "service" NUL "pw"
    assert!(written.contains(">YWxpY2VAbGFiLmV4YW1wbGUAc2VydmljZQBwdw==<"), "{written}");
    assert!(written.ends_with("<resume xmlns='urn:xmpp:sm:3' h='5' previd='i1'/>"), "{written}");
    let session = session.unwrap();
    assert_eq!((session.outcome(), session.sent(), session.received()), (Outcome::Resumed { h: 7 }, 7, 5));
}

#[test]
fn a_failed_resumption_tells_what_was_handled() {
    for (failed, h) in [
        ("<failed xmlns='urn:xmpp:sm:3' h='8'/>", Some(8)),
        ("<failed xmlns='urn:xmpp:sm:3'/>", None),
        ("<failed xmlns='urn:xmpp:sm:3' h='10'/>", None), // more than was sent is no knowledge
    ] {
        let now = Instant::now();
        let peer = [CLIENT, PLAIN, SUCCESS, CLIENT, BIND, failed, BOUND, ENABLED];
        let (_, _, session) = drive(Negotiation::new(resuming(), StartTls::Off, now), &peer, now);
        let session = session.unwrap();
        assert_eq!(session.outcome(), Outcome::ResumeFailed { h }, "{failed}");
        assert_eq!((session.sent(), session.received()), (0, 0));
    }
}

#[test]
fn a_silent_peer_is_given_up() {
    let now = Instant::now();
    let mut machine = Negotiation::new(password(), StartTls::Off, now);
    let deadline = machine.deadline().unwrap();
    assert_eq!(deadline, now + Duration::from_secs(20));
    assert_eq!(machine.handle_timeout(deadline - Duration::from_millis(1)), Ok(()));
    assert_eq!(machine.handle_timeout(deadline).unwrap_err().to_string(), "no a stream header came in time");
}
