//! `rehearsal audit`: what bad days would do to manifests that nobody wrote a scenario for.
//!
//! `survey` reads what is there; `plan` sizes a cluster and writes a scenario for every bad day;
//! each is run like any other scenario; `judge` says how every workload fared, and `advice` why,
//! and what to change. The changes are then tried: everything runs again with them.
//!
//! Nothing here simulates: an audit is scenarios that `rehearsal run` would read the same way, and
//! that it leaves behind for that.

mod advice;

mod guards;
mod judge;

mod plan;

mod survey;

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use self::judge::{Belonging, judge, worse};
use self::plan::{Frame, Machines, Run};
use self::survey::Survey;
use super::run::{RunError, RunOptions, run_watched};
use crate::record::audit::{Audit, Fix, Outcome, Subject, Trial};
use crate::scenario::{self, LoadOptions, Loaded, Rejected, Scenario};

pub use self::plan::TRIALS;

/// What the scenarios are called while they stand in memory.
const FILE: &str = "audit.yaml";

/// What to audit, and how.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// Files, folders, kustomizations.
    pub paths: Vec<PathBuf>,
    /// Contents of those that are no files: of `-`, what was read from the standard input.
    pub contents: Vec<(PathBuf, Vec<u8>)>,
    /// How many nodes; as many as are needed when `None`.
    pub nodes: Option<u32>,
    /// `spec.kubernetesVersion`.
    pub version: String,
    /// Seed of every run.
    pub seed: u64,
    /// Names of the trials that are wanted; all when empty.
    pub only: Vec<String>,
    /// Whether the fixes are tried.
    pub fixes: bool,
}

/// Why an audit has no result.
#[derive(Debug)]
pub enum AuditError {
    /// The manifests cannot be read.
    Rejected(Box<Rejected>),
    /// A run cannot begin, with the scenario that it is of.
    Run(Box<(Scenario, RunError, Loaded)>),
    /// There is nothing to judge.
    Empty,
    /// It was stopped.
    Stopped,
}

/// What an audit is told while it goes on.
pub trait Onlooker: Sync {
    /// So many more runs are to be done.
    fn planned(&self, runs: usize);
    /// A run is over; true stops the audit.
    fn after_run(&self) -> bool;
    /// Whether it is to stop.
    fn stopped(&self) -> bool;
}

/// A scenario of the audit as a file.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its name: `node-loss-node-2.yaml`.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// An audit with what it leaves behind.
#[derive(Debug)]
pub struct Audited {
    /// What was found.
    pub audit: Audit,
    /// What the manifests are warned about.
    pub warnings: Loaded,
    /// The runs.
    runs: Vec<Run>,
    survey: Survey,
    machines: Machines,
}

