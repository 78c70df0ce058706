//! Admission: what the API server does to a request before it is stored.
//!
//! Pods get the default tolerations and their priority; updates keep the status and status updates
//! keep the rest; patches change the current object. Evictions are in `evict`, namespaces in
//! `lifecycle`.

use std::cmp::Reverse;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::view::View;
use super::write::{ApiError, Patch, Propagation, merge_labels};
use crate::api::affinity::{Taint, TaintEffect, Toleration, TolerationOperator};
use crate::api::meta::recorded;
use crate::api::pod_status::{Phase, PodCondition, PodConditionKind, PodStatus, Truth};
use crate::api::storage::BETA_CLASS;
use crate::api::{
    Meta, Node, OwnerRef, PersistentVolumeClaim, Pod, PodSpec, PriorityClass, Row, Shared,
    StorageClass, Text, storage,
};
use crate::engine::Time;

/// Finalizer of foreground deletion.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of orphaning deletion.
pub const ORPHAN: &str = "orphan";

/// Admission with its memory of specs already admitted: pods of one template share one spec.
#[derive(Debug, Default)]
pub(super) struct Admission {
    specs: FxHashMap<usize, (Arc<PodSpec>, Arc<PodSpec>)>,
    pub(super) tolerated_s: Tolerated,
}

/// How long pods that say nothing are tolerated on a lost node, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerated {
    /// `--default-not-ready-toleration-seconds` (300).
    pub not_ready: i64,
    /// `--default-unreachable-toleration-seconds` (300).
    pub unreachable: i64,
}

impl Default for Tolerated {
    fn default() -> Self {
        Tolerated {
            not_ready: 300,
            unreachable: 300,
        }
    }
}

impl Admission {
    pub(super) fn create(&mut self, row: &mut Row, view: &View) -> Result<(), ApiError> {
        super::lifecycle::check_namespace(row, view)?;
        if let Row::Namespace(namespace) = row {
            super::lifecycle::prepare(Arc::make_mut(namespace));
        }
        if let Row::Pod(pod) = row {
            let spec = self.admitted(&pod.spec, view)?;
            let pod = Arc::make_mut(pod);
            pod.spec = spec;
            if pod.node_name.is_none() && !pod.spec.node_name.is_empty() {
                pod.node_name = Some(pod.spec.node_name.clone());
            }
            pod.status.phase = Phase::Pending;
            super::limit_range::admit(row, view)?;
        } else if let Row::PersistentVolumeClaim(_) = row {
            super::limit_range::admit(row, view)?;
        }
        match row {
            Row::DaemonSet(set) => count_template(&mut Arc::make_mut(set).meta, 1),
            Row::PersistentVolumeClaim(claim) => {
                let claim = Arc::make_mut(claim);
                add_finalizer(&mut claim.meta, CLAIM_PROTECTION);
                set_default_class(claim, view);
            }
            Row::PersistentVolume(volume) => {
                add_finalizer(&mut Arc::make_mut(volume).meta, VOLUME_PROTECTION);
            }
            _ => {}
        }
        Ok(())
    }

    fn admitted(&mut self, spec: &Arc<PodSpec>, view: &View) -> Result<Arc<PodSpec>, ApiError> {
        let key = Arc::as_ptr(spec) as usize;
        if let Some((_, done)) = self.specs.get(&key) {
            return Ok(done.clone());
        }
        let mut new = PodSpec::clone(spec);
        resolve_priority(&mut new, view)?;
        add_default_tolerations(&mut new.tolerations, self.tolerated_s);
        let new = Arc::new(new);
        // The key is an address: keeping the original alive keeps it from being used again.
        self.specs.insert(key, (spec.clone(), new.clone()));
        Ok(new)
    }
}

/// Finalizer of claims: they stay while a pod uses them.
pub const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// Finalizer of volumes: they stay while they are bound.
pub const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";

/// `plugin/pkg/admission/storage/storageobjectinuseprotection`.
fn add_finalizer(meta: &mut Meta, name: &str) {
    if !meta.finalizers.iter().any(|f| f == name) {
        let all = meta.finalizers.iter().cloned().chain([Text::from(name)]);
        meta.finalizers = all.collect();
    }
}

/// `plugin/pkg/admission/storage/storageclass/setdefault`: a claim that names no class gets the
/// default one, the newest if there are several.
fn set_default_class(claim: &mut PersistentVolumeClaim, view: &View) {
    if claim.storage_class.is_some() || claim.meta.annotations.contains(BETA_CLASS) {
        return;
    }
    claim.storage_class = default_class(view);
}

