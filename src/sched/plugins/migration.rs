//! In-tree volumes that CSI drivers serve now: which driver, which handle, and where the driver's
//! own topology says they are (`csi-translation-lib/plugins`).

use std::borrow::Cow;

use serde_json::Value;

use crate::api::affinity::NodeSelectorTerm;
use crate::api::node::{BETA_REGION, BETA_ZONE, REGION, ZONE};
use crate::api::pod::{Volume, VolumeSource};
use crate::api::selector::{Operator, Requirement};
use crate::api::{CSINode, PersistentVolume, Text};

/// A volume by driver and handle.
pub type VolumeKey = (Text, Text);

/// Annotation of a CSINode: in-tree drivers that moved to CSI (`MigratedPluginsAnnotationKey`).
pub const MIGRATED: &str = "storage.alpha.kubernetes.io/migrated-plugins";

/// An in-tree kind of volume that migrates.
struct InTree {
    field: &'static str,
    plugin: &'static str,
    driver: &'static str,
    /// The field of its handle.
    handle: &'static str,
    /// The driver's key for zones.
    zone: Option<&'static str>,
}

/// Those whose migration is on (`isCSIMigrationOn`).
const IN_TREE: [InTree; 5] = [
    InTree {
        field: "awsElasticBlockStore",
        plugin: "kubernetes.io/aws-ebs",
        driver: "ebs.csi.aws.com",
        handle: "volumeID",
        zone: Some("topology.ebs.csi.aws.com/zone"),
    },
    InTree {
        field: "gcePersistentDisk",
        plugin: "kubernetes.io/gce-pd",
        driver: "pd.csi.storage.gke.io",
        handle: "pdName",
        zone: Some("topology.gke.io/zone"),
    },
    InTree {
        field: "azureDisk",
        plugin: "kubernetes.io/azure-disk",
        driver: "disk.csi.azure.com",
        handle: "diskURI",
        zone: None,
    },
    InTree {
        field: "cinder",
        plugin: "kubernetes.io/cinder",
        driver: "cinder.csi.openstack.org",
        handle: "volumeID",
        zone: Some("topology.cinder.csi.openstack.org/zone"),
    },
    InTree {
        field: "portworxVolume",
        plugin: "kubernetes.io/portworx-volume",
        driver: "pxd.portworx.com",
        handle: "volumeID",
        zone: None,
    },
];

/// Those that would migrate if their gates were on: their volumes count nowhere.
const NOT_ON: [&str; 2] = ["kubernetes.io/azure-file", "kubernetes.io/vsphere-volume"];

/// The driver of a class's volumes; `None` when they count nowhere.
pub fn driver_of(provisioner: &Text) -> Option<Text> {
    let known = IN_TREE.iter().find(|t| t.plugin == provisioner.as_str());
    match known {
        Some(in_tree) => Some(in_tree.driver.into()),
        None if NOT_ON.contains(&provisioner.as_str()) => None,
        None => Some(provisioner.clone()),
    }
}

fn source(volume: &PersistentVolume) -> Option<(&'static InTree, &Value)> {
    let mut known = IN_TREE.iter();
    known.find_map(|t| Some((t, volume.source.get(t.field)?)))
}

/// `TranslateInTreePVToCSI`: driver and handle of a volume.
pub fn of_volume(volume: &PersistentVolume) -> Option<VolumeKey> {
    if volume.csi.is_some() {
        return volume.csi.clone();
    }
    let (in_tree, body) = source(volume)?;
    if in_tree.field == "azureDisk" && !managed(body) {
        return None;
    }
    let handle = body.get(in_tree.handle).and_then(Value::as_str)?;
    let handle = match in_tree.field {
        "gcePersistentDisk" => {
            let labels = &volume.meta.labels;
            let label = |key| labels.get(key).filter(|v| !v.is_empty());
            let zones = label(BETA_ZONE).or_else(|| label(ZONE));
            disk(zones.map_or("", Text::as_str), handle)?
        }
        _ => handle_of(in_tree, handle)?,
    };
    Some((in_tree.driver.into(), handle.into()))
}

/// `TranslateInTreeInlineVolumeToCSI`: driver and handle of a volume in a pod's spec.
pub fn of_inline(volume: &Volume) -> Option<VolumeKey> {
    let VolumeSource::Other {
        field, identity, ..
    } = &volume.source
    else {
        return None;
    };
    let in_tree = IN_TREE.iter().find(|t| t.field == field.as_str())?;
    let handle = match in_tree.field {
        "gcePersistentDisk" => disk("", identity)?,
        _ => handle_of(in_tree, identity)?,
    };
    Some((in_tree.driver.into(), handle.into()))
}

