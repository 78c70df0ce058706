//! The storage classes that a cluster has from the beginning.

use std::sync::Arc;

use crate::api::{Kind, Labels, Meta, StorageClass, duration, storage};
use crate::scenario::types::{Scenario, StorageClassSpec};

/// The scenario's storage classes. A cluster that has none at all, neither there nor in its
/// manifests, gets a default class `standard` of network disks, as managed clusters have.
pub(super) fn classes(scenario: &Scenario) -> Vec<StorageClass> {
    let mut specs = scenario.cluster.storage_classes.clone();
    let mut objects = scenario.objects.iter();
    if specs.is_empty() && !objects.any(|o| o.row.kind() == Kind::StorageClass) {
        specs.push(StorageClassSpec {
            name: "standard".into(),
            default: true,
            wait_for_consumer: true,
            ..StorageClassSpec::default()
        });
    }
    specs.iter().map(storage_class).collect()
}

fn storage_class(spec: &StorageClassSpec) -> StorageClass {
    let mut annotations = Labels::default();
    let times = [
        (storage::ATTACH, spec.attach),
        (storage::DETACH, spec.detach),
    ];
    for (key, time) in times {
        if let Some(time) = time {
            annotations = annotations.with(key, duration::print(time));
        }
    }
    if spec.default {
        annotations = annotations.with(storage::IS_DEFAULT, "true");
    }
    let mode = if spec.wait_for_consumer {
        "WaitForFirstConsumer"
    } else {
        "Immediate"
    };
    StorageClass {
        meta: Meta {
            name: spec.name.clone(),
            annotations: annotations.with(storage::ZONAL, spec.zonal.to_string()),
            ..Meta::default()
        },
        provisioner: storage::PROVISIONER.into(),
        wait_for_consumer: spec.wait_for_consumer,
        allowed_topologies: Vec::new(),
        reclaim_delete: true,
        source: Arc::new(serde_json::json!({
            "provisioner": storage::PROVISIONER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": mode,
        })),
    }
}
