//! The model against Hugging Face transformers, stage by stage: every case folder under `tests/parity`, and those of
//! `IMAGENT_PARITY=folder`. The bounds are those of the goldens' README. `--nocapture` shows the largest errors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "parity_support/mod.rs"]
mod support;

use std::sync::Arc;

use dfdx::prelude::*;
use imagent_core::{TokenLoss, Weights};
use imagent_models::image_processor::Patches;
use imagent_models::qwen::windows::Windows;
use imagent_models::qwen::{Packed, Sequence, Target, Trace};
use support::{Case, Golden, cases, distance, relative, whole};

/// What a pass gives: named stages, logits, log-probabilities and entropies of every row.
struct Outputs {
    packed: Packed,
    trace: Trace,
    logits: Vec<f32>,
    scores: Vec<f32>,
}

impl Outputs {
    fn of(case: &Case, patches: &[Arc<Patches>]) -> Self {
        let packed = Packed::new(&case.sequences()).unwrap();
        let model = &case.policy.model;
        let mut trace = Trace::on().with_attention();
        let hidden = model.hidden(&packed, patches, NoneTape, &mut trace).unwrap();
        let scores = model.scores(hidden.clone(), &packed.targets, 1.0).unwrap().as_vec();
        let logits = model.logits(hidden).unwrap().as_vec();
        Self { packed, trace, logits, scores }
    }

    fn rows(&self) -> usize {
        self.packed.ids.len()
    }
}

/// The rows of a golden tensor `[T, ..]` or `[batch, T, ..]` that are no padding.
fn real_rows(case: &Case, values: &[f32]) -> Vec<f32> {
    let mask = case.golden.ints("attention_mask").unwrap_or_else(|| vec![1; case.segments[0].ids.len()]);
    let width = values.len() / mask.len();
    let kept = values.chunks(width).zip(&mask).filter(|(_, real)| **real == 1);
    kept.flat_map(|(row, _)| row.iter().copied()).collect()
}

#[test]
fn tokens_positions_and_windows_are_equal() {
    for dir in cases() {
        let case = Case::open(&dir);
        let golden = &case.golden;
        let mask = golden.ints("attention_mask").unwrap_or_else(|| vec![1; case.segments[0].ids.len()]);
        let real = |values: &[u32]| -> Vec<u32> {
            values.iter().zip(&mask).filter(|(_, real)| **real == 1).map(|(value, _)| *value).collect()
        };
        let packed = Packed::new(&case.sequences()).unwrap();
        let ids: Vec<u32> = packed.ids.iter().map(|&id| id as u32).collect();
        assert_eq!(ids, real(&golden.ints("input_ids").unwrap()), "{}", case.name);
        if let Some(positions) = golden.ints("position_ids") {
            for (axis, expected) in packed.axes.iter().zip(positions.chunks(mask.len())) {
                assert_eq!(*axis, real(expected), "{}", case.name);
            }
        }
        if golden.bytes("vision.window_index").is_some() {
            windows_are_equal(&case);
        }
    }
}

fn windows_are_equal(case: &Case) {
    let golden = &case.golden;
    let grids = |patches: &[Arc<Patches>]| -> Vec<_> { patches.iter().map(|p| p.grid).collect() };
    assert_eq!(grids(&case.own), grids(&case.given), "{}", case.name);
    let merged: Vec<(usize, usize)> = case.given.iter().map(|p| (p.grid.h / 2, p.grid.w / 2)).collect();
    let windows = Windows::new(&merged, case.policy.model.config.vision.window_cells());
    let index: Vec<u32> = windows.index.iter().map(|&cell| cell as u32).collect();
    assert_eq!(Some(index), golden.ints("vision.window_index"), "{}", case.name);
    let ends = |ranges: &[std::ops::Range<usize>]| -> Vec<usize> {
        std::iter::once(0).chain(ranges.iter().map(|range| range.end * 4)).collect()
    };
    assert_eq!(Some(ends(&windows.windows)), golden.ints32("vision.cu_window_seqlens"), "{}", case.name);
    assert_eq!(Some(ends(&windows.images)), golden.ints32("vision.cu_seqlens"), "{}", case.name);
}

#[test]
fn every_stage_agrees_given_the_pixels() {
    for dir in cases() {
        let case = Case::open(&dir);
        let out = Outputs::of(&case, &case.given);
        let worst = stages_agree(&case, &out);
        let attention = attention_agrees(&case, &out);
        let bound = case.logit_bound();
        let [logits, logprobs, entropy] = distributions(&case, &out, bound);
        println!(
            "{:20} stages {worst:.1e} of largest, attention {attention:.1e}, logits {logits:.1e}, logprobs {logprobs:.1e}, \
             entropy {entropy:.1e}, bound {bound:.1e}",
            case.name
        );
    }
}

