//! From a decision to a binding, and from a preemption to deleted victims: the writes that follow a
//! cycle, and what their replies mean.

use super::volumes::VolumeWait;
use super::{Event, Failure, Preempting, Scheduler};
use crate::api::pod_status::{PodCondition, PodConditionKind, Truth};
use crate::api::{Pod, Text};
use crate::client::{Outbox, Reply};
use crate::engine::Time;
use crate::sched::cache::NodeIx;
use crate::sched::config::Point;
use crate::sched::events::{ASSIGNED_POD_DELETE, Involved};
use crate::sched::framework::Framework;
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{CycleState, PluginName, PodEntry};
use crate::sched::plugins::volume_binding::PodVolumes;
use crate::sched::preempt::BY_SCHEDULER;
use crate::sched::queue::QueuedPod;
use crate::store::{ApiError, Id, Patch, Propagation, View, Write};

/// A request whose reply matters.
#[derive(Clone, Debug)]
pub(super) enum Pending {
    /// A pod's binding.
    Bind { queued: QueuedPod, node: Text },
    /// A volume or claim of a pod that waits for its volumes.
    Volume { pod: u32, wait: u64 },
    /// The condition of a victim of this preemptor, or its deletion.
    Victim {
        preemptor: u32,
        victim: PodEntry,
        delete: bool,
    },
}

/// What PreBind of VolumeBinding comes to.
enum PreBind {
    /// Volumes are written and waited for.
    Volumes,
    /// There is nothing to do, or nobody who does it.
    Nothing,
    /// It fails; `POD` stands for the pod.
    Fails(String),
}

/// Reserve and PreBindPreFlight of VolumeBinding: the volumes that are assumed, and what comes
/// next. A profile that has some of its extension points and not others gets what upstream makes of
/// that: what Filter left is missing, or was never assumed.
fn reserve(
    framework: &Framework,
    state: &CycleState,
    view: &View,
    node: &NodeInfo,
) -> Result<(PodVolumes, PreBind), String> {
    let runs = |point| framework.runs(PluginName::VolumeBinding, point);
    let (pre_filter, filter) = (runs(Point::PreFilter), runs(Point::Filter));
    let (reserve, pre_bind) = (runs(Point::Reserve), runs(Point::PreBind));
    if !pre_filter && reserve {
        return Err("running Reserve plugin \"VolumeBinding\": not found".to_owned());
    }
    let flight = |why: &str| {
        let why = format!("running PreBindPreFlight \"VolumeBinding\": {why}");
        PreBind::Fails(why)
    };
    if !pre_filter && pre_bind {
        return Ok((PodVolumes::default(), flight("not found")));
    }
    let claims = state.volume_claims.as_ref().filter(|_| filter);
    let found = claims.map(|claims| claims.find(view, node.row()));
    let found = found.transpose().map_err(|status| status.message())?;
    if reserve {
        let volumes = found.unwrap_or_default();
        let next = match pre_bind && !volumes.is_empty() {
            true => PreBind::Volumes,
            false => PreBind::Nothing,
        };
        return Ok((volumes, next));
    }
    if !pre_bind {
        return Ok((PodVolumes::default(), PreBind::Nothing));
    }
    let next = match found {
        None => {
            let why = format!("no pod volume found for node \"{}\"", node.name);
            flight(&why)
        }
        Some(found) => {
            let what = match found.bindings.first() {
                None => "failed to get cached bindings for pod \"POD\"".to_owned(),
                Some(_) if found.provisions.is_empty() => {
                    "failed to get cached claims to provision for pod \"POD\"".to_owned()
                }
                Some((volume, _)) => {
                    let name = &volume.meta.name;
                    format!("binding volumes: ClaimRef got reset for pv \"{name}\"")
                }
            };
            PreBind::Fails(format!("running PreBind plugin \"VolumeBinding\": {what}"))
        }
    };
    Ok((PodVolumes::default(), next))
}

