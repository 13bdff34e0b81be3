//! Many users' sessions over one trusted link: start, started, route, end.
//!
//! The verbs are those of jabberd2's session manager. They travel in `<route>` elements, and these travel on
//! one of three framings, which are a matter of the connection below: a component stream (XEP-0114), the
//! same with stream management, or a router link. [`Control`] works on elements only, so it is the same on
//! all three. It is the asking side; [`parse_request`] and the builders beside it are the answering side.
//!
//! Observed on jabberd2 2.7 and on a Prosody module; the framing of the commercial product's own router link
//! is not public, which is why all of it is kept in this one file.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use minidom::{Element, Node};
use rxml::Namespace;

use crate::xml::{Compose as _, Outline};
use crate::{FullJid, Jid, ns};

/// Names one user's session on a trusted link; unique for the life of the link.
///
/// The text form has three words, `ours domain theirs`, so that it can be kept across a restart.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionIds {
    /// Chosen by the side that started the session; what tells sessions apart (attribute `c2s`).
    pub ours: u64,
    /// The user's domain, to which routes for this session are addressed.
    pub domain: String,
    /// Chosen by the session manager (attribute `sm`).
    pub theirs: String,
}

impl fmt::Display for SessionIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.ours, self.domain, self.theirs)
    }
}

impl FromStr for SessionIds {
    type Err = SessionIdsError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut parts = s.splitn(3, ' ');
        let mut part = || parts.next().filter(|part| !part.is_empty()).ok_or(SessionIdsError);
        Ok(Self {
            ours: part()?.parse().map_err(|_| SessionIdsError)?,
            domain: part()?.to_owned(),
            theirs: part()?.to_owned(),
        })
    }
}

/// The text does not name a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a session on a trusted link: expected our id, a domain and the session manager's id")]
pub struct SessionIdsError;

/// What an element from a trusted link means. Its `Debug` shows no content.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum ControlEvent {
    /// A session was started.
    Started {
        /// The id given to [`Control::start`].
        request: String,
        /// Names the session from now on.
        session: SessionIds,
        /// The JID that the session manager bound; to be compared with the one asked for.
        jid: FullJid,
    },
    /// A session was not started: the user is unknown, or nobody serves the domain.
    Refused {
        /// The id given to [`Control::start`].
        request: String,
    },
    /// A stanza for a session, with the session ids taken off.
    Stanza {
        /// Whose session received it.
        session: SessionIds,
        /// In the namespace `jabber:client`.
        stanza: Element,
    },
    /// A session is over, because we asked or because the server says so.
    Ended {
        /// Which one.
        session: SessionIds,
    },
    /// Somebody else bound the same resource; the session is gone and must not be started again unasked.
    Replaced {
        /// Which one.
        session: SessionIds,
    },
    /// A stanza of ours came back: the server does not know the session, or could not route. The session may
    /// have ended here meanwhile.
    Bounced {
        /// The session that it was sent on.
        session: SessionIds,
        /// As it was sent.
        stanza: Element,
    },
    /// A name is bound on the router: a domain's session manager is up.
    DomainUp(String),
    /// A name is no longer bound on the router.
    DomainDown(String),
    /// Nothing of ours: a stanza outside a session, a query of the server, or a session not known here.
    Other(Element),
}

impl fmt::Debug for ControlEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { request, session, jid } => {
                write!(f, "Started({request}, {session}, {})", jid.as_str())
            }
            Self::Refused { request } => write!(f, "Refused({request})"),
            Self::Stanza { session, stanza } => write!(f, "Stanza({session}, {:?})", Outline(stanza)),
            Self::Ended { session } => write!(f, "Ended({session})"),
            Self::Replaced { session } => write!(f, "Replaced({session})"),
            Self::Bounced { session, stanza } => write!(f, "Bounced({session}, {:?})", Outline(stanza)),
            Self::DomainUp(name) => write!(f, "DomainUp({name})"),
            Self::DomainDown(name) => write!(f, "DomainDown({name})"),
            Self::Other(element) => write!(f, "Other({:?})", Outline(element)),
        }
    }
}

