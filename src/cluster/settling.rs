//! The time before the run's own: until the initial workloads serve.
//!
//! They are looked at every second, for at most [`PATIENCE`]. Where that is time that somebody sits
//! through (runs on real processes, and what they are compared with), the wait ends earlier when
//! nothing is to be expected any more: for [`Settling::stall`] nothing has become better, and every pod
//! that is not ready cannot be scheduled or has crashed again and again. What is missing is noted, and the
//! run begins all the same. A pod that runs and is not ready yet is waited for: it may be starting.

use std::time::Duration;

use super::dispatch::Consequences;
use super::{Cluster, Containers, Event, Note, Request};
use crate::api::pod_status::{ContainerState, ContainerStatus, PodConditionKind, Truth};
use crate::api::{
    DaemonSet, Deployment, EndpointSlice, Pod, ReplicaSet, Service, StatefulSet, Text,
};
use crate::engine::Time;

/// How long the initial workloads get to become ready before the run begins all the same.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// How often they are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How the wait goes.
#[derive(Clone, Debug)]
pub struct Settling {
    /// Somebody sits through it.
    pub impatient: bool,
    /// For so long nothing must have become better before the wait is in vain: a minute, unless
    /// whoever runs the cluster says otherwise before its first event.
    pub stall: Duration,
    /// A container has crashed again and again after so many restarts: 4, after which the back-off is
    /// 80 s.
    pub restarts: u32,
    /// What was missing at the last look,
    missing: Vec<String>,
    /// and since when.
    since: Time,
}

impl Default for Settling {
    fn default() -> Self {
        Settling {
            impatient: false,
            stall: Duration::from_secs(60),
            restarts: 4,
            missing: Vec::new(),
            since: Time::ZERO,
        }
    }
}

/// A pod that keeps a run from beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// Namespace and name.
    pub pod: String,
    /// What is in its way.
    pub why: String,
    /// It will not become ready by itself, as far as can be seen.
    pub hopeless: bool,
}

impl Cluster {
    /// Looks at the initial workloads; when they serve, the run's own time begins.
    pub(super) fn settle_down(&mut self, turn: Consequences<'_, '_>) {
        let missing = self.not_ready();
        let wait = turn.now < Time::ZERO + PATIENCE && !self.hopeless(&missing, turn.now);
        if !missing.is_empty() && wait {
            turn.after(LOOK, Event::Settle);
            return;
        }
        let epoch = turn.now;
        self.timeline.epoch = Some(epoch);
        self.webhooks.begin();
        self.timeline
            .notes
            .push(Note::Settled { at: epoch, missing });
        for (index, step) in (0u32..).zip(&self.timeline.steps) {
            turn.at(epoch + step.at, Event::Step(index));
        }
        for traffic in std::mem::take(&mut self.traffic) {
            if self.containers == Containers::Simulated {
                self.data.add_traffic(&traffic, epoch, &mut self.data_out);
                continue;
            }
            self.data.add_told_traffic(&traffic);
            let traffic = Box::new(traffic);
            turn.request(Request::Traffic { traffic, epoch });
        }
        self.start_feeds(turn);
        self.drain_data(turn);
    }

    /// Whether more waiting is in vain.
    fn hopeless(&mut self, missing: &[String], now: Time) -> bool {
        let settling = &mut self.timeline.settling;
        if !settling.impatient {
            return false;
        }
        if settling.missing != missing {
            settling.missing = missing.to_vec();
            settling.since = now;
        }
        if now.since(settling.since) < settling.stall {
            return false;
        }
        let pods = self.awaited();
        let others = self.not_routed().len() + self.not_autoscaled().len();
        others == 0 && !pods.is_empty() && pods.iter().all(|pod| pod.hopeless)
    }

    /// The pods that are not ready, and why.
    pub fn awaited(&self) -> Vec<Awaited> {
        let pods = self.api.store.view().pods();
        let late = pods.iter().filter(|(_, pod)| {
            !pod.status.ready() && !pod.status.phase.terminal() && !pod.meta.deleting()
        });
        let restarts = self.timeline.settling.restarts;
        late.map(|(_, pod)| awaited(pod, restarts)).collect()
    }

