//! What the simulated storage is like: how long its operations take and where its volumes can go.
//!
//! Everything is read from the StorageClass or the PersistentVolume itself: from annotations of the
//! domain `rehearsal.dev` where they are given (a scenario's `storageClasses` set them), else from
//! what is known of the provisioner. No network and no disk is modelled, only the latencies.

use std::time::Duration;

use super::node::{HOSTNAME, ZONE};
use super::{Meta, PersistentVolume, StorageClass, Text, duration};

/// Annotation: how long it takes to make a volume.
pub const PROVISION: &str = "rehearsal.dev/provision";
/// Annotation: how long it takes to attach a volume; `0s` for volumes that need not be attached.
pub const ATTACH: &str = "rehearsal.dev/attach";
/// Annotation: how long it takes to detach a volume.
pub const DETACH: &str = "rehearsal.dev/detach";
/// Annotation: `true` when volumes belong to the zone that they were made in, `false` when they can
/// be used everywhere.
pub const ZONAL: &str = "rehearsal.dev/zonal";
/// `storageclass.kubernetes.io/is-default-class`.
pub const IS_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
/// The same before it was stable.
pub const IS_DEFAULT_BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";
/// The class of a volume or claim, from before there was a field.
pub const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Annotation: whoever bound volume and claim chose the other side, not the user.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Which provisioner made a volume.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// The provisioner of the simulated cluster's own classes.
pub const PROVISIONER: &str = "disk.rehearsal.dev";
/// Provisioner of classes that do not provision.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What network disks take when nothing says otherwise: typical of the big clouds' block storage.
const DISK: Latencies = Latencies {
    provision: Duration::from_secs(3),
    attach: Some((Duration::from_secs(5), Duration::from_secs(5))),
};

/// How long the operations of a storage take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latencies {
    /// Making a volume.
    pub provision: Duration,
    /// Attaching and detaching it, where that is needed.
    pub attach: Option<(Duration, Duration)>,
}

fn annotated(meta: &Meta, key: &str) -> Option<Duration> {
    duration::parse(meta.annotations.get(key)?).ok()
}

/// File systems over the network and disks of the node itself: used in place.
fn in_place(provisioner: &str) -> bool {
    let words = [
        "nfs",
        "efs",
        "file",
        "local-path",
        "hostpath",
        "lvm",
        "topolvm",
    ];
    words.iter().any(|word| provisioner.contains(word)) || of_node(provisioner)
}

/// Provisioners of disks of the node itself: a volume can be used where it was made and nowhere
/// else, and is gone with its node (`rancher/local-path-provisioner/provisioner.go :: Provision`,
/// `openebs/dynamic-localpv-provisioner`, the others' `NodeGetInfo`).
fn of_node(provisioner: &str) -> bool {
    let words = [
        "rancher.io/local-path",
        "topolvm.io",
        "topolvm.cybozu.com",
        "openebs.io/local",
        "local.csi.openebs.io",
        "zfs.csi.openebs.io",
        "hostpath.csi.k8s.io",
    ];
    words.contains(&provisioner)
}

/// Disks of the big clouds: each belongs to a zone.
fn cloud_disk(provisioner: &str) -> bool {
    let words = [
        "ebs.csi.aws.com",
        "pd.csi.storage.gke.io",
        "disk.csi.azure.com",
        "kubernetes.io/aws-ebs",
        "kubernetes.io/gce-pd",
        "kubernetes.io/azure-disk",
        "cinder.csi.openstack.org",
    ];
    words.contains(&provisioner)
}

fn latencies(meta: &Meta, default: Latencies) -> Latencies {
    let times = default.attach;
    let attach = annotated(meta, ATTACH).or(times.map(|(attach, _)| attach));
    let detach = annotated(meta, DETACH).or(times.map(|(_, detach)| detach));
    let attach = attach.filter(|attach| !attach.is_zero());
    Latencies {
        provision: annotated(meta, PROVISION).unwrap_or(default.provision),
        attach: attach.map(|attach| (attach, detach.unwrap_or(attach))),
    }
}

/// Of a class's volumes.
pub fn of_class(class: &StorageClass) -> Latencies {
    let attach = DISK.attach.filter(|_| !in_place(&class.provisioner));
    latencies(&class.meta, Latencies { attach, ..DISK })
}

/// Of a volume: only CSI volumes are attached.
pub fn of_volume(volume: &PersistentVolume) -> Latencies {
    let attach = match &volume.csi {
        Some((driver, _)) if !in_place(driver) => DISK.attach,
        _ => None,
    };
    latencies(&volume.meta, Latencies { attach, ..DISK })
}

/// The node label whose value must be that of the node a volume of this class was made for,
/// wherever the class says so, or its provisioner is known to.
pub fn topology(class: &StorageClass) -> Option<&'static str> {
    match zonal(class) {
        Some(zonal) => zonal.then_some(ZONE),
        None if cloud_disk(&class.provisioner) => Some(ZONE),
        None => of_node(&class.provisioner).then_some(HOSTNAME),
    }
}

/// Whether a class's volumes belong to a zone, if its annotation says it.
pub fn zonal(class: &StorageClass) -> Option<bool> {
    let said = class.meta.annotations.get(ZONAL);
    said.map(|text| text == "true")
}

/// Whether a class is a default class.
pub fn is_default(class: &StorageClass) -> bool {
    let mut keys = [IS_DEFAULT, IS_DEFAULT_BETA].into_iter();
    keys.any(|key| class.meta.annotations.get(key).is_some_and(|v| v == "true"))
}

/// The name of the VolumeAttachment of a volume to a node.
pub fn attachment_name(volume: &str, node: &str) -> Text {
    let digest = crate::engine::draws::entity_key(&["VolumeAttachment", volume, node]);
    Text::from(format!("csi-{digest:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Labels;

    #[test]
    fn a_class_says_what_its_volumes_take_or_its_provisioner_does() {
        // provisioner, annotations; attach and detach in seconds, label of where its volumes are
        let disk = Some((5, 5));
        let table = [
            ("ebs.csi.aws.com", "", disk, Some(ZONE)),
            ("disk.rehearsal.dev", "", disk, None),
            ("disk.rehearsal.dev", "zonal=true", disk, Some(ZONE)),
            (
                "disk.rehearsal.dev",
                "attach=8s detach=2s",
                Some((8, 2)),
                None,
            ),
            ("disk.rehearsal.dev", "attach=0s", None, None),
            ("nfs.csi.k8s.io", "", None, None),
            ("rancher.io/local-path", "", None, Some(HOSTNAME)),
            ("rancher.io/local-path", "zonal=false", None, None),
            ("openebs.io/local", "", None, Some(HOSTNAME)),
            ("k8s.io/minikube-hostpath", "", None, None),
            ("pd.csi.storage.gke.io", "zonal=false", disk, None),
        ];
        for (provisioner, annotations, attach, expected) in table {
            let pairs = annotations.split_whitespace().map(|pair| {
                let (key, value) = pair.split_once('=').unwrap();
                (format!("rehearsal.dev/{key}"), value.to_owned())
            });
            let class = StorageClass {
                meta: Meta {
                    annotations: pairs.collect::<Labels>(),
                    ..Meta::default()
                },
                provisioner: provisioner.into(),
                ..StorageClass::default()
            };
            let got = of_class(&class).attach;
            let got = got.map(|(a, d)| (a.as_secs(), d.as_secs()));
            assert_eq!((got, topology(&class)), (attach, expected), "{provisioner}");
        }
    }
}
