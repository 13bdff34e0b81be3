//! Clause, input, outcome: one row each. What the documents ask for, and what bad input comes to.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // a test may, and it starts its own clock

mod accept;
mod client;
mod component;
mod router_link;
mod session;
mod xml;

use std::time::Instant;

use xmpp_core::negotiation::{Machine, Output};
use xmpp_core::sasl::Credentials;
use xmpp_core::session::Session;
use xmpp_core::sm::ResumeState;
use xmpp_core::xml::{Limits, Reader};
use xmpp_core::{Entropy, c2s};

pub(crate) const CLIENT: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' id='s1' from='lab.example' \
    xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";
pub(crate) const COMPONENT: &str = "<stream:stream xmlns='jabber:component:accept' id='S1' from='connector.lab.example' \
    xmlns:stream='http://etherx.jabber.org/streams'>";
pub(crate) const PLAIN: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>PLAIN</mechanism></mechanisms></stream:features>";
pub(crate) const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
pub(crate) const BIND: &str = "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>\
    <sm xmlns='urn:xmpp:sm:3'/></stream:features>";
pub(crate) const BOUND: &str = "<iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
    <jid>alice@lab.example/webex</jid></bind></iq>";
pub(crate) const ENABLED: &str = "<enabled xmlns='urn:xmpp:sm:3' id='i1' resume='true'/>";

/// Drives a machine with what the peer sends: how it ends, everything written, and the session.
pub(crate) fn drive(
    mut machine: impl Machine,
    peer: &[&str],
    now: Instant,
) -> (String, String, Option<Box<Session>>) {
    let mut reader = Reader::new(Limits::default());
    let mut written = String::new();
    let mut session = None;
    let mut drain = |machine: &mut dyn Machine, reader: &mut Reader| {
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Write(bytes) => written.push_str(std::str::from_utf8(&bytes).unwrap()),
                Output::Restart => reader.restart(),
                Output::StartTls => {
                    written.push_str("[TLS]");
                    *reader = Reader::new(Limits::default());
                    machine.encrypted(now);
                }
                Output::Established(established) => session = Some(established),
            }
        }
    };
    drain(&mut machine, &mut reader);
    let mut outcome = "waiting".to_owned();
    'peer: for text in peer {
        reader.feed(text.as_bytes());
        while let Some(frame) = reader.next().unwrap() {
            let result = machine.handle(frame, now);
            drain(&mut machine, &mut reader);
            if let Err(error) = result {
                outcome = error.to_string();
                break 'peer;
            }
        }
    }
    if let Some(session) = &session {
        outcome = format!("established {}", session.jid());
    }
    (outcome, written, session)
}

pub(crate) fn entropy() -> Entropy {
    Entropy::from_bytes([7; 32])
}

pub(crate) fn alice(credentials: Credentials) -> c2s::Config {
    let mut config = c2s::Config::new("alice@lab.example".parse().unwrap(), credentials, entropy());
    config.resource = Some("webex".into());
    config
}

pub(crate) fn password() -> c2s::Config {
    alice(Credentials::Password("secret".into()))
}

pub(crate) fn resuming() -> c2s::Config {
    let jid = "alice@lab.example/webex".parse().unwrap();
    let resume = ResumeState { id: "i1".into(), jid, inbound: 5, outbound: 9 };
    c2s::Config { resume: Some(resume), ..password() }
}
