//! Keys as JSON (RFC 7517, RFC 7518 §6) and their thumbprints (RFC 7638).

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{JwkError, decode, encode};
use crate::crypto::{self, KEY, POINT, Random, RsaPrivate};

/// A symmetric 256-bit key: of a conversation, or shared with the KMS. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct ContentKey(Zeroizing<[u8; KEY]>);

impl ContentKey {
    /// Takes the 32 bytes of a key.
    #[must_use]
    pub fn new(bytes: [u8; KEY]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Makes a key that did not exist before.
    #[must_use]
    pub fn generate(random: &mut dyn Random) -> Self {
        let mut bytes = Zeroizing::new([0; KEY]);
        random.fill(bytes.as_mut_slice());
        Self(bytes)
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY] {
        &self.0
    }

    pub(crate) fn from_wiped(bytes: Zeroizing<[u8; KEY]>) -> Self {
        Self(bytes)
    }
}

impl PartialEq for ContentKey {
    /// Compares all bytes whatever they are, so that the time taken tells nothing.
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0.iter()).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
    }
}

impl Eq for ContentKey {}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentKey")
    }
}

impl Serialize for ContentKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(encode(self.0.as_slice())))
    }
}

impl<'de> Deserialize<'de> for ContentKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ContentKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("32 bytes as base64url")
            }

            // The error must not quote the value, which may be most of a key.
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ContentKey, E> {
                let bytes = decode(text).map(Zeroizing::new).ok_or_else(|| E::custom("not base64url"))?;
                let key = bytes.as_slice().try_into().map_err(|_| E::custom("not 32 bytes long"))?;
                Ok(ContentKey::new(key))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// A JSON Web Key of one of the three types that the KMS uses.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "kty")]
pub enum Jwk {
    /// A public RSA key (RFC 7518 §6.3.1).
    #[serde(rename = "RSA")]
    Rsa(RsaJwk),
    /// A public elliptic curve key (RFC 7518 §6.2.1).
    #[serde(rename = "EC")]
    Ec(EcJwk),
    /// A symmetric key (RFC 7518 §6.4).
    #[serde(rename = "oct")]
    Oct(OctJwk),
}

/// The members of a public RSA key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RsaJwk {
    /// Which key it is; of the KMS a `kms://` URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// The modulus, big-endian without leading zeros.
    #[serde(with = "base64url")]
    pub n: Vec<u8>,
    /// The public exponent, big-endian without leading zeros.
    #[serde(with = "base64url")]
    pub e: Vec<u8>,
    /// The certificate chain as DER in standard base64, leaf first (RFC 7517 §4.7); may be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub x5c: Vec<String>,
}

/// The members of a public key on P-256.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct EcJwk {
    /// Name of the curve; only `P-256` is spoken.
    pub crv: String,
    /// Which key it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// First coordinate, 32 bytes big-endian.
    #[serde(with = "base64url")]
    pub x: Vec<u8>,
    /// Second coordinate, 32 bytes big-endian.
    #[serde(with = "base64url")]
    pub y: Vec<u8>,
}

/// The members of a symmetric key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct OctJwk {
    /// Which key it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// What it is for; not looked at when a message is opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// The key itself.
    pub k: ContentKey,
}

impl Jwk {
    /// Reads a key from its JSON; members that we do not know are passed over (RFC 7517 §4).
    ///
    /// # Errors
    /// [`JwkError::Malformed`] if it is not JSON, has a `kty` we do not know or lacks a member.
    pub fn parse(json: &str) -> Result<Self, JwkError> {
        serde_json::from_str(json).map_err(|_| JwkError::Malformed)
    }

    /// The public key for encryption and verification.
    ///
    /// # Errors
    /// [`JwkError::WrongType`] if it is not `RSA`.
    pub fn rsa(&self) -> Result<&RsaJwk, JwkError> {
        match self {
            Self::Rsa(key) => Ok(key),
            _ => Err(JwkError::WrongType { wanted: "RSA" }),
        }
    }

    /// SHA-256 over the members that make the key, in their canonical form, as base64url (RFC 7638 §3).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        // The members are base64url and curve names; the curve alone could need escaping.
        let canonical = Zeroizing::new(match self {
            Self::Rsa(key) => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, encode(&key.e), encode(&key.n)),
            Self::Ec(key) => format!(
                r#"{{"crv":{},"kty":"EC","x":"{}","y":"{}"}}"#,
                serde_json::Value::from(key.crv.as_str()),
                encode(&key.x),
                encode(&key.y)
            ),
            Self::Oct(key) => format!(r#"{{"k":"{}","kty":"oct"}}"#, encode(key.k.as_bytes())),
        });
        encode(&crypto::sha256(canonical.as_bytes()))
    }
}

impl EcJwk {
    /// Wraps an uncompressed point of P-256; its `kid` is its thumbprint.
    pub(crate) fn from_point(point: &[u8; POINT]) -> Self {
        let mut key =
            Self { crv: "P-256".into(), kid: None, x: point[1..33].to_vec(), y: point[33..].to_vec() };
        key.kid = Some(Jwk::Ec(key.clone()).thumbprint());
        key
    }

    /// The uncompressed point. That it lies on the curve is checked when it is used.
    pub(crate) fn point(&self) -> Result<[u8; POINT], JwkError> {
        if self.crv != "P-256" {
            return Err(JwkError::UnsupportedCurve(self.crv.clone()));
        }
        if self.x.len() != 32 || self.y.len() != 32 {
            return Err(JwkError::Length);
        }
        let mut point = [4; POINT];
        point[1..33].copy_from_slice(&self.x);
        point[33..].copy_from_slice(&self.y);
        Ok(point)
    }
}

/// The private half of an RSA key, for the KMS role alone. Wiped when dropped, never printed.
#[derive(Debug)]
pub struct RsaPrivateKey(pub(crate) RsaPrivate);

impl RsaPrivateKey {
    /// Takes a key as PKCS #8 DER (RFC 5208).
    ///
    /// # Errors
    /// [`JwkError::Malformed`] if it is not an RSA key of 2048 to 4096 bits.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, JwkError> {
        RsaPrivate::from_pkcs8(der).map(Self).map_err(|_| JwkError::Malformed)
    }

    /// Makes a key of this many bits. Takes seconds in a debug build.
    ///
    /// # Errors
    /// [`JwkError::Length`] if the size is outside of 2048 to 4096.
    pub fn generate(bits: usize) -> Result<Self, JwkError> {
        RsaPrivate::generate(bits).map(Self).map_err(|_| JwkError::Length)
    }

    /// The key as PKCS #8 DER, for whatever keeps it or signs its certificate.
    ///
    /// # Errors
    /// [`JwkError::Malformed`] if it has no such form, which does not happen.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, JwkError> {
        self.0.to_pkcs8().map_err(|_| JwkError::Malformed)
    }

    /// The public half, without a name and a certificate.
    #[must_use]
    pub fn public(&self) -> RsaJwk {
        RsaJwk { kid: None, n: self.0.modulus(), e: self.0.exponent(), x5c: Vec::new() }
    }
}

/// Bytes as base64url in JSON.
mod base64url {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::decode(&text).ok_or_else(|| D::Error::custom("not base64url"))
    }
}
