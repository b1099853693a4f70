//! Runs a loop compiled for the widest vectors this processor has, and the elementary
//! functions such loops need. Knows slices only, not tensors.
//!
//! A [`Kernel`] is written as plain Rust with `#[inline(always)]`; [`dispatch`] compiles it once
//! for AVX-512, once for AVX2 with FMA and once for the baseline, and picks at run time. One
//! machine always picks the same, so results never depend on the number of threads.

/// Lanes of a reduction: sums are kept in this many partial sums and folded in a fixed order.
const LANES: usize = 32;

/// A loop that [`dispatch`] compiles for several instruction sets.
pub(crate) trait Kernel {
    /// What the loop returns.
    type Output;
    /// The loop; `FMA` says whether [`fma`] is one instruction. Must be `#[inline(always)]`.
    fn run<const FMA: bool>(self) -> Self::Output;
}

/// Runs `kernel` with the widest instruction set found at run time.
#[inline]
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the features it is compiled for were just detected.
            return unsafe { run_avx512(kernel) };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: the features it is compiled for were just detected.
            return unsafe { run_avx2(kernel) };
        }
    }
    kernel.run::<false>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}

/// `a * b + c`, fused where the instruction exists.
#[inline(always)]
pub(crate) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `e^x` to about 1 ulp for `x <= 88`; 0 below -87.3 (so `exp(-inf) = 0`). Free of branches.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    let clamped = if x > -87.3 { x } else { -87.3 };
    let clamped = if clamped < 88.0 { clamped } else { 88.0 };
    let shifted = fma::<FMA>(clamped, std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = fma::<FMA>(n, -LN2_HI, clamped);
    let r = fma::<FMA>(n, -LN2_LO, r);
    let p = fma::<FMA>(r, 1.987_569_1e-4, 1.398_199_9e-3);
    let p = fma::<FMA>(p, r, 8.333_452e-3);
    let p = fma::<FMA>(p, r, 4.166_579_6e-2);
    let p = fma::<FMA>(p, r, 1.666_666_5e-1);
    let p = fma::<FMA>(p, r, 5e-1);
    let p = fma::<FMA>(p, r * r, r) + 1.0;
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x > -87.3 { p * scale } else { 0.0 }
}

/// `1 / (1 + e^-x)` without overflow.
#[inline(always)]
pub(crate) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    let e = exp::<FMA>(-x.abs());
    let num = if x >= 0.0 { 1.0 } else { e };
    num / (1.0 + e)
}

/// The standard normal distribution function `Φ(x)` and density `φ(x)`.
///
/// The tail is `erfc` by the Chebyshev fit of Numerical Recipes (§6.2, `erfcc`), whose fractional
/// error is below 1.2e-7 everywhere, so that neither tail cancels.
#[inline(always)]
pub(crate) fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    const COEFFICIENTS: [f32; 9] = [
        -0.822_152_23,
        1.488_515_9,
        -1.135_204,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_7,
        -1.265_512_2,
    ];
    let t = 1.0 / fma::<FMA>(x.abs(), 0.5 * std::f32::consts::FRAC_1_SQRT_2, 1.0);
    let mut p = 0.170_872_77;
    for c in COEFFICIENTS {
        p = fma::<FMA>(p, t, c);
    }
    let gauss = exp::<FMA>(-0.5 * x * x);
    let tail = 0.5 * t * gauss * exp::<FMA>(p);
    let cdf = if x < 0.0 { tail } else { 1.0 - tail };
    (cdf, gauss * 0.398_942_3)
}

/// `Σ f(x[i], y[i])` in a fixed order. The slices have one length.
#[inline(always)]
pub(crate) fn sum_zip(x: &[f32], y: &[f32], f: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut acc = [0.0f32; LANES];
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (a, b) in xs.iter().zip(ys) {
        for i in 0..LANES {
            acc[i] = f(acc[i], a[i], b[i]);
        }
    }
    for ((s, &a), &b) in acc.iter_mut().zip(x_rest).zip(y_rest) {
        *s = f(*s, a, b);
    }
    fold(acc)
}

/// Folds partial sums pairwise.
#[inline(always)]
fn fold(acc: [f32; LANES]) -> f32 {
    let acc: [f32; 16] = std::array::from_fn(|i| acc[i] + acc[i + 16]);
    let acc: [f32; 8] = std::array::from_fn(|i| acc[i] + acc[i + 8]);
    let acc: [f32; 4] = std::array::from_fn(|i| acc[i] + acc[i + 4]);
    (acc[0] + acc[2]) + (acc[1] + acc[3])
}

/// The largest element; `-inf` of nothing.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut acc = [f32::NEG_INFINITY; LANES];
    let (xs, rest) = x.as_chunks::<LANES>();
    for a in xs {
        for i in 0..LANES {
            acc[i] = if a[i] > acc[i] { a[i] } else { acc[i] };
        }
    }
    for (s, &a) in acc.iter_mut().zip(rest) {
        *s = if a > *s { a } else { *s };
    }
    acc.into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
}

