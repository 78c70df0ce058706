//! The kubelet of one node: its API towards the composition root, and who hears what.
//!
//! There may be thousands of kubelets in a run: an idle one is a few hundred bytes and two timers,
//! its lease and its node status. Everything about one pod is in its pod worker; everything
//! node-wide is in [`Host`]. A process that stops forgets all but what the runtime would tell again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::admission::{self, Rejection};
use super::conditions;
use super::config::KubeletConfig;
use super::host::{Cx, Host};
use super::pod_map::PodMap;
use super::pod_worker::{End, PodWorker, Work};
use super::record::{Record, Sandbox};
use super::rounds::Rounds;
use super::runtime::{ContainerId, ProbeKind, RuntimeEvent, container_of};
use crate::api::{Node, Pod, Row};
use crate::engine::Time;
use crate::store::write::Trigger;
use crate::store::{Change, Id, Op};

/// What a kubelet asks to be woken for. A timer that was overtaken by events finds nothing due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Event {
    /// The runtime is listed (`genericPlegRelistPeriod`).
    Relist,
    /// Statuses are compared and sent again (`status_manager.go :: syncPeriod`).
    StatusBatch,
    /// The lease is due.
    Lease,
    /// The node's status is due, or its registration.
    NodeStatus,
    /// Memory and disk are to be measured.
    Memory,
    /// Pods that the API server does not have are cleaned up (`housekeepingPeriod`).
    Housekeeping,
    /// A pod's entry in the work queue is due, or its active deadline.
    Wake {
        /// The pod.
        pod: Id<Pod>,
    },
    /// What a pod's sync waits for is due.
    Step {
        /// The pod.
        pod: Id<Pod>,
    },
    /// A stage of stopping a container is over.
    Kill {
        /// The pod.
        pod: Id<Pod>,
        /// The container.
        index: u16,
    },
    /// A probe's ticker fires.
    Probe {
        /// The pod.
        pod: Id<Pod>,
        /// The container.
        index: u16,
        /// The probe.
        which: ProbeKind,
    },
    /// A probe has taken too long.
    ProbeTimeout {
        /// The pod.
        pod: Id<Pod>,
        /// The container.
        index: u16,
        /// The probe.
        which: ProbeKind,
    },
    /// The time of pods that end with the node is over.
    Shutdown,
    /// An answer is there of which nobody was told, and something waits for it.
    Told,
}

const _: () = assert!(size_of::<Event>() == 8);

/// What a kubelet's watch says of a change of a pod: thousands of kubelets have some on their way, so
/// it is no more than they need.
#[derive(Clone, Debug)]
pub struct PodChange {
    /// The revision of the change.
    pub revision: u64,
    /// Whose.
    pub pod: Id<Pod>,
    /// What happened.
    pub op: Op,
    /// The pod after it; of a deletion, its last state.
    pub row: Arc<Pod>,
}

impl PodChange {
    /// What a change of the log says, if it is one of a pod.
    pub fn of(change: &Change) -> Option<PodChange> {
        let (Some(object), Some(Row::Pod(row))) = (change.object, &change.new) else {
            return None;
        };
        Some(PodChange {
            revision: change.revision,
            pod: object.typed()?,
            op: change.op,
            row: row.clone(),
        })
    }
}

/// How a kubelet comes to life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// It has been up since long before the run began: its loops are somewhere in their periods.
    Established,
    /// The process starts again; containers have gone on running and are taken over.
    Restart,
    /// The machine starts, for the first time or again: no container runs.
    Reboot,
}

/// `kubelet.go :: housekeepingPeriod`.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// The kubelet of one node.
///
/// Every write that it sends is to be answered by [`Kubelet::on_reply`] while the process lives, by
/// [`ApiError::Unreachable`](crate::store::ApiError::Unreachable) when nothing better comes: it
/// sends one status at a time. [`Kubelet::taken`] says which answers it can do without.
#[derive(Debug)]
pub struct Kubelet {
    pub(super) host: Host,
    pub(super) pods: PodMap,
    pub(super) rounds: Rounds,
    pub(super) up: bool,
}

impl Kubelet {
    /// The kubelet of machine `node`, whose labels, capacity and taints are those of `row`; it does
    /// nothing until [`Kubelet::start`].
    pub fn new(node: Id<Node>, row: Arc<Node>, config: Arc<KubeletConfig>) -> Kubelet {
        Kubelet {
            host: Host::new(node, row, config),
            pods: PodMap::default(),
            rounds: Rounds::default(),
            up: false,
        }
    }

