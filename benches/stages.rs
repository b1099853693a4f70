//! The stages of a GRPO step, by criterion: `cargo bench --bench stages -- [FILTER]`.

mod workload;

use std::time::Duration;

use anyhow::Result;
use criterion::{Criterion, Throughput};
use workload::Sizes;
use workload::stages::{Stage, intake, model};

fn all(criterion: &mut Criterion) -> Result<()> {
    let stages = intake().into_iter().chain(model(&Sizes::default())?);
    for Stage { name, count, mut run, .. } in stages {
        let mut group = criterion.benchmark_group("stages");
        group.sample_size(10).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(name, |bencher| bencher.iter(&mut run));
        group.finish();
    }
    Ok(())
}

fn main() -> Result<()> {
    imagent::models::memory::keep_freed_blocks();
    let mut criterion = Criterion::default().configure_from_args();
    all(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
