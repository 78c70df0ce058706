//! `rehearsal plot`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{exit, out};
use crate::report::{folder, plots};

/// Arguments of `rehearsal plot`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rehearsal plot results/node-loss-during-rollout-42")]
pub struct PlotArguments {
    /// A results folder
    #[arg(value_name = "RESULTS")]
    results: PathBuf,
    /// Where the pictures go; RESULTS/plots unless given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Draws.
pub fn main(arguments: &PlotArguments) -> ExitCode {
    let run = match folder::read(&arguments.results) {
        Ok(run) => run,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(exit::INPUT);
        }
    };
    let dir = (arguments.out.clone()).unwrap_or_else(|| arguments.results.join("plots"));
    for (name, svg) in plots(&run) {
        let path = dir.join(name);
        let written = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&path, svg));
        if let Err(error) = written {
            eprintln!("error: cannot write {}: {error}", path.display());
            return ExitCode::from(exit::HOST);
        }
        out::line(path.display());
    }
    ExitCode::SUCCESS
}
