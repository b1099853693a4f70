//! Whole GRPO steps, timed by part: `cargo bench --bench step -- --steps 6 --images 3 --group 8 --new 48`.
//!
//! The peer's program (`benches/peers`) runs the same model on the same prompts.

mod workload;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use imagent::algorithms::{Flow, StepReport};
use imagent::core::TrainBatch;
use imagent::data::write_folder;
use imagent::models::memory::Counting;
use imagent::run::profile::Profile;
use serde_json::json;
use workload::{Sizes, peak_memory};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Parser)]
struct Args {
    /// Steps that are timed; one more runs before them.
    #[arg(long, default_value_t = 6)]
    steps: usize,
    #[arg(long, default_value_t = 8)]
    prompts: usize,
    #[arg(long, default_value_t = 8)]
    group: usize,
    #[arg(long, default_value_t = 3)]
    images: usize,
    #[arg(long, default_value_t = 48)]
    new: usize,
    /// Multiplies the model's widths.
    #[arg(long, default_value_t = 1)]
    width: usize,
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Prints where time and memory went, the first step included.
    #[arg(long)]
    profile: bool,
    /// Prints one line of JSON.
    #[arg(long)]
    json: bool,
    /// Writes model and samples as folders `model` and `data`, for others to run, and times nothing.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    imagent::models::memory::keep_freed_blocks();
    let args = Args::parse();
    let Args { prompts, group, images, new, width, layers, .. } = args;
    let sizes = Sizes { prompts, group, images, new, width, layers };
    let policy = sizes.policy()?;
    let parameters = sizes.parameters()?;
    let samples = sizes.samples(&policy, prompts * (args.steps + 1))?;
    if let Some(dir) = args.write {
        sizes.write_model(&dir.join("model"))?;
        write_folder(&dir.join("data"), samples.iter().map(AsRef::as_ref))?;
        return Ok(());
    }
    let mut experiment = sizes.experiment(policy, samples, args.steps + 1);
    let profile = args.profile.then(Profile::start).transpose()?;
    let mut parts: BTreeMap<&'static str, f64> = BTreeMap::new();
    let mut steps = Vec::new();
    let mut since = Instant::now();
    let mut tokens = (0, 0);
    experiment.train(0, &mut |_: &mut _, report: &StepReport, batch: &TrainBatch| {
        let seconds = since.elapsed().as_secs_f64();
        if report.step > 0 {
            report.seconds.iter().for_each(|(part, s)| *parts.entry(part).or_default() += s / args.steps as f64);
            steps.push(seconds);
        }
        let lengths = batch.rows.iter().map(|row| row.scored.trajectory.ids.len());
        let prompt = batch.rows.first().map_or(0, |row| row.scored.trajectory.prompt_len);
        tokens = (prompt, lengths.max().unwrap_or(0));
        since = Instant::now();
        Ok(Flow::Continue)
    })?;
    if let Some(profile) = profile {
        print!("{}", profile.table());
    }
    steps.sort_by(f64::total_cmp);
    let median = (steps[(steps.len() - 1) / 2] + steps[steps.len() / 2]) / 2.0;
    let (low, high) = steps.iter().fold((f64::MAX, 0.0_f64), |(low, high), &s| (low.min(s), high.max(s)));
    let generated = (prompts * group * new) as f64;
    if args.json {
        let line = json!({
            "parameters": parameters, "prompt_tokens": tokens.0, "tokens": tokens.1, "rows": prompts * group,
            "step_s": median, "step_s_min": low, "step_s_max": high, "parts_s": parts,
            "generated_tok_per_s": generated / median, "peak_mib": peak_memory(), "sizes": sizes,
            "threads": rayon::current_num_threads(),
        });
        println!("{line}");
        return Ok(());
    }
    println!(
        "{parameters} parameters, {prompts} prompts of {} tokens ({images} images) × {group}, {new} new tokens",
        tokens.0
    );
    println!("step {median:.3} s (min {low:.3}, max {high:.3}), {:.0} new tokens/s", generated / median);
    for (part, seconds) in &parts {
        println!(
            "  {part:<8} {seconds:.3} s  {:4.1} %",
            100.0 * seconds * args.steps as f64 / steps.iter().sum::<f64>()
        );
    }
    if let Some(peak) = peak_memory() {
        println!("  peak resident memory {peak:.0} MiB");
    }
    Ok(())
}
