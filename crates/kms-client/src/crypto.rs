//! The one seam to the cryptographic libraries: `ring` for everything it has, or `aws-lc-rs` in its place, `rsa` for
//! OAEP, `aes-kw` for the key wrap, `aes`, `ctr` and `ghash` for what comes in pieces. Nothing else in this crate names them.

mod pieces;

use std::fmt;

use aes_kw::{KeyInit, KwAes256};
#[cfg(feature = "aws-lc")]
use aws_lc_rs as provider;
use provider::rand::SecureRandom;
use provider::{aead, agreement, digest, hkdf, signature};
#[cfg(not(feature = "aws-lc"))]
use ring as provider;
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey};
use rsa::traits::PublicKeyParts;
use zeroize::Zeroizing;

pub(crate) use pieces::Pieces;

/// Length of an AES-256 key in bytes.
pub(crate) const KEY: usize = 32;
/// Length of an AES-GCM initialization vector in bytes (RFC 7518 §5.3).
pub(crate) const IV: usize = 12;
/// Length of an AES-GCM authentication tag in bytes (RFC 7518 §5.3).
pub(crate) const TAG: usize = 16;
/// Length of an uncompressed P-256 point in bytes (SEC 1 §2.3.3).
pub(crate) const POINT: usize = 65;

/// A cryptographic operation failed; deliberately without a reason, so that nobody can learn from it.
#[derive(Debug)]
pub(crate) struct Failed;

/// Where request ids, content encryption keys and the IVs of KMS messages come from.
///
/// A seeded generator makes a run repeatable in everything but the ephemeral keys and the RSA padding, which
/// always come from the operating system. Outside of tests use [`SystemRandom`]. Every closure that fills a
/// slice of bytes is one, too.
pub trait Random: Send {
    /// Fills `out` with bytes that nobody else can guess.
    fn fill(&mut self, out: &mut [u8]);
}

impl<F: FnMut(&mut [u8]) + Send> Random for F {
    fn fill(&mut self, out: &mut [u8]) {
        self(out);
    }
}

/// The operating system's generator.
#[derive(Clone, Debug)]
pub struct SystemRandom(provider::rand::SystemRandom);

impl SystemRandom {
    /// Makes a handle on the operating system's generator.
    #[must_use]
    pub fn new() -> Self {
        Self(provider::rand::SystemRandom::new())
    }
}

impl Default for SystemRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl Random for SystemRandom {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill(out).expect("the operating system hands out random bytes");
    }
}

/// The operating system's generator in the shape that `rsa` wants.
struct RsaRandom(provider::rand::SystemRandom);

impl RsaRandom {
    fn new() -> Self {
        Self(provider::rand::SystemRandom::new())
    }
}

impl rsa::rand_core::TryRng for RsaRandom {
    type Error = NoRandom;

    fn try_next_u32(&mut self) -> Result<u32, NoRandom> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, NoRandom> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), NoRandom> {
        self.0.fill(out).map_err(|_| NoRandom)
    }
}

impl rsa::rand_core::TryCryptoRng for RsaRandom {}

#[derive(Debug, thiserror::Error)]
#[error("the operating system refused random bytes")]
struct NoRandom;

/// Seals `text` in place with AES-256-GCM and returns the tag. Fails only above 64 GiB.
pub(crate) fn seal_gcm(
    key: &[u8; KEY],
    iv: [u8; IV],
    aad: &[u8],
    text: &mut [u8],
) -> Result<[u8; TAG], Failed> {
    let tag = gcm(key)
        .seal_in_place_separate_tag(aead::Nonce::assume_unique_for_key(iv), aead::Aad::from(aad), text)
        .map_err(|_| Failed)?;
    let mut bytes = [0; TAG];
    bytes.copy_from_slice(tag.as_ref());
    Ok(bytes)
}

