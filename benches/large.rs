//! A large checkpoint on this machine: tokens a second while decoding and prefilling, next to the limits that the machine
//! sets in the same run: reading memory by all threads, and products of matrices in f32.
//!
//! `cargo bench --bench large -- --model DIR [--tokens N] [--prompt N] [--repeats N]`; without `--model` there is nothing to
//! measure. Every figure is the best of the repeats. Memory is read in several ways, and the fastest counts: see
//! `Reading`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod workload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use dfdx::prelude::Cpu;
use imagent::core::{Key, Next, Policy, PolicyPrompt, Sampling, Segment};
use imagent::models::checkpoint::{Checkpoint, Stored, names};
use imagent::models::config::Config;
use imagent::models::ops::gemm::{Mat, MatMut, matmul};
use imagent::models::policy::QwenPolicy;
use rayon::prelude::*;

#[derive(Parser)]
struct Args {
    /// A checkpoint folder
    #[arg(long)]
    model: Option<PathBuf>,
    /// New tokens of each trajectory
    #[arg(long, default_value_t = 6)]
    tokens: usize,
    /// Tokens of the long prompt
    #[arg(long, default_value_t = 512)]
    prompt: usize,
    /// Times that everything is measured
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    imagent::models::memory::keep_freed_blocks();
    let args = Args::parse();
    let Some(dir) = &args.model else {
        println!("nothing to measure: name a checkpoint folder with --model");
        return;
    };
    let weights = Weights::open(dir);
    let mut policy = QwenPolicy::open_for_inference(dir, Cpu::default(), None).unwrap();
    let bytes = weights.bytes();
    println!("weights read for a token: {:.3} GB", bytes as f64 / 1e9);
    let bandwidth = fastest(args.repeats, &weights);
    for live in [1, 8, 32] {
        // The time of more tokens less that of one is the time of the steps between.
        let first = best(args.repeats, || rollout(&mut policy, live, 16, 1));
        let all = best(args.repeats, || rollout(&mut policy, live, 16, 1 + args.tokens));
        let step = (all - first) / args.tokens as f64;
        let share = bytes as f64 / step / bandwidth;
        println!(
            "decode, {live} live: {:.2} tokens/s, {:.1} ms a step, {:.0} % of the reading speed",
            live as f64 / step,
            step * 1e3,
            100.0 * share
        );
    }
    let flops = product_speed(args.repeats);
    println!("products of matrices: {:.0} GFLOP/s", flops / 1e9);
    let seconds = best(args.repeats, || rollout(&mut policy, 1, args.prompt, 1));
    let rate = args.prompt as f64 / seconds;
    let needed = 2.0 * weights.layer_elements() as f64 * rate;
    println!(
        "prefill, {} tokens: {rate:.1} tokens/s, {:.0} GFLOP/s in the layers, {:.0} % of the products' speed",
        args.prompt,
        needed / 1e9,
        100.0 * needed / flops
    );
    println!("{}", memory());
}

/// The shortest time of some calls, in seconds.
fn best<T>(repeats: usize, mut f: impl FnMut() -> T) -> f64 {
    let time = |_| {
        let start = Instant::now();
        std::hint::black_box(f());
        start.elapsed().as_secs_f64()
    };
    (0..repeats.max(1)).map(time).fold(f64::INFINITY, f64::min)
}

/// The matrices that a token of text goes through.
struct Weights {
    layers: Vec<Stored>,
    head: Stored,
}

impl Weights {
    fn open(dir: &std::path::Path) -> Self {
        let (config, checkpoint) = (Config::open(dir).unwrap(), Checkpoint::open(dir).unwrap());
        let stored = |name: &str| checkpoint.stored(name, None).unwrap();
        let head = if config.text.tie_word_embeddings { "model.embed_tokens.weight" } else { "lm_head.weight" };
        let names = names(&config).into_iter();
        let matrices = names.filter(|(name, shape)| name.starts_with("model.layers.") && shape.len() > 1);
        Self { layers: matrices.map(|(name, _)| stored(&name)).collect(), head: stored(head) }
    }

    fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.layers.iter().chain([&self.head]).map(|stored| stored.elements().bytes())
    }

    fn bytes(&self) -> usize {
        self.all().map(<[u8]>::len).sum()
    }

    fn layer_elements(&self) -> usize {
        self.layers.iter().map(|stored| stored.elements().len()).sum()
    }
}

/// Bytes of the buffers that are read: far more than caches hold.
const BUFFER: usize = 1 << 30;

