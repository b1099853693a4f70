//! The stages of a step one by one, each with what it has to do at least: floating-point operations of its products, bytes
//! that have to be read or written.

use std::sync::Arc;

use anyhow::Result;
use dfdx::prelude::{Cpu, NoneTape};
use image::RgbImage;
use imagent::core::{Encoder, Key, Next, Policy, PolicyPrompt, SampledTurn, Segment, TokenLoss, TokenScores, Weights};
use imagent::models::config::Config;
use imagent::models::image_processor::{ImageProcessor, Patches};
use imagent::models::qwen::positions::GridSpan;
use imagent::models::qwen::trace::Trace;
use imagent::models::qwen::{Sequence, SequenceImage, Target};
use imagent::prelude::*;

use super::{Sizes, TEXT_TOKENS};

/// One stage.
pub(crate) struct Stage {
    /// Its name.
    pub(crate) name: String,
    /// What its rate counts.
    pub(crate) unit: &'static str,
    /// How many units one run has.
    pub(crate) count: usize,
    /// Floating-point operations of its matrix products, attention included.
    pub(crate) flops: f64,
    /// Bytes that one run has to move: weights once a pass, pixels once.
    pub(crate) bytes: f64,
    /// Runs it once.
    pub(crate) run: Box<dyn FnMut()>,
}

/// Stages of image intake: a decoded picture to patches.
pub(crate) fn intake() -> Vec<Stage> {
    let processor = ImageProcessor::default();
    let sizes = [(112, 112), (640, 480), (4000, 3000)];
    let stage = |(width, height): (u32, u32)| {
        let picture =
            RgbImage::from_fn(width, height, |x, y| image::Rgb([(x / 3) as u8, (y / 5) as u8, (x ^ y) as u8]));
        let processor = processor.clone();
        let patches = processor.patches(&picture).map_or(0, |patches| patches.values.len());
        Stage {
            name: format!("intake {width}x{height}"),
            unit: "images",
            count: 1,
            flops: 0.0,
            bytes: f64::from(width * height * 3) + 4.0 * patches as f64,
            run: Box::new(move || drop(std::hint::black_box(processor.patches(&picture)))),
        }
    };
    sizes.map(stage).into()
}

/// Stages of the model: tower, prefill, decoding, log-probabilities, passes and update.
pub(crate) fn model(sizes: &Sizes) -> Result<Vec<Stage>> {
    let policy = sizes.policy()?;
    let config = policy.model.config.clone();
    let samples = sizes.samples(&policy, sizes.prompts)?;
    let prompts: Vec<Arc<Segment>> = (samples.iter())
        .map(|sample| {
            let messages = PromptStyle::default().messages(sample);
            policy.codec().prompt(&messages, &[], &sample.images).map(Arc::new)
        })
        .collect::<Result<_, _>>()?;
    drop(policy);
    let cost = Cost::new(&config);
    let mut stages = vec![tower(sizes, &samples, &cost)?, prefill(sizes, &prompts, &cost)?];
    for live in [1, 8, 32, 64] {
        stages.push(decode(sizes, &prompts[0], live, &cost)?);
    }
    let rows = Rows::new(&prompts, sizes);
    stages.push(logprobs(sizes, &rows, &cost)?);
    stages.push(pass(
        sizes,
        &Rows { branches: 1, ..Rows::new(&prompts, &Sizes { new: 6, ..sizes.clone() }) },
        32,
        &cost,
    )?);
    stages.push(update(sizes, &rows, &cost)?);
    stages.push(step(sizes)?);
    Ok(stages)
}

fn tower(sizes: &Sizes, samples: &[Arc<Sample>], cost: &Cost) -> Result<Stage> {
    let policy = sizes.policy()?;
    let images = samples.iter().flat_map(|sample| &sample.images);
    let processor = &policy.codec().processor;
    let patches: Vec<Arc<Patches>> =
        images.map(|image| processor.patches(image).map(Arc::new)).collect::<Result<_, _>>()?;
    let count = patches.len();
    Ok(Stage {
        name: format!("tower, {count} images"),
        unit: "images",
        count,
        flops: cost.image * count as f64,
        bytes: cost.tower_bytes,
        run: Box::new(move || ran(policy.model.vision(&patches, NoneTape, &mut Trace::off()))),
    })
}

fn prefill(sizes: &Sizes, prompts: &[Arc<Segment>], cost: &Cost) -> Result<Stage> {
    let tokens: usize = prompts.iter().map(|prompt| prompt.ids.len()).sum();
    let images: usize = prompts.iter().map(|prompt| prompt.images.len()).sum();
    let attention: f64 = prompts.iter().map(|prompt| cost.attention(prompt.ids.len(), 0)).sum();
    Ok(Stage {
        name: format!("prefill, {} prompts", prompts.len()),
        unit: "tokens",
        count: tokens,
        flops: cost.row * tokens as f64 + attention + cost.image * images as f64 + cost.head * prompts.len() as f64,
        bytes: cost.tower_bytes + cost.text_bytes,
        run: rollout(sizes.policy()?, prompts.to_vec(), 1),
    })
}

