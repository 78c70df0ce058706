//! `rehearsal compare`, `rehearsal sweep` and `rehearsal merge`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;

use super::run::interrupt_flag;
use super::{exit, threads};
use crate::check::compare::{CompareError, CompareOptions, Shard, metrics, run};
use crate::record::trials::Trials;
use crate::report;
use crate::scenario::{Experiment, ExperimentOptions, Plan, load_experiment, render};

/// What an interrupted process exits with.
const INTERRUPTED: u8 = 130;

/// Arguments of `rehearsal compare`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rehearsal compare scenarios/packing.yaml
  rehearsal compare scenarios/packing.yaml --seeds 1..5 --json
  rehearsal compare scenarios/packing.yaml --shard 3/8 --out /shared/packing

A share of the seeds goes to DIR/shard-I-of-N.jsonl; `rehearsal merge DIR` puts shares together.")]
pub struct CompareArguments {
    /// A file with an Experiment
    #[arg(value_name = "FILE", required_unless_present = "list_metrics")]
    file: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
    /// What every metric means
    #[arg(long)]
    list_metrics: bool,
}

/// Arguments of `rehearsal sweep`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rehearsal sweep scenarios/packing.yaml --set trace.scale=0.8..1.2/5
  rehearsal sweep scenarios/node-loss-during-rollout.yaml --seeds 1..20 \\
      --set cluster.flags.kube-controller-manager.node-monitor-grace-period=20s,40s,60s

PATH is a field of the Experiment's `base`, or of the Scenario's `spec`: keys with dots between, items
of lists by their number from 0. Every value is compared with the first one.")]
pub struct SweepArguments {
    /// A file with an Experiment or a Scenario
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// PATH=VALUE,VALUE… or PATH=FROM..TO/STEPS
    #[arg(long, value_name = "PATH=VALUES", value_parser = sweep_values)]
    set: Sweep,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `rehearsal merge`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rehearsal merge /shared/packing 8")]
pub struct MergeArguments {
    /// The folder that all shares were written to
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// How many shares there are; found out from their names unless given
    #[arg(value_name = "N")]
    shares: Option<usize>,
    /// Where the results go; DIR unless given
    #[arg(long, value_name = "OUT")]
    out: Option<PathBuf>,
    /// One JSON object on stdout instead of the table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Common {
    /// Other seeds than the file's: 1..20 or 42,43,44
    #[arg(long, value_name = "SEEDS", value_parser = seeds)]
    seeds: Option<Seeds>,
    /// The results folder; results/EXPERIMENT unless given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write no results folder
    #[arg(long, conflicts_with = "out")]
    no_out: bool,
    /// One JSON object on stdout instead of the table
    #[arg(long)]
    json: bool,
    /// Trials at the same time; one for each core unless given. Results do not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// Only every N-th seed, beginning with number I (from 0); needs --out
    #[arg(long, value_name = "I/N", value_parser = shard, requires = "out")]
    shard: Option<Shard>,
    /// Where traces are looked for, instead of where the file says
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
}

#[derive(Clone, Debug)]
struct Seeds(Vec<u64>);

#[derive(Clone, Debug)]
struct Sweep(String, Vec<String>);

fn seeds(text: &str) -> Result<Seeds, String> {
    let wrong = || "write 1..20 (both ends count) or 42,43,44".to_owned();
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
    let mut seeds = Vec::new();
    for part in text.split(',') {
        match part.split_once("..") {
            Some((from, to)) => {
                let (from, to) = (number(from)?, number(to.trim_start_matches('='))?);
                if to < from || to - from >= 100_000 {
                    return Err(wrong());
                }
                seeds.extend(from..=to);
            }
            None => seeds.push(number(part)?),
        }
    }
    let mut twice = seeds.clone();
    twice.sort_unstable();
    match twice.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("seed {} is there twice", pair[0])),
        None => Ok(Seeds(seeds)),
    }
}

fn shard(text: &str) -> Result<Shard, String> {
    let parts = text.split_once('/');
    let number = |text: &str| text.trim().parse::<usize>().ok();
    match parts.and_then(|(i, n)| Some((number(i)?, number(n)?))) {
        Some((index, of)) if index < of && of <= 100_000 => Ok(Shard { index, of }),
        _ => Err("write I/N with I from 0 to N - 1, such as 0/8".to_owned()),
    }
}

