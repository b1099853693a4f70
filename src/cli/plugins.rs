//! `imagent plugins`: all tools, rewards, masks and optimizers with their fields and defaults.

use std::fmt::Write;

use anyhow::Result;
use imagent::plugins::{Plugin, all};

use super::print;

/// Arguments of `imagent plugins`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    let plugins = all();
    if args.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&plugins)?));
    }
    let mut text = String::new();
    let width = |column: fn(&Plugin) -> &str| plugins.iter().map(|plugin| column(plugin).len()).max().unwrap_or(0);
    let (kinds, tags) = (width(|plugin| plugin.kind), width(|plugin| plugin.tag));
    for Plugin { kind, tag, about, fields } in &plugins {
        let _ = writeln!(text, "{kind:<kinds$}  {tag:<tags$}  {about}");
        for (name, default) in fields {
            let _ = writeln!(text, "{:<kinds$}  {:<tags$}    {name} = {default}", "", "");
        }
    }
    print(&text)
}
