//! From an address to an established stream: the node that we are told, or its partner when it is gone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use router::ids::Time;
use rustls::pki_types::ServerName;
use xmpp_core::c2s;
use xmpp_core::component;
use xmpp_core::sasl::Credentials;
use xmpp_core::timing::Timing;
use xmpp_core::tokio::{
    BoxIo, ClientConfig, ConnectError, Connection, NegotiationError, ResumeState, RouterConfig, Tls,
};
use xmpp_core::{BareJid, Entropy, Secret};

use super::config::{Access, Cluster, Encryption, Framing, Shared};
use super::one_time::NoPassword;
use crate::probe::causes;

/// After so long without having written a stream is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// After so long without a sign of life a stream with stream management is lost: within a minute.
const SILENCE: Duration = Duration::from_secs(55);
/// How long a token of ours is valid; it is only used at once.
const TOKEN_LIFE: i64 = 300;

/// Whom a stream is for.
#[derive(Clone, Debug)]
pub(super) enum Whose {
    /// Everybody: a trusted link.
    Link,
    /// One user.
    User(BareJid),
}

/// A stream to be taken up again.
#[derive(Clone, Debug)]
pub(super) struct Resume {
    pub(super) state: ResumeState,
    /// Stanzas that this process has received and not yet acknowledged: they come again and are skipped.
    pub(super) skip: u64,
}

/// Connects to the nodes of a cluster in turn, from the `first`th on, or to that one `only`; gives the stream and whose
/// turn it was.
///
/// # Errors
/// What the server said, where another node would say the same; else what became of the last node.
pub(super) async fn connect(
    shared: Arc<Shared>,
    cluster: usize,
    whose: Whose,
    resume: Option<Resume>,
    first: usize,
    only: bool,
) -> Result<(Box<Connection>, usize), ConnectError> {
    let cluster = &shared.config.clusters[cluster];
    let count = cluster.nodes.len();
    let turns = if only { 1 } else { count };
    let none = io::Error::new(io::ErrorKind::NotFound, "the cluster has no nodes");
    let mut failure = ConnectError::Io(none);
    for turn in (first..first + turns).map(|turn| turn % count) {
        let (host, port) = &cluster.nodes[turn];
        let limit = shared.scale.of(Duration::from_secs(20));
        let dialed = tokio::time::timeout(limit, shared.dial.dial(host, *port)).await;
        match dialed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(io) => match negotiate(&shared, cluster, host, Box::new(io), &whose, resume.clone()).await {
                Ok(connection) => return Ok((Box::new(connection), turn)),
                Err(error) if is_about_us(&error) => return Err(error),
                Err(error) => failure = error,
            },
            Err(error) => failure = ConnectError::Io(error),
        }
        tracing::debug!(host, port, error = causes(&failure), "node does not answer");
    }
    Err(failure)
}

async fn negotiate(
    shared: &Shared,
    cluster: &Cluster,
    host: &str,
    io: BoxIo,
    whose: &Whose,
    resume: Option<Resume>,
) -> Result<Connection, ConnectError> {
    let (resume, skip) = resume.map_or((None, 0), |resume| (Some(resume.state), resume.skip));
    match (whose, &cluster.access) {
        (Whose::Link, Access::Trusted { component, secret, framing }) => {
            let io = match &cluster.encryption {
                Encryption::Usual(tls) | Encryption::Direct(tls) => encrypt(shared, tls, host, io).await?,
                Encryption::Off => io,
            };
            match framing {
                Framing::Component => {
                    let mut config =
                        component::Config::new(component.clone(), secret.clone(), entropy(shared));
                    config.manage = cluster.domains.first().cloned();
                    (config.resume, config.skip, config.timing) = (resume, skip, timing(shared));
                    Connection::component(io, config).await
                }
                Framing::Jabberd2 => {
                    let mut config = RouterConfig::new(component.clone(), secret.clone(), entropy(shared));
                    config.timing = timing(shared);
                    Connection::router(io, config).await
                }
            }
        }
        (Whose::User(jid), access) => {
            let credentials = match access {
                Access::Service { account, password } => {
                    let username = match account.split_once('@') {
                        Some((name, domain)) if domain == jid.domain().as_str() => name,
                        _ => account,
                    };
                    Credentials::Service { username: username.to_owned(), password: password.clone() }
                }
                Access::Token { key } => Credentials::Token(token(jid, key, shared.clock.now())),
                Access::OneTime(passwords) => {
                    Credentials::Token(passwords.password(jid).await.map_err(no_password)?)
                }
                Access::Trusted { .. } => return Err(misuse()),
            };
            let mut config = c2s::Config::new(jid.clone(), credentials, entropy(shared));
            config.resource = Some(shared.resource());
            (config.resume, config.skip, config.timing) = (resume, skip, timing(shared));
            let tls = match &cluster.encryption {
                Encryption::Usual(tls) => Tls::Required(Arc::clone(tls)),
                Encryption::Direct(tls) => Tls::Direct(Arc::clone(tls)),
                Encryption::Off => Tls::Off,
            };
            Connection::client(io, ClientConfig::new(config, tls)).await
        }
        (Whose::Link, _) => Err(misuse()),
    }
}

