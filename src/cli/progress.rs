//! Progress on standard error: a bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};

use imagent::pipeline::Progress;
use imagent::run::Watch;
use imagent_algorithms::StepReport;
use imagent_analysis::EvalTable;
use imagent_analysis::alarms::Alarm;
use indicatif::{ProgressBar, ProgressStyle};

/// Figures of a step that are told, with their short names.
const SHOWN: [(&str, &str); 5] = [
    ("reward/mean", "reward"),
    ("accuracy", "accuracy"),
    ("tool_rate", "tools"),
    ("response_tokens/mean", "tokens"),
    ("update/entropy", "entropy"),
];

/// A bar, or lines.
pub(crate) fn reporter() -> Box<dyn Watch> {
    if std::io::stderr().is_terminal() { Box::new(Bar { bar: bar() }) } else { Box::new(Lines::default()) }
}

/// Tells how many things are done: in place on a terminal, a line for each thousand elsewhere.
pub(crate) fn counter(things: &'static str) -> impl Fn(usize) {
    let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
    move |done| match &bar {
        Some(bar) => bar.set_message(format!("{done} {things}")),
        None if done.is_multiple_of(1000) => Lines::line(&format!("{done} {things}")),
        None => {}
    }
}

/// Tells how far a pipeline is: a bar for each step on a terminal, elsewhere a line for each hundred items and for each step.
pub(crate) fn pipeline() -> impl FnMut(Progress<'_>) + Send {
    let bar = std::io::stderr().is_terminal().then(bar);
    move |progress| match (progress, &bar) {
        (Progress::Items { step, done, items }, Some(bar)) => {
            bar.set_length(items as u64);
            bar.set_position(done as u64);
            bar.set_message(step.to_owned());
        }
        (Progress::Items { step, done, items }, None) if done.is_multiple_of(100) && done < items => {
            Lines::line(&format!("{step}: {done} of {items}"));
        }
        (Progress::Items { .. }, None) => {}
        (Progress::Step(step), bar) => {
            let line = format!("{}: {} of {} kept", step.name, step.kept, step.items);
            bar.as_ref().map_or_else(|| Lines::line(&line), |bar| bar.println(&line));
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    // The template is a constant that parses.
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len}  {elapsed} of {duration}  {msg}") {
        bar.set_style(style);
    }
    bar
}

fn figures(report: &StepReport) -> String {
    let figure = |&(name, short): &(&str, &str)| Some(format!("{short} {:.3}", report.metrics.get(name)?));
    let figures: Vec<String> = SHOWN.iter().filter_map(figure).collect();
    figures.join("  ")
}

fn alarm_line(alarm: &Alarm) -> String {
    format!("alarm at step {}: {}: {}", alarm.step, alarm.rule, alarm.text)
}

fn held_out(step: usize, table: &EvalTable) -> String {
    let figure = |name: &str| table.get(name).map(|value| format!("  {name} {value:.3}")).unwrap_or_default();
    format!("held out after {step} steps:{}{}{}", figure("accuracy"), figure("tool_rate"), figure("reward/mean"))
}

struct Bar {
    bar: ProgressBar,
}

impl Watch for Bar {
    fn begin(&mut self, done: usize, steps: usize) {
        self.bar.set_length(steps as u64);
        self.bar.set_position(done as u64);
    }
    fn evaluating(&mut self, done: usize, all: usize) {
        self.bar.set_message(format!("evaluating {done}/{all}"));
    }
    fn evaluated(&mut self, step: usize, table: &EvalTable) {
        self.bar.println(held_out(step, table));
    }
    fn step(&mut self, report: &StepReport) {
        self.bar.set_position(report.step as u64 + 1);
        self.bar.set_message(figures(report));
    }
    fn alarm(&mut self, alarm: &Alarm) {
        self.bar.println(alarm_line(alarm));
    }
}

#[derive(Default)]
struct Lines {
    steps: usize,
}

impl Lines {
    fn line(text: &str) {
        // A reader that has gone away must not end the run.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

impl Watch for Lines {
    fn begin(&mut self, done: usize, steps: usize) {
        self.steps = steps;
        if done > 0 {
            Self::line(&format!("going on after step {done} of {steps}"));
        }
    }
    fn evaluated(&mut self, step: usize, table: &EvalTable) {
        Self::line(&held_out(step, table));
    }
    fn step(&mut self, report: &StepReport) {
        let seconds: f64 = report.seconds.values().sum();
        Self::line(&format!("step {}/{}  {}  {seconds:.1} s", report.step + 1, self.steps, figures(report)));
    }
    fn alarm(&mut self, alarm: &Alarm) {
        Self::line(&alarm_line(alarm));
    }
}
