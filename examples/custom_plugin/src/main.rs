//! Trains by a config that names plug-ins of this crate: `custom_plugin [CONFIG [KEY=VALUE...]]`.

use std::path::PathBuf;
use std::process::ExitCode;

use imagent::analysis::EvalTable;
use imagent::prelude::*;

// A program has to name the crates whose plug-ins its configs name, or the linker drops their registration.
use custom_plugin as _;

/// Prints a line a step.
struct Lines;

impl Watch for Lines {
    fn evaluated(&mut self, step: usize, table: &EvalTable) {
        println!("after {step} steps: held-out accuracy {:.3}", table.get("accuracy").unwrap_or(&f64::NAN));
    }

    fn step(&mut self, report: &StepReport) {
        let figure = |name: &str| report.metrics.get(name).copied().unwrap_or(f64::NAN);
        let (reward, accuracy, calls) = (figure("reward/mean"), figure("accuracy"), figure("calls"));
        println!("step {}: reward {reward:.3}, accuracy {accuracy:.3}, calls {calls:.2}", report.step + 1);
    }
}

fn run() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "examples/custom_plugin/configs/margin.toml".to_owned());
    let config = Config::read(path.as_ref(), &arguments.collect::<Vec<_>>())?;
    let dir = PathBuf::from("runs").join(&config.name);
    train_config(config, &dir, &mut Lines)?;
    println!("{}", dir.join("report.html").display());
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