/// Largest error of the stages, as a fraction of the stage's largest value.
fn stages_agree(case: &Case, out: &Outputs) -> f32 {
    let mut worst = 0.0f32;
    let stages = out.trace.tensors.iter().flatten();
    let mut compared = 0;
    for stage in stages {
        let Some(expected) = case.golden.floats(&stage.name) else { continue };
        let vision = stage.name.starts_with("vision.") || stage.name == "image_embeds";
        let expected = if vision { expected } else { real_rows(case, &expected) };
        let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let error = distance(&stage.values, &expected) / largest;
        assert!(error <= 2e-4, "{}: {}: {error}", case.name, stage.name);
        worst = worst.max(error);
        compared += 1;
    }
    let ours: Vec<String> = out.trace.tensors.iter().flatten().map(|stage| stage.name.clone()).collect();
    let is_stage = |name: &String| {
        ["vision.block.", "vision.patch_embed", "image_embeds", "inputs_embeds", "hidden."]
            .iter()
            .any(|p| name.starts_with(p))
    };
    for name in case.golden.names().iter().filter(|name| is_stage(name)) {
        assert!(ours.contains(name), "{}: stage {name} is not traced", case.name);
    }
    assert!(compared > 0 || case.golden.bytes("hidden.0").is_none());
    worst
}

fn attention_agrees(case: &Case, out: &Outputs) -> f32 {
    let Some(expected) = case.golden.floats("attn_last_sum") else { return 0.0 };
    if case.segments.len() > 1 {
        return padded_attention(case, out);
    }
    let layers = out.trace.attention.as_deref().unwrap();
    let ours: Vec<f32> = layers.iter().flat_map(|layer| layer.summed(out.rows() - 1)).collect();
    let error = distance(&ours, &expected);
    assert!(error <= 1e-4, "{}: attention {error}", case.name);
    error
}

/// The last token of each conversation of a padded batch: it sees nothing of the others.
fn padded_attention(case: &Case, out: &Outputs) -> f32 {
    let expected = case.golden.floats("attn_last_real_sum").unwrap();
    let mask = case.golden.ints("attention_mask").unwrap();
    let layers = out.trace.attention.as_deref().unwrap();
    let columns = mask.len() / case.segments.len();
    let (mut worst, mut start) = (0.0f32, 0);
    for (b, segment) in case.segments.iter().enumerate() {
        let end = start + segment.ids.len();
        let real: Vec<usize> = (0..columns).filter(|&t| mask[b * columns + t] == 1).collect();
        for (i, layer) in layers.iter().enumerate() {
            let row = &expected[(b * layers.len() + i) * columns..][..columns];
            let row: Vec<f32> = real.iter().map(|&t| row[t]).collect();
            let ours = layer.summed(end - 1);
            worst = worst.max(distance(&ours[start..end], &row));
            assert!(ours[..start].iter().chain(&ours[end..]).all(|&weight| weight == 0.0));
        }
        start = end;
    }
    assert!(worst <= 1e-4, "{}: attention {worst}", case.name);
    worst
}

/// Errors of logits, log-probabilities and entropies, which must be within `bound`.
fn distributions(case: &Case, out: &Outputs, bound: f32) -> [f32; 3] {
    let mut errors = [0.0; 3];
    if let Some(expected) = case.golden.floats("logits") {
        errors[0] = distance(&out.logits, &real_rows(case, &expected));
    }
    if let Some(expected) = case.golden.floats("logprobs") {
        let ours = logprobs(case, out);
        errors[1] = distance(&ours, &real_pairs(case, &expected));
    }
    if let Some(expected) = case.golden.floats("entropy") {
        let ours: Vec<f32> = out.scores.iter().skip(1).step_by(2).copied().collect();
        errors[2] = distance(&ours, &real_rows(case, &expected));
    }
    for (error, what) in errors.iter().zip(["logits", "logprobs", "entropy"]) {
        assert!(*error <= bound, "{}: {what} {error} > {bound}", case.name);
    }
    errors
}

/// Log-probability of each token but the first of each conversation.
fn logprobs(case: &Case, out: &Outputs) -> Vec<f32> {
    let mut at = 0;
    let mut ours = Vec::new();
    for segment in &case.segments {
        let end = at + segment.ids.len();
        ours.extend((at..end - 1).map(|row| out.scores[2 * row]));
        at = end;
    }
    ours
}

