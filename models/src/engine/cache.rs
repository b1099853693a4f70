//! Keys and values of one stream: a prompt shared by a group, or one trajectory's own tokens.

use super::attention::Shape;
use crate::ops::attention::cpu::Seen;
use crate::ops::gemm::Mat;
use crate::ops::product::panels::{LANES, Panels, put};

/// Keys and values of every layer.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    layers: Vec<LayerCache>,
    len: usize,
}

/// Keys and values of one layer, keys already rotated.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerCache {
    /// Panels of sixteen keys, `[kv_heads · head_dim, 16]` each.
    keys: Vec<f32>,
    /// `[len, kv_heads · head_dim]`.
    values: Vec<f32>,
    len: usize,
}

impl Cache {
    /// An empty cache.
    pub(crate) fn new(layers: usize) -> Self {
        Self { layers: vec![LayerCache::default(); layers], len: 0 }
    }

    /// Tokens held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerCache {
        &self.layers[layer]
    }

    /// Appends keys and values of new tokens, `width` wide, to one layer.
    pub(crate) fn append(&mut self, layer: usize, keys: &[f32], values: &[f32], width: usize) {
        self.layers[layer].append(keys, values, width);
    }

    /// Counts tokens whose keys and values every layer has got.
    pub(crate) fn grow(&mut self, tokens: usize) {
        self.len += tokens;
    }
}

impl LayerCache {
    /// Tokens held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn append(&mut self, keys: &[f32], values: &[f32], width: usize) {
        self.values.extend_from_slice(values);
        let panel = width * LANES;
        for key in keys.chunks_exact(width) {
            if self.len.is_multiple_of(LANES) {
                self.keys.resize(self.keys.len() + panel, 0.0);
            }
            put(&mut self.keys[self.len / LANES * panel..], self.len % LANES, key);
            self.len += 1;
        }
    }

    /// The first `count` tokens in key head `head`.
    pub(crate) fn seen(&self, count: usize, head: usize, shape: Shape) -> Seen<'_> {
        let (width, at) = (shape.kv * shape.hd, head * shape.hd);
        Seen {
            keys: Panels::packed(&self.keys[at * LANES..], shape.hd, count, width * LANES),
            values: Panels::of(Mat::strided(&self.values[at..], count, shape.hd, width)),
        }
    }
}
