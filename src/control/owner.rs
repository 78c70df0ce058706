//! Ownership: who manages an object, and how controllers adopt and release.
//!
//! A controller manages the objects that name it as their controller *and* match its selector. One
//! that matches but has no controller is adopted; one that it owns but that no longer matches is
//! released. Both are patches that the API server may refuse when another was faster.
//!
//! All workload controllers react in the same way to what may be theirs: [`added`] and [`updated`]
//! say whom a change concerns, [`Claims`] sorts what is owned from what is not.

use std::sync::Arc;

use crate::api::selector::LabelSelector;
use crate::api::{
    DaemonSet, Deployment, Job, Meta, Object, OwnerRef, ReplicaSet, StatefulSet, Text,
};
use crate::client::Plan;
use crate::store::view::Tabled;
use crate::store::{Id, Patch, View, Write};

/// The owner reference of what `controller` manages (`metav1.NewControllerRef`).
pub fn controller_ref<T: Object>(controller: &T) -> OwnerRef {
    let meta = controller.meta();
    OwnerRef {
        kind: T::KIND,
        api_version: Text::from(T::KIND.api_version()),
        kind_name: Text::from(T::KIND.name()),
        name: meta.name.clone(),
        uid: meta.uid,
        controller: true,
        block_owner_deletion: true,
    }
}

/// The controller that `owner` names, if it is a `T` and still the same one
/// (`resolveControllerRef`).
pub fn resolve<T: Tabled>(view: &View, namespace: &Text, owner: &OwnerRef) -> Option<Id<T>> {
    if owner.kind != T::KIND {
        return None;
    }
    let (id, row) = view.of::<T>().named(namespace, &owner.name)?;
    (row.meta().uid == owner.uid).then_some(id)
}

/// A kind that owns what its selector matches.
pub trait Selects: Tabled {
    /// `spec.selector`.
    fn selector(&self) -> &LabelSelector;
}

macro_rules! selects {
    ($($kind:ty: $($field:ident).+;)*) => {$(
        impl Selects for $kind {
            fn selector(&self) -> &LabelSelector {
                &self.$($field).+
            }
        }
    )*};
}

selects! {
    Deployment: selector;
    ReplicaSet: selector;
    StatefulSet: selector;
    DaemonSet: selector;
    Job: spec.selector;
}

/// Whom a change of an object concerns.
#[derive(Debug)]
pub struct Concerned<C> {
    /// The controller that it had before, if it has another now or none.
    pub before: Option<Id<C>>,
    /// The controller that it has.
    pub owner: Option<Id<C>>,
    /// Of an orphan: whoever selects it and may want to adopt it.
    pub others: Vec<Id<C>>,
}

impl<C> Concerned<C> {
    /// Nobody, as where there are no controllers of the kind.
    fn nobody() -> Self {
        Concerned {
            before: None,
            owner: None,
            others: Vec::new(),
        }
    }

    /// All of them, in the order in which upstream queues them.
    pub fn all(self) -> impl Iterator<Item = Id<C>> {
        let one = self.before.into_iter().chain(self.owner);
        one.chain(self.others)
    }
}

/// The `C` that controls an object.
pub fn of<C: Tabled>(object: &Meta, view: &View) -> Option<Id<C>> {
    resolve(view, &object.namespace, object.controller()?)
}

/// `addPod` and its likes: an object that is new to the informer.
pub fn added<C: Selects>(object: &Meta, view: &View) -> Concerned<C> {
    if view.of::<C>().is_empty() {
        return Concerned::nobody();
    }
    let orphan = object.controller().is_none() && !object.deleting();
    Concerned {
        before: None,
        owner: of(object, view),
        others: if orphan {
            selecting(object, view)
        } else {
            Vec::new()
        },
    }
}

/// `updatePod` and its likes: what has a controller is that one's business alone; an orphan is looked
/// at when its labels changed or when it has just become one.
pub fn updated<C: Selects>(old: &Meta, new: &Meta, view: &View) -> Concerned<C> {
    if view.of::<C>().is_empty() {
        return Concerned::nobody();
    }
    let (before, owner) = (old.controller(), new.controller());
    let changed = before != owner;
    let orphan = owner.is_none() && (changed || old.labels != new.labels);
    Concerned {
        before: if changed { of(old, view) } else { None },
        owner: of(new, view),
        others: if orphan {
            selecting(new, view)
        } else {
            Vec::new()
        },
    }
}

