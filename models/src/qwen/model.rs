//! The model: its configuration, weights and the pieces that tower and language model share.

use std::path::Path;
use std::sync::Arc;

use dfdx::prelude::*;

use super::batch::{Packed, Sequence};
use super::layout::{Layout, Linear};
use super::weights::{Weights, device_error};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::Result;
use crate::ops::{Kernels, Matrix};

/// Qwen2.5-VL on device `D`.
#[derive(Clone, Debug)]
pub struct Qwen<D: Kernels> {
    /// Sizes and constants.
    pub config: Config,
    /// Where the weights are.
    pub device: D,
    /// The weights.
    pub weights: Weights<D>,
    /// Tokens that the policy may never draw: image tokens, vision marks, rows beyond the tokenizer.
    pub never_sampled: Arc<Vec<usize>>,
    pub(crate) layout: Layout,
}

impl<D: Kernels> Qwen<D> {
    /// A model from its weights.
    pub fn new(config: Config, device: D, weights: Weights<D>, never_sampled: Vec<usize>) -> Result<Self> {
        let layout = Layout::new(&config, &weights)?;
        Ok(Self { config, device, weights, never_sampled: Arc::new(never_sampled), layout })
    }

    /// Reads a checkpoint folder in Hugging Face's layout.
    pub fn open(dir: &Path, device: D, never_sampled: Vec<usize>) -> Result<Self> {
        let config = Config::open(dir)?;
        let weights = Weights::load(&config, &device, &Checkpoint::open(dir)?)?;
        Self::new(config, device, weights, never_sampled)
    }

    /// Packs sequences for one pass.
    pub fn pack(&self, sequences: &[Sequence<'_>]) -> Result<Packed> {
        Packed::new(sequences)
    }

    pub(crate) fn linear<T: Tape<f32, D>>(&self, x: Matrix<D, T>, layer: Linear) -> Result<Matrix<D, T>> {
        let bias = layer.bias.map(|id| self.weights.vector(id));
        D::linear(x, self.weights.matrix(layer.weight), bias).map_err(device_error("linear"))
    }

    /// `down(silu(gate(x)) · up(x))`.
    pub(crate) fn gated_mlp<T: Tape<f32, D>>(&self, x: Matrix<D, T>, parts: [Linear; 3]) -> Result<Matrix<D, T>> {
        let [gate, up, down] = parts;
        let (x, tape) = x.split_tape();
        let (up, tape) = self.linear(x.clone().put_tape(tape), up)?.split_tape();
        let gate = self.linear(x.put_tape(tape), gate)?;
        let h = D::swiglu(gate, up).map_err(device_error("swiglu"))?;
        self.linear(h, down)
    }
}
