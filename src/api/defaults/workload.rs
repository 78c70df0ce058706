//! Deployments, ReplicaSets, StatefulSets, DaemonSets and ReplicationControllers
//! (`pkg/apis/apps/v1/defaults.go`, `pkg/apis/core/v1/defaults.go`).

use k8s_openapi::api::apps::v1::{
    DaemonSet, DaemonSetSpec, Deployment, DeploymentSpec, ReplicaSet, StatefulSet, StatefulSetSpec,
};
use k8s_openapi::api::core::v1::ReplicationController;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::core::pod_template;
use super::{storage, text};

/// `SetDefaults_Deployment`.
pub fn deployment(object: &mut Deployment) {
    let spec: &mut DeploymentSpec = object.spec.get_or_insert_default();
    spec.replicas.get_or_insert(1);
    let strategy = spec.strategy.get_or_insert_default();
    text(&mut strategy.type_, "RollingUpdate");
    if strategy.type_.as_deref() == Some("RollingUpdate") {
        let quarter = || IntOrString::String("25%".to_owned());
        let rolling = strategy.rolling_update.get_or_insert_default();
        rolling.max_unavailable.get_or_insert_with(quarter);
        rolling.max_surge.get_or_insert_with(quarter);
    }
    spec.revision_history_limit.get_or_insert(10);
    spec.progress_deadline_seconds.get_or_insert(600);
    pod_template(&mut spec.template);
}

/// `SetDefaults_ReplicaSet`.
pub fn replica_set(object: &mut ReplicaSet) {
    let spec = object.spec.get_or_insert_default();
    spec.replicas.get_or_insert(1);
    pod_template(spec.template.get_or_insert_default());
}

/// `SetDefaults_DaemonSet`.
pub fn daemon_set(object: &mut DaemonSet) {
    let spec: &mut DaemonSetSpec = object.spec.get_or_insert_default();
    let strategy = spec.update_strategy.get_or_insert_default();
    text(&mut strategy.type_, "RollingUpdate");
    if strategy.type_.as_deref() == Some("RollingUpdate") {
        let rolling = strategy.rolling_update.get_or_insert_default();
        rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
        rolling.max_surge.get_or_insert(IntOrString::Int(0));
    }
    spec.revision_history_limit.get_or_insert(10);
    pod_template(&mut spec.template);
}

/// `SetDefaults_StatefulSet`; `MaxUnavailableStatefulSet` is off in the reference version.
pub fn stateful_set(object: &mut StatefulSet) {
    let spec: &mut StatefulSetSpec = object.spec.get_or_insert_default();
    text(&mut spec.pod_management_policy, "OrderedReady");
    let strategy = spec.update_strategy.get_or_insert_default();
    if strategy.type_.as_deref().is_none_or(str::is_empty) {
        strategy.type_ = Some("RollingUpdate".to_owned());
        strategy.rolling_update.get_or_insert_default();
    }
    if strategy.type_.as_deref() == Some("RollingUpdate")
        && let Some(rolling) = &mut strategy.rolling_update
    {
        rolling.partition.get_or_insert(0);
    }
    let retention = spec
        .persistent_volume_claim_retention_policy
        .get_or_insert_default();
    text(&mut retention.when_deleted, "Retain");
    text(&mut retention.when_scaled, "Retain");
    spec.replicas.get_or_insert(1);
    spec.revision_history_limit.get_or_insert(10);
    // Not optional upstream.
    spec.service_name.get_or_insert_default();
    if let Some(ordinals) = &mut spec.ordinals {
        ordinals.start.get_or_insert(0);
    }
    pod_template(&mut spec.template);
    for claim in spec.volume_claim_templates.iter_mut().flatten() {
        storage::claim_spec(claim.spec.get_or_insert_default());
        text(&mut claim.status.get_or_insert_default().phase, "Pending");
    }
}

/// `SetDefaults_ReplicationController`.
pub fn replication_controller(object: &mut ReplicationController) {
    let spec = object.spec.get_or_insert_default();
    spec.replicas.get_or_insert(1);
    let template = spec.template.as_ref();
    let labels = template.and_then(|t| t.metadata.as_ref()?.labels.clone());
    if let Some(labels) = labels {
        if spec.selector.as_ref().is_none_or(|s| s.is_empty()) {
            spec.selector = Some(labels.clone());
        }
        if object.metadata.labels.as_ref().is_none_or(|l| l.is_empty()) {
            object.metadata.labels = Some(labels);
        }
    }
    if let Some(template) = &mut spec.template {
        pod_template(template);
    }
}
