//! Properties of GRPO with every piece that it can be made of: finite differences, sums, masks, extremes, splits, ranges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use imagent_algorithms::{Aggregation, Grpo, KlEstimator, KlIn, Surrogate};
use imagent_core::{PolicyOptimizer, TokenBatch, TokenLoss};
use proptest::collection::vec;
use proptest::prelude::*;

/// A step that `f32` log-probabilities on its grid take exactly, so that differences in `f64` lose nothing.
const STEP: f32 = 1.0 / 1024.0;

fn on_grid(value: f32) -> f32 {
    (value / STEP).round() * STEP
}

/// Rows of 1–6 tokens with log-probabilities on the grid.
fn batches() -> impl Strategy<Value = TokenBatch> {
    let token = (-4.0f32..0.0, -0.6f32..0.6, -0.6f32..0.6, 0.0f32..2.0, prop::bool::weighted(0.8));
    vec((vec(token, 1..6), -2.0f32..2.0), 1..6).prop_map(|rows| {
        let mut batch = TokenBatch { offsets: vec![0], ref_logprobs: Some(Vec::new()), ..TokenBatch::default() };
        for (index, (tokens, advantage)) in rows.into_iter().enumerate() {
            for (logprob, drift, away, entropy, counts) in tokens {
                batch.logprobs.push(on_grid(logprob + drift));
                batch.old_logprobs.push(on_grid(logprob));
                batch.ref_logprobs.as_mut().unwrap().push(on_grid(logprob + away));
                batch.entropies.push(on_grid(entropy));
                batch.loss_mask.push(f32::from(u8::from(counts)));
            }
            batch.offsets.push(batch.logprobs.len());
            batch.advantages.push(advantage);
            batch.groups.push(index / 2);
        }
        batch
    })
}

const SURROGATES: [Surrogate; 5] =
    [Surrogate::Clipped, Surrogate::Sequence, Surrogate::Geometric, Surrogate::Weighted, Surrogate::Reinforce];
const ESTIMATORS: [KlEstimator; 4] = [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3, KlEstimator::Abs];

fn optimizers() -> impl Strategy<Value = Grpo> {
    let aggregation = prop_oneof![
        Just(Aggregation::TokenMean),
        Just(Aggregation::SeqMeanTokenMean),
        Just(Aggregation::AllSeqMeanTokenMean),
        Just(Aggregation::SeqMeanTokenSum),
        Just(Aggregation::Constant { length: 7.0 }),
    ];
    let pieces = (prop::sample::select(&SURROGATES[..]), prop::sample::select(&ESTIMATORS[..]), any::<bool>());
    (aggregation, prop::option::of(1.3f32..2.0), 0.0f32..0.5, 0.0f32..0.5, pieces).prop_map(
        |(aggregation, dual_clip, kl_coef, entropy_coef, (surrogate, kl_estimator, in_reward))| Grpo {
            aggregation,
            dual_clip: dual_clip.filter(|_| matches!(surrogate, Surrogate::Clipped | Surrogate::Sequence)),
            kl_coef,
            kl_in: if in_reward { KlIn::Reward } else { KlIn::Loss },
            kl_estimator,
            entropy_coef,
            surrogate,
            clip_high: 0.28,
            ..Grpo::default()
        },
    )
}

/// Whether what is clipped is far enough from every bound that a step does not cross one.
fn is_smooth(grpo: &Grpo, batch: &TokenBatch, row: usize, i: usize) -> bool {
    let log_ratio = |i: usize| batch.logprobs[i] - batch.old_logprobs[i];
    let far = |value: f32, bounds: &[f32]| bounds.iter().all(|bound| (value - bound).abs() > 4.0 * STEP * value.abs());
    let ratios = [1.0 - grpo.clip_low, 1.0 + grpo.clip_high, grpo.dual_clip.unwrap_or(100.0)];
    match grpo.surrogate {
        Surrogate::Clipped => far(log_ratio(i).exp(), &ratios),
        Surrogate::Sequence => {
            let counted: Vec<usize> = batch.row(row).filter(|&i| batch.loss_mask[i] != 0.0).collect();
            let mean = counted.iter().map(|&i| log_ratio(i)).sum::<f32>() / counted.len().max(1) as f32;
            far(mean.exp(), &ratios)
        }
        Surrogate::Geometric => far(log_ratio(i), &[-grpo.clip_low, grpo.clip_high]),
        Surrogate::Weighted | Surrogate::Reinforce => true,
    }
}

fn difference(grpo: &Grpo, batch: &TokenBatch, move_by: impl Fn(&mut TokenBatch, f32)) -> f64 {
    let at = |shift: f32| {
        let mut moved = batch.clone();
        move_by(&mut moved, shift);
        grpo.loss(&moved).value
    };
    (at(STEP) - at(-STEP)) / (2.0 * f64::from(STEP))
}

