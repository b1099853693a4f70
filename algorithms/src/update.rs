//! From a step's batch to its updates: which rows go into which, what is scored beforehand, what is skipped.

use std::collections::BTreeMap;

use imagent_core::{
    Policy, PolicyError, PolicyOptimizer, ScoreRow, TokenScores, TrainBatch, TrainRow, UpdateReport, Weights, seed,
};
use rand::seq::SliceRandom;

use crate::correction::correct;
use crate::settings::TrainSettings;

/// Rows of the updates of a step, as indices into its batch.
///
/// Each of `epochs` passes shuffles the kept groups by (seed, step, pass) and cuts them into `minibatches` parts of as
/// equal a number of groups as can be; where there are fewer groups than parts, single rows are dealt out instead.
/// Within a part rows keep the batch's order, so a group's rows stay together and share their prompt.
pub(crate) fn minibatches(batch: &TrainBatch, kept: &[bool], settings: &TrainSettings, step: usize) -> Vec<Vec<usize>> {
    let rows: Vec<usize> = (0..batch.rows.len()).filter(|&row| kept[batch.rows[row].group]).collect();
    let mut groups: Vec<Vec<usize>> =
        rows.chunk_by(|&a, &b| batch.rows[a].group == batch.rows[b].group).map(<[usize]>::to_vec).collect();
    if groups.len() < settings.minibatches {
        groups = rows.iter().map(|&row| vec![row]).collect();
    }
    let parts = settings.minibatches.min(groups.len());
    let mut updates = Vec::new();
    for pass in 0..settings.epochs as u64 {
        groups.sort_unstable();
        groups.shuffle(&mut seed::rng(settings.seed, &[seed::text("minibatch"), step as u64, pass]));
        for part in 0..parts {
            let (start, end) = (part * groups.len() / parts, (part + 1) * groups.len() / parts);
            let mut rows = groups[start..end].concat();
            rows.sort_unstable();
            updates.push(rows);
        }
    }
    updates
}

/// Whether any token of the row counts in the loss. A row without weight is neither scored nor trained on.
fn is_live(row: &TrainRow) -> bool {
    row.loss_mask.iter().any(|&weight| weight != 0.0)
}

/// Fills in what the losses of this step need and the rollout did not give, for rows of the groups that are `kept`; returns
/// figures of it.
///
/// * With an importance cap, the scores of the policy that is trained, and the corrections that follow from them.
/// * The reference's, where the optimiser asks for them.
/// * The behaviour policy's, of rows with tokens that were not sampled (observations that a mask gives weight), where
///   more than one update follows or the advantages need them. Else the row is on policy, and the update's own scores are the same.
/// * With all of these, the advantages of the step as a whole.
pub(crate) fn prepare<P, O>(
    policy: &P,
    optimizer: &O,
    batch: &mut TrainBatch,
    kept: &[bool],
    settings: &TrainSettings,
) -> Result<BTreeMap<String, f64>, PolicyError>
where
    P: Policy + ?Sized,
    O: PolicyOptimizer + ?Sized,
{
    let temperature = settings.sampling.temperature;
    let mut metrics = BTreeMap::new();
    if settings.importance_cap > 0.0 {
        let scored = score(policy, &batch.rows, temperature, Weights::Current, |row| kept[row.group])?;
        metrics = correct(batch, scored, settings.importance_cap);
    }
    if settings.updates_per_step() > 1 || optimizer.needs_behavior() {
        let wanted = |row: &TrainRow| kept[row.group] && row.old_logprobs.is_none();
        let missing = score(policy, &batch.rows, temperature, Weights::Current, wanted)?;
        missing.into_iter().for_each(|(row, values)| batch.rows[row].old_logprobs = Some(values));
    }
    if optimizer.needs_reference() {
        // A row without weight takes part in no loss: any number does.
        batch.rows.iter_mut().for_each(|row| row.ref_logprobs = Some(vec![0.0; row.positions.len()]));
        let scored = score(policy, &batch.rows, temperature, Weights::Reference, |row| kept[row.group])?;
        scored.into_iter().for_each(|(row, values)| batch.rows[row].ref_logprobs = Some(values));
    }
    batch.settle(optimizer, |group| kept[group]);
    Ok(metrics)
}