/// The asking side of session control on one link.
///
/// Elements that its methods return are to be sent on the link; every stanza that the link brings is to be
/// given to [`Control::handle`].
#[derive(Clone, Debug)]
pub struct Control {
    name: String,
    next: u64,
    /// Starts not yet answered, by our id of the session to come.
    pending: BTreeMap<u64, Pending>,
    sessions: BTreeMap<u64, SessionIds>,
}

#[derive(Clone, Debug)]
struct Pending {
    request: String,
    domain: String,
}

impl Control {
    /// Begins with no session, on a link whose own name is `name`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), next: 1, pending: BTreeMap::new(), sessions: BTreeMap::new() }
    }

    /// Takes up a session that was started before a restart, on a link that was resumed since.
    pub fn restore(&mut self, session: SessionIds) {
        self.next = self.next.max(session.ours.saturating_add(1));
        self.sessions.insert(session.ours, session);
    }

    /// Forgets all sessions and unanswered starts: the link was lost for good, and the server ended them.
    /// Ids that were used are not used again.
    pub fn reset(&mut self) {
        self.pending.clear();
        self.sessions.clear();
    }

    /// The sessions that are known to be open, by our ids.
    pub fn sessions(&self) -> impl Iterator<Item = &SessionIds> {
        self.sessions.values()
    }

    /// Asks for a session of `jid`; the answer carries `id`.
    pub fn start(&mut self, id: &str, jid: &FullJid) -> Element {
        let ours = self.next;
        self.next += 1;
        let domain = jid.domain().to_string();
        self.pending.insert(ours, Pending { request: id.to_owned(), domain: domain.clone() });
        let session = Element::bare("session", ns::SESSION_CONTROL)
            .with_attr_ns(ns::SESSION_CONTROL, "c2s", ours.to_string())
            .with_attr("action", "start")
            .with_attr("target", jid.as_str())
            .with_attr("id", id);
        envelope(&domain, &self.name, session)
    }

    /// Asks for the end of a session. It stays known until the answer comes, since stanzas may overtake it.
    pub fn end(&mut self, session: &SessionIds) -> Element {
        let verb = Element::bare("session", ns::SESSION_CONTROL)
            .with_attr_ns(ns::SESSION_CONTROL, "c2s", session.ours.to_string())
            .with_attr_ns(ns::SESSION_CONTROL, "sm", session.theirs.clone())
            .with_attr("action", "end");
        envelope(&session.domain, &self.name, verb)
    }

    /// Wraps a stanza that a session sends. The server stamps `from` itself.
    #[must_use]
    pub fn route(&self, session: &SessionIds, stanza: Element) -> Element {
        envelope(&session.domain, &self.name, mark(stanza, session.ours, &session.theirs))
    }

    /// Says what an element from the link means.
    pub fn handle(&mut self, mut element: Element) -> ControlEvent {
        if element.is("presence", ns::ROUTE) {
            return match element.attr("from") {
                Some(name) if element.attr("type") == Some("unavailable") => {
                    ControlEvent::DomainDown(name.to_owned())
                }
                Some(name) => ControlEvent::DomainUp(name.to_owned()),
                None => ControlEvent::Other(element),
            };
        }
        if !element.is("route", ns::ROUTE) {
            return ControlEvent::Other(element);
        }
        let returned = element.attr("type") == Some("error");
        let Some(payload) = element.children().next() else { return ControlEvent::Other(element) };
        let Some(ours) = control_attr(payload, "c2s").and_then(|c2s| c2s.parse().ok()) else {
            return ControlEvent::Other(element);
        };
        if payload.is("session", ns::SESSION_CONTROL) {
            return self.handle_verb(payload, ours, returned).unwrap_or(ControlEvent::Other(element));
        }
        let bounced = returned || is_failed(payload);
        let Some(session) = self.addressed(payload, ours, element.attr("from"), bounced) else {
            return ControlEvent::Other(element);
        };
        match element.take_nodes().into_iter().find_map(Node::into_element).map(unmark) {
            Some(stanza) if bounced => ControlEvent::Bounced { session, stanza },
            Some(stanza) => ControlEvent::Stanza { session, stanza },
            None => ControlEvent::Other(element),
        }
    }

    fn handle_verb(&mut self, verb: &Element, ours: u64, returned: bool) -> Option<ControlEvent> {
        let failed = returned || is_failed(verb);
        match verb.attr("action")? {
            "started" if !failed => {
                let jid = verb.attr("target")?.parse().ok()?;
                let theirs = control_attr(verb, "sm")?.to_owned();
                let Pending { request, domain } = self.answered(verb, ours)?;
                let session = SessionIds { ours, domain, theirs };
                self.sessions.insert(ours, session.clone());
                Some(ControlEvent::Started { request, session, jid })
            }
            "start" | "started" => {
                self.answered(verb, ours).map(|pending| ControlEvent::Refused { request: pending.request })
            }
            // A failed end means that there was nothing to end.
            "ended" | "end" => self.forget(verb, ours).map(|session| ControlEvent::Ended { session }),
            "replaced" => self.forget(verb, ours).map(|session| ControlEvent::Replaced { session }),
            _ => None,
        }
    }

    /// The session that a stanza is for.
    fn addressed(
        &self,
        stanza: &Element,
        ours: u64,
        domain: Option<&str>,
        bounced: bool,
    ) -> Option<SessionIds> {
        let theirs = control_attr(stanza, "sm")?;
        match self.sessions.get(&ours).filter(|session| session.theirs == theirs) {
            Some(session) => Some(session.clone()),
            // What was on its way when the server ended its session comes back after that.
            None if bounced => {
                Some(SessionIds { ours, domain: domain?.to_owned(), theirs: theirs.to_owned() })
            }
            None => None,
        }
    }

    /// The start that `verb` answers: by our session id, and by the request's id where the answer has one.
    fn answered(&mut self, verb: &Element, ours: u64) -> Option<Pending> {
        let pending = self.pending.get(&ours)?;
        if verb.attr("id").is_some_and(|id| id != pending.request) {
            return None;
        }
        self.pending.remove(&ours)
    }

    fn forget(&mut self, verb: &Element, ours: u64) -> Option<SessionIds> {
        let session = self.sessions.get(&ours)?;
        if control_attr(verb, "sm").is_some_and(|theirs| theirs != session.theirs) {
            return None;
        }
        self.sessions.remove(&ours)
    }
}

