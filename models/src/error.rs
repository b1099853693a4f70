//! The one error type of this crate; every variant says what was being read or done, what was expected and what was found.

use std::path::{Path, PathBuf};

/// Result with [`ModelError`].
pub type Result<T> = std::result::Result<T, ModelError>;

/// What can go wrong between a folder of published files and numbers on a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file is not the JSON it should be.
    #[error("{}: not valid JSON here: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        source: serde_json::Error,
    },
    /// A field of a configuration file is missing, or has a value this crate cannot run.
    #[error("{file}: `{field}`: expected {expected}, got {got}")]
    Config {
        /// Name of the file, e.g. `config.json`.
        file: String,
        /// The field, dotted from the root of the file.
        field: String,
        /// What would have been accepted.
        expected: String,
        /// What is there.
        got: String,
    },
    /// A weight file is not in safetensors format, or is cut short.
    #[error("{}: not a complete safetensors file: {source}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: safetensors::SafeTensorError,
    },
    /// A weight file's header disagrees with itself or with the file.
    #[error("{}: not a complete safetensors file: {}{problem}", file.display(), at_fault(tensor.as_deref()))]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The tensor at fault, if it is one.
        tensor: Option<String>,
        /// What is wrong.
        problem: String,
    },
    /// A parameter is in none of the checkpoint's files.
    #[error("{}: tensor `{tensor}` is missing", file.display())]
    MissingTensor {
        /// The file, or the folder when there are several files.
        file: PathBuf,
        /// Hub name of the parameter.
        tensor: String,
    },
    /// A tensor in a checkpoint is no parameter of the configured model, or is there twice.
    #[error("{}: tensor `{tensor}` is {why}", file.display())]
    UnexpectedTensor {
        /// The file that holds it.
        file: PathBuf,
        /// Its name in the file.
        tensor: String,
        /// Why it should not be there.
        why: String,
    },
    /// A tensor has another shape than the configuration asks for.
    #[error("{}: tensor `{tensor}`: expected shape {expected:?}, got {got:?}", file.display())]
    TensorShape {
        /// The file that holds it.
        file: PathBuf,
        /// Its name in the file.
        tensor: String,
        /// Shape by the configuration.
        expected: Vec<usize>,
        /// Shape in the file.
        got: Vec<usize>,
    },
    /// A tensor has an element type this crate does not read.
    #[error("{}: tensor `{tensor}`: expected {expected}, got {got}", file.display())]
    TensorType {
        /// The file that holds it.
        file: PathBuf,
        /// Its name in the file.
        tensor: String,
        /// The element types that are read.
        expected: String,
        /// The element type in the file.
        got: String,
    },
    /// A file is no image that can be decoded, or is larger than the limits allow.
    #[error("{}: {message}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// Why it was refused.
        message: String,
    },
    /// An image is too elongated: the model's own processor refuses it as well.
    #[error("image of {width}x{height}: the longer side must be at most {limit} times the shorter one")]
    AspectRatio {
        /// Pixels from left to right.
        width: u32,
        /// Pixels from top to bottom.
        height: u32,
        /// Largest ratio allowed.
        limit: u32,
    },
    /// The tokenizer could not be built, read or used.
    #[error("tokenizer: {op}: {message}")]
    Tokenizer {
        /// What was being done.
        op: &'static str,
        /// What went wrong.
        message: String,
    },
    /// The chat template could not be read or rendered.
    #[error("chat template: {op}: {message}")]
    Template {
        /// What was being done.
        op: &'static str,
        /// What went wrong.
        message: String,
    },
    /// A prompt has another number of image placeholders than there are images.
    #[error("the prompt has {pads} image placeholders, but {images} images came with it")]
    ImageCount {
        /// `<|image_pad|>` tokens in the prompt.
        pads: usize,
        /// Images given.
        images: usize,
    },
    /// Arguments of an operation do not fit together.
    #[error("{op}: expected {expected}, got {got}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What it takes.
        expected: String,
        /// What it was given.
        got: String,
    },
    /// Weights that are held for inference were to be trained.
    #[error("the weights were opened for inference: they have no gradients")]
    InferenceOnly,
    /// Rows of a pass do not fit its attention plan.
    #[error("attention plan: {0}")]
    Plan(#[from] crate::ops::attention::PlanError),
    /// The device failed, ran out of memory, or lacks the operation.
    #[error("device: {op}: {message}")]
    Device {
        /// The operation.
        op: &'static str,
        /// What the device said.
        message: String,
    },
}

impl ModelError {
    /// Makes a closure that turns an I/O error at `path` into [`ModelError::Io`].
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// Makes a closure that turns a JSON error at `path` into [`ModelError::Json`].
    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Json { path, source }
    }
}

fn at_fault(tensor: Option<&str>) -> String {
    tensor.map(|tensor| format!("tensor `{tensor}`: ")).unwrap_or_default()
}

/// Reads and parses a JSON file.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).map_err(ModelError::io(path))?;
    serde_json::from_slice(&text).map_err(ModelError::json(path))
}

/// Turns a value into the pretty JSON text of a published file, with a newline at the end.
pub(crate) fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}