/// `live` rollouts of one prompt: its prefill, and 64 new tokens each.
fn decode(sizes: &Sizes, prompt: &Arc<Segment>, live: usize, cost: &Cost) -> Result<Stage> {
    let (before, new) = (prompt.ids.len(), 64);
    let prefill =
        cost.row * before as f64 + cost.attention(before, 0) + cost.image * prompt.images.len() as f64 + cost.head;
    let attention: f64 = (0..new).map(|i| cost.attention(1, before + i)).sum();
    Ok(Stage {
        name: format!("decode, {live} live"),
        unit: "tokens",
        count: live * new,
        flops: prefill + live as f64 * (attention + (cost.row + cost.head) * new as f64),
        bytes: cost.tower_bytes + cost.text_bytes * new as f64,
        run: rollout(sizes.policy()?, vec![Arc::clone(prompt); live], new),
    })
}

fn rollout(mut policy: QwenPolicy<Cpu>, prompts: Vec<Arc<Segment>>, new: usize) -> Box<dyn FnMut()> {
    let prompt = |(i, prompt): (usize, &Arc<_>)| PolicyPrompt {
        prompt: Arc::clone(prompt),
        key: Key(i as u64),
        max_new_tokens: new,
        max_tokens: usize::MAX,
    };
    // Clones of one allocation are one prompt to the engine.
    let prompts: Vec<PolicyPrompt> = prompts.iter().enumerate().map(prompt).collect();
    Box::new(move || {
        ran(policy.rollout(&prompts, &Sampling::default(), &|_, _: SampledTurn| Ok(Next::End)));
    })
}

/// A result that is kept from being optimised away. A stage that fails would be told as a fast one.
fn ran<T, E: std::fmt::Display>(result: Result<T, E>) {
    match result {
        Ok(value) => drop(std::hint::black_box(value)),
        Err(error) => panic!("{error}"),
    }
}

/// What an update sees: `branches` continuations of each prompt.
#[derive(Clone)]
struct Rows {
    prompts: Vec<Arc<Segment>>,
    ids: Vec<Vec<u32>>,
    branches: usize,
    new: usize,
}

impl Rows {
    fn new(prompts: &[Arc<Segment>], sizes: &Sizes) -> Self {
        let turn = |i: usize| (0..sizes.new as u32).map(move |k| 300 + (k * 7 + i as u32 * 13) % 600);
        let ids = prompts.iter().flat_map(|prompt| {
            (0..sizes.group).map(move |i| prompt.ids.iter().copied().chain(turn(i)).collect::<Vec<u32>>())
        });
        Self { ids: ids.collect(), prompts: prompts.to_vec(), branches: sizes.group, new: sizes.new }
    }

    /// `count` rows; those of one prompt share it, unless `alone`.
    fn sequences(&self, count: usize, alone: bool) -> Vec<Sequence<'_>> {
        let per_prompt = self.ids.len() / self.prompts.len();
        let row = |i: usize| {
            let (prompt, ids) = (&self.prompts[i / per_prompt], &self.ids[i]);
            let images = prompt.images.iter().map(|image| SequenceImage {
                span: GridSpan { start: image.start, rows: image.rows, columns: image.columns },
                pixels: Arc::clone(&image.pixels),
            });
            let first = if alone { 1 } else { prompt.ids.len() };
            let targets = (first..ids.len()).map(|p| Target { row: p - 1, id: ids[p], suppress: false });
            let prompt_len = if alone { 0 } else { prompt.ids.len() };
            Sequence { ids, images: images.collect(), prompt_len, targets: targets.collect() }
        };
        (0..count).map(row).collect()
    }

    /// Operations of one forward pass over all rows, prompts shared.
    fn flops(&self, cost: &Cost) -> f64 {
        let prompt = |prompt: &Arc<Segment>| {
            let n = prompt.ids.len();
            let branch = cost.row * self.new as f64 + cost.attention(self.new, n) + cost.head * self.new as f64;
            cost.row * n as f64
                + cost.attention(n, 0)
                + cost.image * prompt.images.len() as f64
                + self.branches as f64 * branch
        };
        self.prompts.iter().map(prompt).sum()
    }
}

fn logprobs(sizes: &Sizes, rows: &Rows, cost: &Cost) -> Result<Stage> {
    let policy = sizes.policy()?;
    let rows = rows.clone();
    Ok(Stage {
        name: format!("log-probabilities, {} rows shared", rows.ids.len()),
        unit: "tokens",
        count: rows.ids.len() * rows.new,
        flops: rows.flops(cost),
        bytes: cost.tower_bytes + cost.text_bytes,
        run: Box::new(move || {
            let sequences = rows.sequences(rows.ids.len(), false);
            ran(policy.score_sequences(&sequences, 1.0, Weights::Current));
        }),
    })
}

