//! `rehearsal run`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;

use super::backend::BackendArguments;
use super::{exit, out};
use crate::check::run::RunError;
use crate::check::{self, Finished, RunOptions};
use crate::engine::{Progress, Time};
use crate::record::{RunRecord, Warning};
use crate::report::{self, story::StoryOptions};
use crate::scenario::{self, Diagnostic, LoadOptions, Scenario};

/// Arguments of `rehearsal run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rehearsal run scenarios/node-loss-during-rollout.yaml
  rehearsal run scenarios/node-loss-during-rollout.yaml --seed 7 --json
  rehearsal run scenarios/plain-node-loss.yaml --resources path/to/manifests --until 10m
  rehearsal run scenarios/ --quiet --junit results.xml --markdown summary.md")]
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
    /// The results folder; results/SCENARIO-SEED unless given. Of several scenarios, the folder
    /// in which each gets one
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
    /// JUnit XML for CI, a suite for each scenario
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Markdown for pull requests and job summaries
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
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
    if let Some(code) = remarks(&loaded, arguments, colour) {
        return ExitCode::from(code);
    }
    let interrupted = interrupt_flag();
    let mut told = Told::default();
    for each in &loaded.scenarios {
        let code = one(each, arguments, &loaded, &interrupted, &mut told);
        told.codes.push((code, each.name.to_string()));
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
    }
    told.close(arguments, loaded.scenarios.len())
}

/// What several scenarios come to.
#[derive(Debug, Default)]
struct Told {
    codes: Vec<(u8, String)>,
    junit: Vec<String>,
    markdown: Vec<String>,
}

impl Told {
    /// Writes the files that were asked for, and the last line of several scenarios.
    fn close(self, arguments: &RunArguments, all: usize) -> ExitCode {
        let bad: Vec<&str> = (self.codes.iter())
            .filter(|(code, _)| *code != exit::PASSED)
            .map(|(_, name)| name.as_str())
            .collect();
        if all > 1 && !arguments.json {
            let text = match bad.as_slice() {
                [] => format!("{all} scenarios passed."),
                bad => format!(
                    "{} of {all} scenarios failed: {}",
                    bad.len(),
                    bad.join(", ")
                ),
            };
            out::line(format!("\n{text}"));
        }
        let mut codes: Vec<u8> = self.codes.iter().map(|(code, _)| *code).collect();
        let files = [
            (&arguments.junit, report::junit::document(&self.junit)),
            (&arguments.markdown, self.markdown.join("\n")),
        ];
        codes.extend(out::files(files));
        exit::worst(codes)
    }
}

/// So many warnings about the input are shown before a run.
const WARNINGS_MAX: usize = 5;

/// Says which expectations cannot be judged; returns an exit code when there are any.
pub(super) fn flaws(loaded: &scenario::Loaded, colour: bool) -> Option<u8> {
    let mut flaws = Vec::new();
    for each in &loaded.scenarios {
        for (span, message) in check::expect::flaws(each) {
            flaws.push(Diagnostic::error("FieldValueInvalid", message, span));
        }
    }
    if !flaws.is_empty() {
        eprint!("{}", scenario::render(&flaws, &loaded.sources, colour));
        return Some(exit::INPUT);
    }
    None
}

/// Says what is odd about the input; returns an exit code when it cannot run.
fn remarks(loaded: &scenario::Loaded, arguments: &RunArguments, colour: bool) -> Option<u8> {
    if let Some(code) = flaws(loaded, colour) {
        return Some(code);
    }
    if !(arguments.quiet || arguments.json) {
        first_warnings(&loaded.warnings, &loaded.sources, colour);
    }
    None
}

/// Prints the first warnings about the input, and how many more there are.
pub(super) fn first_warnings(
    warnings: &[Diagnostic],
    sources: &crate::api::yaml::Sources,
    colour: bool,
) {
    let (shown, rest) = warnings.split_at(warnings.len().min(WARNINGS_MAX));
    if !shown.is_empty() {
        eprintln!("{}", scenario::render(shown, sources, colour));
    }
    if !rest.is_empty() {
        let more = rest.len();
        eprintln!("… and {more} more warnings; rehearsal validate shows them all\n");
    }
}

