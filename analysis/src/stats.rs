//! Statistics of evaluations and ablations: means with the intervals that belong to them.
//!
//! Many samples (a held-out set): [`bootstrap`]. Few seeds (3 to 10 runs of an arm): [`t_interval`], as the bootstrap
//! of so few values is too narrow. Two arms on the same samples or seeds: [`paired_bootstrap`], [`paired_t`]. Samples that
//! depend on each other, or means of tasks: [`cluster_bootstrap`].

use imagent_core::seed;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// Resamples of a bootstrap.
const RESAMPLES: usize = 10_000;

/// A mean with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How many values (or pairs) it is of.
    pub n: usize,
}

impl Interval {
    /// Whether the interval leaves out `value`; of a difference and 0: whether the difference is clear of chance.
    pub fn excludes(&self, value: f64) -> bool {
        value < self.low || value > self.high
    }
}

/// The mean, `Σx / n`; `None` of no values.
///
/// ```
/// assert_eq!(imagent_analysis::stats::mean(&[1.0, 2.0, 6.0]), Some(3.0));
/// ```
pub fn mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() { None } else { Some(values.iter().sum::<f64>() / values.len() as f64) }
}

/// The unbiased standard deviation, `√(Σ(x − mean)² / (n − 1))`; `None` of fewer than two values.
///
/// ```
/// assert_eq!(imagent_analysis::stats::std(&[1.0, 3.0]), Some(2f64.sqrt()));
/// ```
pub fn std(values: &[f64]) -> Option<f64> {
    let centre = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    if values.len() < 2 { None } else { Some((squares / (values.len() - 1) as f64).sqrt()) }
}

/// The mean with its 95 % percentile-bootstrap interval: the 2.5 % and 97.5 % quantiles of the means of 10 000
/// resamples with replacement, drawn from `seed`. `None` of no values.
///
/// The values are taken to be independent (one per sample); several rollouts of one sample are to be averaged first.
/// With fewer than about 20 values, and for seeds, use [`t_interval`].
pub fn bootstrap(values: &[f64], seed: u64) -> Option<Interval> {
    let centre = mean(values)?;
    let mut means: Vec<f64> = (0..RESAMPLES as u64).map(|i| resampled_mean(values, seed, i)).collect();
    means.sort_by(f64::total_cmp);
    Some(Interval { mean: centre, low: quantile(&means, 0.025), high: quantile(&means, 0.975), n: values.len() })
}

fn resampled_mean(values: &[f64], seed: u64, resample: u64) -> f64 {
    let mut rng = seed::rng(seed, &[resample]);
    let total: f64 = (0..values.len()).map(|_| values[rng.random_range(0..values.len())]).sum();
    total / values.len() as f64
}

/// Values that go together in a resample: of each figure their sum, and how many there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// A sum for each figure.
    pub sums: Vec<f64>,
    /// How many values each sum is of; at least 1.
    pub count: usize,
}

/// For each figure the mean over strata of the mean over a stratum's values, with its 95 % percentile-bootstrap interval: clusters
/// are drawn with replacement within their stratum, those of one draw for all figures. Strata without clusters are left out.
///
/// One stratum of clusters of one value is [`bootstrap`]; empty where there is no cluster.
pub fn cluster_bootstrap(strata: &[Vec<Cluster>], seed: u64) -> Vec<Interval> {
    let strata: Vec<&[Cluster]> = strata.iter().map(Vec::as_slice).filter(|stratum| !stratum.is_empty()).collect();
    let figures = strata.iter().flat_map(|stratum| stratum.iter()).next().map_or(0, |cluster| cluster.sums.len());
    let n = strata.iter().flat_map(|stratum| stratum.iter()).map(|cluster| cluster.count).sum();
    let centres = mean_of_means(&strata, figures, |stratum, place| &stratum[place]);
    let mut means: Vec<Vec<f64>> = vec![Vec::with_capacity(RESAMPLES); figures];
    for resample in 0..RESAMPLES as u64 {
        let mut rng = seed::rng(seed, &[resample]);
        let drawn = mean_of_means(&strata, figures, |stratum, _| &stratum[rng.random_range(0..stratum.len())]);
        means.iter_mut().zip(drawn).for_each(|(means, mean)| means.push(mean));
    }
    let interval = |(mean, mut means): (f64, Vec<f64>)| {
        means.sort_by(f64::total_cmp);
        Interval { mean, low: quantile(&means, 0.025), high: quantile(&means, 0.975), n }
    };
    centres.into_iter().zip(means).map(interval).collect()
}

