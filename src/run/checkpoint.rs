//! Checkpoints that training goes on from to the bit: Hugging Face's layout in f32, or an adapter in PEFT's, the optimiser's moments
//! (`trainer.safetensors`) and where the run stood (`trainer.json`).

use std::path::Path;

use imagent_models::adamw::Moments;
use imagent_models::checkpoint::{CheckpointWriter, TensorFile};
use imagent_models::config::Dtype;
use imagent_models::error::ModelError;
use imagent_models::ops::Kernels;
use imagent_models::policy::QwenPolicy;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The version of `trainer.json`.
const VERSION: u32 = 1;
const STATE: &str = "trainer.json";
const MOMENTS: &str = "trainer.safetensors";

/// Where a run stood; samples and randomness are functions of seed and step, so this is all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Of this file.
    pub version: u32,
    /// Steps done.
    pub step: usize,
    /// Updates of the weights done.
    pub updates: u64,
    /// The run's seed.
    pub seed: u64,
}

/// Writes a checkpoint folder, all of it or nothing; tokenizer and templates come from `aux_from`.
///
/// # Errors
/// Names the file that could not be written.
pub fn save<D: Kernels>(
    policy: &QwenPolicy<D>,
    dir: &Path,
    aux_from: &Path,
    step: usize,
    seed: u64,
) -> Result<(), Error> {
    let state = TrainerState { version: VERSION, step, updates: policy.optimizer.step, seed };
    write(policy, dir, aux_from, &state).map_err(Error::SaveModel)
}

fn write<D: Kernels>(
    policy: &QwenPolicy<D>,
    dir: &Path,
    aux_from: &Path,
    state: &TrainerState,
) -> Result<(), ModelError> {
    let writer = CheckpointWriter::new(dir)?;
    policy.write(&writer, Dtype::F32)?;
    writer.aux(aux_from)?;
    let parameters = policy.model.parameters().iter().zip(&policy.optimizer.moments);
    let moments = parameters.flat_map(|(parameter, Moments { first, second })| {
        let tensor = |what: &str, values| (format!("{what}.{}", parameter.name), parameter.shape.clone(), values);
        [tensor("first", first), tensor("second", second)]
    });
    writer.tensors(MOMENTS, moments, Dtype::F32)?;
    writer.file(STATE, serde_json::to_string_pretty(state).unwrap_or_default().as_bytes())?;
    writer.finish()
}

/// Puts a checkpoint's weights and optimiser state into `policy`; returns the number of steps done.
///
/// # Errors
/// When it is not a checkpoint of a run with this seed, or does not fit the model.
pub fn load<D: Kernels>(policy: &mut QwenPolicy<D>, dir: &Path, seed: u64) -> Result<usize, Error> {
    let path = dir.join(STATE);
    let bad = |problem: String| Error::BadCheckpoint { path: path.clone(), problem };
    let text = std::fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
    let state: TrainerState = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    if state.version != VERSION {
        return Err(bad(format!("version {} is not {VERSION}, the one that is read", state.version)));
    }
    if state.seed != seed {
        return Err(bad(format!("of a run with seed {}, not {seed}", state.seed)));
    }
    read(policy, dir, &state).map_err(Error::OpenModel)?;
    Ok(state.step)
}

fn read<D: Kernels>(policy: &mut QwenPolicy<D>, dir: &Path, state: &TrainerState) -> Result<(), ModelError> {
    policy.read(dir)?;
    let moments = TensorFile::open(&dir.join(MOMENTS))?;
    for (index, parameter) in policy.model.parameters().iter().enumerate() {
        let tensor = |what: &str| -> Result<Vec<f32>, ModelError> {
            let tensor = format!("{what}.{}", parameter.name);
            let (shape, values) = moments.tensor_f32(&tensor)?;
            if shape == parameter.shape {
                return Ok(values);
            }
            let (file, expected) = (moments.path().to_owned(), parameter.shape.clone());
            Err(ModelError::TensorShape { file, tensor, expected, got: shape })
        };
        policy.optimizer.moments[index] = Moments { first: tensor("first")?, second: tensor("second")? };
    }
    policy.optimizer.step = state.updates;
    Ok(())
}
