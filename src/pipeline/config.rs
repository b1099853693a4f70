//! What a pipeline is made of: images, roles, and who plays them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use imagent_core::{Limits, PromptStyle, Sampling, Tool};
use imagent_data::WorldConfig;
use imagent_data::world::QuestionMix;
use imagent_rewards::Grader;
use imagent_tools::ZoomIn;
use serde::{Deserialize, Serialize};

use super::summary::Price;
use crate::config::{ConfigError, Document, EndpointConfig};

/// Most images of a world: their names are numbers of six digits.
const MOST_IMAGES: usize = 1_000_000;

/// The file of a pipeline.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PipelineConfig {
    /// The folder that everything is kept in.
    pub out: String,
    /// Seed of every choice that is not a served model's. Default 1.
    pub seed: u64,
    /// How many groups of images are made. Default 100.
    pub groups: usize,
    /// Fewest and most images of a group. Default `[2, 4]`.
    pub size: [usize; 2],
    /// How many images a served grouper chooses from. Default 8.
    pub candidates: usize,
    /// How many questions are asked of a group. Default 1.
    pub questions: usize,
    /// How often a served answerer is asked; the rule answers once. Default 3.
    pub votes: usize,
    /// The share of the votes that must be the writer's answer, above 0. Default 0.6.
    pub agreement: f64,
    /// Whether the dataset holds only what somebody has accepted or edited; what was rejected by hand is left out in any case.
    /// Default false.
    pub reviewed: bool,
    /// How answers are compared. Default `exact`.
    pub grader: Grader,
    /// Served models by name.
    pub endpoints: BTreeMap<String, EndpointConfig>,
    /// What they cost, by name.
    pub prices: BTreeMap<String, Price>,
    /// What the images are of.
    pub images: ImagesConfig,
    /// Who puts images together.
    pub grouper: RoleConfig,
    /// Who asks.
    pub writer: RoleConfig,
    /// Who answers without knowing the writer's answer.
    pub answerer: RoleConfig,
    /// Who judges question and answers.
    pub verifier: RoleConfig,
    /// What is too easy or cannot be answered.
    pub difficulty: DifficultyConfig,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            out: String::new(),
            seed: 1,
            groups: 100,
            size: [2, 4],
            candidates: 8,
            questions: 1,
            votes: 3,
            agreement: 0.6,
            grader: Grader::default(),
            endpoints: BTreeMap::new(),
            prices: BTreeMap::new(),
            reviewed: false,
            images: ImagesConfig::default(),
            grouper: RoleConfig::default(),
            writer: RoleConfig::default(),
            answerer: RoleConfig::default(),
            verifier: RoleConfig::default(),
            difficulty: DifficultyConfig::default(),
        }
    }
}

/// The `[images]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImagesConfig {
    /// A folder of image files. `objects.jsonl` in it may tell what stands on them, which rules need. Default: images of the
    /// nano world.
    pub path: String,
    /// How many images of the world there are. Default 200.
    pub count: usize,
    /// The world; its `images` and `questions` are passed over.
    pub world: WorldConfig,
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self { path: String::new(), count: 200, world: WorldConfig { objects: [2, 4], ..WorldConfig::default() } }
    }
}

/// The table of a role: a served model plays it where one is named, else a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoleConfig {
    /// The name of an endpoint; empty (default) is the rule.
    pub endpoint: String,
    /// The file with what it is told, relative to the config; empty (default) is the text that comes with the program.
    pub prompt: String,
    /// Divides the logits. Default 0.7.
    pub temperature: f32,
    /// Most tokens of a reply. Default 1024.
    pub max_tokens: usize,
}

impl Default for RoleConfig {
    fn default() -> Self {
        Self { endpoint: String::new(), prompt: String::new(), temperature: 0.7, max_tokens: 1024 }
    }
}

/// The `[difficulty]` table: a question is kept if the base model answers it wrong without tools, and right with them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DifficultyConfig {
    /// The name of the base model's endpoint; empty (default) is the rule: details below `legible` pixels as shown cannot be
    /// read, and a zoom shows the gold region alone.
    pub endpoint: String,
    /// How often a served model tries without tools. Default 4.
    pub tries: usize,
    /// Most right answers without tools of a question that is kept. Default 0.
    pub most_right: usize,
    /// How often it tries with tools, until it is right once. Default 4.
    pub tool_tries: usize,
    /// The tools. Default `zoom_in`.
    pub tools: Vec<Box<dyn Tool>>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// How far an episode may go.
    pub limits: Limits,
    /// How questions become prompts.
    pub prompt: PromptStyle,
    /// Fewest pixels, in height, at which the rule can read a detail. Default 7.
    pub legible: f64,
    /// Fewest pixels of an image as the rule's model is shown it. Default 12544, the nano base's.
    pub min_pixels: u64,
    /// Most pixels of such an image. Default 12544.
    pub max_pixels: u64,
}

impl Default for DifficultyConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            tries: 4,
            most_right: 0,
            tool_tries: 4,
            tools: vec![Box::new(ZoomIn::default())],
            sampling: Sampling::default(),
            limits: Limits::default(),
            prompt: PromptStyle::default(),
            legible: 7.0,
            min_pixels: 12_544,
            max_pixels: 12_544,
        }
    }
}

/// A role's name and settings.
pub(super) type NamedRole<'a> = (&'static str, &'a RoleConfig);

