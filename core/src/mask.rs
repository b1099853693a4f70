//! Masks: which sampled tokens the loss counts.

use crate::trajectory::Trajectory;

/// Multiplies loss weights by 0 or 1.
#[typetag::serde(tag = "type")]
pub trait Mask: Send + Sync + std::fmt::Debug {
    /// Multiplies into `weights`, one weight for every token of the trajectory.
    fn apply(&self, trajectory: &Trajectory, weights: &mut [f32]);
    /// Whether the trajectory counts in its group's mean and deviation.
    fn in_baseline(&self, _trajectory: &Trajectory) -> bool {
        true
    }
}

/// Several masks as one: `()`, one mask, tuples (static) or `Vec<Box<dyn Mask>>` (from a config).
pub trait MaskSet: Send + Sync {
    /// Multiplies all masks into `weights`.
    fn apply_all(&self, trajectory: &Trajectory, weights: &mut [f32]);
    /// Whether all masks leave the trajectory in the baseline.
    fn all_in_baseline(&self, trajectory: &Trajectory) -> bool;
}

impl<M: Mask> MaskSet for M {
    fn apply_all(&self, trajectory: &Trajectory, weights: &mut [f32]) {
        self.apply(trajectory, weights);
    }
    fn all_in_baseline(&self, trajectory: &Trajectory) -> bool {
        self.in_baseline(trajectory)
    }
}

impl MaskSet for Vec<Box<dyn Mask>> {
    fn apply_all(&self, trajectory: &Trajectory, weights: &mut [f32]) {
        self.iter().for_each(|mask| mask.apply(trajectory, weights));
    }
    fn all_in_baseline(&self, trajectory: &Trajectory) -> bool {
        self.iter().all(|mask| mask.in_baseline(trajectory))
    }
}

impl MaskSet for () {
    fn apply_all(&self, _: &Trajectory, _: &mut [f32]) {}
    fn all_in_baseline(&self, _: &Trajectory) -> bool {
        true
    }
}

macro_rules! mask_tuple {
    ($($member:ident),+) => {
        #[allow(non_snake_case)]
        impl<$($member: MaskSet),+> MaskSet for ($($member,)+) {
            fn apply_all(&self, trajectory: &Trajectory, weights: &mut [f32]) {
                let ($($member,)+) = self;
                $($member.apply_all(trajectory, weights);)+
            }
            fn all_in_baseline(&self, trajectory: &Trajectory) -> bool {
                let ($($member,)+) = self;
                true$( && $member.all_in_baseline(trajectory))+
            }
        }
    };
}
mask_tuple!(A);
mask_tuple!(A, B);
mask_tuple!(A, B, C);
mask_tuple!(A, B, C, D);
