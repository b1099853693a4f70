//! `preprocessor_config.json`, in the published form (`min_pixels`, `max_pixels`) and the newer one (`size`).

use std::path::Path;

use imagent_core::picture::MAX_PIXELS;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{ModelError, Result, read_json};

/// Mean of each channel (red, green, blue) that CLIP and Qwen subtract, in units of 255 levels.
const MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
/// Standard deviation of each channel that CLIP and Qwen divide by, in units of 255 levels.
const STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// How pictures become patches. Built by [`ImageProcessor::open`], [`ImageProcessor::from_json`] or `default()`.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageProcessor {
    /// Fewest pixels an image is shown at. Default 3136 (56²).
    pub min_pixels: u64,
    /// Most pixels an image is shown at. Default 1,003,520, transformers' class default; published models say 12,845,056.
    pub max_pixels: u64,
    /// Side of a patch in pixels. Default 14.
    pub patch_size: u32,
    /// Side, in patches, of the square that becomes one token. Default 2.
    pub merge_size: u32,
    /// Frames in a patch; a still image is repeated that often. Default 2.
    pub temporal_patch_size: u32,
    /// Mean of each channel, levels scaled to 0..1. Default: CLIP's.
    pub mean: [f64; 3],
    /// Standard deviation of each channel, levels scaled to 0..1. Default: CLIP's.
    pub std: [f64; 3],
}

impl Default for ImageProcessor {
    fn default() -> Self {
        Self {
            min_pixels: 3136,
            max_pixels: 1_003_520,
            patch_size: 14,
            merge_size: 2,
            temporal_patch_size: 2,
            mean: MEAN,
            std: STD,
        }
    }
}

/// The file as it is; fields that matter to others are ignored.
#[derive(Deserialize)]
struct Raw {
    min_pixels: Option<u64>,
    max_pixels: Option<u64>,
    size: Option<RawSize>,
    patch_size: Option<u32>,
    merge_size: Option<u32>,
    temporal_patch_size: Option<u32>,
    image_mean: Option<[f64; 3]>,
    image_std: Option<[f64; 3]>,
    do_resize: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    rescale_factor: Option<f64>,
    resample: Option<u64>,
}

#[derive(Deserialize)]
struct RawSize {
    #[serde(alias = "min_pixels")]
    shortest_edge: Option<u64>,
    #[serde(alias = "max_pixels")]
    longest_edge: Option<u64>,
}

fn wrong(field: &str, expected: &str, got: impl ToString) -> ModelError {
    ModelError::Config {
        file: "preprocessor_config.json".into(),
        field: field.into(),
        expected: expected.into(),
        got: got.to_string(),
    }
}

/// See [`ImageProcessor::open`].
pub(super) fn open(dir: &Path) -> Result<ImageProcessor> {
    let newer = dir.join("processor_config.json");
    let path = dir.join("preprocessor_config.json");
    if !path.is_file() && newer.is_file() {
        let json: Value = read_json(&newer)?;
        let inner = json.get("image_processor").ok_or_else(|| ModelError::Config {
            file: "processor_config.json".into(),
            field: "image_processor".into(),
            expected: "an object".into(),
            got: "nothing".into(),
        })?;
        return ImageProcessor::from_json(inner);
    }
    ImageProcessor::from_json(&read_json(&path)?)
}

impl ImageProcessor {
    /// Validates a parsed `preprocessor_config.json`. Where `size` and `min_pixels`/`max_pixels` are both given the
    /// latter win, as in transformers.
    ///
    /// # Errors
    /// `Config` naming the field that has the wrong type or that this processor cannot honour.
    pub fn from_json(json: &Value) -> Result<Self> {
        let raw = Raw::deserialize(json).map_err(|e| wrong("(root)", "an image processor's settings", e))?;
        refuse_unsupported(&raw)?;
        let default = Self::default();
        let size = raw.size.as_ref();
        let processor = Self {
            min_pixels: raw.min_pixels.or(size.and_then(|s| s.shortest_edge)).unwrap_or(default.min_pixels),
            max_pixels: raw.max_pixels.or(size.and_then(|s| s.longest_edge)).unwrap_or(default.max_pixels),
            patch_size: raw.patch_size.unwrap_or(default.patch_size),
            merge_size: raw.merge_size.unwrap_or(default.merge_size),
            temporal_patch_size: raw.temporal_patch_size.unwrap_or(default.temporal_patch_size),
            mean: raw.image_mean.unwrap_or(default.mean),
            std: raw.image_std.unwrap_or(default.std),
        };
        processor.check()?;
        Ok(processor)
    }

    fn check(&self) -> Result<()> {
        let sides = [
            ("patch_size", self.patch_size),
            ("merge_size", self.merge_size),
            ("temporal_patch_size", self.temporal_patch_size),
        ];
        for (field, value) in sides {
            if value == 0 || value > 1024 {
                return Err(wrong(field, "an integer from 1 to 1024", value));
            }
        }
        if self.min_pixels == 0 || self.min_pixels > self.max_pixels {
            return Err(wrong("min_pixels", &format!("1 to max_pixels {}", self.max_pixels), self.min_pixels));
        }
        // A small image would be enlarged to more than is read of a large one.
        if self.min_pixels > MAX_PIXELS {
            return Err(wrong("min_pixels", &format!("at most {MAX_PIXELS}"), self.min_pixels));
        }
        if self.std.iter().any(|s| !s.is_finite() || *s <= 0.0) {
            return Err(wrong("image_std", "positive numbers", format!("{:?}", self.std)));
        }
        Ok(())
    }
}

fn refuse_unsupported(raw: &Raw) -> Result<()> {
    let flags = [("do_resize", raw.do_resize), ("do_rescale", raw.do_rescale), ("do_normalize", raw.do_normalize)];
    for (field, value) in flags {
        if value == Some(false) {
            return Err(wrong(field, "true", "false"));
        }
    }
    if let Some(factor) = raw.rescale_factor.filter(|f| (f * 255.0 - 1.0).abs() > 1e-9) {
        return Err(wrong("rescale_factor", "1/255", factor));
    }
    match raw.resample {
        None | Some(3) => Ok(()),
        Some(other) => Err(wrong("resample", "3 (bicubic)", other)),
    }
}
