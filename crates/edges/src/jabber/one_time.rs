//! One-time passwords: IM and Presence makes one for each login of a user, when its login service (`EPASSoap`) is asked
//! for it by an application user that may act for users.
//!
//! ```text
//!  login (application user, password) ── its session key
//!  login (user, under that key)       ── the user's session key
//!  get-onetime-password (under that)  ── the password, which CISCO-VTG-TOKEN takes once
//! ```
//!
//! The first is kept for as long as it is accepted. What is known of this is in `docs/protocol/xmpp.md`.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use webex_api::client::Http;
use webex_api::{ApiError, Url};
use xmpp_core::xml::{Compose as _, Frame, Limits, Reader, write};
use xmpp_core::{BareJid, Element, Secret};

use crate::soap::Call;

/// SOAP 1.2.
const SOAP: &str = "http://www.w3.org/2003/05/soap-envelope";
/// The login service's own namespace.
const EPAS: &str = "urn:cisco:epas:soap";
/// What an answer is read behind: the reader of streams has the limits that an answer needs too.
const STREAM: &[u8] =
    b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// Where one-time passwords come from. Clones share the application user's session.
#[derive(Clone)]
pub struct OneTime {
    shared: Arc<Shared>,
}

struct Shared {
    address: Url,
    user: String,
    password: Secret,
    http: Http,
    /// The application user's session key.
    key: tokio::sync::Mutex<Option<Secret>>,
}

/// Why there is no one-time password.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPassword {
    /// The login service cannot be reached.
    #[error("the login service cannot be reached")]
    Http(#[source] ApiError),
    /// It answers with something else than is expected; the HTTP status.
    #[error("the login service gives no sensible answer (HTTP {0})")]
    Answer(u16),
    /// It refuses the application user, its password, or to let it act for the user.
    #[error("the login service refuses {0}")]
    Refused(String),
}

impl OneTime {
    /// The login service at `address`, asked by this application user.
    #[must_use]
    pub fn new(address: Url, user: String, password: Secret, http: Http) -> Self {
        Self {
            shared: Arc::new(Shared { address, user, password, http, key: tokio::sync::Mutex::default() }),
        }
    }

    /// A password for the next login of this user, and no other.
    ///
    /// # Errors
    /// There is none; why.
    pub(super) async fn password(&self, jid: &BareJid) -> Result<Secret, NoPassword> {
        let (key, is_new) = self.application_key(None).await?;
        match self.password_under(&key, jid).await {
            // The session may have ended; one that was opened just now has not. Which of the two ways a service says
            // that in is not known.
            Err(NoPassword::Refused(_) | NoPassword::Answer(_)) if !is_new => {
                let (key, _) = self.application_key(Some(&key)).await?;
                self.password_under(&key, jid).await
            }
            answered => answered,
        }
    }

