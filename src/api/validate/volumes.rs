//! The volumes of a pod (`ValidateVolumes`).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    CSIVolumeSource, DownwardAPIVolumeFile, EphemeralVolumeSource, KeyToPath,
    ProjectedVolumeSource, Volume,
};

use serde_json::json;

use super::container::{descending_path, no_backsteps};
use super::disks;
use super::env::{VOLUME_FIELDS, field_ref, resource_field_ref};
use super::field::{At, Errors};
use super::meta::{annotations, labels};
use super::names::{dns_label, dns_subdomain, in_range};
use super::storage::{claim_spec, csi_driver_name};

/// The kinds of sources that [`disks`] knows.
pub(super) const DISKS: [&str; 16] = [
    "iscsi",
    "glusterfs",
    "flocker",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "scaleIO",
];

/// Checks all volumes; those that are good can be mounted.
pub(super) fn volumes<'a>(
    all: &'a [Volume],
    pod: Option<&str>,
    at: &At<'_>,
    errors: &mut Errors,
) -> BTreeMap<&'a str, &'a Volume> {
    let mut good = BTreeMap::new();
    let created: BTreeSet<String> = match pod {
        Some(pod) if !pod.is_empty() => all
            .iter()
            .filter(|volume| volume.ephemeral.is_some())
            .map(|volume| format!("{pod}-{}", volume.name))
            .collect(),
        _ => BTreeSet::new(),
    };
    for (i, volume) in all.iter().enumerate() {
        let at = at.item(i);
        let before = errors.len();
        source(volume, pod, &at, errors);
        let name_at = at.field("name");
        if volume.name.is_empty() {
            errors.required(&name_at, "");
        } else {
            errors.invalid_each(&name_at, &volume.name, dns_label(&volume.name));
        }
        if good.contains_key(volume.name.as_str()) {
            errors.duplicate(&name_at, &volume.name);
        }
        if errors.len() == before {
            good.insert(volume.name.as_str(), volume);
        }
        if let Some(claim) = &volume.persistent_volume_claim
            && created.contains(&claim.claim_name)
        {
            let at = at.field("persistentVolumeClaim");
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(&at.field("claimName"), &claim.claim_name, detail);
        }
    }
    good
}