fn sweep_values(text: &str) -> Result<Sweep, String> {
    let wrong = "write PATH=VALUE,VALUE or PATH=FROM..TO/STEPS";
    let (path, values) = text.split_once('=').ok_or(wrong)?;
    if path.is_empty() || values.is_empty() {
        return Err(wrong.to_owned());
    }
    let range = values.split_once("..").and_then(|(from, rest)| {
        let (to, steps) = rest.split_once('/')?;
        let steps = steps
            .parse::<u32>()
            .ok()
            .filter(|n| (2..=1000).contains(n))?;
        Some((from.parse::<f64>().ok()?, to.parse::<f64>().ok()?, steps))
    });
    let values: Vec<String> = match range {
        Some((from, to, steps)) => (0..steps)
            .map(|step| from + (to - from) * f64::from(step) / f64::from(steps - 1))
            // Nine digits, so that 0.1 + 0.2 is written 0.3.
            .map(|value| ((value * 1e9).round() / 1e9).to_string())
            .collect(),
        None => values.split(',').map(|v| v.trim().to_owned()).collect(),
    };
    for (at, value) in values.iter().enumerate() {
        if value.is_empty() || values[..at].contains(value) {
            return Err(format!("the value {value:?} is empty or there twice"));
        }
    }
    Ok(Sweep(path.to_owned(), values))
}

/// Compares the variants of an experiment.
pub fn compare(arguments: &CompareArguments) -> ExitCode {
    if arguments.list_metrics {
        println!("runs over a trace:");
        print!(
            "{}",
            report::compare::explain_metrics(&metrics::of_traces(false))
        );
        println!("runs of a whole cluster:");
        print!(
            "{}",
            report::compare::explain_metrics(&metrics::of_clusters())
        );
        return ExitCode::SUCCESS;
    }
    let Some(file) = &arguments.file else {
        return ExitCode::from(exit::INPUT);
    };
    main(file, &arguments.common, None)
}

/// Compares one field's values.
pub fn sweep(arguments: &SweepArguments) -> ExitCode {
    let Sweep(path, values) = arguments.set.clone();
    main(&arguments.file, &arguments.common, Some((path, values)))
}

fn main(file: &Path, common: &Common, sweep: Option<(String, Vec<String>)>) -> ExitCode {
    let share = common.shard.zip(common.out.as_ref());
    let share = share.map(|(shard, dir)| dir.join(share_name(shard)));
    if share.as_ref().is_some_and(|path| path.exists()) {
        eprintln!("this share is done already");
        return ExitCode::SUCCESS;
    }
    let options = ExperimentOptions {
        traces: common.traces.clone(),
        seeds: common.seeds.as_ref().map(|seeds| seeds.0.clone()),
        sweep,
    };
    let colour = std::io::stderr().is_terminal();
    let experiment = match load_experiment(file, &options) {
        Ok(experiment) => experiment,
        Err(rejected) => {
            eprint!("{}", rejected.render(colour));
            return ExitCode::from(exit::INPUT);
        }
    };
    let trials = match run_all(&experiment, common) {
        Ok(trials) => trials,
        Err(CompareError::Input(wrong)) => {
            eprint!("{}", render(&[*wrong], &experiment.sources, colour));
            return ExitCode::from(exit::INPUT);
        }
        Err(CompareError::Stopped) => {
            eprintln!("interrupted: nothing was kept");
            return ExitCode::from(INTERRUPTED);
        }
    };
    match share {
        Some(path) => write_share(&trials, &path),
        None => {
            let dir = PathBuf::from("results").join(&trials.head.experiment);
            let dir = common.out.clone().unwrap_or(dir);
            finish(&trials, (!common.no_out).then_some(dir), common.json)
        }
    }
}

fn run_all(experiment: &Experiment, common: &Common) -> Result<Trials, CompareError> {
    let seeds = match common.shard {
        Some(shard) => shard.seeds(&experiment.seeds).len(),
        None => experiment.seeds.len(),
    };
    let trials = seeds * experiment.variants.len();
    let bar = bar(experiment, trials as u64);
    let interrupted = interrupt_flag();
    let after_trial = || {
        bar.inc(1);
        if bar.elapsed() > Duration::from_secs(1) && bar.is_hidden() {
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr_with_hz(4));
        }
        interrupted.load(Ordering::Relaxed)
    };
    let options = CompareOptions {
        shard: common.shard,
        after_trial: &after_trial,
    };
    let trials = threads::on(common.threads, || run(experiment, &options));
    let elapsed = bar.elapsed();
    bar.finish_and_clear();
    if trials.is_ok() {
        eprintln!(
            "{seeds} seeds × {} variants in {elapsed:.1?}",
            experiment.variants.len()
        );
    }
    trials
}

