//! Writes a folder in the Hugging Face layout, all of it or nothing: into a folder beside it, synced, then renamed.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype as Stored, View, serialize_to_file};

use super::names::names;
use crate::config::{Config, Dtype};
use crate::error::{ModelError, Result, pretty};

/// Files beside `config.json` and the weights that make a folder loadable; copied as they are, where they exist.
pub const AUX_FILES: [&str; 11] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
];

/// Writes `dir` as a checkpoint: `config.json`, `model.safetensors` (hub names, `dtype`) and the [`AUX_FILES`] of
/// `aux_from`, byte for byte. A checkpoint that is there already is replaced as a whole.
///
/// `tensors` are `(hub name, shape, values)` of exactly the parameters of `config`, in any order. Narrowing rounds to
/// nearest, ties to even.
///
/// # Errors
/// `MissingTensor`, `UnexpectedTensor` or `TensorShape` if the tensors are not the model's; `Io` naming the file. After an
/// error `dir` is as it was.
pub fn write<N, D>(
    dir: &Path,
    config: &Config,
    tensors: impl IntoIterator<Item = (N, Vec<usize>, D)>,
    dtype: Dtype,
    aux_from: &Path,
) -> Result<()>
where
    N: Into<String>,
    D: AsRef<[f32]>,
{
    let writer = CheckpointWriter::new(dir)?;
    writer.model(config, tensors, dtype)?;
    writer.aux(aux_from)?;
    writer.finish()
}

/// A folder being written. Nothing is seen at its place before [`finish`](Self::finish); dropped before, it leaves nothing.
#[derive(Debug)]
pub struct CheckpointWriter {
    target: PathBuf,
    staging: PathBuf,
}

impl CheckpointWriter {
    /// Starts a folder that will be at `target`; parent folders are made.
    ///
    /// # Errors
    /// `Io` if the folder beside it cannot be made.
    pub fn new(target: &Path) -> Result<Self> {
        let staging = beside(target, "partial");
        remove(&staging)?;
        fs::create_dir_all(&staging).map_err(ModelError::io(&staging))?;
        Ok(Self { target: target.to_path_buf(), staging })
    }

    /// Writes `config.json` and `model.safetensors`; see [`write()`].
    ///
    /// # Errors
    /// As [`write()`].
    pub fn model<N, D>(
        &self,
        config: &Config,
        tensors: impl IntoIterator<Item = (N, Vec<usize>, D)>,
        dtype: Dtype,
    ) -> Result<()>
    where
        N: Into<String>,
        D: AsRef<[f32]>,
    {
        let tensors: Vec<_> = tensors.into_iter().map(|(n, s, d)| (n.into(), s, d)).collect();
        check(&self.target.join("model.safetensors"), config, &tensors)?;
        self.tensors("model.safetensors", tensors, dtype)?;
        let config = Config { dtype, ..config.clone() };
        self.file("config.json", pretty(&config.to_json()).as_bytes())
    }

    /// Writes tensors `(name, shape, values)` of any meaning to a safetensors file, e.g. a trainer's state.
    ///
    /// # Errors
    /// `TensorShape` if a shape does not hold its values; `Io` or `Safetensors` naming the file.
    pub fn tensors<N, D>(
        &self,
        file: &str,
        tensors: impl IntoIterator<Item = (N, Vec<usize>, D)>,
        dtype: Dtype,
    ) -> Result<()>
    where
        N: Into<String>,
        D: AsRef<[f32]>,
    {
        let path = self.staging.join(file);
        let mut views = Vec::new();
        for (name, shape, values) in tensors {
            let (name, length) = (name.into(), values.as_ref().len());
            if shape.iter().product::<usize>() != length {
                return Err(ModelError::TensorShape { file: path, tensor: name, expected: shape, got: vec![length] });
            }
            views.push((name, Narrowed { shape, values, dtype }));
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        serialize_to_file(views, Some(metadata), &path)
            .map_err(|source| ModelError::Safetensors { path: path.clone(), source })?;
        sync(&path)
    }

    /// Writes a file.
    ///
    /// # Errors
    /// `Io` naming the file.
    pub fn file(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.staging.join(name);
        fs::write(&path, content).map_err(ModelError::io(&path))?;
        sync(&path)
    }

    /// Copies those of the [`AUX_FILES`] that `from` has, byte for byte.
    ///
    /// # Errors
    /// `Io` naming the file.
    pub fn aux(&self, from: &Path) -> Result<()> {
        for name in AUX_FILES {
            let source = from.join(name);
            if source.is_file() {
                self.file(name, &fs::read(&source).map_err(ModelError::io(&source))?)?;
            }
        }
        Ok(())
    }

    /// Moves the folder to its place, replacing what is there.
    ///
    /// # Errors
    /// `Io` naming the folder; what was there is then still there, or beside it with `.replaced` in its name.
    pub fn finish(self) -> Result<()> {
        sync(&self.staging)?;
        let replaced = beside(&self.target, "replaced");
        remove(&replaced)?;
        if self.target.exists() {
            fs::rename(&self.target, &replaced).map_err(ModelError::io(&self.target))?;
        }
        fs::rename(&self.staging, &self.target).map_err(ModelError::io(&self.target))?;
        if let Some(parent) = self.target.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync(parent)?;
        }
        remove(&replaced)
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        // After `finish` there is nothing at this place; an error here would hide the one that led here.
        let _ = fs::remove_dir_all(&self.staging);
    }
}

/// A tensor to be narrowed when its turn to be written comes.
struct Narrowed<D> {
    shape: Vec<usize>,
    values: D,
    dtype: Dtype,
}

impl<D: AsRef<[f32]>> View for Narrowed<D> {
    fn dtype(&self) -> Stored {
        match self.dtype {
            Dtype::F32 => Stored::F32,
            Dtype::F16 => Stored::F16,
            Dtype::Bf16 => Stored::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.values.as_ref();
        match self.dtype {
            Dtype::F32 if cfg!(target_endian = "little") => Cow::Borrowed(bytemuck::cast_slice(values)),
            Dtype::F32 => Cow::Owned(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Dtype::F16 => Cow::Owned(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()),
            Dtype::Bf16 => Cow::Owned(values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()),
        }
    }

    fn data_len(&self) -> usize {
        let bytes = if self.dtype == Dtype::F32 { 4 } else { 2 };
        self.values.as_ref().len() * bytes
    }
}

/// Whether the tensors are exactly the model's parameters.
fn check<D>(file: &Path, config: &Config, tensors: &[(String, Vec<usize>, D)]) -> Result<()> {
    let mut wanted: BTreeMap<String, Vec<usize>> = names(config).into_iter().collect();
    for (name, shape, _) in tensors {
        let (file, tensor) = (file.to_path_buf(), name.clone());
        match wanted.remove(name) {
            None => {
                let why = "no parameter of the configured model, or given twice".into();
                return Err(ModelError::UnexpectedTensor { file, tensor, why });
            }
            Some(expected) if &expected != shape => {
                return Err(ModelError::TensorShape { file, tensor, expected, got: shape.clone() });
            }
            Some(_) => {}
        }
    }
    match wanted.into_keys().next() {
        Some(tensor) => Err(ModelError::MissingTensor { file: file.to_path_buf(), tensor }),
        None => Ok(()),
    }
}

/// A hidden name beside `target`.
fn beside(target: &Path, why: &str) -> PathBuf {
    let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    target.with_file_name(format!(".{name}.{why}-{}", std::process::id()))
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(ModelError::io(dir)(e)),
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|f| f.sync_all()).map_err(ModelError::io(path))
}