    /// The process starts. `pods` are those bound to the node, as listed from the API server.
    pub fn start(&mut self, boot: Boot, pods: &[(Id<Pod>, Arc<Pod>)], cx: &mut Cx<'_>) {
        self.stop();
        self.up = true;
        self.host.trigger = Trigger::Start;
        self.host.begin(cx, boot == Boot::Established);
        if boot == Boot::Reboot {
            self.host.free_all_addresses();
            for pod in self.pods.values_mut() {
                pod.record.power_off(cx.now);
            }
        }
        for pod in self.pods.values_mut() {
            pod.in_config = false;
            // Only a running sandbox has an address (`determinePodSandboxIPs`); what an earlier
            // life knew of those that have ended is lost (`pleg/generic.go :: getPodIPs`).
            if pod.record.sandbox != Sandbox::Ready {
                pod.record.ip = None;
            }
        }
        if boot != Boot::Established {
            let message = "Starting kubelet.".into();
            self.host.tell_node(cx, false, "Starting", message);
        }
        self.host.start_node_status(cx);
        self.host.start_lease(cx);
        self.host.start_watching(cx);
        let mut listed: Vec<_> = pods.iter().collect();
        listed.sort_by_key(|(id, row)| (row.meta.created, *id));
        for (id, row) in listed {
            self.add(*id, row.clone(), cx);
        }
        self.pods
            .retain(|pod| pod.in_config || pod.record.any_running());
        self.note_all();
        if self.pods.values().any(|pod| !pod.in_config) {
            cx.out.at(cx.now + HOUSEKEEPING, Event::Housekeeping);
        }
        self.flush(cx);
    }

    /// The process dies: all but the runtime's own records is forgotten. Containers go on running.
    pub fn stop(&mut self) {
        self.up = false;
        // Nobody is there to hear it.
        self.host.answered = Time::MAX;
        for pod in self.pods.values_mut() {
            let record = std::mem::take(&mut pod.record);
            *pod = PodWorker::new(pod.id, pod.row.clone(), record);
        }
        self.note_all();
    }

    /// The pods that the API server has for this node, as last heard.
    pub fn configured(&self) -> impl Iterator<Item = (Id<Pod>, &Arc<Pod>)> {
        let pods = self.pods.values().filter(|pod| pod.in_config);
        pods.map(|pod| (pod.id, &pod.row))
    }

    /// Whether the process runs.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// The containers that run on the node according to its runtime, whatever the API shows.
    pub fn running(&self) -> impl Iterator<Item = ContainerId> {
        self.pods.values().flat_map(|pod| {
            let slots = (0u16..).zip(&pod.record.containers);
            slots.filter_map(|(index, slot)| {
                let attempt = slot.current.filter(|c| c.running())?.number;
                Some(ContainerId {
                    pod: pod.id,
                    index,
                    attempt,
                })
            })
        })
    }

    /// The watch of the node's pods had to begin anew: `pods` are those bound to it now.
    pub fn relisted(&mut self, pods: &[(Id<Pod>, Arc<Pod>)], cx: &mut Cx<'_>) {
        if !self.up {
            return;
        }
        self.host.trigger = Trigger::Timer;
        self.hear_answer(cx);
        let listed: BTreeSet<Id<Pod>> = pods.iter().map(|(id, _)| *id).collect();
        let gone: Vec<(Id<Pod>, Arc<Pod>)> = self
            .pods
            .values()
            .filter(|pod| pod.in_config && !listed.contains(&pod.id))
            .map(|pod| (pod.id, pod.row.clone()))
            .collect();
        for (id, row) in gone {
            self.remove(id, row, cx);
        }
        for (id, row) in pods {
            if self.pods.get(id).is_some_and(|pod| pod.in_config) {
                self.change(*id, row.clone(), cx);
            } else {
                self.add(*id, row.clone(), cx);
            }
        }
        self.flush(cx);
    }

    /// A change of a pod that is, or was, bound to this node.
    pub fn on_pod(&mut self, change: PodChange, cx: &mut Cx<'_>) {
        let PodChange {
            revision,
            pod: id,
            op,
            row,
        } = change;
        if !self.up {
            return;
        }
        self.host.trigger = Trigger::Change(revision);
        self.hear_answer(cx);
        let known = self.pods.get(&id).is_some_and(|pod| pod.in_config);
        match (op, known) {
            (Op::Delete, true) => self.remove(id, row, cx),
            (Op::Delete, false) => {}
            (_, true) => self.change(id, row, cx),
            (_, false) if row.node_name.as_ref() == Some(&self.host.row.meta.name) => {
                self.add(id, row, cx);
            }
            (_, false) => {}
        }
        self.flush(cx);
    }

