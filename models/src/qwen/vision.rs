//! The vision tower: patches in, one feature row per image token out.

use std::ops::Range;
use std::sync::Arc;

use dfdx::prelude::*;

use super::layout::Linear;
use super::model::Qwen;
use super::rotary;
use super::trace::Trace;
use super::weights::device_error;
use super::windows::Windows;
use crate::error::Result;
use crate::image_processor::Patches;
use crate::ops::attention::{AttentionPlan, Heads, Segment};
use crate::ops::recompute::{Part, recompute};
use crate::ops::{Kernels, Matrix};

/// RMS norm epsilon of the tower, fixed in the reference implementation.
const EPS: f32 = 1e-6;

/// What all blocks of one pass share.
struct Geometry {
    windows: Windows,
    windowed: Arc<AttentionPlan>,
    full: Arc<AttentionPlan>,
    cos: Arc<Vec<f32>>,
    sin: Arc<Vec<f32>>,
}

/// One block of the tower as a part that can be run again.
struct Block<D: Kernels> {
    model: Arc<Qwen<D>>,
    index: usize,
    geometry: Arc<Geometry>,
}

impl<D: Kernels> Part<D> for Block<D> {
    fn run<T: Tape<f32, D>>(&self, x: Matrix<D, T>) -> std::result::Result<Matrix<D, T>, D::Err> {
        self.model.vision_block(x, self.index, &self.geometry)
    }
}

impl<D: Kernels> Qwen<D> {
    /// Features of some images, `[image tokens, hidden]`, images one after the other, cells row by row. What comes before
    /// anything that is trained runs without the tape.
    pub fn vision<T: Tape<f32, D>>(&self, images: &[Arc<Patches>], tape: T, trace: &mut Trace) -> Result<Matrix<D, T>> {
        timed!("tower");
        let config = &self.config.vision;
        let unit = config.spatial_merge_size * config.spatial_merge_size;
        let geometry = self.geometry(images)?;
        let patches = geometry.windows.index.len() * unit;
        let mut pixels = Vec::with_capacity(patches * config.patch_len());
        images.iter().for_each(|image| pixels.extend_from_slice(&image.values));
        let x =
            self.device.try_tensor_from_vec(pixels, (patches, config.patch_len())).map_err(device_error("pixels"))?;
        let (start, stages) = (self.trained.starts.tower, self.layout.blocks.len() + 2);
        let x = self.tower(x, 0..start, &geometry, trace)?;
        self.tower(x.put_tape(tape), start..stages, &geometry, trace)
    }

    /// Some stages of the tower: the patch embedding, the blocks, the merger.
    fn tower<T: Tape<f32, D>>(
        &self,
        mut x: Matrix<D, T>,
        stages: Range<usize>,
        geometry: &Arc<Geometry>,
        trace: &mut Trace,
    ) -> Result<Matrix<D, T>> {
        let again = (self.gradient_checkpointing && T::OWNS_TAPE).then(|| Arc::new(self.clone()));
        for stage in stages {
            if stage == 0 {
                x = self.patch_embed(x, geometry, trace)?;
                continue;
            }
            let index = stage - 1;
            if index == self.layout.blocks.len() {
                return self.merge(x, geometry).map_err(device_error("merger"));
            }
            let out = match &again {
                None => self.vision_block(x, index, geometry),
                Some(model) => recompute(x, Block { model: Arc::clone(model), index, geometry: Arc::clone(geometry) }),
            };
            x = out.map_err(device_error("vision block"))?;
            trace.keep(|| format!("vision.block.{index}"), &x);
        }
        Ok(x)
    }

    /// Patch embeddings in window order.
    fn patch_embed<T: Tape<f32, D>>(
        &self,
        pixels: Matrix<D, T>,
        geometry: &Geometry,
        trace: &mut Trace,
    ) -> Result<Matrix<D, T>> {
        let unit = self.config.vision.spatial_merge_size * self.config.vision.spatial_merge_size;
        let x = self.linear(pixels, self.layout.patch_embed).map_err(device_error("linear"))?;
        trace.keep(|| "vision.patch_embed".into(), &x);
        let order: Vec<usize> =
            geometry.windows.index.iter().flat_map(|&cell| cell * unit..(cell + 1) * unit).collect();
        D::gather_rows(x, &order).map_err(device_error("gather_rows"))
    }

