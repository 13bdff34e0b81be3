//! The ids of what we write: derived from the source, and recognizable as ours (rule 1).

use ring::digest;
use ring::hmac;

use crate::ids::{DerivedId, SourceId};

/// Makes ids and IVs under the organization's key, and recognizes them.
#[derive(Clone)]
pub struct Tagger {
    current: hmac::Key,
    earlier: Vec<hmac::Key>,
}

impl std::fmt::Debug for Tagger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tagger")
    }
}

impl Tagger {
    /// A tagger under this key; ids made under `earlier` keys are still recognized.
    #[must_use]
    pub fn new(key: &[u8], earlier: &[&[u8]]) -> Self {
        let key_of = |k: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, k);
        Self { current: key_of(key), earlier: earlier.iter().map(|k| key_of(k)).collect() }
    }

    /// The id of one part of one message: a UUID of version 8 (RFC 9562 §5.8).
    #[must_use]
    pub fn derive(&self, kind: &str, source: &SourceId, occurrence: u32, part: u32) -> DerivedId {
        let mut hash = digest::Context::new(&digest::SHA256);
        for field in [kind, source.as_str(), &occurrence.to_string(), &part.to_string()] {
            let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
            hash.update(&length.to_be_bytes());
            hash.update(field.as_bytes());
        }
        let digest = hash.finish();
        let head = u64::from_be_bytes(digest.as_ref()[..8].try_into().expect("a digest has 32 bytes")) >> 2;
        DerivedId::new(assemble(head, proof(&self.current, head)))
    }

    /// Whether one of us wrote something under this id.
    #[must_use]
    pub fn is_ours(&self, id: &str) -> bool {
        let Some((head, tail)) = dissect(id) else { return false };
        std::iter::once(&self.current).chain(&self.earlier).any(|key| proof(key, head) == tail)
    }

    /// The IV of one sealed field: a repeat gives the same bytes, another text another IV (rule 5).
    #[must_use]
    pub fn iv(&self, id: &DerivedId, field: &str, text: &str) -> [u8; 12] {
        let mut context = hmac::Context::with_key(&self.current);
        for part in [id.as_str(), field, text] {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            context.update(&length.to_be_bytes());
            context.update(part.as_bytes());
        }
        context.sign().as_ref()[..12].try_into().expect("an HMAC-SHA-256 has 32 bytes")
    }
}

/// The 60 bits that prove the 62 of `head`.
fn proof(key: &hmac::Key, head: u64) -> u64 {
    let tag = hmac::sign(key, &head.to_be_bytes());
    u64::from_be_bytes(tag.as_ref()[..8].try_into().expect("an HMAC-SHA-256 has 32 bytes")) >> 4
}

/// The 122 free bits of a version 8 UUID, most significant first: 48, (version) 12, (variant) 62.
fn assemble(head: u64, tail: u64) -> String {
    let free = (u128::from(head) << 60) | u128::from(tail);
    let a = (free >> 74) & ((1 << 48) - 1);
    let b = (free >> 62) & ((1 << 12) - 1);
    let c = free & ((1 << 62) - 1);
    let value = (a << 80) | (8 << 76) | (b << 64) | (0b10 << 62) | c;
    uuid::Uuid::from_u128(value).hyphenated().to_string()
}

fn dissect(id: &str) -> Option<(u64, u64)> {
    if id.len() != 36 {
        return None;
    }
    let value = uuid::Uuid::try_parse(id).ok()?.as_u128();
    if (value >> 76) & 0xf != 8 || (value >> 62) & 0b11 != 0b10 {
        return None;
    }
    let free = ((value >> 80) << 74) | (((value >> 64) & ((1 << 12) - 1)) << 62) | (value & ((1 << 62) - 1));
    let head = u64::try_from(free >> 60).ok()?;
    let tail = u64::try_from(free & ((1 << 60) - 1)).ok()?;
    Some((head, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_version_8_uuid_and_is_recognized() {
        let tagger = Tagger::new(b"key", &[]);
        let id = tagger.derive("text", &SourceId::new("a"), 0, 0);
        assert_eq!(id.as_str().as_bytes()[14], b'8');
        assert!(tagger.is_ours(id.as_str()));
        assert!(!Tagger::new(b"other", &[]).is_ours(id.as_str()));
        assert!(Tagger::new(b"other", &[b"key"]).is_ours(id.as_str()));
        assert_ne!(id, tagger.derive("text", &SourceId::new("a"), 1, 0));
    }
}
