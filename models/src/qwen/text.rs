//! The language model: token and image embeddings in, hidden states and token scores out.

use std::ops::Range;
use std::sync::Arc;

use dfdx::prelude::*;

use super::batch::{Packed, Target};
use super::layout::TextLayer;
use super::model::Qwen;
use super::rotary::{self, Angles};
use super::trace::Trace;
use super::weights::{MatrixValues, device_error};
use crate::error::{ModelError, Result};
use crate::image_processor::Patches;
use crate::ops::attention::{AttentionPlan, Heads};
use crate::ops::recompute::{Part, recompute};
use crate::ops::token_logprob::Choice;
use crate::ops::{Kernels, Matrix, Param};

/// What all layers of one pass share.
#[derive(Clone)]
struct Pass {
    plan: Arc<AttentionPlan>,
    cos: Arc<Vec<f32>>,
    sin: Arc<Vec<f32>>,
}

/// One decoder layer as a part that can be run again.
struct Layer<D: Kernels> {
    model: Arc<Qwen<D>>,
    index: usize,
    pass: Pass,
}

impl<D: Kernels> Part<D> for Layer<D> {
    fn run<T: Tape<f32, D>>(&self, x: Matrix<D, T>) -> std::result::Result<Matrix<D, T>, D::Err> {
        self.model.text_layer(x, &self.model.layout.layers[self.index], &self.pass, &mut Trace::off())
    }
}

impl<D: Kernels> Qwen<D> {
    /// Final hidden states (after the last norm) of a packed pass, `[rows, hidden]`. `patches` are those of
    /// `packed.images`, in order. What comes before anything that is trained runs without the tape.
    pub fn hidden<T: Tape<f32, D>>(
        &self,
        packed: &Packed,
        patches: &[Arc<Patches>],
        tape: T,
        trace: &mut Trace,
    ) -> Result<Matrix<D, T>> {
        let Angles { cos, sin } = rotary::text(&self.config.text, packed.axes.each_ref().map(Vec::as_slice));
        let pass = Pass { plan: Arc::clone(&packed.plan), cos: Arc::new(cos), sin: Arc::new(sin) };
        let (layers, starts) = (self.layout.layers.len(), self.trained.starts);
        let in_tower = !patches.is_empty() && starts.tower < self.layout.blocks.len() + 2;
        let x = if starts.text == 0 || in_tower {
            let x = self.embed(packed, patches, tape, trace)?;
            trace.keep(|| "inputs_embeds".into(), &x);
            self.text_layers(x, 0..layers, &pass, trace)?
        } else {
            let x = self.embed(packed, patches, NoneTape, trace)?;
            trace.keep(|| "inputs_embeds".into(), &x);
            let x = self.text_layers(x, 0..starts.text - 1, &pass, trace)?;
            self.text_layers(x.put_tape(tape), starts.text - 1..layers, &pass, trace)?
        };
        let eps = self.config.text.rms_norm_eps as f32;
        let x = D::rms_norm(x, self.weights.vector(self.layout.norm), eps).map_err(device_error("rms_norm"))?;
        trace.keep(|| "hidden.norm".into(), &x);
        Ok(x)
    }

    fn text_layers<T: Tape<f32, D>>(
        &self,
        mut x: Matrix<D, T>,
        layers: Range<usize>,
        pass: &Pass,
        trace: &mut Trace,
    ) -> Result<Matrix<D, T>> {
        timed!("text");
        let again = (self.gradient_checkpointing && T::OWNS_TAPE).then(|| Arc::new(self.clone()));
        for index in layers {
            let out = match &again {
                None => self.text_layer(x, &self.layout.layers[index], pass, trace),
                Some(model) => recompute(x, Layer { model: Arc::clone(model), index, pass: pass.clone() }),
            };
            x = out.map_err(device_error("decoder layer"))?;
            trace.keep(|| format!("hidden.{index}"), &x);
        }
        Ok(x)
    }

    /// Log-probability and entropy of targets, `[targets, 2]`, in their order.
    ///
    /// The distribution is softmax(logits / temperature); for targets with `suppress`, without the tokens that are
    /// never sampled ([`Qwen::never_sampled`]).
    pub fn scores<T: Tape<f32, D>>(
        &self,
        hidden: Matrix<D, T>,
        targets: &[Target],
        temperature: f32,
    ) -> Result<Matrix<D, T>> {
        timed!("scores");
        let (hidden, tape) = hidden.split_tape();
        let (sampled, given): (Vec<_>, Vec<_>) =
            targets.iter().copied().enumerate().partition(|(_, target)| target.suppress);
        let (first, tape) = self.score_some(&hidden, tape, &sampled, temperature, &self.never_sampled)?.split_tape();
        if given.is_empty() {
            return Ok(first.put_tape(tape));
        }
        // Targets of both kinds: scored apart, then put back in order.
        let second = self.score_some(&hidden, tape, &given, temperature, &[])?;
        let (second, tape) = second.split_tape();
        let all = self.device.try_zeros_like(&(targets.len(), 2)).map_err(device_error("zeros"))?.put_tape(tape);
        let places = |some: &[(usize, Target)]| some.iter().map(|&(i, _)| i).collect::<Vec<_>>();
        let all = D::splice(all, first, &places(&sampled)).map_err(device_error("splice"))?;
        D::splice(all, second, &places(&given)).map_err(device_error("splice"))
    }

