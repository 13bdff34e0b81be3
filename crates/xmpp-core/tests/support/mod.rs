//! What the tests of the driver share: accounts, a registry that keeps streams, pipes that can be cut.

#![allow(dead_code, unreachable_pub)] // each test file uses its own part

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use xmpp_core::sasl::{Credentials, Mechanism};
use xmpp_core::sm::{Resumable, ResumeRefused, ResumeRegistry, widen_below};
use xmpp_core::tokio::{
    AcceptConfig, Authenticator, BoxIo, ClientConfig, ComponentConfig, Connection, Event, Outcome, Tls,
};
use xmpp_core::xml::Compose as _;
use xmpp_core::{BareJid, Element, Entropy, Jid, Secret, accept, c2s, ns};

pub fn entropy() -> Entropy {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    Entropy::from_bytes([NEXT.fetch_add(1, Ordering::Relaxed); 32])
}

/// Everybody's password is `secret`; `service` may act for everybody; tokens are `token`.
pub struct Accounts;

impl Authenticator for Accounts {
    fn mechanisms(&self, _: bool) -> Vec<Mechanism> {
        vec![
            Mechanism::ScramSha256,
            Mechanism::ScramSha1,
            Mechanism::Plain,
            Mechanism::External,
            Mechanism::CiscoVtgToken,
        ]
    }

    fn password(&self, account: &BareJid) -> Option<Secret> {
        let known = ["alice", "bob", "service"];
        known.contains(&account.node()?.as_str()).then(|| "secret".into())
    }

    fn authorize(&self, authenticated: &BareJid, asked: &BareJid) -> bool {
        authenticated == asked || authenticated.as_str() == "service@lab.example"
    }

    fn token(&self, account: &BareJid, token: &str) -> bool {
        account.as_str() == "alice@lab.example" && token == "token"
    }

    fn external(&self, _: &str, asked: Option<&str>, _: Option<&[u8]>) -> Option<BareJid> {
        asked.filter(|asked| *asked == "alice@lab.example").and_then(|asked| asked.parse().ok())
    }

    fn component(&self, name: &str) -> Option<Secret> {
        (name == "connector.lab.example").then(|| "componentsecret".into())
    }
}

/// Offers one mechanism only.
pub struct Only(pub Mechanism);

impl Authenticator for Only {
    fn mechanisms(&self, _: bool) -> Vec<Mechanism> {
        vec![self.0]
    }

    fn password(&self, account: &BareJid) -> Option<Secret> {
        Accounts.password(account)
    }
}

/// Streams that can be resumed: what the server knew when the connection was lost.
#[derive(Default)]
pub struct Registry {
    pub streams: Mutex<BTreeMap<String, Kept>>,
}

#[derive(Clone)]
pub struct Kept {
    pub jid: Jid,
    pub inbound: u64,
    pub outbound: u64,
}

impl Registry {
    /// Remembers a stream as the server saw it last.
    pub fn keep(&self, server: &Connection) {
        let state = server.resume_state().expect("the stream is resumable");
        let kept = Kept { jid: state.jid, inbound: server.received(), outbound: state.outbound };
        self.streams.lock().unwrap().insert(state.id, kept);
    }
}

impl ResumeRegistry for Registry {
    fn enable(&self, jid: &Jid) -> Option<String> {
        Some(format!("stream of {jid}"))
    }

    fn max_seconds(&self) -> Option<u32> {
        Some(60)
    }

    fn resume(&self, id: &str, h: u32, jid: &Jid) -> Result<Resumable, ResumeRefused> {
        let streams = self.streams.lock().unwrap();
        let kept = streams.get(id).ok_or_else(ResumeRefused::default)?;
        if kept.jid.to_bare() != jid.to_bare() {
            return Err(ResumeRefused::default());
        }
        let outbound = widen_below(kept.outbound, h).ok_or(ResumeRefused { h: Some(kept.inbound) })?;
        Ok(Resumable { jid: kept.jid.clone(), inbound: kept.inbound, outbound })
    }
}

