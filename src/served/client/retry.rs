//! When to ask again: a pause that doubles, shortened by chance so that clients do not come back together, or as long as
//! the server asks for.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

/// The first pause.
const FIRST: Duration = Duration::from_millis(500);
/// Where doubling ends.
const LONGEST: Duration = Duration::from_secs(30);

/// The pause before the attempt after number `attempt`, counted from 1; at least `after`.
pub(super) fn pause(attempt: u32, after: Option<Duration>) -> Duration {
    let whole = FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(LONGEST);
    // Nothing that is computed depends on this chance.
    let chance = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
    let own = whole.mul_f64(0.5 + 0.5 * chance);
    after.map_or(own, |after| after + own.mul_f64(0.1))
}

/// Whether an answer of this status may be another one later.
pub(super) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 409 | 425 | 429) || (500..=599).contains(&status) && status != 501
}

/// The value of `Retry-After`: seconds, or a date.
pub(super) fn after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return (seconds.is_finite() && seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(1e9)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn pauses_double_within_bounds() {
        for attempt in 1..40 {
            let whole = (0.5 * f64::powi(2.0, attempt - 1)).min(30.0);
            let got = pause(attempt as u32, None).as_secs_f64();
            assert!(got >= 0.5 * whole - 1e-9 && got <= whole + 1e-9, "{attempt}: {got} of {whole}");
        }
        let asked = pause(1, Some(Duration::from_secs(7))).as_secs_f64();
        assert!((7.0..7.1).contains(&asked), "{asked}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(after(" 3 ", now), Some(Duration::from_secs(3)));
        assert_eq!(after("0.25", now), Some(Duration::from_millis(250)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:00 GMT", now), Some(Duration::ZERO));
        for wrong in ["", "soon", "-1", "inf", "NaN"] {
            assert_eq!(after(wrong, now), None, "{wrong}");
        }
    }

    #[test]
    fn what_passes() {
        assert!([408, 429, 500, 502, 503, 504].into_iter().all(is_passing));
        assert!(![200, 301, 400, 401, 403, 404, 413, 422, 501].into_iter().any(is_passing));
    }
}