/// `GetPodReplicaSets` and its likes. What has no labels is selected by nobody, and an empty selector
/// selects nothing.
fn selecting<C: Selects>(object: &Meta, view: &View) -> Vec<Id<C>> {
    if object.labels.is_empty() {
        return Vec::new();
    }
    let here = view.of::<C>().in_namespace(&object.namespace);
    let selecting = here.filter(|(_, row)| {
        let selector = row.selector();
        !selector.is_empty() && selector.matches(&object.labels)
    });
    selecting.map(|(id, _)| id).collect()
}

/// `pkg/controller/controller_ref_manager.go :: BaseControllerRefManager`: how one controller claims
/// objects. Upstream asks the API server once more whether the controller is being deleted before
/// it adopts; here the view is believed.
#[derive(Debug)]
pub struct Claims<'a> {
    controller: &'a Meta,
    owner: OwnerRef,
    selector: &'a LabelSelector,
    finalizer: Option<&'static str>,
}

impl<'a> Claims<'a> {
    /// The claims of `controller`.
    pub fn of<C: Selects>(controller: &'a C) -> Self {
        Claims {
            controller: controller.meta(),
            owner: controller_ref(controller),
            selector: controller.selector(),
            finalizer: None,
        }
    }

    /// What is adopted gets this finalizer in the same request, and loses it when it is released.
    #[must_use]
    pub fn holding(self, finalizer: &'static str) -> Self {
        Claims {
            finalizer: Some(finalizer),
            ..self
        }
    }

    /// `ClaimObject` for each of `rows`: returns those that the controller manages (as they will be
    /// once `plan` was carried out), and plans the patches.
    pub fn claim<'r, T: Object>(
        &self,
        rows: impl Iterator<Item = (Id<T>, &'r Arc<T>)>,
        plan: &mut Plan,
    ) -> Vec<(Id<T>, Arc<T>)> {
        self.claim_if(|_| true, rows, plan)
    }

    /// As [`Claims::claim`], of those only that `also` takes; others are treated as if the selector
    /// did not match them.
    pub fn claim_if<'r, T: Object>(
        &self,
        also: impl Fn(&T) -> bool,
        rows: impl Iterator<Item = (Id<T>, &'r Arc<T>)>,
        plan: &mut Plan,
    ) -> Vec<(Id<T>, Arc<T>)> {
        let controller = self.controller;
        let mut claimed = Vec::new();
        for (id, row) in rows {
            let meta = row.meta();
            let matches = self.selector.matches(&meta.labels) && also(row);
            let elsewhere =
                !controller.namespace.is_empty() && controller.namespace != meta.namespace;
            match meta.controller() {
                Some(other) if other.uid != controller.uid => {}
                Some(_) if matches => claimed.push((id, row.clone())),
                Some(_) if controller.deleting() => {}
                Some(_) => self.release(id, meta, plan),
                None if !matches || controller.deleting() || meta.deleting() || elsewhere => {}
                None => {
                    plan.write(self.adoption(id, meta), "an orphan matches the selector");
                    claimed.push((id, self.adopted(row)));
                }
            }
        }
        claimed
    }

    /// `AdoptPod` and its likes: the request that makes an orphan the controller's.
    pub fn adoption<T: Object>(&self, id: Id<T>, meta: &Meta) -> Write {
        let finalizer = self.finalizer.map(|f| Patch::AddFinalizer(f.into()));
        patch(id, meta, Patch::AddOwner(self.owner.clone()), finalizer)
    }

    fn adopted<T: Object>(&self, row: &T) -> Arc<T> {
        let mut row = row.clone();
        let meta = row.meta_mut();
        meta.owners = meta.owners.iter().chain([&self.owner]).cloned().collect();
        let missing = |f: &&'static str| !meta.finalizers.iter().any(|held| held == *f);
        if let Some(finalizer) = self.finalizer.filter(missing) {
            let held = meta.finalizers.iter().cloned();
            meta.finalizers = held.chain([Text::from(finalizer)]).collect();
        }
        Arc::new(row)
    }

