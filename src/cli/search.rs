//! `rehearsal search`: the run that breaks a check, and the smallest scenario that does.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;

use super::run::{interrupt_flag, refuse};
use super::{exit, out, threads};
use crate::check::search::{Case, Find, Found, SearchOptions, judge, search, text, text::Saved};
use crate::scenario::minimal::{Edit, minimal};
use crate::scenario::{self, LoadOptions, Loaded, Scenario, VARY, Vary, load_bytes};

/// Runs of a search whose scenario does not say.
const BUDGET: u32 = 200;

/// Arguments of `rehearsal search`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rehearsal search scenarios/search.yaml
  rehearsal search scenarios/node-loss-during-rollout.yaml --budget 50 --vary seed,timeline.at

Run 0 is the scenario as written. seed takes the following seeds, timeline.at moves every step to a
time between half of what is written and half the way from there to the end, optional leaves steps
marked `optional: true` out of every other run.
Exit codes: 0 no check failed, 1 a check failed in some run, 2 bad input.")]
pub struct SearchArguments {
    /// A file with a Scenario
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How many runs; `search.budget` of the scenario, or 200, unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    budget: Option<u32>,
    /// What differs between runs; `search.vary` of the scenario, or the seed, unless given
    #[arg(long, value_name = "WORDS", value_delimiter = ',', value_parser = VARY)]
    vary: Vec<String>,
    /// The seed of run 0, instead of the scenario's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many runs each find may cost to be made small
    #[arg(long, value_name = "N", default_value_t = 200)]
    effort: u32,
    /// Replaces the scenario's `resources`: files, folders, kustomizations
    #[arg(long, value_name = "PATH", num_args = 1..)]
    resources: Vec<PathBuf>,
    /// Where the small scenarios are written
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
    /// One JSON object on stdout instead of text
    #[arg(long)]
    json: bool,
    /// Runs at the same time; one for each core unless given. Results do not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
}

/// Searches; 1 when something was found.
pub fn main(arguments: &SearchArguments) -> ExitCode {
    let options = LoadOptions {
        resources: (!arguments.resources.is_empty()).then(|| arguments.resources.clone()),
        seed: arguments.seed,
        until: None,
    };
    let colour = std::io::stderr().is_terminal();
    let loaded = match scenario::load(std::slice::from_ref(&arguments.file), &options) {
        Ok(loaded) => loaded,
        Err(rejected) => {
            eprint!("{}", rejected.render(colour));
            return ExitCode::from(exit::INPUT);
        }
    };
    let [scenario] = loaded.scenarios.as_slice() else {
        let (file, count) = (arguments.file.display(), loaded.scenarios.len());
        eprintln!("error: {file} holds {count} scenarios; a search is about one");
        return ExitCode::from(exit::INPUT);
    };
    if let Some(code) = super::run::flaws(&loaded, colour) {
        return ExitCode::from(code);
    }
    let words: Vec<&str> = arguments.vary.iter().map(String::as_str).collect();
    let varied = match words.as_slice() {
        [] => scenario.search.vary,
        words => scenario::vary(words),
    };
    let budget = arguments.budget.or(scenario.search.budget);
    match run(scenario, arguments, varied, budget.unwrap_or(BUDGET)) {
        Ok(found) => tell(scenario, &loaded, arguments, varied, &found),
        Err(error) => ExitCode::from(refuse(scenario, error, &loaded).0),
    }
}

fn run(
    scenario: &Scenario,
    arguments: &SearchArguments,
    vary: Vary,
    budget: u32,
) -> Result<Found, crate::check::run::RunError> {
    let hidden = indicatif::ProgressDrawTarget::hidden();
    let bar = indicatif::ProgressBar::with_draw_target(Some(u64::from(budget)), hidden);
    let template = "{msg} [{bar:30}] {pos} of {len} runs, {eta} left";
    if let Ok(style) = indicatif::ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("██ "));
    }
    bar.set_message(scenario.name.to_string());
    let interrupted = interrupt_flag();
    let after_run = || {
        if bar.position() < u64::from(budget) {
            bar.inc(1);
        } else {
            bar.set_message(format!("{}: making finds small", scenario.name));
        }
        if bar.elapsed() > Duration::from_secs(1) && bar.is_hidden() {
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr_with_hz(4));
        }
        interrupted.load(Ordering::Relaxed)
    };
    let options = SearchOptions {
        budget,
        vary,
        effort: arguments.effort,
        after_run: &after_run,
    };
    let found = threads::on(arguments.threads, || search(scenario, &options));
    bar.finish_and_clear();
    found
}

