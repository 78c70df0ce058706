//! Arguments, commands, exit codes.
//!
//! Every command reads its arguments, calls the library, and prints: data on stdout, everything else
//! on stderr. Nothing here is worth a unit test.

pub mod audit;

mod backend;

pub mod check;

pub mod calibrate;

pub mod run;

mod waiting;

pub mod validate;

pub mod explain;

pub mod compare;

pub mod plot;
pub mod replay;

pub mod report;

pub mod schema;

pub mod search;

mod threads;

pub mod gallery;

pub mod exit;

pub mod out;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Rehearse a Kubernetes cluster's bad days before they happen.
#[derive(Debug, Parser)]
#[command(name = "rehearsal", version, max_term_width = 100)]
#[command(after_help = "Examples:
  rehearsal run scenarios/node-loss-during-rollout.yaml
  rehearsal audit path/to/manifests
  rehearsal run scenarios/plain-node-loss.yaml --resources path/to/manifests
  rehearsal validate path/to/manifests
  rehearsal explain results/node-loss-during-rollout-42 --at 04:27
  kubectl get nodes,pods -A -o yaml | rehearsal explain --pod web-1 -
  rehearsal gallery G03

Exit codes: 0 all checks pass, 1 a check failed, 2 bad input, 3 internal error,
4 the host cannot do what was asked.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bad days for plain manifests: drain, rollout, lost nodes and zones, … and what would help
    Audit(audit::AuditArguments),
    /// Run scenarios: prints the story, the checks, and the line that replays it
    Run(run::RunArguments),
    /// Judge manifests and scenarios as the API server would, with file, line and column
    Validate(validate::ValidateArgs),
    /// What was going on at a moment of a run, or what became of a pod, and what led to it
    Explain(explain::ExplainArguments),
    /// Compare variants of a cluster or a scheduler over seeds, with intervals and p-values
    Compare(compare::CompareArguments),
    /// Compare the values of one field over seeds
    Sweep(compare::SweepArguments),
    /// Look for the run that breaks a check, and make it small
    Search(search::SearchArguments),
    /// Put the shares of a comparison or sweep together
    Merge(compare::MergeArguments),
    /// Draw a run's pictures (SVG) from its results folder
    Plot(plot::PlotArguments),
    /// Write a run as one self-contained HTML page
    Report(report::ReportArguments),
    /// Real incidents: the failing run and the fixed one side by side
    Gallery(gallery::GalleryArguments),
    /// Run a recorded run again and prove that it is the same, event by event
    Replay(replay::ReplayArguments),
    /// Run a scenario simulated and on real processes of this host, and compare the two
    Check(check::CheckArguments),
    /// Measure what this host takes, as the section of a scenario that lets simulations take it too
    Calibrate(calibrate::CalibrateArguments),
    /// Print JSON Schemas of this program's own kinds, for editors
    Schema(schema::SchemaArguments),
    /// Print a completion script for a shell
    #[command(after_help = "Example:
  rehearsal completions bash > /etc/bash_completion.d/rehearsal
  rehearsal completions zsh > ~/.zfunc/_rehearsal")]
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Audit(arguments) => audit::main(&arguments),
        Command::Run(arguments) => run::main(&arguments),
        Command::Validate(arguments) => validate::main(&arguments),
        Command::Explain(arguments) => explain::main(&arguments),
        Command::Compare(arguments) => compare::compare(&arguments),
        Command::Sweep(arguments) => compare::sweep(&arguments),
        Command::Search(arguments) => search::main(&arguments),
        Command::Merge(arguments) => compare::merge(&arguments),
        Command::Plot(arguments) => plot::main(&arguments),
        Command::Report(arguments) => report::main(&arguments),
        Command::Gallery(arguments) => gallery::main(&arguments),
        Command::Replay(arguments) => replay::main(&arguments),
        Command::Check(arguments) => check::main(&arguments),
        Command::Calibrate(arguments) => calibrate::main(&arguments),
        Command::Schema(arguments) => schema::main(&arguments),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "rehearsal", &mut script);
            out::print(&String::from_utf8_lossy(&script));
            ExitCode::SUCCESS
        }
    }
}