impl Scheduler {
    /// `assumeAndReserve`, then the binding cycle up to its first request.
    #[expect(clippy::too_many_arguments, reason = "everything that a cycle knows")]
    pub(super) fn assume(
        &mut self,
        profile: usize,
        queued: QueuedPod,
        state: &CycleState,
        ix: NodeIx,
        view: &View,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        let framework = &self.frameworks[profile];
        let info = self.cache.node(ix);
        let (volumes, pre_bind) = match reserve(framework, state, view, info) {
            Ok(reserved) => reserved,
            Err(why) => {
                self.fail(queued, Failure::error(why), view, now, out);
                return;
            }
        };
        let node = info.name.clone();
        let mut entry = queued.entry.clone();
        entry.devices = framework.devices(&entry, info);
        self.nominator.remove(entry.id);
        self.cache.add_pod_at(entry, ix, true);
        match pre_bind {
            PreBind::Volumes => {
                self.bind_volumes(queued, node, volumes, view, now, out);
            }
            PreBind::Nothing => {
                self.cache.assume_volumes(&volumes, Some(&node));
                self.bind(queued, node, now, out);
            }
            PreBind::Fails(why) => {
                let why = why.replace("POD", &queued.entry.pod.meta.full_name());
                self.unbind(queued, why, view, now, out);
            }
        }
    }

    /// DefaultBinder.
    pub(super) fn bind(
        &mut self,
        queued: QueuedPod,
        node: Text,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        let write = Write::Bind {
            pod: Id::new(queued.entry.id),
            uid: queued.entry.pod.meta.uid,
            node: node.clone(),
        };
        let pending = Pending::Bind { queued, node };
        self.send(write, "best node", Some(pending), now, out);
    }

    /// The answer to one of its requests.
    pub fn on_reply(
        &mut self,
        token: u64,
        reply: &Reply,
        view: &View,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        match self.pending.remove(&token) {
            None => return,
            Some(Pending::Bind { queued, node }) => match reply {
                Ok(_) => {
                    let pod = &queued.entry.pod;
                    let name = pod.meta.full_name();
                    let message = ["Successfully assigned ", &name, " to ", &node].concat();
                    self.report(pod, "Scheduled", message, false, now, out);
                }
                Err(error) => {
                    let message = format!("running Bind plugin \"DefaultBinder\": {error}");
                    self.unbind(queued, message, view, now, out);
                }
            },
            Some(Pending::Volume { pod, wait }) => {
                self.volume_written((pod, wait), reply, view, now, out);
            }
            Some(Pending::Victim {
                preemptor,
                victim,
                delete,
            }) => self.victim_replied(preemptor, victim, delete, reply, view, now, out),
        }
        self.wake(now, out);
    }

    /// `handleBindingCycleError`: the place becomes free again, and the pod is tried again.
    pub(super) fn unbind(
        &mut self,
        queued: QueuedPod,
        message: String,
        view: &View,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        let id = queued.entry.id;
        if self.cache.assumed(id) {
            self.cache.remove_pod(id);
            let mut pod = Pod::clone(&queued.entry.pod);
            pod.node_name = Some(Text::default());
            let gone = Involved::Pod(Some(&pod), None);
            self.move_all(ASSIGNED_POD_DELETE, &gone, None, view, now);
        }
        self.fail(queued, Failure::error(message), view, now, out);
    }

    /// `prepareCandidateAsync`: nominations of lower priority on the node end, the victims are
    /// deleted, the last one after all others.
    pub(super) fn delete_victims(
        &mut self,
        preemptor: &PodEntry,
        node: &Text,
        victims: Vec<PodEntry>,
        view: &View,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        let mut victims: Vec<PodEntry> = victims
            .into_iter()
            .filter(|v| !v.pod.meta.deleting())
            .collect();
        let Some(last) = victims.pop() else {
            return;
        };
        let lower = |p: &&PodEntry| p.pod.spec.priority < preemptor.pod.spec.priority;
        let nominated: Vec<PodEntry> = self
            .nominator
            .on(node)
            .iter()
            .filter(lower)
            .cloned()
            .collect();
        for pod in nominated {
            if pod.pod.status.nominated_node.is_some() {
                let patch = Patch::Scheduling {
                    condition: None,
                    nominate: Some(Text::default()),
                };
                let write = Write::Patch {
                    object: Id::<Pod>::new(pod.id).into(),
                    uid: Some(pod.pod.meta.uid),
                    patch,
                };
                self.send(write, "room given to a higher priority", None, now, out);
            }
        }
        let state = Preempting {
            scheduler: preemptor.pod.spec.scheduler_name.clone(),
            uid: preemptor.pod.meta.uid,
            node: node.clone(),
            remaining: victims.len(),
            last: last.clone(),
            last_sent: victims.is_empty(),
            failed: false,
        };
        self.preempting.insert(preemptor.id, state);
        if victims.is_empty() {
            self.preempt_pod(preemptor.id, last, view, now, out);
        }
        for victim in victims {
            self.preempt_pod(preemptor.id, victim, view, now, out);
        }
    }

