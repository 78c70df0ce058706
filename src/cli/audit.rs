//! `rehearsal audit`: bad days for manifests that nobody wrote a scenario for.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use super::{exit, out, run, threads};
use crate::check::audit::{self, AuditError, AuditOptions, Audited, TRIALS};
use crate::record::audit::Audit;
use crate::report;
use crate::report::story::StoryOptions;

/// Arguments of `rehearsal audit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rehearsal audit path/to/manifests
  rehearsal audit path/to/kustomization --out audit
  helm template my-chart | rehearsal audit -
  rehearsal audit deploy/ --only drain,node-loss --nodes 9
  rehearsal audit deploy/ --json --junit audit.xml --markdown audit.md

Every bad day is a scenario: --out writes them, to be changed and run by `rehearsal run`, and
the fixes as a kustomization.

Exit codes: 0 nothing was found that manifests can prevent, 1 something was, 2 bad input.")]
pub struct AuditArguments {
    /// Manifests: files, folders, kustomizations, - for the standard input. AppModels and Traffics
    /// among them are obeyed
    #[arg(required = true, value_name = "DIR")]
    paths: Vec<PathBuf>,
    /// How many nodes, in three zones; as many as are half full with the manifests unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    nodes: Option<u32>,
    /// The Kubernetes version whose defaults count
    #[arg(long, value_name = "VERSION", default_value = "1.36")]
    kubernetes_version: String,
    /// The seed of every run
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// These bad days only, separated by commas
    #[arg(long, value_name = "TRIAL", value_delimiter = ',', value_parser = trial)]
    only: Vec<String>,
    /// Say what would help, and do not try it
    #[arg(long)]
    no_fixes: bool,
    /// How many runs at a time; as many as there are processors unless given
    #[arg(long, value_name = "N")]
    threads: Option<u16>,
    /// Writes the bad days as scenarios, the fixes as a kustomization, and audit.json
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// One JSON object on stdout, nothing else
    #[arg(long)]
    json: bool,
    /// JUnit XML for CI, a suite for each bad day
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Markdown for pull requests and job summaries
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

fn trial(text: &str) -> Result<String, String> {
    let names: Vec<&str> = TRIALS.iter().map(|(name, ..)| *name).collect();
    match names.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("there are: {}", names.join(", "))),
    }
}

/// Audits; says what was found.
pub fn main(arguments: &AuditArguments) -> ExitCode {
    let contents = match standard_input(&arguments.paths) {
        Ok(contents) => contents,
        Err(error) => {
            eprintln!("error: the standard input cannot be read: {error}");
            return ExitCode::from(exit::INPUT);
        }
    };
    let options = AuditOptions {
        paths: arguments.paths.clone(),
        contents,
        nodes: arguments.nodes,
        version: arguments.kubernetes_version.clone(),
        seed: arguments.seed,
        only: arguments.only.clone(),
        fixes: !arguments.no_fixes,
    };
    let progress = Progress::new();
    let audited = threads::on(arguments.threads, || audit::audit(&options, &progress));
    progress.bar.finish_and_clear();
    match audited {
        Ok(audited) => ExitCode::from(tell(&audited, &options, arguments)),
        Err(error) => ExitCode::from(refuse(error, arguments)),
    }
}

/// What `-` stands for; it is read once, and every run has it.
fn standard_input(paths: &[PathBuf]) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut contents = Vec::new();
    if let Some(path) = paths.iter().find(|path| path.as_os_str() == "-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes)?;
        contents.push((path.clone(), bytes));
    }
    Ok(contents)
}

fn refuse(error: AuditError, arguments: &AuditArguments) -> u8 {
    match error {
        AuditError::Rejected(rejected) => {
            eprint!("{}", rejected.render(std::io::stderr().is_terminal()));
            exit::INPUT
        }
        AuditError::Run(refused) => {
            let (scenario, error, loaded) = *refused;
            run::refuse(&scenario, error, &loaded).0
        }
        AuditError::Empty => {
            let paths: Vec<String> = arguments
                .paths
                .iter()
                .map(|p| p.display().to_string())
                .collect();
            eprintln!("error: {}: nothing to audit", paths.join(" "));
            eprintln!(
                "cause: no Deployment, StatefulSet, DaemonSet, ReplicaSet or Pod that runs for good is in it"
            );
            eprintln!("hint: name the folder that holds the workloads, or its kustomization");
            exit::INPUT
        }
        AuditError::Stopped => {
            eprintln!("interrupted: nothing was judged");
            exit::FAILED
        }
    }
}

