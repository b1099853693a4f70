//! What the benches run: the model of 4.6 million parameters, prompts of a few images and a hundred text tokens, and
//! turns of a fixed length. Everything is made from a seed, and can be written as folders that other programs read.

// Each bench is a program of its own and uses a part of this.
#![allow(dead_code, clippy::panic)]

pub(crate) mod stages;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dfdx::prelude::Cpu;
use image::RgbImage;
use imagent::core::{Encoder, Limits, Origin, PromptStyle, Reward, Sample, Score, Trajectory};
use imagent::models::adamw::AdamWConfig;
use imagent::models::nano::{NanoConfig, init};
use imagent::prelude::*;
use serde::{Deserialize, Serialize};

/// Words of the questions.
const WORDS: [&str; 24] = [
    "compare", "the", "first", "image", "with", "second", "and", "say", "which", "of", "shows", "red", "square",
    "near", "door", "then", "look", "at", "third", "picture", "count", "people", "standing", "clock",
];
/// Tokens of a prompt that are not image cells.
const TEXT_TOKENS: usize = 100;
/// Side of an image: it is shown as it is, in 16 image tokens.
pub(crate) const SIDE: u32 = 112;

/// Sizes of a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sizes {
    /// Prompts a step.
    pub(crate) prompts: usize,
    /// Rollouts a prompt.
    pub(crate) group: usize,
    /// Images a prompt.
    pub(crate) images: usize,
    /// Tokens of a rollout; no token that ends a turn is ever drawn.
    pub(crate) new: usize,
    /// Multiplies the widths of the model.
    pub(crate) width: usize,
    /// Layers of the language model and of the tower.
    pub(crate) layers: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { prompts: 8, group: 8, images: 3, new: 48, width: 1, layers: 4 }
    }
}

impl Sizes {
    /// The model: 4,617,856 parameters at width 1 and 4 layers.
    pub(crate) fn model(&self) -> NanoConfig {
        NanoConfig {
            hidden_size: 256 * self.width,
            layers: self.layers,
            heads: 4 * self.width,
            intermediate_size: 768 * self.width,
            vision_hidden_size: 128 * self.width,
            vision_depth: self.layers,
            vision_heads: 4 * self.width,
            vision_intermediate_size: 256 * self.width,
            pixels: u64::from(SIDE * SIDE),
            ..NanoConfig::default()
        }
    }

    /// Writes the model's folder, unless it is there.
    pub(crate) fn write_model(&self, dir: &Path) -> anyhow::Result<()> {
        if dir.join("config.json").is_file() {
            return Ok(());
        }
        // A vocabulary of 1,024 rows; the words beyond the questions' are never asked.
        let more: Vec<String> = (0..295).map(|i| format!("q{}{}", letter(i / 26), letter(i % 26))).collect();
        let words: Vec<&str> = WORDS.iter().copied().chain(more.iter().map(String::as_str)).collect();
        init(dir, &self.model(), &words, &[], 0)?;
        Ok(())
    }

    /// The policy, which never ends a turn by itself.
    pub(crate) fn policy(&self) -> anyhow::Result<QwenPolicy<Cpu>> {
        let dir = folder(&format!("model-{}x{}", self.width, self.layers));
        self.write_model(&dir)?;
        let adamw = AdamWConfig { learning_rate: 1e-5, ..AdamWConfig::default() };
        let mut policy = QwenPolicy::open(&dir, Cpu::default(), adamw)?;
        let special = policy.codec().tokenizer.special();
        let ends = [Some(special.im_end), special.endoftext].into_iter().flatten().map(|id| id as usize);
        let mut never: Vec<usize> = policy.model.never_sampled.iter().copied().chain(ends).collect();
        never.sort_unstable();
        never.dedup();
        policy.model.never_sampled = Arc::new(never);
        Ok(policy)
    }

    /// How many parameters the model has.
    pub(crate) fn parameters(&self) -> anyhow::Result<usize> {
        Ok(self.policy()?.model.weights.entries().iter().map(|entry| entry.len()).sum())
    }