    /// `PreemptPod`: first the condition, then the deletion.
    fn preempt_pod(
        &mut self,
        preemptor: u32,
        victim: PodEntry,
        view: &View,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        if let Some(wait) = self.volume_waits.remove(victim.id) {
            self.cancel(preemptor, wait, victim, view, now, out);
            return;
        }
        let Some(preempting) = self.preempting.get(&preemptor) else {
            return;
        };
        let message = format!(
            "{}: preempting to accommodate a higher priority pod",
            preempting.scheduler
        );
        let condition = PodCondition {
            kind: PodConditionKind::DisruptionTarget,
            status: Truth::True,
            since: now,
            reason: Some(BY_SCHEDULER.into()),
            message: Some(Text::from(message)),
            observed_generation: victim.pod.meta.generation,
        };
        let row = view.pods().get(Id::new(victim.id));
        let mut status = row.unwrap_or(&victim.pod).status.clone();
        if !status.set_condition(condition.clone()) {
            self.delete_victim(preemptor, victim, now, out);
            return;
        }
        let write = Write::Patch {
            object: Id::<Pod>::new(victim.id).into(),
            uid: Some(victim.pod.meta.uid),
            patch: Patch::Scheduling {
                condition: Some(condition),
                nominate: None,
            },
        };
        let pending = Pending::Victim {
            preemptor,
            victim,
            delete: false,
        };
        self.send(write, "preemption", Some(pending), now, out);
    }

    /// A victim in PreBind is not deleted: its binding ends, and it is tried again
    /// (`podInPreBind.CancelPod`).
    fn cancel(
        &mut self,
        preemptor: u32,
        wait: VolumeWait,
        victim: PodEntry,
        view: &View,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        self.cache.assume_volumes(&wait.volumes, None);
        if let Some(preempting) = self.preempting.get(&preemptor) {
            let (uid, node) = (preempting.uid, preempting.node.clone());
            let message =
                format!("Preempted by pod {uid} on node {node} (in kube-scheduler memory).");
            self.report(&victim.pod, "Preempted", message, false, now, out);
        }
        self.victim_done(preemptor, &victim, view, now, out);
        // The binding ends on its own, and its end wakes the preemptor.
        let message = "running PreBind plugin \"VolumeBinding\": binding volumes: preempted by \
                       DefaultPreemption";
        self.unbind(wait.queued, message.into(), view, now, out);
    }

    fn delete_victim(
        &mut self,
        preemptor: u32,
        victim: PodEntry,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        let write = Write::Delete {
            object: Id::<Pod>::new(victim.id).into(),
            uid: Some(victim.pod.meta.uid),
            grace_s: None,
            propagation: Propagation::Background,
        };
        let pending = Pending::Victim {
            preemptor,
            victim,
            delete: true,
        };
        self.send(write, "preemption", Some(pending), now, out);
    }

    #[expect(clippy::too_many_arguments, reason = "a reply with its circumstances")]
    fn victim_replied(
        &mut self,
        preemptor: u32,
        victim: PodEntry,
        deleted: bool,
        reply: &Reply,
        view: &View,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        let Some(preempting) = self.preempting.get_mut(&preemptor) else {
            return;
        };
        match reply {
            Ok(_) if !deleted => {
                self.delete_victim(preemptor, victim, now, out);
                return;
            }
            Ok(_) => {
                let (uid, node) = (preempting.uid, preempting.node.clone());
                let message = format!("Preempted by pod {uid} on node {node}");
                self.report(&victim.pod, "Preempted", message, false, now, out);
            }
            // It is gone already: that is what was wanted.
            Err(ApiError::NotFound(_)) => {}
            Err(_) => preempting.failed = true,
        }
        self.victim_done(preemptor, &victim, view, now, out);
    }

    fn victim_done(
        &mut self,
        preemptor: u32,
        victim: &PodEntry,
        view: &View,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        let Some(preempting) = self.preempting.get_mut(&preemptor) else {
            return;
        };
        let is_last = preempting.last.id == victim.id;
        if !is_last {
            preempting.remaining -= 1;
            if preempting.remaining > 0 {
                return;
            }
            if !preempting.failed {
                preempting.last_sent = true;
                let last = preempting.last.clone();
                self.preempt_pod(preemptor, last, view, now, out);
                return;
            }
        }
        let failed = preempting.failed;
        self.preempting.remove(&preemptor);
        if failed {
            // The preemption came to nothing: the pod is tried again at once.
            let gate = super::Doors {
                frameworks: &self.frameworks,
                preempting: &self.preempting,
                view,
            };
            self.queue.force(preemptor, &gate);
        }
    }
}
