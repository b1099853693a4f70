//! A made-up run: curves that look like training, trajectories played by the fake policy with a real shelf.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use image::{Rgb, RgbImage};
use imagent_analysis::{EvalTable, ImageCodec, MetricsRow, MetricsWriter, TrajectoryRecord, write_rollouts};
use imagent_core::testing::FakePolicy;
use imagent_core::{
    Arguments, BBox, CropOrigin, Gold, ImageShelf, Limits, Observation, ObservationImage, Original, PromptStyle,
    RolloutRequest, Sample, Sampling, Score, ScoredTrajectory, Tool, ToolError, ToolSpec, Trajectory, rollout, seed,
};
use serde::{Deserialize, Serialize};

/// Crops the region it is told, without any check: a stand-in for the real tool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Crop {}

#[typetag::serde(name = "DemoCrop")]
impl Tool for Crop {
    fn spec(&self) -> ToolSpec {
        ToolSpec { name: "zoom_in".into(), description: String::new(), parameters: serde_json::json!({}) }
    }

    fn call(&self, arguments: &Arguments, images: &ImageShelf) -> Result<Observation, ToolError> {
        let index = arguments.get("image").and_then(|v| v.as_u64()).unwrap_or(0) as usize;
        let source = images.get(index).ok_or(ToolError::NoImage { index: index as i64, count: images.len() })?;
        let edges: Vec<u32> = (0..4).map(|i| arguments["bbox"][i].as_f64().unwrap_or(0.0) as u32).collect();
        let (w, h) = (edges[2] - edges[0], edges[3] - edges[1]);
        let cut = image::imageops::crop_imm(&*source.pixels, edges[0], edges[1], w, h).to_image();
        let pixels = image::imageops::resize(&cut, w * 2, h * 2, image::imageops::FilterType::CatmullRom);
        let bbox = BBox::<Original>::from([edges[0], edges[1], edges[2], edges[3]].map(f64::from));
        let image = ObservationImage { pixels: Arc::new(pixels), origin: Some(CropOrigin::new(index, bbox)) };
        Ok(Observation { text: format!("Image {}: region of image {index}.", images.len() + 1), images: vec![image] })
    }
}

/// A picture with coloured shapes, the `small` one at `(x, y)`.
fn picture(key: u64, (x, y): (u32, u32)) -> Arc<RgbImage> {
    let shade = |i: u64| (60 + seed::derive(key, &[i]) % 170) as u8;
    let image = RgbImage::from_fn(448, 336, |px, py| {
        let (cx, cy) = (px / 56, py / 56);
        let block = u64::from(cx * 7 + cy);
        let inside = (px % 56 > 10 && px % 56 < 46) && (py % 56 > 10 && py % 56 < 46);
        let small = px.abs_diff(x + 14) + py.abs_diff(y + 14) < 13;
        match (small, inside && seed::derive(key, &[block, 9]).is_multiple_of(3)) {
            (true, _) => Rgb([235, 60, 40]),
            (_, true) => Rgb([shade(block), shade(block + 50), shade(block + 90)]),
            _ => Rgb([238, 236, 230]),
        }
    });
    Arc::new(image)
}

/// A sample of two or three images with its answer in a small region.
fn sample(i: usize) -> Arc<Sample> {
    let kind = ["read", "which", "same"][i % 3];
    let spot = |k: u64| ((40 + 60 * ((i as u64 + k) % 6)) as u32, (30 + 45 * ((i as u64 * 3 + k) % 6)) as u32);
    let count = 2 + i % 2;
    let (x, y) = spot(1);
    let gold = Gold { image: 2, bbox: BBox::from([x, y, x + 28, y + 28].map(f64::from)) };
    Arc::new(Sample {
        id: format!("{kind}/{i:04}"),
        images: (0..count).map(|k| picture((i * 10 + k) as u64, spot(k as u64))).collect(),
        later_images: Vec::new(),
        question: format!(
            "In which of the {count} images is the red lozenge <closest> to the left edge & how is it called?"
        ),
        answer: format!("{}", 1 + i % 4),
        kind: kind.to_owned(),
        zooms_needed: Some((i % 3) as u32),
        gold: vec![gold],
        meta: serde_json::Map::new(),
    })
}

