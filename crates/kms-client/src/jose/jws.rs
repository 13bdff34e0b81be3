//! Compact JWS (RFC 7515 §7.1) with `RS256`: how the KMS signs the answer that makes the ephemeral key.

use serde::Deserialize;

use super::jwk::{RsaJwk, RsaPrivateKey};
use super::{JwsError, MAX_COMPACT, Part, decode, encode, shorten, split};
use crate::crypto;

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

/// Verifies a JWS and returns its payload. A `kid` in its header is not looked at: the key is the caller's choice,
/// never the message's.
///
/// # Errors
/// Why it is not an `RS256` JWS, or [`JwsError::Signature`] if it is and the key did not sign these bytes.
pub fn verify(key: &RsaJwk, jws: &str) -> Result<Vec<u8>, JwsError> {
    let (header, [protected, payload, signature]) = parse(jws)?;
    if header.alg != "RS256" {
        return Err(JwsError::UnsupportedAlg(shorten(&header.alg)));
    }
    if header.crit.is_some() {
        return Err(JwsError::UnsupportedParameter("crit"));
    }
    let signed = &jws[..protected.len() + 1 + payload.len()];
    let signature = decode(signature).ok_or(JwsError::Malformed(Part::Signature))?;
    let payload = decode(payload).ok_or(JwsError::Malformed(Part::Payload))?;
    crypto::verify_rs256(&key.n, &key.e, signed.as_bytes(), &signature).map_err(|_| JwsError::Signature)?;
    Ok(payload)
}

/// The `kid` in the header of a compact JWS, not yet verified; `None` if there is none or `jws` is not one.
#[must_use]
pub fn kid(jws: &str) -> Option<String> {
    parse(jws).ok()?.0.kid
}

/// Signs `payload`; for the KMS role.
///
/// # Errors
/// [`JwsError::Key`] if the key cannot sign.
pub fn sign(key: &RsaPrivateKey, kid: &str, payload: &[u8]) -> Result<String, JwsError> {
    let header = format!(r#"{{"alg":"RS256","kid":{}}}"#, serde_json::Value::from(kid));
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(payload));
    let signature = key.0.sign_rs256(signed.as_bytes()).map_err(|_| JwsError::Key)?;
    Ok(format!("{signed}.{}", encode(&signature)))
}

fn parse(jws: &str) -> Result<(Header, [&str; 3]), JwsError> {
    if jws.len() > MAX_COMPACT {
        return Err(JwsError::Shape);
    }
    let parts: [&str; 3] = split(jws).ok_or(JwsError::Shape)?;
    let header = decode(parts[0])
        .and_then(|json| serde_json::from_slice(&json).ok())
        .ok_or(JwsError::Malformed(Part::Header))?;
    Ok((header, parts))
}
