//! The policy behind a server: streams join while others are sampled, each with a sampling of its own.

use std::sync::Arc;

use imagent_core::{Key, Sampling, Segment, StopReason};

use super::{QwenPolicy, policy_error};
use crate::engine::{HostModel, House, serve};
use crate::ops::Kernels;

/// One stream to sample.
#[derive(Clone, Debug)]
pub struct Guest {
    /// What the desk calls it.
    pub id: u64,
    /// The prompt; neighbours with one allocation share its computation.
    pub prompt: Arc<Segment>,
    /// Names the randomness.
    pub key: Key,
    /// How tokens are drawn. Stop texts and stop tokens are the desk's business.
    pub sampling: Sampling,
    /// Most tokens.
    pub max_new_tokens: usize,
    /// How many of the likeliest tokens are told with each.
    pub likeliest: usize,
}

/// A sampled token.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The token.
    pub id: u32,
    /// Its log-probability under the sampling temperature (under 1 where that is 0), nothing left out.
    pub logprob: f32,
    /// The likeliest tokens at its place and their log-probabilities, falling.
    pub likeliest: Vec<(u32, f32)>,
}

/// Who lets guests in and is told what is sampled for them.
pub trait Desk {
    /// New guests; those that share a prompt one after the other. Waits for one where `idle`, as nothing else is to be done.
    /// `None`: nobody comes any more, and who is there is left.
    fn arrivals(&mut self, idle: bool) -> Option<Vec<Guest>>;

    /// A token for a guest, the end of the turn excepted; whether it wants more.
    fn token(&mut self, guest: u64, token: Told) -> bool;

    /// A guest's last word: why it ended, or why it could not be served.
    fn end(&mut self, guest: u64, stop: Result<StopReason, String>);
}

impl<D: Kernels> QwenPolicy<D> {
    /// Samples for whoever the desk lets in, until it says that nobody comes any more. All guests are one batch; what a guest
    /// is told does not depend on the others.
    pub fn serve(&self, desk: &mut dyn Desk) {
        let (model, tower) = (HostModel::new(&self.model), self.model.for_rollouts());
        let end_tokens = [&[self.codec.tokenizer.special().im_end], self.model.config.tokens.eos.as_slice()].concat();
        let house = House { model: &model, never_sampled: &self.model.never_sampled, end_tokens: &end_tokens };
        serve(&house, desk, &mut |segments| self.features(&tower, segments).map_err(policy_error));
    }
}
