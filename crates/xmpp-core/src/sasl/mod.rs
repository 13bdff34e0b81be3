//! Simple Authentication and Security Layer (RFC 6120 §6).

use crate::{BareJid, Secret};

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

/// How to prove who we are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Credentials {
    /// A user's own password: the best offered of SCRAM-SHA-256, SCRAM-SHA-1 and PLAIN.
    Password(Secret),
    /// A service's account acting for the user (PLAIN with an authorization id).
    Service {
        /// The name of the service's account: its localpart, as a rule.
        username: String,
        /// Its password.
        password: Secret,
    },
    /// Nothing but the TLS client certificate (EXTERNAL).
    External,
    /// A one-time password of the user (CISCO-VTG-TOKEN).
    Token(Secret),
}

/// Why a SASL message is not acceptable.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SaslError {
    /// It cannot be read.
    #[error("malformed message")]
    Malformed,
}

#[allow(dead_code)]
fn _unused(_: BareJid) {}