impl PipelineConfig {
    /// Reads and checks a file, with `--set` values over it. Paths in it are relative to its folder, `out` to where the program
    /// runs.
    ///
    /// # Errors
    /// Names file, line and key.
    pub fn read(path: &Path, sets: &[impl AsRef<str>]) -> Result<Self, ConfigError> {
        let mut document = Document::read(path)?;
        let defaults = toml::from_str(&Self::default().to_toml()).unwrap_or_default();
        sets.iter().try_for_each(|set| document.set(set.as_ref(), &defaults))?;
        let mut config: Self = document.decode()?;
        config.check().map_err(|(key, problem)| document.value_error(&key, problem))?;
        let near = |text: &mut String| {
            if !text.is_empty() {
                *text = path.parent().unwrap_or(Path::new("")).join(&*text).to_string_lossy().into_owned();
            }
        };
        near(&mut config.images.path);
        config.roles_mut().into_iter().for_each(|role| near(&mut role.prompt));
        Ok(config)
    }

    /// The whole config, defaults included, as TOML that reads back as the same.
    pub fn to_toml(&self) -> String {
        // Every field is of a type that TOML has.
        toml::to_string(self).unwrap_or_default()
    }

    /// The roles that are told what to do by a text.
    pub(super) fn roles(&self) -> [NamedRole<'_>; 4] {
        [
            ("grouper", &self.grouper),
            ("writer", &self.writer),
            ("answerer", &self.answerer),
            ("verifier", &self.verifier),
        ]
    }

    /// The name of the endpoint that plays a role or measures difficulty; empty where a rule does.
    pub(super) fn endpoint_of(&self, role: &str) -> &str {
        let told = self.roles().into_iter().find(|(name, _)| *name == role);
        told.map_or(&self.difficulty.endpoint, |(_, role)| &role.endpoint)
    }

    fn roles_mut(&mut self) -> [&mut RoleConfig; 4] {
        [&mut self.grouper, &mut self.writer, &mut self.answerer, &mut self.verifier]
    }

    /// The folder that everything is kept in.
    pub fn folder(&self) -> PathBuf {
        PathBuf::from(&self.out)
    }

    /// The ranges; an error is a key and what is wrong with its value.
    fn check(&self) -> Result<(), (String, String)> {
        let wrong = |key: &str, problem: &str| Err((key.to_owned(), problem.to_owned()));
        if self.out.trim().is_empty() {
            return wrong("out", "must name a folder");
        }
        for (key, count) in [
            ("groups", self.groups),
            ("questions", self.questions),
            ("images.count", self.images.count),
            ("votes", self.votes),
            ("difficulty.tries", self.difficulty.tries),
            ("difficulty.tool_tries", self.difficulty.tool_tries),
        ] {
            if count == 0 {
                return wrong(key, "must be at least 1, got 0");
            }
        }
        if self.images.count > MOST_IMAGES {
            return wrong("images.count", "must be at most 1000000");
        }
        let [least, most] = self.size;
        if least == 0 || most < least || most > 16 {
            return wrong("size", "must be [fewest, most] between 1 and 16");
        }
        if self.candidates < most {
            return wrong("candidates", "must be at least the most images of a group");
        }
        if !(self.agreement > 0.0 && self.agreement <= 1.0) {
            return wrong("agreement", "must be above 0 and at most 1");
        }
        if self.difficulty.most_right >= self.difficulty.tries {
            return wrong("difficulty.most_right", "must be below difficulty.tries");
        }
        if !(self.difficulty.legible > 0.0 && self.difficulty.legible.is_finite()) {
            return wrong("difficulty.legible", "must be above 0");
        }
        let (least, most) = (self.difficulty.min_pixels, self.difficulty.max_pixels);
        if least == 0 || most < least {
            return wrong("difficulty.min_pixels", "must be at least 1 and at most max_pixels");
        }
        let sampling = self.difficulty.sampling.validate();
        sampling.map_err(|(field, problem)| (format!("difficulty.sampling.{field}"), problem))?;
        let world = self.images.single().validate();
        world.map_err(|error| ("images.world".to_owned(), error.to_string()))?;
        self.check_endpoints()
    }

    fn check_endpoints(&self) -> Result<(), (String, String)> {
        for (name, endpoint) in &self.endpoints {
            let refused = |(field, problem)| (format!("endpoints.{name}.{field}"), problem);
            endpoint.validate().map_err(refused)?;
        }
        if let Some(name) = self.prices.keys().find(|name| !self.endpoints.contains_key(*name)) {
            return Err((format!("prices.{name}"), format!("there is no [endpoints.{name}]")));
        }
        let known = |key: &str, name: &str| match name.is_empty() || self.endpoints.contains_key(name) {
            true => Ok(()),
            false => Err((format!("{key}.endpoint"), format!("there is no [endpoints.{name}]"))),
        };
        for (name, role) in self.roles() {
            known(name, &role.endpoint)?;
            let wrong = |field: &str, problem: &str| Err((format!("{name}.{field}"), problem.to_owned()));
            if !role.prompt.is_empty() && role.endpoint.is_empty() {
                return wrong("prompt", "is told to nobody: the role has no endpoint");
            }
            if role.max_tokens == 0 {
                return wrong("max_tokens", "must be at least 1, got 0");
            }
            if !(role.temperature >= 0.0 && role.temperature.is_finite()) {
                return wrong("temperature", "must be at least 0");
            }
        }
        known("difficulty", &self.difficulty.endpoint)
    }
}

impl ImagesConfig {
    /// The world, one image a sample.
    pub(super) fn single(&self) -> WorldConfig {
        let questions = QuestionMix { read: 1.0, which: 0.0, same: 0.0, ..QuestionMix::default() };
        WorldConfig { images: [1, 1], questions, across: 0.0, ..self.world.clone() }
    }
}
