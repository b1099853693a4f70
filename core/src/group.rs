//! From trajectories to a training batch, in types that carry the order: scored before grouped, grouped before
//! masked. A [`TrainBatch`] can only be made from [`Group`]s, a group only from scored trajectories.

use std::sync::Arc;

use crate::mask::MaskSet;
use crate::optimizer::{Advantages, Outcomes, PolicyOptimizer, TokenBatch, TokenScores};
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
    /// Whether it counts in means and deviations.
    pub in_baseline: bool,
    /// Its advantage, times the weight of its score.
    pub advantage: f32,
    /// Advantage of each trained token, where they differ.
    pub token_advantages: Option<Vec<f32>>,
    /// Factor on each trained token's policy loss, where sampling and scoring disagree and that is corrected.
    pub correction: Option<Vec<f32>>,
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

    fn tokens_differ(&self) -> bool {
        self.token_advantages.is_some() || self.correction.is_some()
    }

    /// The advantage of the trained token `at`, corrected.
    fn token_advantage(&self, at: usize) -> f32 {
        let advantage = self.token_advantages.as_ref().map_or(self.advantage, |all| all[at]);
        self.correction.as_ref().map_or(advantage, |factors| advantage * factors[at])
    }
}

/// Trajectories with advantages and masks: all that an update needs.
#[derive(Clone, Debug, Default)]
pub struct TrainBatch {
    /// The rows, groups together.
    pub rows: Vec<TrainRow>,
}

impl TrainBatch {
    /// Advantages and masks for every trajectory of every group; what advantages owe to log-probabilities that are not
    /// known yet comes with [`Self::settle`].
    pub fn new<O, M>(groups: Vec<Group>, optimizer: &O, masks: &M) -> Self
    where
        O: PolicyOptimizer + ?Sized,
        M: MaskSet + ?Sized,
    {
        let rows = groups.into_iter().enumerate().flat_map(|(index, group)| {
            let in_baseline: Vec<bool> =
                group.members.iter().map(|member| masks.all_in_baseline(&member.trajectory)).collect();
            let advantages = optimizer.advantages(&group.members, &in_baseline);
            let marked = group.members.into_iter().zip(in_baseline).zip(advantages);
            marked.map(move |((scored, in_baseline), advantage)| (index, scored, in_baseline, advantage))
        });
        let rows = rows.map(|(group, scored, in_baseline, advantage)| TrainRow {
            in_baseline,
            advantage: advantage * scored.score.weight,
            ..row(group, scored, masks)
        });
        let mut batch = Self { rows: rows.collect() };
        batch.settle(optimizer, |_| true);
        batch
    }

    /// Asks the optimiser for the advantages of the step as a whole, by all that is known of the rows by now. Rows of
    /// groups that are not `counted` are left as they are and take no part.
    pub fn settle<O: PolicyOptimizer + ?Sized>(&mut self, optimizer: &O, counted: impl Fn(usize) -> bool) {
        let mut rows: Vec<&mut TrainRow> = self.rows.iter_mut().filter(|row| counted(row.group)).collect();
        let Some(Advantages { rows: advantages, tokens }) = optimizer.batch_advantages(&outcomes(&rows)) else {
            return;
        };
        let mut tokens = tokens.map(Vec::into_iter);
        for (row, advantage) in rows.iter_mut().zip(advantages) {
            let weight = row.scored.score.weight;
            row.advantage = advantage * weight;
            let own = |all: &mut std::vec::IntoIter<f32>| all.take(row.positions.len()).map(|a| a * weight).collect();
            row.token_advantages = tokens.as_mut().map(own);
        }
    }

    /// The numbers that an optimiser sees, for `rows` scored as `scores`. A row without behaviour log-probabilities is
    /// taken to be on policy.
    pub fn tokens(rows: &[TrainRow], scores: &TokenScores) -> TokenBatch {
        let mut batch = TokenBatch {
            offsets: vec![0],
            logprobs: scores.logprobs.clone(),
            entropies: scores.entropies.clone(),
            ref_logprobs: rows.iter().all(|row| row.ref_logprobs.is_some()).then(Vec::new),
            token_advantages: rows.iter().any(TrainRow::tokens_differ).then(Vec::new),
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
            if let Some(all) = &mut batch.token_advantages {
                all.extend((0..row.positions.len()).map(|at| row.token_advantage(at)));
            }
            batch.advantages.push(row.advantage);
            batch.groups.push(row.group);
            batch.offsets.push(batch.old_logprobs.len());
        }
        batch
    }
}

/// A row with its masks; it has no advantage yet.
fn row<M: MaskSet + ?Sized>(group: usize, scored: ScoredTrajectory, masks: &M) -> TrainRow {
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
    TrainRow {
        group,
        in_baseline: true,
        advantage: 0.0,
        token_advantages: None,
        correction: None,
        positions,
        loss_mask,
        old_logprobs,
        ref_logprobs: None,
        scored,
    }
}

/// Rows as the numbers that advantages are made of.
fn outcomes(rows: &[&mut TrainRow]) -> Outcomes {
    let joined = |of: fn(&TrainRow) -> Option<&Vec<f32>>| -> Option<Vec<f32>> {
        let parts: Option<Vec<&[f32]>> = rows.iter().map(|row| of(row).map(Vec::as_slice)).collect();
        parts.map(|parts| parts.concat())
    };
    let mut offsets = vec![0];
    offsets.extend(rows.iter().scan(0, |end, row| {
        *end += row.positions.len();
        Some(*end)
    }));
    Outcomes {
        offsets,
        groups: rows.iter().map(|row| row.group).collect(),
        in_baseline: rows.iter().map(|row| row.in_baseline).collect(),
        rewards: rows.iter().map(|row| row.scored.score.value).collect(),
        token_rewards: None,
        loss_mask: rows.iter().flat_map(|row| row.loss_mask.iter().copied()).collect(),
        old_logprobs: joined(|row| row.old_logprobs.as_ref()),
        ref_logprobs: joined(|row| row.ref_logprobs.as_ref()),
    }
}
