//! The metrics server: what pods use, as the resource metrics API tells it.
//!
//! A port of the decisions of `sigs.k8s.io/metrics-server/pkg/storage/pod.go`: the last two samples
//! of each container are kept, and the API answers with the mean CPU usage between them and the
//! last memory working set. A container that is new counts from its start when that was 10 s to
//! 15 s ago, one that was started again begins anew, and a pod of which one container has no two
//! samples is not told of at all.
//!
//! The metrics server scrapes the kubelets every 15 s (`--metric-resolution`), and these tell what
//! cAdvisor last saw, which looks every 10 s: here all containers are looked at 5 s, the mean age,
//! before the scrape. When in the run's 15 s that happens differs from seed to seed.
//!
//! Nobody but autoscalers reads these metrics, so pods of namespaces without one are left out, and
//! nothing at all happens in a cluster without any. Containers that a backend runs are measured by
//! it, when it is asked to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::dispatch::{Cluster, Consequences};
use super::event::Event;
use super::runtime::{Containers, Request};
use crate::api::autoscaling::{ContainerMetrics, PodMetrics, PodMetricsList};
use crate::api::meta::recorded;
use crate::api::pod_status::{ContainerState, PodConditionKind};
use crate::api::{HorizontalPodAutoscaler, Text};
use crate::engine::Time;
use crate::engine::draws::Purpose;
use crate::kubelet::runtime::{ContainerId, container_of};

const PHASE: Purpose = Purpose::new("metrics-server/phase");

/// `--metric-resolution`.
const RESOLUTION: Duration = Duration::from_secs(15);
/// `freshContainerMinMetricsResolution`.
const FRESH: Duration = Duration::from_secs(10);
/// How old a sample is when it is scraped: half of the kubelet's `--housekeeping-interval`.
const AGE: Duration = Duration::from_secs(5);

/// A sample of a container's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When the container was started.
    pub started: Time,
    /// When the sample was taken.
    pub at: Time,
    /// CPU time since the start.
    pub cpu: Duration,
    /// The memory working set in bytes.
    pub memory: u64,
}

/// Samples by namespace and name of the pod, and by container.
pub type Batch = BTreeMap<(Text, Text), BTreeMap<Text, Point>>;

/// What the metrics server keeps.
#[derive(Debug, Default)]
pub struct MetricsServer {
    /// Whether the next look is scheduled.
    looks: bool,
    /// What was seen and not scraped yet.
    seen: Batch,
    /// Working sets that a backend has measured, until it says how much CPU time was used; KiB.
    held: BTreeMap<ContainerId, u32>,
    last: Batch,
    prev: Batch,
}

impl MetricsServer {
    /// `podStorage.Store`.
    fn store(&mut self, batch: Batch) {
        let mut prev = Batch::new();
        for (pod, containers) in &batch {
            let known = self.last.get(pod);
            let points = containers.iter().filter_map(|(name, new)| {
                let age = new.at.since(new.started);
                if age < RESOLUTION && age >= FRESH {
                    let started = Point {
                        at: new.started,
                        cpu: Duration::ZERO,
                        ..*new
                    };
                    return Some((name.clone(), started));
                }
                let last = known?.get(name)?;
                let same = new.started < last.at && new.at > last.at;
                same.then(|| (name.clone(), *last))
            });
            let points: BTreeMap<Text, Point> = points.collect();
            if !points.is_empty() {
                prev.insert(pod.clone(), points);
            }
        }
        (self.last, self.prev) = (batch, prev);
    }

    /// `podStorage.GetMetrics`, of all pods.
    fn metrics(&self) -> PodMetricsList {
        let all = self.last.iter().filter_map(|(pod, containers)| {
            let before = self.prev.get(pod)?;
            let mut metrics = PodMetrics {
                timestamp: Time::MAX,
                ..PodMetrics::default()
            };
            for (name, last) in containers {
                let prev = before.get(name)?;
                let window = last.at.since(prev.at);
                if last.at < metrics.timestamp {
                    (metrics.timestamp, metrics.window) = (last.at, window);
                }
                metrics.containers.push(ContainerMetrics {
                    name: name.clone(),
                    cpu_nanos: rate(last.cpu.saturating_sub(prev.cpu), window),
                    memory: last.memory,
                });
            }
            Some((pod.clone(), metrics))
        });
        all.collect()
    }
}

