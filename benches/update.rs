//! One update of a model of 103 million parameters: what freezing, adapters and gradient checkpointing save of memory and time.
//!
//! `cargo bench --bench update -- [--freeze PATTERN] [--lora] [--vision] [--checkpointing]` tells the memory of a process that does
//! this alone. With `--against` the plain update, which trains everything and keeps everything, takes turns with it in the same
//! process, and the ratio of the shortest times is told: memory means nothing then.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod workload;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use dfdx::prelude::Cpu;
use image::RgbImage;
use imagent::core::{TokenLoss, TokenScores};
use imagent::models::adamw::AdamWConfig;
use imagent::models::footprint::Footprint;
use imagent::models::lora::LoraConfig;
use imagent::models::nano::{NanoConfig, init};
use imagent::models::policy::QwenPolicy;
use imagent::models::qwen::positions::GridSpan;
use imagent::models::qwen::{Sequence, SequenceImage, Target, Tuning};

/// Pixels of an image's side, and tokens of its side.
const SIDE: (u32, usize) = (224, 8);

#[derive(Parser)]
struct Args {
    /// Parameters that are not trained, by name
    #[arg(long)]
    freeze: Vec<String>,
    /// An adapter of rank 16 on all linear maps of the language model
    #[arg(long)]
    lora: bool,
    /// The adapter is on the tower as well
    #[arg(long)]
    vision: bool,
    /// Blocks keep their input alone and run again
    #[arg(long)]
    checkpointing: bool,
    /// Takes turns with the plain update
    #[arg(long)]
    against: bool,
    /// Updates that are timed; one more runs before them
    #[arg(long, default_value_t = 2)]
    repeats: usize,
    /// Images of the sequence, 64 tokens each
    #[arg(long, default_value_t = 4)]
    images: usize,
    /// Its tokens of text
    #[arg(long, default_value_t = 256)]
    text: usize,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    imagent::models::memory::keep_freed_blocks();
    let args = Args::parse();
    let dir = workload::folder("update-103m");
    if !dir.join("config.json").is_file() {
        init(&dir, &model(), &[], &[], 1).unwrap();
    }
    let lora = args.lora.then(|| LoraConfig { rank: 16, alpha: 32.0, vision: args.vision, ..LoraConfig::default() });
    let gradient_checkpointing = args.checkpointing;
    let tuning = Tuning { freeze: args.freeze.clone(), lora, gradient_checkpointing, ..Tuning::default() };
    let mut policy = open(&dir, &tuning);
    let before = megabytes("VmRSS:");
    let sequence = Work::new(&policy, &args);
    let mut plain = args.against.then(|| open(&dir, &Tuning::default()));
    let (mut ours, mut theirs) = (f64::INFINITY, f64::INFINITY);
    for round in 0..=args.repeats {
        // The first of each makes what the others find.
        let time = sequence.update(&mut policy);
        ours = if round == 0 { ours } else { ours.min(time) };
        if let Some(plain) = &mut plain {
            let time = sequence.update(plain);
            theirs = if round == 0 { theirs } else { theirs.min(time) };
        }
    }
    let trained: usize = policy.model.parameters().iter().map(|parameter| parameter.len()).sum();
    let footprint = Footprint::of(&policy.model.config);
    println!(
        "{} rows, {} of them of images; {trained} of {} parameters trained; {ours:.2} s",
        sequence.ids.len(),
        args.images * SIDE.1 * SIDE.1,
        footprint.parameters.total()
    );
    match plain {
        Some(_) => println!("the plain update: {theirs:.2} s; this one takes {:.2} of it", ours / theirs),
        None => println!("memory: {before:.0} MB before, {:.0} MB at most", megabytes("VmHWM:")),
    }
}

fn model() -> NanoConfig {
    NanoConfig {
        hidden_size: 768,
        layers: 12,
        heads: 12,
        intermediate_size: 2048,
        vision_hidden_size: 384,
        vision_depth: 12,
        vision_heads: 6,
        vision_intermediate_size: 1024,
        pixels: u64::from(SIDE.0 * SIDE.0),
        ..NanoConfig::default()
    }
}

fn open(dir: &Path, tuning: &Tuning) -> QwenPolicy<Cpu> {
    QwenPolicy::open_tuned(dir, Cpu::default(), AdamWConfig::default(), tuning).unwrap()
}

fn megabytes(name: &str) -> f64 {
    workload::memory(name).unwrap_or(f64::NAN) / 1e6
}

/// Images, then text, all of it to be predicted.
struct Work {
    ids: Vec<u32>,
    images: Vec<SequenceImage>,
}

impl Work {
    fn new(policy: &QwenPolicy<Cpu>, args: &Args) -> Self {
        let tokens = &policy.model.config.tokens;
        let (mut ids, mut images) = (Vec::new(), Vec::new());
        for i in 0..args.images {
            ids.push(tokens.vision_start);
            let span = GridSpan { start: ids.len(), rows: SIDE.1, columns: SIDE.1 };
            let colour = |x: u32, y: u32, c: u64| (u64::from(x * 7 + y * 13) * (c + 3) + i as u64 * 31) as u8;
            let pixels = RgbImage::from_fn(SIDE.0, SIDE.0, |x, y| image::Rgb([0, 1, 2].map(|c| colour(x, y, c))));
            images.push(SequenceImage { span, pixels: Arc::new(pixels) });
            ids.resize(ids.len() + SIDE.1 * SIDE.1, tokens.image);
            ids.push(tokens.vision_end);
        }
        ids.extend((0..args.text as u32).map(|i| 40 + i * 7 % 90));
        Self { ids, images }
    }

    /// Seconds of an update.
    fn update(&self, policy: &mut QwenPolicy<Cpu>) -> f64 {
        let first = self.ids.len() - self.ids.len().min(200);
        let target = |row: usize| Target { row, id: self.ids[row + 1], suppress: false };
        let targets = (first..self.ids.len() - 1).map(target).collect();
        let sequence = Sequence { ids: &self.ids, images: self.images.clone(), prompt_len: 0, targets };
        let watch = Instant::now();
        policy.update_sequences(std::slice::from_ref(&sequence), 1.0, &mut likelihood).unwrap();
        watch.elapsed().as_secs_f64()
    }
}

fn likelihood(scores: &TokenScores) -> TokenLoss {
    let count = scores.logprobs.len();
    TokenLoss {
        value: -scores.logprobs.iter().map(|&x| f64::from(x)).sum::<f64>() / count as f64,
        d_logprobs: vec![-1.0 / count as f32; count],
        ..TokenLoss::default()
    }
}
