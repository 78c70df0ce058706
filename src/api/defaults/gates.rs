//! What the API server of the reference version drops from a request because the feature is off
//! there.
//!
//! `dropDisabledFields` of `pkg/api/pod/util.go`, `pkg/api/persistentvolumeclaim/util.go` and their kin, with the gates of 1.36 as they stand by
//! default. It runs after the defaults and before validation, so that a dropped field is neither
//! judged nor printed.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    Lifecycle, PersistentVolumeClaimSpec, PodSpec, TypedLocalObjectReference, TypedObjectReference,
};

/// `ContainerStopSignals`, `ClusterTrustBundleProjection`, `PodCertificateRequest` and
/// `GenericWorkload` are off.
pub fn pod_spec(spec: &mut PodSpec) {
    spec.scheduling_group = None;
    let init = spec.init_containers.iter_mut().flatten();
    for container in spec.containers.iter_mut().chain(init) {
        stop_signal(&mut container.lifecycle);
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        stop_signal(&mut container.lifecycle);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        let sources = volume.projected.iter_mut();
        for source in sources.flat_map(|projected| projected.sources.iter_mut().flatten()) {
            source.cluster_trust_bundle = None;
            source.pod_certificate = None;
        }
    }
}

/// `dropContainerStopSignals`: hooks that were nothing but a signal go with it.
fn stop_signal(hooks: &mut Option<Lifecycle>) {
    if hooks
        .as_ref()
        .is_some_and(|hooks| hooks.stop_signal.is_some())
        && let Some(some) = hooks
    {
        some.stop_signal = None;
        if *some == Lifecycle::default() {
            *hooks = None;
        }
    }
}

/// `CrossNamespaceVolumeDataSource` is off; and what is written in one of the two fields for the
/// source of a claim's data is copied to the other (`EnforceDataSourceBackwardsCompatibility`,
/// `NormalizeDataSources`).
pub fn claim_spec(spec: &mut PersistentVolumeClaimSpec) {
    let namespace = |source: &TypedObjectReference| {
        let namespace = source.namespace.as_deref();
        namespace.is_some_and(|namespace| !namespace.is_empty())
    };
    if spec.data_source_ref.as_ref().is_some_and(namespace) {
        spec.data_source_ref = None;
    }
    // Once, other sources than these were ignored in silence.
    let known = |source: &TypedLocalObjectReference| {
        let group = source.api_group.as_deref().unwrap_or_default();
        matches!(
            (group, source.kind.as_str()),
            ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
        )
    };
    if spec.data_source_ref.is_none() && !spec.data_source.as_ref().is_some_and(known) {
        spec.data_source = None;
    }
    match (&spec.data_source, &spec.data_source_ref) {
        (Some(source), None) => {
            spec.data_source_ref = Some(TypedObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
                namespace: None,
            });
        }
        (None, Some(source)) => {
            spec.data_source = Some(TypedLocalObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
            });
        }
        _ => {}
    }
}

/// `pkg/registry/coordination/lease`: `CoordinatedLeaderElection` is off.
pub fn lease(object: &mut Lease) {
    if let Some(spec) = &mut object.spec {
        spec.strategy = None;
        spec.preferred_holder = None;
    }
}
