//! JSON object signing and encryption, compact forms only, and only the algorithms that the KMS speaks:
//! `dir`, `A256KW` and `RSA-OAEP` with `A256GCM`, and `RS256`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

mod error;
pub mod jwe;
pub mod jwk;
pub mod jws;

pub use error::{JweError, JwkError, JwsError, Part};

/// The longest compact form that is looked at, in bytes.
pub const MAX_COMPACT: usize = 1 << 20;

/// base64url without padding (RFC 7515 §2).
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes behind `text`, or `None` if it is not base64url without padding in its one canonical spelling.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Appends the bytes behind `text`, spelt as for [`decode`].
pub(crate) fn decode_onto(text: &str, bytes: &mut Vec<u8>) -> Option<()> {
    URL_SAFE_NO_PAD.decode_vec(text, bytes).ok()
}

/// The `N` bytes behind `text`, spelt as for [`decode`]; `None` if it stands for more or fewer.
pub(crate) fn decode_exactly<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; 32];
    let count = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    bytes.get(..count)?.try_into().ok()
}

/// Cuts a compact form into exactly `N` parts.
pub(crate) fn split<const N: usize>(compact: &str) -> Option<[&str; N]> {
    let mut parts = compact.split('.');
    let mut out = [""; N];
    for part in &mut out {
        *part = parts.next()?;
    }
    parts.next().is_none().then_some(out)
}

/// What a header calls an algorithm, cut to what fits into a message about it.
fn shorten(name: &str) -> String {
    name.chars().take(24).collect()
}
