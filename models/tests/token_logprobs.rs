//! Log-probabilities at a published vocabulary: what they take beyond their inputs and gradients, by an allocator that counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use dfdx::prelude::*;
use imagent_models::memory::Counting;
use imagent_models::ops::token_logprob::Choice;
use imagent_models::ops::{Kernels, Matrix, seed_gradient};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROWS: usize = 8192;
const WIDTH: usize = 32;
const VOCABULARY: usize = 151_936;

/// Values in ±0.5 that do not repeat within a row.
fn matrix(rows: usize, device: &Cpu) -> Matrix<Cpu> {
    let value = |i: usize| (i.wrapping_mul(2_654_435_761) % 8191) as f32 / 8191.0 - 0.5;
    device.tensor_from_vec((0..rows * WIDTH).map(value).collect(), (rows, WIDTH))
}

#[test]
fn log_probabilities_of_a_large_vocabulary_take_little_memory() {
    let device = Cpu::default();
    let (x, head) = (matrix(ROWS, &device), matrix(VOCABULARY, &device));
    let targets = (0..ROWS).map(|i| i * 37 % VOCABULARY).collect();
    let choice = Arc::new(Choice { targets, temperature: 0.8, suppress: vec![7] });
    let before = Counting::in_use();
    let outer = Counting::watch();
    let out = Cpu::token_logprob(x.leaky_trace(), &head, &choice).unwrap();
    let scores = out.as_vec();
    let gradients = seed_gradient(out, (0..2 * ROWS).map(|i| (i % 5) as f32 - 2.0).collect()).unwrap();
    let most = Counting::most(outer) - before;
    let own = size_of::<f32>() * WIDTH * (ROWS + VOCABULARY);
    let extra = most.saturating_sub(own) as f64 / 1e6;
    println!("{extra:.1} MB beyond inputs and gradients");
    assert!(most > own, "the gradients alone take {own} bytes: the watch saw {most}");
    assert!(extra < 300.0, "{extra} MB");
    assert!(scores.iter().all(|value| value.is_finite()));
    let norm = |values: Vec<f32>| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    assert!(norm(gradients.get(&x).as_vec()) > 0.0 && norm(gradients.get(&head).as_vec()) > 0.0);
}
