//! What of a model is trained: everything, everything but frozen parts, or an adapter on a frozen model.

use std::path::{Path, PathBuf};

use dfdx::prelude::*;

use super::layout::Module;
use super::model::Qwen;
use super::weights::device_error;
use crate::adamw::Group;
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::lora::{Adapter, LoraConfig, PeftAdapter};
use crate::ops::{Kernels, Matrix};

/// What of a model is trained, and how its passes are run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tuning {
    /// Patterns of hub names of parameters that are not trained; `*` stands for any letters.
    pub freeze: Vec<String>,
    /// Trains a low-rank adapter; all other weights are frozen.
    pub lora: Option<LoraConfig>,
    /// A folder with an adapter in PEFT's format to start from.
    pub adapter: Option<PathBuf>,
    /// Runs each block again in the backward pass instead of keeping what it computed.
    pub gradient_checkpointing: bool,
    /// Seed of the adapter's start values and of its dropout.
    pub seed: u64,
}

/// Where a trained parameter lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the weights, at this index.
    Weight(usize),
    /// The `A` of this pair of the adapter.
    A(usize),
    /// The `B`.
    B(usize),
}

/// A parameter that is trained.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its hub name; of an adapter's matrices `MODULE.lora_A.weight` and `MODULE.lora_B.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whose learning rate it has.
    pub group: Group,
    /// Whether it is a matrix, and no norm or bias.
    pub is_matrix: bool,
    place: Place,
}

impl Parameter {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The first stage of tower and language model that has something to train; what lies before it runs without a tape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Starts {
    /// Patch embedding 0, block `i` at `i + 1`, then the merger; one more: nothing is trained.
    pub(crate) tower: usize,
    /// Embedding 0, layer `i` at `i + 1`, then norm and head.
    pub(crate) text: usize,
}

impl Starts {
    fn of(config: &Config, parameters: &[Parameter]) -> Self {
        let (depth, layers) = (config.vision.depth, config.text.layers);
        let mut starts = Self { tower: depth + 2, text: layers + 1 };
        for parameter in parameters {
            let name = parameter.name.as_str();
            let index = |rest: &str| rest.split('.').next().and_then(|index| index.parse::<usize>().ok()).unwrap_or(0);
            if let Some(rest) = name.strip_prefix("visual.blocks.") {
                starts.tower = starts.tower.min(index(rest) + 1);
            } else if name.starts_with("visual.merger.") {
                starts.tower = starts.tower.min(depth + 1);
            } else if name.starts_with("visual.") {
                starts.tower = 0;
            } else if let Some(rest) = name.strip_prefix("model.layers.") {
                starts.text = starts.text.min(index(rest) + 1);
            } else if name.starts_with("model.embed_tokens.") {
                starts.text = 0;
            }
        }
        starts
    }
}

/// What is trained of a model, as its passes and its optimiser need it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trained {
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) starts: Starts,
}

impl<D: Kernels> Qwen<D> {
    /// Sets what is trained.
    ///
    /// # Errors
    /// `Config` naming the key: a pattern that matches nothing, frozen parts beside an adapter, an adapter with other
    /// settings than `lora`; `InferenceOnly` if the weights were opened for inference; whatever reading the adapter says.
    pub fn tune(&mut self, tuning: &Tuning) -> Result<()> {
        if !self.weights.can_train() {
            return Err(ModelError::InferenceOnly);
        }
        self.gradient_checkpointing = tuning.gradient_checkpointing;
        self.seed = tuning.seed;
        let adapter = self.open_adapter(tuning)?;
        let with_adapter = adapter.is_some();
        if with_adapter && !tuning.freeze.is_empty() {
            let expected = "nothing: with an adapter every other weight is frozen";
            return Err(refused("model.freeze", expected, format!("{:?}", tuning.freeze)));
        }
        let names: Vec<String> = self.weights.entries().iter().map(|entry| entry.name.clone()).collect();
        if let Some(pattern) = tuning.freeze.iter().find(|pattern| !names.iter().any(|name| matches(pattern, name))) {
            let expected = "patterns of parameter names, such as visual.* or model.embed_tokens.*";
            return Err(refused("model.freeze", expected, format!("{pattern:?}, which matches none")));
        }
        for (index, name) in names.iter().enumerate() {
            let frozen = with_adapter || tuning.freeze.iter().any(|pattern| matches(pattern, name));
            self.weights.set_trained(index, !frozen);
        }
        self.set_adapter(adapter);
        if self.trained.parameters.is_empty() {
            return Err(refused("model.freeze", "something left to train", format!("{:?}", tuning.freeze)));
        }
        Ok(())
    }

