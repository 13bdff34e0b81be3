//! DIGEST-MD5 (RFC 2831), the asking side only: a jabberd2 router offers nothing else. It is obsolete
//! (RFC 6331) and used for nothing else here.

use std::fmt::{self, Write as _};

use md5::{Digest as _, Md5};

use super::SaslError;
use crate::Secret;
use crate::secret::equal;

/// One exchange with quality of protection `auth`.
pub(crate) struct DigestMd5 {
    username: String,
    password: Secret,
    uri: String,
    cnonce: String,
    /// Once we have answered: the digest that only a server that knows the password can make.
    expected: Option<String>,
    verified: bool,
}

impl fmt::Debug for DigestMd5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestMd5(..)")
    }
}

impl DigestMd5 {
    /// Begins an exchange for the service `uri`. `cnonce` is printable, random, and used once.
    pub(crate) fn new(username: &str, password: Secret, uri: String, cnonce: String) -> Self {
        Self { username: username.to_owned(), password, uri, cnonce, expected: None, verified: false }
    }

    /// Answers the challenge; a second one, with the server's own proof, is answered with nothing.
    pub(crate) fn challenge(&mut self, message: &[u8]) -> Result<Vec<u8>, SaslError> {
        if self.expected.is_some() {
            self.success(Some(message))?;
            self.verified = true;
            return Ok(Vec::new());
        }
        let directives = parse(message)?;
        let find =
            |name: &str| directives.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
        let nonce = find("nonce").ok_or(SaslError::Malformed)?;
        let realm = find("realm").unwrap_or_default();
        if !find("qop").unwrap_or("auth").split(',').any(|qop| qop.trim() == "auth") {
            return Err(SaslError::Malformed);
        }
        let Self { username, uri, cnonce, .. } = self;
        if [username, uri, realm, nonce].iter().any(|value| value.contains(['"', '\\'])) {
            return Err(SaslError::Prohibited);
        }
        let user = Md5::digest(format!("{username}:{realm}:{}", self.password.reveal()));
        let mut ha1 = Md5::new();
        ha1.update(user);
        ha1.update(format!(":{nonce}:{cnonce}"));
        let ha1 = hex(&ha1.finalize());
        let response = |method: &str| {
            let ha2 = hex(&Md5::digest(format!("{method}:{uri}")));
            hex(&Md5::digest(format!("{ha1}:{nonce}:00000001:{cnonce}:auth:{ha2}")))
        };
        self.expected = Some(response(""));
        let answer = format!(
            "username=\"{username}\",realm=\"{realm}\",nonce=\"{nonce}\",cnonce=\"{cnonce}\",nc=00000001,\
             qop=auth,digest-uri=\"{uri}\",response={},charset=utf-8",
            response("AUTHENTICATE")
        );
        Ok(answer.into_bytes())
    }

    /// Checks the server's proof, which comes with the success unless it came in a second challenge before.
    pub(crate) fn success(&self, data: Option<&[u8]>) -> Result<(), SaslError> {
        let expected = self.expected.as_deref().ok_or(SaslError::OutOfTurn)?;
        if self.verified {
            return Ok(());
        }
        let directives = parse(data.unwrap_or_default())?;
        let proof = directives.iter().find(|(name, _)| name == "rspauth").map_or("", |(_, value)| value);
        if equal(proof.as_bytes(), expected.as_bytes()) { Ok(()) } else { Err(SaslError::ServerSignature) }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(32), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // writing to a String does not fail
        hex
    })
}

/// `name=value` and `name="value"` between commas (RFC 2831 §7.2).
fn parse(message: &[u8]) -> Result<Vec<(String, String)>, SaslError> {
    let mut rest = std::str::from_utf8(message).map_err(|_| SaslError::Malformed)?;
    let mut directives = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t', '\r', '\n']);
        if rest.is_empty() {
            return Ok(directives);
        }
        let (name, value) = rest.split_once('=').ok_or(SaslError::Malformed)?;
        let value = value.trim_start();
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or(SaslError::Malformed)?,
            None => value.split_once(',').unwrap_or((value, "")),
        };
        directives.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chris() -> DigestMd5 {
        let uri = "imap/elwood.innosoft.com".to_owned();
        DigestMd5::new("chris", "secret".into(), uri, "OA6MHXh6VqTrRk".to_owned())
    }

    const CHALLENGE: &[u8] =
        b"realm=\"elwood.innosoft.com\",nonce=\"OA6MG9tEQGm2hh\",qop=\"auth\",algorithm=md5-sess,charset=utf-8";

    /// RFC 2831 §4.
    #[test]
    fn the_example_of_the_rfc() {
        let mut exchange = chris();
        let answer = String::from_utf8(exchange.challenge(CHALLENGE).unwrap()).unwrap();
        assert!(answer.contains("response=d388dad90d4bbd760a152321f2143af7,"), "{answer}");
        assert_eq!(exchange.success(Some(b"rspauth=ea40f60335c427b5527b84dbabcdfffd")), Ok(()));
        for wrong in [&b"rspauth=00"[..], b"", b"rspauth=ea40f60335c427b5527b84dbabcdfffe"] {
            assert_eq!(exchange.success(Some(wrong)), Err(SaslError::ServerSignature));
        }
        assert_eq!(exchange.success(None), Err(SaslError::ServerSignature));
        assert_eq!(exchange.challenge(b"rspauth=ea40f60335c427b5527b84dbabcdfffd"), Ok(Vec::new()));
        assert_eq!(exchange.success(None), Ok(()));
    }

    #[test]
    fn bad_challenges_are_refused() {
        assert_eq!(chris().success(None), Err(SaslError::OutOfTurn));
        for (bad, error) in [
            (&b""[..], SaslError::Malformed),
            (b"nonce", SaslError::Malformed),
            (b"nonce=\"x", SaslError::Malformed),
            (b"\xff", SaslError::Malformed),
            (b"realm=x", SaslError::Malformed),
            (b"nonce=x,qop=\"auth-conf\"", SaslError::Malformed),
            (b"nonce=x\\y", SaslError::Prohibited),
        ] {
            assert_eq!(chris().challenge(bad), Err(error), "{bad:?}");
        }
    }
}
