//! An adapter in PEFT's files: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dfdx::prelude::*;
use serde_json::{Map, Value, json};

use super::adapter::{Adapter, Pair};
use super::config::{LoraConfig, Targets, memory_name};
use crate::checkpoint::{CheckpointWriter, TensorFile, hub_name};
use crate::config::Dtype;
use crate::error::{ModelError, Result, pretty, read_json};
use crate::ops::Kernels;

/// The file of an adapter's settings; a folder that has it and no `config.json` is an adapter.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The file of its matrices.
pub const ADAPTER_TENSORS: &str = "adapter_model.safetensors";

/// What PEFT puts before a module's name.
const PREFIX: &str = "base_model.model.";
/// Settings of PEFT's that change what an adapter computes and are not run here: they must be off.
const OFF: [&str; 14] = [
    "alora_invocation_tokens",
    "alpha_pattern",
    "arrow_config",
    "fan_in_fan_out",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
];

/// A module and whether it is `B`, to the tensor's name in the file.
type StoredNames = BTreeMap<(String, bool), String>;

/// What the header of an adapter's matrices says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdapterHeader {
    /// The adapted modules `(hub name, out, in)`, by name.
    pub modules: Vec<(String, usize, usize)>,
    /// Element types with their numbers of elements; together, what the adapter has of parameters.
    pub dtypes: BTreeMap<String, u64>,
    /// Bytes of the file.
    pub bytes: u64,
}

/// An adapter folder whose settings were read and whose matrices were not.
#[derive(Clone, Debug)]
pub struct PeftAdapter {
    /// Its settings. `vision` and `target_modules` are as the matrices have it once they are [loaded](Self::load).
    pub config: LoraConfig,
    /// The model that it was made for: a folder, a hub id or `nano`.
    pub base: Option<String>,
    dir: PathBuf,
}

impl PeftAdapter {
    /// Whether a folder is an adapter and not a whole checkpoint.
    pub fn is_at(dir: &Path) -> bool {
        dir.join(ADAPTER_CONFIG).is_file() && !dir.join("config.json").is_file()
    }

