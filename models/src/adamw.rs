//! AdamW with gradient clipping and a learning-rate schedule, fused over each parameter.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{ModelError, Result};

/// How the learning rate goes after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Stays.
    #[default]
    Constant,
    /// Falls in a straight line to `final_fraction` at `total_steps`.
    Linear,
    /// Falls along half a cosine to `final_fraction` at `total_steps`.
    Cosine,
}

/// A part of the model that has a learning rate of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The tower up to its merger: `visual.*`.
    Vision,
    /// What makes image tokens of the tower's patches: `visual.merger.*`.
    Merger,
    /// The language model: everything else.
    Language,
}

impl Group {
    /// The group of a parameter or module, by its hub name.
    pub fn of(name: &str) -> Self {
        match name {
            _ if name.starts_with("visual.merger.") => Self::Merger,
            _ if name.starts_with("visual.") => Self::Vision,
            _ => Self::Language,
        }
    }
}

/// What the learning rate is multiplied with in each part of the model; an adapter's matrices belong to the part that
/// they adapt. 0 keeps a part as it is, but its gradients are computed and count in the norm: to save them, freeze it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// Of the tower up to its merger. Default 1.
    pub vision: f64,
    /// Of the merger. Default 1.
    pub merger: f64,
    /// Of the language model. Default 1.
    pub language: f64,
}

impl Default for Rates {
    fn default() -> Self {
        Self { vision: 1.0, merger: 1.0, language: 1.0 }
    }
}

impl Rates {
    /// The multiplier of a part.
    pub fn of(&self, group: Group) -> f64 {
        match group {
            Group::Vision => self.vision,
            Group::Merger => self.merger,
            Group::Language => self.language,
        }
    }
}

/// Settings of AdamW (Loshchilov & Hutter, arXiv 1711.05101).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWConfig {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decay rate of the first moment, in `[0, 1)`.
    pub beta1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled decay of matrices.
    pub weight_decay: f64,
    /// Decays norms and biases as well. Default false, as Hugging Face's Trainer has it.
    pub decay_all: bool,
    /// Largest norm of the gradient; 0 does not clip.
    pub clip_norm: f64,
    /// Updates over which the rate rises in a straight line from 0.
    pub warmup_steps: u64,
    /// How it goes after that.
    pub decay: Decay,
    /// Where the decay ends, counted in updates; needed unless `decay` is constant.
    pub total_steps: u64,
    /// What is left of the rate at the end of the decay.
    pub final_fraction: f64,
    /// Learning rates of the model's parts, as multiples of the one above.
    pub rates: Rates,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-6,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            decay_all: false,
            clip_norm: 1.0,
            warmup_steps: 0,
            decay: Decay::Constant,
            total_steps: 0,
            final_fraction: 0.0,
            rates: Rates::default(),
        }
    }
}

impl AdamWConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<()> {
        let fail = |field: &str, expected: &str, got: String| {
            Err(ModelError::Config {
                file: "optimizer settings".into(),
                field: field.into(),
                expected: expected.into(),
                got,
            })
        };
        for (field, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return fail(field, "a number in [0, 1)", value.to_string());
            }
        }
        for (field, value) in [
            ("learning_rate", self.learning_rate),
            ("weight_decay", self.weight_decay),
            ("clip_norm", self.clip_norm),
            ("final_fraction", self.final_fraction),
            ("rates.vision", self.rates.vision),
            ("rates.merger", self.rates.merger),
            ("rates.language", self.rates.language),
        ] {
            if !value.is_finite() || value < 0.0 {
                return fail(field, "a number of at least 0", value.to_string());
            }
        }
        if self.epsilon.is_nan() || self.epsilon <= 0.0 {
            return fail("epsilon", "a number above 0", self.epsilon.to_string());
        }
        if self.decay != Decay::Constant && self.total_steps <= self.warmup_steps {
            return fail("total_steps", "more than warmup_steps", self.total_steps.to_string());
        }
        Ok(())
    }

    /// Learning rate of update `step`, counted from 1.
    pub fn rate(&self, step: u64) -> f64 {
        if step <= self.warmup_steps {
            return self.learning_rate * step as f64 / self.warmup_steps as f64;
        }
        if self.decay == Decay::Constant {
            return self.learning_rate;
        }
        let span = (self.total_steps - self.warmup_steps) as f64;
        let done = ((step - self.warmup_steps) as f64 / span).min(1.0);
        let left = match self.decay {
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Decay::Linear | Decay::Constant => 1.0 - done,
        };
        self.learning_rate * (self.final_fraction + (1.0 - self.final_fraction) * left)
    }
}

/// First and second moments of one parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Running mean of the gradient.
    pub first: Vec<f32>,
    /// Running mean of its square.
    pub second: Vec<f32>,
}

/// What one update does alike to all parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Learning rate, before the parts' multipliers.
    pub rate: f64,
    /// What gradients are multiplied with: less than 1 clips.
    pub factor: f32,
}