    /// A timer is due.
    pub fn on_event(&mut self, event: Event, cx: &mut Cx<'_>) {
        if !self.up {
            return;
        }
        self.host.trigger = Trigger::Timer;
        self.hear_answer(cx);
        match event {
            Event::Relist => self.relist(cx),
            Event::StatusBatch => self.batch(cx),
            Event::Lease => self.host.on_lease_due(cx),
            Event::NodeStatus => self.host.on_node_status_due(cx),
            Event::Memory => self.shortage_due(cx),
            Event::Shutdown => {}
            Event::Told => self.host.on_told(cx),
            Event::Housekeeping => self.housekeeping(cx),
            Event::Wake { pod } => self.with(pod, cx, PodWorker::on_wake),
            Event::Step { pod } => self.with(pod, cx, PodWorker::on_step),
            Event::Kill { pod, index } => {
                self.with(pod, cx, |pod, host, cx| pod.on_kill_timer(host, cx, index));
            }
            Event::Probe { pod, index, which } => self.with(pod, cx, |pod, host, cx| {
                pod.on_probe_tick(host, cx, index, which);
            }),
            Event::ProbeTimeout { pod, index, which } => self.with(pod, cx, |pod, host, cx| {
                pod.on_probe_timeout(host, cx, index, which);
            }),
        }
        self.flush(cx);
    }

    /// The runtime answers, or tells of its own accord.
    pub fn on_runtime(&mut self, event: RuntimeEvent, cx: &mut Cx<'_>) {
        self.host.trigger = Trigger::Runtime;
        self.hear_answer(cx);
        if let RuntimeEvent::Pulled {
            container,
            outcome,
            mib,
        } = event
        {
            let row = self.pods.get(&container.pod).map(|pod| pod.row.clone());
            let image = row
                .as_ref()
                .and_then(|row| container_of(&row.spec, container.index).map(|c| &c.image));
            let took = self.host.pull_done(cx, container, image, outcome, mib);
            if let (true, Some(took)) = (self.up, took) {
                self.with(container.pod, cx, |pod, host, cx| {
                    pod.on_pulled(host, cx, container, outcome, took);
                });
            }
        } else if self.up {
            self.hear(event, cx);
        } else {
            self.record(event, cx.now);
        }
        if self.up {
            self.flush(cx);
        }
    }

    fn hear(&mut self, event: RuntimeEvent, cx: &mut Cx<'_>) {
        match event {
            RuntimeEvent::SandboxReady { pod, attempt, ok } => {
                self.with(pod, cx, |pod, host, cx| {
                    pod.on_sandbox(host, cx, attempt, ok)
                });
            }
            RuntimeEvent::Started { container, outcome } => {
                self.with(container.pod, cx, |pod, host, cx| {
                    pod.on_started(host, cx, container, outcome);
                });
            }
            RuntimeEvent::Exited {
                container,
                code,
                oom,
            } => self.with(container.pod, cx, |pod, host, cx| {
                pod.on_exited(host, cx, container, (code, oom));
            }),
            RuntimeEvent::Probed {
                container,
                which,
                n,
                outcome,
            } => self.with(container.pod, cx, |pod, host, cx| {
                pod.on_probed(host, cx, container, (which, n), outcome);
            }),
            RuntimeEvent::HookDone {
                container,
                hook,
                ok,
            } => self.with(container.pod, cx, |pod, host, cx| {
                pod.on_hook(host, cx, container, hook, ok);
            }),
            RuntimeEvent::Removed { pod } => self.with(pod, cx, PodWorker::on_removed),
            RuntimeEvent::PodMemory { pod, .. }
            | RuntimeEvent::PodDisk { pod, .. }
            | RuntimeEvent::ContainerDisk { pod, .. }
            | RuntimeEvent::VolumeDisk { pod, .. }
            | RuntimeEvent::PodFiles { pod, .. }
            | RuntimeEvent::PodProcesses { pod, .. } => {
                if let Some(pod) = self.pods.get_mut(&pod) {
                    pod.usage.get_or_insert_default().hear(event);
                }
            }
            RuntimeEvent::NodeMemory { available_kib, .. } => {
                self.measured(i64::from(available_kib) << 10, cx);
            }
            RuntimeEvent::Tight { .. } => self.host.on_tight(cx),
            RuntimeEvent::Pulled { .. } => {}
        }
    }

