//! The side that checks who the peer is.

use std::num::NonZeroU32;

use super::{Mechanism, plain, scram, vtg_token};
use crate::accept::Authenticator;
use crate::{BareJid, Entropy, jid};

const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");

/// One exchange, on the side that checks.
pub(crate) enum Server {
    /// The client has still to send its initial response.
    Empty(Mechanism),
    Scram {
        scram: Box<scram::Server>,
        account: BareJid,
    },
}

/// What follows from a message of the client.
pub(crate) enum Step {
    Challenge(Vec<u8>),
    Success {
        account: BareJid,
        data: Option<Vec<u8>>,
    },
    /// With the condition of RFC 6120 §6.5.
    Failure(&'static str),
}

/// What an exchange needs to know.
pub(crate) struct Context<'a> {
    pub(crate) domain: &'a str,
    pub(crate) authenticator: &'a dyn Authenticator,
    pub(crate) entropy: &'a Entropy,
    /// What the peer showed in TLS.
    pub(crate) certificate: Option<&'a [u8]>,
    /// Tells the attempts of one stream apart.
    pub(crate) attempt: usize,
}

impl Server {
    pub(crate) fn begin(mechanism: Mechanism) -> Self {
        Self::Empty(mechanism)
    }

    /// Takes in a message; the exchange is over unless a challenge comes back.
    pub(crate) fn handle(&mut self, message: &[u8], context: &Context<'_>) -> Step {
        let result = match self {
            Self::Empty(mechanism) => {
                let mechanism = *mechanism;
                self.initial(mechanism, message, context)
            }
            Self::Scram { scram, account } => match scram.finish(message) {
                Ok(Some(data)) => Ok(Step::Success { account: account.clone(), data: Some(data) }),
                Ok(None) => Err("not-authorized"),
                Err(_) => Err("malformed-request"),
            },
        };
        match result {
            // A service may have its account in another domain, but nobody's session is held there.
            Ok(Step::Success { account, .. }) if account.domain().as_str() != context.domain => {
                Step::Failure("not-authorized")
            }
            Ok(step) => step,
            Err(condition) => Step::Failure(condition),
        }
    }

    fn initial(
        &mut self,
        mechanism: Mechanism,
        message: &[u8],
        context: &Context<'_>,
    ) -> Result<Step, &'static str> {
        let account = match mechanism {
            Mechanism::Plain => {
                let (authzid, authcid, password) = plain::parse(message).map_err(|_| "malformed-request")?;
                let account = account_of(authcid, context.domain).ok_or("not-authorized")?;
                let right = context.authenticator.password(&account).ok_or("not-authorized")?;
                if !crate::secret::equal(right.reveal().as_bytes(), password.as_bytes()) {
                    return Err("not-authorized");
                }
                authorized(account, Some(authzid).filter(|authzid| !authzid.is_empty()), context)?
            }
            Mechanism::ScramSha1 => return self.scram(scram::Hash::Sha1, message, context),
            Mechanism::ScramSha256 => return self.scram(scram::Hash::Sha256, message, context),
            Mechanism::External => {
                let asked = std::str::from_utf8(message).map_err(|_| "malformed-request")?;
                let asked = Some(asked).filter(|asked| !asked.is_empty());
                context
                    .authenticator
                    .external(context.domain, asked, context.certificate)
                    .ok_or("not-authorized")?
            }
            Mechanism::CiscoVtgToken => {
                let (account, token) = vtg_token::parse(message).map_err(|_| "malformed-request")?;
                let account = account_of(account, context.domain).ok_or("not-authorized")?;
                if !context.authenticator.token(&account, token) {
                    return Err("not-authorized");
                }
                account
            }
        };
        Ok(Step::Success { account, data: None })
    }

    fn scram(
        &mut self,
        hash: scram::Hash,
        message: &[u8],
        context: &Context<'_>,
    ) -> Result<Step, &'static str> {
        let token = |label: &str| context.entropy.token(&format!("{label} {}", context.attempt));
        let (mut scram, first) =
            scram::Server::new(hash, message, &token("nonce")).map_err(|_| "malformed-request")?;
        let account = account_of(&first.username, context.domain).ok_or("not-authorized")?;
        let password = context.authenticator.password(&account).ok_or("not-authorized")?;
        let account = authorized(account, first.authzid.as_deref(), context)?;
        let challenge = scram
            .first(&password, token("salt").as_bytes(), ITERATIONS)
            .map_err(|_| "temporary-auth-failure")?;
        *self = Self::Scram { scram: Box::new(scram), account };
        Ok(Step::Challenge(challenge))
    }
}

/// The account of a name: a bare JID, or a localpart in the stream's domain.
fn account_of(name: &str, domain: &str) -> Option<BareJid> {
    if name.contains('@') {
        return name.parse().ok();
    }
    let node = jid::NodePart::new(name).ok()?;
    let domain = jid::DomainPart::new(domain).ok()?;
    Some(BareJid::from_parts(Some(&node), &domain))
}

fn authorized(
    account: BareJid,
    authzid: Option<&str>,
    context: &Context<'_>,
) -> Result<BareJid, &'static str> {
    let Some(authzid) = authzid else { return Ok(account) };
    let asked = account_of(authzid, context.domain).ok_or("invalid-authzid")?;
    if context.authenticator.authorize(&account, &asked) { Ok(asked) } else { Err("invalid-authzid") }
}
