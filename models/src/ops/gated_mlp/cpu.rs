//! Slice kernels of the gated feed-forward layer, some rows at a time so that what lies between stays in the cache.

use rayon::prelude::*;

use crate::ops::gemm::{Mat, MatMut, matmul};
use crate::ops::linear::cpu::{append, backward_bias};
use crate::ops::simd::{Kernel, dispatch, fma, sigmoid};
use crate::ops::swiglu;

/// Rows that go through the layer at a time; sums over rows are cut here, so it does not depend on anything.
const ROWS: usize = 1024;
/// Elements of a task of the loops element by element.
const TASK: usize = 8192;

/// A linear map: `w[outputs, inputs]` and bias.
#[derive(Clone, Copy)]
pub struct Map<'a> {
    /// The weight.
    pub weight: &'a [f32],
    /// The bias.
    pub bias: Option<&'a [f32]>,
}

/// Gradients of a map, where they are wanted.
pub struct MapGradient {
    /// Of the weight.
    pub weight: Option<Vec<f32>>,
    /// Of the bias.
    pub bias: Option<Vec<f32>>,
}

/// Rows, inputs, width of the middle, outputs.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Rows of `x`.
    pub rows: usize,
    /// Columns of `x`.
    pub inputs: usize,
    /// Outputs of `gate` and of `up`.
    pub inner: usize,
    /// Outputs of `down`.
    pub outputs: usize,
}

/// What the backward pass needs: the outputs of `gate` and `up`.
pub struct Kept {
    gate: Vec<f32>,
    up: Vec<f32>,
}

/// `down(silu(gate(x)) * up(x))`, and what to keep, which is empty unless `keep`.
pub fn forward(x: &[f32], [gate, up, down]: [Map<'_>; 3], sizes: Sizes, keep: bool) -> (Vec<f32>, Kept) {
    let Sizes { rows, inputs, inner, outputs } = sizes;
    let held = if keep { rows } else { ROWS.min(rows) } * inner;
    let (mut a, mut b) = (Vec::with_capacity(held), Vec::with_capacity(held));
    let mut y = Vec::with_capacity(rows * outputs);
    let mut middle = vec![0.0; ROWS.min(rows) * inner];
    for x in x.chunks((ROWS * inputs).max(1)) {
        let t = x.len() / inputs;
        if !keep {
            a.clear();
            b.clear();
        }
        let start = a.len();
        append(&mut a, x, gate.weight, gate.bias, (t, inner, inputs));
        append(&mut b, x, up.weight, up.bias, (t, inner, inputs));
        let middle = &mut middle[..t * inner];
        swiglu::cpu::forward(middle, &a[start..], &b[start..]);
        append(&mut y, middle, down.weight, down.bias, (t, outputs, inner));
    }
    (y, if keep { Kept { gate: a, up: b } } else { Kept { gate: Vec::new(), up: Vec::new() } })
}

/// Adds to `dx` and to the gradients of `gate`, `up` and `down`.
pub fn backward(
    dx: &mut [f32],
    gradients: &mut [MapGradient; 3],
    dy: &[f32],
    x: &[f32],
    kept: &Kept,
    [gate, up, down]: [Map<'_>; 3],
    sizes: Sizes,
) {
    let Sizes { rows, inputs, inner, outputs } = sizes;
    let mut d_middle = Vec::with_capacity(ROWS.min(rows) * inner);
    let zeros = || vec![0.0; ROWS.min(rows) * inner];
    let (mut middle, mut d_gate, mut d_up) = (zeros(), zeros(), zeros());
    for start in (0..rows).step_by(ROWS) {
        let end = rows.min(start + ROWS);
        let t = end - start;
        let part = |of: &'_ [f32], width: usize| -> std::ops::Range<usize> {
            debug_assert_eq!(of.len(), rows * width);
            start * width..end * width
        };
        let (x, dy) = (&x[part(x, inputs)], &dy[part(dy, outputs)]);
        let wide = part(&kept.gate, inner);
        d_middle.clear();
        crate::ops::gemm::append_product(
            &mut d_middle,
            Mat::new(dy, t, outputs),
            Mat::new(down.weight, outputs, inner),
        );
        let (middle, d_gate, d_up) = (&mut middle[..t * inner], &mut d_gate[..t * inner], &mut d_up[..t * inner]);
        middle_backward([middle, d_gate, d_up], [&kept.gate[wide.clone()], &kept.up[wide], &d_middle]);
        let dx = &mut dx[start * inputs..end * inputs];
        for (d, map) in [(&*d_gate, gate), (&*d_up, up)] {
            matmul(MatMut::new(dx, t, inputs), Mat::new(d, t, inner), Mat::new(map.weight, inner, inputs), true);
        }
        let [of_gate, of_up, of_down] = &mut *gradients;
        of_map(of_gate, d_gate, x, (t, inner, inputs));
        of_map(of_up, d_up, x, (t, inner, inputs));
        of_map(of_down, dy, middle, (t, outputs, inner));
    }
}

/// Adds `dyᵀ x` and the sums of `dy` to the gradients of a map.
fn of_map(gradient: &mut MapGradient, dy: &[f32], x: &[f32], (t, n, k): (usize, usize, usize)) {
    if let Some(dw) = &mut gradient.weight {
        matmul(MatMut::new(dw, n, k), Mat::new(dy, t, n).t(), Mat::new(x, t, k), true);
    }
    if let Some(db) = &mut gradient.bias {
        backward_bias(db, dy);
    }
}

/// The middle again, and the gradients of `gate` and `up` by that of the middle.
fn middle_backward([middle, d_gate, d_up]: [&mut [f32]; 3], [gate, up, d_middle]: [&[f32]; 3]) {
    let outputs = middle.par_chunks_mut(TASK).zip(d_gate.par_chunks_mut(TASK)).zip(d_up.par_chunks_mut(TASK));
    let inputs = gate.par_chunks(TASK).zip(up.par_chunks(TASK)).zip(d_middle.par_chunks(TASK));
    outputs.zip(inputs).for_each(|(((middle, d_gate), d_up), ((gate, up), d_middle))| {
        dispatch(Backward { middle, d_gate, d_up, gate, up, d_middle });
    });
}

struct Backward<'a> {
    middle: &'a mut [f32],
    d_gate: &'a mut [f32],
    d_up: &'a mut [f32],
    gate: &'a [f32],
    up: &'a [f32],
    d_middle: &'a [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let outputs = self.middle.iter_mut().zip(self.d_gate).zip(self.d_up);
        let inputs = self.gate.iter().zip(self.up).zip(self.d_middle);
        for (((middle, d_gate), d_up), ((&gate, &up), &d)) in outputs.zip(inputs) {
            let s = sigmoid::<FMA>(gate);
            let silu = gate * s;
            *middle = silu * up;
            *d_up = d * silu;
            *d_gate = d * up * (s * fma::<FMA>(gate, 1.0 - s, 1.0));
        }
    }
}
