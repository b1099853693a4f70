//! Slice kernels of the gated activation.

use crate::ops::parallel::for_rows;
use crate::ops::simd::{Kernel, dispatch, fma, sigmoid};

/// `y = silu(gate) * up`, element by element.
pub fn forward(y: &mut [f32], gate: &[f32], up: &[f32]) {
    for_rows(y, 1, |start, y| {
        let (gate, up) = (&gate[start..start + y.len()], &up[start..start + y.len()]);
        dispatch(Forward { y, gate, up });
    });
}

/// [`forward`] where a row of `x[t, 2m]` is the gate's `m` values, then the `m` of `up`.
pub fn forward_packed(y: &mut [f32], x: &[f32], m: usize) {
    if m == 0 {
        return;
    }
    for_rows(y, m, |start, y| {
        for (y, x) in y.chunks_exact_mut(m).zip(x[2 * m * start..].chunks_exact(2 * m)) {
            let (gate, up) = x.split_at(m);
            dispatch(Forward { y, gate, up });
        }
    });
}

/// `dup += dy silu(gate)`.
pub fn backward_up(dup: &mut [f32], dy: &[f32], gate: &[f32]) {
    for_rows(dup, 1, |start, dup| {
        let range = start..start + dup.len();
        dispatch(BackwardUp { dup, dy: &dy[range.clone()], gate: &gate[range] });
    });
}

/// `dgate += dy up s (1 + gate (1 - s))` with `s = 1 / (1 + e^-gate)`.
pub fn backward_gate(dgate: &mut [f32], dy: &[f32], gate: &[f32], up: &[f32]) {
    for_rows(dgate, 1, |start, dgate| {
        let range = start..start + dgate.len();
        dispatch(BackwardGate { dgate, dy: &dy[range.clone()], gate: &gate[range.clone()], up: &up[range] });
    });
}

struct Forward<'a> {
    y: &'a mut [f32],
    gate: &'a [f32],
    up: &'a [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for ((y, &gate), &up) in self.y.iter_mut().zip(self.gate).zip(self.up) {
            *y = gate * sigmoid::<FMA>(gate) * up;
        }
    }
}

struct BackwardUp<'a> {
    dup: &'a mut [f32],
    dy: &'a [f32],
    gate: &'a [f32],
}

impl Kernel for BackwardUp<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for ((dup, &dy), &gate) in self.dup.iter_mut().zip(self.dy).zip(self.gate) {
            *dup = fma::<FMA>(dy, gate * sigmoid::<FMA>(gate), *dup);
        }
    }
}

struct BackwardGate<'a> {
    dgate: &'a mut [f32],
    dy: &'a [f32],
    gate: &'a [f32],
    up: &'a [f32],
}

impl Kernel for BackwardGate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let inputs = self.dy.iter().zip(self.gate).zip(self.up);
        for (dgate, ((&dy, &gate), &up)) in self.dgate.iter_mut().zip(inputs) {
            let s = sigmoid::<FMA>(gate);
            let slope = s * fma::<FMA>(gate, 1.0 - s, 1.0);
            *dgate = fma::<FMA>(dy * up, slope, *dgate);
        }
    }
}