/// What the fake policy says: direct answers, one zoom, a zoom of a zoom, an error, and turns that end badly.
fn script(i: usize, turn: usize) -> String {
    let (x, y) = (40 + 60 * ((i + 1) % 6), 30 + 45 * ((i * 3 + 1) % 6));
    let call = |image: usize, [a, b, c, d]: [usize; 4]| {
        format!(
            "<think>I need a closer look at image {image}.</think>\n<tool_call>{{\"name\": \"zoom_in\", \"arguments\": {{\"image\": {image}, \"bbox\": [{a}, {b}, {c}, {d}]}}}}</tool_call>"
        )
    };
    let answer = |right: bool| {
        format!(
            "<think>The lozenge is red, so a < b && b > 0.</think>\n<answer>{}</answer>",
            if right { 1 + i % 4 } else { 9 }
        )
    };
    match (i % 6, turn) {
        (0, _) => answer(i.is_multiple_of(12)),
        (1 | 5, 0) => call(2, [x - 20, y - 20, x + 60, y + 60]),
        (2, 0) => call(2, [x - 30, y - 30, x + 90, y + 70]),
        (2, 1) => call(3 + i % 2, [40, 40, 160, 140]),
        (3, 0) => call(17, [0, 0, 10, 10]),
        (4, _) => "I do not know <answer".to_owned(),
        _ => answer(!i.is_multiple_of(5)),
    }
}

/// Trajectories with grades.
pub fn scored(count: usize) -> Vec<ScoredTrajectory> {
    let samples: Vec<_> = (0..count).map(sample).collect();
    let request = RolloutRequest {
        group_size: 1,
        sampling: Sampling::default(),
        limits: Limits::default(),
        prompt: PromptStyle::default(),
        seed: 1,
        round: 0,
    };
    let mut policy = FakePolicy::new(script);
    let groups = rollout(&mut policy, &(Crop {},), &samples, &request).unwrap();
    groups.into_iter().flatten().map(grade).collect()
}

fn grade(trajectory: Trajectory) -> ScoredTrajectory {
    let right = trajectory.answer.as_ref() == Some(&trajectory.sample.answer);
    let (accuracy, tool) = (f32::from(right), f32::from(trajectory.used_tool()));
    let value = accuracy * (1.0 + tool) + 0.5;
    let score = Score::new(value, [("accuracy", accuracy), ("format", 1.0), ("tool_gain", tool)]);
    ScoredTrajectory { trajectory, score }
}

/// The records of those trajectories with embedded images, the first with its tokens.
pub fn records(count: usize) -> Vec<TrajectoryRecord> {
    let text = |id: u32| char::from_u32(id).filter(|_| id < 256).map(String::from).unwrap_or_default();
    let record = |(i, scored): (usize, &ScoredTrajectory)| {
        let record = TrajectoryRecord::from(scored);
        let record = if i == 0 { record.with_tokens(&scored.trajectory, None, Some(&text)) } else { record };
        record.with_images(&scored.trajectory.shelf, ImageCodec::Png, 448).unwrap()
    };
    scored(count).iter().enumerate().map(record).collect()
}

/// Curves of a run that learns to use its tool.
pub fn metrics(steps: usize) -> Vec<MetricsRow> {
    (1..=steps).map(|step| row(step, steps)).collect()
}