    /// Reads `adapter_config.json`.
    ///
    /// # Errors
    /// `Io`, `Json`, or `Config` naming the field that has a value this crate cannot run.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(ADAPTER_CONFIG);
        let fields: Map<String, Value> = read_json(&path)?;
        let reader = Reader { path: &path, fields: &fields };
        let base = fields.get("base_model_name_or_path").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { config: reader.config()?, base, dir: dir.to_path_buf() })
    }

    /// Reads the header of the matrices' file: what they are for, and their sizes.
    ///
    /// # Errors
    /// `UnexpectedTensor`, `MissingTensor`, `TensorShape` or `TensorType` if they are no pairs of this adapter's rank; whatever
    /// opening says.
    pub fn header(&self) -> Result<AdapterHeader> {
        let file = TensorFile::open(&self.dir.join(ADAPTER_TENSORS))?;
        let stored = stored(&file)?;
        let names: BTreeSet<&str> = stored.keys().map(|(module, _)| module.as_str()).collect();
        let mut header = AdapterHeader { bytes: file.size(), ..AdapterHeader::default() };
        for module in names {
            let mut sides = [0; 2];
            for (side, is_b) in sides.iter_mut().zip([true, false]) {
                let tensor = tensor_of(&file, &stored, module, is_b)?;
                let shape = file.shape(tensor).unwrap_or_default();
                // A is [rank, in], B is [out, rank].
                *side = shape.get(usize::from(!is_b)).copied().unwrap_or_default();
                let expected = if is_b { [*side, self.config.rank] } else { [self.config.rank, *side] };
                same_shape(&file, tensor, shape, expected)?;
                let dtype = file.dtype(tensor).unwrap_or_default();
                if !["F32", "F16", "BF16"].contains(&dtype.as_str()) {
                    let (expected, tensor) = ("F32, F16 or BF16".into(), tensor.to_owned());
                    return Err(ModelError::TensorType { file: file.path().into(), tensor, expected, got: dtype });
                }
                *header.dtypes.entry(dtype).or_default() += (shape[0] * shape[1]) as u64;
            }
            header.modules.push((module.to_owned(), sides[0], sides[1]));
        }
        Ok(header)
    }

    /// Checks that the matrices are for linear maps `(hub name, out, in)` of a model.
    ///
    /// # Errors
    /// `UnexpectedTensor` or `TensorShape`; what [`Self::header`] says.
    pub fn check(&self, maps: &[(String, usize, usize)]) -> Result<()> {
        let file = self.dir.join(ADAPTER_TENSORS);
        for (module, out, inputs) in self.header()?.modules {
            let tensor = format!("{PREFIX}{}.lora_A.weight", memory_name(&module));
            let Some((_, rows, columns)) = maps.iter().find(|(name, ..)| *name == module) else {
                return Err(ModelError::UnexpectedTensor { file, tensor, why: FOREIGN.into() });
            };
            if (out, inputs) != (*rows, *columns) {
                // The file's own name of the tensor may be an older one; the module is the same.
                let b = out != *rows;
                let tensor = if b { tensor.replace(".lora_A.", ".lora_B.") } else { tensor };
                let rank = self.config.rank;
                let shape = |out, inputs| if b { vec![out, rank] } else { vec![rank, inputs] };
                let (expected, got) = (shape(*rows, *columns), shape(out, inputs));
                return Err(ModelError::TensorShape { file, tensor, expected, got });
            }
        }
        Ok(())
    }

    /// Reads the matrices for a model with these modules `(hub name, out, in)`; what is found there says which modules are
    /// adapted.
    ///
    /// # Errors
    /// `UnexpectedTensor`, `MissingTensor` or `TensorShape` if the adapter does not fit the model; whatever opening says.
    pub fn load<D: Kernels>(&self, modules: &[(&str, usize, usize)], device: &D) -> Result<Adapter<D>> {
        let file = TensorFile::open(&self.dir.join(ADAPTER_TENSORS))?;
        let stored = stored(&file)?;
        if let Some((_, tensor)) =
            stored.iter().find(|((module, _), _)| !modules.iter().any(|(known, ..)| known == module))
        {
            let (file, tensor) = (file.path().into(), tensor.clone());
            return Err(ModelError::UnexpectedTensor { file, tensor, why: FOREIGN.into() });
        }
        let rank = self.config.rank;
        let chosen = modules.iter().filter(|(name, ..)| stored.keys().any(|(module, _)| module == name));
        let pairs = chosen.map(|&(name, out, inputs)| {
            let a = matrix(&file, &stored, (name, false), [rank, inputs])?;
            let b = matrix(&file, &stored, (name, true), [out, rank])?;
            Pair::new(name, [rank, inputs, out], a, b, device)
        });
        let pairs: Vec<Pair<D>> = pairs.collect::<Result<_>>()?;
        let vision = pairs.iter().any(|pair| pair.module.starts_with("visual."));
        let target_modules = Targets::Names(pairs.iter().map(|pair| pair.module.clone()).collect());
        Ok(Adapter { config: LoraConfig { vision, target_modules, ..self.config.clone() }, pairs })
    }

    /// Writes an adapter of a model with these modules into a folder, for the base model `base`.
    ///
    /// # Errors
    /// Names the file that could not be written.
    pub fn write<D: Kernels>(
        writer: &CheckpointWriter,
        adapter: &Adapter<D>,
        modules: &[&str],
        base: &str,
    ) -> Result<()> {
        let tensors = adapter.pairs.iter().flat_map(|pair| {
            let module = format!("{PREFIX}{}", memory_name(&pair.module));
            let ((rank, inputs), (out, _)) = (*pair.a.shape(), *pair.b.shape());
            [
                (format!("{module}.lora_A.weight"), vec![rank, inputs], pair.a.as_vec()),
                (format!("{module}.lora_B.weight"), vec![out, rank], pair.b.as_vec()),
            ]
        });
        writer.tensors(ADAPTER_TENSORS, tensors, Dtype::F32)?;
        let LoraConfig { rank, alpha, rslora, dropout, .. } = &adapter.config;
        let alpha = if alpha.fract() == 0.0 { json!(*alpha as i64) } else { json!(alpha) };
        let settings = json!({
            "alpha_pattern": {},
            "auto_mapping": null,
            "base_model_name_or_path": base,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": null,
            "layers_to_transform": null,
            "lora_alpha": alpha,
            "lora_dropout": dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": rank,
            "rank_pattern": {},
            "revision": null,
            "target_modules": short_names(adapter, modules),
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": rslora,
        });
        writer.file(ADAPTER_CONFIG, pretty(&settings).as_bytes())
    }
}

/// The adapted modules as `target_modules` that mean the same whatever names a version of transformers uses: the end of a
/// name where all modules that end so are adapted, and from `layers.` or `visual.` on where not.
fn short_names<D: Kernels>(adapter: &Adapter<D>, modules: &[&str]) -> Vec<String> {
    let adapted: BTreeSet<&str> = adapter.pairs.iter().map(|pair| pair.module.as_str()).collect();
    let short = |name: &&str| {
        let end = ending(name);
        let all = modules.iter().filter(|other| ending(other) == end).all(|other| adapted.contains(other));
        if all { end } else { name.strip_prefix("model.").unwrap_or(name) }.to_owned()
    };
    adapted.iter().map(short).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The last part of a name, or the last two: `0` alone is also the end of `visual.blocks.0`, and `proj` that of the patch
/// embedding, neither of which PEFT could adapt.
fn ending(name: &str) -> &str {
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at + 1);
    let last = &name[dots.next().unwrap_or(0)..];
    let alone = last != "proj" && !last.starts_with(|c: char| c.is_ascii_digit());
    if alone { last } else { &name[dots.next().unwrap_or(0)..] }
}

