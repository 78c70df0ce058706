//! From what a host takes to what a simulation should: spans become distributions, and a section of
//! a scenario that says so.
//!
//! What containers come and go in is fitted by two quantiles, as every latency of the simulation is.
//! A request's way over the host is what a real one takes longer than a simulated one that differs in
//! nothing else; it becomes a wait of the AppModel.

use std::fmt::Write;
use std::time::Duration;

use crate::engine::Dist;
use crate::record::RunRecord;

/// What was measured of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// How often.
    pub count: usize,
    /// The median.
    pub p50: Duration,
    /// What one in a hundred exceeds (or the largest, of fewer).
    pub p99: Duration,
}

impl Measured {
    /// From spans in nanoseconds, in rising order; none without any.
    pub fn of(spans: &[u64]) -> Option<Measured> {
        let last = spans.len().checked_sub(1)?;
        let at = |permille: usize| Duration::from_nanos(spans[(last * permille).div_ceil(1000)]);
        Some(Measured {
            count: spans.len(),
            p50: at(500),
            p99: at(990),
        })
    }

    /// The distribution with these quantiles.
    pub fn dist(&self) -> Dist {
        let least = Duration::from_nanos(1);
        Dist::LogNormal {
            p50: self.p50.max(least),
            p99: self.p99.max(self.p50).max(least),
        }
    }

    fn yaml(&self) -> String {
        let (p50, p99) = (micros(self.p50), micros(self.p99.max(self.p50)));
        format!("{{lognormal: {{p50: {p50}us, p99: {p99}us}}}}")
    }
}

fn micros(span: Duration) -> u128 {
    span.as_micros().max(1)
}

/// Everything that was measured of a host.
#[derive(Clone, Debug, Default)]
pub struct Calibration {
    /// A pod's sandbox.
    pub sandbox: Option<Measured>,
    /// Creating and starting a container.
    pub start: Option<Measured>,
    /// Removing what is left of a pod.
    pub remove: Option<Measured>,
    /// A probe that runs a command.
    pub exec: Option<Measured>,
    /// A sync of a proxy.
    pub sync: Option<Measured>,
    /// What a request takes longer than a simulated one.
    pub way: Option<Duration>,
}

impl Calibration {
    /// The section of a scenario, and of an AppModel, that lets a simulation take what the host
    /// takes.
    pub fn yaml(&self) -> String {
        let mut text = String::from("# In a Scenario:\nspec:\n  cluster:\n    latency:\n");
        let spans = [
            ("sandbox", &self.sandbox),
            ("start", &self.start),
            ("remove", &self.remove),
        ];
        for (key, measured) in spans {
            if let Some(measured) = measured {
                let _ = writeln!(text, "      {key}: {}", measured.yaml());
            }
        }
        if let Some(sync) = self.sync {
            let _ = writeln!(text, "      endpointSync: {}us", micros(sync.p50));
        }
        if self.exec.is_none() && self.way.is_none() {
            return text;
        }
        text.push_str("---\n# In each AppModel:\nspec:\n");
        if let Some(exec) = &self.exec {
            let _ = writeln!(text, "  probes: {{dedicated: {}}}", exec.yaml());
        }
        if let Some(way) = self.way {
            let _ = writeln!(text, "  request: {{wait: {}us}}", micros(way));
        }
        text
    }
}

/// Spans between milestones of a run's pods, in nanoseconds, in rising order.
pub fn milestones(run: &RunRecord, from: Milestone, to: Milestone) -> Vec<u64> {
    let spans = run.pods.iter().filter_map(|pod| {
        let at = |milestone| match milestone {
            Milestone::Scheduled => pod.scheduled,
            Milestone::Started => pod.started,
            Milestone::Terminating => pod.terminating,
            Milestone::Gone => pod.gone,
        };
        Some(at(to)?.as_nanos().saturating_sub(at(from)?.as_nanos()))
    });
    let mut spans: Vec<u64> = spans.collect();
    spans.sort_unstable();
    spans
}

/// A moment in a pod's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// It has a node.
    Scheduled,
    /// Its containers run, as the API server was told.
    Started,
    /// Its deletion was asked for.
    Terminating,
    /// It is gone from the API.
    Gone,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        assert_eq!(Measured::of(&[]), None);
        let spans: Vec<u64> = (0..=100).map(|n| n * 1_000).collect();
        let measured = Measured::of(&spans).expect("spans");
        let us = Duration::from_micros;
        assert_eq!(
            (measured.count, measured.p50, measured.p99),
            (101, us(50), us(99))
        );
        let one = Measured::of(&[7]).expect("a span");
        assert_eq!(
            (one.p50, one.p99),
            (Duration::from_nanos(7), Duration::from_nanos(7))
        );
    }

    #[test]
    fn what_is_written_is_read_as_what_was_measured() {
        let us = Duration::from_micros;
        let measured = |p50, p99| {
            Some(Measured {
                count: 9,
                p50: us(p50),
                p99: us(p99),
            })
        };
        let all = Calibration {
            sandbox: measured(1_500, 9_000),
            start: measured(2_100, 2_100),
            remove: measured(600, 4_000),
            exec: measured(900, 3_000),
            sync: measured(12_000, 30_000),
            way: Some(us(180)),
        };
        let yaml = all.yaml();
        let (cluster, model) = yaml.split_once("---\n").expect("two parts");
        let cluster = cluster.split_once("spec:\n").expect("a section").1;
        let model = model.split_once("spec:\n").expect("a section").1;
        let text = format!(
            "apiVersion: rehearsal.dev/v1\nkind: Scenario\nmetadata: {{name: s}}\nspec:\n  \
             kubernetesVersion: \"1.36\"\n  duration: 1m\n{cluster}    \
             nodePools: [{{name: node, count: 1, capacity: {{cpu: \"1\", memory: 1Gi}}}}]\n---\n\
             {{apiVersion: v1, kind: Pod, metadata: {{name: web, labels: {{app: web}}}},\n  \
             spec: {{containers: [{{name: main, image: web}}]}}}}\n---\n\
             apiVersion: rehearsal.dev/v1\nkind: AppModel\nmetadata: {{name: web}}\nspec:\n  \
             selector: {{matchLabels: {{app: web}}}}\n{model}"
        );
        let options = crate::scenario::LoadOptions::default();
        let loaded = crate::scenario::load_bytes("s.yaml".as_ref(), text.as_bytes(), &options);
        let loaded = loaded.unwrap_or_else(|rejected| panic!("{}\n{text}", rejected.render(false)));
        let latency = &loaded.scenarios[0].cluster.latency;
        let sandbox = Dist::LogNormal {
            p50: us(1_500),
            p99: us(9_000),
        };
        assert_eq!(latency.sandbox, Some(sandbox));
        assert_eq!(latency.endpoint_sync, Some(us(12_000)));
        assert_eq!(latency.start, all.start.map(|m| m.dist()));
    }
}
