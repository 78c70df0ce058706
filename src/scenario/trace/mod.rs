//! Traces: which pods arrive when, what they ask for, how long they run.
//!
//! Two forms are read. `own` is this project's CSV, documented there; [`openb`] is the public GPU
//! trace of a production cluster, as it is published. Every problem has the file and the line that
//! it is about. Pods of equal specs share one [`PodSpec`], so that a run can tell kinds of pods apart
//! by address.

mod openb;

mod own;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

use super::diagnostic::Diagnostic;
use super::fields::Problems;
use crate::api::affinity::{Affinity, NodeSelectorTerm, Toleration};
use crate::api::container::Container;
use crate::api::quantity::Resources;
use crate::api::selector::{Operator, Requirement};
use crate::api::yaml::{FileId, Sources, Span};
use crate::api::{Labels, PodSpec, Text};
use crate::sched::plugins::gpu::{GPU, GPU_MILLI, GPU_PRODUCT};

/// Pods of a trace in the order of their lines.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The pods.
    pub pods: Vec<TracePod>,
}

/// A pod of a trace.
#[derive(Clone, Debug)]
pub struct TracePod {
    /// Name; unique in its namespace.
    pub name: Text,
    /// Namespace.
    pub namespace: Text,
    /// Labels.
    pub labels: Labels,
    /// What it asks for; shared by pods that ask for the same.
    pub spec: Arc<PodSpec>,
    /// When it arrives, from the beginning of the trace.
    pub arrival: Duration,
    /// How long it runs; `None` for ever.
    pub runs: Option<Duration>,
}

/// A node of a trace's node list.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceNode {
    /// Name.
    pub name: Text,
    /// Capacity, all of it allocatable.
    pub capacity: Resources,
    /// Labels besides those that every node has.
    pub labels: Labels,
}

/// The forms that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// This project's.
    Own,
    /// The openb trace's.
    Openb,
}

/// Reads pods from a file; `format` is found out unless given.
pub fn read_pods(
    path: &Path,
    from: Span,
    format: Option<Format>,
    sources: &mut Sources,
    problems: &mut Problems,
) -> Trace {
    let Some(table) = Table::open(path, from, sources, problems) else {
        return Trace::default();
    };
    let openb = table.columns.iter().any(|c| c == "cpu_milli");
    let found = if openb { Format::Openb } else { Format::Own };
    let mut specs = Specs::default();
    let before = problems.len();
    let mut trace = Trace::default();
    match format.unwrap_or(found) {
        Format::Own => own::read(&table, &mut specs, &mut trace, problems),
        Format::Openb => openb::read_pods(&table, &mut specs, &mut trace, problems),
    }
    if trace.pods.is_empty() && problems.len() == before {
        problems.push(table.problem(1, 1, "there is no pod in this trace"));
    }
    duplicates(&table, &trace, problems);
    trace
}

/// Reads nodes from the openb trace's node list.
pub fn read_nodes(
    path: &Path,
    from: Span,
    sources: &mut Sources,
    problems: &mut Problems,
) -> Vec<TraceNode> {
    match Table::open(path, from, sources, problems) {
        Some(table) => openb::read_nodes(&table, problems),
        None => Vec::new(),
    }
}

fn duplicates(table: &Table, trace: &Trace, problems: &mut Problems) {
    let mut names: IndexMap<(&Text, &Text), usize, FxBuildHasher> = IndexMap::default();
    if trace.pods.len() != table.rows.len() {
        return;
    }
    for (at, pod) in trace.pods.iter().enumerate() {
        if let Some(first) = names.insert((&pod.namespace, &pod.name), at) {
            let message = format!("a second pod is called {}/{}", pod.namespace, pod.name);
            let line = table.rows[first].line;
            let wrong = table.problem(table.rows[at].line, 1, &message);
            problems.push(wrong.cause(format!("the first stands in line {line}")));
        }
    }
}

