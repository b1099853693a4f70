//! What an adapter's dropout drops in one training pass.

use std::sync::Arc;

use imagent_core::{derive, seed};

use super::layout::Module;
use crate::image_processor::Patches;
use crate::ops::lora::Dropout;

/// Names the stream of dropout.
const STREAM: &str = "lora_dropout";

/// The masks of one pass: a function of seed, update, module, row and column. A row is named by what it is (a token and
/// those before it; an image and the place in it), so a batch that runs in parts is masked as one that runs at once.
#[derive(Clone, Debug)]
pub(crate) struct Masks {
    rate: f32,
    key: u64,
    text: Arc<Vec<u64>>,
    tower: Arc<Vec<u64>>,
}

impl Masks {
    /// The masks of update `step` of a pass over these rows and images.
    pub(crate) fn new(rate: f64, seed: u64, step: u64, rows: &[u64], patches: &[Arc<Patches>]) -> Self {
        let tower = patches.iter().flat_map(|image| {
            let name = image.values.iter().fold(0, |hash, value| name(hash, value.to_bits()));
            (0..image.grid.patches() as u64).map(move |i| derive(name, &[i]))
        });
        Self {
            rate: rate as f32,
            key: derive(seed, &[seed::text(STREAM), step]),
            text: Arc::new(rows.to_vec()),
            tower: Arc::new(tower.collect()),
        }
    }

    /// The mask of a module's input of `rows` rows; the merger has one row for several patches.
    pub(crate) fn of(&self, module: &Module, rows: usize) -> Dropout {
        let all = if module.vision { &self.tower } else { &self.text };
        let rows = if rows == all.len() {
            Arc::clone(all)
        } else {
            Arc::new(all.iter().step_by((all.len() / rows.max(1)).max(1)).copied().collect())
        };
        Dropout { rate: self.rate, key: derive(self.key, &[module.key]), rows }
    }
}

/// FNV-1a over 32 bits at a time.
fn name(hash: u64, bits: u32) -> u64 {
    (hash ^ u64::from(bits)).wrapping_mul(0x0100_0000_01b3)
}