    /// The application user's session key, which is not to be this one; and whether it was opened just now.
    async fn application_key(&self, refused: Option<&Secret>) -> Result<(Secret, bool), NoPassword> {
        let Shared { user, password, key, .. } = &*self.shared;
        let mut kept = key.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| refused.is_none_or(|no| no.reveal() != kept.reveal()))
        {
            return Ok((kept.clone(), false));
        }
        *kept = None;
        let login = element("login")
            .with_child(element("username").with_text(user))
            .with_child(element("password").with_text(password.reveal()));
        let opened = self.ask(None, login, "session-key", user).await?;
        *kept = Some(opened.clone());
        Ok((opened, true))
    }

    async fn password_under(&self, key: &Secret, jid: &BareJid) -> Result<Secret, NoPassword> {
        let login = element("login").with_child(element("username").with_text(jid.as_str()));
        let of_user = self.ask(Some(key), login, "session-key", jid.as_str()).await?;
        self.ask(Some(&of_user), element("get-onetime-password"), "password", jid.as_str()).await
    }

    /// Asks, and takes one text out of the success.
    async fn ask(
        &self,
        key: Option<&Secret>,
        question: Element,
        wanted: &str,
        whom: &str,
    ) -> Result<Secret, NoPassword> {
        let Shared { address, http, .. } = &*self.shared;
        let mut envelope = Element::bare("Envelope", SOAP);
        if let Some(key) = key {
            let key = element("session-key").with_text(key.reveal());
            envelope.append_child(Element::bare("Header", SOAP).with_child(key));
        }
        envelope.append_child(Element::bare("Body", SOAP).with_child(question));
        let mut body = Vec::new();
        write(&envelope, &mut body);
        let request = http::Request::post(address.as_str())
            .header("content-type", "application/soap+xml; charset=utf-8")
            .body(Bytes::from(body))
            .map_err(|_| NoPassword::Answer(0))?;
        let call = Call { request, address: address.clone() };
        let answer = http.send(call, address, None).await.map_err(NoPassword::Http)?.value;
        let status = answer.status().as_u16();
        if matches!(status, 401 | 403) {
            return Err(NoPassword::Refused(whom.to_owned()));
        }
        let envelope = read(answer.body()).ok_or(NoPassword::Answer(status))?;
        let answer =
            envelope.children().find(|child| child.name() == "Body").and_then(|body| body.children().next());
        let answer = answer.ok_or(NoPassword::Answer(status))?;
        match answer.children().find(|child| child.name() == "success") {
            Some(success) => {
                let text = success.children().find(|child| child.name() == wanted).map(Element::text);
                let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
                text.map(Secret::new).ok_or(NoPassword::Answer(status))
            }
            // A fault that is the service's own (SOAP 1.2 part 2 §7.5.2.2) says nothing of whom was asked about.
            None if status >= 500 => Err(NoPassword::Answer(status)),
            // `<failure/>`, or a fault that is ours.
            None => Err(NoPassword::Refused(whom.to_owned())),
        }
    }
}

impl fmt::Debug for OneTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneTime").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

fn element(name: &'static str) -> Element {
    Element::bare(name, EPAS)
}

