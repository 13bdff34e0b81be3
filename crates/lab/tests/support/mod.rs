//! A lab of the IM and Presence half alone, on pipes in memory and with a paused clock.

// Each test file uses its own part of this, and a failure here is a failed test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use lab::clock::Time;
use lab::ctx::{Ctx, TRUSTED_NAME, TRUSTED_SECRET};
use lab::fault::Switch;
use lab::imp::{self, Listeners};
use lab::net::{Network, Pipes};
use lab::options::Options;
use lab::people::{Act, Puppet, PuppetError, What, jabber};
use lab::seen::{App, Client};
use xmpp_core::session_control::{Control, ControlEvent, SessionIds};
use xmpp_core::sm::{Outcome, ResumeState};
use xmpp_core::tokio::{ComponentConfig, ConnectError, Connection, Event};
use xmpp_core::xml::Compose as _;
use xmpp_core::{Element, Entropy, ns};

/// 1 May 2024, 10:00 UTC.
pub const START: Time = Time(1_714_557_600_000);

pub struct World {
    pub ctx: Arc<Ctx>,
    pub client: u16,
    pub trusted: u16,
    pub axl: u16,
}

impl World {
    /// The stand-in alone.
    pub async fn stand_in(options: Options) -> Self {
        Self::on(Network::Pipes(Pipes::default()), options).await
    }

    /// The stand-in alone on any network, on ports that are free.
    pub async fn on(network: Network, options: Options) -> Self {
        Self::build(network, options, None).await
    }

    /// The stand-in alone, with encryption.
    pub async fn with_tls(options: Options, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        Self::build(Network::Pipes(Pipes::default()), options, tls).await
    }

    async fn build(network: Network, options: Options, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let ctx = Ctx::new(options, network, START);
        let listen = |usual| ctx.network.listen(None, usual);
        let mut trusted = Vec::new();
        for _ in 0..ctx.options.imp_nodes {
            trusted.push(listen(7400).await.unwrap());
        }
        let client = listen(5222).await.unwrap();
        let listeners = Listeners { client, clients: Vec::new(), trusted, axl: listen(8443).await.unwrap() };
        let world = Self {
            client: listeners.client.port(),
            trusted: listeners.trusted[0].port(),
            axl: listeners.axl.port(),
            ctx: Arc::clone(&ctx),
        };
        imp::start(&ctx, listeners, tls);
        world
    }

    /// The stand-in with everybody's Jabber client signed in.
    pub async fn new(options: Options) -> Self {
        let world = Self::stand_in(options).await;
        jabber::start(&world.ctx, world.client, 0);
        world.idle().await;
        world
    }

    /// With default options.
    pub async fn usual() -> Self {
        Self::new(Options::default()).await
    }

