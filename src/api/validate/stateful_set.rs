//! StatefulSets (`pkg/apis/apps/validation :: ValidateStatefulSetSpec`).

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume};
use serde_json::json;

use super::field::{At, Errors};
use super::meta::{annotations, labels};
use super::names::dns_label;
use super::pod::pod_template;
use super::security::pod_annotations;
use super::storage::claim_spec;
use super::workload::{Selects, keeps_running, mismatch, selector, shown_selector};

/// `ValidateStatefulSet`, without the metadata. `maxUnavailable` is not looked at: its feature is off,
/// so that the server drops it; the row keeps it for a controller whose feature is on.
pub fn stateful_set(object: &StatefulSet, selector_given: bool, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("spec");
    let Some(spec) = &object.spec else {
        return;
    };
    match spec.pod_management_policy.as_deref().unwrap_or_default() {
        "OrderedReady" | "Parallel" => {}
        "" => errors.required(&at.field("podManagementPolicy"), ""),
        other => {
            let detail = "must be 'OrderedReady' or 'Parallel'";
            errors.invalid(&at.field("podManagementPolicy"), other, detail);
        }
    }
    update_strategy(spec, &at.field("updateStrategy"), errors);
    retention(
        spec,
        &at.field("persistentVolumeClaimRetentionPolicy"),
        errors,
    );
    let claims = at.field("volumeClaimTemplates");
    for (i, claim) in spec.volume_claim_templates.iter().flatten().enumerate() {
        let item = claims.item(i);
        claim_spec(
            &claim.spec.clone().unwrap_or_default(),
            &item.field("spec"),
            errors,
        );
    }
    errors.non_negative(&at.field("replicas"), spec.replicas.unwrap_or(0).into());
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    errors.non_negative(&at.field("minReadySeconds"), min_ready.into());
    if let Some(ordinals) = &spec.ordinals {
        let start = ordinals.start.unwrap_or(0);
        errors.non_negative(&at.field("ordinals.start"), start.into());
    }
    let service = spec.service_name.as_deref().unwrap_or_default();
    if !service.is_empty() {
        errors.invalid_each(&at.field("serviceName"), service, dns_label(service));
    }
    selected(spec, selector_given, &at, errors);
    keeps_running(&spec.template, "StatefulSet", &at.field("template"), errors);
}

fn update_strategy(spec: &StatefulSetSpec, at: &At<'_>, errors: &mut Errors) {
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    let rolling = strategy.rolling_update.as_ref();
    let rolling_at = at.field("rollingUpdate");
    let shown =
        rolling.map(|r| json!({"Partition": r.partition.unwrap_or(0), "MaxUnavailable": null}));
    match strategy.type_.as_deref().unwrap_or_default() {
        "" => errors.required(at, ""),
        "OnDelete" => {
            if let Some(shown) = shown {
                let detail = "only allowed for updateStrategy 'RollingUpdate'";
                errors.invalid(&rolling_at, &shown, detail);
            }
        }
        "RollingUpdate" => {
            let Some(rolling) = rolling else {
                return;
            };
            let partition = rolling.partition.unwrap_or(0);
            errors.non_negative(&rolling_at.field("partition"), partition.into());
        }
        kind => {
            let shown = json!({"Type": kind, "RollingUpdate": shown});
            errors.invalid(at, &shown, "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

fn retention(spec: &StatefulSetSpec, at: &At<'_>, errors: &mut Errors) {
    let Some(policy) = &spec.persistent_volume_claim_retention_policy else {
        return;
    };
    for (field, value) in [
        ("whenDeleted", &policy.when_deleted),
        ("whenScaled", &policy.when_scaled),
    ] {
        let value = value.as_deref().unwrap_or_default();
        if !matches!(value, "Retain" | "Delete") {
            errors.not_supported(&at.field(field), value, &["Retain", "Delete"]);
        }
    }
}

fn selected(spec: &StatefulSetSpec, given: bool, at: &At<'_>, errors: &mut Errors) {
    let (selector_at, template_at) = (at.field("selector"), at.field("template"));
    if !given {
        errors.required(&selector_at, "");
    }
    match selector(&spec.selector, given, &spec.template, &selector_at, errors) {
        Selects::Malformed => {
            errors.invalid(&selector_at, &shown_selector(&spec.selector), "");
            return;
        }
        Selects::Everything => {
            let detail = "empty selector is invalid for statefulset";
            errors.invalid(&selector_at, &shown_selector(&spec.selector), detail);
        }
        Selects::Other => mismatch(&spec.template, &template_at, errors),
        Selects::Template => {}
    }
    pod_template(&as_created(spec), &template_at, errors);
    // Upstream looks at the labels and annotations twice.
    if let Some(metadata) = &spec.template.metadata {
        labels(&metadata.labels, &template_at.field("labels"), errors);
        annotations(
            &metadata.annotations,
            &template_at.field("annotations"),
            errors,
        );
        let pod = spec.template.spec.clone().unwrap_or_default();
        let at = template_at.field("annotations");
        pod_annotations(&metadata.annotations, &pod, &at, errors);
    }
}

/// The template as pods are made from it: the controller sets names and adds the claims' volumes.
fn as_created(spec: &StatefulSetSpec) -> PodTemplateSpec {
    let mut template = spec.template.clone();
    let Some(pod) = &mut template.spec else {
        return template;
    };
    pod.subdomain = None;
    pod.hostname = None;
    // By name: of templates that share one, one counts.
    let claims: BTreeSet<&str> = spec
        .volume_claim_templates
        .iter()
        .flatten()
        .map(|claim| claim.metadata.name.as_deref().unwrap_or_default())
        .collect();
    if claims.is_empty() {
        return template;
    }
    let mut volumes: Vec<Volume> = claims
        .iter()
        .map(|name| Volume {
            name: (*name).to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: (*name).to_owned(),
                read_only: None,
            }),
            ..Volume::default()
        })
        .collect();
    let own = pod.volumes.take().unwrap_or_default();
    volumes.extend(
        own.into_iter()
            .filter(|v| !claims.contains(v.name.as_str())),
    );
    pod.volumes = Some(volumes);
    template
}
