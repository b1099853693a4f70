//! What sums and products of rewards share: grading by every reward, and one score out of several.

use imagent_core::{Reward, Sample, Score, Trajectory, score_group};
use serde::de::{Deserialize, Deserializer, Error};

/// The part that holds the value of each term or factor, in order.
const NAMES: [&str; 16] = [
    "term_1", "term_2", "term_3", "term_4", "term_5", "term_6", "term_7", "term_8", "term_9", "term_10", "term_11",
    "term_12", "term_13", "term_14", "term_15", "term_16",
];

/// A list of 1 to 16.
pub(crate) fn few<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::<T>::deserialize(deserializer)?;
    let (count, most) = (list.len(), NAMES.len());
    let wrong = || D::Error::custom(format_args!("must have from 1 to {most} entries, got {count}"));
    (1..=most).contains(&count).then_some(list).ok_or_else(wrong)
}

/// One score of the scores that several rewards gave of a trajectory; their weights are multiplied. It is a skip where one of them
/// is, for the reason of the first.
pub(crate) fn merged(scores: &[Score], value: impl Fn(&[f64]) -> f64) -> Score {
    if let Some(reason) = scores.iter().find_map(|score| score.skip.as_ref()) {
        return Score::skip(reason.clone());
    }
    let values: Vec<f64> = scores.iter().map(|score| f64::from(score.value)).collect();
    let mut merged = Score::new(value(&values) as f32, []);
    merged.weight = scores.iter().map(|score| score.weight).product();
    for (name, score) in NAMES.into_iter().zip(scores) {
        merged.parts.insert(name, score.value);
        let own = score.parts.iter().filter(|(name, _)| !NAMES.contains(name));
        own.for_each(|(name, value)| _ = merged.parts.entry(name).or_insert(*value));
    }
    merged
}

/// The scores of a group by each of several rewards, merged trajectory by trajectory.
pub(crate) fn group<'a>(
    rewards: impl Iterator<Item = &'a dyn Reward>,
    sample: &Sample,
    group: &[Trajectory],
    value: impl Fn(&[f64]) -> f64,
) -> Vec<Score> {
    let mut by_reward: Vec<_> = rewards.map(|reward| score_group(reward, sample, group).into_iter()).collect();
    let merge = |_| merged(&by_reward.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>(), &value);
    (0..group.len()).map(merge).collect()
}
