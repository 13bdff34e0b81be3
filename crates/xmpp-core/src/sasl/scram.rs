//! SCRAM-SHA-1 and SCRAM-SHA-256 without channel binding (RFC 5802, RFC 7677).

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

use super::SaslError;
use crate::Secret;
use crate::secret::equal;

/// Fewer iterations are too cheap to guess against (RFC 7677 §4); more would be a trap.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;

/// The hash function that a SCRAM mechanism is built on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hash {
    /// SCRAM-SHA-1.
    Sha1,
    /// SCRAM-SHA-256.
    Sha256,
}

impl Hash {
    fn hmac(self, key: &[u8], message: &[u8]) -> hmac::Tag {
        let algorithm = match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), message)
    }

    fn digest(self, message: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        };
        digest::digest(algorithm, message)
    }

    /// `Hi` of RFC 5802 §2.2.
    fn salted_password(self, password: &str, salt: &[u8], iterations: NonZeroU32) -> Zeroizing<Vec<u8>> {
        let (algorithm, length) = match self {
            Self::Sha1 => (pbkdf2::PBKDF2_HMAC_SHA1, 20),
            Self::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, 32),
        };
        let mut salted = Zeroizing::new(vec![0; length]);
        pbkdf2::derive(algorithm, iterations, salt, password.as_bytes(), &mut salted);
        salted
    }
}

/// The keys of RFC 5802 §3 for one password, salt and count.
struct Keys {
    client: hmac::Tag,
    stored: digest::Digest,
    server: hmac::Tag,
}

impl Keys {
    fn derive(hash: Hash, password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        let salted = hash.salted_password(password, salt, iterations);
        let client = hash.hmac(&salted, b"Client Key");
        let stored = hash.digest(client.as_ref());
        Self { client, stored, server: hash.hmac(&salted, b"Server Key") }
    }
}

/// The side that proves that it knows the password, and has the other side prove it too.
pub struct Client {
    hash: Hash,
    password: Secret,
    first_bare: String,
    nonce: String,
    /// Once the proof is sent: the signature that only a server that knows the password can make.
    expected: Option<Vec<u8>>,
    verified: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl Client {
    /// Begins an exchange. `nonce` is printable, random, and used once.
    ///
    /// # Errors
    /// [`SaslError::Prohibited`] if SASLprep (RFC 4013) does not admit the name or the password.
    pub fn new(hash: Hash, username: &str, password: &Secret, nonce: &str) -> Result<Self, SaslError> {
        let username = prepare(username)?.replace('=', "=3D").replace(',', "=2C");
        Ok(Self {
            hash,
            password: Secret::new(prepare(password.reveal())?),
            first_bare: format!("n={username},r={nonce}"),
            nonce: nonce.to_owned(),
            expected: None,
            verified: false,
        })
    }

    /// The client-first-message.
    #[must_use]
    pub fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.first_bare).into_bytes()
    }

    /// Answers the server-first-message with the client-final-message; a server-final-message that comes as
    /// a challenge is checked and answered with nothing.
    ///
    /// # Errors
    /// The server's message is malformed, not an answer to ours, or wrong.
    pub fn challenge(&mut self, message: &[u8]) -> Result<Vec<u8>, SaslError> {
        if self.expected.is_some() {
            self.verify(message)?;
            self.verified = true;
            return Ok(Vec::new());
        }
        let server_first = std::str::from_utf8(message).map_err(|_| SaslError::Malformed)?;
        let mut parts = server_first.split(',');
        let nonce = attribute(parts.next(), "r=")?;
        let salt = BASE64.decode(attribute(parts.next(), "s=")?).map_err(|_| SaslError::Malformed)?;
        let iterations: u32 = attribute(parts.next(), "i=")?.parse().map_err(|_| SaslError::Malformed)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(SaslError::Nonce);
        }
        let count = NonZeroU32::new(iterations).filter(|count| ITERATIONS.contains(&count.get()));
        let count = count.ok_or(SaslError::Iterations(iterations))?;

        let keys = Keys::derive(self.hash, self.password.reveal(), &salt, count);
        let without_proof = format!("c=biws,r={nonce}");
        let auth_message = format!("{},{server_first},{without_proof}", self.first_bare);
        let signature = self.hash.hmac(keys.stored.as_ref(), auth_message.as_bytes());
        let proof = BASE64.encode(xor(keys.client.as_ref(), signature.as_ref()));
        let expected = self.hash.hmac(keys.server.as_ref(), auth_message.as_bytes());
        self.expected = Some(expected.as_ref().to_vec());
        Ok(format!("{without_proof},p={proof}").into_bytes())
    }

    /// Checks that the server proved itself, with the data that came with its success or before.
    ///
    /// # Errors
    /// [`SaslError::ServerSignature`] if it did not; [`SaslError::OutOfTurn`] if it was not its turn.
    pub fn success(&self, data: Option<&[u8]>) -> Result<(), SaslError> {
        match data {
            _ if self.expected.is_none() => Err(SaslError::OutOfTurn),
            Some(message) if !self.verified => self.verify(message),
            _ if self.verified => Ok(()),
            _ => Err(SaslError::ServerSignature),
        }
    }

    fn verify(&self, message: &[u8]) -> Result<(), SaslError> {
        let expected = self.expected.as_deref().ok_or(SaslError::OutOfTurn)?;
        let message = std::str::from_utf8(message).map_err(|_| SaslError::Malformed)?;
        let signature = attribute(message.split(',').next(), "v=").map_err(|_| SaslError::ServerSignature)?;
        let signature = BASE64.decode(signature).map_err(|_| SaslError::Malformed)?;
        if equal(&signature, expected) { Ok(()) } else { Err(SaslError::ServerSignature) }
    }
}

