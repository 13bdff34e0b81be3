//! Compact JWE (RFC 7516 §7.1): five base64url parts, the first of which is authenticated with the ciphertext.
//!
//! Three forms occur. Texts of conversations are sealed `dir` with the conversation's key and name no key;
//! messages to and from the KMS are sealed `dir` with the ephemeral key and name it; the request that makes the
//! ephemeral key is sealed `RSA-OAEP` to the static key of the KMS.

use serde::Deserialize;
use zeroize::Zeroizing;

pub use super::jwk::ContentKey;
use super::jwk::{RsaJwk, RsaPrivateKey};
use super::{JweError, MAX_COMPACT, Part, decode, decode_exactly, decode_onto, encode, shorten, split};
use crate::crypto::{self, IV, Random, TAG};

/// The protected header of a text in a conversation, byte for byte.
const CONTENT_HEADER: &str = r#"{"enc":"A256GCM","alg":"dir"}"#;

/// The same as it stands in a JWE.
const CONTENT_HEADER_ENCODED: &str = "eyJlbmMiOiJBMjU2R0NNIiwiYWxnIjoiZGlyIn0";

/// The parts of a protected header that we act on.
#[derive(Clone, Debug, Deserialize)]
pub struct Header {
    /// Content encryption; always `A256GCM` in what we make.
    pub enc: String,
    /// Key management: `dir`, `A256KW` or `RSA-OAEP`.
    pub alg: String,
    /// Which key; `None` in the texts of conversations.
    #[serde(default)]
    pub kid: Option<String>,
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    zip: Option<serde::de::IgnoredAny>,
}

/// Seals a text of a conversation. The IV is the caller's: the same text under the same IV gives the same JWE,
/// which is how a repeated post is recognized; another text under the same key must have another IV.
///
/// # Errors
/// [`JweError::TooLong`] if the result would be longer than [`MAX_COMPACT`].
pub fn seal(key: &ContentKey, iv: &[u8; IV], plaintext: &[u8]) -> Result<String, JweError> {
    seal_direct(CONTENT_HEADER, key, iv, plaintext)
}

/// Seals a message to or from the KMS with the ephemeral key that `kid` names.
///
/// # Errors
/// [`JweError::TooLong`] if the result would be longer than [`MAX_COMPACT`].
pub fn seal_for(key: &ContentKey, kid: &str, iv: &[u8; IV], plaintext: &[u8]) -> Result<String, JweError> {
    seal_direct(&header("dir", kid), key, iv, plaintext)
}

/// Seals a message to whoever has the private half of `key`, with a fresh content encryption key and IV.
///
/// # Errors
/// [`JweError::TooLong`] as for [`seal`]; [`JweError::Key`] if the key is no usable RSA key of 2048 to 8192 bits.
pub fn seal_to(
    key: &RsaJwk,
    kid: &str,
    random: &mut dyn Random,
    plaintext: &[u8],
) -> Result<String, JweError> {
    let content_key = ContentKey::generate(random);
    let mut iv = [0; IV];
    random.fill(&mut iv);
    let encrypted =
        crypto::encrypt_oaep(&key.n, &key.e, content_key.as_bytes()).map_err(|_| JweError::Key)?;
    assemble(&header("RSA-OAEP", kid), &encrypted, &content_key, &iv, plaintext)
}

/// Opens a JWE sealed `dir` with `key` or `A256KW` under it; a `kid` in its header is not looked at.
///
/// # Errors
/// Why it is not a JWE of that kind, or [`JweError::Authentication`] if it is and the key is not right or a byte
/// was changed.
pub fn open(key: &ContentKey, jwe: &str) -> Result<Zeroizing<Vec<u8>>, JweError> {
    let parts = Parts::split(jwe)?;
    if parts.protected == CONTENT_HEADER_ENCODED && parts.encrypted_key.is_empty() {
        // Nearly every text of a conversation: there is nothing in its header to be read.
        return parts.open(key);
    }
    let header = parts.header()?;
    match header.alg.as_str() {
        "dir" if parts.encrypted_key.is_empty() => parts.open_as(&header, key),
        "dir" => Err(JweError::Malformed(Part::EncryptedKey)),
        "A256KW" => {
            let wrapped = decode(parts.encrypted_key).ok_or(JweError::Malformed(Part::EncryptedKey))?;
            let inner = crypto::unwrap_key(key.as_bytes(), &wrapped).map_err(|_| JweError::Authentication)?;
            parts.open_as(&header, &ContentKey::from_wiped(inner))
        }
        other => Err(JweError::UnsupportedAlg(shorten(other))),
    }
}

/// Opens a JWE sealed `RSA-OAEP`; for the KMS role. A `kid` in its header is not looked at.
///
/// # Errors
/// As of [`open`].
pub fn open_with(key: &RsaPrivateKey, jwe: &str) -> Result<Zeroizing<Vec<u8>>, JweError> {
    let parts = Parts::split(jwe)?;
    let header = parts.header()?;
    if header.alg != "RSA-OAEP" {
        return Err(JweError::UnsupportedAlg(shorten(&header.alg)));
    }
    let encrypted = decode(parts.encrypted_key).ok_or(JweError::Malformed(Part::EncryptedKey))?;
    // A key that does not decrypt is replaced by a random one, so that the answer, and the time it takes, is that
    // of a forged ciphertext (RFC 7516 §11.5).
    let mut content_key = ContentKey::generate(&mut crypto::SystemRandom::new());
    if let Ok(bytes) = key.0.decrypt_oaep(&encrypted)
        && let Ok(bytes) = bytes.as_slice().try_into()
    {
        content_key = ContentKey::new(bytes);
    }
    parts.open_as(&header, &content_key)
}