/// Log-probabilities of the live rows that are `wanted`, by row.
fn score<P: Policy + ?Sized>(
    policy: &P,
    rows: &[TrainRow],
    temperature: f32,
    weights: Weights,
    wanted: impl Fn(&TrainRow) -> bool,
) -> Result<Vec<(usize, Vec<f32>)>, PolicyError> {
    let chosen: Vec<usize> = (0..rows.len()).filter(|&row| is_live(&rows[row]) && wanted(&rows[row])).collect();
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Vec<ScoreRow<'_>> = chosen.iter().map(|&row| rows[row].score_row()).collect();
    let mut logprobs = policy.score(&asked, temperature, weights)?.logprobs.into_iter();
    Ok(chosen.iter().map(|&row| (row, logprobs.by_ref().take(rows[row].positions.len()).collect())).collect())
}

/// Runs the updates; their figures, averaged (`_max`: the largest), as `update/NAME`.
pub(crate) fn update_all<P, O>(
    policy: &mut P,
    optimizer: &O,
    batch: &TrainBatch,
    parts: &[Vec<usize>],
    settings: &TrainSettings,
) -> Result<BTreeMap<String, f64>, PolicyError>
where
    P: Policy + ?Sized,
    O: PolicyOptimizer + ?Sized,
{
    let mut reports = Vec::new();
    for part in parts {
        let rows: Vec<TrainRow> = part.iter().map(|&row| batch.rows[row].clone()).collect();
        if has_gradient(optimizer, &rows) {
            reports.push(update(policy, optimizer, &rows, settings.sampling.temperature)?);
        }
    }
    let mut metrics = summary(&reports);
    metrics.insert("update/count".into(), reports.len() as f64);
    metrics.insert("update/skipped".into(), (settings.updates_per_step() - reports.len()) as f64);
    Ok(metrics)
}

/// Whether the loss pushes at all. Asked of the loss itself, so that it holds for any optimiser: at the behaviour
/// policy, and a little off it, where a KL term or a clip shows that is silent at the policy itself.
fn has_gradient<O: PolicyOptimizer + ?Sized>(optimizer: &O, rows: &[TrainRow]) -> bool {
    rows.iter().any(is_live)
        && [0.0, -0.01].into_iter().any(|shift| {
            let sampled = |row: &TrainRow| row.old_logprobs.clone().unwrap_or_else(|| vec![-1.0; row.positions.len()]);
            let logprobs: Vec<f32> = rows.iter().flat_map(sampled).map(|logprob| logprob + shift).collect();
            let scores = TokenScores { entropies: vec![0.0; logprobs.len()], logprobs };
            let loss = optimizer.loss(&TrainBatch::tokens(rows, &scores));
            loss.d_logprobs.iter().chain(&loss.d_entropies).any(|&slope| slope != 0.0)
        })
}

/// One update. The model computes the live rows only; the loss sees all, so that what it divides by is the same.
fn update<P, O>(policy: &mut P, optimizer: &O, rows: &[TrainRow], temperature: f32) -> Result<UpdateReport, PolicyError>
where
    P: Policy + ?Sized,
    O: PolicyOptimizer + ?Sized,
{
    let live: Vec<ScoreRow<'_>> = rows.iter().filter(|row| is_live(row)).map(TrainRow::score_row).collect();
    policy.update(&live, temperature, &mut |scores| {
        let scores =
            TokenScores { logprobs: spread(rows, &scores.logprobs), entropies: spread(rows, &scores.entropies) };
        let mut loss = optimizer.loss(&TrainBatch::tokens(rows, &scores));
        loss.d_logprobs = gather(rows, &loss.d_logprobs);
        loss.d_entropies = gather(rows, &loss.d_entropies);
        loss
    })
}

/// Values of the live rows' tokens as values of all rows' tokens, 0 for the others.
fn spread(rows: &[TrainRow], live: &[f32]) -> Vec<f32> {
    let mut values = live.iter().copied();
    let take = |row: &TrainRow| -> Vec<f32> {
        let tokens = row.positions.len();
        if is_live(row) { values.by_ref().take(tokens).collect() } else { vec![0.0; tokens] }
    };
    rows.iter().flat_map(take).collect()
}

/// The values of the live rows' tokens out of those of all rows' tokens.
fn gather(rows: &[TrainRow], all: &[f32]) -> Vec<f32> {
    let mut rest = all;
    let mut live = Vec::new();
    for row in rows {
        let (values, tail) = rest.split_at(row.positions.len());
        if is_live(row) {
            live.extend_from_slice(values);
        }
        rest = tail;
    }
    live
}

