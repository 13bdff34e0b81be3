//! Lines into each kind of stream, from its first byte to its end: XML of a peer, passing time, and what the owner does.
//!
//! The first byte chooses the machine, the second its options. Then each line is a step: `!7` lets seven seconds
//! pass, `+` sends a stanza, `a` acknowledges all that came, `r` asks for an acknowledgement, `c` closes; anything
//! else is bytes from the peer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use xmpp_core::accept::{self, Authenticator, ClientAcceptor, ComponentAcceptor};
use xmpp_core::c2s::{self, Negotiation, StartTls};
use xmpp_core::component::{self, Handshake};
use xmpp_core::negotiation::{Machine, Output};
use xmpp_core::router_link::{self, Login};
use xmpp_core::sasl::Credentials;
use xmpp_core::session::{Event, Session};
use xmpp_core::sm::{Resumable, ResumeRefused, ResumeRegistry, ResumeState, widen_below};
use xmpp_core::xml::{Compose as _, Limits, Reader};
use xmpp_core::{BareJid, Element, Entropy, Jid, Secret};

const DOMAIN: &str = "lab.example";

pub(crate) fn run(data: &[u8]) {
    let [machine, options, lines @ ..] = data else { return };
    let now = start();
    let Some(machine) = machine_of(*machine, *options, now) else { return };
    let mut end =
        End { machine, session: None, reader: Reader::new(Limits::default()), now, sent: 0, over: false };
    end.drain();
    for line in lines.split(|byte| *byte == b'\n') {
        if end.over {
            return;
        }
        end.step(line);
    }
}

/// Any moment will do: there is no other way to make an `Instant`.
#[allow(clippy::disallowed_methods, reason = "which moment it is changes nothing")]
fn start() -> Instant {
    Instant::now()
}

fn entropy() -> Entropy {
    Entropy::from_bytes([7; 32])
}

fn secret() -> Secret {
    "secret".into()
}

fn machine_of(machine: u8, options: u8, now: Instant) -> Option<Box<dyn Machine>> {
    let flag = |bit: u8| options & (1 << bit) != 0;
    let starttls = if flag(0) { StartTls::Required } else { StartTls::Off };
    let state = |jid: &str| ResumeState {
        id: "stream of alice".into(),
        jid: Jid::new(jid).expect("a JID"),
        inbound: 3,
        outbound: 5,
    };
    Some(match machine % 5 {
        0 => {
            let credentials = match options >> 5 {
                0..=3 => Credentials::Password(secret()),
                4 => Credentials::Service { username: "service".into(), password: secret() },
                5 => Credentials::External,
                _ => Credentials::Token(secret()),
            };
            let jid: BareJid = "alice@lab.example".parse().expect("a JID");
            let mut config = c2s::Config::new(jid, credentials, entropy());
            config.manage = flag(1);
            config.resume = flag(2).then(|| state("alice@lab.example/webex"));
            config.skip = u64::from(flag(3));
            Box::new(Negotiation::new(config, starttls, now))
        }
        1 => {
            let mut config = component::Config::new("connector.lab.example", secret(), entropy());
            config.manage = flag(1).then(|| DOMAIN.to_owned());
            config.resume = (flag(1) && flag(2)).then(|| state("connector.lab.example"));
            config.skip = u64::from(flag(3));
            Box::new(Handshake::new(config, now).ok()?)
        }
        2 => Box::new(Login::new(router_link::Config::new("jabberd", secret(), entropy()), now).ok()?),
        kind => {
            let mut config = accept::Config::new(vec![DOMAIN.into()], entropy());
            config.registry = flag(1).then(|| Arc::new(Registry) as Arc<dyn ResumeRegistry>);
            if kind == 3 {
                Box::new(ClientAcceptor::new(config, starttls, flag(4), Arc::new(Accounts), now))
            } else {
                Box::new(ComponentAcceptor::new(config, Arc::new(Accounts), now))
            }
        }
    })
}

struct Accounts;

impl Authenticator for Accounts {
    fn password(&self, account: &BareJid) -> Option<Secret> {
        (account.as_str() == "alice@lab.example").then(secret)
    }

