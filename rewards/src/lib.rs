//! Graders and rewards: what a trajectory is worth. A reward reads sampled text only, never the prompt, an observation
//! or a log-probability.
//!
//! | tag | reward | value |
//! |---|---|---|
//! | `accumulative` | [`Accumulative`] | `accuracy × (1 + 0.1·turns with a tool)` |
//! | `accuracy` | [`Accuracy`] | accuracy |
//! | `counterfactual` | [`Counterfactual`] | `accuracy + gain × tool × (accuracy − mean accuracy of the group without tools)` |
//! | `deepeyes` | [`DeepEyes`] | `0.8·accuracy + 0.2·format + 1.2·[tool ∧ accuracy > 0.5]`, format ∈ {−1, 0} |
//! | `format` | [`Format`] | format |
//! | `grounding_image` | [`GroundingImage`] | 1 for the right image |
//! | `grounding_object` | [`GroundingObject`] | overlap of the answer's box with the gold one, in the right image |
//! | `imagent` | [`ImAgent`] | `accuracy × (1 + tool_gain × tool) + format_weight × format` |
//! | `length` | [`Length`] | a penalty from −1 to 0 on the number of sampled tokens |
//! | `product` | [`Product`] | rewards multiplied |
//! | `sum` | [`Sum`] | rewards added with weights |
//! | `tool_use` | [`ToolUse`] | tool |
//!
//! Each is a plug-in in a file of its own; how an answer is compared with the gold one is a [`Grader`], a field of the
//! reward. All of them name their parts alike: `accuracy` (from 0 to 1), `format`, and `tool` (1 if a tool call of the
//! trajectory returned an image).
//!
//! A binary has to name this crate (`use imagent_rewards as _;`), or a config does not find them.

mod accumulative;
mod accuracy;
mod check;
mod combine;
mod counterfactual;
mod deepeyes;
mod format;
mod grader;
mod grounding_image;
mod grounding_object;
mod imagent;
mod length;
mod product;
mod sum;
mod tool_use;

pub use crate::accumulative::Accumulative;
pub use crate::accuracy::Accuracy;
pub use crate::counterfactual::Counterfactual;
pub use crate::deepeyes::DeepEyes;
pub use crate::format::Format;
pub use crate::grader::{GradeError, Grader};
pub use crate::grounding_image::GroundingImage;
pub use crate::grounding_object::{BoxMeasure, CountedOn, GroundingObject};
pub use crate::imagent::ImAgent;
pub use crate::length::{Length, LengthShape};
pub use crate::product::Product;
pub use crate::sum::{Sum, Term};
pub use crate::tool_use::ToolUse;

/// The tags of all rewards of this crate, sorted.
pub const PLUGINS: &[&str] = &[
    "accumulative",
    "accuracy",
    "counterfactual",
    "deepeyes",
    "format",
    "grounding_image",
    "grounding_object",
    "imagent",
    "length",
    "product",
    "sum",
    "tool_use",
];
