//! Claims, volumes and storage classes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec,
    SecretReference, TopologySelectorTerm, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::json;

use super::affinity::node_selector;
use super::container::no_backsteps;
use super::disks;
use super::field::{At, Errors};
use super::meta::{label_name, label_selector};
use super::names::{dns_label, dns_subdomain, label_key};
use super::resources::{amount, positive, quantity_value};
use super::volumes::{host_path_type, partition};

const ACCESS_MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

/// `ValidatePersistentVolumeClaim`, without the metadata.
pub fn claim(object: &PersistentVolumeClaim, at: &At<'_>, errors: &mut Errors) {
    claim_spec(
        &object.spec.clone().unwrap_or_default(),
        &at.field("spec"),
        errors,
    );
}

/// `ValidatePersistentVolumeClaimSpec`.
pub(super) fn claim_spec(spec: &PersistentVolumeClaimSpec, at: &At<'_>, errors: &mut Errors) {
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.required(
            &at.field("accessModes"),
            "at least 1 access mode is required",
        );
    }
    if let Some(selector) = &spec.selector {
        label_selector(selector, &at.field("selector"), errors);
    }
    access_modes(modes, &at.field("accessModes"), errors);
    let resources = at.field("resources");
    let storage_at = resources.key("storage");
    let requests = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    match requests.and_then(|requests| requests.get("storage")) {
        None => errors.required(&storage_at, ""),
        Some(storage) => {
            let before = errors.len();
            positive(storage, &storage_at, errors);
            if errors.len() == before {
                quantity_value("storage", storage, &storage_at, errors);
            }
        }
    }
    for (field, name) in [
        ("storageClassName", &spec.storage_class_name),
        (
            "volumeAttributesClassName",
            &spec.volume_attributes_class_name,
        ),
    ] {
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            errors.invalid_each(&at.field(field), name, dns_subdomain(name));
        }
    }
    volume_mode(&spec.volume_mode, &at.field("volumeMode"), errors);
    data_source(spec, at, errors);
}

/// `validateDataSource` and `validateDataSourceRef`.
fn data_source(spec: &PersistentVolumeClaimSpec, at: &At<'_>, errors: &mut Errors) {
    let source = spec
        .data_source
        .as_ref()
        .map(|s| ("dataSource", &s.name, &s.kind, &s.api_group));
    let reference = spec.data_source_ref.as_ref();
    let reference = reference.map(|s| ("dataSourceRef", &s.name, &s.kind, &s.api_group));
    for (field, name, kind, group) in [source, reference].into_iter().flatten() {
        let at = at.field(field);
        if name.is_empty() {
            errors.required(&at.field("name"), "");
        }
        if kind.is_empty() {
            errors.required(&at.field("kind"), "");
        }
        let group = group.as_deref().unwrap_or_default();
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.invalid(&at, kind, detail);
        }
        if !group.is_empty() {
            errors.invalid_each(&at.field("apiGroup"), group, dns_subdomain(group));
        }
    }
    let namespace = spec
        .data_source_ref
        .as_ref()
        .and_then(|s| s.namespace.as_deref());
    let namespace = namespace.unwrap_or_default();
    // Upstream shows the path, a struct without public fields.
    let shown = json!({});
    if !namespace.is_empty() {
        let at_ref = at.field("dataSourceRef");
        errors.invalid_each(&at_ref.field("namespace"), namespace, dns_label(namespace));
        if source.is_some() {
            let detail = "may not be specified when dataSourceRef.namespace is specified";
            errors.invalid(at, &shown, detail);
        }
    } else if let (Some((_, a, b, c)), Some((_, d, e, f))) = (source, reference)
        && (a, b, c) != (d, e, f)
    {
        errors.invalid(at, &shown, "must match dataSourceRef");
    }
}

fn access_modes(modes: &[String], at: &At<'_>, errors: &mut Errors) {
    let (mut one_pod, mut other) = (false, false);
    for mode in modes {
        if !ACCESS_MODES.contains(&mode.as_str()) {
            errors.not_supported(at, mode, &ACCESS_MODES);
        } else if mode == "ReadWriteOncePod" {
            one_pod = true;
        } else {
            other = true;
        }
    }
    if one_pod && other {
        errors.forbidden(at, "may not use ReadWriteOncePod with other access modes");
    }
}

fn volume_mode(mode: &Option<String>, at: &At<'_>, errors: &mut Errors) {
    if let Some(mode) = mode
        && !matches!(mode.as_str(), "Block" | "Filesystem")
    {
        errors.not_supported(at, mode, &["Block", "Filesystem"]);
    }
}

