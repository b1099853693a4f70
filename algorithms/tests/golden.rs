//! GRPO against what verl and TRL compute: every case of `rl/manifest.json` that its fields can express. The numbers
//! are made by `rl/make_rl_golden.py` (see its first lines); the bound is 2e-5 relative + 2e-6 absolute.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod oracle;

use imagent_algorithms::{Aggregation, Grpo};
use imagent_core::{PolicyOptimizer, TokenBatch, TokenLoss};
use oracle::{Golden, assert_all_close, assert_close, check_loss, number};
use serde_json::Value;

/// verl's settings as ours; `None` where GRPO does not offer them.
fn verl(case: &Value, rows: usize, width: usize) -> Option<Grpo> {
    if case["hyper"].get("dp_size").is_some() {
        return None; // a normaliser from other processes
    }
    let aggregation = match case["hyper"]["loss_agg_mode"].as_str()? {
        "token-mean" => Aggregation::TokenMean,
        "seq-mean-token-mean" => Aggregation::SeqMeanTokenMean,
        "seq-mean-token-sum" => Aggregation::SeqMeanTokenSum,
        "seq-mean-token-sum-norm" => {
            let factor = number(case, "loss_scale_factor").map_or(width as f64, f64::from);
            Aggregation::Constant { length: factor / rows as f64 }
        }
        other => panic!("{other}"),
    };
    let default = Grpo::default();
    Some(Grpo {
        clip_low: number(case, "clip_ratio_low").unwrap_or(default.clip_low),
        clip_high: number(case, "clip_ratio_high").unwrap_or(default.clip_high),
        dual_clip: number(case, "clip_ratio_c"),
        aggregation,
        ..default
    })
}

/// TRL's settings as ours. TRL has no clamps.
fn trl(case: &Value) -> Option<Grpo> {
    if case["hyper"].get("level").is_some() {
        return None; // sequence ratio: GSPO
    }
    let aggregation = match case["hyper"]["loss_type"].as_str()? {
        "grpo" => Aggregation::SeqMeanTokenMean,
        "bnpo" | "dapo" => Aggregation::TokenMean,
        "dr_grpo" => Aggregation::Constant { length: f64::from(number(case, "max_completion_length")?) },
        _ => return None, // CISPO
    };
    Some(Grpo {
        clip_high: number(case, "eps_high").unwrap_or(0.2),
        kl_coef: number(case, "beta").unwrap_or(0.0),
        dual_clip: number(case, "delta"),
        aggregation,
        log_ratio_clamp: None,
        kl_clamp: None,
        ..Grpo::default()
    })
}

#[test]
fn advantages_as_verl() {
    let golden = Golden::open();
    let mut checked = 0;
    for case in &golden.cases {
        let normalize_std = match case["function"].as_str().unwrap() {
            "compute_grpo_outcome_advantage" => case["hyper"]["norm_adv_by_std_in_grpo"].as_bool().unwrap(),
            "compute_grpo_vectorized_outcome_advantage" => true,
            _ => continue,
        };
        let name = case["name"].as_str().unwrap();
        let grpo = Grpo { normalize_std, ..Grpo::default() };
        let (group, mask) = (golden.input(case, "group"), golden.input(case, "response_mask"));
        let (dense, want) = (golden.input(case, "rewards"), golden.output(case, "advantages"));
        let width = mask.len() / group.len();
        let rewards: Vec<f32> = dense.chunks_exact(width).map(|row| row.iter().sum()).collect();
        let mut ids = group.clone();
        ids.dedup();
        for id in ids {
            let rows: Vec<usize> = (0..group.len()).filter(|&row| group[row] == id).collect();
            let own: Vec<f32> = rows.iter().map(|&row| rewards[row]).collect();
            let advantages = grpo.advantages_of(&own, &vec![true; own.len()]);
            if rows.len() == 1 {
                assert_eq!(advantages, [0.0], "verl keeps the raw reward here, we do not");
                continue;
            }
            for (&row, &advantage) in rows.iter().zip(&advantages) {
                for i in (row * width..(row + 1) * width).filter(|&i| mask[i] > 0.0) {
                    assert_close(&format!("{name} row {row}"), f64::from(advantage), want[i]);
                }
            }
        }
        checked += 1;
    }
    assert_eq!(checked, 9);
}

#[test]
fn policy_loss_as_verl() {
    let golden = Golden::open();
    let mut checked = 0;
    for case in golden.cases.iter().filter(|case| case["function"] == "get_policy_loss_fn('vanilla')") {
        let tokens = golden.batch(case);
        let (rows, width) = (tokens.rows(), tokens.len() / tokens.rows());
        let Some(grpo) = verl(case, rows, width) else { continue };
        let name = case["name"].as_str().unwrap();
        grpo.validate().unwrap();
        let loss = grpo.loss(&tokens);
        check_loss(name, &loss, &tokens, golden.output(case, "loss")[0], &golden.output(case, "grad"));
        for (ours, theirs) in
            [("clip_fraction", "actor/pg_clipfrac"), ("dual_clip_fraction", "actor/pg_clipfrac_lower")]
        {
            assert_close(
                &format!("{name}/{ours}"),
                loss.metrics[ours],
                case["metrics"][theirs].as_f64().unwrap() as f32,
            );
        }
        checked += 1;
    }
    assert_eq!(checked, 3 * (16 + 2));
}

