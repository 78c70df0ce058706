//! The history of a DaemonSet.
//!
//! `pkg/controller/daemon/update.go :: constructHistory`, `dedupCurHistories`, `snapshot` and
//! `cleanupHistory`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::{ControllerRevision, DaemonSet, Pod, Row, Text};
use crate::client::Plan;
use crate::control::history::{self, REVISION_LABEL, Revision};
use crate::control::owner::Claims;
use crate::store::{Id, Patch, View, Write};

/// The revision of the set's template, and the others.
pub(super) struct Histories {
    pub current: Revision,
    pub old: Vec<Revision>,
}

/// `constructHistory`; `None` when the name of a new revision is taken by another, in which case
/// the count of collisions is raised and the sync fails.
pub(super) fn construct(
    key: Id<DaemonSet>,
    set: &DaemonSet,
    pods: &[(Id<Pod>, Arc<Pod>)],
    view: &View,
    plan: &mut Plan,
) -> Option<Histories> {
    let rows = view.of::<ControllerRevision>();
    let rows = rows.in_namespace(&set.meta.namespace);
    let claimed = Claims::of(set).claim(rows, plan);
    let (mut current, mut old) = (Vec::new(), Vec::new());
    for (id, mut row) in claimed {
        if !row.meta.labels.contains(REVISION_LABEL) {
            let name = row.meta.name.clone();
            let row = Arc::make_mut(&mut row);
            row.meta.labels = row.meta.labels.with(REVISION_LABEL, name.clone());
            let patch = Patch::Labels(vec![(REVISION_LABEL.into(), Some(name))]);
            let write = Write::Patch {
                object: id.into(),
                uid: Some(row.meta.uid),
                patch,
            };
            plan.write(write, "a revision without its label");
        }
        let matches = history::same(&row.template, &set.template);
        let id = Some(id);
        let list = if matches { &mut current } else { &mut old };
        list.push(Revision { id, row });
    }
    let highest = old.iter().map(|r: &Revision| r.row.revision).max();
    let next = highest.unwrap_or(0).max(0) + 1;
    let current = if current.is_empty() {
        snapshot(key, set, next, view, plan)?
    } else {
        let kept = dedup(current, pods, plan);
        let (new, write) = kept.renumbered(next.max(kept.row.revision));
        if let Some(write) = write {
            plan.write(write, "the template is that of an old revision");
        }
        new
    };
    Some(Histories { current, old })
}

/// `snapshot`.
fn snapshot(
    key: Id<DaemonSet>,
    set: &DaemonSet,
    next: i64,
    view: &View,
    plan: &mut Plan,
) -> Option<Revision> {
    let hash = match set.status.collisions {
        Some(collisions) => history::hash(&set.template, collisions),
        None => super::super::deployment::revision::template_hash(&set.template, None),
    };
    let new = history::new(set, &set.template, next, &hash, REVISION_LABEL);
    let taken = view.of::<ControllerRevision>();
    match taken.named(&set.meta.namespace, new.name()) {
        None => {
            let row = Row::ControllerRevision(new.row.clone());
            plan.write(Write::Create(row), "the template is new");
            Some(new)
        }
        Some((id, row)) if history::same(&row.template, &set.template) => Some(Revision {
            id: Some(id),
            row: row.clone(),
        }),
        Some(_) => {
            let mut raised = set.clone();
            raised.status.collisions = Some(set.status.collisions.unwrap_or(0) + 1);
            let write = Write::UpdateStatus(key.into(), raised.into());
            plan.write(write, "hash collision");
            None
        }
    }
}

/// `dedupCurHistories`: of equal revisions the newest stays, and all pods get its label.
fn dedup(equal: Vec<Revision>, pods: &[(Id<Pod>, Arc<Pod>)], plan: &mut Plan) -> Revision {
    let newest = equal.iter().max_by_key(|r| r.row.revision.max(0));
    let kept = newest.expect("there is at least one").clone();
    if equal.len() == 1 {
        return kept;
    }
    let label = hash_of(&kept);
    for (id, pod) in pods {
        if pod.meta.labels.get(REVISION_LABEL) != Some(&label) {
            let write = Write::Patch {
                object: (*id).into(),
                uid: Some(pod.meta.uid),
                patch: Patch::Labels(vec![(REVISION_LABEL.into(), Some(label.clone()))]),
            };
            plan.write(write, "its revision is a copy of another");
        }
    }
    for copy in equal.iter().filter(|r| r.name() != kept.name()) {
        if let Some(write) = copy.deletion() {
            plan.write(write, "a copy of another revision");
        }
    }
    kept
}

/// The label of a revision's pods.
pub(super) fn hash_of(revision: &Revision) -> Text {
    let labels = &revision.row.meta.labels;
    labels.get(REVISION_LABEL).cloned().unwrap_or_default()
}

/// `cleanupHistory`: the oldest revisions beyond the limit, of those that no pod is of.
pub(super) fn too_old(
    set: &DaemonSet,
    pods: &[(Id<Pod>, Arc<Pod>)],
    mut old: Vec<Revision>,
) -> Vec<Revision> {
    let limit = usize::try_from(set.history_limit).unwrap_or(0);
    let surplus = old.len().saturating_sub(limit);
    let labels = pods
        .iter()
        .filter_map(|(_, pod)| pod.meta.labels.get(REVISION_LABEL));
    let live: BTreeSet<&Text> = labels.collect();
    old.sort_by_key(|r| r.row.revision);
    old.retain(|r| !live.contains(&hash_of(r)));
    old.truncate(surplus);
    old
}
