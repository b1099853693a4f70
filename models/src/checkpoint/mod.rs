//! Weights on disk: safetensors in the Hugging Face layout, single or sharded, read by memory map and written atomically.

mod names;
mod read;
mod stored;
mod tensor_file;
mod write;

pub use names::{hub_name, names};
pub use read::Checkpoint;
pub use stored::Stored;
pub use tensor_file::TensorFile;
pub use write::{AUX_FILES, CheckpointWriter, write};
