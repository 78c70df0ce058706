//! The labels and the selector that a Job gets by itself, and what they must be when they were
//! written beforehand.
//!
//! `pkg/registry/batch/job :: generateSelector` and `pkg/apis/batch/validation ::
//! validateGeneratedSelector`. The uid of a Job that is still to be created is not known here; a
//! word stands for it.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::json;

use super::field::{At, Errors};
use super::meta::label_selector;
use super::workload::{shown_selector, template_labels};
use crate::api::Labels;
use crate::api::decode::selector_of;

/// The labels of a Job's pods that name their Job; the first two are older.
const JOB_NAME: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const JOB_UID: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

/// A Job that comes from a cluster brings its uid; the uid of a new one is drawn later.
fn uid_of(object: &Job) -> &str {
    object.metadata.uid.as_deref().unwrap_or("UID")
}

/// `generateSelector`.
pub(super) fn with_selector(object: &Job, spec: &JobSpec) -> JobSpec {
    let mut spec = spec.clone();
    if object
        .metadata
        .uid
        .as_ref()
        .is_some_and(|uid| !uid.is_empty())
    {
        // It exists: nothing is generated any more.
        return spec;
    }
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let metadata = spec.template.metadata.get_or_insert_default();
    let labels = metadata.labels.get_or_insert_default();
    let named = JOB_NAME.map(|key| (key, name));
    for (key, value) in named
        .into_iter()
        .chain(JOB_UID.map(|key| (key, uid_of(object))))
    {
        let value = || value.to_owned();
        labels.entry(key.to_owned()).or_insert_with(value);
    }
    let selector = spec.selector.get_or_insert_default();
    let pairs = selector.match_labels.get_or_insert_default();
    let uid = || uid_of(object).to_owned();
    pairs.entry(JOB_UID[1].to_owned()).or_insert_with(uid);
    spec
}

/// `validateGeneratedSelector`: what was written beforehand must be what would be generated.
pub(super) fn generated_selector(object: &Job, spec: &JobSpec, at: &At<'_>, errors: &mut Errors) {
    if spec.selector.is_none() {
        return;
    }
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let uid = uid_of(object);
    let expected = [
        (JOB_UID[0], uid),
        (JOB_NAME[0], name),
        (JOB_UID[1], uid),
        (JOB_NAME[1], name),
    ];
    let template = at.field("template");
    let metadata = template.field("metadata");
    let labels_at = metadata.field("labels");
    let labels = template_labels(&spec.template);
    for (key, value) in expected {
        let detail = format!("must be '{value}'");
        match labels.and_then(|labels| labels.get(key)) {
            None => errors.required(&labels_at.key(key), &detail),
            Some(other) if other != value => {
                errors.invalid(&labels_at.key(key), &json!(labels), &detail);
            }
            Some(_) => {}
        }
    }
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let expected: BTreeMap<String, String> = expected.into_iter().collect();
    if !selects(spec.selector.as_ref(), &expected.iter().collect()) {
        let shown = spec.selector.as_ref().map(shown_selector);
        let detail = "`selector` not auto-generated";
        errors.invalid(&at.field("selector"), &json!(shown), detail);
    }
}

/// Whether a selector takes the labels, or does not parse (`LabelSelectorAsSelector`).
pub(super) fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else {
        return false;
    };
    let mut wrong = Errors::default();
    label_selector(selector, &At::Root, &mut wrong);
    !wrong.is_empty() || selector_of(selector).matches(labels)
}
