//! Slice kernels of the Gaussian error linear unit.

use crate::ops::parallel::for_rows;
use crate::ops::simd::{Kernel, dispatch, fma, normal};

/// `y = x Φ(x)`, element by element.
pub fn forward(y: &mut [f32], x: &[f32]) {
    for_rows(y, 1, |start, y| dispatch(Forward { x: &x[start..start + y.len()], y }));
}

/// `dx += dy (Φ(x) + x φ(x))`.
pub fn backward(dx: &mut [f32], dy: &[f32], x: &[f32]) {
    for_rows(dx, 1, |start, dx| {
        let range = start..start + dx.len();
        dispatch(Backward { dx, dy: &dy[range.clone()], x: &x[range] });
    });
}

struct Forward<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = x * normal::<FMA>(x).0;
        }
    }
}

struct Backward<'a> {
    dx: &'a mut [f32],
    dy: &'a [f32],
    x: &'a [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for ((dx, &dy), &x) in self.dx.iter_mut().zip(self.dy).zip(self.x) {
            let (cdf, density) = normal::<FMA>(x);
            *dx = fma::<FMA>(dy, fma::<FMA>(x, density, cdf), *dx);
        }
    }
}
