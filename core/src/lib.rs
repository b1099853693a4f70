//! The words, traits and the rollout state machine of imagent. No tensors, no files, no network.
//!
//! Data flows one way, each stage consuming the last:
//!
//! ```text
//! Sample --rollout(policy, toolbox)--> Trajectory --reward--> ScoredTrajectory
//!        --group--> Group --advantages, masks--> TrainBatch --optimise--> StepReport
//! ```
//!
//! The crate must not know how a model computes, where a dataset lies or what a reward is for.

pub mod cache;
pub mod chat;
pub mod conversation;
pub mod draft;
pub mod encoder;
pub mod episode;
pub mod frame;
pub mod grounding;
pub mod group;
pub mod image;
pub mod mask;
pub mod message;
pub mod optimizer;
pub mod picture;
pub mod policy;
pub mod reward;
pub mod sample;
pub mod seed;
pub mod testing;
pub mod tool;
pub mod trajectory;
pub mod turn;

/// Pixels, as the crate `image` has them.
pub use ::image::{Rgb, RgbImage};

pub use crate::cache::ByteCache;
pub use crate::chat::{CallStyle, ChatAgent, ChatError, ChatModel, ChatReply, ChatRequest};
pub use crate::conversation::{Asked, Turn};
pub use crate::draft::Draft;
pub use crate::encoder::{EncodeError, Encoder, Segment, SegmentImage};
pub use crate::episode::{Episode, Limits, PromptStyle, RolloutRequest, rollout};
pub use crate::frame::{BBox, BoxFrame, Frame, ImageSizes, Original, Relative1000, Shown, Size, Unit};
pub use crate::grounding::{Grounding, WrittenBox, gold_boxes, image_named};
pub use crate::group::{Group, ScoredTrajectory, TrainBatch, TrainRow};
pub use crate::image::{CropOrigin, ImageShelf, Orientation, ShelfImage};
pub use crate::mask::{Mask, MaskSet};
pub use crate::message::{Content, Message, Role};
pub use crate::optimizer::{Advantages, Outcomes, PolicyOptimizer, TokenBatch, TokenLoss, TokenScores};
pub use crate::policy::{
    Next, OnTurn, Policy, PolicyError, PolicyPrompt, SampledTurn, Sampling, ScoreRow, StopReason, UpdateReport, Weights,
};
pub use crate::reward::{Reward, Score, score_group};
pub use crate::sample::{Gold, Sample, SampleError, SampleSource};
pub use crate::seed::{Key, derive};
pub use crate::tool::{Arguments, Observation, ObservationImage, Tool, ToolError, ToolSpec, Toolbox};
pub use crate::trajectory::{EndReason, ImageSpan, Origin, ToolOutcome, Trajectory, TurnRecord, UNKNOWN_TOKEN};
pub use crate::turn::{Action, ToolCall, parse_turn};
