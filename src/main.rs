//! The command line. Exit codes: 0 done, 1 the run failed, 2 wrong usage, config or input.

// A plug-in that no crate of the program names is not in typetag's registry.
use imagent_algorithms as _;
use imagent_rewards as _;
use imagent_tools as _;

mod cli;

/// Counts what is in use, for `imagent train --profile`.
#[global_allocator]
static ALLOCATOR: imagent_models::memory::Counting = imagent_models::memory::Counting;

fn main() -> std::process::ExitCode {
    imagent_models::memory::keep_freed_blocks();
    cli::main()
}
