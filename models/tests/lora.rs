//! Adapters, frozen parts and gradient checkpointing: against PEFT (`tests/parity/make_lora_golden.py`), and each against
//! training without them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "parity_support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use dfdx::prelude::*;
use imagent_core::{TokenLoss, TokenScores, Weights};
use imagent_models::adamw::{AdamWConfig, Rates};
use imagent_models::checkpoint::CheckpointWriter;
use imagent_models::config::Dtype;
use imagent_models::lora::{LoraConfig, PeftAdapter, Targets};
use imagent_models::policy::QwenPolicy;
use imagent_models::qwen::{Packed, Sequence, Trace, Tuning};
use support::{Case, Golden, distance, parity, relative, whole};

fn case() -> Case {
    Case::open(&parity().join("single_image"))
}

fn settings() -> AdamWConfig {
    AdamWConfig { learning_rate: 1e-2, ..AdamWConfig::default() }
}

fn open_with(tuning: &Tuning, settings: AdamWConfig) -> QwenPolicy<Cpu> {
    QwenPolicy::open_tuned(&parity().join("single_image/checkpoint"), Cpu::default(), settings, tuning).unwrap()
}

fn open(tuning: &Tuning) -> QwenPolicy<Cpu> {
    open_with(tuning, settings())
}

fn refused(tuning: &Tuning) -> String {
    let folder = parity().join("single_image/checkpoint");
    QwenPolicy::open_tuned(&folder, Cpu::default(), settings(), tuning).unwrap_err().to_string()
}

fn golden_adapter() -> PathBuf {
    parity().join("lora/adapter")
}

fn lora(dropout: f64) -> Tuning {
    let lora = LoraConfig { rank: 4, alpha: 6.0, dropout, vision: true, ..LoraConfig::default() };
    Tuning { lora: Some(lora), seed: 5, ..Tuning::default() }
}

/// Mean negative log-likelihood.
fn loss(scores: &TokenScores) -> TokenLoss {
    let n = scores.logprobs.len() as f32;
    TokenLoss {
        value: -scores.logprobs.iter().map(|&x| f64::from(x)).sum::<f64>() / f64::from(n),
        d_logprobs: vec![-1.0 / n; scores.logprobs.len()],
        ..TokenLoss::default()
    }
}

fn sequence(case: &Case) -> Sequence<'_> {
    let mut sequence = whole(&case.segments[0]);
    sequence.targets.pop();
    sequence
}

fn gradients(policy: &QwenPolicy<Cpu>, case: &Case) -> (f64, Vec<(String, Vec<f32>)>) {
    let (loss, gradients) = policy.gradients(&[sequence(case)], 1.0, &mut loss).unwrap();
    let names = policy.model.parameters().iter().map(|parameter| parameter.name.clone());
    (loss.value, names.zip(gradients).collect())
}

fn logits(policy: &QwenPolicy<Cpu>, case: &Case) -> Vec<f32> {
    let packed = Packed::new(&[whole(&case.segments[0])]).unwrap();
    let hidden = policy.model.hidden(&packed, &case.given, NoneTape, &mut Trace::off()).unwrap();
    policy.model.logits(hidden).unwrap().as_vec()
}

fn update(policy: &mut QwenPolicy<Cpu>, case: &Case, times: usize) {
    for _ in 0..times {
        policy.update_sequences(&[sequence(case), sequence(case)], 1.0, &mut loss).unwrap();
    }
}

fn values(policy: &QwenPolicy<Cpu>) -> Vec<Vec<f32>> {
    policy.model.parameters().iter().map(|parameter| policy.model.parameter(parameter)).collect()
}

fn weights(policy: &QwenPolicy<Cpu>) -> Vec<Vec<f32>> {
    (0..policy.model.weights.entries().len()).map(|index| policy.model.weights.values(index)).collect()
}

#[test]
fn an_adapter_of_peft_gives_its_logits_and_gradients() {
    let case = case();
    let golden = Golden::open(&parity().join("lora/peft.safetensors"));
    let policy = open(&Tuning { adapter: Some(golden_adapter()), ..Tuning::default() });
    let error = distance(&logits(&policy, &case), &golden.floats("logits").unwrap());
    assert!(error <= 2e-4, "logits {error}");
    assert!(
        distance(&logits(&case.policy, &case), &golden.floats("logits").unwrap()) > 0.1,
        "the adapter does nothing"
    );
    let (loss, gradients) = gradients(&policy, &case);
    assert!((loss - f64::from(golden.floats("loss").unwrap()[0])).abs() < 1e-5);
    let mut worst = 0.0f64;
    for (name, gradient) in &gradients {
        let memory = match name.strip_prefix("visual.") {
            Some(rest) => format!("model.visual.{rest}"),
            None => format!("model.language_model.{}", name.strip_prefix("model.").unwrap()),
        };
        let expected =
            golden.floats(&format!("grad.base_model.model.{memory}")).unwrap_or_else(|| panic!("no {memory}"));
        let error = relative(gradient, &expected);
        assert!(error <= 1e-3, "{name}: {error}");
        worst = worst.max(error);
    }
    assert_eq!(gradients.len(), golden.names().iter().filter(|name| name.starts_with("grad.")).count());
    println!("logits {error:.1e}, gradients of {} matrices {worst:.1e} relative", gradients.len());
}

