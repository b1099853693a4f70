//! How far the stages of a step are from what this machine can do, measured in the same run:
//! `cargo bench --bench limits`.
//!
//! A stage's limit is the larger of its floating-point operations over the speed of a large matrix product, and its bytes
//! over the bandwidth of memory (of the cache, while the weights fit there).

mod workload;

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use imagent::models::ops::gemm::{Mat, MatMut, matmul};
use rayon::prelude::*;
use serde_json::json;
use workload::stages::{Stage, intake, model};
use workload::{Sizes, best, peak_memory};

/// How long each figure is measured.
const BUDGET: Duration = Duration::from_millis(1500);

#[derive(Parser)]
struct Args {
    /// Prints a line of JSON for each stage.
    #[arg(long)]
    json: bool,
    /// Runs the stages whose name holds this text.
    #[arg(default_value = "")]
    filter: String,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    imagent::models::memory::keep_freed_blocks();
    let args = Args::parse();
    let sizes = Sizes::default();
    // With `--json` there is nothing else to read.
    let say = |text: String| {
        if !args.json {
            println!("{text}");
        }
    };
    say(format!("threads {}", rayon::current_num_threads()));
    let mut peak = 0.0_f64;
    // A linear map forward, its gradient by the input, and by the weight.
    for [rows, inner, columns] in [[1024, 1024, 1024], [4256, 256, 1536], [4256, 768, 256], [64, 256, 1536]] {
        let speeds = products(rows, inner, columns);
        peak = speeds.into_iter().fold(peak, f64::max);
        let [forward, input, weight] = speeds.map(|speed| speed / 1e9);
        let speeds = format!("forward {forward:.0}, by input {input:.0}, by weight {weight:.0}");
        say(format!("linear {rows:>5} x {inner:>4} -> {columns:>4}  GFLOP/s: {speeds}"));
    }
    let (memory, cache) = (reading(1 << 28), reading(1 << 22));
    say(format!("reading 1 GiB {:.1} GB/s, 16 MiB {:.1} GB/s\n", memory / 1e9, cache / 1e9));
    let stages = intake().into_iter().chain(model(&sizes)?).filter(|stage| stage.name.contains(&args.filter));
    say(format!("{:<36} {:>10} {:>12} {:>9} {:>9} {:>7}", "stage", "ms", "rate", "GFLOP", "GFLOP/s", "limit"));
    for Stage { name, unit, count, flops, bytes, mut run } in stages {
        let seconds = best(&mut run, BUDGET);
        let (ms, rate) = (seconds * 1e3, count as f64 / seconds);
        let limit = (flops / peak).max(bytes / cache.max(memory)) / seconds;
        if args.json {
            println!("{}", json!({"name": name, "unit": unit, "rate": rate, "ms": ms, "flops": flops, "limit": limit}));
        }
        let (work, speed, percent) = (flops / 1e9, flops / seconds / 1e9, 100.0 * limit);
        say(format!("{name:<36} {ms:>10.2} {rate:>9.0}/s {unit} {work:>6.2} {speed:>9.1} {percent:>5.0} %"));
    }
    if let Some(peak) = peak_memory() {
        say(format!("\npeak resident memory {peak:.0} MiB"));
    }
    Ok(())
}

/// Floating-point operations a second of `y[rows, columns] = x[rows, inner] wᵀ`, of `dx = dy w` and of `dw = dyᵀ x`.
fn products(rows: usize, inner: usize, columns: usize) -> [f64; 3] {
    let (x, w, y) = (vec![0.5; rows * inner], vec![0.25; inner * columns], vec![0.125; rows * columns]);
    let [mx, mw, my] = [Mat::new(&x, rows, inner), Mat::new(&w, columns, inner), Mat::new(&y, rows, columns)];
    let time = |rows: usize, columns: usize, a: Mat<'_>, b: Mat<'_>| {
        let mut out = vec![0.0; rows * columns];
        best(&mut || matmul(MatMut::new(&mut out, rows, columns), a, b, false), BUDGET)
    };
    [time(rows, columns, mx, mw.t()), time(rows, inner, my, mw), time(columns, inner, my.t(), mx)]
        .map(|seconds| 2.0 * (rows * inner * columns) as f64 / seconds)
}

/// Bytes a second of reading `count` numbers on all threads.
fn reading(count: usize) -> f64 {
    let values = vec![1.0_f32; count];
    let mut read = || {
        let sum = |chunk: &[f32]| {
            let mut lanes = [0.0_f32; 64];
            chunk.chunks_exact(64).for_each(|part| lanes.iter_mut().zip(part).for_each(|(lane, x)| *lane += x));
            lanes.iter().sum::<f32>()
        };
        std::hint::black_box(values.par_chunks(1 << 16).map(sum).sum::<f32>());
    };
    4.0 * count as f64 / best(&mut read, BUDGET)
}
