//! Reads a model's weights from a folder, under either generation of names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::names::{hub_name, names};
use super::stored::Stored;
use super::tensor_file::TensorFile;
use crate::config::{Config, Dtype};
use crate::error::{ModelError, Result, read_json};

/// A folder's weights: `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    files: Vec<Arc<TensorFile>>,
    /// Hub name to (file, name in the file).
    index: BTreeMap<String, (usize, String)>,
}

/// The part of an index that matters.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Maps the files and reads their headers.
    ///
    /// # Errors
    /// `Io`, `Json` or `Safetensors` naming the file; `MissingTensor` if a shard lacks what the index says is there;
    /// `UnexpectedTensor` if two files, or both generations of names, hold the same parameter.
    pub fn open(dir: &Path) -> Result<Self> {
        let single = dir.join("model.safetensors");
        let shards = dir.join("model.safetensors.index.json");
        let (paths, listed) = if !single.is_file() && shards.is_file() {
            let index: ShardIndex = read_json(&shards)?;
            (shard_paths(dir, &shards, &index)?, index.weight_map)
        } else {
            (vec![single], BTreeMap::new())
        };
        let files: Vec<Arc<TensorFile>> =
            paths.iter().map(|p| TensorFile::open(p).map(Arc::new)).collect::<Result<_>>()?;
        let index = index_files(&files)?;
        let checkpoint = Self { dir: dir.to_path_buf(), files, index };
        match listed.iter().find(|(name, file)| !checkpoint.is_in(name, file)) {
            Some((name, file)) => Err(ModelError::MissingTensor { file: dir.join(file), tensor: name.clone() }),
            None => Ok(checkpoint),
        }
    }

    /// Hub names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.index.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name (either generation).
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(&hub_name(name))
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &TensorFile> {
        self.files.iter().map(AsRef::as_ref)
    }

    /// Numbers of elements by element type as the files call it.
    pub fn dtypes(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (file, stored) in self.index.values() {
            let file = &self.files[*file];
            let elements = file.shape(stored).map_or(0, |shape| shape.iter().product::<usize>() as u64);
            *counts.entry(file.dtype(stored).unwrap_or_default()).or_default() += elements;
        }
        counts
    }

    /// Shape and values (row-major) of a tensor, by either generation of its name, widened to f32.
    ///
    /// # Errors
    /// `MissingTensor` or `TensorType`, naming file and tensor.
    pub fn tensor_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let (file, stored) = self.find(name)?;
        file.tensor_f32(stored)
    }

    /// A tensor as it is stored, or in `dtype`, by either generation of its name; see [`TensorFile::stored`].
    ///
    /// # Errors
    /// As [`Self::tensor_f32`].
    pub fn stored(&self, name: &str, dtype: Option<Dtype>) -> Result<Stored> {
        let (file, stored) = self.find(name)?;
        file.stored(stored, dtype)
    }

    /// Values of a tensor that must have a shape.
    ///
    /// # Errors
    /// As [`Self::tensor_f32`], and `TensorShape`.
    pub fn tensor_shaped(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.check_shape(name, shape)?;
        self.tensor_f32(name).map(|(_, values)| values)
    }

    /// Checks, without reading values, that every parameter of the configured model is here with its shape, and nothing
    /// else. A head beside a tied embedding and stored rotary frequencies are let pass: the model ignores them.
    ///
    /// # Errors
    /// `MissingTensor`, `TensorShape` or `UnexpectedTensor`, naming file and tensor.
    pub fn check(&self, config: &Config) -> Result<()> {
        let wanted = names(config);
        for (name, shape) in &wanted {
            self.check_shape(name, shape)?;
        }
        let known: BTreeSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
        let harmless = |name: &str| {
            name.ends_with("rotary_emb.inv_freq")
                || name.ends_with("rotary_pos_emb.inv_freq")
                || (config.text.tie_word_embeddings && name == "lm_head.weight")
        };
        match self.index.iter().find(|(name, _)| !known.contains(name.as_str()) && !harmless(name)) {
            Some((_, (file, stored))) => Err(ModelError::UnexpectedTensor {
                file: self.files[*file].path().to_path_buf(),
                tensor: stored.clone(),
                why: "no parameter of the configured model".into(),
            }),
            None => Ok(()),
        }
    }

    /// Whether a tensor stands in the file that the index names.
    fn is_in(&self, name: &str, file: &str) -> bool {
        let found = self.index.get(&hub_name(name)).map(|(number, _)| self.files[*number].path());
        found.and_then(Path::file_name).is_some_and(|found| found == file)
    }

    fn check_shape(&self, name: &str, shape: &[usize]) -> Result<()> {
        let (file, stored) = self.find(name)?;
        match file.shape(stored) {
            Some(got) if got != shape => Err(ModelError::TensorShape {
                file: file.path().to_path_buf(),
                tensor: stored.to_owned(),
                expected: shape.to_vec(),
                got: got.to_vec(),
            }),
            _ => Ok(()),
        }
    }

    fn find(&self, name: &str) -> Result<(&Arc<TensorFile>, &str)> {
        let missing = || ModelError::MissingTensor {
            file: match self.files.as_slice() {
                [one] => one.path().to_path_buf(),
                _ => self.dir.clone(),
            },
            tensor: name.to_owned(),
        };
        let (file, stored) = self.index.get(&hub_name(name)).ok_or_else(missing)?;
        Ok((&self.files[*file], stored))
    }
}

/// Files an index lists, sorted, each once; a name that leads out of the folder is refused.
fn shard_paths(dir: &Path, index_path: &Path, index: &ShardIndex) -> Result<Vec<PathBuf>> {
    let files: BTreeSet<&String> = index.weight_map.values().collect();
    let outside = |name: &&&String| Path::new(name.as_str()).file_name() != Some(name.as_ref());
    if let Some(name) = files.iter().find(outside) {
        return Err(ModelError::Config {
            file: index_path.display().to_string(),
            field: "weight_map".into(),
            expected: "names of files in the same folder".into(),
            got: (*name).clone(),
        });
    }
    Ok(files.into_iter().map(|name| dir.join(name)).collect())
}

fn index_files(files: &[Arc<TensorFile>]) -> Result<BTreeMap<String, (usize, String)>> {
    let mut index = BTreeMap::new();
    for (number, file) in files.iter().enumerate() {
        for stored in file.names() {
            if index.insert(hub_name(&stored), (number, stored.clone())).is_some() {
                let why = "there twice (in two files, or under an old and a new name)".into();
                return Err(ModelError::UnexpectedTensor { file: file.path().to_path_buf(), tensor: stored, why });
            }
        }
    }
    Ok(index)
}