    fn score_some<T: Tape<f32, D>>(
        &self,
        hidden: &Matrix<D>,
        tape: T,
        targets: &[(usize, Target)],
        temperature: f32,
        suppress: &[usize],
    ) -> Result<Matrix<D, T>> {
        let rows: Vec<usize> = targets.iter().map(|(_, target)| target.row).collect();
        let ids: Vec<usize> = targets.iter().map(|(_, target)| target.id as usize).collect();
        let picked = D::gather_rows(hidden.clone().put_tape(tape), &rows).map_err(device_error("gather_rows"))?;
        let choice = Arc::new(Choice { targets: ids, temperature, suppress: suppress.to_vec() });
        let Param { values: head, learns } = self.weights.matrix(self.layout.head);
        match head {
            MatrixValues::Tensor(values) => {
                D::token_logprob(picked, Param { values, learns }, &choice).map_err(device_error("token_logprob"))
            }
            MatrixValues::Stored(..) if T::OWNS_TAPE => Err(ModelError::InferenceOnly),
            MatrixValues::Stored(head, (vocabulary, _)) => {
                let (picked, tape) = picked.split_tape();
                let out = D::token_logprob_of(picked, head.elements(), *vocabulary, &choice);
                Ok(out.map_err(device_error("token_logprob"))?.put_tape(tape))
            }
        }
    }

    /// Logits of every row, `[rows, vocabulary]`: for looking, not for training.
    pub fn logits(&self, hidden: Matrix<D>) -> Result<Matrix<D>> {
        self.product(hidden, self.layout.head, None).map_err(device_error("linear"))
    }

    /// Rows of the embedding.
    fn token_rows<T: Tape<f32, D>>(&self, ids: &[usize], tape: T) -> Result<Matrix<D, T>> {
        let Param { values: table, learns } = self.weights.matrix(self.layout.embed);
        match table {
            MatrixValues::Tensor(values) => {
                D::embed(Param { values, learns }, ids, tape).map_err(device_error("embed"))
            }
            MatrixValues::Stored(table, (tokens, d)) => {
                if let Some(id) = ids.iter().find(|id| *id >= tokens) {
                    let (expected, got) = (format!("token ids below {tokens}"), id.to_string());
                    return Err(ModelError::Shape { op: "embed", expected, got });
                }
                let mut rows = vec![0.0; ids.len() * d];
                let pairs = rows.chunks_mut(*d).zip(ids);
                pairs.for_each(|(row, id)| table.elements().widen_into(id * d, row));
                let rows = self.device.try_tensor_from_vec(rows, (ids.len(), *d));
                Ok(rows.map_err(device_error("embed"))?.put_tape(tape))
            }
        }
    }

    fn embed<T: Tape<f32, D>>(
        &self,
        packed: &Packed,
        patches: &[Arc<Patches>],
        tape: T,
        trace: &mut Trace,
    ) -> Result<Matrix<D, T>> {
        if patches.is_empty() {
            return self.token_rows(&packed.ids, tape);
        }
        let merge = self.config.vision.spatial_merge_size;
        let mut first = vec![0];
        patches.iter().for_each(|p| first.push(first[first.len() - 1] + p.grid.h * p.grid.w / (merge * merge)));
        let rows: Vec<usize> = packed.image_cells.iter().map(|&(image, cell)| first[image] + cell).collect();
        let features = self.vision(patches, tape, trace)?;
        trace.keep(|| "image_embeds".into(), &features);
        let features = D::gather_rows(features, &rows).map_err(device_error("gather_rows"))?;
        let (features, tape) = features.split_tape();
        let x = self.token_rows(&packed.ids, tape)?;
        D::splice(x, features, &packed.image_rows).map_err(device_error("splice"))
    }

    fn text_layer<T: Tape<f32, D>>(
        &self,
        x: Matrix<D, T>,
        layer: &TextLayer,
        pass: &Pass,
        trace: &mut Trace,
    ) -> std::result::Result<Matrix<D, T>, D::Err> {
        let eps = self.config.text.rms_norm_eps as f32;
        let (x, tape) = x.split_tape();
        let h = D::rms_norm(x.clone().put_tape(tape), self.weights.vector(layer.input_norm), eps)?;
        let h = self.text_attention(h, layer, pass, trace)?;
        let (x, h) = D::add_rms_norm(self.linear(h, layer.o)?, x, self.weights.vector(layer.post_norm), eps)?;
        let h = self.gated_mlp(h, [layer.gate, layer.up, layer.down])?;
        D::add(h, x)
    }

    fn text_attention<T: Tape<f32, D>>(
        &self,
        h: Matrix<D, T>,
        layer: &TextLayer,
        pass: &Pass,
        trace: &mut Trace,
    ) -> std::result::Result<Matrix<D, T>, D::Err> {
        let config = &self.config.text;
        let turn = |x, heads| D::rotary(x, &pass.cos, &pass.sin, heads);
        let (h, tape) = h.split_tape();
        let (q, tape) = turn(self.linear(h.clone().put_tape(tape), layer.q)?, config.heads)?.split_tape();
        let (k, tape) = turn(self.linear(h.clone().put_tape(tape), layer.k)?, config.kv_heads)?.split_tape();
        let (v, tape) = self.linear(h.put_tape(tape), layer.v)?.split_tape();
        let scale = (config.head_dim() as f32).sqrt().recip();
        let heads = Heads { queries: config.heads, keys: config.kv_heads, scale };
        trace.keep_attention(&q, &k, &pass.plan, heads);
        D::attention(q.put_tape(tape), k, v, &pass.plan, heads)
    }
}
