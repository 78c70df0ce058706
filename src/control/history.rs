//! The history that StatefulSets and DaemonSets keep: a ControllerRevision per template.
//!
//! After `pkg/controller/history/controller_history.go` and the parts of the two controllers that
//! are alike. Revisions are compared by their templates; the one with the highest number is the
//! newest. `kubectl rollout history` and `undo` read the history through this module, too.

use std::sync::Arc;

use super::deployment::revision::{set_path, template_hash};
use super::owner::{Claims, Selects, controller_ref};
use crate::api::meta::recorded;
use crate::api::selector::LabelSelector;
use crate::api::{ControllerRevision, Meta, Object, PodTemplate, Row, Text};
use crate::store::{Id, Propagation, View, Write};

/// `apps.ControllerRevisionHashLabelKey`, which is also `StatefulSetRevisionLabel` and
/// `DefaultDaemonSetUniqueLabelKey`: the revision that a pod was made from.
pub const REVISION_LABEL: &str = "controller-revision-hash";
/// `history.ControllerRevisionHashLabel`.
pub const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// A revision as it will be once the plan was carried out.
#[derive(Clone, Debug)]
pub struct Revision {
    /// None while it is to be created.
    pub id: Option<Id<ControllerRevision>>,
    /// The copy.
    pub row: Arc<ControllerRevision>,
}

impl Revision {
    /// Its name.
    pub fn name(&self) -> &Text {
        &self.row.meta.name
    }

    /// Its deletion.
    pub fn deletion(&self) -> Option<Write> {
        Some(Write::Delete {
            object: self.id?.into(),
            uid: Some(self.row.meta.uid),
            grace_s: None,
            propagation: Propagation::Background,
        })
    }

    /// The same with another number, and the write that makes it so, if one is needed
    /// (`UpdateControllerRevision`).
    pub fn renumbered(&self, revision: i64) -> (Revision, Option<Write>) {
        let mut new = self.clone();
        if new.row.revision == revision {
            return (new, None);
        }
        Arc::make_mut(&mut new.row).revision = revision;
        let write = new.id.map(|id| {
            let row = Row::ControllerRevision(new.row.clone());
            Write::Update(id.into(), row)
        });
        (new, write)
    }
}

/// Whether two templates are the same version (`EqualRevision`).
pub fn same(a: &PodTemplate, b: &PodTemplate) -> bool {
    (Arc::ptr_eq(&a.spec, &b.spec) || a.spec == b.spec)
        && a.labels == b.labels
        && a.annotations == b.annotations
}

/// `ListControllerRevisions` and `SortControllerRevisions`: the revisions that `parent` owns or could
/// adopt, lowest number first.
pub fn list(parent: &Meta, selector: &LabelSelector, view: &View) -> Vec<Revision> {
    let table = view.of::<ControllerRevision>();
    let owned = table.owned_by(parent.uid);
    let rows = owned.chain(table.orphans(&parent.namespace));
    let matching = rows.filter(|(_, row)| selector.matches(&row.meta.labels));
    let mut all: Vec<Revision> = matching
        .map(|(id, row)| Revision {
            id: Some(id),
            row: row.clone(),
        })
        .collect();
    all.sort_by(|a, b| order(&a.row).cmp(&order(&b.row)));
    all
}

/// `byRevision`.
fn order(row: &ControllerRevision) -> (i64, crate::engine::Time, &Text) {
    (row.revision, recorded(row.meta.created), &row.meta.name)
}

/// Adoptions of those that nobody owns (`AdoptOrphanRevisions`).
pub fn adoptions<C: Selects>(parent: &C, revisions: &[Revision]) -> Vec<Write> {
    let claims = Claims::of(parent);
    let orphans = revisions
        .iter()
        .filter(|r| r.row.meta.controller().is_none());
    orphans
        .filter_map(|r| Some(claims.adoption(r.id?, &r.row.meta)))
        .collect()
}

/// `HashControllerRevision`: an FNV-1a hash of the template as JSON, so the names differ from those
/// of a real cluster.
pub fn hash(template: &PodTemplate, collisions: i32) -> String {
    template_hash(template, Some(collisions))
}

/// `ControllerRevisionName`: room for the hash within the 253 bytes of a name.
pub fn name(parent: &str, hash: &str) -> Text {
    let mut end = parent.len().min(223);
    while !parent.is_char_boundary(end) {
        end -= 1;
    }
    Text::from(format!("{}-{hash}", &parent[..end]))
}

/// A new revision of `parent`'s template, labelled with its hash under `label`.
pub fn new<T: Object>(
    parent: &T,
    template: &Arc<PodTemplate>,
    revision: i64,
    hash: &str,
    label: &str,
) -> Revision {
    let meta = parent.meta();
    Revision {
        id: None,
        row: Arc::new(ControllerRevision {
            meta: Meta {
                namespace: meta.namespace.clone(),
                name: name(&meta.name, hash),
                labels: template.labels.with(label, hash),
                annotations: meta.annotations.clone(),
                owners: [controller_ref(parent)].into(),
                ..Meta::default()
            },
            revision,
            template: template.clone(),
            ..ControllerRevision::default()
        }),
    }
}

/// The template that `kubectl rollout undo` goes back to: of revision `to`, or of the one before the
/// newest when `to` is 0; `staging/src/k8s.io/kubectl/pkg/polymorphichelpers/rollback.go ::
/// findHistory`. Fails in kubectl's words.
///
/// # Errors
/// When there is no such revision.
pub fn undo_target(mut revisions: Vec<Revision>, to: i64) -> Result<Revision, String> {
    if to > 0 {
        let found = revisions.into_iter().find(|r| r.row.revision == to);
        return found.ok_or_else(|| format!("unable to find specified revision {to} in history"));
    }
    if revisions.len() < 2 {
        return Err("no last revision to roll back to".into());
    }
    revisions.pop();
    revisions
        .pop()
        .ok_or_else(|| "no last revision to roll back to".into())
}

/// The JSON of a spec with `template` in place of its own.
pub fn with_template(
    source: &Arc<serde_json::Value>,
    template: &PodTemplate,
) -> Arc<serde_json::Value> {
    let mut source = serde_json::Value::clone(source);
    let new = serde_json::Value::clone(&template.source);
    set_path(&mut source, &["template"], new);
    Arc::new(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revisions(numbers: &[i64]) -> Vec<Revision> {
        let one = |number: &i64| {
            let row = ControllerRevision {
                revision: *number,
                ..ControllerRevision::default()
            };
            Revision {
                id: None,
                row: Arc::new(row),
            }
        };
        numbers.iter().map(one).collect()
    }

    #[test]
    fn undo_goes_to_the_revision_asked_for_or_the_last_but_one() {
        let table = [
            (&[1, 2, 4][..], 0, Ok(2)),
            (&[1, 2, 4], 1, Ok(1)),
            (&[1, 2, 4], 4, Ok(4)),
            (
                &[1, 2, 4],
                3,
                Err("unable to find specified revision 3 in history"),
            ),
            (&[1], 0, Err("no last revision to roll back to")),
        ];
        for (numbers, to, expected) in table {
            let got = undo_target(revisions(numbers), to).map(|r| r.row.revision);
            assert_eq!(got, expected.map_err(str::to_owned), "{numbers:?} {to}");
        }
    }

    #[test]
    fn a_long_name_leaves_room_for_the_hash() {
        assert_eq!(name("db", "abc"), "db-abc");
        // 223 bytes of the name, a dash, and the hash
        assert_eq!(name(&"x".repeat(253), "abcdefghij").len(), 234);
    }
}