/// `pkg/volume/util/storageclass.go :: GetDefaultClass`.
pub fn default_class(view: &View) -> Option<Text> {
    let classes = view.of::<StorageClass>().iter().map(|(_, class)| class);
    let defaults = classes.filter(|class| storage::is_default(class));
    let newest = |class: &&Arc<StorageClass>| {
        let created = recorded(class.meta.created);
        (Reverse(created), class.meta.name.clone())
    };
    let found = defaults.min_by_key(newest);
    found.map(|class| class.meta.name.clone())
}

/// The generation of a DaemonSet's template, kept as an annotation since `apps/v1` dropped its
/// field.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn count_template(meta: &mut Meta, generation: i64) {
    let annotations = &meta.annotations;
    meta.annotations = annotations.with(TEMPLATE_GENERATION, generation.to_string());
}

/// `pkg/registry/apps/daemonset/strategy.go :: PrepareForUpdate`: the template's generation is the
/// server's to count.
pub(super) fn keep_counting(old: &Row, new: &mut Row) {
    let (Row::DaemonSet(old), Row::DaemonSet(new)) = (old, new) else {
        return;
    };
    let before = old.meta.annotations.get(TEMPLATE_GENERATION);
    let before: i64 = before.and_then(|text| text.parse().ok()).unwrap_or(0);
    let changed = i64::from(old.template != new.template);
    count_template(&mut Arc::make_mut(new).meta, before + changed);
}

/// `plugin/pkg/admission/priority :: admitPod`.
///
/// # Errors
/// When there is no such class.
pub fn resolve_priority(spec: &mut PodSpec, view: &View) -> Result<(), ApiError> {
    let classes = view.of::<PriorityClass>();
    let class = if spec.priority_class.is_empty() {
        classes.iter().map(|(_, c)| c).find(|c| c.global_default)
    } else {
        match spec.priority_class.as_str() {
            "system-node-critical" => {
                spec.priority = 2_000_001_000;
                return Ok(());
            }
            "system-cluster-critical" => {
                spec.priority = 2_000_000_000;
                return Ok(());
            }
            name => Some(classes.find("", name).map(|(_, c)| c).ok_or_else(|| {
                ApiError::Forbidden(format!("no PriorityClass with name {name} was found"))
            })?),
        }
    };
    if let Some(class) = class {
        spec.priority = class.value;
        spec.preempt_never |= class.preempt_never;
        spec.priority_class = class.meta.name.clone();
    }
    Ok(())
}

/// `plugin/pkg/admission/defaulttolerationseconds`: so many seconds on nodes that are not ready and
/// on those that are unreachable.
pub(super) fn add_default_tolerations(tolerations: &mut Vec<Toleration>, seconds: Tolerated) {
    for (key, seconds) in [
        ("node.kubernetes.io/not-ready", seconds.not_ready),
        ("node.kubernetes.io/unreachable", seconds.unreachable),
    ] {
        let taint = Taint {
            key: Text::from(key),
            value: Text::default(),
            effect: TaintEffect::NoExecute,
            added: None,
        };
        let has = tolerations.iter().any(|t| {
            (t.key.is_empty() || t.key == taint.key)
                && t.effect.is_none_or(|e| e == TaintEffect::NoExecute)
        });
        if !has {
            tolerations.push(Toleration {
                key: taint.key,
                operator: TolerationOperator::Exists,
                value: Text::default(),
                effect: Some(TaintEffect::NoExecute),
                seconds: Some(seconds),
            });
        }
    }
}

/// `rest.BeforeDelete` with the pod strategy's `CheckGracefulDelete`: the pod's own grace unless
/// given; 0 for pods that no kubelet has, and for pods that have ended.
pub(super) fn pod_grace(pod: &Pod, asked: Option<u32>) -> u32 {
    let period = asked.unwrap_or(pod.spec.grace_s);
    if pod.node_name.is_none() || pod.status.phase.terminal() {
        0
    } else {
        period
    }
}