/// What a `<route>` asks of the answering side. Its `Debug` shows no content.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Request {
    /// Start a session.
    Start(StartRequest),
    /// Make a user's data without a session.
    Create(StartRequest),
    /// End a session.
    End(RequestIds),
    /// A stanza that a session sends, with the ids taken off, and `from` as the asking side left it.
    Stanza(RequestIds, Element),
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(request) => f.debug_tuple("Start").field(request).finish(),
            Self::Create(request) => f.debug_tuple("Create").field(request).finish(),
            Self::End(ids) => f.debug_tuple("End").field(ids).finish(),
            Self::Stanza(ids, stanza) => f.debug_tuple("Stanza").field(ids).field(&Outline(stanza)).finish(),
        }
    }
}

/// The addresses and ids of a request about a session that exists, or should.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestIds {
    /// The name of the link that asks.
    pub component: String,
    /// The domain that was asked.
    pub domain: String,
    /// The asking side's id, to be repeated as it is.
    pub c2s: String,
    /// The answering side's id.
    pub sm: String,
}

/// A request for a session, or for a user's data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StartRequest {
    /// The name of the link that asks.
    pub component: String,
    /// The domain that was asked.
    pub domain: String,
    /// The asking side's id, to be repeated as it is.
    pub c2s: String,
    /// Whose session: a full JID for a start.
    pub target: Jid,
    /// The request's id, to be repeated.
    pub id: Option<String>,
}

/// Reads a request on the answering side; `None` if the element is none.
#[must_use]
pub fn parse_request(element: &Element) -> Option<Request> {
    if !element.is("route", ns::ROUTE) || element.attr("type").is_some() {
        return None;
    }
    let component = element.attr("from")?.to_owned();
    let domain = element.attr("to")?.to_owned();
    let payload = element.children().next()?;
    let c2s = control_attr(payload, "c2s")?.to_owned();
    let action = payload.is("session", ns::SESSION_CONTROL).then(|| payload.attr("action"));
    match action {
        Some(Some(verb @ ("start" | "create"))) => {
            let target = payload.attr("target")?.parse().ok()?;
            let id = payload.attr("id").map(str::to_owned);
            let request = StartRequest { component, domain, c2s, target, id };
            Some(if verb == "start" { Request::Start(request) } else { Request::Create(request) })
        }
        Some(verb) => {
            let sm = control_attr(payload, "sm")?.to_owned();
            (verb == Some("end")).then_some(Request::End(RequestIds { component, domain, c2s, sm }))
        }
        None => {
            let sm = control_attr(payload, "sm")?.to_owned();
            Some(Request::Stanza(RequestIds { component, domain, c2s, sm }, unmark(payload.clone())))
        }
    }
}

