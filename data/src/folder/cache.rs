//! Decoded images, the least recently used forgotten first, within a budget of bytes.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use image::RgbImage;

/// A cache of images by key; shared between threads.
#[derive(Debug)]
pub(crate) struct Cache<K> {
    budget: usize,
    state: Mutex<State<K>>,
}

#[derive(Debug)]
struct State<K> {
    held: HashMap<K, (Arc<RgbImage>, u64)>,
    /// Time of last use to image.
    order: BTreeMap<u64, K>,
    clock: u64,
    bytes: usize,
}

impl<K: Clone + Eq + Hash> Cache<K> {
    /// A cache of at most `budget` bytes of pixels.
    pub(crate) fn new(budget: usize) -> Self {
        let state = State { held: HashMap::new(), order: BTreeMap::new(), clock: 0, bytes: 0 };
        Self { budget, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, key: &K) -> Option<Arc<RgbImage>> {
        self.lock().touch(key)
    }

    /// Keeps the image if it fits; returns the one that another thread put there meanwhile, if any.
    pub(crate) fn put(&self, key: K, image: Arc<RgbImage>) -> Arc<RgbImage> {
        let mut state = self.lock();
        if let Some(there) = state.touch(&key) {
            return there;
        }
        let size = image.as_raw().len();
        if size > self.budget {
            return image;
        }
        while state.bytes + size > self.budget {
            state.forget_oldest();
        }
        state.bytes += size;
        state.clock += 1;
        let now = state.clock;
        state.order.insert(now, key.clone());
        state.held.insert(key, (image.clone(), now));
        image
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn touch(&mut self, key: &K) -> Option<Arc<RgbImage>> {
        let (image, used) = self.held.get_mut(key)?;
        self.clock += 1;
        self.order.remove(used);
        self.order.insert(self.clock, key.clone());
        *used = self.clock;
        Some(image.clone())
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_first()
            && let Some((image, _)) = self.held.remove(&key)
        {
            self.bytes -= image.as_raw().len();
        }
    }
}
