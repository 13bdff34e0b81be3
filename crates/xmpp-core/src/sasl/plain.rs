//! PLAIN (RFC 4616).

use super::SaslError;
use crate::Secret;

/// `[authzid] NUL authcid NUL passwd`
pub(super) fn message(authzid: &str, authcid: &str, password: &Secret) -> Vec<u8> {
    [authzid, authcid, password.reveal()].join("\0").into_bytes()
}

/// The three parts: authorization id (empty: none), name and password.
pub(super) fn parse(message: &[u8]) -> Result<(&str, &str, &str), SaslError> {
    let text = std::str::from_utf8(message).map_err(|_| SaslError::Malformed)?;
    let mut parts = text.split('\0');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(authzid), Some(authcid), Some(password), None) if !authcid.is_empty() => {
            Ok((authzid, authcid, password))
        }
        _ => Err(SaslError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4616 §4, both examples.
    #[test]
    fn the_examples_of_the_rfc() {
        assert_eq!(message("", "tim", &"tanstaaftanstaaf".into()), b"\0tim\0tanstaaftanstaaf");
        assert_eq!(message("Ursel", "Kurt", &"xipj3plmq".into()), b"Ursel\0Kurt\0xipj3plmq");
        assert_eq!(parse(b"Ursel\0Kurt\0xipj3plmq"), Ok(("Ursel", "Kurt", "xipj3plmq")));
    }

    #[test]
    fn malformed_messages_are_refused() {
        for bad in [&b""[..], b"a", b"a\0b", b"a\0b\0c\0d", b"\0\0secret", b"\0\xff\0secret"] {
            assert_eq!(parse(bad), Err(SaslError::Malformed), "{bad:?}");
        }
    }
}
