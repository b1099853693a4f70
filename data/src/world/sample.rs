//! Layouts with their images, as core samples; and a world as a source of samples that needs no files.

use std::sync::Arc;

use imagent_core::{Sample, SampleError, SampleSource, derive};
use serde_json::{Map, Value, json};

use super::config::{Aspect, WorldConfig};
use super::layout::{Layout, layout};
use super::render::{Backdrop, render_on};
use super::scene::Scene;
use crate::annotate::Thing;
use crate::error::DataError;

/// Names the stream of the background noise.
const NOISE: u64 = 0x006e_6f69_7365;

/// A sample, and the scenes that its images show.
#[derive(Clone, Debug)]
pub struct WorldSample {
    /// One an image.
    pub scenes: Vec<Scene>,
    /// The sample with its images; `meta` says how it distracts (`across`: none, colour or twin; `within`: true or false). Where
    /// the answer is a box, it also has `objects`, all that stands on the images ([`crate::annotate::Thing`]), and
    /// `other`, the image that the question compares with, if any.
    pub sample: Sample,
    /// The objects asked for: image, counted from 1, and position within its scene, counted from 0.
    pub asked: Vec<(usize, usize)>,
}

/// Sample `index` of the world that `seed` names: a function of the three arguments, whatever was asked before.
///
/// ```
/// use imagent_data::{WorldConfig, generate};
/// let made = generate(&WorldConfig::default(), 1, 0);
/// assert_eq!(made.sample.images.len(), made.scenes.len());
/// assert!(made.sample.question.ends_with(" ?"));
/// ```
pub fn generate(config: &WorldConfig, seed: u64, index: u64) -> WorldSample {
    let Layout { scenes, question, answer, kind, asked, gold, other, across, within } = layout(config, seed, index);
    let noise = |image: usize| derive(seed, &[NOISE, index, image as u64]);
    let backdrop = if config.is_second(Aspect::Background) { Backdrop::SECOND } else { Backdrop::FIRST };
    let images =
        scenes.iter().enumerate().map(|(image, scene)| Arc::new(render_on(&backdrop, scene, noise(image)))).collect();
    let mut meta =
        Map::from_iter([("across".to_owned(), Value::from(across.name())), ("within".to_owned(), Value::from(within))]);
    if kind.is_grounding() {
        meta.insert("objects".to_owned(), json!(things(&scenes)));
        other.map(|other| meta.insert("other".to_owned(), other.into()));
    }
    let sample = Sample {
        id: format!("world-{seed}-{index:06}"),
        images,
        later_images: Vec::new(),
        question,
        answer,
        kind: kind.name().to_owned(),
        zooms_needed: Some(kind.zooms_needed()),
        gold,
        meta,
    };
    WorldSample { scenes, sample, asked }
}

/// What stands on the images, as annotation.
fn things(scenes: &[Scene]) -> Vec<Thing> {
    let images = scenes.iter().enumerate();
    let of = |(image, scene): (usize, &Scene)| -> Vec<Thing> {
        let thing = |o: &super::scene::Object| Thing { image: image + 1, name: o.name(), bbox: o.bbox() };
        scene.objects.iter().map(thing).collect()
    };
    images.flat_map(of).collect()
}

/// A world as a source: samples are made when asked for and not kept.
#[derive(Clone, Debug)]
pub struct WorldSource {
    config: WorldConfig,
    seed: u64,
    samples: usize,
}

impl WorldSource {
    /// The first `samples` samples of the world that `seed` names.
    ///
    /// # Errors
    /// When the config is not valid.
    pub fn new(config: WorldConfig, seed: u64, samples: usize) -> Result<Self, DataError> {
        config.validate()?;
        Ok(Self { config, seed, samples })
    }
}

impl SampleSource for WorldSource {
    fn len(&self) -> usize {
        self.samples
    }

    fn get(&self, position: usize) -> Result<Arc<Sample>, SampleError> {
        if position >= self.samples {
            return Err(SampleError(format!("no sample at position {position}")));
        }
        Ok(Arc::new(generate(&self.config, self.seed, position as u64).sample))
    }
}
