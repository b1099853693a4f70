//! When to stop: as soon as the held-out loss has not been better for a while.

/// The course of validation. A function of the losses in their order, so a resumed run has the same from its log.
///
/// ```
/// use imagent::sft::Stopping;
/// let mut stopping = Stopping::new(2, 0.1);
/// assert!([1.0, 0.5, 0.45].iter().enumerate().all(|(i, &loss)| !stopping.push(i, loss)));
/// assert!(stopping.push(3, 0.44));
/// assert_eq!(stopping.best(), Some((1, 0.5)));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Stopping {
    patience: usize,
    min_delta: f64,
    best: Option<(usize, f64)>,
    worse: usize,
}

impl Stopping {
    /// Stops after `patience` losses in a row (0: never) that are not lower than the best by at least `min_delta`, or by anything
    /// where that is 0.
    pub fn new(patience: usize, min_delta: f64) -> Self {
        Self { patience, min_delta, best: None, worse: 0 }
    }

    /// Takes in the loss after a step; true when it is time to stop.
    pub fn push(&mut self, step: usize, loss: f64) -> bool {
        let better = self.best.is_none_or(|(_, best)| loss < best && best - loss >= self.min_delta);
        if better && loss.is_finite() {
            (self.best, self.worse) = (Some((step, loss)), 0);
        } else {
            self.worse += 1;
        }
        self.patience > 0 && self.worse >= self.patience
    }

    /// The step of the best loss, and that loss.
    pub fn best(&self) -> Option<(usize, f64)> {
        self.best
    }
}
