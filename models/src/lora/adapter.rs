//! The matrices of an adapter on a device.

use dfdx::prelude::*;
use imagent_core::seed;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::config::LoraConfig;
use crate::error::Result;
use crate::ops::gemm::{Mat, MatMut, matmul};
use crate::ops::{Kernels, Matrix};
use crate::qwen::weights::device_error;

/// Names the stream of start values.
const STREAM: u64 = 0x6c6f_7261;

/// The low-rank pair of one module.
#[derive(Clone, Debug)]
pub struct Pair<D: Kernels> {
    /// The module's name on the hub, e.g. `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// `A`, `[rank, in]`.
    pub a: Matrix<D>,
    /// `B`, `[out, rank]`.
    pub b: Matrix<D>,
}

/// An adapter: one [`Pair`] for each adapted module.
#[derive(Clone, Debug)]
pub struct Adapter<D: Kernels> {
    /// Its settings.
    pub config: LoraConfig,
    /// The pairs, in the order of the modules.
    pub pairs: Vec<Pair<D>>,
}

impl<D: Kernels> Adapter<D> {
    /// A fresh adapter for modules `(name, out, in)`: `A` uniform in `±1/√in` (PEFT's Kaiming start), a function of seed and
    /// name, and `B` zero, so that it changes nothing yet.
    pub fn fresh(config: &LoraConfig, modules: &[(&str, usize, usize)], seed: u64, device: &D) -> Result<Self> {
        let start = |&(name, out, inputs): &(&str, usize, usize)| {
            let mut rng: ChaCha8Rng = seed::rng(seed, &[STREAM, seed::text(name)]);
            let reach = (inputs as f32).sqrt().recip();
            let a = (0..config.rank * inputs).map(|_| rng.random_range(-reach..reach)).collect();
            Pair::new(name, [config.rank, inputs, out], a, vec![0.0; out * config.rank], device)
        };
        Ok(Self { config: config.clone(), pairs: modules.iter().map(start).collect::<Result<_>>()? })
    }

    /// Whether it changes nothing: every `B` is zero.
    pub fn is_zero(&self) -> bool {
        self.pairs.iter().all(|pair| pair.b.as_vec().iter().all(|&value| value == 0.0))
    }
}

impl<D: Kernels> Pair<D> {
    /// A pair of sizes `[rank, in, out]` from its values, row by row.
    pub(super) fn new(
        module: &str,
        [rank, inputs, out]: [usize; 3],
        a: Vec<f32>,
        b: Vec<f32>,
        device: &D,
    ) -> Result<Self> {
        Ok(Self {
            module: module.to_owned(),
            a: device.try_tensor_from_vec(a, (rank, inputs)).map_err(device_error("load"))?,
            b: device.try_tensor_from_vec(b, (out, rank)).map_err(device_error("load"))?,
        })
    }

    /// `w[out, in] += scale B A`: the module's weight with the pair merged into it.
    pub fn merge(&self, weight: &mut [f32], scale: f32) {
        let ((rank, inputs), (out, _)) = (*self.a.shape(), *self.b.shape());
        let (a, mut b) = (self.a.as_vec(), self.b.as_vec());
        b.iter_mut().for_each(|value| *value *= scale);
        matmul(MatMut::new(weight, out, inputs), Mat::new(&b, out, rank), Mat::new(&a, rank, inputs), true);
    }
}
