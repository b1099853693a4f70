//! Fine-tuning on conversations: the loss of transformers, the same run at any number of threads and resumed, early stopping, and
//! what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use imagent::config::{ModelConfig, open_model};
use imagent::sft::dialogue::run;
use imagent::sft::{Example, Examples, LeftOut, SftConfig, SftOptions, SftOutcome, SftWatch, token_loss};
use imagent_analysis::MetricsRow;
use imagent_core::Sample;
use imagent_data::Folder;
use imagent_models::adamw::AdamWConfig;
use serde_json::{Value, json};
use tempfile::TempDir;

fn golden_model() -> ModelConfig {
    ModelConfig { path: "tests/parity/single_image/checkpoint".to_owned(), ..ModelConfig::default() }
}

fn golden_samples() -> Vec<Sample> {
    let folder = Folder::open("tests/parity/sft").unwrap();
    (0..4).map(|position| folder.sample(position).unwrap()).collect()
}

#[test]
fn the_loss_of_a_batch_is_that_of_transformers() {
    let golden: Value = serde_json::from_slice(&std::fs::read("tests/parity/sft/golden.json").unwrap()).unwrap();
    let model = open_model(&golden_model(), &AdamWConfig::default()).unwrap();
    let config = SftConfig::default();
    let codec = Arc::clone(model.policy.codec());
    let maker = Examples::new(&codec, &config).unwrap();
    let examples: Vec<Example> = golden_samples().iter().map(|sample| maker.of(sample).unwrap().unwrap()).collect();
    let mut expected: Vec<f64> = Vec::new();
    for (example, wanted) in examples.iter().zip(golden["conversations"].as_array().unwrap()) {
        assert_eq!(json!(example.segment.ids), wanted["ids"], "{}", wanted["id"]);
        let taught: Vec<usize> = example.taught.iter().cloned().flatten().collect();
        assert_eq!(json!(taught), wanted["taught"], "{}", wanted["id"]);
        expected.extend(wanted["logprobs"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()));
    }
    let sequences: Vec<_> = examples.iter().map(Example::sequence).collect();
    let scores = model.policy.score_sequences(&sequences, 1.0, imagent_core::Weights::Current).unwrap();
    for (own, wanted) in scores.logprobs.iter().zip(&expected) {
        assert!((f64::from(*own) - wanted).abs() < 1e-4, "{own} for {wanted}");
    }
    // In one pass, and in parts that are scored first and then run again.
    for max_rows in [16_384, 100] {
        let mut model = open_model(&golden_model(), &AdamWConfig::default()).unwrap();
        model.policy.limits.max_rows = max_rows;
        let report = model.policy.update_sequences(&sequences, 1.0, &mut token_loss).unwrap();
        let (loss, norm) = (golden["loss"].as_f64().unwrap(), golden["grad_norm"].as_f64().unwrap());
        assert!((report.loss.value - loss).abs() < 1e-4, "{} for {loss}", report.loss.value);
        assert!((report.grad_norm / norm - 1.0).abs() < 1e-3, "{} for {norm}", report.grad_norm);
    }
}

/// A run on the nano base and 12 samples of the grounding world, 4 of them held out anew.
fn config(dir: &Path, more: &[&str]) -> SftConfig {
    let path = |name: &str| dir.join(name).display().to_string();
    let world =
        "{ images = [2, 2], objects = [1, 2], questions = { read = 0.0, which = 0.0, same = 0.0, find = 1.0 } }";
    let text = format!(
        "[data.train]\npath = {:?}\nsynth = {{ samples = 10, seed = 3, world = {world} }}\n\
         [data.eval]\npath = {:?}\nsynth = {{ samples = 4, seed = 4, world = {world} }}\n\
         [prompt]\nnumber_images = true\n[trajectories]\nwording = \"short\"\n\
         [adamw]\nlearning_rate = 1e-3\n[sft]\nbatch = 4\nepochs = 2\neval_every = 2\n",
        path("train"),
        path("eval"),
    );
    SftConfig::parse(&text, None, more).unwrap()
}

/// Interrupts after a step; 0 never.
struct Watch {
    at: usize,
    flag: Arc<AtomicBool>,
}

impl SftWatch for Watch {
    fn begin(&mut self, _: usize, _: usize) {}
    fn step(&mut self, row: &MetricsRow) {
        if row.step == self.at {
            self.flag.store(true, Ordering::Relaxed);
        }
    }
    fn validated(&mut self, _: usize, _: f64) {}
}

fn tune(config: &SftConfig, out: &Path, at: usize, resume: bool) -> Result<SftOutcome, imagent::Error> {
    let flag = Arc::<AtomicBool>::default();
    let options = SftOptions { dir: out.to_owned(), resume, interrupt: Arc::clone(&flag) };
    run(config, &options, &mut Watch { at, flag })
}

