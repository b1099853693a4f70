//! A policy that is no language model, trained by imagent's loop with its tools, rewards and optimisers.
//!
//! The world: grey pictures with a small square, always in the same corner, whose shade is the answer. The policy sees
//! of an image only how bright it is on the whole, so it has to look closer: to learn in which corner, and what each shade
//! stands for.
//!
//! * `vocabulary`: the policy's few tokens, and the [`Encoder`](imagent::prelude::Encoder) that goes with them;
//! * `table`: a softmax over actions for each thing seen, the [`Policy`](imagent::prelude::Policy);
//! * `world`: the samples.

mod table;
mod vocabulary;
mod world;

pub use crate::table::Table;
pub use crate::vocabulary::{ACTIONS, Words};
pub use crate::world::samples;
