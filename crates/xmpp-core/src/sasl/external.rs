//! EXTERNAL (RFC 4422 appendix A, XEP-0178).

use crate::BareJid;

/// The authorization id: whose session is wanted of those that the certificate allows.
pub(super) fn message(account: &BareJid) -> Vec<u8> {
    account.as_str().as_bytes().to_vec()
}
