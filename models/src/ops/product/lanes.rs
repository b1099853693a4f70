//! Sixteen numbers at a time, by what the processor has. Knows registers only.

use half::{bf16, f16};

/// How many numbers a [`Lanes::V`] holds.
pub(crate) const LANES: usize = 16;

/// Sixteen f32 at a time.
///
/// # Safety
/// Every function may be called only where the instruction set is there, and pointers must be good for [`LANES`] elements, or
/// for `count` where a function takes one; that is at most [`LANES`].
pub(super) trait Lanes {
    /// Sixteen f32.
    type V: Copy;
    /// All zero.
    unsafe fn zero() -> Self::V;
    /// One number sixteen times.
    unsafe fn splat(x: f32) -> Self::V;
    /// To memory.
    unsafe fn store(v: Self::V, to: *mut f32);
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// From memory.
    unsafe fn f32(from: *const f32) -> Self::V;
    /// From memory, widened.
    unsafe fn bf16(from: *const bf16) -> Self::V;
    /// From memory, widened.
    unsafe fn f16(from: *const f16) -> Self::V;
    /// `count` of the sixteen from memory that is good for as many, the others zero.
    #[inline(always)]
    unsafe fn first(from: *const f32, count: usize) -> Self::V {
        let mut whole = [0.0; LANES];
        // SAFETY: the caller's promise, which has `count <= LANES`.
        unsafe {
            std::ptr::copy_nonoverlapping(from, whole.as_mut_ptr(), count);
            Self::f32(whole.as_ptr())
        }
    }
    /// The first `count` to memory that is good for as many.
    #[inline(always)]
    unsafe fn store_first(v: Self::V, to: *mut f32, count: usize) {
        let mut whole = [0.0; LANES];
        // SAFETY: as above.
        unsafe {
            Self::store(v, whole.as_mut_ptr());
            std::ptr::copy_nonoverlapping(whole.as_ptr(), to, count);
        }
    }
    /// `a b + c`.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The sum of each, lanes `i` and `i + 8` first, then `i + 4`, `i + 2`, `i + 1`.
    unsafe fn sums<const N: usize>(v: [Self::V; N]) -> [f32; N];
}

/// What a weight consists of.
pub(super) trait Element: Copy {
    /// Positive zero.
    const ZERO: Self;
    /// Sixteen of them, as f32.
    ///
    /// # Safety
    /// As for [`Lanes`].
    unsafe fn load<L: Lanes>(from: *const Self) -> L::V;
}

impl Element for f32 {
    const ZERO: Self = 0.0;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L::V {
        // SAFETY: the caller's promise.
        unsafe { L::f32(from) }
    }
}

impl Element for bf16 {
    const ZERO: Self = bf16::ZERO;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L::V {
        // SAFETY: the caller's promise.
        unsafe { L::bf16(from) }
    }
}

impl Element for f16 {
    const ZERO: Self = f16::ZERO;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L::V {
        // SAFETY: the caller's promise.
        unsafe { L::f16(from) }
    }
}

/// Plain Rust.
pub(super) struct Portable;

impl Lanes for Portable {
    type V = [f32; LANES];

    #[inline(always)]
    unsafe fn zero() -> Self::V {
        [0.0; LANES]
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn store(v: Self::V, to: *mut f32) {
        // SAFETY: the caller's promise; f32 numbers lie where f32 may.
        unsafe { *to.cast::<[f32; LANES]>() = v }
    }

    #[inline(always)]
    unsafe fn add(mut a: Self::V, b: Self::V) -> Self::V {
        for i in 0..LANES {
            a[i] += b[i];
        }
        a
    }

    #[inline(always)]
    unsafe fn f32(from: *const f32) -> Self::V {
        // SAFETY: the caller's promise; f32 numbers lie where f32 may.
        unsafe { *from.cast::<[f32; LANES]>() }
    }

    #[inline(always)]
    unsafe fn bf16(from: *const bf16) -> Self::V {
        // SAFETY: as above.
        unsafe { *from.cast::<[bf16; LANES]>() }.map(bf16::to_f32)
    }

    #[inline(always)]
    unsafe fn f16(from: *const f16) -> Self::V {
        // SAFETY: as above.
        unsafe { *from.cast::<[f16; LANES]>() }.map(f16::to_f32)
    }

    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, mut c: Self::V) -> Self::V {
        for i in 0..LANES {
            c[i] += a[i] * b[i];
        }
        c
    }

    #[inline(always)]
    unsafe fn sums<const N: usize>(v: [Self::V; N]) -> [f32; N] {
        v.map(|mut v| {
            for half in [8, 4, 2, 1] {
                for i in 0..half {
                    v[i] += v[i + half];
                }
            }
            v[0]
        })
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The instruction sets of x86-64.

    use std::arch::x86_64::*;

    use half::{bf16, f16};

    use super::{LANES, Lanes};

    /// AVX-512F.
    pub(in super::super) struct Avx512;

    impl Lanes for Avx512 {
        type V = __m512;

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            // SAFETY: the caller's promise, here and below.
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_set1_ps(x) }
        }

