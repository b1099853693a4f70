//! What a GRPO step costs as the work grows along one axis at a time: `cargo bench --bench growth`.
//!
//! A step whose time grows faster than its floating-point operations would show in a falling rate. The exponent is that of
//! time over operations from the row above: 1 where time follows them, below 1 where a fixed cost is spread.

mod workload;

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use workload::stages::step;
use workload::{Sizes, best};

#[derive(Parser)]
struct Args {
    /// Runs the axes whose name holds this text: images, group, new tokens, parameters.
    #[arg(default_value = "")]
    filter: String,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    imagent::models::memory::keep_freed_blocks();
    let args = Args::parse();
    let base = Sizes::default();
    let of = |numbers: &[usize], set: fn(&mut Sizes, usize)| {
        let sizes = |&number: &usize| {
            let mut sizes = base.clone();
            set(&mut sizes, number);
            (number.to_string(), sizes)
        };
        numbers.iter().map(sizes).collect::<Vec<_>>()
    };
    let mut models = Vec::new();
    for (width, layers) in [(1, 1), (1, 4), (2, 4), (4, 5)] {
        let sizes = Sizes { width, layers, ..base.clone() };
        models.push((sizes.parameters()?.to_string(), sizes));
    }
    let axes = [
        ("images a prompt", of(&[1, 2, 4, 8, 16], |sizes, n| sizes.images = n)),
        ("rollouts a prompt", of(&[4, 8, 16, 32], |sizes, n| sizes.group = n)),
        ("new tokens", of(&[32, 64, 128, 256, 512], |sizes, n| sizes.new = n)),
        ("parameters", models),
    ];
    for (axis, rows) in axes.into_iter().filter(|(axis, _)| axis.contains(&args.filter)) {
        println!("| {axis} | GFLOP | s | GFLOP/s | exponent |\n|---:|---:|---:|---:|---:|");
        let mut before: Option<(f64, f64)> = None;
        for (name, sizes) in rows {
            let mut stage = step(&sizes)?;
            let seconds = best(&mut stage.run, Duration::from_secs(1));
            let exponent = before.map(|(flops, s)| (seconds / s).ln() / (stage.flops / flops).ln());
            let exponent = exponent.map_or_else(String::new, |exponent| format!("{exponent:.2}"));
            let work = stage.flops / 1e9;
            println!("| {name} | {work:.1} | {seconds:.3} | {:.0} | {exponent} |", work / seconds);
            before = Some((stage.flops, seconds));
        }
        println!();
    }
    Ok(())
}
