//! The vision tower: patches in, one feature row per image token out.

use std::sync::Arc;

use dfdx::prelude::*;

use super::layout::{Linear, VisionBlock};
use super::model::Qwen;
use super::rotary;
use super::trace::Trace;
use super::weights::device_error;
use super::windows::Windows;
use crate::error::Result;
use crate::image_processor::Patches;
use crate::ops::attention::{AttentionPlan, Heads, Segment};
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

impl<D: Kernels> Qwen<D> {
    /// Features of some images, `[image tokens, hidden]`, images one after the other, cells row by row.
    pub fn vision<T: Tape<f32, D>>(&self, images: &[Arc<Patches>], tape: T, trace: &mut Trace) -> Result<Matrix<D, T>> {
        let config = &self.config.vision;
        let unit = config.spatial_merge_size * config.spatial_merge_size;
        let geometry = self.geometry(images)?;
        let cells = geometry.windows.index.len();
        let mut pixels = Vec::with_capacity(cells * unit * config.patch_len());
        images.iter().for_each(|image| pixels.extend_from_slice(&image.values));
        let x = self.device.try_tensor_from_vec(pixels, (cells * unit, config.patch_len()));
        let x = self.linear(x.map_err(device_error("pixels"))?.put_tape(tape), self.layout.patch_embed)?;
        trace.keep(|| "vision.patch_embed".into(), &x);
        let order: Vec<usize> =
            geometry.windows.index.iter().flat_map(|&cell| cell * unit..(cell + 1) * unit).collect();
        let mut x = D::gather_rows(x, &order).map_err(device_error("gather_rows"))?;
        for (i, block) in self.layout.blocks.iter().enumerate() {
            let full = config.fullatt_block_indexes.contains(&i);
            x = self.vision_block(x, block, if full { &geometry.full } else { &geometry.windowed }, &geometry)?;
            trace.keep(|| format!("vision.block.{i}"), &x);
        }
        let x = D::rms_norm(x, self.weights.vector(self.layout.merger_norm), EPS).map_err(device_error("rms_norm"))?;
        let x = x.try_reshape_like(&(cells, unit * config.hidden_size)).map_err(device_error("reshape"))?;
        let x = D::gelu(self.linear(x, self.layout.merger1)?).map_err(device_error("gelu"))?;
        let x = self.linear(x, self.layout.merger2)?;
        D::gather_rows(x, &geometry.windows.inverse()).map_err(device_error("gather_rows"))
    }

    fn vision_block<T: Tape<f32, D>>(
        &self,
        x: Matrix<D, T>,
        block: &VisionBlock,
        plan: &Arc<AttentionPlan>,
        geometry: &Geometry,
    ) -> Result<Matrix<D, T>> {
        let (x, tape) = x.split_tape();
        let h = D::rms_norm(x.clone().put_tape(tape), self.weights.vector(block.norm1), EPS);
        let h = self.vision_attention(h.map_err(device_error("rms_norm"))?, block.qkv, plan, geometry)?;
        let x = D::add(self.linear(h, block.proj)?, x).map_err(device_error("add"))?;
        let (x, tape) = x.split_tape();
        let h = D::rms_norm(x.clone().put_tape(tape), self.weights.vector(block.norm2), EPS);
        let h = self.gated_mlp(h.map_err(device_error("rms_norm"))?, [block.gate, block.up, block.down])?;
        D::add(h, x).map_err(device_error("add"))
    }

    fn vision_attention<T: Tape<f32, D>>(
        &self,
        h: Matrix<D, T>,
        qkv: Linear,
        plan: &Arc<AttentionPlan>,
        geometry: &Geometry,
    ) -> Result<Matrix<D, T>> {
        let config = &self.config.vision;
        let (heads, d) = (config.heads, config.hidden_size);
        let (qkv, tape) = self.linear(h, qkv)?.split_tape();
        let part = |i: usize, tape: T| D::columns(qkv.clone().put_tape(tape), i * d..(i + 1) * d);
        let turn = |x| D::rotary(x, &geometry.cos, &geometry.sin, heads);
        let q = part(0, tape).and_then(turn).map_err(device_error("rotary"))?;
        let (q, tape) = q.split_tape();
        let (k, tape) = part(1, tape).and_then(turn).map_err(device_error("rotary"))?.split_tape();
        let (v, tape) = part(2, tape).map_err(device_error("columns"))?.split_tape();
        let scale = (config.head_dim() as f32).sqrt().recip();
        let heads = Heads { queries: heads, keys: heads, scale };
        D::attention(q.put_tape(tape), k, v, plan, heads).map_err(device_error("attention"))
    }

    fn geometry(&self, images: &[Arc<Patches>]) -> Result<Geometry> {
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
        Ok(Geometry { windows, windowed, full, cos: Arc::new(angles.cos), sin: Arc::new(angles.sin) })
    }
}
