//! Alarms: rules over a run's metrics that tell the ways in which such runs fail.
//!
//! A rule gives each step a level: 1 is its threshold. It fires when the level reaches 1 and again only after the level has been
//! below 0.8, so that trouble that lasts is told once. Everything is a function of the rows so far: a resumed run
//! tells what an uninterrupted one tells.
//!
//! | rule | fires when | sign of |
//! |---|---|---|
//! | `tool_abandonment` | `tool_rate` falls below a fraction of its own maximum | the policy unlearns its tools |
//! | `call_loops` | `repeated_calls` or `end/turn_limit` rises above a share | calling without getting on |
//! | `entropy_collapse` | `update/entropy` falls below a floor, or a fraction of what it began with | no exploration left |
//! | `flat_groups` | `flat_groups` stays above a share for some steps | nothing left to learn from |
//! | `attention_drift` | `eval/attention/images` falls below a fraction of its first value | the policy looks away from the images |
//! | `format_hacking` | `format` rises while `accuracy` does not | the reward is got by form |
//!
//! Values are means over the last `window` steps that have the metric.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::AnalysisError;
use crate::record::{JsonLines, MetricsRow, write_atomic};

/// Below this level a rule that has fired may fire again.
const CLEAR: f64 = 0.8;

/// The rules' names, as in `alarms.off`.
pub const RULES: [&str; 6] =
    ["tool_abandonment", "call_loops", "entropy_collapse", "flat_groups", "attention_drift", "format_hacking"];

/// The `[alarms]` table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmConfig {
    /// Rules that are switched off, by name. Default none.
    pub off: Vec<String>,
    /// Tools that are no longer used.
    pub tool_abandonment: ToolAbandonment,
    /// The same call again and again.
    pub call_loops: CallLoops,
    /// A policy that has become sure of everything.
    pub entropy_collapse: EntropyCollapse,
    /// Groups of equal rewards.
    pub flat_groups: FlatGroups,
    /// Attention that leaves the images.
    pub attention_drift: AttentionDrift,
    /// Form without content.
    pub format_hacking: FormatHacking,
}

/// `tool_rate` has fallen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ToolAbandonment {
    /// Fires below this fraction of the highest mean so far, in (0, 1). Default 0.25.
    pub fraction: f64,
    /// Not before the highest mean has reached this share of trajectories, in (0, 1]. Default 0.1.
    pub least: f64,
    /// Steps of a mean, at least 1. Default 5.
    pub window: usize,
}

/// Trajectories repeat a call, or call until their turns are over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallLoops {
    /// Fires from this share of trajectories, in (0, 1]. Default 0.3.
    pub share: f64,
    /// Steps of a mean, at least 1. Default 5.
    pub window: usize,
}

/// `update/entropy` has fallen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EntropyCollapse {
    /// Fires below this entropy of a token, in nats, at least 0. Default 0.005.
    pub floor: f64,
    /// Fires below this fraction of the first mean, in [0, 1). Default 0.1.
    pub fraction: f64,
    /// Steps of a mean, at least 1. Default 5.
    pub window: usize,
}

/// `flat_groups` stays high.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlatGroups {
    /// Counts steps in which at least this share of groups is flat, in (0, 1]. Default 0.9.
    pub share: f64,
    /// Fires after so many of them in a row, at least 1. Default 10.
    pub steps: usize,
}

/// `eval/attention/images` has fallen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttentionDrift {
    /// Fires below this fraction of the first value, before training where there is one, in (0, 1]. Default 0.5.
    pub fraction: f64,
}

/// `format` rises and `accuracy` does not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FormatHacking {
    /// Fires when `format` has risen by this much from the first half of the window to the second, above 0. Default 0.1.
    pub rise: f64,
    /// And `accuracy` by no more than this. Default 0.
    pub gain: f64,
    /// Steps of both halves, at least 2. Default 20.
    pub window: usize,
}

impl Default for ToolAbandonment {
    fn default() -> Self {
        Self { fraction: 0.25, least: 0.1, window: 5 }
    }
}
impl Default for CallLoops {
    fn default() -> Self {
        Self { share: 0.3, window: 5 }
    }
}
impl Default for EntropyCollapse {
    fn default() -> Self {
        Self { floor: 0.005, fraction: 0.1, window: 5 }
    }
}
impl Default for FlatGroups {
    fn default() -> Self {
        Self { share: 0.9, steps: 10 }
    }
}
impl Default for AttentionDrift {
    fn default() -> Self {
        Self { fraction: 0.5 }
    }
}
impl Default for FormatHacking {
    fn default() -> Self {
        Self { rise: 0.1, gain: 0.0, window: 20 }
    }
}

