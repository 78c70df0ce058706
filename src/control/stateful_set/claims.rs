//! The claims of a StatefulSet's pods: which must exist, and who owns them.
//!
//! `pkg/controller/statefulset/stateful_pod_control.go` and `stateful_set_utils.go`. The retention
//! policy is carried out by owner references: a claim that is to go with the set is owned by the
//! set, one that is to go when the set shrinks is owned by the pod that is to go.

use std::sync::Arc;

use super::identity::{claim_name, in_range, ordinal};
use crate::api::selector::Operator;
use crate::api::{Object, OwnerRef, PersistentVolumeClaim, Pod, Row, StatefulSet, Text, Uid};
use crate::control::owner::controller_ref;
use crate::store::{Id, View, Write};

/// The claims that a pod of this ordinal needs (`getPersistentVolumeClaims`).
pub fn wanted(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let claims = set.claims.iter().map(|template| {
        let mut claim = PersistentVolumeClaim::clone(template);
        claim.meta.name = claim_name(set, &template.meta.name, ordinal);
        claim.meta.namespace = set.meta.namespace.clone();
        for requirement in &set.selector.requirements {
            if let (Operator::In, [value]) = (requirement.operator, requirement.values.as_slice()) {
                claim.meta.labels = claim.meta.labels.with(&requirement.key, value.clone());
            }
        }
        claim
    });
    claims.collect()
}

/// The claims of a pod that exist.
pub fn existing<'a>(
    set: &'a StatefulSet,
    pod: &Pod,
    view: &'a View,
) -> impl Iterator<Item = (Id<PersistentVolumeClaim>, &'a Arc<PersistentVolumeClaim>)> {
    let ordinal = ordinal(pod);
    set.claims.iter().filter_map(move |template| {
        let name = claim_name(set, &template.meta.name, ordinal);
        let claims = view.of::<PersistentVolumeClaim>();
        claims.named(&set.meta.namespace, &name)
    })
}

/// `PodClaimIsStale`: a claim that belongs to an earlier pod of this name is about to go; a new pod
/// must not take it.
pub fn stale(set: &StatefulSet, pod: &Pod, view: &View) -> bool {
    set.retention.delete_when_scaled
        && existing(set, pod, view).any(|(_, claim)| stale_owner(claim, pod, pod.meta.uid))
}

/// What `UpdatePodClaimForRetentionPolicy` does about one claim.
#[derive(Debug)]
pub struct Update {
    /// The claim.
    pub name: Text,
    /// Somebody else controls it, which is worth a warning each time.
    pub foreign: bool,
    /// The request that brings its owners in line with the policy, if they are not.
    pub write: Option<Write>,
}

/// `UpdatePodClaimForRetentionPolicy`: what to do about each claim of a pod that exists.
pub fn updates(set: &StatefulSet, pod: &Pod, view: &View) -> Vec<Update> {
    let update = |(id, claim): (Id<PersistentVolumeClaim>, &Arc<PersistentVolumeClaim>)| {
        let write = (!up_to_date(claim, set, pod)).then(|| {
            let mut new = PersistentVolumeClaim::clone(claim);
            new.meta.owners = owners(claim, set, pod).into();
            Write::Update(id.into(), Row::PersistentVolumeClaim(Arc::new(new)))
        });
        Update {
            name: claim.meta.name.clone(),
            foreign: foreign_controller(claim, set, pod),
            write,
        }
    };
    existing(set, pod, view).map(update).collect()
}

/// `ClaimsMatchRetentionPolicy`.
pub fn all_up_to_date(set: &StatefulSet, pod: &Pod, view: &View) -> bool {
    existing(set, pod, view).all(|(_, claim)| up_to_date(claim, set, pod))
}

/// `matchesRef`: whether the reference names this object, whatever its uid.
fn names<T: Object>(owner: &OwnerRef, object: &T) -> bool {
    owner.kind_name == T::KIND.name()
        && owner.api_version == T::KIND.api_version()
        && owner.name == object.meta().name
}

/// `hasStaleOwnerRef`.
fn stale_owner<T: Object>(claim: &PersistentVolumeClaim, object: &T, uid: Uid) -> bool {
    let mut owners = claim.meta.owners.iter();
    owners
        .find(|o| names(o, object))
        .is_some_and(|o| o.uid != uid)
}

/// `hasOwnerRef`.
fn owned_by(claim: &PersistentVolumeClaim, uid: Uid) -> bool {
    claim.meta.owners.iter().any(|o| o.uid == uid)
}

/// `hasUnexpectedController`.
fn foreign_controller(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &Pod) -> bool {
    if !set.retention.delete_when_scaled && !set.retention.delete_when_deleted {
        return false;
    }
    claim.meta.owners.iter().any(|owner| {
        if names(owner, set) {
            owner.uid != set.meta.uid
        } else if names(owner, pod) {
            owner.uid != pod.meta.uid
        } else {
            owner.controller
        }
    })
}

/// Whether the set or the pod should control the claim: (set, pod).
fn policy(set: &StatefulSet, pod: &Pod) -> (bool, bool) {
    let scaled_down = !in_range(set, ordinal(pod));
    let policy = set.retention;
    match (policy.delete_when_scaled, policy.delete_when_deleted) {
        (false, deleted) => (deleted, false),
        (true, false) => (false, scaled_down),
        (true, true) => (!scaled_down, scaled_down),
    }
}