    fn record(&mut self, event: RuntimeEvent, now: Time) {
        if let super::About::Pod(pod) = event.about()
            && let Some(pod) = self.pods.get_mut(&pod)
        {
            let ready = pod.record.sandbox == Sandbox::Ready;
            if ready && matches!(event, RuntimeEvent::Removed { .. }) {
                self.host.free_address(pod);
            }
            pod.record.hear(event, now);
        }
    }

    /// Lets a pod's worker act, then begin what became due.
    pub(super) fn with(
        &mut self,
        pod: Id<Pod>,
        cx: &mut Cx<'_>,
        act: impl FnOnce(&mut PodWorker, &mut Host, &mut Cx<'_>),
    ) {
        let Some(worker) = self.pods.get_mut(&pod) else {
            return;
        };
        act(worker, &mut self.host, cx);
        worker.settle(&mut self.host, cx);
        if worker.work == Work::Finished && !worker.in_config {
            self.pods.remove(&pod);
            self.rounds.forget(pod);
            self.host.images.forget(pod.0);
        } else {
            self.rounds.note(worker);
        }
    }

    /// `HandlePodAdditions`.
    fn add(&mut self, id: Id<Pod>, row: Arc<Pod>, cx: &mut Cx<'_>) {
        let record = match self.pods.remove(&id) {
            Some(mut old) => {
                self.rounds.forget(id);
                std::mem::take(&mut old.record)
            }
            None => Record::new(&row.spec),
        };
        let mut worker = Box::new(PodWorker::new(id, row.clone(), record));
        match self.admit(&row, cx) {
            Err(why) => worker.reject(&mut self.host, cx, why),
            Ok(victims) if victims.is_empty() => {
                worker.update(&mut self.host, cx, None);
                worker.settle(&mut self.host, cx);
            }
            Ok(victims) => self.make_room(&mut worker, victims, cx),
        }
        self.rounds.note(&mut worker);
        self.pods.insert(id, worker);
    }

    /// Whether the node takes a pod, and the pods that have to go for it.
    fn admit(&mut self, row: &Arc<Pod>, cx: &mut Cx<'_>) -> Result<Vec<Id<Pod>>, Rejection> {
        if row.status.phase.terminal() {
            return Ok(Vec::new());
        }
        self.host.refresh_row(cx);
        let active: SmallVec<[&PodWorker; 32]> = self.active().collect();
        let others: SmallVec<[&Pod; 32]> = active.iter().map(|pod| &*pod.row).collect();
        let health = self.host.health();
        let victims = admission::admit(row, &self.host.row, &others, &health)?;
        Ok(victims.into_iter().map(|at| active[at].id).collect())
    }

    /// `filterOutInactivePods`.
    pub(super) fn active(&self) -> impl Iterator<Item = &PodWorker> {
        let active = |pod: &&PodWorker| {
            let status = pod.status().unwrap_or(&pod.row.status);
            !pod.rejected
                && pod.work < Work::Terminated
                && (pod.work == Work::Terminating || !status.phase.terminal())
        };
        self.pods.some(self.rounds.alive.iter()).filter(active)
    }

    /// `HandlePodUpdates` and `HandlePodReconcile`: which it is, is decided as by
    /// `pkg/kubelet/config/config.go :: checkAndUpdatePod`.
    fn change(&mut self, id: Id<Pod>, row: Arc<Pod>, cx: &mut Cx<'_>) {
        let Some(worker) = self.pods.get_mut(&id) else {
            return;
        };
        let old = worker.replace_row(row);
        let new = &worker.row;
        let differs = (!Arc::ptr_eq(&old.spec, &new.spec) && old.spec != new.spec)
            || old.meta.labels != new.meta.labels
            || old.meta.annotations != new.meta.annotations
            || old.meta.deletion != new.meta.deletion;
        let gates = conditions::to_reconcile(&new.spec, &new.status) && old.status != new.status;
        if worker.needs_reconcile() || (worker.finished && worker.can_be_deleted(&worker.row)) {
            self.host.arm_batch(cx);
        }
        self.rounds.note(worker);
        if differs || gates {
            self.with(id, cx, |pod, host, cx| pod.update(host, cx, None));
        }
    }

    /// `HandlePodRemoves`: the API server has forgotten the pod.
    fn remove(&mut self, id: Id<Pod>, row: Arc<Pod>, cx: &mut Cx<'_>) {
        let end = End {
            grace_s: None,
            ending: None,
        };
        self.with(id, cx, |pod, host, cx| {
            pod.replace_row(row);
            pod.in_config = false;
            if pod.rejected {
                pod.work = Work::Finished;
            }
            pod.update(host, cx, Some(end));
        });
    }
}