#[test]
fn k3_as_verl() {
    let golden = Golden::open();
    let mut checked = 0;
    for case in &golden.cases {
        if !matches!(case["hyper"]["kl_penalty"].as_str(), Some("k3" | "low_var_kl")) {
            continue;
        }
        let mut tokens = golden.batch(case);
        tokens.ref_logprobs = Some(golden.input(case, "ref_logprobs"));
        let loss = Grpo { kl_coef: 1.0, ..Grpo::default() }.loss(&tokens);
        let (want, gradient) = (golden.output(case, "loss")[0], golden.output(case, "grad"));
        check_loss(case["name"].as_str().unwrap(), &loss, &tokens, want, &gradient);
        assert_close("kl", loss.metrics["kl"], want);
        checked += 1;
    }
    assert_eq!(checked, 6);
}

#[test]
fn policy_loss_as_trl() {
    let golden = Golden::open();
    let mut checked = 0;
    for case in golden.cases.iter().filter(|case| case["oracle"] == "trl") {
        let Some(grpo) = trl(case) else { continue };
        let mut tokens = golden.batch(case);
        tokens.ref_logprobs = grpo.needs_reference().then(|| golden.input(case, "ref_logprobs"));
        grpo.validate().unwrap();
        let mut loss = grpo.loss(&tokens);
        if grpo.aggregation == Aggregation::SeqMeanTokenMean {
            // TRL counts wholly masked rows, verl and we do not; `ragged` has one.
            let live = (0..tokens.rows()).filter(|&row| tokens.loss_mask[tokens.row(row)].contains(&1.0)).count();
            let share = live as f64 / tokens.rows() as f64;
            loss.value *= share;
            loss.d_logprobs.iter_mut().for_each(|slope| *slope *= share as f32);
        }
        let (want, gradient) = (golden.output(case, "loss")[0], golden.output(case, "grad"));
        check_loss(case["name"].as_str().unwrap(), &loss, &tokens, want, &gradient);
        checked += 1;
    }
    assert_eq!(checked, 3 * 5 + 2);
}

const VOCABULARY: usize = 11;

/// Log-probabilities of all tokens of the vocabulary, and their entropy, at one position.
fn log_softmax(logits: &[f32]) -> (Vec<f64>, f64) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|&z| f64::from(z - largest).exp()).sum();
    let log: Vec<f64> = logits.iter().map(|&z| f64::from(z) - f64::from(largest) - total.ln()).collect();
    let entropy = -log.iter().map(|l| l * l.exp()).sum::<f64>();
    (log, entropy)
}

/// Puts the log-probabilities and entropies of the case's logits into `tokens`.
fn score_logits(tokens: &mut TokenBatch, logits: &[f32], labels: &[f32]) {
    for (i, z) in logits.chunks_exact(VOCABULARY).enumerate() {
        let (log, entropy) = log_softmax(z);
        tokens.logprobs[i] = log[labels[i] as usize] as f32;
        tokens.entropies[i] = entropy as f32;
    }
}

/// d loss / d logits, from the derivatives by log-probability and by entropy.
fn through_logits(loss: &TokenLoss, logits: &[f32], labels: &[f32]) -> Vec<f32> {
    let mut gradient = Vec::new();
    for (i, z) in logits.chunks_exact(VOCABULARY).enumerate() {
        let (log, entropy) = log_softmax(z);
        for (v, l) in log.iter().enumerate() {
            let by_logprob = f64::from(v == labels[i] as usize) - l.exp();
            let by_entropy = -l.exp() * (l + entropy);
            let slope = f64::from(loss.d_logprobs[i]) * by_logprob + f64::from(loss.d_entropies[i]) * by_entropy;
            gradient.push(slope as f32);
        }
    }
    gradient
}

#[test]
fn entropy_bonus_and_whole_actor_loss_down_to_the_logits_as_verl() {
    let golden = Golden::open();
    let mut checked = 0;
    for case in &golden.cases {
        let (sign, actor) = match case["kind"].as_str().unwrap() {
            "entropy" => (-1.0, false),
            "actor_loss" => (1.0, true),
            _ => continue,
        };
        let name = case["name"].as_str().unwrap();
        let mut tokens = golden.batch(case);
        let grpo = Grpo {
            entropy_coef: if actor { number(case, "entropy_coeff").unwrap() } else { 1.0 },
            kl_coef: number(case, "kl_loss_coef").unwrap_or(0.0),
            ..verl(case, 0, 0).unwrap()
        };
        let (logits, labels) = (golden.input(case, "logits"), golden.input(case, "labels"));
        score_logits(&mut tokens, &logits, &labels);
        tokens.ref_logprobs = actor.then(|| golden.input(case, "ref_logprobs"));
        let loss = grpo.loss(&tokens);
        assert_close(name, sign * loss.value, golden.output(case, "loss")[0]);
        let gradient: Vec<f32> =
            through_logits(&loss, &logits, &labels).iter().map(|&slope| sign as f32 * slope).collect();
        assert_all_close(name, &gradient, &golden.output(case, "grad_logits"));
        checked += 1;
    }
    assert_eq!(checked, 9 + 3);
}