/// The protected header of a compact JWE, not yet authenticated.
///
/// # Errors
/// [`JweError::Shape`] or [`JweError::Malformed`] if there is none to be read.
pub fn peek(jwe: &str) -> Result<Header, JweError> {
    Parts::split(jwe)?.header()
}

/// The IV of a compact JWE, by which a post of ours is recognized when it comes back; `None` if `jwe` is not one.
#[must_use]
pub fn iv(jwe: &str) -> Option<[u8; IV]> {
    let [_, _, iv, _, _] = split(jwe)?;
    decode_exactly(iv)
}

/// The header in the order of its members that everybody else writes.
fn header(alg: &str, kid: &str) -> String {
    format!(r#"{{"enc":"A256GCM","alg":"{alg}","kid":{}}}"#, serde_json::Value::from(kid))
}

fn seal_direct(header: &str, key: &ContentKey, iv: &[u8; IV], plaintext: &[u8]) -> Result<String, JweError> {
    assemble(header, &[], key, iv, plaintext)
}

fn assemble(
    header: &str,
    encrypted_key: &[u8],
    key: &ContentKey,
    iv: &[u8; IV],
    plaintext: &[u8],
) -> Result<String, JweError> {
    if plaintext.len() > MAX_COMPACT / 4 * 3 - 2048 {
        return Err(JweError::TooLong(plaintext.len()));
    }
    let header = encode(header.as_bytes());
    let mut text = Zeroizing::new(plaintext.to_vec());
    let tag = crypto::seal_gcm(key.as_bytes(), *iv, header.as_bytes(), &mut text)
        .map_err(|_| JweError::TooLong(plaintext.len()))?;
    Ok([header, encode(encrypted_key), encode(iv), encode(&text), encode(&tag)].join("."))
}

/// A compact JWE taken apart.
struct Parts<'a> {
    protected: &'a str,
    encrypted_key: &'a str,
    iv: &'a str,
    ciphertext: &'a str,
    tag: &'a str,
}

impl<'a> Parts<'a> {
    fn split(jwe: &'a str) -> Result<Self, JweError> {
        if jwe.len() > MAX_COMPACT {
            return Err(JweError::Shape);
        }
        let [protected, encrypted_key, iv, ciphertext, tag] = split(jwe).ok_or(JweError::Shape)?;
        Ok(Self { protected, encrypted_key, iv, ciphertext, tag })
    }

    fn header(&self) -> Result<Header, JweError> {
        decode(self.protected)
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or(JweError::Malformed(Part::Header))
    }

    /// Opens it if its header asks for nothing that we do not do.
    fn open_as(&self, header: &Header, key: &ContentKey) -> Result<Zeroizing<Vec<u8>>, JweError> {
        if header.enc != "A256GCM" {
            return Err(JweError::UnsupportedEnc(shorten(&header.enc)));
        }
        if header.crit.is_some() {
            return Err(JweError::UnsupportedParameter("crit"));
        }
        if header.zip.is_some() {
            return Err(JweError::UnsupportedParameter("zip"));
        }
        self.open(key)
    }

    fn open(&self, key: &ContentKey) -> Result<Zeroizing<Vec<u8>>, JweError> {
        let iv: [u8; IV] = decode_exactly(self.iv).ok_or(JweError::Malformed(Part::Iv))?;
        let tag: [u8; TAG] = decode_exactly(self.tag).ok_or(JweError::Malformed(Part::Tag))?;
        // Room for both, so that no text is left behind in a buffer that was outgrown.
        let mut text = Zeroizing::new(Vec::with_capacity(self.ciphertext.len() + TAG));
        decode_onto(self.ciphertext, &mut text).ok_or(JweError::Malformed(Part::Ciphertext))?;
        text.extend_from_slice(&tag);
        crypto::open_gcm(key.as_bytes(), iv, self.protected.as_bytes(), &mut text)
            .map_err(|_| JweError::Authentication)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_header_is_known_as_it_is_spelt_and_in_no_other_way() {
        assert_eq!(encode(CONTENT_HEADER.as_bytes()), CONTENT_HEADER_ENCODED);
        let key = ContentKey::new([7; 32]);
        let spellings =
            [CONTENT_HEADER, r#"{"alg":"dir","enc":"A256GCM"}"#, r#"{ "enc": "A256GCM", "alg": "dir" }"#];
        for header in spellings {
            let jwe = seal_direct(header, &key, &[1; IV], b"a text").unwrap();
            assert_eq!(open(&key, &jwe).unwrap().as_slice(), b"a text", "{header}");
        }
        let jwe = seal(&key, &[1; IV], b"a text").unwrap();
        // A key that is sent along has no place in a text that is sealed directly.
        let with_key = jwe.replacen("..", ".AAAA.", 1);
        assert!(matches!(open(&key, &with_key), Err(JweError::Malformed(Part::EncryptedKey))));
    }
}