/// Of each figure the mean over strata of the mean over their picked clusters' values.
fn mean_of_means<'a>(
    strata: &[&'a [Cluster]],
    figures: usize,
    mut pick: impl FnMut(&'a [Cluster], usize) -> &'a Cluster,
) -> Vec<f64> {
    let mut means = vec![0.0; figures];
    for stratum in strata {
        let (mut sums, mut count) = (vec![0.0; figures], 0);
        for place in 0..stratum.len() {
            let cluster = pick(stratum, place);
            sums.iter_mut().zip(&cluster.sums).for_each(|(sum, more)| *sum += more);
            count += cluster.count;
        }
        means.iter_mut().zip(sums).for_each(|(mean, sum)| *mean += sum / count as f64);
    }
    means.iter_mut().for_each(|mean| *mean /= strata.len() as f64);
    means
}

/// The quantile `q` of sorted values, interpolated linearly; NaN of no values.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * sorted.len().saturating_sub(1) as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    match (sorted.get(below), sorted.get(above)) {
        (Some(low), Some(high)) => low + (high - low) * at.fract(),
        _ => f64::NAN,
    }
}

/// The mean with its 95 % interval by Student's t, `mean ± t₀.₉₇₅(n − 1) · std / √n`; `None` of fewer than two values.
///
/// The values are taken to be independent and roughly normal: what results of seeds are.
///
/// ```
/// let interval = imagent_analysis::stats::t_interval(&[1.0, 2.0, 3.0]).unwrap();
/// assert!((interval.high - (2.0 + 4.302653 / 3f64.sqrt())).abs() < 1e-5);
/// ```
pub fn t_interval(values: &[f64]) -> Option<Interval> {
    let (centre, spread) = (mean(values)?, std(values)?);
    let half = t_quantile(values.len() - 1) * spread / (values.len() as f64).sqrt();
    Some(Interval { mean: centre, low: centre - half, high: centre + half, n: values.len() })
}

/// The mean of `after − before`, pair by pair, with its 95 % bootstrap interval.
///
/// `None` when the two differ in length or are empty. Position `i` of both must be the same sample.
pub fn paired_bootstrap(before: &[f64], after: &[f64], seed: u64) -> Option<Interval> {
    bootstrap(&differences(before, after)?, seed)
}

/// The mean of `after − before`, pair by pair, with its 95 % interval by Student's t.
///
/// `None` when the two differ in length or have fewer than two pairs. Position `i` of both must be the same seed.
pub fn paired_t(before: &[f64], after: &[f64]) -> Option<Interval> {
    t_interval(&differences(before, after)?)
}

fn differences(before: &[f64], after: &[f64]) -> Option<Vec<f64>> {
    (before.len() == after.len()).then(|| before.iter().zip(after).map(|(b, a)| a - b).collect())
}

