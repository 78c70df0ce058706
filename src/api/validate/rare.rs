//! Kinds that few people write by hand: what nodes and drivers say of storage, runtimes, classes of
//! Ingresses, leases, revisions, templates of pods.
//!
//! `pkg/apis/{storage,node,networking,coordination,apps,core}/validation`.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PodTemplate, ResourceRequirements, Toleration};
use k8s_openapi::api::networking::v1::{IngressClass, IngressClassParametersReference};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSINode, CSINodeDriver, CSIStorageCapacity, TokenRequest, VolumeAttachment,
};
use serde_json::json;

use super::affinity::tolerations;
use super::field::{At, Errors};
use super::meta::{label_name, label_selector, labels};
use super::names::{dns_label, dns_subdomain, path_segment};
use super::pod::pod_template;
use super::resources::{Of, non_negative, requirements};
use super::storage::{attached_volume, csi_driver_name};
use crate::api::yaml::Node;

/// `ValidatePodTemplate`.
pub fn template(object: &PodTemplate, at: &At<'_>, errors: &mut Errors) {
    let template = object.template.clone().unwrap_or_default();
    pod_template(&template, &at.field("template"), errors);
}

/// `ValidateControllerRevisionCreate`: a revision holds an object.
pub fn controller_revision(
    object: &ControllerRevision,
    node: &Node,
    at: &At<'_>,
    errors: &mut Errors,
) {
    errors.non_negative(&at.field("revision"), object.revision);
    let data_at = at.field("data");
    match node.get("data") {
        None => errors.required(&data_at, "data is mandatory"),
        Some(data) if data.is_null() => errors.required(&data_at, "data is mandatory"),
        Some(data) if data.as_map().is_none() => {
            errors.required(&data_at, "data must be a valid JSON object");
        }
        Some(_) => {}
    }
}

/// `ValidateLeaseSpec`.
pub fn lease(object: &Lease, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("spec");
    let Some(spec) = &object.spec else {
        return;
    };
    if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
        let at = at.field("leaseDurationSeconds");
        errors.invalid(&at, &seconds, "must be greater than 0");
    }
    if let Some(transitions) = spec.lease_transitions {
        errors.non_negative(&at.field("leaseTransitions"), transitions.into());
    }
    let strategy = spec.strategy.as_deref().unwrap_or_default();
    let strategy_at = at.field("strategy");
    if spec.strategy.is_some() {
        let at = strategy_at.field("strategy");
        match strategy.contains('/') {
            true => label_name(strategy, &at, errors),
            false if strategy != "OldestEmulationVersion" => {
                errors.not_supported(&at, strategy, &["OldestEmulationVersion"]);
            }
            false => {}
        }
    }
    let preferred = spec.preferred_holder.as_deref().unwrap_or_default();
    if !preferred.is_empty() && strategy.is_empty() {
        let detail = "may only be specified if `strategy` is defined";
        errors.forbidden(&at.field("preferredHolder"), detail);
    }
}

/// `ValidateRuntimeClass`.
pub fn runtime_class(object: &RuntimeClass, at: &At<'_>, errors: &mut Errors) {
    let handler_at = at.field("handler");
    match object.handler.as_str() {
        "" => errors.required(&handler_at, ""),
        handler => errors.invalid_each(&handler_at, handler, dns_label(handler)),
    }
    if let Some(overhead) = &object.overhead {
        let fixed = ResourceRequirements {
            limits: overhead.pod_fixed.clone(),
            ..ResourceRequirements::default()
        };
        let at = at.field("overhead");
        requirements(&fixed, Of::Container, &BTreeSet::new(), &at, errors);
    }
    let Some(scheduling) = &object.scheduling else {
        return;
    };
    let at = at.field("scheduling");
    labels(&scheduling.node_selector, &at.field("nodeSelector"), errors);
    let at = at.field("tolerations");
    let all = scheduling.tolerations.as_deref().unwrap_or_default();
    tolerations(all, &at, errors);
    let mut seen = BTreeSet::new();
    for (i, t) in all.iter().enumerate() {
        if !seen.insert((&t.key, &t.operator, &t.value, &t.effect)) {
            errors.duplicate(&at.item(i), &shown_toleration(t));
        }
    }
}

