//! The history of a Deployment: which ReplicaSet holds which revision of the template.
//!
//! Everything is recorded in annotations of the ReplicaSets, copied to the Deployment. `kubectl
//! rollout undo` and `history` read it through this module, too.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::scale::max_surge;
use crate::api::{Deployment, Labels, PodTemplate, ReplicaSet};
use crate::store::{Id, View};

/// `DefaultDeploymentUniqueLabelKey`.
pub const HASH_LABEL: &str = "pod-template-hash";
/// `RevisionAnnotation`.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// `RevisionHistoryAnnotation`: revisions that a ReplicaSet had before it became newest again.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// `DesiredReplicasAnnotation`: the Deployment's size when the ReplicaSet was last scaled; tells a
/// change of size from a rollout.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// `MaxReplicasAnnotation`: that size and the surge, for proportions.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// `kubectl apply` keeps what it applied here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// `DeprecatedRollbackTo`.
const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
/// `maxRevHistoryLengthInChars`.
const HISTORY_CHARS: usize = 2000;
/// `rand.SafeEncodeString`: no vowels, nothing that looks like another character.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Whether two templates are the same version; the hash label does not count
/// (`EqualIgnoreHash`).
pub fn same_template(a: &PodTemplate, b: &PodTemplate) -> bool {
    (Arc::ptr_eq(&a.spec, &b.spec) || a.spec == b.spec)
        && a.labels.without(HASH_LABEL) == b.labels.without(HASH_LABEL)
        && a.annotations == b.annotations
}

/// The name of a version: as upstream's `ComputeHash` an FNV-1a hash in an alphabet without
/// vowels, but of the template's JSON, so the names differ from those of a real cluster.
pub fn template_hash(template: &PodTemplate, collisions: Option<i32>) -> String {
    let mut hash = 0x811c_9dc5u32;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    if template.source.is_null() {
        add(format!("{template:?}").as_bytes());
    } else {
        add(template.source.to_string().as_bytes());
    }
    if let Some(collisions) = collisions {
        add(&i64::from(collisions).to_le_bytes());
    }
    let digits = hash.to_string().into_bytes();
    let letter = |digit: u8| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]);
    digits.into_iter().map(letter).collect()
}

/// The Deployment's template with the hash label, as a ReplicaSet has it.
pub fn with_hash(template: &PodTemplate, hash: &str) -> PodTemplate {
    let mut source = Value::clone(&template.source);
    set_path(
        &mut source,
        &["metadata", "labels", HASH_LABEL],
        hash.into(),
    );
    PodTemplate {
        labels: template.labels.with(HASH_LABEL, hash),
        annotations: template.annotations.clone(),
        spec: template.spec.clone(),
        source: Arc::new(source),
    }
}

/// The template of an old revision as the Deployment's (`SetFromReplicaSetTemplate`): what
/// `kubectl rollout undo` writes.
pub fn without_hash(template: &PodTemplate) -> PodTemplate {
    let mut source = Value::clone(&template.source);
    if let Some(labels) = source.pointer_mut("/metadata/labels")
        && let Some(labels) = labels.as_object_mut()
    {
        labels.shift_remove(HASH_LABEL);
    }
    PodTemplate {
        labels: template.labels.without(HASH_LABEL),
        source: Arc::new(source),
        ..template.clone()
    }
}

/// Sets a value in nested objects, making those that are missing; leaves JSON that is not an
/// object alone.
pub fn set_path(json: &mut Value, path: &[&str], value: Value) {
    if let Some((first, rest)) = path.split_first() {
        if let Some(object) = json.as_object_mut() {
            let inner = object
                .entry(*first)
                .or_insert_with(|| Value::Object(Map::new()));
            if inner.is_null() && !rest.is_empty() {
                *inner = Value::Object(Map::new());
            }
            set_path(inner, rest, value);
        }
    } else {
        *json = value;
    }
}

/// The revision that an object's annotations record (`Revision`): 0 without one, `None` when it is
/// not a number.
pub fn revision(annotations: &Labels) -> Option<i64> {
    annotations
        .get(REVISION)
        .map_or(Some(0), |text| text.parse().ok())
}

/// The highest revision (`MaxRevision`).
pub fn max_revision<'a>(sets: impl Iterator<Item = &'a ReplicaSet>) -> i64 {
    sets.filter_map(|set| revision(&set.meta.annotations))
        .fold(0, i64::max)
}

