//! The base of an experiment over a trace: the pods, the nodes, how pods arrive, what fails.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::reader::{ExperimentReader, scheduler_config};
use super::{Arrivals, Generator, Ties, TracePlan};
use crate::api::Text;
use crate::api::yaml::Node;
use crate::fault::{Action, Fault};
use crate::scenario::chaos;
use crate::scenario::cluster::{self, VERSIONS};
use crate::scenario::fields::{Fields, Value};
use crate::scenario::timeline::{self, Action as StepAction};
use crate::scenario::trace::{self, Format, Trace, TraceNode};
use crate::scenario::types::ClusterSpec;

impl ExperimentReader<'_> {
    /// Reads `base` with `trace`.
    pub fn trace_plan(&mut self, base: &Node, faults: &[Value<'_>]) -> Option<TracePlan> {
        let value = Value {
            node: base,
            path: "spec.base".to_owned(),
        };
        let fields = value.fields(self.problems)?;
        let duration = fields.duration("duration", self.problems);
        let mut cluster = ClusterSpec::default();
        let mut scheduler = None;
        let known = self.problems.len();
        if let Some(value) = fields.get("cluster") {
            scheduler = value.node.get("scheduler").cloned();
            // A cluster that has nothing but a scheduler takes its nodes from the trace's list.
            if value.node.get("nodePools").is_some() {
                cluster = cluster::read(&value, VERSIONS[0], self.problems)?.0;
            }
        }
        // What is wrong with the scheduler's configuration is said once.
        let judged = self.problems.len() > known;
        let trace = fields.fields("trace", self.problems)?;
        let (trace, nodes, arrivals, ties) = self.trace(&trace)?;
        fields.allow(&["kubernetesVersion", "seed", "namespace"]);
        fields.finish(self.problems);
        if cluster.pools.is_empty() && nodes.is_empty() {
            let wrong = "there are no nodes: give cluster.nodePools or trace.nodes";
            self.problems.push(value.invalid(wrong));
        }
        if judged {
            return None;
        }
        Some(TracePlan {
            duration,
            cluster,
            nodes,
            trace,
            arrivals,
            ties,
            scheduler: scheduler_config(scheduler.as_ref(), self.problems)?,
            faults: self.faults(faults, duration),
        })
    }

    fn trace(
        &mut self,
        fields: &Fields<'_>,
    ) -> Option<(Arc<Trace>, Vec<TraceNode>, Arrivals, Ties)> {
        let file = fields.require("file", self.problems);
        let nodes = fields.get("nodes");
        let format = fields.get("format");
        let format = format.and_then(|v| v.word(&["csv", "openb"], self.problems));
        let load = fields.get("load");
        let load = load.and_then(|v| v.number(0.01, 100.0, self.problems));
        let generator = fields.get("generator");
        let generator_of = generator
            .as_ref()
            .and_then(|v| v.word(&["own", "go-math-rand"], self.problems));
        let ties = fields.get("ties");
        let ties = ties.and_then(|v| v.word(&["drawn", "ordered"], self.problems));
        let scale = fields.get("scale");
        let scale_of = scale
            .as_ref()
            .and_then(|v| v.number(0.0, 1000.0, self.problems));
        let jitter = fields.get("jitter");
        let jitter_of = jitter.as_ref().and_then(|v| v.duration(self.problems));
        if load.is_some() {
            for value in [scale, jitter].into_iter().flatten() {
                let wrong = value.invalid("may not be set together with load");
                self.problems.push(wrong);
            }
        } else if let Some(value) = generator {
            let wrong = value.invalid("only a load is drawn; set load too");
            self.problems.push(wrong);
        }
        fields.finish(self.problems);
        let file = file?;
        let format = format.map(|word| match word {
            "csv" => Format::Own,
            _ => Format::Openb,
        });
        let trace = self.read_once(&file, format)?;
        let nodes = match nodes {
            Some(value) => {
                let path = self.trace_path(&value)?;
                let sources = &mut self.files.sources;
                trace::read_nodes(&path, value.span(), sources, self.problems)
            }
            None => Vec::new(),
        };
        let arrivals = match load {
            Some(ratio) => Arrivals::Load {
                ratio,
                generator: match generator_of {
                    Some("go-math-rand") => Generator::Go,
                    _ => Generator::Own,
                },
            },
            None => Arrivals::Recorded {
                scale: scale_of.unwrap_or(1.0),
                jitter: jitter_of.unwrap_or_default(),
            },
        };
        let ties = match ties {
            Some("ordered") => Ties::Ordered,
            _ => Ties::Drawn,
        };
        Some((trace, nodes, arrivals, ties))
    }

    /// A trace that several experiments name is read by the first.
    fn read_once(&mut self, file: &Value<'_>, format: Option<Format>) -> Option<Arc<Trace>> {
        let path = self.trace_path(file)?;
        if let Some(known) = self.traces.get(&path) {
            return Some(known.clone());
        }
        let sources = &mut self.files.sources;
        let read = trace::read_pods(&path, file.span(), format, sources, self.problems);
        let read = Arc::new(read);
        self.traces.insert(path, read.clone());
        Some(read)
    }

    fn trace_path(&mut self, value: &Value<'_>) -> Option<PathBuf> {
        let name = value.name(self.problems)?;
        let path = Path::new(name.as_str());
        Some(match (&self.options.traces, path.file_name()) {
            (Some(folder), Some(name)) => folder.join(name),
            _ => self.base.join(path),
        })
    }

    fn faults(
        &mut self,
        items: &[Value<'_>],
        duration: Option<Duration>,
    ) -> Vec<(Duration, Fault)> {
        let length = duration.unwrap_or(Duration::MAX);
        let mut faults = Vec::new();
        for step in timeline::read(items, length, self.problems) {
            let StepAction::Apply(applied) = &step.action else {
                let wrong = "a run over a trace has no kubectl";
                self.problems.push(step.value.invalid(wrong));
                continue;
            };
            for value in applied {
                let namespace = Text::from("default");
                let Some(draft) = chaos::read(value.node, &namespace, self.problems) else {
                    continue;
                };
                if draft.fault.action != Action::PowerOff || draft.fault.selector.pods_of.is_some()
                {
                    let wrong = value.invalid("a run over a trace knows power-off of nodes only");
                    self.problems.push(wrong);
                    continue;
                }
                faults.push((step.at, draft.fault));
            }
        }
        faults
    }
}