/// Of `[batch, T − 1]`, the values whose two tokens are no padding.
fn real_pairs(case: &Case, values: &[f32]) -> Vec<f32> {
    let batch = case.segments.len();
    let columns = values.len() / batch + 1;
    let mask = case.golden.ints("attention_mask").unwrap_or_else(|| vec![1; batch * columns]);
    let at = |b: usize, t: usize| mask[b * columns + t] == 1 && mask[b * columns + t + 1] == 1;
    let all = (0..batch).flat_map(|b| (0..columns - 1).map(move |t| (b, t)));
    all.filter(|&(b, t)| at(b, t)).map(|(b, t)| values[b * (columns - 1) + t]).collect()
}

#[test]
fn distributions_agree_from_our_own_pixels() {
    for dir in cases() {
        let case = Case::open(&dir);
        let out = Outputs::of(&case, &case.own);
        let bound = case.own_bound();
        let [logits, logprobs, entropy] = distributions(&case, &out, bound);
        println!(
            "{:20} own pixels: logits {logits:.1e}, logprobs {logprobs:.1e}, entropy {entropy:.1e}, bound {bound:.1e}",
            case.name
        );
    }
}

#[test]
fn gradients_agree() {
    let mut compared = 0;
    for dir in cases().into_iter().filter(|dir| dir.join("grads.safetensors").is_file()) {
        let case = Case::open(&dir);
        let mut sequence = whole(&case.segments[0]);
        sequence.targets.pop();
        let n = sequence.targets.len() as f32;
        let (loss, gradients) = (case.policy)
            .gradients(&[sequence], 1.0, &mut |scores| TokenLoss {
                value: -scores.logprobs.iter().map(|&x| f64::from(x)).sum::<f64>() / f64::from(n),
                d_logprobs: vec![-1.0 / n; scores.logprobs.len()],
                ..TokenLoss::default()
            })
            .unwrap();
        let expected = case.golden.floats("loss").unwrap()[0];
        assert!((loss.value - f64::from(expected)).abs() < 1e-5, "loss {} for {expected}", loss.value);
        let goldens = Golden::open(&dir.join("grads.safetensors"));
        let mut worst = 0.0f64;
        for (entry, gradient) in case.policy.model.weights.entries().iter().zip(&gradients) {
            let error = relative(gradient, &goldens.floats(&entry.name).unwrap());
            assert!(error <= 1e-3, "{}: {error}", entry.name);
            worst = worst.max(error);
            compared += 1;
        }
        assert_eq!(goldens.names().len(), gradients.len());
        println!(
            "{:20} gradients of {} parameters: {worst:.1e} relative, loss {:.6}",
            case.name,
            gradients.len(),
            loss.value
        );
    }
    assert!(compared > 0);
}

#[test]
fn greedy_tokens_agree() {
    let mut compared = 0;
    for dir in cases() {
        let case = Case::open(&dir);
        let Some(expected) = case.golden.ints("generated_ids") else { continue };
        let turn = case.policy.greedy(case.segments[0].clone(), Some(&case.given), expected.len()).unwrap();
        assert_eq!(turn.ids, expected, "{}", case.name);
        let error = distance(&turn.logprobs, &case.golden.floats("generated_logprobs").unwrap());
        assert!(error <= case.logit_bound(), "{}: {error}", case.name);
        println!("{:20} {} greedy tokens equal, logprobs {error:.1e}", case.name, expected.len());
        penalised_tokens_agree(&case);
        compared += 1;
    }
    assert!(compared > 0);
}

/// Tokens drawn with a repetition penalty, scored without: `score` of a prompt with its continuation.
fn penalised_tokens_agree(case: &Case) {
    let Some(drawn) = case.golden.ints("generated_ids_rep105") else { return };
    let prompt = &case.segments[0];
    let ids: Vec<u32> = prompt.ids.iter().chain(&drawn).copied().collect();
    let target = |i: usize| Target { row: prompt.ids.len() + i - 1, id: drawn[i], suppress: false };
    let sequence = Sequence {
        ids: &ids,
        images: support::images_of(prompt),
        prompt_len: prompt.ids.len(),
        targets: (0..drawn.len()).map(target).collect(),
    };
    let scores = case.policy.score_sequences(&[sequence], 1.0, Weights::Current).unwrap();
    let error = distance(&scores.logprobs, &case.golden.floats("generated_logprobs_rep105").unwrap());
    assert!(error <= case.own_bound(), "{}: {error}", case.name);
}

#[test]
fn committed_cases_are_there() {
    let cases: Vec<String> =
        cases().iter().map(|dir| dir.file_name().unwrap().to_string_lossy().into_owned()).collect();
    let expected = [
        "batch_left_pad batch_right_pad bf16_weights gradients greedy16 image_modes mqa odd_aspect over_max_pixels",
        "single_image text_only three_images tied tool_turn tool_turn_role_tool under_min_pixels untied window_ragged",
        "window_small",
    ];
    for name in expected.iter().flat_map(|names| names.split(' ')) {
        assert!(cases.iter().any(|case| case == name), "{name}");
    }
}