/// `ValidatePersistentVolume`, without the metadata.
pub fn volume(object: &PersistentVolume, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("spec");
    let spec = object.spec.clone().unwrap_or_default();
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.required(&at.field("accessModes"), "");
    }
    access_modes(modes, &at.field("accessModes"), errors);
    let capacity = spec.capacity.clone().unwrap_or_default();
    let capacity_at = at.field("capacity");
    if capacity.is_empty() {
        errors.required(&capacity_at, "");
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        errors.not_supported(&capacity_at, &json!(spec.capacity), &["storage"]);
    }
    for (name, size) in &capacity {
        let at = capacity_at.key(name);
        // As Go rounds it: what does not fit wraps around.
        let exact = amount(size).nanos() / 1_000_000_000;
        let value = match i64::try_from(exact) {
            Ok(_) => amount(size).value(),
            Err(_) => exact as i64,
        };
        if value < 0 {
            errors.invalid(&at, &value, "must be a valid resource quantity");
        }
        positive(size, &at, errors);
    }
    let policy = spec
        .persistent_volume_reclaim_policy
        .as_deref()
        .unwrap_or_default();
    let policies = ["Delete", "Recycle", "Retain"];
    if !policy.is_empty() && !policies.contains(&policy) {
        errors.not_supported(
            &at.field("persistentVolumeReclaimPolicy"),
            policy,
            &policies,
        );
    }
    let affinity = spec.node_affinity.as_ref();
    if let Some(VolumeNodeAffinity { required }) = affinity {
        let at = at.field("nodeAffinity");
        match required {
            Some(required) => node_selector(required, &at.field("required"), errors),
            None => errors.required(
                &at.field("required"),
                "must specify required node constraints",
            ),
        }
    }
    let name = object.metadata.name.as_deref().unwrap_or_default();
    volume_sources(&spec, name, &at, errors);
    let class = spec.storage_class_name.as_deref().unwrap_or_default();
    if !class.is_empty() {
        errors.invalid_each(&at.field("storageClassName"), class, dns_subdomain(class));
    }
    volume_mode(&spec.volume_mode, &at.field("volumeMode"), errors);
    attributes_class(&spec, &at, errors);
}

/// `ValidatePersistentVolumeSpec` of a volume that is written into its attachment: one of a CSI
/// driver that nobody claims.
pub(super) fn attached_volume(spec: &PersistentVolumeSpec, at: &At<'_>, errors: &mut Errors) {
    let inline = "may not be specified in the context of inline volumes";
    let class = spec.storage_class_name.as_deref().unwrap_or_default();
    let capacity = spec.capacity.as_ref();
    for (field, given) in [
        ("claimRef", spec.claim_ref.is_some()),
        ("capacity", capacity.is_some_and(|c| !c.is_empty())),
        ("nodeAffinity", spec.node_affinity.is_some()),
        ("storageClassName", !class.is_empty()),
    ] {
        if given {
            errors.forbidden(&at.field(field), inline);
        }
    }
    if spec.csi.is_none() {
        let detail = "has to be specified in the context of inline volumes";
        errors.required(&at.field("csi"), detail);
    }
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.required(&at.field("accessModes"), "");
    }
    access_modes(modes, &at.field("accessModes"), errors);
    for (field, value, only) in [
        (
            "persistentVolumeReclaimPolicy",
            &spec.persistent_volume_reclaim_policy,
            "may only be Retain in the context of inline volumes",
        ),
        (
            "volumeMode",
            &spec.volume_mode,
            "may not specify volumeMode other than Filesystem in the context of inline volumes",
        ),
    ] {
        let value = value.as_deref().unwrap_or_default();
        if !matches!(value, "" | "Retain" | "Filesystem") {
            errors.forbidden(&at.field(field), only);
        }
    }
    volume_sources(spec, "", at, errors);
}

/// A class of attributes is for volumes of CSI drivers.
fn attributes_class(spec: &PersistentVolumeSpec, at: &At<'_>, errors: &mut Errors) {
    let Some(class) = &spec.volume_attributes_class_name else {
        return;
    };
    let class_at = at.field("volumeAttributesClassName");
    if class.is_empty() {
        errors.required(&class_at, "an empty string is disallowed");
    } else {
        errors.invalid_each(&class_at, class, dns_subdomain(class));
    }
    if spec.csi.is_none() {
        let detail = "has to be specified when using volumeAttributesClassName";
        errors.required(&at.field("csi"), detail);
    }
}

