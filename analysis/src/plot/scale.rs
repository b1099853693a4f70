//! Axes: round ticks, and numbers as people write them.

/// A value with about four significant digits: `0.8312`, `12.50`, `3100`, `2.00e-6`.
///
/// ```
/// use imagent_analysis::plot::number;
/// assert_eq!([number(0.0), number(0.83125), number(12.5), number(3100.4)], ["0", "0.8313", "12.50", "3100"]);
/// assert_eq!([number(2e-6), number(4.2e9), number(f64::NAN)], ["2.00e-6", "4.20e9", "NaN"]);
/// ```
pub fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if value == 0.0 => "0".to_owned(),
        _ if !value.is_finite() => value.to_string(),
        _ if !(1e-3..1e7).contains(&size) => format!("{value:.2e}"),
        _ if size >= 1000.0 => format!("{value:.0}"),
        _ if size >= 100.0 => format!("{value:.1}"),
        _ if size >= 10.0 => format!("{value:.2}"),
        _ if size >= 1.0 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

/// A linear scale from data to pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// Maps `low..high` to `from..to`; an empty range is widened.
    pub(super) fn new((low, high): (f64, f64), (from, to): (f64, f64)) -> Self {
        let half = if low.abs() > 0.0 { low.abs() * 0.1 } else { 0.5 };
        let (low, high) = if high > low { (low, high) } else { (low - half, low + half) };
        Self { low, high, from, to }
    }

    pub(super) fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round ticks inside the range, about `count`, with their labels.
    pub(super) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let step = nice_step((self.high - self.low) / count.max(1) as f64);
        let first = (self.low / step - 1e-6).ceil();
        let most = 4 * count;
        let values = (0..most).map(|i| (first + i as f64) * step).take_while(|v| *v <= self.high + step * 1e-6);
        values.map(|value| (value, tick_label(value, step))).collect()
    }
}

/// The least of 1, 2, 5 times a power of ten that is not below `raw`.
fn nice_step(raw: f64) -> f64 {
    let power = 10f64.powf(raw.log10().floor());
    let nice = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= raw * (1.0 - 1e-9));
    nice.filter(|step| step.is_finite() && *step > 0.0).unwrap_or(1.0)
}

fn tick_label(value: f64, step: f64) -> String {
    let value = if value.abs() < step * 1e-6 { 0.0 } else { value };
    let digits = |unit: f64| (-(step / unit).log10() - 1e-9).ceil().clamp(0.0, 6.0) as usize;
    match step {
        _ if value == 0.0 => "0".to_owned(),
        _ if step < 1e-4 || value.abs() >= 1e10 => {
            let text = format!("{value:.1e}");
            text.replace(".0e", "e")
        }
        _ if value.abs() >= 1e6 => format!("{:.*}M", digits(1e6), value / 1e6),
        _ if value.abs() >= 1e4 => format!("{:.*}k", digits(1e3), value / 1e3),
        _ => format!("{value:.*}", digits(1.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64) -> Vec<String> {
        Scale::new((low, high), (0.0, 100.0)).ticks(4).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(0.0, 1.0), ["0", "0.5", "1.0"]);
        assert_eq!(labels(0.0, 4.2), ["0", "2", "4"]);
        assert_eq!(labels(0.0, 0.04), ["0", "0.01", "0.02", "0.03", "0.04"]);
        assert_eq!(labels(0.0, 130.0), ["0", "50", "100"]);
        assert_eq!(labels(-0.031, 0.02), ["-0.02", "0", "0.02"]);
        assert_eq!(labels(0.0, 40_000.0), ["0", "10k", "20k", "30k", "40k"]);
        assert_eq!(labels(0.0, 3.2e-6), ["0", "1e-6", "2e-6", "3e-6"]);
    }

    #[test]
    fn an_empty_or_strange_range_still_has_a_scale() {
        for (low, high) in [(3.0, 3.0), (0.0, 0.0), (-1e300, 1e300), (1e-300, 2e-300)] {
            let scale = Scale::new((low, high), (0.0, 100.0));
            assert!(scale.at(low).is_finite() && scale.ticks(4).len() <= 16, "{low} {high}");
        }
    }
}
