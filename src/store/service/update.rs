//! A Service that changes: what the server fills in for its client, what may not change, what is
//! handed out anew.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Pools, Wanted, checked, has_ports, health, health_port, invalid, next_port};
use super::{address, families, wants_ports, write_source};
use crate::api::Service;
use crate::api::decode::Problem;
use crate::api::service::ServiceKind;
use crate::engine::draws::Draws;
use crate::store::write::ApiError;

fn text<'v>(spec: &'v Value, field: &str) -> &'v str {
    spec[field].as_str().unwrap_or_default()
}

fn list<'v>(spec: &'v Value, field: &str) -> Vec<&'v str> {
    let items = spec[field].as_array().into_iter().flatten();
    items.filter_map(Value::as_str).collect()
}

fn take_over(new: &mut Value, old: &Value, field: &str) {
    match old.get(field) {
        Some(value) => new[field] = value.clone(),
        None => remove(new, field),
    }
}

fn remove(spec: &mut Value, field: &str) {
    spec.as_object_mut().and_then(|map| map.shift_remove(field));
}

/// What happens to the JSON of the spec before it is validated: `normalizeClusterIPs`,
/// `patchAllocatedValues` and `dropTypeDependentFields`.
pub(in crate::store) fn prepare(old: &Value, new: &mut Value) {
    if !old.is_object() || !new.is_object() {
        return;
    }
    normalize(old, new);
    let external = |spec: &Value| text(spec, "type") == "ExternalName";
    if !external(old) && !external(new) {
        for (field, empty) in [
            ("clusterIP", text(new, "clusterIP").is_empty()),
            ("clusterIPs", list(new, "clusterIPs").is_empty()),
        ] {
            if empty {
                take_over(new, old, field);
            }
        }
    }
    keep_ports(old, new);
    drop_fields(old, new);
}

fn normalize(old: &Value, new: &mut Value) {
    let (before, after) = (text(old, "clusterIP"), text(new, "clusterIP").to_owned());
    if list(new, "clusterIPs").is_empty() && before == after {
        take_over(new, old, "clusterIPs");
    }
    if before != after && list(old, "clusterIPs") == list(new, "clusterIPs") {
        match after.is_empty() {
            true => remove(new, "clusterIPs"),
            false => new["clusterIPs"] = json!([after]),
        }
    }
}

fn node_ports(spec: &Value) -> std::collections::BTreeSet<u64> {
    let ports = spec["ports"].as_array().into_iter().flatten();
    let ports = ports.filter_map(|port| port["nodePort"].as_u64());
    ports.filter(|port| *port != 0).collect()
}

fn typed_with_ports(spec: &Value) -> bool {
    matches!(text(spec, "type"), "NodePort" | "LoadBalancer")
}

/// A port of the same name keeps its node port.
fn keep_ports(old: &Value, new: &mut Value) {
    let needs = |spec: &Value| {
        typed_with_ports(spec)
            && (text(spec, "type") == "NodePort" || spec["allocateLoadBalancerNodePorts"] != false)
    };
    if needs(old) && needs(new) {
        let after = node_ports(new);
        let used: Vec<u64> = node_ports(old).intersection(&after).copied().collect();
        let before = old["ports"].as_array().cloned().unwrap_or_default();
        let ports = new.get_mut("ports").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten() {
            if port["nodePort"].as_u64().unwrap_or(0) != 0 {
                continue;
            }
            let name = text(port, "name");
            let same = before.iter().rfind(|old| text(old, "name") == name);
            let number = same.and_then(|old| old["nodePort"].as_u64()).unwrap_or(0);
            if number != 0 && !used.contains(&number) {
                port["nodePort"] = json!(number);
            }
        }
    }
    let checks = |spec: &Value| {
        text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
    };
    if checks(old) && checks(new) && new["healthCheckNodePort"].as_u64().unwrap_or(0) == 0 {
        take_over(new, old, "healthCheckNodePort");
    }
    if checks(old) && !checks(new) && old["healthCheckNodePort"] == new["healthCheckNodePort"] {
        remove(new, "healthCheckNodePort");
    }
}

/// Fields that the new type does not have and that the client did not touch.
fn drop_fields(old: &Value, new: &mut Value) {
    let (was, is) = (text(old, "type").to_owned(), text(new, "type").to_owned());
    if was != "ExternalName" && is == "ExternalName" {
        if old["clusterIP"] == new["clusterIP"] && old["clusterIPs"] == new["clusterIPs"] {
            remove(new, "clusterIP");
            remove(new, "clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if old[field] == new[field] {
                remove(new, field);
            }
        }
    }
    let drop_ports = typed_with_ports(old) && !typed_with_ports(new);
    let reached = new["externalIPs"]
        .as_array()
        .is_some_and(|ips| !ips.is_empty());
    if drop_ports && node_ports(old) == node_ports(new) {
        let ports = new.get_mut("ports").and_then(Value::as_array_mut);
        ports
            .into_iter()
            .flatten()
            .for_each(|port| remove(port, "nodePort"));
    }
    if was == "LoadBalancer" && is != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if old[field] == new[field] {
                remove(new, field);
            }
        }
    }
    let policy = "externalTrafficPolicy";
    if drop_ports && !reached && old[policy] == new[policy] {
        remove(new, policy);
    }
}

