//! One TOML file to the parts of a run, in three steps: raw (a document that knows its lines), validated ([`Config`]),
//! built ([`Config::build`]). The first two do no I/O beyond reading the file itself.
//!
//! * `error`: an error that names file, line and key, and the closest key that is known;
//! * `raw`: the file's text and `--set` values as one document;
//! * `overrides`: one `--set a.b=value`;
//! * `blame`: which key a refused document owes its refusal to;
//! * `validated`, `train`: the settings, their defaults and ranges;
//! * `endpoint`: the `[endpoint]` and `[judge]` tables;
//! * `build`: settings to model, datasets and plug-ins.

mod blame;
mod build;
mod endpoint;
mod error;
mod overrides;
mod raw;
mod train;
mod validated;

pub use build::{
    Device, Model, Parts, base_of, nano_base, open_dataset, open_model, open_model_for_inference, open_model_seeded,
    open_reader,
};
pub use endpoint::{Calls, EndpointConfig};
pub use error::{ConfigError, Place};
pub use overrides::Override;
pub use raw::{Document, closest};
pub(crate) use train::is_due;
pub use train::{Schedule, TrainConfig};
pub use validated::{Config, DataConfig, DatasetConfig, MixConfig, ModelConfig};
pub(crate) use validated::{check_dataset, check_name, model_error};