/// The source of a volume; exactly one.
fn volume_sources(spec: &PersistentVolumeSpec, name: &str, at: &At<'_>, errors: &mut Errors) {
    let mut sources = 0;
    let shown = json!(spec);
    let kinds = [
        "hostPath",
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "glusterfs",
        "flocker",
        "nfs",
        "rbd",
        "quobyte",
        "cephfs",
        "iscsi",
        "cinder",
        "fc",
        "flexVolume",
        "azureFile",
        "vsphereVolume",
        "photonPersistentDisk",
        "portworxVolume",
        "azureDisk",
        "scaleIO",
        "local",
        "storageos",
        "csi",
    ];
    for kind in kinds {
        if shown.get(kind).is_none() {
            continue;
        }
        // Upstream never counts this one as one too many.
        if sources > 0 && kind != "flexVolume" {
            let spelt = if kind == "cephfs" { "cephFS" } else { kind };
            errors.forbidden(&at.field(spelt), "may not specify more than 1 volume type");
            continue;
        }
        sources += 1;
        volume_source(spec, kind, &at.field(kind), errors);
        let of = (disks::Of::Volume, name);
        disks::source(kind, &shown[kind], of, &at.field(kind), errors);
        let bound = spec.node_affinity.is_some();
        if kind == "local" && !bound {
            errors.required(
                &at.field("nodeAffinity"),
                "Local volume requires node affinity",
            );
        }
    }
    if sources == 0 {
        errors.required(at, "must specify a volume type");
    }
    if let Some(host) = &spec.host_path
        && host
            .path
            .split('/')
            .all(|part| part.is_empty() || part == ".")
        && host.path.starts_with('/')
        && spec.persistent_volume_reclaim_policy.as_deref() == Some("Recycle")
    {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.forbidden(&at.field("persistentVolumeReclaimPolicy"), detail);
    }
}

fn volume_source(spec: &PersistentVolumeSpec, kind: &str, at: &At<'_>, errors: &mut Errors) {
    let required = |field: &str, value: &str, errors: &mut Errors| {
        if value.is_empty() {
            errors.required(&at.field(field), "");
        }
    };
    match kind {
        "hostPath" => {
            if let Some(host) = &spec.host_path {
                required("path", &host.path, errors);
                if !host.path.is_empty() {
                    no_backsteps(&host.path, &at.field("path"), errors);
                    let kind = host.type_.as_deref().unwrap_or_default();
                    host_path_type(kind, &at.field("type"), errors);
                }
            }
        }
        "nfs" => {
            if let Some(nfs) = &spec.nfs {
                required("server", &nfs.server, errors);
                required("path", &nfs.path, errors);
                if !nfs.path.starts_with('/') {
                    errors.invalid(&at.field("path"), &nfs.path, "must be an absolute path");
                }
            }
        }
        "gcePersistentDisk" | "awsElasticBlockStore" => partitioned(spec, kind, at, errors),
        "local" => {
            if let Some(local) = &spec.local {
                required("path", &local.path, errors);
                if !local.path.is_empty() {
                    no_backsteps(&local.path, &at.field("path"), errors);
                }
            }
        }
        "csi" => {
            if let Some(csi) = &spec.csi {
                csi_driver_name(&csi.driver, &at.field("driver"), errors);
                required("volumeHandle", &csi.volume_handle, errors);
                for (field, secret) in [
                    (
                        "controllerPublishSecretRef",
                        &csi.controller_publish_secret_ref,
                    ),
                    (
                        "controllerExpandSecretRef",
                        &csi.controller_expand_secret_ref,
                    ),
                    ("nodePublishSecretRef", &csi.node_publish_secret_ref),
                    ("nodeExpandSecretRef", &csi.node_expand_secret_ref),
                ] {
                    if let Some(secret) = secret {
                        secret_reference(secret, &at.field(field), errors);
                    }
                }
            }
        }
        _ => {}
    }
}

/// Disks of clouds, of which one partition is mounted.
fn partitioned(spec: &PersistentVolumeSpec, kind: &str, at: &At<'_>, errors: &mut Errors) {
    if let (Some(disk), "gcePersistentDisk") = (&spec.gce_persistent_disk, kind) {
        // Upstream names this field otherwise.
        let At::Field(parent, _) = at else { return };
        let at = parent.field("persistentDisk");
        if disk.pd_name.is_empty() {
            errors.required(&at.field("pdName"), "");
        }
        partition(disk.partition, &at, errors);
    }
    if let (Some(disk), "awsElasticBlockStore") = (&spec.aws_elastic_block_store, kind) {
        if disk.volume_id.is_empty() {
            errors.required(&at.field("volumeID"), "");
        }
        partition(disk.partition, at, errors);
    }
}

