//! `rehearsal explain`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{exit, out, replay};
use crate::check::placement::{self, Placement, Question};
use crate::record::{PodLife, RunRecord};
use crate::report::story::StoryOptions;
use crate::report::{explain, folder};
use crate::scenario::{load_snapshot, render};
use crate::sched::SchedulerConfig;

/// So many pods of one run are explained at most: a prefix may mean hundreds.
const PODS_MAX: usize = 20;

/// Arguments of `rehearsal explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rehearsal explain results/node-loss-during-rollout-42 --at 04:27
  rehearsal explain results/node-loss-during-rollout-42 --pod shop/frontend-59b64c5b-mtrzs
  kubectl get nodes,pods,pv,pvc,priorityclasses -A -o yaml | rehearsal explain --pod web-1 -
  rehearsal explain --pod shop/web-1 cluster.yaml --scheduler-config scheduler.yaml --json")]
#[command(group(clap::ArgGroup::new("what").required(true).args(["at", "pod"])))]
pub struct ExplainArguments {
    /// A results folder; or, with --pod, the files of a cluster's snapshot (- for stdin)
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// What was going on at this time of the run: 04:27, 1:02:03, 267s or 4m27s
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<Duration>,
    /// Of a run, what became of this pod and why it went where it went: [NAMESPACE/]NAME, or the
    /// beginning of its name. Of a snapshot, one scheduling cycle for it
    #[arg(long, value_name = "POD")]
    pod: Option<String>,
    /// A KubeSchedulerConfiguration (v1) for a snapshot; the default one unless given
    #[arg(long, value_name = "FILE", requires = "pod")]
    scheduler_config: Option<PathBuf>,
    /// JSON on stdout
    #[arg(long)]
    json: bool,
}

/// `mm:ss`, `h:mm:ss`, or a duration.
fn moment(text: &str) -> Result<Duration, String> {
    if !text.contains(':') {
        return crate::api::duration::parse(text).map_err(|error| error.to_string());
    }
    let mut seconds = 0_u64;
    for part in text.split(':') {
        let number: u64 = part
            .parse()
            .map_err(|_| "want mm:ss or h:mm:ss".to_owned())?;
        seconds = seconds.saturating_mul(60).saturating_add(number);
    }
    Ok(Duration::from_secs(seconds))
}

/// Explains.
pub fn main(arguments: &ExplainArguments) -> ExitCode {
    let explained = match arguments.files.as_slice() {
        [folder] if folder.is_dir() && folder::is(folder) => of_run(arguments, folder),
        [folder] if arguments.at.is_some() => of_run(arguments, folder),
        _ if arguments.at.is_some() => Err("--at wants one results folder".to_owned()),
        _ => of_snapshot(arguments),
    };
    match explained {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let message = message.trim_end();
            let word = match message.starts_with("error") {
                true => "",
                false => "error: ",
            };
            eprintln!("{word}{message}");
            ExitCode::from(exit::INPUT)
        }
    }
}

fn of_run(arguments: &ExplainArguments, folder: &Path) -> Result<(), String> {
    let run = folder::read(folder).map_err(|error| error.to_string())?;
    if let Some(at) = arguments.at {
        match arguments.json {
            true => out::line(explain::at_json(&run, at)),
            false => out::print(&explain::at(&run, at, &StoryOptions::default())),
        }
        return Ok(());
    }
    if arguments.scheduler_config.is_some() {
        let hint = "the run's own configuration is in its scenario (spec.cluster.scheduler)";
        return Err(format!("--scheduler-config is for snapshots\nhint: {hint}"));
    }
    let name = arguments.pod.as_deref().unwrap_or_default();
    let mut pods = explain::pods_named(&run, name);
    if pods.is_empty() {
        let table = folder.join("pods.csv");
        let hint = format!("{} has them all", table.display());
        return Err(format!("no pod of this run is called {name}\nhint: {hint}"));
    }
    if pods.len() > PODS_MAX {
        let all = pods.len();
        eprintln!("{all} pods of this run are called {name}…; the first {PODS_MAX} are shown");
        pods.truncate(PODS_MAX);
    }
    let placements = match placements(&run, &pods) {
        Ok(placements) => placements,
        Err(why) => {
            eprintln!("warning: its scheduling cannot be explained, the run cannot be repeated");
            eprintln!("cause: {}", why.trim_end());
            Vec::new()
        }
    };
    for pod in pods {
        let full = format!("{}/{}", pod.namespace, pod.name);
        let placement = placements.iter().find(|p| p.explanation.pod == full);
        if arguments.json {
            let mut object = explain::pod_json(&run, pod);
            object["scheduling"] = placement.map(Placement::to_json).into();
            out::line(object);
        } else {
            out::print(&explain::pod(&run, pod));
            out::print(&placement.map(placement::text).unwrap_or_default());
        }
    }
    Ok(())
}

/// The last scheduling cycles of these pods: the run is executed again.
fn placements(run: &RunRecord, pods: &[&PodLife]) -> Result<Vec<Placement>, String> {
    if run.header.backend == "linux" {
        return Err("it ran on real processes".to_owned());
    }
    let scenario = replay::scenario_of(run)?;
    let questions = placement::of_run(&scenario, run, pods)?;
    questions.into_iter().map(placement::answer).collect()
}

fn of_snapshot(arguments: &ExplainArguments) -> Result<(), String> {
    let colour = std::io::stderr().is_terminal();
    let config = match &arguments.scheduler_config {
        Some(path) => placement::config(path)?,
        None => SchedulerConfig::default(),
    };
    if let [folder] = arguments.files.as_slice()
        && folder.join("summary.json").is_file()
    {
        folder::read(folder).map_err(|error| error.to_string())?;
    }
    let snapshot = load_snapshot(&arguments.files).map_err(|rejected| rejected.render(colour))?;
    let warnings = render(&snapshot.warnings, &snapshot.sources, colour);
    eprint!("{warnings}");
    let name = arguments.pod.as_deref().unwrap_or_default();
    let question: Question = placement::of_files(&snapshot, name, config)?;
    let not_asked = placement::not_asked(&snapshot, name);
    eprint!("{}", render(&not_asked, &snapshot.sources, colour));
    let placement = placement::answer(question)?;
    match arguments.json {
        true => out::line(placement.to_json()),
        false => out::print(&placement::text(&placement)),
    }
    Ok(())
}
