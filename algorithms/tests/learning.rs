//! Every optimiser over a policy that learns: it learns, the same twice, resumed, and static or dynamic; and what the run adds
//! around the loss, refill, penalties and corrections, does what it says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::bandit::Bandit;
use common::{Exact, answer, sample};
use imagent_algorithms::{
    ActionMask, Flow, Grpo, KlEstimator, KlIn, PLUGINS, ReinforcePlusPlus, StepReport, TrainSettings, train,
};
use imagent_core::testing::FakePolicy;
use imagent_core::{Limits, Policy, PolicyOptimizer, Sample, SampleSource, TrainBatch};

fn samples(n: usize) -> Vec<Arc<Sample>> {
    (0..n).map(|i| sample(&format!("s{i}"), "read", None, None)).collect()
}

fn settings(steps: usize) -> TrainSettings {
    let limits = Limits { max_turns: 3, max_new_tokens: 200, ..Limits::default() };
    TrainSettings { steps, prompts_per_step: 4, group_size: 6, seed: 5, limits, ..TrainSettings::default() }
}

fn run<P: Policy, O: PolicyOptimizer + ?Sized>(
    policy: &mut P,
    optimizer: &O,
    settings: &TrainSettings,
    first_step: usize,
    data: &dyn SampleSource,
) -> (Vec<StepReport>, Vec<TrainBatch>) {
    let (mut reports, mut batches) = (Vec::new(), Vec::new());
    let mut watch = |_: &mut P, report: &StepReport, batch: &TrainBatch| {
        assert!(report.metrics.values().all(|value| value.is_finite()), "{:?}", report.metrics);
        assert!(report.metrics.keys().all(|name| common::is_listed(name)), "{:?}", report.metrics.keys());
        reports.push(StepReport { seconds: Default::default(), ..report.clone() });
        batches.push(batch.clone());
        Ok(Flow::Continue)
    };
    let reward = Exact::default();
    train(policy, &(), &reward, &ActionMask {}, optimizer, data, settings, first_step, &mut watch).unwrap();
    (reports, batches)
}

/// Three texts, the second of them right.
fn bandit() -> Bandit {
    Bandit::new(&["a <answer>1</answer>", "b <answer>7</answer>", "c, after some thought, <answer>3</answer>"], 0.5)
}

fn tags() -> impl Iterator<Item = &'static str> {
    PLUGINS.iter().filter(|plugin| plugin.kind == "optimizer").map(|plugin| plugin.tag)
}

