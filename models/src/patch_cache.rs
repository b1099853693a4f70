//! Patches of images that were seen lately or will soon be, within a budget of bytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use image::RgbImage;
use imagent_core::ByteCache;
use rayon::prelude::*;

use crate::error::Result;
use crate::image_processor::{ImageProcessor, Patches};

/// Bytes of patches kept: those of some 110 images of 448 × 448 pixels, as shown. At most half are of images not yet asked for.
const BUDGET: usize = 512 << 20;

/// Patches by the address of the image that they are of; shared between threads.
#[derive(Debug)]
pub(crate) struct PatchCache {
    held: Mutex<ByteCache<usize, Entry>>,
}

/// The weak reference keeps no pixels, but keeps their address from being that of another image.
#[derive(Clone, Debug)]
struct Entry {
    image: Weak<RgbImage>,
    patches: Arc<Patches>,
}

fn address(image: &Arc<RgbImage>) -> usize {
    Arc::as_ptr(image) as usize
}

fn bytes(patches: &Patches) -> usize {
    size_of_val(patches.values.as_slice())
}

fn entry(image: &Arc<RgbImage>, patches: &Arc<Patches>) -> Entry {
    Entry { image: Arc::downgrade(image), patches: Arc::clone(patches) }
}

impl Default for PatchCache {
    fn default() -> Self {
        Self::new(BUDGET)
    }
}

impl PatchCache {
    fn new(budget: usize) -> Self {
        Self { held: Mutex::new(ByteCache::new(budget, budget / 2)) }
    }

    fn lock(&self) -> MutexGuard<'_, ByteCache<usize, Entry>> {
        // No code that can panic runs under the lock.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Patches of images, those that are not held made in parallel.
    ///
    /// # Errors
    /// Of the first image that cannot be shown.
    pub(crate) fn of(&self, processor: &ImageProcessor, images: &[Arc<RgbImage>]) -> Result<Vec<Arc<Patches>>> {
        let held: Vec<Option<Arc<Patches>>> = {
            let mut cache = self.lock();
            images.iter().map(|image| cache.get(&address(image)).map(|entry| entry.patches)).collect()
        };
        let make = |(image, held): (&Arc<RgbImage>, Option<Arc<Patches>>)| match held {
            Some(patches) => Ok((patches, false)),
            None => processor.patches(image).map(|patches| (Arc::new(patches), true)),
        };
        let all: Vec<Result<_>> = images.par_iter().zip(held).map(make).collect();
        let all = all.into_iter().collect::<Result<Vec<_>>>()?;
        let mut cache = self.lock();
        if all.iter().any(|(_, new)| *new) {
            forget_gone(&mut cache);
        }
        for (image, (patches, _)) in images.iter().zip(&all).filter(|(_, (_, new))| *new) {
            cache.put(address(image), entry(image, patches), bytes(patches));
        }
        Ok(all.into_iter().map(|(patches, _)| patches).collect())
    }

    /// Makes the patches of images that will soon be asked for, as far as there is room; leaves out what cannot be shown.
    pub(crate) fn prepare(&self, processor: &ImageProcessor, images: &[Arc<RgbImage>]) {
        for image in images {
            let Ok(grid) = processor.grid(image.width(), image.height()) else { continue };
            let bytes = grid.patches() * processor.patch_len() * size_of::<f32>();
            let mut cache = self.lock();
            forget_gone(&mut cache);
            if cache.contains(&address(image)) || !cache.has_room_ahead(bytes) {
                continue;
            }
            drop(cache);
            if let Ok(patches) = processor.patches(image) {
                let patches = Arc::new(patches);
                self.lock().put_ahead(address(image), entry(image, &patches), bytes);
            }
        }
    }
}

/// Drops the patches of images that are nowhere any more.
fn forget_gone(cache: &mut ByteCache<usize, Entry>) {
    cache.retain(|_, entry| entry.image.strong_count() > 0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn images(count: u8) -> Vec<Arc<RgbImage>> {
        (0..count).map(|shade| Arc::new(RgbImage::from_pixel(56, 56, image::Rgb([shade; 3])))).collect()
    }

    /// Bytes of the patches of one of [`images`].
    const ONE: usize = 16 * 1176 * 4;

    #[test]
    fn patches_are_those_of_the_processor_and_stay_within_the_budget() {
        let (processor, cache) = (ImageProcessor::default(), PatchCache::new(3 * ONE));
        let images = images(7);
        for round in [&images[..], &images[2..5], &images[..]] {
            let got = cache.of(&processor, round).unwrap();
            assert!(round.iter().zip(&got).all(|(image, patches)| **patches == processor.patches(image).unwrap()));
            assert_eq!(cache.lock().bytes(), 3 * ONE);
        }
        let held = cache.of(&processor, &images[6..]).unwrap();
        assert!(Arc::ptr_eq(&held[0], &cache.of(&processor, &images[6..]).unwrap()[0]), "held");
        drop(images);
        let other = self::images(1);
        cache.of(&processor, &other).unwrap();
        assert_eq!(cache.lock().bytes(), ONE, "those of images that are gone are dropped");
    }

    #[test]
    fn what_is_prepared_is_found_and_takes_half_at_most() {
        let (processor, cache) = (ImageProcessor::default(), PatchCache::new(4 * ONE));
        let images = images(5);
        let thin = Arc::new(RgbImage::new(1, 400));
        let used = cache.of(&processor, &images[..3]).unwrap();
        cache.prepare(&processor, &[Arc::clone(&thin), Arc::clone(&images[3]), Arc::clone(&images[4])]);
        assert_eq!(cache.lock().bytes(), 4 * ONE);
        assert!(cache.lock().contains(&address(&images[3])) && cache.lock().contains(&address(&images[4])));
        let more = self::images(1);
        cache.prepare(&processor, &more);
        assert!(!cache.lock().contains(&address(&more[0])), "half the budget is of images not asked for");
        assert!(Arc::ptr_eq(&used[2], &cache.of(&processor, &images[2..3]).unwrap()[0]), "the other half stays");
        let error = cache.of(&processor, &[thin]).unwrap_err().to_string();
        assert!(error.contains("200"), "{error}");
    }
}
