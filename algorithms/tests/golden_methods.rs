//! The other optimisers against what verl and TRL compute: with `golden.rs`, every case of `rl/manifest.json` but
//! `logprobs_from_logits`, which is the model's. Same script, same bound.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod oracle;

use imagent_algorithms::{
    Aggregation, Baseline, BatchScale, Cispo, Grpo, Gspo, KlEstimator, KlIn, Lone, ReinforcePlusPlus,
    ReinforcePlusPlusBaseline, Rloo, Surrogate,
};
use imagent_core::{Advantages, Outcomes, PolicyOptimizer, TokenBatch};
use oracle::{Golden, assert_all_close, assert_close, check_loss, number};
use serde_json::Value;

/// Verl's rewards of a case token by token, and in sum.
fn outcomes(golden: &Golden, case: &Value) -> Outcomes {
    let set = case["set"].as_str().unwrap();
    let group: Vec<usize> = golden.tensor(&format!("{set}/in/group")).iter().map(|&group| group as usize).collect();
    let token_rewards = golden.input(case, if case["kind"] == "reward" { "scores" } else { "rewards" });
    let loss_mask = golden.input(case, "response_mask");
    let width = loss_mask.len() / group.len();
    let sum = |row: &[f32]| row.iter().map(|&reward| f64::from(reward)).sum::<f64>() as f32;
    Outcomes {
        offsets: (0..=group.len()).map(|row| row * width).collect(),
        in_baseline: vec![true; group.len()],
        rewards: token_rewards.chunks_exact(width).map(sum).collect(),
        token_rewards: Some(token_rewards),
        old_logprobs: Some(golden.input(case, "old_logprobs")),
        ref_logprobs: Some(golden.input(case, "ref_logprobs")),
        groups: group,
        loss_mask,
    }
}

/// The advantages of all tokens, those of rows spread over theirs.
fn token_advantages(optimizer: &dyn PolicyOptimizer, outcomes: &Outcomes) -> Vec<f32> {
    let Advantages { rows, tokens } = optimizer.batch_advantages(outcomes).unwrap_or_else(|| {
        let mut rows = vec![0.0; outcomes.rows()];
        for group in 0..=*outcomes.groups.iter().max().unwrap() {
            let members: Vec<usize> = (0..rows.len()).filter(|&row| outcomes.groups[row] == group).collect();
            let rewards: Vec<f32> = members.iter().map(|&row| outcomes.rewards[row]).collect();
            let own = optimizer.advantages_of(&rewards, &vec![true; rewards.len()]);
            members.into_iter().zip(own).for_each(|(row, advantage)| rows[row] = advantage);
        }
        Advantages { rows, tokens: None }
    });
    let spread = || (0..rows.len()).flat_map(|row| outcomes.row(row).map(move |_| row)).map(|row| rows[row]).collect();
    tokens.unwrap_or_else(spread)
}

/// Up to its commit b178a3cd, verl lets returns end at masked tokens within a row, so that no turn but the last is rewarded;
/// later they go on across observations, as ours do. The former is ours with each stretch between gaps as a row.
fn split_at_gaps(outcomes: &Outcomes) -> Outcomes {
    let mut split =
        Outcomes { offsets: vec![0], groups: vec![], in_baseline: vec![], rewards: vec![], ..outcomes.clone() };
    for row in 0..outcomes.rows() {
        for i in outcomes.row(row) {
            let ends = i + 1 == outcomes.row(row).end || outcomes.loss_mask[i + 1] != outcomes.loss_mask[i];
            if ends {
                let start = *split.offsets.last().unwrap();
                split.rewards.push(outcomes.token_rewards.as_ref().unwrap()[start..=i].iter().sum());
                split.groups.push(split.groups.len());
                split.in_baseline.push(true);
                split.offsets.push(i + 1);
            }
        }
    }
    split
}