/// An answer's envelope; `None` where it is none, or over the limits of a stanza.
fn read(body: &[u8]) -> Option<Element> {
    let text = std::str::from_utf8(body).ok()?.trim_start();
    let text = match text.strip_prefix("<?xml") {
        Some(declaration) => declaration.split_once("?>")?.1,
        None => text,
    };
    let mut reader = Reader::new(Limits::default());
    reader.feed(STREAM);
    reader.next().ok()??;
    reader.feed(text.as_bytes());
    match reader.next().ok()?? {
        Frame::Element(envelope) if envelope.is("Envelope", SOAP) => Some(envelope),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::soap::far;

    /// A login service that answers what it is told to, in turn, and remembers what it was asked.
    #[derive(Clone, Default)]
    struct Service {
        answers: Arc<Mutex<Vec<(u16, &'static str)>>>,
        asked: Arc<Mutex<Vec<String>>>,
    }

    const SUCCESS: [&str; 3] = [
        "<e:success><e:session-key>key one</e:session-key></e:success>",
        "<success><session-key>bob's key</session-key></success>",
        "<success><password>once</password></success>",
    ];
    const FAILURE: &str = "<e:failure/>";
    const FAULT: &str = "<s:Code><s:Value>s:Receiver</s:Value></s:Code>";

    fn passwords(service: &Service) -> OneTime {
        let told = service.clone();
        let far = far::Service::new(move |asked| {
            told.asked.lock().unwrap().push(asked.to_owned());
            let (status, inside) = told.answers.lock().unwrap().remove(0);
            let response = format!("<e:x-resp xmlns:e='{EPAS}'>{inside}</e:x-resp>");
            (status, format!("<s:Envelope xmlns:s='{SOAP}'><s:Body>{response}</s:Body></s:Envelope>"))
        });
        let address = "http://imp.lab.example/EPASSoap/service/v80".parse().unwrap();
        OneTime::new(address, "service".into(), "its password".into(), far.client())
    }

    /// Asks for Bob's password; what comes of it, and what the service was asked meanwhile.
    async fn ask(
        passwords: &OneTime,
        service: &Service,
        answers: &[(u16, &'static str)],
    ) -> (String, Vec<String>) {
        *service.answers.lock().unwrap() = answers.to_vec();
        let outcome = match passwords.password(&"bob@lab.example".parse().unwrap()).await {
            Ok(password) => password.reveal().to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(service.answers.lock().unwrap().is_empty(), "it asks as often as is needed");
        (outcome, std::mem::take(&mut service.asked.lock().unwrap()))
    }

    #[tokio::test]
    async fn a_password_is_made_for_each_login_under_one_session_of_the_application_user() {
        let service = Service::default();
        let passwords = passwords(&service);
        let [opened, of_user, password] = SUCCESS.map(|inside| (200, inside));
        let (got, asked) = ask(&passwords, &service, &[opened, of_user, password]).await;
        assert_eq!(got, "once");
        let says = |at: usize, texts: &[&str]| texts.iter().all(|text| asked[at].contains(text));
        assert!(says(0, &[">service<", ">its password<"]) && !asked[0].contains("session-key"), "{asked:?}");
        assert!(says(1, &[">key one<", ">bob@lab.example<"]) && !asked[1].contains("password"), "{asked:?}");
        assert!(says(2, &[">bob's key<", "get-onetime-password"]), "{asked:?}");
        let (got, asked) = ask(&passwords, &service, &[of_user, password]).await;
        assert_eq!((got.as_str(), asked.len()), ("once", 2), "the session goes on");
        // It is over: it is opened again, once.
        let (got, _) = ask(&passwords, &service, &[(200, FAILURE), opened, of_user, password]).await;
        assert_eq!(got, "once");
        let (got, _) = ask(&passwords, &service, &[(500, FAULT), opened, of_user, password]).await;
        assert_eq!(got, "once", "whatever it says of a session that is over");
        let (got, _) = ask(&passwords, &service, &[(200, FAILURE), opened, (200, FAILURE)]).await;
        assert_eq!(got, "the login service refuses bob@lab.example");
        let shown = format!("{passwords:?}");
        assert!(!shown.contains("its password") && !shown.contains("key one"), "{shown}");
    }

    #[tokio::test]
    async fn whatever_else_it_answers_is_an_error() {
        for (answer, expected) in [
            ((401, ""), "the login service refuses service"),
            ((200, FAILURE), "the login service refuses service"),
            ((400, FAULT), "the login service refuses service"),
            ((500, FAULT), "the login service gives no sensible answer (HTTP 500)"),
            ((503, FAILURE), "the login service gives no sensible answer (HTTP 503)"),
            ((200, "<success/>"), "the login service gives no sensible answer (HTTP 200)"),
            (
                (200, "<success><session-key> </session-key></success>"),
                "the login service gives no sensible answer (HTTP 200)",
            ),
            ((503, "<unclosed>"), "the login service gives no sensible answer (HTTP 503)"),
        ] {
            let service = Service::default();
            let (got, _) = ask(&passwords(&service), &service, &[answer]).await;
            assert_eq!(got, expected, "{answer:?}");
        }
    }

    #[test]
    fn an_answer_is_read_within_limits() {
        let envelope =
            |inside: &str| format!("<s:Envelope xmlns:s='{SOAP}'><s:Body>{inside}</s:Body></s:Envelope>");
        let good = format!("\n<?xml version='1.0' encoding='utf-8'?>{}", envelope("<a/>"));
        assert_eq!(read(good.as_bytes()).unwrap().children().next().unwrap().name(), "Body");
        for bad in [
            String::new(),
            "<html/>".to_owned(),
            envelope("&x;"),
            format!("<!DOCTYPE a [<!ENTITY x 'y'>]>{}", envelope("&x;")),
            envelope(&"<a>".repeat(100_000)),
            envelope(&"x".repeat(300_000)),
            good[..good.len() - 3].to_owned(),
        ] {
            assert!(read(bad.as_bytes()).is_none(), "{}", &bad[..bad.len().min(80)]);
        }
        assert!(read(b"\xff").is_none());
    }
}
