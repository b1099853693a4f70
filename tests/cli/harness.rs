//! A random nano model of the smallest size, a small world, and the binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use dfdx::prelude::Cpu;
use imagent::core::{Encoder, PromptStyle, Segment, SegmentImage, TokenLoss, TokenScores, Toolbox};
use imagent::data::{WorldConfig, generate};
use imagent::models::adamw::AdamWConfig;
use imagent::models::nano::{NanoConfig, init};
use imagent::models::policy::QwenPolicy;
use imagent::models::qwen::positions::GridSpan;
use imagent::models::qwen::{Sequence, SequenceImage, Target};
use imagent::run::checkpoint;
use imagent::tools::ZoomIn;
use serde_json::Value;
use tempfile::TempDir;

use super::done::Done;

/// What a test run consists of.
const CONFIG: &str = r#"
name = "tiny"
seed = 3

[model]
path = "MODEL"

[data.train]
path = "DATA/train"
synth = { samples = 6, seed = 1, world = { images = [2, 2] } }

[data.eval]
path = "DATA/eval"
synth = { samples = 4, seed = 2, prefix = "held" }

[limits]
max_turns = 2
max_new_tokens = 6
max_tokens = 2000

[[tools]]
type = "zoom_in"

[reward]
type = "imagent"

[[masks]]
type = "action"

[adamw]
learning_rate = 1e-3

[train]
steps = 3
prompts_per_step = 2
group_size = 3
minibatches = 2
eval_every = 2
eval_samples = 2
checkpoint_every = 1
rollouts_every = 2
eval_sampling = { temperature = 1.0 }
"#;

/// A call in one token.
const CALL: &str = r#"{"name": "zoom_in", "arguments": {"image": 1, "bbox_2d": [0, 0, 20, 20]}}"#;
const PHRASES: [&str; 5] = ["<answer>", "</answer>", "<tool_call>", "</tool_call>", CALL];

/// The model that all tests start from, made once: it zooms now and then and answers with any digit.
pub(crate) fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tiny-model");
        init(&dir, &nano(), &["What", "digit"], &PHRASES, 1).unwrap();
        teach(&dir);
        dir
    })
}

/// The smallest model.
pub(crate) fn nano() -> NanoConfig {
    NanoConfig {
        hidden_size: 32,
        layers: 1,
        heads: 2,
        intermediate_size: 48,
        vision_hidden_size: 32,
        vision_depth: 1,
        vision_heads: 2,
        vision_intermediate_size: 48,
        pixels: 56 * 56,
        ..NanoConfig::default()
    }
}

/// Teaches the first turn, so that rewards differ and there is something to learn.
fn teach(dir: &Path) {
    let adamw = AdamWConfig { learning_rate: 1e-2, ..AdamWConfig::default() };
    let mut policy = QwenPolicy::open(dir, Cpu::default(), adamw).unwrap();
    let codec = Arc::clone(policy.codec());
    let world = WorldConfig { images: [2, 2], ..WorldConfig::default() };
    let texts = |i: u64| match i % 4 {
        0 => format!("<tool_call>{CALL}</tool_call>"),
        _ => format!("<answer>{}</answer>", i % 3),
    };
    for step in 0..40 {
        let made: Vec<_> = (0..4)
            .map(|i| {
                let sample = generate(&world, 9, 4 * step + i).sample;
                let messages = PromptStyle::default().messages(&sample);
                let prompt = codec.prompt(&messages, &ZoomIn::default().specs(), &sample.images).unwrap();
                (prompt, codec.scripted_turn(&texts(4 * step + i * 5)).unwrap())
            })
            .collect();
        let ids: Vec<Vec<u32>> = made.iter().map(|(prompt, turn)| [prompt.ids.as_slice(), turn].concat()).collect();
        let sequences: Vec<Sequence<'_>> =
            made.iter().zip(&ids).map(|((prompt, turn), ids)| sequence(prompt, turn, ids)).collect();
        policy.update_sequences(&sequences, 1.0, &mut likelihood).unwrap();
    }
    checkpoint::save(&policy, dir, dir, 0, 0).unwrap();
}

fn sequence<'a>(prompt: &Segment, turn: &[u32], ids: &'a [u32]) -> Sequence<'a> {
    let image = |image: &SegmentImage| SequenceImage {
        span: GridSpan { start: image.start, rows: image.rows, columns: image.columns },
        pixels: Arc::clone(&image.pixels),
    };
    let first = prompt.ids.len();
    let target = |(i, &id): (usize, &u32)| Target { row: first + i - 1, id, suppress: true };
    let targets = turn.iter().enumerate().map(target).collect();
    Sequence { ids, images: prompt.images.iter().map(image).collect(), prompt_len: 0, targets }
}

fn likelihood(scores: &TokenScores) -> TokenLoss {
    let count = scores.logprobs.len();
    TokenLoss {
        value: -scores.logprobs.iter().map(|&x| f64::from(x)).sum::<f64>() / count as f64,
        d_logprobs: vec![-1.0 / count as f32; count],
        d_entropies: vec![0.0; count],
        ..TokenLoss::default()
    }
}

/// A folder of its own with a config that is good.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        fs::write(place.config(), place.text()).unwrap();
        place
    }

    /// The config's text.
    pub(crate) fn text(&self) -> String {
        let text = CONFIG.replace("MODEL", model().to_str().unwrap());
        text.replace("DATA", self.path("data").to_str().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("config.toml")
    }

    /// Writes the config with one piece of text replaced.
    pub(crate) fn with(&self, from: &str, to: &str) {
        let text = self.text();
        assert!(text.contains(from), "{from:?} is not in the config");
        fs::write(self.config(), text.replacen(from, to, 1)).unwrap();
    }

    /// The binary, in this folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imagent"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env("RAYON_NUM_THREADS", "1").env("HF_HUB_OFFLINE", "1");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        Done::from(self.command(args).output().unwrap())
    }

    /// Trains to the end, into `out`.
    pub(crate) fn train(&self, out: &str, more: &[&str]) -> PathBuf {
        self.run(&[&["train", "config.toml", "--out", out], more].concat()).ok();
        self.path(out)
    }
}

/// `metrics.jsonl` without times, line by line.
pub(crate) fn metrics(run: &Path) -> Vec<String> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        row.as_object_mut().unwrap().shift_remove("seconds");
        row.to_string()
    };
    text.lines().map(line).collect()
}

/// A figure of the row of a step.
pub(crate) fn figure(run: &Path, step: u64, name: &str) -> f64 {
    let rows: Vec<Value> = metrics(run).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let row = rows.iter().find(|row| row["step"] == step).unwrap_or_else(|| panic!("no step {step}"));
    row["metrics"][name].as_f64().unwrap_or_else(|| panic!("no {name} in step {step}"))
}