/// Set by the first Ctrl-C or SIGTERM; the second one ends the process at once.
pub(super) fn interrupt_flag() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let register = || -> std::io::Result<()> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        for signal in [SIGINT, SIGTERM] {
            let code = 128 + signal;
            signal_hook::flag::register_conditional_shutdown(signal, code, flag.clone())?;
            signal_hook::flag::register(signal, flag.clone())?;
        }
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
    told: &mut Told,
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
    let several = loaded.scenarios.len() > 1;
    let folder = (!arguments.no_out).then(|| folder(scenario, arguments, several));
    let finished = arguments.backend.run(scenario, &mut options, folder);
    bar.finish();
    match finished {
        Ok(finished) => tell(scenario, finished, arguments, loaded, told),
        Err(error) => {
            let (code, why) = refuse(scenario, error, loaded);
            let junit = report::junit::refused(&scenario.name, &why);
            told.junit.push(junit);
            let name = &scenario.name;
            let markdown = format!("### ❌ {name}: cannot run\n\n```text\n{why}\n```\n");
            told.markdown.push(markdown);
            code
        }
    }
}

/// Says why a scenario cannot run: the exit code, and what was said.
pub(super) fn refuse(
    scenario: &Scenario,
    error: RunError,
    loaded: &scenario::Loaded,
) -> (u8, String) {
    let (code, why) = match error {
        RunError::Host(message) => (exit::HOST, format!("{}: {message}", scenario.file)),
        RunError::Expectation(message) => (exit::INPUT, format!("{}: {message}", scenario.file)),
        RunError::Input(problem) => {
            let why = scenario::render(&[*problem], &loaded.sources, false);
            eprint!("{why}");
            return (exit::INPUT, why);
        }
        RunError::Refused(refused) => {
            let at = loaded.sources.locate(refused.object.span);
            let name = refused.object.row.meta().full_name();
            let kind = refused.object.row.kind().name();
            let why = format!("{at}: {kind} {name} is refused: {}", refused.error);
            (exit::INPUT, why)
        }
    };
    eprintln!("error: {why}");
    if code == exit::HOST {
        eprintln!("hint: rehearsal run --backend linux --check-host tells what works here");
    }
    (code, why)
}

/// The results folder of a run, of several below `--out`.
fn folder(scenario: &Scenario, arguments: &RunArguments, several: bool) -> PathBuf {
    let name = format!("{}-{}", scenario.name, scenario.seed);
    match &arguments.out {
        Some(dir) if several => dir.join(name),
        Some(dir) => dir.clone(),
        None => PathBuf::from("results").join(name),
    }
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
    told: &mut Told,
) -> u8 {
    let Finished {
        mut record,
        journal,
    } = finished;
    let several = loaded.scenarios.len() > 1;
    // What is said of another scenario's own file is not about this run.
    let own = |w: &&Diagnostic| {
        let file = loaded.sources.name(w.span.file);
        file == scenario.file || loaded.scenarios.iter().all(|other| other.file != file)
    };
    let warnings = loaded.warnings.iter().filter(own);
    record.header.warnings = warnings.map(|w| warning(w, loaded)).collect();
    let dir = folder(scenario, arguments, several);
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
    print(&record, results, arguments, told);
    if record.header.interrupted {
        let kept = if arguments.no_out {
            "was told"
        } else {
            "was kept"
        };
        eprintln!("interrupted: what happened until then {kept}");
    }
    match record.checks.iter().all(|c| c.passed) && !record.header.interrupted {
        true => exit::PASSED,
        false => exit::FAILED,
    }
}

/// Prints one run in the form that was asked for.
fn print(record: &RunRecord, results: Option<String>, arguments: &RunArguments, told: &mut Told) {
    if arguments.junit.is_some() {
        told.junit.push(report::junit::suite(record));
    }
    if arguments.markdown.is_some() {
        told.markdown.push(report::markdown(record));
    }
    if arguments.json {
        let mut json = report::summary_json(record);
        json["results"] = results.into();
        return out::line(json);
    }
    if !told.codes.is_empty() {
        out::line("");
    }
    let options = story_options(results);
    if arguments.quiet {
        out::line(&record.header.scenario);
        return out::print(&report::story::verdict(record, &options));
    }
    out::print(&report::story::story(record, &options));
}

/// Pictures and page of the results folder; a run without them is a run all the same.
pub(super) fn draw(record: &RunRecord, dir: &std::path::Path) {
    let plots = dir.join("plots");
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(&plots)?;
        for (name, svg) in report::plots(record) {
            std::fs::write(plots.join(name), svg)?;
        }
        std::fs::write(dir.join("report.html"), report::html(record))
    };
    if let Err(error) = write() {
        eprintln!("warning: {} cannot be written: {error}", dir.display());
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
