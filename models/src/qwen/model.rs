//! The model: its configuration, weights and the pieces that tower and language model share.

use std::path::Path;
use std::sync::Arc;

use dfdx::prelude::*;

use super::batch::{Packed, Sequence};
use super::layout::{Layout, Linear};
use super::weights::{MatrixId, Param, Weights, device_error};
use crate::checkpoint::Checkpoint;
use crate::config::{Config, Dtype};
use crate::error::{ModelError, Result};
use crate::ops::{Kernels, Matrix, Vector};

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
    /// Whether passes without a tape use the products of inference; see [`Qwen::for_rollouts`].
    pub(crate) rollouts: bool,
}

impl<D: Kernels> Qwen<D> {
    /// A model from its weights.
    pub fn new(config: Config, device: D, weights: Weights<D>, never_sampled: Vec<usize>) -> Result<Self> {
        let layout = Layout::new(&config, &weights)?;
        Ok(Self { config, device, weights, never_sampled: Arc::new(never_sampled), layout, rollouts: false })
    }

    /// Reads a checkpoint folder in Hugging Face's layout.
    pub fn open(dir: &Path, device: D, never_sampled: Vec<usize>) -> Result<Self> {
        let config = Config::open(dir)?;
        let weights = Weights::load(&config, &device, &Checkpoint::open(dir)?)?;
        Self::new(config, device, weights, never_sampled)
    }

    /// Opens a checkpoint folder to be sampled from and looked into, not trained: matrices stay in the files, mapped into
    /// memory, in their own type, or are held once in `dtype`. Sums are f32 in every case.
    pub fn open_for_inference(dir: &Path, device: D, never_sampled: Vec<usize>, dtype: Option<Dtype>) -> Result<Self> {
        let config = Config::open(dir)?;
        let weights = Weights::for_inference(&config, &device, &Checkpoint::open(dir)?, dtype)?;
        Self::new(config, device, weights, never_sampled)
    }

    /// The same weights, for passes without a tape that must have the bits of [`Qwen::open_for_inference`]: a rollout is the
    /// same whether its weights are being trained or not.
    #[must_use]
    pub fn for_rollouts(&self) -> Self {
        Self { rollouts: true, ..self.clone() }
    }

    /// Packs sequences for one pass.
    pub fn pack(&self, sequences: &[Sequence<'_>]) -> Result<Packed> {
        Packed::new(sequences)
    }

    pub(crate) fn linear<T: Tape<f32, D>>(&self, x: Matrix<D, T>, layer: Linear) -> Result<Matrix<D, T>> {
        self.product(x, layer.weight, layer.bias.map(|id| self.weights.vector(id)))
    }

    /// `x wᵀ + b`: on the tape with weights that can be trained, else with the weights as they are stored.
    pub(crate) fn product<T: Tape<f32, D>>(
        &self,
        x: Matrix<D, T>,
        weight: MatrixId,
        bias: Option<&Vector<D>>,
    ) -> Result<Matrix<D, T>> {
        let weight = self.weights.matrix(weight);
        match weight {
            Param::Tensor(w) if T::OWNS_TAPE || !self.rollouts => D::linear(x, w, bias).map_err(device_error("linear")),
            _ if T::OWNS_TAPE => Err(ModelError::InferenceOnly),
            _ => {
                let (x, tape) = x.split_tape();
                let y = D::product(x, weight.lend().elements(), weight.rows(), bias);
                Ok(y.map_err(device_error("product"))?.put_tape(tape))
            }
        }
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
