//! `rehearsal explain`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::exit;
use crate::report::story::StoryOptions;
use crate::report::{explain, folder};

/// Arguments of `rehearsal explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rehearsal explain results/node-loss-during-rollout-42 --at 04:27
  rehearsal explain results/node-loss-during-rollout-42 --pod shop/frontend-59b64c5b-mtrzs")]
#[command(group(clap::ArgGroup::new("what").required(true).args(["at", "pod"])))]
pub struct ExplainArguments {
    /// A results folder
    #[arg(value_name = "RESULTS")]
    results: PathBuf,
    /// What was going on at this time of the run: 04:27, 1:02:03, 267s or 4m27s
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<Duration>,
    /// What became of this pod: [NAMESPACE/]NAME, or the beginning of its name
    #[arg(long, value_name = "POD")]
    pod: Option<String>,
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
    let run = match folder::read(&arguments.results) {
        Ok(run) => run,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(exit::INPUT);
        }
    };
    if let Some(at) = arguments.at {
        if arguments.json {
            println!("{}", explain::at_json(&run, at));
        } else {
            print!("{}", explain::at(&run, at, &StoryOptions::default()));
        }
        return ExitCode::SUCCESS;
    }
    let name = arguments.pod.as_deref().unwrap_or_default();
    let pods = explain::pods_named(&run, name);
    if pods.is_empty() {
        eprintln!("error: no pod of this run is called {name}");
        eprintln!(
            "hint: pods.csv in {} has them all",
            arguments.results.display()
        );
        return ExitCode::from(exit::INPUT);
    }
    for pod in pods {
        if arguments.json {
            println!("{}", explain::pod_json(&run, pod));
        } else {
            print!("{}", explain::pod(&run, pod));
        }
    }
    ExitCode::SUCCESS
}
