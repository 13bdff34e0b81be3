//! The far end of the tests: a server on in-memory pipes, built on xmpp-core's accepting side.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;
use xmpp_core::session_control::{self, Request, RequestIds};
use xmpp_core::sm::{Resumable, ResumeRefused, ResumeRegistry, widen_below};
use xmpp_core::tokio::{AcceptConfig, AcceptTls, Authenticator, Connection, Event, Io, Outcome};
use xmpp_core::xml::Compose as _;
use xmpp_core::{BareJid, Element, Entropy, Jid, Secret, accept, ns};

use super::world::BOB;
use crate::seam::{BoxIo, Dial};

/// What the far end has seen, and what it is told to do.
#[derive(Default)]
pub(super) struct State {
    /// Accepts client streams instead of a trusted link.
    pub(super) clients: bool,
    /// Lets client streams in without listening, and then sends this, over and over or once.
    pub(super) script: Option<Script>,
    /// Stops: the connection stays open, and nothing is read from it or written to it any more.
    pub(super) freezes: bool,
    /// Reads nothing for now, and goes on writing.
    pub(super) deaf: bool,
    /// Encrypts: client streams as it says, a trusted link from the first byte.
    pub(super) tls: Option<AcceptTls>,
    /// Offers no stream management.
    pub(super) unmanaged: bool,
    /// Refuses to resume.
    pub(super) forgetful: bool,
    /// Answers no pings.
    pub(super) mute: bool,
    /// Makes no copies of what other clients send and receive.
    pub(super) copyless: bool,
    /// Starts no sessions, and sends client streams to another host.
    pub(super) strict: bool,
    /// Starts a session of this user, whoever is asked for; or binds it.
    pub(super) binds: Option<Jid>,
    /// Cuts the connection instead of handling the next message.
    pub(super) cut_before: bool,
    /// Handles the next message, tells nobody, and cuts the connection.
    pub(super) cut_after: bool,
    /// Gives the next message back as one of an unknown session, on the trusted link.
    pub(super) bounces: bool,
    /// Cuts the connection now.
    pub(super) cut: bool,
    /// Nobody answers, and all connections are cut.
    pub(super) gone: bool,
    /// Ends the stream with this error now.
    pub(super) end_with: Option<&'static str>,
    /// Stanzas to be sent.
    pub(super) outbox: VecDeque<Element>,
    /// Open sessions by JID.
    pub(super) sessions: BTreeMap<String, RequestIds>,
    /// Client streams that are up.
    pub(super) streams: usize,
    pub(super) started: u64,
    pub(super) handled: u64,
    pub(super) sent: Vec<Element>,
    /// What the peer has acknowledged.
    pub(super) acked: u64,
    /// How often the script was sent.
    pub(super) scripted: usize,
    /// How often a connection was made.
    pub(super) dialed: u32,
    /// How often one was tried.
    pub(super) tried: u32,
}

/// What a peer sends that does not listen.
#[derive(Clone)]
pub(super) struct Script {
    pub(super) bytes: Vec<u8>,
    /// Not once, but for as long as it is read.
    pub(super) for_ever: bool,
}

impl State {
    /// Queues a stanza as it goes on the wire.
    pub(super) fn push(&mut self, stanza: Element) {
        self.outbox.push_back(stanza);
    }
}

/// Something that the far end has seen.
#[derive(Debug)]
pub(super) enum Seen {
    Start(String),
    End(String),
    Stanza(Element),
}

#[derive(Clone)]
pub(super) struct Far {
    state: Arc<Mutex<State>>,
    wake: Arc<Notify>,
    seen: mpsc::UnboundedSender<Seen>,
}

