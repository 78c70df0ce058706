//! Volumes, claims and storage classes (`pkg/apis/core/v1`, `pkg/apis/storage/v1`).

use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec,
};
use k8s_openapi::api::storage::v1::{CSIDriver, CSIStorageCapacity, StorageClass};

use super::{absent, amount, gates, resource_list, text};

/// `SetDefaults_PersistentVolume`.
pub fn volume(object: &mut PersistentVolume) {
    let spec = object.spec.get_or_insert_default();
    text(&mut spec.persistent_volume_reclaim_policy, "Retain");
    absent(&mut spec.volume_mode, "Filesystem");
    resource_list(&mut spec.capacity);
    persistent_sources(spec);
    // A claim's class may be the empty one; a volume's is none then.
    if spec.storage_class_name.as_deref() == Some("") {
        spec.storage_class_name = None;
    }
}

/// The defaults of the sources that pods' volumes have, too.
fn persistent_sources(spec: &mut PersistentVolumeSpec) {
    if let Some(source) = &mut spec.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut spec.iscsi {
        text(&mut source.iscsi_interface, "default");
    }
    if let Some(source) = &mut spec.rbd {
        text(&mut source.pool, "rbd");
        text(&mut source.user, "admin");
        text(&mut source.keyring, "/etc/ceph/keyring");
    }
    if let Some(source) = &mut spec.azure_disk {
        absent(&mut source.caching_mode, "ReadWrite");
        absent(&mut source.kind, "Shared");
        absent(&mut source.fs_type, "ext4");
        source.read_only.get_or_insert(false);
    }
    if let Some(source) = &mut spec.scale_io {
        text(&mut source.storage_mode, "ThinProvisioned");
        text(&mut source.fs_type, "xfs");
    }
}

/// `SetDefaults_CSIDriver`.
pub fn csi_driver(object: &mut CSIDriver) {
    let spec = &mut object.spec;
    spec.attach_required.get_or_insert(true);
    for field in [
        &mut spec.pod_info_on_mount,
        &mut spec.storage_capacity,
        &mut spec.requires_republish,
        &mut spec.se_linux_mount,
    ] {
        field.get_or_insert(false);
    }
    absent(&mut spec.fs_group_policy, "ReadWriteOnceWithFSType");
    let modes = spec.volume_lifecycle_modes.get_or_insert_default();
    if modes.is_empty() {
        modes.push("Persistent".to_owned());
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

/// Amounts print in their canonical form.
pub fn capacity(object: &mut CSIStorageCapacity) {
    let amounts = [&mut object.capacity, &mut object.maximum_volume_size];
    amounts.into_iter().flatten().for_each(amount);
}
