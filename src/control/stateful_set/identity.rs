//! Who a pod of a StatefulSet is: its ordinal, its name, its claims, its revision.
//!
//! `pkg/controller/statefulset/stateful_set_utils.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::pod::{Volume, VolumeSource};
use crate::api::pod_status::Phase;
use crate::api::stateful::StatefulStrategy;
use crate::api::{Pod, PodSpec, PodTemplate, StatefulSet, Text};
use crate::control::history::{REVISION_LABEL, Revision};
use crate::control::owner::controller_ref;
use crate::control::pods;
use crate::engine::Time;
use crate::store::Id;

/// `apps.StatefulSetPodNameLabel`.
pub const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
/// `apps.PodIndexLabel`.
pub const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The name of the set that this pod name belongs to, and the ordinal; an empty name and -1 when it
/// is not of that form (`getParentNameAndOrdinal`).
pub fn parent_and_ordinal(name: &str) -> (&str, i32) {
    match name.rsplit_once('-') {
        Some((parent, digits))
            if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            (parent, digits.parse().unwrap_or(-1))
        }
        _ => ("", -1),
    }
}

/// `getOrdinal`.
pub fn ordinal(pod: &Pod) -> i32 {
    parent_and_ordinal(&pod.meta.name).1
}

/// `isMemberOf`.
pub fn member(set: &StatefulSet, pod: &Pod) -> bool {
    parent_and_ordinal(&pod.meta.name).0 == set.meta.name.as_str()
}

/// `podInOrdinalRange`.
pub fn in_range(set: &StatefulSet, ordinal: i32) -> bool {
    ordinal >= set.start && i64::from(ordinal) < i64::from(set.start) + i64::from(set.replicas)
}

/// `getPodName`.
pub fn pod_name(set: &StatefulSet, ordinal: i32) -> Text {
    Text::from(format!("{}-{ordinal}", set.meta.name))
}

/// `getPersistentVolumeClaimName`.
pub fn claim_name(set: &StatefulSet, template: &str, ordinal: i32) -> Text {
    Text::from(format!("{template}-{}-{ordinal}", set.meta.name))
}

/// `getPodRevision`; empty when it has none.
pub fn revision_of(pod: &Pod) -> &str {
    pod.meta.labels.get(REVISION_LABEL).map_or("", |r| r)
}

/// `isRunningAndReady`.
pub fn running_and_ready(pod: &Pod) -> bool {
    pod.status.phase == Phase::Running && pod.status.ready()
}

/// `isUnavailable`.
pub fn unavailable(pod: &Pod, min_ready_s: i32, now: Time) -> bool {
    !pods::available(pod, min_ready_s, now) || pod.meta.deleting()
}

/// `identityMatches`.
pub fn identity_matches(set: &StatefulSet, pod: &Pod) -> bool {
    let (parent, ordinal) = parent_and_ordinal(&pod.meta.name);
    ordinal >= 0
        && parent == set.meta.name.as_str()
        && pod.meta.name == pod_name(set, ordinal)
        && pod.meta.namespace == set.meta.namespace
        && pod.meta.labels.get(POD_NAME_LABEL) == Some(&pod.meta.name)
}

/// `storageMatches`: the pod has a volume of every claim.
pub fn storage_matches(set: &StatefulSet, pod: &Pod) -> bool {
    let ordinal = ordinal(pod);
    ordinal >= 0
        && set.claims.iter().all(|claim| {
            let wanted = claim_name(set, &claim.meta.name, ordinal);
            let volumes = pod.spec.volumes.iter();
            let mut named = volumes.filter(|v| v.name == claim.meta.name);
            let volume = named.next();
            matches!(volume.map(|v| &v.source),
                Some(VolumeSource::Claim { name, .. }) if *name == wanted)
        })
}

/// A pod with its identity and storage put right (`updateIdentity`, `updateStorage`).
pub fn put_right(set: &StatefulSet, pod: &Pod) -> Pod {
    let mut new = pod.clone();
    let ordinal = ordinal(pod);
    if !identity_matches(set, pod) {
        new.meta.name = pod_name(set, ordinal);
        new.meta.labels = identity_labels(&new, ordinal);
    }
    if !storage_matches(set, pod) {
        new.spec = Arc::new(with_claims(set, &pod.spec, ordinal));
    }
    new
}

fn identity_labels(pod: &Pod, ordinal: i32) -> crate::api::Labels {
    let labels = &pod.meta.labels;
    labels
        .with(POD_NAME_LABEL, pod.meta.name.clone())
        .with(POD_INDEX_LABEL, ordinal.to_string())
}