/// Opens `text`, whose last 16 bytes are the tag, in place; on success the tag is cut off.
pub(crate) fn open_gcm(
    key: &[u8; KEY],
    iv: [u8; IV],
    aad: &[u8],
    text: &mut Zeroizing<Vec<u8>>,
) -> Result<(), Failed> {
    let opened = gcm(key)
        .open_in_place(aead::Nonce::assume_unique_for_key(iv), aead::Aad::from(aad), text.as_mut_slice())
        .map_err(|_| Failed)?
        .len();
    text.truncate(opened);
    Ok(())
}

fn gcm(key: &[u8; KEY]) -> aead::LessSafeKey {
    aead::LessSafeKey::new(
        aead::UnboundKey::new(&aead::AES_256_GCM, key).expect("an AES-256 key has 32 bytes"),
    )
}

/// Unwraps a 256-bit key with AES-256 key wrap (RFC 3394, RFC 7518 §4.4).
pub(crate) fn unwrap_key(wrapping: &[u8; KEY], wrapped: &[u8]) -> Result<Zeroizing<[u8; KEY]>, Failed> {
    let mut key = Zeroizing::new([0; KEY]);
    if wrapped.len() != KEY + aes_kw::IV_LEN {
        return Err(Failed);
    }
    KwAes256::new(&(*wrapping).into()).unwrap_key(wrapped, key.as_mut_slice()).map_err(|_| Failed)?;
    Ok(key)
}

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// HKDF-SHA-256 (RFC 5869) with empty salt and info, 32 bytes long.
pub(crate) fn hkdf(secret: &[u8]) -> Zeroizing<[u8; KEY]> {
    let mut out = Zeroizing::new([0; KEY]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
        .extract(secret)
        .expand(&[], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(out.as_mut_slice()))
        .expect("HKDF-SHA-256 gives up to 8160 bytes");
    out
}

/// One side's secret of an ECDH agreement on P-256, used at most once.
pub(crate) struct Agreement {
    secret: agreement::EphemeralPrivateKey,
    /// The public half, uncompressed.
    pub(crate) public: [u8; POINT],
}

impl Agreement {
    pub(crate) fn generate() -> Result<Self, Failed> {
        let random = provider::rand::SystemRandom::new();
        let secret =
            agreement::EphemeralPrivateKey::generate(&agreement::ECDH_P256, &random).map_err(|_| Failed)?;
        let public = secret.compute_public_key().map_err(|_| Failed)?;
        let public = public.as_ref().try_into().map_err(|_| Failed)?;
        Ok(Self { secret, public })
    }

    /// Agrees with the peer's point, which is checked to lie on the curve, and derives the shared key.
    pub(crate) fn agree(self, peer: &[u8; POINT]) -> Result<Zeroizing<[u8; KEY]>, Failed> {
        let peer = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, peer);
        #[cfg(not(feature = "aws-lc"))]
        let key = agreement::agree_ephemeral(self.secret, &peer, hkdf).map_err(|_| Failed);
        #[cfg(feature = "aws-lc")]
        let key = agreement::agree_ephemeral(self.secret, peer, Failed, |secret| Ok(hkdf(secret)));
        key
    }
}

/// Encrypts with RSA-OAEP, SHA-1 and MGF1-SHA-1 (RFC 7518 §4.3).
pub(crate) fn encrypt_oaep(modulus: &[u8], exponent: &[u8], text: &[u8]) -> Result<Vec<u8>, Failed> {
    let key = rsa::PublicKey::new_with_size_limits(
        rsa::BoxedUint::from_be_slice_vartime(modulus),
        rsa::BoxedUint::from_be_slice_vartime(exponent),
        MODULUS_BITS,
    )
    .map_err(|_| Failed)?;
    key.oaep_encrypt_with_rng::<sha1::Sha1, _>(&mut RsaRandom::new(), text).map_err(|_| Failed)
}

/// Modulus and exponent of an RSA key given as a SubjectPublicKeyInfo, without leading zeros.
pub(crate) fn rsa_numbers(spki: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let key = rsa::PublicKey::from_public_key_der(spki).ok()?;
    Some((key.n_bytes().into(), key.e_bytes().into()))
}