/// `deletionFinalizersForGarbageCollection`: the policy of the latest request decides, whatever an
/// earlier one left behind.
pub(super) fn set_propagation_finalizer(meta: &mut Meta, propagation: Propagation) {
    let wanted = match propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Orphan => Some(ORPHAN),
    };
    let ours = |f: &Text| f == FOREGROUND || f == ORPHAN;
    let before: Vec<&Text> = meta.finalizers.iter().filter(|f| ours(f)).collect();
    if before.iter().map(|f| f.as_str()).eq(wanted) {
        return;
    }
    let others = meta.finalizers.iter().filter(|f| !ours(f)).cloned();
    meta.finalizers = others.chain(wanted.map(Text::from)).collect();
}

/// `BindingREST.setPodNodeAndMetadata`: a pod is bound once.
pub(super) fn bound(pod: &Pod, node: &Text, now: Time) -> Result<Pod, ApiError> {
    if pod.meta.deleting() {
        return Err(ApiError::Conflict(format!(
            "pod {} is being deleted, cannot be assigned to a host",
            pod.meta.name
        )));
    }
    if let Some(other) = &pod.node_name {
        return Err(ApiError::Conflict(format!(
            "pod {} is already assigned to node \"{other}\"",
            pod.meta.name
        )));
    }
    let mut new = pod.clone();
    new.node_name = Some(node.clone());
    // ClearingNominatedNodeNameAfterBinding, on by default since 1.35.
    new.status.nominated_node = None;
    new.status.set_condition(PodCondition {
        kind: PodConditionKind::PodScheduled,
        status: Truth::True,
        since: now,
        reason: None,
        message: None,
        observed_generation: 0,
    });
    Ok(new)
}

/// What an update of the status alone may change: besides the status, the annotations of a
/// Deployment (`pkg/registry/apps/deployment :: deploymentStatusStrategy`), which is how its
/// revision is recorded.
pub(super) fn status_update(old: &Row, new: &Row) -> Row {
    let mut merged = with_status_of(old, new);
    if let (Row::Deployment(merged), Row::Deployment(new)) = (&mut merged, new)
        && merged.meta.annotations != new.meta.annotations
    {
        Arc::make_mut(merged).meta.annotations = new.meta.annotations.clone();
    }
    merged
}

/// `base` with the status of `status_of`.
pub(super) fn with_status_of(base: &Row, status_of: &Row) -> Row {
    macro_rules! merge {
        ($($kind:ident),*) => {
            match (base, status_of) {
                $((Row::$kind(base), Row::$kind(with)) => {
                    let mut new = (**base).clone();
                    new.status = with.status.clone();
                    Row::$kind(Arc::new(new))
                })*
                _ => base.clone(),
            }
        };
    }
    merge!(
        Namespace,
        Pod,
        Node,
        ReplicaSet,
        StatefulSet,
        DaemonSet,
        Deployment,
        PodDisruptionBudget,
        ResourceQuota,
        PersistentVolume,
        PersistentVolumeClaim,
        VolumeAttachment,
        Job,
        CronJob,
        HorizontalPodAutoscaler
    )
}

/// Whether the desired state differs: that is what `metadata.generation` counts.
pub(super) fn desired_differs(old: &Row, new: &Row) -> bool {
    match (old, new) {
        (Row::Deployment(a), Row::Deployment(b)) => {
            a.source != b.source
                || a.replicas != b.replicas
                || a.paused != b.paused
                || a.meta.annotations != b.meta.annotations
        }
        (Row::ReplicaSet(a), Row::ReplicaSet(b)) => {
            a.source != b.source || a.replicas != b.replicas || a.min_ready_s != b.min_ready_s
        }
        (Row::StatefulSet(a), Row::StatefulSet(b)) => {
            a.source != b.source || a.replicas != b.replicas
        }
        (Row::DaemonSet(a), Row::DaemonSet(b)) => a.source != b.source,
        (Row::PodDisruptionBudget(a), Row::PodDisruptionBudget(b)) => a.source != b.source,
        (Row::Job(a), Row::Job(b)) => a.spec != b.spec,
        (Row::CronJob(a), Row::CronJob(b)) => a.source != b.source,
        (Row::CSIDriver(a), Row::CSIDriver(b)) => a.source["spec"] != b.source["spec"],
        (Row::EndpointSlice(a), Row::EndpointSlice(b)) => {
            a.endpoints != b.endpoints || a.ports != b.ports || a.meta.labels != b.meta.labels
        }
        (Row::Inert(a), Row::Inert(b)) => {
            let spec = match a.kind.as_str() {
                "PodTemplate" => "template",
                _ => "spec",
            };
            !Arc::ptr_eq(&a.body, &b.body) && a.body.get(spec) != b.body.get(spec)
        }
        (Row::Pod(a), Row::Pod(b)) => !Arc::ptr_eq(&a.spec, &b.spec) && a.spec != b.spec,
        _ => false,
    }
}