/// Billionths of a core.
fn rate(used: Duration, window: Duration) -> u64 {
    let nanos = used.as_nanos() * 1_000_000_000 / window.as_nanos().max(1);
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

impl Cluster {
    /// The API is there from the beginning, where there is one, and knows nothing yet.
    pub(super) fn start_metrics(&mut self, turn: Consequences<'_, '_>) {
        self.manager.view.pod_metrics = Some(Arc::default());
        self.look_at_usage(turn);
    }

    /// Begins to look at what pods use, when there is somebody who wants to know.
    pub(super) fn look_at_usage(&mut self, turn: Consequences<'_, '_>) {
        if self.metrics.looks || self.autoscaled().next().is_none() {
            return;
        }
        self.metrics.looks = true;
        let nanos = self.draws.u64(PHASE, 0, 0) % RESOLUTION.as_nanos() as u64;
        let mut due = Time::from_nanos(nanos);
        if due < turn.now {
            let passed = turn
                .now
                .since(due)
                .as_nanos()
                .div_ceil(RESOLUTION.as_nanos());
            due += RESOLUTION * u32::try_from(passed).unwrap_or(u32::MAX);
        }
        turn.at(due, Event::Housekeeping);
    }

    /// Namespaces with autoscalers.
    fn autoscaled(&self) -> impl Iterator<Item = &Text> {
        let all = self.api.store.view().of::<HorizontalPodAutoscaler>().iter();
        all.map(|(_, autoscaler)| &autoscaler.meta.namespace)
    }

    /// The kubelets look at what their containers use.
    pub(super) fn housekeep(&mut self, turn: Consequences<'_, '_>) {
        let namespaces: BTreeSet<Text> = self.autoscaled().cloned().collect();
        if namespaces.is_empty() {
            self.metrics = MetricsServer::default();
            return;
        }
        turn.after(AGE, Event::Scrape);
        turn.after(RESOLUTION, Event::Housekeeping);
        if self.containers == Containers::Real {
            self.metrics.held.clear();
            return turn.request(Request::Usage);
        }
        let mut seen = Batch::new();
        let view = self.api.store.view();
        for namespace in &namespaces {
            for (id, pod) in view.pods().in_namespace(namespace) {
                let node = pod
                    .node_name
                    .as_ref()
                    .and_then(|name| self.node_ids.get(name));
                let machine = node.and_then(|node| self.machines.get(*node as usize)?.as_ref());
                if !machine.is_some_and(super::machine::Machine::listening) {
                    continue;
                }
                let containers = self.data.samples(id, turn.now);
                let named = containers.into_iter().filter_map(|(index, point)| {
                    let container = container_of(&pod.spec, index)?;
                    Some((container.name.clone(), point))
                });
                let named: BTreeMap<Text, Point> = named.collect();
                if !named.is_empty() {
                    seen.insert((namespace.clone(), pod.meta.name.clone()), named);
                }
            }
        }
        self.metrics.seen = seen;
    }

    /// A backend has measured something, or the metrics server asks what was.
    pub(super) fn meter(&mut self, event: Event, now: Time) {
        match event {
            Event::Holds(container, kib) => self.note_memory(container, kib),
            Event::Used(container, ms) => self.note_cpu(container, ms, now),
            _ => self.scrape(),
        }
    }

    /// A backend has measured the memory of a container.
    fn note_memory(&mut self, container: ContainerId, kib: u32) {
        self.metrics.held.insert(container, kib);
    }

    /// It has measured its CPU time as well: that is a sample, where its kubelet can be asked and
    /// somebody wants to know.
    fn note_cpu(&mut self, id: ContainerId, ms: u32, now: Time) {
        let (held, view) = (self.metrics.held.remove(&id), self.api.store.view());
        let (Some(kib), Some(pod)) = (held, view.pods().get(id.pod)) else {
            return;
        };
        let node = pod.node_name.as_ref().and_then(|n| self.node_ids.get(n));
        let machine = node.and_then(|node| self.machines.get(*node as usize)?.as_ref());
        let namespace = &pod.meta.namespace;
        let wanted = machine.is_some_and(super::machine::Machine::listening)
            && self.autoscaled().any(|of| of == namespace);
        let Some(container) = container_of(&pod.spec, id.index).filter(|_| wanted) else {
            return;
        };
        let status = &pod.status;
        let mut all = status.init_containers.iter().chain(&status.containers);
        let found = all.find(|status| status.name == container.name);
        let Some(ContainerState::Running { since }) = found.map(|status| &status.state) else {
            return;
        };
        let point = Point {
            started: *since,
            at: now,
            cpu: Duration::from_millis(u64::from(ms)),
            memory: u64::from(kib) << 10,
        };
        let name = container.name.clone();
        let key = (namespace.clone(), pod.meta.name.clone());
        self.metrics
            .seen
            .entry(key)
            .or_default()
            .insert(name, point);
    }

    /// The metrics server asks the kubelets.
    fn scrape(&mut self) {
        let seen = std::mem::take(&mut self.metrics.seen);
        self.metrics.store(seen);
        self.manager.view.pod_metrics = Some(Arc::new(self.metrics.metrics()));
    }

    /// What keeps autoscalers from knowing the initial workloads: those that were never synced,
    /// `horizontalpodautoscaler/ns/name`, and pods of their namespaces that serve without a sample
    /// that was taken since, `metrics of pod/ns/name`.
    pub(super) fn not_autoscaled(&self) -> Vec<String> {
        let view = self.api.store.view();
        let all = view.of::<HorizontalPodAutoscaler>().iter();
        let new = all.filter(|(_, autoscaler)| autoscaler.status.conditions.is_empty());
        let new = new.map(|(_, autoscaler)| {
            format!("horizontalpodautoscaler/{}", autoscaler.meta.full_name())
        });
        let mut missing: Vec<String> = new.collect();
        let Some(metrics) = &self.manager.view.pod_metrics else {
            return missing;
        };
        let namespaces: BTreeSet<&Text> = self.autoscaled().collect();
        let pods = namespaces
            .into_iter()
            .flat_map(|ns| view.pods().in_namespace(ns));
        for (_, pod) in pods.filter(|(_, pod)| pod.status.ready()) {
            let key = (pod.meta.namespace.clone(), pod.meta.name.clone());
            let conditions = pod.status.conditions.iter();
            let mut ready = conditions.filter(|c| c.kind == PodConditionKind::Ready);
            let since = ready.next().map_or(Time::ZERO, |ready| ready.since);
            let known = metrics.get(&key).is_some_and(|metrics| {
                // As the autoscaler compares them.
                recorded(metrics.timestamp) >= recorded(since) + metrics.window
            });
            if !known {
                missing.push(format!("metrics of pod/{}", pod.meta.full_name()));
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scrapes of one container, `started at cpu-ms`, each in seconds; what the API then tells.
    fn told(scrapes: &[(u64, u64, u64)]) -> Vec<Option<(u64, u64)>> {
        let mut server = MetricsServer::default();
        let pod = (Text::from("default"), Text::from("web"));
        let one = |&(started, at, cpu): &(u64, u64, u64)| {
            let point = Point {
                started: Time::from_secs(started),
                at: Time::from_secs(at),
                cpu: Duration::from_millis(cpu),
                memory: 1 << 20,
            };
            let containers = BTreeMap::from([(Text::from("c"), point)]);
            server.store(Batch::from([(pod.clone(), containers)]));
            let metrics = server.metrics();
            let found = metrics.get(&pod)?;
            Some((
                found.window.as_secs(),
                found.containers[0].cpu_nanos / 1_000_000,
            ))
        };
        scrapes.iter().map(one).collect()
    }

    /// `pkg/storage/pod_test.go`.
    #[test]
    fn usage_is_the_mean_between_two_samples_of_the_same_container() {
        // Two samples 15 s apart: 3 s of CPU in 15 s are 200m.
        assert_eq!(
            told(&[(0, 100, 5_000), (0, 115, 8_000)]),
            [None, Some((15, 200))]
        );
        // 12 s after its start one sample is enough: 6 s in 12 s.
        assert_eq!(told(&[(100, 112, 6_000)]), [Some((12, 500))]);
        // 9 s are too few, and 16 s too many.
        assert_eq!(
            told(&[(100, 109, 6_000), (100, 124, 9_000)]),
            [None, Some((15, 200))]
        );
        assert_eq!(told(&[(100, 116, 6_000)]), [None]);
        // It was started again in between.
        assert_eq!(
            told(&[(0, 100, 5_000), (110, 115, 1_000), (110, 130, 2_500)]),
            [None, None, Some((15, 100))]
        );
    }

    #[test]
    fn a_pod_with_a_container_that_is_too_new_is_not_told_of() {
        let point = |started, at| Point {
            started: Time::from_secs(started),
            at: Time::from_secs(at),
            cpu: Duration::ZERO,
            memory: 0,
        };
        let pod = (Text::from("default"), Text::from("web"));
        let batch = |at, side| {
            let containers = [
                ("app".into(), point(0, at)),
                ("side".into(), point(side, at)),
            ];
            Batch::from([(pod.clone(), BTreeMap::from(containers))])
        };
        let mut server = MetricsServer::default();
        server.store(batch(100, 0));
        server.store(batch(115, 0));
        assert_eq!(server.metrics().len(), 1);
        server.store(batch(130, 125));
        assert_eq!(server.metrics().len(), 0);
        server.store(batch(145, 125));
        assert_eq!(server.metrics().len(), 1);
        // A node that is not reached is no longer told of at all.
        server.store(Batch::new());
        assert_eq!(server.metrics().len(), 0);
    }
}
