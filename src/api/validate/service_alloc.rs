//! What is said of a Service before anything else is looked at.
//!
//! The API server hands out addresses and ports in a `BeginCreate` hook
//! (`pkg/registry/core/service/storage/alloc.go`), and the registry calls it before the strategy's
//! validation: what the hook finds wrong is the whole answer. The cluster is not known here: which
//! families of addresses it has, and which addresses and ports are free, is the store's to say.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use serde_json::json;

use super::field::{At, Errors};
use super::ip;

/// `beginCreate`: addresses, then node ports.
pub fn service(object: &Service, at: &At<'_>, errors: &mut Errors) {
    let Some(spec) = &object.spec else {
        return;
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return;
    }
    let at = at.field("spec");
    cluster_ips(spec, &at, errors);
    if errors.is_empty() {
        node_ports(spec, &at, errors);
    }
}

fn six(ip: &str) -> bool {
    ip::parse(ip).is_some_and(|ip: IpAddr| ip.is_ipv6())
}

/// The addresses after `normalizeClusterIPs`: one that is named alone is also the first of all.
fn addresses(spec: &ServiceSpec) -> Vec<&str> {
    let single = spec.cluster_ip.as_deref().unwrap_or_default();
    let all = spec.cluster_ips.as_deref().unwrap_or_default();
    match all {
        [] if single.is_empty() => Vec::new(),
        [] => vec![single],
        all => all.iter().map(String::as_str).collect(),
    }
}

/// `ValidateServiceClusterIPsRelatedFields`.
fn cluster_ips(spec: &ServiceSpec, at: &At<'_>, errors: &mut Errors) {
    let single = spec.cluster_ip.as_deref().unwrap_or_default();
    let all = addresses(spec);
    let all_at = at.field("clusterIPs");
    if single.is_empty() && !all.is_empty() {
        let detail = "must be empty when `clusterIP` is not specified";
        errors.invalid(&all_at, &json!(all), detail);
    } else if all.first().is_some_and(|first| *first != single) {
        errors.invalid(&all_at, &json!(all), "first value must match `clusterIP`");
    }
    let families_at = at.field("ipFamilies");
    let mut seen = BTreeSet::new();
    for (i, family) in spec.ip_families.iter().flatten().enumerate() {
        if !matches!(family.as_str(), "IPv4" | "IPv6") {
            errors.not_supported(&families_at.item(i), family, &["IPv4", "IPv6"]);
        }
        if !seen.insert(family) {
            errors.duplicate(&families_at.item(i), family);
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    if let Some(policy) = &spec.ip_family_policy
        && !policies.contains(&policy.as_str())
    {
        errors.not_supported(&at.field("ipFamilyPolicy"), policy, &policies);
    }
    let mut bad = false;
    for (i, address) in all.iter().enumerate() {
        if i == 0 && *address == "None" {
            if all.len() > 1 {
                bad = true;
                let detail = "'None' must be the first and only value";
                errors.invalid(&all_at, &json!(all), detail);
            }
            continue;
        }
        let mut wrong = Errors::default();
        ip::address(address, &all_at.item(i), &mut wrong);
        bad |= !wrong.is_empty();
        errors.append(wrong);
    }
    if all.len() > 2 {
        errors.invalid(&all_at, &json!(all), "may only hold up to 2 values");
    }
    if !bad {
        distinct_families(spec, &all, &all_at, errors);
    }
}

/// The end of `ValidateServiceClusterIPsRelatedFields`, for addresses that can be read.
fn distinct_families(spec: &ServiceSpec, all: &[&str], at: &At<'_>, errors: &mut Errors) {
    if all.len() > 1 && all.iter().filter(|ip| six(ip)).count() % all.len() == 0 {
        let detail = "may specify no more than one IP for each IP family";
        errors.invalid(at, &json!(all), detail);
    }
    if all == ["None"] {
        return;
    }
    let families = spec.ip_families.iter().flatten();
    for (i, (ip, family)) in all.iter().zip(families).enumerate() {
        if (family == "IPv4" && six(ip)) || (family == "IPv6" && !six(ip)) {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.invalid(&at.item(i), *ip, &detail);
        }
    }
}

/// `initNodePorts`, without the store's knowledge: a number that a port of another number has, too,
/// is taken, and the first such is the only one that is told.
fn node_ports(spec: &ServiceSpec, at: &At<'_>, errors: &mut Errors) {
    if !matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer")) {
        return;
    }
    // Ports of one number (TCP and UDP) share a node port.
    let mut taken: Vec<(i32, i32)> = Vec::new();
    for (i, port) in spec.ports.iter().flatten().enumerate() {
        let number = port.node_port.unwrap_or(0);
        if number == 0 || taken.contains(&(port.port, number)) {
            continue;
        }
        if taken.iter().any(|(_, other)| *other == number) {
            let ports_at = at.field("ports");
            let item = ports_at.item(i);
            let detail = "provided port is already allocated";
            return errors.invalid(&item.field("nodePort"), &number, detail);
        }
        taken.push((port.port, number));
    }
}