/// The optimiser whose advantages a case of verl's has.
fn estimator(case: &Value) -> Option<Box<dyn PolicyOptimizer>> {
    let plain = Grpo { normalize_std: false, lone: Lone::Reward, ..Grpo::default() };
    Some(match case["function"].as_str()? {
        "compute_rloo_outcome_advantage" => Box::new(Rloo(Grpo { lone: Lone::Reward, ..Rloo::default().0 })),
        "compute_rloo_vectorized_outcome_advantage" => Box::new(Rloo::default()),
        "compute_reinforce_plus_plus_baseline_outcome_advantage" => Box::new(ReinforcePlusPlusBaseline::default()),
        "compute_reinforce_plus_plus_outcome_advantage" => {
            Box::new(ReinforcePlusPlus(Grpo { gamma: number(case, "gamma"), ..ReinforcePlusPlus::default().0 }))
        }
        "compute_opo_outcome_advantage" => Box::new(Grpo { baseline: Baseline::LengthWeighted, ..plain }),
        "compute_gpg_outcome_advantage" => Box::new(Grpo { batch_scale: BatchScale::Nonzero, ..plain }),
        "compute_grpo_passk_outcome_advantage" => Box::new(Grpo { baseline: Baseline::SecondBest, ..Grpo::default() }),
        "compute_rewards" => Box::new(Grpo {
            baseline: Baseline::None,
            gamma: Some(0.0),
            kl_in: KlIn::Reward,
            kl_estimator: KlEstimator::K1,
            kl_coef: number(case, "kl_ratio")?,
            ..plain
        }),
        _ => return None,
    })
}

#[test]
fn advantages_and_rewards_as_verl() {
    let golden = Golden::open();
    let mut checked = 0;
    for case in &golden.cases {
        let Some(optimizer) = estimator(case) else { continue };
        let name = case["name"].as_str().unwrap();
        let mut outcomes = outcomes(&golden, case);
        if golden.verl.starts_with("b178a3cd") && case["function"].as_str().unwrap().contains("plus_plus_outcome") {
            outcomes = split_at_gaps(&outcomes);
        }
        let got = token_advantages(&*optimizer, &outcomes);
        let want = golden.output(case, if case["kind"] == "reward" { "rewards" } else { "advantages" });
        for i in (0..got.len()).filter(|&i| outcomes.loss_mask[i] != 0.0) {
            assert_close(&format!("{name}[{i}]"), f64::from(got[i]), want[i]);
        }
        checked += 1;
    }
    assert_eq!(checked, 29 + 3);
}

#[test]
fn kl_estimates_as_verl() {
    let golden = Golden::open();
    let mut checked = 0;
    for case in golden.cases.iter().filter(|case| case["kind"] == "kl") {
        let kl_estimator = match case["hyper"]["kl_penalty"].as_str().unwrap() {
            "k1" => KlEstimator::K1,
            "k2" => KlEstimator::K2,
            "abs" => KlEstimator::Abs,
            _ => KlEstimator::K3,
        };
        let name = case["name"].as_str().unwrap();
        let tokens = TokenBatch { ref_logprobs: Some(golden.input(case, "ref_logprobs")), ..golden.batch(case) };
        let optimizer = Grpo { kl_coef: 1.0, kl_estimator, ..Grpo::default() };
        let loss = optimizer.loss(&tokens);
        let want = golden.output(case, "loss")[0];
        check_loss(name, &loss, &tokens, want, &golden.output(case, "grad"));
        assert_close(name, loss.metrics["kl"], want);
        // In the reward it is no part of the loss, and is measured all the same.
        let in_reward = Grpo { kl_in: KlIn::Reward, ..optimizer }.loss(&tokens);
        assert_eq!((in_reward.value, in_reward.metrics["kl"]), (0.0, loss.metrics["kl"]));
        checked += 1;
    }
    assert_eq!(checked, 15);
}