/// The kinds of sources in the order in which upstream counts them.
fn kinds(volume: &Volume) -> [(&'static str, bool); 30] {
    [
        ("emptyDir", volume.empty_dir.is_some()),
        ("hostPath", volume.host_path.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        (
            "awsElasticBlockStore",
            volume.aws_elastic_block_store.is_some(),
        ),
        ("secret", volume.secret.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("flocker", volume.flocker.is_some()),
        (
            "persistentVolumeClaim",
            volume.persistent_volume_claim.is_some(),
        ),
        ("rbd", volume.rbd.is_some()),
        ("cinder", volume.cinder.is_some()),
        ("cephFS", volume.cephfs.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        // Upstream's spelling, where a second source is refused.
        ("downwarAPI", volume.downward_api.is_some()),
        ("fc", volume.fc.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("configMap", volume.config_map.is_some()),
        ("azureFile", volume.azure_file.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
        (
            "photonPersistentDisk",
            volume.photon_persistent_disk.is_some(),
        ),
        ("portworxVolume", volume.portworx_volume.is_some()),
        ("azureDisk", volume.azure_disk.is_some()),
        ("storageos", volume.storageos.is_some()),
        ("projected", volume.projected.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("csi", volume.csi.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("image", volume.image.is_some()),
    ]
}

/// `validateVolumeSource`: one kind of source; the first is looked at.
fn source(volume: &Volume, pod: Option<&str>, at: &At<'_>, errors: &mut Errors) {
    let mut first = None;
    for (kind, there) in kinds(volume) {
        match (there, first) {
            (true, None) => first = Some(kind),
            (true, Some(_)) => {
                errors.forbidden(&at.field(kind), "may not specify more than 1 volume type");
            }
            (false, _) => {}
        }
    }
    let Some(kind) = first else {
        errors.required(at, "must specify a volume type");
        return;
    };
    // Where upstream's checks spell it otherwise.
    let spelt = match kind {
        "cephFS" => "cephfs",
        "downwarAPI" => "downwardAPI",
        kind => kind,
    };
    let place = at.field(spelt);
    simple_source(volume, kind, &place, errors);
    disk_source(volume, spelt, at, errors);
    config_source(volume, kind, pod.is_some(), &place, errors);
    if let (Some(csi), "csi") = (&volume.csi, kind) {
        csi_source(csi, &place, errors);
    }
    if let (Some(ephemeral), "ephemeral") = (&volume.ephemeral, kind) {
        ephemeral_source(ephemeral, &place, errors);
        if let Some(pod) = pod.filter(|pod| !pod.is_empty() && !volume.name.is_empty()) {
            let claim = format!("{pod}-{}", volume.name);
            for message in dns_subdomain(&claim) {
                let detail = format!("PVC name \"{claim}\": {message}");
                errors.invalid(&at.field("name"), &volume.name, &detail);
            }
        }
    }
}

/// Sources that belong to one product or protocol.
fn disk_source(volume: &Volume, kind: &str, at: &At<'_>, errors: &mut Errors) {
    let name = volume.name.as_str();
    if DISKS.contains(&kind) {
        let all = json!(volume);
        let of = (disks::Of::Pod, name);
        disks::source(kind, &all[kind], of, &at.field(kind), errors);
    }
    let iscsi = volume.iscsi.as_ref().map(|iscsi| json!(iscsi));
    if iscsi.is_some_and(|iscsi| disks::session_too_long(&iscsi, name)) {
        errors.invalid(&at.field("name"), name, disks::SESSION_TOO_LONG);
    }
}

/// Sources of a few plain fields.
fn simple_source(volume: &Volume, kind: &str, at: &At<'_>, errors: &mut Errors) {
    let required = |field: &str, value: &str, errors: &mut Errors| {
        if value.is_empty() {
            errors.required(&at.field(field), "");
        }
    };
    if let (Some(dir), "emptyDir") = (&volume.empty_dir, kind)
        && let Some(limit) = &dir.size_limit
        && super::resources::amount(limit).nanos() < 0
    {
        let detail = "SizeLimit field must be a valid resource quantity";
        errors.forbidden(&at.field("sizeLimit"), detail);
    }
    if let (Some(path), "hostPath") = (&volume.host_path, kind) {
        required("path", &path.path, errors);
        if !path.path.is_empty() {
            no_backsteps(&path.path, &at.field("path"), errors);
            host_path_type(
                path.type_.as_deref().unwrap_or_default(),
                &at.field("type"),
                errors,
            );
        }
    }
    if let (Some(repo), "gitRepo") = (&volume.git_repo, kind) {
        required("repository", &repo.repository, errors);
        let directory = repo.directory.as_deref().unwrap_or_default();
        descending_path(directory, &at.field("directory"), errors);
    }
    if let (Some(nfs), "nfs") = (&volume.nfs, kind) {
        required("server", &nfs.server, errors);
        required("path", &nfs.path, errors);
        if !nfs.path.starts_with('/') {
            errors.invalid(&at.field("path"), &nfs.path, "must be an absolute path");
        }
    }
    if let (Some(claim), "persistentVolumeClaim") = (&volume.persistent_volume_claim, kind) {
        required("claimName", &claim.claim_name, errors);
    }
    if let (Some(disk), "gcePersistentDisk") = (&volume.gce_persistent_disk, kind) {
        // Upstream names this field otherwise.
        let At::Field(parent, _) = at else { return };
        let at = parent.field("persistentDisk");
        if disk.pd_name.is_empty() {
            errors.required(&at.field("pdName"), "");
        }
        partition(disk.partition, &at, errors);
    }
    if let (Some(disk), "awsElasticBlockStore") = (&volume.aws_elastic_block_store, kind) {
        required("volumeID", &disk.volume_id, errors);
        partition(disk.partition, at, errors);
    }
}

pub(super) fn partition(partition: Option<i32>, at: &At<'_>, errors: &mut Errors) {
    let number = partition.unwrap_or(0);
    if !(0..=255).contains(&number) {
        let message = in_range(number.into(), 1, 255);
        errors.invalid_each(&at.field("partition"), &number, message);
    }
}

/// `validateHostPathType`.
pub(super) fn host_path_type(kind: &str, at: &At<'_>, errors: &mut Errors) {
    let all = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    if !all.contains(&kind) {
        errors.not_supported(at, kind, &all);
    }
}

/// Sources that hold files of the API's objects.
fn config_source(volume: &Volume, kind: &str, of_pod: bool, at: &At<'_>, errors: &mut Errors) {
    if let (Some(secret), "secret") = (&volume.secret, kind) {
        if secret.secret_name.as_deref().is_none_or(str::is_empty) {
            errors.required(&at.field("secretName"), "");
        }
        file_mode(secret.default_mode, &at.field("defaultMode"), errors);
        items(&secret.items, &at.field("items"), errors);
    }
    if let (Some(map), "configMap") = (&volume.config_map, kind) {
        if map.name.is_empty() {
            errors.required(&at.field("name"), "");
        }
        file_mode(map.default_mode, &at.field("defaultMode"), errors);
        items(&map.items, &at.field("items"), errors);
    }
    if let (Some(downward), "downwarAPI") = (&volume.downward_api, kind) {
        file_mode(downward.default_mode, &at.field("defaultMode"), errors);
        for file in downward.items.iter().flatten() {
            downward_file(file, at, errors);
        }
    }
    if let (Some(source), "projected") = (&volume.projected, kind) {
        file_mode(source.default_mode, &at.field("defaultMode"), errors);
        projected(source, at, errors);
    }
    if let (Some(image), "image") = (&volume.image, kind) {
        if of_pod && image.reference.as_deref().is_none_or(str::is_empty) {
            errors.required(&at.field("reference"), "");
        }
        let policy = image.pull_policy.as_deref().unwrap_or_default();
        let all = ["Always", "IfNotPresent", "Never"];
        if !all.contains(&policy) {
            errors.not_supported(&at.field("pullPolicy"), policy, &all);
        }
    }
}

fn file_mode(mode: Option<i32>, at: &At<'_>, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.invalid(at, &mode, detail);
    }
}

fn items(items: &Option<Vec<KeyToPath>>, at: &At<'_>, errors: &mut Errors) {
    for (i, item) in items.iter().flatten().enumerate() {
        key_to_path(item, &at.item(i), errors);
    }
}

/// `validateKeyToPath`.
fn key_to_path(item: &KeyToPath, at: &At<'_>, errors: &mut Errors) {
    if item.key.is_empty() {
        errors.required(&at.field("key"), "");
    }
    if item.path.is_empty() {
        errors.required(&at.field("path"), "");
    }
    non_reserved_path(&item.path, &at.field("path"), errors);
    file_mode(item.mode, &at.field("mode"), errors);
}

/// `ValidateLocalNonReservedPath`.
fn non_reserved_path(path: &str, at: &At<'_>, errors: &mut Errors) {
    descending_path(path, at, errors);
    if path.starts_with("..") && !path.starts_with("../") {
        errors.invalid(at, path, "must not start with '..'");
    }
}

/// `validateDownwardAPIVolumeFile`.
fn downward_file(file: &DownwardAPIVolumeFile, at: &At<'_>, errors: &mut Errors) {
    if file.path.is_empty() {
        errors.required(&at.field("path"), "");
    }
    non_reserved_path(&file.path, &at.field("path"), errors);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), other) => {
            field_ref(field, &VOLUME_FIELDS, &at.field("fieldRef"), errors);
            if other.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(at, "resource", detail);
            }
        }
        (None, Some(field)) => {
            resource_field_ref(field, true, &at.field("resourceFieldRef"), errors);
        }
        (None, None) => errors.required(at, "one of fieldRef and resourceFieldRef is required"),
    }
    file_mode(file.mode, &at.field("mode"), errors);
}

/// `validateProjectionSources`.
fn projected(source: &ProjectedVolumeSource, at: &At<'_>, errors: &mut Errors) {
    let mut paths = BTreeSet::new();
    let mut taken = |path: &str, value: &str, errors: &mut Errors| {
        if !path.is_empty() && !paths.insert(path.to_owned()) {
            errors.invalid(at, value, "conflicting duplicate paths");
        }
    };
    let (sources, token_path) = (at.field("sources"), at.field("path"));
    for (i, source) in source.sources.iter().flatten().enumerate() {
        let at = sources.item(i);
        let secret = source
            .secret
            .as_ref()
            .map(|s| ("secret", &s.name, &s.items));
        let map = source
            .config_map
            .as_ref()
            .map(|m| ("configMap", &m.name, &m.items));
        for (field, name, items) in [secret, map].into_iter().flatten() {
            let at = at.field(field);
            if name.is_empty() {
                errors.required(&at.field("name"), "");
            }
            self::items(items, &at.field("items"), errors);
            for item in items.iter().flatten() {
                taken(&item.path, name, errors);
            }
        }
        if let Some(downward) = &source.downward_api {
            for file in downward.items.iter().flatten() {
                downward_file(file, &at.field("downwardAPI"), errors);
                taken(&file.path, &file.path, errors);
            }
        }
        if let Some(token) = &source.service_account_token {
            let seconds = token.expiration_seconds.unwrap_or(0);
            let token_at = at.field("serviceAccountToken");
            let expiration = token_at.field("expirationSeconds");
            if seconds < 600 {
                let detail = "may not specify a duration less than 10 minutes";
                errors.invalid(&expiration, &seconds, detail);
            }
            if seconds > 1 << 32 {
                let detail = "may not specify a duration larger than 2^32 seconds";
                errors.invalid(&expiration, &seconds, detail);
            }
            // The place is upstream's, and a token's path may be that of another file.
            if token.path.is_empty() {
                errors.required(&token_path, "");
            } else {
                non_reserved_path(&token.path, &token_path, errors);
            }
        }
        let count = [
            source.secret.is_some(),
            source.config_map.is_some(),
            source.downward_api.is_some(),
            source.service_account_token.is_some(),
            source.cluster_trust_bundle.is_some(),
            source.pod_certificate.is_some(),
        ];
        if count.iter().filter(|there| **there).count() > 1 {
            errors.forbidden(&at, "may not specify more than 1 volume type per source");
        }
    }
}

fn csi_source(csi: &CSIVolumeSource, at: &At<'_>, errors: &mut Errors) {
    csi_driver_name(&csi.driver, &at.field("driver"), errors);
    if let Some(secret) = &csi.node_publish_secret_ref {
        if secret.name.is_empty() {
            errors.required(&at.field("nodePublishSecretRef.name"), "");
        } else {
            errors.invalid_each(&at.field("name"), &secret.name, dns_subdomain(&secret.name));
        }
    }
}

/// What the metadata of a claim's template may not have.
const META_FIELDS: [&str; 12] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "resourceVersion",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
    "uid",
];

fn ephemeral_source(source: &EphemeralVolumeSource, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("volumeClaimTemplate");
    let Some(template) = &source.volume_claim_template else {
        errors.required(&at, "");
        return;
    };
    if let Some(metadata) = &template.metadata {
        let at = at.field("metadata");
        annotations(&metadata.annotations, &at.field("annotations"), errors);
        labels(&metadata.labels, &at.field("labels"), errors);
        let shown = json!(metadata);
        // In the order of upstream's struct.
        for field in META_FIELDS
            .iter()
            .filter(|field| shown.get(field).is_some())
        {
            errors.forbidden(&at.field(field), "cannot be set");
        }
    }
    claim_spec(&template.spec, &at.field("spec"), errors);
}