impl AlarmConfig {
    /// The ranges; an error is a key within `alarms` and what is wrong with its value.
    ///
    /// # Errors
    /// Names the first key that is out of range.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let wrong =
            |key: &str, expected: &str, got: String| Err((key.to_owned(), format!("must be {expected}, got {got}")));
        if let Some((i, name)) = self.off.iter().enumerate().find(|(_, name)| !RULES.contains(&name.as_str())) {
            return wrong(&format!("off.{i}"), &format!("one of {}", RULES.join(", ")), format!("{name:?}"));
        }
        let shares = [
            ("tool_abandonment.fraction", self.tool_abandonment.fraction, true),
            ("tool_abandonment.least", self.tool_abandonment.least, true),
            ("call_loops.share", self.call_loops.share, true),
            ("entropy_collapse.fraction", self.entropy_collapse.fraction, false),
            ("flat_groups.share", self.flat_groups.share, true),
            ("attention_drift.fraction", self.attention_drift.fraction, true),
        ];
        for (key, value, positive) in shares {
            if !(0.0..=1.0).contains(&value) || (positive && value == 0.0) {
                return wrong(key, if positive { "in (0, 1]" } else { "in [0, 1]" }, value.to_string());
            }
        }
        for (key, value) in
            [("entropy_collapse.floor", self.entropy_collapse.floor), ("format_hacking.rise", self.format_hacking.rise)]
        {
            if !value.is_finite() || value < 0.0 || (value == 0.0 && key.ends_with("rise")) {
                return wrong(key, if key.ends_with("rise") { "above 0" } else { "at least 0" }, value.to_string());
            }
        }
        if !self.format_hacking.gain.is_finite() {
            return wrong("format_hacking.gain", "a number", self.format_hacking.gain.to_string());
        }
        let counts = [
            ("tool_abandonment.window", self.tool_abandonment.window, 1),
            ("call_loops.window", self.call_loops.window, 1),
            ("entropy_collapse.window", self.entropy_collapse.window, 1),
            ("flat_groups.steps", self.flat_groups.steps, 1),
            ("format_hacking.window", self.format_hacking.window, 2),
        ];
        match counts.into_iter().find(|(_, value, least)| value < least) {
            Some((key, value, least)) => wrong(key, &format!("at least {least}"), value.to_string()),
            None => Ok(()),
        }
    }
}

/// What a rule has to tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    /// The step at which it fired.
    pub step: usize,
    /// The rule.
    pub rule: String,
    /// What is the matter, in a line, with the figures.
    pub text: String,
}

/// The rules with what they remember.
#[derive(Clone, Debug)]
pub struct Alarms {
    config: AlarmConfig,
    tail: BTreeMap<&'static str, VecDeque<f64>>,
    highest_tool_rate: f64,
    first_entropy: Option<f64>,
    flat_steps: usize,
    first_attention: Option<f64>,
    firing: BTreeMap<&'static str, bool>,
}

/// The metrics that rules look at.
const WATCHED: [&str; 6] = ["tool_rate", "repeated_calls", "end/turn_limit", "update/entropy", "format", "accuracy"];

impl Alarms {
    /// Rules that have seen nothing.
    pub fn new(config: AlarmConfig) -> Self {
        Self {
            config,
            tail: BTreeMap::new(),
            highest_tool_rate: 0.0,
            first_entropy: None,
            flat_steps: 0,
            first_attention: None,
            firing: BTreeMap::new(),
        }
    }

    /// Looks at the next row; the rules that fire. None fires before the first step.
    pub fn push(&mut self, row: &MetricsRow) -> Vec<Alarm> {
        let drift = self.attention_drift(row);
        if row.step == 0 {
            return Vec::new();
        }
        self.remember(row);
        let told = [
            (RULES[0], self.tool_abandonment()),
            (RULES[1], self.call_loops()),
            (RULES[2], self.entropy_collapse()),
            (RULES[3], self.flat_groups(row)),
            (RULES[4], drift),
            (RULES[5], self.format_hacking()),
        ];
        let mut fired = Vec::new();
        for (rule, told) in told {
            let Some((level, text)) = told else { continue };
            let firing = self.firing.entry(rule).or_default();
            if level >= 1.0 && !*firing && !self.config.off.iter().any(|off| off == rule) {
                fired.push(Alarm { step: row.step, rule: rule.to_owned(), text });
            }
            *firing = level >= if *firing { CLEAR } else { 1.0 };
        }
        fired
    }

    fn remember(&mut self, row: &MetricsRow) {
        let c = &self.config;
        let windows =
            [c.tool_abandonment.window, c.call_loops.window, c.entropy_collapse.window, c.format_hacking.window];
        let most = windows.into_iter().max().unwrap_or(1);
        for name in WATCHED {
            let Some(value) = row.metrics.get(name).filter(|value| value.is_finite()) else { continue };
            let tail = self.tail.entry(name).or_default();
            tail.push_back(*value);
            if tail.len() > most {
                tail.pop_front();
            }
        }
    }

    /// The mean of the last `window` values of a metric; `None` of fewer.
    fn recent(&self, name: &str, window: usize) -> Option<f64> {
        self.before(name, window, 0)
    }

    /// The same, `skip` values earlier.
    fn before(&self, name: &str, window: usize, skip: usize) -> Option<f64> {
        let tail = self.tail.get(name)?;
        let end = tail.len().checked_sub(skip)?;
        let start = end.checked_sub(window)?;
        Some(tail.range(start..end).sum::<f64>() / window as f64)
    }

