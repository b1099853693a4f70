//! The model: its configuration, weights and the pieces that tower and language model share.

use std::path::Path;
use std::sync::Arc;

use dfdx::prelude::*;

use super::batch::{Packed, Sequence};
use super::dropout::Masks;
use super::layout::{Layout, Linear};
use super::tune::Trained;
use super::weights::Weights;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::Result;
use crate::image_processor::Patches;
use crate::lora::Adapter;
use crate::ops::lora::LowRank;
use crate::ops::{Kernels, Matrix};

/// Qwen2.5-VL on device `D`. A clone shares its tensors until one of the two overwrites them.
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
    pub(crate) adapter: Option<Adapter<D>>,
    pub(crate) layout: Layout,
    pub(crate) trained: Arc<Trained>,
    pub(crate) gradient_checkpointing: bool,
    pub(crate) seed: u64,
    /// Dropout of the pass that this clone is for.
    pub(crate) masks: Option<Masks>,
}

impl<D: Kernels> Qwen<D> {
    /// A model from its weights, all of them trained.
    pub fn new(config: Config, device: D, weights: Weights<D>, never_sampled: Vec<usize>) -> Result<Self> {
        let layout = Layout::new(&config, &weights)?;
        let mut model = Self {
            config,
            device,
            weights,
            never_sampled: Arc::new(never_sampled),
            adapter: None,
            layout,
            trained: Arc::default(),
            gradient_checkpointing: false,
            seed: 0,
            masks: None,
        };
        model.set_adapter(None);
        Ok(model)
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

    /// The adapter, where there is one.
    pub fn adapter(&self) -> Option<&Adapter<D>> {
        self.adapter.as_ref()
    }

    /// The model as it starts from here: an adapter that changes nothing is left off.
    pub(crate) fn as_reference(&self) -> Self {
        let mut reference = self.clone();
        if reference.adapter.as_ref().is_some_and(Adapter::is_zero) {
            reference.set_adapter(None);
        }
        reference
    }

    /// Whether training passes drop inputs of the adapter.
    pub(crate) fn drops(&self) -> bool {
        self.adapter.as_ref().is_some_and(|adapter| adapter.config.dropout > 0.0)
    }

    /// The model as the training pass of update `step` over these rows and images runs it: with dropout, where there is
    /// some.
    pub(crate) fn in_training(&self, step: u64, packed: &Packed, patches: &[Arc<Patches>]) -> Self {
        let rate = self.adapter.as_ref().map_or(0.0, |adapter| adapter.config.dropout);
        let masks = (rate > 0.0).then(|| Masks::new(rate, self.seed, step, &packed.row_keys, patches));
        Self { masks, ..self.clone() }
    }

    pub(crate) fn linear<T: Tape<f32, D>>(
        &self,
        x: Matrix<D, T>,
        layer: Linear,
    ) -> std::result::Result<Matrix<D, T>, D::Err> {
        let (weight, bias) = (self.weights.matrix(layer.weight), layer.bias.map(|id| self.weights.vector(id)));
        let pair = layer.module.and_then(|module| Some((module, (*self.layout.adapted.get(module)?)?)));
        let (Some((module, pair)), Some(adapter)) = (pair, &self.adapter) else { return D::linear(x, weight, bias) };
        let (x, tape) = x.split_tape();
        let y = D::linear(x.clone().put_tape(tape), weight, bias)?;
        let dropout = self.masks.as_ref().map(|masks| masks.of(&self.layout.modules[module], x.shape().0));
        let pair = &adapter.pairs[pair];
        D::lora(y, &x, [&pair.a, &pair.b], &LowRank { scale: adapter.config.scale(), dropout })
    }

    /// `down(silu(gate(x)) · up(x))`.
    pub(crate) fn gated_mlp<T: Tape<f32, D>>(
        &self,
        x: Matrix<D, T>,
        parts: [Linear; 3],
    ) -> std::result::Result<Matrix<D, T>, D::Err> {
        let [gate, up, down] = parts;
        let (x, tape) = x.split_tape();
        let (up, tape) = self.linear(x.clone().put_tape(tape), up)?.split_tape();
        let gate = self.linear(x.put_tape(tape), gate)?;
        self.linear(D::swiglu(gate, up)?, down)
    }
}
