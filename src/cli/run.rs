//! `rehearsal run`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;

use super::backend::BackendArguments;
use super::exit;
use crate::check::run::RunError;
use crate::check::{Finished, RunOptions};
use crate::engine::{Progress, Time};
use crate::record::{RunRecord, Warning};
use crate::report::{self, story::StoryOptions};
use crate::scenario::{self, LoadOptions, Scenario};

/// Arguments of `rehearsal run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rehearsal run scenarios/node-loss-during-rollout.yaml
  rehearsal run scenarios/node-loss-during-rollout.yaml --seed 7 --json
  rehearsal run scenarios/plain-node-loss.yaml --resources path/to/manifests --until 10m")]
pub struct RunArguments {
    /// Scenario files, or folders of them
    #[arg(required_unless_present = "check_host", value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    backend: BackendArguments,
    /// Overrides the scenario's seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Stop earlier than the scenario says, for example 5m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    until: Option<Duration>,
    /// Replaces the scenario's `resources`: files, folders, kustomizations
    #[arg(long, value_name = "PATH", num_args = 1..)]
    resources: Vec<PathBuf>,
    /// The results folder; results/SCENARIO-SEED unless given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write no results folder
    #[arg(long, conflicts_with = "out")]
    no_out: bool,
    /// One JSON object per scenario on stdout, nothing else
    #[arg(long)]
    json: bool,
    /// The checks and the verdict only
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    crate::api::duration::parse(text).map_err(|error| error.to_string())
}

/// Runs the scenarios; the exit code is that of the worst one.
pub fn main(arguments: &RunArguments) -> ExitCode {
    if let Some(code) = arguments.backend.early() {
        return code;
    }
    let options = LoadOptions {
        resources: (!arguments.resources.is_empty()).then(|| arguments.resources.clone()),
        seed: arguments.seed,
        until: arguments.until,
    };
    let colour = std::io::stderr().is_terminal();
    let loaded = match scenario::load(&arguments.files, &options) {
        Ok(loaded) => loaded,
        Err(rejected) => {
            eprint!("{}", rejected.render(colour));
            return ExitCode::from(exit::INPUT);
        }
    };
    let interrupted = interrupt_flag();
    let mut codes = Vec::new();
    for each in &loaded.scenarios {
        codes.push(one(each, arguments, &loaded, &interrupted));
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
    }
    exit::worst(codes)
}

/// Set by the first Ctrl-C; the second one ends the process at once.
pub(super) fn interrupt_flag() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let register = || -> std::io::Result<()> {
        let second = signal_hook::consts::SIGINT;
        signal_hook::flag::register_conditional_shutdown(second, 130, flag.clone())?;
        signal_hook::flag::register(second, flag.clone())?;
        Ok(())
    };
    if let Err(error) = register() {
        eprintln!("warning: Ctrl-C will end the run without results: {error}");
    }
    flag
}

fn one(
    scenario: &Scenario,
    arguments: &RunArguments,
    loaded: &scenario::Loaded,
    interrupted: &AtomicBool,
) -> u8 {
    let bar = Bar::new(scenario);
    let mut stop = |progress: Progress, end: Option<Time>| {
        bar.show(progress, end);
        interrupted.load(Ordering::Relaxed)
    };
    let mut options = RunOptions {
        stop: &mut stop,
        arguments: replay_arguments(arguments),
    };
    let folder = (!arguments.no_out).then(|| folder(scenario, arguments));
    let finished = arguments.backend.run(scenario, &mut options, folder);
    bar.finish();
    match finished {
        Ok(finished) => tell(scenario, finished, arguments, loaded),
        Err(error) => refuse(scenario, error, loaded),
    }
}

/// Says why a scenario cannot run; the exit code.
pub(super) fn refuse(scenario: &Scenario, error: RunError, loaded: &scenario::Loaded) -> u8 {
    match error {
        RunError::Host(message) => {
            eprintln!("error: {}: {message}", scenario.file);
            eprintln!("hint: rehearsal run --backend linux --check-host tells what works here");
            exit::HOST
        }
        RunError::Expectation(message) => {
            eprintln!("error: {}: {message}", scenario.file);
            exit::INPUT
        }
        RunError::Refused(refused) => {
            let at = loaded.sources.locate(refused.object.span);
            let meta = refused.object.row.meta();
            let kind = refused.object.row.kind().name();
            eprintln!(
                "error: {at}: {kind} {} is refused: {}",
                meta.full_name(),
                refused.error
            );
            exit::INPUT
        }
    }
}