    /// Workloads that do not serve as they should, `deployment/ns/name 1/3`.
    pub fn not_ready(&self) -> Vec<String> {
        let view = self.api.store.view();
        let mut missing = Vec::new();
        for (_, d) in view.of::<Deployment>().iter() {
            let done = d.status.observed_generation >= d.meta.generation
                && d.status.available >= d.replicas
                && d.status.updated >= d.replicas;
            if !done && !d.paused {
                missing.push(format!(
                    "deployment/{} {}/{}",
                    d.meta.full_name(),
                    d.status.available,
                    d.replicas
                ));
            }
        }
        for (_, rs) in view.of::<ReplicaSet>().iter() {
            if rs.meta.controller().is_none() && rs.status.available < rs.replicas {
                missing.push(format!("replicaset/{}", rs.meta.full_name()));
            }
        }
        for (_, set) in view.of::<StatefulSet>().iter() {
            let status = &set.status;
            let done = status.observed_generation >= set.meta.generation
                && status.available >= set.replicas;
            if !done {
                let name = set.meta.full_name();
                let counts = format!("{}/{}", status.available, set.replicas);
                missing.push(format!("statefulset/{name} {counts}"));
            }
        }
        for (_, set) in view.of::<DaemonSet>().iter() {
            let status = &set.status;
            let done = status.observed_generation >= set.meta.generation
                && status.available >= status.desired;
            if !done {
                let name = set.meta.full_name();
                let counts = format!("{}/{}", status.available, status.desired);
                missing.push(format!("daemonset/{name} {counts}"));
            }
        }
        for (_, pod) in view.of::<Pod>().iter() {
            let bare = pod.meta.controller().is_none();
            if bare && !pod.status.ready() && !pod.status.phase.terminal() {
                missing.push(format!("pod/{}", pod.meta.full_name()));
            }
        }
        missing.extend(self.not_routed());
        missing.extend(self.not_autoscaled());
        missing
    }

    /// Services whose EndpointSlices do not show all their ready pods yet.
    fn not_routed(&self) -> Vec<String> {
        let view = self.api.store.view();
        let mut missing = Vec::new();
        for (_, service) in view.of::<Service>().iter() {
            if service.selector.is_empty() {
                continue;
            }
            let namespace = &service.meta.namespace;
            let selected = |pod: &Pod| {
                let labels = &pod.meta.labels;
                let matches = |(key, value): (&Text, &Text)| labels.get(key) == Some(value);
                service.selector.iter().all(matches)
            };
            let pods = view.pods().in_namespace(namespace);
            let ready = pods
                .filter(|(_, pod)| pod.status.ready() && !pod.meta.deleting() && selected(pod))
                .count();
            let slices = view.of::<EndpointSlice>().in_namespace(namespace);
            let shown: usize = slices
                .filter(|(_, slice)| slice.service_name() == Some(&service.meta.name))
                .map(|(_, slice)| slice.endpoints.iter().filter(|e| e.ready).count())
                .sum();
            if shown < ready {
                missing.push(format!(
                    "service/{} {shown}/{ready}",
                    service.meta.full_name()
                ));
            }
        }
        missing
    }
}

fn awaited(pod: &Pod, restarts: u32) -> Awaited {
    let status = &pod.status;
    let (why, hopeless) = match status.condition(&PodConditionKind::PodScheduled) {
        _ if pod.node_name.is_some() => {
            let all = status.init_containers.iter().chain(&status.containers);
            let mut late = all
                .filter(|c| !c.ready)
                .map(|c| in_the_way(c, restarts))
                .peekable();
            match late.peek() {
                None => ("no container has been started yet".to_owned(), false),
                Some(_) => worst(late),
            }
        }
        Some(condition) if condition.status == Truth::False => {
            let message = condition.message.as_ref().map_or("", Text::as_str);
            let reason = condition.reason.as_ref().map_or("", Text::as_str);
            (message.to_owned(), reason == "Unschedulable")
        }
        _ => ("not scheduled yet".to_owned(), false),
    };
    Awaited {
        pod: pod.meta.full_name().to_string(),
        why,
        hopeless,
    }
}

/// What is hopeless first, otherwise what comes first.
fn worst(all: impl Iterator<Item = (String, bool)>) -> (String, bool) {
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(_, hopeless)| !hopeless);
    all.swap_remove(0)
}

/// What a container waits for, and whether in vain.
fn in_the_way(container: &ContainerStatus, many: u32) -> (String, bool) {
    let name = &container.name;
    let restarts = container.restarts;
    let last = container.last.as_ref().map_or(String::new(), |last| {
        let (code, reason) = (last.exit_code, last.reason.as_str());
        format!(", restarted {restarts} times, last exit code {code} ({reason})")
    });
    let crashes = restarts >= many;
    match &container.state {
        ContainerState::Waiting { reason, message } => {
            let more = message.as_ref().map_or(String::new(), |m| format!(": {m}"));
            let back_off = reason.as_str() == "CrashLoopBackOff";
            let more = if back_off { last } else { more };
            (
                format!("container {name}: {reason}{more}"),
                back_off && crashes,
            )
        }
        // This time it may come up.
        ContainerState::Running { .. } => (
            format!("container {name} runs and is not ready{last}"),
            false,
        ),
        ContainerState::Terminated(end) => {
            let (code, reason) = (end.exit_code, end.reason.as_str());
            let text =
                format!("container {name} ended with {code} ({reason}), {restarts} restarts");
            (text, crashes && code != 0)
        }
    }
}
