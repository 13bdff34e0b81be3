//! The login service of IM and Presence (`EPASSoap`), as far as one-time passwords need it: an application user logs in,
//! then logs users in under its own session, and each of these sessions gives passwords for one login.
//!
//! That an application user may log users in so is assumed; the product's documents do not say it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use xmpp_core::xml::Compose as _;
use xmpp_core::{BareJid, Element};

use crate::clock::Time;
use crate::ctx::{Ctx, SERVICE_JID, SERVICE_PASSWORD};
use crate::http::{Answer, Call};

const SOAP: &str = "http://www.w3.org/2003/05/soap-envelope";
const EPAS: &str = "urn:cisco:epas:soap";
/// How long a password may be used.
const VALID: Duration = Duration::from_secs(60);

/// The sessions of the login service, and the passwords that were not used yet.
#[derive(Debug, Default)]
pub struct Logins(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    sessions: BTreeMap<String, Whose>,
    passwords: BTreeMap<String, (String, Time)>,
}

#[derive(Clone, Debug)]
enum Whose {
    Application,
    User(String),
}

impl Logins {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is a password for the account that nobody has used; nobody may use it again.
    pub(crate) fn take(&self, account: &str, password: &str, now: Time) -> bool {
        let mut book = self.book();
        let good = book.passwords.get(password).is_some_and(|(of, until)| of == account && now < *until);
        good && book.passwords.remove(password).is_some()
    }
}

/// Answers one request to the service.
pub(crate) fn answer(ctx: &Ctx, call: &Call) -> Answer {
    if call.method != Method::POST {
        return Answer::empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    if ctx.faults.hit("epas-unavailable", None) {
        return Answer::empty(StatusCode::SERVICE_UNAVAILABLE);
    }
    let read = std::str::from_utf8(&call.body).ok().and_then(Request::read);
    let Some(request) = read else { return Answer::empty(StatusCode::BAD_REQUEST) };
    let inside = match respond(ctx, &request) {
        Some((name, value)) => element("success").with_child(element(name).with_text(value)),
        None => element("failure"),
    };
    let response = Element::bare(format!("{}-resp", request.operation), EPAS).with_child(inside);
    let body = Element::bare("Body", SOAP).with_child(response);
    let envelope = Element::bare("Envelope", SOAP).with_child(body);
    let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{}", String::from(&envelope));
    Answer::bytes(StatusCode::OK, "application/soap+xml;charset=UTF-8", Bytes::from(text))
}

/// The name and the value of what a success says; `None` is a failure.
fn respond(ctx: &Ctx, request: &Request) -> Option<(&'static str, String)> {
    let mut book = ctx.logins.book();
    if ctx.faults.hit("epas-forgets", None) {
        book.sessions.clear();
    }
    let whose = request.key.as_ref().map(|key| book.sessions.get(key).cloned());
    match (request.operation.as_str(), whose) {
        ("login", None) => {
            let right = request.username.as_deref() == Some(SERVICE_JID)
                && request.password.as_deref() == Some(SERVICE_PASSWORD);
            right.then(|| ("session-key", book.open(ctx, Whose::Application)))
        }
        ("login", Some(Some(Whose::Application))) => {
            let jid = request.username.as_deref()?.parse::<BareJid>().ok()?.to_string();
            let person = ctx.people.by_jid(&jid)?;
            let refused = ctx.faults.hit("epas-refuses", Some(&person.name));
            (!refused).then(|| ("session-key", book.open(ctx, Whose::User(jid))))
        }
        ("get-onetime-password", Some(Some(Whose::User(jid)))) => {
            let (password, now) = (ctx.rng.uuid(), ctx.clock.now());
            book.passwords.retain(|_, (_, until)| now < *until);
            book.passwords.insert(password.clone(), (jid, now.plus(VALID)));
            Some(("password", password))
        }
        _ => None,
    }
}

impl Book {
    fn open(&mut self, ctx: &Ctx, whose: Whose) -> String {
        let key = ctx.rng.uuid();
        self.sessions.insert(key.clone(), whose);
        key
    }
}

struct Request {
    operation: String,
    key: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Request {
    fn read(body: &str) -> Option<Self> {
        let envelope: Element = body.parse().ok()?;
        let part =
            |name: &str| envelope.is("Envelope", SOAP).then(|| envelope.get_child(name, SOAP)).flatten();
        let operation = part("Body")?.children().next().filter(|operation| operation.has_ns(EPAS))?;
        let text = |name: &str| operation.get_child(name, EPAS).map(Element::text);
        let key = part("Header").and_then(|header| header.get_child("session-key", EPAS)).map(Element::text);
        let operation_name = operation.name().to_owned();
        Some(Self { operation: operation_name, key, username: text("username"), password: text("password") })
    }
}

fn element(name: &'static str) -> Element {
    Element::bare(name, EPAS)
}