/// `isClaimOwnerUpToDate`.
fn up_to_date(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &Pod) -> bool {
    let (by_set, by_pod) = (owned_by(claim, set.meta.uid), owned_by(claim, pod.meta.uid));
    if stale_owner(claim, set, set.meta.uid) || stale_owner(claim, pod, pod.meta.uid) {
        return true;
    }
    if foreign_controller(claim, set, pod) {
        return !by_set && !by_pod;
    }
    let ours = |o: &OwnerRef| o.uid == set.meta.uid || o.uid == pod.meta.uid;
    if claim.meta.owners.iter().any(|o| ours(o) && !o.controller) {
        return false;
    }
    (by_set, by_pod) == policy(set, pod)
}

/// `updateClaimOwnerRefForSetAndPod`.
fn owners(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &Pod) -> Vec<OwnerRef> {
    let others = claim.meta.owners.iter();
    let others = others.filter(|o| !names(o, set) && !names(o, pod));
    let mut owners: Vec<OwnerRef> = others.cloned().collect();
    if foreign_controller(claim, set, pod) {
        return owners;
    }
    let (by_set, by_pod) = policy(set, pod);
    if by_set && !owners.iter().any(|o| o.uid == set.meta.uid) {
        owners.push(controller_ref(set));
    }
    if by_pod && !owners.iter().any(|o| o.uid == pod.meta.uid) {
        owners.push(controller_ref(pod));
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Meta;
    use crate::api::stateful::ClaimRetention;

    fn meta(name: &str, uid: u64) -> Meta {
        Meta {
            namespace: "ns".into(),
            name: name.into(),
            uid: Uid(uid),
            ..Meta::default()
        }
    }

    /// Owners by letters: the set, the pod, an earlier set, a foreign controller, a foreign owner.
    fn claim(owned_by: &str, set: &StatefulSet, pod: &Pod) -> PersistentVolumeClaim {
        let owners = owned_by.chars().map(|letter| match letter {
            's' => controller_ref(set),
            'p' => controller_ref(pod),
            'n' => OwnerRef {
                controller: false,
                ..controller_ref(set)
            },
            'e' => OwnerRef {
                uid: Uid(77),
                ..controller_ref(set)
            },
            'c' => OwnerRef {
                name: "other".into(),
                uid: Uid(78),
                ..controller_ref(set)
            },
            _ => OwnerRef {
                name: "other".into(),
                uid: Uid(79),
                controller: false,
                ..controller_ref(set)
            },
        });
        PersistentVolumeClaim {
            meta: Meta {
                owners: owners.collect(),
                ..meta("data-db-0", 5)
            },
            ..PersistentVolumeClaim::default()
        }
    }

    fn letters(owners: &[OwnerRef]) -> String {
        let letter = |o: &OwnerRef| match (o.uid.0, o.controller) {
            (1, true) => 's',
            (2, true) => 'p',
            (78, _) => 'c',
            (79, _) => 'f',
            _ => '?',
        };
        owners.iter().map(letter).collect()
    }

    /// After `stateful_set_utils_test.go :: TestClaimOwnerUpToDate` and
    /// `TestUpdateClaimOwnerRefForSetAndPod`: the owners that each policy wants, for a pod that
    /// stays and one that goes.
    #[test]
    fn the_policy_is_carried_out_by_owners() {
        // delete when scaled, when deleted, ordinal, owners before, owners after ("=": unchanged)
        let table = [
            (false, false, 0, "", "="),
            (false, false, 0, "s", ""),
            (false, false, 0, "p", ""),
            (false, false, 0, "c", "="),
            (false, true, 0, "", "s"),
            (false, true, 5, "", "s"),
            (false, true, 0, "s", "="),
            (false, true, 0, "sp", "s"),
            (false, true, 0, "n", "s"),
            (true, false, 0, "", "="),
            (true, false, 0, "p", ""),
            (true, false, 5, "", "p"),
            (true, false, 5, "s", "p"),
            (true, false, 5, "f", "fp"),
            (true, true, 0, "", "s"),
            (true, true, 5, "s", "p"),
            (true, true, 5, "p", "="),
            // a claim of an earlier set is not touched
            (true, true, 0, "e", "="),
            // a foreign controller keeps it for itself
            (true, true, 0, "c", "="),
            (true, true, 0, "cs", "c"),
        ];
        for (scaled, deleted, ordinal, before, expected) in table {
            let set = StatefulSet {
                meta: meta("db", 1),
                replicas: 3,
                retention: ClaimRetention {
                    delete_when_deleted: deleted,
                    delete_when_scaled: scaled,
                },
                ..StatefulSet::default()
            };
            let pod = Pod {
                meta: meta(&format!("db-{ordinal}"), 2),
                ..Pod::default()
            };
            let claim = claim(before, &set, &pod);
            let got = match up_to_date(&claim, &set, &pod) {
                true => "=".to_owned(),
                false => letters(&owners(&claim, &set, &pod)),
            };
            assert_eq!(got, expected, "{scaled} {deleted} {ordinal} {before:?}");
        }
    }
}