fn summary(reports: &[UpdateReport]) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::<String, Vec<f64>>::new();
    for report in reports {
        let own =
            [("loss", report.loss.value), ("grad_norm", report.grad_norm), ("learning_rate", report.learning_rate)];
        for (name, value) in own.into_iter().chain(report.loss.metrics.iter().map(|(name, value)| (*name, *value))) {
            figures.entry(format!("update/{name}")).or_default().push(value);
        }
    }
    let reduce = |(name, values): (String, Vec<f64>)| {
        let value = if name.ends_with("_max") {
            values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
        } else {
            values.iter().sum::<f64>() / values.len() as f64
        };
        (name, value)
    };
    figures.into_iter().map(reduce).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use imagent_core::testing::{FakePolicy, fake_sample};
    use imagent_core::{Group, Score, ScoredTrajectory, rollout};

    /// A batch of `sizes.len()` groups, group `i` with `sizes[i]` rows.
    fn batch(sizes: &[usize]) -> TrainBatch {
        let mut policy = FakePolicy::new(|rollout, _| format!("<answer>{rollout}</answer>"));
        let groups = sizes.iter().enumerate().map(|(i, &size)| {
            let sample = fake_sample(&format!("s{i}"), 1, "?", "0");
            let request = TrainSettings { group_size: size, ..TrainSettings::default() }.request(0);
            let trajectories = rollout(&mut policy, &(), &[std::sync::Arc::clone(&sample)], &request).unwrap();
            let scored = trajectories.into_iter().flatten().enumerate();
            let members =
                scored.map(|(at, trajectory)| ScoredTrajectory { trajectory, score: Score::new(at as f32, []) });
            Group { sample, members: members.collect(), skipped: 0 }
        });
        TrainBatch::new(groups.collect(), &crate::Grpo::default(), &())
    }

    fn split(sizes: &[usize], kept: &[bool], minibatches: usize, epochs: usize, step: usize) -> Vec<Vec<usize>> {
        let settings = TrainSettings { minibatches, epochs, seed: 1, ..TrainSettings::default() };
        super::minibatches(&batch(sizes), kept, &settings, step)
    }

    #[test]
    fn each_pass_takes_every_kept_row_once_in_whole_groups() {
        let sizes = [3, 2, 4, 1, 3, 2, 3];
        let kept = [true, true, false, true, true, true, true];
        let of = batch(&sizes);
        let parts = split(&sizes, &kept, 3, 2, 0);
        assert_eq!(parts.len(), 6);
        for pass in parts.chunks(3) {
            let mut rows = pass.concat();
            rows.sort_unstable();
            assert_eq!(rows, (0..18).filter(|&row| kept[of.rows[row].group]).collect::<Vec<_>>());
            for part in pass {
                assert!(part.is_sorted());
                let mut groups: Vec<usize> = part.iter().map(|&row| of.rows[row].group).collect();
                groups.dedup();
                assert_eq!(groups.len(), 2);
                assert_eq!(part.len(), groups.iter().map(|&group| sizes[group]).sum::<usize>());
            }
        }
        assert_ne!(parts[..3], parts[3..], "passes differ in order");
        assert_ne!(parts, split(&sizes, &kept, 3, 2, 1), "steps differ in order");
        assert_eq!(parts, split(&sizes, &kept, 3, 2, 0));
    }

    #[test]
    fn fewer_groups_than_parts_are_dealt_out_by_rows() {
        let parts = split(&[4, 4], &[true, false], 2, 1, 0);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
        let mut rows = parts.concat();
        rows.sort_unstable();
        assert_eq!(rows, [0, 1, 2, 3]);
        assert_eq!(split(&[1], &[true], 3, 1, 0), [vec![0]]);
        assert_eq!(split(&[2], &[false], 3, 1, 0), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn spread_and_gather_leave_out_rows_without_weight() {
        let mut rows = batch(&[3]).rows;
        rows[1].loss_mask.fill(0.0);
        let lengths: Vec<usize> = rows.iter().map(|row| row.positions.len()).collect();
        let live: Vec<f32> = (1..=lengths[0] + lengths[2]).map(|i| i as f32).collect();
        let all = spread(&rows, &live);
        assert_eq!(all.len(), lengths.iter().sum::<usize>());
        assert!(all[lengths[0]..lengths[0] + lengths[1]].iter().all(|&value| value == 0.0));
        assert_eq!(gather(&rows, &all), live);
    }
}