/// Module on the hub, and whether it is `B`, of a tensor's name in the file.
fn parse(name: &str) -> Option<(String, bool)> {
    let rest = name.strip_prefix(PREFIX)?;
    let (module, is_b) = match rest.strip_suffix(".lora_A.weight") {
        Some(module) => (module, false),
        None => (rest.strip_suffix(".lora_B.weight")?, true),
    };
    Some((hub_name(module), is_b))
}

/// Why a tensor for a module that is not there should not be there.
const FOREIGN: &str = "of no linear map of the model";

/// Names of the tensors in an adapter's file, by module and whether it is `B`.
fn stored(file: &TensorFile) -> Result<StoredNames> {
    let mut stored = StoredNames::new();
    for name in file.names() {
        let unexpected = |why: &str| ModelError::UnexpectedTensor {
            file: file.path().into(),
            tensor: name.clone(),
            why: why.into(),
        };
        let place = parse(&name).ok_or_else(|| unexpected("not the A or B of a module"))?;
        if stored.insert(place, name.clone()).is_some() {
            return Err(unexpected("there twice, under an old and a new name"));
        }
    }
    if stored.is_empty() {
        let tensor = format!("{PREFIX}*.lora_A.weight");
        return Err(ModelError::MissingTensor { file: file.path().into(), tensor });
    }
    Ok(stored)
}

fn tensor_of<'a>(file: &TensorFile, stored: &'a StoredNames, module: &str, is_b: bool) -> Result<&'a str> {
    stored.get(&(module.to_owned(), is_b)).map(String::as_str).ok_or_else(|| {
        let tensor = format!("{PREFIX}{}.lora_{}.weight", memory_name(module), if is_b { "B" } else { "A" });
        ModelError::MissingTensor { file: file.path().into(), tensor }
    })
}

fn same_shape(file: &TensorFile, tensor: &str, got: &[usize], expected: [usize; 2]) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    let (file, tensor, expected) = (file.path().into(), tensor.to_owned(), expected.to_vec());
    Err(ModelError::TensorShape { file, tensor, expected, got: got.to_vec() })
}

fn matrix(
    file: &TensorFile,
    stored: &StoredNames,
    (module, is_b): (&str, bool),
    expected: [usize; 2],
) -> Result<Vec<f32>> {
    let tensor = tensor_of(file, stored, module, is_b)?;
    let (got, values) = file.tensor_f32(tensor)?;
    same_shape(file, tensor, &got, expected)?;
    Ok(values)
}

/// Reads fields of `adapter_config.json`.
struct Reader<'a> {
    path: &'a Path,
    fields: &'a Map<String, Value>,
}

impl Reader<'_> {
    fn config(&self) -> Result<LoraConfig> {
        self.is_run_here()?;
        let rank = self.field("r", "a whole number of at least 1", |value| value.as_u64().filter(|&r| r > 0))?;
        let alpha = self.field("lora_alpha", "a number above 0", |v| v.as_f64().filter(|&a| a > 0.0))?;
        let zero = json!(0.0);
        let dropout = self.fields.get("lora_dropout").unwrap_or(&zero);
        let dropout = dropout.as_f64().filter(|rate| (0.0..1.0).contains(rate));
        let dropout = dropout.ok_or_else(|| self.bad("lora_dropout", "a number in [0, 1)"))?;
        let rslora = self.fields.get("use_rslora").and_then(Value::as_bool).unwrap_or(false);
        let target_modules = match self.fields.get("target_modules") {
            None | Some(Value::Null) => LoraConfig::default().target_modules,
            Some(value) => serde_json::from_value(value.clone())
                .map_err(|_| self.bad("target_modules", "a list of module names or a regular expression"))?,
        };
        Ok(LoraConfig { rank: rank as usize, alpha, rslora, dropout, target_modules, vision: true })
    }

    /// Whether it is an adapter that is computed as here.
    fn is_run_here(&self) -> Result<()> {
        self.field("peft_type", "\"LORA\"", |value| (value == "LORA").then_some(()))?;
        let is_off = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        for field in OFF {
            if self.fields.get(field).is_some_and(|value| !is_off(value)) {
                return Err(self.bad(field, "it off: adapters that use it are not run"));
            }
        }
        if self.fields.get("bias").is_some_and(|bias| bias != "none" && !bias.is_null()) {
            return Err(self.bad("bias", "\"none\": trained biases are not run"));
        }
        match self.fields.get("init_lora_weights") {
            None | Some(Value::Null | Value::Bool(_)) => Ok(()),
            Some(Value::String(start)) if start == "gaussian" => Ok(()),
            _ => Err(self.bad("init_lora_weights", "a start that leaves the base weights as they are")),
        }
    }

    fn field<T>(&self, name: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T> {
        self.fields.get(name).and_then(read).ok_or_else(|| self.bad(name, expected))
    }

    fn bad(&self, field: &str, expected: &str) -> ModelError {
        let got = self.fields.get(field).map_or("nothing".to_owned(), ToString::to_string);
        let (file, field, expected) = (self.path.display().to_string(), field.to_owned(), expected.to_owned());
        ModelError::Config { file, field, expected, got }
    }
}
