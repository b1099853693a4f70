//! The data cursor: which samples a step uses, as a function of the seed and the step alone, so that a resumed run
//! needs no cursor state.

use imagent_core::seed;
use rand::seq::SliceRandom;

/// Walks through a dataset epoch by epoch, each epoch in an order of its own; no sample is met twice within one.
///
/// ```
/// use imagent_algorithms::SampleCursor;
/// let cursor = SampleCursor { samples: 10, per_step: 4, seed: 7 };
/// let mut epoch: Vec<usize> = (0..5).flat_map(|step| cursor.positions(step)).take(10).collect();
/// epoch.sort();
/// assert_eq!(epoch, (0..10).collect::<Vec<_>>());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleCursor {
    /// Samples in the dataset; at least 1.
    pub samples: usize,
    /// Samples a step uses.
    pub per_step: usize,
    /// The run's seed.
    pub seed: u64,
}

/// Samples of one step that are rolled out in one call: none of them occurs twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draw {
    /// What distinguishes their randomness from that of other draws of the run.
    pub round: u64,
    /// Their positions in the dataset.
    pub positions: Vec<usize>,
}

impl SampleCursor {
    /// The draws of step `step`: one, or one for each epoch that the step reaches into.
    ///
    /// A step at the border of two epochs may meet a sample twice. Rollouts are named by round, sample and index, so
    /// in one round both would be sampled alike, token by token. The `k`-th draw of a step has round `step + k · 2³²`.
    pub fn draws(&self, step: usize) -> Vec<Draw> {
        let (start, end) = (step * self.per_step, (step + 1) * self.per_step);
        let mut draws = Vec::new();
        let mut at = start;
        while at < end && self.samples > 0 {
            let (epoch, offset) = (at / self.samples, at % self.samples);
            let taken = (end - at).min(self.samples - offset);
            let positions = self.permutation(epoch)[offset..offset + taken].to_vec();
            draws.push(Draw { round: step as u64 + ((draws.len() as u64) << 32), positions });
            at += taken;
        }
        draws
    }

    /// The positions that step `step` uses, in order.
    pub fn positions(&self, step: usize) -> Vec<usize> {
        self.draws(step).into_iter().flat_map(|draw| draw.positions).collect()
    }

    fn permutation(&self, epoch: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.samples).collect();
        order.shuffle(&mut seed::rng(self.seed, &[seed::text("epoch"), epoch as u64]));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_epoch_meets_every_sample_once(samples in 1usize..40, per_step in 1usize..50, seed: u64) {
            let cursor = SampleCursor { samples, per_step, seed };
            let steps = (3 * samples).div_ceil(per_step);
            let met: Vec<usize> = (0..steps).flat_map(|step| cursor.positions(step)).collect();
            prop_assert_eq!(met.len(), steps * per_step);
            for epoch in met.chunks_exact(samples) {
                let mut sorted = epoch.to_vec();
                sorted.sort_unstable();
                prop_assert_eq!(sorted, (0..samples).collect::<Vec<_>>());
            }
        }

        #[test]
        fn a_draw_repeats_no_sample_and_no_round(samples in 1usize..20, per_step in 1usize..50, step in 0usize..100) {
            let draws = SampleCursor { samples, per_step, seed: 3 }.draws(step);
            let rounds: std::collections::BTreeSet<u64> = draws.iter().map(|draw| draw.round).collect();
            prop_assert_eq!(rounds.len(), draws.len());
            prop_assert_eq!(draws[0].round, step as u64);
            for draw in draws {
                let unique: std::collections::BTreeSet<usize> = draw.positions.iter().copied().collect();
                prop_assert_eq!(unique.len(), draw.positions.len());
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ_in_order() {
        let cursor = SampleCursor { samples: 50, per_step: 50, seed: 1 };
        assert_ne!(cursor.positions(0), cursor.positions(1));
        assert_ne!(cursor.positions(0), SampleCursor { seed: 2, ..cursor }.positions(0));
        assert_eq!(cursor.positions(0), SampleCursor { samples: 50, per_step: 50, seed: 1 }.positions(0));
    }
}
