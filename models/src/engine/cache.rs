//! Keys and values of one stream: a prompt shared by a group, or one trajectory's own tokens.

/// Keys and values of every layer.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    layers: Vec<LayerCache>,
    len: usize,
}

/// Keys and values of one layer, `[len, kv_heads · head_dim]`, keys already rotated.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerCache {
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
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

    /// Appends keys and values of new tokens to one layer.
    pub(crate) fn append(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        self.layers[layer].keys.extend_from_slice(keys);
        self.layers[layer].values.extend_from_slice(values);
    }

    /// Counts tokens whose keys and values every layer has got.
    pub(crate) fn grow(&mut self, tokens: usize) {
        self.len += tokens;
    }
}
