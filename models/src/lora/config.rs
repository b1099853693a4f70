//! Settings of an adapter, and the name patterns that say which modules get one.

use std::fmt;

use fancy_regex::Regex;
use serde::de::{SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{ModelError, Result};

/// The string that stands for every linear map of the decoder layers and, with `vision`, of the tower; as in PEFT.
const ALL_LINEAR: &str = "all-linear";

/// Settings of a low-rank adapter: an adapted map is `x Wᵀ + b + s drop(x) Aᵀ Bᵀ`, where `W` and `b` are frozen.
///
/// Names and defaults are PEFT's, with one exception: by default all linear maps of the language model are adapted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rows of `A` and columns of `B`, at least 1. Default 8.
    pub rank: usize,
    /// `s = alpha / rank`; above 0. Default 8.
    pub alpha: f64,
    /// `s = alpha / √rank` instead (Kalajdzievski, arXiv 2312.03732). Default false.
    pub rslora: bool,
    /// Probability of each element of an adapted map's input to be dropped while training, in `[0, 1)`. Default 0.
    pub dropout: f64,
    /// Which modules are adapted. Default `all-linear`.
    pub target_modules: Targets,
    /// Whether modules of the vision tower are adapted too, where they match. Default false.
    pub vision: bool,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 8.0,
            rslora: false,
            dropout: 0.0,
            target_modules: Targets::Pattern(ALL_LINEAR.into()),
            vision: false,
        }
    }
}

impl LoraConfig {
    /// Checks the ranges, and that a pattern can be read.
    ///
    /// # Errors
    /// `Config` with the field's name.
    pub fn validate(&self) -> Result<()> {
        let fail = |field: &str, expected: &str, got: String| {
            let (file, field, expected) = ("lora settings".into(), field.into(), expected.into());
            Err(ModelError::Config { file, field, expected, got })
        };
        if self.rank == 0 {
            return fail("rank", "a whole number of at least 1", "0".into());
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return fail("alpha", "a number above 0", self.alpha.to_string());
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return fail("dropout", "a number in [0, 1)", self.dropout.to_string());
        }
        match &self.target_modules {
            Targets::Names(names) if names.is_empty() => fail("target_modules", "at least one name", "[]".into()),
            Targets::Pattern(pattern) => match whole(pattern) {
                Ok(_) => Ok(()),
                Err(error) => fail("target_modules", "a regular expression", format!("{pattern:?}: {error}")),
            },
            Targets::Names(_) => Ok(()),
        }
    }

    /// What the low-rank term is multiplied with.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f64;
        (self.alpha / if self.rslora { rank.sqrt() } else { rank }) as f32
    }

    /// Of module names as on the hub, those to adapt, as indices.
    ///
    /// # Errors
    /// `Config` if a name or the pattern matches no module.
    pub fn choose(&self, modules: &[&str]) -> Result<Vec<usize>> {
        self.validate()?;
        let open = |module: &&str| self.vision || !module.starts_with("visual.");
        for target in self.target_modules.each() {
            if !modules.iter().filter(|module| open(module)).any(|module| target.matches(module)) {
                let vision = modules.iter().any(|module| target.matches(module));
                let hint = if vision { "it matches modules of the tower only; set `vision = true`" } else { "no such" };
                return Err(ModelError::Config {
                    file: "config".into(),
                    field: "model.lora.target_modules".into(),
                    expected: "names of linear maps, such as q_proj or layers.0.mlp.up_proj".into(),
                    got: format!("{target} ({hint})"),
                });
            }
        }
        let chosen = |module: &str| self.target_modules.each().iter().any(|target| target.matches(module));
        Ok((0..modules.len()).filter(|&i| open(&modules[i]) && chosen(modules[i])).collect())
    }
}

/// Modules by name, as PEFT's `target_modules`: a list of names or of their last parts (`q_proj`,
/// `layers.0.mlp.up_proj`), or a regular expression that a whole name must match. A name is that on the hub
/// (`model.layers.0.self_attn.q_proj`, `visual.blocks.0.attn.qkv`) or the one newer transformers use in memory
/// (`model.language_model.layers.…`, `model.visual.…`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Targets {
    /// Names or their last parts.
    Names(Vec<String>),
    /// A regular expression, or `all-linear`.
    Pattern(String),
}

impl Targets {
    fn each(&self) -> Vec<Target<'_>> {
        match self {
            Self::Names(names) => names.iter().map(|name| Target::Name(name)).collect(),
            Self::Pattern(pattern) if pattern == ALL_LINEAR => vec![Target::All],
            Self::Pattern(pattern) => whole(pattern).map(|regex| Target::Regex(pattern, regex)).into_iter().collect(),
        }
    }

    /// Whether a module of this name on the hub is meant.
    pub fn matches(&self, module: &str) -> bool {
        self.each().iter().any(|target| target.matches(module))
    }
}

