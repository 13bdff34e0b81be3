//! One session opened for a look: what a server can do for us is measured, never configured (rule 23).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use webex_api::Timestamp;
use xmpp_core::session_control::{Control, ControlEvent, SessionIds};
use xmpp_core::tokio::{ConnectError, Connection, Event, NegotiationError};
use xmpp_core::{BareJid, Element, ns};

use super::config::{Access, Cluster, Config, Shared};
use super::dial::{self, Whose};
use super::refusals::Refusals;
use super::turns::Turns;
use super::{ns as more, words};
use crate::probe::causes;
use crate::seam::{Clock, Dial, Generator, Scale};

/// How long a server may take with one thing.
const PATIENCE: Duration = Duration::from_secs(5);
/// The node name of the session that is tried: not that of a connector that runs.
const NODE: &str = "check";

/// What a server was seen to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// It acknowledges what it handled (XEP-0198).
    pub acknowledges: bool,
    /// It takes up a stream whose connection was lost.
    pub resumes: bool,
    /// It copies what the user's other clients send and receive (XEP-0280).
    pub copies: bool,
    /// It keeps messages and can be asked for them (XEP-0313).
    pub archive: bool,
    /// By how many milliseconds its clock is ahead of ours, negative: behind (XEP-0202); `None` if it does not tell its
    /// time. It tells whole seconds, and its answer was on its way.
    pub clock_offset: Option<i64>,
}

impl Capabilities {
    /// What will not work with this server, in an administrator's words; empty where everything will.
    #[must_use]
    pub fn shortcomings(&self) -> Vec<&'static str> {
        let rows = [
            (
                self.acknowledges,
                "no acknowledgement (XEP-0198): what is in flight when the link breaks can be lost or come twice",
            ),
            (
                self.resumes,
                "no resumption (XEP-0198): when the link breaks, contacts may see people leave and come back",
            ),
            (
                self.copies,
                "no copies (XEP-0280): what a person writes in Jabber is carried only to people who are enabled, too, \
                 and what is addressed to one Jabber client alone is not carried",
            ),
        ];
        rows.into_iter().filter(|(there, _)| !there).map(|(_, what)| what).collect()
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The node could not be reached, or did not let us in.
    #[error("{0}")]
    Refused(String),
    /// It bound somebody else's session: it passes over the authorization identity.
    #[error(
        "it lets us in as {0} in place of the user: a service account cannot act for users here; link \"b\" does not work"
    )]
    BoundElsewhere(String),
    /// It lets the component in, and does not know session control.
    #[error(
        "it lets us in, and starts no sessions: it does not know session control; link \"a\" does not work"
    )]
    NoSessionControl,
    /// It knows session control, and not this user.
    #[error("it lets us in, and refuses a session of {0}: is the domain served there, does the user exist?")]
    NoSuchUser(String),
    /// It is connected, and does not answer.
    #[error("the session opens, and the server does not answer on it")]
    Silent,
}

/// Opens and closes a session of `jid` on the one node of `cluster`, unseen by anybody. Without a `jid` only the
/// connection of a trusted link is tried; copies count as there, and an archive as not.
///
/// # Errors
/// Why there is no session, and what to look at.
pub async fn measure(
    cluster: Cluster,
    jid: Option<&BareJid>,
    dial: Arc<dyn Dial>,
    clock: Clock,
    generator: Generator,
) -> Result<Capabilities, TrialError> {
    let trusted = match &cluster.access {
        Access::Trusted { component, .. } => Some(Control::new(component.clone())),
        Access::Service { .. } | Access::Token { .. } | Access::OneTime(_) => None,
    };
    let scale = Scale(1);
    let config = Config { node: NODE.into(), utc_offset: 0, sessions_per_second: 1, clusters: vec![cluster] };
    // One session needs no turn.
    let turns = Turns::new(1, scale, generator.clone());
    // Nobody hears the news of a link that is tried.
    let (news, _) = tokio::sync::mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        config,
        dial,
        clock,
        generator,
        scale,
        turns,
        refusals: Refusals::default(),
        news,
    });
    let whose = match (&trusted, jid) {
        (Some(_), _) => Whose::Link,
        (None, Some(jid)) => Whose::User(jid.clone()),
        (None, None) => return Err(TrialError::Refused("nobody is known to be served there".into())),
    };
    let (connection, _) =
        dial::connect(Arc::clone(&shared), 0, whose, None, 0, true).await.map_err(|e| refusal(&e))?;
    let mut trial = Trial { connection: *connection, control: trusted, ids: None };
    let measured = trial.measure(&shared, jid).await;
    // The server may have closed it by itself.
    let _ = timeout(PATIENCE, trial.connection.close()).await;
    measured
}

