//! How far the stages of a step are from what this machine can do, measured in the same run:
//! `cargo bench --bench limits`.
//!
//! A stage's limit is the larger of its floating-point operations over the speed of the fastest matrix product, and its bytes
//! over the bandwidth of memory (of the cache, while the weights fit there). A machine's speed changes from second to second,
//! so a stage and that product take turns, and the fastest run of each is compared.

mod workload;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use imagent::models::ops::gemm::{Mat, MatMut, matmul};
use rayon::prelude::*;
use serde_json::json;
use workload::stages::{Stage, intake, model};
use workload::{Sizes, best, peak_memory};

/// How long the machine's own figures are measured.
const BUDGET: Duration = Duration::from_secs(1);
/// How long a stage is measured, its turns with the product together.
const STAGE_BUDGET: Duration = Duration::from_secs(6);
/// The least time of a turn.
const TURN: Duration = Duration::from_millis(40);

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
    let (mut fastest, mut peak) = (None, 0.0);
    for [rows, inner, columns] in [[1024, 1024, 1024], [4256, 256, 1536], [4256, 768, 256], [64, 256, 1536]] {
        let mut speeds = Vec::new();
        for mut product in products(rows, inner, columns) {
            let speed = product.flops / best(&mut product.run, BUDGET);
            speeds.push(format!("{} {:.0}", product.name, speed / 1e9));
            if speed > peak {
                (fastest, peak) = (Some(product), speed);
            }
        }
        say(format!("linear {rows:>5} x {inner:>4} -> {columns:>4}  GFLOP/s: {}", speeds.join(", ")));
    }
    let mut fastest = fastest.context("no product was measured")?;
    let (memory, cache) = (reading(1 << 28), reading(1 << 22));
    say(format!("reading 1 GiB {:.1} GB/s, 16 MiB {:.1} GB/s\n", memory / 1e9, cache / 1e9));
    let stages = intake().into_iter().chain(model(&sizes)?).filter(|stage| stage.name.contains(&args.filter));
    say(format!("{:<36} {:>10} {:>12} {:>9} {:>9} {:>7}", "stage", "ms", "rate", "GFLOP", "GFLOP/s", "limit"));
    for Stage { name, unit, count, flops, bytes, mut run } in stages {
        let (seconds, product) = in_turns(&mut run, &mut fastest.run);
        let (ms, rate) = (seconds * 1e3, count as f64 / seconds);
        let limit = (flops / fastest.flops * product).max(bytes / cache.max(memory)) / seconds;
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

/// A matrix product.
struct Product {
    name: &'static str,
    /// Floating-point operations of one run.
    flops: f64,
    run: Box<dyn FnMut()>,
}

/// A linear map `y[rows, columns] = x[rows, inner] wᵀ`, its gradient by the input, `dx = dy w`, and by the weight, `dw = dyᵀ x`.
fn products(rows: usize, inner: usize, columns: usize) -> [Product; 3] {
    let flops = 2.0 * (rows * inner * columns) as f64;
    let matrix = |rows: usize, columns: usize, value: f32| (vec![value; rows * columns], rows, columns);
    let product = |name, a: (Vec<f32>, usize, usize), b: (Vec<f32>, usize, usize), flip: [bool; 2]| {
        let turned = |m: &(Vec<f32>, usize, usize), flip: bool| if flip { (m.2, m.1) } else { (m.1, m.2) };
        let (rows, columns) = (turned(&a, flip[0]).0, turned(&b, flip[1]).1);
        let mut out = vec![0.0; rows * columns];
        let run = move || {
            let [a, b] = [(&a, flip[0]), (&b, flip[1])].map(|((values, rows, columns), flip)| {
                let mat = Mat::new(values, *rows, *columns);
                if flip { mat.t() } else { mat }
            });
            matmul(MatMut::new(&mut out, rows, columns), a, b, false);
        };
        Product { name, flops, run: Box::new(run) }
    };
    let x = || matrix(rows, inner, 0.5);
    let w = || matrix(columns, inner, 0.25);
    let y = || matrix(rows, columns, 0.125);
    [
        product("forward", x(), w(), [false, true]),
        product("by input", y(), w(), [false, false]),
        product("by weight", y(), x(), [true, false]),
    ]
}

/// Seconds of the fastest run of each of the two, which take turns of [`TURN`] at least.
fn in_turns(a: &mut dyn FnMut(), b: &mut dyn FnMut()) -> (f64, f64) {
    let (start, mut turns, mut least) = (Instant::now(), 0, [f64::MAX; 2]);
    while turns < 3 || start.elapsed() < STAGE_BUDGET {
        least = [least[0].min(best(a, TURN)), least[1].min(best(b, TURN))];
        turns += 1;
    }
    (least[0], least[1])
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
