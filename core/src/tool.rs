//! Tools: what the agent can call between its turns, and the boxes of tools that a rollout uses.

use std::sync::Arc;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::image::{CropOrigin, ImageShelf};

/// The arguments of a call: the JSON object that the model wrote.
pub type Arguments = serde_json::Map<String, serde_json::Value>;

/// What the model is told about a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// The name to call it by.
    pub name: String,
    /// What it does, for the model to read.
    pub description: String,
    /// JSON schema of the arguments.
    pub parameters: serde_json::Value,
}

/// An image that a tool returned.
#[derive(Clone, Debug)]
pub struct ObservationImage {
    /// Its pixels.
    pub pixels: Arc<RgbImage>,
    /// The region it shows; `None` where it shows no axis-aligned region of one image.
    pub origin: Option<CropOrigin>,
}

/// What a tool returned, or the error that the model reads instead.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// Text put before the images; may be empty.
    pub text: String,
    /// Images to add to the shelf.
    pub images: Vec<ObservationImage>,
}

/// A call that could not be carried out. It is *data*: the policy reads it and may do better.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// The text between the call's tags is not a JSON object with `name` and `arguments`.
    #[error("the call is not valid JSON with name and arguments")]
    BrokenCall,
    /// More than one call in a turn.
    #[error("one call per turn, got {0}")]
    SeveralCalls(usize),
    /// No tool has this name.
    #[error("unknown tool {0}")]
    UnknownTool(String),
    /// An argument is absent.
    #[error("missing argument {0}")]
    MissingArgument(&'static str),
    /// An argument that the tool does not take.
    #[error("unknown argument {0}")]
    UnknownArgument(String),
    /// An argument has the wrong type or form.
    #[error("{argument} must be {expected}")]
    WrongArgument {
        /// The argument.
        argument: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// No image has this index.
    #[error("no image {index}, there are {count}")]
    NoImage {
        /// The index asked for.
        index: i64,
        /// How many images the shelf holds.
        count: usize,
    },
    /// A box with no area, or with its corners swapped.
    #[error("bbox_2d must have x1 < x2 and y1 < y2")]
    EmptyBox,
    /// A box that does not touch the image.
    #[error("bbox_2d is outside image {0}")]
    OutsideBox(usize),
    /// A box too small to see anything in.
    #[error("bbox_2d is too small, each side must be at least {min} pixels")]
    TinyBox {
        /// The least side, in pixels of the image as shown.
        min: u32,
    },
    /// A box too long and thin to show.
    #[error("bbox_2d is too thin, its sides may differ by at most {max} times")]
    ThinBox {
        /// The largest ratio of sides.
        max: u32,
    },
    /// What is wrong with the second box of a call that has two.
    #[error("other_{0}")]
    OtherBox(Box<ToolError>),
    /// A number that is not in its range.
    #[error("{argument} must be a number from {low} to {high}")]
    OutOfRange {
        /// The argument.
        argument: &'static str,
        /// The least value.
        low: f64,
        /// The largest value.
        high: f64,
    },
    /// What a tool of somebody else's says.
    #[error("{0}")]
    Other(String),
}

impl ToolError {
    /// A short stable name, for counting.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BrokenCall => "broken_call",
            Self::SeveralCalls(_) => "several_calls",
            Self::UnknownTool(_) => "unknown_tool",
            Self::MissingArgument(_) => "missing_argument",
            Self::UnknownArgument(_) => "unknown_argument",
            Self::WrongArgument { .. } => "wrong_argument",
            Self::NoImage { .. } => "no_image",
            Self::EmptyBox => "empty_box",
            Self::OutsideBox(_) => "outside_box",
            Self::TinyBox { .. } => "tiny_box",
            Self::ThinBox { .. } => "thin_box",
            Self::OtherBox(error) => error.name(),
            Self::OutOfRange { .. } => "out_of_range",
            Self::Other(_) => "other",
        }
    }

    /// The observation that the policy reads.
    pub fn to_observation(&self) -> Observation {
        Observation { text: format!("Error: {self}"), images: Vec::new() }
    }
}

/// A visual tool. Never sees a reward.
///
/// A plug-in is one struct with documented serde fields and `#[typetag::serde(name = "…")]` on its `impl`.
#[typetag::serde(tag = "type")]
pub trait Tool: Send + Sync + std::fmt::Debug {
    /// Name, description and JSON schema of the arguments.
    fn spec(&self) -> ToolSpec;
    /// Carries out a call.
    ///
    /// # Errors
    /// Whatever is wrong with the call; it becomes an observation.
    fn call(&self, arguments: &Arguments, images: &ImageShelf) -> Result<Observation, ToolError>;
}

/// The tools of a rollout: `()`, one tool, tuples of tools (static), or `Vec<Box<dyn Tool>>` (from a config).
pub trait Toolbox: Send + Sync {
    /// What the model is told, in order.
    fn specs(&self) -> Vec<ToolSpec>;
    /// Carries out a call by name; `None` where no tool has this name.
    fn call(&self, name: &str, arguments: &Arguments, images: &ImageShelf) -> Option<Result<Observation, ToolError>>;
}

impl<T: Tool> Toolbox for T {
    fn specs(&self) -> Vec<ToolSpec> {
        vec![self.spec()]
    }
    fn call(&self, name: &str, arguments: &Arguments, images: &ImageShelf) -> Option<Result<Observation, ToolError>> {
        (self.spec().name == name).then(|| Tool::call(self, arguments, images))
    }
}

impl Toolbox for Vec<Box<dyn Tool>> {
    fn specs(&self) -> Vec<ToolSpec> {
        self.iter().map(|tool| tool.spec()).collect()
    }
    fn call(&self, name: &str, arguments: &Arguments, images: &ImageShelf) -> Option<Result<Observation, ToolError>> {
        self.iter().find(|tool| tool.spec().name == name).map(|tool| tool.call(arguments, images))
    }
}

impl Toolbox for () {
    fn specs(&self) -> Vec<ToolSpec> {
        Vec::new()
    }
    fn call(&self, _: &str, _: &Arguments, _: &ImageShelf) -> Option<Result<Observation, ToolError>> {
        None
    }
}

macro_rules! toolbox_tuple {
    ($($member:ident),+) => {
        #[allow(non_snake_case)]
        impl<$($member: Toolbox),+> Toolbox for ($($member,)+) {
            fn specs(&self) -> Vec<ToolSpec> {
                let ($($member,)+) = self;
                let mut specs = Vec::new();
                $(specs.extend($member.specs());)+
                specs
            }
            fn call(&self, name: &str, arguments: &Arguments, images: &ImageShelf) -> Option<Result<Observation, ToolError>> {
                let ($($member,)+) = self;
                None$(.or_else(|| $member.call(name, arguments, images)))+
            }
        }
    };
}
toolbox_tuple!(A);
toolbox_tuple!(A, B);
toolbox_tuple!(A, B, C);
toolbox_tuple!(A, B, C, D);
toolbox_tuple!(A, B, C, D, E);
toolbox_tuple!(A, B, C, D, E, F);
toolbox_tuple!(A, B, C, D, E, F, G);
toolbox_tuple!(A, B, C, D, E, F, G, H);
