//! Weights on disk: safetensors in the Hugging Face layout, single or sharded, read by memory map and written atomically.

mod diagnose;
mod layout;
mod names;
mod read;
mod shards;
mod stored;
mod stream;
mod tensor_file;
mod write;

pub use names::{hub_name, names};
pub use read::Checkpoint;
pub use shards::{SHARD_SIZE, Shard, shards};
pub use stored::Stored;
pub use tensor_file::TensorFile;
pub use write::{AUX_FILES, CheckpointWriter, Fill, write};
