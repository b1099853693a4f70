//! Mixtures: several sources as one, each with its share of the positions.

use std::sync::Arc;

use imagent_core::{RgbImage, Sample, SampleError, SampleSource};

use crate::error::DataError;

/// Most positions of a mixture.
const MOST: f64 = 1e8;

/// A source of a mixture.
pub struct Share {
    /// What its samples' ids begin with.
    pub name: String,
    /// The samples.
    pub source: Box<dyn SampleSource>,
    /// Its weight, above 0; only ratios count.
    pub weight: f64,
}

/// Several sources as one.
///
/// A source has its weight's share of the positions, up to rounding, and a mixture is as long as it takes for every sample of every
/// source to occur: sources that are short for their weight are gone through several times, the last time evenly thinned. Sources
/// stand one after the other; a sampler that shuffles positions by seed and epoch mixes them, and nothing else is drawn, so a run
/// is resumed as with one source. The id of a sample is its source's name, `/`, its id there, and from the second time on `~1`,
/// `~2` …, as rollouts are drawn by id.
pub struct Mixture {
    parts: Vec<Share>,
    /// The first position of each part, and the number of all.
    starts: Vec<usize>,
}

impl Mixture {
    /// Mixes sources.
    ///
    /// # Errors
    /// When there is none, one is empty, two have a name, or weights are no numbers above 0 or so uneven that the mixture would
    /// have more than 10⁸ positions.
    pub fn new(parts: Vec<Share>) -> Result<Self, DataError> {
        let wrong = |problem: String| DataError::Config { key: "mix".into(), problem };
        let total: f64 = parts.iter().map(|part| part.weight).sum();
        for (nth, Share { name, source, weight }) in parts.iter().enumerate() {
            if !(weight.is_finite() && *weight > 0.0 && total.is_finite()) {
                return Err(wrong(format!("the weight of {name:?} must be above 0, got {weight}")));
            }
            if source.is_empty() {
                return Err(wrong(format!("{name:?} has no samples")));
            }
            if parts[..nth].iter().any(|other| other.name == *name) {
                return Err(wrong(format!("two of its datasets are called {name:?}, give them names")));
            }
        }
        let needed = |part: &Share| part.source.len() as f64 * total / part.weight;
        let length = parts.iter().map(needed).fold(0.0, f64::max);
        if parts.is_empty() || length > MOST {
            let problem =
                format!("{} datasets with these weights make {length:.0} positions, more than {MOST:.0}", parts.len());
            return Err(wrong(if parts.is_empty() { "there is no dataset".into() } else { problem }));
        }
        let mut starts = vec![0];
        for part in &parts {
            let count = (length * part.weight / total).round() as usize;
            starts.push(starts.last().copied().unwrap_or_default() + count.max(part.source.len()));
        }
        Ok(Self { parts, starts })
    }

    /// The part of a position, the position there, and how often the part was gone through before.
    fn locate(&self, position: usize) -> Option<(&Share, usize, usize)> {
        let part = self.starts.partition_point(|&start| start <= position).checked_sub(1)?;
        let share = self.parts.get(part)?;
        let (local, length) = (position - self.starts[part], share.source.len());
        let count = self.starts[part + 1] - self.starts[part];
        let whole = count - count % length;
        let within = if local < whole { local % length } else { (local - whole) * length / (count - whole) };
        Some((share, within, local / length))
    }
}

impl SampleSource for Mixture {
    fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or_default()
    }

    fn get(&self, position: usize) -> Result<Arc<Sample>, SampleError> {
        let located = self.locate(position);
        let (share, within, times) = located.ok_or_else(|| SampleError(format!("no sample at position {position}")))?;
        let sample = share.source.get(within)?;
        let again = if times == 0 { String::new() } else { format!("~{times}") };
        let id = format!("{}/{}{again}", share.name, sample.id);
        Ok(Arc::new(Sample { id, ..Sample::clone(&sample) }))
    }

    fn prefetch(&self, position: usize) -> Vec<Arc<RgbImage>> {
        self.locate(position).map_or_else(Vec::new, |(share, within, _)| share.source.prefetch(within))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::world::{WorldConfig, WorldSource};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn share(name: &str, samples: usize, weight: f64) -> Share {
        let source = WorldSource::new(WorldConfig::default(), 1, samples).unwrap();
        Share { name: name.into(), source: Box::new(source), weight }
    }

    #[test]
    fn every_sample_occurs_and_shares_are_those_of_the_weights() {
        let mixture = Mixture::new(vec![share("a", 3, 1.0), share("b", 4, 3.0)]).unwrap();
        assert_eq!(mixture.len(), 12);
        let ids: Vec<String> = (0..12).map(|position| mixture.get(position).unwrap().id.clone()).collect();
        assert_eq!(&ids[..4], ["a/world-1-000000", "a/world-1-000001", "a/world-1-000002", "b/world-1-000000"]);
        assert_eq!(&ids[10..], ["b/world-1-000003~1", "b/world-1-000000~2"]);
        assert!(mixture.get(12).is_err());
    }

    #[test]
    fn mixtures_that_are_none() {
        let problem = |parts| Mixture::new(parts).err().unwrap().to_string();
        assert!(problem(vec![]).contains("no dataset"));
        assert!(problem(vec![share("a", 1, 0.0)]).contains("above 0"));
        assert!(problem(vec![share("a", 1, f64::NAN)]).contains("above 0"));
        assert!(problem(vec![share("a", 0, 1.0)]).contains("no samples"));
        assert!(problem(vec![share("a", 1, 1.0), share("a", 1, 1.0)]).contains("called \"a\""));
        assert!(problem(vec![share("a", 1000, 1e-9), share("b", 1, 1.0)]).contains("positions"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

        #[test]
        fn positions_of_a_mixture(sizes in prop::collection::vec((1usize..30, 1u32..20), 1..5)) {
            let parts = sizes.iter().enumerate().map(|(nth, &(n, w))| share(&nth.to_string(), n, f64::from(w))).collect();
            let mixture = Mixture::new(parts).unwrap();
            let mut met: BTreeMap<&str, BTreeMap<usize, usize>> = BTreeMap::new();
            for position in 0..mixture.len() {
                let (share, within, _) = mixture.locate(position).unwrap();
                *met.entry(&share.name).or_default().entry(within).or_default() += 1;
            }
            let total: u32 = sizes.iter().map(|(_, weight)| weight).sum();
            for (&(samples, weight), counts) in sizes.iter().zip(met.values()) {
                prop_assert_eq!(counts.len(), samples);
                let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
                prop_assert!(most - least <= 1);
                let share = counts.values().sum::<usize>() as f64 / mixture.len() as f64;
                let wanted = f64::from(weight) / f64::from(total);
                prop_assert!((share - wanted).abs() * mixture.len() as f64 <= 2.5);
            }
        }
    }
}
