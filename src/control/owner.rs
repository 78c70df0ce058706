//! Ownership: who manages an object, and how controllers adopt and release.
//!
//! A controller manages the objects that name it as their controller *and* match its selector. One
//! that matches but has no controller is adopted; one that it owns but that no longer matches is
//! released. Both are patches that the API server may refuse when another was faster.

use std::sync::Arc;

use crate::api::selector::LabelSelector;
use crate::api::{Meta, Object, OwnerRef, Text};
use crate::client::{Plan, Step};
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

/// `pkg/controller/controller_ref_manager.go :: ClaimObject` for each of `rows`: returns those that
/// `owner` manages (as they will be once `plan` was carried out), and plans the patches.
pub fn claim<'a, T: Object>(
    controller: &Meta,
    owner: &OwnerRef,
    selector: &LabelSelector,
    rows: impl Iterator<Item = (Id<T>, &'a Arc<T>)>,
    plan: &mut Plan,
) -> Vec<(Id<T>, Arc<T>)> {
    claim_if(controller, owner, selector, |_| true, rows, plan)
}

/// As [`claim`], of those only that `also` takes; others are treated as if the selector did not
/// match them.
pub fn claim_if<'a, T: Object>(
    controller: &Meta,
    owner: &OwnerRef,
    selector: &LabelSelector,
    also: impl Fn(&T) -> bool,
    rows: impl Iterator<Item = (Id<T>, &'a Arc<T>)>,
    plan: &mut Plan,
) -> Vec<(Id<T>, Arc<T>)> {
    let mut claimed = Vec::new();
    for (id, row) in rows {
        let meta = row.meta();
        let matches = selector.matches(&meta.labels) && also(row);
        match meta.controller() {
            Some(other) if other.uid != controller.uid => {}
            Some(_) if matches => claimed.push((id, row.clone())),
            Some(_) if controller.deleting() => {}
            Some(_) => release(id, meta, owner, plan),
            None if !matches || controller.deleting() || meta.deleting() => {}
            None if !controller.namespace.is_empty() && controller.namespace != meta.namespace => {}
            None => {
                adopt(id, meta, owner, plan);
                claimed.push((id, owned(row, owner)));
            }
        }
    }
    claimed
}

fn owned<T: Object>(row: &T, owner: &OwnerRef) -> Arc<T> {
    let mut row = row.clone();
    let meta = row.meta_mut();
    meta.owners = meta.owners.iter().chain([owner]).cloned().collect();
    Arc::new(row)
}

fn adopt<T: Object>(id: Id<T>, meta: &Meta, owner: &OwnerRef, plan: &mut Plan) {
    let write = Write::Patch {
        object: id.into(),
        uid: Some(meta.uid),
        patch: Patch::AddOwner(owner.clone()),
    };
    plan.write(write, "an orphan matches the selector");
}

/// A release may fail: whatever is gone or no longer ours needs none.
fn release<T: Object>(id: Id<T>, meta: &Meta, owner: &OwnerRef, plan: &mut Plan) {
    plan.steps.push(Step::One {
        write: Write::Patch {
            object: id.into(),
            uid: Some(meta.uid),
            patch: Patch::RemoveOwner(owner.uid),
        },
        rule: "it no longer matches the selector",
        optional: true,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::Deletion;
    use crate::api::{ConfigMap, Kind, Labels, Uid};
    use crate::engine::Time;

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

    #[test]
    fn objects_are_kept_adopted_released_or_left_alone() {
        let selector = LabelSelector::equals([(&"app".into(), &"web".into())]);
        // app, owner, object being deleted, controller being deleted: claimed?, what is written
        let table = [
            ("web", Some(1), false, false, "claimed"),
            ("web", Some(1), true, true, "claimed"),
            ("web", Some(2), false, false, ""),
            ("other", Some(1), false, false, "RemoveOwner(Uid(1))"),
            ("other", Some(1), false, true, ""),
            ("web", None, false, false, "claimed adopted"),
            ("web", None, true, false, ""),
            ("web", None, false, true, ""),
            ("other", None, false, false, ""),
        ];
        for (app, by, deleting, controller_deleting, expected) in table {
            let row = object(app, by, deleting);
            let mut controller = Meta {
                namespace: "x".into(),
                uid: Uid(1),
                ..Meta::default()
            };
            controller.deletion = controller_deleting.then_some(Deletion {
                at: Time::ZERO,
                grace_s: 0,
            });
            let mut plan = Plan::none();
            let rows = [(Id::new(0), &row)];
            let rows = rows.into_iter();
            let claimed = claim(&controller, &owner(1), &selector, rows, &mut plan);
            let mut got: Vec<String> = claimed.iter().map(|_| "claimed".into()).collect();
            for step in &plan.steps {
                let Step::One { write, .. } = step else {
                    panic!("{step:?}")
                };
                let Write::Patch { patch, .. } = write else {
                    panic!("{write:?}")
                };
                got.push(match patch {
                    Patch::AddOwner(o) if *o == owner(1) => "adopted".into(),
                    other => format!("{other:?}"),
                });
            }
            assert_eq!(got.join(" "), expected, "{app} {by:?} {deleting}");
            for (_, row) in claimed {
                assert_eq!(row.meta.controller().unwrap().uid, Uid(1));
            }
        }
    }
}