#[test]
fn a_written_adapter_reads_back_and_merges() {
    let case = case();
    let mut policy = open(&lora(0.0));
    update(&mut policy, &case, 2);
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("adapter");
    let writer = CheckpointWriter::new(&dir).unwrap();
    policy.write(&writer, Dtype::F32).unwrap();
    writer.finish().unwrap();
    assert!(PeftAdapter::is_at(&dir));
    let again = open(&Tuning { adapter: Some(dir.clone()), ..Tuning::default() });
    assert!(values(&policy) == values(&again));
    assert_eq!(again.model.adapter().unwrap().config.rank, 4);
    // The same with the settings named, and not with others.
    open(&Tuning { adapter: Some(dir.clone()), ..lora(0.1) });
    let mut other = Tuning { adapter: Some(dir.clone()), ..lora(0.0) };
    other.lora.as_mut().unwrap().rank = 2;
    assert!(refused(&other).contains("model.lora.rank"), "{}", refused(&other));
    other.lora.as_mut().unwrap().rank = 4;
    other.lora.as_mut().unwrap().alpha = 1.0;
    assert!(refused(&other).contains("model.lora.alpha"));
    other.lora.as_mut().unwrap().alpha = 6.0;
    other.lora.as_mut().unwrap().target_modules = Targets::Names(vec!["q_proj".into()]);
    assert!(refused(&other).contains("model.lora.target_modules"));
    let expected = logits(&policy, &case);
    let mut merged = open(&Tuning::default());
    for index in 0..merged.model.weights.entries().len() {
        merged.model.weights.set(index, &policy.model.merged(index));
    }
    let error = distance(&logits(&merged, &case), &expected);
    assert!(error <= 2e-4, "merged {error}");
    assert!(distance(&logits(&case.policy, &case), &expected) > 0.05, "nothing was learned");
}

#[test]
fn adapters_that_do_not_fit_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter_config.json");
    let text = std::fs::read_to_string(golden_adapter().join("adapter_config.json")).unwrap();
    let tensors = folder.path().join("adapter_model.safetensors");
    std::fs::copy(golden_adapter().join("adapter_model.safetensors"), &tensors).unwrap();
    let tuning = Tuning { adapter: Some(folder.path().into()), ..Tuning::default() };
    for (from, to, named) in [
        ("\"r\": 4", "\"r\": 3", "lora_A.weight"),
        ("\"r\": 4", "\"r\": 0", "`r`"),
        ("\"use_dora\": false", "\"use_dora\": true", "use_dora"),
        ("\"bias\": \"none\"", "\"bias\": \"all\"", "bias"),
        ("\"peft_type\": \"LORA\"", "\"peft_type\": \"IA3\"", "peft_type"),
        ("\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": 2}", "rank_pattern"),
        ("{", "", "adapter_config.json"),
    ] {
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        assert!(refused(&tuning).contains(named), "{named}: {}", refused(&tuning));
    }
    std::fs::write(&path, &text).unwrap();
    let bytes = std::fs::read(&tensors).unwrap();
    std::fs::write(&tensors, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refused(&tuning).contains("adapter_model.safetensors"));
    let other = parity().join("three_images/golden.safetensors");
    std::fs::copy(other, &tensors).unwrap();
    assert!(refused(&tuning).contains("not the A or B of a module"), "{}", refused(&tuning));
}

#[test]
fn a_fresh_adapter_changes_nothing_and_the_reference_is_the_base() {
    let case = case();
    let mut policy = open(&lora(0.0));
    assert!(logits(&policy, &case) == logits(&case.policy, &case));
    policy.freeze_reference().unwrap();
    let base = weights(&policy);
    update(&mut policy, &case, 3);
    assert!(base == weights(&policy), "a frozen weight has moved");
    assert_ne!(logits(&policy, &case), logits(&case.policy, &case));
    let score = |policy: &QwenPolicy<Cpu>, which| policy.score_sequences(&[sequence(&case)], 1.0, which).unwrap();
    assert_eq!(score(&policy, Weights::Reference).logprobs, score(&case.policy, Weights::Current).logprobs);
    assert_ne!(score(&policy, Weights::Current).logprobs, score(&case.policy, Weights::Current).logprobs);
    let trained: usize = policy.optimizer.moments.iter().map(|moments| moments.first.len()).sum();
    assert_eq!(trained, policy.model.parameters().iter().map(|parameter| parameter.len()).sum::<usize>());
    assert!(trained < base.iter().map(Vec::len).sum::<usize>() / 2, "{trained} moments");
}

