//! `rehearsal schema`: JSON Schemas of this project's own kinds.

use std::process::ExitCode;

use clap::Args;

use super::out;
use crate::scenario::schema::{KINDS, json_schema};

/// Arguments of `rehearsal schema`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rehearsal schema > rehearsal.schema.json
  rehearsal schema Scenario

In an editor with the YAML language server, the first line of a scenario file can name it:
  # yaml-language-server: $schema=rehearsal.schema.json")]
pub struct SchemaArguments {
    /// One kind (default: a schema for files that hold any of them beside Kubernetes objects)
    #[arg(value_parser = KINDS)]
    pub kind: Option<String>,
}

/// Prints a schema.
pub fn main(arguments: &SchemaArguments) -> ExitCode {
    let schema = json_schema(arguments.kind.as_deref());
    let text = schema.and_then(|schema| serde_json::to_string_pretty(&schema).ok());
    out::print(&(text.unwrap_or_default() + "\n"));
    ExitCode::SUCCESS
}