/// A CSV file with a header.
#[derive(Debug)]
struct Table {
    file: FileId,
    columns: Vec<String>,
    rows: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    /// From 1, the header's line.
    line: u32,
    cells: csv::StringRecord,
}

/// More problems than anybody reads of one file.
const ENOUGH: usize = 20;

impl Table {
    fn open(
        path: &Path,
        from: Span,
        sources: &mut Sources,
        problems: &mut Problems,
    ) -> Option<Table> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("{}: cannot be read", path.display());
                let wrong = Diagnostic::error("NotFound", message, from).cause(error.to_string());
                problems.push(wrong.hint("the path is taken from the folder of the experiment"));
                return None;
            }
        };
        let file = sources.add(path.display().to_string());
        let table = Table::parse(file, &bytes, problems);
        if let Ok(text) = String::from_utf8(bytes) {
            sources.keep_text(file, text);
        }
        table
    }

    fn parse(file: FileId, bytes: &[u8], problems: &mut Problems) -> Option<Table> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
        let mut table = Table {
            file,
            columns: Vec::new(),
            rows: Vec::new(),
        };
        match reader.headers() {
            Ok(header) => table.columns = header.iter().map(|c| c.trim().to_owned()).collect(),
            Err(error) => {
                problems.push(table.unreadable(&error));
                return None;
            }
        }
        let mut twice = table.columns.clone();
        twice.sort();
        if let Some(pair) = twice.windows(2).find(|pair| pair[0] == pair[1]) {
            let message = format!("two columns are called {:?}", pair[0]);
            problems.push(table.problem(1, 1, &message));
            return None;
        }
        for record in reader.records() {
            match record {
                Ok(cells) => table.rows.push(Line {
                    line: line_of(cells.position()),
                    cells,
                }),
                Err(error) => {
                    problems.push(table.unreadable(&error));
                    return None;
                }
            }
        }
        Some(table)
    }

    fn unreadable(&self, error: &csv::Error) -> Diagnostic {
        let line = line_of(error.position());
        match error.kind() {
            csv::ErrorKind::UnequalLengths {
                expected_len, len, ..
            } => {
                let message = format!("{len} values, but there are {expected_len} columns");
                self.problem(line, 1, &message)
            }
            csv::ErrorKind::Utf8 { .. } => self.problem(line, 1, "this is not UTF-8"),
            _ => self.problem(line, 1, &error.to_string()),
        }
    }

    fn problem(&self, line: u32, column: u32, message: &str) -> Diagnostic {
        Diagnostic::error(
            "FieldValueInvalid",
            message,
            Span::new(self.file, line, column),
        )
    }

    /// The position of a column that must be there.
    fn require(&self, name: &str, problems: &mut Problems) -> usize {
        self.find(name).unwrap_or_else(|| {
            let missing = self.problem(1, 1, &format!("the column {name:?} is missing"));
            let columns = format!("there are: {}", self.columns.join(", "));
            problems.push(missing.hint(columns));
            usize::MAX
        })
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c == name)
    }
}

fn line_of(position: Option<&csv::Position>) -> u32 {
    position.map_or(1, |p| u32::try_from(p.line()).unwrap_or(u32::MAX))
}

/// One row that is being read.
struct Row<'t> {
    table: &'t Table,
    line: &'t Line,
}