fn tell(audited: &Audited, options: &AuditOptions, arguments: &AuditArguments) -> u8 {
    let audit = &audited.audit;
    if !arguments.json {
        let loaded = &audited.warnings;
        run::first_warnings(&loaded.warnings, &loaded.sources, false);
    }
    let mut code = match audit.counted() {
        0 => exit::PASSED,
        _ => exit::FAILED,
    };
    let mut results = None;
    if let Some(dir) = &arguments.out {
        match leave(audited, options, dir) {
            Ok(()) => results = Some(dir.display().to_string()),
            Err(error) => {
                eprintln!("error: the folder {} cannot be written", dir.display());
                eprintln!("cause: {error}");
                eprintln!("hint: name another folder with --out");
                code = exit::INPUT;
            }
        }
    }
    let files = [
        (&arguments.junit, report::audit::junit(audit)),
        (&arguments.markdown, report::audit::markdown(audit)),
    ];
    code = out::files(files).unwrap_or(code);
    if arguments.json {
        out::line(json(audit));
        return code;
    }
    let story = StoryOptions {
        width: 120,
        colour: std::io::stdout().is_terminal(),
        results,
    };
    out::print(&report::audit::text(audit, &story));
    code
}

fn json(audit: &Audit) -> serde_json::Value {
    serde_json::to_value(audit).unwrap_or_default()
}

/// Writes what an audit leaves behind.
fn leave(audited: &Audited, options: &AuditOptions, dir: &Path) -> std::io::Result<()> {
    let audit = &audited.audit;
    let scenarios = dir.join("scenarios");
    std::fs::create_dir_all(&scenarios)?;
    let mut kept = options.clone();
    for (path, bytes) in &options.contents {
        let file = dir.join("manifests.yaml");
        std::fs::write(&file, bytes)?;
        let same = kept.paths.iter_mut().filter(|known| *known == path);
        same.for_each(|known| known.clone_from(&file));
    }
    for written in audited.scenarios(&kept, &scenarios) {
        std::fs::write(scenarios.join(written.file), written.text)?;
    }
    let text = serde_json::to_string_pretty(audit).unwrap_or_default();
    std::fs::write(dir.join("audit.json"), text + "\n")?;
    if audit.fixes.is_empty() {
        return Ok(());
    }
    let fixes = dir.join("fixes");
    std::fs::create_dir_all(&fixes)?;
    for fix in &audit.fixes {
        std::fs::write(fixes.join(&fix.file), report::audit::file(fix))?;
    }
    let Some(bases) = audited.bases(options, &fixes) else {
        return Ok(());
    };
    let text = report::audit::kustomization(audit, &bases);
    std::fs::write(fixes.join("kustomization.yaml"), text)
}

/// A bar of the runs, and the wish to stop.
struct Progress {
    bar: indicatif::ProgressBar,
    interrupted: Arc<AtomicBool>,
}

impl Progress {
    fn new() -> Progress {
        let bar = indicatif::ProgressBar::with_draw_target(
            Some(0),
            indicatif::ProgressDrawTarget::stderr_with_hz(4),
        );
        let template = "audit [{bar:30}] {pos} of {len} runs, {elapsed} so far";
        if let Ok(style) = indicatif::ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("██ "));
        }
        Progress {
            bar,
            interrupted: run::interrupt_flag(),
        }
    }
}

impl audit::Onlooker for Progress {
    fn planned(&self, runs: usize) {
        self.bar.inc_length(runs as u64);
    }

    fn after_run(&self) -> bool {
        self.bar.inc(1);
        self.stopped()
    }

    fn stopped(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}