    /// Waits until nothing is on its way.
    pub async fn idle(&self) {
        for _ in 0..6_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if self.ctx.idle.is_idle() {
                return;
            }
        }
        panic!("never idle");
    }

    /// Waits until a client saw a line that ends like this.
    pub async fn until(&self, name: &str, end: &str) {
        for _ in 0..6_000 {
            if self.lines(name, 0).iter().any(|line| line.ends_with(end)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} never saw `{end}`, but {:#?}", self.lines(name, 0));
    }

    pub fn puppet(&self, name: &str) -> Arc<dyn Puppet> {
        self.ctx.puppets.get(&Client::new(name, App::Jabber)).unwrap()
    }

    pub async fn say(&self, from: &str, to: &str, text: &str) -> String {
        self.puppet(from).say(to, text).await.unwrap()
    }

    pub async fn act(&self, name: &str, act: &Act) -> Result<(), PuppetError> {
        self.puppet(name).act(act).await
    }

    pub async fn does(&self, name: &str, what: What) {
        self.act(name, &Act::new(what)).await.unwrap();
    }

    pub async fn status(&self, name: &str, text: &str) {
        self.act(name, &Act { text: text.to_owned(), ..Act::new(What::Status) }).await.unwrap();
    }

    pub fn fault(&self, json: &str) {
        let switch: Switch = serde_json::from_str(json).unwrap();
        self.ctx.faults.switch(&switch).unwrap();
    }

    /// What a client saw, without presence: `dir kind peer text`.
    pub fn chat(&self, name: &str) -> Vec<String> {
        self.lines(name, 0).into_iter().filter(|line| !line.contains(" presence ")).collect()
    }

    /// What a client saw after line `after`.
    pub fn lines(&self, name: &str, after: u64) -> Vec<String> {
        let lines = self.ctx.seen.after(&Client::new(name, App::Jabber), after);
        let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        lines
            .into_iter()
            .map(|line| {
                let dir = word(serde_json::to_value(line.dir).unwrap());
                let kind = word(serde_json::to_value(line.kind).unwrap());
                format!("{dir} {kind} {} {}", line.peer, line.text)
            })
            .collect()
    }

    /// What a client last saw of a person's presence.
    pub fn sees(&self, name: &str, whom: &str) -> String {
        let start = format!("in presence {whom} ");
        let lines = self.lines(name, 0);
        lines.iter().rev().find_map(|line| line.strip_prefix(&start)).unwrap_or("Offline").to_owned()
    }
}

/// A component on the trusted link.
pub struct Link {
    pub connection: Connection,
    pub control: Control,
}

impl Link {
    pub async fn connect(world: &World, resume: Option<ResumeState>) -> Self {
        Self::try_connect(world, resume, TRUSTED_SECRET).await.unwrap()
    }

    pub async fn try_connect(
        world: &World,
        resume: Option<ResumeState>,
        secret: &str,
    ) -> Result<Self, ConnectError> {
        let io = world.ctx.network.dial("127.0.0.1", world.trusted).await.unwrap();
        let entropy = Entropy::from_bytes(world.ctx.rng.bytes());
        let mut config = ComponentConfig::new(TRUSTED_NAME, secret.into(), entropy);
        config.manage = Some("lab.example".to_owned());
        config.resume = resume;
        let connection = Connection::component(Box::new(io), config).await?;
        Ok(Self { connection, control: Control::new(TRUSTED_NAME) })
    }

    /// The next thing that happens on the link, but for acknowledgements. What comes is acknowledged at once.
    pub async fn next(&mut self) -> ControlEvent {
        let event = self.next_unacknowledged().await;
        let received = self.connection.received();
        self.connection.acknowledge(received);
        event
    }

    pub async fn next_unacknowledged(&mut self) -> ControlEvent {
        loop {
            let event = tokio::time::timeout(Duration::from_secs(900), self.connection.next());
            match event.await.expect("nothing came on the link") {
                Event::Stanza { element, .. } => return self.control.handle(element),
                Event::Closed(reason) => panic!("the link is closed: {reason:?}"),
                _ => {}
            }
        }
    }

    /// Starts a session, and answers its name and the requests of others that came before.
    pub async fn start(&mut self, jid: &str) -> SessionIds {
        let request = self.control.start("r1", &jid.parse().unwrap());
        self.connection.send(&request);
        loop {
            match self.next().await {
                ControlEvent::Started { request, session, jid: bound } => {
                    assert_eq!((request.as_str(), bound.as_str()), ("r1", jid));
                    return session;
                }
                ControlEvent::Refused { .. } => panic!("{jid} was refused"),
                _ => {}
            }
        }
    }

    /// A session with copies that is available as Webex shows it.
    pub async fn open(&mut self, jid: &str) -> SessionIds {
        let session = self.start(jid).await;
        self.send(&session, "<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
        self.send(&session, "<presence><status>@ Webex</status></presence>");
        self.settle(&session).await;
        session
    }

    /// Sends a stanza of a session; answers its position.
    pub fn send(&mut self, session: &SessionIds, xml: &str) -> u64 {
        let stanza = stanza(xml);
        let route = self.control.route(session, stanza);
        self.connection.send(&route)
    }

    /// Waits until the server has handled everything that was sent, and drops what comes meanwhile.
    pub async fn settle(&mut self, session: &SessionIds) {
        self.collect(session).await;
    }

    /// All stanzas that the session gets until a ping is answered.
    pub async fn collect(&mut self, session: &SessionIds) -> Vec<Element> {
        self.send(session, "<iq type='get' id='settle' to='lab.example'><ping xmlns='urn:xmpp:ping'/></iq>");
        let mut stanzas = Vec::new();
        loop {
            if let ControlEvent::Stanza { session: whose, stanza } = self.next().await {
                if stanza.attr("id") == Some("settle") && whose == *session {
                    return stanzas;
                }
                if whose == *session {
                    stanzas.push(stanza);
                }
            }
        }
    }

    /// What a session and another get until both are answered a ping.
    pub async fn collect_of(
        &mut self,
        session: &SessionIds,
        others: &[&SessionIds],
    ) -> (Vec<Element>, Vec<Element>) {
        const PING: &str = "<iq type='get' id='settle' to='lab.example'><ping xmlns='urn:xmpp:ping'/></iq>";
        self.send(session, PING);
        for other in others {
            self.send(other, PING);
        }
        let (mut own, mut rest, mut answered) = (Vec::new(), Vec::new(), 0);
        while answered <= others.len() {
            if let ControlEvent::Stanza { session: whose, stanza } = self.next().await {
                if stanza.attr("id") == Some("settle") {
                    answered += 1;
                } else if whose == *session {
                    own.push(stanza);
                } else if others.contains(&&whose) {
                    rest.push(stanza);
                }
            }
        }
        (own, rest)
    }

    /// Waits until the server has acknowledged a position.
    pub async fn acked(&mut self, position: u64) {
        self.connection.request_ack();
        loop {
            match self.connection.next().await {
                Event::Acked(h) if h >= position => return,
                Event::Closed(reason) => panic!("the link is closed: {reason:?}"),
                _ => {}
            }
        }
    }

    /// Reads until the connection is lost; answers what would be needed to resume it.
    pub async fn lose(mut self) -> ResumeState {
        let lost = async { while !matches!(self.connection.next().await, Event::Closed(_)) {} };
        tokio::time::timeout(Duration::from_secs(60), lost).await.expect("the link stays up");
        self.connection.resume_state().unwrap()
    }

    pub fn resumed(&self) -> Option<u64> {
        match self.connection.outcome() {
            Outcome::Resumed { h } => Some(h),
            _ => None,
        }
    }
}

/// A stanza written without its namespace.
pub fn stanza(xml: &str) -> Element {
    let at = xml.find([' ', '/', '>']).unwrap();
    format!("{} xmlns='jabber:client'{}", &xml[..at], &xml[at..]).parse().unwrap()
}

/// The bodies of messages in their forms: `direct`, `received` or `sent`, with `late` where there is a stamp.
pub fn bodies(stanzas: &[Element]) -> Vec<String> {
    let body = |message: &Element| message.get_child("body", ns::CLIENT).map(Element::text);
    let late = |message: &Element| if message.has_child("delay", ns::DELAY) { " late" } else { "" };
    stanzas
        .iter()
        .filter_map(|outer| {
            for form in ["received", "sent"] {
                if let Some(wrapper) = outer.get_child(form, ns::CARBONS) {
                    let inner =
                        wrapper.get_child("forwarded", ns::FORWARD)?.get_child("message", ns::CLIENT)?;
                    return Some(format!("{form}{} {}", late(outer), body(inner)?));
                }
            }
            Some(format!("direct{} {}", late(outer), body(outer)?))
        })
        .collect()
}

/// A message from nobody in particular, for a session to send.
pub fn message(to: &str, id: &str, text: &str) -> String {
    let element = Element::bare("body", ns::CLIENT).with_text(text);
    format!("<message to='{to}' type='chat' id='{id}'><body>{}</body></message>", element.text())
}