/// Replaces `x` by `exp((x - shift) * scale)` and returns the sum, in a fixed order.
#[inline(always)]
pub(crate) fn exp_sum<const FMA: bool>(x: &mut [f32], shift: f32, scale: f32) -> f32 {
    let offset = -shift * scale;
    let mut acc = [0.0f32; LANES];
    let (xs, rest) = x.as_chunks_mut::<LANES>();
    for a in xs {
        for v in a.iter_mut() {
            *v = exp::<FMA>(fma::<FMA>(*v, scale, offset));
        }
        for (s, v) in acc.iter_mut().zip(a) {
            *s += *v;
        }
    }
    for (s, a) in acc.iter_mut().zip(rest) {
        *a = exp::<FMA>(fma::<FMA>(*a, scale, offset));
        *s += *a;
    }
    fold(acc)
}

/// `(Σ e^u, Σ u e^u)` with `u = (x - shift) * scale`, in a fixed order; `x` is only read.
#[inline(always)]
pub(crate) fn exp_moments<const FMA: bool>(x: &[f32], shift: f32, scale: f32) -> (f32, f32) {
    let (mut zeroth, mut first) = ([0.0f32; LANES], [0.0f32; LANES]);
    let (xs, rest) = x.as_chunks::<LANES>();
    for a in xs {
        let (mut u, mut e) = ([0.0f32; LANES], [0.0f32; LANES]);
        for i in 0..LANES {
            u[i] = (a[i] - shift) * scale;
            e[i] = exp::<FMA>(u[i]);
        }
        for i in 0..LANES {
            zeroth[i] += e[i];
            first[i] = fma::<FMA>(e[i], u[i], first[i]);
        }
    }
    for (i, &a) in rest.iter().enumerate() {
        let u = (a - shift) * scale;
        let e = exp::<FMA>(u);
        zeroth[i] += e;
        first[i] = fma::<FMA>(e, u, first[i]);
    }
    (fold(zeroth), fold(first))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    struct Map<'a>(&'a mut [f32], u8);
    impl Kernel for Map<'_> {
        type Output = ();
        #[inline(always)]
        fn run<const FMA: bool>(self) {
            for v in self.0.iter_mut() {
                *v = match self.1 {
                    0 => exp::<FMA>(*v),
                    1 => sigmoid::<FMA>(*v),
                    _ => normal::<FMA>(*v).0,
                };
            }
        }
    }

    fn worst(op: u8, low: f64, high: f64, exact: impl Fn(f64) -> f64) -> f64 {
        let n = 200_000;
        let xs: Vec<f32> = (0..n).map(|i| (low + (high - low) * f64::from(i) / f64::from(n)) as f32).collect();
        let mut ys = xs.clone();
        dispatch(Map(&mut ys, op));
        let plain = {
            let mut ys = xs.clone();
            Map(&mut ys, op).run::<false>();
            ys
        };
        let error = |ys: &[f32]| {
            xs.iter().zip(ys).map(|(&x, &y)| (f64::from(y) / exact(f64::from(x)) - 1.0).abs()).fold(0.0, f64::max)
        };
        error(&ys).max(error(&plain))
    }

    /// Complementary error function by its continued fraction or series, in f64.
    fn erfc(z: f64) -> f64 {
        if z < 0.0 {
            return 2.0 - erfc(-z);
        }
        if z < 2.0 {
            let (mut term, mut sum, mut n) = (z, z, 0.0);
            while term.abs() > 1e-18 {
                n += 1.0;
                term *= -z * z / n;
                sum += term / (2.0 * n + 1.0);
            }
            return 1.0 - sum * 2.0 / std::f64::consts::PI.sqrt();
        }
        let fraction = (1..200).rev().fold(0.0, |f, k| f64::from(k) / 2.0 / (z + f));
        (-z * z).exp() / (z + fraction) / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn elementary_functions_are_accurate() {
        assert!(worst(0, -87.0, 88.0, f64::exp) < 1.5e-7);
        assert!(worst(1, -80.0, 80.0, |x| 1.0 / (1.0 + (-x).exp())) < 3e-7);
        assert!(worst(2, -5.0, 8.0, |x| 0.5 * erfc(-x / 2f64.sqrt())) < 1.5e-6);
        assert!(worst(2, -2.0, 8.0, |x| 0.5 * erfc(-x / 2f64.sqrt())) < 5e-7);
    }

    #[test]
    fn exp_of_minus_infinity_is_zero() {
        assert_eq!(exp::<false>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp::<false>(-1e30), 0.0);
        assert_eq!(exp::<false>(0.0), 1.0);
    }
}
