//! Sealing at rest: AES-256-GCM with a random nonce, bound to the place that the value stands at.

use std::cell::RefCell;
use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// The length of a [`StoreKey`] in bytes.
pub const KEY_BYTES: usize = 32;

/// The key under which clear bodies and kept values lie on disk; wiped when dropped, never printed.
#[derive(Clone)]
pub struct StoreKey(Zeroizing<[u8; KEY_BYTES]>);

/// A store key has the wrong length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a store key has {KEY_BYTES} bytes, this one has {found}")]
pub struct KeyError {
    /// The length that was found, in bytes.
    pub found: usize,
}

impl StoreKey {
    /// The key of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl TryFrom<&[u8]> for StoreKey {
    type Error = KeyError;

    fn try_from(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes = bytes.try_into().map_err(|_| KeyError { found: bytes.len() })?;
        Ok(Self::new(bytes))
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey")
    }
}

/// Where a sealed value stands. It is authenticated with the value, so a value moved to another place
/// in the file does not open there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    Body(u64),
    Kept(&'a str),
    Directory,
    KeyCheck,
    Letter(&'a str),
}

impl Place<'_> {
    fn aad(self) -> Vec<u8> {
        match self {
            Self::Body(id) => [b"body:".as_slice(), &id.to_be_bytes()].concat(),
            Self::Kept(key) => [b"kept:", key.as_bytes()].concat(),
            Self::Directory => b"directory".to_vec(),
            Self::KeyCheck => b"key-check".to_vec(),
            Self::Letter(name) => [b"letter:", name.as_bytes()].concat(),
        }
    }
}

/// A sealed value did not open: another key, another place, or damage. No detail on purpose.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a sealed value does not open")]
pub(crate) struct DoesNotOpen;

/// Seals and opens values under one key.
pub(crate) struct Sealer {
    key: LessSafeKey,
    random: SystemRandom,
    /// Random bytes for nonces to come: the operating system is asked once for many.
    nonces: RefCell<Vec<u8>>,
}

/// For how many nonces it is asked at once.
const NONCES: usize = 64;

impl Sealer {
    pub(crate) fn new(key: &StoreKey) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key.0.as_slice()).expect("a store key has 32 bytes");
        Self { key: LessSafeKey::new(key), random: SystemRandom::new(), nonces: RefCell::default() }
    }

    /// Nonce, ciphertext and tag in one piece.
    pub(crate) fn seal(&self, place: Place<'_>, clear: &[u8]) -> Vec<u8> {
        let nonce = self.nonce();
        let mut sealed = Vec::with_capacity(NONCE_LEN + clear.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        let mut text = clear.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place.aad()), &mut text)
            .expect("a value is far shorter than the limit of AES-GCM");
        sealed.extend_from_slice(&text);
        sealed
    }

    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonces = self.nonces.borrow_mut();
        if nonces.is_empty() {
            nonces.resize(NONCES * NONCE_LEN, 0);
            self.random.fill(&mut nonces).expect("the operating system gives random bytes");
        }
        let rest = nonces.len() - NONCE_LEN;
        let nonce = nonces[rest..].try_into().expect("as long as it was cut");
        nonces.truncate(rest);
        nonce
    }

    pub(crate) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(DoesNotOpen)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| DoesNotOpen)?;
        let mut text = text.to_vec();
        let clear =
            self.key.open_in_place(nonce, Aad::from(place.aad()), &mut text).map_err(|_| DoesNotOpen)?.len();
        text.truncate(clear);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_only_under_its_key_at_its_place_and_unchanged() {
        let sealer = Sealer::new(&StoreKey::new([1; 32]));
        let sealed = sealer.seal(Place::Body(5), b"text");
        assert_eq!(sealer.open(Place::Body(5), &sealed).unwrap(), b"text");
        assert!(sealer.open(Place::Body(6), &sealed).is_err());
        assert!(sealer.open(Place::Directory, &sealed).is_err());
        assert!(Sealer::new(&StoreKey::new([2; 32])).open(Place::Body(5), &sealed).is_err());
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(sealer.open(Place::Body(5), &bad).is_err(), "byte {at}");
            assert!(sealer.open(Place::Body(5), &sealed[..at]).is_err(), "cut at {at}");
        }
        let nonces: std::collections::BTreeSet<_> =
            (0..3 * NONCES).map(|_| sealer.seal(Place::Body(5), b"text")[..NONCE_LEN].to_vec()).collect();
        assert_eq!(nonces.len(), 3 * NONCES, "nonces are fresh");
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let error = StoreKey::try_from([0u8; 16].as_slice()).unwrap_err();
        assert_eq!(error.to_string(), "a store key has 32 bytes, this one has 16");
    }
}