impl Far {
    pub(super) fn new(state: State) -> (Self, mpsc::UnboundedReceiver<Seen>) {
        let (seen, receiver) = mpsc::unbounded_channel();
        (Self { state: Arc::new(Mutex::new(state)), wake: Arc::default(), seen }, receiver)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes what it does, at once.
    pub(super) fn tell(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.wake.notify_one();
    }

    /// It dies with everything that it held, or is there again.
    pub(super) fn dies(&self, dies: bool) {
        (self.state().gone, self.state().forgetful) = (dies, true);
        self.state().sessions.clear();
        self.wake.notify_waiters();
    }

    /// Whether it was told to do something once.
    fn take(&self, what: impl FnOnce(&mut State) -> &mut bool) -> bool {
        std::mem::take(what(&mut self.state()))
    }

    /// Sends a stanza to a session.
    pub(super) fn send(&self, jid: &str, stanza: &str) {
        let stanza: Element = stanza.parse().unwrap();
        self.tell(|state| {
            let stanza = match state.sessions.get(jid) {
                Some(ids) => session_control::deliver(ids, stanza),
                None => stanza,
            };
            state.outbox.push_back(stanza);
        });
    }

    async fn serve(self, io: BoxIo) {
        let clients = self.state().clients;
        let unmanaged = self.state().unmanaged;
        let binds = self.state().binds.clone();
        let script = self.state().script.clone();
        if clients && (binds.is_some() || script.is_some()) {
            return self.bind_unheard(io, binds, script).await;
        }
        let mut acceptor = accept::Config::new(vec!["lab.example".into()], Entropy::from_bytes([7; 32]));
        acceptor.registry = (!unmanaged).then(|| Arc::new(self.clone()) as Arc<dyn ResumeRegistry>);
        let mut config = AcceptConfig::new(acceptor);
        let mut io: Box<dyn Io> = Box::new(io);
        let tls = self.state().tls.clone();
        match tls {
            Some(tls) if clients => config.tls = tls,
            Some(AcceptTls::Direct(tls)) => {
                let Ok(encrypted) = TlsAcceptor::from(tls).accept(io).await else { return };
                io = Box::new(encrypted);
            }
            _ => {}
        }
        let accounts: Arc<dyn Authenticator> = Arc::new(self.clone());
        let accepted = match clients {
            true => Connection::accept_client(io, config, accounts).await,
            false => Connection::accept_component(io, config, accounts).await,
        };
        let Ok(mut connection) = accepted else { return };
        let _up = Up::of(&self);
        let mut resumed = false;
        // What a new stream asks of stream management comes later, and as an event.
        if unmanaged || connection.outcome() != Outcome::Fresh {
            self.begin(connection.outcome(), &mut connection, &mut resumed);
        }
        loop {
            if self.take(|state| &mut state.freezes) {
                return std::future::pending().await;
            }
            {
                let mut state = self.state();
                connection.set_reading(!state.deaf);
                if std::mem::take(&mut state.cut) || state.gone {
                    return;
                }
                while let Some(stanza) = state.outbox.pop_front() {
                    connection.send(&stanza);
                    connection.request_ack();
                    state.sent.push(stanza);
                }
            }
            let ending = self.state().end_with.take();
            if let Some(condition) = ending {
                connection.close_with(condition).await;
                return;
            }
            let event = tokio::select! {
                biased;
                () = self.wake.notified() => continue,
                event = connection.next() => event,
            };
            match event {
                Event::Managed(outcome) => self.begin(outcome, &mut connection, &mut resumed),
                Event::Acked(h) => self.state().acked = h,
                Event::Stanza { element, n } => {
                    let message = is_message(&element);
                    if message && self.take(|state| &mut state.cut_before) {
                        return;
                    }
                    self.handle(element, &mut connection);
                    self.state().handled = n;
                    if message && self.take(|state| &mut state.cut_after) {
                        return;
                    }
                    connection.acknowledge(n);
                }
                Event::Closed(_) => return,
                _ => {}
            }
        }
    }

    /// A new stream has no history; a resumed one gets again what was not acknowledged.
    fn begin(&self, outcome: Outcome, connection: &mut Connection, resumed: &mut bool) {
        let mut state = self.state();
        match outcome {
            Outcome::Resumed { h } if !*resumed => {
                *resumed = true;
                for stanza in &state.sent[usize::try_from(h).unwrap()..] {
                    connection.send(stanza);
                }
            }
            Outcome::Resumed { .. } => {}
            _ => {
                (state.handled, state.acked) = (0, 0);
                state.sent.clear();
                state.sessions.clear();
            }
        }
    }

    fn handle(&self, element: Element, connection: &mut Connection) {
        let mut state = self.state();
        let mut reply = |state: &mut State, stanza: Element| {
            connection.send(&stanza);
            state.sent.push(stanza);
        };
        match session_control::parse_request(&element) {
            Some(Request::Start(mut start)) => {
                let jid = start.target.to_string();
                let _ = self.seen.send(Seen::Start(jid.clone()));
                if state.strict {
                    return reply(&mut state, session_control::refused(&start));
                }
                if let Some(binds) = &state.binds {
                    start.target = binds.clone();
                }
                state.started += 1;
                let sm = format!("sm{}", state.started);
                let ids = RequestIds {
                    component: start.component.clone(),
                    domain: start.domain.clone(),
                    c2s: start.c2s.clone(),
                    sm: sm.clone(),
                };
                state.sessions.insert(jid, ids);
                reply(&mut state, session_control::started(&start, &sm));
            }
            Some(Request::End(ids)) => {
                let jid = state.sessions.iter().find(|(_, i)| **i == ids).map(|(jid, _)| jid.clone());
                if let Some(jid) = jid {
                    state.sessions.remove(&jid);
                    let _ = self.seen.send(Seen::End(jid));
                }
                reply(&mut state, session_control::ended(&ids));
            }
            Some(Request::Stanza(ids, stanza)) => {
                let known = state.sessions.values().any(|known| *known == ids);
                let bounces = stanza.name() == "message" && std::mem::take(&mut state.bounces);
                if bounces || !known {
                    return reply(&mut state, session_control::bounced(&ids, stanza));
                }
                if let Some(answer) = self.see(stanza, &state) {
                    reply(&mut state, session_control::deliver(&ids, answer));
                }
            }
            // The ping behind `<enable/>` is the link's own business.
            None if !state.clients => {
                let pong = Element::bare("iq", ns::CLIENT).with_attr("type", "result");
                connection.send(&pong.with_optional("id", element.attr("id")));
            }
            _ => {
                if let Some(answer) = self.see(element, &state) {
                    reply(&mut state, answer);
                }
            }
        }
    }

    /// Answers requests as a server does; anybody may see the stanza.
    fn see(&self, stanza: Element, state: &State) -> Option<Element> {
        let request = stanza.name() == "iq" && matches!(stanza.attr("type"), Some("get" | "set"));
        let ping = stanza.get_child("ping", ns::PING).is_some();
        let copies = stanza.get_child("enable", ns::CARBONS).is_some();
        let kind = if copies && state.copyless { "error" } else { "result" };
        let answer = (request && !(ping && state.mute)).then(|| {
            Element::bare("iq", ns::CLIENT).with_attr("type", kind).with_optional("id", stanza.attr("id"))
        });
        let _ = self.seen.send(Seen::Stanza(stanza));
        answer
    }
}

impl Far {
    /// Binds a session without listening to what is asked, for Bob or for somebody else; and then keeps to the script.
    async fn bind_unheard(self, mut io: BoxIo, binds: Option<Jid>, script: Option<Script>) {
        let _ = io.write_all(&preamble(&binds.unwrap_or_else(|| BOB.parse().unwrap()))).await;
        if let Some(Script { bytes, for_ever }) = script {
            while io.write_all(&bytes).await.is_ok() {
                self.state().scripted += 1;
                if !for_ever {
                    break;
                }
            }
        }
        let _ = io.read_to_end(&mut Vec::new()).await;
    }
}

/// One of the client streams that are up.
struct Up(Far);

impl Up {
    fn of(far: &Far) -> Self {
        far.state().streams += 1;
        Self(far.clone())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.0.state().streams -= 1;
    }
}

/// What a server says that has bound a session.
fn preamble(as_whom: &Jid) -> Vec<u8> {
    let header =
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";
    format!(
        "{header}<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>\
         </mechanisms></stream:features><success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>\
         {header}<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>\
         <iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>{as_whom}</jid></bind></iq>"
    )
    .into_bytes()
}

fn is_message(element: &Element) -> bool {
    element.name() == "message" || element.children().any(|child| child.is("message", ns::CLIENT))
}

impl Dial for Far {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        _: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxIo>> + Send + 'a>> {
        Box::pin(async move {
            self.state().tried += 1;
            if host == "down" || self.state().gone {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (near, far) = tokio::io::duplex(1 << 16);
            if host == "hung" {
                // Its kernel accepts connections, and nobody is behind it.
                tokio::spawn(async move {
                    let _open = far;
                    std::future::pending::<()>().await;
                });
                return Ok(Box::new(near) as BoxIo);
            }
            self.state().dialed += 1;
            tokio::spawn(self.clone().serve(Box::new(far)));
            Ok(Box::new(near) as BoxIo)
        })
    }
}

impl Authenticator for Far {
    fn password(&self, account: &BareJid) -> Option<Secret> {
        (account.as_str() == "service@lab.example").then(|| "secret".into())
    }

    fn authorize(&self, _: &BareJid, _: &BareJid) -> bool {
        true
    }

    fn elsewhere(&self, _: &BareJid) -> Option<String> {
        self.state().strict.then(|| "elsewhere.lab.example".into())
    }

    fn component(&self, name: &str) -> Option<Secret> {
        name.ends_with("connector.lab.example").then(|| "secret".into())
    }
}

impl ResumeRegistry for Far {
    fn enable(&self, _: &Jid) -> Option<String> {
        Some("stream".into())
    }

    fn resume(&self, _: &str, h: u32, jid: &Jid) -> Result<Resumable, ResumeRefused> {
        let state = self.state();
        let outbound = widen_below(state.sent.len() as u64, h);
        match outbound.filter(|_| !state.forgetful) {
            Some(outbound) => {
                let jid = match state.clients {
                    true => jid.to_bare().with_resource_str("webex-1").unwrap().into(),
                    false => jid.clone(),
                };
                Ok(Resumable { jid, inbound: state.handled, outbound })
            }
            None => Err(ResumeRefused { h: Some(state.handled) }),
        }
    }
}