/// A link is made for its cluster's access, so this is only said if that is broken.
fn misuse() -> ConnectError {
    ConnectError::Io(io::Error::new(io::ErrorKind::InvalidInput, "the access does not fit the link"))
}

/// A login that cannot be tried has failed like one that was: refused, or at the network.
fn no_password(error: NoPassword) -> ConnectError {
    match error {
        NoPassword::Refused(_) => {
            NegotiationError::Refused { condition: error.to_string(), text: None }.into()
        }
        NoPassword::Http(_) | NoPassword::Answer(_) => ConnectError::Io(io::Error::other(error)),
    }
}

async fn encrypt(
    shared: &Shared,
    tls: &Arc<rustls::ClientConfig>,
    host: &str,
    io: BoxIo,
) -> Result<BoxIo, ConnectError> {
    let name =
        ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::ServerName(host.to_owned()))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(tls));
    match tokio::time::timeout(timing(shared).step, connector.connect(name, io)).await {
        Ok(encrypted) => Ok(Box::new(encrypted.map_err(ConnectError::Tls)?)),
        Err(_) => Err(NegotiationError::TimedOut("TLS").into()),
    }
}

fn timing(shared: &Shared) -> Timing {
    let of = |wait| shared.scale.of(wait);
    Timing { step: of(Timing::default().step), keepalive: of(KEEPALIVE), silence: of(SILENCE) }
}

fn entropy(shared: &Shared) -> Entropy {
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_exact_mut(8) {
        chunk.copy_from_slice(&shared.generator.number().to_be_bytes());
    }
    Entropy::from_bytes(bytes)
}

/// A JSON Web Token that lets its bearer in as `jid` for a few minutes (RFC 7519, RFC 7515 §3.1).
fn token(jid: &BareJid, key: &Secret, now: Time) -> Secret {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let claims = serde_json::json!({ "jid": jid.as_str(), "exp": now.0.div_euclid(1000) + TOKEN_LIFE });
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.reveal().as_bytes()), signed.as_bytes());
    Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag)))
}

/// What a failed connection means for the sessions that it should carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Try again soon.
    Retry,
    /// Try again, rarely: it is a matter of accounts or settings.
    Rarely,
    /// Somebody else's session was bound: never again, and an alarm.
    Never,
}

/// The fate of a failed connection.
pub(super) fn fate(error: &ConnectError) -> Fate {
    match error {
        ConnectError::Negotiation(NegotiationError::BoundElsewhere { .. }) => Fate::Never,
        ConnectError::Negotiation(NegotiationError::NoTls) | ConnectError::ServerName(_) => Fate::Rarely,
        // A certificate or a protocol that is not accepted; without that, it is the network's failure.
        ConnectError::Tls(error) if error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()) => {
            Fate::Rarely
        }
        error if is_about_us(error) => Fate::Rarely,
        _ => Fate::Retry,
    }
}

/// Whether it is our account that is refused, so that another node of the cluster would say the same.
fn is_about_us(error: &ConnectError) -> bool {
    let ConnectError::Negotiation(error) = error else { return false };
    matches!(
        error,
        NegotiationError::BoundElsewhere { .. }
            | NegotiationError::Refused { .. }
            | NegotiationError::NoMechanism { .. }
            | NegotiationError::Sasl(_)
            | NegotiationError::Bind(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_elses_session_is_never_asked_for_again() {
        let asked = BareJid::new("bob@lab.example").unwrap();
        let bound = "service@lab.example/webex-1".parse().unwrap();
        let elsewhere = ConnectError::from(NegotiationError::BoundElsewhere { asked, bound });
        assert_eq!(fate(&elsewhere), Fate::Never);
        let refused = NegotiationError::Refused { condition: "not-authorized".into(), text: None };
        assert_eq!(fate(&refused.into()), Fate::Rarely);
        assert_eq!(fate(&ConnectError::Eof), Fate::Retry);
    }

    #[test]
    fn a_token_is_signed_and_names_its_user() {
        let jid = BareJid::new("bob@lab.example").unwrap();
        let token = token(&jid, &Secret::new("key"), Time(1_000_000));
        let parts: Vec<&str> = token.reveal().split('.').collect();
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        assert_eq!(claims, serde_json::json!({ "jid": "bob@lab.example", "exp": 1_300 }));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let tag = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        hmac::verify(&key, format!("{}.{}", parts[0], parts[1]).as_bytes(), &tag).unwrap();
    }
}
