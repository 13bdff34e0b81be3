//! A map that forgets its oldest.

use std::borrow::Borrow;
use std::collections::{BTreeMap, VecDeque};

/// A map of bounded size: what is too much is what came first, whatever its name.
#[derive(Debug)]
pub(super) struct Aged<K, V> {
    most: usize,
    map: BTreeMap<K, V>,
    /// The keys as they came.
    order: VecDeque<K>,
}

impl<K: Ord + Clone, V> Aged<K, V> {
    /// Holds so many at most.
    pub(super) fn new(most: usize) -> Self {
        Self { most, map: BTreeMap::new(), order: VecDeque::new() }
    }

    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.map.get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        if self.map.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.map.remove(&oldest);
        }
    }

    pub(super) fn remove(&mut self, key: &K) {
        if self.map.remove(key).is_some() {
            self.order.retain(|known| known != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_whatever_its_name() {
        let mut aged = Aged::new(3);
        for name in ["z", "m", "a"] {
            aged.insert(name, ());
        }
        aged.remove(&"z");
        aged.insert("z", ());
        aged.insert("b", ());
        assert_eq!(aged.map.keys().copied().collect::<Vec<_>>(), ["a", "b", "z"], "m is the oldest");
        aged.insert("c", ());
        assert_eq!(aged.map.keys().copied().collect::<Vec<_>>(), ["b", "c", "z"]);
        assert_eq!(aged.order.len(), 3);
    }
}
