//! Values that must not be printed, and the randomness that a machine is given.

use std::fmt;

use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// A password, shared secret or token: wiped when dropped, never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a secret, taking over its buffer.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(Zeroizing::new(secret.into()))
    }

    /// The secret itself, for the one place that computes with it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self::new(secret)
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self::new(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Two byte strings compared in a time that depends on their lengths only.
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (x, y)| differ | (x ^ y)) == 0
}

/// The random bytes of one negotiation, from which its nonces and ids are derived.
///
/// The machines of this crate fetch no randomness: a caller gives each negotiation bytes of its own. They
/// come from the operating system ([`Entropy::system`]) in production and from a seeded generator in a
/// test that must replay. The same bytes must never serve two negotiations.
#[derive(Clone)]
pub struct Entropy([u8; 32]);

impl Entropy {
    /// Takes bytes that the caller vouches for.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Asks the operating system.
    ///
    /// # Errors
    /// Returns [`NoRandomness`] if the operating system has none to give.
    pub fn system() -> Result<Self, NoRandomness> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// A printable id of 26 characters for one purpose; another `label` gives an unrelated one.
    pub(crate) fn token(&self, label: &str) -> String {
        use base64::Engine as _;
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.0);
        context.update(label.as_bytes());
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&context.finish().as_ref()[..20])
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(..)")
    }
}

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_printed() {
        assert_eq!(format!("{:?}", Secret::from("hunter2")), "Secret(..)");
        assert_eq!(format!("{:?}", Entropy::from_bytes([7; 32])), "Entropy(..)");
    }

    #[test]
    fn labels_give_unrelated_tokens() {
        let entropy = Entropy::from_bytes([7; 32]);
        assert_ne!(entropy.token("nonce"), entropy.token("id"));
        assert_eq!(entropy.token("nonce"), entropy.token("nonce"));
    }
}