/// Sizes of RSA moduli we work with; what is smaller is no longer safe (RFC 7518 §3.3 and §4.3), what is bigger
/// only costs time.
pub(crate) const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Verifies RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3).
pub(crate) fn verify_rs256(
    modulus: &[u8],
    exponent: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), Failed> {
    signature::RsaPublicKeyComponents { n: modulus, e: exponent }
        .verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature)
        .map_err(|_| Failed)
}

/// An RSA private key, for the KMS role alone.
pub(crate) struct RsaPrivate {
    opens: rsa::PrivateKey,
    signs: signature::RsaKeyPair,
}

impl RsaPrivate {
    pub(crate) fn generate(bits: usize) -> Result<Self, Failed> {
        Self::new(rsa::PrivateKey::new(&mut RsaRandom::new(), bits).map_err(|_| Failed)?)
    }

    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, Failed> {
        Self::new(rsa::PrivateKey::from_pkcs8_der(der).map_err(|_| Failed)?)
    }

    fn new(opens: rsa::PrivateKey) -> Result<Self, Failed> {
        let der = opens.to_pkcs8_der().map_err(|_| Failed)?;
        let signs = signature::RsaKeyPair::from_pkcs8(der.as_bytes()).map_err(|_| Failed)?;
        Ok(Self { opens, signs })
    }

    pub(crate) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, Failed> {
        Ok(Zeroizing::new(self.opens.to_pkcs8_der().map_err(|_| Failed)?.as_bytes().to_vec()))
    }

    pub(crate) fn modulus(&self) -> Vec<u8> {
        self.opens.n_bytes().into()
    }

    pub(crate) fn exponent(&self) -> Vec<u8> {
        self.opens.e_bytes().into()
    }

    /// Decrypts what [`encrypt_oaep`] made.
    pub(crate) fn decrypt_oaep(&self, text: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failed> {
        self.opens
            .oaep_decrypt_with_rng::<sha1::Sha1, _>(&mut RsaRandom::new(), text)
            .map(Zeroizing::new)
            .map_err(|_| Failed)
    }

    /// Signs what [`verify_rs256`] verifies.
    pub(crate) fn sign_rs256(&self, message: &[u8]) -> Result<Vec<u8>, Failed> {
        let mut out = vec![0; self.opens.size()];
        let random = provider::rand::SystemRandom::new();
        self.signs.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut out).map_err(|_| Failed)?;
        Ok(out)
    }
}

impl fmt::Debug for RsaPrivate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RsaPrivate")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        digits.map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
    }

    #[test]
    fn key_wrap_of_rfc_3394_section_4_6() {
        let wrapping: [u8; 32] =
            bytes("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F").try_into().unwrap();
        let wrapped =
            bytes("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21");
        let key = bytes("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F");
        assert_eq!(unwrap_key(&wrapping, &wrapped).unwrap().as_slice(), key);
        assert!(unwrap_key(&wrapping, &wrapped[..32]).is_err());
        for bit in 0..wrapped.len() * 8 {
            let mut changed = wrapped.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(unwrap_key(&wrapping, &changed).is_err());
        }
    }

    #[test]
    fn hkdf_of_rfc_5869_appendix_a_3() {
        let key = bytes("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d");
        assert_eq!(hkdf(&[0x0b; 22]).as_slice(), key);
    }

    #[test]
    fn our_published_derivation() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../tests/data/vectors.json")).unwrap();
        let row = &vectors["derive"][0];
        let value = |name: &str| crate::jose::decode(row[name].as_str().unwrap()).unwrap();
        assert_eq!(hkdf(&value("z")).as_slice(), value("key"));
    }

    #[test]
    fn both_sides_agree() {
        let (one, two) = (Agreement::generate().unwrap(), Agreement::generate().unwrap());
        let (first, second) = (one.public, two.public);
        assert_eq!(*one.agree(&second).unwrap(), *two.agree(&first).unwrap());
        let off_the_curve = [4; POINT];
        assert!(Agreement::generate().unwrap().agree(&off_the_curve).is_err());
    }
}
