//! Everything that is wrong with a dataset folder, not only the first thing.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::decode::decode;
use super::rows::{Row, Rows};
use crate::error::DataError;

/// What [`check()`] found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Rows, good and bad; blank lines do not count.
    pub rows: usize,
    /// Different image files named by rows that are good as text; each was decoded.
    pub images: usize,
    /// Everything that is wrong, in the order of the lines.
    pub bad: Vec<DataError>,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.bad.is_empty()
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bad.iter().try_for_each(|error| writeln!(f, "{error}"))?;
        write!(f, "{} rows, {} images, {} problems", self.rows, self.images, self.bad.len())
    }
}

/// Reads every row, decodes every image, and compares gold regions with the images' sizes.
pub fn check(path: impl AsRef<Path>) -> CheckReport {
    let mut report = CheckReport::default();
    let mut rows = match Rows::open(path.as_ref()) {
        Ok(rows) => rows,
        Err(error) => {
            report.bad.push(error);
            return report;
        }
    };
    let mut sizes = HashMap::new();
    while let Some(row) = rows.next() {
        report.rows += 1;
        match row {
            Ok(row) => check_images(&rows, &row, &mut sizes, &mut report.bad),
            Err(error) => {
                let unreadable = matches!(error, DataError::Io { .. });
                report.bad.push(error);
                if unreadable {
                    break;
                }
            }
        }
    }
    report.images = sizes.len();
    if report.rows == 0 {
        report.bad.push(DataError::Empty { file: rows.file().into() });
    }
    report
}

type Sizes = HashMap<usize, Result<(u32, u32), String>>;

fn check_images(rows: &Rows, row: &Row, sizes: &mut Sizes, bad: &mut Vec<DataError>) {
    let (file, line) = (rows.file(), rows.line());
    for (nth, number) in row.images.iter().enumerate() {
        let size = sizes.entry(*number).or_insert_with(|| Ok(decode(&rows.images[*number].path)?.dimensions()));
        let (width, height) = match size {
            Ok(size) => *size,
            Err(problem) => {
                let (image, problem) = (row.raw.images[nth].clone(), problem.clone());
                bad.push(DataError::BadImage { file: file.into(), line, image, problem });
                continue;
            }
        };
        for (region, gold) in row.raw.meta.gold.iter().enumerate().filter(|(_, gold)| gold.image == nth + 1) {
            let b = gold.bbox;
            if b.x1 < 0.0 || b.y1 < 0.0 || b.x2 > f64::from(width) || b.y2 > f64::from(height) {
                let problem = format!("{:?} leaves the image of {width}×{height}", b.to_array());
                bad.push(DataError::Gold { file: file.into(), line, number: region + 1, problem });
            }
        }
    }
}