/// The current object with a patch applied.
pub(super) fn patched(
    old: &Row,
    patch: &Patch,
    now: Time,
    tolerated: Tolerated,
) -> Result<Row, ApiError> {
    let mut new = old.clone();
    match (patch, &mut new) {
        (Patch::PodStatus(status), Row::Pod(pod)) => {
            *pod = Arc::new(with_kubelet_status(pod, status.clone()));
        }
        (
            Patch::PodConditions {
                conditions,
                phase,
                reason,
            },
            Row::Pod(pod),
        ) => {
            let status = &mut Arc::make_mut(pod).status;
            for condition in conditions {
                status.set_condition(condition.clone());
            }
            if let Some(phase) = phase {
                status.phase = *phase;
            }
            if let Some((reason, message)) = reason {
                status.reason = Some(reason.clone());
                status.message = Some(message.clone());
            }
        }
        (
            Patch::Scheduling {
                condition,
                nominate,
            },
            Row::Pod(pod),
        ) => {
            let status = &mut Arc::make_mut(pod).status;
            if let Some(condition) = condition {
                status.set_condition(condition.clone());
            }
            if let Some(node) = nominate {
                status.nominated_node = (!node.is_empty()).then(|| node.clone());
            }
        }
        (Patch::Nominate(node), Row::Pod(pod)) => {
            Arc::make_mut(pod).status.nominated_node = node.clone();
        }
        (Patch::NodeStatus(status), Row::Node(node)) => {
            // Not a copy of the row: its status is what is replaced.
            *node = Arc::new(Node {
                meta: node.meta.clone(),
                unschedulable: node.unschedulable,
                taints: node.taints.clone(),
                provider_id: node.provider_id.clone(),
                status: (**status).clone(),
            });
        }
        (Patch::NodeConditions(conditions), Row::Node(node)) => {
            set_node_conditions(Arc::make_mut(node), conditions);
        }
        (Patch::NodeImages(images), Row::Node(node)) => {
            Arc::make_mut(node).status.images = images.clone().into();
        }
        (Patch::NodeTaints { add, remove }, Row::Node(node)) => {
            edit_taints(Arc::make_mut(node), add, remove, now);
        }
        (Patch::VolumesInUse(volumes), Row::Node(node)) => {
            Arc::make_mut(node).status.volumes_in_use = volumes.clone();
        }
        (Patch::DeclaredFeatures(features), Row::Node(node)) => {
            Arc::make_mut(node).status.declared_features = features.clone();
        }
        (Patch::Unschedulable(yes), Row::Node(node)) => {
            Arc::make_mut(node).unschedulable = *yes;
        }
        (Patch::Replicas(n), Row::Deployment(d)) => Arc::make_mut(d).replicas = *n,
        (Patch::Replicas(n), Row::StatefulSet(set)) => Arc::make_mut(set).replicas = *n,
        (Patch::Replicas(n), Row::ReplicaSet(rs)) => Arc::make_mut(rs).replicas = *n,
        (Patch::Paused(yes), Row::Deployment(d)) => Arc::make_mut(d).paused = *yes,
        (Patch::Renew(at), Row::Lease(lease)) => Arc::make_mut(lease).renewed = *at,
        (Patch::Labels(edits), row) => {
            let meta = row.meta_mut();
            meta.labels = merge_labels(&meta.labels, edits);
        }
        (Patch::Annotations(edits), row) => {
            let meta = row.meta_mut();
            meta.annotations = merge_labels(&meta.annotations, edits);
        }
        (Patch::Owners(owners), row) => row.meta_mut().owners = owners.clone().into(),
        (Patch::AddOwner(owner), row) => add_owner(row, owner)?,
        (Patch::RemoveOwner(uid), row) => {
            let meta = row.meta_mut();
            meta.owners = meta
                .owners
                .iter()
                .filter(|o| o.uid != *uid)
                .cloned()
                .collect();
        }
        (Patch::Finalizers(all), row) => row.meta_mut().finalizers = all.clone().into(),
        (Patch::AddFinalizer(name), row) => {
            let meta = row.meta_mut();
            if !meta.finalizers.contains(name) {
                meta.finalizers = meta.finalizers.iter().chain([name]).cloned().collect();
            }
        }
        (Patch::RemoveFinalizer(name), row) => {
            let meta = row.meta_mut();
            let left = meta.finalizers.iter().filter(|f| *f != name);
            meta.finalizers = left.cloned().collect();
        }
        (Patch::Together(patches), row) => {
            for patch in patches {
                *row = patched(row, patch, now, tolerated)?;
            }
        }
        (Patch::Document(kind, patch), row) => {
            *row = super::document::patched(old, *kind, patch, tolerated)?;
        }
        (Patch::Replacement(object), row) => {
            *row = super::document::replaced(old, object, tolerated)?;
        }
        (Patch::NamespaceConditions(conditions), Row::Namespace(namespace)) => {
            Arc::make_mut(namespace).status.conditions = conditions.clone();
        }
        (Patch::FinalizeNamespace, Row::Namespace(namespace)) => {
            super::lifecycle::finalize(Arc::make_mut(namespace));
        }
        (patch, row) => {
            let what = format!("{patch:?}");
            let what = what
                .split(['(', ' ', '{'])
                .next()
                .unwrap_or_default()
                .to_owned();
            return Err(ApiError::BadRequest(format!(
                "a {what} patch does not fit a {}",
                row.kind().name()
            )));
        }
    }
    Ok(new)
}

