//! Rollouts of a random model of 4.6 million parameters: 48 new tokens a trajectory after prompts with three images, at 1,
//! 8, 32 and 64 live trajectories in groups of 8. Tower and prefill are part of the time.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dfdx::prelude::Cpu;
use image::{Rgb, RgbImage};
use imagent::core::{Content, Encoder, Key, Message, Next, Policy, PolicyPrompt, Role, Sampling, Segment};
use imagent::models::adamw::AdamWConfig;
use imagent::models::nano::{NanoConfig, init};
use imagent::models::policy::QwenPolicy;

/// Tokens of a turn.
const NEW: usize = 48;
/// Trajectories that share a prompt.
const GROUP: usize = 8;

/// The `i`-th letter.
fn letter(i: usize) -> &'static str {
    &"abcdefghijklmnopqrstuvwxyz"[i..=i]
}

/// A random model; its end token is one of a thousand, so most turns run to their limit.
fn open(dir: &Path) -> QwenPolicy<Cpu> {
    let nano = NanoConfig { hidden_size: 256, intermediate_size: 768, vision_depth: 4, ..NanoConfig::default() };
    let words: Vec<String> = (0..676).map(|i| ["q", letter(i / 26), letter(i % 26)].concat()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    init(dir, &nano, &words, &["<answer>"], 1).unwrap();
    QwenPolicy::open(dir, Cpu::default(), AdamWConfig::default()).unwrap()
}

fn prompt(policy: &QwenPolicy<Cpu>, seed: u32) -> Arc<Segment> {
    let level = |x: u32, y: u32, c: u32| (x * (3 + seed) + y * (5 + 2 * seed) + c * 67 + seed * 31) as u8;
    let picture = |i: u32| RgbImage::from_fn(112, 112, |x, y| Rgb([0, 1, 2].map(|c| level(x + i, y, c))));
    let pictures: Vec<Arc<RgbImage>> = (0..3).map(|i| Arc::new(picture(i))).collect();
    let mut content: Vec<Content> = pictures.iter().map(|_| Content::Image).collect();
    content.push(Content::text("Which image has the red circle?"));
    let messages = [Message { role: Role::User, content }];
    Arc::new(policy.codec().prompt(&messages, &[], &pictures).unwrap())
}

/// Samples one turn of each of `live` trajectories; returns the number of tokens.
fn turns(policy: &mut QwenPolicy<Cpu>, prompts: &[Arc<Segment>], live: usize) -> usize {
    let rollouts: Vec<PolicyPrompt> = (0..live)
        .map(|i| PolicyPrompt {
            prompt: Arc::clone(&prompts[i / GROUP]),
            key: Key::new(1, 2, "bench", i as u64),
            max_new_tokens: NEW,
            max_tokens: usize::MAX,
        })
        .collect();
    let mut tokens = 0;
    policy
        .rollout(&rollouts, &Sampling::default(), &mut |_, turn| {
            tokens += turn.ids.len();
            Ok(Next::End)
        })
        .unwrap();
    tokens
}

fn decode(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let mut policy = open(folder.path());
    let prompts: Vec<Arc<Segment>> = (0..8).map(|seed| prompt(&policy, seed)).collect();
    let mut group = c.benchmark_group("decode");
    for live in [1, 8, 32, 64] {
        let tokens = turns(&mut policy, &prompts, live);
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_function(BenchmarkId::from_parameter(live), |b| {
            b.iter(|| black_box(turns(&mut policy, &prompts, live)));
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
