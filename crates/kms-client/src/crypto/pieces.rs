//! AES-256-GCM over a text that comes in pieces (NIST SP 800-38D §7), which the providers do not offer: they take a text
//! whole. Counter mode and the hash are the field's own; put together here, and held against the provider in tests.

use aes::Aes256;
use ctr::cipher::{Array, BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipher, StreamCipherSeek};
use ctr::{Ctr32BE, CtrCore};
use ghash::{GHash, universal_hash::UniversalHash};

use super::{Failed, IV, KEY, TAG};

const BLOCK: usize = 16;

/// One text on its way through the cipher.
pub(crate) struct Pieces {
    counter: Ctr32BE<Aes256>,
    hash: GHash,
    /// What the hash is hidden under.
    mask: [u8; TAG],
    /// Ciphertext that does not fill a block yet.
    rest: [u8; BLOCK],
    rest_len: usize,
    aad_len: u64,
    len: u64,
}

impl Pieces {
    pub(crate) fn new(key: &[u8; KEY], iv: &[u8; IV], aad: &[u8]) -> Self {
        let cipher = Aes256::new(&Array::from(*key));
        let mut hash_key = Array::from([0; BLOCK]);
        cipher.encrypt_block(&mut hash_key);
        let mut first = [0; BLOCK];
        first[..IV].copy_from_slice(iv);
        first[BLOCK - 1] = 1;
        let mut mask = Array::from(first);
        cipher.encrypt_block(&mut mask);
        let mut counter = Ctr32BE::from_core(CtrCore::inner_iv_init(cipher, &Array::from(first)));
        counter.seek(BLOCK as u64);
        let mut hash = GHash::new(&hash_key);
        hash.update_padded(aad);
        let aad_len = aad.len() as u64;
        Self { counter, hash, mask: mask.into(), rest: [0; BLOCK], rest_len: 0, aad_len, len: 0 }
    }

    /// Seals one more piece in place. Fails when the whole is longer than one IV allows: 64 GiB less 32 bytes.
    pub(crate) fn seal(&mut self, piece: &mut [u8]) -> Result<(), Failed> {
        self.counter.try_apply_keystream(piece).map_err(|_| Failed)?;
        self.absorb(piece);
        Ok(())
    }

    /// Opens one more piece in place; what it gives is proven only by the tag. Fails as [`Pieces::seal`] does.
    pub(crate) fn open(&mut self, piece: &mut [u8]) -> Result<(), Failed> {
        self.absorb(piece);
        self.counter.try_apply_keystream(piece).map_err(|_| Failed)
    }

    fn absorb(&mut self, mut ciphertext: &[u8]) {
        self.len += ciphertext.len() as u64;
        if self.rest_len > 0 {
            let taken = ciphertext.len().min(BLOCK - self.rest_len);
            self.rest[self.rest_len..self.rest_len + taken].copy_from_slice(&ciphertext[..taken]);
            self.rest_len += taken;
            ciphertext = &ciphertext[taken..];
            if self.rest_len < BLOCK {
                return;
            }
            self.hash.update_padded(&self.rest);
        }
        let whole = ciphertext.len() / BLOCK * BLOCK;
        self.hash.update_padded(&ciphertext[..whole]);
        self.rest_len = ciphertext.len() - whole;
        self.rest[..self.rest_len].copy_from_slice(&ciphertext[whole..]);
    }

    /// The tag over everything.
    pub(crate) fn tag(mut self) -> [u8; TAG] {
        self.hash.update_padded(&self.rest[..self.rest_len]);
        let mut lengths = [0; BLOCK];
        lengths[..8].copy_from_slice(&(self.aad_len * 8).to_be_bytes());
        lengths[8..].copy_from_slice(&(self.len * 8).to_be_bytes());
        self.hash.update_padded(&lengths);
        let mut tag: [u8; TAG] = self.hash.finalize().into();
        for (byte, mask) in tag.iter_mut().zip(self.mask) {
            *byte ^= mask;
        }
        tag
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::seal_gcm;

    proptest! {
        #[test]
        fn pieces_give_what_the_provider_gives_for_the_whole(
            key: [u8; KEY],
            iv: [u8; IV],
            aad in prop::collection::vec(any::<u8>(), 0..40),
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..8),
        ) {
            let mut whole: Vec<u8> = pieces.concat();
            let tag = seal_gcm(&key, iv, &aad, &mut whole).unwrap();
            let mut sealer = Pieces::new(&key, &iv, &aad);
            let mut sealed = pieces.clone();
            for piece in &mut sealed {
                sealer.seal(piece).unwrap();
            }
            prop_assert_eq!(sealed.concat(), whole);
            prop_assert_eq!(sealer.tag(), tag);
            let mut opener = Pieces::new(&key, &iv, &aad);
            for piece in &mut sealed {
                opener.open(piece).unwrap();
            }
            prop_assert_eq!(sealed, pieces);
            prop_assert_eq!(opener.tag(), tag);
        }
    }
}
