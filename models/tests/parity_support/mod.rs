//! Cases of `tests/parity` as sequences to run: what the parity and the engine tests share.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

#[path = "../../../tests/parity/fixture.rs"]
mod fixture;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dfdx::prelude::*;
use image::RgbImage;
use imagent_core::Segment;
use imagent_models::adamw::AdamWConfig;
use imagent_models::chat_template::RenderOptions;
use imagent_models::image_processor::{Grid, Patches};
use imagent_models::policy::QwenPolicy;
use imagent_models::qwen::positions::GridSpan;
use imagent_models::qwen::{Sequence, SequenceImage, Target};
use safetensors::SafeTensors;
use serde_json::Value;

/// `tests/parity` of the repository.
pub fn parity() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity")
}

pub fn cases() -> Vec<PathBuf> {
    fixture::cases(&parity())
}

/// The golden tensors of a case.
pub struct Golden(Vec<u8>);

impl Golden {
    pub fn open(path: &Path) -> Self {
        Self(std::fs::read(path).unwrap())
    }

    pub fn bytes(&self, name: &str) -> Option<(Vec<usize>, Vec<u8>)> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        file.tensor(name).ok().map(|tensor| (tensor.shape().to_vec(), tensor.data().to_vec()))
    }

    pub fn names(&self) -> Vec<String> {
        SafeTensors::deserialize(&self.0).unwrap().names().into_iter().map(str::to_owned).collect()
    }

    /// A tensor of 64-bit integers.
    pub fn ints(&self, name: &str) -> Option<Vec<u32>> {
        let (_, bytes) = self.bytes(name)?;
        Some(bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect())
    }

    /// A tensor of 32-bit integers.
    pub fn ints32(&self, name: &str) -> Option<Vec<usize>> {
        let (_, bytes) = self.bytes(name)?;
        Some(bytes.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b) as usize).collect())
    }

    pub fn floats(&self, name: &str) -> Option<Vec<f32>> {
        let (_, bytes) = self.bytes(name)?;
        Some(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    fn picture(&self, name: &str) -> Option<RgbImage> {
        let (shape, bytes) = self.bytes(name)?;
        RgbImage::from_raw(shape[1] as u32, shape[0] as u32, bytes)
    }

    fn pictures(&self) -> Vec<RgbImage> {
        (0..).map_while(|i| self.picture(&format!("image.{i}.rgb"))).collect()
    }
}

/// One case, loaded.
pub struct Case {
    pub name: String,
    pub manifest: Value,
    pub golden: Golden,
    pub policy: QwenPolicy<Cpu>,
    /// One for each conversation.
    pub segments: Vec<Segment>,
    /// The golden's patches, image by image.
    pub given: Vec<Arc<Patches>>,
    /// Ours, from the golden's decoded pictures.
    pub own: Vec<Arc<Patches>>,
}

pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

impl Case {
    pub fn open(dir: &Path) -> Self {
        let golden = Golden::open(&dir.join("golden.safetensors"));
        let config = AdamWConfig { learning_rate: 1e-3, ..AdamWConfig::default() };
        let folder = tempfile::tempdir().unwrap();
        fixture::copy_checkpoint(&parity(), dir, folder.path());
        let policy = QwenPolicy::open(folder.path(), Cpu::default(), config).unwrap();
        let pictures: Vec<Arc<RgbImage>> = match golden.pictures() {
            pictures if pictures.is_empty() => image_files(dir),
            pictures => pictures,
        }
        .into_iter()
        .map(Arc::new)
        .collect();
        let patches = |picture: &Arc<RgbImage>| Arc::new(policy.codec().processor.patches(picture).unwrap());
        let mut own: Vec<Arc<Patches>> = pictures.iter().map(patches).collect();
        let given = given_patches(&golden, &policy).unwrap_or_else(|| own.clone());
        for (i, (own, given)) in own.iter_mut().zip(&given).enumerate() {
            if composited(&golden, i, &policy, given) {
                *own = Arc::clone(given);
            }
        }
        let manifest = json(&dir.join("manifest.json"));
        let messages = json(&dir.join("messages.json"));
        let segments = conversations(&messages, &manifest, &policy, &pictures);
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        Self { name, manifest, golden, policy, segments, given, own }
    }

    /// The README's bound on logits and log-probabilities, given the golden's pixels.
    pub fn logit_bound(&self) -> f32 {
        (4.0 * self.manifest["noise_max_abs_logit"].as_f64().unwrap_or(0.0)).max(2e-4) as f32
    }

    /// The README's bound from our own pixels.
    pub fn own_bound(&self) -> f32 {
        let change = self.manifest["logit_change_if"]["Pillow instead of torchvision resize"].as_f64();
        (2.0 * change.unwrap_or(0.0) + 2e-4) as f32 + (self.logit_bound() - 2e-4)
    }

    /// Every conversation as a sequence whose every row is scored: row `i` on token `i + 1`, the last on token 0.
    pub fn sequences(&self) -> Vec<Sequence<'_>> {
        self.segments.iter().map(|segment| whole(segment)).collect()
    }
}