/// `IsInlineMigratable`: whether a volume in a pod's spec is of a kind that migrates, or would.
pub fn migrates(volume: &Volume) -> bool {
    let also = ["azureFile", "vsphereVolume"];
    matches!(&volume.source, VolumeSource::Other { field, .. }
        if also.contains(&field.as_str()) || IN_TREE.iter().any(|t| t.field == field.as_str()))
}

/// Disks on storage accounts do not migrate.
fn managed(azure: &Value) -> bool {
    let kind = azure.get("kind").and_then(Value::as_str);
    kind.is_none_or(|kind| kind.eq_ignore_ascii_case("managed"))
}

/// A Google disk's handle, by the zones that its label names.
fn disk(zones: &str, name: &str) -> Option<String> {
    let zones: Vec<&str> = zones.split("__").collect();
    Some(match zones.as_slice() {
        [""] => format!("projects/UNSPECIFIED/zones/UNSPECIFIED/disks/{name}"),
        [zone] => format!("projects/UNSPECIFIED/zones/{zone}/disks/{name}"),
        many => {
            // `gceGetRegionFromZones`: all zones are of one region.
            let region = |zone: &str| {
                let parts: Vec<&str> = zone.split('-').collect();
                (parts.len() == 3).then(|| parts[..2].join("-"))
            };
            let first = region(many[0])?;
            if many
                .iter()
                .any(|zone| region(zone).as_ref() != Some(&first))
            {
                return None;
            }
            format!("projects/UNSPECIFIED/regions/{first}/disks/{name}")
        }
    })
}

/// `KubernetesVolumeIDToEBSVolumeID` for disks of AWS; the others' handles are taken as they are.
fn handle_of(in_tree: &InTree, handle: &str) -> Option<String> {
    if in_tree.field != "awsElasticBlockStore" {
        return Some(handle.to_owned());
    }
    let Some(path) = handle.strip_prefix("aws://") else {
        return Some(handle.to_owned());
    };
    let id = path.split_once('/')?.1.trim_matches('/');
    let digits = id.strip_prefix("vol-")?;
    (!digits.contains('/')).then(|| id.to_owned())
}

/// `tryTranslatePVToCSI`: the node affinity of a volume on a node whose kubelet says that it leaves
/// the volume's kind to the CSI driver (`isPluginMigratedToCSIOnNode`).
pub fn affinity_on<'a>(
    volume: &'a PersistentVolume,
    csi: Option<&CSINode>,
) -> Option<Cow<'a, [NodeSelectorTerm]>> {
    let terms = volume.node_affinity.as_deref();
    let as_it_is = terms.map(Cow::Borrowed);
    let (Some((in_tree, _)), Some(csi)) = (source(volume), csi) else {
        return as_it_is;
    };
    let migrated = csi.meta.annotations.get(MIGRATED);
    let mut migrated = migrated.into_iter().flat_map(|names| names.split(','));
    match in_tree.zone {
        Some(key) if migrated.any(|name| name == in_tree.plugin) => translated(volume, key),
        _ => as_it_is,
    }
}

