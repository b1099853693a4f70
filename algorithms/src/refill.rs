//! Further samples for a step whose groups were dropped: a function of seed, step and what came before in the step, so that
//! a resumed run needs no state of it.

use imagent_core::{Group, seed};
use rand::seq::SliceRandom;

use crate::sampler::{Draw, SampleCursor};
use crate::settings::TrainSettings;

/// The further draws of one step.
///
/// They come from an order of the dataset that is the step's own, without the samples that the step has by the cursor: no sample
/// occurs twice in a step, and the cursor of later steps does not depend on how many were drawn here.
#[derive(Debug)]
pub(crate) struct Refill {
    step: usize,
    draws: usize,
    wanted: usize,
    left: usize,
    pool: Vec<usize>,
    /// Rounds drawn so far.
    rounds: usize,
    /// Samples drawn so far.
    prompts: usize,
}

impl Refill {
    pub(crate) fn new(cursor: &SampleCursor, step: usize, settings: &TrainSettings) -> Self {
        let left = if settings.drop_flat_groups { settings.refill_rounds } else { 0 };
        let mut pool = Vec::new();
        if left > 0 {
            let mut taken = vec![false; cursor.samples];
            cursor.positions(step).into_iter().for_each(|position| taken[position] = true);
            pool = (0..cursor.samples).filter(|&position| !taken[position]).collect();
            pool.shuffle(&mut seed::rng(cursor.seed, &[seed::text("refill"), step as u64]));
        }
        let (draws, wanted) = (cursor.draws(step).len(), cursor.per_step);
        Self { step, draws, wanted, left, pool, rounds: 0, prompts: 0 }
    }

    /// What was drawn; nothing where nothing could be.
    pub(crate) fn metrics(&self) -> Vec<(String, f64)> {
        let figures = [("refill/prompts", self.prompts), ("refill/rounds", self.rounds)];
        figures.into_iter().filter(|_| self.left > 0).map(|(name, count)| (name.to_owned(), count as f64)).collect()
    }

    /// As many samples as groups are missing, if there are any left to draw.
    pub(crate) fn next(&mut self, groups: &[Group]) -> Option<Draw> {
        let kept = groups.iter().filter(|group| !group.is_flat()).count();
        let count = self.wanted.saturating_sub(kept).min(self.pool.len() - self.prompts);
        if self.rounds == self.left || count == 0 {
            return None;
        }
        let positions = self.pool[self.prompts..self.prompts + count].to_vec();
        let round = self.step as u64 + (((self.draws + self.rounds) as u64) << 32);
        self.rounds += 1;
        self.prompts += count;
        Some(Draw { round, positions })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use imagent_core::testing::fake_sample;

    fn flat(count: usize) -> Vec<Group> {
        (0..count)
            .map(|i| Group { sample: fake_sample(&i.to_string(), 0, "", ""), members: vec![], skipped: 1 })
            .collect()
    }

    fn settings(refill_rounds: usize) -> TrainSettings {
        TrainSettings { drop_flat_groups: true, refill_rounds, ..TrainSettings::default() }
    }

    #[test]
    fn samples_of_a_step_are_distinct_and_rounds_are_bounded() {
        let cursor = SampleCursor { samples: 10, per_step: 4, seed: 3 };
        for step in 0..20 {
            let mut refill = Refill::new(&cursor, step, &settings(9));
            let mut rounds: Vec<u64> = cursor.draws(step).iter().map(|draw| draw.round).collect();
            let mut met = cursor.positions(step);
            met.sort_unstable();
            met.dedup();
            let own = met.len();
            while let Some(draw) = refill.next(&flat(met.len())) {
                met.extend(draw.positions);
                rounds.push(draw.round);
            }
            assert_eq!((refill.prompts, met.len()), (10 - own, 10), "the dataset is drawn to its end");
            met.sort_unstable();
            met.dedup();
            assert_eq!(met.len(), 10);
            let all = rounds.len();
            rounds.sort_unstable();
            rounds.dedup();
            assert_eq!(rounds.len(), all, "a round is used once");
        }
        let mut one = Refill::new(&cursor, 0, &settings(1));
        assert!(one.next(&flat(4)).is_some() && one.next(&flat(8)).is_none());
        assert!(Refill::new(&cursor, 0, &settings(0)).next(&flat(4)).is_none());
    }

    #[test]
    fn the_order_is_the_step_s_own() {
        let cursor = SampleCursor { samples: 100, per_step: 4, seed: 3 };
        let first = |cursor, step| Refill::new(cursor, step, &settings(1)).next(&flat(4)).unwrap();
        assert_eq!(first(&cursor, 5), first(&cursor, 5));
        assert_ne!(first(&cursor, 5).positions, first(&cursor, 6).positions);
        assert_ne!(first(&cursor, 5).positions, first(&SampleCursor { seed: 4, ..cursor }, 5).positions);
    }
}