/// One entry of [`Targets`].
enum Target<'a> {
    All,
    Name(&'a str),
    Regex(&'a str, Box<Regex>),
}

impl Target<'_> {
    fn matches(&self, module: &str) -> bool {
        let names = [module.to_owned(), memory_name(module)];
        match self {
            // PEFT's `all-linear` leaves out the output head, which is no module here, and nothing else.
            Self::All => true,
            Self::Name(end) => names
                .iter()
                .any(|name| name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))),
            // A pattern that backtracks beyond the limit matches nothing.
            Self::Regex(_, regex) => names.iter().any(|name| regex.is_match(name).unwrap_or(false)),
        }
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => write!(f, "{ALL_LINEAR:?}"),
            Self::Name(text) | Self::Regex(text, _) => write!(f, "{text:?}"),
        }
    }
}

/// The name that transformers ≥ 4.52 uses in memory for a module or parameter of the hub.
pub(super) fn memory_name(hub: &str) -> String {
    if let Some(rest) = hub.strip_prefix("visual.") {
        format!("model.visual.{rest}")
    } else if let Some(rest) = hub.strip_prefix("model.") {
        format!("model.language_model.{rest}")
    } else {
        hub.to_owned()
    }
}

/// A pattern that must match from the first letter to the last, as Python's `re.fullmatch`.
fn whole(pattern: &str) -> std::result::Result<Box<Regex>, Box<fancy_regex::Error>> {
    Regex::new(&format!("^(?:{pattern})$")).map(Box::new).map_err(Box::new)
}

impl<'de> Deserialize<'de> for Targets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Targets;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of module names, a regular expression or \"{ALL_LINEAR}\"")
            }
            fn visit_str<E>(self, text: &str) -> std::result::Result<Targets, E> {
                Ok(Targets::Pattern(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> std::result::Result<Targets, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Targets::Names)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MODULES: [&str; 5] = [
        "visual.blocks.0.attn.qkv",
        "visual.blocks.0.mlp.up_proj",
        "model.layers.0.self_attn.q_proj",
        "model.layers.10.mlp.up_proj",
        "model.layers.0.mlp.up_proj",
    ];

    fn chosen(targets: &str, vision: bool) -> Result<Vec<usize>> {
        let target_modules = serde_json::from_str(targets).unwrap();
        LoraConfig { target_modules, vision, ..LoraConfig::default() }.choose(&MODULES)
    }

    #[test]
    fn names_match_whole_parts_at_the_end_and_patterns_the_whole_name() {
        assert_eq!(chosen(r#"["q_proj"]"#, true).unwrap(), [2]);
        assert_eq!(chosen(r#"["up_proj"]"#, true).unwrap(), [1, 3, 4]);
        assert_eq!(chosen(r#"["up_proj"]"#, false).unwrap(), [3, 4]);
        assert_eq!(chosen(r#"["layers.0.mlp.up_proj"]"#, false).unwrap(), [4], "not layer 10");
        assert_eq!(chosen(r#"["model.language_model.layers.0.mlp.up_proj"]"#, false).unwrap(), [4]);
        assert_eq!(chosen(r#""all-linear""#, true).unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(chosen(r#"".*layers\\.\\d+\\.(self_attn|mlp)\\..*_proj""#, true).unwrap(), [2, 3, 4]);
        assert_eq!(chosen(r#""(?!.*visual).*up_proj""#, true).unwrap(), [3, 4]);
        assert_eq!(chosen(r#""(?!.*visual).*(?:up|q)_proj""#, false).unwrap(), [2, 3, 4]);
    }

    #[test]
    fn what_matches_nothing_is_named() {
        for (targets, named) in [(r#"["q_proj", "oproj"]"#, "oproj"), (r#"["_proj"]"#, "_proj"), (r#""up""#, "up")] {
            let error = chosen(targets, true).unwrap_err().to_string();
            assert!(error.contains("model.lora.target_modules") && error.contains(named), "{error}");
        }
        assert!(chosen(r#"["qkv"]"#, false).unwrap_err().to_string().contains("vision = true"));
        assert!(chosen(r#""((""#, false).unwrap_err().to_string().contains("target_modules"));
        assert!(LoraConfig { rank: 0, ..LoraConfig::default() }.validate().unwrap_err().to_string().contains("rank"));
        assert!(LoraConfig { dropout: 1.0, ..LoraConfig::default() }.validate().is_err());
        assert!(LoraConfig { alpha: f64::NAN, ..LoraConfig::default() }.validate().is_err());
    }
}