    fn tool_abandonment(&mut self) -> Option<(f64, String)> {
        let ToolAbandonment { fraction, least, window } = self.config.tool_abandonment;
        let rate = self.recent("tool_rate", window)?;
        self.highest_tool_rate = self.highest_tool_rate.max(rate);
        if self.highest_tool_rate < least {
            return None;
        }
        let text =
            format!("tool_rate {rate:.3} is below {fraction} of its highest mean, {:.3}", self.highest_tool_rate);
        Some((over(fraction * self.highest_tool_rate, rate), text))
    }

    fn call_loops(&self) -> Option<(f64, String)> {
        let CallLoops { share, window } = self.config.call_loops;
        let found = ["repeated_calls", "end/turn_limit"].map(|name| Some((self.recent(name, window)?, name)));
        let (value, name) = found.into_iter().flatten().max_by(|a, b| a.0.total_cmp(&b.0))?;
        Some((value / share, format!("{name} {value:.3} has reached {share}")))
    }

    fn entropy_collapse(&mut self) -> Option<(f64, String)> {
        let EntropyCollapse { floor, fraction, window } = self.config.entropy_collapse;
        let entropy = self.recent("update/entropy", window)?;
        let first = *self.first_entropy.get_or_insert(entropy);
        let least = floor.max(fraction * first);
        Some((over(least, entropy), format!("update/entropy {entropy:.4} is below {least:.4}; it began at {first:.4}")))
    }

    fn flat_groups(&mut self, row: &MetricsRow) -> Option<(f64, String)> {
        let FlatGroups { share, steps } = self.config.flat_groups;
        let flat = *row.metrics.get("flat_groups").filter(|value| value.is_finite())?;
        self.flat_steps = if flat >= share { self.flat_steps + 1 } else { 0 };
        let count = self.flat_steps;
        Some((count as f64 / steps as f64, format!("flat_groups has been at least {share} for {count} steps")))
    }

    fn attention_drift(&mut self, row: &MetricsRow) -> Option<(f64, String)> {
        let share = *row.metrics.get("eval/attention/images").filter(|value| value.is_finite())?;
        let (fraction, first) = (self.config.attention_drift.fraction, *self.first_attention.get_or_insert(share));
        let text = format!("eval/attention/images {share:.3} is below {fraction} of what it began with, {first:.3}");
        // At the first value itself nothing has drifted, whatever the fraction.
        Some((if share < first { over(fraction * first, share) } else { 0.0 }, text))
    }

    fn format_hacking(&self) -> Option<(f64, String)> {
        let FormatHacking { rise, gain, window } = self.config.format_hacking;
        let half = window / 2;
        let change = |name: &str| Some(self.recent(name, half)? - self.before(name, half, half)?);
        let (format, accuracy) = (change("format")?, change("accuracy")?);
        let level = if accuracy <= gain { format / rise } else { 0.0 };
        let steps = 2 * half;
        Some((level, format!("format rose by {format:.3} over {steps} steps while accuracy changed by {accuracy:.3}")))
    }
}

/// How far a value is below a threshold, as a level: 1 at the threshold, and above it below.
fn over(threshold: f64, value: f64) -> f64 {
    if value <= 0.0 { if threshold > 0.0 { f64::INFINITY } else { 0.0 } } else { threshold / value }
}

/// All alarms of a run.
///
/// ```
/// use imagent_analysis::alarms::{AlarmConfig, scan};
/// use imagent_analysis::MetricsRow;
/// let row = |step: usize| MetricsRow {
///     step,
///     metrics: [("tool_rate".to_owned(), if step <= 10 { 0.8 } else { 0.0 })].into(),
///     ..MetricsRow::default()
/// };
/// let told = scan(&AlarmConfig::default(), &(1..=30).map(row).collect::<Vec<_>>());
/// assert_eq!((told.len(), told[0].rule.as_str(), told[0].step), (1, "tool_abandonment", 14));
/// ```
pub fn scan(config: &AlarmConfig, rows: &[MetricsRow]) -> Vec<Alarm> {
    let mut alarms = Alarms::new(config.clone());
    rows.iter().flat_map(|row| alarms.push(row)).collect()
}

/// Writes `alarms.jsonl`, one line an alarm.
///
/// # Errors
/// When the file cannot be written.
pub fn write_alarms(path: &Path, alarms: &[Alarm]) -> Result<(), AnalysisError> {
    let mut content = Vec::new();
    for alarm in alarms {
        serde_json::to_writer(&mut content, alarm).map_err(AnalysisError::json(path))?;
        content.push(b'\n');
    }
    write_atomic(path, &content)
}

/// Reads `alarms.jsonl`; none where there is no such file.
///
/// # Errors
/// Names file and line.
pub fn read_alarms(path: &Path) -> Result<Vec<Alarm>, AnalysisError> {
    if path.exists() { JsonLines::open(path)?.collect() } else { Ok(Vec::new()) }
}