/// As Go prints a toleration.
fn shown_toleration(t: &Toleration) -> serde_json::Value {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    json!({
        "Key": text(&t.key), "Operator": text(&t.operator), "Value": text(&t.value),
        "Effect": text(&t.effect), "TolerationSeconds": t.toleration_seconds,
    })
}

/// `ValidateIngressClass`, without the metadata.
pub fn ingress_class(object: &IngressClass, at: &At<'_>, errors: &mut Errors) {
    const LONGEST: usize = 250;
    let spec = object.spec.clone().unwrap_or_default();
    let at = at.field("spec");
    let controller = spec.controller.as_deref().unwrap_or_default();
    let controller_at = at.field("controller");
    if controller.len() > LONGEST {
        errors.too_long(&controller_at, LONGEST);
    }
    domain_prefixed_path(controller, &controller_at, errors);
    if let Some(parameters) = &spec.parameters {
        class_parameters(parameters, &at.field("parameters"), errors);
    }
}

/// `IsDomainPrefixedPath`.
fn domain_prefixed_path(text: &str, at: &At<'_>, errors: &mut Errors) {
    const PATH: &str = "/-._~%!$&'()*+,;=:";
    match text.split_once('/') {
        _ if text.is_empty() => errors.required(at, ""),
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            errors.invalid_each(at, host, dns_subdomain(host));
            let known = |c: char| c.is_ascii_alphanumeric() || PATH.contains(c);
            if !path.chars().all(known) {
                let regex = "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+";
                let detail = super::names::pattern("Invalid path", regex, &[]);
                errors.invalid(at, path, &detail);
            }
        }
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.invalid(at, text, detail);
        }
    }
}

/// `validateIngressClassParametersReference`.
fn class_parameters(
    parameters: &IngressClassParametersReference,
    at: &At<'_>,
    errors: &mut Errors,
) {
    if let Some(group) = &parameters.api_group {
        errors.invalid_each(&at.field("apiGroup"), group, dns_subdomain(group));
    }
    for (field, text) in [("kind", &parameters.kind), ("name", &parameters.name)] {
        let at = at.field(field);
        match text.is_empty() {
            true => errors.required(&at, ""),
            false => errors.invalid_each(&at, text, path_segment(text)),
        }
    }
    let scope = parameters.scope.as_deref().unwrap_or_default();
    let namespace_at = at.field("namespace");
    match (scope, &parameters.namespace) {
        ("Namespace", None) => {
            let detail = "`parameters.scope` is set to 'Namespace'";
            errors.required(&namespace_at, detail);
        }
        ("Namespace", Some(namespace)) => {
            errors.invalid_each(&namespace_at, namespace, dns_label(namespace));
        }
        ("Cluster", Some(_)) => {
            errors.forbidden(&namespace_at, "`parameters.scope` is set to 'Cluster'");
        }
        ("Cluster", None) => {}
        (other, _) => {
            errors.not_supported(&at.field("scope"), other, &["Cluster", "Namespace"]);
        }
    }
}

/// `ValidateCSINode`, without the metadata.
pub fn csi_node(object: &CSINode, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("spec");
    let at = at.field("drivers");
    let mut names = BTreeSet::new();
    for (i, driver) in object.spec.drivers.iter().enumerate() {
        node_driver(driver, &at.item(i), errors);
        if !names.insert(&driver.name) {
            let item = at.item(i);
            errors.duplicate(&item.field("name"), &driver.name);
        }
    }
}

/// `validateCSINodeDriver`.
fn node_driver(driver: &CSINodeDriver, at: &At<'_>, errors: &mut Errors) {
    const LONGEST_ID: usize = 256;
    csi_driver_name(&driver.name, &at.field("name"), errors);
    let (id, id_at) = (&driver.node_id, at.field("nodeID"));
    if id.is_empty() {
        errors.required(&id_at, "");
    }
    if id.len() > LONGEST_ID {
        let detail = format!("must be {LONGEST_ID} characters or less");
        errors.invalid(&id_at, id, &detail);
    }
    let count = driver.allocatable.as_ref().and_then(|a| a.count);
    let count_at = at.field("allocatable");
    errors.non_negative(&count_at.field("count"), count.unwrap_or(0).into());
    let mut keys = BTreeSet::new();
    for key in driver.topology_keys.iter().flatten() {
        if key.is_empty() {
            errors.required(at, "");
        }
        if !keys.insert(key) {
            errors.duplicate(at, key);
        }
        label_name(key, at, errors);
    }
}