/// The side that checks, knowing the password itself.
pub struct Server {
    hash: Hash,
    keys: Option<Keys>,
    first_bare: String,
    server_first: String,
    nonce: String,
    gs2_header: String,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// What a client-first-message says.
#[derive(Debug, Eq, PartialEq)]
pub struct ClientFirst {
    /// The name of the account whose password is to be proved.
    pub username: String,
    /// On whose behalf, if not the account's own.
    pub authzid: Option<String>,
}

impl Server {
    /// Reads the client-first-message. `nonce` is printable, random, and used once.
    ///
    /// # Errors
    /// [`SaslError::Malformed`] if it is none, or asks for channel binding.
    pub fn new(hash: Hash, message: &[u8], nonce: &str) -> Result<(Self, ClientFirst), SaslError> {
        let message = std::str::from_utf8(message).map_err(|_| SaslError::Malformed)?;
        let mut parts = message.splitn(3, ',');
        let flag = parts.next().unwrap_or_default();
        let authzid = parts.next().ok_or(SaslError::Malformed)?;
        let first_bare = parts.next().ok_or(SaslError::Malformed)?;
        if flag != "n" && flag != "y" {
            return Err(SaslError::Malformed);
        }
        let gs2_header = format!("{flag},{authzid},");
        let authzid = match authzid {
            "" => None,
            authzid => Some(unescape(attribute(Some(authzid), "a=")?)?),
        };
        let mut attributes = first_bare.split(',');
        let username = unescape(attribute(attributes.next(), "n=")?)?;
        let client_nonce = attribute(attributes.next(), "r=")?;
        if client_nonce.is_empty() {
            return Err(SaslError::Malformed);
        }
        let server = Self {
            hash,
            keys: None,
            first_bare: first_bare.to_owned(),
            server_first: String::new(),
            nonce: format!("{client_nonce}{nonce}"),
            gs2_header,
        };
        Ok((server, ClientFirst { username, authzid }))
    }

    /// The server-first-message, for this password.
    ///
    /// # Errors
    /// [`SaslError::Prohibited`] if SASLprep does not admit the password.
    pub fn first(
        &mut self,
        password: &Secret,
        salt: &[u8],
        iterations: NonZeroU32,
    ) -> Result<Vec<u8>, SaslError> {
        let password = Zeroizing::new(prepare(password.reveal())?);
        self.keys = Some(Keys::derive(self.hash, &password, salt, iterations));
        self.server_first = format!("r={},s={},i={iterations}", self.nonce, BASE64.encode(salt));
        Ok(self.server_first.clone().into_bytes())
    }