impl<'t> Row<'t> {
    /// The cell of a column, trimmed; empty when there is no such column.
    fn cell(&self, column: Option<usize>) -> &'t str {
        let cell = column.and_then(|column| self.line.cells.get(column));
        cell.unwrap_or_default().trim()
    }

    /// A problem with a cell.
    fn problem(&self, column: Option<usize>, message: &str) -> Diagnostic {
        let before = self.line.cells.iter().take(column.unwrap_or(0));
        let at: usize = before.map(|cell| cell.chars().count() + 1).sum();
        let name = column.and_then(|column| self.table.columns.get(column));
        let wrong = self.table.problem(self.line.line, at as u32 + 1, message);
        wrong.at(name.cloned().unwrap_or_default())
    }

    /// Reads a cell; an empty one is `None`.
    fn read<T>(
        &self,
        column: Option<usize>,
        parse: impl Fn(&str) -> Option<T>,
        wanted: &str,
        problems: &mut Problems,
    ) -> Option<T> {
        let text = self.cell(column);
        if text.is_empty() {
            return None;
        }
        let value = parse(text);
        if value.is_none() {
            let message = format!("Invalid value: {text:?}: must be {wanted}");
            problems.push(self.problem(column, &message));
        }
        value
    }

    /// A whole number that is not negative; empty means 0.
    fn whole(&self, column: Option<usize>, problems: &mut Problems) -> i64 {
        let parse = |text: &str| text.parse::<i64>().ok().filter(|n| *n >= 0);
        let wanted = "a whole number that is not negative";
        self.read(column, parse, wanted, problems).unwrap_or(0)
    }

    /// A span in seconds, or as Go writes it.
    fn span(&self, column: Option<usize>, problems: &mut Problems) -> Option<Duration> {
        let wanted = "seconds (12.5) or a duration (90s) that is not negative";
        self.read(column, span, wanted, problems)
    }
}

/// `12`, `12.5` (seconds), `90s`, `1h30m`.
fn span(text: &str) -> Option<Duration> {
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return crate::api::duration::parse(&format!("{text}s")).ok();
    }
    crate::api::duration::parse(text).ok()
}

/// What a pod's spec is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Wanted {
    requests: Resources,
    models: Vec<Text>,
    node_selector: Labels,
    tolerations: Vec<(Text, Text, Text)>,
    priority: i32,
}

/// Specs by what they are made of.
#[derive(Debug, Default)]
struct Specs {
    known: IndexMap<Wanted, Arc<PodSpec>, FxBuildHasher>,
}

impl Specs {
    fn of(&mut self, wanted: Wanted) -> Arc<PodSpec> {
        if let Some(spec) = self.known.get(&wanted) {
            return spec.clone();
        }
        let spec = Arc::new(spec_of(&wanted));
        self.known.insert(wanted, spec.clone());
        spec
    }
}

fn spec_of(wanted: &Wanted) -> PodSpec {
    let mut tolerations: Vec<Toleration> = (wanted.tolerations.iter())
        .map(|(key, value, effect)| own::toleration(key, value, effect))
        .collect();
    // As the admission plugin ExtendedResourceToleration does for taints that keep others off.
    if [GPU, GPU_MILLI]
        .iter()
        .any(|r| wanted.requests.extended(r) > 0)
    {
        tolerations.push(own::toleration(GPU, "*", ""));
    }
    let mut values = wanted.models.clone();
    values.sort();
    let models = (!values.is_empty()).then(|| NodeSelectorTerm {
        expressions: vec![Requirement {
            key: Text::from(GPU_PRODUCT),
            operator: Operator::In,
            values,
        }],
        fields: Vec::new(),
    });
    PodSpec {
        containers: vec![Container {
            name: Text::from("main"),
            requests: wanted.requests.clone(),
            ..Container::default()
        }],
        node_selector: wanted.node_selector.clone(),
        affinity: models.map(|term| {
            Arc::new(Affinity {
                node_required: Some(vec![term]),
                ..Affinity::default()
            })
        }),
        tolerations,
        priority: wanted.priority,
        scheduler_name: Text::from("default-scheduler"),
        requests: wanted.requests.clone(),
        ..PodSpec::default()
    }
}

/// GPUs as resources: whole devices, or a share of one.
fn add_gpus(requests: &mut Resources, count: i64, milli: i64) {
    if count > 0 && (count > 1 || milli >= 1000) {
        requests.set_extended(&Text::from(GPU), count);
    } else if milli > 0 {
        requests.set_extended(&Text::from(GPU_MILLI), milli);
    }
}

#[cfg(test)]
mod tests;
