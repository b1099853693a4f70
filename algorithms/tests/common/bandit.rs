//! A policy that learns: a softmax over a few texts, one parameter each.

use std::sync::Arc;

use imagent_core::testing::FakeEncoder;
use imagent_core::{
    Encoder, OnTurn, Policy, PolicyError, PolicyPrompt, SampledTurn, Sampling, ScoreRow, StopReason, TokenLoss,
    TokenScores, UpdateReport, Weights,
};
use rand::Rng;

/// Draws one of `texts`, and answers with it. The first token of a text says which it is and has its log-probability; the
/// others follow from it and have 0. An update is a step of gradient descent.
#[derive(Clone, Debug)]
pub(crate) struct Bandit {
    texts: Vec<String>,
    logits: Vec<f64>,
    rate: f64,
    largest: f64,
    /// What sampling gets wrong: added to the log-probability of each first token that it reports.
    pub(crate) bias: f32,
}

impl Bandit {
    /// Texts that differ in their first letter.
    pub(crate) fn new(texts: &[&str], rate: f64) -> Self {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Self { logits: vec![0.0; texts.len()], texts, rate, largest: 0.0, bias: 0.0 }
    }

    /// The probability of each text.
    pub(crate) fn probabilities(&self) -> Vec<f64> {
        let total: f64 = self.logits.iter().map(|logit| logit.exp()).sum();
        self.logits.iter().map(|logit| logit.exp() / total).collect()
    }

    /// Which text a row's trajectory is, and where among its positions the first token stands.
    fn choice(&self, row: &ScoreRow<'_>) -> Option<(usize, usize)> {
        let first = row.trajectory.turns[0].tokens.start;
        let at = row.positions.iter().position(|&position| position == first)?;
        let letter = row.trajectory.ids[first];
        self.texts.iter().position(|text| u32::from(text.as_bytes()[0]) == letter).map(|text| (text, at))
    }
}

impl Policy for Bandit {
    fn encoder(&self) -> Arc<dyn Encoder> {
        Arc::new(FakeEncoder)
    }

    fn rollout(&mut self, prompts: &[PolicyPrompt], _: &Sampling, on_turn: &OnTurn<'_>) -> Result<(), PolicyError> {
        let probabilities = self.probabilities();
        for (i, prompt) in prompts.iter().enumerate() {
            let mut left: f64 = prompt.key.rng(0).random();
            let drawn = probabilities.iter().position(|p| {
                left -= p;
                left < 0.0
            });
            let text = drawn.unwrap_or(probabilities.len() - 1);
            let ids = FakeEncoder.scripted_turn(&self.texts[text])?;
            let mut logprobs = vec![0.0; ids.len()];
            logprobs[0] = probabilities[text].ln() as f32 + self.bias;
            on_turn(i, SampledTurn { ids, logprobs, stop: StopReason::EndOfTurn })?;
        }
        Ok(())
    }

    fn score(&self, rows: &[ScoreRow<'_>], _: f32, weights: Weights) -> Result<TokenScores, PolicyError> {
        let fresh = Self { logits: vec![0.0; self.logits.len()], ..self.clone() };
        let probabilities = if weights == Weights::Reference { fresh } else { self.clone() }.probabilities();
        let mut scores = TokenScores::default();
        for row in rows {
            let start = scores.logprobs.len();
            scores.logprobs.resize(start + row.positions.len(), 0.0);
            if let Some((text, at)) = self.choice(row) {
                scores.logprobs[start + at] = probabilities[text].ln() as f32;
            }
        }
        scores.entropies = vec![0.0; scores.logprobs.len()];
        Ok(scores)
    }

    fn update(
        &mut self,
        rows: &[ScoreRow<'_>],
        temperature: f32,
        loss: &mut dyn FnMut(&TokenScores) -> TokenLoss,
    ) -> Result<UpdateReport, PolicyError> {
        let loss = loss(&self.score(rows, temperature, Weights::Current)?);
        let probabilities = self.probabilities();
        let mut gradient = vec![0.0; self.logits.len()];
        let mut start = 0;
        for row in rows {
            if let Some((text, at)) = self.choice(row) {
                let slope = f64::from(loss.d_logprobs[start + at]);
                for (other, value) in gradient.iter_mut().enumerate() {
                    *value += slope * (f64::from(u8::from(other == text)) - probabilities[other]);
                }
            }
            start += row.positions.len();
        }
        let norm = gradient.iter().map(|value| value * value).sum::<f64>().sqrt();
        // As an adaptive optimiser does: the scale of the loss does not count.
        self.largest = self.largest.max(norm);
        let scale = self.rate / self.largest.max(1e-12);
        self.logits.iter_mut().zip(&gradient).for_each(|(logit, value)| *logit -= scale * value);
        Ok(UpdateReport { loss, grad_norm: norm, learning_rate: self.rate })
    }
}
