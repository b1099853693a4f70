//! Parts for tests: a tool that crops, a reward that compares, samples.
#![allow(dead_code, reason = "each test binary uses its share")]

pub(crate) mod bandit;

use std::sync::Arc;

use imagent_core::testing::fake_sample;
use imagent_core::{
    Arguments, BBox, CropOrigin, Gold, ImageShelf, Observation, ObservationImage, Reward, Sample, Score, Tool,
    ToolError, ToolSpec, Trajectory,
};
use serde::{Deserialize, Serialize};

/// Shows region `box` of image `image`; the pixels are those of the whole image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Crop {}

#[typetag::serde(name = "test_crop")]
impl Tool for Crop {
    fn spec(&self) -> ToolSpec {
        ToolSpec { name: "crop".into(), description: String::new(), parameters: serde_json::Value::Null }
    }

    fn call(&self, arguments: &Arguments, images: &ImageShelf) -> Result<Observation, ToolError> {
        let index = arguments["image"].as_i64().unwrap();
        let source = images.get(index as usize).ok_or(ToolError::NoImage { index, count: images.len() })?;
        let bbox = serde_json::from_value(arguments["box"].clone()).unwrap();
        let origin = Some(CropOrigin::new(index as usize, bbox));
        let images = vec![ObservationImage { pixels: Arc::clone(&source.pixels), origin }];
        Ok(Observation { text: String::new(), images })
    }
}

/// 1 for the gold answer, plus `format` for any; an answer `?` cannot be graded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Exact {
    pub(crate) format: f32,
}

#[typetag::serde(name = "test_exact")]
impl Reward for Exact {
    fn score(&self, sample: &Sample, trajectory: &Trajectory) -> Score {
        if trajectory.answer.as_deref() == Some("?") {
            return Score::skip("no idea");
        }
        let accuracy = f32::from(u8::from(trajectory.answer.as_deref() == Some(&sample.answer)));
        let format = f32::from(u8::from(trajectory.answer.is_some()));
        Score::new(accuracy + self.format * format, [("accuracy", accuracy), ("format", format), ("iou", 0.5)])
    }
}

/// The text of a turn that calls [`Crop`].
pub(crate) fn crop(image: usize, bbox: [f64; 4]) -> String {
    format!(r#"<tool_call>{{"name": "crop", "arguments": {{"image": {image}, "box": {bbox:?}}}}}</tool_call>"#)
}

/// The text of a turn that answers.
pub(crate) fn answer(text: &str) -> String {
    format!("<answer>{text}</answer>")
}

/// A sample of two images whose answer, `7`, lies in `gold` of image 2.
pub(crate) fn sample(id: &str, kind: &str, zooms_needed: Option<u32>, gold: Option<[f64; 4]>) -> Arc<Sample> {
    let mut sample = Arc::unwrap_or_clone(fake_sample(id, 2, "digit?", "7"));
    sample.kind = kind.into();
    sample.zooms_needed = zooms_needed;
    sample.gold = gold.into_iter().map(|bbox| Gold { image: 2, bbox: BBox::from(bbox) }).collect();
    Arc::new(sample)
}

/// Whether `METRICS` has this name, or a pattern for it.
pub(crate) fn is_listed(name: &str) -> bool {
    imagent_algorithms::METRICS.iter().any(|metric| match metric.name.rsplit_once('/') {
        Some((head, "KIND" | "NAME")) => name.strip_prefix(head).is_some_and(|tail| tail.starts_with('/')),
        _ => metric.name == name,
    })
}
