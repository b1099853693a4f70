//! Decoded images within a budget of bytes. None is in memory twice, nor decoded by two threads at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use image::RgbImage;
use imagent_core::ByteCache;

/// The images of a folder by number; shared between threads.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Every image that is in use anywhere, held here or not. Locked while it is being decoded.
    images: Vec<Mutex<Weak<RgbImage>>>,
    held: Mutex<ByteCache<usize, Arc<RgbImage>>>,
    /// Bytes of the image that was decoded last: what the next one is taken to need.
    usual: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic leaves behind is an image that is not there yet.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bytes(image: &RgbImage) -> usize {
    image.as_raw().len()
}

impl Cache {
    /// A cache of at most `budget` bytes of pixels for so many images.
    pub(crate) fn new(images: usize, budget: usize) -> Self {
        let images = (0..images).map(|_| Mutex::default()).collect();
        Self { images, held: Mutex::new(ByteCache::new(budget, budget)), usual: AtomicUsize::new(1) }
    }

    /// An image, decoded if it is not in memory.
    pub(crate) fn get<E>(
        &self,
        number: usize,
        decode: impl FnOnce() -> Result<RgbImage, E>,
    ) -> Result<Arc<RgbImage>, E> {
        let mut slot = lock(&self.images[number]);
        if let Some(image) = lock(&self.held).get(&number) {
            return Ok(image);
        }
        let image = self.in_use_or(&mut slot, decode)?;
        lock(&self.held).put(number, Arc::clone(&image), bytes(&image));
        Ok(image)
    }

    /// An image that will be asked for soon, if there is room for it and nobody is decoding it now.
    pub(crate) fn prefetch<E>(
        &self,
        number: usize,
        decode: impl FnOnce() -> Result<RgbImage, E>,
    ) -> Option<Arc<RgbImage>> {
        let usual = self.usual.load(Ordering::Relaxed);
        let may_be_kept = |held: &ByteCache<_, _>| held.contains(&number) || held.has_room_ahead(usual);
        if !may_be_kept(&lock(&self.held)) {
            return None;
        }
        let mut slot = match self.images[number].try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let image = self.in_use_or(&mut slot, decode).ok()?;
        let kept = lock(&self.held).put_ahead(number, Arc::clone(&image), bytes(&image));
        kept.then_some(image)
    }

    fn in_use_or<E>(
        &self,
        slot: &mut Weak<RgbImage>,
        decode: impl FnOnce() -> Result<RgbImage, E>,
    ) -> Result<Arc<RgbImage>, E> {
        if let Some(image) = slot.upgrade() {
            return Ok(image);
        }
        let image = Arc::new(decode()?);
        self.usual.store(bytes(&image), Ordering::Relaxed);
        *slot = Arc::downgrade(&image);
        Ok(image)
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        lock(&self.held).bytes()
    }
}