    /// Four patches to one image token, back in reading order.
    fn merge<T: Tape<f32, D>>(
        &self,
        x: Matrix<D, T>,
        geometry: &Geometry,
    ) -> std::result::Result<Matrix<D, T>, D::Err> {
        let config = &self.config.vision;
        let unit = config.spatial_merge_size * config.spatial_merge_size;
        let x = D::rms_norm(x, self.weights.vector(self.layout.merger_norm), EPS)?;
        let x = x.try_reshape_like(&(geometry.windows.index.len(), unit * config.hidden_size))?;
        let x = D::bias_gelu(self.linear(x, self.layout.merger1)?, self.weights.vector(self.layout.merger1_bias))?;
        D::gather_rows(self.linear(x, self.layout.merger2)?, &geometry.windows.inverse())
    }

    fn vision_block<T: Tape<f32, D>>(
        &self,
        x: Matrix<D, T>,
        index: usize,
        geometry: &Geometry,
    ) -> std::result::Result<Matrix<D, T>, D::Err> {
        let block = &self.layout.blocks[index];
        let full = self.config.vision.fullatt_block_indexes.contains(&index);
        let plan = if full { &geometry.full } else { &geometry.windowed };
        let (x, tape) = x.split_tape();
        let h = D::rms_norm(x.clone().put_tape(tape), self.weights.vector(block.norm1), EPS)?;
        let h = self.vision_attention(h, block.qkv, plan, geometry)?;
        let (x, h) = D::add_rms_norm(self.linear(h, block.proj)?, x, self.weights.vector(block.norm2), EPS)?;
        let h = self.gated_mlp(h, [block.gate, block.up, block.down])?;
        D::add(h, x)
    }

    fn vision_attention<T: Tape<f32, D>>(
        &self,
        h: Matrix<D, T>,
        qkv: Linear,
        plan: &Arc<AttentionPlan>,
        geometry: &Geometry,
    ) -> std::result::Result<Matrix<D, T>, D::Err> {
        let config = &self.config.vision;
        let (heads, d) = (config.heads, config.hidden_size);
        let (qkv, tape) = self.linear(h, qkv)?.split_tape();
        let part = |i: usize, tape: T| D::columns(qkv.clone().put_tape(tape), i * d..(i + 1) * d);
        let turn = |x| D::rotary(x, &geometry.cos, &geometry.sin, heads);
        let (q, tape) = part(0, tape).and_then(turn)?.split_tape();
        let (k, tape) = part(1, tape).and_then(turn)?.split_tape();
        let (v, tape) = part(2, tape)?.split_tape();
        let scale = (config.head_dim() as f32).sqrt().recip();
        let heads = Heads { queries: heads, keys: heads, scale };
        D::attention(q.put_tape(tape), k, v, plan, heads)
    }

    fn geometry(&self, images: &[Arc<Patches>]) -> Result<Arc<Geometry>> {
        let config = &self.config.vision;
        let merge = config.spatial_merge_size;
        let unit = merge * merge;
        let grids: Vec<(usize, usize)> = images.iter().map(|i| (i.grid.h / merge, i.grid.w / merge)).collect();
        let windows = Windows::new(&grids, config.window_cells());
        let mut first = 0;
        let mut cells = Vec::new();
        for &(rows, columns) in &grids {
            cells.extend((0..rows * columns).map(|cell| (cell / columns, cell % columns)));
            first += rows * columns;
        }
        let patches: Vec<(u32, u32)> = (windows.index.iter())
            .flat_map(|&cell| {
                let (row, column) = cells[cell];
                (0..unit).map(move |i| ((row * merge + i / merge) as u32, (column * merge + i % merge) as u32))
            })
            .collect();
        let angles = rotary::vision(config, &patches);
        let plan = |ranges: &[std::ops::Range<usize>]| -> Result<Arc<AttentionPlan>> {
            let segment = |r: &std::ops::Range<usize>| Segment {
                queries: r.start * unit..r.end * unit,
                prefix: 0..0,
                causal: false,
            };
            Ok(Arc::new(AttentionPlan::new(ranges.iter().map(segment).collect(), first * unit)?))
        };
        let (windowed, full) = (plan(&windows.windows)?, plan(&windows.images)?);
        let (cos, sin) = (Arc::new(angles.cos), Arc::new(angles.sin));
        Ok(Arc::new(Geometry { windows, windowed, full, cos, sin }))
    }
}