/// A count in an annotation (`getNonNegativeInt32FromAnnotation`).
pub fn count(annotations: &Labels, key: &str) -> Option<i32> {
    let text = annotations.get(key)?;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// `skipCopyAnnotation`: annotations that describe one object and are never copied.
pub fn never_copied(key: &str) -> bool {
    [
        LAST_APPLIED,
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
        ROLLBACK_TO,
    ]
    .contains(&key)
}

/// The newest ReplicaSet's annotations, when they have to change (`SetNewReplicaSetAnnotations`).
/// `revision` is one more than that of every other ReplicaSet.
pub fn newest_annotations(
    deployment: &Deployment,
    set: &ReplicaSet,
    revision: i64,
    exists: bool,
) -> Option<Labels> {
    let mut all = set.meta.annotations.clone();
    for (key, value) in deployment.meta.annotations.iter() {
        if !never_copied(key) && all.get(key) != Some(value) {
            all = all.with(key, value.clone());
        }
    }
    let before = all.get(REVISION).cloned();
    let old = match before.as_deref() {
        None | Some("") => 0,
        Some(text) => text.parse::<i64>().ok()?,
    };
    if old < revision {
        all = all.with(REVISION, revision.to_string());
        if let Some(before) = before {
            all = with_history(&all, &before);
        }
    }
    if !exists {
        all = with_sizes(&all, deployment);
    }
    (all != set.meta.annotations).then_some(all)
}

/// Appends a revision to the history annotation; the oldest go when it gets too long.
fn with_history(annotations: &Labels, before: &str) -> Labels {
    let history = annotations.get(REVISION_HISTORY).cloned();
    let history = history.unwrap_or_default();
    if history.split(',').next().is_none_or(str::is_empty) {
        return annotations.with(REVISION_HISTORY, before);
    }
    let revisions: Vec<&str> = history.split(',').collect();
    let mut total = history.len() + before.len() + 1;
    let mut start = 0;
    while total > HISTORY_CHARS && start < revisions.len() {
        total -= revisions[start].len() + 1;
        start += 1;
    }
    if total > HISTORY_CHARS {
        return annotations.clone();
    }
    let kept: Vec<&str> = revisions[start..].iter().copied().chain([before]).collect();
    annotations.with(REVISION_HISTORY, kept.join(","))
}

/// `SetReplicasAnnotations` with the Deployment's size now.
pub(super) fn with_sizes(annotations: &Labels, deployment: &Deployment) -> Labels {
    let max = deployment.replicas.saturating_add(max_surge(deployment));
    annotations
        .with(DESIRED_REPLICAS, deployment.replicas.to_string())
        .with(MAX_REPLICAS, max.to_string())
}

/// A Deployment's ReplicaSets with their revisions, lowest first: what `kubectl rollout history`
/// lists.
pub fn history<'a>(
    deployment: &Deployment,
    view: &'a View,
) -> Vec<(i64, Id<ReplicaSet>, &'a ReplicaSet)> {
    let mut sets: Vec<_> = view
        .of::<ReplicaSet>()
        .owned_by(deployment.meta.uid)
        .filter(|(_, set)| deployment.selector.matches(&set.meta.labels))
        .filter_map(|(id, set)| Some((revision(&set.meta.annotations)?, id, &**set)))
        .collect();
    sets.sort_by_key(|(revision, id, _)| (*revision, *id));
    sets
}

/// The ReplicaSet that `kubectl rollout undo` goes back to: of revision `to`, or the last one before
/// the newest when `to` is 0; `staging/src/k8s.io/kubectl/pkg/polymorphichelpers/rollback.go ::
/// deploymentRevision`. Fails in kubectl's words.
pub fn undo_target<'a>(
    deployment: &Deployment,
    view: &'a View,
    to: i64,
) -> Result<&'a ReplicaSet, String> {
    let history = history(deployment, view);
    if to > 0 {
        let mut found = history.iter().filter(|(revision, _, _)| *revision == to);
        let found = found.next().map(|(_, _, set)| *set);
        return found.ok_or_else(|| format!("unable to find specified revision {to} in history"));
    }
    let mut newest_first = history.iter().rev();
    newest_first.next();
    newest_first.next().map(|(_, _, set)| *set).ok_or_else(|| {
        format!(
            "no rollout history found for deployment \"{}\"",
            deployment.meta.name
        )
    })
}