fn tell(
    scenario: &Scenario,
    loaded: &Loaded,
    arguments: &SearchArguments,
    varied: Vary,
    found: &Found,
) -> ExitCode {
    let mut saved = Vec::new();
    for (number, find) in found.finds.iter().enumerate() {
        match save(scenario, loaded, arguments, find, number) {
            Ok(file) => saved.push(file),
            Err(error) => {
                eprintln!("error: {error}");
                eprintln!("hint: name another folder with --out");
                return ExitCode::from(exit::INPUT);
            }
        }
    }
    if arguments.json {
        out::line(text::json(scenario, found, varied, &saved));
    } else {
        out::print(&text::head(scenario, found, varied));
        for (find, saved) in found.finds.iter().zip(&saved) {
            out::print(&text::find(scenario, find, saved));
        }
    }
    if found.stopped {
        eprintln!("interrupted: the search ended after {} runs", found.runs);
    }
    ExitCode::from(match found.failed {
        0 => exit::PASSED,
        _ => exit::FAILED,
    })
}

/// Writes the small scenario of a find, and makes sure that it can be read and fails likewise.
fn save(
    scenario: &Scenario,
    loaded: &Loaded,
    arguments: &SearchArguments,
    find: &Find,
    number: usize,
) -> Result<Saved, String> {
    let small = &find.small.case;
    // Fewer nodes may be too few for what the file says by name; then they stay as written.
    let all_nodes = Case {
        nodes: Case::written(scenario).nodes,
        ..small.clone()
    };
    let name = match number {
        0 => format!("{}-min-{}", scenario.name, small.seed),
        more => format!("{}-min-{}-{}", scenario.name, small.seed, more + 1),
    };
    let path = arguments.out.join(format!("{name}.yaml"));
    let unwritable = |error| format!("{} cannot be written: {error}", path.display());
    // Before the file is tried: it names others by their way from this folder.
    std::fs::create_dir_all(&arguments.out).map_err(unwritable)?;
    let mut why = String::new();
    for case in [small, &all_nodes, &find.case] {
        let edit = edit(scenario, arguments, find, case, &name);
        let text = minimal(scenario, &loaded.sources, &arguments.out, &edit);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        match fails(&path, &text, find) {
            Ok(digest) => {
                let said = format!(
                    "# Found by `rehearsal search`: {} fails.\n",
                    find.check.name
                );
                std::fs::write(&path, said + &text).map_err(unwritable)?;
                return Ok(Saved {
                    path: path.display().to_string(),
                    digest,
                });
            }
            Err(error) => why = error,
        }
    }
    Err(format!(
        "the find cannot be written as a scenario that fails like it: {why}"
    ))
}

fn edit(
    scenario: &Scenario,
    arguments: &SearchArguments,
    find: &Find,
    case: &Case,
    name: &str,
) -> Edit {
    let expectation = scenario.expect.iter().find(|e| e.name == find.check.name);
    let steps = case.steps.iter();
    Edit {
        name: name.to_owned(),
        seed: case.seed,
        steps: steps
            .map(|(place, at)| (scenario.timeline[*place].span, *at))
            .collect(),
        nodes: case.nodes.clone(),
        duration: case.duration,
        expectation: expectation.map(|e| e.span),
        resources: (!arguments.resources.is_empty()).then(|| arguments.resources.clone()),
    }
}

/// The digest of the run of a file in which the check of a find fails.
fn fails(path: &Path, text: &str, find: &Find) -> Result<String, String> {
    let loaded = load_bytes(path, text.as_bytes(), &LoadOptions::default());
    let loaded = loaded.map_err(|rejected| rejected.render(false))?;
    let Some(scenario) = loaded.scenarios.first() else {
        return Err("it holds no scenario".to_owned());
    };
    let judged = judge(scenario, &Case::written(scenario));
    let judged = judged.map_err(|error| format!("{error:?}"))?;
    match judged.same(&find.check) {
        Some(_) => Ok(judged.digest),
        None => Err("the check passes".to_owned()),
    }
}