        #[inline(always)]
        unsafe fn store(v: __m512, to: *mut f32) {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(to, v) }
        }

        #[inline(always)]
        unsafe fn first(from: *const f32, count: usize) -> __m512 {
            // SAFETY: as above; what the mask leaves out is not read.
            unsafe { _mm512_maskz_loadu_ps(mask(count), from) }
        }

        #[inline(always)]
        unsafe fn store_first(v: __m512, to: *mut f32, count: usize) {
            // SAFETY: as above; what the mask leaves out is not written.
            unsafe { _mm512_mask_storeu_ps(to, mask(count), v) }
        }

        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn f32(from: *const f32) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn bf16(from: *const bf16) -> __m512 {
            // SAFETY: as above; a bf16 is the upper half of an f32.
            unsafe {
                let low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(low))
            }
        }

        #[inline(always)]
        unsafe fn f16(from: *const f16) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        }

        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        unsafe fn sums<const N: usize>(v: [__m512; N]) -> [f32; N] {
            let mut out = [0.0; N];
            let mut i = 0;
            while i < N {
                let at = |k: usize| v[if i + k < N { i + k } else { i }];
                // SAFETY: as above.
                let four = unsafe { sum4(at(0), at(1), at(2), at(3)) };
                let mut k = 0;
                while k < 4 && i + k < N {
                    out[i + k] = four[k];
                    k += 1;
                }
                i += 4;
            }
            out
        }
    }

    /// The first `count` of sixteen lanes.
    #[inline(always)]
    fn mask(count: usize) -> __mmask16 {
        ((1u32 << count) - 1) as __mmask16
    }

    /// The sums of four.
    ///
    /// # Safety
    /// AVX-512F is there.
    #[inline(always)]
    unsafe fn sum4(a: __m512, b: __m512, c: __m512, d: __m512) -> [f32; 4] {
        let mut out = [0.0; 4];
        // SAFETY: the caller's promise; `out` holds the four floats that are stored.
        unsafe {
            // Blocks of four lanes: a0 + a2, a1 + a3, then b's; the same for c and d.
            let ab = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xEE>(a, b));
            let cd = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xEE>(c, d));
            // One block for each of a, b, c, d.
            let all = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xDD>(ab, cd));
            let all = _mm512_add_ps(all, _mm512_permute_ps::<0x4E>(all));
            let all = _mm512_add_ps(all, _mm512_permute_ps::<0xB1>(all));
            let firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
            _mm_storeu_ps(out.as_mut_ptr(), _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, all)));
        }
        out
    }

    /// AVX2 with FMA and F16C.
    pub(in super::super) struct Avx2;

    impl Lanes for Avx2 {
        type V = [__m256; 2];

        #[inline(always)]
        unsafe fn zero() -> Self::V {
            // SAFETY: the caller's promise, here and below.
            unsafe { [_mm256_setzero_ps(); 2] }
        }

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            // SAFETY: as above.
            unsafe { [_mm256_set1_ps(x); 2] }
        }

        #[inline(always)]
        unsafe fn store(v: Self::V, to: *mut f32) {
            // SAFETY: as above.
            unsafe {
                _mm256_storeu_ps(to, v[0]);
                _mm256_storeu_ps(to.add(LANES / 2), v[1]);
            }
        }

        #[inline(always)]
        unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
            // SAFETY: as above.
            unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
        }

        #[inline(always)]
        unsafe fn f32(from: *const f32) -> Self::V {
            // SAFETY: as above.
            unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(LANES / 2))] }
        }

        #[inline(always)]
        unsafe fn bf16(from: *const bf16) -> Self::V {
            // SAFETY: as above; a bf16 is the upper half of an f32.
            unsafe {
                let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(LANES / 2).cast()));
                [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high))]
            }
        }

        #[inline(always)]
        unsafe fn f16(from: *const f16) -> Self::V {
            // SAFETY: as above.
            unsafe {
                let high = _mm_loadu_si128(from.add(LANES / 2).cast());
                [_mm256_cvtph_ps(_mm_loadu_si128(from.cast())), _mm256_cvtph_ps(high)]
            }
        }

        #[inline(always)]
        unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            // SAFETY: as above.
            unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
        }

        #[inline(always)]
        unsafe fn sums<const N: usize>(v: [Self::V; N]) -> [f32; N] {
            let mut out = [0.0; N];
            let mut i = 0;
            while i < N {
                // SAFETY: as above.
                out[i] = unsafe {
                    let eight = _mm256_add_ps(v[i][0], v[i][1]);
                    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
                    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
                };
                i += 1;
            }
            out
        }
    }
}
