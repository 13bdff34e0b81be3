//! The keys of conversations that were fetched before: a bounded cache, shared by all users.

use std::collections::BTreeMap;
use std::fmt;

use crate::jose::jwk::ContentKey;
use crate::uri::KeyUri;

/// A cache of conversation keys by their names. When it is full, the key that was not used for the longest time
/// goes. Keys are wiped as they go.
pub struct KeyRing {
    capacity: usize,
    clock: u64,
    keys: BTreeMap<KeyUri, (ContentKey, u64)>,
    by_use: BTreeMap<u64, KeyUri>,
}

impl KeyRing {
    /// Makes an empty ring for at most `capacity` keys; 0 keeps none.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, clock: 0, keys: BTreeMap::new(), by_use: BTreeMap::new() }
    }

    /// The key of that name, if it is here; it counts as used now.
    pub fn get(&mut self, uri: &KeyUri) -> Option<ContentKey> {
        let (key, used) = self.keys.get_mut(uri)?;
        let uri = self.by_use.remove(used)?;
        self.clock += 1;
        *used = self.clock;
        self.by_use.insert(self.clock, uri);
        Some(key.clone())
    }

    /// Keeps a key; one of the same name is replaced.
    pub fn insert(&mut self, uri: KeyUri, key: ContentKey) {
        self.clock += 1;
        if let Some((_, used)) = self.keys.insert(uri.clone(), (key, self.clock)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.clock, uri);
        while self.keys.len() > self.capacity {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.keys.remove(&oldest);
        }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} of {} keys)", self.keys.len(), self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(n: u8) -> KeyUri {
        format!("kms://kms.example/keys/{n}").parse().unwrap()
    }

    #[test]
    fn the_key_that_was_not_used_for_the_longest_time_goes() {
        let mut ring = KeyRing::new(2);
        ring.insert(uri(1), ContentKey::new([1; 32]));
        ring.insert(uri(2), ContentKey::new([2; 32]));
        assert_eq!(ring.get(&uri(1)).unwrap(), ContentKey::new([1; 32]));
        ring.insert(uri(3), ContentKey::new([3; 32]));
        assert!(ring.get(&uri(2)).is_none());
        assert!(ring.get(&uri(1)).is_some() && ring.get(&uri(3)).is_some());
        assert_eq!(ring.len(), 2);
    }

    #[test]
    fn a_key_of_the_same_name_is_replaced() {
        let mut ring = KeyRing::new(2);
        ring.insert(uri(1), ContentKey::new([1; 32]));
        ring.insert(uri(1), ContentKey::new([9; 32]));
        assert_eq!(ring.len(), 1);
        assert_eq!(ring.get(&uri(1)).unwrap(), ContentKey::new([9; 32]));
    }

    #[test]
    fn a_ring_without_room_keeps_nothing() {
        let mut ring = KeyRing::new(0);
        ring.insert(uri(1), ContentKey::new([1; 32]));
        assert!(ring.is_empty());
        assert!(ring.get(&uri(1)).is_none());
    }
}
