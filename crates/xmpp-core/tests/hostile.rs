//! Damaged conversations: every machine, whatever it is fed, ends in an error or waits, and never panics.
//!
//! Seeded, so that a failure comes again; the seed is in its message.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // a test may, and it starts its own clock

use std::sync::Arc;
use std::time::{Duration, Instant};

use xmpp_core::accept::{self, Authenticator, ClientAcceptor, ComponentAcceptor};
use xmpp_core::c2s::{self, Negotiation, StartTls};
use xmpp_core::component::{self, Handshake};
use xmpp_core::ext::carbons;
use xmpp_core::negotiation::{Machine, Output};
use xmpp_core::sasl::{Credentials, Mechanism};
use xmpp_core::session::{Event, Session};
use xmpp_core::session_control::{self, Control};
use xmpp_core::sm::{Resumable, ResumeRefused, ResumeRegistry, ResumeState};
use xmpp_core::stanza;
use xmpp_core::xml::{Limits, Reader};
use xmpp_core::{BareJid, Element, Entropy, Jid, Secret, ns};

const ROUNDS: u64 = 1_500;

/// A small generator (splitmix64): equal seeds, equal damage.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Both sides of good conversations, element by element.
const GOOD: &[&str] = &[
    "<?xml version='1.0'?>",
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1' to='lab.example' version='1.0'>",
    "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' id='1' to='connector.lab.example'>",
    "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms></stream:features>",
    "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1</mechanism></mechanisms></stream:features>",
    "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>",
    "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGFsaWNlAHNlY3JldA==</auth>",
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>biwsbj1hbGljZSxyPWFiYw==</auth>",
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='CISCO-VTG-TOKEN'>dXNlcmlkPWEAdG9rZW49Yg==</auth>",
    "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>cj1hYmMscz1RVUpELGk9NDA5Ng==</challenge>",
    "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>Yz1iaXdzLHI9YSxwPUFBQUE=</response>",
    "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
    "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>dj1BQUFB</success>",
    "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>",
    "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><sm xmlns='urn:xmpp:sm:3'/></stream:features>",
    "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind></iq>",
    "<iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>alice@lab.example/webex</jid></bind></iq>",
    "<enable xmlns='urn:xmpp:sm:3' resume='true'/>",
    "<enabled xmlns='urn:xmpp:sm:3' id='i' resume='true'/>",
    "<resume xmlns='urn:xmpp:sm:3' previd='i' h='1'/>",
    "<resumed xmlns='urn:xmpp:sm:3' previd='i' h='1'/>",
    "<failed xmlns='urn:xmpp:sm:3' h='1'/>",
    "<handshake>1fb08e33ae1ae74fba161ab8e6e6e43761d07888</handshake>",
    "<handshake/>",
    "<r xmlns='urn:xmpp:sm:3'/>",
    "<a xmlns='urn:xmpp:sm:3' h='1'/>",
    "<message type='chat' from='bob@lab.example' id='m'><body>hi &amp; bye</body></message>",
    "<message from='alice@lab.example'><received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/></forwarded></received></message>",
    "<presence from='a@b/c'><show>away</show></presence>",
    "<iq type='get' id='x' from='lab.example'><ping xmlns='urn:xmpp:ping'/></iq>",
    "<route xmlns='http://jabberd.jabberstudio.org/ns/component/1.0' to='c' from='sm'><sc:session xmlns:sc='http://jabberd.jabberstudio.org/ns/session/1.0' sc:c2s='1' sc:sm='f' action='started' target='alice@lab.example/webex' id='r1'/></route>",
    "<route xmlns='http://jabberd.jabberstudio.org/ns/component/1.0' to='c' from='sm'><message xmlns='jabber:client' xmlns:sc='http://jabberd.jabberstudio.org/ns/session/1.0' sc:c2s='1' sc:sm='f'/></route>",
    "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
    "</stream:stream>",
];

/// What damage puts in: the characters that mean something.
const SPICE: &[&str] = &[
    "<",
    ">",
    "/",
    "'",
    "=",
    "&",
    "&lt;",
    "&#0;",
    "\u{0}",
    "é",
    "]]>",
    "<![CDATA[",
    "<!--",
    "<?",
    " ",
    "4294967296",
    "-1",
    "xmlns='x'",
    "\u{fffe}",
];

/// A conversation in roughly the right order, damaged here and there.
fn conversation(random: &mut Random, order: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &index in order {
        let index = if random.below(6) == 0 { random.below(GOOD.len()) } else { index };
        bytes.extend_from_slice(GOOD[index].as_bytes());
    }
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            1 => drop(bytes.drain(at..(at + random.below(20)).min(bytes.len()))),
            2 => drop(bytes.splice(at..at, random.pick(SPICE).bytes())),
            _ => {
                let end = (at + random.below(200)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, copy));
            }
        }
    }
    bytes
}