    /// Samples whose prompts have [`TEXT_TOKENS`] tokens beside the images'.
    pub(crate) fn samples(&self, policy: &QwenPolicy<Cpu>, count: usize) -> anyhow::Result<Vec<Arc<Sample>>> {
        let sample = |i: usize, words: usize| Sample {
            id: format!("sample-{i:04}"),
            images: (0..self.images).map(|k| Arc::new(picture((i * self.images + k) as u64))).collect(),
            later_images: Vec::new(),
            question: (0..words).map(|w| WORDS[(i * 7 + w * 5) % WORDS.len()]).collect::<Vec<_>>().join(" "),
            answer: (100 + 61 * i % 800).to_string(),
            kind: String::new(),
            zooms_needed: None,
            gold: Vec::new(),
            meta: serde_json::Map::new(),
        };
        let one = sample(0, 1);
        let prompt = policy.codec().prompt(&PromptStyle::default().messages(&one), &[], &one.images)?;
        let cells: usize = prompt.images.iter().map(|image| image.rows * image.columns).sum();
        let words = (TEXT_TOKENS + 1).saturating_sub(prompt.ids.len() - cells).max(1);
        Ok((0..count).map(|i| Arc::new(sample(i, words))).collect())
    }

    /// GRPO on `samples`, one update a step.
    pub(crate) fn experiment(
        &self,
        policy: QwenPolicy<Cpu>,
        samples: Vec<Arc<Sample>>,
        steps: usize,
    ) -> Experiment<QwenPolicy<Cpu>, Vec<Box<dyn Tool>>, Below, ActionMask, Grpo> {
        let limits = Limits { max_turns: 1, max_new_tokens: self.new, max_tokens: 65_536, ..Limits::default() };
        let settings = TrainSettings {
            steps,
            prompts_per_step: self.prompts,
            group_size: self.group,
            limits,
            ..TrainSettings::default()
        };
        Experiment::new(policy, (Vec::new(), Below {}), (ActionMask::default(), Grpo::default()), samples, settings)
    }
}

/// Share of the sampled tokens with an id below the number that the sample gives as its answer, and a little for the place in
/// the group: cheap, and no group is without an update.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Below {}

#[typetag::serde(name = "below")]
impl Reward for Below {
    fn score(&self, sample: &Sample, trajectory: &Trajectory) -> Score {
        let bound: u32 = sample.answer.parse().unwrap_or(0);
        let sampled =
            || trajectory.ids.iter().zip(&trajectory.origins).filter(|(_, origin)| **origin == Origin::Sampled);
        let below = sampled().filter(|(id, _)| **id < bound).count();
        let value = below as f32 / sampled().count().max(1) as f32 + 1e-3 * trajectory.index as f32;
        Score::new(value, [])
    }
}

/// A folder for what benches make.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("workload").join(name)
}

/// Tiles of random colours, 14 pixels wide.
fn picture(seed: u64) -> RgbImage {
    let colour = |x: u32, y: u32, c: u64| imagent::core::derive(seed, &[u64::from(x / 14), u64::from(y / 14), c]) as u8;
    RgbImage::from_fn(SIDE, SIDE, |x, y| image::Rgb([0, 1, 2].map(|c| colour(x, y, c))))
}

fn letter(i: usize) -> char {
    char::from(b'a' + i as u8)
}

/// Seconds of the fastest of as many runs as fit into `budget`, and of three at least, after one that does not count.
pub(crate) fn best(run: &mut dyn FnMut(), budget: Duration) -> f64 {
    run();
    let (start, mut least, mut runs) = (Instant::now(), f64::MAX, 0);
    while runs < 3 || start.elapsed() < budget {
        let once = Instant::now();
        run();
        least = least.min(once.elapsed().as_secs_f64());
        runs += 1;
    }
    least
}

/// Highest resident memory of this process so far, in MiB; `None` where the system does not say.
pub(crate) fn peak_memory() -> Option<f64> {
    Some(memory("VmHWM:")? / f64::from(1 << 20))
}

/// A figure of memory in the system's words (`VmHWM:`, `RssAnon:`, `RssFile:`), in bytes.
pub(crate) fn memory(name: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix("kB")?;
    Some(kib.trim().parse::<f64>().ok()? * 1024.0)
}
