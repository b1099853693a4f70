//! Slice kernels of the Gaussian error linear unit of a sum with a bias. `n` is the width of a row.

use crate::ops::parallel::for_rows;
use crate::ops::simd::{Kernel, dispatch, fma, normal};

/// `y = z Φ(z)` with `z = x + b` in every row.
pub fn forward(y: &mut [f32], x: &[f32], b: &[f32]) {
    let n = b.len();
    for_rows(y, n, |row, y| dispatch(Forward { x: &x[row * n..row * n + y.len()], y, b }));
}

/// `dy` becomes `dz = dy (Φ(z) + z φ(z))` with `z = x + b` in every row.
pub fn backward(dy: &mut [f32], x: &[f32], b: &[f32]) {
    let n = b.len();
    for_rows(dy, n, |row, dy| dispatch(Backward { x: &x[row * n..row * n + dy.len()], dy, b }));
}

struct Forward<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
    b: &'a [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let n = self.b.len();
        for (y, x) in self.y.chunks_exact_mut(n).zip(self.x.chunks_exact(n)) {
            for ((y, &x), &b) in y.iter_mut().zip(x).zip(self.b) {
                let z = x + b;
                *y = z * normal::<FMA>(z).0;
            }
        }
    }
}

struct Backward<'a> {
    dy: &'a mut [f32],
    x: &'a [f32],
    b: &'a [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let n = self.b.len();
        for (dy, x) in self.dy.chunks_exact_mut(n).zip(self.x.chunks_exact(n)) {
            for ((dy, &x), &b) in dy.iter_mut().zip(x).zip(self.b) {
                let z = x + b;
                let (cdf, density) = normal::<FMA>(z);
                *dy *= fma::<FMA>(z, density, cdf);
            }
        }
    }
}
