//! Smoothing and thinning of curves.

/// A centred exponential average over about `n / 20` points (none up to 40 points): it does not lag behind.
///
/// `s_i = Σ_j w^|i−j| x_j / Σ_j w^|i−j|`, `w = 1 − 2 / max(2, n / 20)`. Points that are not finite are left out. The last
/// values look back only.
///
/// ```
/// use imagent_analysis::plot::smooth;
/// assert_eq!(smooth(&[(1.0, 3.0), (2.0, f64::NAN), (3.0, 5.0)]), [(1.0, 3.0), (3.0, 5.0)]);
/// ```
pub fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<_> = points.iter().copied().filter(|point| point.0.is_finite() && point.1.is_finite()).collect();
    let weight = 1.0 - 2.0 / (finite.len() as f64 / 20.0).max(2.0);
    let forward = decayed(finite.iter().map(|point| point.1), weight);
    let mut backward = decayed(finite.iter().rev().map(|point| point.1), weight);
    backward.reverse();
    // Each point is in both sums: one is taken out.
    let both = forward.iter().zip(&backward).map(|(f, b)| (f.0 + b.0, f.1 + b.1));
    finite.iter().zip(both).map(|(&(x, y), (sum, norm))| (x, (sum - y) / (norm - 1.0))).collect()
}

/// For each value the sums of `w^age · value` and of `w^age` over it and those before.
fn decayed(values: impl Iterator<Item = f64>, weight: f64) -> Vec<(f64, f64)> {
    let step = |(sum, norm): &mut (f64, f64), value: f64| {
        (*sum, *norm) = (*sum * weight + value, *norm * weight + 1.0);
        Some((*sum, *norm))
    };
    values.scan((0.0, 0.0), step).collect()
}

/// At most about `most` points that keep every peak: of each stretch the least and the greatest.
pub(super) fn thin(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let finite: Vec<_> = points.iter().copied().filter(|point| point.0.is_finite() && point.1.is_finite()).collect();
    if finite.len() <= most {
        return finite;
    }
    let size = finite.len().div_ceil(most / 2);
    let ends = |chunk: &[(f64, f64)]| {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let mut ends: Vec<_> = chunk.iter().min_by(by_value).into_iter().chain(chunk.iter().max_by(by_value)).collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends.into_iter().copied().collect::<Vec<_>>()
    };
    finite.chunks(size).flat_map(ends).collect()
}

/// A stretch of the x axis with the mean of each series in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bucket {
    pub(super) first: f64,
    pub(super) last: f64,
    pub(super) means: Vec<Option<f64>>,
}

impl Bucket {
    pub(super) fn middle(&self) -> f64 {
        (self.first + self.last) / 2.0
    }
}

/// Puts the points of all series into at most `most` buckets of equally many x values.
pub(super) fn buckets(series: &[&[(f64, f64)]], most: usize) -> Vec<Bucket> {
    let finite = |points: &&[(f64, f64)]| -> Vec<(f64, f64)> {
        points.iter().copied().filter(|point| point.0.is_finite() && point.1.is_finite()).collect()
    };
    let series: Vec<Vec<(f64, f64)>> = series.iter().map(finite).collect();
    let mut xs: Vec<f64> = series.iter().flatten().map(|point| point.0).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let bucket = |chunk: &[f64]| {
        let (first, last) = (chunk[0], chunk[chunk.len() - 1]);
        let mean = |points: &Vec<(f64, f64)>| {
            let inside = points.iter().filter(|point| first <= point.0 && point.0 <= last);
            crate::stats::mean(&inside.map(|point| point.1).collect::<Vec<_>>())
        };
        Bucket { first, last, means: series.iter().map(mean).collect() }
    };
    xs.chunks(xs.len().div_ceil(most).max(1)).map(bucket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: usize) -> Vec<(f64, f64)> {
        (0..n).map(|i| (i as f64, 1.0)).collect()
    }

    #[test]
    fn a_constant_stays_constant_and_noise_shrinks() {
        assert!(smooth(&line(500)).iter().all(|point| (point.1 - 1.0).abs() < 1e-12));
        let noisy: Vec<_> = (0..400).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        assert!(smooth(&noisy).iter().all(|point| (point.1 - 0.5).abs() < 0.1));
        let slope: Vec<_> = (0..400).map(|i| (f64::from(i), f64::from(i))).collect();
        assert!((smooth(&slope)[200].1 - 200.0).abs() < 1e-3);
    }

    #[test]
    fn thinning_keeps_peaks() {
        let mut points = line(10_000);
        points[5_003].1 = 9.0;
        let thin = thin(&points, 400);
        assert!(thin.len() <= 400 && thin.contains(&(5_003.0, 9.0)));
        assert!(thin.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    #[test]
    fn buckets_cover_all_series() {
        let (a, b) = (line(100), vec![(50.0, 4.0), (51.0, f64::NAN)]);
        let all = buckets(&[&a, &b], 10);
        assert_eq!(all.len(), 10);
        assert_eq!((all[5].first, all[5].last, all[5].means.clone()), (50.0, 59.0, vec![Some(1.0), Some(4.0)]));
        assert_eq!(all[0].means, [Some(1.0), None]);
        assert!(buckets(&[], 10).is_empty());
    }
}
