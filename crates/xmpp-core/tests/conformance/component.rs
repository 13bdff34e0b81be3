//! The initiating side of a component's stream.

use std::time::Instant;

use xmpp_core::component::{self, Handshake};
use xmpp_core::sm::ResumeState;

use crate::{COMPONENT, ENABLED, drive, entropy};

#[test]
fn component_streams() {
    let config = |manage: bool| {
        let mut config = component::Config::new("connector.lab.example", "componentsecret".into(), entropy());
        config.manage = manage.then(|| "lab.example".into());
        config
    };
    let resume = |h| ResumeState {
        id: "i1".into(),
        jid: "connector.lab.example".parse().unwrap(),
        inbound: 3,
        outbound: h,
    };
    let resuming = || component::Config { resume: Some(resume(4)), ..config(true) };
    // The ping's id, which is made of the entropy.
    let (_, written, _) = drive(
        Handshake::new(config(true), Instant::now()).unwrap(),
        &[COMPONENT, "<handshake/>"],
        Instant::now(),
    );
    let id = written.split("id='").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    let pong: &'static str = format!("<iq type='result' id='{id}' from='lab.example'/>").leak();
    let wrong = "<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
    let unknown = "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
    let no_id = COMPONENT.replace("id='S1' ", "id='' ");
    for (clause, config, peer, outcome, managed) in [
        (
            "XEP-0114 §3",
            config(false),
            vec![COMPONENT, "<handshake/>"],
            "established connector.lab.example",
            false,
        ),
        (
            "wrong secret",
            config(false),
            vec![COMPONENT, wrong],
            "the peer ended the stream: not-authorized",
            false,
        ),
        (
            "unknown name, empty id",
            config(false),
            vec![&no_id, unknown],
            "the peer ended the stream: host-unknown",
            false,
        ),
        (
            "stream management",
            config(true),
            vec![COMPONENT, "<handshake/>", ENABLED],
            "established connector.lab.example",
            true,
        ),
        (
            "refused (Prosody)",
            config(true),
            vec![COMPONENT, "<handshake/>", "<failed xmlns='urn:xmpp:sm:3'/>"],
            "established connector.lab.example",
            false,
        ),
        (
            "unknown (ejabberd)",
            config(true),
            vec![COMPONENT, "<handshake/>", "<presence/>", pong],
            "established connector.lab.example",
            false,
        ),
        (
            "resumed",
            resuming(),
            vec![COMPONENT, "<handshake/>", "<resumed xmlns='urn:xmpp:sm:3' previd='i1' h='4'/>"],
            "established connector.lab.example",
            true,
        ),
        (
            "resume failed, enabled",
            resuming(),
            vec![COMPONENT, "<handshake/>", "<failed xmlns='urn:xmpp:sm:3'/>", pong, ENABLED],
            "established connector.lab.example",
            true,
        ),
        (
            "resume unknown",
            resuming(),
            vec![COMPONENT, "<handshake/>", pong],
            "established connector.lab.example",
            false,
        ),
        (
            "h too high",
            resuming(),
            vec![COMPONENT, "<handshake/>", "<resumed xmlns='urn:xmpp:sm:3' h='5'/>"],
            "the peer claims to have handled 5 stanzas, but only 4 were sent",
            false,
        ),
        ("nobody answers", config(true), vec![COMPONENT, "<handshake/>"], "waiting", false),
    ] {
        let machine = Handshake::new(config, Instant::now()).unwrap();
        let (got, written, session) = drive(machine, &peer, Instant::now());
        assert_eq!(got, outcome, "{clause}; we wrote {written}");
        assert_eq!(session.is_some_and(|session| session.is_managed()), managed, "{clause}");
    }

    // hex(sha1("S1" + "componentsecret")); nothing is sent where the stream has no id.
    let digest = "<handshake>1fb08e33ae1ae74fba161ab8e6e6e43761d07888</handshake>";
    let drive_to = |header: &str| {
        drive(Handshake::new(config(false), Instant::now()).unwrap(), &[header], Instant::now()).1
    };
    let written = drive_to(COMPONENT);
    assert!(written.ends_with(digest), "{written}");
    assert!(!drive_to(&no_id).contains("<handshake"));
}

#[test]
fn too_much_before_the_stream_is_up() {
    let config = component::Config {
        manage: Some("lab.example".into()),
        ..component::Config::new("connector.lab.example", "x".into(), entropy())
    };
    let flood = "<presence/>".repeat(257);
    let machine = Handshake::new(config, Instant::now()).unwrap();
    let (got, ..) = drive(machine, &[COMPONENT, "<handshake/>", &flood], Instant::now());
    assert_eq!(got, "too many stanzas before the stream was up");
}
