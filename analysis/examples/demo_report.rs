//! Writes a made-up run and its report, to look at: `cargo run -p imagent-analysis --example demo_report -- DIR`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

#[path = "../tests/common/mod.rs"]
mod common;

fn main() {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "target/demo-run".to_owned());
    common::write_run(folder.as_ref(), 400, 36);
    println!("{}", imagent_analysis::write_report(folder.as_ref()).unwrap().display());
}
