//! Streams that come and go while others are sampled: what a server needs of the engine.
//!
//! A stream's tokens are a function of its prompt, key and sampling alone, never of who else is there.

use std::sync::Arc;

use imagent_core::{PolicyError, Segment, StopReason};
use rayon::prelude::*;

use super::cache::Cache;
use super::forward::{Run, forward};
use super::host::HostModel;
use super::run::{Features, LOGITS, Prompt, prefill_chunk};
use super::sampler::{draw, likeliest};
use crate::policy::{Desk, Guest, Told};
use crate::qwen::positions::Positions;

/// The weights, and which tokens are special.
pub(crate) struct House<'a> {
    /// The weights.
    pub(crate) model: &'a HostModel<'a>,
    /// Tokens that are never drawn.
    pub(crate) never_sampled: &'a [usize],
    /// Tokens that end a stream.
    pub(crate) end_tokens: &'a [u32],
}

/// A guest that is being served.
struct Stay {
    guest: Guest,
    prompt: Arc<Prompt>,
    own: Cache,
    positions: Positions,
    logits: Vec<f32>,
    last: u32,
    sampled: usize,
}

/// A prompt, or why there is none.
type Computed = Result<Arc<Prompt>, String>;

/// Serves whoever the desk lets in, until it says that nobody comes any more.
pub(crate) fn serve(house: &House<'_>, desk: &mut dyn Desk, features: &mut Features<'_>) {
    let mut stays: Vec<Stay> = Vec::new();
    while let Some(guests) = desk.arrivals(stays.is_empty()) {
        let_in(house, guests, desk, features, &mut stays);
        let drawn: Vec<Told> = stays.par_iter_mut().map(|stay| next(house, stay)).collect();
        let mut told = drawn.into_iter();
        stays.retain_mut(|stay| told.next().is_some_and(|told| goes_on(house, stay, told, desk)));
        step(house, &mut stays);
    }
}

/// Computes the prompts of new guests, each once for all that share it.
fn let_in(
    house: &House<'_>,
    guests: Vec<Guest>,
    desk: &mut dyn Desk,
    features: &mut Features<'_>,
    stays: &mut Vec<Stay>,
) {
    let mut known: Option<(Arc<Segment>, Computed)> = None;
    for guest in guests {
        let same = known.as_ref().filter(|(segment, _)| Arc::ptr_eq(segment, &guest.prompt));
        let prompt = match same {
            Some((_, prompt)) => prompt.clone(),
            None => {
                let made = prefill_chunk(house.model, &[&*guest.prompt], features);
                let made = made.map_err(|error| error.to_string());
                let prompt = made.and_then(|mut made| made.pop().map(Arc::new).ok_or_else(|| "no prompt".to_owned()));
                known = Some((Arc::clone(&guest.prompt), prompt.clone()));
                prompt
            }
        };
        match prompt {
            Ok(prompt) if guest.max_new_tokens > 0 => {
                let mut own = Cache::new(house.model.config);
                own.reserve(guest.max_new_tokens);
                stays.push(Stay {
                    own,
                    positions: Positions { next: prompt.positions.next, ..Positions::default() },
                    logits: prompt.logits.clone(),
                    last: 0,
                    sampled: 0,
                    guest,
                    prompt,
                });
            }
            Ok(_) => desk.end(guest.id, Ok(StopReason::Length)),
            Err(problem) => desk.end(guest.id, Err(problem)),
        }
    }
}

/// Draws the next token of a guest.
fn next(house: &House<'_>, stay: &mut Stay) -> Told {
    let guest = &stay.guest;
    let drawn = draw(&mut stay.logits, house.never_sampled, &guest.sampling, guest.key, stay.sampled as u64);
    stay.sampled += 1;
    stay.last = drawn.id;
    stay.positions.extend(1, &[]);
    Told { id: drawn.id, logprob: drawn.logprob, likeliest: likeliest(&stay.logits, drawn, guest.likeliest) }
}

/// Tells a guest's token; whether it stays.
fn goes_on(house: &House<'_>, stay: &Stay, told: Told, desk: &mut dyn Desk) -> bool {
    let id = stay.guest.id;
    if !told.logprob.is_finite() {
        desk.end(id, Err(PolicyError::NotFinite { what: LOGITS }.to_string()));
        return false;
    }
    if house.end_tokens.contains(&told.id) {
        desk.end(id, Ok(StopReason::EndOfTurn));
        return false;
    }
    if !desk.token(id, told) {
        return false;
    }
    let more = stay.sampled < stay.guest.max_new_tokens;
    if !more {
        desk.end(id, Ok(StopReason::Length));
    }
    more
}

/// Runs the last token of each.
fn step(house: &House<'_>, stays: &mut [Stay]) {
    if stays.is_empty() {
        return;
    }
    let mut runs: Vec<Run<'_>> = (stays.iter_mut())
        .map(|stay| Run {
            ids: std::slice::from_ref(&stay.last),
            features: Vec::new(),
            first_position: stay.positions.len() - 1,
            positions: &stay.positions,
            prefix: Some(&stay.prompt.cache),
            own: &mut stay.own,
        })
        .collect();
    let logits = forward(house.model, &mut runs);
    for (stay, row) in stays.iter_mut().zip(logits.chunks(house.model.config.vocab_size)) {
        stay.logits.copy_from_slice(row);
    }
}