fn refusal(error: &ConnectError) -> TrialError {
    match error {
        ConnectError::Negotiation(NegotiationError::BoundElsewhere { bound, .. }) => {
            TrialError::BoundElsewhere(bound.to_string())
        }
        error => {
            let text = causes(error);
            let advice = match error {
                _ if text.contains("conflict") => "another connector holds the link under this name",
                ConnectError::Io(_) | ConnectError::Eof => "compare imp.nodes with the server's settings",
                ConnectError::Tls(_) | ConnectError::ServerName(_) => {
                    "compare imp.tls and imp.ca_file with the server's certificate"
                }
                ConnectError::Negotiation(NegotiationError::NoTls) => {
                    "the server offers no encryption; it is refused while imp.tls is not \"off\""
                }
                _ => {
                    "compare imp.link, imp.protocol, imp.component and imp.secret_file with the server's settings"
                }
            };
            TrialError::Refused(format!("{text}; {advice}"))
        }
    }
}

struct Trial {
    connection: Connection,
    control: Option<Control>,
    ids: Option<SessionIds>,
}

impl Trial {
    async fn measure(&mut self, shared: &Shared, jid: Option<&BareJid>) -> Result<Capabilities, TrialError> {
        let (acknowledges, resumes) =
            (self.connection.is_managed(), self.connection.resume_state().is_some());
        let Some(jid) = jid else {
            return Ok(Capabilities {
                acknowledges,
                resumes,
                copies: true,
                archive: false,
                clock_offset: None,
            });
        };
        self.start(shared, jid).await?;
        let copies = self.ask("check-copies", words::carbons("check-copies")).await?;
        let copies = copies.attr("type") == Some("result");
        let account = self.ask("check-account", words::discover("check-account", jid)).await?;
        let archive = account
            .get_child("query", more::DISCO_INFO)
            .is_some_and(|query| query.children().any(|feature| feature.attr("var") == Some(more::ARCHIVE)));
        let told = self.ask("check-time", words::time("check-time", jid.domain().as_str())).await?;
        let told = told.get_child("time", more::TIME).and_then(|time| time.get_child("utc", more::TIME));
        let told = told.and_then(|utc| utc.text().trim().parse::<Timestamp>().ok());
        let clock_offset = told.map(|told| told.0 - shared.clock.now().0);
        if let (Some(control), Some(ids)) = (&mut self.control, &self.ids) {
            let end = control.end(ids);
            self.connection.send(&end);
        }
        Ok(Capabilities { acknowledges, resumes, copies, archive, clock_offset })
    }

    /// On a trusted link, asks for the session; a client stream is one already.
    async fn start(&mut self, shared: &Shared, jid: &BareJid) -> Result<(), TrialError> {
        let Some(control) = &mut self.control else { return Ok(()) };
        let full = jid
            .with_resource_str(&shared.resource())
            .map_err(|e| TrialError::Refused(format!("{jid} can have no session: {e}")))?;
        let start = control.start("check-start", &full);
        self.connection.send(&start);
        let answered = async {
            loop {
                let Some(element) = next(&mut self.connection).await else {
                    return Err(TrialError::NoSessionControl);
                };
                // A refusal names the session; a server that knows nothing of sessions returns what it cannot read.
                let returned = element.attr("type") == Some("error");
                match control.handle(element) {
                    ControlEvent::Started { session, jid: bound, .. } if bound == full => return Ok(session),
                    ControlEvent::Started { jid: bound, .. } => {
                        return Err(TrialError::BoundElsewhere(bound.to_string()));
                    }
                    ControlEvent::Refused { .. } if returned => return Err(TrialError::NoSessionControl),
                    ControlEvent::Refused { .. } => return Err(TrialError::NoSuchUser(jid.to_string())),
                    _ => {}
                }
            }
        };
        let session = timeout(PATIENCE, answered).await.unwrap_or(Err(TrialError::NoSessionControl))?;
        self.ids = Some(session);
        Ok(())
    }

    /// The answer to a request of the session.
    async fn ask(&mut self, id: &str, request: Element) -> Result<Element, TrialError> {
        let request = match (&self.control, &self.ids) {
            (Some(control), Some(ids)) => control.route(ids, request),
            _ => request,
        };
        self.connection.send(&request);
        let answered = async {
            loop {
                let Some(element) = next(&mut self.connection).await else { return Err(TrialError::Silent) };
                let stanza = match &mut self.control {
                    Some(control) => match control.handle(element) {
                        ControlEvent::Stanza { stanza, .. } => stanza,
                        _ => continue,
                    },
                    None => element,
                };
                if stanza.is("iq", ns::CLIENT) && stanza.attr("id") == Some(id) {
                    return Ok(stanza);
                }
            }
        };
        timeout(PATIENCE, answered).await.unwrap_or(Err(TrialError::Silent))
    }
}

/// The next stanza, or the end.
async fn next(connection: &mut Connection) -> Option<Element> {
    loop {
        match connection.next().await {
            Event::Stanza { element, .. } => return Some(element),
            Event::Closed(_) => return None,
            _ => {}
        }
    }
}
