//! The list of all plug-ins, with their fields and defaults. A test compares it with what typetag has registered.

use imagent_core::{Mask, PolicyOptimizer, Reward, Tool};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Kind, tag and purpose of a plug-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// `mask`, `optimizer`, `reward` or `tool`.
    pub kind: &'static str,
    /// The value of `type` that names it.
    pub tag: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
}

const fn entry(kind: &'static str, tag: &'static str, about: &'static str) -> Entry {
    Entry { kind, tag, about }
}

/// Every plug-in, sorted by kind and tag.
#[rustfmt::skip]
pub const PLUGINS: &[Entry] = &[
    entry("mask", "action", "trains what the policy sampled, not what tools and the template wrote"),
    entry("mask", "all", "trains what all of some masks train; for use within any and not"),
    entry("mask", "any", "trains what at least one of some masks trains"),
    entry("mask", "first_turns", "trains the first turns, and nothing after them"),
    entry("mask", "not", "trains what a mask leaves out"),
    entry("mask", "repeated_call", "leaves out turns that call a tool as an earlier turn did, or their trajectories"),
    entry("mask", "trajectory", "leaves out trajectories that ended for one of some reasons"),
    entry("optimizer", "cispo", "log-probabilities weighted by cut ratios, so that no token loses its gradient"),
    entry("optimizer", "dapo", "grpo with more room upwards and a mean over tokens"),
    entry("optimizer", "dr_grpo", "grpo without the deviation, and with a divisor that does not depend on lengths"),
    entry("optimizer", "grpo", "advantages within a group, clipped surrogate, optional pull towards a reference"),
    entry("optimizer", "gspo", "grpo with the ratio of the whole sequence"),
    entry("optimizer", "reinforce_plus_plus", "returns token by token without a baseline, whitened over the batch"),
    entry("optimizer", "reinforce_plus_plus_baseline", "rewards less the group's mean, whitened over the batch"),
    entry("optimizer", "rloo", "each trajectory against the mean of the others in its group"),
    entry("reward", "accumulative", "accuracy × (1 + per_turn × turns with a tool)"),
    entry("reward", "accuracy", "1 for a right answer"),
    entry("reward", "counterfactual", "accuracy + gain × what a tool gained over the group's tool-free trajectories"),
    entry("reward", "deepeyes", "0.8 accuracy + 0.2 format + 1.2 for a right answer with a tool"),
    entry("reward", "format", "1 for a well-formed episode"),
    entry("reward", "grounding_image", "1 where the answer names the right image"),
    entry("reward", "grounding_object", "overlap of the answer's box with the gold one, in the right image"),
    entry("reward", "imagent", "accuracy × (1 + tool_gain × tool used) + format_weight × format"),
    entry("reward", "length", "from 0 down to −1 for too many sampled tokens, or for missing a target"),
    entry("reward", "product", "rewards multiplied"),
    entry("reward", "sum", "rewards added with weights"),
    entry("reward", "tool_use", "1 when a tool returned an image"),
    entry("tool", "compare", "shows two regions of images side by side"),
    entry("tool", "contrast", "shows an image with more or less contrast"),
    entry("tool", "flip", "shows an image mirrored"),
    entry("tool", "look_back", "shows an image again"),
    entry("tool", "mark", "shows an image with a box drawn on it"),
    entry("tool", "rotate", "shows an image turned by an angle"),
    entry("tool", "withheld", "carries out another tool's calls and shows a grey image"),
    entry("tool", "zoom_in", "cuts out a region of an image and shows it enlarged"),
];

/// A plug-in with its fields.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plugin {
    /// `mask`, `optimizer`, `reward` or `tool`.
    pub kind: &'static str,
    /// The value of `type` that names it.
    #[serde(rename = "type")]
    pub tag: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Its fields with their defaults.
    pub fields: Map<String, Value>,
}

/// Every plug-in with its fields.
pub fn all() -> Vec<Plugin> {
    PLUGINS.iter().map(|&Entry { kind, tag, about }| Plugin { kind, tag, about, fields: fields(kind, tag) }).collect()
}

/// The fields that a plug-in has when only its type is given; none where one is required.
fn fields(kind: &str, tag: &str) -> Map<String, Value> {
    let bare = json!({"type": tag});
    let full = match kind {
        "mask" => full::<Box<dyn Mask>>(bare),
        "optimizer" => full::<Box<dyn PolicyOptimizer>>(bare),
        "reward" => full::<Box<dyn Reward>>(bare),
        _ => full::<Box<dyn Tool>>(bare),
    };
    match full {
        Ok(Value::Object(mut fields)) => {
            fields.shift_remove("type");
            fields
        }
        _ => Map::new(),
    }
}

/// The same with every default filled in.
fn full<T: serde::de::DeserializeOwned + Serialize>(bare: Value) -> Result<Value, serde_json::Error> {
    // Through text, so that an f32 is written as a person would write it.
    serde_json::from_str(&serde_json::to_string(&serde_json::from_value::<T>(bare)?)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The registry cannot be listed; its error for an unknown tag can.
    fn registered<T: serde::de::DeserializeOwned>() -> Vec<String> {
        let error = serde_json::from_value::<T>(json!({"type": "?"})).err().unwrap().to_string();
        let mut tags: Vec<String> = error.split('`').skip(3).step_by(2).map(str::to_owned).collect();
        tags.sort();
        tags
    }

    fn listed(kind: &str) -> Vec<&'static str> {
        PLUGINS.iter().filter(|entry| entry.kind == kind).map(|entry| entry.tag).collect()
    }

    #[test]
    fn the_list_is_sorted_and_is_the_registry() {
        assert!(PLUGINS.is_sorted());
        assert_eq!(listed("tool"), registered::<Box<dyn Tool>>());
        assert_eq!(listed("reward"), registered::<Box<dyn Reward>>());
        assert_eq!(listed("mask"), registered::<Box<dyn Mask>>());
        assert_eq!(listed("optimizer"), registered::<Box<dyn PolicyOptimizer>>());
    }

    #[test]
    fn the_list_is_that_of_the_crates() {
        assert_eq!(listed("tool"), imagent_tools::PLUGINS);
        assert_eq!(listed("reward"), imagent_rewards::PLUGINS);
        for kind in ["mask", "optimizer"] {
            let own = imagent_algorithms::PLUGINS.iter().filter(|plugin| plugin.kind == kind).map(|plugin| plugin.tag);
            assert_eq!(listed(kind), own.collect::<Vec<_>>());
        }
    }

    #[test]
    fn fields_come_with_defaults_and_in_toml_too() {
        let grpo = all().into_iter().find(|plugin| plugin.tag == "grpo").unwrap();
        assert_eq!(grpo.fields["clip_low"].to_string(), "0.2");
        for plugin in all() {
            let mut table = Map::from_iter([("type".to_owned(), json!(plugin.tag))]);
            table.extend(plugin.fields.clone());
            toml::to_string(&table).unwrap();
        }
    }
}