    /// `ReleasePod`. It may fail: whatever is gone or no longer ours needs none.
    fn release<T: Object>(&self, id: Id<T>, meta: &Meta, plan: &mut Plan) {
        let finalizer = self.finalizer.map(|f| Patch::RemoveFinalizer(f.into()));
        let write = patch(id, meta, Patch::RemoveOwner(self.controller.uid), finalizer);
        plan.attempt(write, "it no longer matches the selector");
    }
}

fn patch<T: Object>(id: Id<T>, meta: &Meta, owner: Patch, finalizer: Option<Patch>) -> Write {
    let patch = match finalizer {
        Some(finalizer) => Patch::Together(vec![owner, finalizer]),
        None => owner,
    };
    Write::Patch {
        object: id.into(),
        uid: Some(meta.uid),
        patch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::Deletion;
    use crate::api::{ConfigMap, Kind, Labels, Pod, Uid};
    use crate::client::Step;
    use crate::engine::Draws;
    use crate::engine::Time;
    use crate::store::{Cause, Store};

    fn owner(uid: u64) -> OwnerRef {
        OwnerRef {
            kind: Kind::ReplicaSet,
            api_version: "apps/v1".into(),
            kind_name: "ReplicaSet".into(),
            name: format!("rs{uid}").into(),
            uid: Uid(uid),
            controller: true,
            block_owner_deletion: true,
        }
    }

    /// One object with `app=<app>`, owned by the controller of uid `by`, maybe being deleted.
    fn object(app: &str, by: Option<u64>, deleting: bool) -> Arc<ConfigMap> {
        let deletion = deleting.then_some(Deletion {
            at: Time::ZERO,
            grace_s: 0,
        });
        Arc::new(ConfigMap {
            meta: Meta {
                namespace: "x".into(),
                uid: Uid(9),
                labels: Labels::from_iter([("app", app)]),
                owners: by.map(owner).into_iter().collect(),
                deletion,
                ..Meta::default()
            },
            ..ConfigMap::default()
        })
    }

    /// What a plan asks for, in words.
    fn asked(plan: &Plan) -> Vec<String> {
        let word = |patch: &Patch| match patch {
            Patch::AddOwner(o) if *o == owner(1) => "adopt".into(),
            Patch::RemoveOwner(Uid(1)) => "release".into(),
            Patch::AddFinalizer(f) => format!("+{f}"),
            Patch::RemoveFinalizer(f) => format!("-{f}"),
            other => format!("{other:?}"),
        };
        let steps = plan.steps.iter().flat_map(|step| match step {
            Step::One {
                write: Write::Patch { patch, .. },
                ..
            } => match patch {
                Patch::Together(patches) => patches.iter().map(word).collect(),
                one => vec![word(one)],
            },
            other => panic!("{other:?}"),
        });
        steps.collect()
    }

    /// After `controller_ref_manager_test.go :: TestClaimPods` and `TestAdoptFinalizer`.
    #[test]
    fn objects_are_kept_adopted_released_or_left_alone() {
        // app, owner, object being deleted, controller being deleted: claimed?, what is written
        let table = [
            ("web", Some(1), false, false, "claimed"),
            ("web", Some(1), true, true, "claimed"),
            ("web", Some(2), false, false, ""),
            ("other", Some(1), false, false, "release -f"),
            ("other", Some(1), false, true, ""),
            ("web", None, false, false, "claimed adopt +f"),
            ("web", None, true, false, ""),
            ("web", None, false, true, ""),
            ("other", None, false, false, ""),
        ];
        for (app, by, deleting, controller_deleting, expected) in table {
            let row = object(app, by, deleting);
            let set = set(1, controller_deleting);
            for (holding, expected) in [
                (None, expected.replace(" -f", "").replace(" +f", "")),
                (Some("f"), expected.to_owned()),
            ] {
                let mut plan = Plan::none();
                let claims = Claims {
                    finalizer: holding,
                    ..Claims::of(&set)
                };
                let claimed = claims.claim([(Id::new(0), &row)].into_iter(), &mut plan);
                let mut got: Vec<String> = claimed.iter().map(|_| "claimed".into()).collect();
                got.extend(asked(&plan));
                assert_eq!(got.join(" "), expected, "{app} {by:?} {deleting}");
                for (_, row) in claimed {
                    assert_eq!(row.meta.controller().unwrap().uid, Uid(1));
                    let held = row.meta.finalizers.len();
                    assert_eq!(held, usize::from(by.is_none() && holding.is_some()));
                }
            }
        }
    }

    /// The ReplicaSet `rs1` of the selector `app=web`.
    fn set(uid: u64, deleting: bool) -> ReplicaSet {
        let deletion = deleting.then_some(Deletion {
            at: Time::ZERO,
            grace_s: 0,
        });
        ReplicaSet {
            meta: Meta {
                namespace: "x".into(),
                name: format!("rs{uid}").into(),
                uid: Uid(uid),
                deletion,
                ..Meta::default()
            },
            selector: LabelSelector::equals([(&"app".into(), &"web".into())]),
            ..ReplicaSet::default()
        }
    }

    /// Another namespace is another world.
    #[test]
    fn what_lies_in_another_namespace_is_not_adopted() {
        let mut row = object("web", None, false);
        Arc::make_mut(&mut row).meta.namespace = "y".into();
        let (set, mut plan) = (set(1, false), Plan::none());
        let rows = [(Id::new(0), &row)];
        assert!(
            Claims::of(&set)
                .claim(rows.into_iter(), &mut plan)
                .is_empty()
        );
        assert!(plan.is_empty());
    }

    /// After `replica_set_test.go :: TestAddPod`, `TestUpdatePod`, `TestAddPodBeingDeleted`,
    /// `TestUpdateOrphanAndRelease` and the same tests of the other controllers.
    #[test]
    fn a_change_concerns_owners_or_for_orphans_whoever_selects_them() {
        let mut store = Store::new(Draws::new(1));
        let mut create = |set: ReplicaSet| {
            let row = crate::store::Write::Create(set.into());
            let receipt = store.write(&row, Time::ZERO, Cause::default());
            let row = receipt.expect("created").row.expect("a row");
            row.meta().uid
        };
        let nothing = ReplicaSet {
            selector: LabelSelector::default(),
            ..set(3, false)
        };
        let uids = [set(1, false), set(2, false), nothing].map(&mut create);
        let view = store.view();
        let named = |id: Option<Id<ReplicaSet>>| {
            let row = id.and_then(|id| view.of().get(id));
            row.map_or("-".to_owned(), |row: &Arc<ReplicaSet>| {
                row.meta.name.to_string()
            })
        };
        // `app owner`: the owner by number, 9 for one that is gone
        let pod = |text: &str| {
            let (app, by) = text.split_once(' ').unwrap();
            let by: Option<usize> = by.parse().ok();
            let owner = by.map(|n| OwnerRef {
                uid: uids.get(n - 1).copied().unwrap_or(Uid(99)),
                ..owner(n as u64)
            });
            let mut pod = Pod::default();
            pod.meta.namespace = "x".into();
            pod.meta.owners = owner.into_iter().collect();
            if !app.is_empty() {
                pod.meta.labels = Labels::from_iter([("app", app)]);
            }
            pod
        };
        let show = |c: Concerned<ReplicaSet>| {
            let others: Vec<String> = c.others.iter().map(|id| named(Some(*id))).collect();
            format!(
                "{} {} {}",
                named(c.before),
                named(c.owner),
                others.join(",")
            )
        };
        // before (empty: new), now, the owner before, the owner, others
        let table = [
            ("", "web 1", "- rs1 "),
            ("", "web 9", "- - "),
            ("", "web -", "- - rs1,rs2"),
            ("", "other -", "- - "),
            ("", " -", "- - "),
            ("web 1", "web 1", "- rs1 "),
            ("web 1", "web 2", "rs1 rs2 "),
            // an orphan that was one already is looked at for its labels alone
            ("web -", "web -", "- - "),
            ("other -", "web -", "- - rs1,rs2"),
            ("web 1", "web -", "rs1 - rs1,rs2"),
            ("web 9", "web -", "- - rs1,rs2"),
        ];
        for (before, now, expected) in table {
            let new = pod(now).meta;
            let got = match before {
                "" => added(&new, view),
                before => updated(&pod(before).meta, &new, view),
            };
            assert_eq!(show(got), expected, "{before:?} {now:?}");
        }
    }
}
