//! `rehearsal check`: one scenario simulated and on real processes, side by side.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;

use super::backend::BackendArguments;
use super::{exit, run};
use crate::check::agree::agree;
use crate::check::run::RunError;
use crate::check::{Finished, On, RunOptions, run_on};
use crate::engine::{Progress, Time};
use crate::record::RunRecord;
use crate::record::agreement::Agreement;
use crate::report;
use crate::scenario::{self, LoadOptions, Scenario};

/// Arguments of `rehearsal check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples (as root, or where user namespaces are allowed):
  rehearsal check scenarios/real-self-healing.yaml
  rehearsal check scenarios/real-self-healing.yaml --runs 5 --json

Real runs take as long as the scenario says. Exit codes: 0 simulation and reality agree, 1 they
differ by more than is tolerated, 2 bad input, 4 the host cannot run it."
)]
pub struct CheckArguments {
    /// A scenario file
    #[arg(required_unless_present = "check_host", value_name = "FILE")]
    file: Option<PathBuf>,
    /// How often it runs on real processes
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    #[command(flatten)]
    backend: BackendArguments,
    /// Overrides the scenario's seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Stop earlier than the scenario says, for example 30s
    #[arg(long, value_name = "TIME", value_parser = run::duration)]
    until: Option<Duration>,
    /// Replaces the scenario's `resources`: files, folders, kustomizations
    #[arg(long, value_name = "PATH", num_args = 1..)]
    resources: Vec<PathBuf>,
    /// The results folder; results/check-SCENARIO-SEED unless given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// One JSON object on stdout, nothing else
    #[arg(long)]
    json: bool,
}

/// Runs both, compares, prints.
pub fn main(arguments: &CheckArguments) -> ExitCode {
    if let Some(code) = arguments.backend.early() {
        return code;
    }
    let options = LoadOptions {
        resources: (!arguments.resources.is_empty()).then(|| arguments.resources.clone()),
        seed: arguments.seed,
        until: arguments.until,
    };
    let files: Vec<PathBuf> = arguments.file.iter().cloned().collect();
    let loaded = match scenario::load(&files, &options) {
        Ok(loaded) => loaded,
        Err(rejected) => {
            eprint!("{}", rejected.render(std::io::stderr().is_terminal()));
            return ExitCode::from(exit::INPUT);
        }
    };
    let [scenario] = &loaded.scenarios[..] else {
        eprintln!(
            "error: {} scenarios: check compares one",
            loaded.scenarios.len()
        );
        return ExitCode::from(exit::INPUT);
    };
    match both(scenario, arguments) {
        Ok(Some(agreement)) => ExitCode::from(tell(&agreement, scenario, arguments)),
        Ok(None) => {
            eprintln!("interrupted: nothing was compared");
            ExitCode::from(exit::FAILED)
        }
        Err(error) => ExitCode::from(run::refuse(scenario, error, &loaded).0),
    }
}

/// The results folder.
fn folder(scenario: &Scenario, arguments: &CheckArguments) -> PathBuf {
    arguments.out.clone().unwrap_or_else(|| {
        PathBuf::from("results").join(format!("check-{}-{}", scenario.name, scenario.seed))
    })
}

/// The simulated run and the real ones; none when it was interrupted.
fn both(scenario: &Scenario, arguments: &CheckArguments) -> Result<Option<Agreement>, RunError> {
    let interrupted = run::interrupt_flag();
    let folder = folder(scenario, arguments);
    let mut stop = |_: Progress, _: Option<Time>| interrupted.load(Ordering::Relaxed);
    let mut options = RunOptions {
        stop: &mut stop,
        arguments: Vec::new(),
    };
    let simulated = run_on(scenario, &mut options, On::Processes, &mut ())?;
    keep(&simulated, &folder.join("sim"));
    let mut real: Vec<RunRecord> = Vec::new();
    for number in 1..=arguments.runs {
        let seconds = scenario.duration.as_secs();
        eprintln!(
            "real run {number} of {}: {seconds}s, after the workloads have come up",
            arguments.runs
        );
        let place = folder.join(format!("real-{number}"));
        let finished =
            (arguments.backend).run_linux(scenario, &mut options, Some(place.clone()))?;
        if finished.record.header.interrupted {
            return Ok(None);
        }
        keep(&finished, &place);
        real.push(finished.record);
    }
    Ok(Some(agree(&simulated.record, &real)))
}

fn keep(finished: &Finished, folder: &Path) {
    match report::folder::write(&finished.record, &finished.journal, folder) {
        Ok(()) => run::draw(&finished.record, folder),
        Err(error) => eprintln!("warning: {} cannot be written: {error}", folder.display()),
    }
}

fn tell(agreement: &Agreement, scenario: &Scenario, arguments: &CheckArguments) -> u8 {
    let folder = folder(scenario, arguments);
    let json = serde_json::to_string_pretty(agreement).unwrap_or_default() + "\n";
    let text = report::agreement::text(agreement);
    let write = || -> std::io::Result<()> {
        std::fs::write(folder.join("agreement.json"), &json)?;
        std::fs::write(folder.join("agreement.txt"), &text)?;
        if let Some(svg) = report::plots::agreement(agreement) {
            std::fs::write(folder.join("agreement.svg"), svg)?;
        }
        Ok(())
    };
    if let Err(error) = write() {
        eprintln!("warning: {} cannot be written: {error}", folder.display());
    }
    let out = if arguments.json { &json } else { &text };
    // A closed pipe (`| head`) is no failure of the comparison.
    let _ = std::io::stdout().lock().write_all(out.as_bytes());
    match agreement.agrees() {
        true => exit::PASSED,
        false => exit::FAILED,
    }
}