/// The figures of a run without times, and the bytes of its model.
fn left(out: &Path) -> (Vec<Value>, Vec<u8>) {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let row = |line: &str| serde_json::from_str::<Value>(line).unwrap()["metrics"].clone();
    (text.lines().map(row).collect(), std::fs::read(out.join("model/model.safetensors")).unwrap())
}

#[test]
fn a_run_learns_and_is_the_same_at_any_number_of_threads_and_resumed() {
    let dir = TempDir::new().unwrap();
    let config = config(dir.path(), &[]);
    let threads = |count: usize| rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
    let (one, two, cut) = (dir.path().join("one"), dir.path().join("two"), dir.path().join("cut"));
    let done = threads(1).install(|| tune(&config, &one, 0, false)).unwrap();
    threads(2).install(|| tune(&config, &two, 0, false)).unwrap();
    let whole = left(&one);
    assert!(whole == left(&two));
    // 10 samples twice, by fours.
    assert_eq!((done.steps, whole.0.len()), (5, 6));
    let losses: Vec<f64> = whole.0.iter().filter_map(|row| row["sft/validation_loss"].as_f64()).collect();
    assert_eq!(losses.len(), 4);
    assert!(losses[3] < 0.7 * losses[0], "{losses:?}");
    assert_eq!(done.best.unwrap().1, losses.iter().copied().fold(f64::INFINITY, f64::min));
    assert!(whole.0[1..].iter().all(|row| row["sft/left_out"] == 0.0 && row["sft/tokens"].as_f64().unwrap() > 40.0));
    for at in [1, 4] {
        let error = tune(&config, &cut, at, false).unwrap_err();
        assert!(matches!(error, imagent::Error::Interrupted { step, .. } if step == at), "{error}");
        assert!(!cut.join("model").exists());
        tune(&config, &cut, 0, true).unwrap();
        assert!(whole == left(&cut), "interrupted after {at}");
        // Only the latest checkpoint and the best one stay.
        assert!(std::fs::read_dir(cut.join("checkpoints")).unwrap().count() <= 2);
        std::fs::remove_dir_all(&cut).unwrap();
    }
}

#[test]
fn a_run_ends_when_the_held_out_loss_no_longer_falls_and_keeps_the_best_model() {
    let dir = TempDir::new().unwrap();
    let config = config(dir.path(), &["sft.patience=1", "sft.min_delta=100", "sft.eval_every=1"]);
    let out = dir.path().join("run");
    let done = tune(&config, &out, 0, false).unwrap();
    assert_eq!((done.steps, done.best.unwrap().0), (1, 0));
    // The model is the one that it started from.
    let kept = imagent_models::checkpoint::Checkpoint::open(&done.model).unwrap();
    let base = imagent::config::nano_base().unwrap();
    let started = imagent_models::checkpoint::Checkpoint::open(base.path()).unwrap();
    let name = "model.norm.weight";
    assert_eq!(kept.tensor_f32(name).unwrap(), started.tensor_f32(name).unwrap());
    // Once more changes nothing: it is over.
    assert_eq!(tune(&config, &out, 0, true).unwrap(), done);
    assert!(matches!(tune(&config, &out, 0, false), Err(imagent::Error::Occupied { .. })));
}

#[test]
fn samples_that_cannot_be_trained_on_are_named_or_counted() {
    let model = open_model(&golden_model(), &AdamWConfig::default()).unwrap();
    let codec = model.policy.codec();
    let samples = golden_samples();
    let refused = |change: &dyn Fn(&mut Sample)| {
        let mut sample = samples[0].clone();
        change(&mut sample);
        let config = SftConfig::default();
        Examples::new(codec, &config).unwrap().of(&sample).unwrap_err().to_string()
    };
    let meta =
        |key: &'static str, value: Value| move |sample: &mut Sample| _ = sample.meta.insert(key.into(), value.clone());
    let said = refused(&|sample| sample.meta.clear());
    assert!(said.starts_with("two-turns: it has no `meta.conversation`; set `[trajectories]`"), "{said}");
    assert!(refused(&|sample| _ = sample.images.pop()).contains("3 `<image>` for 2 images"));
    assert!(refused(&meta("conversation", json!([{"role": "robot", "content": "hm"}]))).contains("robot"));
    assert!(
        refused(&meta("conversation", json!([{"role": "assistant", "content": "hm"}]))).contains("no turn of the user")
    );
    let silent = json!([{"role": "user", "content": "hm"}]);
    assert!(refused(&meta("conversation", silent)).contains("no turn of the assistant"));
    let drawn = json!([{"role": "user", "content": "<image><image>"}, {"role": "assistant", "content": "<image>"}]);
    assert!(refused(&meta("conversation", drawn)).contains("an assistant's turn has an image"));
    let said = refused(&|sample| {
        sample.meta.insert("box_frame".into(), json!("shown"));
        sample.meta.insert("shown".into(), json!([[56, 56], [56, 56], [56, 112]]));
    });
    assert!(said.contains("annotate it for this model"), "{said}");
    let short = SftConfig::parse("[sft]\nmax_tokens = 30\n", None, &[]).unwrap();
    let left_out = Examples::new(codec, &short).unwrap().of(&samples[0]).unwrap();
    assert_eq!(left_out.unwrap_err(), LeftOut::TooLong);
    let told = SftConfig::parse("[trajectories]\n", None, &[]).unwrap();
    let left_out = Examples::new(codec, &told).unwrap().of(&samples[1]).unwrap();
    assert_eq!(left_out.unwrap_err(), LeftOut::Rejected("no_box"));
}

