//! Values within a budget of bytes.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Holds values of at most so many bytes together; the least recently used leave first.
///
/// A value may be put there *ahead*, before anybody asked for it. Such values have a limit of their own, do not push each other out, and
/// leave after those that were asked for: who prepares more than there is room for does not undo what is prepared already.
///
/// ```
/// use imagent_core::ByteCache;
/// let mut cache = ByteCache::new(10, 5);
/// cache.put("a", 1, 4);
/// cache.put("b", 2, 4);
/// assert!(cache.get(&"a").is_some());
/// cache.put("c", 3, 4);
/// assert_eq!((cache.get(&"b"), cache.bytes()), (None, 8), "b was used least recently");
/// assert!(cache.put_ahead("d", 4, 3) && !cache.put_ahead("e", 5, 3), "3 + 3 bytes are more than 5");
/// ```
#[derive(Debug)]
pub struct ByteCache<K, V> {
    budget: usize,
    most_ahead: usize,
    held: HashMap<K, Held<V>>,
    /// Time of last use to key.
    order: BTreeMap<u64, K>,
    clock: u64,
    bytes: usize,
    /// Bytes of values that nobody has asked for yet.
    ahead: usize,
}

#[derive(Debug)]
struct Held<V> {
    value: V,
    bytes: usize,
    used: u64,
    ahead: bool,
}

impl<K: Clone + Eq + Hash, V: Clone> ByteCache<K, V> {
    /// An empty cache of at most `budget` bytes, of which at most `most_ahead` are of values that nobody has asked for.
    pub fn new(budget: usize, most_ahead: usize) -> Self {
        let (held, order) = (HashMap::new(), BTreeMap::new());
        Self { budget, most_ahead: most_ahead.min(budget), held, order, clock: 0, bytes: 0, ahead: 0 }
    }

    /// The value of a key, which is now the one used last.
    pub fn get(&mut self, key: &K) -> Option<V> {
        let held = self.held.get_mut(key)?;
        self.clock += 1;
        self.order.remove(&held.used);
        self.order.insert(self.clock, key.clone());
        held.used = self.clock;
        self.ahead -= if held.ahead { held.bytes } else { 0 };
        held.ahead = false;
        Some(held.value.clone())
    }

    /// Whether a key has a value; not a use of it.
    pub fn contains(&self, key: &K) -> bool {
        self.held.contains_key(key)
    }

    /// Keeps a value of so many bytes, if the budget has room for it at all.
    pub fn put(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        if bytes > self.budget {
            return;
        }
        while self.bytes + bytes > self.budget {
            let Some(oldest) = self.used_least().or_else(|| self.order.values().next().cloned()) else { return };
            self.remove(&oldest);
        }
        self.insert(key, value, bytes, false);
    }

    /// Keeps a value that nobody has asked for yet; says whether it is kept, which it is where the key has one already.
    pub fn put_ahead(&mut self, key: K, value: V, bytes: usize) -> bool {
        if self.contains(&key) {
            return true;
        }
        if self.ahead + bytes > self.most_ahead {
            return false;
        }
        while self.bytes + bytes > self.budget {
            let Some(oldest) = self.used_least() else { return false };
            self.remove(&oldest);
        }
        self.insert(key, value, bytes, true);
        true
    }

    /// Whether a value of so many bytes can be put there ahead.
    pub fn has_room_ahead(&self, bytes: usize) -> bool {
        self.ahead + bytes <= self.most_ahead
    }

    /// Forgets the values that `keep` is false for.
    pub fn retain(&mut self, keep: impl Fn(&K, &V) -> bool) {
        let gone = self.held.iter().filter(|(key, held)| !keep(key, &held.value)).map(|(key, _)| key.clone());
        for key in gone.collect::<Vec<K>>() {
            self.remove(&key);
        }
    }

    /// Bytes of what is held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Of the values that were asked for, the one used least recently.
    fn used_least(&self) -> Option<K> {
        self.order.values().find(|key| !self.held[*key].ahead).cloned()
    }

    fn insert(&mut self, key: K, value: V, bytes: usize, ahead: bool) {
        self.clock += 1;
        self.order.insert(self.clock, key.clone());
        self.held.insert(key, Held { value, bytes, used: self.clock, ahead });
        self.bytes += bytes;
        self.ahead += if ahead { bytes } else { 0 };
    }

    fn remove(&mut self, key: &K) {
        if let Some(held) = self.held.remove(key) {
            self.order.remove(&held.used);
            self.bytes -= held.bytes;
            self.ahead -= if held.ahead { held.bytes } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Act {
        Get(u8),
        Put(u8, usize),
        Ahead(u8, usize),
        Retain(u8),
    }

    fn act() -> impl Strategy<Value = Act> {
        let bytes = 0usize..12;
        prop_oneof![
            any::<u8>().prop_map(|key| Act::Get(key % 9)),
            (any::<u8>(), bytes.clone()).prop_map(|(key, bytes)| Act::Put(key % 9, bytes)),
            (any::<u8>(), bytes).prop_map(|(key, bytes)| Act::Ahead(key % 9, bytes)),
            (0u8..9).prop_map(Act::Retain),
        ]
    }

    proptest! {
        #[test]
        fn the_books_balance(budget in 0usize..30, most in 0usize..30, acts in prop::collection::vec(act(), 0..60)) {
            let mut cache = ByteCache::new(budget, most);
            for act in acts {
                match act {
                    Act::Get(key) => prop_assert_eq!(cache.get(&key).is_some(), cache.contains(&key)),
                    Act::Put(key, bytes) => {
                        cache.put(key, key, bytes);
                        prop_assert_eq!(cache.contains(&key), bytes <= budget);
                    }
                    Act::Ahead(key, bytes) => {
                        let before: Vec<u8> = ahead(&cache);
                        prop_assert_eq!(cache.put_ahead(key, key, bytes), cache.contains(&key));
                        prop_assert!(before.iter().all(|key| cache.contains(key)), "what was ahead stays");
                    }
                    Act::Retain(key) => cache.retain(|other, _| *other != key),
                }
                let sum = |ahead: bool| cache.held.values().filter(|h| h.ahead || !ahead).map(|h| h.bytes).sum::<usize>();
                prop_assert_eq!((cache.bytes(), cache.ahead, cache.order.len()), (sum(false), sum(true), cache.held.len()));
                prop_assert!(cache.bytes() <= budget && cache.ahead <= most);
            }
        }
    }

    fn ahead(cache: &ByteCache<u8, u8>) -> Vec<u8> {
        cache.held.iter().filter(|(_, held)| held.ahead).map(|(key, _)| *key).collect()
    }

    #[test]
    fn the_least_recently_used_leave_first_and_what_is_ahead_last() {
        let mut cache = ByteCache::new(10, 6);
        cache.put('a', 1, 5);
        cache.put('b', 2, 5);
        assert!(cache.put_ahead('c', 3, 3) && !cache.contains(&'a'), "a was used before b");
        assert!(cache.put_ahead('d', 4, 3) && !cache.contains(&'b'));
        assert!(!cache.has_room_ahead(1) && !cache.put_ahead('e', 5, 1));
        assert_eq!(cache.get(&'c'), Some(3));
        assert!(cache.put_ahead('e', 5, 3), "c was asked for: there is room again");
        cache.put('f', 6, 7);
        assert_eq!(['c', 'd', 'e', 'f'].map(|key| cache.contains(&key)), [false, false, true, true]);
    }
}
