//! Numbers over time: replicas of Deployments, endpoints of Services, scale steps of ReplicaSets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::causes::What;
use super::revisions::Revisions;
use crate::api::workload::Strategy;
use crate::api::{Deployment, EndpointSlice, Kind, ReplicaSet, Text};
use crate::engine::Time;
use crate::store::{Change, ObjectId, Op};

/// Status of a Deployment from this time on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaPoint {
    /// When.
    pub at: Time,
    /// `spec.replicas`.
    pub want: i32,
    /// `status.replicas`.
    pub replicas: i32,
    /// `status.readyReplicas`.
    pub ready: i32,
    /// `status.availableReplicas`.
    pub available: i32,
    /// `status.updatedReplicas`.
    pub updated: i32,
}

/// Endpoints of a Service from this time on, over all of its slices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointPoint {
    /// When.
    pub at: Time,
    /// The revision of the change that made it so.
    pub revision: u64,
    /// Ready.
    pub ready: u32,
    /// Serving (ready to serve, perhaps terminating).
    pub serving: u32,
    /// Terminating.
    pub terminating: u32,
    /// All.
    pub total: u32,
}

/// A change of a ReplicaSet's `spec.replicas`, or of the number of pods that a StatefulSet or
/// DaemonSet has of one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleStep {
    /// When.
    pub at: Time,
    /// Namespace.
    pub namespace: Text,
    /// Owning Deployment, or the StatefulSet or DaemonSet; empty for none.
    pub deployment: Text,
    /// The ReplicaSet, or the ControllerRevision.
    pub replica_set: Text,
    /// `deployment.kubernetes.io/revision`, or the number of the ControllerRevision.
    pub revision: Text,
    /// Image of the first container.
    pub image: Text,
    /// Before.
    pub from: i32,
    /// After.
    pub to: i32,
}

/// A new desired state of a Deployment (its `metadata.generation` changed), or a new template of a
/// StatefulSet or DaemonSet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecChange {
    /// When.
    pub at: Time,
    /// `namespace/name`.
    pub deployment: String,
    /// `metadata.generation`.
    pub generation: u32,
    /// `spec.replicas` before; 0 when it was created.
    pub from: i32,
    /// `spec.replicas` now.
    pub to: i32,
    /// Whether pods have to be replaced: the template changed.
    pub rollout: bool,
    /// Image of the first container.
    pub image: Text,
    /// `strategy: Recreate`.
    pub recreate: bool,
    /// How many pods may be there beyond `to`.
    pub surge: i32,
    /// How many of `to` may be unavailable.
    pub unavailable: i32,
    /// `spec.progressDeadlineSeconds`.
    pub deadline_s: i32,
    /// `spec.paused`.
    pub paused: bool,
}

/// Surge and unavailable of a rolling update: the first rounded up, the second down, and not both
/// zero (`pkg/controller/deployment/util/deployment_util.go :: ResolveFenceposts`).
fn fenceposts(strategy: &Strategy, replicas: i32) -> (i32, i32) {
    let Strategy::RollingUpdate {
        max_surge,
        max_unavailable,
    } = strategy
    else {
        return (0, replicas);
    };
    let surge = max_surge.scaled(replicas, true);
    let unavailable = max_unavailable.scaled(replicas, false);
    match (surge, unavailable) {
        (0, 0) => (0, 1),
        (surge, unavailable) => (surge, unavailable.min(replicas)),
    }
}

fn spec_change(at: Time, old: Option<&Deployment>, new: &Deployment) -> SpecChange {
    let (surge, unavailable) = fenceposts(&new.strategy, new.replicas);
    SpecChange {
        at,
        deployment: new.meta.full_name(),
        generation: new.meta.generation,
        from: old.map_or(0, |o| o.replicas),
        to: new.replicas,
        rollout: old.is_some_and(|o| o.template != new.template),
        image: (new.template.spec.containers.first())
            .map(|c| c.image.clone())
            .unwrap_or_default(),
        recreate: new.strategy == Strategy::Recreate,
        surge,
        unavailable,
        deadline_s: new.progress_deadline_s,
        paused: new.paused,
    }
}

/// Series of a run.
#[derive(Debug, Default)]
pub struct Series {
    replicas: BTreeMap<String, Vec<ReplicaPoint>>,
    slices: BTreeMap<String, BTreeMap<ObjectId, EndpointPoint>>,
    endpoints: BTreeMap<String, Vec<EndpointPoint>>,
    rollouts: Vec<ScaleStep>,
    specs: Vec<SpecChange>,
    revisions: Revisions,
}

impl Series {
    /// Replicas over time by Deployment.
    pub fn replicas(&self) -> BTreeMap<String, Vec<ReplicaPoint>> {
        self.replicas.clone()
    }

    /// Endpoints over time by Service.
    pub fn endpoints(&self) -> BTreeMap<String, Vec<EndpointPoint>> {
        self.endpoints.clone()
    }

