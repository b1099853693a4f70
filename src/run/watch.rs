//! Who is told about a run's progress.

use imagent_algorithms::StepReport;
use imagent_analysis::EvalTable;
use imagent_analysis::alarms::Alarm;

/// Is told what a run does. Every method does nothing unless written.
pub trait Watch {
    /// The run starts: `done` of `steps` are done already.
    fn begin(&mut self, _done: usize, _steps: usize) {}
    /// An evaluation has done `done` of `all` samples.
    fn evaluating(&mut self, _done: usize, _all: usize) {}
    /// An evaluation is over; `step` steps were done before it.
    fn evaluated(&mut self, _step: usize, _table: &EvalTable) {}
    /// A step is over.
    fn step(&mut self, _report: &StepReport) {}
    /// A rule over the figures so far fires.
    fn alarm(&mut self, _alarm: &Alarm) {}
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Watch for Quiet {}