/// Feeds a machine and then its session, in pieces; everything that reaches an owner is looked at.
fn feed(mut machine: impl Machine, bytes: &[u8], random: &mut Random, now: Instant) {
    let limits = Limits { depth: 8, stanza_bytes: 4_096, attributes: 16, token_bytes: 512 };
    let mut reader = Reader::new(limits);
    let mut session = None;
    let mut rest = bytes;
    loop {
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Restart => reader.restart(),
                Output::StartTls => machine.encrypted(now),
                Output::Established(established) => session = Some(*established),
                Output::Write(_) => {}
            }
        }
        let frame = match reader.next() {
            Ok(Some(frame)) => frame,
            Err(error) => {
                if let Some(session) = &mut session {
                    session.fail(error);
                }
                break;
            }
            Ok(None) if rest.is_empty() => break,
            Ok(None) => {
                let (piece, more) = rest.split_at(random.below(rest.len()) + 1);
                reader.feed(piece);
                rest = more;
                continue;
            }
        };
        match &mut session {
            None => {
                if machine.handle(frame, now).is_err() {
                    break;
                }
            }
            Some(session) => {
                session.handle(frame, now);
                look_at(session, random);
            }
        }
    }
    let _ = machine.handle_timeout(now + Duration::from_secs(60));
    if let Some(session) = &mut session {
        session.handle_timeout(now + Duration::from_secs(100));
        session.close();
        look_at(session, random);
        let _ = session.resume_state();
    }
}

fn look_at(session: &mut Session, random: &mut Random) {
    let mut control = Control::new("connector.lab.example");
    control.start("r1", &"alice@lab.example/webex".parse().unwrap());
    while let Some(event) = session.poll_event() {
        let Event::Stanza { element, n } = event else { continue };
        if random.below(2) == 0 {
            session.acknowledge(n);
        }
        let _ = stanza::error(&element, stanza::ErrorType::Cancel, "service-unavailable");
        let _ = session_control::parse_request(&element);
        let _ = carbons::unwrap(element.clone(), &"alice@lab.example".parse().unwrap());
        let _ = control.handle(element.clone());
        session.send(&element);
    }
    if random.below(4) == 0 {
        session.send(&Element::bare("message", ns::CLIENT));
        session.request_ack();
    }
    session.answer();
    let written = session.output().len();
    session.advance(random.below(written + 1), Instant::now());
}

struct Anybody;

impl Authenticator for Anybody {
    fn mechanisms(&self, _: bool) -> Vec<Mechanism> {
        vec![Mechanism::ScramSha1, Mechanism::Plain, Mechanism::External, Mechanism::CiscoVtgToken]
    }

    fn password(&self, _: &BareJid) -> Option<Secret> {
        Some("secret".into())
    }

    fn component(&self, _: &str) -> Option<Secret> {
        Some("componentsecret".into())
    }
}

impl ResumeRegistry for Anybody {
    fn enable(&self, _: &Jid) -> Option<String> {
        Some("i".into())
    }

    fn resume(&self, _: &str, h: u32, jid: &Jid) -> Result<Resumable, ResumeRefused> {
        Ok(Resumable { jid: jid.clone(), inbound: 7, outbound: h.into() })
    }
}

fn entropy() -> Entropy {
    Entropy::from_bytes([7; 32])
}

fn resume(jid: &str) -> ResumeState {
    ResumeState { id: "i".into(), jid: jid.parse().unwrap(), inbound: 3, outbound: 5 }
}

#[test]
fn initiating_machines() {
    for seed in 0..ROUNDS {
        println!("seed {seed}");
        let (mut random, now) = (Random(seed), Instant::now());
        let mut config = c2s::Config::new(
            "alice@lab.example".parse().unwrap(),
            Credentials::Password("x".into()),
            entropy(),
        );
        config.resume = (seed % 2 == 0).then(|| resume("alice@lab.example/webex"));
        let bytes =
            conversation(&mut random, &[0, 1, 3, 13, 1, 16, 22, 18, 20, 26, 27, 28, 29, 31, 27, 28, 35]);
        feed(Negotiation::new(config, StartTls::Allowed, now), &bytes, &mut random, now);

        let mut config = component::Config::new("connector.lab.example", "componentsecret".into(), entropy());
        config.manage = Some("lab.example".into());
        config.resume = (seed % 2 == 0).then(|| resume("connector.lab.example"));
        let bytes = conversation(&mut random, &[0, 2, 25, 22, 20, 32, 33, 26, 27, 33, 30, 35]);
        feed(Handshake::new(config, now).unwrap(), &bytes, &mut random, now);
    }
}

#[test]
fn accepting_machines() {
    for seed in 0..ROUNDS {
        println!("seed {seed}");
        let (mut random, now) = (Random(seed), Instant::now());
        let config = || {
            let mut config = accept::Config::new(vec!["lab.example".into()], entropy());
            config.registry = Some(Arc::new(Anybody));
            config
        };
        let bytes = conversation(&mut random, &[0, 1, 8, 1, 17, 19, 28, 26, 27, 30, 31, 21, 28, 35]);
        let acceptor = ClientAcceptor::new(config(), StartTls::Allowed, false, Arc::new(Anybody), now);
        feed(acceptor, &bytes, &mut random, now);
        let bytes = conversation(&mut random, &[0, 2, 24, 21, 32, 33, 26, 27, 19, 31, 35]);
        feed(ComponentAcceptor::new(config(), Arc::new(Anybody), now), &bytes, &mut random, now);
    }
}
