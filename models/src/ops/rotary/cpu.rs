//! Slice kernels of the rotary embedding. Rows are `d = heads * hd` wide, tables `hd / 2`.

use crate::ops::parallel::for_rows;
use crate::ops::simd::{Kernel, dispatch, fma};

/// `y1 = x1 cos - x2 sin`, `y2 = x2 cos + x1 sin`, where `x1`, `x2` are the halves of a head.
pub fn forward(y: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], heads: usize, d: usize) {
    turn::<false>(y, x, cos, sin, heads, d);
}

/// `dx += ` the rotation by the opposite angle of `dy`.
pub fn backward(dx: &mut [f32], dy: &[f32], cos: &[f32], sin: &[f32], heads: usize, d: usize) {
    turn::<true>(dx, dy, cos, sin, heads, d);
}

fn turn<const BACK: bool>(y: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], heads: usize, d: usize) {
    let half = d / heads / 2;
    for_rows(y, d, |start, y| {
        let x = &x[start * d..start * d + y.len()];
        let (cos, sin) = (&cos[start * half..], &sin[start * half..]);
        dispatch(Turn::<BACK> { y, x, cos, sin, half, d });
    });
}

struct Turn<'a, const BACK: bool> {
    y: &'a mut [f32],
    x: &'a [f32],
    cos: &'a [f32],
    sin: &'a [f32],
    half: usize,
    d: usize,
}

impl<const BACK: bool> Kernel for Turn<'_, BACK> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let half = self.half;
        let tables = self.cos.chunks_exact(half).zip(self.sin.chunks_exact(half));
        let rows = self.y.chunks_exact_mut(self.d).zip(self.x.chunks_exact(self.d));
        for ((y, x), (cos, sin)) in rows.zip(tables) {
            for (y, x) in y.chunks_exact_mut(2 * half).zip(x.chunks_exact(2 * half)) {
                let (y1, y2) = y.split_at_mut(half);
                let (x1, x2) = x.split_at(half);
                for i in 0..half.min(cos.len()).min(sin.len()).min(y1.len()).min(y2.len()).min(x1.len()).min(x2.len()) {
                    let s = if BACK { -sin[i] } else { sin[i] };
                    let low = fma::<FMA>(x1[i], cos[i], -(x2[i] * s));
                    let high = fma::<FMA>(x2[i], cos[i], x1[i] * s);
                    if BACK {
                        y1[i] += low;
                        y2[i] += high;
                    } else {
                        y1[i] = low;
                        y2[i] = high;
                    }
                }
            }
        }
    }
}
