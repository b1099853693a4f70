//! Writes a folder in the Hugging Face layout, all of it or nothing: into a folder beside it, synced, then renamed.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use imagent_core::Draft;
use rayon::prelude::*;
use safetensors::tensor::{Dtype as Stored, View, serialize_to_file};

use super::layout::stored;
use super::names::names;
use super::shards::{SHARD_SIZE, Shard, index, shards};
use super::stream::{PIECE, TensorWriter};
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

/// What a piece of a tensor is: `fill(name, shape, first, values)` sets `values` to elements `first..` of the flattened
/// tensor. `first` is a multiple of 2¹⁹.
pub type Fill<'a> = dyn Fn(&str, &[usize], usize, &mut [f32]) + Sync + 'a;

/// Writes `dir` as a checkpoint: `config.json`, `model.safetensors` (hub names, `dtype`; in shards and with an index above
/// [`SHARD_SIZE`]) and the [`AUX_FILES`] of `aux_from`, byte for byte. A checkpoint that is there already is replaced as a whole.
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
    staging: Draft,
}

impl CheckpointWriter {
    /// Starts a folder that will be at `target`; parent folders are made.
    ///
    /// # Errors
    /// `Io` if the folder beside it cannot be made.
    pub fn new(target: &Path) -> Result<Self> {
        let staging = beside(target, "partial");
        remove(&staging)?;
        let staging = Draft::create(staging.clone()).map_err(ModelError::io(&staging))?;
        Ok(Self { target: target.to_path_buf(), staging })
    }

    /// Writes `config.json` and the weights; see [`write()`]. Tensors are taken one by one: one is in memory at a time.
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
        self.model_sharded(config, tensors, (dtype, SHARD_SIZE))
    }

    /// The same with at most so many bytes of tensors in a file.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn model_sharded<N, D>(
        &self,
        config: &Config,
        tensors: impl IntoIterator<Item = (N, Vec<usize>, D)>,
        (dtype, shard_size): (Dtype, u64),
    ) -> Result<()>
    where
        N: Into<String>,
        D: AsRef<[f32]>,
    {
        let shards = shards(&names(config), dtype, shard_size);
        let files = self.create(&shards, dtype)?;
        let place_of = |name: &str| files.iter().find_map(|file| Some((file, file.place(name)?)));
        // Errors call the file by the name that it would have had.
        let whole = self.target.join("model.safetensors");
        let mut missing: BTreeSet<String> = names(config).into_iter().map(|(name, _)| name).collect();
        for (name, shape, values) in tensors {
            let (tensor, values) = (name.into(), values.as_ref());
            let Some((file, place)) = place_of(&tensor).filter(|_| missing.remove(&tensor)) else {
                let why = "no parameter of the configured model, or given twice".into();
                return Err(ModelError::UnexpectedTensor { file: whole, tensor, why });
            };
            if place.shape != shape || place.len() != values.len() {
                let got = if place.shape == shape { vec![values.len()] } else { shape };
                return Err(ModelError::TensorShape { file: whole, tensor, expected: place.shape.clone(), got });
            }
            file.write(place, 0, values)?;
        }
        if let Some(tensor) = missing.pop_first() {
            return Err(ModelError::MissingTensor { file: whole, tensor });
        }
        self.complete(config, &shards, files, dtype)
    }

    /// Writes `config.json` and the weights, each piece of each tensor as `fill` makes it, on all of rayon's threads.
    /// A thread holds one piece of about two million bytes at a time, however large the model is. `done` is told the bytes of
    /// tensors that were written since it was last called.
    ///
    /// # Errors
    /// `Io` naming the file.
    pub fn model_from(
        &self,
        config: &Config,
        (dtype, shard_size): (Dtype, u64),
        fill: &Fill<'_>,
        done: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        let shards = shards(&names(config), dtype, shard_size);
        let files = self.create(&shards, dtype)?;
        let tensors = shards.iter().zip(&files).flat_map(|(shard, file)| {
            shard.tensors.iter().filter_map(move |(name, _)| Some((file, name.as_str(), file.place(name)?)))
        });
        let pieces: Vec<_> = tensors
            .flat_map(|(file, name, place)| {
                (0..place.len()).step_by(PIECE).map(move |first| (file, name, place, first))
            })
            .collect();
        pieces.par_iter().try_for_each_init(Vec::new, |values, &(file, name, place, first)| {
            values.resize(PIECE.min(place.len() - first), 0.0);
            fill(name, &place.shape, first, values);
            file.write(place, first, values).inspect(|()| done((values.len() * dtype.bytes()) as u64))
        })?;
        self.complete(config, &shards, files, dtype)
    }

    /// The files of the shards, headers written.
    fn create(&self, shards: &[Shard], dtype: Dtype) -> Result<Vec<TensorWriter>> {
        let create =
            |shard: &Shard| TensorWriter::create(&self.staging.path().join(&shard.file), &shard.tensors, dtype);
        shards.iter().map(create).collect()
    }

    /// Ends the files and adds the index, if there are several, and `config.json`.
    fn complete(&self, config: &Config, shards: &[Shard], files: Vec<TensorWriter>, dtype: Dtype) -> Result<()> {
        files.into_iter().try_for_each(TensorWriter::finish)?;
        if shards.len() > 1 {
            self.file("model.safetensors.index.json", pretty(&index(shards, dtype)).as_bytes())?;
        }
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
        let path = self.staging.path().join(file);
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
        let path = self.staging.path().join(name);
        fs::write(&path, content).map_err(ModelError::io(&path))?;
        sync(&path)
    }

    /// Copies those of the [`AUX_FILES`] that the folder `from` has, byte for byte.
    ///
    /// # Errors
    /// `Io` naming the file.
    pub fn aux(&self, from: &Path) -> Result<()> {
        fs::metadata(from).map_err(ModelError::io(from))?;
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
        sync(self.staging.path())?;
        let replaced = beside(&self.target, "replaced");
        remove(&replaced)?;
        if self.target.exists() {
            fs::rename(&self.target, &replaced).map_err(ModelError::io(&self.target))?;
        }
        fs::rename(self.staging.path(), &self.target).map_err(ModelError::io(&self.target))?;
        if let Some(parent) = self.target.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync(parent)?;
        }
        remove(&replaced)
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
        stored(self.dtype)
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
        self.values.as_ref().len() * self.dtype.bytes()
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
