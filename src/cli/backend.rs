//! `--backend` and what belongs to it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::exit;
use crate::check::run::RunError;
use crate::check::{Finished, RunOptions, run};
use crate::scenario::Scenario;

/// Who runs the containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendName {
    /// Latency models on simulated time
    Sim,
    /// Processes in namespaces and cgroups of this host, in real time
    Linux,
}

/// Arguments that choose and set up the backend.
#[derive(Clone, Debug, Args)]
pub struct BackendArguments {
    /// Who runs the containers
    #[arg(long, value_name = "BACKEND", default_value = "sim")]
    backend: BackendName,
    /// Try what the linux backend needs on this host, and say what works
    #[arg(long)]
    check_host: bool,
    /// linux: what images stand for: PATTERN=host:COMMAND, PATTERN=dir:FOLDER,
    /// PATTERN=oci:PATH[:NAME], PATTERN=docker-archive:FILE[:NAME], or PATTERN=builtin (the default:
    /// a server that does what the AppModel says). Counts before the scenario's `linux.images`
    #[arg(long, value_name = "PATTERN=WHAT")]
    image: Vec<String>,
    /// linux: where images are unpacked, once each; in the user's cache folder unless given
    #[arg(long, value_name = "DIR")]
    image_cache: Option<PathBuf>,
    /// linux: the part of a core that a core of the scenario has; fits the nodes into the host
    /// unless given
    #[arg(long, value_name = "0.001..1", value_parser = scale)]
    cpu_scale: Option<u32>,
    /// linux: let the control plane's clock go up to N times faster through waits in which nothing
    /// real goes on; refused where something always does (Traffic, programs of others)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    speed: u32,
}

fn scale(text: &str) -> Result<u32, String> {
    let part: f64 = text
        .parse()
        .map_err(|_| format!("{text:?} is not a number"))?;
    if !(0.001..=1.0).contains(&part) {
        return Err("must be between 0.001 and 1".to_owned());
    }
    // Thousandths are exact enough, and integers decide.
    Ok((part * 1000.0).round() as u32)
}

#[cfg(target_os = "linux")]
impl BackendArguments {
    /// What is done instead of a run.
    pub fn early(&self) -> Option<ExitCode> {
        self.check_host.then(|| {
            let checked = crate::backend::linux::host::check_host();
            print!("{}", checked.table());
            match checked.usable() {
                true => ExitCode::SUCCESS,
                false => ExitCode::from(exit::HOST),
            }
        })
    }

    /// Runs a scenario. Logs of real containers go into the results folder, if there is one.
    ///
    /// # Errors
    /// As [`crate::check::run_on`].
    pub fn run(
        &self,
        scenario: &Scenario,
        options: &mut RunOptions<'_>,
        folder: Option<PathBuf>,
    ) -> Result<Finished, RunError> {
        match self.backend {
            BackendName::Sim => run(scenario, options),
            BackendName::Linux => self.run_linux(scenario, options, folder),
        }
    }

    /// Runs a scenario on real processes.
    ///
    /// # Errors
    /// As [`crate::check::run_on`].
    pub fn run_linux(
        &self,
        scenario: &Scenario,
        options: &mut RunOptions<'_>,
        folder: Option<PathBuf>,
    ) -> Result<Finished, RunError> {
        use crate::backend::linux::clock::may_run_ahead;
        use crate::backend::linux::plan::images::Images;
        use crate::backend::linux::{Linux, LinuxOptions};
        use crate::check::{On, run_on};
        use crate::scenario::Diagnostic;
        let mut linux = LinuxOptions {
            images: Images::new(self.image_cache.clone()),
            logs: folder.map(|folder| folder.join("logs")),
            cpu_permille: self.cpu_scale,
            speed: self.speed,
            tell: |problem| eprintln!("note: {problem}"),
            ..LinuxOptions::default()
        };
        for rule in &self.image {
            let added = linux.images.add(rule);
            added.map_err(|why| RunError::Expectation(format!("--image: {why}")))?;
        }
        linux
            .images
            .add_all(&scenario.linux)
            .map_err(|(rule, why)| {
                let problem = Diagnostic::error("ImageUnusable", why, rule.span);
                let problem = problem.at(format!("image {:?}", rule.name));
                RunError::Input(Box::new(problem))
            })?;
        if self.speed > 1 {
            let may = may_run_ahead(scenario, &linux.images);
            may.map_err(RunError::Expectation)?;
        }
        let mut linux = Linux::start(scenario, linux).map_err(RunError::Host)?;
        let swept = linux.swept();
        if swept.runs > 0 {
            eprintln!(
                "note: {} dead runs had left {} cgroups; {}",
                swept.runs,
                swept.groups,
                if swept.stuck == 0 {
                    "removed"
                } else {
                    "some could not be removed"
                }
            );
        }
        let mut waiting = super::waiting::Waiting::default();
        run_on(scenario, options, On::Linux(&mut linux), &mut waiting)
    }
}

#[cfg(not(target_os = "linux"))]
impl BackendArguments {
    /// What is done instead of a run.
    pub fn early(&self) -> Option<ExitCode> {
        (self.check_host || self.backend == BackendName::Linux).then(|| {
            eprintln!("error: the linux backend needs Linux");
            eprintln!("hint: --backend sim");
            ExitCode::from(exit::HOST)
        })
    }

    /// Runs a scenario.
    ///
    /// # Errors
    /// As [`crate::check::run_on`].
    pub fn run(
        &self,
        scenario: &Scenario,
        options: &mut RunOptions<'_>,
        _: Option<PathBuf>,
    ) -> Result<Finished, RunError> {
        run(scenario, options)
    }

    /// Runs a scenario on real processes: not on this system.
    ///
    /// # Errors
    /// Always.
    pub fn run_linux(
        &self,
        _: &Scenario,
        _: &mut RunOptions<'_>,
        _: Option<PathBuf>,
    ) -> Result<Finished, RunError> {
        Err(RunError::Host("the linux backend needs Linux".to_owned()))
    }
}
