//! `rehearsal report`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{exit, out};
use crate::report::{folder, html};

/// Arguments of `rehearsal report`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rehearsal report results/node-loss-during-rollout-42
  rehearsal report results/node-loss-during-rollout-42 --out /tmp/report.html")]
pub struct ReportArguments {
    /// A results folder
    #[arg(value_name = "RESULTS")]
    results: PathBuf,
    /// The page; RESULTS/report.html unless given, - for stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes the page and prints its name.
pub fn main(arguments: &ReportArguments) -> ExitCode {
    let run = match folder::read(&arguments.results) {
        Ok(run) => run,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(exit::INPUT);
        }
    };
    let path = (arguments.out.clone()).unwrap_or_else(|| arguments.results.join("report.html"));
    let page = html(&run);
    if path.as_os_str() == "-" {
        out::print(&page);
        return ExitCode::SUCCESS;
    }
    if let Err(error) = std::fs::write(&path, page) {
        eprintln!("error: cannot write {}: {error}", path.display());
        return ExitCode::from(exit::HOST);
    }
    out::line(path.display());
    ExitCode::SUCCESS
}
