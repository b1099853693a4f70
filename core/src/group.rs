//! From trajectories to a training batch, in types that carry the order: scored before grouped, grouped before
//! masked. A [`TrainBatch`] can only be made from [`Group`]s, a group only from scored trajectories.

use std::sync::Arc;

use crate::mask::MaskSet;
use crate::optimizer::{PolicyOptimizer, TokenBatch, TokenScores};
use crate::policy::ScoreRow;
use crate::reward::{Reward, Score, score_group};
use crate::sample::Sample;
use crate::trajectory::{Origin, Trajectory};

/// A trajectory with its reward.
#[derive(Clone, Debug)]
pub struct ScoredTrajectory {
    /// The record.
    pub trajectory: Trajectory,
    /// What it is worth.
    pub score: Score,
}

impl ScoredTrajectory {
    /// Grades a trajectory by itself.
    pub fn grade<R: Reward + ?Sized>(trajectory: Trajectory, reward: &R) -> Self {
        let score = reward.score(&trajectory.sample, &trajectory);
        Self { trajectory, score }
    }
}

/// The trajectories of one prompt.
#[derive(Clone, Debug)]
pub struct Group {
    /// What was asked.
    pub sample: Arc<Sample>,
    /// The trajectories that could be graded.
    pub members: Vec<ScoredTrajectory>,
    /// How many could not.
    pub skipped: usize,
}

impl Group {
    /// Grades the trajectories of one prompt together; those that cannot be graded are counted and left out.
    pub fn grade<R: Reward + ?Sized>(sample: Arc<Sample>, trajectories: Vec<Trajectory>, reward: &R) -> Self {
        let all = trajectories.len();
        let scores = score_group(reward, &sample, &trajectories);
        let members: Vec<_> = (trajectories.into_iter().zip(scores))
            .map(|(trajectory, score)| ScoredTrajectory { trajectory, score })
            .filter(|scored| scored.score.skip.is_none())
            .collect();
        Self { sample, skipped: all - members.len(), members }
    }

    /// Whether all rewards are equal, so that the group teaches nothing.
    pub fn is_flat(&self) -> bool {
        self.members.windows(2).all(|pair| pair[0].score.value == pair[1].score.value)
    }
}

/// One row of a training batch.
///
/// Trained positions are all sampled tokens and, where the masks give them weight, tokens of observations (never the
/// prompt's, never an image's).
#[derive(Clone, Debug)]
pub struct TrainRow {
    /// The trajectory with its reward.
    pub scored: ScoredTrajectory,
    /// Which group it belongs to.
    pub group: usize,
    /// Its advantage.
    pub advantage: f32,
    /// Positions of the trained tokens.
    pub positions: Vec<usize>,
    /// Loss weight of each.
    pub loss_mask: Vec<f32>,
    /// Log-probability of each under the policy that sampled; `None` until scored, when some were not sampled.
    pub old_logprobs: Option<Vec<f32>>,
    /// Log-probability of each under the reference policy, where one is used.
    pub ref_logprobs: Option<Vec<f32>>,
}

impl TrainRow {
    /// The tokens to score.
    pub fn score_row(&self) -> ScoreRow<'_> {
        ScoreRow { trajectory: &self.scored.trajectory, positions: &self.positions }
    }
}

/// Trajectories with advantages and masks: all that an update needs.
#[derive(Clone, Debug, Default)]
pub struct TrainBatch {
    /// The rows, groups together.
    pub rows: Vec<TrainRow>,
}

impl TrainBatch {
    /// Advantages and masks for every trajectory of every group.
    pub fn new<O, M>(groups: Vec<Group>, optimizer: &O, masks: &M) -> Self
    where
        O: PolicyOptimizer + ?Sized,
        M: MaskSet + ?Sized,
    {
        let rows = groups.into_iter().enumerate().flat_map(|(index, group)| {
            let in_baseline: Vec<bool> =
                group.members.iter().map(|member| masks.all_in_baseline(&member.trajectory)).collect();
            let advantages = optimizer.advantages(&group.members, &in_baseline);
            group.members.into_iter().zip(advantages).map(move |(scored, advantage)| (index, scored, advantage))
        });
        Self { rows: rows.map(|(group, scored, advantage)| row(group, scored, advantage, masks)).collect() }
    }

    /// The numbers that an optimiser sees, for `rows` scored as `scores`. A row without behaviour log-probabilities is
    /// taken to be on policy.
    pub fn tokens(rows: &[TrainRow], scores: &TokenScores) -> TokenBatch {
        let mut batch = TokenBatch {
            offsets: vec![0],
            logprobs: scores.logprobs.clone(),
            entropies: scores.entropies.clone(),
            ref_logprobs: rows.iter().all(|row| row.ref_logprobs.is_some()).then(Vec::new),
            ..TokenBatch::default()
        };
        for row in rows {
            let start = batch.old_logprobs.len();
            match &row.old_logprobs {
                Some(values) => batch.old_logprobs.extend_from_slice(values),
                None => batch.old_logprobs.extend_from_slice(&scores.logprobs[start..start + row.positions.len()]),
            }
            batch.loss_mask.extend_from_slice(&row.loss_mask);
            if let (Some(all), Some(values)) = (&mut batch.ref_logprobs, &row.ref_logprobs) {
                all.extend_from_slice(values);
            }
            batch.advantages.push(row.advantage);
            batch.groups.push(row.group);
            batch.offsets.push(batch.old_logprobs.len());
        }
        batch
    }
}

fn row<M: MaskSet + ?Sized>(group: usize, scored: ScoredTrajectory, advantage: f32, masks: &M) -> TrainRow {
    let trajectory = &scored.trajectory;
    let mut weights = vec![1.0; trajectory.ids.len()];
    masks.apply_all(trajectory, &mut weights);
    trajectory.spans.iter().for_each(|span| weights[span.range()].fill(0.0));
    let trained = |&i: &usize| match trajectory.origins[i] {
        Origin::Sampled => true,
        Origin::Observation => weights[i] != 0.0,
        Origin::Prompt => false,
    };
    let positions: Vec<usize> = (0..weights.len()).filter(trained).collect();
    let loss_mask = positions.iter().map(|&i| weights[i]).collect();
    let all_sampled = positions.iter().all(|&i| trajectory.origins[i] == Origin::Sampled);
    let old_logprobs = all_sampled.then(|| positions.iter().map(|&i| trajectory.logprobs[i]).collect());
    TrainRow { group, advantage, positions, loss_mask, old_logprobs, ref_logprobs: None, scored }
}
