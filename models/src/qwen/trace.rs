//! What a forward pass leaves behind for whoever wants to look inside: named host copies of tensors.

use std::sync::Arc;

use dfdx::prelude::*;

use super::probe::LayerProbe;
use crate::ops::attention::{AttentionPlan, Heads};

/// A named tensor on the host.
#[derive(Clone, Debug)]
pub struct Traced {
    /// Its name, as in the golden files of `tests/parity`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f32>,
}

/// Collects tensors when switched on; costs nothing when off.
///
/// | name | shape | what |
/// |---|---|---|
/// | `vision.patch_embed` | patches, width | patch embeddings, in the image processor's order |
/// | `vision.block.I` | patches, width | after block `I` of the tower, in window order |
/// | `image_embeds` | image tokens, hidden | output of the tower, in reading order |
/// | `inputs_embeds` | rows, hidden | token embeddings, image tokens replaced |
/// | `hidden.I` | rows, hidden | after decoder layer `I` |
/// | `hidden.norm` | rows, hidden | after the last norm |
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// What was collected, in order; `None` when off.
    pub tensors: Option<Vec<Traced>>,
    /// What the attention of each decoder layer is made of; `None` when off.
    pub attention: Option<Vec<LayerProbe>>,
}

impl Trace {
    /// A trace that collects tensors.
    pub fn on() -> Self {
        Self { tensors: Some(Vec::new()), attention: None }
    }

    /// A trace that does nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// The same trace, which collects queries and keys as well.
    #[must_use]
    pub fn with_attention(mut self) -> Self {
        self.attention = Some(Vec::new());
        self
    }

    /// The collected tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&Traced> {
        self.tensors.iter().flatten().find(|tensor| tensor.name == name)
    }

    pub(crate) fn keep<D, T>(&mut self, name: impl FnOnce() -> String, tensor: &Tensor<(usize, usize), f32, D, T>)
    where
        D: Storage<f32>,
    {
        if let Some(tensors) = &mut self.tensors {
            let (rows, columns) = *tensor.shape();
            tensors.push(Traced { name: name(), shape: vec![rows, columns], values: tensor.as_vec() });
        }
    }

    pub(crate) fn keep_attention<D: Storage<f32>>(
        &mut self,
        queries: &Tensor<(usize, usize), f32, D>,
        keys: &Tensor<(usize, usize), f32, D>,
        plan: &Arc<AttentionPlan>,
        heads: Heads,
    ) {
        if let Some(layers) = &mut self.attention {
            layers.push(LayerProbe { queries: queries.as_vec(), keys: keys.as_vec(), plan: Arc::clone(plan), heads });
        }
    }
}
