//! How a model is divided into files: the division and the index that Hugging Face's `save_pretrained` makes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::config::Dtype;

/// Most bytes of tensors in one file unless said otherwise, as in Hugging Face's: 5 GB.
pub const SHARD_SIZE: u64 = 5_000_000_000;

/// A file's name, and the names and shapes of its tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// `model.safetensors`, or `model-00001-of-00002.safetensors`.
    pub file: String,
    /// What stands in it, in the model's order.
    pub tensors: Vec<(String, Vec<usize>)>,
}

/// Divides tensors into files of at most `limit` bytes, in order; a tensor that is larger gets a file of its own.
///
/// ```
/// use imagent_models::{checkpoint::shards, config::Dtype};
/// let tensors = ["a", "b", "c"].map(|name| (name.to_owned(), vec![4, 2]));
/// let files: Vec<String> = shards(&tensors, Dtype::Bf16, 40).into_iter().map(|shard| shard.file).collect();
/// assert_eq!(files, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
/// ```
pub fn shards(tensors: &[(String, Vec<usize>)], dtype: Dtype, limit: u64) -> Vec<Shard> {
    let (mut full, mut current, mut used) = (Vec::new(), Vec::new(), 0);
    for (name, shape) in tensors {
        let bytes = bytes(shape, dtype);
        if bytes > limit {
            full.push(vec![(name.clone(), shape.clone())]);
            continue;
        }
        if used + bytes > limit {
            full.push(std::mem::take(&mut current));
            used = 0;
        }
        current.push((name.clone(), shape.clone()));
        used += bytes;
    }
    if !current.is_empty() || full.is_empty() {
        full.push(current);
    }
    let count = full.len();
    let file = |number: usize| match count {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
    };
    full.into_iter().enumerate().map(|(number, tensors)| Shard { file: file(number), tensors }).collect()
}

/// Content of `model.safetensors.index.json`.
pub(super) fn index(shards: &[Shard], dtype: Dtype) -> Value {
    let all = || shards.iter().flat_map(|shard| shard.tensors.iter().map(move |(name, shape)| (shard, name, shape)));
    let parameters: u64 = all().map(|(_, _, shape)| bytes(shape, dtype) / dtype.bytes() as u64).sum();
    let map: BTreeMap<&String, &String> = all().map(|(shard, name, _)| (name, &shard.file)).collect();
    json!({
        "metadata": {"total_parameters": parameters, "total_size": parameters * dtype.bytes() as u64},
        "weight_map": map,
    })
}

fn bytes(shape: &[usize], dtype: Dtype) -> u64 {
    (shape.iter().product::<usize>() * dtype.bytes()) as u64
}