/// d loss / d log-probability of token `i`. The weight of a weighted log-probability is held fixed: the ratio's other side moves
/// along.
fn slope(grpo: &Grpo, batch: &TokenBatch, i: usize) -> f64 {
    difference(grpo, batch, |moved, shift| {
        moved.logprobs[i] += shift;
        if grpo.surrogate == Surrogate::Weighted {
            moved.old_logprobs[i] += shift;
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn derivatives_are_those_of_the_loss(batch in batches(), grpo in optimizers()) {
        let loss = grpo.loss(&batch);
        for (row, i) in (0..batch.rows()).flat_map(|row| batch.row(row).map(move |i| (row, i))) {
            if is_smooth(&grpo, &batch, row, i) {
                let slope = slope(&grpo, &batch, i);
                let got = f64::from(loss.d_logprobs[i]);
                prop_assert!((slope - got).abs() <= 1e-5 * (1.0 + slope.abs()), "token {}: {} vs {}", i, got, slope);
            }
            let slope = difference(&grpo, &batch, |moved, shift| moved.entropies[i] += shift);
            prop_assert!((slope - f64::from(loss.d_entropies[i])).abs() <= 1e-6);
        }
    }

    /// A factor on a token's advantage is one on its surrogate: what corrects for sampling goes through any of them.
    #[test]
    fn corrections_scale_the_surrogate_and_nothing_else(batch in batches(), grpo in optimizers(), factor in 0.1f32..3.0) {
        let corrected = TokenBatch {
            token_advantages: Some((0..batch.rows()).flat_map(|row| batch.row(row).map(move |_| row))
                .map(|row| batch.advantages[row] * factor).collect()),
            ..batch.clone()
        };
        let bare = Grpo { kl_coef: 0.0, entropy_coef: 0.0, ..grpo.clone() };
        let (plain, scaled) = (bare.loss(&batch), bare.loss(&corrected));
        let rest = grpo.loss(&batch).value - plain.value;
        prop_assert!((grpo.loss(&corrected).value - rest - scaled.value).abs() < 1e-9 * (1.0 + rest.abs()));
        prop_assert!((scaled.value - f64::from(factor) * plain.value).abs() <= 1e-6 * (1.0 + plain.value.abs()));
        for (scaled, plain) in scaled.d_logprobs.iter().zip(&plain.d_logprobs) {
            prop_assert!((scaled - factor * plain).abs() <= 1e-5 * (1.0 + plain.abs()));
        }
    }

    /// Where nothing has drifted yet every surrogate has the slope −A, whatever its bounds.
    #[test]
    fn the_first_update_is_that_of_reinforce(batch in batches(), grpo in optimizers()) {
        let batch = TokenBatch { old_logprobs: batch.logprobs.clone(), ..batch };
        let slopes = |surrogate| {
            let dual_clip = grpo.dual_clip.filter(|_| surrogate == Surrogate::Clipped);
            Grpo { surrogate, dual_clip, ..grpo.clone() }.loss(&batch).d_logprobs
        };
        let want = slopes(Surrogate::Reinforce);
        for surrogate in SURROGATES {
            for (got, want) in slopes(surrogate).iter().zip(&want) {
                prop_assert!((got - want).abs() <= 1e-6 * (1.0 + want.abs()), "{:?}: {} vs {}", surrogate, got, want);
            }
        }
    }

    #[test]
    fn masked_tokens_have_exactly_no_gradient_and_no_say(batch in batches(), grpo in optimizers()) {
        let loss = grpo.loss(&batch);
        let mut other = batch.clone();
        for i in (0..batch.len()).filter(|&i| batch.loss_mask[i] == 0.0) {
            prop_assert_eq!(loss.d_logprobs[i].to_bits(), 0);
            prop_assert_eq!(loss.d_entropies[i].to_bits(), 0);
            other.logprobs[i] = f32::NAN;
            other.entropies[i] = f32::NAN;
        }
        prop_assert_eq!(grpo.loss(&other), loss);
    }

    #[test]
    fn extremes_stay_finite(new in -1e30f32..0.0, old in -1e30f32..0.0, reference in -1e30f32..0.0,
                            advantage in -10.0f32..10.0, clamped: bool,
                            surrogate in prop::sample::select(&SURROGATES[..]),
                            kl_estimator in prop::sample::select(&ESTIMATORS[..])) {
        let off = Grpo { log_ratio_clamp: None, kl_clamp: None, ..Grpo::default() };
        let grpo = Grpo { kl_coef: 0.1, surrogate, kl_estimator, ..if clamped { Grpo::default() } else { off } };
        for (new, old, reference) in [(new, old, reference), (f32::NEG_INFINITY, -1.0, -1.0), (-1.0, f32::MIN, f32::MIN)] {
            let batch = TokenBatch {
                offsets: vec![0, 1],
                logprobs: vec![new],
                old_logprobs: vec![old],
                ref_logprobs: Some(vec![reference]),
                entropies: vec![0.5],
                loss_mask: vec![1.0],
                advantages: vec![advantage],
                token_advantages: None,
                groups: vec![0],
            };
            let loss = grpo.loss(&batch);
            prop_assert!(loss.value.is_finite() && loss.d_logprobs[0].is_finite());
            prop_assert!(loss.metrics.values().all(|value| value.is_finite()), "{:?}", loss.metrics);
        }
    }

    #[test]
    fn k3_is_never_negative(batch in batches(), grpo in optimizers()) {
        let grpo = Grpo { kl_estimator: KlEstimator::K3, ..grpo };
        for i in 0..batch.len() {
            let mut only = batch.clone();
            only.loss_mask.fill(0.0);
            only.loss_mask[i] = 1.0;
            let metrics = grpo.loss(&only).metrics;
            prop_assert!(metrics["kl"] >= 0.0 && metrics["approx_kl"] >= 0.0);
        }
    }

    #[test]
    fn advantages_of_a_group_sum_to_zero(rewards in vec(-2.0f32..2.0, 2..12), normalize_std: bool) {
        let grpo = Grpo { normalize_std, ..Grpo::default() };
        let sum: f32 = grpo.advantages_of(&rewards, &vec![true; rewards.len()]).iter().sum();
        prop_assert!(sum.abs() <= 1e-5, "{}", sum);
    }

    #[test]
    fn equal_rewards_have_exactly_no_advantage(reward in -2.0f32..2.0, n in 1usize..20, normalize_std: bool) {
        let advantages = Grpo { normalize_std, ..Grpo::default() }.advantages_of(&vec![reward; n], &vec![true; n]);
        prop_assert!(advantages.iter().all(|advantage| advantage.to_bits() == 0));
    }

    #[test]
    fn a_batch_equals_its_splits(batch in batches(), grpo in optimizers(), cut in 0usize..6) {
        let cut = cut.min(batch.rows());
        let parts = [slice(&batch, 0..cut), slice(&batch, cut..batch.rows())];
        let whole = grpo.loss(&batch);
        let mut sum = TokenLoss::default();
        for part in &parts {
            let share = mass(&grpo, part) / mass(&grpo, &batch).max(1e-9);
            let loss = grpo.loss(part);
            sum.value += share * loss.value;
            sum.d_logprobs.extend(loss.d_logprobs.iter().map(|slope| slope * share as f32));
        }
        prop_assert!((sum.value - whole.value).abs() < 1e-9 * (1.0 + whole.value.abs()));
        for (a, b) in sum.d_logprobs.iter().zip(&whole.d_logprobs) {
            prop_assert!((a - b).abs() <= 1e-6 * (1.0 + b.abs()));
        }
    }
}

/// What the aggregation divides by, but for constants: what accumulated parts have to be weighted with.
fn mass(grpo: &Grpo, batch: &TokenBatch) -> f64 {
    let row_mass = |row| batch.loss_mask[batch.row(row)].iter().map(|&w| f64::from(w)).sum::<f64>();
    match grpo.aggregation {
        Aggregation::TokenMean => (0..batch.rows()).map(row_mass).sum(),
        Aggregation::SeqMeanTokenMean | Aggregation::SeqMeanTokenSum => {
            (0..batch.rows()).filter(|&row| row_mass(row) > 0.0).count() as f64
        }
        Aggregation::Constant { .. } | Aggregation::AllSeqMeanTokenMean => batch.rows() as f64,
    }
}

fn slice(batch: &TokenBatch, rows: std::ops::Range<usize>) -> TokenBatch {
    let tokens = batch.offsets[rows.start]..batch.offsets[rows.end];
    TokenBatch {
        offsets: batch.offsets[rows.start..=rows.end].iter().map(|offset| offset - tokens.start).collect(),
        logprobs: batch.logprobs[tokens.clone()].to_vec(),
        old_logprobs: batch.old_logprobs[tokens.clone()].to_vec(),
        ref_logprobs: batch.ref_logprobs.as_ref().map(|all| all[tokens.clone()].to_vec()),
        entropies: batch.entropies[tokens.clone()].to_vec(),
        loss_mask: batch.loss_mask[tokens.clone()].to_vec(),
        advantages: batch.advantages[rows.clone()].to_vec(),
        token_advantages: batch.token_advantages.as_ref().map(|all| all[tokens.clone()].to_vec()),
        groups: batch.groups[rows].to_vec(),
    }
}

#[test]
fn trajectories_outside_the_baseline_are_measured_against_it() {
    let grpo = Grpo { normalize_std: false, ..Grpo::default() };
    assert_eq!(grpo.advantages_of(&[1.0, 0.0, -3.0], &[true, true, false]), [0.5, -0.5, -3.5]);
    let scaled = Grpo::default().advantages_of(&[1.0, 0.0, -3.0], &[true, true, false]);
    assert!((scaled[2] + 3.5 / 0.5f32.sqrt()).abs() < 1e-4);
    // A baseline that says nothing gives nothing, instead of a division by 1e-6.
    assert_eq!(Grpo::default().advantages_of(&[1.0, 1.0, -3.0], &[true, true, false]), [0.0; 3]);
    assert_eq!(grpo.advantages_of(&[1.0, 5.0, -3.0], &[true, false, false]), [0.0; 3]);
    assert_eq!(grpo.advantages_of(&[], &[]), [0.0; 0]);
}

#[test]
fn an_empty_or_wholly_masked_batch_is_zero() {
    let masked = TokenBatch {
        offsets: vec![0, 2],
        logprobs: vec![-1.0, -2.0],
        old_logprobs: vec![-1.5, -2.0],
        entropies: vec![0.5; 2],
        loss_mask: vec![0.0; 2],
        advantages: vec![1.0],
        token_advantages: None,
        groups: vec![0],
        ref_logprobs: None,
    };
    for batch in [TokenBatch { offsets: vec![0], ..TokenBatch::default() }, masked] {
        let loss = Grpo::default().loss(&batch);
        assert_eq!((loss.value, loss.metrics["loss_tokens"]), (0.0, 0.0));
        assert!(loss.d_logprobs.iter().all(|&slope| slope == 0.0));
        assert!(loss.metrics.values().all(|value| value.is_finite()));
    }
}

#[test]
fn range_errors_name_the_key() {
    for (json, message) in [
        (r#"{"clip_low": 2}"#, "clip_low must be in [0, 1], got 2.0"),
        (r#"{"clip_high": -0.1}"#, "clip_high must be at least 0, got -0.1"),
        (r#"{"kl_coef": -1}"#, "kl_coef must be at least 0, got -1.0"),
        (r#"{"entropy_coef": -1}"#, "entropy_coef must be at least 0, got -1.0"),
        (r#"{"std_epsilon": 0}"#, "std_epsilon must be above 0, got 0.0"),
        (r#"{"dual_clip": 1}"#, "dual_clip must be above 1, or \"off\", got 1.0"),
        (r#"{"dual_clip": "of"}"#, "invalid value: string \"of\", expected a number or \"off\""),
        (r#"{"gamma": 1.5}"#, "gamma must be in [0, 1], or \"off\", got 1.5"),
        (
            r#"{"gamma": 1, "surrogate": "geometric"}"#,
            "gamma must be \"off\" with surrogate `geometric`, whose rows have one advantage, got 1.0",
        ),
        (r#"{"dual_clip": 3, "surrogate": "weighted"}"#, "dual_clip must be \"off\" with this surrogate, got 3.0"),
        (r#"{"kl_in": "los"}"#, "unknown variant `los`, expected `loss` or `reward`"),
        (r#"{"log_ratio_clamp": 100}"#, "log_ratio_clamp must be in (0, 80], or \"off\", got 100.0"),
        (r#"{"kl_clamp": 0}"#, "kl_clamp must be above 0, or \"off\", got 0.0"),
        (r#"{"aggregation": {"constant": {"length": 0}}}"#, "aggregation.constant.length must be above 0, got 0.0"),
        (r#"{"clip": 1}"#, "unknown field `clip`"),
    ] {
        let error = serde_json::from_str::<Grpo>(json).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn fields_round_trip_through_the_registry() {
    let json = r#"{"type": "grpo", "clip_high": 0.28, "dual_clip": 3, "log_ratio_clamp": "off", "kl_clamp": 5.5,
                   "aggregation": {"constant": {"length": 512}}}"#;
    let first: Box<dyn PolicyOptimizer> = serde_json::from_str(json).unwrap();
    let again: Box<dyn PolicyOptimizer> = serde_json::from_str(&serde_json::to_string(&first).unwrap()).unwrap();
    let want = Grpo {
        clip_high: 0.28,
        dual_clip: Some(3.0),
        log_ratio_clamp: None,
        kl_clamp: Some(5.5),
        aggregation: Aggregation::Constant { length: 512.0 },
        ..Grpo::default()
    };
    assert_eq!(format!("{first:?}"), format!("{want:?}"));
    assert_eq!(format!("{again:?}"), format!("{want:?}"));
}
