//! Low-rank adapters (LoRA, Hu et al., arXiv 2106.09685): which linear maps get one, its matrices, and PEFT's files.
//!
//! * `config`: rank, scale, dropout, and the modules by name pattern;
//! * `adapter`: the matrices `A` and `B` of each adapted module;
//! * `peft`: `adapter_config.json` and `adapter_model.safetensors`.

mod adapter;
mod config;
mod peft;

pub use adapter::{Adapter, Pair};
pub use config::{LoraConfig, Targets};
pub use peft::{ADAPTER_CONFIG, ADAPTER_TENSORS, AdapterHeader, PeftAdapter};
