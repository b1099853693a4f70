//! What an ablation leaves besides its runs: tables, figures and the report.

use std::path::Path;

use imagent_analysis::ablation::compare::{Comparison, compare};
use imagent_analysis::ablation::{curves, load};
use imagent_analysis::plot::standalone;
use imagent_analysis::record::write_atomic;
use imagent_analysis::write_ablation_report;

use crate::error::Error;

/// Reads the finished runs in an ablation's folder and writes `table.json`, `table.md`, `table.csv`, `figures/` (a curve a metric,
/// SVG and PNG) and `report.html`.
///
/// # Errors
/// When a run cannot be read or a file cannot be written.
pub fn write_results(dir: &Path) -> Result<Comparison, Error> {
    let ablation = load(dir)?;
    let comparison = compare(&ablation);
    write_atomic(&dir.join("table.json"), &comparison.json())?;
    write_atomic(&dir.join("table.md"), comparison.markdown().as_bytes())?;
    write_atomic(&dir.join("table.csv"), comparison.csv().as_bytes())?;
    for name in curves::names(&ablation) {
        let Some(chart) = curves::curve(&ablation, &name) else { continue };
        let file = |end: &str| dir.join("figures").join(format!("{}.{end}", name.replace('/', "-")));
        write_atomic(&file("svg"), standalone(&chart.svg()).as_bytes())?;
        write_atomic(&file("png"), &chart.png())?;
    }
    write_ablation_report(dir, &ablation, &comparison)?;
    Ok(comparison)
}
