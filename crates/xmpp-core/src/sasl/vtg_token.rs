//! CISCO-VTG-TOKEN, IM&P's one-time password. Its form is known from public code, not from a document.

use super::SaslError;
use crate::{BareJid, Secret};

/// `userid=JID NUL token=PASSWORD`
pub(super) fn message(account: &BareJid, token: &Secret) -> Vec<u8> {
    format!("userid={account}\0token={}", token.reveal()).into_bytes()
}

/// The account and the token.
pub(super) fn parse(message: &[u8]) -> Result<(&str, &str), SaslError> {
    let text = std::str::from_utf8(message).map_err(|_| SaslError::Malformed)?;
    let (account, token) = text.split_once('\0').ok_or(SaslError::Malformed)?;
    let account = account.strip_prefix("userid=").ok_or(SaslError::Malformed)?;
    let token = token.strip_prefix("token=").ok_or(SaslError::Malformed)?;
    Ok((account, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_agree() {
        let message = message(&"alice@lab.example".parse().unwrap(), &"one=time".into());
        assert_eq!(message, b"userid=alice@lab.example\0token=one=time");
        assert_eq!(parse(&message), Ok(("alice@lab.example", "one=time")));
    }

    #[test]
    fn malformed_messages_are_refused() {
        for bad in [&b""[..], b"userid=a", b"user=a\0token=b", b"userid=a\0b", b"userid=\xff\0token=b"] {
            assert_eq!(parse(bad), Err(SaslError::Malformed), "{bad:?}");
        }
    }
}