/// Forward and backward over `count` rows of 154 tokens that share nothing, a loss on every token.
fn pass(sizes: &Sizes, rows: &Rows, count: usize, cost: &Cost) -> Result<Stage> {
    let policy = sizes.policy()?;
    let rows = rows.clone();
    let length = rows.ids[0].len();
    let images = rows.prompts[0].images.len() * count.min(rows.prompts.len());
    let row = (cost.row + cost.head) * length as f64 + cost.attention(length, 0);
    Ok(Stage {
        name: format!("forward + backward, {count} rows alone"),
        unit: "tokens",
        count: count * length,
        flops: 3.0 * (count as f64 * row + cost.image * images as f64),
        bytes: 0.0,
        run: Box::new(move || {
            let sequences = rows.sequences(count, true);
            ran(policy.gradients(&sequences, 1.0, &mut likelihood));
        }),
    })
}

fn update(sizes: &Sizes, rows: &Rows, cost: &Cost) -> Result<Stage> {
    let mut policy = sizes.policy()?;
    let rows = rows.clone();
    Ok(Stage {
        name: format!("update, {} rows shared", rows.ids.len()),
        unit: "tokens",
        count: rows.ids.len() * rows.new,
        flops: 3.0 * rows.flops(cost),
        bytes: 7.0 * (cost.tower_bytes + cost.text_bytes),
        run: Box::new(move || {
            let sequences = rows.sequences(rows.ids.len(), false);
            ran(policy.update_sequences(&sequences, 1.0, &mut likelihood));
        }),
    })
}

/// A whole step.
pub(crate) fn step(sizes: &Sizes) -> Result<Stage> {
    let policy = sizes.policy()?;
    let cost = Cost::new(&policy.model.config);
    let samples = sizes.samples(&policy, sizes.prompts)?;
    let rows = sizes.prompts * sizes.group;
    let prompt_len = TEXT_TOKENS + samples.first().map_or(0, |sample| sample.images.len() * 16);
    let decode: f64 = (0..sizes.new).map(|i| cost.attention(1, prompt_len + i)).sum();
    let new = (rows * sizes.new) as f64;
    let prefill = sizes.prompts as f64
        * (cost.row * prompt_len as f64 + cost.attention(prompt_len, 0) + cost.image * sizes.images as f64);
    let rollout = prefill + rows as f64 * decode + (cost.row + cost.head) * new;
    let branch = cost.row * sizes.new as f64 + cost.attention(sizes.new, prompt_len) + cost.head * sizes.new as f64;
    let mut experiment = sizes.experiment(policy, samples, 1);
    Ok(Stage {
        name: format!("GRPO step, {} prompts x {}", sizes.prompts, sizes.group),
        unit: "steps",
        count: 1,
        flops: rollout + 3.0 * (prefill + rows as f64 * branch),
        bytes: cost.text_bytes * sizes.new as f64,
        run: Box::new(move || {
            ran(experiment.train(0, &mut |_: &mut _, _: &_, _: &_| Ok(imagent::algorithms::Flow::Continue)));
        }),
    })
}

fn likelihood(scores: &TokenScores) -> TokenLoss {
    let count = scores.logprobs.len();
    TokenLoss {
        value: 0.0,
        d_logprobs: vec![-1.0 / count as f32; count],
        d_entropies: Vec::new(),
        metrics: std::collections::BTreeMap::new(),
    }
}

/// Floating-point operations (two a multiply-add) and bytes of a model's parts, forward.
struct Cost {
    /// Of one row through the layers, attention aside.
    row: f64,
    /// Of one row's logits.
    head: f64,
    /// Of one image through the tower.
    image: f64,
    /// Operations of attention of one row to one key, all layers.
    pair: f64,
    text_bytes: f64,
    tower_bytes: f64,
}

impl Cost {
    fn new(config: &Config) -> Self {
        let (t, v) = (&config.text, &config.vision);
        let hd = t.head_dim();
        let layer = t.hidden_size * (2 * t.heads + 2 * t.kv_heads) * hd + 3 * t.hidden_size * t.intermediate_size;
        let text = t.layers * layer;
        let side = super::SIDE as usize / v.patch_size;
        let patches = side * side;
        let merged = v.hidden_size * v.spatial_merge_size * v.spatial_merge_size;
        let block = 4 * v.hidden_size * v.hidden_size + 3 * v.hidden_size * v.intermediate_size;
        let embed = v.in_channels * v.temporal_patch_size * v.patch_size * v.patch_size * v.hidden_size;
        let merger = merged * merged + merged * v.out_hidden_size;
        let tower = v.depth * block + embed;
        let seen = 2 * v.hidden_size * patches * v.depth;
        Self {
            row: 2.0 * text as f64,
            head: 2.0 * (t.hidden_size * t.vocab_size) as f64,
            image: 2.0 * (patches * (tower + seen) + patches / 4 * merger) as f64,
            pair: 4.0 * (t.heads * hd * t.layers) as f64,
            text_bytes: 4.0 * (text + t.hidden_size * t.vocab_size) as f64,
            tower_bytes: 4.0 * (tower + merger) as f64,
        }
    }

    /// Causal attention of `rows` rows that come after `before` others.
    fn attention(&self, rows: usize, before: usize) -> f64 {
        self.pair * (rows * before + rows * (rows + 1) / 2) as f64
    }
}