    /// Puts an adapter in PEFT's format on the model, all other weights frozen; where they were opened for inference, the
    /// adapter is not trained either.
    ///
    /// # Errors
    /// Whatever reading the adapter says.
    pub fn adapt(&mut self, dir: &Path) -> Result<()> {
        let adapter = PeftAdapter::open(dir)?.load(&self.modules(), &self.device)?;
        (0..self.weights.entries().len()).for_each(|index| self.weights.set_trained(index, false));
        self.set_adapter(Some(adapter));
        Ok(())
    }

    fn open_adapter(&self, tuning: &Tuning) -> Result<Option<Adapter<D>>> {
        let modules = self.modules();
        let names: Vec<&str> = modules.iter().map(|(name, ..)| *name).collect();
        let Some(dir) = &tuning.adapter else {
            let Some(lora) = &tuning.lora else { return Ok(None) };
            let chosen: Vec<_> = lora.choose(&names)?.into_iter().map(|i| modules[i]).collect();
            return Adapter::fresh(lora, &chosen, tuning.seed, &self.device).map(Some);
        };
        let mut adapter = PeftAdapter::open(dir)?.load(&modules, &self.device)?;
        if let Some(lora) = &tuning.lora {
            let differ = |key: &str, wanted: String, got: String| {
                let expected = format!("that of {}, which is {got}", dir.display());
                Err(refused(&format!("model.lora.{key}"), &expected, wanted))
            };
            let found = &adapter.config;
            if lora.rank != found.rank {
                return differ("rank", lora.rank.to_string(), found.rank.to_string());
            }
            if lora.scale() != found.scale() {
                return differ("alpha", lora.alpha.to_string(), found.alpha.to_string());
            }
            let wanted: Vec<&str> = lora.choose(&names)?.into_iter().map(|i| names[i]).collect();
            let found: Vec<&str> = adapter.pairs.iter().map(|pair| pair.module.as_str()).collect();
            if wanted != found {
                let count = |modules: &[&str]| format!("{} modules", modules.len());
                return differ("target_modules", count(&wanted), count(&found));
            }
            adapter.config = lora.clone();
        }
        Ok(Some(adapter))
    }

    /// Puts an adapter on the model, or takes it off.
    pub(crate) fn set_adapter(&mut self, adapter: Option<Adapter<D>>) {
        self.layout.adapted = match &adapter {
            None => Vec::new(),
            Some(adapter) => {
                let place = |name: &str| adapter.pairs.iter().position(|pair| pair.module == name);
                self.layout.modules.iter().map(|module| place(&module.name)).collect()
            }
        };
        self.adapter = adapter;
        let parameters = self.list_parameters();
        self.trained = Trained { starts: Starts::of(&self.config, &parameters), parameters }.into();
    }

    /// Puts other values into the adapter, read from `file`.
    pub(crate) fn replace_adapter(&mut self, found: Adapter<D>, file: &Path) -> Result<()> {
        let Some(adapter) = &mut self.adapter else { return Ok(()) };
        let names = |adapter: &Adapter<D>| adapter.pairs.iter().map(|pair| pair.module.clone()).collect::<Vec<_>>();
        let (wanted, there) = (names(adapter), names(&found));
        if let Some(missing) = wanted.iter().find(|name| !there.contains(name)) {
            return Err(ModelError::MissingTensor { file: file.into(), tensor: format!("{missing}.lora_A.weight") });
        }
        if let Some(tensor) = there.into_iter().find(|name| !wanted.contains(name)) {
            let why = "of a module that `model.lora` does not adapt".into();
            return Err(ModelError::UnexpectedTensor { file: file.into(), tensor, why });
        }
        adapter.pairs = found.pairs;
        Ok(())
    }