fn optimizer(tag: &str, more: &str) -> Box<dyn PolicyOptimizer> {
    serde_json::from_str(&format!(r#"{{"type": "{tag}"{more}}}"#)).unwrap()
}

const VARIANTS: [&str; 4] = [
    "",
    r#", "kl_coef": 0.02, "kl_in": "loss", "kl_estimator": "k2""#,
    r#", "kl_coef": 0.02, "kl_in": "reward", "kl_estimator": "k1""#,
    r#", "kl_coef": 0.02, "kl_in": "reward", "kl_estimator": "k3", "entropy_coef": 0.001"#,
];

#[test]
fn every_optimizer_learns_the_right_answer_with_any_kl_term() {
    for tag in tags() {
        for more in VARIANTS {
            for (minibatches, epochs) in [(1, 1), (2, 2)] {
                let mut policy = bandit();
                let settings = TrainSettings { minibatches, epochs, ..settings(40) };
                run(&mut policy, &*optimizer(tag, more), &settings, 0, &samples(9));
                let probabilities = policy.probabilities();
                assert!(probabilities[1] > 0.8, "{tag}{more}, {minibatches} × {epochs}: {probabilities:?}");
            }
        }
    }
}

#[test]
fn every_optimizer_gives_the_same_twice_and_resumed() {
    let data = samples(9);
    for tag in tags() {
        let optimizer = optimizer(tag, VARIANTS[2]);
        let settings = TrainSettings {
            minibatches: 2,
            epochs: 2,
            drop_flat_groups: true,
            refill_rounds: 3,
            importance_cap: 2.0,
            ..settings(6)
        };
        let (whole, _) = run(&mut bandit(), &*optimizer, &settings, 0, &data);
        assert_eq!(run(&mut bandit(), &*optimizer, &settings, 0, &data).0, whole, "{tag}");
        for k in 0..=6 {
            let mut policy = bandit();
            let (mut reports, _) =
                run(&mut policy, &*optimizer, &TrainSettings { steps: k, ..settings.clone() }, 0, &data);
            reports.extend(run(&mut policy, &*optimizer, &settings, k, &data).0);
            assert_eq!(reports, whole, "{tag}, resumed after {k}");
        }
    }
}

#[test]
fn static_and_boxed_optimizers_have_the_same_bits() {
    let data = samples(9);
    let static_one = ReinforcePlusPlus(Grpo { kl_coef: 0.1, ..ReinforcePlusPlus::default().0 });
    let boxed = optimizer("reinforce_plus_plus", r#", "kl_coef": 0.1"#);
    let of = |optimizer: &dyn PolicyOptimizer| run(&mut bandit(), optimizer, &settings(5), 0, &data).0;
    assert_eq!(run(&mut bandit(), &static_one, &settings(5), 0, &data).0, of(&*boxed));
}

#[test]
fn a_kl_term_in_the_reward_moves_advantages_by_its_sum() {
    let data = samples(4);
    let settings = TrainSettings { steps: 1, ..settings(2) };
    for kl_estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3] {
        let mut policy = bandit();
        run(&mut policy, &Grpo::default(), &settings, 0, &data);
        let grpo = Grpo { kl_coef: 0.3, kl_in: KlIn::Reward, kl_estimator, normalize_std: false, ..Grpo::default() };
        let second = TrainSettings { steps: 2, ..settings.clone() };
        let probabilities = policy.probabilities();
        let (_, batches) = run(&mut policy, &grpo, &second, 1, &data);
        for group in batches[0].rows.chunk_by(|a, b| a.group == b.group) {
            let shaped: Vec<f64> = group
                .iter()
                .map(|row| {
                    let letter = row.scored.trajectory.turns[0].text.as_bytes()[0];
                    let d = (probabilities[usize::from(letter - b'a')] * 3.0).ln();
                    let kl = match kl_estimator {
                        KlEstimator::K1 => d,
                        KlEstimator::K2 => 0.5 * d * d,
                        _ => (-d).exp() - 1.0 + d,
                    };
                    f64::from(row.scored.score.value) - 0.3 * kl
                })
                .collect();
            let mean = shaped.iter().sum::<f64>() / shaped.len() as f64;
            for (row, shaped) in group.iter().zip(&shaped) {
                assert!((f64::from(row.advantage) - (shaped - mean)).abs() < 1e-5, "{kl_estimator:?}");
                assert!(row.token_advantages.is_none());
            }
        }
    }
}

#[test]
fn discounted_returns_take_the_kl_term_from_each_token_on() {
    let data = samples(4);
    let mut policy = bandit();
    run(&mut policy, &Grpo::default(), &settings(1), 0, &data);
    let probabilities = policy.probabilities();
    let method = ReinforcePlusPlus(Grpo {
        kl_coef: 0.3,
        gamma: Some(0.9),
        batch_scale: imagent_algorithms::BatchScale::Off,
        ..ReinforcePlusPlus::default().0
    });
    let (_, batches) = run(&mut policy, &method, &settings(2), 1, &data);
    for row in &batches[0].rows {
        let advantages = row.token_advantages.as_ref().unwrap();
        let letter = row.scored.trajectory.turns[0].text.as_bytes()[0];
        let kl = (probabilities[usize::from(letter - b'a')] * 3.0).ln();
        for (at, &advantage) in advantages.iter().enumerate() {
            let after = (advantages.len() - 1 - at) as i32;
            let taken = if at == 0 { 0.3 * kl } else { 0.0 };
            let want = f64::from(row.scored.score.value) * 0.9f64.powi(after) - taken;
            assert!((f64::from(advantage) - want).abs() < 1e-5, "token {at}: {advantage}, want {want}");
        }
    }
}

/// Sampling that reports log-probabilities that are off by as much as `bias`.
fn off_by(bias: f32, importance_cap: f32) -> (StepReport, TrainBatch, Bandit) {
    let mut policy = bandit();
    policy.bias = bias;
    let settings = TrainSettings { importance_cap, ..settings(1) };
    let (mut reports, mut batches) = run(&mut policy, &Grpo::default(), &settings, 0, &samples(4));
    (reports.remove(0), batches.remove(0), policy)
}

#[test]
fn what_sampling_and_scoring_disagree_on_is_measured_and_corrected() {
    let (report, batch, _) = off_by(-0.5, 0.0);
    assert!(report.metrics.keys().all(|name| !name.starts_with("mismatch/")));
    assert!(batch.rows.iter().all(|row| row.correction.is_none()));
    assert!((report.metrics["update/ratio_max"] - 0.5f64.exp()).abs() < 1e-5, "uncorrected, it looks like drift");

    for (bias, cap, factor) in [(-0.5f32, 2.0f32, 0.5f32.exp()), (-0.5, 1.2, 1.2), (0.5, 2.0, (-0.5f32).exp())] {
        let (report, batch, _) = off_by(bias, cap);
        let m = &report.metrics;
        // One token of each row is off.
        let tokens: usize = batch.rows.iter().map(|row| row.positions.len()).sum();
        let share = batch.rows.len() as f64 / tokens as f64;
        let (gap, ratio) = (-f64::from(bias), (-f64::from(bias)).exp());
        assert!((m["mismatch/gap_max"] - 0.5).abs() < 1e-6);
        assert!((m["mismatch/kl"] - share * (ratio - 1.0 - gap)).abs() < 1e-6);
        assert!((m["mismatch/factor_mean"] - (1.0 + share * (f64::from(factor) - 1.0))).abs() < 1e-6);
        assert!((m["mismatch/truncated"] - if f64::from(cap) < ratio { share } else { 0.0 }).abs() < 1e-9);
        assert_eq!((m["update/ratio_max"], m["update/approx_kl"]), (1.0, 0.0));
        for row in &batch.rows {
            let factors = row.correction.as_ref().unwrap();
            assert!((factors[0] - factor).abs() < 1e-6 && factors[1..].iter().all(|&factor| factor == 1.0));
        }
    }
}

#[test]
fn where_nothing_disagrees_the_correction_changes_no_bit() {
    let (plain, _, without) = off_by(0.0, 0.0);
    let (corrected, batch, with) = off_by(0.0, 2.0);
    assert!(batch.rows.iter().flat_map(|row| row.correction.as_ref().unwrap()).all(|&factor| factor == 1.0));
    assert_eq!(without.probabilities(), with.probabilities());
    for (name, value) in &plain.metrics {
        assert_eq!(corrected.metrics[name].to_bits(), value.to_bits(), "{name}");
    }
    assert_eq!((corrected.metrics["mismatch/gap_max"], corrected.metrics["mismatch/kl"]), (0.0, 0.0));
}

#[test]
fn dropped_groups_are_replaced_by_further_samples() {
    // Groups of two; those of every third rollout pair differ in their rewards.
    let script = |rollout: usize, _| answer(if rollout.is_multiple_of(6) { "8" } else { "7" });
    let base = TrainSettings { group_size: 2, prompts_per_step: 3, drop_flat_groups: true, ..settings(2) };
    let of = |refill_rounds, data: usize| {
        let settings = TrainSettings { refill_rounds, ..base.clone() };
        run(&mut FakePolicy::new(script), &Grpo::default(), &settings, 0, &samples(data))
    };
    let groups = |batch: &TrainBatch| batch.rows.len() / 2;
    let (reports, batches) = of(0, 40);
    assert_eq!(groups(&batches[0]), 3);
    assert!(!reports[0].metrics.contains_key("refill/rounds"));
    // Each round of n further groups has one that is kept where n > 0: 3, then 2, then 1 are missing.
    let (reports, batches) = of(9, 40);
    for (report, batch) in reports.iter().zip(&batches) {
        let m = &report.metrics;
        assert_eq!((m["refill/rounds"], m["refill/prompts"], groups(batch)), (2.0, 3.0, 6));
        let mut ids: Vec<&str> = batch.rows.iter().map(|row| row.scored.trajectory.sample.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 6, "no sample twice in a step");
        assert_eq!(m["groups"], 6.0);
    }
    assert_eq!(groups(&of(1, 40).1[0]), 5);
    // A dataset with no further samples ends the refill.
    assert_eq!(groups(&of(9, 3).1[0]), 3);
    // What the cursor gives does not depend on the refill.
    let ids = |batch: &TrainBatch| -> Vec<String> {
        batch.rows[..6].iter().map(|row| row.scored.trajectory.sample.id.clone()).collect()
    };
    assert_eq!(ids(&of(9, 40).1[1]), ids(&of(0, 40).1[1]));
}

#[test]
fn whitening_leaves_dropped_groups_out() {
    let script = |rollout: usize, _| answer(if rollout < 2 { "8" } else { "7" });
    let settings = TrainSettings { group_size: 4, prompts_per_step: 3, drop_flat_groups: true, ..settings(1) };
    let method = optimizer("reinforce_plus_plus_baseline", "");
    let (_, batches) = run(&mut FakePolicy::new(script), &*method, &settings, 0, &samples(9));
    // Over the one group that is kept: rewards 0, 0, 1, 1 of equal length.
    let advantages: Vec<f32> = batches[0].rows[..4].iter().map(|row| row.advantage).collect();
    let tokens = 4 * batches[0].rows[0].positions.len();
    let want = 0.5 / (0.25 * tokens as f64 / (tokens - 1) as f64).sqrt();
    for (got, sign) in advantages.iter().zip([-1.0, -1.0, 1.0, 1.0]) {
        assert!((f64::from(*got) - sign * want).abs() < 1e-6, "{advantages:?}");
    }
}

#[test]
fn settings_out_of_range_are_refused_by_key() {
    for (json, key) in [(r#"{"refill_rounds": 2}"#, "refill_rounds"), (r#"{"importance_cap": 0.5}"#, "importance_cap")]
    {
        let settings: TrainSettings = serde_json::from_str(json).unwrap();
        assert!(settings.validate().unwrap_err().to_string().starts_with(key), "{json}");
    }
}