#[test]
fn rollouts_see_the_adapter() {
    let case = case();
    let mut policy = open(&lora(0.0));
    let drawn = |policy: &QwenPolicy<Cpu>| policy.greedy(case.segments[0].clone(), Some(&case.given), 4).unwrap();
    let before = drawn(&policy);
    update(&mut policy, &case, 5);
    let after = drawn(&policy);
    assert_ne!((before.ids, before.logprobs), (after.ids.clone(), after.logprobs.clone()));
    let all = logits(&policy, &case);
    let vocabulary = policy.model.config.text.vocab_size;
    let last = &all[all.len() - vocabulary..];
    let top = last.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = last.iter().map(|&x| f64::from(x - top).exp()).sum();
    assert!((f64::from(after.logprobs[0]) + sum.ln()).abs() < 2e-4, "the engine and the passes disagree");
}

#[test]
fn an_adapter_on_stored_weights_does_what_it_does_in_training_and_is_not_trained() {
    let (case, dir) = (case(), parity().join("single_image/checkpoint"));
    let plain = |dtype| QwenPolicy::open_for_inference(&dir, Cpu::default(), dtype).unwrap();
    let drawn = |policy: &QwenPolicy<Cpu>| {
        let turn = policy.greedy(case.segments[0].clone(), Some(&case.given), 4).unwrap();
        (turn.ids, turn.logprobs.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
    };
    let mut trained = open(&Tuning { adapter: Some(golden_adapter()), ..Tuning::default() });
    for dtype in [None, Some(Dtype::Bf16), Some(Dtype::F16)] {
        let mut stored = plain(dtype);
        stored.model.adapt(&golden_adapter()).unwrap();
        (0..stored.model.weights.entries().len()).for_each(|index| {
            trained.model.weights.set(index, &stored.model.weights.values(index));
        });
        assert_eq!(drawn(&stored), drawn(&trained), "{dtype:?}");
        assert_ne!(drawn(&stored), drawn(&plain(dtype)), "{dtype:?}: the adapter is not seen");
        let error = distance(&logits(&stored, &case), &logits(&trained, &case));
        println!("{dtype:?}: logits of stored weights with an adapter: {error:.1e}");
        assert!(error <= 1e-4, "{dtype:?}: {error:.1e}");
        let merged = |policy: &QwenPolicy<Cpu>| {
            (0..policy.model.weights.entries().len()).map(|index| policy.model.merged(index)).collect::<Vec<_>>()
        };
        assert!(merged(&stored) == merged(&trained), "{dtype:?}: merged weights differ");
        assert!(stored.model.parameters().is_empty());
        let tuned = stored.model.tune(&lora(0.0)).unwrap_err().to_string();
        let updated = stored.update_sequences(&[sequence(&case)], 1.0, &mut loss).unwrap_err().to_string();
        let derived = stored.gradients(&[sequence(&case)], 1.0, &mut loss).unwrap_err().to_string();
        for refused in [tuned, updated, derived] {
            assert!(refused.contains("opened for inference"), "{refused}");
        }
    }
}

#[test]
fn frozen_parts_stay_and_the_others_train_as_ever() {
    let case = case();
    let (_, all) = gradients(&case.policy, &case);
    for patterns in [
        vec!["visual.*"],
        vec!["visual.patch_embed.*", "visual.blocks.*"],
        vec!["model.*"],
        vec!["model.embed_tokens.*", "visual.*", "model.layers.0.*"],
        vec!["*.weight"],
        vec!["*.bias", "visual.blocks.2.*"],
    ] {
        let freeze: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let mut policy = open(&Tuning { freeze, ..Tuning::default() });
        let (_, some) = gradients(&policy, &case);
        assert!(!some.is_empty() && some.len() < all.len());
        for (name, gradient) in &some {
            let (_, expected) = all.iter().find(|(other, _)| other == name).unwrap();
            assert!(gradient == expected, "{patterns:?}: the gradient of {name} is another");
        }
        let before = weights(&policy);
        update(&mut policy, &case, 2);
        for (index, entry) in policy.model.weights.entries().iter().enumerate() {
            let moved = before[index] != policy.model.weights.values(index);
            let trained = some.iter().any(|(name, _)| *name == entry.name);
            assert_eq!(moved, trained, "{patterns:?}: {}", entry.name);
        }
    }
    let freeze = |pattern: &str| Tuning { freeze: vec![pattern.into()], ..Tuning::default() };
    assert!(refused(&freeze("visuals.*")).contains("model.freeze"));
    assert!(refused(&freeze("*")).contains("model.freeze"));
    assert!(refused(&Tuning { freeze: vec!["visual.*".into()], ..lora(0.0) }).contains("model.freeze"));
}

#[test]
fn gradient_checkpointing_gives_the_same_bits() {
    let case = case();
    for tuning in [
        Tuning::default(),
        Tuning { freeze: vec!["visual.blocks.0.*".into(), "visual.patch_embed.*".into()], ..Tuning::default() },
        lora(0.0),
    ] {
        let again = Tuning { gradient_checkpointing: true, ..tuning.clone() };
        assert!(gradients(&open(&tuning), &case) == gradients(&open(&again), &case), "{tuning:?}");
    }
    let run = |gradient_checkpointing| {
        let mut policy = open(&Tuning { gradient_checkpointing, ..lora(0.2) });
        update(&mut policy, &case, 3);
        values(&policy)
    };
    assert!(run(true) == run(false), "with dropout");
}

#[test]
fn dropout_is_the_same_at_any_number_of_threads_and_in_parts() {
    let case = case();
    let run = |threads: usize, max_rows: usize, tuning: &Tuning| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut policy = open(tuning);
            policy.limits.max_rows = max_rows;
            update(&mut policy, &case, 1);
            let moments: Vec<Vec<f32>> = policy.optimizer.moments.iter().map(|m| m.first.clone()).collect();
            moments
        })
    };
    let dropped = lora(0.3);
    let one = run(1, 10_000, &dropped);
    assert!(one == run(2, 10_000, &dropped) && one == run(3, 10_000, &dropped));
    assert_ne!(one, run(1, 10_000, &Tuning { seed: 6, ..dropped.clone() }));
    assert_ne!(one, run(1, 10_000, &lora(0.0)));
    for (parts, at_once) in run(2, 10, &dropped).iter().zip(&one) {
        let size = at_once.iter().fold(1e-6f32, |most, x| most.max(x.abs()));
        assert!(distance(parts, at_once) <= 1e-4 * size, "a batch in parts drops other elements");
    }
}

