//! Subcommands, one file each; and what all of them do alike: print, fail, read settings.

mod ablate;
mod annotate;
mod attention;
mod bench;
mod chat_file;
mod data;
mod eval;
mod forward;
mod interrupt;
mod loss;
mod model;
mod pipeline;
mod plugins;
mod progress;
mod report;
mod rollout;
mod serve;
mod served;
mod settings;
mod sft;
mod tensors;
mod train;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use imagent_core::BoxFrame;

/// Train, study and evaluate multi-image vision agents.
#[derive(Parser)]
#[command(name = "imagent", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train by reinforcement learning; evaluate before and after
    Train(train::Args),
    /// Train on conversations, or make a base model from nothing, by supervised fine-tuning
    Sft(sft::Args),
    /// Run the arms of an experiment over seeds and compare them
    Ablate(ablate::Args),
    /// Evaluate a model on held-out samples
    Eval(eval::Args),
    /// Show one episode, turn by turn
    Rollout(rollout::Args),
    /// Serve a model to OpenAI's clients
    Serve(serve::Args),
    /// Make, check, convert and describe datasets
    Data(data::Args),
    /// Measure where the attention of sampled tokens goes
    Attention(attention::Args),
    /// Write report.html of finished runs and ablations
    Report(report::Args),
    /// Make a random checkpoint, tell what a model is and needs, merge an adapter into its model
    Model(model::Args),
    /// List all tools, rewards, masks and optimizers
    Plugins(plugins::Args),
    /// Run one forward pass and write its tensors, for checking by others
    Forward(forward::Args),
    /// Run one optimiser on given numbers, for checking by others
    Loss(loss::Args),
}

/// A panic within the template engine is told as the error that it becomes, and only so.
fn quiet_templates() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !imagent::models::chat_template::renders() {
            tell(panic);
        }
    }));
}

/// The program.
pub(crate) fn main() -> ExitCode {
    quiet_templates();
    let done = interrupt::listen().and_then(|()| run(Cli::parse().command));
    interrupt::wait_if_ending();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has gone away: not our failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell if this fails as well.
            let _ = writeln!(std::io::stderr(), "error: {}", chain(error.as_ref()));
            ExitCode::from(if is_input(&error) { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Train(args) => train::run(args),
        Command::Sft(args) => sft::run(args),
        Command::Ablate(args) => ablate::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Rollout(args) => rollout::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Data(args) => data::run(args),
        Command::Attention(args) => attention::run(args),
        Command::Report(args) => report::run(args),
        Command::Model(args) => model::run(args),
        Command::Plugins(args) => plugins::run(args),
        Command::Forward(args) => forward::run(args),
        Command::Loss(args) => loss::run(args),
    }
}

/// Prints to standard output.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush())?)
}

/// Input that is at fault, where no error of a library says so.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InputError(pub(crate) String);

/// How many of something to take.
fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&count| count > 0).ok_or_else(|| "must be a whole number of at least 1".to_owned())
}

/// The frame that `--frame` names.
fn frame(name: &str) -> Result<BoxFrame, InputError> {
    let known = serde_json::from_value(serde_json::Value::from(name));
    known.map_err(|_| InputError(format!("--frame {name}: known are shown, original, relative1000 and unit")))
}

fn is_input(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<InputError>() || cause.downcast_ref::<imagent::Error>().is_some_and(imagent::Error::is_input)
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}

/// The error and its causes on one line, whatever names it quotes; a cause that is told already is not told again.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let causes = std::iter::successors(Some(error), |error| error.source());
    for cause in causes.map(ToString::to_string) {
        if !text.contains(&cause) {
            let colon = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{colon}{cause}");
        }
    }
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}