/// Answers a start: the session exists, and `sm` is its id here.
#[must_use]
pub fn started(request: &StartRequest, sm: &str) -> Element {
    let verb = answer(&request.c2s, Some(sm), "started")
        .with_attr("target", request.target.as_str())
        .with_optional("id", request.id.as_deref());
    envelope(&request.component, &request.domain, verb)
}

/// Answers a create: the user's data exist.
#[must_use]
pub fn created(request: &StartRequest) -> Element {
    let verb = answer(&request.c2s, None, "created")
        .with_attr("target", request.target.as_str())
        .with_optional("id", request.id.as_deref());
    envelope(&request.component, &request.domain, verb)
}

/// Answers a start: there is no such user.
#[must_use]
pub fn refused(request: &StartRequest) -> Element {
    let verb = answer(&request.c2s, None, "start")
        .with_attr_ns(ns::SESSION_CONTROL, "failed", "1")
        .with_attr("target", request.target.as_str())
        .with_optional("id", request.id.as_deref());
    envelope(&request.component, &request.domain, verb)
}

/// Says that a session is over, asked or unasked.
#[must_use]
pub fn ended(session: &RequestIds) -> Element {
    envelope(&session.component, &session.domain, answer(&session.c2s, Some(&session.sm), "ended"))
}

/// Says that another session took the resource.
#[must_use]
pub fn replaced(session: &RequestIds) -> Element {
    envelope(&session.component, &session.domain, answer(&session.c2s, Some(&session.sm), "replaced"))
}

/// Carries a stanza to a session.
#[must_use]
pub fn deliver(session: &RequestIds, stanza: Element) -> Element {
    let stanza = stanza.with_attr_ns(ns::SESSION_CONTROL, "c2s", session.c2s.clone()).with_attr_ns(
        ns::SESSION_CONTROL,
        "sm",
        session.sm.clone(),
    );
    envelope(&session.component, &session.domain, stanza)
}

/// Gives a stanza back whose session is not known here.
#[must_use]
pub fn bounced(session: &RequestIds, stanza: Element) -> Element {
    deliver(session, stanza.with_attr("failed", "1"))
}

fn envelope(to: &str, from: &str, payload: Element) -> Element {
    Element::bare("route", ns::ROUTE).with_attr("to", to).with_attr("from", from).with_child(payload)
}

fn answer(c2s: &str, sm: Option<&str>, action: &str) -> Element {
    let verb = Element::bare("session", ns::SESSION_CONTROL)
        .with_attr_ns(ns::SESSION_CONTROL, "c2s", c2s)
        .with_attr("action", action);
    match sm {
        Some(sm) => verb.with_attr_ns(ns::SESSION_CONTROL, "sm", sm),
        None => verb,
    }
}

fn mark(stanza: Element, ours: u64, theirs: &str) -> Element {
    stanza.with_attr_ns(ns::SESSION_CONTROL, "c2s", ours.to_string()).with_attr_ns(
        ns::SESSION_CONTROL,
        "sm",
        theirs,
    )
}

fn unmark(mut stanza: Element) -> Element {
    let control: Namespace<'static> = ns::SESSION_CONTROL.into();
    for name in ["c2s", "sm", "failed"] {
        stanza.attrs_mut().remove(&control, name);
    }
    // jabberd2 writes this one without a namespace; no stanza has an attribute of this name.
    stanza.attrs_mut().remove(&Namespace::NONE, "failed");
    stanza
}

fn control_attr<'a>(element: &'a Element, name: &str) -> Option<&'a str> {
    element.attr_ns(ns::SESSION_CONTROL, name)
}

fn is_failed(element: &Element) -> bool {
    control_attr(element, "failed").or_else(|| element.attr("failed")).is_some()
}