#[test]
fn a_prompt_style_asks_as_a_rollout_does() {
    let model = open_model(&golden_model(), &AdamWConfig::default()).unwrap();
    let codec = model.policy.codec();
    let config = SftConfig::parse("[prompt]\nnumber_images = true\nsuffix = \" Say it.\"\n", None, &[]).unwrap();
    let sample = &golden_samples()[0];
    let example = Examples::new(codec, &config).unwrap().of(sample).unwrap().unwrap();
    let mut asked = sample.clone();
    asked.images.truncate(2);
    let messages = config.prompt.as_ref().unwrap().messages(&asked);
    let prompt = imagent_core::Encoder::prompt(&**codec, &messages, &[], &asked.images).unwrap();
    assert_eq!(example.taught[0].start, prompt.ids.len());
    assert_eq!(example.segment.ids[..prompt.ids.len()], prompt.ids);
    assert_eq!((example.taught.len(), example.segment.images.len()), (2, 3));

    // What was said and shown before the question stays, and what nobody answered goes.
    let mut greeted = sample.clone();
    let turns = json!([
        {"role": "system", "content": "As in <image>."}, {"role": "user", "content": "hm"}, {"role": "assistant", "content": "hm"},
        {"role": "user", "content": "<image>"}, {"role": "assistant", "content": "ja"}, {"role": "user", "content": "<image>"}]);
    greeted.meta.insert("conversation".into(), turns);
    let example = Examples::new(codec, &config).unwrap().of(&greeted).unwrap().unwrap();
    let text = codec.tokenizer.decode(&example.segment.ids, false).unwrap();
    assert_eq!((example.taught.len(), example.segment.images.len()), (2, 2));
    let order = ["As in <|vision_start|>", ".<|im_end|>", "hm", "Picture 2: <|vision_start|>", " Say it.", "ja"];
    let order = order.map(|part| text.find(part));
    assert!(
        order.iter().all(Option::is_some) && order.is_sorted() && !text.contains("Picture 1"),
        "{order:?} in {text}"
    );
    let plain = Examples::new(codec, &SftConfig::default()).unwrap().of(&greeted).unwrap().unwrap();
    assert_eq!((plain.taught.len(), plain.segment.images.len()), (2, 2));
    // A system's turn gives way to the prompt's, unless it shows an image.
    let other = SftConfig::parse("[prompt]\nsystem = \"Be short.\"\n", None, &[]).unwrap();
    let error = Examples::new(codec, &other).unwrap().of(&greeted).unwrap_err().to_string();
    assert!(error.contains("`prompt.system` would take the place"), "{error}");
    greeted.meta["conversation"][0]["content"] = json!("Be long.");
    greeted.images.pop();
    let example = Examples::new(codec, &other).unwrap().of(&greeted).unwrap().unwrap();
    let text = codec.tokenizer.decode(&example.segment.ids, false).unwrap();
    assert!(text.contains("Be short.") && !text.contains("Be long."), "{text}");
}

#[test]
fn settings_are_refused_by_key() {
    for (set, named) in [
        ("sft.batch=0", "sft.batch"),
        ("sft.min_delta=-1", "sft.min_delta"),
        ("sft.patience=2", "sft.patience"),
        ("sft.epoch=2", "epoch"),
        ("adamw.beta1=2.0", "adamw.beta1"),
        ("trajectories.wording=\"nothing\"", "trajectories.wording"),
        ("name=\"a/b\"", "name"),
    ] {
        let error = SftConfig::parse("", None, &[set]).unwrap_err().to_string();
        assert!(error.contains(named), "{set}: {error}");
    }
}
