//! Limits, quotas, priorities and network policies.

use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use k8s_openapi::api::networking::v1::{IngressClass, NetworkPolicy};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::{absent, amount, resource_list};

/// `SetDefaults_LimitRangeItem`: a container's default limit is the maximum; its default request
/// is the default limit, else the minimum.
pub fn limit_range(object: &mut LimitRange) {
    let spec = object.spec.get_or_insert_default();
    let meta = &mut object.metadata;
    if meta.name.is_none() && meta.generate_name.is_none() {
        // Upstream draws a uuid (`pkg/registry/core/limitrange :: PrepareForCreate`); here the
        // name follows from the content.
        let text = serde_json::to_string(&spec).unwrap_or_default();
        meta.name = Some(crate::api::decode::uid_of(&text).to_string());
    }
    for item in &mut spec.limits {
        if item.type_ == "Container" {
            let limits = item.default.get_or_insert_default();
            for (name, most) in item.max.iter().flatten() {
                limits.entry(name.clone()).or_insert_with(|| most.clone());
            }
            let requests = item.default_request.get_or_insert_default();
            let least = item.min.iter().flatten();
            for (name, amount) in limits.iter().chain(least) {
                requests
                    .entry(name.clone())
                    .or_insert_with(|| amount.clone());
            }
        }
        resource_list(&mut item.max);
        resource_list(&mut item.min);
        resource_list(&mut item.default);
        resource_list(&mut item.default_request);
        resource_list(&mut item.max_limit_request_ratio);
    }
}

/// `SetObjectDefaults_ResourceQuota`.
pub fn resource_quota(object: &mut ResourceQuota) {
    resource_list(&mut object.spec.get_or_insert_default().hard);
}

/// `SetDefaults_PriorityClass`; `value` is a plain number upstream.
pub fn priority_class(object: &mut PriorityClass) {
    object
        .preemption_policy
        .get_or_insert_with(|| "PreemptLowerPriority".to_owned());
    object.value.get_or_insert(0);
}

/// `SetDefaults_NetworkPolicy`.
pub fn network_policy(object: &mut NetworkPolicy) {
    let spec = object.spec.get_or_insert_default();
    spec.pod_selector.get_or_insert_default();
    let egress = spec.egress.as_ref().is_some_and(|e| !e.is_empty());
    if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
        let mut types = vec!["Ingress".to_owned()];
        if egress {
            types.push("Egress".to_owned());
        }
        spec.policy_types = Some(types);
    }
    let ingress = spec.ingress.iter_mut().flatten();
    let egress = spec.egress.iter_mut().flatten();
    let ports = ingress
        .flat_map(|rule| rule.ports.iter_mut().flatten())
        .chain(egress.flat_map(|rule| rule.ports.iter_mut().flatten()));
    for port in ports {
        absent(&mut port.protocol, "TCP");
    }
}

/// Nothing but the spec itself, which is a plain value upstream.
pub fn disruption_budget(object: &mut PodDisruptionBudget) {
    object.spec.get_or_insert_default();
}

/// `SetDefaults_IngressClass`.
pub fn ingress_class(object: &mut IngressClass) {
    let spec = object.spec.as_mut();
    if let Some(parameters) = spec.and_then(|spec| spec.parameters.as_mut()) {
        absent(&mut parameters.scope, "Cluster");
    }
}

/// Amounts print in their canonical form.
pub fn runtime_class(object: &mut RuntimeClass) {
    let fixed = object.overhead.iter_mut();
    let amounts = fixed.flat_map(|overhead| overhead.pod_fixed.iter_mut().flatten());
    amounts.for_each(|(_, written)| amount(written));
}