pub fn pipe() -> (BoxIo, BoxIo) {
    let (a, b) = tokio::io::duplex(1 << 16);
    (Box::new(a), Box::new(b))
}

pub fn accept_config(registry: Option<Arc<Registry>>) -> AcceptConfig {
    let mut acceptor = accept::Config::new(vec!["lab.example".into(), "lab2.example".into()], entropy());
    acceptor.registry = registry.map(|registry| registry as Arc<dyn ResumeRegistry>);
    AcceptConfig::new(acceptor)
}

pub fn client_config(credentials: Credentials) -> ClientConfig {
    let mut config = c2s::Config::new("alice@lab.example".parse().unwrap(), credentials, entropy());
    config.resource = Some("webex".into());
    ClientConfig::new(config, Tls::Off)
}

pub fn alice() -> ClientConfig {
    client_config(Credentials::Password("secret".into()))
}

pub fn connector() -> ComponentConfig {
    ComponentConfig::new("connector.lab.example", "componentsecret".into(), entropy())
}

/// The connector's link with stream management.
pub fn managed_connector() -> ComponentConfig {
    ComponentConfig { manage: Some("lab.example".into()), ..connector() }
}

/// Both ends of a managed client stream; what the server reported about it comes third.
pub async fn client_pair(client: ClientConfig, server: AcceptConfig) -> (Connection, Connection, Outcome) {
    let (near, far) = pipe();
    let server = async {
        let server = Connection::accept_client(far, server, Arc::new(Accounts)).await;
        managed(server.expect("the client is accepted")).await
    };
    let (client, (server, outcome)) = tokio::join!(Connection::client(near, client), server);
    (client.expect("the client connects"), server, outcome)
}

/// Both ends of a managed link; likewise.
pub async fn component_pair(
    client: ComponentConfig,
    server: AcceptConfig,
) -> (Connection, Connection, Outcome) {
    let (near, far) = pipe();
    let server = async {
        let server = Connection::accept_component(far, server, Arc::new(Accounts)).await;
        managed(server.expect("the component is accepted")).await
    };
    let (client, (server, outcome)) = tokio::join!(Connection::component(near, client), server);
    (client.expect("the component connects"), server, outcome)
}

/// Waits until the peer of an accepted stream has settled stream management.
async fn managed(mut server: Connection) -> (Connection, Outcome) {
    loop {
        match server.next().await {
            Event::Managed(outcome) => return (server, outcome),
            Event::Stanza { element, n: 0 } if is_ping(&element) => {}
            other => panic!("expected the start of stream management, got {other:?}"),
        }
    }
}

fn is_ping(element: &Element) -> bool {
    element.has_child("ping", ns::PING)
}

/// The next event that is no acknowledgement and no ping, while the other end is kept going.
pub async fn next_with(connection: &mut Connection, other: &mut Connection) -> Event {
    loop {
        tokio::select! {
            biased;
            event = connection.next() => match event {
                Event::Acked(_) => {}
                Event::Stanza { element, .. } if is_ping(&element) => {}
                event => return event,
            },
            event = other.next() => match event {
                Event::Acked(_) => {}
                Event::Stanza { element, .. } if is_ping(&element) => {}
                event => panic!("unexpected {event:?}"),
            },
        }
    }
}

/// The body and the number of the next stanza.
pub async fn hear(connection: &mut Connection, other: &mut Connection) -> (String, u64) {
    match next_with(connection, other).await {
        Event::Stanza { element, n } => (body(&element), n),
        other => panic!("expected a stanza, got {other:?}"),
    }
}

pub fn message(body: &str) -> Element {
    Element::bare("message", ns::CLIENT)
        .with_attr("to", "bob@lab.example")
        .with_attr("type", "chat")
        .with_child(Element::bare("body", ns::CLIENT).with_text(body))
}

pub fn body(element: &Element) -> String {
    let message = if element.is("message", ns::CLIENT) {
        Some(element)
    } else {
        element.children().next() // inside a route
    };
    message.and_then(|message| message.get_child("body", ns::CLIENT)).map(Element::text).unwrap_or_default()
}
