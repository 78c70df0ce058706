//! `rehearsal validate`: manifests and scenarios judged as the API server would.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::api::yaml;
use crate::scenario::{Diagnostic, Validated, render, validate_files};

/// Arguments of `rehearsal validate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rehearsal validate deployment.yaml
  rehearsal validate manifests/ --json
  rehearsal validate service.yaml -o yaml
  kubectl kustomize overlay | rehearsal validate -")]
pub struct ValidateArgs {
    /// Files, folders (read recursively), kustomization files, or - for the standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// One JSON object per document on stdout
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
    /// Print the accepted objects with the API server's defaults filled in
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Output>,
    /// The Kubernetes version whose rules apply
    #[arg(long, value_name = "VERSION", default_value = "1.36")]
    pub kubernetes_version: String,
}

/// How objects are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// As `kubectl … -o json`: one object, or a List of several
    Json,
    /// As `kubectl … -o yaml`, one document per object
    Yaml,
}

/// Validates; 0 when everything was accepted, 2 when anything was refused.
pub fn main(arguments: &ValidateArgs) -> ExitCode {
    let validated = validate_files(&arguments.files, &arguments.kubernetes_version);
    let result = match arguments.output {
        Some(output) => print_objects(&validated, output),
        None if arguments.json => print_lines(&validated),
        None => print_report(&validated),
    };
    match (result, validated.passed()) {
        (Err(error), _) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: {error}");
            ExitCode::from(3)
        }
        (_, true) => ExitCode::SUCCESS,
        (_, false) => ExitCode::from(2),
    }
}

fn print_lines(validated: &Validated) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for object in &validated.objects {
        writeln!(out, "{}", validated.line(object))?;
    }
    Ok(())
}

fn print_objects(validated: &Validated, output: Output) -> std::io::Result<()> {
    let problems: Vec<Diagnostic> = (validated.objects.iter())
        .flat_map(|object| object.problems.iter().cloned())
        .collect();
    let colour = std::io::stderr().is_terminal();
    eprint!("{}", render(&problems, &validated.sources, colour));
    let objects: Vec<_> = validated
        .objects
        .iter()
        .filter_map(|o| o.json.as_ref())
        .collect();
    let mut out = std::io::stdout().lock();
    match (output, objects.as_slice()) {
        (Output::Yaml, objects) => {
            for (at, object) in objects.iter().enumerate() {
                if at > 0 {
                    writeln!(out, "---")?;
                }
                let text = yaml::write(object).map_err(std::io::Error::other)?;
                write!(out, "{text}")?;
            }
            Ok(())
        }
        (Output::Json, [object]) => writeln!(out, "{object:#}"),
        (Output::Json, objects) => {
            writeln!(
                out,
                "{:#}",
                json!({"apiVersion": "v1", "kind": "List", "items": objects})
            )
        }
    }
}

fn print_report(validated: &Validated) -> std::io::Result<()> {
    let colour = std::io::stdout().is_terminal();
    let mut out = std::io::stdout().lock();
    let problems = validated
        .objects
        .iter()
        .flat_map(|object| object.problems.iter());
    let all: Vec<Diagnostic> = problems.chain(&validated.notes).cloned().collect();
    if !all.is_empty() {
        writeln!(out, "{}", render(&all, &validated.sources, colour))?;
    }
    let (accepted, refused): (Vec<_>, Vec<_>) =
        validated.objects.iter().partition(|object| object.accepted);
    let warnings = all.iter().filter(|problem| !problem.is_error()).count();
    write!(
        out,
        "{} accepted, {} rejected",
        accepted.len(),
        refused.len()
    )?;
    if warnings > 0 {
        let s = if warnings == 1 { "" } else { "s" };
        write!(out, ", {warnings} warning{s}")?;
    }
    writeln!(out)?;
    let foreign = validated.foreign();
    if !foreign.is_empty() {
        let kinds: Vec<String> = foreign
            .iter()
            .map(|(kind, n)| format!("{kind} ×{n}"))
            .collect();
        writeln!(out, "not Kubernetes' own kinds: {}", kinds.join(", "))?;
    }
    Ok(())
}
