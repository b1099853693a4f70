//! Which rows see which: packed sequences, windows, and branches that share a prefix.

use std::ops::Range;

use thiserror::Error;

/// Some consecutive rows that see each other and, in full, the rows of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The rows of the segment, as queries and as each other's keys.
    pub queries: Range<usize>,
    /// Rows that every query of the segment sees besides; empty for none. They end where
    /// `queries` begin, or before.
    pub prefix: Range<usize>,
    /// Whether a query sees only itself and the rows before it in the segment.
    pub causal: bool,
}

impl Segment {
    /// Rows that see only themselves and earlier ones of the same rows.
    pub fn causal(queries: Range<usize>) -> Self {
        Self { queries, prefix: 0..0, causal: true }
    }

    /// Rows that all see each other: a window, or an image.
    pub fn full(queries: Range<usize>) -> Self {
        Self { queries, prefix: 0..0, causal: false }
    }

    /// A causal continuation of `prefix`, such as one answer to a shared prompt.
    pub fn branch(prefix: Range<usize>, queries: Range<usize>) -> Self {
        Self { queries, prefix, causal: true }
    }

    /// Own keys that queries before row `end` of `queries` see, counted from the segment's start.
    pub(crate) fn own_keys(&self, end: usize) -> usize {
        if self.causal { end } else { self.queries.len() }
    }
}

/// What is wrong with the segments of a plan.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// The segments do not cover the rows one after the other.
    #[error("segment {segment} begins at row {got}, not at row {expected}")]
    NotAPartition {
        /// Index of the segment; the number of segments when rows are left over.
        segment: usize,
        /// The first row that is not covered yet.
        expected: usize,
        /// Where the segment begins; the number of rows when rows are left over.
        got: usize,
    },
    /// A segment has no rows.
    #[error("segment {segment} is empty")]
    Empty {
        /// Index of the segment.
        segment: usize,
    },
    /// A prefix does not end before the rows that see it begin.
    #[error("prefix {prefix:?} of segment {segment} does not end before its rows {queries:?}")]
    Prefix {
        /// Index of the segment.
        segment: usize,
        /// Its prefix.
        prefix: Range<usize>,
        /// Its rows.
        queries: Range<usize>,
    },
}

/// Segments that partition the rows of a batch, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttentionPlan {
    segments: Vec<Segment>,
    rows: usize,
    /// Segments linked by prefixes: ranges of indices into `segments`.
    islands: Vec<Range<usize>>,
}

impl AttentionPlan {
    /// Checks that `segments`, in order, partition `0..rows`.
    ///
    /// # Errors
    /// If they do not, if one is empty, or if a prefix is not wholly before its segment.
    ///
    /// ```
    /// use imagent_models::ops::attention::{AttentionPlan, Segment};
    /// // A prompt of 10 rows and two answers to it, then another sequence.
    /// let plan = AttentionPlan::new(
    ///     vec![
    ///         Segment::causal(0..10),
    ///         Segment::branch(0..10, 10..14),
    ///         Segment::branch(0..10, 14..20),
    ///         Segment::causal(20..25),
    ///     ],
    ///     25,
    /// )?;
    /// assert_eq!(plan.rows(), 25);
    /// # Ok::<(), imagent_models::ops::attention::PlanError>(())
    /// ```
    pub fn new(segments: Vec<Segment>, rows: usize) -> Result<Self, PlanError> {
        let mut expected = 0;
        for (segment, Segment { queries, prefix, .. }) in segments.iter().enumerate() {
            if queries.start != expected {
                return Err(PlanError::NotAPartition { segment, expected, got: queries.start });
            }
            if queries.start >= queries.end {
                return Err(PlanError::Empty { segment });
            }
            if !prefix.is_empty() && prefix.end > queries.start {
                return Err(PlanError::Prefix { segment, prefix: prefix.clone(), queries: queries.clone() });
            }
            expected = queries.end;
        }
        if expected != rows {
            return Err(PlanError::NotAPartition { segment: segments.len(), expected, got: rows });
        }
        let islands = islands(&segments);
        Ok(Self { segments, rows, islands })
    }

    /// The segments, in the order of their rows.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// How many rows the segments cover.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Groups of consecutive segments such that no row sees a row of another group.
    pub(crate) fn islands(&self) -> &[Range<usize>] {
        &self.islands
    }
}

/// Since prefixes point back, a segment opens a new island unless it or a later one looks behind.
fn islands(segments: &[Segment]) -> Vec<Range<usize>> {
    let mut islands = Vec::new();
    let (mut end, mut reach) = (segments.len(), usize::MAX);
    for (i, segment) in segments.iter().enumerate().rev() {
        if !segment.prefix.is_empty() {
            reach = reach.min(segment.prefix.start);
        }
        if reach >= segment.queries.start {
            islands.push(i..end);
            (end, reach) = (i, usize::MAX);
        }
    }
    islands.reverse();
    islands
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn plans_are_checked() {
        assert!(matches!(
            AttentionPlan::new(vec![Segment::causal(1..3)], 3),
            Err(PlanError::NotAPartition { segment: 0, expected: 0, got: 1 })
        ));
        assert!(matches!(
            AttentionPlan::new(vec![Segment::full(0..3)], 5),
            Err(PlanError::NotAPartition { segment: 1, expected: 3, got: 5 })
        ));
        assert!(matches!(
            AttentionPlan::new(vec![Segment::full(0..0), Segment::full(0..5)], 5),
            Err(PlanError::Empty { segment: 0 })
        ));
        assert!(matches!(
            AttentionPlan::new(vec![Segment::causal(0..4), Segment::branch(0..5, 4..8)], 8),
            Err(PlanError::Prefix { segment: 1, .. })
        ));
    }

    #[test]
    fn islands_are_linked_by_prefixes() {
        let plan = AttentionPlan::new(
            vec![
                Segment::full(0..2),
                Segment::causal(2..5),
                Segment::branch(2..5, 5..6),
                Segment::branch(2..4, 6..9),
                Segment::causal(9..10),
                Segment::branch(0..0, 10..12),
            ],
            12,
        );
        assert_eq!(plan.unwrap().islands(), [0..1, 1..4, 4..5, 5..6]);
        let nested = vec![Segment::causal(0..2), Segment::branch(0..2, 2..5), Segment::branch(2..5, 5..6)];
        assert_eq!(AttentionPlan::new(nested, 6).unwrap().islands().len(), 1);
    }
}
