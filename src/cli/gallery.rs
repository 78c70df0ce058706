//! `rehearsal gallery`: real incidents in pairs, the failing run and the fixed one beside each other.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{exit, out};
use crate::check::{self, RunOptions};
use crate::record::RunRecord;
use crate::report::story::{StoryOptions, story};
use crate::report::{side_by_side, summary_json};
use crate::scenario::{self, LoadOptions};

/// Arguments of `rehearsal gallery`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rehearsal gallery
  rehearsal gallery G03
  rehearsal gallery G03 --seed 7 --json

Exit codes: 0 the failing run fails and the fixed one passes, 1 otherwise, 2 bad input.")]
pub struct GalleryArguments {
    /// Which story; all of them are listed when it is left out
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// The folder with the stories, ID-name.bad.yaml and ID-name.fixed.yaml
    #[arg(long, value_name = "DIR", default_value = "scenarios/gallery")]
    dir: PathBuf,
    /// Overrides the scenarios' seeds
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// JSON on stdout: an object for each story, or for each run
    #[arg(long)]
    json: bool,
}

/// One story: two scenarios and what is written above the first.
#[derive(Debug)]
struct Story {
    id: String,
    bad: PathBuf,
    fixed: PathBuf,
    title: String,
    /// Source, mechanism, expectation, as written above the failing scenario.
    told: String,
}

/// Lists the stories, or runs one.
pub fn main(arguments: &GalleryArguments) -> ExitCode {
    match gallery(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            let message = message.trim_end();
            let word = if message.starts_with("error") {
                ""
            } else {
                "error: "
            };
            eprintln!("{word}{message}");
            ExitCode::from(exit::INPUT)
        }
    }
}

fn gallery(arguments: &GalleryArguments) -> Result<u8, String> {
    let stories = stories(&arguments.dir)?;
    let Some(id) = &arguments.id else {
        list(&stories, arguments.json);
        return Ok(exit::PASSED);
    };
    let wanted = id.to_uppercase();
    let Some(story) = stories.iter().find(|story| story.id == wanted) else {
        let ids: Vec<&str> = stories.iter().map(|story| story.id.as_str()).collect();
        return Err(format!(
            "no story is called {id}\nhint: there are: {}",
            ids.join(", ")
        ));
    };
    let bad = run(&story.bad, arguments)?;
    let fixed = run(&story.fixed, arguments)?;
    if arguments.json {
        for record in [&bad, &fixed] {
            out::line(summary_json(record));
        }
    } else {
        tell(story, &bad, &fixed);
    }
    let as_told = failed(&bad) > 0 && failed(&fixed) == 0;
    Ok(if as_told { exit::PASSED } else { exit::FAILED })
}

fn failed(record: &RunRecord) -> usize {
    record.checks.iter().filter(|check| check.failed()).count()
}

fn tell(story: &Story, bad: &RunRecord, fixed: &RunRecord) {
    let options = StoryOptions {
        width: 120,
        ..StoryOptions::default()
    };
    out::line(&story.told);
    for record in [bad, fixed] {
        out::line(self::story(record, &options));
    }
    out::print(&side_by_side(&[("bad", bad), ("fixed", fixed)]));
}

fn list(stories: &[Story], json: bool) {
    for story in stories {
        let (id, title) = (&story.id, &story.title);
        if json {
            out::line(serde_json::json!({
                "id": id,
                "title": title,
                "bad": story.bad.display().to_string(),
                "fixed": story.fixed.display().to_string(),
            }));
        } else {
            out::line(format!("{id:<5} {title}"));
        }
    }
    if !json {
        out::line(
            "\nrehearsal gallery ID runs one: the failing scenario, the fixed one, and the difference",
        );
    }
}

/// The pairs of a folder, in the order of their names.
fn stories(dir: &Path) -> Result<Vec<Story>, String> {
    let shown = dir.display();
    let entries = std::fs::read_dir(dir).map_err(|_| {
        format!("there is no gallery at {shown}\nhint: run it in the project's folder, or name one with --dir")
    })?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    let mut stories = Vec::new();
    for name in &names {
        let Some(base) = name.strip_suffix(".bad.yaml") else {
            continue;
        };
        let bad = dir.join(name);
        let fixed = dir.join(format!("{base}.fixed.yaml"));
        if !fixed.is_file() {
            return Err(format!(
                "{}: no such file, though {name} is there",
                fixed.display()
            ));
        }
        let text = std::fs::read_to_string(&bad).map_err(|e| format!("{}: {e}", bad.display()))?;
        let head: Vec<&str> = (text.lines().take_while(|line| line.starts_with('#')))
            .map(|line| line.trim_start_matches('#').strip_prefix(' ').unwrap_or(""))
            .collect();
        let id = base.split('-').next().unwrap_or(base).to_uppercase();
        let first = head.first().copied().unwrap_or(base);
        let title = first.split_once(" - ").map_or(first, |(_, title)| title);
        stories.push(Story {
            id,
            title: title.trim().to_owned(),
            told: format!("{}\n", head.join("\n")),
            bad,
            fixed,
        });
    }
    if stories.is_empty() {
        return Err(format!(
            "{shown} holds no pairs of .bad.yaml and .fixed.yaml"
        ));
    }
    Ok(stories)
}

fn run(file: &Path, arguments: &GalleryArguments) -> Result<RunRecord, String> {
    let options = LoadOptions {
        seed: arguments.seed,
        ..LoadOptions::default()
    };
    let loaded =
        scenario::load(&[file.to_owned()], &options).map_err(|rejected| rejected.render(false))?;
    let [scenario] = &loaded.scenarios[..] else {
        return Err(format!("{}: one scenario is wanted", file.display()));
    };
    let mut stop = |_, _| false;
    let mut options = RunOptions {
        stop: &mut stop,
        arguments: Vec::new(),
    };
    let finished = check::run(scenario, &mut options);
    let finished = finished.map_err(|_| format!("{} cannot run", file.display()))?;
    Ok(finished.record)
}