/// The Deployment as `kubectl rollout undo` writes it, to go back to `target`; `None` when its
/// template is that already. A paused Deployment is refused in kubectl's words.
pub fn undone(deployment: &Deployment, target: &ReplicaSet) -> Result<Option<Deployment>, String> {
    if deployment.paused {
        return Err(
            "you cannot rollback a paused deployment; resume it first with 'kubectl \
                    rollout resume' and try again"
                .into(),
        );
    }
    if same_template(&deployment.template, &target.template) {
        return Ok(None);
    }
    let mut new = deployment.clone();
    new.template = Arc::new(without_hash(&target.template));
    let mut source = Value::clone(&new.source);
    set_path(
        &mut source,
        &["template"],
        Value::clone(&new.template.source),
    );
    new.source = Arc::new(source);
    let own = deployment.meta.annotations.iter();
    let old = target.meta.annotations.iter();
    new.meta.annotations = own
        .filter(|(key, _)| never_copied(key))
        .chain(old.filter(|(key, _)| !never_copied(key)))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Ok(Some(new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(text: &str) -> Labels {
        let pairs = text.split_whitespace().map(|pair| {
            let (key, value) = pair.split_once('=').unwrap();
            (format!("deployment.kubernetes.io/{key}"), value.to_owned())
        });
        pairs.collect()
    }

    #[test]
    fn a_set_that_becomes_newest_again_remembers_its_old_revisions() {
        let long: Vec<String> = (1000..1399).map(|n| n.to_string()).collect();
        let long = long.join(",");
        // 399 × 5 - 1 = 1994 chars; ",1500" makes 1999, still allowed, and ",15000" one goes
        let dropped = long.split_once(',').unwrap().1;
        let table = [
            ("", 1, "revision=1".to_owned()),
            ("revision=1", 1, "-".into()),
            ("revision=5", 3, "-".into()),
            ("revision=1", 3, "revision=3 revision-history=1".into()),
            (
                "revision=3 revision-history=1",
                4,
                "revision=4 revision-history=1,3".into(),
            ),
            (
                &format!("revision=1500 revision-history={long}"),
                1501,
                format!("revision=1501 revision-history={long},1500"),
            ),
            (
                &format!("revision=15000000 revision-history={long}"),
                15000001,
                format!("revision=15000001 revision-history={dropped},15000000"),
            ),
            ("revision=x", 2, "-".into()),
        ];
        for (before, to, expected) in table {
            let mut set = ReplicaSet::default();
            set.meta.annotations = annotations(before);
            let got = newest_annotations(&Deployment::default(), &set, to, true);
            let expected = (expected != "-").then(|| annotations(&expected));
            assert_eq!(got, expected, "{before} {to}");
        }
    }

    #[test]
    fn annotations_of_the_deployment_are_copied_except_those_about_itself() {
        let mut deployment = Deployment {
            replicas: 4,
            ..Deployment::default()
        };
        deployment.meta.annotations =
            Labels::from_iter([("team", "shop"), (LAST_APPLIED, "{}"), (REVISION, "7")]);
        let new = newest_annotations(&deployment, &ReplicaSet::default(), 1, false).unwrap();
        // a quarter of 4 rounded up may be added
        let expected = [
            (DESIRED_REPLICAS, "4"),
            (MAX_REPLICAS, "5"),
            (REVISION, "1"),
            ("team", "shop"),
        ];
        assert_eq!(new, Labels::from_iter(expected));
    }

    #[test]
    fn a_hash_depends_on_the_template_and_the_collisions() {
        let template = PodTemplate {
            source: Arc::new(serde_json::json!({"spec": {"containers": []}})),
            ..PodTemplate::default()
        };
        let first = template_hash(&template, None);
        assert!(first.bytes().all(|b| ALPHABET.contains(&b)), "{first}");
        assert_eq!(first, template_hash(&template, None));
        assert_ne!(first, template_hash(&template, Some(1)));
        assert_ne!(first, template_hash(&PodTemplate::default(), None));
    }

    #[test]
    fn the_hash_label_does_not_make_a_template_another() {
        let template = PodTemplate {
            labels: Labels::from_iter([("app", "web")]),
            source: Arc::new(serde_json::json!({"metadata": {"labels": {"app": "web"}}})),
            ..PodTemplate::default()
        };
        let hashed = with_hash(&template, "xyz");
        assert_eq!(
            hashed
                .source
                .pointer("/metadata/labels/pod-template-hash")
                .unwrap(),
            "xyz"
        );
        assert!(same_template(&template, &hashed));
        assert_eq!(without_hash(&hashed), template);
        let mut other = hashed.clone();
        other.annotations = Labels::from_iter([("a", "b")]);
        assert!(!same_template(&template, &other));
    }
}