    /// Checks the client-final-message: the server-final-message if the proof is right, else `None`.
    ///
    /// # Errors
    /// [`SaslError`] if the message is malformed, out of turn, or not an answer to ours.
    pub fn finish(&self, message: &[u8]) -> Result<Option<Vec<u8>>, SaslError> {
        let keys = self.keys.as_ref().ok_or(SaslError::OutOfTurn)?;
        let message = std::str::from_utf8(message).map_err(|_| SaslError::Malformed)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(SaslError::Malformed)?;
        let mut parts = without_proof.split(',');
        let binding = BASE64.decode(attribute(parts.next(), "c=")?).map_err(|_| SaslError::Malformed)?;
        if binding != self.gs2_header.as_bytes() {
            return Err(SaslError::Malformed);
        }
        if attribute(parts.next(), "r=")? != self.nonce {
            return Err(SaslError::Nonce);
        }
        let proof = BASE64.decode(proof).map_err(|_| SaslError::Malformed)?;
        let auth_message = format!("{},{},{without_proof}", self.first_bare, self.server_first);
        let signature = self.hash.hmac(keys.stored.as_ref(), auth_message.as_bytes());
        if proof.len() != signature.as_ref().len() {
            return Err(SaslError::Malformed);
        }
        let client_key = xor(&proof, signature.as_ref());
        if !equal(self.hash.digest(&client_key).as_ref(), keys.stored.as_ref()) {
            return Ok(None);
        }
        let verifier = BASE64.encode(self.hash.hmac(keys.server.as_ref(), auth_message.as_bytes()));
        Ok(Some(format!("v={verifier}").into_bytes()))
    }
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

fn attribute<'a>(part: Option<&'a str>, name: &str) -> Result<&'a str, SaslError> {
    part.and_then(|part| part.strip_prefix(name)).ok_or(SaslError::Malformed)
}

fn prepare(text: &str) -> Result<String, SaslError> {
    stringprep::saslprep(text).map(std::borrow::Cow::into_owned).map_err(|_| SaslError::Prohibited)
}

