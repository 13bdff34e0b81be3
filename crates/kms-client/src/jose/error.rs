//! Why a JOSE object could not be made or read.

use std::fmt;

/// One of the parts of a compact form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// The protected header.
    Header,
    /// The encrypted key of a JWE.
    EncryptedKey,
    /// The initialization vector of a JWE.
    Iv,
    /// The ciphertext of a JWE.
    Ciphertext,
    /// The authentication tag of a JWE.
    Tag,
    /// The payload of a JWS.
    Payload,
    /// The signature of a JWS.
    Signature,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::EncryptedKey => "encrypted key",
            Self::Iv => "initialization vector",
            Self::Ciphertext => "ciphertext",
            Self::Tag => "tag",
            Self::Payload => "payload",
            Self::Signature => "signature",
        })
    }
}

/// Why a compact JWE (RFC 7516 §7.1) could not be sealed or opened.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JweError {
    /// The key is not the one it was sealed with, or a byte was changed. Without detail on purpose: nobody must
    /// learn from it which (RFC 7516 §11.5).
    #[error("ciphertext failed authentication")]
    Authentication,
    /// It has another number of parts than five, or is longer than [`MAX_COMPACT`](super::MAX_COMPACT).
    #[error("not a compact JWE")]
    Shape,
    /// A part is not base64url, not the JSON that belongs there, or has a wrong length.
    #[error("malformed {0}")]
    Malformed(Part),
    /// The `alg` of the header is not one of those we speak, or does not go with the key at hand.
    #[error("unsupported key management `{0}`")]
    UnsupportedAlg(String),
    /// The `enc` of the header is not `A256GCM`.
    #[error("unsupported content encryption `{0}`")]
    UnsupportedEnc(String),
    /// The header asks for something that we must understand and do not (`crit`, `zip`; RFC 7516 §4.1.3, §4.1.13).
    #[error("unsupported header parameter `{0}`")]
    UnsupportedParameter(&'static str),
    /// The plaintext is longer than fits into [`MAX_COMPACT`](super::MAX_COMPACT).
    #[error("plaintext of {0} bytes is too long")]
    TooLong(usize),
    /// The RSA key cannot encrypt: its modulus or exponent is outside of what is safe.
    #[error("unusable RSA key")]
    Key,
}

/// Why a compact JWS (RFC 7515 §7.1) could not be signed or verified.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JwsError {
    /// The signature is not that of the key over these bytes.
    #[error("signature does not verify")]
    Signature,
    /// It has another number of parts than three, or is longer than [`MAX_COMPACT`](super::MAX_COMPACT).
    #[error("not a compact JWS")]
    Shape,
    /// A part is not base64url, or not the JSON that belongs there.
    #[error("malformed {0}")]
    Malformed(Part),
    /// The `alg` of the header is not `RS256`.
    #[error("unsupported signature algorithm `{0}`")]
    UnsupportedAlg(String),
    /// The header asks for something that we must understand and do not (`crit`; RFC 7515 §4.1.11).
    #[error("unsupported header parameter `{0}`")]
    UnsupportedParameter(&'static str),
    /// The key cannot sign: its modulus is outside of what is safe.
    #[error("unusable RSA key")]
    Key,
}

/// Why a JSON Web Key (RFC 7517) is not usable here.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JwkError {
    /// It is not JSON of the shape of a key.
    #[error("malformed key")]
    Malformed,
    /// Its `kty` is another one than was needed here.
    #[error("key type is not `{wanted}`")]
    WrongType {
        /// The type that was needed: `RSA`, `EC` or `oct`.
        wanted: &'static str,
    },
    /// Its curve is not P-256.
    #[error("unsupported curve `{0}`")]
    UnsupportedCurve(String),
    /// A number in it has a length that this key type does not allow.
    #[error("key has a wrong length")]
    Length,
}