/// The results folder of a run.
fn folder(scenario: &Scenario, arguments: &RunArguments) -> PathBuf {
    arguments.out.clone().unwrap_or_else(|| {
        PathBuf::from("results").join(format!("{}-{}", scenario.name, scenario.seed))
    })
}

fn replay_arguments(arguments: &RunArguments) -> Vec<String> {
    let mut words = Vec::new();
    if !arguments.resources.is_empty() {
        words.push("--resources".to_owned());
        words.extend(arguments.resources.iter().map(|p| p.display().to_string()));
    }
    words
}

fn tell(
    scenario: &Scenario,
    finished: Finished,
    arguments: &RunArguments,
    loaded: &scenario::Loaded,
) -> u8 {
    let Finished {
        mut record,
        journal,
    } = finished;
    record.header.warnings = loaded.warnings.iter().map(|w| warning(w, loaded)).collect();
    let dir = folder(scenario, arguments);
    let mut results = None;
    if !arguments.no_out {
        match report::folder::write(&record, &journal, &dir) {
            Ok(()) => {
                draw(&record, &dir);
                results = Some(dir.display().to_string());
            }
            Err(error) => {
                eprintln!(
                    "error: the results folder {} cannot be written",
                    dir.display()
                );
                eprintln!("cause: {error}");
                eprintln!("hint: name another folder with --out, or use --no-out");
                return exit::INPUT;
            }
        }
    }
    let text = if arguments.json {
        let mut json = report::summary_json(&record);
        json["results"] = results.into();
        format!("{json}\n")
    } else {
        let mut text = report::story::story(&record, &story_options(results));
        if arguments.quiet {
            text = quiet(&record, &text);
        }
        text
    };
    // A closed pipe (`| head`) is no failure of the run.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    if record.header.interrupted {
        eprintln!("interrupted: what happened until then was kept");
    }
    if record.checks.iter().all(|c| c.passed) {
        exit::PASSED
    } else {
        exit::FAILED
    }
}

/// Draws the pictures into the results folder; a run without pictures is a run all the same.
pub(super) fn draw(record: &RunRecord, dir: &std::path::Path) {
    let plots = dir.join("plots");
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(&plots)?;
        for (name, svg) in report::plots(record) {
            std::fs::write(plots.join(name), svg)?;
        }
        Ok(())
    };
    if let Err(error) = write() {
        eprintln!("warning: {} cannot be written: {error}", plots.display());
    }
}

fn story_options(results: Option<String>) -> StoryOptions {
    let terminal = std::io::stdout().is_terminal();
    StoryOptions {
        width: 120,
        colour: terminal,
        results,
    }
}

/// The lines about checks, and the verdict.
fn quiet(record: &RunRecord, story: &str) -> String {
    let verdicts = story.lines().filter(|line| {
        let line = line.trim_start();
        line.starts_with("PASS") || line.starts_with("FAIL")
    });
    let failed = record.checks.iter().filter(|c| !c.passed).count();
    let mut text: String = verdicts.map(|line| format!("{line}\n")).collect();
    text.push_str(&format!(
        "{failed} of {} checks failed\n",
        record.checks.len()
    ));
    text
}

fn warning(warning: &scenario::Diagnostic, loaded: &scenario::Loaded) -> Warning {
    Warning {
        file: loaded.sources.name(warning.span.file).to_owned(),
        line: warning.span.line,
        column: warning.span.column,
        message: warning.message.clone(),
    }
}

/// A progress bar on stderr, for runs that take longer than a second.
struct Bar {
    bar: indicatif::ProgressBar,
}

impl Bar {
    fn new(scenario: &Scenario) -> Bar {
        let length = u64::try_from(scenario.duration.as_millis()).unwrap_or(u64::MAX);
        let bar = indicatif::ProgressBar::with_draw_target(
            Some(length),
            indicatif::ProgressDrawTarget::stderr_with_hz(4),
        );
        let template = "{msg} [{bar:30}] {percent}% simulated, {eta} left";
        if let Ok(style) = indicatif::ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("██ "));
        }
        bar.set_message(scenario.name.to_string());
        Bar { bar }
    }

    fn show(&self, progress: Progress, end: Option<Time>) {
        if self.bar.elapsed() < Duration::from_secs(1) {
            return;
        }
        if let Some(end) = end {
            let left = u64::try_from(end.since(progress.now).as_millis()).unwrap_or(0);
            let length = self.bar.length().unwrap_or(0);
            self.bar.set_position(length.saturating_sub(left));
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