/// The 97.5 % quantile of Student's t: from a table up to 30 degrees of freedom, beyond by Fisher's expansion around
/// the normal quantile (error below 1e-5 there).
fn t_quantile(degrees: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139, 2.200985,
        2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963, 2.079614, 2.073873,
        2.068658, 2.063899, 2.059539, 2.055529, 2.051831, 2.048407, 2.045230, 2.042272,
    ];
    let table = degrees.checked_sub(1).and_then(|i| TABLE.get(i).copied());
    table.unwrap_or_else(|| {
        let (z, v) = (1.959_963_985, degrees.max(1) as f64);
        let (z3, z5, z7) = (z * z * z, f64::powi(z, 5), f64::powi(z, 7));
        z + (z3 + z) / (4.0 * v)
            + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * v * v)
            + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * v.powi(3))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn empty_and_single_values_have_no_spread() {
        assert_eq!(mean(&[]), None);
        assert_eq!(std(&[1.0]), None);
        assert_eq!(bootstrap(&[], 0), None);
        assert_eq!(t_interval(&[1.0]), None);
        assert_eq!(bootstrap(&[2.0], 0).map(|i| (i.low, i.high)), Some((2.0, 2.0)));
        assert_eq!(paired_bootstrap(&[1.0], &[1.0, 2.0], 0), None);
    }

    #[test]
    fn the_bootstrap_of_a_proportion_agrees_with_the_normal_interval() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 4 == 0)).collect();
        let interval = bootstrap(&values, 7).unwrap();
        let half = 1.96 * (0.25f64 * 0.75 / 400.0).sqrt();
        assert!((interval.low - (0.25 - half)).abs() < 0.006, "{interval:?}");
        assert!((interval.high - (0.25 + half)).abs() < 0.006, "{interval:?}");
        assert_eq!(bootstrap(&values, 7), Some(interval));
        let spread: Vec<f64> = (0..50).map(|i| f64::from(i).sqrt()).collect();
        assert_ne!(bootstrap(&spread, 7), bootstrap(&spread, 8));
    }

    /// Clusters of one figure.
    fn clusters(sums: &[(f64, usize)]) -> Vec<Cluster> {
        sums.iter().map(|&(sum, count)| Cluster { sums: vec![sum], count }).collect()
    }

    #[test]
    fn clusters_of_one_value_are_the_plain_bootstrap() {
        let values: Vec<f64> = (0..40).map(|i| f64::from(i % 3)).collect();
        let single = clusters(&values.iter().map(|&value| (value, 1)).collect::<Vec<_>>());
        assert_eq!(cluster_bootstrap(&[single.clone(), Vec::new()], 7), [bootstrap(&values, 7).unwrap()]);
        assert_eq!(cluster_bootstrap(&[Vec::new()], 7), []);
        let two = single.iter().map(|one| Cluster { sums: vec![one.sums[0], 2.0 * one.sums[0]], count: 1 }).collect();
        let [one, twice] = cluster_bootstrap(&[two], 7)[..] else { panic!("two figures") };
        assert_eq!((2.0 * one.mean, 2.0 * one.low, 2.0 * one.high), (twice.mean, twice.low, twice.high));
    }

    #[test]
    fn strata_weigh_the_same_and_clusters_stay_together() {
        // Eight values of 1 and two of 0: the mean of the two means is 1/2, and nothing in it is left to chance.
        let fixed = cluster_bootstrap(&[clusters(&[(1.0, 1); 8]), clusters(&[(0.0, 1); 2])], 1);
        assert_eq!(fixed, [Interval { mean: 0.5, low: 0.5, high: 0.5, n: 10 }]);
        // The same 80 values, half of them 1: in fours that agree their mean varies four times as much.
        let of =
            |size: usize| -> Vec<(f64, usize)> { (0..80 / size).map(|i| ((size * (i % 2)) as f64, size)).collect() };
        let [alone, fours] = [1, 4].map(|size| cluster_bootstrap(&[clusters(&of(size))], 1)[0]);
        assert_eq!((alone.mean, fours.mean, fours.n), (0.5, 0.5, 80));
        let ratio = (fours.high - fours.low) / (alone.high - alone.low);
        assert!((1.7..2.3).contains(&ratio), "{ratio}");
    }

    #[test]
    fn t_quantiles_go_over_smoothly_from_the_table() {
        // scipy.stats.t.ppf(0.975, [31, 40, 120, 1000])
        let known = [(31, 2.039513), (40, 2.021075), (120, 1.979930), (1000, 1.962339)];
        known.iter().for_each(|&(v, t)| assert!((t_quantile(v) - t).abs() < 1e-5, "{v}"));
    }

    #[test]
    fn pairing_removes_what_the_pairs_share() {
        let before: Vec<f64> = (0..30).map(|i| f64::from(i) * 10.0).collect();
        let after: Vec<f64> = before.iter().map(|b| b + 1.0).collect();
        for interval in [paired_bootstrap(&before, &after, 1).unwrap(), paired_t(&before, &after).unwrap()] {
            assert!((interval.mean - 1.0).abs() < 1e-9 && interval.excludes(0.0), "{interval:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn intervals_hold_the_mean_within_the_range(values in prop::collection::vec(-1e3..1e3f64, 2..40), seed: u64) {
            let interval = bootstrap(&values, seed).unwrap();
            let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(l, m), &v| (l.min(v), m.max(v)));
            prop_assert!(least - 1e-9 <= interval.low && interval.high <= most + 1e-9);
            prop_assert!(interval.low <= interval.high);
            let t = t_interval(&values).unwrap();
            prop_assert!(t.low <= t.mean && t.mean <= t.high);
        }
    }
}