fn row(step: usize, steps: usize) -> MetricsRow {
    let t = step as f64 / steps as f64;
    let noise = |i: u64| (seed::derive(step as u64, &[i]) % 1000) as f64 / 1000.0 - 0.5;
    let rise = 1.0 / (1.0 + (-(t - 0.4) * 9.0).exp());
    let no_answer = 0.25 * (1.0 - rise);
    let mut values = vec![
        ("accuracy", 0.12 + 0.75 * rise + 0.12 * noise(0)),
        ("accuracy/read", 0.10 + 0.85 * rise + 0.1 * noise(1)),
        ("accuracy/which", 0.3 + 0.5 * rise + 0.1 * noise(2)),
        ("accuracy/same", 0.5 + 0.15 * rise + 0.1 * noise(3)),
        ("reward", 0.3 + 1.5 * rise + 0.2 * noise(4)),
        ("reward_std", 0.6 - 0.3 * t + 0.1 * noise(5)),
        ("tool_rate", (0.1 + 0.8 * rise + 0.1 * noise(6)).clamp(0.0, 1.0)),
        ("tool_rate_needed", (0.1 + 0.87 * rise + 0.1 * noise(7)).clamp(0.0, 1.0)),
        ("calls", 0.2 + 1.2 * rise + 0.1 * noise(8)),
        ("turns", 1.2 + 1.2 * rise + 0.1 * noise(8)),
        ("end/answered", 1.0 - no_answer - 0.05 * (1.0 - t) - 0.03),
        ("end/no_answer", no_answer),
        ("end/turn_limit", 0.01),
        ("end/length_limit", 0.01),
        ("end/malformed", 0.05 * (1.0 - t)),
        ("end/image_limit", 0.01),
        ("entropy", 1.3 * (-2.0 * t).exp() + 0.1 + 0.05 * noise(9)),
        ("kl", 0.02 * t + 0.002 * noise(10)),
        ("approx_kl", 0.001 + 0.0005 * noise(11)),
        ("clip_fraction", 0.01 + 0.01 * noise(12).abs()),
        ("response_tokens", 60.0 + 80.0 * rise + 20.0 * noise(13)),
        ("grad_norm", 0.8 + 0.5 * noise(14) + if step.is_multiple_of(97) { 3.0 } else { 0.0 }),
        ("learning_rate", 1e-6 * (1.0 - t)),
        ("loss", 0.01 * noise(15)),
        ("zoom/hit", 0.2 + 0.7 * rise + 0.1 * noise(16)),
        ("zoom/right_image", 0.5 + 0.45 * rise + 0.05 * noise(17)),
        ("zoom/reading", 0.05 + 0.8 * rise + 0.1 * noise(18)),
        ("groups_flat", 0.5 - 0.2 * t + 0.1 * noise(19)),
    ];
    if step == steps / 2 {
        values.push(("mystery", f64::NAN));
    }
    let times = [("rollout", 3.0 + noise(20)), ("reward", 0.02), ("score", 0.7), ("update", 2.1 + 0.4 * noise(21))];
    let named = |pairs: &[(&str, f64)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    MetricsRow { step, metrics: named(&values), seconds: named(&times) }
}

/// An evaluation: of the trajectories, or a weaker one made up.
fn table(records: &[TrajectoryRecord], share: f64) -> EvalTable {
    let mean =
        |of: &dyn Fn(&TrajectoryRecord) -> f64| share * records.iter().map(of).sum::<f64>() / records.len() as f64;
    let mut table = BTreeMap::from([
        ("accuracy".to_owned(), mean(&|r| r.accuracy().unwrap_or(0.0))),
        ("tool_rate".to_owned(), mean(&|r| f64::from(u8::from(r.used_tool())))),
        ("reward".to_owned(), mean(&|r| r.reward)),
        ("calls".to_owned(), mean(&|r| r.calls() as f64)),
        ("response_tokens".to_owned(), mean(&|r| r.sampled_tokens as f64)),
        ("end/answered".to_owned(), mean(&|r| f64::from(u8::from(r.answer.is_some())))),
        ("samples".to_owned(), records.len() as f64),
    ]);
    for kind in ["read", "which", "same"] {
        let of_kind: Vec<f64> = records.iter().filter(|r| r.kind == kind).filter_map(|r| r.accuracy()).collect();
        table.insert(format!("accuracy/{kind}"), share * of_kind.iter().sum::<f64>() / of_kind.len().max(1) as f64);
    }
    table
}

/// A configuration, with what HTML has to escape.
pub const CONFIG: &str = r#"# </pre><script>alert("config")</script>
name = "nano"
seed = 7

[model]
preset = "nano"

[train]
steps = 400
group_size = 8
learning_rate = 1e-6

[optimizer]
type = "Grpo"
beta = 0.01

[reward]
type = "ImagentReward"
tool_gain = 1.0

[[tools]]
type = "ZoomIn"

[[tools]]
type = "LookBack"
"#;

/// Writes a whole run folder.
pub fn write_run(folder: &Path, steps: usize, trajectories: usize) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.toml"), CONFIG).unwrap();
    let mut writer = MetricsWriter::open(&folder.join("metrics.jsonl")).unwrap();
    writer.truncate_after(0).unwrap();
    metrics(steps).iter().for_each(|row| writer.append(row).unwrap());
    let records = records(trajectories);
    write_rollouts(&folder.join("rollouts/eval-after.jsonl"), &records).unwrap();
    for (name, share) in [("eval-before.json", 0.4), ("eval-after.json", 1.0)] {
        fs::write(folder.join(name), serde_json::to_vec_pretty(&table(&records, share)).unwrap()).unwrap();
    }
}