    /// Desired states of Deployments.
    pub fn specs(&self) -> Vec<SpecChange> {
        self.specs.clone()
    }

    /// Scale steps.
    pub fn rollouts(&self) -> Vec<ScaleStep> {
        self.rollouts.clone()
    }

    /// A workload or slice changed; returns what was significant about it.
    pub fn on_change(&mut self, change: &Change) -> Vec<What> {
        match change.kind() {
            Kind::Deployment => self.deployment(change),
            Kind::ReplicaSet => self.replica_set(change),
            Kind::EndpointSlice => self.slice(change),
            _ => self.revisions.on_change(change, &mut self.specs),
        }
    }

    /// A pod came, went or changed.
    pub fn on_pod(&mut self, change: &Change) {
        self.revisions.on_pod(change, &mut self.rollouts);
    }

    fn deployment(&mut self, change: &Change) -> Vec<What> {
        let Some((old, Some(new))) = change.rows::<Deployment>() else {
            return Vec::new();
        };
        let point = ReplicaPoint {
            at: change.time,
            want: if change.op == Op::Delete {
                0
            } else {
                new.replicas
            },
            replicas: new.status.replicas,
            ready: new.status.ready,
            available: new.status.available,
            updated: new.status.updated,
        };
        let points = self.replicas.entry(new.meta.full_name()).or_default();
        let same = points.last().is_some_and(|last| {
            ReplicaPoint {
                at: last.at,
                ..point.clone()
            } == *last
        });
        if !same {
            points.push(point);
        }
        let mut whats = Vec::new();
        if change.op == Op::Create || old.is_some_and(|o| o.meta.generation != new.meta.generation)
        {
            let before = old.filter(|_| change.op != Op::Create);
            self.specs.push(spec_change(change.time, before, new));
            whats.push(What::DesiredChanged(new.meta.generation));
        }
        let progressing = |d: &Deployment| {
            let c = d.status.conditions.iter().find(|c| c.kind == "Progressing");
            c.map(|c| c.reason.clone())
        };
        if let Some(reason) = progressing(new)
            && old.and_then(progressing).as_ref() != Some(&reason)
        {
            whats.push(What::Progress(reason));
        }
        whats
    }

    fn replica_set(&mut self, change: &Change) -> Vec<What> {
        let Some((old, Some(new))) = change.rows::<ReplicaSet>() else {
            return Vec::new();
        };
        let from = if change.op == Op::Create {
            0
        } else {
            old.map_or(0, |o| o.replicas)
        };
        let to = new.replicas;
        if change.op == Op::Delete || from == to {
            return Vec::new();
        }
        let owner = new.meta.controller();
        self.rollouts.push(ScaleStep {
            at: change.time,
            namespace: new.meta.namespace.clone(),
            deployment: owner.map(|o| o.name.clone()).unwrap_or_default(),
            replica_set: new.meta.name.clone(),
            revision: new
                .meta
                .annotations
                .get("deployment.kubernetes.io/revision")
                .cloned()
                .unwrap_or_default(),
            image: (new.template.spec.containers.first())
                .map(|c| c.image.clone())
                .unwrap_or_default(),
            from,
            to,
        });
        vec![What::Scaled { from, to }]
    }

    fn slice(&mut self, change: &Change) -> Vec<What> {
        let (Some(object), Some((_, Some(new)))) = (change.object, change.rows::<EndpointSlice>())
        else {
            return Vec::new();
        };
        let Some(service) = new.service_name() else {
            return Vec::new();
        };
        let key = format!("{}/{service}", new.meta.namespace);
        let slices = self.slices.entry(key.clone()).or_default();
        if change.op == Op::Delete {
            slices.remove(&object);
        } else {
            let count = |f: fn(&crate::api::service::Endpoint) -> bool| {
                u32::try_from(new.endpoints.iter().filter(|e| f(e)).count()).unwrap_or(u32::MAX)
            };
            let point = EndpointPoint {
                at: change.time,
                revision: change.revision,
                ready: count(|e| e.ready),
                serving: count(|e| e.serving),
                terminating: count(|e| e.terminating),
                total: count(|_| true),
            };
            slices.insert(object, point);
        }
        let mut sum = EndpointPoint {
            at: change.time,
            revision: change.revision,
            ..EndpointPoint::default()
        };
        for point in slices.values() {
            sum.ready += point.ready;
            sum.serving += point.serving;
            sum.terminating += point.terminating;
            sum.total += point.total;
        }
        let points = self.endpoints.entry(key).or_default();
        let before = points.last().map_or(0, |p| p.ready);
        let same = points.last().is_some_and(|last| {
            EndpointPoint {
                at: last.at,
                revision: last.revision,
                ..sum.clone()
            } == *last
        });
        let ready = sum.ready;
        if !same {
            points.push(sum);
        }
        if before == ready {
            Vec::new()
        } else {
            vec![What::Endpoints {
                from: before,
                to: ready,
            }]
        }
    }
}
