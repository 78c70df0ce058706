//! This project's trace: a CSV file (RFC 4180, UTF-8) with a header, one pod a line.
//!
//! | column | means | when absent or empty |
//! |---|---|---|
//! | `arrival` | when the pod is created: seconds (`12.5`) or a duration (`1m30s`) from the start | required |
//! | `duration` | how long it runs once it was placed, likewise | for ever |
//! | `cpu`, `memory` | requests as Kubernetes quantities: `500m`, `4`, `256Mi` | required |
//! | `gpu` | whole GPUs (`nvidia.com/gpu`) | 0 |
//! | `gpu_milli` | a share of one GPU in thousandths (`nvidia.com/gpu-milli`) | 0 |
//! | `gpu_models` | models that will do, `A100\|H100` | any |
//! | `resources` | other requests, `example.com/fpga=1;…` | none |
//! | `name` | name of the pod, unique in its namespace | `pod-` and the number of its row |
//! | `namespace` | its namespace | `default` |
//! | `priority` | its priority; higher ones preempt lower ones | 0 |
//! | `labels` | its labels, `app=web;tier=front` | none |
//! | `node_selector` | labels that its node must have, likewise | any node |
//! | `tolerations` | `key=value:Effect;key:Effect;key`, without an effect all of them | none |
//!
//! Columns may stand in any order; an unknown one is an error. Pods that ask for GPUs tolerate the
//! taint `nvidia.com/gpu`, as the admission plugin ExtendedResourceToleration lets them.

use super::{ENOUGH, Row, Specs, Table, Trace, TracePod, Wanted, add_gpus};
use crate::api::affinity::{TaintEffect, Toleration, TolerationOperator};
use crate::api::quantity::{Quantity, Resources};
use crate::api::{Labels, Text};
use crate::scenario::fields::Problems;

const COLUMNS: [&str; 13] = [
    "arrival",
    "duration",
    "cpu",
    "memory",
    "gpu",
    "gpu_milli",
    "gpu_models",
    "resources",
    "name",
    "namespace",
    "priority",
    "labels",
    "node_selector",
];
const TOLERATIONS: &str = "tolerations";

/// Positions of the columns, in the order of [`COLUMNS`], then `tolerations`.
struct Columns([Option<usize>; 14]);

impl Columns {
    fn of(table: &Table, problems: &mut Problems) -> Option<Columns> {
        let before = problems.len();
        let known = || COLUMNS.iter().copied().chain([TOLERATIONS]);
        for (at, column) in table.columns.iter().enumerate() {
            if !known().any(|k| k == column) {
                let header = table.columns.iter().take(at).map(|c| c.chars().count() + 1);
                let place = header.sum::<usize>() as u32 + 1;
                let unknown = table.problem(1, place, &format!("unknown column {column:?}"));
                problems.push(unknown.suggest(column, known()));
            }
        }
        for name in ["arrival", "cpu", "memory"] {
            table.require(name, problems);
        }
        let mut positions = [None; 14];
        for (position, name) in positions.iter_mut().zip(known()) {
            *position = table.find(name);
        }
        (problems.len() == before).then_some(Columns(positions))
    }
}

/// Reads the pods.
pub fn read(table: &Table, specs: &mut Specs, trace: &mut Trace, problems: &mut Problems) {
    let before = problems.len();
    let Some(columns) = Columns::of(table, problems) else {
        return;
    };
    for (nth, line) in table.rows.iter().enumerate() {
        if problems.len() - before > ENOUGH {
            return;
        }
        let row = Row { table, line };
        trace.pods.push(pod(&row, nth, &columns, specs, problems));
    }
}

fn pod(
    row: &Row<'_>,
    nth: usize,
    Columns(c): &Columns,
    specs: &mut Specs,
    problems: &mut Problems,
) -> TracePod {
    let [
        arrival,
        duration,
        _,
        _,
        _,
        _,
        models,
        _,
        name,
        namespace,
        ..,
    ] = *c;
    let [priority, labels, selector, tolerations] = [c[10], c[11], c[12], c[13]];
    let requests = requests(row, c, problems);
    let number = |text: &str| text.parse::<i32>().ok();
    let to_labels = |pairs: Vec<(String, String)>| pairs.into_iter().collect::<Labels>();
    let models = row.cell(models).split('|').map(str::trim);
    let wanted = Wanted {
        requests,
        models: models.filter(|m| !m.is_empty()).map(Text::from).collect(),
        node_selector: to_labels(pairs(row, selector, problems)),
        tolerations: tolerated(row, tolerations, problems),
        priority: (row.read(priority, number, "a whole number", problems)).unwrap_or(0),
    };
    let or = |text: &str, other: String| match text {
        "" => Text::from(other),
        text => Text::from(text),
    };
    TracePod {
        name: or(row.cell(name), format!("pod-{nth}")),
        namespace: or(row.cell(namespace), "default".to_owned()),
        labels: to_labels(pairs(row, labels, problems)),
        spec: specs.of(wanted),
        arrival: row.span(arrival, problems).unwrap_or_default(),
        runs: row.span(duration, problems),
    }
}