/// `translateTopologyFromInTreeToCSI`.
fn translated<'a>(volume: &'a PersistentVolume, key: &str) -> Option<Cow<'a, [NodeSelectorTerm]>> {
    let terms = volume.node_affinity.as_deref().unwrap_or_default();
    let mut all = terms.iter().flat_map(|t| &t.expressions);
    let has = |wanted: &str| all.clone().any(|r| r.key == wanted);
    let labels = &volume.meta.labels;
    let beta = !has(ZONE)
        && (has(BETA_ZONE) || labels.get(ZONE).is_none() && labels.get(BETA_ZONE).is_some());
    let (zone, region) = if beta {
        (BETA_ZONE, BETA_REGION)
    } else {
        (ZONE, REGION)
    };
    let replaced = all.any(|r| r.key == zone && !r.values.is_empty());
    let mut terms = terms.to_vec();
    for requirement in terms.iter_mut().flat_map(|t| &mut t.expressions) {
        if replaced && requirement.key == zone {
            requirement.key = key.into();
        } else if beta && requirement.key == region {
            requirement.key = REGION.into();
        }
    }
    if !replaced && let Some(label) = labels.get(zone) {
        let mut zones: Vec<&str> = label.split("__").map(str::trim).collect();
        zones.retain(|zone| !zone.is_empty());
        zones.sort_unstable();
        zones.dedup();
        if !zones.is_empty() {
            let requirement = Requirement {
                key: key.into(),
                operator: Operator::In,
                values: zones.into_iter().map(Text::from).collect(),
            };
            if terms.is_empty() {
                terms.push(NodeSelectorTerm::default());
            }
            for term in &mut terms {
                term.expressions.push(requirement.clone());
            }
        }
    }
    (!terms.is_empty()).then_some(Cow::Owned(terms))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::decode::{DecodeContext, decode_json};
    use crate::api::{Labels, Row};

    fn volume(source: Value) -> PersistentVolume {
        let mut object = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"},
            "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]},
        });
        for (key, value) in source.as_object().into_iter().flatten() {
            match key.as_str() {
                "labels" => object["metadata"]["labels"] = value.clone(),
                key => object["spec"][key] = value.clone(),
            }
        }
        match decode_json(&object, &DecodeContext::default()).map(|d| d.row) {
            Ok(Row::PersistentVolume(volume)) => PersistentVolume::clone(&volume),
            other => panic!("{other:?}"),
        }
    }

    /// `aws_ebs_test.go`, `gce_pd_test.go`, `azure_disk_test.go`.
    #[test]
    fn in_tree_volumes_have_the_handles_of_their_drivers() {
        let zones = |zones: &str| json!({"topology.kubernetes.io/zone": zones});
        let disk = json!({"pdName": "d"});
        let cases = [
            (
                json!({"awsElasticBlockStore": {"volumeID": "aws://us-east-1a/vol-1"}}),
                "ebs.csi.aws.com vol-1",
            ),
            (
                json!({"awsElasticBlockStore": {"volumeID": "vol-1"}}),
                "ebs.csi.aws.com vol-1",
            ),
            (
                json!({"awsElasticBlockStore": {"volumeID": "aws://us-east-1a/d-1"}}),
                "none",
            ),
            (
                json!({"gcePersistentDisk": disk}),
                "pd.csi.storage.gke.io projects/UNSPECIFIED/zones/UNSPECIFIED/disks/d",
            ),
            (
                json!({"gcePersistentDisk": disk, "labels": zones("us-a1-b")}),
                "pd.csi.storage.gke.io projects/UNSPECIFIED/zones/us-a1-b/disks/d",
            ),
            (
                json!({"gcePersistentDisk": disk, "labels": zones("us-a1-b__us-a1-c")}),
                "pd.csi.storage.gke.io projects/UNSPECIFIED/regions/us-a1/disks/d",
            ),
            (
                json!({"gcePersistentDisk": disk, "labels": zones("us-a1-b__us-a2-c")}),
                "none",
            ),
            (
                json!({"azureDisk": {"diskName": "d", "diskURI": "/subscriptions/s/d", "kind": "Managed"}}),
                "disk.csi.azure.com /subscriptions/s/d",
            ),
            (json!({"nfs": {"server": "s", "path": "/"}}), "none"),
        ];
        for (source, expected) in cases {
            let key = of_volume(&volume(source.clone()));
            let key = key.map_or("none".to_owned(), |(driver, handle)| {
                format!("{driver} {handle}")
            });
            assert_eq!(key, expected, "{source}");
        }
    }

    /// `in_tree_volume_test.go :: TestTranslateTopologyFromInTreeToCSI`.
    #[test]
    fn where_the_driver_serves_a_node_its_own_key_says_where_volumes_are() {
        let affinity = |key: &str| {
            json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": key, "operator": "In", "values": ["z1"]}]}]}})
        };
        let ebs = json!({"volumeID": "vol-1"});
        let zone = json!({"topology.kubernetes.io/zone": "z1__z2"});
        let cases = [
            (
                json!({"awsElasticBlockStore": ebs, "nodeAffinity": affinity(ZONE)}),
                "topology.ebs.csi.aws.com/zone=z1",
            ),
            (
                json!({"awsElasticBlockStore": ebs, "nodeAffinity": affinity(BETA_ZONE)}),
                "topology.ebs.csi.aws.com/zone=z1",
            ),
            (
                json!({"awsElasticBlockStore": ebs, "nodeAffinity": affinity("rack"), "labels": zone}),
                "rack=z1 topology.ebs.csi.aws.com/zone=z1,z2",
            ),
            (
                json!({"awsElasticBlockStore": ebs, "labels": zone}),
                "topology.ebs.csi.aws.com/zone=z1,z2",
            ),
            (json!({"awsElasticBlockStore": ebs}), ""),
            (
                json!({"gcePersistentDisk": {"pdName": "d"}, "nodeAffinity": affinity(ZONE)}),
                "topology.kubernetes.io/zone=z1",
            ),
        ];
        let mut csi = CSINode::default();
        csi.meta.annotations =
            Labels::default().with(MIGRATED, Text::from("kubernetes.io/aws-ebs,x"));
        for (source, expected) in cases {
            let volume = volume(source.clone());
            let terms = affinity_on(&volume, Some(&csi)).unwrap_or_default();
            let all = terms.iter().flat_map(|term| &term.expressions);
            let all = all.map(|r| {
                let values: Vec<&str> = r.values.iter().map(Text::as_str).collect();
                format!("{}={}", r.key, values.join(","))
            });
            assert_eq!(all.collect::<Vec<String>>().join(" "), expected, "{source}");
        }
    }
}
