//! The openb trace: 1,523 nodes and 8,152 pods of a production cluster with GPUs
//! (github.com/hkust-adsl/kubernetes-scheduler-simulator, `data/csv`; Alibaba's
//! cluster-trace-gpu-v2023).
//!
//! Nodes: `sn, cpu_milli, memory_mib, gpu, model`. Pods: `name, cpu_milli, memory_mib, num_gpu,
//! gpu_milli` and, in most files, `gpu_spec` (models that will do, `A|B`), `creation_time` and
//! `deletion_time` in seconds. Other columns are passed over.

use std::time::Duration;

use super::{ENOUGH, Row, Specs, Table, Trace, TraceNode, TracePod, Wanted, add_gpus};
use crate::api::quantity::Resources;
use crate::api::{Labels, Text};
use crate::scenario::fields::Problems;
use crate::sched::plugins::gpu::{GPU, GPU_PRODUCT};

/// Bytes of a MiB.
const MIB: i64 = 1 << 20;
/// Pod slots of a node, as the published simulator's node list has them.
const PODS: i64 = 1001;

fn rows<'t>(table: &'t Table) -> impl Iterator<Item = Row<'t>> {
    table.rows.iter().map(move |line| Row { table, line })
}

/// Reads the pods.
pub fn read_pods(table: &Table, specs: &mut Specs, trace: &mut Trace, problems: &mut Problems) {
    let before = problems.len();
    let required = ["name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli"];
    let [name, cpu, memory, count, milli] = required.map(|c| Some(table.require(c, problems)));
    let [spec, created, deleted] =
        ["gpu_spec", "creation_time", "deletion_time"].map(|c| table.find(c));
    if problems.len() > before {
        return;
    }
    for row in rows(table) {
        if problems.len() - before > ENOUGH {
            return;
        }
        let mut requests = Resources {
            cpu_milli: row.whole(cpu, problems),
            memory: row.whole(memory, problems).saturating_mul(MIB),
            named: 0b11,
            ..Resources::default()
        };
        let (count_of, milli_of) = (row.whole(count, problems), row.whole(milli, problems));
        if milli_of > 1000 || (count_of > 1 && milli_of < 1000) {
            let message = format!(
                "Invalid value: {milli_of}: must be at most 1000, and 1000 for several GPUs"
            );
            problems.push(row.problem(milli, &message));
        }
        add_gpus(
            &mut requests,
            count_of,
            if count_of == 0 { 0 } else { milli_of },
        );
        let models = row.cell(spec).split('|').map(str::trim);
        let arrival = row.span(created, problems).unwrap_or_default();
        let end = row.span(deleted, problems);
        if end.is_some_and(|end| end < arrival) {
            problems.push(row.problem(deleted, "the pod is deleted before it is created"));
        }
        trace.pods.push(TracePod {
            name: Text::from(row.cell(name)),
            namespace: Text::from("default"),
            labels: Labels::default(),
            spec: specs.of(Wanted {
                requests,
                models: models.filter(|m| !m.is_empty()).map(Text::from).collect(),
                ..Wanted::default()
            }),
            arrival,
            runs: end.map(|end| end.saturating_sub(arrival)),
        });
    }
    // Times count from the first arrival.
    let first = trace.pods.iter().map(|p| p.arrival).min();
    let first = first.unwrap_or(Duration::ZERO);
    for pod in &mut trace.pods {
        pod.arrival -= first;
    }
}

/// Reads the nodes.
pub fn read_nodes(table: &Table, problems: &mut Problems) -> Vec<TraceNode> {
    let before = problems.len();
    let columns = ["sn", "cpu_milli", "memory_mib", "gpu", "model"];
    let [name, cpu, memory, gpu, model] = columns.map(|c| Some(table.require(c, problems)));
    let mut nodes: Vec<TraceNode> = Vec::new();
    if problems.len() > before {
        return nodes;
    }
    for row in rows(table) {
        if problems.len() - before > ENOUGH {
            return nodes;
        }
        let mut capacity = Resources {
            cpu_milli: row.whole(cpu, problems),
            memory: row.whole(memory, problems).saturating_mul(MIB),
            pods: PODS,
            named: 0b1011,
            ..Resources::default()
        };
        let gpus = row.whole(gpu, problems);
        if gpus > 64 {
            let message = format!("Invalid value: {gpus}: must be at most 64");
            problems.push(row.problem(gpu, &message));
        }
        if gpus > 0 {
            capacity.set_extended(&Text::from(GPU), gpus);
        }
        let model = row.cell(model);
        let labels = if model.is_empty() {
            Labels::default()
        } else {
            Labels::default().with(GPU_PRODUCT, model)
        };
        let name = Text::from(row.cell(name));
        if let Some(first) = nodes.iter().position(|n| n.name == name) {
            let message = format!("a second node is called {name}");
            let wrong = row.problem(None, &message);
            let line = table.rows[first].line;
            problems.push(wrong.cause(format!("the first stands in line {line}")));
        }
        nodes.push(TraceNode {
            name,
            capacity,
            labels,
        });
    }
    if nodes.is_empty() {
        problems.push(table.problem(1, 1, "there is no node in this list"));
    }
    nodes
}