/// What a pod asks for, GPUs among it.
fn requests(row: &Row<'_>, c: &[Option<usize>; 14], problems: &mut Problems) -> Resources {
    let [arrival, _, cpu, memory, gpu, milli, _, resources, ..] = *c;
    for column in [arrival, cpu, memory] {
        if row.cell(column).is_empty() {
            problems.push(row.problem(column, "Required value"));
        }
    }
    let mut requests = Resources {
        cpu_milli: quantity(row, cpu, problems).map_or(0, |q| q.milli_value()),
        memory: quantity(row, memory, problems).map_or(0, |q| q.value()),
        named: 0b11,
        ..Resources::default()
    };
    let (whole, share) = (row.whole(gpu, problems), row.whole(milli, problems));
    if share > 1000 || (whole > 0 && share > 0) {
        let message =
            format!("Invalid value: {share}: a share is at most 1000, and not beside gpu");
        problems.push(row.problem(milli, &message));
    }
    add_gpus(&mut requests, whole, if whole > 0 { 1000 } else { share });
    for (key, value) in pairs(row, resources, problems) {
        match Quantity::parse(&value) {
            Ok(amount) if amount.nanos() >= 0 && key.contains('/') => {
                requests.set_extended(&Text::from(key), amount.value());
            }
            _ => {
                let message = format!("Invalid value: \"{key}={value}\": must be domain/name=2");
                problems.push(row.problem(resources, &message));
            }
        }
    }
    requests
}

fn quantity(row: &Row<'_>, column: Option<usize>, problems: &mut Problems) -> Option<Quantity> {
    let parse = |text: &str| Quantity::parse(text).ok().filter(|q| q.nanos() >= 0);
    let wanted = "a quantity that is not negative, such as 500m, 4 or 256Mi";
    row.read(column, parse, wanted, problems)
}

/// `a=b;c=d`.
fn pairs(row: &Row<'_>, column: Option<usize>, problems: &mut Problems) -> Vec<(String, String)> {
    let parts = row.cell(column).split(';').map(str::trim);
    let mut found = Vec::new();
    for part in parts.filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                found.push((key.trim().to_owned(), value.trim().to_owned()));
            }
            _ => {
                let message = format!("Invalid value: {part:?}: must be key=value");
                problems.push(row.problem(column, &message));
            }
        }
    }
    found
}

/// `key=value:Effect;key:Effect;key`; a missing value is `*`.
fn tolerated(
    row: &Row<'_>,
    column: Option<usize>,
    problems: &mut Problems,
) -> Vec<(Text, Text, Text)> {
    let parts = row.cell(column).split(';').map(str::trim);
    let mut found = Vec::new();
    for part in parts.filter(|part| !part.is_empty()) {
        let (rest, effect) = part.rsplit_once(':').unwrap_or((part, ""));
        let (key, value) = rest.split_once('=').unwrap_or((rest, "*"));
        let effects = ["", "NoSchedule", "PreferNoSchedule", "NoExecute"];
        if key.is_empty() || !effects.contains(&effect) {
            let message = format!("Invalid value: {part:?}: must be key=value:Effect");
            problems.push(row.problem(column, &message));
            continue;
        }
        found.push((Text::from(key), Text::from(value), Text::from(effect)));
    }
    found
}

/// A toleration of a key with a value (`*` for any) and an effect (empty for all).
pub fn toleration(key: &str, value: &str, effect: &str) -> Toleration {
    let exists = value == "*";
    Toleration {
        key: Text::from(key),
        operator: match exists {
            true => TolerationOperator::Exists,
            false => TolerationOperator::Equal,
        },
        value: Text::from(if exists { "" } else { value }),
        effect: match effect {
            "NoSchedule" => Some(TaintEffect::NoSchedule),
            "PreferNoSchedule" => Some(TaintEffect::PreferNoSchedule),
            "NoExecute" => Some(TaintEffect::NoExecute),
            _ => None,
        },
        seconds: None,
    }
}
