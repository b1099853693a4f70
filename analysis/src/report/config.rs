//! What a reader wants to know of a configuration at a glance, whatever its sections are called.

use toml::Value;

/// Keys worth showing, by their last part; those without a section or called `type` come in the order of the file.
const WORTH: [&str; 22] = [
    "type",
    "model",
    "size",
    "preset",
    "data",
    "dataset",
    "train",
    "path",
    "seed",
    "steps",
    "epochs",
    "group_size",
    "prompts_per_step",
    "batch_size",
    "learning_rate",
    "lr",
    "temperature",
    "max_turns",
    "max_new_tokens",
    "tool_gain",
    "beta",
    "kl_coef",
];
/// Most of them that are shown.
const MOST: usize = 18;

/// `(key, value)` of the settings to show; nothing of a text that is not TOML.
pub(super) fn summary(config: &str) -> Vec<(String, String)> {
    let Ok(table) = config.parse::<toml::Table>() else { return Vec::new() };
    let mut found = Vec::new();
    table.iter().for_each(|(key, value)| flatten(key, value, &mut found));
    found.retain(|(key, _)| WORTH.contains(&key.rsplit('.').next().unwrap_or(key)));
    found.truncate(MOST);
    found
}

fn flatten(key: &str, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Table(table) => table.iter().for_each(|(name, value)| flatten(&format!("{key}.{name}"), value, out)),
        Value::Array(items) if items.iter().any(Value::is_table) => {
            // A list of plug-ins is told by their types; their fields are in the full configuration.
            let types: Vec<&str> = items.iter().filter_map(|item| item.get("type")?.as_str()).collect();
            if !types.is_empty() {
                out.push((format!("{key}.type"), types.join(", ")));
            }
        }
        Value::String(text) => out.push((key.to_owned(), text.clone())),
        Value::Float(number) if *number != 0.0 && number.abs() < 1e-3 => {
            out.push((key.to_owned(), format!("{number:e}")))
        }
        other => out.push((key.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_found_at_any_depth() {
        let config = "seed = 3\nnoise = 1\n[optimizer]\ntype = \"Grpo\"\n[[tools]]\ntype = \"ZoomIn\"\n[[tools]]\ntype = \"LookBack\"\n[a.b]\nlearning_rate = 1e-4";
        let mut found = summary(config);
        found.sort();
        let found: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            found,
            [
                ("a.b.learning_rate", "1e-4"),
                ("optimizer.type", "Grpo"),
                ("seed", "3"),
                ("tools.type", "ZoomIn, LookBack")
            ]
        );
        assert!(summary("not [ toml").is_empty());
    }
}