/// A segment as a sequence, each row scored on the token after it.
pub fn whole(segment: &Segment) -> Sequence<'_> {
    let ids = &segment.ids;
    let id = |row: usize| ids.get(row + 1).copied().unwrap_or(0);
    let targets = (0..ids.len()).map(|row| Target { row, id: id(row), suppress: false }).collect();
    Sequence { ids, images: images_of(segment), prompt_len: 0, targets }
}

pub fn images_of(segment: &Segment) -> Vec<SequenceImage> {
    let image = |image: &imagent_core::SegmentImage| SequenceImage {
        span: GridSpan { start: image.start, rows: image.rows, columns: image.columns },
        pixels: Arc::clone(&image.pixels),
    };
    segment.images.iter().map(image).collect()
}

/// The golden's patches: as they are, or made from the bytes that they were made from.
fn given_patches(golden: &Golden, policy: &QwenPolicy<Cpu>) -> Option<Vec<Arc<Patches>>> {
    let Some(values) = golden.floats("pixel_values") else {
        let resized = (0..).map_while(|i| golden.picture(&format!("image.{i}.resized")));
        let patches = |picture: RgbImage| Arc::new(policy.codec().processor.patchify(&picture).unwrap());
        return golden.bytes("image.0.resized").map(|_| resized.map(patches).collect());
    };
    let (shape, _) = golden.bytes("pixel_values")?;
    let mut at = 0;
    let grids = golden.ints("image_grid_thw")?;
    let patches = grids.as_chunks::<3>().0.iter().map(|grid| {
        let grid = Grid { t: grid[0] as usize, h: grid[1] as usize, w: grid[2] as usize };
        let start = at;
        at += grid.patches() * shape[1];
        Arc::new(Patches { grid, values: values[start..at].to_vec() })
    });
    Some(patches.collect())
}

/// Whether the golden's pixels of an image are not those of its picture. So it is with a palette image with transparency:
/// `load_image` drops alpha (the picture that is recorded), but Pillow remembers it and the processor then puts the image
/// on white.
fn composited(golden: &Golden, i: usize, policy: &QwenPolicy<Cpu>, given: &Patches) -> bool {
    let Some(resized) = golden.picture(&format!("image.{i}.resized")) else { return false };
    let other = golden.picture(&format!("image.{i}.rgb_pil_object"));
    let processor = &policy.codec().processor;
    let is = |picture: &RgbImage| distance(&processor.patchify(picture).unwrap().values, &given.values) < 1e-5;
    !is(&resized) && other.is_some_and(|picture| is(&picture))
}

fn image_files(dir: &Path) -> Vec<RgbImage> {
    let messages = json(&dir.join("messages.json"));
    let chats = messages.as_array().unwrap().iter();
    let messages = chats.flat_map(|chat| chat.as_array().map_or(std::slice::from_ref(chat), Vec::as_slice));
    let mut out = Vec::new();
    for part in messages.flat_map(|message| message["content"].as_array().into_iter().flatten()) {
        if let Some(url) = part["image_url"]["url"].as_str() {
            out.push(imagent_models::image_processor::decode(&dir.join(url)).unwrap());
        }
    }
    out
}

fn conversations(
    messages: &Value,
    manifest: &Value,
    policy: &QwenPolicy<Cpu>,
    pictures: &[Arc<RgbImage>],
) -> Vec<Segment> {
    let all = messages.as_array().unwrap();
    let several = all[0].is_array();
    let chats: Vec<&[Value]> =
        if several { all.iter().map(|c| c.as_array().unwrap().as_slice()).collect() } else { vec![all] };
    let texts: Vec<&str> = match &manifest["prompt_text"] {
        Value::Array(texts) => texts.iter().map(|text| text.as_str().unwrap()).collect(),
        text => vec![text.as_str().unwrap()],
    };
    let mut rest = pictures;
    let codec = policy.codec();
    let segment = |(chat, expected): (&[Value], &&str)| {
        let options = RenderOptions { add_generation_prompt: expected.ends_with("assistant\n"), ..Default::default() };
        let text = codec.template.render(chat, &options).unwrap();
        assert_eq!(text, **expected);
        let (mine, others) = rest.split_at(text.matches("<|image_pad|>").count());
        rest = others;
        codec.segment(&text, mine).unwrap()
    };
    chats.into_iter().zip(&texts).map(segment).collect()
}

/// Largest absolute difference.
pub fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| if a.is_nan() || b.is_nan() { f32::INFINITY } else { (a - b).abs() })
        .fold(0.0, f32::max)
}

/// `‖a − b‖ / ‖b‖`.
pub fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    let norm: f64 = b.iter().map(|&b| square(b)).sum();
    if error == 0.0 { 0.0 } else { (error / norm).sqrt() }
}