#[test]
fn scores_drop_nothing() {
    let case = case();
    let mut policy = open(&lora(0.5));
    update(&mut policy, &case, 2);
    let mut seen = TokenScores::default();
    let expected = policy.score_sequences(&[sequence(&case)], 1.0, Weights::Current).unwrap();
    policy
        .update_sequences(&[sequence(&case)], 1.0, &mut |scores| {
            seen = scores.clone();
            loss(scores)
        })
        .unwrap();
    assert_eq!(seen.logprobs, expected.logprobs);
}

#[test]
fn parts_of_the_model_have_their_own_rates() {
    let case = case();
    let rates = Rates { vision: 0.0, merger: 2.0, language: 1.0 };
    let mut own = open_with(&Tuning::default(), AdamWConfig { rates, ..settings() });
    let mut one = open(&Tuning::default());
    let start = weights(&one);
    update(&mut own, &case, 1);
    update(&mut one, &case, 1);
    for (index, entry) in one.model.weights.entries().iter().enumerate() {
        let step = |policy: &QwenPolicy<Cpu>| -> Vec<f32> {
            policy.model.weights.values(index).iter().zip(&start[index]).map(|(after, before)| after - before).collect()
        };
        let times = match entry.name.as_str() {
            name if name.starts_with("visual.merger.") => 2.0,
            name if name.starts_with("visual.") => 0.0,
            _ => 1.0,
        };
        let expected: Vec<f32> = step(&one).iter().map(|x| x * times).collect();
        assert!(distance(&step(&own), &expected) <= 1e-6, "{}", entry.name);
    }
}

#[test]
fn patterns_that_match_nothing_are_named() {
    let mut tuning = lora(0.0);
    tuning.lora.as_mut().unwrap().target_modules = Targets::Names(vec!["q_proj".into(), "lm_head".into()]);
    let said = refused(&tuning);
    assert!(said.contains("model.lora.target_modules") && said.contains("lm_head"), "{said}");
    let missing = Tuning { adapter: Some(Path::new("no-such-folder").into()), ..Tuning::default() };
    assert!(refused(&missing).contains("no-such-folder"));
}
