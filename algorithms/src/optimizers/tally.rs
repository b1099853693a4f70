//! The metrics of a loss: means over tokens by loss weight, whatever the aggregation of the loss.

use std::collections::BTreeMap;

/// Weighted sums of figures, gathered token by token.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    tokens: f64,
    sums: BTreeMap<&'static str, f64>,
    maxima: BTreeMap<&'static str, f64>,
}

impl Tally {
    /// Starts the next token.
    pub(crate) fn token(&mut self, weight: f32) {
        self.tokens += f64::from(weight);
    }

    /// A figure of a token, to be averaged.
    pub(crate) fn mean(&mut self, name: &'static str, weight: f32, value: impl Into<f64>) {
        *self.sums.entry(name).or_default() += f64::from(weight) * value.into();
    }

    /// A figure of a token of which the largest is kept.
    pub(crate) fn max(&mut self, name: &'static str, value: f64) {
        self.maxima.entry(name).and_modify(|largest| *largest = largest.max(value)).or_insert(value);
    }

    /// Means, maxima and `loss_tokens`.
    pub(crate) fn finish(self) -> BTreeMap<&'static str, f64> {
        let means = self.sums.into_iter().map(|(name, sum)| (name, sum / self.tokens));
        means.chain(self.maxima).chain([("loss_tokens", self.tokens)]).collect()
    }
}