/// A bar that estimates from the trials that are over: nothing before the first one is.
fn bar(experiment: &Experiment, trials: u64) -> indicatif::ProgressBar {
    let hidden = indicatif::ProgressDrawTarget::hidden();
    let bar = indicatif::ProgressBar::with_draw_target(Some(trials), hidden);
    let template = "{msg} [{bar:30}] {pos} of {len} trials, {rest} left";
    if let Ok(style) = indicatif::ProgressStyle::with_template(template) {
        let rest = |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            // Trials are alike and come in turn, so the mean of those that are over is fair.
            let (done, all) = (state.pos(), state.len().unwrap_or(0));
            let _ = match done {
                0 => write!(out, "?"),
                done => {
                    let rest = state.elapsed().as_secs_f64() / done as f64;
                    let rest = rest * all.saturating_sub(done) as f64;
                    write!(out, "{rest:.0}s")
                }
            };
        };
        bar.set_style(style.progress_chars("██ ").with_key("rest", rest));
    }
    let kind = match experiment.variants.first().map(|v| &v.plan) {
        Some(Plan::Cluster(_)) => "clusters",
        _ => "schedulers",
    };
    bar.set_message(format!("{} ({kind})", experiment.name));
    bar
}

fn share_name(shard: Shard) -> String {
    format!("shard-{}-of-{}.jsonl", shard.index, shard.of)
}

/// Writes a share: a temporary file, synced, then renamed, so that a killed process leaves nothing
/// that looks like a share.
fn write_share(trials: &Trials, path: &Path) -> ExitCode {
    let beside = path.with_extension(format!("tmp-{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(trials.to_lines().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    match write() {
        Ok(()) => {
            eprintln!("{}", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {} cannot be written", path.display());
            eprintln!("cause: {error}");
            ExitCode::from(exit::HOST)
        }
    }
}

/// Prints and writes the results.
fn finish(trials: &Trials, dir: Option<PathBuf>, as_json: bool) -> ExitCode {
    let mut text = if as_json {
        format!("{}\n", report::compare::summary_json(trials))
    } else {
        report::compare::table(trials)
    };
    if let Some(dir) = dir {
        if let Err(error) = report::compare::write(trials, &dir) {
            eprintln!(
                "error: the results folder {} cannot be written",
                dir.display()
            );
            eprintln!("cause: {error}");
            eprintln!("hint: name another folder with --out, or use --no-out");
            return ExitCode::from(exit::INPUT);
        }
        if !as_json {
            text.push_str(&format!("results: {}\n", dir.display()));
        }
    }
    // A closed pipe (`| head`) is no failure.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Puts shares together.
pub fn merge(arguments: &MergeArguments) -> ExitCode {
    let shares = match read_shares(&arguments.dir, arguments.shares) {
        Ok(shares) => shares,
        Err(wrong) => {
            eprintln!("error: {wrong}");
            return ExitCode::from(exit::INPUT);
        }
    };
    match Trials::merge(shares) {
        Ok(trials) => {
            let dir = arguments
                .out
                .clone()
                .unwrap_or_else(|| arguments.dir.clone());
            finish(&trials, Some(dir), arguments.json)
        }
        Err(wrong) => {
            eprintln!("error: {}: {wrong}", arguments.dir.display());
            ExitCode::from(exit::INPUT)
        }
    }
}

fn read_shares(dir: &Path, wanted: Option<usize>) -> Result<Vec<Trials>, String> {
    let entries = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let names = entries.flatten().map(|entry| entry.file_name());
    let counts = names.filter_map(|name| {
        let name = name
            .to_str()?
            .strip_prefix("shard-")?
            .strip_suffix(".jsonl")?
            .to_owned();
        name.split_once("-of-")?.1.parse::<usize>().ok()
    });
    let counts: std::collections::BTreeSet<usize> = counts.collect();
    let of = match (wanted, counts.iter().collect::<Vec<_>>().as_slice()) {
        (Some(of), _) => of,
        (None, [of]) => **of,
        (None, []) => return Err(format!("{} holds no shares", dir.display())),
        (None, _) => {
            let dir = dir.display();
            return Err(format!("{dir} holds shares of several counts; name one"));
        }
    };
    let mut shares = Vec::new();
    let mut missing = Vec::new();
    for index in 0..of {
        let path = dir.join(share_name(Shard { index, of }));
        let Ok(text) = std::fs::read_to_string(&path) else {
            missing.push(index.to_string());
            continue;
        };
        let read = Trials::from_lines(&text);
        shares.push(read.map_err(|(line, what)| format!("{}:{line}: {what}", path.display()))?);
    }
    match missing.is_empty() {
        true => Ok(shares),
        false => Err(format!(
            "{}: of {of} shares these are missing: {}",
            dir.display(),
            missing.join(", ")
        )),
    }
}