    fn component(&self, name: &str) -> Option<Secret> {
        (name == "connector.lab.example").then(secret)
    }
}

/// Remembers one stream, of which five stanzas went out and three came in.
struct Registry;

impl ResumeRegistry for Registry {
    fn enable(&self, _: &Jid) -> Option<String> {
        Some("new stream".into())
    }

    fn max_seconds(&self) -> Option<u32> {
        Some(60)
    }

    fn resume(&self, id: &str, h: u32, jid: &Jid) -> Result<Resumable, ResumeRefused> {
        if id != "stream of alice" {
            return Err(ResumeRefused::default());
        }
        let outbound = widen_below(5, h).ok_or(ResumeRefused { h: Some(3) })?;
        Ok(Resumable { jid: jid.clone(), inbound: 3, outbound })
    }
}

/// One end of a stream, with what it has promised so far.
struct End {
    machine: Box<dyn Machine>,
    session: Option<Session>,
    reader: Reader,
    now: Instant,
    /// The highest position that a stanza of ours has had.
    sent: u64,
    over: bool,
}

impl End {
    fn step(&mut self, line: &[u8]) {
        match (line, &mut self.session) {
            ([b'!', digits @ ..], _) => {
                let seconds =
                    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
                self.wait(Duration::from_secs(seconds % 1_000));
            }
            (b"+", Some(session)) => {
                let stanza = Element::bare("message", "jabber:client").with_attr("to", "bob@lab.example");
                let position = session.send(&stanza);
                assert!(position >= self.sent, "positions go back");
                self.sent = position;
            }
            (b"a", Some(session)) => session.acknowledge(session.received()),
            (b"r", Some(session)) => session.request_ack(),
            (b"c", Some(session)) => session.close(),
            (bytes, _) => {
                self.reader.feed(bytes);
                self.read();
            }
        }
        self.drain();
    }

    fn read(&mut self) {
        while !self.over {
            match self.reader.next() {
                Ok(None) => return,
                Ok(Some(frame)) => match &mut self.session {
                    Some(session) => session.handle(frame, self.now),
                    None => self.over = self.machine.handle(frame, self.now).is_err(),
                },
                Err(error) => match &mut self.session {
                    Some(session) => {
                        session.fail(error);
                        self.drain();
                        assert!(self.over, "a stream outlives bytes that are no XML");
                    }
                    None => self.over = true,
                },
            }
            self.drain();
        }
    }

    /// Lets time pass, waking the machine whenever it wants to be; a deadline that is served moves on.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..10_000 {
            let due = self.session.as_ref().map_or_else(|| self.machine.deadline(), Session::deadline);
            let Some(due) = due.filter(|due| *due <= until && !self.over) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(due);
            match &mut self.session {
                Some(session) => session.handle_timeout(self.now),
                None => self.over = self.machine.handle_timeout(self.now).is_err(),
            }
            self.drain();
        }
        panic!("a deadline that never moves on");
    }

    fn drain(&mut self) {
        while self.session.is_none() {
            match self.machine.poll_output() {
                None => break,
                Some(Output::Write(_)) => {}
                Some(Output::StartTls) => self.machine.encrypted(self.now),
                Some(Output::Restart) => self.reader.restart(),
                Some(Output::Established(session)) => {
                    self.sent = session.sent();
                    self.session = Some(*session);
                }
            }
        }
        let Some(session) = &mut self.session else { return };
        let mut came = 0;
        while let Some(event) = session.poll_event() {
            match event {
                Event::Stanza { n, .. } => {
                    assert!(n >= came, "counts go back");
                    came = n;
                }
                Event::Acked(h) => assert!(h <= session.sent(), "more is acknowledged than was sent"),
                Event::Managed(_) => self.sent = session.sent(),
                Event::Closed(_) => self.over = true,
                _ => {}
            }
        }
        session.answer();
        let written = session.output().len();
        session.advance(written, self.now);
        assert!(!session.answer() && session.output().is_empty());
    }
}
