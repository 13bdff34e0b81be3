//! Simple Authentication and Security Layer (RFC 6120 §6), in both roles.
//!
//! PLAIN, SCRAM-SHA-1, SCRAM-SHA-256, EXTERNAL and CISCO-VTG-TOKEN. No channel binding: a client says that it
//! supports none.

mod digest_md5;
mod external;
mod plain;
pub mod scram;
mod server;
mod vtg_token;

use std::fmt;

use crate::{BareJid, Entropy, Secret};

pub(crate) use digest_md5::DigestMd5;
pub(crate) use server::{Context, Server, Step};

/// A SASL mechanism that both roles speak.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Mechanism {
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256,
    /// SCRAM-SHA-1 (RFC 5802).
    ScramSha1,
    /// PLAIN (RFC 4616).
    Plain,
    /// EXTERNAL (RFC 4422 appendix A).
    External,
    /// CISCO-VTG-TOKEN: a one-time password, as the desktop client of IM&P uses it.
    CiscoVtgToken,
}

impl Mechanism {
    const ALL: [Self; 5] =
        [Self::ScramSha256, Self::ScramSha1, Self::Plain, Self::External, Self::CiscoVtgToken];

    /// The registered name, as it travels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::Plain => "PLAIN",
            Self::External => "EXTERNAL",
            Self::CiscoVtgToken => "CISCO-VTG-TOKEN",
        }
    }

    /// The mechanism of a name; `None` if we do not speak it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How to prove who we are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Credentials {
    /// A user's own password: the best offered of SCRAM-SHA-256, SCRAM-SHA-1 and PLAIN.
    Password(Secret),
    /// A service's account acting for the user: PLAIN with an authorization id, and nothing else, since
    /// servers differ in what they make of one. The bound JID is compared afterwards.
    Service {
        /// The name of the service's account: its localpart, as a rule.
        username: String,
        /// Its password.
        password: Secret,
    },
    /// Nothing but the TLS client certificate (EXTERNAL).
    External,
    /// A token of the user, such as a one-time password: CISCO-VTG-TOKEN or, where that is not offered, in
    /// place of the password (PLAIN).
    Token(Secret),
}

impl Credentials {
    /// The mechanisms that these credentials serve, best first.
    #[must_use]
    pub fn mechanisms(&self) -> &'static [Mechanism] {
        match self {
            Self::Password(_) => &[Mechanism::ScramSha256, Mechanism::ScramSha1, Mechanism::Plain],
            Self::Service { .. } => &[Mechanism::Plain],
            Self::External => &[Mechanism::External],
            Self::Token(_) => &[Mechanism::CiscoVtgToken, Mechanism::Plain],
        }
    }
}

/// Why a SASL message is not acceptable.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SaslError {
    /// It is not base64, or not in the mechanism's form.
    #[error("malformed message")]
    Malformed,
    /// The peer's nonce does not begin with ours (RFC 5802 §5.1).
    #[error("the peer's nonce does not continue ours")]
    Nonce,
    /// The server wants fewer than 4,096 iterations or more than 1,000,000: too weak, or a trap.
    #[error("{0} iterations are out of range")]
    Iterations(u32),
    /// The server did not prove that it knows the password (RFC 5802 §3).
    #[error("the server did not prove that it knows the password")]
    ServerSignature,
    /// The password or name has characters that SASL does not allow (RFC 4013).
    #[error("the password or name has characters that are not allowed")]
    Prohibited,
    /// The server said that the exchange succeeded before its turn.
    #[error("success out of turn")]
    OutOfTurn,
}

/// One exchange, on the side that proves itself.
pub(crate) enum Client {
    /// Everything is in the first message.
    Single(Vec<u8>),
    Scram(scram::Client),
}

impl Client {
    /// Begins the best offered mechanism, or `None` if there is none.
    pub(crate) fn choose(
        credentials: &Credentials,
        account: &BareJid,
        offered: &[String],
        entropy: &Entropy,
    ) -> Option<Result<(Mechanism, Self), SaslError>> {
        let is_offered = |mechanism: &&Mechanism| offered.iter().any(|name| name == mechanism.name());
        let mechanism = *credentials.mechanisms().iter().find(is_offered)?;
        Some(Self::begin(mechanism, credentials, account, entropy).map(|client| (mechanism, client)))
    }

    fn begin(
        mechanism: Mechanism,
        credentials: &Credentials,
        account: &BareJid,
        entropy: &Entropy,
    ) -> Result<Self, SaslError> {
        let username = account.node().map_or("", |node| node.as_str());
        let scram = |hash, password: &Secret| {
            scram::Client::new(hash, username, password, &entropy.token("nonce")).map(Self::Scram)
        };
        match credentials {
            Credentials::Password(password) => match mechanism {
                Mechanism::ScramSha256 => scram(scram::Hash::Sha256, password),
                Mechanism::ScramSha1 => scram(scram::Hash::Sha1, password),
                _ => Ok(Self::Single(plain::message("", username, password))),
            },
            Credentials::Service { username, password } => {
                Ok(Self::Single(plain::message(account.as_str(), username, password)))
            }
            Credentials::External => Ok(Self::Single(external::message(account))),
            Credentials::Token(token) => Ok(Self::Single(match mechanism {
                Mechanism::Plain => plain::message("", username, token),
                _ => vtg_token::message(account, token),
            })),
        }
    }

    /// The initial response.
    pub(crate) fn initial(&self) -> Vec<u8> {
        match self {
            Self::Single(message) => message.clone(),
            Self::Scram(scram) => scram.first(),
        }
    }

    /// Answers a challenge.
    pub(crate) fn challenge(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslError> {
        match self {
            Self::Single(_) => Err(SaslError::Malformed),
            Self::Scram(scram) => scram.challenge(challenge),
        }
    }

    /// Checks what came with the success, if anything did.
    pub(crate) fn success(&self, data: Option<&[u8]>) -> Result<(), SaslError> {
        match self {
            Self::Single(_) => Ok(()),
            Self::Scram(scram) => scram.success(data),
        }
    }
}