/// Bytes a second of the fastest way to read memory on all threads: the weights where they are mapped, a buffer of this
/// process, and one in huge pages where the system has them; in pieces by turns, and each thread from one end of its share to
/// the other in one stream or four.
fn fastest(repeats: usize, weights: &Weights) -> f64 {
    let mapped: Vec<&[u8]> = weights.all().collect();
    let plain = vec![1u64; BUFFER / 8];
    let plain: Vec<&[u8]> = vec![bytemuck::cast_slice(&plain)];
    let mut map = memmap2::MmapOptions::new().len(BUFFER).map_anon().unwrap();
    // Where the system has no huge pages the buffer is one like the other.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    map.fill(1);
    let huge: Vec<&[u8]> = vec![&map];
    let mut most = 0.0f64;
    for (name, memory) in [("mapped weights", mapped), ("a buffer", plain), ("a buffer in huge pages", huge)] {
        for (how, reading) in
            [("pieces", Reading::Pieces), ("shares", Reading::Shares), ("four streams", Reading::Four)]
        {
            let bytes: usize = memory.iter().map(|part| part.len()).sum();
            let rate = bytes as f64 / best(repeats, || reading.read(&memory));
            println!("reading {name} in {how}, {} threads: {:.1} GB/s", rayon::current_num_threads(), rate / 1e9);
            most = most.max(rate);
        }
    }
    most
}

/// How memory is read.
#[derive(Clone, Copy)]
enum Reading {
    /// Pieces of a megabyte, whichever thread is free.
    Pieces,
    /// A share for each thread.
    Shares,
    /// The same in four places of it by turns.
    Four,
}

impl Reading {
    /// Reads every byte once.
    fn read(self, memory: &[&[u8]]) -> u64 {
        let share = match self {
            Self::Pieces => 1 << 20,
            Self::Shares | Self::Four => BUFFER / rayon::current_num_threads(),
        };
        let chunks: Vec<&[u8]> = memory.iter().flat_map(|bytes| bytes.chunks(share)).collect();
        let read = |chunk: &&[u8]| match self {
            Self::Pieces | Self::Shares => sum([chunk]),
            Self::Four => {
                let (halves, quarter) = (chunk.split_at(chunk.len() / 2), chunk.len() / 4);
                let ((a, b), (c, d)) = (halves.0.split_at(quarter), halves.1.split_at(quarter));
                sum([a, b, c, d])
            }
        };
        chunks.par_iter().map(read).reduce(|| 0, u64::wrapping_add)
    }
}

/// The sum of the words of several streams, read side by side: 128 bytes of each by turns, in 16 sums that stay in registers.
fn sum<const N: usize>(streams: [&[u8]; N]) -> u64 {
    let streams = streams.map(|stream| stream.as_chunks::<128>().0);
    let blocks = streams.iter().map(|stream| stream.len()).min().unwrap_or(0);
    let mut sums = [0u64; 16];
    for block in 0..blocks {
        for stream in streams {
            for (sum, word) in sums.iter_mut().zip(stream[block].as_chunks::<8>().0) {
                *sum = sum.wrapping_add(u64::from_le_bytes(*word));
            }
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}

/// `live` trajectories over one prompt of text.
fn rollout(policy: &mut QwenPolicy<Cpu>, live: usize, prompt: usize, tokens: usize) {
    let ids = (0..prompt as u32).map(|i| 100 + i * 37 % 1000).collect();
    let prompt = Arc::new(Segment { ids, images: Vec::new() });
    let prompts: Vec<PolicyPrompt> = (0..live)
        .map(|i| PolicyPrompt {
            prompt: Arc::clone(&prompt),
            key: Key::new(1, 2, "bench", i as u64),
            max_new_tokens: tokens,
            max_tokens: usize::MAX,
        })
        .collect();
    policy.rollout(&prompts, &Sampling::default(), &|_, _| Ok(Next::End)).unwrap();
}

/// Floating-point operations a second of a product of 2048 rows.
fn product_speed(repeats: usize) -> f64 {
    let n = 2048;
    let (a, b) = (vec![0.5f32; n * n], vec![0.25f32; n * n]);
    let mut c = vec![0.0f32; n * n];
    let seconds = best(3 * repeats, || {
        matmul(MatMut::new(&mut c, n, n), Mat::new(&a, n, n), Mat::new(&b, n, n), false);
    });
    2.0 * (n as f64).powi(3) / seconds
}

/// What the system says of the process's memory.
fn memory() -> String {
    let figure = |name| workload::memory(name).map_or("unknown".to_owned(), |bytes| format!("{:.2} GB", bytes / 1e9));
    let (peak, own, mapped) = (figure("VmHWM:"), figure("RssAnon:"), figure("RssFile:"));
    format!("memory: {peak} at most, now {own} of its own and {mapped} of mapped files")
}
