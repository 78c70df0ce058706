//! Which volume fits a claim.
//!
//! `pkg/controller/volume/persistentvolume/index.go` and
//! `staging/src/k8s.io/component-helpers/storage/volume/pv_helpers.go :: FindMatchingVolume`, without
//! a node: the scheduler has its own search for claims that wait for one.

use std::sync::Arc;

use crate::api::volume::VolumePhase;
use crate::api::{PersistentVolume, PersistentVolumeClaim};
use crate::store::{Id, View};

fn modes_fit(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let mut modes = claim.access_modes.iter();
    modes.all(|mode| volume.access_modes.contains(mode))
}

/// `checkVolumeSatisfyClaim`: why a volume that the claim asks for by name is not fit.
pub(super) fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    if volume.meta.deleting() {
        let name = &volume.meta.name;
        return Some(format!("the volume is marked for deletion \"{name}\""));
    }
    let why = if volume.capacity < claim.request.unwrap_or(0) {
        "requested PV is too small"
    } else if *volume.class() != claim.class() {
        "storageClassName does not match"
    } else if volume.block != claim.block {
        "incompatible volumeMode"
    } else if !modes_fit(volume, claim) {
        "incompatible accessMode"
    } else {
        return None;
    };
    Some(why.into())
}

/// `findBestMatchForClaim`: the volume that is bound to the claim already; else, unless a node has
/// to be chosen first, the smallest of those with the fewest access modes that fit.
pub(super) fn best<'a>(
    claim: &PersistentVolumeClaim,
    delayed: bool,
    view: &'a View,
) -> Option<(Id<PersistentVolume>, &'a Arc<PersistentVolume>)> {
    let volumes = view.of::<PersistentVolume>();
    let wanted = claim.request.unwrap_or(0);
    let fits = |volume: &PersistentVolume| {
        (volume.claim.is_none() || volume.bound_to(claim))
            && volume.block == claim.block
            && !volume.meta.deleting()
            && volume.capacity >= wanted
            && modes_fit(volume, claim)
    };
    let mine = volumes.iter().find(|(_, v)| v.bound_to(claim) && fits(v));
    if mine.is_some() || delayed {
        return mine;
    }
    let class = claim.class();
    let free = volumes.iter().filter(|(_, volume)| {
        let selector = claim.selector.as_ref();
        fits(volume)
            && volume.status.phase == VolumePhase::Available
            && *volume.class() == class
            && selector.is_none_or(|s| s.matches(&volume.meta.labels))
    });
    free.min_by_key(|(_, volume)| (volume.access_modes.len(), volume.capacity))
}

/// `findDeletablePlugin` and the deleter of that plugin, for volumes that no driver looks after.
///
/// # Errors
/// Why it cannot be deleted, in upstream's words.
pub(super) fn deleter(volume: &PersistentVolume) -> Result<(), String> {
    let has = |field: &str| !volume.source[field].is_null();
    if has("hostPath") {
        let path = volume.source["hostPath"]["path"].as_str().unwrap_or("");
        if path
            .strip_prefix("/tmp/")
            .is_some_and(|rest| !rest.is_empty())
        {
            return Ok(());
        }
        return Err(format!(
            "host_path deleter only supports /tmp/.+ but received provided {path}"
        ));
    }
    let name = &volume.meta.name;
    let why = match has("nfs") || has("local") {
        true => "no deletable volume plugin matched",
        false => "no volume plugin matched",
    };
    Err(format!(
        "error getting deleter volume plugin for volume \"{name}\": {why}"
    ))
}