/// Audits manifests.
///
/// # Errors
/// Manifests that cannot be read or hold nothing that runs, an object that the API server refuses.
pub fn audit(options: &AuditOptions, onlooker: &dyn Onlooker) -> Result<Audited, AuditError> {
    let loaded = first_look(options)?;
    let survey = survey::survey(&loaded.scenarios[0]);
    if survey.workloads.is_empty() {
        return Err(AuditError::Empty);
    }
    let machines = Machines::fitting(&survey, options.nodes);
    let (trials, runs) = plan::plan(&survey, &machines, &options.only);
    let not_modelled = loaded.scenarios[0].not_modelled.iter();
    let mut audit = Audit {
        paths: (options.paths.iter())
            .map(|path| path.display().to_string())
            .collect(),
        kubernetes_version: options.version.clone(),
        seed: options.seed,
        cluster: machines.words(),
        load: load_words(&survey),
        not_modelled: not_modelled.map(|(k, n)| (k.clone(), *n as u64)).collect(),
        not_judged: survey.not_judged.clone(),
        subjects: survey.workloads.iter().map(subject).collect(),
        trials: trials.clone(),
        ..Audit::default()
    };
    let days = Days {
        options,
        frame: frame(options, &survey, machines),
        trials: &trials,
        runs: &runs,
        onlooker,
    };
    let outcomes = days.outcomes(&[])?;
    audit.runs = u32::try_from(runs.len()).unwrap_or(u32::MAX);
    for (subject, outcomes) in audit.subjects.iter_mut().zip(outcomes) {
        subject.outcomes = outcomes;
    }
    advice::advise(&mut audit, &survey);
    if options.fixes && !audit.fixes.is_empty() {
        match days.outcomes(&audit.fixes) {
            Ok(again) => {
                audit.runs *= 2;
                for (subject, outcomes) in audit.subjects.iter_mut().zip(again) {
                    subject.fixed = outcomes;
                }
                advice::compare(&mut audit, &survey);
            }
            // What was found stays true.
            Err(AuditError::Rejected(why)) => audit.not_tried = first_line(&why.render(false)),
            Err(AuditError::Run(why)) => audit.not_tried = first_line(&format!("{:?}", why.1)),
            Err(other) => return Err(other),
        }
    }
    Ok(Audited {
        audit,
        warnings: loaded,
        runs,
        survey,
        machines,
    })
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// Reads the manifests, on a cluster of any size: nothing is run.
fn first_look(options: &AuditOptions) -> Result<Loaded, AuditError> {
    let empty = Survey::default();
    let machines = Machines::fitting(&empty, None);
    let name = "survey".into();
    let trial = Trial {
        name,
        ..Trial::default()
    };
    let text = frame(options, &empty, machines).text(&trial, &Run::idle(), &[]);
    load(options, &text)
}

impl Audited {
    /// What was audited, as seen from the folder `from`, where all of it are kustomizations: a
    /// kustomization takes others from elsewhere, and no plain files.
    pub fn bases(&self, options: &AuditOptions, from: &Path) -> Option<Vec<String>> {
        let base = |path: &PathBuf| {
            scenario::kustomization_of(path)?;
            Some(scenario::minimal::relative(path, from))
        };
        options.paths.iter().map(base).collect()
    }

    /// Every run as a scenario file for the folder `to`.
    pub fn scenarios(&self, options: &AuditOptions, to: &Path) -> Vec<Written> {
        let mut frame = frame(options, &self.survey, self.machines);
        frame.resources = (options.paths.iter())
            .map(|path| scenario::minimal::relative(path, to))
            .collect();
        let each = self.runs.iter().map(|run| {
            let trial = &self.audit.trials[run.trial];
            let target = match run.target.as_str() {
                "" => String::new(),
                target => format!("-{}", target.replace(' ', "-")),
            };
            Written {
                file: format!("{}{target}.yaml", trial.name),
                text: frame.text(trial, run, &[]),
            }
        });
        each.collect()
    }
}

fn frame<'a>(options: &'a AuditOptions, survey: &'a Survey, machines: Machines) -> Frame<'a> {
    Frame {
        survey,
        machines,
        version: &options.version,
        seed: options.seed,
        resources: Vec::new(),
    }
}

fn subject(workload: &survey::Workload) -> Subject {
    Subject {
        kind: workload.kind.to_owned(),
        namespace: workload.namespace.to_string(),
        name: workload.name.to_string(),
        replicas: workload.replicas,
        services: workload
            .services
            .iter()
            .map(|(name, _)| name.to_string())
            .collect(),
        ..Subject::default()
    }
}

fn load_words(survey: &Survey) -> String {
    match survey.own_traffic {
        true => "the Traffics among the manifests".to_owned(),
        false => format!(
            "{} requests/s for each pod of every Service, for half of the CPU that it asks for",
            plan::RATE
        ),
    }
}

fn load(options: &AuditOptions, text: &str) -> Result<Loaded, AuditError> {
    let load = LoadOptions {
        resources: Some(options.paths.clone()),
        ..LoadOptions::default()
    };
    scenario::load_beside(&options.contents, Path::new(FILE), text.as_bytes(), &load)
        .map_err(|rejected| AuditError::Rejected(Box::new(rejected)))
}

/// All bad days.
struct Days<'a> {
    options: &'a AuditOptions,
    frame: Frame<'a>,
    trials: &'a [Trial],
    runs: &'a [Run],
    onlooker: &'a dyn Onlooker,
}

impl Days<'_> {
    /// Carries out all runs; returns how each subject fares, by trial.
    fn outcomes(&self, fixes: &[Fix]) -> Result<Vec<Vec<Outcome>>, AuditError> {
        self.onlooker.planned(self.runs.len());
        let (calm, rest) = self
            .runs
            .split_first()
            .expect("there is always the calm day");
        let calm = self.one(calm, fixes, None)?;
        let others: Vec<Vec<Outcome>> = (rest.par_iter())
            .map(|run| self.one(run, fixes, Some(&calm)))
            .collect::<Result<_, AuditError>>()?;
        let mut table = vec![vec![Outcome::default(); self.trials.len()]; calm.len()];
        for (subject, outcome) in calm.into_iter().enumerate() {
            table[subject][0] = outcome;
        }
        for (run, outcomes) in rest.iter().zip(others) {
            for (subject, outcome) in outcomes.into_iter().enumerate() {
                let known = std::mem::take(&mut table[subject][run.trial]);
                table[subject][run.trial] = worse(known, outcome);
            }
        }
        Ok(table)
    }

    fn one(
        &self,
        run: &Run,
        fixes: &[Fix],
        calm: judge::Calm<'_>,
    ) -> Result<Vec<Outcome>, AuditError> {
        let text = self.frame.text(&self.trials[run.trial], run, fixes);
        let mut loaded = load(self.options, &text)?;
        let survey = self.frame.survey;
        let scenario = &mut loaded.scenarios[0];
        if survey.own_traffic && run.double {
            let all = scenario.traffic.iter_mut();
            all.for_each(|traffic| traffic.executor.multiply(2));
        }
        let mut belonging = Belonging::new(survey);
        let mut stop = |_, _| self.onlooker.stopped();
        let mut options = RunOptions {
            stop: &mut stop,
            arguments: Vec::new(),
        };
        let finished = match run_watched(scenario, &mut options, &mut belonging) {
            Ok(finished) => finished,
            Err(error) => {
                let scenario = loaded.scenarios[0].clone();
                return Err(AuditError::Run(Box::new((scenario, error, loaded))));
            }
        };
        if self.onlooker.after_run() || finished.record.header.interrupted {
            return Err(AuditError::Stopped);
        }
        Ok(judge(&finished.record, &belonging, run, calm))
    }
}

#[cfg(test)]
mod tests;
