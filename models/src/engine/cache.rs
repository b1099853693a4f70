//! Keys and values of one stream: a prompt shared by a group, or one trajectory's own tokens.

use super::attention::Shape;
use crate::config::TextConfig;
use crate::ops::attention::cpu::Seen;
use crate::ops::gemm::Mat;
use crate::ops::product::panels::{LANES, Panels, put};

/// Keys and values of every layer.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    layers: Vec<LayerCache>,
    /// Elements of a token's keys, and of its values.
    width: usize,
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
    /// An empty cache of a model.
    pub(crate) fn new(config: &TextConfig) -> Self {
        let width = config.kv_heads * config.head_dim();
        Self { layers: vec![LayerCache::default(); config.layers], width, len: 0 }
    }

    /// Asks for the memory of `tokens` more, so that it is got once and nothing moves while they come. Where there is not
    /// that much, it is got as they come.
    pub(crate) fn reserve(&mut self, tokens: usize) {
        for LayerCache { keys, values, len } in &mut self.layers {
            let panels = (*len + tokens).div_ceil(LANES) - len.div_ceil(LANES);
            let _ = keys.try_reserve_exact(panels * LANES * self.width);
            let _ = values.try_reserve_exact(tokens * self.width);
        }
    }

    /// Tokens held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerCache {
        &self.layers[layer]
    }

    /// Appends keys and values of new tokens to one layer.
    pub(crate) fn append(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        self.layers[layer].append(keys, values, self.width);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_while_reserved_tokens_come() {
        let mut cache = Cache { layers: vec![LayerCache::default(); 2], width: 24, len: 0 };
        let row = vec![1.0; cache.width];
        for turn in [3, 16, 1, 40, 32] {
            cache.reserve(turn);
            let place = |cache: &Cache| [cache.layers[1].keys.as_ptr(), cache.layers[1].values.as_ptr()];
            let before = place(&cache);
            for _ in 0..turn {
                (0..2).for_each(|layer| cache.append(layer, &row, &row));
                cache.grow(1);
            }
            assert_eq!(place(&cache), before, "{turn} tokens");
        }
        assert_eq!(cache.layers[1].values.len(), 92 * cache.width);
    }
}