    fn list_parameters(&self) -> Vec<Parameter> {
        let entries = self.weights.entries().iter().enumerate().filter(|(_, entry)| entry.trained);
        let weights = entries.map(|(index, entry)| Parameter {
            name: entry.name.clone(),
            shape: entry.shape.clone(),
            group: Group::of(&entry.name),
            is_matrix: entry.is_matrix(),
            place: Place::Weight(index),
        });
        let trained = self.adapter.iter().filter(|_| self.weights.can_train());
        let pairs = trained.flat_map(|adapter| adapter.pairs.iter().enumerate());
        let adapter = pairs.flat_map(|(i, pair)| {
            let matrix = |which: &str, (rows, columns): (usize, usize), place| Parameter {
                name: format!("{}.lora_{which}.weight", pair.module),
                shape: vec![rows, columns],
                group: Group::of(&pair.module),
                is_matrix: true,
                place,
            };
            [matrix("A", *pair.a.shape(), Place::A(i)), matrix("B", *pair.b.shape(), Place::B(i))]
        });
        weights.chain(adapter).collect()
    }

    /// The parameters that are trained, in order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.trained.parameters
    }

    /// Hub name, outputs and inputs of every linear map that can be adapted.
    pub fn modules(&self) -> Vec<(&str, usize, usize)> {
        let shape = |module: &Module| self.weights.matrix(module.weight).values.shape();
        let sizes = self.layout.modules.iter().map(|module| (module.name.as_str(), shape(module)));
        sizes.map(|(name, (out, inputs))| (name, out, inputs)).collect()
    }

    /// A copy of a parameter's values on the host.
    pub fn parameter(&self, parameter: &Parameter) -> Vec<f32> {
        match (parameter.place, self.pair(parameter.place)) {
            (Place::Weight(index), _) => self.weights.values(index),
            (_, Some(matrix)) => matrix.as_vec(),
            (_, None) => Vec::new(),
        }
    }

    /// Overwrites a parameter.
    pub fn set_parameter(&mut self, index: usize, values: &[f32]) {
        let place = self.trained.parameters[index].place;
        match (place, &mut self.adapter) {
            (Place::Weight(index), _) => self.weights.set(index, values),
            (Place::A(i), Some(adapter)) => adapter.pairs[i].a.copy_from(values),
            (Place::B(i), Some(adapter)) => adapter.pairs[i].b.copy_from(values),
            (Place::A(_) | Place::B(_), None) => {}
        }
    }

    /// A parameter's gradient on the host.
    pub fn parameter_gradient(&self, parameter: &Parameter, gradients: &mut Gradients<f32, D>) -> Result<Vec<f32>> {
        match (parameter.place, self.pair(parameter.place)) {
            (Place::Weight(index), _) => self.weights.gradient(index, gradients),
            (_, Some(matrix)) => {
                gradients.try_alloc_for(matrix).map_err(device_error("gradient"))?;
                Ok(gradients.get(matrix).as_vec())
            }
            (_, None) => Ok(Vec::new()),
        }
    }

    fn pair(&self, place: Place) -> Option<&Matrix<D>> {
        let pairs = self.adapter.as_ref().map(|adapter| &adapter.pairs)?;
        match place {
            Place::Weight(_) => None,
            Place::A(i) => Some(&pairs[i].a),
            Place::B(i) => Some(&pairs[i].b),
        }
    }

    /// A weight's values on the host, the adapter merged into them where there is one.
    pub fn merged(&self, index: usize) -> Vec<f32> {
        let mut values = self.weights.values(index);
        if let Some(adapter) = &self.adapter
            && let Some(module) = self.weights.entries()[index].name.strip_suffix(".weight")
            && let Some(pair) = adapter.pairs.iter().find(|pair| pair.module == module)
        {
            pair.merge(&mut values, adapter.config.scale());
        }
        values
    }
}

fn refused(field: &str, expected: &str, got: String) -> ModelError {
    ModelError::Config { file: "config".into(), field: field.into(), expected: expected.into(), got }
}

/// Whether a name is what a pattern says, `*` standing for any letters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|start| name.strip_prefix(start)) else { return false };
    let Some((last, middle)) = parts.collect::<Vec<_>>().split_last().map(|(last, middle)| (*last, middle.to_vec()))
    else {
        return rest.is_empty();
    };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_letters() {
        for (pattern, name, is) in [
            ("visual.*", "visual.merger.ln_q.weight", true),
            ("visual.*", "model.visual.x", false),
            ("*.bias", "visual.blocks.0.attn.qkv.bias", true),
            ("model.layers.*.mlp.*.weight", "model.layers.10.mlp.up_proj.weight", true),
            ("model.layers.*.mlp.*.weight", "model.layers.10.mlp.weight", false),
            ("model.norm.weight", "model.norm.weight", true),
            ("model.norm", "model.norm.weight", false),
            ("*", "lm_head.weight", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
    }
}