/// AdamW's state.
#[derive(Clone, Debug)]
pub struct AdamW {
    /// Settings.
    pub config: AdamWConfig,
    /// Updates done.
    pub step: u64,
    /// Moments of each trained parameter, in order.
    pub moments: Vec<Moments>,
}

impl AdamW {
    /// A fresh state for parameters of these sizes.
    pub fn new(config: AdamWConfig, sizes: impl IntoIterator<Item = usize>) -> Self {
        let moments = sizes.into_iter().map(|n| Moments { first: vec![0.0; n], second: vec![0.0; n] }).collect();
        Self { config, step: 0, moments }
    }

    /// Norm of a whole gradient: squares summed in f64, in order.
    pub fn norm(gradients: &[Vec<f32>]) -> f64 {
        let squares = |g: &Vec<f32>| g.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
        gradients.iter().map(squares).sum::<f64>().sqrt()
    }

    /// Starts an update by a gradient of this norm, over all that is trained.
    pub fn begin(&mut self, norm: f64) -> Update {
        self.step += 1;
        let clip = self.config.clip_norm;
        let factor = if clip > 0.0 && norm > clip { clip / norm } else { 1.0 };
        Update { rate: self.config.rate(self.step), factor: factor as f32 }
    }

    /// Updates parameter `index`: `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`,
    /// `w ← w − η (m̂ / (√v̂ + ε) + λ w)`, where `g` is clipped, `η` is the rate of the parameter's part of the model, and
    /// `λ` is 0 for norms and biases unless `decay_all`.
    pub fn apply(
        &mut self,
        index: usize,
        weights: &mut [f32],
        gradient: &[f32],
        Update { rate, factor }: Update,
        group: Group,
        is_matrix: bool,
    ) {
        const CHUNK: usize = 16_384;
        let c = &self.config;
        let rate = rate * c.rates.of(group);
        let decay = is_matrix || c.decay_all;
        let (b1, b2) = (c.beta1 as f32, c.beta2 as f32);
        // Not `1 - b2`: in single precision 1 − 0.999 is off by a hundred-thousandth of itself.
        let (rest1, rest2) = ((1.0 - c.beta1) as f32, (1.0 - c.beta2) as f32);
        let scale1 = (1.0 / (1.0 - c.beta1.powi(self.step as i32))) as f32;
        let scale2 = (1.0 / (1.0 - c.beta2.powi(self.step as i32))) as f32;
        let (rate, epsilon) = (rate as f32, c.epsilon as f32);
        let lambda = if decay { c.weight_decay as f32 } else { 0.0 };
        let Moments { first, second } = &mut self.moments[index];
        let chunks = (weights.par_chunks_mut(CHUNK), gradient.par_chunks(CHUNK));
        let chunks = (chunks.0, chunks.1, first.par_chunks_mut(CHUNK), second.par_chunks_mut(CHUNK));
        chunks.into_par_iter().for_each(|(w, g, m, v)| {
            for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                let g = g * factor;
                *m = b1 * *m + rest1 * g;
                *v = b2 * *v + rest2 * g * g;
                let step = *m * scale1 / ((*v * scale2).sqrt() + epsilon);
                *w -= rate * (step + lambda * *w);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The textbook update in f64, written apart from the code above.
    #[test]
    fn equals_the_formula_over_several_steps() {
        let config = AdamWConfig { learning_rate: 0.1, weight_decay: 0.01, clip_norm: 0.0, ..AdamWConfig::default() };
        let mut adam = AdamW::new(config, [2]);
        let mut w = vec![1.0f32, -2.0];
        let (mut x, mut m, mut v) = ([1.0f64, -2.0], [0.0f64; 2], [0.0f64; 2]);
        for t in 1..=5 {
            let g = [0.5f32 * t as f32, -0.25];
            let update = adam.begin(1.0);
            adam.apply(0, &mut w, &g, update, Group::Language, true);
            for i in 0..2 {
                let gi = f64::from(g[i]);
                m[i] = 0.9 * m[i] + 0.1 * gi;
                v[i] = 0.999 * v[i] + 0.001 * gi * gi;
                let (mh, vh) = (m[i] / (1.0 - 0.9f64.powi(t)), v[i] / (1.0 - 0.999f64.powi(t)));
                x[i] -= 0.1 * (mh / (vh.sqrt() + 1e-8) + 0.01 * x[i]);
                assert!((f64::from(w[i]) - x[i]).abs() < 1e-5, "step {t}: {} {}", w[i], x[i]);
            }
        }
    }

    #[test]
    fn schedule_warms_up_and_decays() {
        let c = AdamWConfig {
            learning_rate: 1.0,
            warmup_steps: 10,
            decay: Decay::Cosine,
            total_steps: 110,
            final_fraction: 0.1,
            ..AdamWConfig::default()
        };
        c.validate().unwrap();
        assert_eq!(c.rate(5), 0.5);
        assert_eq!(c.rate(10), 1.0);
        assert!((c.rate(60) - 0.55).abs() < 1e-12);
        assert!((c.rate(500) - 0.1).abs() < 1e-12);
        assert!(AdamWConfig { beta2: 1.0, ..c }.validate().is_err());
    }
}
