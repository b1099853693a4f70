//! What a run holds of a dataset that is larger than its budget, by an allocator that counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use imagent::algorithms::{Flow, SampleCursor, StepReport, TrainSettings, train};
use imagent::core::testing::{FakePolicy, fake_sample};
use imagent::core::{Sample, TrainBatch};
use imagent::data::{Folder, write_folder};
use imagent::models::memory::Counting;
use imagent::prelude::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SIDE: u32 = 640;
/// Bytes of a decoded image.
const IMAGE: usize = (SIDE * SIDE * 3) as usize;
const SAMPLES: usize = 40;
const PER_STEP: usize = 3;

/// A sample with a picture of its own.
fn sample(number: usize) -> Sample {
    let shade = |x: u32, y: u32| [(x / 8) as u8, (y / 8) as u8, (number * 6) as u8];
    let picture = RgbImage::from_fn(SIDE, SIDE, |x, y| Rgb(shade(x, y)));
    Sample {
        id: format!("s{number}"),
        images: vec![Arc::new(picture)],
        later_images: Vec::new(),
        ..Arc::unwrap_or_clone(fake_sample("", 0, "What?", "7"))
    }
}

/// The most bytes in use in a run over all samples, and the first rows of what it trained on.
fn run(data: &Folder) -> (usize, Vec<Vec<u32>>) {
    let settings = TrainSettings {
        steps: 2 * SAMPLES / PER_STEP,
        prompts_per_step: PER_STEP,
        group_size: 2,
        limits: Limits { max_tokens: 4096, ..Limits::default() },
        ..TrainSettings::default()
    };
    let mut policy = FakePolicy::new(|i, _| format!("<answer>{}</answer>", 7 + i % 2));
    let mut seen = Vec::new();
    let mut watch = |_: &mut FakePolicy, _: &StepReport, batch: &TrainBatch| {
        seen.extend(batch.rows.iter().map(|row| {
            let shelf = &row.scored.trajectory.shelf;
            shelf.iter().flat_map(|image| image.pixels.get_pixel(99, 3).0.map(u32::from)).collect::<Vec<u32>>()
        }));
        Ok(Flow::Continue)
    };
    let (before, outer) = (Counting::in_use(), Counting::watch());
    let parts = (&(), &Accuracy::default(), &(ActionMask {}, TrajectoryMask::default()), &Grpo::default());
    let (tools, reward, masks, grpo) = parts;
    train(&mut policy, tools, reward, masks, grpo, data, &settings, 0, &mut watch).unwrap();
    (Counting::most(outer) - before, seen)
}

#[test]
fn a_run_holds_its_budget_and_the_images_of_a_step() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set");
    write_folder(&path, (0..SAMPLES).map(sample).collect::<Vec<_>>()).unwrap();
    let mut rows = Vec::new();
    for images in [0, 2, 5] {
        let budget = images * IMAGE;
        let data = Folder::open(&path).unwrap().with_cache(budget);
        let (most, seen) = run(&data);
        println!("budget {budget}, most {most}, of {}", SAMPLES * IMAGE);
        // A decoder has a copy of the image it works on; one works for the step, and some ahead.
        let decoders = 1 + std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2).min(4);
        assert!(most < budget + PER_STEP * IMAGE + 2 * decoders * IMAGE + (2 << 20), "{most} with {budget}");
        assert!(most > PER_STEP * IMAGE && most < SAMPLES * IMAGE / 2, "{most}");
        rows.push(seen);
    }
    assert!(rows.iter().all(|seen| *seen == rows[0]), "the samples are the same");
    let cursor = SampleCursor { samples: SAMPLES, per_step: PER_STEP, seed: TrainSettings::default().seed };
    let first = cursor.positions(0)[0] as u32;
    assert_eq!(rows[0][0], [12, 0, first * 6]);
}
