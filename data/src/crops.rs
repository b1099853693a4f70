//! The control *result without call*: what a good zoom would show is given with the question.

use std::sync::Arc;

use imagent_core::{BBox, Gold, RgbImage, Sample, SampleError, SampleSource};

/// Samples with one more image for each gold region: a square around it, cut from the image's own pixels as `zoom_in` would.
/// Samples that need no zoom (`zooms_needed` = 0) are left as they are; so are their questions, answers and gold regions in any case.
pub struct GoldCrops<S> {
    source: S,
    side: u32,
}

impl<S> GoldCrops<S> {
    /// Crops of `side` pixels; of a larger gold region, the region itself.
    pub fn new(source: S, side: u32) -> Self {
        Self { source, side }
    }
}

impl<S: SampleSource> SampleSource for GoldCrops<S> {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn get(&self, position: usize) -> Result<Arc<Sample>, SampleError> {
        let sample = self.source.get(position)?;
        if sample.zooms_needed == Some(0) || sample.gold.is_empty() {
            return Ok(sample);
        }
        let mut images = sample.images.clone();
        for gold in &sample.gold {
            images.push(Arc::new(crop(&sample, gold, self.side)?));
        }
        Ok(Arc::new(Sample { images, ..Sample::clone(&sample) }))
    }

    /// The sample's own images; the crops are cut when it is asked for.
    fn prefetch(&self, position: usize) -> Vec<Arc<RgbImage>> {
        self.source.prefetch(position)
    }
}

fn crop(sample: &Sample, gold: &Gold, side: u32) -> Result<RgbImage, SampleError> {
    let missing = || SampleError(format!("{}: its gold region is in image {}, which it lacks", sample.id, gold.image));
    let image = gold.image.checked_sub(1).and_then(|index| sample.images.get(index)).ok_or_else(missing)?;
    let BBox { x1, y1, x2, y2, .. } = gold.bbox;
    let (x, width) = span(x1, x2, side, image.width());
    let (y, height) = span(y1, y2, side, image.height());
    Ok(image::imageops::crop_imm(image.as_ref(), x, y, width, height).to_image())
}

/// Start and length of `side` pixels (or all of `low..high`) around the middle, moved into `0..size`.
fn span(low: f64, high: f64, side: u32, size: u32) -> (u32, u32) {
    let length = f64::from(side).max((high - low).ceil()).min(f64::from(size)).max(1.0);
    let start = ((low + high - length) / 2.0).floor().clamp(0.0, f64::from(size) - length);
    (start as u32, length as u32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use imagent_core::Original;

    use crate::world::{QuestionMix, WorldConfig, WorldSource};

    fn world(read: f64, which: f64, two: f64) -> WorldSource {
        let questions = QuestionMix { read, which, same: 0.0, two, ..QuestionMix::default() };
        WorldSource::new(WorldConfig { questions, ..WorldConfig::default() }, 5, 40).unwrap()
    }

    #[test]
    fn each_gold_region_is_whole_in_its_crop() {
        let (plain, crops) = (world(1.0, 0.0, 1.0), GoldCrops::new(world(1.0, 0.0, 1.0), 112));
        assert_eq!(crops.len(), 40);
        for position in 0..40 {
            let (before, after) = (plain.get(position).unwrap(), crops.get(position).unwrap());
            assert_eq!((&before.question, &before.answer, &before.gold), (&after.question, &after.answer, &after.gold));
            assert_eq!(after.images[..before.images.len()], before.images[..]);
            assert_eq!(after.images.len(), before.images.len() + before.gold.len());
            for (gold, crop) in after.gold.iter().zip(&after.images[before.images.len()..]) {
                assert_eq!(crop.dimensions(), (112, 112));
                let image = &before.images[gold.image - 1];
                let digit = |x: u32, y: u32| *image.get_pixel(gold.bbox.x1 as u32 + x, gold.bbox.y1 as u32 + y);
                let found = (0..=98).flat_map(|y| (0..=102).map(move |x| (x, y))).any(|(left, top)| {
                    (0..140).all(|i| *crop.get_pixel(left + i % 10, top + i / 10) == digit(i % 10, i / 10))
                });
                assert!(found, "sample {position} has its digit nowhere in the crop");
            }
        }
    }

    #[test]
    fn the_samples_own_images_are_made_ready() {
        let samples: Vec<_> = (0..3).map(|i| world(1.0, 0.0, 0.0).get(i).unwrap()).collect();
        let crops = GoldCrops::new(samples.clone(), 112);
        assert_eq!(crops.prefetch(1), samples[1].images);
        assert!(crops.prefetch(3).is_empty());
    }

    #[test]
    fn what_needs_no_zoom_is_left_alone() {
        let (plain, crops) = (world(0.0, 1.0, 0.0), GoldCrops::new(world(0.0, 1.0, 0.0), 112));
        for position in 0..40 {
            assert_eq!(plain.get(position).unwrap().images, crops.get(position).unwrap().images);
        }
    }

    #[test]
    fn a_crop_stays_in_its_image() {
        assert_eq!(span(0.0, 10.0, 112, 448), (0, 112));
        assert_eq!(span(440.0, 448.0, 112, 448), (336, 112));
        assert_eq!(span(100.0, 110.0, 112, 448), (49, 112));
        assert_eq!(span(10.0, 210.0, 112, 448), (10, 200));
        assert_eq!(span(10.0, 20.0, 112, 60), (0, 60));
    }

    #[test]
    fn a_region_in_no_image_is_an_error() {
        let mut sample = Sample::clone(&world(1.0, 0.0, 0.0).get(0).unwrap());
        sample.gold = vec![Gold { image: 9, bbox: BBox::<Original>::new(0.0, 0.0, 1.0, 1.0) }];
        let error = GoldCrops::new(vec![Arc::new(sample)], 112).get(0).unwrap_err().to_string();
        assert!(error.contains("image 9"), "{error}");
    }
}