/// `apimachinery/pkg/api/validation :: ValidateOwnerReferences`: one controller at most.
fn add_owner(row: &mut Row, owner: &OwnerRef) -> Result<(), ApiError> {
    let meta = row.meta();
    let others = meta.owners.iter().filter(|o| o.uid != owner.uid);
    let owners: Vec<OwnerRef> = others.cloned().chain([owner.clone()]).collect();
    if owner.controller
        && let Some(other) = owners.iter().find(|o| o.controller && o.uid != owner.uid)
    {
        let cause = format!(
            "metadata.ownerReferences: Only one reference can have Controller set to true. Found \
             \"true\" in references for {} and {}",
            other.name, owner.name
        );
        return Err(ApiError::invalid(row, vec![cause]));
    }
    row.meta_mut().owners = owners.into();
    Ok(())
}

/// The pod with a status as its kubelet sends it.
pub(super) fn with_kubelet_status(pod: &Pod, status: Shared<PodStatus>) -> Pod {
    // Not a copy of the row: its status is what is replaced.
    Pod {
        meta: pod.meta.clone(),
        spec: pod.spec.clone(),
        node_name: pod.node_name.clone(),
        status: merge_kubelet_status(&pod.status, status),
    }
}

/// `pkg/kubelet/status :: mergePodStatus`: conditions that the kubelet does not own survive.
fn merge_kubelet_status(old: &PodStatus, mut merged: Shared<PodStatus>) -> Shared<PodStatus> {
    if merged.nominated_node != old.nominated_node {
        merged.nominated_node = old.nominated_node.clone();
    }
    for kept in &old.conditions {
        let owned = match kept.kind {
            PodConditionKind::DisruptionTarget | PodConditionKind::Other(_) => {
                merged.condition(&kept.kind).is_some()
            }
            _ => true,
        };
        if !owned {
            merged.conditions.retain(|c| c.kind != kept.kind);
            merged.conditions.push(kept.clone());
        }
    }
    merged
}

fn set_node_conditions(node: &mut Node, conditions: &[crate::api::node::NodeCondition]) {
    for condition in conditions {
        match node
            .status
            .conditions
            .iter_mut()
            .find(|c| c.kind == condition.kind)
        {
            Some(old) => *old = condition.clone(),
            None => node.status.conditions.push(condition.clone()),
        }
    }
}

fn edit_taints(node: &mut Node, add: &[Taint], remove: &[Taint], now: Time) {
    let same = |a: &Taint, b: &Taint| a.key == b.key && a.effect == b.effect;
    node.taints.retain(|t| !remove.iter().any(|r| same(r, t)));
    for taint in add {
        let mut taint = taint.clone();
        if taint.effect == TaintEffect::NoExecute && taint.added.is_none() {
            taint.added = Some(now);
        }
        match node.taints.iter_mut().find(|t| same(t, &taint)) {
            Some(old) => *old = taint,
            None => node.taints.push(taint),
        }
    }
}
