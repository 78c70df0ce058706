//! Volumes, claims and storage classes (`pkg/apis/core/v1`, `pkg/apis/storage/v1`).

use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec,
};
use k8s_openapi::api::storage::v1::StorageClass;

use super::{absent, gates, resource_list, text};

/// `SetDefaults_PersistentVolume`.
pub fn volume(object: &mut PersistentVolume) {
    let spec = object.spec.get_or_insert_default();
    text(&mut spec.persistent_volume_reclaim_policy, "Retain");
    absent(&mut spec.volume_mode, "Filesystem");
    resource_list(&mut spec.capacity);
    // A claim's class may be the empty one; a volume's is none then.
    if spec.storage_class_name.as_deref() == Some("") {
        spec.storage_class_name = None;
    }
}

/// `SetDefaults_PersistentVolumeClaim` and its spec.
pub fn claim(object: &mut PersistentVolumeClaim) {
    let spec = object.spec.get_or_insert_default();
    claim_spec(spec);
    gates::claim_spec(spec);
    if let Some(status) = &mut object.status {
        resource_list(&mut status.capacity);
    }
}

/// `SetDefaults_PersistentVolumeClaimSpec`.
pub fn claim_spec(spec: &mut PersistentVolumeClaimSpec) {
    absent(&mut spec.volume_mode, "Filesystem");
    let resources = spec.resources.get_or_insert_default();
    resource_list(&mut resources.limits);
    resource_list(&mut resources.requests);
}

/// `SetDefaults_StorageClass`.
pub fn storage_class(object: &mut StorageClass) {
    object
        .reclaim_policy
        .get_or_insert_with(|| "Delete".to_owned());
    object
        .volume_binding_mode
        .get_or_insert_with(|| "Immediate".to_owned());
}
