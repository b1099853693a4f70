//! Seeds: every random choice of a run is a function of the run's seed and of what the choice is for.
//!
//! There is no generator that is passed along, so nothing depends on the order in which work is done,
//! and a resumed run needs no generator state.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Mixes `parts` into `seed` (SplitMix64 finaliser per part).
///
/// ```
/// use imagent_core::derive;
/// assert_eq!(derive(1, &[2, 3]), derive(1, &[2, 3]));
/// assert_ne!(derive(1, &[2, 3]), derive(1, &[3, 2]));
/// ```
pub fn derive(seed: u64, parts: &[u64]) -> u64 {
    parts.iter().fold(mix(seed), |state, &part| mix(state ^ mix(part.wrapping_add(0x9e37_79b9_7f4a_7c15))))
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A 64-bit hash of a text (FNV-1a), to derive seeds from names.
pub fn text(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// A generator for the choice named by `parts`.
pub fn rng(seed: u64, parts: &[u64]) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(derive(seed, parts))
}

/// What names one rollout: its sampled tokens depend on this and on the policy, never on the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub u64);

impl Key {
    /// The key of rollout `index` of the sample called `id` in `round` (the training step, say).
    pub fn new(seed: u64, round: u64, id: &str, index: u64) -> Self {
        Self(derive(seed, &[round, text(id), index]))
    }

    /// The generator of the `position`-th sampled token.
    pub fn rng(self, position: u64) -> ChaCha8Rng {
        rng(self.0, &[position])
    }

    /// A number in `[0, 1)` for the `position`-th sampled token: all the chance that a policy of one's own needs.
    ///
    /// ```
    /// use imagent_core::Key;
    /// let key = Key::new(1, 0, "sample", 3);
    /// assert!((0.0..1.0).contains(&key.uniform(7)));
    /// assert_ne!(key.uniform(7), key.uniform(8));
    /// ```
    pub fn uniform(self, position: u64) -> f64 {
        // 53 bits, as many as an f64 holds.
        (derive(self.0, &[position]) >> 11) as f64 / (1u64 << 53) as f64
    }
}
