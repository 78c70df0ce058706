//! `rehearsal replay`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{exit, out};
use crate::check::run::RunError;
use crate::check::{self, On, RunOptions};
use crate::cluster::Event;
use crate::engine::Journal;
use crate::record::RunRecord;
use crate::report;
use crate::scenario::{self, LoadOptions, Scenario};

/// Arguments of `rehearsal replay`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rehearsal replay results/node-loss-during-rollout-42")]
pub struct ReplayArguments {
    /// A results folder
    #[arg(value_name = "RESULTS")]
    folder: PathBuf,
}

/// Runs a recorded run again and compares every event and every change by their digest.
pub fn main(arguments: &ReplayArguments) -> ExitCode {
    match replay(arguments) {
        Ok((same, line)) => {
            out::line(line);
            ExitCode::from(if same { exit::PASSED } else { exit::FAILED })
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(exit::INPUT)
        }
    }
}

fn replay(arguments: &ReplayArguments) -> Result<(bool, String), String> {
    let folder = &arguments.folder;
    let record = report::folder::read(folder).map_err(|e| e.to_string())?;
    let path = folder.join("journal.bin");
    let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let journal: Journal<Event> =
        Journal::decode(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    let closing = journal
        .closing()
        .ok_or("the run was not closed: nothing to compare with")?;
    let header = &record.header;
    if header.interrupted {
        return Err("the run was interrupted: its end is not where the scenario's is".into());
    }
    let scenario = &scenario_of(&record)?;
    if scenario.digest != journal.header.scenario {
        let line = format!(
            "{}: the input has changed since this run was recorded",
            header.file
        );
        return Ok((false, line));
    }
    let mut stop = |_, _| false;
    let mut options = RunOptions {
        stop: &mut stop,
        arguments: header.arguments.clone(),
    };
    let on = match header.backend.as_str() {
        "sim" => On::Simulation,
        _ => On::Journal(&journal),
    };
    let finished =
        check::run_on(scenario, &mut options, on, &mut ()).map_err(|error| match error {
            RunError::Host(why) => why,
            _ => "the scenario cannot run".to_owned(),
        })?;
    let (before, now) = (&header.digest, &finished.record.header.digest);
    let same = before == now && format!("{:032x}", closing.digest) == *now;
    let events = finished.record.header.events;
    Ok((
        same,
        match same {
            true => format!(
                "{}: {events} events, digest {now}: identical",
                header.scenario
            ),
            false => format!(
                "{}: digest {before} then, {now} now: different",
                header.scenario
            ),
        },
    ))
}

/// The scenario of a recorded run, read again from its files.
///
/// # Errors
/// When it is not there any more, or is not understood any more.
pub fn scenario_of(record: &RunRecord) -> Result<Scenario, String> {
    let header = &record.header;
    let resources: Vec<PathBuf> = header
        .arguments
        .iter()
        .filter(|a| *a != "--resources")
        .map(PathBuf::from)
        .collect();
    let options = LoadOptions {
        resources: (!resources.is_empty()).then_some(resources),
        seed: Some(header.seed),
        until: Some(header.simulated),
    };
    let loaded = scenario::load(&[PathBuf::from(&header.file)], &options)
        .map_err(|rejected| rejected.render(false))?;
    loaded
        .scenarios
        .into_iter()
        .find(|s| *s.name == *header.scenario)
        .ok_or_else(|| format!("{} has no scenario {}", header.file, header.scenario))
}