/// `ValidateCSIDriver`, without the metadata, after defaulting.
pub fn csi_driver(object: &CSIDriver, at: &At<'_>, errors: &mut Errors) {
    let (spec, at) = (&object.spec, at.field("spec"));
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    if let Some(policy) = &spec.fs_group_policy
        && !policies.contains(&policy.as_str())
    {
        errors.not_supported(&at.field("fsGroupPolicy"), policy, &policies);
    }
    let requests = spec.token_requests.as_deref().unwrap_or_default();
    token_requests(requests, &at.field("tokenRequests"), errors);
    let modes = ["Persistent", "Ephemeral"];
    for mode in spec.volume_lifecycle_modes.iter().flatten() {
        if !modes.contains(&mode.as_str()) {
            errors.not_supported(&at.field("volumeLifecycleModes"), mode, &modes);
        }
    }
    if let Some(period) = spec
        .node_allocatable_update_period_seconds
        .filter(|period| *period < 10)
    {
        let at = at.field("nodeAllocatableUpdatePeriodSeconds");
        errors.invalid(&at, &period, "must be greater than or equal to 10 seconds");
    }
    if let Some(in_secrets) = spec.service_account_token_in_secrets
        && requests.is_empty()
    {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.invalid(
            &at.field("serviceAccountTokenInSecrets"),
            &in_secrets,
            detail,
        );
    }
}

/// `validateTokenRequests`.
fn token_requests(requests: &[TokenRequest], at: &At<'_>, errors: &mut Errors) {
    let mut audiences = BTreeSet::new();
    for (i, request) in requests.iter().enumerate() {
        let item = at.item(i);
        if !audiences.insert(&request.audience) {
            errors.duplicate(&item.field("audience"), &request.audience);
            continue;
        }
        let Some(seconds) = request.expiration_seconds else {
            continue;
        };
        let at = item.field("expirationSeconds");
        if seconds < 600 {
            let detail = "may not specify a duration less than 10 minutes";
            errors.invalid(&at, &seconds, detail);
        }
        if seconds > 1 << 32 {
            let detail = "may not specify a duration larger than 2^32 seconds";
            errors.invalid(&at, &seconds, detail);
        }
    }
}

/// `ValidateCSIStorageCapacity`, without the metadata.
pub fn storage_capacity(object: &CSIStorageCapacity, at: &At<'_>, errors: &mut Errors) {
    if let Some(topology) = &object.node_topology {
        label_selector(topology, &at.field("nodeTopology"), errors);
    }
    let class = &object.storage_class_name;
    errors.invalid_each(&at.field("storageClassName"), class, dns_subdomain(class));
    if let Some(capacity) = &object.capacity {
        non_negative(capacity, &at.field("capacity"), errors);
    }
}

/// `ValidateVolumeAttachment`, without metadata and status.
pub fn volume_attachment(object: &VolumeAttachment, at: &At<'_>, errors: &mut Errors) {
    let (spec, at) = (&object.spec, at.field("spec"));
    csi_driver_name(&spec.attacher, &at.field("attacher"), errors);
    let source_at = at.field("source");
    let name_at = source_at.field("persistentVolumeName");
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let name = spec.source.persistent_volume_name.as_deref();
    match (&spec.source.inline_volume_spec, name) {
        (None, None) => errors.required(&source_at, one),
        (Some(_), Some(_)) => errors.forbidden(&source_at, one),
        (None, Some("")) => {
            errors.required(&name_at, "must specify non empty persistentVolumeName");
        }
        (None, Some(_)) => {}
        (Some(inline), None) => {
            attached_volume(inline, &source_at.field("inlineVolumeSpec"), errors);
        }
    }
    let node_at = at.field("nodeName");
    errors.invalid_each(&node_at, &spec.node_name, dns_subdomain(&spec.node_name));
    if let Some(name) = name {
        errors.invalid_each(&name_at, name, dns_subdomain(name));
    }
}