/// `=2C` and `=3D` of a saslname (RFC 5802 §5.1).
fn unescape(name: &str) -> Result<String, SaslError> {
    let mut parts = name.split('=');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (character, rest) = if let Some(rest) = part.strip_prefix("2C") {
            (',', rest)
        } else if let Some(rest) = part.strip_prefix("3D") {
            ('=', rest)
        } else {
            return Err(SaslError::Malformed);
        };
        out.push(character);
        out.push_str(rest);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Vector {
        hash: Hash,
        client_nonce: &'static str,
        server_nonce: &'static str,
        salt: &'static str,
        messages: [&'static str; 4],
    }

    /// RFC 5802 §5 and RFC 7677 §3.
    const VECTORS: [Vector; 2] = [
        Vector {
            hash: Hash::Sha1,
            client_nonce: "fyko+d2lbbFgONRv9qkxdawL",
            server_nonce: "3rfcNHYJY1ZVvWVs7j",
            salt: "QSXCR+Q6sek8bf92",
            messages: [
                "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
                "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
                "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            ],
        },
        Vector {
            hash: Hash::Sha256,
            client_nonce: "rOprNGfwEbeRWgbNEkqO",
            server_nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
            messages: [
                "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
                "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                 p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ],
        },
    ];

    #[test]
    fn the_examples_of_the_rfcs_as_client() {
        for vector in VECTORS {
            let mut client = Client::new(vector.hash, "user", &"pencil".into(), vector.client_nonce).unwrap();
            assert_eq!(client.first(), vector.messages[0].as_bytes());
            assert_eq!(client.success(None), Err(SaslError::OutOfTurn));
            assert_eq!(
                client.challenge(vector.messages[1].as_bytes()).unwrap(),
                vector.messages[2].as_bytes()
            );
            assert_eq!(client.success(Some(vector.messages[3].as_bytes())), Ok(()));
            assert_eq!(client.success(None), Err(SaslError::ServerSignature));
            assert_eq!(client.success(Some(b"v=AAAA")), Err(SaslError::ServerSignature));
            assert_eq!(client.success(Some(b"e=other-error")), Err(SaslError::ServerSignature));
        }
    }

    #[test]
    fn the_examples_of_the_rfcs_as_server() {
        for vector in VECTORS {
            let (mut server, first) =
                Server::new(vector.hash, vector.messages[0].as_bytes(), vector.server_nonce).unwrap();
            assert_eq!(first, ClientFirst { username: "user".into(), authzid: None });
            assert_eq!(server.finish(b"c=biws,r=x,p=x"), Err(SaslError::OutOfTurn));
            let salt = BASE64.decode(vector.salt).unwrap();
            let count = NonZeroU32::new(4096).unwrap();
            assert_eq!(server.first(&"pencil".into(), &salt, count).unwrap(), vector.messages[1].as_bytes());
            let last = server.finish(vector.messages[2].as_bytes()).unwrap();
            assert_eq!(last.as_deref(), Some(vector.messages[3].as_bytes()));
            server.first(&"pencils".into(), &salt, count).unwrap();
            assert_eq!(server.finish(vector.messages[2].as_bytes()), Ok(None), "another password");
        }
    }

    #[test]
    fn a_bad_server_is_refused() {
        for (message, expected) in [
            ("", SaslError::Malformed),
            ("r=ours", SaslError::Malformed),
            ("m=x,r=oursX,s=QUJD,i=4096", SaslError::Malformed),
            ("r=oursX,s=!,i=4096", SaslError::Malformed),
            ("r=oursX,s=QUJD,i=x", SaslError::Malformed),
            ("r=other,s=QUJD,i=4096", SaslError::Nonce),
            ("r=ours,s=QUJD,i=4096", SaslError::Nonce),
            ("r=oursX,s=QUJD,i=0", SaslError::Iterations(0)),
            ("r=oursX,s=QUJD,i=4095", SaslError::Iterations(4095)),
            ("r=oursX,s=QUJD,i=4294967295", SaslError::Iterations(u32::MAX)),
        ] {
            let mut client = Client::new(Hash::Sha256, "user", &"pencil".into(), "ours").unwrap();
            assert_eq!(client.challenge(message.as_bytes()), Err(expected), "{message}");
        }
    }

    #[test]
    fn a_bad_client_is_refused() {
        for message in [
            "",
            "n",
            "n,,",
            "n,,n=user",
            "n,,n=user,r=",
            "p=tls-unique,,n=user,r=x",
            "n,b=x,n=user,r=x",
            "n,,n=a=2Db,r=x",
        ] {
            assert!(Server::new(Hash::Sha1, message.as_bytes(), "x").is_err(), "{message}");
        }
        let (mut server, first) = Server::new(Hash::Sha1, b"n,a=b=2Cc,n=a=3Db,r=x", "y").unwrap();
        assert_eq!(first, ClientFirst { username: "a=b".into(), authzid: Some("b,c".into()) });
        server.first(&"pencil".into(), b"salt", NonZeroU32::new(4096).unwrap()).unwrap();
        for (message, expected) in [
            ("c=biws,r=xy,p=AAAA", SaslError::Malformed), // another header than the first message had
            ("c=bixhPWI9MkNjLA==,r=x,p=AAAA", SaslError::Nonce),
            ("c=bixhPWI9MkNjLA==,r=xy,p=AAAA", SaslError::Malformed), // too short
            ("c=bixhPWI9MkNjLA==,r=xy", SaslError::Malformed),
        ] {
            assert_eq!(server.finish(message.as_bytes()), Err(expected), "{message}");
        }
    }

    #[test]
    fn names_and_passwords_are_prepared() {
        let client = Client::new(Hash::Sha1, "us\u{ad}er,=", &"pencil".into(), "n").unwrap();
        assert_eq!(client.first(), b"n,,n=user=2C=3D,r=n");
        assert_eq!(
            Client::new(Hash::Sha1, "user", &"pen\u{7}cil".into(), "n").err(),
            Some(SaslError::Prohibited)
        );
    }
}