/// `updateStorage`: volumes of the claims, instead of volumes of the same name.
fn with_claims(set: &StatefulSet, spec: &PodSpec, ordinal: i32) -> PodSpec {
    let mut spec = spec.clone();
    if set.claims.is_empty() {
        return spec;
    }
    let claimed = |name: &str| set.claims.iter().any(|c| c.meta.name == name);
    let claims = set.claims.iter().map(|claim| {
        let name = claim_name(set, &claim.meta.name, ordinal);
        (claim.meta.name.clone(), name)
    });
    let claims: Vec<(Text, Text)> = claims.collect();
    let others = spec.volumes.into_iter().filter(|v| !claimed(&v.name));
    let volumes = claims.iter().map(|(volume, claim)| Volume {
        name: volume.clone(),
        source: VolumeSource::Claim {
            name: claim.clone(),
            read_only: false,
        },
    });
    spec.volumes = volumes.chain(others).collect();
    let mut source = Value::clone(&spec.source);
    let others = source["volumes"].as_array().cloned().unwrap_or_default();
    let others = others
        .into_iter()
        .filter(|v| !claimed(v["name"].as_str().unwrap_or_default()));
    let volumes = claims.iter().map(|(volume, claim)| {
        json!({
            "name": volume.as_str(),
            "persistentVolumeClaim": {"claimName": claim.as_str()},
        })
    });
    if source.is_object() {
        source["volumes"] = volumes.chain(others).collect();
    }
    spec.source = Arc::new(source);
    spec
}

/// `initIdentity` on a template's spec.
fn spec_of(set: &StatefulSet, template: &PodTemplate, ordinal: i32) -> PodSpec {
    let mut spec = with_claims(set, &template.spec, ordinal);
    spec.hostname = pod_name(set, ordinal);
    spec.subdomain = set.service_name.clone();
    let mut source = Value::clone(&spec.source);
    if source.is_object() {
        source["hostname"] = json!(spec.hostname.as_str());
        if !spec.subdomain.is_empty() {
            source["subdomain"] = json!(spec.subdomain.as_str());
        }
    }
    spec.source = Arc::new(source);
    spec
}

/// The specs of pods that were made before: one that comes again is the same one, not a copy.
#[derive(Debug, Default)]
pub struct Specs(BTreeMap<(Id<StatefulSet>, i32), Made>);

#[derive(Debug)]
struct Made {
    set: Arc<StatefulSet>,
    template: Arc<PodTemplate>,
    spec: Arc<PodSpec>,
}

impl Specs {
    fn spec(
        &mut self,
        key: Id<StatefulSet>,
        set: &Arc<StatefulSet>,
        template: &Arc<PodTemplate>,
        ordinal: i32,
    ) -> Arc<PodSpec> {
        if let Some(made) = self.0.get(&(key, ordinal))
            && Arc::ptr_eq(&made.template, template)
            && made.set.service_name == set.service_name
            && made.set.claims == set.claims
        {
            return made.spec.clone();
        }
        let spec = Arc::new(spec_of(set, template, ordinal));
        let made = Made {
            set: set.clone(),
            template: template.clone(),
            spec: spec.clone(),
        };
        self.0.insert((key, ordinal), made);
        spec
    }

    /// The set is gone.
    pub fn forget(&mut self, key: Id<StatefulSet>) {
        self.0.retain(|(set, _), _| *set != key);
    }
}

/// The revisions between which a set is.
#[derive(Debug)]
pub struct Revisions {
    /// `status.currentRevision`, or the update revision when that is gone.
    pub current: Revision,
    /// The revision of the set's template.
    pub update: Revision,
}

/// `newVersionedStatefulSetPod`: the pod of this ordinal, of the revision that it should have.
pub fn new_pod(
    key: Id<StatefulSet>,
    set: &Arc<StatefulSet>,
    revisions: &Revisions,
    ordinal: i32,
    specs: &mut Specs,
) -> Pod {
    let below = |count: i32| i64::from(ordinal) < i64::from(set.start) + i64::from(count);
    let keeps = match set.strategy {
        StatefulStrategy::OnDelete => false,
        StatefulStrategy::RollingUpdate(None) => below(set.status.current),
        StatefulStrategy::RollingUpdate(Some(rolling)) => below(rolling.partition),
    };
    let revision = if keeps {
        &revisions.current
    } else {
        &revisions.update
    };
    let template = &revision.row.template;
    let owners = [controller_ref(&**set)].into();
    let mut pod = pods::from_template(template, &set.meta, &owners);
    pod.meta.name = pod_name(set, ordinal);
    pod.meta.labels = identity_labels(&pod, ordinal).with(REVISION_LABEL, revision.name().clone());
    pod.spec = specs.spec(key, set, template, ordinal);
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ordinal_is_what_follows_the_last_dash() {
        let table = [
            ("db-0", ("db", 0)),
            ("my-db-12", ("my-db", 12)),
            ("db", ("", -1)),
            ("db-", ("", -1)),
            ("db-1a", ("", -1)),
            ("-3", ("", 3)),
            // more than 31 bits: the name is of a set, but of no ordinal
            ("db-4294967296", ("db", -1)),
        ];
        for (name, expected) in table {
            assert_eq!(parent_and_ordinal(name), expected, "{name}");
        }
    }

    #[test]
    fn ordinals_begin_where_the_set_says() {
        let set = StatefulSet {
            replicas: 2,
            start: 3,
            ..StatefulSet::default()
        };
        let inside: Vec<i32> = (0..8).filter(|i| in_range(&set, *i)).collect();
        assert_eq!(inside, [3, 4]);
    }
}
