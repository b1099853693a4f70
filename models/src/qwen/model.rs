//! The model: its configuration, weights and the pieces that tower and language model share.

use std::path::Path;
use std::sync::Arc;

use dfdx::prelude::*;

use super::batch::{Packed, Sequence};
use super::dropout::Masks;
use super::layout::{Layout, Linear};
use super::tune::Trained;
use super::weights::{MatrixId, MatrixValues, Weights};
use crate::checkpoint::Checkpoint;
use crate::config::{Config, Dtype};
use crate::error::Result;
use crate::image_processor::Patches;
use crate::lora::{Adapter, Pair};
use crate::ops::gated_mlp;
use crate::ops::lora::LowRank;
use crate::ops::{Kernels, Lent, Matrix, Param, Vector};

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
    /// Whether passes without a tape use the products of inference; see [`Qwen::for_rollouts`].
    pub(crate) rollouts: bool,
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
            rollouts: false,
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

    /// The adapter's pair of a linear map, and the scale of its term.
    fn pair_of(&self, layer: Linear) -> Option<(&Pair<D>, f32)> {
        let adapter = self.adapter.as_ref()?;
        let pair = (*self.layout.adapted.get(layer.module?)?)?;
        Some((&adapter.pairs[pair], adapter.config.scale()))
    }

    /// A linear map's weight on the host: lent, or a copy with the adapter merged into it where the map has a pair.
    pub(crate) fn lend(&self, layer: Linear) -> Lent<'_> {
        let weight = self.weights.matrix(layer.weight).values.lend();
        let Some((pair, scale)) = self.pair_of(layer) else { return weight };
        let mut merged = weight.elements().widened();
        pair.merge(&mut merged, scale);
        Lent::Copied(merged)
    }

    /// `x wᵀ + b`, and the adapter's term where the map has a pair.
    pub(crate) fn linear<T: Tape<f32, D>>(
        &self,
        x: Matrix<D, T>,
        layer: Linear,
    ) -> std::result::Result<Matrix<D, T>, D::Err> {
        let bias = layer.bias.map(|id| self.weights.vector(id));
        let Some((pair, scale)) = self.pair_of(layer) else { return self.product(x, layer.weight, bias) };
        let (x, tape) = x.split_tape();
        let y = self.product(x.clone().put_tape(tape), layer.weight, bias)?;
        let masks = self.masks.as_ref().zip(layer.module);
        let dropout = masks.map(|(masks, module)| masks.of(&self.layout.modules[module], x.shape().0));
        D::lora(y, &x, [&pair.a, &pair.b], &LowRank { scale, dropout })
    }

    /// `x wᵀ + b`: on the tape with a tensor, else with the weight as it is stored. Where weights are stored nothing is
    /// trained, so no gradient has to pass through them.
    pub(crate) fn product<T: Tape<f32, D>>(
        &self,
        x: Matrix<D, T>,
        weight: MatrixId,
        bias: Option<Param<'_, Vector<D>>>,
    ) -> std::result::Result<Matrix<D, T>, D::Err> {
        let Param { values, learns } = self.weights.matrix(weight);
        match values {
            MatrixValues::Tensor(values) if T::OWNS_TAPE || !self.rollouts => {
                D::linear(x, Param { values, learns }, bias)
            }
            _ => {
                let (x, tape) = x.split_tape();
                let y = D::product(x, values.lend().elements(), values.shape().0, bias.map(|bias| bias.values))?;
                Ok(y.put_tape(tape))
            }
        }
    }

    /// `down(silu(gate(x)) · up(x))`.
    pub(crate) fn gated_mlp<T: Tape<f32, D>>(
        &self,
        x: Matrix<D, T>,
        parts: [Linear; 3],
    ) -> std::result::Result<Matrix<D, T>, D::Err> {
        if let Some(maps) = self.plain_maps::<T>(parts) {
            return D::gated_mlp(x, maps);
        }
        let [gate, up, down] = parts;
        let (x, tape) = x.split_tape();
        let (up, tape) = self.linear(x.clone().put_tape(tape), up)?.split_tape();
        let gate = self.linear(x.put_tape(tape), gate)?;
        self.linear(D::swiglu(gate, up)?, down)
    }

    /// The maps of a feed-forward layer for one op, where they are tensors that no adapter changes.
    fn plain_maps<T: Tape<f32, D>>(&self, parts: [Linear; 3]) -> Option<[gated_mlp::Map<'_, D>; 3]> {
        if self.rollouts && !T::OWNS_TAPE || parts.iter().any(|part| self.pair_of(*part).is_some()) {
            return None;
        }
        let map = |part: Linear| match self.weights.matrix(part.weight) {
            Param { values: MatrixValues::Tensor(values), learns } => {
                let bias = part.bias.map(|id| self.weights.vector(id));
                Some(gated_mlp::Map { weight: Param { values, learns }, bias })
            }
            Param { values: MatrixValues::Stored(..), .. } => None,
        };
        let [gate, up, down] = parts;
        Some([map(gate)?, map(up)?, map(down)?])
    }
}
