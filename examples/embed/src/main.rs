//! Trains the table and prints what it learns.

use embed::{Table, samples};
use imagent::prelude::*;

fn main() -> Result<(), Error> {
    let settings = TrainSettings {
        steps: 60,
        prompts_per_step: 8,
        group_size: 8,
        seed: 1,
        limits: Limits { max_turns: 3, ..Limits::default() },
        ..TrainSettings::default()
    };
    let mut experiment = Experiment::new(
        Table::default(),
        (ZoomIn::default(), ImAgent::default()),
        (ActionMask::default(), Grpo::default()),
        samples(16),
        settings,
    );
    experiment.held_out = Some(Box::new(samples(64)));
    println!("step  reward  accuracy  tool rate  turns");
    experiment.train(0, &mut |_: &mut Table, report: &StepReport, _: &TrainBatch| {
        if report.step.is_multiple_of(10) || report.step == 59 {
            let [reward, accuracy, tools, turns] =
                ["reward/mean", "accuracy", "tool_rate", "turns"].map(|name| report.metrics[name]);
            println!("{:4}  {reward:6.3}  {accuracy:8.3}  {tools:9.3}  {turns:5.2}", report.step);
        }
        Ok(Flow::Continue)
    })?;
    println!("always the likeliest action: accuracy {:.3}", experiment.evaluate()?.metrics["accuracy"]);
    Ok(())
}