/// Whether what is wrong was found when addresses were handed out (`beginUpdate`), which is before
/// anything else is looked at.
pub(in crate::store) fn refused(new: &Service, problems: &[Problem]) -> bool {
    let handed_out = |problem: &Problem| {
        problem.path.starts_with("spec.clusterIP") || problem.path.starts_with("spec.ipFamil")
    };
    new.kind != ServiceKind::ExternalName && problems.iter().any(handed_out)
}

/// `pkg/apis/core/validation :: ValidateServiceUpdate`: addresses, families and the class of a load
/// balancer stay.
pub(in crate::store) fn check(old: &Service, new: &Service, causes: &mut Vec<String>) {
    if Arc::ptr_eq(&old.source, &new.source) || !old.source.is_object() {
        return;
    }
    let (a, b) = (&*old.source, &*new.source);
    let external = old.kind == ServiceKind::ExternalName || new.kind == ServiceKind::ExternalName;
    let both_headless = old.headless && new.headless;
    if !external && !both_headless {
        addresses(a, b, causes);
    }
    if !external && !old.headless && !new.headless {
        let all = json!(list(b, "ipFamilies"));
        let (before, after) = (list(a, "ipFamilies"), list(b, "ipFamilies"));
        let changed = before.iter().zip(&after).filter(|(a, b)| a != b);
        for _ in changed {
            let why = "may not change once set";
            causes.push(format!("spec.ipFamilies[0]: Invalid value: {all}: {why}"));
        }
    }
    let balancers = old.kind == ServiceKind::LoadBalancer && new.kind == ServiceKind::LoadBalancer;
    if balancers && a["loadBalancerClass"] != b["loadBalancerClass"] {
        let value = &b["loadBalancerClass"];
        let why = "may not change once set";
        causes.push(format!(
            "spec.loadBalancerClass: Invalid value: {value}: {why}"
        ));
    }
    if checked(old) && checked(new) && health(old) != health(new) {
        causes.push("spec.healthCheckNodePort: Forbidden: field is immutable".to_owned());
    }
}

/// `validateUpgradeDowngradeClusterIPs`.
fn addresses(old: &Value, new: &Value, causes: &mut Vec<String>) {
    let (before, after) = (list(old, "clusterIPs"), list(new, "clusterIPs"));
    let all = json!(after);
    let mut say = |index: usize, why: &str| {
        causes.push(format!(
            "spec.clusterIPs[{index}]: Invalid value: {all}: {why}"
        ));
    };
    if before.len() == after.len() {
        for (index, (a, b)) in before.iter().zip(&after).enumerate() {
            if a != b {
                say(index, "may not change once set");
            }
        }
        return;
    }
    if before.len() > after.len() && after.is_empty() {
        say(0, "primary clusterIP can not be unset");
    }
    if let (Some(a), Some(b)) = (before.first(), after.first())
        && a != b
    {
        say(0, "may not change once set");
    }
    if before.len() > after.len()
        && after.len() == 1
        && text(new, "ipFamilyPolicy") != "SingleStack"
    {
        let policy = &new["ipFamilyPolicy"];
        causes.push(format!(
            "spec.ipFamilyPolicy: Invalid value: {policy}: must be set to 'SingleStack' when \
             releasing the secondary clusterIP"
        ));
    }
}

/// `allocateUpdate`: what the Service needs and did not have before.
pub(in crate::store) fn allocate(
    old: &Service,
    new: &mut Service,
    pools: &Pools,
    draws: &Draws,
) -> Result<(), ApiError> {
    if Arc::ptr_eq(&old.source, &new.source) {
        return Ok(());
    }
    let mut wanted = Wanted::default();
    if new.kind != ServiceKind::ExternalName {
        families(new)?;
        if old.kind == ServiceKind::ExternalName {
            address(new, pools, draws, false)?;
        }
    }
    if has_ports(new) {
        let before: Vec<u16> = match has_ports(old) {
            true => old.ports.iter().map(|port| port.node_port).collect(),
            false => Vec::new(),
        };
        for index in 0..new.ports.len() {
            let number = new.ports[index].node_port;
            if number == 0 && wants_ports(new) {
                new.ports[index].node_port = next_port(new, pools, draws, &mut wanted)?;
            } else if number != 0 && !before.contains(&number) {
                let here = &new.ports[..index];
                if here.iter().any(|port| port.node_port == number) {
                    continue;
                }
                pools.reserve_port(number, &mut wanted).map_err(|why| {
                    let path = format!("spec.ports[{index}].nodePort");
                    invalid(new, format!("{path}: Invalid value: {number}: {why}"))
                })?;
            }
        }
    }
    if checked(new) && !checked(old) {
        health_port(new, pools, draws, &mut wanted)?;
    }
    write_source(new);
    Ok(())
}