/// The optimiser whose loss a case has, where it is not `grpo` with verl's or TRL's usual settings.
fn method(case: &Value, tokens: &TokenBatch) -> Option<Box<dyn PolicyOptimizer>> {
    let hyper = &case["hyper"];
    let default = Grpo::default();
    let low = number(case, "clip_ratio_low").or(number(case, "eps_low")).unwrap_or(0.2);
    let high = number(case, "clip_ratio_high").or(number(case, "eps_high")).unwrap_or(0.2);
    let clips = |grpo: Grpo| Grpo { clip_low: low, clip_high: high, ..grpo };
    // TRL has no clamps, and counts wholly masked rows.
    let trl = |grpo: Grpo| Grpo { log_ratio_clamp: None, aggregation: Aggregation::AllSeqMeanTokenMean, ..grpo };
    let given = |key: &str| hyper.get(key).and_then(Value::as_f64);
    Some(match (case["function"].as_str()?, hyper.get("level"), hyper.get("loss_type").and_then(Value::as_str)) {
        ("get_policy_loss_fn('gspo')", ..) => Box::new(Gspo(clips(Gspo::default().0))),
        (_, Some(_), _) => Box::new(Gspo(trl(clips(Gspo::default().0)))),
        ("get_policy_loss_fn('cispo')", ..) => Box::new(Cispo(clips(Cispo::default().0))),
        (_, _, Some("cispo")) => {
            // TRL gives the bound itself.
            Box::new(Cispo(Grpo { clip_high: high - 1.0, log_ratio_clamp: None, ..Cispo::default().0 }))
        }
        ("get_policy_loss_fn('geo_mean')", ..) => {
            Box::new(trl(clips(Grpo { surrogate: Surrogate::Geometric, ..default })))
        }
        ("get_policy_loss_fn('gpg')", ..) => Box::new(Grpo { surrogate: Surrogate::Reinforce, ..default }),
        // Divisors of other processes: so many tokens or rows in all, on two processes.
        _ if given("dp_size").is_some() => {
            let length = given("batch_num_tokens").map(|all| all / given("dp_size").unwrap() / tokens.rows() as f64);
            let rows = Aggregation::AllSeqMeanTokenMean;
            Box::new(Grpo {
                aggregation: length.map_or(rows, |length| Aggregation::Constant { length }),
                ..clips(default)
            })
        }
        _ => return None,
    })
}

#[test]
fn losses_as_verl_and_trl() {
    let golden = Golden::open();
    let mut checked = 0;
    for case in golden.cases.iter().filter(|case| case["kind"] == "policy_loss") {
        let tokens = golden.batch(case);
        let Some(optimizer) = method(case, &tokens) else { continue };
        let name = case["name"].as_str().unwrap();
        let loss = optimizer.loss(&tokens);
        check_loss(name, &loss, &tokens, golden.output(case, "loss")[0], &golden.output(case, "grad"));
        if name.contains("/gspo") || name.contains("/cispo") {
            let theirs = case["metrics"]["actor/pg_clipfrac"].as_f64().unwrap() as f32;
            assert_close(&format!("{name}/clip_fraction"), loss.metrics["clip_fraction"], theirs);
        }
        checked += 1;
    }
    assert_eq!(checked, 30);
    // 98 are in `golden.rs`, where k3 has 6 of the 15 that are here too; 3 are the model's.
    assert_eq!(golden.cases.len(), 98 + 32 + 15 - 6 + 30 + 3);
}

/// Advantages token by token reach the loss: verl's have them, here they differ within a row.
#[test]
fn losses_of_discounted_returns_are_sums_of_single_tokens() {
    let golden = Golden::open();
    let named = |name: &str| golden.cases.iter().find(|case| case["name"] == name).unwrap();
    let returns = golden.output(named("ragged/adv_rfpp_g95_dense"), "advantages");
    let case = named("ragged/ppo_sym_token-mean");
    let tokens = TokenBatch { token_advantages: Some(returns.clone()), ..golden.batch(case) };
    for optimizer in [Grpo::default(), Cispo::default().0, Gspo::default().0] {
        let whole = optimizer.loss(&tokens);
        let mut sum = vec![0.0; tokens.len()];
        for (i, &advantage) in returns.iter().enumerate().filter(|(i, _)| tokens.loss_mask[*i] != 0.0) {
            let row = (0..tokens.rows()).find(|&row| tokens.row(row).contains(&i)).unwrap();
            let mut alone = golden.batch(case);
            alone.advantages[row] = advantage;
            sum[i] = optimizer.loss(&alone).d_logprobs[i];
        }
        assert_all_close("slopes", &whole.d_logprobs, &sum);
    }
}
