//! The policy: a table of logits, a row for each thing that can be seen and a column for each action.

use std::sync::Arc;

use imagent::prelude::*;

use crate::vocabulary::{ACTIONS, Words};

/// Degrees of brightness that the policy can tell apart.
const SEEN: usize = 8;

/// A softmax over [`ACTIONS`] for each brightness of the image seen last. Trained by plain gradient descent.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    logits: [[f64; ACTIONS]; SEEN],
    /// Step size of the descent.
    pub learning_rate: f64,
}

impl Default for Table {
    fn default() -> Self {
        Self { logits: [[0.0; ACTIONS]; SEEN], learning_rate: 10.0 }
    }
}

/// How bright an image is: the mean of its red, in eighths.
fn brightness(pixels: &RgbImage) -> usize {
    let sum: usize = pixels.pixels().map(|pixel| usize::from(pixel.0[0])).sum();
    sum / pixels.pixels().len().max(1) * SEEN / 256
}

/// What the policy saw last before position `at`.
fn seen(trajectory: &Trajectory, at: usize) -> usize {
    let before = trajectory.spans.iter().rev().find(|span| span.start < at);
    before.and_then(|span| trajectory.shelf.get(span.image)).map_or(0, |image| brightness(&image.pixels))
}

impl Table {
    /// The distribution over actions at a temperature; the likeliest alone at 0.
    fn probabilities(&self, seen: usize, temperature: f64) -> [f64; ACTIONS] {
        let logits = self.logits[seen];
        let best = logits.iter().copied().fold(f64::MIN, f64::max);
        let weights = match temperature > 0.0 {
            true => logits.map(|logit| ((logit - best) / temperature).exp()),
            false => logits.map(|logit| if logit == best { 1.0 } else { 0.0 }),
        };
        let sum: f64 = weights.iter().sum();
        weights.map(|weight| weight / sum)
    }

    /// Plays one rollout; each turn is one action.
    fn play(
        &self,
        prompt: &PolicyPrompt,
        temperature: f64,
        on_turn: &dyn Fn(SampledTurn) -> Result<Next, PolicyError>,
    ) -> Result<(), PolicyError> {
        let mut seen = prompt.prompt.images.last().map_or(0, |image| brightness(&image.pixels));
        for turn in 0.. {
            let probabilities = self.probabilities(seen, temperature);
            let mut rest = prompt.key.uniform(turn);
            let drawn = probabilities.iter().position(|p| {
                rest -= p;
                rest < 0.0
            });
            // Rounding may leave a rest; the likeliest takes it.
            let likeliest = || (0..ACTIONS).max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b])).unwrap_or(0);
            let action = drawn.unwrap_or_else(likeliest);
            let logprobs = vec![probabilities[action].ln() as f32];
            // An action ends its turn by itself, without an end token.
            let sampled = SampledTurn { ids: vec![action as u32], logprobs, stop: StopReason::Stopped };
            match on_turn(sampled)? {
                Next::End => break,
                Next::Observe(segment) => {
                    seen = segment.images.last().map_or(seen, |image| brightness(&image.pixels));
                }
            }
        }
        Ok(())
    }
}

impl Policy for Table {
    fn encoder(&self) -> Arc<dyn Encoder> {
        Arc::new(Words)
    }

    fn rollout(
        &mut self,
        prompts: &[PolicyPrompt],
        sampling: &Sampling,
        on_turn: &OnTurn<'_>,
    ) -> Result<(), PolicyError> {
        let play = |(i, prompt)| self.play(prompt, f64::from(sampling.temperature), &|turn| on_turn(i, turn));
        prompts.iter().enumerate().try_for_each(play)
    }

    fn score(&self, rows: &[ScoreRow<'_>], temperature: f32, weights: Weights) -> Result<TokenScores, PolicyError> {
        // The reference is the table that training started from: all actions alike.
        let fresh = Self::default();
        let table = if weights == Weights::Reference { &fresh } else { self };
        let mut scores = TokenScores::default();
        for (row, at) in rows.iter().flat_map(|row| row.positions.iter().map(move |&at| (row, at))) {
            let probabilities = table.probabilities(seen(row.trajectory, at), f64::from(temperature));
            scores.logprobs.push(probabilities[row.trajectory.ids[at] as usize].ln() as f32);
            scores.entropies.push(entropy(&probabilities) as f32);
        }
        Ok(scores)
    }

    fn update(
        &mut self,
        rows: &[ScoreRow<'_>],
        temperature: f32,
        loss: &mut dyn FnMut(&TokenScores) -> TokenLoss,
    ) -> Result<UpdateReport, PolicyError> {
        let loss = loss(&self.score(rows, temperature, Weights::Current)?);
        let mut gradient = [[0.0; ACTIONS]; SEEN];
        let tokens = rows.iter().flat_map(|row| row.positions.iter().map(move |&at| (row, at)));
        for ((row, at), (by_logprob, by_entropy)) in tokens.zip(loss.d_logprobs.iter().zip(&loss.d_entropies)) {
            let seen = seen(row.trajectory, at);
            let probabilities = self.probabilities(seen, f64::from(temperature));
            let entropy = entropy(&probabilities);
            for (action, p) in probabilities.into_iter().enumerate() {
                let taken = f64::from(u8::from(row.trajectory.ids[at] as usize == action));
                // d log π(a) / d logit and d H / d logit of a softmax, by the chain rule.
                let slope = f64::from(*by_logprob) * (taken - p) - f64::from(*by_entropy) * p * (p.ln() + entropy);
                gradient[seen][action] += slope / f64::from(temperature);
            }
        }
        let grad_norm = gradient.as_flattened().iter().map(|slope| slope * slope).sum::<f64>().sqrt();
        if !grad_norm.is_finite() {
            return Err(PolicyError::NotFinite { what: "gradient" });
        }
        for (logit, slope) in self.logits.as_flattened_mut().iter_mut().zip(gradient.as_flattened()) {
            *logit -= self.learning_rate * slope;
        }
        Ok(UpdateReport { loss, grad_norm, learning_rate: self.learning_rate })
    }
}

fn entropy(probabilities: &[f64; ACTIONS]) -> f64 {
    probabilities.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
}
