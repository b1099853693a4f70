//! Runs loops over [`Lanes`] with the widest instruction set found at run time.

#[cfg(target_arch = "x86_64")]
use super::lanes::{Avx2, Avx512};
use super::lanes::{Lanes, Portable};

/// Loops over tiles of at most `R × C` vectors of lanes, `R` up to 6; `1 × C1` where there is one row.
pub(super) trait Loops {
    /// Runs them.
    ///
    /// # Safety
    /// The instruction set of `L` is there.
    unsafe fn run<L: Lanes, const C1: usize, const R: usize, const C: usize>(self);
}

/// Runs loops with the widest instruction set found.
pub(super) fn widest(loops: impl Loops) {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the features it is compiled for were just detected.
            return unsafe { avx512(loops) };
        }
        if has_avx2() {
            // SAFETY: the features it is compiled for were just detected.
            return unsafe { avx2(loops) };
        }
    }
    portable(loops);
}

/// Runs loops with plain Rust.
pub(super) fn portable(loops: impl Loops) {
    // SAFETY: `Portable` needs no instruction set.
    unsafe { loops.run::<Portable, 4, 2, 2>() }
}

/// Runs loops with AVX2, for the tests; `false` where the processor has none.
#[cfg(test)]
pub(super) fn with_avx2(loops: impl Loops) -> bool {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the features it is compiled for were just detected.
        unsafe { avx2(loops) };
        return true;
    }
    drop(loops);
    false
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
        && std::arch::is_x86_feature_detected!("f16c")
}

/// # Safety
/// The processor has the features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn avx512(loops: impl Loops) {
    // SAFETY: the caller's promise. 24 sums, 4 vectors of a weight and one of a row: 29 of 32 registers.
    unsafe { loops.run::<Avx512, 8, 6, 4>() }
}

/// # Safety
/// The processor has the features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2(loops: impl Loops) {
    // SAFETY: the caller's promise. Lanes take two registers each: 8 for sums, 4 for a weight, 2 for a row.
    unsafe { loops.run::<Avx2, 4, 2, 2>() }
}
