//! Disks that only one node or one pod may use.

use crate::api::pod::{Volume, VolumeSource};
use crate::api::volume::AccessMode;
use crate::api::{PersistentVolumeClaim, Pod, PodSpec, Text};
use crate::sched::events::{ADD, ClusterEvent, DELETE, Involved, Resource, event};
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{
    Code, Cx, CycleState, Plugin, PluginName, PodEntry, Points, PreFilter, Status,
};

/// The plugin.
#[derive(Debug)]
pub struct VolumeRestrictions;

/// `preFilterState`: the pod's ReadWriteOncePod claims, and how many uses by other pods there are.
#[derive(Clone, Debug, Default)]
pub struct ClaimConflicts {
    claims: Vec<Text>,
    conflicts: i64,
}

impl ClaimConflicts {
    fn update(&mut self, other: &PodEntry, sign: i64) {
        let claims = other.template.claims.iter();
        let shared = claims.filter(|c| self.claims.contains(c)).count();
        self.conflicts += sign * i64::try_from(shared).unwrap_or(0);
    }
}

/// `needsRestrictionsCheck`.
fn restricted(volume: &Volume) -> bool {
    matches!(&volume.source, VolumeSource::Other { field, .. }
        if ["gcePersistentDisk", "awsElasticBlockStore", "iscsi", "rbd"].contains(&field.as_str()))
}

/// Whether two identities of one kind mean the same disk. RBD images are the same if their clusters
/// share a monitor (`haveOverlap`).
fn same_disk(field: &str, one: &str, other: &str) -> bool {
    if field != "rbd" {
        return one == other;
    }
    let (Some((ours, image)), Some((theirs, other))) = (one.split_once('/'), other.split_once('/'))
    else {
        return false;
    };
    let mut ours = ours.split(',');
    image == other && ours.any(|monitor| theirs.split(',').any(|their| their == monitor))
}

/// `isVolumeConflict`: the same disk, unless both only read it (AWS disks conflict even then).
fn conflicts(volume: &Volume, spec: &PodSpec) -> bool {
    let VolumeSource::Other {
        field,
        identity,
        read_only,
    } = &volume.source
    else {
        return false;
    };
    spec.volumes.iter().any(|existing| {
        matches!(&existing.source, VolumeSource::Other { field: f, identity: i, read_only: r }
            if f == field
                && same_disk(field, i, identity)
                && (field == "awsElasticBlockStore" || !(*read_only && *r)))
    })
}

fn disks_free(spec: &PodSpec, others: impl Fn(&Volume) -> bool) -> bool {
    let mut volumes = spec.volumes.iter().filter(|v| restricted(v));
    !volumes.any(others)
}

/// The claim of this name, or the API machinery's words for its absence.
pub fn claim<'a>(
    cx: &Cx<'a>,
    namespace: &Text,
    name: &Text,
) -> Result<&'a PersistentVolumeClaim, String> {
    let found = cx.view.of::<PersistentVolumeClaim>().named(namespace, name);
    found
        .map(|(_, claim)| &**claim)
        .ok_or_else(|| format!("persistentvolumeclaim \"{name}\" not found"))
}

/// Whether two pods of one namespace use a claim together.
fn share_claims(pod: &PodEntry, other: &Pod) -> bool {
    let mut volumes = other.spec.volumes.iter();
    volumes.any(|v| {
        matches!(&v.source, VolumeSource::Claim { name, .. } if pod.template.claims.contains(name))
    })
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> PluginName {
        PluginName::VolumeRestrictions
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER)
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const EVENTS: &[ClusterEvent] = &[
            event(Resource::Pod, DELETE),
            event(Resource::Node, ADD),
            event(Resource::PersistentVolumeClaim, ADD),
        ];
        EVENTS
    }

    fn hint(&self, _cx: &Cx<'_>, pod: &PodEntry, involved: &Involved<'_>) -> bool {
        let namespace = &pod.pod.meta.namespace;
        match involved {
            Involved::Pod(Some(deleted), _) => {
                deleted.meta.namespace == *namespace
                    && (!disks_free(&pod.pod.spec, |v| conflicts(v, &deleted.spec))
                        || share_claims(pod, deleted))
            }
            Involved::Claim(_, Some(claim)) => {
                claim.meta.namespace == *namespace && pod.template.claims.contains(&claim.meta.name)
            }
            _ => true,
        }
    }

    fn pre_filter(&self, cx: &Cx<'_>, state: &mut CycleState, pod: &PodEntry) -> PreFilter {
        let namespace = &pod.pod.meta.namespace;
        let mut found = ClaimConflicts::default();
        for name in &pod.template.claims {
            match claim(cx, namespace, name) {
                Err(message) => return PreFilter::Reject(Status::unresolvable(message)),
                Ok(claim) if claim.access_modes.contains(&AccessMode::ReadWriteOncePod) => {
                    found.conflicts += i64::from(cx.cache.claim_used(namespace, name));
                    found.claims.push(name.clone());
                }
                Ok(_) => {}
            }
        }
        if found.conflicts == 0 && !pod.template.spec.volumes.iter().any(restricted) {
            return PreFilter::Skip;
        }
        state.claim_conflicts = Some(found);
        PreFilter::All
    }

    fn add_pod(
        &self,
        _cx: &Cx<'_>,
        state: &mut CycleState,
        _pod: &PodEntry,
        other: &PodEntry,
        _node: &NodeInfo,
    ) {
        if let Some(state) = &mut state.claim_conflicts {
            state.update(other, 1);
        }
    }

    fn remove_pod(
        &self,
        _cx: &Cx<'_>,
        state: &mut CycleState,
        _pod: &PodEntry,
        other: &PodEntry,
        _node: &NodeInfo,
    ) {
        if let Some(state) = &mut state.claim_conflicts {
            state.update(other, -1);
        }
    }

    fn filter(
        &self,
        _cx: &Cx<'_>,
        state: &CycleState,
        pod: &PodEntry,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        let taken = |v: &Volume| node.pods.iter().any(|p| conflicts(v, &p.template.spec));
        if !disks_free(&pod.template.spec, taken) {
            return Err(Status::unschedulable("node(s) had no available disk"));
        }
        let Some(claims) = &state.claim_conflicts else {
            let why = "cannot read \"PreFilterVolumeRestrictions\" from cycleState";
            return Err(Status::new(Code::Error, why));
        };
        if claims.conflicts > 0 {
            return Err(Status::unschedulable(
                "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access \
                 mode already in-use by another pod",
            ));
        }
        Ok(())
    }
}
