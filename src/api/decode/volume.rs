//! PersistentVolumes, claims, StorageClasses, and what CSI drivers tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::storage::v1 as storage;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use serde_json::Value;

use super::DecodeContext;
use super::affinity::{label_selector, node_selector_term};
use super::meta::{list, meta, text, texts, uid};
use super::workload::spec_json;
use crate::api::quantity::Quantity;
use crate::api::volume::{
    AccessMode, AttachmentStatus, ClaimPhase, ClaimRef, ClaimStatus, VolumePhase, VolumeStatus,
};
use crate::api::{
    CSIDriver, CSINode, CSIStorageCapacity, PersistentVolume, PersistentVolumeClaim, StorageClass,
    VolumeAttachment,
};

fn storage_of(amounts: &Option<BTreeMap<String, Written>>) -> Option<i64> {
    let written = amounts.as_ref()?.get("storage")?;
    Some(Quantity::parse(&written.0).ok()?.value())
}

fn access_modes(modes: &Option<Vec<String>>) -> Vec<AccessMode> {
    let modes = list(modes).iter();
    modes
        .filter_map(|mode| AccessMode::from_name(mode))
        .collect()
}

pub(super) fn claim(
    source: &core::PersistentVolumeClaim,
    json: &Value,
    cx: &DecodeContext,
) -> PersistentVolumeClaim {
    let meta = meta(&source.metadata, cx);
    let status = source.status.as_ref();
    let status = ClaimStatus {
        phase: match status.and_then(|s| s.phase.as_deref()) {
            Some("Bound") => ClaimPhase::Bound,
            Some("Lost") => ClaimPhase::Lost,
            _ => ClaimPhase::Pending,
        },
        capacity: status.and_then(|s| storage_of(&s.capacity)).unwrap_or(0),
    };
    let Some(spec) = &source.spec else {
        return PersistentVolumeClaim {
            meta,
            status,
            ..PersistentVolumeClaim::default()
        };
    };
    PersistentVolumeClaim {
        meta,
        access_modes: access_modes(&spec.access_modes),
        storage_class: spec.storage_class_name.as_deref().map(Into::into),
        volume_name: text(&spec.volume_name),
        request: spec
            .resources
            .as_ref()
            .and_then(|r| storage_of(&r.requests)),
        block: spec.volume_mode.as_deref() == Some("Block"),
        selector: spec.selector.as_ref().map(label_selector),
        source: spec_json(json),
        status,
    }
}

pub(super) fn volume(
    source: &core::PersistentVolume,
    json: &Value,
    cx: &DecodeContext,
) -> PersistentVolume {
    let meta = meta(&source.metadata, cx);
    let status = VolumeStatus {
        phase: match source.status.as_ref().and_then(|s| s.phase.as_deref()) {
            Some("Available") => VolumePhase::Available,
            Some("Bound") => VolumePhase::Bound,
            Some("Released") => VolumePhase::Released,
            Some("Failed") => VolumePhase::Failed,
            _ => VolumePhase::Pending,
        },
    };
    let Some(spec) = &source.spec else {
        return PersistentVolume {
            meta,
            status,
            ..PersistentVolume::default()
        };
    };
    let required = spec
        .node_affinity
        .as_ref()
        .and_then(|a| a.required.as_ref());
    PersistentVolume {
        meta,
        capacity: storage_of(&spec.capacity).unwrap_or(0),
        access_modes: access_modes(&spec.access_modes),
        claim: spec.claim_ref.as_ref().map(|claim| ClaimRef {
            namespace: text(&claim.namespace),
            name: text(&claim.name),
            uid: claim.uid.as_deref().map(uid),
        }),
        storage_class: text(&spec.storage_class_name),
        node_affinity: required.map(|selector| {
            selector
                .node_selector_terms
                .iter()
                .map(node_selector_term)
                .collect()
        }),
        block: spec.volume_mode.as_deref() == Some("Block"),
        csi: spec.csi.as_ref().map(|csi| {
            (
                csi.driver.as_str().into(),
                csi.volume_handle.as_str().into(),
            )
        }),
        reclaim_delete: spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete"),
        source: spec_json(json),
        status,
    }
}

pub(super) fn storage_class(
    source: &storage::StorageClass,
    json: &Value,
    cx: &DecodeContext,
) -> StorageClass {
    let term = |term: &core::TopologySelectorTerm| {
        list(&term.match_label_expressions)
            .iter()
            .map(|r| (r.key.as_str().into(), texts(&Some(r.values.clone()))))
            .collect()
    };
    StorageClass {
        meta: meta(&source.metadata, cx),
        provisioner: source.provisioner.as_str().into(),
        wait_for_consumer: source.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
        allowed_topologies: list(&source.allowed_topologies).iter().map(term).collect(),
        reclaim_delete: source.reclaim_policy.as_deref() == Some("Delete"),
        source: Arc::new(json.clone()),
    }
}

pub(super) fn csi_node(source: &storage::CSINode, cx: &DecodeContext) -> CSINode {
    let drivers = source.spec.drivers.iter();
    let with_keys = drivers.clone().filter_map(|driver| {
        let keys = texts(&driver.topology_keys);
        (!keys.is_empty()).then(|| (driver.name.as_str().into(), keys))
    });
    CSINode {
        meta: meta(&source.metadata, cx),
        topology_keys: with_keys.collect(),
        drivers: drivers
            .map(|driver| {
                let count = driver.allocatable.as_ref().and_then(|a| a.count);
                (driver.name.as_str().into(), count)
            })
            .collect(),
    }
}

pub(super) fn csi_driver(
    source: &storage::CSIDriver,
    json: &Value,
    cx: &DecodeContext,
) -> CSIDriver {
    CSIDriver {
        meta: meta(&source.metadata, cx),
        storage_capacity: source.spec.storage_capacity.unwrap_or(false),
        source: Arc::new(json.clone()),
    }
}

pub(super) fn storage_capacity(
    source: &storage::CSIStorageCapacity,
    json: &Value,
    cx: &DecodeContext,
) -> CSIStorageCapacity {
    let amount =
        |amount: &Option<Written>| Some(Quantity::parse(&amount.as_ref()?.0).ok()?.value());
    CSIStorageCapacity {
        meta: meta(&source.metadata, cx),
        storage_class: source.storage_class_name.as_str().into(),
        topology: source.node_topology.as_ref().map(label_selector),
        capacity: amount(&source.capacity),
        maximum: amount(&source.maximum_volume_size),
        source: Arc::new(json.clone()),
    }
}

pub(super) fn attachment(
    source: &storage::VolumeAttachment,
    cx: &DecodeContext,
) -> VolumeAttachment {
    VolumeAttachment {
        meta: meta(&source.metadata, cx),
        attacher: source.spec.attacher.as_str().into(),
        node: source.spec.node_name.as_str().into(),
        volume: text(&source.spec.source.persistent_volume_name),
        status: AttachmentStatus {
            attached: source.status.as_ref().is_some_and(|s| s.attached),
        },
    }
}