/// `validatePVSecretReference`.
fn secret_reference(secret: &SecretReference, at: &At<'_>, errors: &mut Errors) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (name, namespace) = (text(&secret.name), text(&secret.namespace));
    if name.is_empty() {
        errors.required(&at.field("name"), "");
    } else {
        errors.invalid_each(&at.field("name"), &name, dns_subdomain(&name));
    }
    if namespace.is_empty() {
        errors.required(&at.field("namespace"), "");
    } else {
        errors.invalid_each(&at.field("namespace"), &namespace, dns_label(&namespace));
    }
}

/// `ValidateCSIDriverName`.
pub(super) fn csi_driver_name(name: &str, at: &At<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(at, "");
        return;
    }
    if name.len() > 63 {
        errors.too_long(at, 63);
    }
    errors.invalid_each(at, name, dns_subdomain(&name.to_lowercase()));
}

/// `ValidateStorageClass`, without the metadata.
pub fn storage_class(object: &StorageClass, at: &At<'_>, errors: &mut Errors) {
    let provisioner = &object.provisioner;
    let provisioner_at = at.field("provisioner");
    if provisioner.is_empty() {
        errors.required(&provisioner_at, "");
    } else {
        // The lower-case form is judged and shown.
        let lower = provisioner.to_lowercase();
        errors.invalid_each(&provisioner_at, &lower, label_key(&lower));
    }
    parameters(&object.parameters, &at.field("parameters"), errors);
    let policy = object.reclaim_policy.as_deref().unwrap_or_default();
    if !policy.is_empty() && !matches!(policy, "Delete" | "Retain") {
        errors.not_supported(&at.field("reclaimPolicy"), policy, &["Delete", "Retain"]);
    }
    let mode = object.volume_binding_mode.as_deref().unwrap_or_default();
    if !matches!(mode, "Immediate" | "WaitForFirstConsumer") {
        let all = ["Immediate", "WaitForFirstConsumer"];
        errors.not_supported(&at.field("volumeBindingMode"), mode, &all);
    }
    topologies(object, &at.field("allowedTopologies"), errors);
}

fn parameters(pairs: &Option<BTreeMap<String, String>>, at: &At<'_>, errors: &mut Errors) {
    let count = pairs.as_ref().map_or(0, BTreeMap::len);
    if count > 512 {
        errors.too_long(at, 512);
        return;
    }
    let mut size = 0;
    for (key, value) in pairs.iter().flatten() {
        if key.is_empty() {
            errors.invalid(at, key, "field can not be empty.");
        }
        size += key.len() + value.len();
    }
    if size > 256 << 10 {
        errors.too_long(at, 256 << 10);
    }
}

type Topology<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// `validateAllowedTopologies`. Upstream compares each term with as many empty ones as there are
/// terms, too: an empty term is a duplicate that many times.
fn topologies(object: &StorageClass, at: &At<'_>, errors: &mut Errors) {
    let terms = object.allowed_topologies.as_deref().unwrap_or_default();
    let mut seen: Vec<Topology<'_>> = vec![Topology::new(); terms.len()];
    for (i, term) in terms.iter().enumerate() {
        let at = at.item(i);
        let topology = topology(term, &at, errors);
        for _ in seen.iter().filter(|other| **other == topology) {
            errors.duplicate(&at.field("matchLabelExpressions"), "");
        }
        seen.push(topology);
    }
}

/// `ValidateTopologySelectorTerm`.
fn topology<'a>(term: &'a TopologySelectorTerm, at: &At<'_>, errors: &mut Errors) -> Topology<'a> {
    let mut topology = Topology::new();
    let at = at.field("matchLabelExpressions");
    for (i, requirement) in term.match_label_expressions.iter().flatten().enumerate() {
        let at = at.item(i);
        let values_at = at.field("values");
        let mut values = BTreeSet::new();
        if requirement.values.is_empty() {
            errors.required(&values_at, "");
        }
        for (j, value) in requirement.values.iter().enumerate() {
            if !values.insert(value.as_str()) {
                errors.duplicate(&values_at.item(j), value);
            }
        }
        label_name(&requirement.key, &at.field("key"), errors);
        if topology.insert(requirement.key.as_str(), values).is_some() {
            errors.duplicate(&at.field("key"), &requirement.key);
        }
    }
    topology
}
